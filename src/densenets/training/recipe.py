"""The recipe of a training run: network, data, optimiser, schedule, loop, as frozen and checked dataclasses.

Needs no PyTorch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from densenets.data.data_config import DataConfig
from densenets.data.dataset_info import DATASET_INFO
from densenets.errors import InputError
from densenets.limits import MOST_IMAGES, MOST_PIXELS
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import named_config
from densenets.ops.execution import Execution
from densenets.schema import read


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """Which network is trained, from which weights."""

    name: str = "densenet-bc-100-12"
    """A name of the zoo, or one by its rules, such as densenet[-b|-c|-bc]-DEPTH-GROWTH."""
    block_layers: tuple[int, ...] = ()
    """Layers of each dense block, where they shall not be those of the name."""
    dropout: float = 0.0
    """Rate after a DenseNet's convolutions but the first (0.2 without augmentation); 0: the name's own."""
    execution: Execution = "auto"
    """How dense blocks run: reference, recompute (less memory), or auto (the fastest)."""
    weights: Path | None = None
    """Weights to start from; a DenseNet's say which network, a head that does not fit is new."""

    @property
    def config(self) -> NetworkConfig:
        """The network, for the name's own channels and classes.

        Raises:
            InputError: no network has this name, or a number in it is out of its range.
        """
        config = named_config(self.name)
        if self.block_layers:
            if not isinstance(config, DenseNetConfig):
                raise InputError(f"block_layers are for DenseNets, and {self.name} is a {config.title}")
            config = dataclasses.replace(config, block_layers=self.block_layers)
        return config.with_dropout(self.dropout) if self.dropout else config


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """Optimiser and its constants."""

    name: Literal["sgd", "adamw"] = "sgd"
    """sgd (momentum as below) or adamw (betas 0.9 and 0.999)."""
    learning_rate: float = 0.1
    """The highest rate of the schedule."""
    momentum: float = 0.9
    """Of sgd, without dampening."""
    nesterov: bool = True
    """Nesterov's form of sgd's momentum."""
    weight_decay: float = 1e-4
    """L2 penalty of sgd, decoupled decay of adamw."""
    decay_norms: bool = True
    """Decay the weights of batch normalisation and all biases too, as in the paper."""
    gradient_clip: float = 0.0
    """Largest norm of the whole gradient; 0 leaves it as it is."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.nesterov and self.name == "sgd" and self.momentum == 0:
            raise InputError("nesterov needs a momentum above 0; or set --optimizer.no-nesterov")
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.gradient_clip < math.inf:
            raise InputError(
                "weight_decay and gradient_clip must be at least 0 and finite, got "
                f"{self.weight_decay} and {self.gradient_clip}"
            )


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """Learning rate over the steps of the run."""

    name: Literal["multistep", "cosine", "onecycle"] = "multistep"
    """multistep: times `factor` at each milestone; cosine: down to 0; onecycle: up, then down to 0."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Of multistep, as shares of the epochs."""
    factor: float = 0.1
    """Of multistep."""
    peak: float = 0.3
    """Of onecycle: the share of the run at which the rate is highest."""
    warmup_epochs: float = 0.0
    """Of multistep and cosine: epochs in which the rate rises from 0."""

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m <= 1 for m in self.milestones):
            raise InputError(f"milestones must be ascending shares in (0, 1], got {self.milestones}")
        if not 0 < self.peak < 1 or not 0 < self.factor < math.inf or not 0 <= self.warmup_epochs < math.inf:
            raise InputError(
                "peak must be in (0, 1), factor above 0 and warmup_epochs at least 0, got "
                f"{self.peak}, {self.factor} and {self.warmup_epochs}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How long and how the network is trained, and what is kept."""

    epochs: int = 300
    """Passes over the training images."""
    batch_size: int = 64
    """The global batch: images of one step, on all processes and in all accumulated parts."""
    accumulation: int = 1
    """Parts in which each process computes its share of a step, to save memory."""
    seed: int = 0
    """Of initial weights, order of images, augmentation and dropout."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    mixup: float = 0.0
    """Alpha of mixup's beta distribution; 0 mixes nothing."""
    progressive_sizes: tuple[int, ...] = ()
    """Sides in pixels, ascending to their own, of training images in equal shares of the epochs."""
    companion_weight: float = 0.1
    """Of companion classifiers' losses, where the network has them; it decays linearly to 0."""
    ema_decay: float = 0.0
    """Decay of the running mean of the weights that is evaluated and kept; 0 keeps the weights themselves."""
    statistics_batches: int = 0
    """Batches from which an epoch's running statistics are made anew, without dropout; 0 keeps training's."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes under autocast; weights and statistics stay float32."""
    channels_last: bool = False
    """Memory format of the activations."""
    compile: bool = False
    """Train through torch.compile."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    sync_batch_norm: bool = True
    """With several processes: normalise over the global batch, as one process would."""
    evaluate_every: int = 1
    """Epochs from one evaluation, with its checkpoint, to the next; the last epoch always has them."""
    report: Literal["last", "best", "auto"] = "last"
    """The result: the last epoch's, the best on the validation images, or auto: best where there are such."""
    log_every: int = 20
    """Steps between two lines of metrics."""
    checkpoint_minutes: float = 10.0
    """Longest time between two savings of the run's state; it is also saved after every epoch."""
    tensorboard: bool = True
    """Write curves for TensorBoard too."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "evaluate_every", "log_every"):
            if not 1 <= getattr(self, name) <= MOST_IMAGES:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.ema_decay < 1:
            raise InputError(
                f"label_smoothing and ema_decay must be in [0, 1), got {self.label_smoothing} and "
                f"{self.ema_decay}"
            )
        for name in ("mixup", "companion_weight", "checkpoint_minutes", "seed", "statistics_batches"):
            if not 0 <= getattr(self, name) < 2**63:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")
        sizes = self.progressive_sizes
        if list(sizes) != sorted(sizes) or not all(1 <= size <= MOST_PIXELS for size in sizes):
            raise InputError(
                f"progressive_sizes must be ascending, at least 1 and at most {MOST_PIXELS}, "
                f"got {_listed(sizes)}"
            )
        if len(sizes) > self.epochs:
            raise InputError(
                f"progressive_sizes must be at most one an epoch, got {_listed(sizes)} for "
                f"{self.epochs} epoch(s)"
            )

    def training_size(self, epoch: int) -> int | None:
        """Side in pixels that the training images of an epoch, from 0, are resized to; None: they are not."""
        sizes = self.progressive_sizes
        return sizes[epoch * len(sizes) // self.epochs] if sizes else None

    def is_evaluated(self, epoch: int) -> bool:
        """Whether the weights are evaluated after an epoch, from 0."""
        return (epoch + 1) % self.evaluate_every == 0 or epoch + 1 == self.epochs


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run, whole: the same recipe on the same machine gives the same weights."""

    name: str
    """What the run's folder is named after."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    """The network."""
    data: DataConfig
    """The images."""
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    """The optimiser."""
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    """The learning rate over time."""
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    """The loop."""

    def __post_init__(self) -> None:
        sizes = self.training.progressive_sizes
        if sizes and sizes[-1] != self.image_size:
            raise InputError(
                f"progressive_sizes must end with the images' own {self.image_size} pixels, "
                f"got {_listed(sizes)}"
            )

    @property
    def image_size(self) -> int:
        """Side in pixels of the images as the network reads them in evaluation."""
        return DATASET_INFO[self.data.name].side if self.data.in_memory else self.data.image_size

    @property
    def network(self) -> NetworkConfig:
        """The network for the data set's classes, channels and image size; only for sets of known sizes.

        Raises:
            InputError: no network has the name, or the images are too small for it.
        """
        data = DATASET_INFO[self.data.name]
        return self.model.config.for_images(data.classes, data.channels, self.image_size)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON."""
        return _plain(dataclasses.asdict(self))


def recipe_from_dict(fields: dict[str, Any]) -> Recipe:
    """The recipe of a dict from `to_dict`; absent fields, as in older files, have their defaults.

    Raises:
        InputError: a field is missing, unknown, of another type or out of its range.
    """
    return read(Recipe, fields, "not a recipe")


def changed(recipe: Recipe, fields: Mapping[str, Any]) -> Recipe:
    """A copy of a recipe with other values in some fields, named as in "training.epochs".

    Raises:
        InputError: a value is out of its range.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        group, _, field_name = name.partition(".")
        groups.setdefault(group, {})[field_name] = value
    replaced = {
        group: dataclasses.replace(getattr(recipe, group), **values) for group, values in groups.items()
    }
    return dataclasses.replace(recipe, **replaced)


# Fields that may differ when a run is resumed: where and how fast it runs, not its result. An image that
# cannot be decoded may turn up at any time; without it the other images' splits and order stay.
_RESUMABLE = {
    "data.root",
    "data.skip_broken",
    "data.download",
    "data.workers",
    "model.execution",
    "training.device",
    "training.compile",
    "training.log_every",
    "training.checkpoint_minutes",
    "training.tensorboard",
}


def differences(recipe: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The fields, such as "data.name", in which two recipes' dicts differ and a run cannot be resumed.

    Absent fields, as in older files, have their defaults.
    """
    fields, other_fields = _flat(recipe), _flat(other)
    return [
        field
        for field in sorted(fields.keys() | other_fields.keys())
        if field not in _RESUMABLE and fields.get(field) != other_fields.get(field)
    ]


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values by names such as "data.name", the defaults of absent fields among them."""
    flat: dict[str, Any] = {
        f"{group}.{field.name}": _plain(field.default)
        for group, kind in get_type_hints(Recipe).items()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
    for group, fields in recipe.items():
        if isinstance(fields, dict):
            flat |= {f"{group}.{name}": value for name, value in fields.items()}
        else:
            flat[group] = fields
    return flat


def _listed(numbers: tuple[int, ...]) -> str:
    return " ".join(str(number) for number in numbers)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
