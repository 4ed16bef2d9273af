from __future__ import annotations

import pytest
import torch
from small_exports import lively_network
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.data.augmentation import normalize
from densenets.data.preprocessing import Preprocessing
from densenets.export.inference_network import InferenceNetwork, PixelNetwork, inference_network
from densenets.weights.pretrained import create_model


def difference(network: nn.Module, exported: nn.Module, images: torch.Tensor) -> float:
    """The largest difference of logits, relative to their spread, in float64."""
    with torch.no_grad():
        expected, logits = network.double()(images.double()), exported.double()(images.double())
    assert logits.shape == expected.shape
    return ((logits - expected).abs().max() / (expected.max() - expected.min())).item()


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("side", [16, 23])
def test_the_logits_are_the_networks(dims: int, bottleneck: bool, stem: str, side: int) -> None:
    network = lively_network(
        spatial_dims=dims, bottleneck=bottleneck, stem=stem, block_layers=(2, 1, 2), dropout=0.2
    )
    sides = [side, side + 3, side - 2][:dims]
    images = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(1))
    # float32: what is folded has been rounded once.
    assert difference(network, InferenceNetwork(network), images) < 1e-6


def test_an_epsilon_and_a_width_of_other_libraries_are_kept() -> None:
    network = lively_network(norm_epsilon=0.1, bottleneck_width=3, compression=1.0)
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    assert difference(network, InferenceNetwork(network), images) < 1e-6


def test_features_of_a_network_without_classes_are_kept() -> None:
    network = lively_network(num_classes=0)
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    assert difference(network, inference_network(network), images) < 1e-6


def test_the_network_itself_is_unchanged() -> None:
    network = lively_network(stem="imagenet")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    exported = inference_network(network)
    with torch.no_grad():
        for value in exported.state_dict().values():
            value.zero_()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_norms_behind_convolutions_are_gone_and_the_others_stay() -> None:
    network = lively_network(stem="imagenet", block_layers=(2, 3))
    norms = [m for m in InferenceNetwork(network).modules() if isinstance(m, _BatchNorm)]
    # One before each layer, in the transition, and at the end; none of the stem, and none of bottlenecks.
    assert len(norms) == 5 + 1 + 1


def test_a_transition_costs_a_quarter() -> None:
    network = lively_network(block_layers=(1, 1), growth_rate=4, stem_channels=8)
    images = torch.zeros(1, 3, 8, 8)

    def multiply_adds(module: nn.Module) -> int:
        counted = 0

        def count(convolution: nn.Module, _: object, maps: torch.Tensor) -> None:
            nonlocal counted
            assert isinstance(convolution, nn.Conv2d)
            counted += convolution.weight[0].numel() * maps.numel()

        hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d)]
        module(images)
        for hook in hooks:
            hook.remove()
        return counted

    transition = 12 * 6 * 8 * 8  # a 1x1 convolution from 8 + 4 channels to half of them
    assert multiply_adds(network) - multiply_adds(InferenceNetwork(network)) == transition * 3 // 4


def test_other_networks_run_as_their_modules_say() -> None:
    network = create_model("resnet8", num_classes=5, generator=torch.Generator().manual_seed(0)).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    exported = inference_network(network)
    assert type(exported) is type(network)
    assert difference(network, exported, images) == 0


@pytest.mark.parametrize(("mean", "std"), [((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), ((0.0,), (1.0,))])
def test_pixels_are_normalised_as_before_training(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    preprocessing = Preprocessing(channels=len(mean), image_size=16, resize=16, mean=mean, std=std)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, len(mean), 16, 16)
    normalised = PixelNetwork(nn.Identity(), preprocessing, 2)(pixels)
    torch.testing.assert_close(normalised, normalize(pixels, preprocessing), rtol=1e-6, atol=1e-6)
