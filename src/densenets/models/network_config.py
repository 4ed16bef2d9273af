"""Base class of the networks' configs: shared fields and checks. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

from densenets.errors import InputError
from densenets.limits import MOST_CHANNELS, MOST_CLASSES, MOST_LAYERS, MOST_STAGES
from densenets.schema import read


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ABC):
    """The hyperparameters that define a network's layers, checked once.

    Attributes:
        num_classes: width of the classifier; 0 for none, which gives the pooled features.
        in_channels: channels of the image.
        spatial_dims: spatial dimensions of the image, 2 for pictures.
        family: name of the networks that share a config and a module class, as it stands in checkpoints.
        title: the family's name in messages.
        known_dims: the spatial dimensions that the family's modules exist for.
        head: the layer that computes the logits, by its name in the state dict.

    Raises:
        InputError: a field is out of its range.
    """

    num_classes: int = 10
    in_channels: int = 3
    spatial_dims: int = 2

    family: ClassVar[str]
    title: ClassVar[str]
    known_dims: ClassVar[tuple[int, ...]] = (2,)
    head: ClassVar[str] = "classifier"

    def __post_init__(self) -> None:
        if self.num_classes < 0:
            raise InputError(f"num_classes must be at least 0, got {self.num_classes}")
        self._check_at_most(MOST_CLASSES, num_classes=self.num_classes)
        self._check_at_least_1("in_channels")
        if self.spatial_dims not in self.known_dims:
            known = " or ".join(", ".join(str(dims) for dims in self.known_dims).rsplit(", ", 1))
            raise InputError(f"spatial_dims must be {known}, got {self.spatial_dims}")

    @property
    @abstractmethod
    def depth(self) -> int:
        """Layers with weights along the longest path, as the paper counts them."""

    @property
    @abstractmethod
    def num_features(self) -> int:
        """Channels that the classifier reads."""

    @property
    @abstractmethod
    def smallest_size(self) -> int:
        """The smallest image side, in pixels, for which the last maps have at least one pixel."""

    @property
    def default_size(self) -> int:
        """The image side, in pixels, of the paper's data."""
        return 32

    @property
    def skips_layers(self) -> bool:
        """Whether a training step may skip some weights, which then have no gradient."""
        return False

    def with_dropout(self, probability: float) -> Self:
        """A copy with another dropout probability.

        Raises:
            InputError: the network has no dropout, or not one probability for all of it.
        """
        if "dropout" not in {field.name for field in dataclasses.fields(self)}:
            raise InputError(f"a {self.title} has no dropout to set; leave dropout out")
        return dataclasses.replace(self, dropout=probability)  # type: ignore[call-arg]

    def for_images(self, num_classes: int, in_channels: int, size: int) -> Self:
        """A copy for images of `size` pixels a side, with the given classes and channels.

        Raises:
            InputError: the images are too small for the network.
        """
        config = dataclasses.replace(self, num_classes=num_classes, in_channels=in_channels)
        config.check_input((in_channels, *[size] * self.spatial_dims))
        return config

    def check_input(self, shape: tuple[int, ...]) -> None:
        """Check the shape of one image or batch, (..., channels, *sides).

        Raises:
            InputError: the channels differ, or a side is below `smallest_size`.
        """
        channels, sides = shape[-self.spatial_dims - 1], shape[-self.spatial_dims :]
        if channels == self.in_channels and min(sides) >= self.smallest_size:
            return
        got = "x".join(str(n) for n in (channels, *sides))
        if channels != self.in_channels:
            raise InputError(f"input {got} has {channels} channels; this network reads {self.in_channels}")
        smallest = "x".join([str(self.smallest_size)] * self.spatial_dims)
        raise InputError(f"input {got} is too small for this network; at least {smallest} pixels are needed")

    def to_dict(self) -> dict[str, Any]:
        """The family and the fields as JSON."""
        fields = {key: _as_json(value) for key, value in dataclasses.asdict(self).items()}
        return {"family": self.family, **fields}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The config of a dict from `to_dict`; the family may be left out.

        Raises:
            InputError: a field is missing, unknown or out of its range.
        """
        return read(
            cls, {key: fields[key] for key in fields if key != "family"}, f"not a {cls.title}'s config"
        )

    def _check_at_least_1(self, *fields: str, most: int = MOST_CHANNELS) -> None:
        for field in fields:
            value = getattr(self, field)
            if value < 1:
                raise InputError(f"{field} must be at least 1, got {value}")
            self._check_at_most(most, **{field: value})

    def _check_at_most(self, most: float, **fields: float) -> None:
        for field, value in fields.items():
            if value > most:
                raise InputError(f"{field} must be at most {most}, got {value}")

    def _check_stages(self, field: str) -> None:
        """Check that a field with one number a stage has at most `MOST_STAGES` numbers."""
        stages = len(getattr(self, field))
        if stages > MOST_STAGES:
            raise InputError(f"{field} must have at most {MOST_STAGES} numbers, got {stages}")

    def _check_depth(self) -> None:
        """Check that there are at most `MOST_LAYERS` layers; after the fields that give the depth."""
        self._check_at_most(MOST_LAYERS, depth=self.depth)

    def _check_one_each(self, field: str, count: int) -> None:
        """Check that a field has a number of at least 1 for each of `count` stages."""
        numbers = getattr(self, field)
        if len(numbers) != count or min(numbers) < 1:
            raise InputError(f"{field} must be {count} numbers of at least 1, got {numbers}")
        self._check_at_most(MOST_CHANNELS, **{field: max(numbers)})

    def _check_literals(self, **literals: Any) -> None:
        """Check that fields have one of the values of their `Literal`."""
        for field, literal in literals.items():
            known = get_args(literal)
            if getattr(self, field) not in known:
                raise InputError(f"{field} '{getattr(self, field)}' is unknown; known: {', '.join(known)}")

    def _check_probabilities(self, **fields: float) -> None:
        for field, value in fields.items():
            if not 0 <= value < 1:
                raise InputError(f"{field} must be a probability in [0, 1), got {value}")


def _as_json(value: Any) -> Any:
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value
