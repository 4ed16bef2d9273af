"""The kinds of files that are read: good ones to begin with, how they are mutated, and who reads them."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import mutations
import torch
from foreign_weights import renamed
from hostile_exported_files import (
    make_exported,
    mutate_archive,
    mutate_exported_ir,
    mutate_exported_onnx,
    read_archive,
    read_engine_file,
)
from hostile_native_files import make_keras, make_onnx, mutate_keras, mutate_onnx, natively
from PIL import Image
from safetensors.torch import save_file
from small_networks import small_config

from densenets.analysis.efficiency.compute import efficiency_rows
from densenets.analysis.run_facts import read_run
from densenets.checkpoint import checkpoint_path, read_checkpoint, read_description, save_checkpoint
from densenets.data.batches import Shard
from densenets.data.data_config import DataConfig
from densenets.data.images import central_crop, read_image
from densenets.data.load import load_data
from densenets.data.preprocessing import Preprocessing
from densenets.distributed import Ranks
from densenets.evaluation import Evaluation
from densenets.evaluation_options import EvaluationOptions
from densenets.files import read_json, write_json
from densenets.models.baselines.convnet_config import ConvLayer, ConvNetConfig
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.baselines.resnet_config import ResNetConfig
from densenets.models.create import build_network
from densenets.models.network_config import NetworkConfig
from densenets.report.overview import make_overview
from densenets.report.overview_config import OverviewConfig
from densenets.report.page import write_page
from densenets.training.recipe import Recipe, changed, recipe_from_dict
from densenets.training.recipe_cost import recipe_cost
from densenets.training.recipes import named_recipe
from densenets.training.run_folder import RunFolder, RunProgress
from densenets.training.train_step import TrainStep
from densenets.weights.conventions import Normalization, read_class_names
from densenets.weights.conversion import convert
from densenets.weights.formats.keras_file import read_keras
from densenets.weights.formats.onnx_file import read_onnx
from densenets.weights.reading import read_network

CLASSES = ("a", "b", "c", "d", "e")
PREPROCESSING = Preprocessing(channels=3, image_size=16, resize=18, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
RESNET = ResNetConfig(
    stage_units=(1, 1),
    stage_channels=(4, 8),
    unit="basic",
    pre_activation=False,
    shortcut="projection",
    stem="cifar",
    stem_channels=4,
    num_classes=5,
)
CONFIGS: dict[str, NetworkConfig] = {
    "densenet": small_config(),
    "imagenet": small_config(stem="imagenet", compression=1.0, bottleneck=False),
    "resnet": RESNET,
    "convnet": ConvNetConfig(
        layers=(
            ConvLayer(channels=4, kernel=3, pooling="max", companion=True),
            ConvLayer(channels=4, kernel=3, dropout=0.5),
        ),
        last_relu=True,
        image_size=16,
        num_classes=5,
    ),
    "highway": HighwayConfig(stage_layers=(1, 1), stage_channels=(4, 4), head_channels=4, num_classes=5),
    "fractalnet": FractalNetConfig(columns=2, block_channels=(4, 4), block_dropout=(0.0, 0.1), num_classes=5),
}

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        make: writes a good file or folder of some number to a path.
        mutate: makes it a bad one.
        read: does with it what the verbs do.
    """

    make: Callable[[Path, int], None]
    mutate: Callable[[Path, random.Random], None]
    read: Read


def write_bad(kind: str, path: Path, seed: str) -> None:
    """Write a mutated file of a kind; the same seed writes the same one."""
    rng = random.Random(seed)
    KINDS[kind].make(path, rng.randrange(1000))
    KINDS[kind].mutate(path, rng)


def _mutator(mutation: mutations.Mutation) -> Callable[[Path, random.Random], None]:
    def mutate(path: Path, rng: random.Random) -> None:
        content = path.read_bytes()
        chosen = mutations.damaged if rng.random() < 0.1 else mutation
        path.write_bytes(chosen(content, rng))

    return mutate


# Checkpoints


@cache
def _checkpoint(name: str) -> bytes:
    config = CONFIGS[name]
    model = build_network(config, generator=torch.Generator().manual_seed(0))
    data = json.loads(json.dumps(_recipe().to_dict()))["data"]
    details = {"recipe": "digits", "data": data, "epoch": 2, "validation_top1_error": 12.5}
    path = _scratch() / f"{name}.safetensors"
    save_checkpoint(path, model.state_dict(), config, CLASSES, PREPROCESSING, details)
    return path.read_bytes()


def _make_checkpoint(path: Path, number: int) -> None:
    path.write_bytes(_checkpoint(list(CONFIGS)[number % len(CONFIGS)]))


def _use_checkpoint(path: Path) -> None:
    """Read a checkpoint, and do what predicting, evaluating, summing up and training on begin with."""
    read_description(path)
    checkpoint = read_checkpoint(path)
    checkpoint.check_pictures()
    if fields := checkpoint.details.get("data"):
        DataConfig.from_dict(fields)
    made = checkpoint.preprocessing
    if made.image_size <= 64 and made.resize <= 64:
        with torch.no_grad():
            checkpoint.model(torch.zeros(1, made.channels, made.image_size, made.image_size))
    json.dumps(checkpoint.details)
    read_network(path, RESNET)


