import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_checkpoints import CLASSES, DETAILS, PREPROCESSING, save, save_with, trained_network
from small_networks import small_config

import densenets
from densenets.checkpoint import checkpoint_path, read_checkpoint, save_checkpoint
from densenets.data.preprocessing import imagenet_preprocessing
from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import named_config
from densenets.ops.execution import EXECUTIONS
from densenets.weights.reading import read_network


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, DenseNet]:
    model = trained_network()
    save(tmp_path / "net.safetensors", model)
    return tmp_path / "net.safetensors", model


def test_round_trip_gives_everything_back(saved: tuple[Path, DenseNet]):
    path, model = saved
    checkpoint = read_checkpoint(path)
    assert checkpoint.model.config == model.config
    assert checkpoint.classes == CLASSES
    assert checkpoint.preprocessing == PREPROCESSING
    assert checkpoint.details == DETAILS
    for key, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_logits_are_equal_in_every_execution(saved: tuple[Path, DenseNet], execution):
    path, model = saved
    x = torch.randn(2, 3, 28, 28)
    loaded = read_checkpoint(str(path), execution).model
    assert loaded.execution == execution
    assert not loaded.training
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model.eval()(x))


def test_loaded_network_can_be_trained_on(saved: tuple[Path, DenseNet]):
    path, _ = saved
    model = densenets.load(path).train()
    model(torch.randn(2, 3, 28, 28)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.features.norm5.num_batches_tracked == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_named_preprocessing_round_trip(tmp_path: Path, channels: int):
    preprocessing = imagenet_preprocessing(channels, 224, scale_only=False)
    model = DenseNet(small_config(num_classes=len(CLASSES), in_channels=channels))
    save_checkpoint(tmp_path / "a", model.state_dict(), model.config, CLASSES, preprocessing, {})
    assert read_checkpoint(tmp_path / "a").preprocessing == preprocessing


def test_file_holds_the_state_dict_and_nothing_else(saved: tuple[Path, DenseNet]):
    path, model = saved
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())
        assert DenseNetConfig.from_dict(json.loads(file.metadata()["model"])) == model.config


@pytest.mark.slow
def test_other_programs_read_the_tensors(tmp_path: Path):
    config = dataclasses.replace(named_config("densenet121"), num_classes=4)
    model = DenseNet(config)
    path = tmp_path / "121.safetensors"
    save_checkpoint(path, model.state_dict(), config, CLASSES[:4], PREPROCESSING, {})
    with torch.device("meta"):
        theirs = torchvision.models.densenet121(num_classes=4)
    theirs.load_state_dict(load_file(path), strict=True, assign=True)
    assert read_network(path, config, config.dropout).config == config


def test_saving_makes_the_folders_on_the_way(tmp_path: Path):
    save(tmp_path / "a" / "b" / "net.safetensors", trained_network())
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["net.safetensors"]


# Runs


def run_folder(folder: Path, reported: str) -> Path:
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"training": {"report": reported}}))
    return folder


@pytest.mark.parametrize("reported", ["last", "best"])
def test_a_run_means_the_checkpoint_that_it_reports(tmp_path: Path, reported: str):
    run = run_folder(tmp_path / "run", reported)
    networks = {"last": trained_network(1), "best": trained_network(2)}
    for name, model in networks.items():
        save(run / "checkpoints" / f"{name}.safetensors", model)
    assert checkpoint_path(run) == run / "checkpoints" / f"{reported}.safetensors"
    weight = densenets.load(run).classifier.weight
    assert torch.equal(weight, networks[reported].classifier.weight)


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="has no checkpoint yet; train it with --resume"):
        read_checkpoint(run_folder(tmp_path / "run", "last"))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"is no run's folder \(it has no recipe.json\)"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"training": {'])
def test_a_folder_with_another_recipe_is_refused(tmp_path: Path, content: str):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(InputError, match=r"recipe\.json|no run's folder"):
        read_checkpoint(tmp_path)


def test_nothing_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"there is no run or checkpoint .*gone"):
        read_checkpoint(tmp_path / "gone")


# Damaged and foreign files


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_checkpoint_is_refused(saved: tuple[Path, DenseNet], share: float):
    path, _ = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"is not a whole safetensors file .* truncated or another kind"):
        read_checkpoint(path)


def test_text_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("these are notes, not weights\n" * 20)
    with pytest.raises(InputError, match=r"notes\.txt is not a whole safetensors file"):
        read_checkpoint(tmp_path / "notes.txt")


