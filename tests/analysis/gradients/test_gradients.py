"""Signal and gradient by depth: what vanishes where, and that training is that of `densenets train`."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from densenets.analysis.gradients import compute as gradients
from densenets.analysis.gradients.compute import GradientFlow, gradient_flow, measurements
from densenets.analysis.gradients.gradients_config import SETTINGS, GradientsConfig, Setting
from densenets.analysis.gradients.layer_flow import LayerFlow, layer_flows
from densenets.checkpoint import read_checkpoint
from densenets.data.batches import Batch
from densenets.errors import InputError
from densenets.files import read_json_lines
from densenets.models.network import Network
from densenets.training.loop import train
from densenets.training.recipe import changed

if TYPE_CHECKING:
    from conftest import TinyCifar

SMALL = "densenet-bc-10-4"

pytestmark = pytest.mark.usefixtures("one_thread")


def config(**changes: Any) -> GradientsConfig:
    fields: dict[str, Any] = {
        "models": (SMALL,),
        "settings": ("paper",),
        "steps": (0, 2),
        "batch_size": 32,
        "learning_rate": 0.0,
        "device": "cpu",
    }
    return GradientsConfig(**{**fields, **changes})


def flow(**changes: Any) -> GradientFlow:
    return gradient_flow(config(**changes), lambda _: None)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("model", [SMALL, "resnet8"])
def test_training_does_not_depend_on_being_measured(model: str, setting: Setting) -> None:
    often, once = (flow(models=(model,), settings=(setting,), steps=s) for s in ((0, 1, 2, 4), (4,)))
    assert often.networks[0].snapshots[-1] == once.networks[0].snapshots[-1]
    assert often.networks[0].training_losses == once.networks[0].training_losses
    assert len(once.networks[0].training_losses) == 4


def test_training_is_that_of_densenets_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of an epoch and the weights behind it, bit for bit."""
    options = config(models=("plain-8",), steps=(0, 3, 6, 8), batch_size=256)
    changes = {"epochs": 1, "log_every": 1, "tensorboard": False, "device": "cpu"}
    recipe = changed(
        options.recipe("plain-8"), {f"training.{name}": value for name, value in changes.items()}
    )
    train(recipe, tmp_path / "run")
    measured: list[dict[str, Tensor]] = []

    def watched(model: Network, batch: Batch) -> Any:
        measured.append(copy.deepcopy(model.state_dict()))
        return layer_flows(model, batch)

    monkeypatch.setattr(gradients, "layer_flows", watched)
    losses = gradient_flow(options, lambda _: None).networks[0].training_losses
    lines = [line for line in read_json_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "step"]
    assert list(losses[:6]) == [line["loss"] for line in lines]
    assert len(losses) == 8  # two steps into the second epoch
    weights = read_checkpoint(tmp_path / "run").model.state_dict()
    assert all(torch.equal(value, measured[2][key]) for key, value in weights.items())
    assert not all(torch.equal(value, measured[3][key]) for key, value in weights.items())


def test_the_seed_draws_weights_and_images() -> None:
    first, again, other = (flow(steps=(0,), seed=seed).networks[0].snapshots[0] for seed in (0, 0, 1))
    assert first == again
    assert first.loss != other.loss
    assert first.layers[0].signal != other.layers[0].signal


@pytest.mark.parametrize("seed", [0, 1])
def test_without_batch_norm_the_gradient_vanishes_in_plain_nets_alone(seed: int) -> None:
    models = ("plain-38", "resnet38", "densenet-40-12")
    found = flow(models=models, settings=("xavier",), steps=(0,), batch_size=64, seed=seed)
    plain, residual, dense = (network.snapshots[0] for network in found.networks)
    assert plain.gradient_ratio is not None
    assert plain.signal_ratio is not None
    assert plain.gradient_ratio < 1e-5  # 2e-8
    assert plain.signal_ratio > 1e4  # 2e7
    for other in (residual, dense):
        assert other.gradient_ratio is not None
        assert 1e-3 < other.gradient_ratio < 1e3  # 0.8 and 0.06
    # Halved in its square by every ReLU, and again by every border: each layer makes it smaller.
    by_depth = [layer.gradient or 0.0 for layer in plain.layers]
    assert sum(before < behind for before, behind in pairwise(by_depth)) > 30


def test_with_batch_norm_the_gradient_of_plain_nets_grows_with_depth() -> None:
    models = ("plain-20", "plain-56", "resnet20", "resnet56")
    found = flow(models=models, steps=(0,))
    shallow, deep, *residual = (network.snapshots[0].gradient_ratio or 0.0 for network in found.networks)
    assert deep > 10 * shallow > 10
    assert max(residual) < 100
    assert all(0.1 < (network.snapshots[0].signal_ratio or 0.0) < 10 for network in found.networks)


