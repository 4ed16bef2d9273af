"""What users do to modules: "auto" does what the reference does, and "fused" says why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, pair, step
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm

from densenets.errors import InputError
from densenets.models.densenet import DenseLayer, DenseNet, Transition
from densenets.ops.backends.backend import CPP

EXECUTION = pytest.mark.parametrize("execution", ["fused", "fused-lean"])
EXACT = 1e-10  # float64 in another order, as in test_fused.py
Change = Callable[[DenseNet], object]
pytestmark = pytest.mark.skipif(
    not CPP.availability().available, reason="'auto' is the reference where there are no native kernels"
)


def layer(model: DenseNet) -> DenseLayer:
    """In the middle of a block."""
    return model.features.get_submodule("denseblock1.denselayer2")


def transition(model: DenseNet) -> Transition:
    return model.features.get_submodule("transition1")


class Doubled(DenseLayer):
    def forward(self, features: Tensor) -> Tensor:
        return 2 * super().forward(features)


class Shifted(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


class Larger(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return 1.5 * super().forward(input)


class Halved(Transition):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


class OtherLayer(nn.Module):
    """With nothing but the signature of a dense layer."""

    def __init__(self, channels: int, growth_rate: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, growth_rate, 3, padding=1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(features).tanh()


def narrow(model: DenseNet) -> None:
    """Prune a bottleneck by half."""
    pruned = layer(model)
    width = pruned.conv1.out_channels // 2
    pruned.conv1.weight = nn.Parameter(pruned.conv1.weight[:width].detach())
    for name in ("weight", "bias"):
        setattr(pruned.norm2, name, nn.Parameter(getattr(pruned.norm2, name)[:width].detach()))
    for name in ("running_mean", "running_var"):
        setattr(pruned.norm2, name, getattr(pruned.norm2, name)[:width])
    pruned.conv2.weight = nn.Parameter(pruned.conv2.weight[:, :width].detach())
    pruned.conv1.out_channels = pruned.norm2.num_features = pruned.conv2.in_channels = width


def biased(model: DenseNet) -> None:
    layer(model).conv2.bias = nn.Parameter(torch.ones(4, dtype=torch.float64))


def strange_forward(model: DenseNet) -> None:
    own = layer(model).forward
    layer(model).forward = lambda features: own(features).abs()  # type: ignore[method-assign]


def other_module(model: DenseNet) -> None:
    block = model.features.get_submodule("denseblock1")
    block["denselayer2"] = OtherLayer(12, 4).double()


def own_type(module: nn.Module, kind: type[nn.Module]) -> None:
    module.__class__ = kind


# Each changes what the modules do in the same way for the reference.
CHANGES: dict[str, Change] = {
    "weight normalisation": lambda model: weight_norm(layer(model).conv2),
    "weight normalisation in a transition": lambda model: weight_norm(transition(model).conv),
    "another activation": lambda model: setattr(layer(model), "relu2", nn.SiLU()),
    "another first activation": lambda model: setattr(layer(model), "relu1", nn.LeakyReLU(0.2)),
    "another activation in a transition": lambda model: setattr(transition(model), "relu", nn.SiLU()),
    "another activation in the stem": lambda model: setattr(model.features, "relu0", nn.SiLU()),
    "another pooling": lambda model: setattr(transition(model), "pool", nn.MaxPool2d(2)),
    "another stride": lambda model: setattr(transition(model).pool, "stride", 1),
    "another pooling in the stem": lambda model: setattr(model.features.pool0, "stride", 1),
    "another normalisation": lambda model: setattr(
        layer(model), "norm2", nn.GroupNorm(4, 16, dtype=torch.float64)
    ),
    "statistics of every batch": lambda model: setattr(layer(model).norm2, "momentum", None),
    "dilation": lambda model: [setattr(layer(model).conv2, name, (2, 2)) for name in ("dilation", "padding")],
    "circular padding": lambda model: setattr(layer(model), "conv2", circular(layer(model).conv2)),
    "a bias": biased,
    "a narrower bottleneck": narrow,
    "a layer of a subclass": lambda model: own_type(layer(model), Doubled),
    "a transition of a subclass": lambda model: own_type(transition(model), Halved),
    "an activation of a subclass": lambda model: own_type(layer(model).relu2, Shifted),
    "a normalisation of a subclass": lambda model: own_type(layer(model).norm2, Larger),
    "a forward of its own": strange_forward,
    "a module of another kind": other_module,
    "no normalisation": lambda model: setattr(layer(model), "norm1", nn.Identity()),
}


def circular(conv: nn.Conv2d) -> nn.Conv2d:
    circular = nn.Conv2d(
        conv.in_channels, conv.out_channels, 3, padding=1, bias=False, padding_mode="circular"
    )
    circular.weight = conv.weight
    return circular


def changed(change: Change, execution: Any, **config: Any) -> DenseNet:
    model = pair(case_config("large stem", **config), execution)[1]
    change(model)
    return model


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_auto_does_what_the_modules_do(change: Change, training: bool):
    reference, auto = changed(change, "reference"), changed(change, "auto")
    auto.load_state_dict(reference.state_dict())
    x = case_images(auto.config)
    # Statistics of the batch leave a bias, or a weight's length, no gradient but rounding.
    assert_equal(step(auto.train(training), x), step(reference.train(training), x), EXACT, least=1)


@EXECUTION
@pytest.mark.parametrize("name", [name for name in CHANGES if "stem" not in name])
def test_fused_refuses_what_it_would_not_do(name: str, execution: Any):
    model = changed(CHANGES[name], execution)
    with pytest.raises(InputError, match=f"^execution '{execution}' cannot run: .*; 'auto' takes what can$"):
        model(case_images(model.config))


def test_the_reference_asks_nothing_of_its_modules():
    model = changed(other_module, "reference")
    assert model(case_images(model.config)).isfinite().all()


# Hooks


@pytest.mark.parametrize(
    "name",
    ["denselayer1", "denselayer2.conv2", "denselayer2.norm1", "denselayer3.relu2", "denselayer1.dropout1"],
)
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_inside_a_block_are_called(kind: str, name: str):
    calls = []
    reference, auto = pair(case_config(), "auto")
    x = case_images(auto.config)
    expected = step(reference, x)
    module = auto.features.denseblock1.get_submodule(name)
    handle = getattr(module, f"register_{kind}_hook")(lambda *arguments: calls.append(len(arguments)))
    assert_equal(step(auto, x), expected, EXACT)
    assert len(calls) == 1
    auto.execution = "fused"
    with pytest.raises(InputError, match=f"a {type(module).__name__} has hooks"):
        auto(x)
    handle.remove()
    auto(x)
    assert len(calls) == 1


@EXECUTION
@pytest.mark.parametrize("name", ["conv0", "denseblock1", "transition1", "denseblock3", "norm5", "relu5"])
def test_hooks_of_whole_parts_do_not_stand_in_the_way(name: str, execution: Any):
    _, fused = pair(case_config(), execution)
    seen: list[Tensor] = []
    owner = fused if name == "relu5" else fused.features
    owner.get_submodule(name).register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
    assert fused(case_images(fused.config)).requires_grad
    assert len(seen) == 1


@pytest.mark.parametrize("execution", ["auto", "fused-lean"])
@pytest.mark.parametrize("name", ["conv0", "norm0", "relu0", "pool0"])
def test_hooks_in_the_stem_are_called(name: str, execution: Any):
    seen: list[Tensor] = []
    _, fused = pair(case_config("large stem"), execution)
    fused.features.get_submodule(name).register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
    fused(case_images(fused.config)).sum().backward()
    assert len(seen) == 1


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "another kernel": lambda: nn.Conv2d(3, 8, 5, stride=2, padding=1, bias=False),
    "dilation": lambda: nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2, bias=False),
    "bias": lambda: nn.Conv2d(3, 8, 7, stride=2, padding=3),
    "mirrored margins": lambda: nn.Conv2d(3, 8, 7, stride=2, padding=3, padding_mode="reflect", bias=False),
    "padding by name": lambda: nn.Conv2d(3, 8, 3, padding="same", bias=False),
    "groups": lambda: nn.Conv2d(3, 9, 3, groups=3, bias=False),
    "two modules": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Identity()),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_other_first_convolutions(name: str):
    channels = 9 if name == "groups" else 8
    reference, lean = pair(case_config("large stem", stem_channels=channels), "fused-lean")
    for model in (reference, lean):
        torch.manual_seed(1)
        model.features.conv0 = CONVOLUTIONS[name]().double()
    x = case_images(lean.config)
    # The gradient of a bias in front of a batch normalisation is 0.
    assert_equal(step(lean, x), step(reference, x), least=1e-3)


# Modes

FROZEN: dict[str, Change] = {
    "a block": lambda model: model.features.denseblock2.eval(),
    "a transition": lambda model: model.features.transition1.eval(),
    "a layer": lambda model: layer(model).eval(),
    "all norms": lambda model: [m.eval() for m in model.modules() if isinstance(m, _BatchNorm)],
    "one norm": lambda model: layer(model).norm2.eval(),
    "the stem's norm": lambda model: model.features.norm0.eval(),
    "norms and dropouts": lambda model: [
        m.eval() for m in model.modules() if isinstance(m, _BatchNorm | nn.Dropout)
    ],
    "everything but the norms": lambda model: [
        m.train(isinstance(m, _BatchNorm)) for m in model.features.denseblock1.modules()
    ],
    "everything but one norm": lambda model: [
        m.train(m is layer(model).norm1) for m in model.features.modules()
    ],
}


@pytest.mark.parametrize("freeze", FROZEN.values(), ids=FROZEN.keys())
def test_auto_knows_what_is_frozen(freeze: Change):
    reference, auto = changed(freeze, "reference"), changed(freeze, "auto")
    x = case_images(auto.config)
    assert_equal(step(auto, x), step(reference, x), EXACT)


@EXECUTION
@pytest.mark.parametrize("name", ["a block", "a transition", "all norms", "norms and dropouts"])
def test_fused_trains_around_frozen_norms(name: str, execution: Any):
    reference, fused = changed(FROZEN[name], "reference"), changed(FROZEN[name], execution)
    x = case_images(fused.config)
    assert_equal(step(fused, x), step(reference, x), EXACT)


@EXECUTION
@pytest.mark.parametrize("name", ["a layer", "one norm", "everything but one norm"])
def test_fused_refuses_a_block_of_two_modes(name: str, execution: Any):
    model = changed(FROZEN[name], execution)
    with pytest.raises(InputError, match="some of its batch normalisations are in training"):
        model(case_images(model.config))


DROPOUTS: dict[str, Change] = {
    "one layer drops": lambda model: setattr(layer(model).dropout1, "p", 1.0),
    "the first layer does not drop": lambda model: [
        setattr(m, "p", float("1" not in name and "denselayer2.dropout2" in name))
        for name, m in model.features.denseblock1.named_modules()
        if isinstance(m, nn.Dropout)
    ],
    "dropout rests in a training network": lambda model: [
        (setattr(m, "p", 0.9), m.eval()) for m in model.modules() if isinstance(m, nn.Dropout)
    ],
}


@pytest.mark.parametrize("change", DROPOUTS.values(), ids=DROPOUTS.keys())
def test_auto_drops_what_each_dropout_says(change: Change):
    # A probability of 0 or 1 draws nothing that could differ.
    reference, auto = changed(change, "reference"), changed(change, "auto")
    x = case_images(auto.config)
    assert_equal(step(auto, x), step(reference, x), EXACT)