def test_another_programs_safetensors_are_refused(tmp_path: Path):
    path = tmp_path / "theirs.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file(trained_network().state_dict(), path, metadata)
        with pytest.raises(InputError, match=r"was not written by densenets .* densenets convert"):
            read_checkpoint(path)


def rewrite(
    path: Path, weights: dict[str, torch.Tensor] | None = None, **metadata: object
) -> dict[str, torch.Tensor]:
    """Write a checkpoint again with other weights or metadata, which nobody checks; returns what it had."""
    with safe_open(path, framework="pt") as file:
        before, described = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    texts = {name: text if isinstance(text, str) else json.dumps(text) for name, text in metadata.items()}
    save_file(before if weights is None else weights, path, described | texts)
    return before


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_other_keys_than_the_description_are_refused(saved: tuple[Path, DenseNet], change: str):
    path, model = saved
    weights = dict(model.state_dict())
    if change == "missing":
        del weights["classifier.bias"]
    else:
        weights["ema.weight"] = torch.zeros(1)
    key = "classifier.bias" if change == "missing" else "ema.weight"
    with pytest.raises(InputError, match=f"was not written: .* {key} is (missing|left over); .*torch.save"):
        save_with(path.with_name("other.safetensors"), weights)
    rewrite(path, weights)
    with pytest.raises(InputError, match=f"does not fit its own description; it differs in {key}"):
        read_checkpoint(path)


