"""Running statistics made anew are those of the network that is tested, and nothing else changes."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_processes import run_ranks
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from training_runs import small_recipe, weights

from densenets.data.batches import Batch
from densenets.models.baselines.fractalnet import FractalNet
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.network import Network
from densenets.ops.sync_batch_norm import synchronize
from densenets.training.loop import train
from densenets.training.running_statistics import recompute_statistics
from densenets.weights.pretrained import create_model

STATISTICS = ("running_mean", "running_var", "num_batches_tracked", "alone.mean", "alone.var")


def digits(*counts: int) -> list[Batch]:
    """Batches of real digits, float64 N x 1 x 8 x 8."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images[: sum(counts)].reshape(-1, 1, 8, 8) / 16)
    numbers = torch.tensor(labels[: sum(counts)])
    return [
        Batch(some, of_some, len(some))
        for some, of_some in zip(pixels.split(counts), numbers.split(counts), strict=True)
    ]


def densenet(**changes: Any) -> Network:
    torch.manual_seed(0)
    return create_model("densenet-bc-10-4", in_channels=1, **changes).double()


def fractalnet() -> FractalNet:
    config = FractalNetConfig(
        in_channels=1,
        columns=3,
        block_channels=(4, 6),
        block_dropout=(0.5, 0.5),
        local_drop_path=0.15,
        global_drop_path=0.5,
    )
    return FractalNet(config, torch.Generator().manual_seed(0)).double()


def logits(model: Network, images: Tensor) -> Tensor:
    with torch.no_grad():
        result = model(images)
    assert isinstance(result, Tensor)
    return result


def with_statistics_of(model: Network, images: Tensor) -> Tensor:
    """What the tested network makes of images with the statistics of these very images."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    return logits(model, images)


def test_of_one_batch_they_are_the_batchs_own() -> None:
    model = densenet(dropout=0.5)
    (batch,) = digits(128)
    expected = with_statistics_of(model, batch.images)
    recompute_statistics(model, [batch])
    # Running variances are unbiased: n / (n - 1), with n at least 128 * 2 * 2.
    torch.testing.assert_close(logits(model, batch.images), expected, rtol=0.02, atol=0.02)


def test_of_several_batches_they_are_the_mean_over_the_images() -> None:
    model = densenet()
    first = model.get_submodule("features.conv0")
    norm = model.get_submodule("features.denseblock1.denselayer1.norm1")
    batches = digits(64, 64, 32)
    recompute_statistics(model, iter(batches))
    maps = [first(batch.images).transpose(0, 1).flatten(1) for batch in batches]
    for name, values in (
        ("running_mean", [m.mean(dim=1) for m in maps]),
        ("running_var", [m.var(dim=1) for m in maps]),
    ):
        expected = (2 * values[0] + 2 * values[1] + values[2]) / 5
        torch.testing.assert_close(getattr(norm, name), expected)


def test_only_statistics_change() -> None:
    model = densenet(dropout=0.5).train()
    before = copy.deepcopy(model.state_dict())
    drawn = torch.get_rng_state()
    recompute_statistics(model, digits(8, 8))
    assert torch.equal(torch.get_rng_state(), drawn)  # no dropout
    assert not any(module.training for module in model.modules())
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) != key.endswith(STATISTICS), key


def test_without_batches_they_stay() -> None:
    model = densenet()
    before = copy.deepcopy(model.state_dict())
    recompute_statistics(model, [])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_failure_leaves_the_momenta() -> None:
    model = densenet()
    broken = dataclasses.replace(digits(8)[0], images=torch.zeros(8, 2, 8, 8, dtype=torch.float64))
    with pytest.raises(Exception, match="channels"):
        recompute_statistics(model, [*digits(8, 8), broken])
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("execution", ["recompute", "fused", "auto"])
def test_every_execution_gives_the_same(execution: str) -> None:
    reference, other = densenet(execution="reference"), densenet(execution=execution)
    for model in (reference, other):
        recompute_statistics(model, digits(16, 16))
    theirs = other.state_dict()
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-6, atol=1e-8, msg=key)


def test_a_fractalnet_gets_them_joined_and_for_each_column_alone() -> None:
    model = fractalnet()
    (batch,) = digits(256)
    for column in (None, 0, 1, 2):
        model.column = column
        model.run_evaluated_paths(batch.images)  # in training mode, which leaves the chosen column
        assert model.column == column
    model.column = None
    recompute_statistics(model, [batch])
    for column in (None, 0, 1, 2):
        model.column = column
        expected = with_statistics_of(model, batch.images)
        torch.testing.assert_close(logits(model, batch.images), expected, rtol=0.02, atol=0.02)


def ranks_statistics(rank: int) -> dict[str, Tensor]:
    model = densenet()
    synchronize(model, torch.device("cpu"))
    recompute_statistics(model, [share(batch, rank) for batch in digits(32, 16)])
    return model.state_dict()


def share(batch: Batch, rank: int) -> Batch:
    return Batch(batch.images.chunk(2)[rank], batch.labels.chunk(2)[rank], batch.global_count)


@pytest.mark.slow
def test_two_processes_find_those_of_one(tmp_path: Path) -> None:
    model = densenet()
    recompute_statistics(model, digits(32, 16))
    for state in run_ranks(ranks_statistics, tmp_path):
        for key, value in model.state_dict().items():
            torch.testing.assert_close(state[key], value, msg=key)


def test_a_run_makes_them_anew_after_every_epoch(tmp_path: Path) -> None:
    results = [
        train(small_recipe(epochs=1, statistics_batches=count), tmp_path / str(count)) for count in (0, 4)
    ]
    old, new = (weights(tmp_path / str(count)) for count in (0, 4))
    for key, value in old.items():
        assert torch.equal(new[key], value) != key.endswith(STATISTICS), key
    assert results[0]["loss"] != results[1]["loss"]


def test_averaged_weights_get_those_of_their_own(tmp_path: Path) -> None:
    # After one epoch the averaged weights, and with them the statistics, are still near the first ones.
    results = [
        train(small_recipe(epochs=1, ema_decay=0.98, statistics_batches=count), tmp_path / str(count))
        for count in (0, 4)
    ]
    assert results[1]["loss"] < results[0]["loss"]
