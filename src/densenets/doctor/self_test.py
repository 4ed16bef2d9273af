"""The self-test, in a process of its own: `python -m densenets.doctor.self_test` answers with JSON.

Kernels that this processor cannot run, or a damaged PyTorch, end that process alone. The kernels of every
backend, the native ones in each instruction set, run a small dense block and stem, each execution runs
DenseNet-121; PyTorch's own modules do the same in float64, and in the precision that is checked.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.doctor.checks import CHECKING, Check, Device, SelfTestAnswer
from densenets.errors import InputError
from densenets.files import json_text
from densenets.machine import device_name
from densenets.models.blocks import BLOCK_CLASSES
from densenets.models.create import build_network
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import named_config
from densenets.names import one_line
from densenets.ops.backends.backend import BACKENDS, CPP, Backend, availability_for
from densenets.ops.backends.cpp.library import INSTRUCTION_SET_VARIABLE, load_library
from densenets.ops.execution import EXECUTIONS, choose_execution
from densenets.ops.fused.call import fused_dense_block, fused_stem
from densenets.ops.fused.eligibility import eligible_block

_CONFIG = DenseNetConfig(
    block_layers=(3, 1),
    growth_rate=12,
    bottleneck=True,
    compression=0.5,
    stem="imagenet",
    stem_channels=20,
    num_classes=5,
)
_MAPS = (3, 20, 9, 7)  # that the block and the stem's BN read: more than a tile, and odd sides
_IMAGES = (1, 3, 64, 64)  # that DenseNet-121 reads
# With these numbers nothing that ReLU sees is so near zero that float32 may take it to the other side, where
# gradients are chance.
SEED = 23

# Of PyTorch's own error, and of the type's eps. The tests allow a single unit 2 and these roundings, for the
# reasons in tests/helpers/unit_checks.py; a block is a chain of units, and is allowed twice as much.
_FACTOR = 4.0
_ROUNDINGS = {torch.float32: 16.0, torch.bfloat16: 5 / 3}

Tensors = Mapping[str, Tensor]
# Runs a part of a network on maps, N x C x *sides, by a backend's kernels or, without one, by its modules.
Part = Callable[[DenseNet, Tensor, str | None], Tensor]


def main() -> None:
    """Answer on standard output; on standard error say what is checked next."""
    sys.stdout.write(json_text(dataclasses.asdict(answer())) + "\n")


def answer() -> SelfTestAnswer:
    """The devices, and the outcomes of all checks."""
    devices = list(_devices())
    checks = [
        check
        for device in devices
        for check in (*kernel_checks(device.device), *execution_checks(device.device))
    ]
    return SelfTestAnswer(
        devices=tuple(devices),
        gpu_support=_gpu_support(),
        threads=torch.get_num_threads(),
        checks=tuple(checks),
    )


def kernel_checks(device: str) -> Iterator[Check]:
    """Forward and backward pass and running statistics of a dense block and a stem, by each backend."""
    device_type = torch.device(device).type
    elsewhere = "" if device_type == "cpu" else f" on {device}"
    dtypes = (torch.float32, torch.bfloat16) if device_type == "cpu" else (torch.float32,)
    for backend in BACKENDS:
        parts = {"dense block": dense_block, **({"stem": stem} if backend.runs_stem else {})}
        for name in _instruction_sets(backend, device_type):
            subject = f"{backend.label}, {name}" if name else f"{backend.label}{elsewhere}"
            for dtype, title in itertools.product(dtypes, parts):
                part = parts[title]
                expected = functools.partial(_expected_step, dtype, part, device)
                found = functools.partial(_step_in, dtype, part, device, backend.name)
                with _instruction_set(name):
                    yield _check(subject, title, dtype, expected, found)


def execution_checks(device: str) -> Iterator[Check]:
    """Logits of DenseNet-121, in evaluation, in every execution that runs on a device."""
    config = dataclasses.replace(named_config("densenet121"), num_classes=10)
    network = build_network(config, generator=torch.Generator().manual_seed(SEED)).eval()
    assert isinstance(network, DenseNet)
    images = torch.randn(_IMAGES, generator=torch.Generator().manual_seed(SEED))
    expected = functools.cache(functools.partial(_torchvision_logits, network.state_dict(), images, device))
    network.to(device)
    for execution in EXECUTIONS[1:]:  # all but "auto", which is one of the others
        try:
            choose_execution(execution, device=torch.device(device).type, dtype="float32")
        except InputError:  # it is not for this device, as the list of executions says
            continue
        network.execution = execution
        subject = f"execution {execution}" + ("" if device == "cpu" else f" on {device}")
        found = functools.partial(_logits, network, images.to(device))
        yield _check(subject, "DenseNet-121", torch.float32, expected, found)


def small_network() -> DenseNet:
    """A network whose block and stem the kernels are checked on; scales and shifts are all their own."""
    generator = torch.Generator().manual_seed(SEED)
    network = DenseNet(_CONFIG, "reference", generator)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for parameter, mean in ((module.weight, 1.0), (module.bias, 0.0)):
                nn.init.normal_(parameter, mean, 0.3, generator=generator)
    return network


def maps() -> Tensor:
    """What the block and the stem's BN read, in float64."""
    generator = torch.Generator().manual_seed(SEED + 1)
    return torch.randn(_MAPS, generator=generator, dtype=torch.float64)