def test_other_shapes_than_the_description_are_refused(saved: tuple[Path, DenseNet]):
    path, model = saved
    weights = dict(model.state_dict())
    weights["classifier.weight"] = torch.zeros(7, weights["classifier.weight"].shape[1])
    with pytest.raises(InputError, match=r"classifier.weight is 7x\d+ instead of 5x\d+"):
        save_with(path.with_name("other.safetensors"), weights)
    assert not path.with_name("other.safetensors").exists()
    rewrite(path, weights)
    with pytest.raises(InputError, match="does not fit its own description"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", [torch.float64, torch.int32, torch.complex64, torch.float8_e4m3fn])
def test_weights_that_float32_does_not_hold_are_refused(saved: tuple[Path, DenseNet], kind: torch.dtype):
    path, model = saved
    weights = model.state_dict() | {"classifier.bias": torch.zeros(5).to(kind)}
    with pytest.raises(InputError, match=r"classifier.bias is \w+, which is not held exactly by float32"):
        save_with(path.with_name("other.safetensors"), weights)
    rewrite(path, weights)
    with pytest.raises(InputError, match=r"classifier.bias is \w+, which float32 does not hold exactly"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_weights_become_float32_with_the_same_values(saved: tuple[Path, DenseNet], kind: torch.dtype):
    path, model = saved
    halves = model.to(kind).state_dict()
    save_with(path, halves)
    weights = read_checkpoint(path).model.state_dict()
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
    assert all(torch.equal(value.to(halves[key].dtype), halves[key]) for key, value in weights.items())


def test_network_with_a_reset_classifier_can_be_saved_and_read(tmp_path: Path):
    model = trained_network()
    model.reset_classifier(7)
    with pytest.raises(InputError, match="5 names for 7 classes"):
        save(tmp_path / "a.safetensors", model)
    names = (*CLASSES, "f", "g")
    save_checkpoint(tmp_path / "a.safetensors", model.state_dict(), model.config, names, PREPROCESSING, {})
    assert read_checkpoint(tmp_path / "a.safetensors").model.classifier.out_features == 7


@pytest.mark.parametrize("details", [{"x": float("nan")}, {"x": Path()}, {1: 1, "1": 2}, {"x": 10**100}])
def test_details_that_are_no_json_are_refused(tmp_path: Path, details: dict[str, object]):
    model = trained_network()
    with pytest.raises(InputError, match="a was not written: the details are no JSON"):
        save_checkpoint(tmp_path / "a", model.state_dict(), model.config, CLASSES, PREPROCESSING, details)


# A description that lies


def described(path: Path, **fields: object) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        model: dict[str, object] = json.loads(file.metadata()["model"])
    return model | fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block_layers": [10**12, 1]}, "depth must be at most 10000, got 2000000000005"),
        ({"block_layers": [3000, 1]}, "a network of depth 6005 has more than"),
        ({"block_layers": [1] * 10**5}, "block_layers must have at most 16 numbers, got 100000"),
        ({"growth_rate": 10**15}, "growth_rate must be at most 1048576, got 1000000000000000"),
        ({"growth_rate": 10**6}, "does not fit its own description"),
        ({"growth_rate": True}, r"\$.growth_rate: expected int, got bool"),
        ({"growth_rate": "3"}, r"\$.growth_rate: expected int, got str"),
        ({"block_layers": "12"}, r"\$.block_layers: expected array, got str"),
        ({"stem": ["cifar"]}, r"\$.stem: expected str, got array"),
        ({"num_classes": 6}, "5 names for 6 classes"),
        ({"in_channels": 1}, "the preprocessing makes images of 3 channels"),
        ({"family": "fractalnet"}, "not a FractalNet's config"),
        ({"family": {}}, "is unknown; known: densenet"),
    ],
)
def test_a_description_that_lies_is_refused_before_anything_is_built(
    saved: tuple[Path, DenseNet], fields: dict[str, object], message: str
):
    path, _ = saved
    rewrite(path, model=described(path, **fields))
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model", "[]", "model: expected object, got array"),
        ("model", "{", "model is no JSON"),
        ("classes", '["a"]', "1 names for 5 classes"),
        ("classes", "[1, 2, 3, 4, 5]", r"classes: \$\[0\]: expected str, got int"),
        ("classes", '"abcde"', "classes: expected array, got str"),
        ("preprocessing", "{}", "not a preprocessing: object missing required field channels"),
        ("details", "[]", "details: expected object, got array"),
        ("details", '{"a": NaN}', "details is no JSON .*NaN is no number"),
        ("details", '{"a": 1e999}', "details is no JSON .*1e999 is no number"),
        ("details", '{"a": 1' + "0" * 5000 + "}", "a number of 5001 digits is beyond 64 bits"),
        ("details", '{"a": 1, "a": 2}', "'a' stands twice"),
        ("details", '{"a":' + "[" * 200 + "]" * 200 + "}", "more than 100 inside each other"),
        ("details", "[" * 10**5, "details is no JSON"),
    ],
)
def test_metadata_of_another_form_are_refused(
    saved: tuple[Path, DenseNet], name: str, text: str, message: str
):
    path, _ = saved
    rewrite(path, **{name: text})
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"image_size": 10**9, "resize": 10**9},
            "image_size must be at most 4096 and resize at most 8192, got 1000000000",
        ),
        ({"resize": 27}, r"image_size must be from 1 to resize \(27\), got 28"),
        ({"std": [0.5, 0.6, 0]}, "std must be above 0 in each channel"),
        ({"mean": [0.5, 0.6]}, "mean and std must have 3 values each"),
        ({"mean": [0.5, 0.6, None]}, r"\$.mean\[2\]: expected float, got null"),
        ({"colour": 1}, r"\$.colour is unknown"),
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused(
    saved: tuple[Path, DenseNet], fields: dict[str, object], message: str
):
    path, _ = saved
    rewrite(path, preprocessing=PREPROCESSING.to_dict() | fields)
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


def test_a_network_that_reads_no_pictures_is_loaded_but_not_shown_any(tmp_path: Path):
    config = small_config(num_classes=5, spatial_dims=3)
    path = tmp_path / "volumes.safetensors"
    save_checkpoint(path, DenseNet(config).state_dict(), config, CLASSES, PREPROCESSING, {})
    checkpoint = read_checkpoint(path)
    with pytest.raises(InputError, match="the network reads 3 dimensions"):
        checkpoint.check_pictures()


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a file"):
        read_checkpoint(tmp_path / "pipe")


@pytest.mark.parametrize("reported", ["../../other", 3, None, ["last"]])
def test_a_recipe_leads_to_no_other_file(tmp_path: Path, reported: object):
    (tmp_path / "recipe.json").write_text(json.dumps({"training": {"report": reported}}))
    with pytest.raises(InputError, match=r"is no recipe of a run; .* \$.training.report"):
        read_checkpoint(tmp_path)


def test_every_refusal_is_one_line(saved: tuple[Path, DenseNet], tmp_path: Path):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "empty").mkdir()
    for broken in (path, tmp_path / "empty", tmp_path / "gone"):
        with pytest.raises(InputError) as caught:
            read_checkpoint(broken)
        assert "\n" not in str(caught.value)
