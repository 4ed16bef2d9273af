"""The map of a dense block's connections: positions of layers and arcs, and the facts shown of each layer.

A block is a row of nodes: its input, its layers, and what reads all of it, the transition or the classifier.
Every node but the input reads all nodes before it. Pixels are CSS pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from densenets.analysis.reuse.compute import BlockReuse, FeatureReuse
from densenets.figures.numbers import bytes_text, shape_text, short
from densenets.models.layer_rows import LayerRow, LayerTable

_MAX_STEP, _MIN_STEP = 56, 30  # pixels from node to node; a finger needs some
_TARGET_WIDTH = 980  # pixels, of the rows that can be so narrow
_MAX_HEIGHT = 150  # pixels of the arc from the first node to the last
_MIN_STROKE, _MAX_STROKE, _MANY_NODES = 0.2, 1.3, 16  # pixels, pixels, and nodes that are many
_MIN_OPACITY = 0.12  # opacity of a connection without weight


@dataclass(frozen=True)
class Node:
    """A button of the map: the input of a block, a layer, or the transition or classifier behind it.

    Attributes:
        key: in the page, and in its data.
        label: on the node.
        name: in full, for those who hear the page; it begins with the label.
    """

    key: str
    label: str
    name: str


@dataclass(frozen=True, kw_only=True)
class NodeText:
    """The texts that are shown when a node is pointed at; the fields are those of its JSON.

    Attributes:
        title: name of the layer.
        facts: labels and texts.
        sources: its row of the heat map; of each source the label, the weight as a text, and the weight by
            the row's largest.
        unit: of the weights.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str, float], ...]
    unit: str


@dataclass(frozen=True)
class Arc:
    """A connection between two nodes, by their places in the row.

    Attributes:
        source: place of the node that is read.
        target: place of the node that reads.
        path: as an SVG path.
        opacity: the weight of the connection by the target's largest.
    """

    source: int
    target: int
    path: str
    opacity: float


@dataclass(frozen=True)
class BlockMap:
    """The map of one dense block, a row of nodes with arcs above.

    Attributes:
        number: of the block.
        caption: its layers, size of maps and channels, in a sentence.
        nodes: in order.
        arcs: the longest first, so that short ones lie on top.
        width: of the row.
        height: of the arcs.
        step: from node to node.
        stroke: width of the lines; where there are thousands they are thin, or they would be one surface.
    """

    number: int
    caption: str
    nodes: tuple[Node, ...]
    arcs: tuple[Arc, ...]
    width: float
    height: float
    step: float
    stroke: float


def block_maps(facts: LayerTable, reuse: FeatureReuse) -> list[BlockMap]:
    """The rows of all blocks."""
    return [_block_map(facts, block) for block in reuse.blocks]


def node_texts(facts: LayerTable, reuse: FeatureReuse) -> dict[str, NodeText]:
    """The texts of all nodes, by their keys."""
    rows = {layer.name: layer for layer in facts.layers}
    texts: dict[str, NodeText] = {}
    for block in reuse.blocks:
        texts[_key(block, 0)] = _input_text(rows, block)
        for target, name in enumerate(block.targets):
            layer = rows[_layer_name(block, target)]
            weights = block.of_target(target)
            largest = max(weights) or 1.0
            texts[_key(block, target + 1)] = NodeText(
                title=layer.name,
                facts=_facts(layer, facts.has_stored_bytes, len(weights), name),
                sources=tuple(
                    (_source_label(source), f"{weight:.4g}", round(weight / largest, 4))
                    for source, weight in zip(block.sources, weights, strict=False)
                ),
                unit=reuse.meaning,
            )
    return texts