def dense_block(network: DenseNet, x: Tensor, backend: str | None) -> Tensor:
    """The first dense block and its transition; see `Part`."""
    block, transition = (network.features.get_submodule(name) for name in ("denseblock1", "transition1"))
    if backend is None:
        reduced: Tensor = transition(block(x))
        return reduced
    eligible = eligible_block(x, block, BLOCK_CLASSES, transition)
    *_, reduced = fused_dense_block(
        x, eligible.layers, eligible.transition, backend=backend, keep_bottlenecks=True
    )
    return reduced


def stem(network: DenseNet, x: Tensor, backend: str | None) -> Tensor:
    """The BN, ReLU and max pooling behind the first convolution; see `Part`."""
    norm, relu, pool = (network.features.get_submodule(name) for name in ("norm0", "relu0", "pool0"))
    if backend is None:
        pooled: Tensor = pool(relu(norm(x)))
        return pooled
    assert isinstance(norm, _BatchNorm)
    return fused_stem(x, norm, backend=backend)[-1]


def _step(part: Part, network: DenseNet, x: Tensor, backend: str | None) -> Tensors:
    """Result, gradients and running statistics of one training step of a part; 16 bits under autocast."""
    x = x.clone().requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        result = part(network, x, backend)
    generator = torch.Generator().manual_seed(SEED + 2)
    gradient = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    result.backward(gradient.to(result.dtype).to(result.device))  # not every device has float64
    assert x.grad is not None
    gradients = {
        f"gradient of {name}": p.grad for name, p in network.named_parameters() if p.grad is not None
    }
    buffers = {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point()}
    return {"result": result.detach(), "gradient of the input": x.grad, **gradients, **buffers}


def _step_in(dtype: torch.dtype, part: Part, device: str, backend: str | None) -> Tensors:
    return _step(part, small_network().to(device), maps().to(dtype).to(device), backend)


@functools.cache
def _expected_step(dtype: torch.dtype, part: Part, device: str) -> tuple[Tensors, Tensors]:
    """The step of a part in float64, of the input as `dtype` holds it, and in `dtype`; by PyTorch."""
    exact = _step(part, small_network().double(), maps().to(dtype).double(), None)
    return exact, _step_in(dtype, part, device, None)


