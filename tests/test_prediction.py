from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from densenets.checkpoint import Checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.prediction import Prediction, computed_batches, embed, find_images, predict
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


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("densenets-decode")]


def as_tensor(number: int) -> torch.Tensor:
    return torch.tensor([float(number)])


def test_the_next_batch_and_no_more_is_decoded_while_one_is_computed() -> None:
    decoded: list[int] = []
    ahead = threading.Event()

    def decode(number: int) -> torch.Tensor:
        decoded.append(number)
        if number == 3:  # the last of the second batch
            ahead.set()
        return as_tensor(number)

    def compute(pixels: torch.Tensor) -> torch.Tensor:
        # It would never be set if decoding waited for this to end.
        assert ahead.wait(timeout=30)
        return pixels

    batches = computed_batches(range(6), decode, compute, 2)
    assert next(batches)[0] == [0, 1]
    assert decoded == [0, 1, 2, 3]
    assert [items for items, _ in batches] == [[2, 3], [4, 5]]
    assert decoded == [0, 1, 2, 3, 4, 5]
    assert decoding_threads() == []


def test_nothing_is_decoded_while_the_caller_works() -> None:
    at_work = False

    def decode(number: int) -> torch.Tensor:
        assert not at_work
        return as_tensor(number)

    for _ in computed_batches(range(9), decode, lambda pixels: pixels, 2):
        at_work = True
        threading.Event().wait(0.01)
        at_work = False


def test_pictures_are_computed_in_the_callers_thread_and_decoded_in_another() -> None:
    threads: dict[str, int] = {}

    def decode(number: int) -> torch.Tensor:
        threads["decode"] = threading.get_ident()
        return as_tensor(number)

    def compute(pixels: torch.Tensor) -> torch.Tensor:
        threads["compute"] = threading.get_ident()
        return pixels

    assert [out.tolist() for _, out in computed_batches(range(2), decode, compute, 1)] == [[[0.0]], [[1.0]]]
    assert threads["compute"] == threading.get_ident() != threads["decode"]


@pytest.mark.parametrize("use", [predict, embed])
def test_no_thread_is_left_when_the_caller_stops_early(
    paths: list[Path], use: Callable[..., Iterator[object]]
) -> None:
    made = use(untrained(), paths, device=CPU, batch_size=2)
    next(made)
    assert len(decoding_threads()) == 1
    made.close()  # type: ignore[attr-defined]
    assert decoding_threads() == []
    made = use(untrained(), paths, device=CPU, batch_size=2)
    next(made)
    del made
    assert decoding_threads() == []


def test_no_thread_is_left_after_an_error(paths: list[Path]) -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(computed_batches(range(9), as_tensor, fail, 2))
    assert decoding_threads() == []
    with pytest.raises(AttributeError):  # a bug in decoding comes through as it is
        next(computed_batches(range(9), lambda number: number.gone, as_tensor, 2))  # type: ignore[attr-defined]
    assert decoding_threads() == []
    paths[4].write_bytes(b"no picture")
    with pytest.raises(InputError, match="broken image"):
        list(predict(untrained(), paths, device=CPU, batch_size=2))
    assert decoding_threads() == []


def test_what_comes_before_a_broken_batch_is_handed_out(paths: list[Path]) -> None:
    paths[4].write_bytes(b"no picture")
    made = predict(untrained(), paths, device=CPU, batch_size=2)
    assert [next(made).path for _ in range(4)] == paths[:4]
    with pytest.raises(InputError, match=f"broken image {paths[4]}"):
        next(made)


def test_a_broken_picture_is_told_before_its_batch_and_after_the_one_before(paths: list[Path]) -> None:
    paths[3].write_bytes(b"no picture")
    told: list[str] = []
    made = predict(untrained(), paths, device=CPU, batch_size=2, on_broken=told.append)
    assert [next(made).path for _ in range(2)] == paths[:2]
    assert told == []
    assert next(made).path == paths[2]
    assert len(told) == 1


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_features_come_in_the_order_of_the_paths(paths: list[Path], batch_size: int) -> None:
    checkpoint = untrained()
    paths[5].write_bytes(b"no picture")
    told: list[str] = []
    made = list(embed(checkpoint, paths, device=CPU, batch_size=batch_size, on_broken=told.append))
    assert [path for path, _ in made] == paths[:5] + paths[6:]
    assert len(told) == 1
    head = checkpoint.model.get_classifier()
    predicted = predict(checkpoint, [path for path, _ in made], device=CPU)
    for (_, features), prediction in zip(made, predicted, strict=True):
        with torch.no_grad():
            expected = head(features).softmax(dim=0)
        torch.testing.assert_close(probabilities(prediction), expected, rtol=1e-4, atol=1e-6)
