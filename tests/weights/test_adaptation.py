import dataclasses

import pytest
import torch
from foreign_weights import randomized
from small_networks import small_config
from torch import Tensor

from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.weights.adaptation import inflated, with_channels, with_new_head

CONFIG = small_config(stem="cifar", block_layers=(2, 2), num_classes=5)


def network() -> DenseNet:
    return randomized(DenseNet(CONFIG)).double()


def built(weights: dict[str, Tensor], config: DenseNetConfig) -> DenseNet:
    model = DenseNet(config).double()
    model.load_state_dict(weights)
    return model.eval()


def test_a_grey_image_gives_what_the_same_image_in_grey_colour_gave():
    model, grey = network(), torch.rand(2, 1, 9, 9, dtype=torch.float64)
    weights, config = with_channels(model.state_dict(), CONFIG, 1)
    assert config == dataclasses.replace(CONFIG, in_channels=1)
    torch.testing.assert_close(built(weights, config)(grey), model(grey.expand(2, 3, 9, 9)))


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_more_channels_repeat_the_kernels_in_turn_and_keep_their_scale(channels: int):
    model = network()
    weights, config = with_channels(model.state_dict(), CONFIG, channels)
    old, new = model.state_dict()["features.conv0.weight"], weights["features.conv0.weight"]
    assert new.shape[1] == channels
    for channel in range(channels):
        torch.testing.assert_close(new[:, channel], old[:, channel % 3] * 3 / channels)
    assert all(weights[key] is value for key, value in model.state_dict().items() if "conv0" in key) is False
    built(weights, config)


def test_a_volume_of_equal_slices_gives_what_its_slice_gave_away_from_its_ends():
    model = network()
    weights, config = inflated(model.state_dict(), CONFIG, 3)
    volume_net = built(weights, config)
    image = torch.rand(1, 3, 9, 9, dtype=torch.float64)
    depth = 40
    maps = volume_net.forward_features(image[:, :, None].expand(1, 3, depth, 9, 9))
    expected = model.forward_features(image)
    torch.testing.assert_close(maps[:, :, depth // 4], expected)


def test_volumes_do_not_become_images():
    with pytest.raises(InputError, match="weights of 3 dimensions cannot become those of 2"):
        inflated({}, dataclasses.replace(CONFIG, spatial_dims=3), 2)


def test_a_new_head_leaves_all_else_and_follows_its_generator():
    model = network()
    made = [
        with_new_head(model.state_dict(), CONFIG, 7, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    (weights, config), (same, _), (other, _) = made
    assert config.num_classes == 7
    assert weights["classifier.weight"].shape == (7, CONFIG.num_features)
    assert torch.equal(weights["classifier.weight"], same["classifier.weight"])
    assert not torch.equal(weights["classifier.weight"], other["classifier.weight"])
    kept = [key for key in model.state_dict() if not key.startswith("classifier.")]
    assert all(torch.equal(weights[key], model.state_dict()[key]) for key in kept)
    headless = {key: model.state_dict()[key] for key in kept}
    assert with_new_head(headless, CONFIG, 7)[0].keys() == weights.keys()