@torch.no_grad()
def _torchvision_logits(state: Tensors, images: Tensor, device: str) -> tuple[Tensors, Tensors]:
    """Logits of torchvision's DenseNet-121 in float64 on the CPU, and in float32 on a device."""
    with torch.device("meta"):
        network = torchvision.models.densenet121(num_classes=10).eval()
    copied = {name: value.clone() for name, value in state.items()}
    network.load_state_dict(copied, strict=True, assign=True)
    return (
        {"logits": copy.deepcopy(network).double()(images.double())},
        {"logits": network.to(device)(images.to(device))},
    )


def _logits(network: DenseNet, images: Tensor) -> Tensors:
    # With gradients, without which "fused-lean" is "fused".
    return {"logits": network(images).detach()}


def _check(
    subject: str,
    part: str,
    dtype: torch.dtype,
    expected: Callable[[], tuple[Tensors, Tensors]],
    found: Callable[[], Tensors],
) -> Check:
    """Compute, and compare what comes out with PyTorch in float64."""
    precision = _name(dtype)
    sys.stderr.write(f"{CHECKING}{subject}, {precision}, {part}\n")
    sys.stderr.flush()
    try:
        exact, pytorch = expected()
        return compared(Check(subject=subject, part=part, precision=precision), found(), exact, pytorch)
    except (RuntimeError, MemoryError) as error:
        failure = one_line(str(error)) or type(error).__name__
        return Check(subject=subject, part=part, precision=precision, failure=failure)


def compared(check: Check, found: Tensors, exact: Tensors, pytorch: Tensors) -> Check:
    """The check with the errors of the tensor that comes nearest to what is allowed, or exceeds it most."""
    dtype: torch.dtype = getattr(torch, check.precision)
    floor = _ROUNDINGS[dtype] * torch.finfo(dtype).eps
    worst, share = check, -math.inf
    for name, value in exact.items():
        error, own = (_relative_error(tensors[name], value) for tensors in (found, pytorch))
        if not math.isfinite(own):
            return dataclasses.replace(check, failure=f"PyTorch's own {name} is not finite")
        allowed = _FACTOR * own + floor
        if not error / allowed <= share:
            share = error / allowed if math.isfinite(error) else math.inf
            worst = dataclasses.replace(
                check,
                tensor=name,
                error=error if math.isfinite(error) else None,
                pytorch_error=own,
                allowed=allowed,
            )
    return worst


def _relative_error(tensor: Tensor, exact: Tensor) -> float:
    """Of the whole tensor, by the norm; absolute where the exact one is zero."""
    distance, size = (tensor.cpu().double() - exact).norm().item(), exact.norm().item()
    return distance / size if size > 0 else distance


def _instruction_sets(backend: Backend, device_type: str) -> tuple[str, ...]:
    """The instruction sets of the native kernels, "" for a backend without, none for one that cannot run."""
    if backend is not CPP:
        return ("",) if availability_for(backend, device_type, "float32").available else ()
    try:
        return load_library().instruction_sets if device_type in backend.devices else ()
    except InputError:  # there are no native kernels, as the facts about them say
        return ()


@contextlib.contextmanager
def _instruction_set(name: str) -> Iterator[None]:
    """Choose the instruction set of the native kernels; "" is the best."""
    before = os.environ.get(INSTRUCTION_SET_VARIABLE)
    os.environ[INSTRUCTION_SET_VARIABLE] = name
    try:
        yield
    finally:
        del os.environ[INSTRUCTION_SET_VARIABLE]
        if before is not None:
            os.environ[INSTRUCTION_SET_VARIABLE] = before


def _devices() -> Iterator[Device]:
    yield Device(device="cpu", name=device_name(torch.device("cpu")), memory=None)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            yield Device(device=f"cuda:{index}", name=facts.name, memory=facts.total_memory)
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory()
        yield Device(device="mps:0", name="Apple's GPU", memory=memory)


def _gpu_support() -> str:
    """What GPUs this build of PyTorch is for."""
    builds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    named = [f"{name} {version}" for name, version in builds.items() if version]
    return " and ".join(named + (["Metal"] if torch.backends.mps.is_built() else []))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
