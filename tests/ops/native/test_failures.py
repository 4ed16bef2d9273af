"""What the library does where it cannot do what it is asked to: say so, and go on with the next call."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from network_steps import case_config, case_images, step
from torch import Tensor
from unit_checks import poisoned
from units import DTYPES, Example, Shape, instruction_sets, make, stem_gradient

from densenets.models.densenet import DenseNet
from densenets.ops.native import interface
from densenets.ops.native.kernels import NativeKernels
from densenets.ops.native.library import load_library, release_memory

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the native kernels were not built")

IN_TILES = Shape(2, (7, 5), 37, 17, kernel=3)
POOLED = Shape(2, (8, 6), 37, 17, pool=True)
LINE = Shape(3, (13,), 17, 12, kernel=3)
STEM = Shape(3, (7, 5), 17, 0, kernel=3)


@pytest.fixture
def memory() -> Iterator[Callable[[int], None]]:
    """Has the n-th piece of memory refused that the library takes from now on; it has none to begin with."""
    refuse = load_library().functions.densenets_refuse_memory

    def refuse_next(number: int) -> None:
        release_memory()
        refuse(number)

    yield refuse_next
    refuse(0)


def forward(shape: Shape) -> Callable[[], list[Tensor]]:
    example = make(shape, torch.float32)

    def call() -> list[Tensor]:
        out = poisoned(example.unit.out_pixels, shape.made, torch.float32)
        moments = NativeKernels().forward(example.unit, out, statistics=True)
        assert moments is not None
        return [out, *moments]

    return call


def backward(shape: Shape) -> Callable[[], list[Tensor]]:
    example = make(shape, torch.float32)

    def call() -> list[Tensor]:
        x_gradient = torch.zeros_like(example.unit.x)
        found = NativeKernels().backward(
            example.unit, example.gradient, example.completion, x_gradient, accumulate=False, sums=None
        )
        return [x_gradient, *found]

    return call


def statistics(shape: Shape) -> Callable[[], list[Tensor]]:
    return lambda: list(NativeKernels().statistics(make(shape, torch.float32).unit.x))


def complete(shape: Shape) -> Callable[[], list[Tensor]]:
    example = make(shape, torch.float32)

    def call() -> list[Tensor]:
        out = torch.empty(example.gradient.shape)
        NativeKernels().complete(example.gradient, example.completion, out)
        return [out]

    return call


def stem(shape: Shape) -> Callable[[], list[Tensor]]:
    example = make(shape, torch.float32)
    gradient = stem_gradient(example)

    def call() -> list[Tensor]:
        out, winners = torch.empty(gradient.shape), torch.empty(gradient.shape, dtype=torch.uint8)
        x_gradient = torch.empty_like(example.unit.x)
        NativeKernels().stem_forward(example.unit, out, winners)
        NativeKernels().stem_backward(example.unit, gradient, winners, x_gradient, batch_statistics=True)
        return [out, x_gradient]

    return call


CALLS = {
    "forward in tiles": forward(IN_TILES),
    "forward pooled": forward(POOLED),
    "forward": forward(LINE),
    "backward in tiles": backward(IN_TILES),
    "backward pooled": backward(POOLED),
    "backward": backward(LINE),
    "statistics": statistics(POOLED),
    "complete": complete(POOLED),
    "stem": stem(STEM),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


def assert_same_bits(some: list[Tensor], others: list[Tensor]) -> None:
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one, other)


@every_call
def test_refused_memory_is_an_error_and_the_next_call_works(
    call: Callable[[], list[Tensor]], memory: Callable[[int], None]
):
    expected = call()
    for number in range(1, 10):
        memory(number)
        try:
            found = call()
        except MemoryError:
            assert_same_bits(call(), expected)
        else:
            assert number > 1, "nothing was refused"
            assert_same_bits(found, expected)
            return
    pytest.fail("memory was taken piece by piece without an end")


@pytest.mark.parametrize("execution", ["fused", "fused-lean"])
def test_a_network_without_memory_is_as_before(execution: Any, memory: Callable[[int], None]):
    model = DenseNet(case_config(), execution).train()
    x = case_images(model.config).float()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    memory(1)
    with pytest.raises(MemoryError):
        model(x)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert step(model, x)["result"].isfinite().all()


def run(code: str, *options: str) -> str:
    """Output of a process of its own, which must not die."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


UNIT = """
import resource, torch
from densenets.ops.kernels import Moments, Unit
from densenets.ops.native.kernels import NativeKernels
from densenets.ops.native.library import load_library
kernels = NativeKernels()

def unit(channels, made):
    ones = torch.ones(channels)
    x, weight = torch.randn(64, channels), torch.randn(made, channels, 1)
    return Unit(x=x, batch=4, sides=(16,), moments=Moments(ones, ones), scale=ones, shift=ones, epsilon=1e-5,
                weight=weight), torch.empty(64, made)

def limit(more):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY))
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")


@on_linux
def test_a_process_at_the_end_of_its_memory_goes_on():
    found = run(
        UNIT
        + """
