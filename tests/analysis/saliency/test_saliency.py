from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import small_config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.analysis.saliency.compute import SaliencyMap, saliency, saliency_layers
from densenets.checkpoint import Checkpoint
from densenets.data.augmentation import normalize
from densenets.data.images import central_crop, read_image
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.models.densenet import DenseBlock, DenseNet, Features, Transition
from densenets.ops.execution import EXECUTIONS
from densenets.prediction import predict
from densenets.weights.pretrained import create_model

CPU = torch.device("cpu")
CLASSES = ("one", "two", "three", "four", "five")
PARTS = (DenseNet, Features, DenseBlock, Transition)


def checkpoint(size: int = 12, seed: int = 0, **changes: Any) -> Checkpoint:
    """A network whose norms have scales, shifts and statistics of their own, as a trained one has."""
    config = small_config(**changes)
    generator = torch.Generator().manual_seed(seed)
    model = DenseNet(config, generator=generator)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for tensor, centre in ((module.weight, 1), (module.bias, 0), (module.running_mean, 0)):
                nn.init.normal_(tensor, centre, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    channels = config.in_channels
    preprocessing = Preprocessing(
        channels=channels, image_size=size, resize=size + 2, mean=(0.4,) * channels, std=(0.3,) * channels
    )
    return Checkpoint(model.eval(), CLASSES, preprocessing, {})


@pytest.fixture
def paths(picture_folder: Path) -> list[Path]:
    """Nine pictures."""
    return sorted((picture_folder / "val").rglob("*.png"))


def network_input(read: Checkpoint, path: Path) -> Tensor:
    """1 x C x H x W."""
    pixels = central_crop(read_image(path, read.preprocessing.channels), read.preprocessing)
    return normalize(pixels[None], read.preprocessing)


def by_hand(model: DenseNet, images: Tensor, label: int) -> list[Tensor]:
    """Grad-CAM's equations, straight from the maps: of every block height x width."""
    assert not model.training
    maps = list(model.forward_intermediates(images).values())
    if model.config.stem == "imagenet":
        maps.pop(0)  # the stem's
    logits = model.classifier(maps[-1].mean(dim=(2, 3)))
    gradients = torch.autograd.grad(logits[0, label], maps)
    weights = [gradient.mean(dim=(2, 3), keepdim=True) for gradient in gradients]
    return [
        (weight * activation).sum(dim=1)[0].clamp(min=0).detach()
        for weight, activation in zip(weights, maps, strict=True)
    ]


def raw(found: SaliencyMap) -> Tensor:
    return torch.tensor(found.values) * found.largest


# What the maps are


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize(
    ("stem", "size", "sides"),
    [("cifar", 12, [12, 6, 3]), ("imagenet", 36, [9, 4, 2])],
    ids=["cifar", "imagenet"],
)
def test_the_maps_are_those_of_the_equations(
    paths: list[Path], stem: str, size: int, sides: list[int], bottleneck: bool
) -> None:
    read = checkpoint(size, stem=stem, bottleneck=bottleneck, block_layers=(2, 3, 2))
    assert isinstance(read.model, DenseNet)
    for label, name in enumerate(CLASSES):
        for path, found in zip(paths, saliency(read, paths, class_name=name, device=CPU), strict=True):
            expected = by_hand(read.model, network_input(read, path), label)
            assert [len(saliency_map.values) for saliency_map in found.maps] == sides
            for saliency_map, values in zip(found.maps, expected, strict=True):
                # float32, and the blocks of the expected run fused.
                torch.testing.assert_close(raw(saliency_map), values, rtol=1e-4, atol=1e-6)


def test_the_last_map_is_the_classifiers_own(paths: list[Path]) -> None:
    # Behind the last maps there are a mean and a linear layer: the map, had nothing been cut off, would add
    # up to the logit without its bias (class activation maps, Zhou et al. 2016).
    read = checkpoint(compression=1.0)
    assert isinstance(read.model, DenseNet)
    assert isinstance(read.model.classifier, nn.Linear)
    for path, found in zip(paths, saliency(read, paths, class_name="two", device=CPU), strict=True):
        with torch.no_grad():
            features = read.model.forward_features(network_input(read, path))[0]
            logit = read.model(network_input(read, path))[0, 1] - read.model.classifier.bias[1]
            evidence = (
                torch.einsum("c,chw->hw", read.model.classifier.weight[1], features) / features[0].numel()
            )
        torch.testing.assert_close(evidence.sum(), logit)
        torch.testing.assert_close(raw(found.maps[-1]), evidence.clamp(min=0))


def test_values_are_shares_of_the_largest(paths: list[Path]) -> None:
    empty = []
    for name in CLASSES:
        for found in saliency(checkpoint(), paths, class_name=name, device=CPU):
            for saliency_map in found.maps:
                values = np.array(saliency_map.values)
                empty.append(not saliency_map.has_evidence)
                assert values.min() >= 0
                assert values.max() == (1 if saliency_map.has_evidence else 0)
    assert not all(empty)


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_every_block_has_a_map_of_the_layer_that_is_named(paths: list[Path], stem: str, blocks: int) -> None:
    read = checkpoint(32, stem=stem, block_layers=(1,) * blocks)
    assert isinstance(read.model, DenseNet)
    (found,) = saliency(read, paths[:1], device=CPU)
    assert [saliency_map.block for saliency_map in found.maps] == list(range(1, blocks + 1))
    layers = {saliency_map.block: saliency_map.layer for saliency_map in found.maps}
    assert layers == saliency_layers(read.model.config)
    for layer in layers.values():
        assert type(read.model.get_submodule(layer)) is nn.ReLU


def test_without_a_class_it_is_that_of_the_prediction(paths: list[Path]) -> None:
    read = checkpoint()
    predictions = list(predict(read, paths, device=CPU, batch_size=1))
    for found, prediction in zip(saliency(read, paths, device=CPU), predictions, strict=True):
        assert found.path == prediction.path
        assert found.explained == found.predicted == prediction.classes[0]
        # float32: the prediction's blocks are fused.
        assert found.probability == pytest.approx(prediction.probabilities[0], rel=1e-4)
        assert found.predicted_probability == found.probability
        (named,) = saliency(read, [found.path], class_name=found.explained, device=CPU)
        assert named == found


def test_a_class_has_its_own_probability(paths: list[Path]) -> None:
    read = checkpoint()
    by_class = [list(saliency(read, paths, class_name=name, device=CPU)) for name in CLASSES]
    for found in zip(*by_class, strict=True):
        assert [one.explained for one in found] == list(CLASSES)
        assert sum(one.probability for one in found) == pytest.approx(1)
        likeliest = max(found, key=lambda one: one.probability)
        for one in found:
            assert one.predicted == likeliest.explained
            assert one.predicted_probability == likeliest.probability


@pytest.mark.parametrize("size", [(30, 20), (7, 100), (12, 12), (301, 14)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size_are_seen_as_the_prediction_sees_them(
    tmp_path: Path, size: tuple[int, int], channels: int
) -> None:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(tmp_path / "picture.png")
    read = checkpoint(in_channels=channels)
    (found,) = saliency(read, [tmp_path / "picture.png"], device=CPU)
    (prediction,) = predict(read, [tmp_path / "picture.png"], device=CPU)
    assert found.pixels.shape == (channels, 12, 12)
    assert torch.equal(normalize(found.pixels[None], read.preprocessing), network_input(read, found.path))
    assert found.probability == pytest.approx(prediction.probabilities[0], rel=1e-4)


def test_everything_but_the_pixels_is_json(paths: list[Path]) -> None:
    (found,) = saliency(checkpoint(), paths[:1], class_name="four", device=CPU)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    maps = data.pop("maps")
    assert data == {
        "path": str(paths[0]),
        "explained": "four",
        "probability": found.probability,
        "predicted": found.predicted,
        "predicted_probability": found.predicted_probability,
    }
    for row, saliency_map in zip(maps, found.maps, strict=True):
        np.testing.assert_allclose(row.pop("values"), saliency_map.values, atol=5e-7)
        assert row == {
            "block": saliency_map.block,
            "layer": saliency_map.layer,
            "largest": saliency_map.largest,
            "has_evidence": saliency_map.largest > 0,
        }


# Evidence that is none, or faint


def test_a_class_that_every_map_speaks_against_has_no_evidence(paths: list[Path]) -> None:
    read = checkpoint()
    assert isinstance(read.model.classifier, nn.Linear)
    with torch.no_grad():
        read.model.classifier.weight[2] = -1.0  # of maps that are never below zero
        read.model.classifier.weight[3] = 0.0
    for found in saliency(read, paths, class_name="three", device=CPU):
        assert not found.maps[-1].has_evidence
        assert found.maps[-1].largest == 0
        assert not np.array(found.maps[-1].values).any()
        json.dumps(found.to_dict(), allow_nan=False)
    for found in saliency(read, paths, class_name="four", device=CPU):
        assert not any(saliency_map.has_evidence for saliency_map in found.maps)
        json.dumps(found.to_dict(), allow_nan=False)


def test_faint_evidence_is_shown_as_well_as_strong(paths: list[Path]) -> None:
    read = checkpoint()
    assert isinstance(read.model.classifier, nn.Linear)
    strong = list(saliency(read, paths, class_name="one", device=CPU))
    with torch.no_grad():
        read.model.classifier.weight[0] *= 2.0**-40
    faint = list(saliency(read, paths, class_name="one", device=CPU))
    for one, other in zip(strong, faint, strict=True):
        for expected, found in zip(one.maps, other.maps, strict=True):
            assert found.largest == expected.largest * 2.0**-40
            assert found.values == expected.values


# The network


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_the_execution_changes_nothing(paths: list[Path], stem: str, execution: Any) -> None:
    read = checkpoint(32, stem=stem)
    assert isinstance(read.model, DenseNet)
    read.model.execution = "reference"
    expected = list(saliency(read, paths[:3], device=CPU))
    read.model.execution = execution
    assert list(saliency(read, paths[:3], device=CPU)) == expected
    assert read.model.execution == execution


def state(model: nn.Module) -> dict[str, Any]:
    """All that an analysis might have left in a network."""
    return {
        "training": [module.training for module in model.modules()],
        "execution": [module.execution for module in model.modules() if isinstance(module, PARTS)],
        "hooks": [
            list(hooks)
            for module in model.modules()
            for hooks in (
                module._forward_hooks,
                module._forward_pre_hooks,
                module._backward_hooks,
                module._backward_pre_hooks,
            )
        ],
        "requires_grad": [weight.requires_grad for weight in model.parameters()],
        "grad": [None if weight.grad is None else weight.grad.tolist() for weight in model.parameters()],
        "weights": {key: value.tolist() for key, value in model.state_dict().items()},
        "grad_mode": torch.is_grad_enabled(),
    }


def unusual_network() -> Checkpoint:
    """In several modes and executions at once, partly frozen, with a gradient from before and a hook."""
    read = checkpoint()
    model = read.model
    assert isinstance(model, DenseNet)
    model.train()
    model.features.get_submodule("norm5").eval()
    model.execution = "fused-lean"
    block, transition = (
        model.features.get_submodule("denseblock1"),
        model.features.get_submodule("transition1"),
    )
    assert isinstance(block, DenseBlock)
    assert isinstance(transition, Transition)
    block.execution, transition.execution = "recompute", "reference"
    first, *_, last = model.parameters()
    first.requires_grad_(requires_grad=False)
    last.grad = torch.ones_like(last)
    model.relu5.register_forward_hook(lambda module, inputs, output: None)
    return read


@pytest.mark.parametrize("make", [checkpoint, unusual_network])
def test_the_network_is_left_as_it_was(paths: list[Path], make: Any) -> None:
    read = make()
    before = state(read.model)
    found = saliency(read, paths, device=CPU)
    assert state(read.model) == before
    next(found)
    assert state(read.model) == before  # between two pictures too
    assert len(list(found)) == len(paths) - 1
    assert state(read.model) == before


@pytest.mark.parametrize("make", [checkpoint, unusual_network])
def test_the_network_is_left_as_it_was_by_an_error(paths: list[Path], make: Any) -> None:
    read = make()

    def stumble(module: nn.Module, inputs: Any) -> None:
        raise RuntimeError("out of memory")

    read.model.classifier.register_forward_pre_hook(stumble)
    before = state(read.model)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(saliency(read, paths, device=CPU))
    assert state(read.model) == before


def test_a_network_in_training_is_seen_as_it_is_tested(paths: list[Path]) -> None:
    read = checkpoint(dropout=0.5)
    expected = list(saliency(read, paths, device=CPU))
    read.model.train()
    assert list(saliency(read, paths, device=CPU)) == expected


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_switched_off_around_it_and_weights_frozen(paths: list[Path], mode: Any) -> None:
    read = checkpoint()
    expected = list(saliency(read, paths, device=CPU))
    read.model.requires_grad_(requires_grad=False)
    assert list(saliency(read, paths, device=CPU)) == expected
    with mode():
        assert list(saliency(read, paths, device=CPU)) == expected
        assert not torch.is_grad_enabled()


# What cannot be


def test_an_unknown_class_is_told_at_once_with_the_nearest(paths: list[Path]) -> None:
    with pytest.raises(InputError, match=r"^unknown class 'tree'; did you mean three") as raised:
        saliency(checkpoint(), paths, class_name="tree", device=CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "family"), [("resnet20", "ResNet"), ("highway-19", "Highway")])
def test_other_families_have_no_dense_blocks(paths: list[Path], name: str, family: str) -> None:
    read = checkpoint()
    other = Checkpoint(create_model(name, num_classes=5).eval(), CLASSES, read.preprocessing, {})
    expected = f"^the network is a {family}.*; Grad-CAM per dense block needs a DenseNet$"
    with pytest.raises(InputError, match=expected):
        saliency(other, paths, device=CPU)


@pytest.mark.parametrize("dims", [1, 3])
def test_signals_and_volumes_are_no_pictures(paths: list[Path], dims: int) -> None:
    with pytest.raises(InputError, match=f"^the network has spatial_dims {dims}; .* needs one with 2$"):
        saliency(checkpoint(spatial_dims=dims), paths, device=CPU)


def test_a_broken_picture_is_named_when_its_turn_comes(paths: list[Path]) -> None:
    paths[1].write_bytes(b"no picture")
    found = saliency(checkpoint(), paths, device=CPU)
    assert next(found).path == paths[0]
    with pytest.raises(InputError, match=f"broken image {paths[1]}"):
        next(found)


def test_broken_weights_are_not_taken_for_a_lack_of_evidence(paths: list[Path]) -> None:
    read = checkpoint()
    nn.init.constant_(read.model.get_submodule("features.denseblock2.denselayer1.norm1").weight, float("nan"))
    with pytest.raises(InputError, match=f"gives {paths[0]} no finite logits"):
        list(saliency(read, paths, device=CPU))


def test_no_pictures_give_nothing() -> None:
    assert list(saliency(checkpoint(), [], device=CPU)) == []
