"""The parts of a network in the order in which they run, as they are drawn. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from densenets.models.densenet_config import DenseNetConfig, Stem
from densenets.models.layer_rows import LayerRow, LayerTable

PartRole = Literal["image", "stem", "stage", "convolution", "transition", "classifier"]

# How the layers of a stage are connected beside the way from each to the next: "dense" from each to all
# behind it, "shortcut" around each, "carry" around each by a gate, "fractal" in columns of several depths.
Links = Literal["none", "dense", "shortcut", "carry", "fractal"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a network: the image, a stage of layers, the classifier, or what lies between them.

    Attributes:
        role: what it is.
        title: its name.
        operations: what it computes, in order; of a stage how many layers it has.
        in_channels: channels that it reads.
        out_channels: channels that the next part reads.
        in_sides: sides of the maps that it reads, in pixels.
        out_sides: sides of the maps that the next part reads.
        layers: of a stage, the channels that each of its layers reads; () of a fractal block.
        layer_operations: of a dense block, what each of its layers computes, in order.
        links: of a stage, how its layers are connected.
        columns: of a fractal block, how many it has.
    """

    role: PartRole
    title: str
    operations: tuple[str, ...]
    in_channels: int
    out_channels: int
    in_sides: tuple[int, ...]
    out_sides: tuple[int, ...]
    layers: tuple[int, ...] = ()
    layer_operations: tuple[str, ...] = ()
    links: Links = "none"
    columns: int = 0

    @property
    def length(self) -> int:
        """Of a stage: its layers, or the steps of a fractal block."""
        return 1 << (self.columns - 1) if self.columns else len(self.layers)

    @property
    def growth_rate(self) -> int:
        """Of a dense block: k, the channels that each layer adds."""
        return (self.out_channels - self.in_channels) // len(self.layers)

    @property
    def connections(self) -> int:
        """Of a dense block: its direct connections, L (L + 1) / 2."""
        return len(self.layers) * (len(self.layers) + 1) // 2

    @property
    def channels_text(self) -> str:
        """Its channels, before and behind it; a transition, which is narrow, does without the word."""
        if self.role == "image":
            return counted(self.out_channels, "channel")
        if self.role == "classifier" and not self.out_channels:
            return counted(self.in_channels, "feature")
        if self.role == "transition":
            return f"{self.in_channels:,} → {self.out_channels:,}"
        unit = ("class", "classes") if self.role == "classifier" else ("channel", "channels")
        return f"{self.in_channels:,} → {counted(self.out_channels, *unit)}"

    @property
    def sides_text(self) -> str:
        """The sides of its maps, before and behind it where they differ."""
        before, behind = times(self.in_sides), times(self.out_sides)
        return behind if before == behind else f"{before} → {behind}"