# Weights of other programs


@cache
def _weights(number: int) -> bytes:
    config = small_config(block_layers=(2, 1, 2), num_classes=10)
    state = dict(build_network(config, generator=torch.Generator().manual_seed(0)).state_dict())
    form = ("torchvision", "torchvision-old", "dice")[number % 3]
    weights: Any = renamed(state, form, ("", "module.")[number % 2])
    if number == 6:
        weights = dict(build_network(RESNET, generator=torch.Generator().manual_seed(0)).state_dict())
    if number % 4 == 3:
        weights = {"epoch": 3, "state_dict": weights, "best": 0.5}
    file = io.BytesIO()
    torch.save(weights, file, _use_new_zipfile_serialization=number != 5)
    return file.getvalue()


def _make_weights(path: Path, number: int) -> None:
    path.write_bytes(_weights(number % 8))


def _make_foreign_safetensors(path: Path, number: int) -> None:
    config = small_config(block_layers=(2, 1, 2), num_classes=10)
    state = dict(build_network(config, generator=torch.Generator().manual_seed(0)).state_dict())
    save_file(renamed(state, ("torchvision", "dice")[number % 2]), path, {"format": "pt"})


def _use_weights(path: Path) -> None:
    """Read weights as fine-tuning does, and convert them."""
    told = []
    for use in (
        lambda: _start_from(path),
        lambda: convert(
            path,
            path.with_name("converted.safetensors"),
            normalization=Normalization(mean=PREPROCESSING.mean, std=PREPROCESSING.std, image_size=16),
        ),
    ):
        try:
            use()
        except ValueError as error:
            told.append(error)
    if told:
        raise told[-1]


def _start_from(path: Path) -> None:
    for named in (small_config(), RESNET):
        found = read_network(path, named)
        model = build_network(found.config.for_images(5, found.config.in_channels, 32))
        with contextlib.suppress(RuntimeError):  # which training tells in one line
            model.load_state_dict(found.weights)


# Runs


def _recipe() -> Recipe:
    fields = {"model.name": "densenet-bc-10-4", "training.epochs": 2, "training.tensorboard": False}
    return changed(named_recipe("digits"), fields)


def _train_step(recipe: Recipe) -> TrainStep:
    ranks = Ranks(Shard(), torch.device("cpu"))
    return TrainStep(build_network(recipe.network, generator=torch.Generator().manual_seed(0)), recipe, ranks)


@cache
def _run() -> Path:
    """A run's folder as `densenets train` leaves it."""
    folder = RunFolder(_scratch() / "run")
    recipe = _recipe()
    folder.path.mkdir()
    environment = {"date": "2026-01-01", "command": ["densenets", "train", "digits"], "device": "a CPU"}
    folder.begin(recipe, environment, load_data(recipe.data).record())
    train_step = _train_step(recipe)
    for parameter in train_step.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    train_step.optimizer.step()
    progress = RunProgress(epoch=1, step=3, loss=6.0, wrong=90.0, images=192, best_error=30.0, seconds=4.5)
    folder.save_state(progress, train_step.state_dict())
    for epoch in (1, 2):
        errors = {"train_top1_error": 40.0 / epoch, "validation_top1_error": 30.0 / epoch}
        losses = {"train_loss": 2.0 / epoch, "validation_loss": 1.5 / epoch, "seconds": 3.0 * epoch}
        step = {"kind": "step", "run_step": 5 * epoch - 1, "epoch": epoch - 1, "loss": 2.0}
        folder.add_metrics({**step, "learning_rate": 0.1})
        folder.add_metrics({"kind": "epoch", "run_step": 5 * epoch, "epoch": epoch, **errors, **losses})
    names = tuple("0123456789")
    confusion = [[9 if i == j else int((i + 1) % 10 == j) for j in range(10)] for i in range(10)]
    found = Evaluation(100, 0.5, 10.0, 1.0, confusion, 1.0)
    result = {"run": "digits", "checkpoint": "last", "epoch": 2, "training_seconds": 6.0}
    write_json(folder.evaluation, {**result, **found.to_dict(names), "device": "a CPU"})
    seconds = {"forward_seconds": 0.1, "backward_seconds": 0.2, "optimizer_seconds": 0.01}
    cost = {**seconds, "batch": 64, "ran": "reference", "memory_bytes": 10**7, "device": "a CPU"}
    for execution in ("auto", "reference"):
        write_json(folder.path / f"step-cost-{execution}.json", cost)
    pixels = Preprocessing(channels=1, image_size=8, resize=8, mean=(0.5,), std=(0.2,))
    details = {"recipe": "digits", "data": recipe.to_dict()["data"], "epoch": 2}
    for which in ("last", "best"):
        save_checkpoint(
            folder.checkpoint(which), train_step.model.state_dict(), recipe.network, names, pixels, details
        )
    return folder.path


