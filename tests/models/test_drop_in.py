"""What is written for torchvision's DenseNet works on densenet: parts, forward, changes of its modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from network_steps import assert_equal, case_config, images, pair, randomize, step
from small_networks import small_config
from torch import Tensor, nn
from torch.nn import functional

import densenets
from densenets.checkpoint import save_checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.ops.execution import EXECUTIONS
from densenets.weights.pretrained import create_model

EXECUTION = pytest.mark.parametrize("execution", EXECUTIONS)
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
EXACT = 1e-10  # float64 in another order


def torchvisions(execution: Any, **changes: Any) -> tuple[nn.Module, DenseNet]:
    """torchvision's small network and densenet with its weights."""
    torchvision_net = randomize(torchvision.models.DenseNet(4, (2, 3), num_init_features=8, num_classes=5))
    densenet = DenseNet(small_config(stem="imagenet", **changes), execution).double()
    densenet.load_state_dict(torchvision_net.state_dict())
    return torchvision_net, densenet


@TRAINING
@EXECUTION
def test_features_are_torchvisions(execution: Any, training: bool):
    torchvision_net, densenet = torchvisions(execution)
    x = images(2, 3, 45, 37)
    names = [name for name, _ in torchvision_net.features.named_children()]
    assert [name for name, _ in densenet.features.named_children()] == names
    expected = torchvision_net.train(training).features(x)
    torch.testing.assert_close(densenet.train(training).features(x), expected)
    assert (expected < 0).any(), "no value shows that the last ReLU is not among them"
    torchvision_net, densenet = torchvisions(execution)
    torch.testing.assert_close(
        densenet.train(training).forward_features(x), torchvision_net.train(training).features(x).relu()
    )


def body(model: Any, x: Tensor) -> Tensor:
    """As torchvision's network and many ports of CheXNet have it."""
    features = model.features(x)
    out = functional.relu(features, inplace=True)
    out = functional.adaptive_avg_pool2d(out, (1, 1))
    return model.classifier(torch.flatten(out, 1))


@TRAINING
@EXECUTION
def test_torchvisions_forward_around_our_parts(execution: Any, training: bool):
    torchvision_net, densenet = torchvisions(execution)
    x = images(2, 3, 45, 37)
    actual = step(densenet.train(training), x, lambda x: body(densenet, x))
    assert_equal(actual, step(torchvision_net.train(training), x), EXACT)


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "two channels": lambda model: setattr(
        model.features, "conv0", nn.Conv2d(2, 8, 7, stride=2, padding=3, bias=False)
    ),
    "no stride": lambda model: setattr(model.features, "conv0", nn.Conv2d(2, 8, 3, padding=1, bias=False)),
    "no pooling": lambda model: setattr(model.features, "pool0", nn.Identity()),
    "no pooling in the transition": lambda model: setattr(model.features.transition1, "pool", nn.Identity()),
    "rebuilt features": lambda model: setattr(
        model, "features", nn.Sequential(nn.Conv2d(2, 8, 5, bias=False), *list(model.features)[1:])
    ),
    "modules between": lambda model: setattr(
        model,
        "features",
        nn.Sequential(
            OrderedDict(
                [
                    item
                    for name, child in model.features.named_children()
                    for item in ((name, child), (f"between_{name}", nn.Hardtanh(-3, 3)))
                ]
            )
        ),
    ),
    "a block left out": lambda model: [
        delattr(model.features, "denseblock2"),
        setattr(model.features, "norm5", nn.BatchNorm2d(8)),
        setattr(model, "classifier", nn.Linear(8, 5)),
    ],
    "a head of several layers": lambda model: setattr(
        model, "classifier", nn.Sequential(nn.Linear(20, 7), nn.ReLU(), nn.Dropout(0.0), nn.Linear(7, 3))
    ),
    "squeeze and excitation": lambda model: setattr(
        model.features,
        "denseblock2",
        nn.Sequential(model.features.denseblock2, nn.BatchNorm2d(20), nn.Hardswish()),
    ),
}


