from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_exports import CLASSES, PREPROCESSING, export_to, save_small_checkpoint

import densenets
from densenets.checkpoint import read_checkpoint, save_checkpoint
from densenets.classifier import Classification, Classifier
from densenets.data.augmentation import normalize
from densenets.data.images import central_crop, read_image
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.prediction import predict
from densenets.weights.pretrained import create_model

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_small_checkpoint(tmp_path / "network.safetensors")


@pytest.fixture
def classifier(checkpoint: Path) -> Classifier:
    return Classifier.load(checkpoint, device="cpu")


@pytest.fixture
def pixels() -> np.ndarray:
    """Five pictures of coloured noise, 5 x 18 x 23 x 3."""
    return np.random.default_rng(0).integers(0, 256, (5, 18, 23, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path, pixels: np.ndarray) -> list[Path]:
    """The same pictures as files."""
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(5)]


def several(made: Classification | list[Classification]) -> list[Classification]:
    assert isinstance(made, list)
    return made


def test_files_are_classified_as_predict_does(
    classifier: Classifier, checkpoint: Path, files: list[Path]
) -> None:
    predicted = predict(read_checkpoint(checkpoint), files, device=CPU, top=2)
    made = several(classifier(files, top=2))
    assert [(one.classes, one.probabilities) for one in made] == [
        (one.classes, one.probabilities) for one in predicted
    ]
    assert len({one.probabilities for one in made}) == 5


def test_all_kinds_of_the_same_pixels_give_the_same(
    classifier: Classifier, files: list[Path], pixels: np.ndarray
) -> None:
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    expected = several(classifier(files))
    for kind in (
        [str(file) for file in files],
        [Image.open(file) for file in files],
        tuple(files),
        pixels,
        list(pixels),
        tensor,
        list(tensor),
        tensor / 255,
        (tensor.double() / 255),
        [str(files[0]), files[1], Image.fromarray(pixels[2]), pixels[3], tensor[4] / 255],
    ):
        assert classifier(kind) == expected


