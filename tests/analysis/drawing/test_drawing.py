"""What drawings show: channels and connections of the networks, and nothing that covers another thing."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import Any

import pytest
import torchvision

from densenets.analysis.drawing.compute import (
    MOST_LAYERS_OF_BLOCK,
    PARTS,
    Style,
    draw_dense_block,
    draw_network,
)
from densenets.analysis.drawing.drawing import Arc, Bounds, Box, Drawing, Line, MapStack, Text
from densenets.analysis.drawing.network_parts import NetworkParts
from densenets.analysis.drawing.text_size import LINE_HEIGHT
from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.densenet_rows import block_config, block_table
from densenets.models.layer_table import layer_table
from densenets.models.network_input import for_input
from densenets.models.registry import FAMILIES, NETWORKS, named_config


def drawn(name: str, image: str = "", **options: Any) -> Drawing:
    config, sides = for_input(named_config(name), image)
    return draw_network(name, config, layer_table(name, config, sides), **options)


def parts_of(name: str) -> NetworkParts:
    config, sides = for_input(named_config(name), "")
    return PARTS[config.family](config, layer_table(name, config, sides))


def dense_block(in_channels: int, layers: int, growth_rate: int, *, bottleneck: bool = False) -> Drawing:
    config = block_config(in_channels, layers, growth_rate, 2, bottleneck=bottleneck)
    table = block_table(in_channels, layers, growth_rate, (32, 32), bottleneck=bottleneck)
    return draw_dense_block(config, table)


def texts(drawing: Drawing) -> list[str]:
    return [mark.text for mark in drawing.marks if isinstance(mark, Text)]


def connections(drawing: Drawing) -> int:
    """The lines that are connections of layers: arcs, and in a small block the straight ones to the next."""
    arcs = sum(isinstance(mark, Arc) and mark.kind == "connection" for mark in drawing.marks)
    lines = sum(
        isinstance(mark, Line) and mark.source is not None and not mark.is_reader for mark in drawing.marks
    )
    return arcs + lines


def test_the_papers_worked_example_is_drawn() -> None:
    drawing = dense_block(1, 5, 4)
    assert [text for text in texts(drawing) if text.startswith("reads")] == [
        "reads 1", "reads 5", "reads 9", "reads 13", "reads 17", "reads 21",
    ]  # fmt: skip
    assert connections(drawing) == 15
    # And six dashed ones to the transition: one straight, of the last layer's maps.
    assert sum(isinstance(mark, Arc) and mark.kind == "reader" for mark in drawing.marks) == 5
    stacks = [mark for mark in drawing.marks if isinstance(mark, MapStack)]
    assert [stack.planes for stack in stacks] == [1, 4, 4, 4, 4, 4]
    assert drawing.notes[0] == "The layers read 1, 5, 9, 13, 17 and the transition reads 21; 15 connections."


@pytest.mark.parametrize("layers", [1, 2, 8, 9, 64])
def test_a_block_of_any_depth_has_its_connections(layers: int) -> None:
    assert connections(dense_block(16, layers, 12)) == layers * (layers + 1) // 2


def test_arcs_end_at_what_reads_them() -> None:
    drawing = dense_block(1, 5, 4)
    boxes = sorted((mark for mark in drawing.marks if isinstance(mark, Box)), key=lambda box: box.left)
    stacks = sorted(
        (mark for mark in drawing.marks if isinstance(mark, MapStack)), key=lambda stack: stack.left
    )
    ends = []
    for arc in (mark for mark in drawing.marks if isinstance(mark, Arc)):
        source = next(n for n, stack in enumerate(stacks) if _spans(stack.bounds, arc.start[0]))
        target = next(n for n, box in enumerate(boxes) if _spans(box.bounds, arc.end[0]))
        assert arc.source == source / 5
        ends.append((source, target))
    # Target t reads sources 0 ... t; the last of them by a straight line.
    assert sorted(ends) == [(source, target) for source in range(5) for target in range(source + 1, 6)]


def _spans(bounds: Bounds, x: float) -> bool:
    return bounds[0] <= x <= bounds[2]


def test_channels_of_densenet121_are_torchvisions() -> None:
    features = torchvision.models.densenet121().features
    stages = parts_of("densenet121").stages
    assert [len(stage.layers) for stage in stages] == [6, 12, 24, 16]
    for number, stage in enumerate(stages, start=1):
        block = getattr(features, f"denseblock{number}")
        assert list(stage.layers) == [layer.norm1.num_features for layer in block.values()]
        assert stage.growth_rate == block["denselayer1"].conv2.out_channels
    transitions = [part for part in parts_of("densenet121").parts if part.role == "transition"]
    for number, part in enumerate(transitions, start=1):
        conv = getattr(features, f"transition{number}").conv
        assert (part.in_channels, part.out_channels) == (conv.in_channels, conv.out_channels)
    drawing = drawn("densenet121")
    shown = texts(drawing)
    for text in (
        "6 layers, k = 32", "64 → 256 channels", "56×56", "256 → 128", "56×56 → 28×28", "24 layers, k = 32",
        "256 → 1,024 channels", "1,024 → 512", "14×14 → 7×7", "1,024 → 1,000 classes", "7×7 conv, stride 2",
    ):  # fmt: skip
        assert text in shown
    assert drawing.facts == "7,978,856 parameters, 2.83 G multiply-adds for an image of 3×224×224"


@pytest.mark.parametrize("name", ["densenet-40-12", "densenet121"])
def test_a_network_has_an_arc_a_connection(name: str) -> None:
    config = named_config(name)
    assert isinstance(config, DenseNetConfig)
    drawing = drawn(name, style="network")
    total = sum(block.connections for block in config.blocks())
    assert connections(drawing) == total
    assert f"{total:,} in all blocks" in drawing.notes[0]
    numbers = [mark.text for mark in drawing.marks if isinstance(mark, Text) and mark.upright]
    reads = [str(channels) for block in config.blocks() for channels in block.layer_in_channels]
    assert [number for number in numbers if number.isdecimal()] == reads


def test_a_block_of_a_network_is_drawn_with_what_reads_it() -> None:
    third = drawn("densenet121", block=3)
    assert "reads 1,024" in texts(third)
    assert "256, 288, 320, ..., 992 and transition 3 reads 1,024; 300 connections" in third.notes[0]
    last = drawn("densenet121", block=4)
    assert last.title == "Dense block 4 of densenet121"
    assert "Classifier" in texts(last)
    assert "the classifier reads 1,024; 136 connections" in last.notes[0]


def test_shortcuts_are_drawn_where_there_are_any() -> None:
    def arcs(name: str, kind: str) -> int:
        marks = drawn(name, style="network").marks
        return sum(isinstance(mark, Arc) and mark.kind == kind for mark in marks)

    assert arcs("resnet50", "shortcut") == 3 + 4 + 6 + 3
    assert arcs("plain-20", "shortcut") == 0
    assert arcs("highway-19", "carry") == 4 + 5 + 5
    assert connections(drawn("resnet50")) == 0


def test_a_fractal_block_has_its_convolutions_and_joins() -> None:
    marks = drawn("fractalnet-20").marks
    roles = [mark.role for mark in marks if isinstance(mark, Box)]
    # Three columns of 1, 2 and 4 convolutions, joined at half way and at the end.
    assert roles.count("layer") == 5 * (1 + 2 + 4)
    assert roles.count("transition") == 5 * 2


def test_baselines_are_described_by_their_tables() -> None:
    shown = texts(drawn("resnet50", style="chain"))
    assert {"3 residual units", "64 → 256 channels", "56×56 → 28×28", "2,048 → 1,000 classes"} <= set(shown)
    assert "1×1 conv-BN-ReLU-3×3 conv-BN-ReLU-1×1 conv-BN" in drawn("resnet50").notes[-1]
    assert {"2×2 max pool", "5 highway layers", "32 → 80"} <= set(texts(drawn("highway-19", style="chain")))
    assert "In training companion classifiers read convolutions 1, 4, 7." in drawn("dsn").notes
    assert "without a shortcut" in drawn("plain-20").notes[-1]
    assert "the last with probability 0.5" in drawn("stochastic-depth-110").notes[-1]


def test_volumes_signals_and_headless_networks_are_drawn() -> None:
    assert "7×7×7 conv, stride 2" in texts(drawn("densenet121", "1x64x64x64", style="network"))
    signals = texts(drawn("densenet-22-12", "2x128"))
    assert {"size-3 conv", "128 → 64"} <= set(signals)
    config = DenseNetConfig(
        block_layers=(1,), growth_rate=4, bottleneck=False, compression=1.0, stem="cifar", stem_channels=1,
        num_classes=0,
    )  # fmt: skip
    table = layer_table("small", config, (8, 8))
    assert {"Pooling", "5 features"} <= set(texts(draw_network("small", config, table)))
    assert "The layer reads 1 and the pooling reads 5; 1 connection." in (
        draw_network("small", config, table, block=1).notes
    )


def test_every_family_is_drawn() -> None:
    assert PARTS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_drawn_and_nothing_covers_another(name: str) -> None:
    styles: list[Style] = ["auto", "chain"]
    if "1202" not in name:
        styles.append("network")
    for style in styles:
        drawing = drawn(name, style=style)
        assert drawing.title == name
        _check_places(drawing)


@pytest.mark.parametrize("layers", [1, 5, 8, 9, 64, 256])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_nothing_of_a_block_covers_another(layers: int, bottleneck: bool) -> None:
    _check_places(dense_block(1024, layers, 48, bottleneck=bottleneck))


def _check_places(drawing: Drawing) -> None:
    """All is on the page; boxes and texts lie apart from each other, or one within the other."""
    left, bottom, right, top = drawing.bounds
    for mark in drawing.marks:
        assert left < mark.bounds[0] <= mark.bounds[2] < right
        assert bottom < mark.bounds[1] <= mark.bounds[3] < top
    boxes = [mark.bounds for mark in drawing.marks if isinstance(mark, Box | MapStack)]
    texts = [_ink(mark) for mark in drawing.marks if isinstance(mark, Text)]
    places = sorted(boxes + texts)
    for number, first in enumerate(places):
        # From left to right, those that begin before this one ends.
        for second in islice(places, number + 1, bisect_left(places, (first[2],))):
            is_inside = _is_inside(first, second) or _is_inside(second, first)
            assert is_inside or not _overlap(first, second), (first, second)


def _ink(text: Text) -> Bounds:
    """Where a text's letters are, of whose line's height a part is a gap."""
    left, bottom, right, top = text.bounds
    gap = text.size * (LINE_HEIGHT - 0.8) / 2
    return (left + gap, bottom, right - gap, top) if text.upright else (left, bottom + gap, right, top - gap)


def _overlap(first: Bounds, second: Bounds) -> bool:
    slack = 0.01
    return (
        first[0] < second[2] - slack
        and second[0] < first[2] - slack
        and first[1] < second[3] - slack
        and second[1] < first[3] - slack
    )


def _is_inside(inner: Bounds, outer: Bounds) -> bool:
    slack = 0.01
    return (
        inner[0] >= outer[0] - slack
        and inner[1] >= outer[1] - slack
        and inner[2] <= outer[2] + slack
        and inner[3] <= outer[3] + slack
    )


def test_auto_draws_layers_where_they_are_few() -> None:
    def has_panels(name: str) -> bool:
        return any(isinstance(mark, Box) and mark.role == "panel" for mark in drawn(name).marks)

    assert has_panels("densenet-bc-100-12")
    assert has_panels("resnet50")
    assert not has_panels("densenet121")
    assert not has_panels("resnet1202")
    assert not has_panels("nin")


def test_what_cannot_be_drawn_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="resnet50 has no dense blocks; take --style network"):
        drawn("resnet50", style="block")
    with pytest.raises(
        InputError, match=r"block must be in 1 \.\.\. 4, the dense blocks of densenet121, got 5"
    ):
        drawn("densenet121", block=5)
    with pytest.raises(InputError, match="the style chain draws all blocks"):
        drawn("densenet121", style="chain", block=1)
    with pytest.raises(InputError, match="up to 400 layers, resnet1202 has 600; take --style chain"):
        drawn("resnet1202", style="network")
    with pytest.raises(InputError, match="up to 256 layers, this one has 257"):
        dense_block(1, MOST_LAYERS_OF_BLOCK + 1, 1)
