"""Config of ResNets and relatives: pre-activation, wide, Stochastic Depth, plain. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from densenets.errors import InputError
from densenets.models.densenet_config import Stem
from densenets.models.network_config import NetworkConfig

ResidualUnit = Literal["basic", "bottleneck"]
Shortcut = Literal["subsampled", "pooled", "projection", "none"]
Fan = Literal["fan_in", "fan_out"]

BOTTLENECK_SHARE = 4  # a bottleneck's 3x3 has a quarter of the unit's output channels


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(NetworkConfig):
    """A residual network, or a plain one of the same layers.

    ResNet (He et al. 2016, arXiv 1512.03385), with pre-activation (He et al. 2016, arXiv 1603.05027), Wide
    ResNet (Zagoruyko and Komodakis 2016, arXiv 1605.07146), Stochastic Depth (Huang et al. 2016, arXiv
    1603.09382).

    Attributes:
        stage_units: units in each stage; the first unit of every stage but the first halves the sides.
        stage_channels: output channels of the units of each stage.
        unit: "basic" is two 3x3 convolutions; "bottleneck" 1x1, 3x3 on a quarter of the channels, 1x1.
        pre_activation: BN-ReLU-convolution instead of convolution-BN-ReLU, and a last BN-ReLU.
        shortcut: of a unit whose channels or sides change: "subsampled" takes every other pixel and adds
            channels of zeros (He's option A), "pooled" takes the mean of 2x2 pixels instead (the code of
            Stochastic Depth), "projection" is a 1x1 convolution (option B). With "none" no unit has one.
        stem: "cifar" is a 3x3 convolution; "imagenet" a 7x7/2 one, BN-ReLU and a 3x3/2 max pool.
        stem_channels: output channels of the stem.
        dropout: probability between the two convolutions of a basic unit (Wide ResNet).
        last_survival: survival probability of the last unit in a training step; that of the others decays
            linearly to it, from 1 at the image (Stochastic Depth). 1 skips none.
        initialization: fan of He's normal distribution.

    Raises:
        InputError: a field is out of its range, or contradicts another.
    """

    stage_units: tuple[int, ...]
    stage_channels: tuple[int, ...]
    unit: ResidualUnit
    pre_activation: bool
    shortcut: Shortcut
    stem: Stem
    stem_channels: int
    dropout: float = 0.0
    last_survival: float = 1.0
    initialization: Fan = "fan_out"

    family: ClassVar[str] = "resnet"
    title: ClassVar[str] = "ResNet"
    head: ClassVar[str] = "fc"  # torchvision's name

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stage_units or any(units < 1 for units in self.stage_units):
            raise InputError(f"stage_units must be at least 1 in every stage, got {self.stage_units}")
        self._check_stages("stage_units")
        self._check_depth()
        self._check_one_each("stage_channels", len(self.stage_units))
        self._check_at_least_1("stem_channels")
        self._check_literals(unit=ResidualUnit, shortcut=Shortcut, stem=Stem, initialization=Fan)
        self._check_probabilities(dropout=self.dropout)
        if not 0 < self.last_survival <= 1:
            raise InputError(f"last_survival must be a probability in (0, 1], got {self.last_survival}")
        if self.last_survival < 1 and self.shortcut == "none":
            raise InputError(
                f"last_survival must be 1 where no shortcut leads past a unit, got {self.last_survival}"
            )
        if self.dropout and not (self.pre_activation and self.unit == "basic"):
            raise InputError("dropout is for basic units with pre-activation, as in a Wide ResNet")
        channels = (self.stem_channels, *self.stage_channels)
        if self.shortcut in ("subsampled", "pooled") and list(channels) != sorted(channels):
            raise InputError(
                f"stage_channels must not descend from stem_channels {self.stem_channels} on where shortcuts "
                f"have no weights, got {self.stage_channels}"
            )
        if self.unit == "bottleneck" and any(channels % BOTTLENECK_SHARE for channels in self.stage_channels):
            raise InputError(
                f"stage_channels must be multiples of {BOTTLENECK_SHARE} for bottlenecks, "
                f"got {self.stage_channels}"
            )

    @property
    def depth(self) -> int:
        """Stem, the units' convolutions and classifier. The name of a Wide ResNet counts two more."""
        convolutions = 3 if self.unit == "bottleneck" else 2
        return convolutions * sum(self.stage_units) + 2

    @property
    def smallest_size(self) -> int:
        """The smallest image side, in pixels: every halving rounds up."""
        return 1

    @property
    def default_size(self) -> int:
        """The image side, in pixels, of the data that the paper trains it on."""
        return 224 if self.stem == "imagenet" else 32

    @property
    def skips_layers(self) -> bool:
        """Whether a training step may skip units."""
        return self.last_survival < 1

    @property
    def num_features(self) -> int:
        """Channels that the classifier reads."""
        return self.stage_channels[-1]

    def units(self) -> list[UnitChannels]:
        """The channels of every unit, in order."""
        units: list[UnitChannels] = []
        channels, total = self.stem_channels, sum(self.stage_units)
        stages = zip(self.stage_units, self.stage_channels, strict=True)
        for stage, (count, out_channels) in enumerate(stages, start=1):
            for number in range(count):
                units.append(
                    UnitChannels(
                        stage=stage,
                        number=number,
                        in_channels=channels,
                        out_channels=out_channels,
                        stride=2 if number == 0 and stage > 1 else 1,
                        survival=1 - (len(units) + 1) / total * (1 - self.last_survival),
                    )
                )
                channels = out_channels
        return units


@dataclass(frozen=True, kw_only=True)
class UnitChannels:
    """Channels, stride and survival of one residual unit.

    Attributes:
        stage: from 1.
        number: within the stage, from 0.
        in_channels: input channels.
        out_channels: output channels.
        stride: 2 where it halves the sides.
        survival: probability that a training step runs it.
    """

    stage: int
    number: int
    in_channels: int
    out_channels: int
    stride: int
    survival: float

    @property
    def changes_shape(self) -> bool:
        """Whether its input and its output differ in shape."""
        return self.stride > 1 or self.in_channels != self.out_channels

    @property
    def width(self) -> int:
        """Output channels of the first 1x1 convolution, if it is a bottleneck."""
        return self.out_channels // BOTTLENECK_SHARE
