"""Keras' files of DenseNets, against the models that keras wrote them of."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from native_parsers import parse_here

from densenets.errors import InputError
from densenets.weights.formats.file_modules import NetworkFile
from densenets.weights.formats.keras_file import read_keras

KINDS = ("model.h5", "model.keras", "model.weights.h5")


@pytest.fixture(scope="module")
def k() -> Any:
    """Keras, and networks of it; not at the head of the file, since its import takes as long as ten tests."""
    import keras_networks

    return keras_networks


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_here(monkeypatch)


def with_weights(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.weights]


def check(k: Any, found: NetworkFile, model: Any, datasets: int) -> None:
    """Check that each layer is there with each number, and that every key of the file is accounted for."""
    expected = {layer.name: k.torch_tensors(layer) for layer in with_weights(model)}
    assert {module.name for module in found.modules} == expected.keys()
    for module in found.modules:
        own = expected[module.name]
        assert module.tensors.keys() == module.keys.keys() == own.keys()
        for role, value in module.tensors.items():
            np.testing.assert_array_equal(value.numpy(), own[role])
            assert value.is_contiguous()
    keys = [key for module in found.modules for key in module.keys.values()]
    assert len(set(keys)) == len(keys)
    rest = {*found.unused, *found.others}
    assert not set(keys) & rest
    assert len(keys) + len(rest) == datasets


def numbers_of_datasets(path: Path) -> int:
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(name)

    with h5py.File(path) as file:
        file.visititems(visit)
    return len(found)


def unpacked(path: Path, folder: Path) -> Path:
    """The HDF5 file of an archive, or the file itself."""
    if path.suffix != ".keras":
        return path
    with zipfile.ZipFile(path) as archive:
        return Path(archive.extract("model.weights.h5", folder))


@pytest.fixture(scope="module")
def published(k: Any) -> Any:
    return k.published_kind()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_every_tensor_of_keras_own_networks_is_read(
    tmp_path: Path, k: Any, published: Any, name: str
) -> None:
    path = k.save(published, tmp_path / name)
    found = read_keras(path)
    check(k, found, published, numbers_of_datasets(unpacked(path, tmp_path)))
    norms = [module for module in found.modules if module.kind == "norm"]
    has_config = name != "model.weights.h5"
    assert {module.epsilon for module in norms} == {1.001e-5 if has_config else None}
    assert found.new_maps == ("last" if has_config else None)
    for kind in ("convolution", "norm", "linear"):
        own = [module.name for module in found.modules if module.kind == kind]
        assert own == [layer.name for layer in with_weights(published) if layer.name in own]
    if has_config:
        assert [module.name for module in found.modules] == [own.name for own in with_weights(published)]
    assert (found.program, found.in_order, found.path) == ("Keras", False, path)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize("new_first", [False, True])
@pytest.mark.slow
def test_where_new_maps_stand_is_read_from_the_config(
    tmp_path: Path, k: Any, name: str, new_first: bool
) -> None:
    model = k.small_model(new_first=new_first)
    found = read_keras(k.save(model, tmp_path / name))
    assert found.new_maps == ("first" if new_first else "last")
    assert {module.epsilon for module in found.modules if module.kind == "norm"} == {2e-5}


@pytest.mark.slow
def test_new_maps_now_here_and_now_there_are_refused(tmp_path: Path, k: Any) -> None:
    x = inputs = k.layers.Input((8, 8, 4))
    for new_first in (False, True):
        new = k.layers.Conv2D(4, 3, padding="same")(k.layers.ReLU()(k.layers.BatchNormalization()(x)))
        x = k.layers.Concatenate()([new, x] if new_first else [x, new])
    path = k.save(k.keras.Model(inputs, x), tmp_path / "model.keras")
    with pytest.raises(InputError, match="behind the older ones in some layers and before them in others"):
        read_keras(path)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_signals_images_and_volumes_are_read(tmp_path: Path, k: Any, name: str, dims: int) -> None:
    model = k.small_model(dims)
    path = k.save(model, tmp_path / name)
    check(k, read_keras(path), model, numbers_of_datasets(unpacked(path, tmp_path)))


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize("absent", [("scale",), ("center",), ("scale", "center")])
@pytest.mark.slow
def test_a_norm_may_lack_what_it_would_learn(
    tmp_path: Path, k: Any, name: str, absent: tuple[str, ...]
) -> None:
    model = k.small_model(**dict.fromkeys(absent, False))
    found = read_keras(k.save(model, tmp_path / name))
    norm = next(module for module in found.modules if module.kind == "norm")
    lacking = {"weight": "scale", "bias": "center"}
    assert norm.tensors.keys() == {
        *(role for role in lacking if lacking[role] not in absent),
        "running_mean",
        "running_var",
    }
    check(k, found, model, sum(len(module.keys) for module in found.modules))


@pytest.mark.slow
def test_what_a_norm_lacks_must_be_said(tmp_path: Path, k: Any) -> None:
    both = k.small_model(scale=False, center=False)
    found = read_keras(k.save(both, tmp_path / "both.weights.h5"))
    check(k, found, both, sum(len(module.keys) for module in found.modules))
    path = k.save(k.small_model(scale=False), tmp_path / "one.weights.h5")
    with pytest.raises(InputError, match=r"has 3 tensors, and the file does not say which; save .*\.keras"):
        read_keras(path)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_what_the_optimiser_keeps_is_no_layer(tmp_path: Path, k: Any, name: str) -> None:
    model = k.small_model()
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    path = k.save(model, tmp_path / name)
    found = read_keras(path)
    check(k, found, model, numbers_of_datasets(unpacked(path, tmp_path)))
    assert len(found.unused) == 2 * len(model.trainable_variables) + 2
    assert set(found.unused.values()) == {"of the optimiser or of what was measured"}


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.slow
def test_layers_of_another_kind_are_told_apart(tmp_path: Path, k: Any, name: str) -> None:
    inputs = k.layers.Input((8, 8, 3))
    x = k.layers.DepthwiseConv2D(3, name="apart")(k.layers.Conv2D(4, 1, name="own")(inputs))
    path = k.save(
        k.randomized(k.keras.Model(inputs, k.layers.LayerNormalization(name="other")(x))), tmp_path / name
    )
    found = read_keras(path)
    assert [module.name for module in found.modules] == ["own"]
    assert len(found.others) == 4
    assert sum("apart" in key or "depthwise" in key for key in found.others) == 2


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_a_network_inside_of_a_model_is_read(tmp_path: Path, k: Any, name: str) -> None:
    inner = k.small_model()
    inputs = k.layers.Input((8, 8, 3))
    outer = k.keras.Model(inputs, k.layers.Dense(2, name="head")(inner(inputs)))
    found = read_keras(k.save(outer, tmp_path / name))
    both = [*with_weights(inner), outer.get_layer("head")]
    assert len(found.modules) == len(both)
    values = [value for layer in both for value in k.torch_tensors(layer).values()]
    for module in found.modules:
        for tensor in module.tensors.values():
            assert any(np.array_equal(tensor.numpy(), value) for value in values)
    if name != "model.weights.h5":
        assert [module.name for module in found.modules] == [layer.name for layer in both]
        assert found.new_maps == "last"
    assert not found.others


def without_names(path: Path) -> Path:
    """The file as earlier versions of Keras wrote it, which did not say the layers' names."""
    with h5py.File(path, "r+") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    return path