def test_a_loss_that_is_no_number_is_data() -> None:
    found = flow(models=("plain-8", SMALL), steps=(0, 2, 40), learning_rate=1e30)
    broken = found.networks[0]
    assert broken.note.startswith("its loss is no number at step ")
    assert broken.training_losses[-1] is None
    assert None not in broken.training_losses[:-1]
    assert len(broken.training_losses) < 40
    assert broken.snapshots[0].loss is not None
    assert broken.snapshots[0].gradient_ratio is not None
    assert broken.snapshots[2].loss is None
    assert broken.snapshots[2].gradient_ratio is None
    assert {layer.signal for layer in broken.snapshots[2].layers[1:]} == {None}
    assert len(found.networks[1].snapshots) == 3  # the others are measured all the same
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_data_says_everything_once() -> None:
    announced: list[str] = []
    options = config(models=(SMALL, "resnet8"), settings=("xavier", "paper"), steps=(0, 3))
    torch.manual_seed(7)
    state = torch.get_rng_state()
    found = gradient_flow(options, announced.append)
    assert torch.equal(state, torch.get_rng_state())
    assert len(announced) == len(set(announced)) == measurements(options) == 8
    assert [(n.setting, n.model) for n in found.networks] == [
        (setting, model) for setting in ("xavier", "paper") for model in (SMALL, "resnet8")
    ]
    data = found.to_dict()
    assert data["learning_rate"] == 0.1  # the recipe's
    assert set(data["meaning"]) == {"xavier", "paper"}
    assert len(found.rows()) == 2 * 2 * (9 + 7)
    first = found.rows()[0].to_dict()
    assert first | {"setting": "xavier", "model": SMALL, "step": 0, "number": 1} == first
    assert {row.number for row in found.rows() if row.model == SMALL} == set(range(1, 10))
    summary = found.summary()
    assert len(summary) == 8
    assert summary[0].training_loss is None
    losses = found.networks[0].training_losses
    assert summary[1].training_loss == pytest.approx(sum(x for x in losses if x) / 3)
    assert summary[1].gradient_ratio == found.networks[0].snapshots[1].gradient_ratio
    assert (
        LayerFlow(**json.loads(json.dumps(data))["networks"][0]["moments"][0]["layers"][0])
        == (found.networks[0].snapshots[0].layers[0])
    )


def test_cifar10_is_trained_on_by_the_papers_protocol(tiny_cifar10: TinyCifar) -> None:
    options = config(models=("plain-8",), data="cifar10", root=tiny_cifar10.root, batch_size=10)
    recipe = options.recipe("plain-8")
    assert recipe.name == "cifar10-plain-8"
    assert (recipe.training.epochs, recipe.optimizer.learning_rate) == (300, 0.1)
    assert recipe.data.augmentation == ("normalize", "mirror", "crop")
    found = gradient_flow(options, lambda _: None).networks[0]
    assert all(loss is not None for loss in found.training_losses)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "models must be at least one name, each once, got ''"),
        ({"models": (SMALL, SMALL)}, "each once"),
        ({"models": ("resnet2o",)}, "unknown model 'resnet2o'; did you mean"),
        ({"models": ("plain-21",)}, "depth must be 6n+2, such as 20 or 26, got 21"),
        ({"models": ("densenet121",)}, "too small for this network"),
        ({"models": ("densenet121",), "data": "cifar10"}, "unknown recipe 'cifar10-densenet121'"),
        ({"models": ("fractalnet-20-4",)}, "at least 32x32 pixels are needed"),
        ({"data": "imagenet"}, "unknown data set 'imagenet'"),
        ({"settings": ()}, "settings must be at least one name, each once, got ''"),
        ({"settings": ("glorot",)}, "unknown setting 'glorot'; known: xavier, he, paper"),
        ({"steps": ()}, "steps must be ascending numbers of at least 0, got ()"),
        ({"steps": (5, 2)}, "ascending"),
        ({"steps": (2, 2)}, "ascending"),
        ({"steps": (-1, 2)}, "at least 0"),
        ({"steps": (0, 1801)}, "at most 1800, where recipe digits ends"),  # 40 epochs of 45 steps
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"seed": -1}, "seed at least 0"),
        ({"learning_rate": -0.1}, "learning_rate"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        config(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cifar10 is not in"):
        flow(models=("plain-8",), data="cifar10", root=tmp_path)