def _make_run(path: Path, number: int) -> None:
    if path.exists():
        shutil.rmtree(path)
    shutil.copytree(_run(), path)


def _mutate_run(path: Path, rng: random.Random) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    # Those that a person edits, and that most is computed from, more often.
    often = [file for file in files if file.suffix in (".json", ".jsonl")]
    for file in sorted(set(rng.sample(files + 2 * often, rng.choice((1, 1, 2))))):
        kind = rng.random()
        if kind < 0.03:
            file.unlink(missing_ok=True)
        elif file.exists() and kind < 0.06:
            file.unlink()
            file.mkdir()
        elif file.is_file():
            _mutator(_MUTATIONS[file.suffix])(file, rng)


_MUTATIONS = {
    ".json": mutations.mutated_json,
    ".jsonl": mutations.mutated_lines,
    ".safetensors": mutations.mutated_safetensors,
    ".pt": mutations.mutated_torch,
}


def _resume(path: Path) -> None:
    """What `train --resume` does before its first step."""
    recipe, folder = _recipe(), RunFolder(path)
    folder.check(recipe, resume=True)
    data = load_data(recipe.data)
    folder.check_data(data)
    if saved := folder.load_state():
        progress, train_step = saved
        _train_step(recipe).load_state_dict(train_step)
        folder.drop_metrics_after(5 * progress.epoch + progress.step, progress.epoch)
    folder.begin(recipe, {"command": ["again"]}, data.record())


def _use_run(path: Path) -> None:
    """Read a run as resuming, comparing and reporting do."""
    told = []
    for use in (_resume, _compare, checkpoint_path):
        try:
            use(path)
        except ValueError as error:
            told.append(error)
    if told:
        raise told[0]


def _compare(path: Path) -> None:
    run = read_run(path)
    _ = run.step, run.network, run.series, run.evaluation_split
    efficiency_rows([path], measure=False, announce=lambda _: None)


def _report(path: Path) -> None:
    """Make the page of a run."""
    overview = make_overview(
        OverviewConfig(source=path, evaluation=EvaluationOptions(), mistakes=0, measure=False)
    )
    write_page(overview, path / "report.html")


# Recipes, names, pictures


def _make_recipe(path: Path, number: int) -> None:
    names = ("digits", "cifar10-densenet-bc-100-12", "finetune", "cifar10-own-resnet110")
    write_json(path, named_recipe(names[number % len(names)]).to_dict())


def _use_recipe(path: Path) -> None:
    recipe = recipe_from_dict(read_json(path))
    recipe_cost(recipe)
    _ = recipe.to_dict()


def _make_names(path: Path, number: int) -> None:
    path.write_bytes("".join(f"class {name} größer\n" for name in range(number)).encode())


def _make_picture(path: Path, number: int) -> None:
    form = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")[number % 7]
    mode = ("RGB", "L", "RGB", "P" if form in ("PNG", "GIF", "BMP", "TIFF") else "L")[number % 4]
    image = Image.effect_noise((24, 20), 50).convert(mode)
    image.save(path, form)


def _use_picture(path: Path) -> None:
    for channels in (1, 3):
        central_crop(read_image(path, channels), PREPROCESSING)


KINDS: dict[str, Kind] = {
    "checkpoint": Kind(_make_checkpoint, _mutator(mutations.mutated_safetensors), _use_checkpoint),
    "weights": Kind(_make_weights, _mutator(mutations.mutated_torch), _use_weights),
    "safetensors": Kind(_make_foreign_safetensors, _mutator(mutations.mutated_safetensors), _use_weights),
    "run": Kind(_make_run, _mutate_run, _use_run),
    "report": Kind(_make_run, _mutate_run, _report),
    "recipe": Kind(_make_recipe, _mutator(mutations.mutated_json), _use_recipe),
    "names": Kind(_make_names, _mutator(mutations.damaged), read_class_names),
    "picture": Kind(_make_picture, _mutator(mutations.damaged), _use_picture),
    "keras": Kind(make_keras, mutate_keras, natively(read_keras)),
    "onnx": Kind(make_onnx, mutate_onnx, natively(read_onnx)),
    "exported onnx": Kind(partial(make_exported, "onnx"), mutate_exported_onnx, read_engine_file),
    "exported ir": Kind(partial(make_exported, "openvino"), mutate_exported_ir, read_engine_file),
    "exported archive": Kind(partial(make_exported, "torch-export"), mutate_archive, read_archive),
}

# What a file has to be called so that it is taken for what it is.
SUFFIXES = {"checkpoint": ".safetensors", "safetensors": ".safetensors", "weights": ".pt", "picture": ".png"}
SUFFIXES |= {"keras": ".h5", "onnx": ".onnx", "exported onnx": ".onnx", "exported ir": ".xml"}
SUFFIXES |= {"exported archive": ".pt2"}


@cache
def _scratch() -> Path:
    import atexit
    import tempfile

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