def test_one_image_gives_one_result_and_several_a_list(
    classifier: Classifier, files: list[Path], pixels: np.ndarray
) -> None:
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    one: list[Any] = [files[0], str(files[0]), Image.open(files[0]), pixels[0], tensor[0], tensor[0] / 255]
    for image in one:
        alone = classifier(image)
        assert isinstance(alone, Classification)
        assert classifier([image]) == [alone]
    assert classifier(pixels[:1]) == classifier(tensor[:1]) == [classifier(pixels[0])]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_an_image_of_pillow_is_turned_as_its_file_is(
    classifier: Classifier, tmp_path: Path, pixels: np.ndarray, ending: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{ending}"
    Image.fromarray(pixels[0]).save(path, exif=exif)
    expected = classifier(path)
    with Image.open(path) as image:
        assert classifier(image) == expected
        assert classifier(image) == expected  # and once it is loaded
    with Image.open(path) as image:
        assert classifier(image.convert("RGB")) == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_any_mode_is_converted_as_its_file_is(
    tmp_path: Path, pixels: np.ndarray, mode: str, channels: int
) -> None:
    classifier = Classifier(untrained(tmp_path, channels), device=CPU)
    grey = pixels[0, ..., 0]
    image = (
        Image.fromarray(grey.astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.open(_saved(Image.fromarray(pixels[0]), tmp_path)).convert(mode)
    )
    image.save(tmp_path / "converted.png")
    assert classifier(image) == classifier(tmp_path / "converted.png")


def _saved(image: Image.Image, folder: Path) -> Path:
    image.save(folder / "original.png")
    return folder / "original.png"


def untrained(folder: Path, channels: int, num_classes: int = 3) -> Any:
    """The checkpoint of a network with initial weights."""
    model = create_model(
        "densenet-bc-10-4",
        num_classes=num_classes,
        in_channels=channels,
        generator=torch.Generator().manual_seed(0),
    )
    preprocessing = Preprocessing(
        channels=channels, image_size=12, resize=14, mean=(0.5,) * channels, std=(0.3,) * channels
    )
    path = folder / f"untrained{channels}.safetensors"
    names = CLASSES[:num_classes]
    save_checkpoint(path, model.state_dict(), model.config, names, preprocessing, {})
    return read_checkpoint(path)


def test_grey_and_transparent_arrays_are_as_their_files(
    classifier: Classifier, tmp_path: Path, pixels: np.ndarray
) -> None:
    grey, transparent = pixels[0, ..., 0], np.concatenate([pixels[0], pixels[1, ..., :1]], axis=2)
    for array in (grey, transparent):
        Image.fromarray(array).save(tmp_path / "saved.png")
        planes = torch.from_numpy(array).reshape(18, 23, -1).permute(2, 0, 1)
        assert classifier(array) == classifier(planes) == classifier(tmp_path / "saved.png")
    assert classifier(grey[..., None]) == classifier(grey)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_batch_size_keeps_order_and_probabilities(
    classifier: Classifier, checkpoint: Path, pixels: np.ndarray, batch_size: int
) -> None:
    other = Classifier.load(str(checkpoint), batch_size=batch_size, device="cpu")
    for one, two in zip(several(classifier(pixels)), several(other(pixels)), strict=True):
        assert one.classes == two.classes
        # float32: a convolution may add in another order for another number of pictures.
        assert one.probabilities == pytest.approx(two.probabilities, rel=1e-4)


def test_images_of_several_sizes_go_together(classifier: Classifier) -> None:
    sizes = [(12, 12), (40, 13), (7, 90)]
    assert len(several(classifier([np.zeros(size, np.uint8) for size in sizes]))) == 3


def test_features_are_what_the_networks_classifier_reads(
    classifier: Classifier, checkpoint: Path, files: list[Path]
) -> None:
    trained = read_checkpoint(checkpoint)
    images = torch.stack([central_crop(read_image(file, 3), PREPROCESSING) for file in files])
    heard: list[torch.Tensor] = []
    hook = trained.model.get_classifier().register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    with torch.no_grad():
        trained.model(normalize(images, PREPROCESSING))
    hook.remove()
    features = classifier.embed(files)
    assert features.shape == (5, trained.model.num_features)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(features, heard[0])
    torch.testing.assert_close(classifier.embed(files[0]), features[:1])  # one image is a row too


def test_a_network_without_classes_has_features_alone(tmp_path: Path, files: list[Path]) -> None:
    classifier = Classifier(untrained(tmp_path, 3, num_classes=0), device=CPU)
    assert classifier.embed(files).shape[0] == 5
    with pytest.raises(InputError, match="no classes to name"):
        classifier(files)


def test_classes_and_preprocessing_are_the_checkpoints(classifier: Classifier) -> None:
    assert classifier.classes == CLASSES
    assert classifier.preprocessing == PREPROCESSING
    assert densenets.Classifier is Classifier


@pytest.mark.slow
def test_an_exported_file_classifies_alike_and_has_no_features(tmp_path: Path, files: list[Path]) -> None:
    exported = Classifier.load(export_to(tmp_path / "exported", "onnx", "network.onnx"))
    own = Classifier.load(tmp_path / "exported" / "network.safetensors", device="cpu")
    for one, other in zip(several(exported(files)), several(own(files)), strict=True):
        assert one.classes == other.classes
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    with pytest.raises(InputError, match="gives logits only, no features; load the checkpoint"):
        exported.embed(files)


def test_code_in_a_file_runs_only_where_it_is_trusted(tmp_path: Path) -> None:
    file = export_to(tmp_path / "exported", "torch-export", "network.pt2")
    with pytest.raises(InputError, match="holds code"):
        Classifier.load(file)
    assert Classifier.load(file, trust=True).classes == CLASSES


U8 = np.uint8
WRONG: dict[str, tuple[Any, str]] = {
    "empty list": ([], "there are no images"),
    "empty batch": (np.zeros((0, 9, 9, 3), U8), "there are no images"),
    "number": (3, "the image must be a path, an image of Pillow, an array of NumPy or a tensor, got a int"),
    "nested list": ([[np.zeros((9, 9), U8)]], "image 0 must be a path, .* got a list"),
    "vector": (np.zeros(9, U8), "H x W or H x W x C with 1, 3 or 4 channels, got 9"),
    "planes first": (np.zeros((3, 9, 9), U8), "got 3 x 9 x 9"),
    "five dimensions": (np.zeros((1, 1, 9, 9, 3), U8), "got 1 x 1 x 9 x 9 x 3"),
    "batch in a list": ([np.zeros((2, 9, 9, 3), U8)], "image 0 must be an array H x W .* got 2 x 9 x 9 x 3"),
    "float array": (np.zeros((9, 9)), "must be an array of uint8, 0 ... 255, got float64"),
    "no pixels": (np.zeros((0, 9), U8), "has no pixels: it is 0 x 9"),
    "no pixels of floats": (torch.zeros(3, 0, 9), "has no pixels"),
    "channels last": (torch.zeros(9, 9, 3), "must be a tensor C x H x W .* got 9 x 9 x 3"),
    "plane": (torch.zeros(9, 9), "must be a tensor C x H x W"),
    "scalar": (torch.tensor(1.0), "got a number"),
    "integers": (torch.zeros(3, 9, 9, dtype=torch.int64), "uint8, or of floats in 0 ... 1, got int64"),
    "too large": (torch.full((3, 9, 9), 255.0), "floats in 0 ... 1, .* got 255 ... 255"),
    "negative": (torch.full((3, 9, 9), -0.5), "got -0.5"),
    "no number": (torch.full((3, 9, 9), torch.nan), "got nan"),
    "second of a list": ([np.zeros((9, 9), U8), np.zeros((9, 9), bool)], "image 1 must be an array of uint8"),
    "missing file": ("gone.png", "there is no image gone.png"),
    "floats of Pillow": (Image.new("F", (9, 9)), "the image: broken image: 32-bit floating-point"),
}


@pytest.mark.parametrize(("images", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_images_are_one_line(classifier: Classifier, images: Any, message: str) -> None:
    for use in (classifier, classifier.embed):
        with pytest.raises(InputError, match=message) as error:
            use(images)
        assert "\n" not in str(error.value)


def test_a_truncated_image_of_pillow_is_named(classifier: Classifier, files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:300])
    with (
        Image.open(files[0]) as whole,
        Image.open(files[1]) as broken,
        pytest.raises(InputError, match="image 1: broken image"),
    ):
        classifier([whole, broken])


def test_wrong_settings_are_one_line(classifier: Classifier, checkpoint: Path, files: list[Path]) -> None:
    with pytest.raises(InputError, match="top must be at least 1"):
        classifier(files, top=0)
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        Classifier.load(checkpoint, batch_size=0)
    with pytest.raises(InputError, match="there is no run or checkpoint"):
        Classifier.load(checkpoint.with_name("gone"))
