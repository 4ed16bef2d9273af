"""What the library does where it cannot do what it is asked to: say so, and go on with the next call."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from network_steps import case_config, case_images, step
from torch import Tensor
from unit_checks import poisoned
from units import Shape, instruction_sets, make, stem_gradient

from densenets.models.densenet import DenseNet
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import load_library, release_memory

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
        moments = CppKernels().forward(example.unit, out, statistics=True)
        assert moments is not None
        return [out, *moments]

    return call


def backward(shape: Shape) -> Callable[[], list[Tensor]]:
    example = make(shape, torch.float32)

    def call() -> list[Tensor]:
        x_gradient = torch.zeros_like(example.unit.x)
        found = CppKernels().backward(
            example.unit, example.gradient, example.correction, x_gradient, accumulate=False, sums=None
        )
        return [x_gradient, *found]

    return call


def statistics(shape: Shape) -> Callable[[], list[Tensor]]:
    return lambda: list(CppKernels().statistics(make(shape, torch.float32).unit.x))


def apply_correction(shape: Shape) -> Callable[[], list[Tensor]]:
    example = make(shape, torch.float32)

    def call() -> list[Tensor]:
        out = torch.empty(example.gradient.shape)
        CppKernels().apply_correction(example.gradient, example.correction, out)
        return [out]

    return call


def stem(shape: Shape) -> Callable[[], list[Tensor]]:
    example = make(shape, torch.float32)
    gradient = stem_gradient(example)

    def call() -> list[Tensor]:
        out, winners = torch.empty(gradient.shape), torch.empty(gradient.shape, dtype=torch.uint8)
        x_gradient = torch.empty_like(example.unit.x)
        CppKernels().stem_forward(example.unit, out, winners)
        CppKernels().stem_backward(example.unit, gradient, winners, x_gradient, batch_statistics=True)
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
    "correction": apply_correction(POOLED),
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
from densenets.ops.backends.unit import Moments, Unit
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import load_library
kernels = CppKernels()

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
@pytest.mark.slow
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
@pytest.mark.slow
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