@pytest.mark.slow
def test_earlier_files_say_no_names_but_count(tmp_path: Path, k: Any, published: Any) -> None:
    path = without_names(k.save(published, tmp_path / "model.weights.h5"))
    found = read_keras(path)
    convolutions = [module for module in found.modules if module.kind == "convolution"]
    own = [layer for layer in with_weights(published) if isinstance(layer, k.layers.Conv2D)]
    assert [module.name for module in convolutions][-2:] == ["conv2d_12", "conv2d_13"]
    for module, layer in zip(convolutions, own, strict=True):
        np.testing.assert_array_equal(module.weight.numpy(), k.torch_tensors(layer)["weight"])


@pytest.mark.slow
def test_earlier_archives_have_the_names_in_the_config(tmp_path: Path, k: Any, published: Any) -> None:
    path = k.save(published, tmp_path / "model.keras")
    weights = without_names(unpacked(path, tmp_path))
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    repack(path, {"config.json": config, "model.weights.h5": weights.read_bytes()})
    found = read_keras(path)
    check(k, found, published, numbers_of_datasets(weights))


def repack(path: Path, parts: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def version_2(k: Any, path: Path, model: Any) -> Path:
    """The file that Keras 2 wrote of weights: names with slashes and ":0", long lists in parts."""
    with h5py.File(path, "w") as file:
        names = [layer.name.replace("_", "/", 1) for layer in model.layers]
        half = len(names) // 2
        file.attrs["layer_names0"] = np.array(names[:half], "S")
        file.attrs["layer_names1"] = np.array(names[half:], "S")
        for name, layer in zip(names, model.layers, strict=True):
            group = file.create_group(name)
            own = [f"{name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = np.array(own, "S")
            for key, weight in zip(own, layer.weights, strict=True):
                group[key] = k.keras.ops.convert_to_numpy(weight)
    return path


@pytest.mark.slow
def test_the_files_of_version_2_are_read(tmp_path: Path, k: Any, published: Any) -> None:
    found = read_keras(version_2(k, tmp_path / "model.h5", published))
    own = with_weights(published)
    assert [module.name for module in found.modules] == [layer.name.replace("_", "/", 1) for layer in own]
    for module, layer in zip(found.modules, own, strict=True):
        for role, value in k.torch_tensors(layer).items():
            np.testing.assert_array_equal(module.tensors[role].numpy(), value)
            assert module.keys[role].startswith(f"{module.name}/{module.name}/")
    assert not found.others


@pytest.mark.slow
def test_weights_of_half_precision_keep_their_values(tmp_path: Path, k: Any) -> None:
    for name in ("float16", "bfloat16"):
        layer = k.layers.Dense(3, dtype=k.keras.DTypePolicy(name))
        model = k.randomized(k.keras.Sequential([k.layers.Input((4,)), layer]))
        found = read_keras(k.save(model, tmp_path / f"{name}.keras"))
        kernel = layer.kernel.value.detach().T
        assert (found.modules[0].weight == kernel).all()
        assert str(found.modules[0].weight.dtype) == (
            "torch.float16" if name == "float16" else "torch.float32"
        )


def test_a_quantised_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones((4, 3), np.int8)
    with pytest.raises(
        InputError, match=r"vars/0 is torch\.int8: it is quantised; save the network as it was"
    ):
        read_keras(path)


# Other functions, as far as a config says it


def config_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def changed(path: Path, class_name: str, **settings: Any) -> Path:
    """The archive with other settings of its first layer of a class."""
    config = config_of(path)
    layer = next(own for own in config["config"]["layers"] if own["class_name"] == class_name)
    layer["config"] |= settings
    weights = unpacked(path, path.parent).read_bytes()
    return repack(path, {"config.json": json.dumps(config).encode(), "model.weights.h5": weights})


@pytest.mark.parametrize(
    ("class_name", "settings", "reason"),
    [
        ("Activation", {"activation": "gelu"}, "is no plain ReLU"),
        ("Conv2D", {"activation": "relu"}, "has an activation behind its convolution"),
        ("Conv2D", {"padding": "same"}, "has strides and 'same' padding, .*"),
        ("ZeroPadding2D", {"padding": [[2, 2], [2, 2]]}, "has another padding"),
        ("AveragePooling2D", {"pool_size": [3, 3]}, "does not average over pixels by two and two"),
    ],
)
@pytest.mark.slow
def test_what_a_densenet_does_not_compute_is_refused(
    tmp_path: Path, k: Any, published: Any, class_name: str, settings: dict[str, Any], reason: str
) -> None:
    path = changed(k.save(published, tmp_path / "model.keras"), class_name, **settings)
    with pytest.raises(InputError, match=f"{reason}: that is another function than a DenseNet's"):
        read_keras(path)


@pytest.mark.slow
def test_a_missing_activation_is_seen(tmp_path: Path, k: Any) -> None:
    inputs = k.layers.Input((8, 8, 3))
    model = k.keras.Model(inputs, k.layers.Conv2D(4, 1)(k.layers.BatchNormalization()(inputs)))
    with pytest.raises(InputError, match="reads a norm without an activation between"):
        read_keras(k.save(model, tmp_path / "model.keras"))
