from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mutations import odd_tensors

from densenets.data.batches import Shard
from densenets.distributed import Ranks
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.training.recipe import Recipe, changed
from densenets.training.recipes import named_recipe
from densenets.training.run_folder import RunFolder, RunProgress
from densenets.training.train_step import TrainStep


def train_step(
    optimizer: str = "sgd", ema: float = 0.9, steps: int = 1, *, decay_norms: bool = True
) -> TrainStep:
    fields = {
        "model.name": "densenet-bc-10-4",
        "optimizer.name": optimizer,
        "optimizer.decay_norms": decay_norms,
        "training.ema_decay": ema,
    }
    recipe: Recipe = changed(named_recipe("digits"), fields)
    model = build_network(recipe.network, generator=torch.Generator().manual_seed(0))
    made = TrainStep(model, recipe, Ranks(Shard(), torch.device("cpu")))
    for _ in range(steps):
        for parameter in made.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        made.optimizer.step()
    return made


def through_file(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    run = RunFolder(folder)
    run.save_state(RunProgress(epoch=1), state)
    found = run.load_state()
    assert found is not None
    return found[1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_run_goes_on_with_the_same_moments(tmp_path: Path, optimizer: str, ema: float, steps: int) -> None:
    assert_goes_on(tmp_path, *(train_step(optimizer, ema, taken) for taken in (steps, 0)))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_moments_are_of_their_parameters_where_norms_do_not_decay(tmp_path: Path, optimizer: str) -> None:
    # The optimiser's order is not the network's then.
    assert_goes_on(tmp_path, *(train_step(optimizer, 0.0, taken, decay_norms=False) for taken in (2, 0)))


def assert_goes_on(folder: Path, first: TrainStep, second: TrainStep) -> None:
    second.load_state_dict(through_file(folder, first.state_dict()))
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours["optimizer"]["state"].keys() == theirs["optimizer"]["state"].keys()
    for number, moments in ours["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, theirs["optimizer"]["state"][number][name]), name
    assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]
    assert all(torch.equal(value, theirs["model"][key]) for key, value in ours["model"].items())


def changes() -> dict[str, tuple[Callable[[dict[str, Any]], Any], str]]:
    """What is done to a state, and what is said of it."""
    odd = odd_tensors()
    return {
        "no model": (lambda s: s.pop("model"), "model: tensors by name are needed"),
        "a list": (lambda s: s.update(model=[]), "model: tensors by name are needed"),
        "a key less": (
            lambda s: s["model"].pop("classifier.bias"),
            "classifier.bias is missing or left over",
        ),
        "a key more": (lambda s: s["model"].update(more=torch.zeros(1)), "more is missing or left over"),
        "a shape": (
            lambda s: s["model"].update({"classifier.bias": torch.zeros(3)}),
            "classifier.bias is not of",
        ),
        "a type": (
            lambda s: s["model"].update({"classifier.bias": torch.zeros(10).double()}),
            "classifier.bias is not of float32",
        ),
        "a text": (lambda s: s["model"].update({"classifier.bias": "b"}), "classifier.bias is not of"),
        "no average": (lambda s: s.update(averaged=None), "averaged: tensors by name are needed"),
        "no optimizer": (lambda s: s.update(optimizer=3), "the optimizer's is missing"),
        "no moments": (lambda s: s["optimizer"].update(state=[]), "the optimizer's is missing"),
        "another parameter": (
            lambda s: s["optimizer"]["state"].update({999: {}}),
            "the optimizer's parameter 999 is none of",
        ),
        "a name": (lambda s: s["optimizer"]["state"].update(a={}), "the optimizer's parameter a is none of"),
        "another moment": (
            lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
            "the optimizer's parameter 0: exp_avg is missing or left over",
        ),
        "a moment's shape": (
            lambda s: s["optimizer"]["state"][0].update(momentum_buffer=odd["number"]()),
            "momentum_buffer is not of float32",
        ),
        "a sparse moment": (
            lambda s: s["optimizer"]["state"][0].update(
                momentum_buffer=s["optimizer"]["state"][0]["momentum_buffer"].to_sparse()
            ),
            r"state\.pt is damaged; remove it",
        ),
    }


@pytest.mark.parametrize("change", changes())
def test_the_state_of_another_run_is_refused(tmp_path: Path, change: str) -> None:
    first, second = train_step(), train_step(steps=0)
    state = first.state_dict()
    make, message = changes()[change]
    make(state)
    before = {key: value.clone() for key, value in second.model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        second.load_state_dict(through_file(tmp_path, state))
    assert all(torch.equal(value, before[key]) for key, value in second.model.state_dict().items())


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": -1},
        {"epoch": 1.5},
        {"epoch": True},
        {"epoch": 10**30},
        {"step": 3},
        {"images": 3},
        {"loss": float("nan")},
        {"best_error": float("nan")},
        {"seconds": float("inf")},
        {"more": 1},
        {"epoch": torch.tensor(3)},
        {"epoch": None},
    ],
)
def test_a_progress_that_cannot_be_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    run = RunFolder(tmp_path)
    run.save_state(RunProgress(epoch=2), {})
    content = torch.load(run.state, weights_only=True)
    content["progress"] |= fields
    torch.save(content, run.state)
    with pytest.raises(InputError, match=r"state\.pt is damaged; remove it to train from the start"):
        run.load_state()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", b"\x80\x02K\x01."])
def test_a_state_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    run = RunFolder(tmp_path)
    run.state.parent.mkdir()
    run.state.write_bytes(content)
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        run.load_state()
