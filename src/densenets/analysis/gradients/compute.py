"""Signal and gradient by depth: output and its gradient of every convolution, at initialisation and later.

A network learns as far as a signal reaches the classifier and a gradient reaches the image. Both are measured
at every convolution along the path, before training and after some steps of it. The steps are those of
`densenets train`: the same recipe, batches and updates.

Batch normalisation and the scale of initial weights decide as much about the gradient as shortcuts and dense
connections do. So the same networks are looked at in several settings: as their papers build them, and
without any batch normalisation, from weights that are drawn alike in all of them; see `SETTINGS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from densenets.analysis.gradients.gradients_config import SETTINGS, GradientsConfig, Setting
from densenets.analysis.gradients.layer_flow import (
    LayerFlow,
    apply_setting,
    finite_or_none,
    first_to_last_ratio,
    layer_flows,
)
from densenets.data.augmentation import Augmentation, normalize
from densenets.data.batches import Batch, BatchOrder, Shard, seeded, training_batches
from densenets.data.image_sets import MemoryImages
from densenets.data.load import load_data
from densenets.data.splits import DataSplits
from densenets.distributed import Ranks
from densenets.machine import choose_device
from densenets.models.network import Network
from densenets.training.build import build_model
from densenets.training.recipe import Recipe
from densenets.training.schedule import learning_rate
from densenets.training.train_step import TrainStep


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Signal and gradient of a network's layers after some steps of training.

    Attributes:
        step: how many.
        loss: mean cross-entropy of the images measured with, in nats; None if it is no number.
        layers: the convolutions along the path, from the image to the classifier.
    """

    step: int
    loss: float | None
    layers: tuple[LayerFlow, ...]

    @property
    def signal_ratio(self) -> float | None:
        """The signal of the first tenth of the layers by that of the last."""
        return first_to_last_ratio([layer.signal for layer in self.layers])

    @property
    def gradient_ratio(self) -> float | None:
        """The gradient of the first tenth of the layers by that of the last."""
        return first_to_last_ratio([layer.gradient for layer in self.layers])


@dataclass(frozen=True, kw_only=True)
class NetworkFlow:
    """One network in one setting.

    Attributes:
        model: its name.
        setting: of `SETTINGS`.
        depth: as its paper counts it, the classifier included.
        snapshots: in order of steps.
        training_losses: of every step, mean over its images, in nats; None from where it is no number.
        note: what went wrong, if anything did.
    """

    model: str
    setting: Setting
    depth: int
    snapshots: tuple[Snapshot, ...]
    training_losses: tuple[float | None, ...]
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "model": self.model,
            "setting": self.setting,
            "depth": self.depth,
            "moments": [dataclasses.asdict(snapshot) for snapshot in self.snapshots],
            "training_losses": self.training_losses,
            "note": self.note,
        }


@dataclass(frozen=True, kw_only=True)
class FlowSummary:
    """Losses and ratios of one network in one setting after some steps.

    Attributes:
        setting: of `SETTINGS`.
        model: the network's name.
        step: how many steps.
        loss: of the images measured with, in nats; None if it is not finite.
        training_loss: mean over the steps since the snapshot before, at most the last ten of them.
        signal_ratio: signal of the first tenth of the layers by that of the last.
        gradient_ratio: the same of the gradient.
    """

    setting: Setting
    model: str
    step: int
    loss: float | None
    training_loss: float | None
    signal_ratio: float | None
    gradient_ratio: float | None


@dataclass(frozen=True, kw_only=True)
class FlowRow:
    """One layer of one network in one setting after some steps.

    Attributes:
        setting: of `SETTINGS`.
        model: the network's name.
        step: how many steps.
        number: of the layer, from 1.
        layer: its signal and gradient.
    """

    setting: Setting
    model: str
    step: int
    number: int
    layer: LayerFlow

    def to_dict(self) -> dict[str, Any]:
        """One flat row, as CSV can hold it."""
        return {
            "setting": self.setting,
            "model": self.model,
            "step": self.step,
            "number": self.number,
            **dataclasses.asdict(self.layer),
        }


