"""`densenets summary MODEL`: a network layer by layer. Needs no PyTorch unless a checkpoint is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table

from densenets.cli.arguments import Command
from densenets.figures.numbers import bytes_text, shape_text
from densenets.files import json_text
from densenets.models.densenet_rows import block_table
from densenets.models.layer_rows import LayerTable
from densenets.models.layer_table import layer_table
from densenets.models.network_config import NetworkConfig
from densenets.models.network_input import for_input, read_shape
from densenets.models.registry import named_config
from densenets.ops.execution import Choice, choose_execution
from densenets.terminal import console, plain_title


@dataclass(frozen=True)
class SummaryOptions:
    """The network that is shown, and for what input."""

    model: str
    """A name of the zoo, a run's folder, a checkpoint, or dense-block for a bare block."""
    input: str = ""
    """Channels and sides, such as 3x32x32; by default those that the network was made for."""
    layers: int = 5
    """Of dense-block: its layers."""
    growth_rate: int = 4
    """Of dense-block: channels that a layer adds."""
    bottleneck: bool = False
    """Of dense-block: a 1x1 convolution before each 3x3."""
    num_classes: int = 0
    """Width of the classifier; 0 for the model's own."""
    json: bool = False
    """Print JSON."""


def summary(options: SummaryOptions) -> None:
    """Print a network layer by layer, as a table or JSON."""
    if options.model == "dense-block":
        channels, *block_sides = read_shape(options.input or "1x32x32")
        facts = block_table(
            channels,
            options.layers,
            options.growth_rate,
            tuple(block_sides),
            bottleneck=options.bottleneck,
        )
    else:
        config, sides = for_input(_summarized_config(options.model), options.input)
        config = dataclasses.replace(config, num_classes=options.num_classes or config.num_classes)
        facts = layer_table(options.model, config, sides)
    execution = choose_execution("auto", device="cpu", dtype="float32")
    if options.json:
        print(json_text({**facts.to_dict(), "execution": str(execution)}))
    else:
        print_summary(facts, execution)


COMMAND = Command(title="summary", options=SummaryOptions, call=summary)


def _summarized_config(model: str) -> NetworkConfig:
    if not Path(model).exists():
        return named_config(model)
    from densenets.checkpoint import read_checkpoint

    return read_checkpoint(model).model.config


def print_summary(facts: LayerTable, execution: Choice) -> None:
    """Print a network layer by layer, and how its blocks would run on this machine's CPU."""
    has_blocks = facts.has_stored_bytes
    table = Table(title=plain_title(f"{facts.name} for {shape_text(facts.input_shape)} inputs"), box=None)
    for column in ("layer", "maps"):
        table.add_column(column)
    counts = ("reads", "adds", "outputs", "connections") if has_blocks else ("reads", "makes")
    stored = ("stored", "recompute", "fused", "lean") if has_blocks else ()
    for column in (*counts, "parameters", "multiply-adds", *stored):
        table.add_column(column, justify="right")
    for layer in facts.layers:
        links = [f"{layer.out_channels}", f"{layer.connections or ''}"] if has_blocks else []
        table.add_row(
            layer.name,
            shape_text(layer.size),
            f"{layer.in_channels}",
            f"{layer.new_channels}",
            *links,
            *_quantities(facts, partial(getattr, layer)),
        )
    table.add_section()
    connections = ["", f"{facts.total('connections')}"] if has_blocks else []
    table.add_row("total", *[""] * 3, *connections, *_quantities(facts, facts.total))
    out = console()
    out.print(table)
    if facts.name == "dense-block":
        *layers, transition = facts.layers
        out.print(
            f"the layers read {', '.join(str(layer.in_channels) for layer in layers)} and the transition "
            f"reads {transition.in_channels}; {facts.total('connections')} connections"
        )
    if not has_blocks:
        out.print("makes: channels of what a layer outputs", style="dim")
        return
    out.print(
        "stored, recompute, fused, lean: float32 activations that training keeps for the backward pass, one "
        "image, in the executions reference, recompute, fused and fused-lean; multiply-adds in the paper's "
        "order (transitions convolve, then pool; fused ones pool first)",
        style="dim",
    )
    out.print(f"execution on this machine's CPU: {execution}", style="dim")


def _quantities(facts: LayerTable, value: Callable[[str], int]) -> list[str]:
    """The cells of a row's quantities but the connections."""
    _, parameters, multiply_adds, *stored = facts.quantities
    return [
        f"{value(parameters):,}",
        f"{value(multiply_adds):,}",
        *(bytes_text(value(name)) for name in stored),
    ]
