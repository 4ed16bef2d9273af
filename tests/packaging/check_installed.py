# ruff: noqa: T201 - prints are what it is for
"""Check an installed package by what it computes; needs nothing of the repository, and no pytest.

    python tests/packaging/check_installed.py [--no-kernels]

A small DenseNet-121 has torchvision's logits and gradients, through the native kernels unless --no-kernels
says that there are none. Wheels are checked by it in an environment of their own.
"""

import sys
from pathlib import Path

import torch
from torchvision.models import DenseNet as TorchvisionDenseNet

import densenets
from densenets.ops.backends.cpp.library import availability


def main() -> None:
    """Compare, and say what was compared."""
    expects_kernels = "--no-kernels" not in sys.argv[1:]
    has_kernels, reason = availability()
    assert has_kernels == expects_kernels, f"native kernels: {reason}"
    torch.manual_seed(0)
    theirs = TorchvisionDenseNet(
        growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=7
    )
    model = densenets.create_model(
        "densenet121", growth_rate=8, block_layers=(2, 2, 2, 2), stem_channels=16, num_classes=7
    )
    model.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    executions = {choice.choice.execution for choice in model.explain_execution(images)}
    assert executions == {"fused" if expects_kernels else "reference"}, executions
    for training in (True, False):
        expected, found = (
            _logits_and_gradients(network.train(training), images) for network in (theirs, model)
        )
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, at=name: f"{at}: {text}"
            )
    print(f"densenets {densenets.__version__} of {Path(densenets.__file__).parent}, native kernels: {reason}")
    print("logits and gradients are torchvision's")


def _logits_and_gradients(network: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    logits = network(images)
    logits.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {"logits": logits.detach(), **gradients}


if __name__ == "__main__":
    main()
