"""A DenseNet's config and state dict, with torchvision's keys, from the recognised layers of a file.

Exact up to rounding where something is computed, and a copy everywhere else:

- new maps that stand first are permuted to stand last, in all norms, convolutions and classifiers behind them
- a convolution's bias goes into the running mean of each norm that reads its maps, as nothing else does
- a norm that an exporter folded into the convolution before it becomes one that only adds the bias
- a norm without scale or shift has ones or zeros; one without a counter begins at 0
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.weights.formats.file_modules import FileModule, NewMaps
from densenets.weights.new_maps import to_new_maps_last
from densenets.weights.structure import DenseNetLayers, Unit

BATCH_COUNTER = "num_batches_tracked"  # of a BN, which needs it only where its momentum is None


@dataclass
class Assembly:
    """A DenseNet's state dict while it is put together.

    Attributes:
        weights: torchvision's key -> tensor.
        keys: each key of the file's layers -> torchvision's, of the tensor that it became.
        added: keys of counters that the file lacks.
        lacking: names of the file's norms without a counter.
        folded: keys of the norms that the file has folded into the convolutions before them.
        biases: keys of the file's biases of convolutions, which went into norms.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    biases: list[str] = field(default_factory=list)


def assemble(layers: DenseNetLayers, config: DenseNetConfig, new_maps: NewMaps, path: Path) -> Assembly:
    """The state dict of the DenseNet of a config.

    Args:
        layers: of the file.
        config: of the network, with the file's norm_epsilon.
        new_maps: where the file's dense layers put their new maps.
        path: the file.

    Raises:
        InputError: a norm lacks the counter that others have.
    """
    result = _Assembler(layers, config, new_maps).assemble()
    # Old files have no counters at all; where some exist, an absent one was lost.
    if result.lacking and any(key.endswith(BATCH_COUNTER) for key in result.keys.values()):
        lost = f"{result.lacking[0]}.{BATCH_COUNTER}"
        raise InputError(f"{path} is not a whole network: {lost}, which other norms have, is missing")
    return result


class _Assembler:
    def __init__(self, layers: DenseNetLayers, config: DenseNetConfig, new_maps: NewMaps) -> None:
        self.layers = layers
        self.config = config
        self.new_maps = new_maps
        self.result = Assembly()

    def assemble(self) -> Assembly:
        layers, result = self.layers, self.result
        self._add_convolution("features.conv0", layers.stem)
        bias = self._bias(layers.stem)
        if self.config.stem == "imagenet":
            self._add_second_norm("features.norm0", layers.stem_norm, bias)
            bias = torch.zeros_like(bias)  # behind the norm nothing of it is left
        order = None
        for block, channels in zip(layers.blocks, self.config.blocks(), strict=True):
            name = f"features.denseblock{channels.number}"
            for number, units in enumerate(block):
                order = self._order(channels.in_channels, number)
                bias = self._add_layer(f"{name}.denselayer{number + 1}", units, order, bias)
            order = self._order(channels.in_channels, channels.layers)
            if channels.number <= len(layers.transitions):
                unit, name = layers.transitions[channels.number - 1], f"features.transition{channels.number}"
                self._add_norm(f"{name}.norm", _norm_of(unit), order, bias)
                self._add_convolution(f"{name}.conv", unit.convolution, order)
                bias = self._bias(unit.convolution)
        self._add_norm("features.norm5", layers.last_norm, order, bias)
        if layers.classifier is not None:
            self._add_classifier(layers.classifier, order)
        return result

    def _order(self, in_channels: int, layers: int) -> Tensor | None:
        """The order in which the file's channels of a block are to be taken; None for as they are."""
        if self.new_maps == "last":
            return None
        return to_new_maps_last(in_channels, self.config.growth_rate, layers)

    def _bias(self, convolution: FileModule) -> Tensor:
        """The bias of a convolution, or zeros."""
        if "bias" not in convolution.tensors:
            return torch.zeros(convolution.weight.shape[0])
        self.result.biases.append(convolution.keys["bias"])
        return convolution.tensors["bias"].float()

    def _add_layer(self, name: str, units: tuple[Unit, ...], order: Tensor | None, bias: Tensor) -> Tensor:
        """Add a dense layer; returns the biases of the block's maps behind it."""
        self._add_norm(f"{name}.norm1", _norm_of(units[0]), order, bias)
        self._add_convolution(f"{name}.conv1", units[0].convolution, order)
        if len(units) == 2:
            first, second = units
            self._add_second_norm(f"{name}.norm2", second.norm, self._bias(first.convolution))
            self._add_convolution(f"{name}.conv2", second.convolution)
        return torch.cat([bias, self._bias(units[-1].convolution)])

    def _add_convolution(self, name: str, convolution: FileModule, order: Tensor | None = None) -> None:
        weight = convolution.weight
        self._add(f"{name}.weight", convolution, "weight", weight if order is None else weight[:, order])

    def _add_second_norm(self, name: str, norm: FileModule | None, bias: Tensor) -> None:
        """Add the norm that alone reads a convolution's maps; None if it was folded into the convolution."""
        if norm is not None:
            self._add_norm(name, norm, None, bias)
            return
        self.result.folded.append(name)
        ones, zeros = torch.ones_like(bias), torch.zeros_like(bias)
        variance = ones - self.config.norm_epsilon  # so that it divides by 1
        values = {"weight": ones, "bias": bias, "running_mean": zeros, "running_var": variance}
        self.result.weights |= {f"{name}.{role}": value for role, value in values.items()}
        self._add_counter(name, None)

    def _add_norm(self, name: str, norm: FileModule, order: Tensor | None, bias: Tensor) -> None:
        defaults = {"weight": torch.ones(norm.channels), "bias": torch.zeros(norm.channels)}
        for role in ("weight", "bias", "running_mean", "running_var"):
            value = norm.tensors.get(role, defaults.get(role))
            assert value is not None
            value = value if order is None else value[order]
            if role == "running_mean" and bool(bias.any()):
                value = value - bias
            self._add(f"{name}.{role}", norm, role, value)
        self._add_counter(name, norm)

    def _add_counter(self, name: str, norm: FileModule | None) -> None:
        key = f"{name}.{BATCH_COUNTER}"
        if norm is not None and BATCH_COUNTER in norm.tensors:
            self._add(key, norm, BATCH_COUNTER, norm.tensors[BATCH_COUNTER])
            return
        self.result.weights[key] = torch.zeros((), dtype=torch.int64)
        self.result.added.append(key)
        if norm is not None:
            self.result.lacking.append(norm.name)

    def _add_classifier(self, classifier: FileModule, order: Tensor | None) -> None:
        weight = classifier.weight.flatten(1)  # a convolution of one pixel is a linear layer
        self._add("classifier.weight", classifier, "weight", weight if order is None else weight[:, order])
        bias = classifier.tensors.get("bias")
        self._add(
            "classifier.bias", classifier, "bias", weight.new_zeros(len(weight)) if bias is None else bias
        )

    def _add(self, key: str, module: FileModule, role: str, value: Tensor) -> None:
        self.result.weights[key] = value
        if role in module.keys:
            self.result.keys[module.keys[role]] = key


def _norm_of(unit: Unit) -> FileModule:
    assert unit.norm is not None, "only a norm behind a convolution can be folded"
    return unit.norm
