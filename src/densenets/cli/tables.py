"""Tables for the terminal: plain data in, text out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.table import Table

from densenets.figures.text import bytes_text, console, images_text, plain, plain_title, short
from densenets.models.layer_table.rows import NetworkFacts
from densenets.models.registry import NAME_FORMS
from densenets.names import printable
from densenets.ops.execution import Choice


def print_summary(facts: NetworkFacts, execution: Choice) -> None:
    """Print a network layer by layer, and how its blocks would run on this machine's CPU."""
    has_blocks = facts.knows_stored_bytes
    table = Table(title=plain_title(f"{facts.name} for {_times(facts.input_shape)} inputs"), box=None)
    for column in ("layer", "maps"):
        table.add_column(column)
    counts = ("reads", "adds", "hands on", "connections") if has_blocks else ("reads", "makes")
    stored = ("stored", "recompute", "fused", "lean") if has_blocks else ()
    for column in (*counts, "parameters", "multiply-adds", *stored):
        table.add_column(column, justify="right")
    for layer in facts.layers:
        links = [f"{layer.hands_on}", f"{layer.connections or ''}"] if has_blocks else []
        table.add_row(
            layer.name,
            _times(layer.size),
            f"{layer.reads}",
            f"{layer.adds}",
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
            f"the layers read {', '.join(str(layer.reads) for layer in layers)} and the transition "
            f"reads {transition.reads}; {facts.total('connections')} connections"
        )
    if not has_blocks:
        out.print("makes: channels of the maps that a layer hands on", style="dim")
        return
    out.print(
        "stored, recompute, fused, lean: float32 activations that training keeps for the backward pass, one "
        "image, in the executions reference, recompute, fused and fused-lean; multiply-adds in the paper's "
        "order (transitions convolve, then pool; fused ones pool first)",
        style="dim",
    )
    out.print(f"execution on this machine's CPU: {execution}", style="dim")


def _quantities(facts: NetworkFacts, value: Callable[[str], int]) -> list[str]:
    """The cells of a row that can be summed, but for the connections."""
    _, parameters, multiply_adds, *stored = facts.quantities
    return [
        f"{value(parameters):,}",
        f"{value(multiply_adds):,}",
        *(bytes_text(value(name)) for name in stored),
    ]


def print_models(rows: list[dict[str, Any]]) -> None:
    """Print the networks that have a name."""
    table = Table(box=None)
    left = ("model", "input")
    for column in (
        "model",
        "L",
        "k",
        "input",
        "parameters",
        "printed",
        "multiply-adds",
        "published top-1 error (%)",
    ):
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        errors = ", ".join(f"{data} {error:g}" for data, error in row["published_errors"].items())
        table.add_row(
            row["name"],
            f"{row['depth']}",
            f"{row['growth_rate'] or ''}",
            _times(row["input"]),
            f"{row['parameters']:,}",
            _printed(row),
            short(row["multiply_adds"]),
            errors or "-",
        )
    out = console()
    out.print(table)
    out.print(
        f"and any of {', '.join(NAME_FORMS)}; + is with standard augmentation; L is the longest path (a Wide "
        "ResNet's name counts two more); printed: parameters as the paper prints them, ! where its own rules "
        "give others",
        style="dim",
        markup=False,
    )


def _printed(row: dict[str, Any]) -> str:
    millions = row["printed_parameters"]
    if millions is None:
        return ""
    return f"{millions:g}M" + ("" if abs(row["parameters"] / (1e6 * millions) - 1) < 0.05 else " !")


def print_recipes(rows: list[dict[str, Any]]) -> None:
    """Print the recipes with what they cost."""
    table = Table(box=None)
    for column in (
        "recipe",
        "epochs",
        "batch",
        "parameters",
        "multiply-adds",
        "training",
        "published error (%)",
    ):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['epochs']}",
            f"{row['batch_size']}",
            f"{row['parameters']:,}" if row["parameters"] else "-",
            short(row["multiply_adds"]),
            short(row["training_multiply_adds"]),
            "-" if row["published_error"] is None else f"{row['published_error']:g}",
        )
    out = console()
    out.print(table)
    out.print(
        "multiply-adds of one image's forward pass, and of the whole training (3 forward passes an image "
        "and epoch); the published error is the authors', not measured here. A recipe is DATA-NETWORK or, "
        "for the peers' own training, DATA-own-NETWORK; DATA is cifar10, cifar100, cifar10-plain, "
        "cifar100-plain (without augmentation), svhn, fashion-mnist or imagenet",
        style="dim",
    )


def print_evaluation(facts: dict[str, Any]) -> None:
    """Print what an evaluation found."""
    out = console()
    table = Table(box=None)
    table.add_column("class")
    for column in ("images", "top-1 error (%)"):
        table.add_column(column, justify="right")
    table.add_column("most often taken for")
    for row in facts["per_class"]:
        error = row["top1_error"]
        table.add_row(
            plain(row["class"]),
            f"{row['images']}",
            "-" if error is None else f"{error:.2f}",
            plain(row["most_often_taken_for"] or ""),
        )
    out.print(table)
    source = printable(f" of {facts['source']}") if "source" in facts else ""
    out.print(
        f"top-1 error {facts['top1_error']:.2f}%, top-5 error {facts['top5_error']:.2f}%, "
        f"loss {facts['loss']:.4f} on {facts['images']} {images_text(facts.get('split', ''))}{source}; "
        f"{facts['images_per_second']:.0f} images/s",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _times(sizes: tuple[int, ...] | list[int]) -> str:
    return "x".join(str(size) for size in sizes)