def _block_map(facts: LayerTable, block: BlockReuse) -> BlockMap:
    rows = {layer.name: layer for layer in facts.layers}
    count = len(block.sources) + 1
    step = max(_MIN_STEP, min(_MAX_STEP, _TARGET_WIDTH / count))
    names = ["the block's input", *(_layer_name(block, target) for target in range(len(block.targets)))]
    labels = ["in", *block.targets[:-1], "cls" if block.targets[-1] == "classifier" else "tr"]
    nodes = tuple(
        Node(key=_key(block, place), label=label, name=f"{label}: {name}")
        for place, (label, name) in enumerate(zip(labels, names, strict=True))
    )
    height = min(_MAX_HEIGHT, 26 + step * count / 4)
    first = rows[_layer_name(block, 0)]
    sides = shape_text(first.size)
    out_channels = sum(block.source_maps)
    arcs = [
        _arc(block, source, target, step, height, count)
        for target in range(len(block.targets))
        for source in range(len(block.of_target(target)))
    ]
    return BlockMap(
        number=block.number,
        caption=(
            f"{len(block.targets) - 1} layers on maps of {sides}; {block.source_maps[0]} channels in, "
            f"{block.source_maps[1]} added a layer, {out_channels} handed on"
        ),
        nodes=nodes,
        arcs=tuple(sorted(arcs, key=lambda arc: arc.source - arc.target)),
        width=step * count,
        height=height,
        step=step,
        stroke=round(max(_MIN_STROKE, min(_MAX_STROKE, _MANY_NODES / count)), 2),
    )


def _arc(block: BlockReuse, source: int, target: int, step: float, height: float, count: int) -> Arc:
    weights = block.of_target(target)
    share = weights[source] / (max(weights) or 1.0)
    start, end = step * (source + 0.5), step * (target + 1.5)
    # The middle of a quadratic curve is half as high as its handle.
    handle = height - 2 * (height - 4) * (target + 1 - source) / count
    return Arc(
        source=source,
        target=target + 1,
        path=f"M{start:.1f} {height:.1f}Q{(start + end) / 2:.1f} {handle:.1f} {end:.1f} {height:.1f}",
        opacity=round(_MIN_OPACITY + (1 - _MIN_OPACITY) * share, 2),
    )


def _key(block: BlockReuse, place: int) -> str:
    return f"b{block.number}n{place}"


def _layer_name(block: BlockReuse, target: int) -> str:
    """Name of a target in the layer table."""
    if target < len(block.targets) - 1:
        return f"denseblock{block.number}.denselayer{target + 1}"
    return block.targets[target].replace(" ", "")


def _source_label(source: str) -> str:
    return "block's input" if source == "input" else f"layer {source}"


def _input_text(rows: Mapping[str, LayerRow], block: BlockReuse) -> NodeText:
    source = rows["stem" if block.number == 1 else f"transition{block.number - 1}"]
    return NodeText(
        title=f"input of dense block {block.number}",
        facts=(
            ("comes from", source.name),
            ("channels", f"{block.source_maps[0]:,}"),
            ("maps", shape_text(source.size)),
            ("read by", f"all {len(block.targets) - 1} layers and {block.targets[-1]}"),
        ),
        sources=(),
        unit="",
    )


def _facts(layer: LayerRow, has_stored: bool, sources: int, target: str) -> tuple[tuple[str, str], ...]:
    is_layer = layer.connections > 0
    facts = [
        ("reads", f"{layer.in_channels:,} channels from {sources} source{'s' if sources > 1 else ''}"),
        (
            "adds" if is_layer else "makes",
            f"{layer.new_channels:,} {'classes' if target == 'classifier' else 'channels'}",
        ),
    ]
    if is_layer:
        facts.append(("behind it", f"{layer.out_channels:,} channels"))
    facts += [
        ("maps", shape_text(layer.size)),
        ("parameters", f"{layer.parameters:,}"),
        ("multiply-adds", f"{layer.multiply_adds:,} ({short(layer.multiply_adds)})"),
    ]
    if has_stored:
        facts += [
            ("stored, reference", bytes_text(layer.stored_reference)),
            ("stored, fused", bytes_text(layer.stored_fused)),
        ]
    return tuple(facts)
