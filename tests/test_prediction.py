from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from densenets.checkpoint import Checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.prediction import Prediction, find_images, predict
from densenets.weights.pretrained import create_model

CPU = torch.device("cpu")
CLASSES = ("one", "two", "zero")


def untrained(channels: int = 3) -> Checkpoint:
    model = create_model(
        "densenet-bc-10-4",
        num_classes=3,
        in_channels=channels,
        generator=torch.Generator().manual_seed(0),
    )
    preprocessing = Preprocessing(
        channels=channels, image_size=12, resize=14, mean=(0.5,) * channels, std=(0.3,) * channels
    )
    return Checkpoint(model.eval(), CLASSES, preprocessing, {})


@pytest.fixture
def paths(picture_folder: Path) -> list[Path]:
    """Nine pictures, in no order."""
    return sorted((picture_folder / "val").rglob("*.png"), key=lambda path: path.name)


def probabilities(prediction: Prediction) -> torch.Tensor:
    """In the order of the classes."""
    by_name = dict(zip(prediction.classes, prediction.probabilities, strict=True))
    return torch.tensor([by_name[name] for name in CLASSES])


def test_probabilities_are_the_models_softmax(paths: list[Path]) -> None:
    checkpoint = untrained()
    steps = v2.Compose(
        [
            v2.Resize(14),
            v2.CenterCrop(12),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.3] * 3),
        ]
    )
    for prediction in predict(checkpoint, paths, device=CPU):
        picture = steps(Image.open(prediction.path).convert("RGB"))
        with torch.no_grad():
            expected = checkpoint.model(picture[None])[0].exp()
        expected /= expected.sum()
        # float32: a convolution may add in another order for a batch than for one picture.
        torch.testing.assert_close(probabilities(prediction), expected, rtol=1e-4, atol=1e-6)


def test_the_likeliest_class_comes_first(paths: list[Path]) -> None:
    for prediction in predict(untrained(), paths, device=CPU):
        assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
        assert sum(prediction.probabilities) == pytest.approx(1)


@pytest.mark.parametrize("batch_size", [1, 4, 9, 100])
def test_the_order_of_the_paths_is_kept(paths: list[Path], batch_size: int) -> None:
    made = predict(untrained(), paths, device=CPU, batch_size=batch_size)
    assert [prediction.path for prediction in made] == paths


@pytest.mark.parametrize("batch_size", [2, 4, 5, 9])
def test_the_batch_size_changes_nothing(paths: list[Path], batch_size: int) -> None:
    checkpoint = untrained()
    alone = list(predict(checkpoint, paths, device=CPU, batch_size=1))
    together = list(predict(checkpoint, paths, device=CPU, batch_size=batch_size))
    for one, other in zip(alone, together, strict=True):
        assert one.classes == other.classes
        # float32: a convolution may add in another order for another number of pictures.
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-4)


@pytest.mark.parametrize(("top", "named"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_no_more_classes_are_named_than_there_are(paths: list[Path], top: int, named: int) -> None:
    for prediction in predict(untrained(), paths[:2], device=CPU, top=top):
        assert len(prediction.classes) == len(prediction.probabilities) == named


def test_a_grey_network_reads_colour_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / "colour.jpg")
    assert len(list(predict(untrained(channels=1), [tmp_path / "colour.jpg"], device=CPU))) == 1


def test_no_pictures_give_no_predictions() -> None:
    assert list(predict(untrained(), [], device=CPU)) == []


def test_a_broken_picture_is_named(paths: list[Path]) -> None:
    paths[4].write_bytes(b"no picture")
    with pytest.raises(InputError, match=f"broken image {paths[4]}"):
        list(predict(untrained(), paths, device=CPU))


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_broken_pictures_are_left_out_and_told(paths: list[Path], batch_size: int) -> None:
    paths[4].write_bytes(b"no picture")
    paths[5].unlink()
    told: list[str] = []
    made = predict(untrained(), paths, device=CPU, batch_size=batch_size, on_broken=told.append)
    assert [prediction.path for prediction in made] == paths[:4] + paths[6:]
    assert len(told) == 2
    assert str(paths[4]) in told[0]
    assert str(paths[5]) in told[1]


def test_folders_are_searched_and_files_taken_as_they_are(picture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.data").write_bytes((picture_folder / "val" / "one" / "5.png").read_bytes())
    val = picture_folder / "val"
    found = find_images([tmp_path / "picture.data", val / "two", val / "one" / "6.png"])
    assert found == [
        tmp_path / "picture.data",
        *(val / "two" / f"{number}.png" for number in (5, 6, 7)),
        val / "one" / "6.png",
    ]
    assert len(find_images([val])) == 9


def test_a_path_that_is_not_there_and_a_folder_without_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no file or folder {tmp_path / 'gone'}"):
        find_images([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{tmp_path / 'empty'} holds no images"):
        find_images([tmp_path / "empty"])


def test_what_is_left_out_of_a_folder_is_told(
    picture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = picture_folder / "val"
    (val / "one" / "photo.heic").write_bytes(b"?")
    (val / "two" / "Thumbs.db").write_bytes(b"?")
    assert len(find_images([val])) == 9
    assert capsys.readouterr().err == (
        f"{val}: left out 1 file that is no picture that can be read: 1 .heic\n"
    )


def test_a_file_is_predicted_as_often_as_it_is_named(paths: list[Path]) -> None:
    twice = list(predict(untrained(), find_images([paths[0], paths[0]]), device=CPU))
    assert [prediction.path for prediction in twice] == [paths[0]] * 2


def test_where_all_pictures_are_broken_it_is_an_error(paths: list[Path]) -> None:
    for path in paths[:2]:
        path.write_bytes(b"no picture")
    told: list[str] = []
    with pytest.raises(InputError, match="none of 2 pictures can be read"):
        list(predict(untrained(), paths[:2], device=CPU, on_broken=told.append))
    assert len(told) == 2


def test_a_checkpoint_of_one_class_is_sure_of_it(paths: list[Path]) -> None:
    model = create_model("densenet-bc-10-4", num_classes=1, generator=torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(model.eval(), ("only",), untrained().preprocessing, {})
    for prediction in predict(checkpoint, paths[:2], device=CPU):
        assert (prediction.classes, prediction.probabilities) == (("only",), (1.0,))


def test_a_network_without_classes_predicts_nothing(paths: list[Path]) -> None:
    known = untrained()
    checkpoint = Checkpoint(known.model, (), known.preprocessing, {})
    with pytest.raises(InputError, match="no classes to name"):
        list(predict(checkpoint, paths, device=CPU))
