"""Two processes train the network that one process trains."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from forked_processes import RANKS, run_command, run_ranks
from torch import Tensor
from training_runs import SMALL, small_recipe, weights

from densenets.data.batches import Batch, BatchOrder, Shard
from densenets.data.load import load_data
from densenets.distributed import Ranks
from densenets.training.build import build_model
from densenets.training.train_step import TrainStep

STEPS = 5


def exact_weights(
    shard: Shard, execution: str, accumulation: int = 1, batch_size: int = 101
) -> dict[str, Tensor]:
    """Some steps in float64 on this rank's shares of batches of digits, uneven by default."""
    # Dropout and mixup draw within a process, so they have no equal elsewhere.
    recipe = small_recipe(mixup=0.0, batch_size=batch_size, accumulation=accumulation)
    model_recipe = dataclasses.replace(recipe.model, dropout=0.0, execution=execution)
    recipe = dataclasses.replace(recipe, model=model_recipe)
    device = torch.device("cpu")
    data = load_data(recipe.data)
    model, _ = build_model(recipe, data, device)
    train_step = TrainStep(model.double(), recipe, Ranks(shard, device))
    order = BatchOrder(count=len(data.training), batch_size=batch_size, seed=0, shard=shard)
    for step, (indices, _, count) in zip(range(STEPS), order.epoch(0), strict=False):
        images = data.training.pixels[indices].double() / 255
        train_step.run(Batch(images, data.training.labels[indices], count), 0.1, 0, step)
    return train_step.model.state_dict()


def weights_of_rank(rank: int, execution: str, accumulation: int, batch_size: int) -> dict[str, Tensor]:
    return exact_weights(Shard(rank, RANKS), execution, accumulation, batch_size)


@pytest.mark.parametrize("execution", ["reference", "recompute"])
@pytest.mark.slow
def test_two_processes_equal_one_on_the_same_global_batch(execution, tmp_path):
    one = exact_weights(Shard(), "reference")
    work = partial(weights_of_rank, execution=execution, accumulation=1, batch_size=101)
    for two in run_ranks(work, tmp_path):
        assert two.keys() == one.keys()
        for key, value in one.items():
            # float64 sums in another order; a wrong weight of an uneven share would show at 1e-3.
            torch.testing.assert_close(two[key], value, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_uneven_shares_are_accumulated_in_the_same_number_of_parts(tmp_path):
    # 3 and 4 images: a rank that made one part and a rank that made two would wait for ever.
    work = partial(weights_of_rank, execution="reference", accumulation=2, batch_size=7)
    first, second = run_ranks(work, tmp_path)
    assert all(torch.equal(first[key], second[key]) for key in first)


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    return subprocess.run(
        [*start, "-m", "densenets", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_torchrun_trains_and_evaluates_as_one_process_does(tmp_path):
    # All images in one step: float32 rounding (measured 2e-5) has not been amplified by later steps.
    options = (
        *SMALL, "--training.epochs", "1", "--training.batch-size", "1437", "--training.mixup", "0",
        "--model.dropout", "0", "--model.execution", "recompute",
    )  # fmt: skip
    results = []
    for processes, start in ((1, run_command), (2, torchrun)):
        out = tmp_path / str(processes)
        done = start("train", "digits", *options, "--out", str(out))
        assert done.returncode == 0, done.stderr
        results.append(json.loads((out / "evaluation.json").read_text()))
    one, two = (weights(tmp_path / name) for name in ("1", "2"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=2e-4)
    assert results[0]["images"] == results[1]["images"] == 360
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-3)
    # The same checkpoint evaluated by two processes: 360 images, none twice, none left out.
    done = run_command("evaluate", str(tmp_path / "1"), "--json", processes=RANKS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["confusion"] == results[0]["confusion"]


def test_accumulated_parts_are_normalised_apart():
    whole, parts = (exact_weights(Shard(), "reference", accumulation=n) for n in (1, 2))
    # Each part has statistics of its own, as each process would have without synchronisation.
    assert max(float((whole[key] - parts[key]).abs().max()) for key in whole) > 1e-2