@dataclass(frozen=True, kw_only=True)
class NetworkParts:
    """A network, or a dense block with its transition, as it is drawn.

    Attributes:
        parts: in the order in which they run.
        notes: what a layer is, and what else the drawing does not show.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[Part, ...]:
        """The parts that consist of layers."""
        return tuple(part for part in self.parts if part.role == "stage")


class PartsOfTable:
    """The parts of a network, put together from the rows of its layer table, each behind the last one.

    Args:
        table: of the network.
        has_image: whether the first part is the image.
    """

    def __init__(self, table: LayerTable, *, has_image: bool = True) -> None:
        self._table = table
        channels, *sides = table.input_shape
        self._sides = tuple(sides)
        self.parts: list[Part] = []
        if has_image:
            self.parts.append(
                Part(
                    role="image",
                    title="Image",
                    operations=(),
                    in_channels=channels,
                    out_channels=channels,
                    in_sides=self._sides,
                    out_sides=self._sides,
                )
            )

    @property
    def dims(self) -> int:
        """Spatial dimensions of the image."""
        return len(self._sides)

    def rows(self, beginning: str) -> list[LayerRow]:
        """The rows whose names begin so."""
        return [row for row in self._table.layers if row.name.startswith(beginning)]

    def add(
        self,
        role: PartRole,
        title: str,
        operations: Sequence[str],
        rows: Sequence[LayerRow],
        *,
        layer_operations: tuple[str, ...] = (),
        links: Links = "none",
        columns: int = 0,
    ) -> None:
        """Add a part that is these rows of the table."""
        # The classifier takes the mean over the pixels, before it or behind it.
        sides = (1,) * self.dims if role == "classifier" else rows[-1].size
        self.parts.append(
            Part(
                role=role,
                title=title,
                operations=tuple(operations),
                in_channels=rows[0].in_channels,
                out_channels=rows[-1].out_channels,
                in_sides=self._sides,
                out_sides=sides,
                layers=tuple(row.in_channels for row in rows) if role == "stage" and not columns else (),
                layer_operations=layer_operations,
                links=links,
                columns=columns,
            )
        )
        self._sides = sides

    def add_stem(self, form: Stem, rows: Sequence[LayerRow], *, has_norm: bool) -> None:
        """Add the stem of a DenseNet or a ResNet, which has the same two forms in both."""
        small, large = kernel(3, self.dims), kernel(7, self.dims)
        operations = [f"{large} conv, stride 2" if form == "imagenet" else f"{small} conv"]
        operations += ["BN-ReLU"] * has_norm
        operations += [f"{small} max pool, stride 2"] * (form == "imagenet")
        self.add("stem", "Stem", operations, rows)

    def add_classifier(self, operations: Sequence[str], rows: Sequence[LayerRow]) -> None:
        """Add the classifier, or what gives the features where there are no classes."""
        has_classes = rows[-1].out_channels > 0
        last = ["linear"] if has_classes else []
        title = "Classifier" if has_classes else "Pooling"
        self.add("classifier", title, [*operations, "global average pool", *last], rows)


def densenet_parts(config: DenseNetConfig, table: LayerTable) -> NetworkParts:
    """A whole DenseNet."""
    parts = PartsOfTable(table)
    parts.add_stem(config.stem, parts.rows("stem"), has_norm=config.stem == "imagenet")
    _add_blocks(parts, config)
    parts.add_classifier(["BN-ReLU"], [*parts.rows("norm5"), *parts.rows("classifier")])
    return NetworkParts(parts=tuple(parts.parts), notes=(_layer_note(config),))


def bare_block_parts(config: DenseNetConfig, table: LayerTable) -> NetworkParts:
    """A dense block with its transition, apart from any network."""
    parts = PartsOfTable(table, has_image=False)
    _add_blocks(parts, config)
    *blocks, transition = parts.parts
    parts.parts = [*blocks, dataclasses.replace(transition, title="Transition")]
    return NetworkParts(parts=tuple(parts.parts), notes=(_layer_note(config),))


def _add_blocks(parts: PartsOfTable, config: DenseNetConfig) -> None:
    for block in config.blocks():
        parts.add(
            "stage",
            f"Dense block {block.number}",
            [f"{counted(block.layers, 'layer')}, k = {block.growth_rate:,}"],
            parts.rows(f"denseblock{block.number}."),
            layer_operations=_layer_operations(config),
            links="dense",
        )
        if transition := parts.rows(f"transition{block.number}"):
            one, two = kernel(1, parts.dims), kernel(2, parts.dims)
            operations = [f"{one} conv", f"{two} average pool"]
            parts.add("transition", f"Transition {block.number}", operations, transition[:1])


def _layer_operations(config: DenseNetConfig) -> tuple[str, ...]:
    bottleneck = ("BN-ReLU", f"{kernel(1, config.spatial_dims)} conv") if config.bottleneck else ()
    return (*bottleneck, "BN-ReLU", f"{kernel(3, config.spatial_dims)} conv")


def _layer_note(config: DenseNetConfig) -> str:
    width = f", with {counted(config.bottleneck_channels, 'channel')} between" * config.bottleneck
    return (
        f"A layer is {'-'.join(_layer_operations(config))}{width}. It reads the block's input and what all "
        f"layers before it add, and adds k = {counted(config.growth_rate, 'channel')}. "
        "Transitions begin with BN-ReLU."
    )


def times(sides: Sequence[int]) -> str:
    """Sides as a text such as 32×32."""
    return "×".join(str(side) for side in sides)


def kernel(side: int, dims: int) -> str:
    """The sides of a kernel, such as 3×3; of signals in words."""
    return times((side,) * dims) if dims > 1 else f"size-{side}"


def counted(count: int, one: str, many: str = "") -> str:
    """A number of things, such as 1 layer or 6 layers."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
