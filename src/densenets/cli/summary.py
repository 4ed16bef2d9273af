"""`densenets summary MODEL`: a network layer by layer. Needs no PyTorch unless a checkpoint is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.table import Table

from densenets.cli.command import Command
from densenets.cli.network_options import DENSE_BLOCK, NetworkOptions, shown_network
from densenets.figures.numbers import bytes_text, shape_text
from densenets.files import json_text
from densenets.models.layer_rows import LayerTable
from densenets.ops.execution import Choice, choose_execution
from densenets.terminal import console, plain_title, print_table


@dataclass(frozen=True)
class SummaryOptions(NetworkOptions):
    """The network that is shown, and for what input."""

    json: bool = False
    """Print JSON."""


def summary(options: SummaryOptions) -> None:
    """Print a network layer by layer, as a table or JSON."""
    _, facts = shown_network(options)
    execution = choose_execution("auto", device="cpu", dtype="float32")
    if options.json:
        print(json_text({**facts.to_dict(), "execution": str(execution)}))
    else:
        print_summary(facts, execution)


COMMAND = Command(title="summary", options=SummaryOptions, call=summary)


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
    print_table(out, table)
    if facts.name == DENSE_BLOCK:
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
