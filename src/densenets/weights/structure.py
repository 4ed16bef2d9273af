"""Recognition of a DenseNet in the layers of a file, by their shapes and their order, not by their names.

A dense layer is a convolution to k channels, or a 1x1 and one to k channels; each reads k channels more than
the one before, until a 1x1 that reads all of a block's channels, the transition.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from densenets.checkpoint import shape_text
from densenets.errors import InputError
from densenets.weights.formats.file_modules import FileModule, NetworkFile
from densenets.weights.norm_places import NormPlaces, place_norms, why_unplaced

_STEM_SIDES = {3: "cifar", 7: "imagenet"}  # side of the stem's kernel -> the config's stem


class NoDenseNet(InputError):  # noqa: N818 - it is an InputError, and reads as one
    """The layers of a file are not those of a DenseNet."""


@dataclass(frozen=True)
class Unit:
    """BN-ReLU-convolution.

    Attributes:
        norm: None where it was folded into the convolution before it.
        convolution: the convolution.
    """

    norm: FileModule | None
    convolution: FileModule


@dataclass(frozen=True)
class DenseNetLayers:
    """The layers of a file by their places in a DenseNet.

    Attributes:
        stem: the first convolution.
        stem_norm: the BN behind it; None in a network for small images, or where it was folded.
        blocks: of each block, of each dense layer, its one or two units.
        transitions: behind each block but the last.
        last_norm: the BN before the classifier.
        head: what is behind it, in the file's order; () of a network without classes.
    """

    stem: FileModule
    stem_norm: FileModule | None
    blocks: tuple[tuple[tuple[Unit, ...], ...], ...]
    transitions: tuple[Unit, ...]
    last_norm: FileModule
    head: tuple[FileModule, ...]

    @property
    def classifier(self) -> FileModule | None:
        """The head, if it is one linear layer, or a convolution of one pixel, that reads the features."""
        if len(self.head) != 1 or self.head[0].channels != self.last_norm.channels:
            return None
        return self.head[0] if self.head[0].kind != "norm" else None


def recognize(file: NetworkFile) -> DenseNetLayers:
    """The DenseNet in a file.

    Raises:
        NoDenseNet: there is none, or not a whole one; the line names the layer at which it shows.
    """
    orders: list[Sequence[FileModule]] = [file.modules]
    if not file.in_order:  # a file may be sorted by names, where layer 10 stands before layer 2
        by_name = sorted(file.modules, key=lambda module: _natural(module.name))
        orders = [by_name, *orders] if file.path.suffix == ".safetensors" else [*orders, by_name]
    errors: list[NoDenseNet] = []
    for modules in orders:
        try:
            return _Reading(file.path, modules, file.in_order).layers()
        except NoDenseNet as error:
            errors.append(error)
    if (odd := _odd_one(file.modules)) is not None:
        raise NoDenseNet(f"{file.path} holds no whole DenseNet: {odd}") from errors[0]
    raise errors[0]


def _odd_one(modules: Sequence[FileModule]) -> str | None:
    """The convolution that differs from all that are named like it but for numbers; None if none does."""
    alike: dict[tuple[str, str], list[FileModule]] = {}
    for module in modules:
        if module.kind == "convolution":
            layer, _, part = module.name.rpartition(".")
            alike.setdefault((re.sub("[0-9]+", "#", layer), part), []).append(module)
    for group in alike.values():
        shapes = Counter(_growth_shape(module) for module in group)
        (usual, count), *_ = shapes.most_common(1)
        if len(group) > 2 and count == len(group) - 1:
            odd = next(module for module in group if _growth_shape(module) != usual)
            return (
                f"{odd.shown} is {shape_text(odd.weight.shape)}, where {usual[0]} maps by "
                f"{shape_text(usual[1])} pixels would fit the other layers"
            )
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key for sorting, by which layer 2 stands before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


@dataclass(frozen=True)
class _DenseLayer:
    """The convolutions of a dense layer; the first may be a bottleneck."""

    convolutions: tuple[FileModule, ...]

    @property
    def in_channels(self) -> int:
        return self.convolutions[0].channels


class _Reading:
    """The layers of a file in one order."""

    def __init__(self, path: Path, modules: Sequence[FileModule], in_order: bool) -> None:
        self.path = path
        self.in_order = in_order
        self.convolutions = [module for module in modules if module.kind == "convolution"]
        self.norms = [module for module in modules if module.kind == "norm"]
        self.linears = [module for module in modules if module.kind == "linear"]
        self.modules = modules
        before_all = itertools.takewhile(lambda module: module.kind != "convolution", modules)
        self._norms_before_all = sum(module.kind == "norm" for module in before_all)

    def layers(self) -> DenseNetLayers:
        """The layers by their places.

        Raises:
            NoDenseNet: they do not make a DenseNet.
        """
        stem, growing = self._stem_and_growing()
        dense_layers, narrow = self._dense_layers(stem, growing)
        blocks, transitions, head_convolutions = self._blocks(stem, dense_layers, narrow)
        features = blocks[-1][-1].in_channels + growing[0].weight.shape[0]
        norms = self._norms(stem, dense_layers, transitions, features)
        if head_convolutions and len(head_convolutions) + len(self.linears) + len(norms.head) > 1:
            raise self._error(
                f"{head_convolutions[0].shown} is left over: it belongs to no layer and no transition"
            )
        in_head = {id(module) for module in (*self.linears, *head_convolutions, *norms.head)}

        def unit(convolution: FileModule) -> Unit:
            return Unit(norms.of_convolution.get(id(convolution)), convolution)

        return DenseNetLayers(
            stem=stem,
            stem_norm=norms.stem,
            blocks=tuple(
                tuple(tuple(unit(conv) for conv in layer.convolutions) for layer in block) for block in blocks
            ),
            transitions=tuple(unit(convolution) for convolution in transitions),
            last_norm=norms.last,
            head=tuple(module for module in self.modules if id(module) in in_head),
        )

    def _stem_and_growing(self) -> tuple[FileModule, list[FileModule]]:
        """The stem, and the convolutions that make k channels each."""
        wide = [module for module in self.convolutions if max(module.weight.shape[2:]) > 1]
        if len(wide) < 2 or not self.norms:
            raise self._error(
                "it has no dense layers: convolutions of several pixels and batch norms are needed"
            )
        # Of two alone the most common shape tells nothing; there the stem is the first.
        counted = wide[1:] if len(wide) == 2 else wide
        (growth_shape, _), *_ = Counter(_growth_shape(module) for module in counted).most_common(1)
        odd = [module for module in wide if _growth_shape(module) != growth_shape]
        if len(odd) > 1:
            raise self._error(
                f"{odd[1].shown} is {shape_text(odd[1].weight.shape)}, where {growth_shape[0]} maps by "
                f"{shape_text(growth_shape[1])} pixels would fit the other layers"
            )
        stem = odd[0] if odd else wide[0]
        growing = [module for module in wide if module is not stem]
        sides = set(growth_shape[1])
        if sides != {3}:
            raise self._error(
                f"{growing[0].shown} is no convolution of 3 pixels a side, as a dense layer's is"
            )
        stem_sides = set(stem.weight.shape[2:])
        if len(stem_sides) != 1 or stem_sides.pop() not in _STEM_SIDES:
            raise self._error(f"{stem.shown} is no stem of 3 or 7 pixels a side")
        return stem, growing

    def _dense_layers(
        self, stem: FileModule, growing: list[FileModule]
    ) -> tuple[list[_DenseLayer], list[FileModule]]:
        """The dense layers, and the 1x1 convolutions that are in none."""
        place = {id(module): number for number, module in enumerate(self.convolutions)}
        before = [
            self.convolutions[place[id(module)] - 1] if place[id(module)] else stem for module in growing
        ]
        is_narrow = [max(module.weight.shape[2:]) == 1 for module in before]
        alike = len({module.channels for module in growing}) == 1
        bottleneck = all(is_narrow) or (alike and len(growing) > 2 and sum(is_narrow) == len(growing) - 1)
        if not bottleneck:
            used = {id(stem), *map(id, growing)}
            return [_DenseLayer((module,)) for module in growing], self._without(used)
        for module, narrow, fits in zip(growing, before, is_narrow, strict=True):
            if not fits:
                raise self._error(f"there is no convolution of one pixel in front of {module.shown}")
            if narrow.weight.shape[0] != module.channels:
                raise self._error(
                    f"{narrow.shown} makes {narrow.weight.shape[0]} channels, and {module.shown}, which "
                    f"follows it, reads {module.channels}"
                )
        used = {id(stem), *map(id, growing), *map(id, before)}
        layers = [_DenseLayer(pair) for pair in zip(before, growing, strict=True)]
        return layers, self._without(used)

    def _without(self, used: set[int]) -> list[FileModule]:
        return [module for module in self.convolutions if id(module) not in used]

    def _blocks(
        self, stem: FileModule, layers: list[_DenseLayer], narrow: list[FileModule]
    ) -> tuple[list[list[_DenseLayer]], list[FileModule], list[FileModule]]:
        """The dense layers block by block, the transitions, and the convolutions behind the last block."""
        channels, growth_rate = stem.weight.shape[0], layers[0].convolutions[-1].weight.shape[0]
        blocks: list[list[_DenseLayer]] = [[]]
        passed = 0
        for layer in layers:
            following = narrow[passed] if passed < len(narrow) else None
            if following is not None and blocks[-1] and _leads(following, channels, layer.in_channels):
                passed, channels = passed + 1, layer.in_channels
                blocks.append([])
            if layer.in_channels != channels:
                raise self._error(
                    f"{layer.convolutions[0].shown} reads {layer.in_channels} channels, where {channels} "
                    "come from the layers before it" + self._transition_hint(following, channels)
                )
            blocks[-1].append(layer)
            channels += growth_rate
        transitions, rest = narrow[:passed], narrow[passed:]
        if others := [module for module in rest if module.channels != channels]:
            raise self._error(f"{others[0].shown} is left over: it belongs to no layer and no transition")
        return blocks, transitions, rest

    @staticmethod
    def _transition_hint(following: FileModule | None, channels: int) -> str:
        if following is None:
            return ""
        out_channels, in_channels = following.weight.shape[:2]
        said = f"reads {in_channels}" if in_channels != channels else f"makes {out_channels} of them"
        return f"; the next transition, {following.shown}, {said}"

    def _norms(
        self, stem: FileModule, layers: list[_DenseLayer], transitions: list[FileModule], features: int
    ) -> NormPlaces:
        """The norms by their places.

        Raises:
            NoDenseNet: they do not fit the convolutions.
        """
        first = {id(layer.convolutions[0]) for layer in layers} | {id(module) for module in transitions}
        second = {id(module) for layer in layers for module in layer.convolutions[1:]}
        large = stem.weight.shape[-1] == 7
        ways = [(first | second, large)]
        if second and (self.in_order or any("bias" in layer.convolutions[0].tensors for layer in layers)):
            ways.append((first, False))  # exporters fold the norms that follow a convolution into it
        for having_norms, has_stem_norm in ways:
            needed = [module for module in self.convolutions if id(module) in having_norms]
            places = place_norms(
                self.norms, self._norms_before_all, needed, stem if has_stem_norm else None, features
            )
            if places is not None:
                return places
        needed = [module for module in self.convolutions if id(module) in first | second]
        others = place_norms(self.norms, self._norms_before_all, needed, None if large else stem, features)
        if others is not None:
            raise self._error(
                f"{stem.shown} has {'no batch norm' if large else 'a batch norm'} behind it, as no stem of "
                f"{stem.weight.shape[-1]} pixels here has"
            )
        raise self._error(why_unplaced(self.norms, needed, features))

    def _error(self, reason: str) -> NoDenseNet:
        return NoDenseNet(f"{self.path} holds no whole DenseNet: {reason}")


def _leads(transition: FileModule, channels: int, next_channels: int) -> bool:
    """Whether a transition reads so many channels, and makes those that the next layer reads."""
    return transition.channels == channels and transition.weight.shape[0] == next_channels


def _growth_shape(module: FileModule) -> tuple[int, tuple[int, ...]]:
    return module.weight.shape[0], tuple(module.weight.shape[2:])


def compression_of(transitions: Sequence[Unit], path: Path) -> float:
    """The compression theta with which every transition has floor(theta * in_channels) output channels.

    Raises:
        NoDenseNet: there is none.
    """
    theta: float | None = 1.0
    sizes = [tuple(unit.convolution.weight.shape[:2]) for unit in transitions]
    for number, (out_channels, in_channels) in enumerate(sizes, start=1):
        theta = _theta(sizes[:number])
        if theta is None:
            raise NoDenseNet(
                f"{path} holds no whole DenseNet: {transitions[number - 1].convolution.shown} makes "
                f"{out_channels} of {in_channels} channels; one compression for all transitions is needed"
            )
    assert theta is not None
    return theta


def _theta(transitions: Sequence[tuple[int, ...]]) -> float | None:
    # Each transition allows the thetas of [out / in, (out + 1) / in).
    lowest = max(out_channels / in_channels for out_channels, in_channels in transitions)
    highest = min((out_channels + 1) / in_channels for out_channels, in_channels in transitions)
    for theta in (1.0, 0.5, (lowest + highest) / 2):
        if theta <= 1 and all(
            math.floor(theta * in_channels) == out_channels for out_channels, in_channels in transitions
        ):
            return theta
    return None
