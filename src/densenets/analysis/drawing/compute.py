"""The drawing of a network or of one of its dense blocks, from its config. Needs no PyTorch.

After the paper's figures: a dense block is its Figure 1, a network its Figure 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from densenets.analysis.drawing.baseline_parts import (
    convnet_parts,
    fractalnet_parts,
    highway_parts,
    resnet_parts,
)
from densenets.analysis.drawing.block_layout import MOST_DETAILED, MOST_PLANES, block_marks
from densenets.analysis.drawing.chain_layout import chain_marks
from densenets.analysis.drawing.drawing import Drawing, page
from densenets.analysis.drawing.network_layout import network_marks
from densenets.analysis.drawing.network_parts import (
    NetworkParts,
    Part,
    bare_block_parts,
    counted,
    densenet_parts,
    times,
)
from densenets.errors import InputError
from densenets.figures.numbers import short
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_rows import LayerTable
from densenets.models.network_config import NetworkConfig

Style = Literal["auto", "block", "network", "chain"]

MOST_LAYERS_OF_BLOCK = 256  # 32,896 arcs
MOST_LAYERS_OF_NETWORK = 400
_MOST_LAYERS_OF_STAGE = 16  # that "auto" draws one by one
_MOST_NUMBERS = 8  # of channels in a sentence

PARTS: dict[str, Callable[[Any, LayerTable], NetworkParts]] = {
    "densenet": densenet_parts,
    "resnet": resnet_parts,
    "convnet": convnet_parts,
    "highway": highway_parts,
    "fractalnet": fractalnet_parts,
}


def draw_network(
    name: str, config: NetworkConfig, table: LayerTable, *, style: Style = "auto", block: int = 0
) -> Drawing:
    """A drawing of a network, or of one of a DenseNet's dense blocks.

    Args:
        name: of the network, for the title.
        config: of the network.
        table: its layer table, for the images whose sizes are shown.
        style: "network" draws every layer and what connects it, "chain" a box a stage, "block" one dense
            block; "auto" takes "network" where no stage is long, and "chain" otherwise.
        block: number of the dense block that is drawn alone, from 1; 0 for the whole network, or in the style
            "block" for the first.

    Raises:
        InputError: the network has no such block, or too many layers for the style.
    """
    if block and style not in ("auto", "block"):
        raise InputError(f"the style {style} draws all blocks; leave --block out, or take --style block")
    parts = PARTS[config.family](config, table)
    if style == "block" or block:
        return _block_drawing(name, parts, block or 1)
    parameters, multiply_adds = table.total("parameters"), table.total("multiply_adds")
    shape = times(table.input_shape)
    facts = f"{parameters:,} parameters, {short(multiply_adds)} multiply-adds for an image of {shape}"
    longest = max((stage.length for stage in parts.stages), default=0)
    if style == "chain" or (style == "auto" and not 0 < longest <= _MOST_LAYERS_OF_STAGE):
        return page(chain_marks(parts.parts), name, facts, parts.notes)
    layers = sum(stage.length for stage in parts.stages)
    if layers > MOST_LAYERS_OF_NETWORK:
        raise InputError(
            f"every layer is drawn in networks of up to {MOST_LAYERS_OF_NETWORK} layers, {name} has "
            f"{layers:,}; take --style chain"
        )
    notes = (*_node_notes(parts), *parts.notes)
    return page(network_marks(parts.parts), name, facts, notes)


def draw_dense_block(config: DenseNetConfig, table: LayerTable) -> Drawing:
    """A drawing of one dense block with its transition, apart from any network.

    Raises:
        InputError: it has too many layers.
    """
    parts = bare_block_parts(config, table)
    return _block_drawing("", parts, 1)


def _block_drawing(name: str, parts: NetworkParts, number: int) -> Drawing:
    blocks = [part for part in parts.stages if part.links == "dense"]
    if not blocks:
        raise InputError(f"{name} has no dense blocks; take --style network or --style chain")
    if not 1 <= number <= len(blocks):
        raise InputError(f"block must be in 1 ... {len(blocks)}, the dense blocks of {name}, got {number}")
    block = blocks[number - 1]
    if len(block.layers) > MOST_LAYERS_OF_BLOCK:
        raise InputError(
            f"a dense block is drawn up to {MOST_LAYERS_OF_BLOCK} layers, this one has {len(block.layers):,}"
        )
    reader = parts.parts[parts.parts.index(block) + 1]
    title = f"{block.title} of {name}" if name else "Dense block"
    facts = (
        f"{counted(len(block.layers), 'layer')}, growth rate k = {block.growth_rate:,}, "
        f"{block.channels_text}, {counted(block.connections, 'connection')}, maps of {times(block.out_sides)}"
    )
    dashed = f"Dashed: what {_called(reader)} reads, which is no layer of the block."
    notes = [block_sentence(block, reader), dashed, *parts.notes]
    if len(block.layers) <= MOST_DETAILED and max(block.in_channels, block.growth_rate) > MOST_PLANES:
        notes.append(f"Of more than {MOST_PLANES} maps {MOST_PLANES} are drawn.")
    return page(block_marks(block, reader), title, facts, tuple(notes))


def block_sentence(block: Part, reader: Part) -> str:
    """What the layers of a dense block read, and the number of its connections."""
    reads = [f"{channels:,}" for channels in block.layers]
    shown = reads if len(reads) <= _MOST_NUMBERS else [*reads[:3], "...", reads[-1]]
    layers = "The layer reads" if len(reads) == 1 else "The layers read"
    return (
        f"{layers} {', '.join(shown)} and {_called(reader)} reads {block.out_channels:,}; "
        f"{counted(block.connections, 'connection')}."
    )


def _called(reader: Part) -> str:
    """What reads a block, in a sentence: the classifier, or transition 2."""
    name = reader.title.lower()
    return name if name[-1].isdecimal() else f"the {name}"


def _node_notes(parts: NetworkParts) -> list[str]:
    """What the nodes of a network's drawing are, and the lines over them."""
    stages = parts.stages
    links = {stage.links for stage in stages}
    notes = []
    if links - {"fractal"}:
        layer = "layer" if links & {"dense", "carry"} else "unit"
        notes.append(f"Upright numbers: channels that a {layer} reads.")
    if "dense" in links:
        notes.append(f"Arcs: connections, {sum(stage.connections for stage in stages):,} in all blocks.")
    if "shortcut" in links:
        notes.append("Arcs: shortcuts.")
    if "carry" in links:
        notes.append("Dashed arcs: what a layer carries past its convolution.")
    if "fractal" in links:
        notes.append("Boxes: convolutions; bars: joins.")
    return [" ".join(notes)] if notes else []
