"""What the configs of all networks share. Needs no PyTorch."""

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
    """A network, stated whole and checked once.

    Attributes:
        num_classes: width of the classifier; 0 for none, which gives the pooled features.
        in_channels: channels of the image.
        spatial_dims: of the image, 2 for pictures.
        family: the networks that share a config and a module; a checkpoint names it.
        title: the family as people call it.
        known_dims: the spatial dimensions that the family has.
        head: name of the layer that makes the logits, in the state dict.

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
            raise InputError(f"spatial_dims {self.spatial_dims} cannot be: {known} is needed")

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
        """The smallest image side, in pixels, that leaves the last maps a pixel."""

    @property
    def default_size(self) -> int:
        """The image side, in pixels, that the network was made for."""
        return 32

    @property
    def skips_layers(self) -> bool:
        """Whether a training step may leave some weights out, which then have no gradient."""
        return False

    def with_dropout(self, probability: float) -> Self:
        """The same network with another dropout.

        Raises:
            InputError: it has none, or none that one number could set.
        """
        if "dropout" not in {field.name for field in dataclasses.fields(self)}:
            raise InputError(f"a {self.title} has no dropout to set; leave dropout out")
        return dataclasses.replace(self, dropout=probability)  # type: ignore[call-arg]

    def for_images(self, num_classes: int, in_channels: int, size: int) -> Self:
        """The same network for images of `size` pixels a side and so many classes and channels.

        Raises:
            InputError: the images are too small for it.
        """
        config = dataclasses.replace(self, num_classes=num_classes, in_channels=in_channels)
        config.check_input((in_channels, *[size] * self.spatial_dims))
        return config

    def check_input(self, shape: tuple[int, ...]) -> None:
        """Check the shape of one image or batch, (..., channels, *sides).

        Raises:
            InputError: the channels differ, or a side is too small to leave a pixel.
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
        """The family and the fields, as JSON can hold them."""
        fields = {key: _as_json(value) for key, value in dataclasses.asdict(self).items()}
        return {"family": self.family, **fields}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The config that `to_dict` was made from, without the family or with it.

        Raises:
            InputError: a field is missing, unknown or out of its range.
        """
        return read(
            cls, {key: fields[key] for key in fields if key != "family"}, f"not a {cls.title}'s config"
        )

    def _check_at_least_1(self, *fields: str, most: int = MOST_CHANNELS) -> None:
        for field in fields:
            if getattr(self, field) < 1:
                raise InputError(f"{field} {getattr(self, field)} cannot be: at least 1 is needed")
            self._check_at_most(most, **{field: getattr(self, field)})

    def _check_at_most(self, most: float, **fields: float) -> None:
        for field, value in fields.items():
            if value > most:
                raise InputError(f"{field} {value} cannot be: at most {most} can be")

    def _check_stages(self, field: str) -> None:
        """Check that a field, with a number a stage, has not too many."""
        if len(getattr(self, field)) > MOST_STAGES:
            raise InputError(f"{field} has {len(getattr(self, field))} numbers; at most {MOST_STAGES} can be")

    def _check_depth(self) -> None:
        """Check, once the fields are, that there are not too many layers."""
        self._check_at_most(MOST_LAYERS, depth=self.depth)

    def _check_one_each(self, field: str, count: int) -> None:
        """Check that a field has a number of at least 1 for each of `count` stages."""
        numbers = getattr(self, field)
        if len(numbers) != count or min(numbers) < 1:
            raise InputError(f"{field} {numbers} cannot be: {count} numbers are needed, each at least 1")
        self._check_at_most(MOST_CHANNELS, **{field: max(numbers)})

    def _check_known(self, **kinds: Any) -> None:
        """Check that fields have one of the values of their `Literal`."""
        for field, kind in kinds.items():
            known = get_args(kind)
            if getattr(self, field) not in known:
                raise InputError(f"{field} '{getattr(self, field)}' is unknown; known: {', '.join(known)}")

    def _check_probabilities(self, **fields: float) -> None:
        for field, value in fields.items():
            if not 0 <= value < 1:
                raise InputError(f"{field} {value} cannot be: a probability in [0, 1) is needed")


def _as_json(value: Any) -> Any:
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value
