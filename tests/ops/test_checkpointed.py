"""Activation checkpointing of modules as they are: whatever they are, twice, and once to see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, pair, step
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations, prune
from wrappers import Scaled

from densenets.models.densenet import DenseNet

Change = Callable[[DenseNet], object]


def layers(model: DenseNet) -> list[nn.Module]:
    return [m for name, m in model.features.named_modules() if name.split(".")[-1].startswith("denselayer")]


def replace(model: DenseNet, cls: type[nn.Module], replacement: Callable[[nn.Module], nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, cls):
                setattr(parent, name, replacement(child))


class Counting(nn.Module):
    """An activation that counts its calls in a buffer and changes with the count."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.relu(x) * (1 + self.calls.clone())


CHANGES: dict[str, Change] = {
    "as built": lambda model: None,
    "leaky activations": lambda model: replace(model, nn.ReLU, lambda _: nn.LeakyReLU(0.3)),
    "random activations": lambda model: replace(model, nn.ReLU, lambda _: nn.RReLU()),
    "activations with a state": lambda model: replace(model, nn.ReLU, lambda _: Counting()),
    "group normalisation": lambda model: replace(
        model, _BatchNorm, lambda norm: nn.GroupNorm(1, norm.num_features, dtype=torch.float64)
    ),
    "statistics of every batch": lambda model: [
        setattr(m, "momentum", None) for m in model.modules() if isinstance(m, _BatchNorm)
    ],
    "no running statistics": lambda model: replace(
        model,
        _BatchNorm,
        lambda norm: nn.BatchNorm2d(norm.num_features, track_running_stats=False, dtype=torch.float64),
    ),
    "pruned": lambda model: [prune.l1_unstructured(layer.conv1, "weight", 0.5) for layer in layers(model)],
    "weight normalisation": lambda model: [
        parametrizations.weight_norm(layer.conv1) for layer in layers(model)
    ],
    "spectral normalisation": lambda model: [
        parametrizations.spectral_norm(layer.conv1) for layer in layers(model)
    ],
    "PyTorch's synchronised norms": lambda model: replace(
        model, _BatchNorm, nn.SyncBatchNorm.convert_sync_batchnorm
    ),
    "wrapped layers": lambda model: replace(model, type(layers(model)[0]), Scaled),
    "a layer with another forward": lambda model: [
        setattr(layer, "forward", lambda x, own=layer.forward: own(x).abs()) for layer in layers(model)[:1]
    ],
    "dropout": lambda model: [setattr(m, "p", 0.4) for m in model.modules() if isinstance(m, nn.Dropout)],
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_any_module_computes_what_it_computes(change: Change, training: bool):
    outcomes = []
    for model in pair(case_config(), "recompute"):
        torch.manual_seed(3)
        change(model)
        outcomes.append(step(model.train(training), case_images(model.config)))
    assert_equal(outcomes[1], outcomes[0], 1e-10, least=1e-3)


def test_buffers_stay_as_the_forward_pass_left_them():
    model = pair(case_config(), "recompute")[1]
    replace(model, nn.ReLU, lambda _: Counting())
    loss = model(case_images(model.config)).square().sum()
    buffers = dict(model.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    loss.backward()
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name], f"{name} is another tensor"
        assert torch.equal(buffer, before[name]), name
    assert model.features.denseblock1.denselayer1.relu1.calls == 1


def test_hooks_fire_again_as_under_pytorchs_checkpointing():
    model = pair(case_config(), "recompute")[1]
    calls = []
    layer = model.features.denseblock1.denselayer2
    for module in (layer.norm1, layer.conv2):
        module.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))
    loss = model(case_images(model.config)).sum()
    assert calls == ["BatchNorm2d", "Conv2d"]
    loss.backward()
    assert calls == ["BatchNorm2d", "Conv2d", "BatchNorm2d"]


def test_a_hook_on_a_layer_sees_the_layer():
    reference, other = pair(case_config(), "recompute")
    seen: list[list[Tensor]] = []
    for model in (reference, other):
        maps: list[Tensor] = []
        layers(model)[1].register_forward_hook(lambda _, inputs, out, maps=maps: maps.extend([*inputs, out]))
        model(case_images(model.config))
        seen.append(maps)
    for actual, expected in zip(seen[1], seen[0], strict=True):
        torch.testing.assert_close(actual, expected)


def test_random_numbers_go_on_where_they_were():
    model = pair(case_config(dropout=0.4), "recompute")[1]
    torch.manual_seed(1)
    loss = model(case_images(model.config)).sum()
    state = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), state)
