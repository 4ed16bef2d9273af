"""The world of the documents: the files that their commands name, and the named sets without a download."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from documents import ROOT
from foreign_weights import renamed, small_network
from PIL import Image
from small_networks import small_config
from training_runs import small_recipe

import densenets
from densenets.checkpoint import save_checkpoint
from densenets.data import datasets
from densenets.data.dataset_info import DATASET_INFO
from densenets.data.image_sets import MemoryImages
from densenets.data.preprocessing import Preprocessing
from densenets.profiling.worker import do_job
from densenets.profiling.worker_jobs import WORKER, StepMemory
from densenets.schema import read
from densenets.training.loop import train
from densenets.training.recipe import changed
from densenets.training.recipes import named_recipe
from densenets.weights.conventions import choose_classes

_MOST_IMAGES = 20_000  # to train on, as many as the smallest scale of a reproduction needs
_TEST_IMAGES = 20


@pytest.fixture(scope="session")
def _made_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents take for granted: a checkout, pictures, weights of others, and finished runs."""
    root = tmp_path_factory.mktemp("world")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "setup.py", "src", "benchmarks", "tests"):
        (root / name).symlink_to(ROOT / name)
    for folder in (".venv/bin", "data"):
        (root / folder).mkdir(parents=True)
    (root / ".venv/bin/activate").touch()
    _write_pictures(root)
    _write_weights(root)
    _write_runs(root)
    return root


@pytest.fixture
def world(_made_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that world, as the current folder. Measurements are made in this process."""
    folder = tmp_path / "world"
    shutil.copytree(_made_world, folder, symlinks=True)
    monkeypatch.chdir(folder)
    for name in datasets._LOADERS:
        if name != "digits":
            monkeypatch.setitem(datasets._LOADERS, name, _loader(name))
    monkeypatch.setattr("densenets.profiling.measured_step.run_job", _measured_here)
    monkeypatch.setattr("densenets.profiling.runner.run_job", _no_benchmark)
    return folder


def _loader(name: str) -> Any:
    """Noise in the place of a set's images, as many as are needed, where the set's folder is or is made."""
    info = DATASET_INFO[name]

    def images(count: int, seed: int) -> MemoryImages:
        pixels = np.random.default_rng(seed).integers(0, 256, (info.channels, info.side, info.side), np.uint8)
        labels = torch.arange(count) % info.classes
        return MemoryImages(torch.from_numpy(pixels).expand(count, -1, -1, -1), labels)

    def load(root: Path, download: bool) -> datasets.NamedDataset:
        if not (download or root.is_dir()):
            raise RuntimeError(f"{root} is not there")
        classes, _ = choose_classes(small_config(num_classes=info.classes), name, ())
        training = images(min(info.training, _MOST_IMAGES), 0)
        return datasets.NamedDataset(training, images(_TEST_IMAGES, 1), classes)

    return load


def _measured_here(module: str, job: dict[str, Any], answer: type) -> Any:
    """The answer of the process that measures a step; memory in use is its affair."""
    assert module == WORKER
    return StepMemory(in_use_bytes=1 << 20) if job["quantity"] == "memory" else read(answer, do_job(job), "")


def _no_benchmark(module: str, job: dict[str, Any], answer: type) -> Any:
    raise AssertionError("a benchmark takes minutes; mark its command")


def _write_pictures(root: Path) -> None:
    """Class folders of pictures, few of the photographs; of ImageNets one to train and one to validate on."""
    random = np.random.default_rng(0)
    places = ["photos/cat", "photos/dog", "xrays/healthy", "xrays/ill"]
    for root_of_splits in ("data/imagenet", "tiny_imagenet_10"):
        places += [
            f"{root_of_splits}/{split}/{name}" for split in ("train", "val") for name in ("n01", "n02")
        ]
    for place in places:
        (root / place).mkdir(parents=True)
        for number in range(2 if place.startswith("photos") else 12):
            pixels = random.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / place / f"{number}.png")


def _write_weights(root: Path) -> None:
    """DenseNets of the forms that the documents name, with few and narrow layers."""
    torch.manual_seed(0)
    small = densenets.create_model(
        "densenet121", block_layers=(2, 1, 1, 1), growth_rate=8, stem_channels=16, num_classes=1000
    )
    for name in ("densenet121.pth", "densenet121-a639ec97.pth"):
        torch.save(small.state_dict(), root / name)
    (root / "names.txt").write_text("".join(f"class {number}\n" for number in range(1000)))
    dice = small_network()
    for name in ("dice_densenet_bc_100_12_cifar10.pth.tar", "theirs.pth.tar"):
        torch.save({"state_dict": renamed(dice.state_dict(), "dice")}, root / name)
    _save(root / "densenet-bc-100-12.safetensors", dice, choose_classes(dice.config, "cifar10", ())[0], 32)
    fractal = densenets.create_model("fractalnet-20-4", num_classes=10)
    _save(root / "fractalnet.safetensors", fractal, choose_classes(dice.config, "cifar10", ())[0], 32)
    folders = densenets.create_model("densenet-bc-10-4", num_classes=2)
    _save(root / "xrays.safetensors", folders, ("healthy", "ill"), 32)


def _save(path: Path, model: Any, classes: tuple[str, ...], size: int) -> None:
    preprocessing = Preprocessing(channels=3, image_size=size, resize=size, mean=(0.5,) * 3, std=(0.25,) * 3)
    save_checkpoint(path, model.state_dict(), model.config, classes, preprocessing, {})


def _write_runs(root: Path) -> None:
    """A run of an epoch on digits, and one on what stands in for CIFAR-10."""
    train(small_recipe(epochs=1, tensorboard=False), root / "runs/demo")
    recipe = changed(
        named_recipe("cifar10-quick"),
        {
            "model.name": "densenet-bc-10-4",
            "model.block_layers": (),
            "data.training_images": 32,
            "data.root": Path("data"),
            "data.download": True,
            "training.epochs": 1,
            "training.batch_size": 16,
            "training.tensorboard": False,
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(datasets._LOADERS, "cifar10", _loader("cifar10"))
        train(recipe, root / "runs/cifar10-quick")
