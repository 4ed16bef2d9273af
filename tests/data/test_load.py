from __future__ import annotations

import hashlib
import pickle
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR100, SVHN

from densenets.data.data_config import DataConfig
from densenets.data.datasets import load_dataset
from densenets.data.image_sets import Images, MemoryImages
from densenets.data.load import (
    channel_statistics,
    load_data,
    load_evaluation_images,
)
from densenets.data.random_split import held_out_split
from densenets.errors import InputError

if TYPE_CHECKING:
    from conftest import TinyCifar


def noise(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def folder_config(root: Path, **fields: Any) -> DataConfig:
    return DataConfig(name="folder", root=root, normalization="imagenet", image_size=12, **fields)


def load_images(
    data: str, config: DataConfig | None, root: Path, classes: tuple[str, ...], *, skip_broken: bool
) -> Images:
    return load_evaluation_images(data, config, root, classes, skip_broken=skip_broken).images


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path, download=False)
    images, labels = load_digits(return_X_y=True)
    assert (len(digits.training), len(digits.test)) == (1437, 360)
    assert digits.classes == tuple("0123456789")
    pixels = torch.cat([digits.training.pixels, digits.test.pixels])
    assert pixels.dtype == torch.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)
    # Levels of 0 ... 16 are spread over 0 ... 255, so they come back by rounding.
    assert np.array_equal(np.rint(pixels.numpy() * (16 / 255)).reshape(-1, 64), images)
    assert torch.cat([digits.training.labels, digits.test.labels]).tolist() == labels.tolist()


def test_cifar10_is_read_from_its_official_files(tiny_cifar10: TinyCifar) -> None:
    data = load_dataset("cifar10", tiny_cifar10.root, download=False)
    assert np.array_equal(data.training.pixels, tiny_cifar10.pixels[:20])
    assert np.array_equal(data.test.pixels, tiny_cifar10.pixels[20:])
    assert data.training.labels.tolist() == tiny_cifar10.labels[:20].tolist()
    assert data.test.labels.tolist() == tiny_cifar10.labels[20:].tolist()
    assert data.training.labels.dtype == torch.int64
    assert data.classes == tuple(f"class {n}" for n in range(10))


def test_a_changed_byte_is_found_by_the_checksum(tiny_cifar10: TinyCifar) -> None:
    file = tiny_cifar10.root / "cifar-10-batches-py" / "data_batch_3"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"cifar10 is not in .*or is damaged"):
        load_dataset("cifar10", tiny_cifar10.root, download=False)


