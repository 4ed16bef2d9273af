"""What feeding costs: batches of a set on the device as a share of a training step, and decoding a folder.

    python benchmarks/data.py [--data-root data] [--folder photos] [--steps 20]

Prints JSON with device and versions. Without CIFAR-10 in the data root random pixels of its shape stand in,
which cost the same; without a folder the two photographs of scikit-learn (640x427) are decoded many times.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from sklearn.datasets import load_sample_images

from densenets.data.augmentation import Augmentation
from densenets.data.batches import Batch, BatchOrder, Shard, training_batches
from densenets.data.data_config import DataConfig
from densenets.data.folder import class_names, scan
from densenets.data.image_sets import FileImages, Images, MemoryImages
from densenets.data.load import load_data
from densenets.data.preprocessing import Preprocessing, imagenet_preprocessing
from densenets.data.split_folders import training_folder
from densenets.data.splits import DataSplits
from densenets.distributed import Ranks
from densenets.errors import InputError
from densenets.machine import choose_device, environment, keep_freed_memory
from densenets.training.build import build_model
from densenets.training.recipes import named_recipe
from densenets.training.train_step import TrainStep

_RECIPE = "cifar10-densenet-bc-100-12"
_PHOTOGRAPHS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where CIFAR-10 lies")
    parser.add_argument("--folder", type=Path, help="a folder of class folders to decode")
    parser.add_argument("--steps", type=int, default=20, help="training steps to measure")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    arguments = parser.parse_args()
    device = choose_device("auto")
    if device.type == "cpu":
        keep_freed_memory()
    report = {
        **environment(device),
        "device_set": feeding_share(arguments.data_root, arguments.steps, device),
        "folder": decoding_rate(arguments.folder, arguments.workers, device),
    }
    print(json.dumps(report, indent=2))


def feeding_share(root: Path, steps: int, device: torch.device) -> dict[str, object]:
    """Seconds that a batch takes to make, and that a step takes with it, alternately, medians."""
    recipe = named_recipe(_RECIPE)
    data, source = _cifar(root)
    model, _ = build_model(recipe, data, device)
    train_step = TrainStep(model, recipe, Ranks(Shard(), device))
    augmentation = Augmentation(recipe.data.augmentation, recipe.data.padding)
    batches = _batches(data.training.to(device), data.preprocessing, augmentation, device)
    feeding, stepping = [], []
    for number in range(steps + 3):
        began = _now(device)
        batch = next(batches)
        made = _now(device)
        train_step.run(batch, 0.1, 0, number)
        stepped = _now(device)
        if number >= 3:  # the first steps allocate
            feeding.append(made - began)
            stepping.append(stepped - made)
    fed, stepped = statistics.median(feeding), statistics.median(stepping)
    return {
        "pixels": source,
        "batch_size": recipe.training.batch_size,
        "steps": steps,
        "feeding_milliseconds": 1000 * fed,
        "step_milliseconds": 1000 * stepped,
        "feeding_share_percent": 100 * fed / (fed + stepped),
    }


def decoding_rate(folder: Path | None, workers: int, device: torch.device) -> dict[str, object]:
    """Images a second that worker processes decode, crop at random and hand over."""
    with tempfile.TemporaryDirectory() as temporary:
        root = folder or _photographs(Path(temporary))
        training = training_folder(root)
        images: FileImages = scan(training, class_names(training), skip_broken=False)
        preprocessing = imagenet_preprocessing(3, 224, scale_only=False)
        augmentation = Augmentation(("resized-crop", "normalize", "mirror"), 0)
        batches = _batches(images, preprocessing, augmentation, device, workers, batch_size=32)
        # The workers' start is paid once an epoch; what counts is the rate after it.
        next(batches)
        began, count = time.perf_counter(), 0
        for batch in batches:
            count += len(batch.labels)
        seconds = time.perf_counter() - began
    return {
        "images": str(folder) if folder else f"scikit-learn's two photographs, {_PHOTOGRAPHS} times",
        "workers": workers,
        "decoded": count,
        "images_per_second": count / seconds,
    }


def _batches(
    images: Images,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    device: torch.device,
    workers: int = 0,
    batch_size: int = 64,
) -> Iterator[Batch]:
    order = BatchOrder(count=len(images), batch_size=batch_size, seed=0, shard=Shard())
    return training_batches(
        images,
        order,
        epoch=0,
        first_step=0,
        preprocessing=preprocessing,
        augmentation=augmentation,
        device=device,
        workers=workers,
    )


def _cifar(root: Path) -> tuple[DataSplits, str]:
    try:
        return load_data(DataConfig(name="cifar10", root=root)), "CIFAR-10"
    except InputError:
        pixels = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8)
        images = MemoryImages(pixels, torch.randint(0, 10, (50_000,)))
        preprocessing = Preprocessing(channels=3, image_size=32, resize=32, mean=(0.5,) * 3, std=(0.25,) * 3)
        classes = tuple(str(label) for label in range(10))
        return DataSplits(images, None, images, classes, preprocessing, {}), "random, of CIFAR-10's shape"


def _photographs(root: Path) -> Path:
    originals = [Path(name) for name in load_sample_images().filenames]
    for number in range(_PHOTOGRAPHS):
        original = originals[number % len(originals)]
        folder = root / original.stem
        folder.mkdir(exist_ok=True)
        shutil.copy(original, folder / f"{number:04d}.jpg")
    return root


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
