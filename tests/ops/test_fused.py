"""The fused executions are the reference: values, gradients and statistics, in every precision."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from network_steps import CASES, assert_equal, case_config, case_images, errors, pair, step
from sklearn.datasets import load_digits
from small_networks import small_config
from torch import Tensor, nn
from torch.nn import functional

from densenets.models.config import DenseNetConfig
from densenets.models.densenet import DenseNet

FUSED = ("fused", "fused-lean")
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
EXECUTION = pytest.mark.parametrize("execution", FUSED)
# Sums in another order: float64's 1e-16 grows to some 1e-13 of a tensor's largest value. One term that is
# missing, of the thousands that make a value up, is a hundred thousand times as much as this.
EXACT = 1e-10


def layouts(x: Tensor) -> list[Tensor]:
    """The same images in every form that they may come in."""
    layout = CHANNELS_LAST.get(x.dim())
    strided = torch.stack([x, x], dim=-1)[..., 0]
    return [x, strided] + ([x.contiguous(memory_format=layout)] if layout else [])


@pytest.mark.usefixtures("native")
@TRAINING
@EXECUTION
@pytest.mark.parametrize("case", CASES)
def test_float64_equals_the_reference(case: str, execution: Any, training: bool):
    reference, fused = pair(case_config(case), execution)
    x = case_images(reference.config)
    start = {key: value.clone() for key, value in fused.state_dict().items()}
    expected = step(reference.train(training), x)
    for same in layouts(x):
        fused.load_state_dict(start)
        assert_equal(step(fused.train(training), same), expected, EXACT)
    counted = {value.item() for key, value in fused.named_buffers() if key.endswith("num_batches_tracked")}
    assert counted == {int(training)}


@pytest.mark.usefixtures("native")
@EXECUTION
def test_weights_in_channels_last_form_equal_the_reference(execution: Any):
    reference, fused = pair(case_config(), execution)
    fused.to(memory_format=torch.channels_last)
    x = case_images(reference.config)
    assert_equal(step(fused, x.contiguous(memory_format=torch.channels_last)), step(reference, x), EXACT)


@EXECUTION
def test_any_number_of_threads_equals_the_reference(execution: Any):
    reference, fused = pair(case_config("large stem"), execution)
    x = case_images(reference.config)
    expected, threads = step(reference, x), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert_equal(step(fused, x), expected, EXACT)
    finally:
        torch.set_num_threads(threads)


# Precision


def autocast(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    return run


def directly(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return model


# The type of weights and images, what runs the model, and how often a value is rounded where PyTorch's error
# is next to nothing by luck: float32's 6e-8 some thirty times, bfloat16's 4e-3 once.
MODES = {
    "float32": (torch.float32, directly, 2e-6),
    "bfloat16": (torch.bfloat16, directly, 4e-3),
    "autocast": (torch.float32, autocast, 4e-3),
}


@dataclass(frozen=True)
class Batch:
    """Images, the network that reads them, what float64 makes of both, and how far the reference is off."""

    images: Tensor
    state: dict[str, Tensor]
    exact: dict[str, Tensor]
    limits: dict[str, float]


@functools.cache
def batches(case: str, mode: str, training: bool) -> list[Batch]:
    config, (dtype, runner, _), made = case_config(case), MODES[mode], []
    for seed in (0, 1):
        # Enough pixels that no single value at ReLU's edge, on either side by rounding, decides.
        x = case_images(config, seed, batch=15, times=4 if config.stem == "imagenet" else 1).to(dtype)
        state = pair(config, "reference")[0].to(dtype).state_dict()
        exact = step(network(config, "reference", state, training).double(), x.double())
        squares = []
        # PyTorch's convolutions and normalisations have another error in either form; the larger one counts.
        for layout in {torch.contiguous_format, CHANNELS_LAST.get(x.dim(), torch.contiguous_format)}:
            plain = network(config, "reference", state, training).to(memory_format=layout)
            squares.append(sum_of_squares(step(plain, x.to(memory_format=layout), runner(plain)), exact))
        limits = {kind: max(found[kind] for found in squares) for kind in squares[0]}
        made.append(Batch(x, state, exact, limits))
    return made


def network(config: DenseNetConfig, execution: Any, state: dict[str, Tensor], training: bool) -> DenseNet:
    model = DenseNet(config, execution).to(state["classifier.weight"].dtype).train(training)
    model.load_state_dict(state)
    return model


def sum_of_squares(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """Of the relative errors of all tensors of a kind."""
    squares = {"result": 0.0, "gradient": 0.0, "statistics": 0.0}
    for name, error in errors(found, exact).items():
        kind = name.split()[0]
        squares[kind if kind in squares else "statistics"] += error**2
    return squares


@pytest.mark.usefixtures("native")
@TRAINING
@EXECUTION
@pytest.mark.parametrize(
    ("case", "mode"),
    # PyTorch, and so the reference, has no average pooling of volumes in bfloat16.
    [(case, mode) for case in CASES for mode in MODES if (mode, "volume" in case) != ("bfloat16", True)],
)
def test_rounding_is_at_most_twice_the_references(case: str, mode: str, execution: Any, training: bool):
    _, runner, floor = MODES[mode]
    squares, limits = Counter[str](), Counter[str]()
    for batch in batches(case, mode, training):
        fused = network(case_config(case), execution, batch.state, training)
        squares.update(sum_of_squares(step(fused, batch.images, runner(fused)), batch.exact))
        limits.update(batch.limits)
    for kind, square in squares.items():
        assert math.sqrt(square) <= 2 * math.sqrt(limits[kind]) + floor, kind


# Training


def losses(execution: Any, dtype: torch.dtype, steps: int = 100) -> Tensor:
    """Of a small network that learns handwritten digits, from one seed on."""
    pixels, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    config = small_config(block_layers=(2, 2), in_channels=1, num_classes=10)
    model = DenseNet(config, execution, torch.Generator().manual_seed(0)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(steps):
        chosen = torch.randint(len(labels), (32,), generator=generator)
        logits = model((pixels[chosen] / 16).view(-1, 1, 8, 8).to(dtype))
        loss = functional.cross_entropy(logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


@pytest.fixture(scope="module")
def reference_losses() -> Tensor:
    return losses("reference", torch.float64)


@pytest.mark.usefixtures("native")
@EXECUTION
def test_a_hundred_steps_of_training_follow_the_reference(execution: Any, reference_losses: Tensor):
    found = losses(execution, torch.float64)
    assert reference_losses[-10:].mean() < 0.5 * reference_losses[:10].mean()
    # Images that are off by one rounding move the reference's own losses by 1e-15; here are a thousand times
    # as much. A flaw that a single step hides, such as an unseen gradient, grows over a hundred.
    assert (found - reference_losses).abs().max() < 1e-12


@pytest.mark.usefixtures("native")
@EXECUTION
def test_training_in_float32_follows_the_reference(execution: Any, reference_losses: Tensor):
    found = losses(execution, torch.float32)
    # A few roundings of float32, until one of them carries a value across ReLU's edge. That comes once in
    # some ten million values, about 20 steps, in the reference as well; from then on the two are as far
    # apart as the reference is from itself when its images are off by one rounding, some 0.1.
    assert (found - reference_losses).abs()[:5].max() < 2e-6
    assert (found[-20:].mean() - reference_losses[-20:].mean()).abs() < 0.15


# Memory that nobody wrote, and repetition


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """torch.empty gives NaN, or the largest integer."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = filled