def test_cifar100_has_the_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()

    def write(name: str, content: dict[str, object]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def split(name: str, count: int) -> list[str]:
        rows = noise(count, 3, 32, 32).reshape(count, -1)
        labels = {"fine_labels": list(range(80, 80 + count)), "coarse_labels": [0] * count}
        return [name, write(name, {"data": rows, **labels})]

    names = {"fine_label_names": [f"fine {n}" for n in range(100)], "coarse_label_names": ["coarse"] * 20}
    monkeypatch.setattr(CIFAR100, "train_list", [split("train", 20)])
    monkeypatch.setattr(CIFAR100, "test_list", [split("test", 4)])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": write("meta", names)})
    data = load_dataset("cifar100", tmp_path, download=False)
    assert np.array_equal(data.training.pixels, noise(20, 3, 32, 32))
    assert np.array_equal(data.test.pixels, noise(4, 3, 32, 32))
    assert data.training.labels.tolist() == list(range(80, 100))
    assert data.classes == tuple(f"fine {n}" for n in range(100))


@pytest.fixture
def fashion_root(tmp_path: Path) -> Path:
    """Fashion-MNIST's idx files, with 20 and 5 images."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 20), ("t10k", 5)):
        for kind, array in (
            ("images-idx3", noise(count, 28, 28)),
            ("labels-idx1", np.arange(count, dtype=np.uint8) % 10),
        ):
            # A magic number (8 is uint8), the number of dimensions, then their sizes, big-endian.
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return tmp_path


def test_fashion_mnist_is_read_from_its_official_files(fashion_root: Path) -> None:
    data = load_dataset("fashion-mnist", fashion_root, download=False)
    assert np.array_equal(data.training.pixels, noise(20, 28, 28)[:, None])
    assert np.array_equal(data.test.pixels, noise(5, 28, 28)[:, None])
    assert data.training.labels.tolist() == [*range(10)] * 2
    assert data.classes[0] == "T-shirt/top"
    assert len(data.classes) == 10


@pytest.mark.parametrize("length", [0, 16, 1000])
def test_a_truncated_fashion_mnist_is_refused(fashion_root: Path, length: int) -> None:
    file = fashion_root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(InputError, match="fashion-mnist"):
        load_dataset("fashion-mnist", fashion_root, download=False)


def test_svhn_trains_on_train_and_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {}
    for split, count in (("train", 12), ("extra", 9), ("test", 5)):
        file = tmp_path / f"{split}_32x32.mat"
        labels = np.arange(count, dtype=np.uint8)[:, None] % 10 + 1  # 1 ... 10
        savemat(file, {"X": noise(count, 3, 32, 32).transpose(2, 3, 1, 0), "y": labels})
        splits[split] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", splits)
    data = load_dataset("svhn", tmp_path, download=False)
    assert np.array_equal(data.training.pixels[:12], noise(12, 3, 32, 32))
    assert np.array_equal(data.training.pixels[12:], noise(9, 3, 32, 32))
    assert np.array_equal(data.test.pixels, noise(5, 3, 32, 32))
    # The files call the digit 0 "10".
    assert data.training.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert data.classes == tuple("0123456789")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "fashion-mnist"])
def test_a_set_that_is_not_there_is_named_with_the_way_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is not in {tmp_path}.* --data.download"):
        load_dataset(name, tmp_path, download=False)


def test_channel_statistics_are_numpys() -> None:
    pixels = noise(50, 3, 8, 8) // np.array([1, 2, 4], np.uint8).reshape(3, 1, 1)
    mean, std = channel_statistics(MemoryImages(torch.from_numpy(pixels), torch.zeros(50)))
    shares = pixels / 255
    np.testing.assert_allclose(mean, shares.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, shares.std(axis=(0, 2, 3)), rtol=1e-9)


@pytest.mark.parametrize(
    ("count", "held_out", "number"), [(100, 0, 0), (100, 0.25, 25), (10, 0.25, 2), (100, 30, 30), (100, 1, 1)]
)
def test_a_share_or_a_number_is_held_out(count: int, held_out: float, number: int) -> None:
    kept, out = (indices.tolist() for indices in held_out_split(count, held_out, seed=0))
    assert len(out) == number
    assert sorted(kept + out) == list(range(count))
    assert kept == sorted(kept)
    assert out == sorted(out)


def test_the_split_seed_chooses_what_is_held_out() -> None:
    first = held_out_split(100, 20, seed=0)[1].tolist()
    torch.manual_seed(5)
    assert held_out_split(100, 20, seed=0)[1].tolist() == first
    assert held_out_split(100, 20, seed=1)[1].tolist() != first


def test_without_held_out_images_the_test_set_chooses_nothing(tiny_cifar10: TinyCifar) -> None:
    splits = load_data(DataConfig(name="cifar10", root=tiny_cifar10.root))
    assert (len(splits.training), len(splits.test)) == (20, 6)
    assert splits.validation is None
    assert (splits.evaluation_split, splits.reported) == ("test", "test")
    assert splits.images_of("test") is splits.test
    assert any("no best checkpoint is written" in line for line in splits.summary_lines())


def test_held_out_images_are_evaluated_and_not_trained_on(tiny_cifar10: TinyCifar) -> None:
    splits = load_data(DataConfig(name="cifar10", root=tiny_cifar10.root, held_out=5))
    assert (len(splits.training), len(splits.validation), len(splits.test)) == (15, 5, 6)
    kept, held_out = held_out_split(20, 5, seed=0)
    assert np.array_equal(splits.training.pixels, tiny_cifar10.pixels[kept])
    assert np.array_equal(splits.validation.pixels, tiny_cifar10.pixels[held_out])


@pytest.mark.parametrize("held_out", [0, 5])
def test_the_constants_are_those_of_all_training_images(tiny_cifar10: TinyCifar, held_out: int) -> None:
    splits = load_data(DataConfig(name="cifar10", root=tiny_cifar10.root, held_out=held_out))
    shares = tiny_cifar10.pixels[:20] / 255
    np.testing.assert_allclose(splits.preprocessing.mean, shares.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(splits.preprocessing.std, shares.std(axis=(0, 2, 3)))
    assert (splits.preprocessing.image_size, splits.preprocessing.resize) == (32, 32)


def test_scale_leaves_pixels_by_255_and_imagenet_has_its_constants() -> None:
    scale = load_data(DataConfig(name="digits", normalization="scale")).preprocessing
    assert (scale.mean, scale.std) == ((0.0,), (1.0,))
    imagenet = load_data(DataConfig(name="digits", normalization="imagenet")).preprocessing
    assert imagenet.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert imagenet.std == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))


@pytest.mark.parametrize("held_out", [1437, 5000, 0.9999])
def test_holding_all_images_out_is_refused(held_out: float) -> None:
    with pytest.raises(InputError, match="leaves nothing to train on"):
        load_data(DataConfig(name="digits", held_out=held_out))


def test_a_share_that_holds_nothing_out_is_refused() -> None:
    with pytest.raises(InputError, match="of 1437 images is none"):
        load_data(DataConfig(name="digits", held_out=0.0001))


def test_hidden_files_are_ignored_and_nested_ones_found(picture_folder: Path) -> None:
    one = picture_folder / "train" / "one"
    (one / "more").mkdir()
    shutil.copy(one / "0.png", one / "more" / "again.png")
    shutil.copy(one / "0.png", one / ".0.png")
    assert len(load_data(folder_config(picture_folder)).training) == 16


def test_an_unknown_class_in_val_is_named_with_the_nearest(picture_folder: Path) -> None:
    (picture_folder / "val" / "two").rename(picture_folder / "val" / "twoo")
    with pytest.raises(InputError, match="'twoo'; did you mean two"):
        load_data(folder_config(picture_folder))


def test_an_empty_class_folder_is_named(picture_folder: Path) -> None:
    (picture_folder / "train" / "ten").mkdir()
    with pytest.raises(InputError, match="no images in class ten"):
        load_data(folder_config(picture_folder))


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no folder {tmp_path / 'gone'}"):
        load_data(folder_config(tmp_path / "gone"))


def test_broken_files_are_left_out_of_training_and_validation(
    picture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [picture_folder / "train" / "one" / "1.png", picture_folder / "val" / "two" / "6.png"]
    for path in broken:
        path.write_bytes(b"no picture")
    splits = load_data(folder_config(picture_folder, skip_broken=True))
    assert (len(splits.training), len(splits.validation)) == (14, 8)
    told = capsys.readouterr().err
    assert all(str(path) in told for path in broken)


DIGIT_NAMES = ("one", "two", "zero")


def test_a_checkpoint_is_evaluated_on_the_val_of_a_folder(picture_folder: Path) -> None:
    for data in (picture_folder, picture_folder / "val"):
        images = load_images(str(data), None, Path("data"), DIGIT_NAMES, skip_broken=False)
        assert len(images) == 9
    images = load_images("imagenet", None, picture_folder, DIGIT_NAMES, skip_broken=False)
    assert len(images) == 9


def test_a_checkpoint_is_evaluated_on_its_own_data(picture_folder: Path) -> None:
    images = load_images("", folder_config(picture_folder), Path("data"), DIGIT_NAMES, skip_broken=False)
    assert len(images) == 9


def test_a_checkpoint_is_evaluated_on_a_named_set(tmp_path: Path) -> None:
    images = load_images("digits", None, tmp_path, tuple("0123456789"), skip_broken=False)
    assert len(images) == 360


def test_broken_files_of_the_checkpoints_own_data_are_left_out_on_demand(picture_folder: Path) -> None:
    (picture_folder / "val" / "one" / "5.png").write_bytes(b"no picture")
    images = load_images("", folder_config(picture_folder), Path("data"), DIGIT_NAMES, skip_broken=True)
    assert len(images) == 8


def test_a_set_of_other_classes_is_refused(picture_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="digits has 10 classes, the checkpoint knows 3"):
        load_images("digits", None, tmp_path, DIGIT_NAMES, skip_broken=False)
    letters = tuple("abcdefghij")
    with pytest.raises(
        InputError, match=r"the classes of digits are not the checkpoint's: '0', '1', .* are new"
    ):
        load_images("digits", None, tmp_path, letters, skip_broken=False)
    with pytest.raises(InputError, match="'one'; did you mean once"):
        load_images(str(picture_folder), None, tmp_path, ("once", "twice", "zero"), skip_broken=False)


def test_data_that_is_neither_named_nor_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a folder nor one of digits"):
        load_images(str(tmp_path / "gone"), None, tmp_path, DIGIT_NAMES, skip_broken=False)
    with pytest.raises(InputError, match="does not say what it was trained on"):
        load_images("", None, tmp_path, DIGIT_NAMES, skip_broken=False)


def test_a_converted_network_of_numbered_classes_is_evaluated_on_a_named_set(tiny_cifar10: TinyCifar) -> None:
    numbers = tuple(str(number) for number in range(10))
    assert len(load_images("cifar10", None, tiny_cifar10.root, numbers, skip_broken=False)) == 6
