"""Every network trains, saves, goes on, evaluates and loads strictly, through the same loop."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from forked_processes import run_command
from PIL import Image
from quick_tests import every
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate
from training_runs import weights

from densenets.checkpoint import read_checkpoint, save_checkpoint
from densenets.data.batches import Batch, Shard
from densenets.data.data_config import DataConfig
from densenets.data.image_sets import MemoryImages
from densenets.data.preprocessing import Preprocessing
from densenets.distributed import Ranks
from densenets.errors import InputError, Interrupted
from densenets.models.create import build_network
from densenets.models.network import CompanionLogits
from densenets.models.registry import BASELINES, named_config
from densenets.training import loop
from densenets.training.loop import train
from densenets.training.recipe import ModelRecipe, OptimizerRecipe, Recipe, TrainingRecipe
from densenets.training.recipes import named_recipe
from densenets.training.train_step import TrainStep
from densenets.weights.pretrained import create_model

# The smallest of every kind; the first images that a FractalNet can halve five times have 32 pixels.
KINDS = (
    "resnet8",
    "plain-8",
    "preact-resnet11",
    "wrn-10-1",
    "stochastic-depth-8",
    "highway-8-4",
    "fractalnet-10-2-drop-path",
    "nin",
    "all-cnn",
    "dsn",
)
ALONE = Ranks(Shard(), torch.device("cpu"))


def recipe(name: str, root: Path) -> Recipe:
    """Two epochs of four steps on real digits, enlarged to 32 pixels."""
    return Recipe(
        name=f"digits-{name}",
        model=ModelRecipe(name=name),
        data=DataConfig(
            name="folder",
            root=root,
            normalization="scale",
            channels=1,
            image_size=32,
            workers=0,
        ),
        optimizer=OptimizerRecipe(learning_rate=0.01),
        training=TrainingRecipe(
            epochs=2,
            batch_size=8,
            tensorboard=False,
            statistics_batches=2 if "drop-path" in name else 0,
        ),
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders: 27 to train on and 9 to evaluate on."""
    images, labels = load_digits(return_X_y=True)
    root = tmp_path_factory.mktemp("digits")
    for digit in range(3):
        chosen = np.rint(images[labels == digit].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        for split, numbers in (("train", range(9)), ("val", range(9, 12))):
            folder = root / split / str(digit)
            folder.mkdir(parents=True)
            for number in numbers:
                Image.fromarray(np.kron(chosen[number], np.ones((4, 4), np.uint8))).save(
                    folder / f"{number:02d}.png"
                )
    return root


@every(
    "name", KINDS, quick=lambda name: name in ("resnet8", "stochastic-depth-8", "fractalnet-10-2-drop-path")
)
def test_every_kind_goes_on_with_the_same_bits_and_loads_strictly(
    name: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(recipe(name, digits), tmp_path / "whole")
    step = TrainStep.run

    def stopping(self: TrainStep, batch: Batch, rate: float, epoch: int, number: int) -> object:
        if (epoch, number) == (1, 1):
            os.kill(os.getpid(), 15)
        return step(self, batch, rate, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainStep, "run", stopping)
        with pytest.raises(Interrupted):
            train(recipe(name, digits), tmp_path / "cut")
    cut = train(recipe(name, digits), tmp_path / "cut", resume=True)
    ours, theirs = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert (cut["top1_error"], cut["images"]) == (whole["top1_error"], 9)
    loaded = read_checkpoint(tmp_path / "cut").model
    assert loaded.config == named_config(name).for_images(3, 1, 32)
    assert all(torch.equal(value, theirs[key]) for key, value in loaded.state_dict().items())
    assert np.isfinite(cut["loss"])


def real_batch(side: int, channels: int) -> Batch:
    """Two digits, enlarged."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images[:2].reshape(2, 1, 8, 8) / 16, dtype=torch.float32)
    enlarged = interpolate(pixels, size=(side, side), mode="bilinear").expand(-1, channels, -1, -1)
    return Batch(enlarged.contiguous(), torch.tensor(labels[:2]).long(), 2)


# Of more than a thousand layers one: the others are the modules of their smaller siblings.
@every(
    "name",
    [name for name in BASELINES if name not in ("resnet1202", "preact-resnet1001")],
    quick=lambda name: name in ("resnet20", "highway-19", "nin"),
)
def test_every_network_of_the_zoo_trains_a_step_and_survives_saving(name: str, tmp_path: Path) -> None:
    config = BASELINES[name].config
    side = max(32, config.smallest_size)
    model = build_network(config, generator=torch.Generator().manual_seed(0))
    model.paths.draw = lambda: 0.0  # type: ignore[method-assign] # every unit survives, every column runs
    before = {key: value.clone() for key, value in model.named_parameters()}
    train_step = TrainStep(model, Recipe(name=name, data=DataConfig(name="cifar10")), ALONE)
    sums = train_step.run(real_batch(side, config.in_channels), 1e-3, 0, 0)
    assert torch.isfinite(sums.loss)
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    # Behind a ReLU that lets nothing through no gradient comes back, as at the end of a fresh NIN.
    assert len(moved) > 0.6 * len(before)
    classes = tuple(str(number) for number in range(config.num_classes))
    preprocessing = Preprocessing(channels=3, image_size=side, resize=side, mean=(0.0,) * 3, std=(1.0,) * 3)
    save_checkpoint(tmp_path / "net.safetensors", model.state_dict(), config, classes, preprocessing, {})
    loaded = read_checkpoint(tmp_path / "net.safetensors").model
    assert loaded.config == config
    saved = model.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in loaded.state_dict().items())


# What a step does with what these networks have and DenseNet has not


def train_step_of(name: str, **training: object) -> TrainStep:
    kind = named_recipe(f"cifar10-{name}")
    changed = dataclasses.replace(kind.training, **training)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    model = build_network(kind.model.config, generator=generator)
    return TrainStep(model, dataclasses.replace(kind, training=changed), ALONE)


def test_companion_losses_are_added_and_fade_over_the_epochs() -> None:
    train_step = train_step_of("dsn", epochs=10, companion_weight=0.5)
    assert [train_step.companion_weight(epoch) for epoch in (0, 5, 9)] == pytest.approx([0.5, 0.25, 0.05])
    batch = real_batch(32, 3)
    logits, companions = torch.randn(2, 10), (torch.randn(2, 10), torch.randn(2, 10))
    given = torch.zeros(2, 10, requires_grad=True)
    train_step._forward = lambda _: CompanionLogits(logits + given, companions)  # type: ignore[assignment, method-assign]
    own, first, second = (cross_entropy(x, batch.labels, reduction="sum") for x in (logits, *companions))
    for epoch, weight in ((0, 0.5), (5, 0.25)):
        loss = train_step.run(batch, 0.0, epoch, 0).loss
        torch.testing.assert_close(loss, own + weight * (first + second))


def test_weights_of_units_that_were_left_out_decay_all_the_same() -> None:
    train_step = train_step_of("stochastic-depth-8")
    train_step.model.paths.draw = lambda: 0.99  # type: ignore[method-assign] # nothing survives
    weight = train_step.model.get_submodule("layer3.0.conv1").weight
    assert isinstance(weight, Tensor)
    before = weight.detach().clone()
    train_step.run(real_batch(32, 3), 0.1, 0, 0)
    # Rate times weight decay, once for the gradient and once for Nesterov's momentum.
    torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 1e-4 * 1.9))


def test_the_layers_of_a_step_follow_from_the_seed_and_the_step() -> None:
    drawn = []
    for _ in range(2):
        train_step = train_step_of("stochastic-depth-8")
        train_step.run(real_batch(32, 3), 0.1, 0, 4)
        drawn.append(train_step.model.paths.draw())
        torch.rand(3)  # what others draw doesn't matter
    assert drawn[0] == drawn[1]
    train_step.run(real_batch(32, 3), 0.1, 0, 5)
    assert train_step.model.paths.draw() != drawn[0]


@pytest.mark.slow
def test_two_processes_train_the_same_layers_of_one_network(tmp_path: Path) -> None:
    # Synchronised statistics would wait for ever, if one rank left out a unit and the other did not.
    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        done = run_command(
            "train", "digits", "--model.name", "stochastic-depth-8", "--model.dropout", "0",
            "--training.mixup", "0",
            "--training.epochs", "1", "--training.batch-size", "1437", "--training.ema-decay", "0",
            "--out", str(out), processes=processes,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        results.append(weights(out))
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-3, atol=5e-4)


@pytest.mark.slow
def test_torchvisions_resnet_is_fine_tuned_with_a_new_head(digits: Path, tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=7)
    theirs.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    base = recipe("resnet18", digits)
    model = ModelRecipe(name="resnet18", weights=tmp_path / "resnet18.pth")
    tuned = dataclasses.replace(
        base,
        model=model,
        optimizer=OptimizerRecipe(learning_rate=1e-9),
        training=dataclasses.replace(base.training, epochs=1),
    )
    train(tuned, tmp_path / "run")
    ours = weights(tmp_path / "run")
    torch.testing.assert_close(ours["layer4.1.conv2.weight"], theirs.state_dict()["layer4.1.conv2.weight"])
    assert ours["fc.weight"].shape == (3, 512)
    # Its own checkpoint says what it is, whatever the name.
    again = dataclasses.replace(tuned, model=ModelRecipe(name="densenet121", weights=tmp_path / "run"))
    train(again, tmp_path / "again")
    assert read_checkpoint(tmp_path / "again").model.config.family == "resnet"


def test_weights_of_another_network_than_the_named_are_refused(digits: Path, tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    torch.save({"conv.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.pth")
    for name, file, message in (
        ("resnet34", "resnet18.pth", "reads images of 3 channels, the data has 1"),
        (
            "densenet121",
            "resnet18.pth",
            "holds no whole DenseNet: .*another network is named by",
        ),
        ("resnet18", "other.pth", r"holds no ResNet: fc\.weight or a convolution is missing"),
    ):
        base = recipe(name, digits)
        model = ModelRecipe(name=name, weights=tmp_path / file)
        with pytest.raises(InputError, match=message):
            train(dataclasses.replace(base, model=model), tmp_path / "run")
    colour = dataclasses.replace(recipe("resnet34", digits).data, channels=3)
    wrong = dataclasses.replace(
        recipe("resnet34", digits),
        data=colour,
        model=ModelRecipe(name="resnet34", weights=tmp_path / "resnet18.pth"),
    )
    with pytest.raises(InputError, match=r"is not a whole ResNet: .*layer1\.2"):
        train(wrong, tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelRecipe(name="resnet20", block_layers=(1, 2)), "block_layers are for DenseNets"),
        (ModelRecipe(name="nin", dropout=0.1), "a network of convolutions has no dropout to set"),
        (ModelRecipe(name="resnet20", dropout=0.1), "dropout is for basic units with pre-activation"),
    ],
)
def test_a_recipe_asks_of_a_network_what_it_has(model: ModelRecipe, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = model.config
    assert ModelRecipe(name="wrn-16-4", dropout=0.4).config != named_config("wrn-16-4")


def test_an_execution_is_for_dense_blocks(digits: Path, tmp_path: Path) -> None:
    base = recipe("resnet8", digits)
    with pytest.raises(InputError, match="execution 'fused' is for dense blocks, and a ResNet has none"):
        train(
            dataclasses.replace(base, model=ModelRecipe(name="resnet8", execution="fused")), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_images_that_a_network_cannot_read_are_refused(tmp_path: Path) -> None:
    small = named_recipe("digits")
    for name, message in (("all-cnn", "at least 9x9 pixels"), ("fractalnet-10-2", "at least 32x32")):
        with pytest.raises(InputError, match=message):
            train(dataclasses.replace(small, model=ModelRecipe(name=name)), tmp_path / "run")


def test_a_checkpoint_of_any_kind_is_loaded_by_the_package(tmp_path: Path) -> None:
    import densenets

    model = create_model("highway-8-4", num_classes=2)
    preprocessing = Preprocessing(channels=3, image_size=32, resize=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, model.state_dict(), model.config, ("a", "b"), preprocessing, {})
    loaded = densenets.load(path)
    images = MemoryImages(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    x = images.pixels.float()
    torch.testing.assert_close(loaded(x), model.eval()(x))
