"""Analyses as tables for the terminal: plain data in, text out."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from densenets.report.text import console


def print_reuse(data: dict[str, Any]) -> None:
    """Print what a heat map says block by block."""
    table = Table(box=None, title=f"feature reuse of {data['checkpoint']}")
    columns = (
        "block",
        "layers",
        "input",
        "layer before",
        "far layers",
        "reader",
        "first",
        "middle",
        "last third",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "reader" else "right")
    for block, row in zip(data["blocks"], data["summary"], strict=True):
        table.add_row(
            f"{row['block']}",
            f"{len(block['targets']) - 1}",
            *(_value(row[name]) for name in ("input", "next", "far")),
            block["targets"][-1],
            *(_value(third) for third in row["reader"]),
        )
    out = console()
    out.print(table)
    out.print(
        f"means of the {data['meaning']}; of dense layers by the weights of their {data['through']}: to the "
        "block's input, to the layer directly before, to layers three or more before; then of what reads the "
        "whole block, by thirds of its sources",
        style="dim",
    )


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
