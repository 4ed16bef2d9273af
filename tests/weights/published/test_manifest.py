"""Every fact of the manifest beside the source of the package that publishes the weights."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.layer_table import layer_table
from densenets.weights.published.manifest import (
    NOT_STATED,
    PUBLISHED,
    Checksum,
    PublishedWeights,
    published_weights,
)


def entries(package: str) -> dict[str, PublishedWeights]:
    """A package's entries by its own names."""
    return {
        entry.name.removeprefix(f"{package}/"): entry
        for entry in PUBLISHED.values()
        if entry.package == package
    }


def readme(package: str) -> str:
    return " ".join(str(metadata(package).get_payload()).split())


def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items()}


def test_torchvisions_are_all_of_its_densenets():
    listed = {name for name in torchvision.models.list_models() if name.startswith("densenet")}
    assert entries("torchvision").keys() == listed


@pytest.mark.parametrize("entry", entries("torchvision").values(), ids=lambda entry: entry.name)
def test_torchvisions_facts_are_its_own(entry: PublishedWeights):
    weights = torchvision.models.get_model_weights(entry.network)["IMAGENET1K_V1"]
    assert entry.url == weights.url
    assert entry.url.endswith(f"/{entry.file_name}")
    # What torch.hub checks of a file of such a name.
    digits = torch.hub.HASH_REGEX.search(entry.file_name)
    assert digits
    assert entry.checksum == Checksum(kind="sha256", digits=digits[1])
    meta: dict[str, Any] = weights.meta
    assert entry.mebibytes == meta["_file_size"]
    assert {entry.trained_on: {"acc@1": entry.top1, "acc@5": entry.top5}} == meta["_metrics"]
    assert entry.class_names() == tuple(meta["categories"])
    pixels = weights.transforms()
    assert entry.preprocessing == Preprocessing(
        channels=3,
        image_size=pixels.crop_size[0],
        resize=pixels.resize_size[0],
        mean=tuple(pixels.mean),
        std=tuple(pixels.std),
    )
    assert entry.interpolation == pixels.interpolation.value
    assert "ported from LuaTorch" in meta["_docs"]


def test_timms_are_all_of_its_densenets_that_are_the_papers():
    densenet = pytest.importorskip("timm.models.densenet")
    listed = {
        f"{network}.{tag}"
        for network, configs in densenet.default_cfgs.items()
        for tag, config in configs.cfgs.items()
        if config.has_weights
    }
    # Blur pooling and a stem of three convolutions are another network.
    assert entries("timm").keys() == listed - {"densenetblur121d.ra_in1k"}


@pytest.mark.parametrize(("name", "entry"), entries("timm").items(), ids=list(entries("timm")))
def test_timms_facts_are_its_own(name: str, entry: PublishedWeights):
    densenet = pytest.importorskip("timm.models.densenet")
    from huggingface_hub import hf_hub_url
    from timm.models._hub import HF_SAFE_WEIGHTS_NAME

    network, _, tag = name.partition(".")
    config = densenet.default_cfgs[network].cfgs[tag]
    assert entry.network == network
    assert entry.hub_repository == f"{config.hf_hub_id}{network}.{tag}"
    url = hf_hub_url(entry.hub_repository, HF_SAFE_WEIGHTS_NAME, endpoint="https://huggingface.co")
    assert entry.url == url
    channels, side, _ = config.input_size
    assert entry.preprocessing == Preprocessing(
        channels=channels,
        image_size=side,
        resize=math.floor(side / config.crop_pct),
        mean=config.mean,
        std=config.std,
    )
    assert entry.interpolation == config.interpolation
    assert entry.num_classes == config.num_classes
    assert entry.licence == config.license
    if config.test_input_size:
        (note,) = entry.notes
        assert f"at {config.test_input_size[1]} pixels, the central {config.test_crop_pct} of" in note
    else:
        assert not entry.notes


def test_torchxrayvisions_are_all_of_its_densenets():
    models = pytest.importorskip("torchxrayvision").models
    listed = {name for name in models.model_urls if name.startswith("densenet")}
    assert entries("torchxrayvision").keys() == listed


@pytest.mark.parametrize(
    ("name", "entry"), entries("torchxrayvision").items(), ids=list(entries("torchxrayvision"))
)
def test_torchxrayvisions_facts_are_its_own(name: str, entry: PublishedWeights):
    models = pytest.importorskip("torchxrayvision").models
    facts = models.model_urls[name]
    assert entry.url == facts["weights_url"]
    assert entry.url.endswith(f"/{entry.file_name}")
    assert entry.class_names() == tuple(facts["labels"])
    thresholds = [math.nan if value is None else value for value in entry.thresholds]
    np.testing.assert_array_equal(thresholds, facts["op_threshs"])
    assert entry.preprocessing.image_size == facts["input_resolution"]
    listed = re.search(rf'weights="{name}"\) *# (.+)', models.DenseNet.__doc__)
    assert listed
    if "description" in facts:
        assert f"trained on the datasets: {entry.trained_on} and" in facts["description"]
    else:
        assert entry.trained_on == listed[1]


def test_radiographs_are_normalised_as_torchxrayvision_does():
    utils = pytest.importorskip("torchxrayvision").utils
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    preprocessing = PUBLISHED["torchxrayvision/densenet121-res224-all"].preprocessing
    (mean,), (std,) = preprocessing.mean, preprocessing.std
    normalised = (pixels / 255 - mean) / std
    np.testing.assert_allclose(normalised, utils.normalize(pixels, 255), atol=1e-3)
    assert (normalised.min(), normalised.max()) == (-1024, 1024)