@TRAINING
@pytest.mark.parametrize("execution", ["auto", "reference", "recompute"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_modules_count_and_not_the_config(
    change: Callable[[nn.Module], object], execution: Any, training: bool
):
    models = []
    for model in torchvisions(execution):
        torch.manual_seed(1)
        change(model)
        models.append(randomize(model).train(training))
    reads = next(m for m in models[0].modules() if isinstance(m, nn.Conv2d)).in_channels
    x = images(2, reads, 45, 37)
    expected, actual = (step(model, x) for model in models)
    # A bias in front of a batch normalisation has a gradient of rounding alone.
    assert_equal(actual, expected, EXACT, least=1e-3)


def test_sizes_that_the_modules_can_take_are_taken():
    torchvision_net, densenet = torchvisions("auto")
    for model in (torchvision_net, densenet):
        model.features.transition1.pool = nn.Identity()
    x = images(2, 3, 4, 3)
    torch.testing.assert_close(densenet.eval()(x), torchvision_net.eval()(x))
    with pytest.raises(InputError, match="4x3 is too small for this network"):
        DenseNet(densenet.config)(x.float())


def test_wrong_channels_are_those_that_the_first_convolution_reads():
    model = DenseNet(small_config())
    model.features.conv0 = nn.Conv2d(2, 8, 3, padding=1)
    assert model(torch.zeros(2, 2, 8, 8)).shape == (2, 5)
    with pytest.raises(InputError, match="has 3 channels; this network reads 2"):
        model(torch.zeros(2, 3, 8, 8))


def test_errors_of_other_kinds_are_left_alone():
    model = DenseNet(small_config())
    with pytest.raises(RuntimeError, match="type"):
        model(torch.zeros(2, 3, 8, 8, dtype=torch.float64))


# Memory format


@TRAINING
@EXECUTION
@pytest.mark.parametrize("case", ["bottleneck", "plain", "large stem", "signal", "volume"])
def test_maps_and_gradients_are_in_the_format_of_the_images(case: str, execution: Any, training: bool):
    model = pair(case_config(case, block_layers=(2, 2)), execution)[1].train(training)
    dims = model.config.spatial_dims
    x = images(2, model.config.in_channels, *[12] * dims)
    # PyTorch's own convolutions of volumes leave channels-last form in float64.
    for layout in (torch.contiguous_format, torch.channels_last)[: 2 if dims == 2 else 1]:
        given = x.contiguous(memory_format=layout).requires_grad_()
        block_input = model.features[:1](given).detach().contiguous(memory_format=layout).requires_grad_()
        maps = [model.features(given), model.forward_features(given)]
        maps += model.forward_intermediates(given).values()
        gradients = torch.autograd.grad(model(given).sum(), given)
        for tensor in [*maps, *gradients]:
            assert tensor.is_contiguous(memory_format=layout)
        if case != "large stem":
            outputs = model.features.denseblock1(block_input)
            assert outputs.is_contiguous(memory_format=layout)
            (gradient,) = torch.autograd.grad(outputs.square().sum(), block_input)
            assert gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("execution", ["auto", "fused", "reference"])
def test_hooks_see_maps_in_the_format_of_the_images(execution: Any):
    model = pair(case_config("large stem"), execution)[1]
    seen: list[Tensor] = []
    for name in ("denseblock1", "transition1", "denseblock2", "norm5"):
        module = model.features.get_submodule(name)
        module.register_forward_hook(lambda module, inputs, output: seen.extend([*inputs, output]))
        module.register_full_backward_hook(lambda module, into, out: seen.extend([*into, *out]))
    model(images(2, 3, 40, 36)).square().sum().backward()
    assert len(seen) == 16
    for maps in seen:
        maps.view(len(maps), -1)


def test_a_single_channel_is_in_the_format_that_it_was_made_for():
    model = pair(case_config(in_channels=1), "auto")[1]
    plain = images(2, 1, 12, 12)
    assert model.features(plain).is_contiguous()
    last = plain.to(memory_format=torch.channels_last)
    assert model.features(last).is_contiguous(memory_format=torch.channels_last)


# Heads


@EXECUTION
@pytest.mark.parametrize("name", ["densenet-bc-10-4", "densenet121"])
def test_no_classes_give_pooled_features(name: str, execution: Any):
    few = {"block_layers": (2, 2), "stem_channels": 8, "growth_rate": 4}
    model = create_model(name, num_classes=0, execution=execution, **few).eval()
    x = torch.randn(2, 3, 64, 48)
    pooled = model(x)
    assert pooled.shape == (2, model.num_features)
    torch.testing.assert_close(pooled, model.forward_features(x).mean(dim=(2, 3)))
    assert not [key for key in model.state_dict() if key.startswith("classifier")]
    whole = create_model(name, num_classes=7, execution=execution, **few)
    whole.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(whole.eval().forward_features(x), model.forward_features(x))


@pytest.mark.parametrize("name", ["resnet20", "wrn-16-4", "highway-19", "fractalnet-5-8", "all-cnn", "dsn"])
def test_other_networks_have_no_classes_either(name: str):
    model = create_model(name, num_classes=0).eval()
    x = torch.randn(2, 3, 32, 32)
    assert model(x).shape == (2, model.num_features)
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    assert model.changed_module() is None


def test_the_usual_ways_to_reset_a_head():
    model = create_model("densenet-bc-10-4")
    x = torch.randn(2, 3, 16, 16)
    model.classifier = nn.Linear(model.classifier.in_features, 4)
    assert model(x).shape == (2, 4)
    assert model.get_classifier() is model.classifier
    model.reset_classifier(6)
    assert model(x).shape == (2, 6)
    assert model.config.num_classes == 6
    model.reset_classifier(0)
    assert model(x).shape == (2, model.num_features)
    model.classifier = nn.Identity()
    assert model(x).shape == (2, model.num_features)
    with pytest.raises(InputError, match="num_classes must be at least 0, got -1"):
        create_model("densenet-bc-10-4", num_classes=-1)


# Checkpoints of changed networks


def save(model: DenseNet, path: Path) -> None:
    channels = model.config.in_channels
    preprocessing = Preprocessing(
        channels=channels, image_size=16, resize=16, mean=(0.5,) * channels, std=(0.25,) * channels
    )
    classes = tuple("abcde"[: model.config.num_classes])
    save_checkpoint(path, model.state_dict(), model.config, classes, preprocessing, {})


SAVED: dict[str, Callable[[DenseNet], object]] = {
    "as built": lambda model: None,
    "another head by its method": lambda model: model.reset_classifier(3),
    "in place": lambda model: setattr(model.features.denseblock1.denselayer1.relu1, "inplace", True),
    "momentum": lambda model: setattr(model.features.norm5, "momentum", None),
}
REFUSED: dict[str, Callable[[DenseNet], object]] = {
    "another first convolution": lambda model: setattr(model.features, "conv0", nn.Conv2d(2, 8, 3)),
    "another activation": lambda model: setattr(
        model.features.denseblock1.denselayer1, "relu1", nn.LeakyReLU()
    ),
    "another padding": lambda model: setattr(
        model.features, "conv0", nn.Conv2d(3, 8, 3, padding=1, bias=False, padding_mode="reflect")
    ),
    "another epsilon": lambda model: setattr(model.features.norm5, "eps", 1e-3),
    "another head": lambda model: setattr(model, "classifier", nn.Linear(20, 3)),
    "a head of its own": lambda model: setattr(
        model, "classifier", nn.Sequential(model.classifier, nn.Sigmoid())
    ),
    "an added module": lambda model: setattr(model, "extra", nn.Linear(2, 2)),
    "a forward of its own": lambda model: setattr(
        model.features.denseblock1.denselayer1, "forward", lambda x: x[:, :4]
    ),
    "a change before another head": lambda model: [
        setattr(model.features.denseblock1.denselayer1, "relu1", nn.SiLU()),
        model.reset_classifier(3),
    ],
}


@pytest.mark.parametrize("change", SAVED.values(), ids=SAVED.keys())
def test_what_the_config_says_is_saved(change: Callable[[DenseNet], object], tmp_path: Path):
    model = DenseNet(small_config()).eval()
    change(model)
    save(model, tmp_path / "network.safetensors")
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(densenets.load(tmp_path / "network.safetensors")(x), model(x))


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_what_the_config_does_not_say_is_refused(change: Callable[[DenseNet], object], tmp_path: Path):
    model = DenseNet(small_config())
    change(model)
    with pytest.raises(InputError, match="config"):
        save(model, tmp_path / "network.safetensors")
    assert not list(tmp_path.iterdir())
    torch.save(model.state_dict(), tmp_path / "own.pt")  # which is the user's own
    assert torch.load(tmp_path / "own.pt", weights_only=True).keys() == model.state_dict().keys()