torch.set_num_threads(1)
large, out = unit(4000, 1500)  # packed, its weight takes 24 MB
small, of_small = unit(40, 15)
limit(8 << 20)
try:
    kernels.forward(large, out, statistics=False)
except MemoryError:
    kernels.forward(small, of_small, statistics=False)
    print("refused", of_small.isfinite().all().item())
limit(1 << 30)
kernels.forward(large, out, statistics=False)
print(out.isfinite().all().item())
"""
    )
    assert found.split() == ["refused", "True", "True"]


@on_linux
def test_where_the_system_has_no_more_threads_those_that_there_are_do_the_work():
    found = run(
        UNIT
        + """
torch.set_num_threads(16)
example, out = unit(400, 150)
kernels.forward(example, out, statistics=False)
expected = out.clone()
load_library().functions.densenets_use_runtime(None)
out.zero_()
limit(20 << 20)  # two stacks
kernels.forward(example, out, statistics=False)
print(torch.equal(out, expected))
"""
    )
    assert found.split() == ["True"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data_type": 3}, "data_type is out of range"),
        ({"data_type": -1}, "data_type is out of range"),
        ({"threads": 0}, "threads is out of range"),
        ({"threads": -5}, "threads is out of range"),
        ({"threads": 1 << 30}, "threads is out of range"),
        ({"batch": -1}, "batch is out of range"),
        ({"batch": 1 << 40}, "batch is out of range"),
        ({"sides": (1, -7, 5)}, "side is out of range"),
        ({"sides": (1 << 20, 1 << 20, 1 << 20)}, "batch of these sides has too many pixels"),
        ({"taps": (1, 2, 3)}, "kernel must have sides of 1 or 3"),
        ({"taps": (0, 3, 3)}, "kernel must have sides of 1 or 3"),
        ({"pool": 1}, "pooling needs a kernel of one tap"),
        ({"pool": 2}, "pool is out of range"),
        ({"in_channels": 0}, "in_channels is out of range"),
        ({"in_channels": -3}, "in_channels is out of range"),
        ({"out_channels": 0}, "out_channels is out of range"),
        ({"out_channels": 1 << 40}, "out_channels is out of range"),
        ({"input": None}, "input is missing"),
        ({"input_stride": 36}, "input has rows that overlap"),
        ({"input_stride": 1 << 60}, "input has rows too far apart"),
        ({"mean": None}, "mean is missing"),
        ({"variance": None}, "variance is missing"),
        ({"scale": None}, "scale is missing"),
        ({"shift": None}, "shift is missing"),
        ({"weight": None}, "weight is missing"),
        ({"output": None}, "output is missing"),
        ({"output_stride": 16}, "output has rows that overlap"),
        ({"output_mean": None}, "moments must be two or none"),
    ],
    ids=str,
)
def test_a_unit_that_cannot_be(fields: dict[str, Any], reason: str):
    call = unit_struct(make(IN_TILES, torch.float32))
    for name, value in fields.items():
        setattr(call, name, value)
    with pytest.raises(RuntimeError, match=f"densenets_forward: {reason}"):
        load_library().functions.densenets_forward(0, ctypes.byref(call))


def test_the_unit_of_these_tests_can_be():
    load_library().functions.densenets_forward(0, ctypes.byref(unit_struct(make(IN_TILES, torch.float32))))


_KEPT: list[Tensor] = []  # a struct holds addresses alone


def unit_struct(example: Example) -> interface.Unit:
    unit, out, moments = example.unit, torch.empty(70, 17), torch.empty(2, 17)
    _KEPT[:] = [unit.x, *unit.moments, unit.scale, unit.shift, unit.weight, out, moments]
    return interface.Unit(
        data_type=0,
        threads=1,
        batch=2,
        sides=(1, 7, 5),
        taps=(1, 3, 3),
        in_channels=37,
        out_channels=17,
        input=unit.x.data_ptr(),
        input_stride=unit.x.stride(0),
        mean=unit.moments.mean.data_ptr(),
        variance=unit.moments.variance.data_ptr(),
        scale=unit.scale.data_ptr(),
        shift=unit.shift.data_ptr(),
        epsilon=unit.epsilon,
        weight=unit.weight.data_ptr(),
        output=out.data_ptr(),
        output_stride=17,
        output_mean=moments[0].data_ptr(),
        output_variance=moments[1].data_ptr(),
    )


@pytest.mark.parametrize("index", [-1, 5, 1 << 30])
def test_an_instruction_set_that_there_is_not(index: int):
    functions = load_library().functions
    call = unit_struct(make(IN_TILES, torch.float32))
    with pytest.raises(RuntimeError, match="instruction_set is none that this machine runs"):
        functions.densenets_forward(index, ctypes.byref(call))
    assert functions.densenets_instruction_set_name(index) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"units": 3}, "units is out of range"),
        ({"layers": -1}, "layers is out of range"),
        ({"layers": 2}, "parts are missing"),
        ({"channels": 0}, "channels is out of range"),
        ({"in_channels": 4}, "channels are not those of the input and the layers"),
        ({"features": None}, "features is missing"),
        ({"threads": 0}, "threads is out of range"),
    ],
    ids=str,
)
def test_a_block_that_cannot_be(fields: dict[str, Any], reason: str):
    features = torch.zeros(6, 5)
    call = interface.Block(
        threads=1, batch=1, sides=(1, 2, 3), units=1, in_channels=5, channels=5, features=features.data_ptr()
    )
    load_library().functions.densenets_block_forward(0, ctypes.byref(call))  # no layers, nothing to do
    for name, value in fields.items():
        setattr(call, name, value)
    with pytest.raises(RuntimeError, match=f"densenets_block_forward: {reason}"):
        load_library().functions.densenets_block_forward(0, ctypes.byref(call))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [IN_TILES, POOLED, LINE], ids=str)
def test_images_that_there_are_not(shape: Shape, dtype: torch.dtype):
    """A batch of none: means of nothing are NaN, gradients are zero."""
    example = make(shape, dtype)
    unit = replace(example.unit, x=example.unit.x[:0], batch=0)
    kernels, none = NativeKernels(), example.gradient[:0]
    found = kernels.forward(unit, torch.empty(0, shape.made, dtype=dtype), statistics=True)
    assert found is not None
    for moments in (found, kernels.statistics(unit.x)):
        assert moments.mean.isnan().all()
        assert moments.variance.isnan().all()
    sums = torch.ones_like(example.sums)
    x_gradient = torch.empty(0, shape.channels, dtype=dtype)
    gradients = kernels.backward(unit, none, None, x_gradient, accumulate=False, sums=sums)
    for gradient in gradients:
        assert torch.equal(gradient, torch.zeros_like(gradient))
    assert torch.equal(sums, torch.ones_like(sums))
    kernels.complete(none, example.completion._replace(result=none, pixels=0), torch.empty_like(none))


def test_a_stem_of_images_that_there_are_not():
    example = make(STEM, torch.float32)
    unit = replace(example.unit, x=example.unit.x[:0], batch=0)
    none, winners = torch.empty(0, 17), torch.empty(0, 17, dtype=torch.uint8)
    NativeKernels().stem_forward(unit, none, winners)
    found = NativeKernels().stem_backward(unit, none, winners, torch.empty(0, 17), batch_statistics=True)
    assert not found.scale.any()
    assert not found.shift.any()


def test_memory_is_kept_and_can_be_given_back():
    CALLS["backward in tiles"]()
    assert release_memory() > 0
    assert release_memory() == 0


def test_memory_that_is_no_longer_needed_is_given_back():
    release_memory()
    forward(Shape(1, (4, 4), 1500, 700))()
    large = load_library().functions.densenets_release_memory()
    assert large > 4 << 20
    forward(Shape(1, (4, 4), 1500, 700))()
    small = CALLS["forward"]
    for _ in range(2100):
        small()
    assert release_memory() < large / 2


def test_more_threads_than_workspaces_have_the_bits_of_one():
    expected = {name: call() for name, call in CALLS.items()}
    start = threading.Barrier(24)

    def work(number: int) -> None:
        start.wait()
        for name in list(CALLS)[number % 3 :: 2]:
            for _ in range(3):
                assert_same_bits(CALLS[name](), expected[name])

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(work, range(24)))


@pytest.mark.parametrize("threads", [(1, 3), (7, 2), (65, 1)])
def test_threads_may_change_between_forward_and_backward(threads: tuple[int, int]):
    model = DenseNet(case_config(), "fused").double()
    x, before = case_images(model.config), torch.get_num_threads()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = step(model, x)

    def run_on_others(x: Tensor) -> Tensor:
        torch.set_num_threads(threads[0])
        result = model(x)
        torch.set_num_threads(threads[1])
        return result

    model.load_state_dict(state)
    try:
        found = step(model, x, run_on_others)
    finally:
        torch.set_num_threads(before)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)


@on_linux
def test_a_process_that_is_forked_while_others_compute_can_compute():
    found = run(
        UNIT
        + """
import os, threading
torch.set_num_threads(1)
example, out = unit(100, 50)
kernels.forward(example, out, statistics=False)
expected, stop = out.clone(), threading.Event()

def compute():
    mine = torch.empty_like(out)
    while not stop.is_set():
        kernels.forward(example, mine, statistics=False)

others = [threading.Thread(target=compute) for _ in range(3)]
[other.start() for other in others]
right = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        kernels.forward(example, out, statistics=False)
        os._exit(0 if torch.equal(out, expected) else 1)
    right += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
print(right)
""",
        "-W",
        "ignore",
    )
    assert found.split() == ["20"]