def keras_source() -> ast.Module:
    spec = find_spec("keras")
    if spec is None or spec.origin is None:
        pytest.skip("there is no keras")
    return ast.parse((Path(spec.origin).parent / "src/applications/densenet.py").read_text())


def keywords(tree: ast.AST, name: str) -> list[tuple[Any, Any]]:
    """The first argument of every call that has this keyword, None without one, and the keyword's value."""
    return [
        (
            ast.literal_eval(node.args[0]) if node.args else None,
            ast.literal_eval(keyword.value),
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == name
    ]


def test_keras_facts_are_its_own():
    tree = keras_source()
    constants = [node for node in tree.body if isinstance(node, ast.Assign)]
    urls: dict[str, Any] = {}
    exec(compile(ast.Module(constants[:7], []), "", "exec"), urls)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    files = keywords(functions["DenseNet"], "file_hash")
    found = entries("keras").values()
    assert {entry.file_name: entry.checksum for entry in found} == {
        name: Checksum(kind="md5", digits=digits) for name, digits in files
    }
    assert {entry.url for entry in found} == {url for url in urls.values() if str(url).endswith(".h5")}
    assert all(entry.url.endswith(f"/{entry.file_name}") for entry in found)
    assert {entry.norm_epsilon for entry in found} == {value for _, value in keywords(tree, "epsilon")}
    for entry in found:
        function = functions[entry.network.replace("densenet", "DenseNet")]
        (blocks,) = (node for node in ast.walk(function.body[-1]) if isinstance(node, ast.List))
        assert entry.config.block_layers == tuple(ast.literal_eval(blocks))


@pytest.mark.slow
def test_keras_pixels_and_network_are_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    densenet = pytest.importorskip("keras.applications.densenet")
    entry = PUBLISHED["keras/densenet121"]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 5, 5, 3)).astype(np.float32)
    mean, std = np.array(entry.preprocessing.mean), np.array(entry.preprocessing.std)
    np.testing.assert_allclose(
        densenet.preprocess_input(pixels.copy()), (pixels / 255 - mean) / std, atol=1e-5
    )
    for name, has_classifier in (("keras/densenet121", True), ("keras/densenet121-notop", False)):
        theirs = densenet.DenseNet121(weights=None, include_top=has_classifier)
        ours = layer_table(name, PUBLISHED[name].config, (224, 224)).total("parameters")
        assert sum(math.prod(value.shape) for value in theirs.trainable_weights) == ours


@pytest.mark.parametrize(
    "name",
    ["torchvision/densenet201", "timm/densenet161.tv_in1k", "torchxrayvision/densenet121-res224-all"],
)
def test_the_network_is_the_packages(name: str):
    entry = PUBLISHED[name]
    with torch.device("meta"):
        ours = build_network(entry.config)
        if entry.package == "torchvision":
            theirs = torchvision.models.get_model(entry.network)
        elif entry.package == "timm":
            theirs = pytest.importorskip("timm").create_model(entry.network)
        else:
            theirs = pytest.importorskip("torchxrayvision").models.DenseNet()
    assert shapes(ours.state_dict()) == shapes(theirs.state_dict())


def test_licences_are_those_that_the_readmes_state():
    assert "may have their own licenses or terms and conditions derived from" in readme("torchvision")
    for package, licence in (("torchxrayvision", "Apache Software License"), ("keras", "Apache")):
        if find_spec(package):
            facts = metadata(package)
            assert licence in f"{facts['License']} {facts.get_all('Classifier')}"
    if find_spec("timm"):
        assert "ImageNet was released for non-commercial research purposes only" in readme("timm")
        assert "one should assume that the original dataset license applies" in readme("timm")
    stated = {entry.package for entry in PUBLISHED.values() if entry.licence != NOT_STATED}
    assert stated == {"timm"}


@pytest.mark.parametrize("entry", PUBLISHED.values(), ids=lambda entry: entry.name)
def test_an_entry_agrees_with_itself(entry: PublishedWeights):
    assert entry.name.startswith(f"{entry.package}/")
    assert len(entry.class_names()) == entry.num_classes == entry.config.num_classes
    assert entry.config.in_channels == entry.preprocessing.channels
    assert entry.config.norm_epsilon == entry.norm_epsilon
    if entry.thresholds:
        assert [bool(name) for name in entry.class_names()] == [t is not None for t in entry.thresholds]


def test_no_two_files_are_kept_under_one_name():
    names = [entry.file_name for entry in PUBLISHED.values()]
    assert len(set(names)) == len(names)


def test_a_name_is_an_entrys_or_a_packages_with_one_of_the_network():
    named = published_weights("timm/densenet121.ra_in1k")
    assert named is PUBLISHED["timm/densenet121.ra_in1k"]
    assert published_weights("torchvision", "densenet169").name == "torchvision/densenet169"
    assert published_weights("keras", "densenet201").name == "keras/densenet201"


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("torchvision/densenet12", "", "unknown weights 'torchvision/densenet12'; did you mean"),
        ("torchvision", "", "torchvision has several; name one of torchvision/densenet121, "),
        ("timm", "densenet121", "several weights of densenet121; .* timm/densenet121.ra_in1k, timm/"),
        ("keras", "densenet161", "keras has no weights of densenet161; name one of keras/densenet121"),
    ],
)
def test_other_names_are_refused(name: str, network: str, message: str):
    with pytest.raises(InputError, match=message):
        published_weights(name, network)


def test_a_checksum_fits_as_far_as_it_is_published():
    checksum = Checksum(kind="sha256", digits="a639ec97")
    assert checksum.fits("a639ec97" + 56 * "0")
    assert not checksum.fits("b639ec97" + 56 * "0")
    assert not dataclasses.replace(checksum, digits=64 * "0").fits("a639ec97" + 56 * "0")
