"""Which parts of a network are fused as it stands, and what is told of those that are not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, pair, step
from torch import Tensor, nn
from wrappers import Scaled

from densenets.models.blocks import DenseBlock, Features
from densenets.models.densenet import DenseNet
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.backend import CPP, EAGER

Change = Callable[[DenseNet], object]
EXACT = 1e-10  # float64 in another order, as in test_fused.py
pytestmark = pytest.mark.skipif(
    not CPP.availability().available, reason="'auto' is the reference where there are no native kernels"
)


class OwnBlock(DenseBlock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(1)


class OwnFeatures(Features):
    def forward(self, input: Tensor) -> Tensor:
        for module in self:
            input = module(input) + 0.01
        return input


def block(model: DenseNet) -> Any:
    return model.features.get_submodule("denseblock1")


def shared_norm(model: DenseNet) -> None:
    """One batch normalisation in two places whose statistics it takes one after the other."""
    block(model)["denselayer2"].norm2 = block(model)["denselayer1"].norm2


def added_module(model: DenseNet) -> None:
    block(model)["denselayer2"].extra = nn.Conv2d(1, 1, 1)


CHANGES: dict[str, Change] = {
    "a wrapped layer": lambda model: block(model).update(
        {"denselayer2": Scaled(block(model)["denselayer2"])}
    ),
    "a wrapped block": lambda model: setattr(model.features, "denseblock1", Scaled(block(model))),
    "a wrapped transition": lambda model: setattr(
        model.features, "transition1", Scaled(model.features.get_submodule("transition1"))
    ),
    "a wrapped convolution": lambda model: setattr(
        block(model)["denselayer1"], "conv1", Scaled(block(model)["denselayer1"].conv1)
    ),
    "a block of a subclass": lambda model: setattr(block(model), "__class__", OwnBlock),
    "features of a subclass": lambda model: setattr(model.features, "__class__", OwnFeatures),
    "a module in the middle of a layer": lambda model: setattr(
        block(model)["denselayer1"], "dropout1", nn.Sequential(nn.Tanh())
    ),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("execution", ["auto", "recompute"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_containers_and_wrappers_are_called(change: Change, execution: Any, training: bool):
    reference, other = pair(case_config("large stem"), execution)
    for model in (reference, other):
        change(model)
        model.double().train(training)
    x = case_images(other.config)
    assert_equal(step(other, x), step(reference, x), EXACT)


@pytest.mark.parametrize("execution", ["auto", "fused", "fused-lean", "recompute"])
def test_the_same_module_in_two_places(execution: Any):
    reference, other = pair(case_config(), execution)
    for model in (reference, other):
        shared_norm(model)
    x = case_images(other.config)
    assert_equal(step(other, x), step(reference, x), EXACT)
    assert block(other)["denselayer1"].norm2.num_batches_tracked == 2
    assert all(part.choice.execution != "reference" for part in other.explain_execution(x))


def explained(model: DenseNet, x: Tensor) -> dict[str, str]:
    return {
        part.name: f"{part.choice.execution}: {part.choice.reason}" for part in model.explain_execution(x)
    }


def test_every_part_is_explained():
    _, auto = pair(case_config("large stem"), "auto")
    x = case_images(auto.config)
    rows = explained(auto, x)
    names = ["stem", "denseblock1", "transition1", "denseblock2", "transition2", "denseblock3"]
    assert list(rows) == names
    assert all(row.startswith("fused: native kernels") for row in rows.values())
    auto.execution = "recompute"
    assert explained(auto, x)["denseblock1"] == "recompute: as asked for"


REASONS: dict[str, tuple[Change, str, str]] = {
    "another activation": (
        lambda model: setattr(block(model)["denselayer1"], "relu1", nn.SiLU()),
        "denseblock1",
        "it has a SiLU where it cannot have one",
    ),
    "a hook": (
        lambda model: block(model)["denselayer1"].conv1.register_forward_hook(lambda *_: None),
        "denseblock1",
        "a Conv2d has hooks or a forward of its own, which would not be called",
    ),
    "a module that its forward does not know": (
        added_module,
        "denseblock1",
        "a layer has other modules than it was built with",
    ),
    "a wrapped layer": (CHANGES["a wrapped layer"], "denseblock1", "it doesn't know what a Scaled computes"),
    "another block": (
        lambda model: setattr(model.features, "denseblock2", nn.Identity()),
        "denseblock2",
        "it doesn't know what a Identity computes",
    ),
    "another pooling": (
        lambda model: setattr(model.features.get_submodule("transition1"), "pool", nn.MaxPool2d(2)),
        "transition1",
        "it has another pooling in a transition",
    ),
    "another stem": (
        lambda model: setattr(model.features, "relu0", nn.SiLU()),
        "stem",
        "it has another normalisation or activation in its stem",
    ),
    "rebuilt features": (
        lambda model: setattr(model, "features", nn.Sequential(OrderedDict(model.features._modules))),
        "stem",
        "the features are a Sequential",
    ),
}


@pytest.mark.parametrize(("change", "name", "reason"), REASONS.values(), ids=REASONS.keys())
def test_what_runs_its_modules_says_why(change: Change, name: str, reason: str):
    _, auto = pair(case_config("large stem", block_layers=(2, 1)), "auto")
    change(auto)
    if name == "denseblock2":
        auto.features.norm5 = nn.BatchNorm2d(8, dtype=torch.float64)
        auto.classifier = nn.Linear(8, 5, dtype=torch.float64)
    rows = explained(auto, case_images(auto.config))
    assert rows.pop(name) == f"reference: {reason}"
    assert all(row.startswith("fused") for row in rows.values())


def test_an_explanation_leaves_no_trace():
    _, auto = pair(case_config("large stem", dropout=0.3), "auto")
    buffers = {name: (buffer, buffer.clone()) for name, buffer in auto.named_buffers()}
    state = torch.get_rng_state()
    auto.train().explain_execution(case_images(auto.config))
    assert torch.equal(torch.get_rng_state(), state)
    for name, buffer in auto.named_buffers():
        assert buffer is buffers[name][0]
        assert torch.equal(buffer, buffers[name][1])
    assert auto.execution == "auto"
    assert not any(module._forward_pre_hooks for module in auto.modules())


def test_an_explanation_of_what_was_asked_for_and_cannot_run():
    _, fused = pair(case_config(), "fused")
    block(fused)["denselayer1"].relu1 = nn.SiLU()
    rows = explained(fused, case_images(fused.config))
    assert rows["denseblock1"].startswith("reference: execution 'fused' cannot run: it has a SiLU")
    assert rows["transition1"].startswith("fused: as asked for")


def test_another_backend_is_a_record(monkeypatch: pytest.MonkeyPatch):
    """Kernels of units alone run blocks and transitions; the stem they leave to its modules, and say so."""
    other = replace(EAGER, name="other", label="other kernels", is_fast=True)
    monkeypatch.setattr(backend_module, "BACKENDS", (other, CPP))
    reference, auto = pair(case_config("large stem"), "auto")
    x = case_images(auto.config)
    rows = explained(auto, x)
    assert rows["denseblock1"].startswith("fused: other kernels")
    assert rows["transition1"].startswith("fused: other kernels")
    assert rows["stem"] == "reference: the backend that runs blocks has no kernels for it"
    assert_equal(step(auto, x), step(reference, x), EXACT)
