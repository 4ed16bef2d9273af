import dataclasses

import pytest
import torch
from paper_counts import CIFAR_PARAMETERS, IMAGENET_PARAMETERS

from densenets.errors import InputError
from densenets.models.registry import DENSENETS, NETWORKS, named_config
from densenets.weights.pretrained import create_model

# Table 2 of the paper: C10, C10+, C100, C100+, SVHN, in percent.
CIFAR_ERRORS = {
    "densenet-40-12": (7.00, 5.24, 27.55, 24.42, 1.79),
    "densenet-100-12": (5.77, 4.10, 23.79, 20.20, 1.67),
    "densenet-100-24": (5.83, 3.74, 23.42, 19.25, 1.59),
    "densenet-bc-100-12": (5.92, 4.51, 24.15, 22.27, 1.76),
    "densenet-bc-250-24": (5.19, 3.62, 19.64, 17.60, 1.74),
    "densenet-bc-190-40": (None, 3.46, None, 17.18, None),
}
# Table 3 (single crop, 10-crop) and, for the last three, the official README.
IMAGENET_ERRORS = {
    "densenet121": (25.02, 23.61),
    "densenet169": (23.80, 22.08),
    "densenet201": (22.58, 21.46),
    "densenet264": (22.15, 20.80),
    "densenet161": (22.2, None),
    "densenet232-48": (21.2, None),
    "densenet264-48": (20.4, None),
}


def parameters(name: str, num_classes: int | None = None) -> int:
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
    return sum(parameter.numel() for parameter in model.parameters())


def test_densenets_are_the_networks_of_the_paper_and_its_authors():
    published = [*CIFAR_PARAMETERS, *IMAGENET_PARAMETERS]
    assert list(DENSENETS)[: len(published)] == published


@pytest.mark.parametrize("name", CIFAR_PARAMETERS)
def test_parameters_of_cifar_networks(name: str):
    assert (parameters(name, 10), parameters(name, 100)) == CIFAR_PARAMETERS[name]
    assert named_config(name).num_classes == 10


@pytest.mark.parametrize("name", IMAGENET_PARAMETERS)
def test_parameters_of_imagenet_networks(name: str):
    assert parameters(name) == IMAGENET_PARAMETERS[name]
    assert named_config(name).num_classes == 1000


@pytest.mark.parametrize("name", CIFAR_ERRORS)
def test_published_errors_of_cifar_networks(name: str):
    columns = zip(("cifar10", "cifar10+", "cifar100", "cifar100+", "svhn"), CIFAR_ERRORS[name], strict=True)
    assert NETWORKS[name].published.top1 == {column: error for column, error in columns if error is not None}


@pytest.mark.parametrize("name", IMAGENET_ERRORS)
def test_published_errors_of_imagenet_networks(name: str):
    columns = zip(("imagenet", "imagenet 10-crop"), IMAGENET_ERRORS[name], strict=True)
    assert NETWORKS[name].published.top1 == {column: error for column, error in columns if error is not None}


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("densenet-40-12", 40),
        ("densenet-100-24", 100),
        ("densenet-bc-250-24", 250),
        ("densenet-bc-190-40", 190),
        ("densenet121", 121),
        ("densenet169", 169),
        ("densenet201", 201),
        ("densenet161", 161),
        # The layers that the authors list for these two come to one more than the names say.
        ("densenet264", 265),
        ("densenet232-48", 233),
    ],
)
def test_depth_of_named_networks(name: str, depth: int):
    assert named_config(name).depth == depth


@pytest.mark.parametrize(
    ("name", "layers", "bottleneck", "compression", "stem_channels"),
    [
        ("densenet-22-8", 6, False, 1.0, 16),
        ("densenet-b-22-8", 3, True, 1.0, 16),
        ("densenet-c-22-8", 6, False, 0.5, 16),
        ("densenet-bc-22-8", 3, True, 0.5, 16),
        ("densenet-b-100-12", 16, True, 1.0, 16),
        ("densenet-c-100-12", 32, False, 0.5, 16),
        ("densenet-bc-100-12", 16, True, 0.5, 24),
    ],
)
def test_variants_follow_from_names(
    name: str, layers: int, bottleneck: bool, compression: float, stem_channels: int
):
    config = named_config(name)
    assert config.block_layers == (layers,) * 3
    assert (config.bottleneck, config.compression) == (bottleneck, compression)
    assert (config.stem, config.stem_channels) == ("cifar", stem_channels)
    assert config.dropout == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("densenet-41-12", r"depth must be 3n\+4 without bottleneck, such as 40 or 43, got 41"),
        ("densenet-c-3-12", r"depth must be 3n\+4 without bottleneck, such as 7 or 10, got 3"),
        ("densenet-bc-99-12", r"depth must be 6n\+4 with bottleneck, such as 94 or 100, got 99"),
        ("densenet-b-43-12", r"depth must be 6n\+4 with bottleneck, such as 40 or 46, got 43"),
        ("densenet-bc-4-12", r"depth must be 6n\+4 with bottleneck, such as 10 or 16, got 4"),
        ("densenet-40-0", "growth_rate must be .*, got 0"),
    ],
)
def test_names_that_no_network_can_have(name: str, message: str):
    with pytest.raises(InputError, match=message):
        named_config(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("densenet-121", "densenet121"),
        ("DenseNet169", "densenet169"),
        ("densenet-bc-100", "densenet-bc-100-12"),
        ("densenet-bc-100-12-old", "densenet-bc-100-12"),
    ],
)
def test_unknown_name_gets_the_nearest(name: str, nearest: str):
    with pytest.raises(InputError, match=f"unknown model '{name}'; did you mean .*{nearest}"):
        named_config(name)


def test_name_like_no_other_gets_the_list():
    with pytest.raises(InputError, match=r"unknown model 'vgg'; known: densenet-40-12, .*densenet121"):
        named_config("vgg")


CHANGES = {
    "num_classes": 14,
    "in_channels": 1,
    "block_layers": (2, 2),
    "growth_rate": 8,
    "bottleneck": False,
    "compression": 1.0,
    "stem": "cifar",
    "stem_channels": 5,
    "bottleneck_width": 2,
    "dropout": 0.2,
    "norm_epsilon": 0.01,
    "spatial_dims": 3,
}


@pytest.mark.parametrize("field", CHANGES)
def test_one_changed_field_leaves_the_others(field: str):
    with torch.device("meta"):
        changed = create_model("densenet121", **{field: CHANGES[field]}).config
    assert changed == dataclasses.replace(named_config("densenet121"), **{field: CHANGES[field]})


def test_every_field_can_be_changed_and_reaches_the_network():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(named_config("densenet121"))}
    model = create_model("densenet121", **CHANGES)
    assert dataclasses.asdict(model.config) == CHANGES
    assert model.eval()(torch.zeros(1, 1, 4, 4, 4)).shape == (1, 14)


def test_changed_fields_are_checked():
    with pytest.raises(InputError, match="num_classes must be at least 0, got -1"):
        create_model("densenet121", num_classes=-1)