def seeded_step(config: DenseNetConfig, execution: Any, training: bool) -> dict[str, Tensor]:
    _, fused = pair(config, execution)
    torch.manual_seed(3)
    return step(fused.train(training), case_images(config))


@pytest.mark.usefixtures("native")
@TRAINING
@EXECUTION
@pytest.mark.parametrize("case", CASES)
def test_every_value_is_written_and_comes_again(
    case: str, execution: Any, training: bool, request: pytest.FixtureRequest
):
    config = case_config(case, dropout=0.2)
    expected = seeded_step(config, execution, training)
    request.getfixturevalue("poisoned_memory")
    assert torch.empty(2).isnan().all()
    for name, value in seeded_step(config, execution, training).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.usefixtures("native")
@EXECUTION
@pytest.mark.parametrize("case", ["bottleneck", "plain", "large stem"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_image_that_is_not_a_number_shows_and_spoils_no_other(case: str, bad: float, execution: Any):
    reference, fused = pair(case_config(case), execution)
    x = case_images(reference.config)
    expected = fused.eval()(x)
    x[1, 0, 10, 10] = bad
    result = fused(x)
    assert not result[1].isfinite().any()
    assert not reference.eval()(x)[1].isfinite().any()
    torch.testing.assert_close(result[[0, 2]], expected[[0, 2]])