@dataclass(frozen=True, kw_only=True)
class GradientFlow:
    """All that was measured.

    Attributes:
        data: the images.
        steps: of training, after which was measured.
        batch_size: images of a training step.
        learning_rate: the highest of the schedule.
        seed: of everything random.
        networks: setting by setting, in the order of the models.
    """

    data: str
    steps: tuple[int, ...]
    batch_size: int
    learning_rate: float
    seed: int
    networks: tuple[NetworkFlow, ...]

    @property
    def meaning(self) -> dict[Setting, str]:
        """Each setting that was measured -> what it is."""
        return {network.setting: SETTINGS[network.setting] for network in self.networks}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it, with what the settings are and a summary."""
        return {
            "data": self.data,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "networks": [network.to_dict() for network in self.networks],
            "meaning": self.meaning,
            "summary": [dataclasses.asdict(row) for row in self.summary()],
        }

    def summary(self) -> list[FlowSummary]:
        """A row a setting, network and snapshot."""
        return [
            FlowSummary(
                setting=network.setting,
                model=network.model,
                step=snapshot.step,
                loss=snapshot.loss,
                training_loss=_recent_mean(network.training_losses[last : snapshot.step]),
                signal_ratio=snapshot.signal_ratio,
                gradient_ratio=snapshot.gradient_ratio,
            )
            for network in self.networks
            for last, snapshot in zip((0, *self.steps), network.snapshots, strict=False)
        ]

    def rows(self) -> list[FlowRow]:
        """A row a setting, network, snapshot and layer."""
        return [
            FlowRow(
                setting=network.setting, model=network.model, step=snapshot.step, number=number, layer=layer
            )
            for network in self.networks
            for snapshot in network.snapshots
            for number, layer in enumerate(snapshot.layers, start=1)
        ]


def gradient_flow(config: GradientsConfig, announce: Callable[[str], None]) -> GradientFlow:
    """Train each network in each setting, and measure it on the way.

    A loss that is no number ends a network's training; what is measured then is None, with a note.

    Args:
        config: what is measured.
        announce: told of each snapshot of a network before its steps; `measurements` says how many there are.

    Raises:
        InputError: the data is missing, or the device cannot be used.
    """
    device = choose_device(config.device)
    recipe = config.recipe(config.models[0])
    data = load_data(recipe.data)
    data = dataclasses.replace(data, training=data.training.to(device))
    # Training seeds PyTorch's own generator, which is the caller's.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        networks = tuple(
            _network_flow(config, model, setting, data, device, announce)
            for setting, model in product(config.settings, config.models)
        )
    return GradientFlow(
        data=config.data,
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=recipe.optimizer.learning_rate,
        seed=config.seed,
        networks=networks,
    )


def measurements(config: GradientsConfig) -> int:
    """How many snapshots `gradient_flow` takes, of all networks together."""
    return len(config.settings) * len(config.models) * len(config.steps)


def _network_flow(
    config: GradientsConfig,
    model: str,
    setting: Setting,
    data: DataSplits,
    device: torch.device,
    announce: Callable[[str], None],
) -> NetworkFlow:
    recipe = config.recipe(model)
    network, _ = build_model(recipe, data, device)
    apply_setting(network, setting, torch.Generator().manual_seed(config.seed))
    batch = _measured_images(config, data, device)
    training = _training(network, recipe, data, device)
    snapshots: list[Snapshot] = []
    losses: list[float | None] = []
    for step in config.steps:
        announce(f"{model}, setting {setting}, step {step}")
        while len(losses) < step and None not in losses:
            losses.append(next(training))
        loss, layers = layer_flows(network, batch)
        snapshots.append(Snapshot(step=step, loss=loss, layers=layers))
    return NetworkFlow(
        model=model,
        setting=setting,
        depth=network.config.depth,
        snapshots=tuple(snapshots),
        training_losses=tuple(losses),
        note=f"its loss is no number at step {len(losses)}, where training ended" if None in losses else "",
    )


def _training(
    network: Network, recipe: Recipe, data: DataSplits, device: torch.device
) -> Iterator[float | None]:
    """Train a network step by step as `densenets train` does; the mean loss of each step's images."""
    train_step = TrainStep(network.train(), recipe, Ranks(Shard(), device))
    order = BatchOrder(
        count=len(data.training),
        batch_size=recipe.training.batch_size,
        seed=recipe.training.seed,
        shard=Shard(),
    )
    for epoch in range(recipe.training.epochs):
        batches = training_batches(
            data.training,
            order,
            epoch,
            0,
            preprocessing=data.preprocessing,
            augmentation=Augmentation(recipe.data.augmentation, recipe.data.padding),
            device=device,
            workers=0,
        )
        for step, batch in enumerate(batches):
            done = epoch * order.steps + step
            rate = learning_rate(
                recipe.schedule,
                recipe.optimizer.learning_rate,
                done,
                order.steps,
                recipe.training.epochs,
            )
            seen = train_step.run(batch, rate, epoch, step)
            yield finite_or_none(seen.loss.double() / seen.images)


def _measured_images(config: GradientsConfig, data: DataSplits, device: torch.device) -> Batch:
    """Training images without augmentation, the same for all networks."""
    assert isinstance(data.training, MemoryImages)
    drawn = torch.randperm(len(data.training), generator=seeded(config.seed))[: config.batch_size]
    images = data.training.subset(drawn.to(device))
    return Batch(normalize(images.pixels, data.preprocessing), images.labels, len(drawn))


def _recent_mean(losses: Sequence[float | None]) -> float | None:
    """The mean of the last ten losses at most; None if there is none, or one is no number."""
    known = [loss for loss in losses[-10:] if loss is not None]
    return math.fsum(known) / len(known) if known and None not in losses else None
