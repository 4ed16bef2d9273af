"""Analyses as tables for the terminal: plain data in, text out."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from densenets.figures.text import console, plain, plain_title


def print_reuse(data: dict[str, Any]) -> None:
    """Print what a heat map says block by block."""
    table = Table(box=None, title=plain_title(f"feature reuse of {data['checkpoint']}"))
    columns = (
        "block",
        "layers",
        "input",
        "layer before",
        "earlier layers",
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
            *(_value(row[name]) for name in ("input", "next", "earlier")),
            block["targets"][-1],
            *(_value(third) for third in row["reader"]),
        )
    out = console()
    out.print(table)
    out.print(
        f"means of the {data['meaning']}; of dense layers by the weights of their {data['through']}: to the "
        "block's input, to the layer directly before, to the layers before that; then of what reads the "
        "whole block, by thirds of its sources",
        style="dim",
    )


def _value(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def print_gradients(data: dict[str, Any]) -> None:
    """Print what came of signal and gradient, network by network."""
    table = Table(box=None, title=plain_title(f"signal and gradient by depth, {data['data']}"))
    for column in ("setting", "network", "steps", "loss", "training loss", "signal", "gradient"):
        table.add_column(column, justify="left" if column in ("setting", "network") else "right")
    for row in data["summary"]:
        table.add_row(
            row["setting"],
            row["model"],
            f"{row['step']}",
            *(_value(row[name], 3) for name in ("loss", "training_loss", "signal_ratio", "gradient_ratio")),
        )
    out = console()
    out.print(table)
    for network in data["networks"]:
        if network["note"]:
            out.print(f"{network['model']}, {network['setting']}: {network['note']}", markup=False)
    for setting, meaning in data["meaning"].items():
        out.print(f"{setting}: {meaning}", style="dim")
    out.print(
        "signal, gradient: of the first tenth of the layers by that of the last tenth; a gradient far below "
        "1 vanishes on its way to the image, one far above explodes; losses in nats",
        style="dim",
    )


def print_saliency(data: dict[str, Any]) -> None:
    """Print what was explained in each picture."""
    table = Table(box=None, title=plain_title(f"Grad-CAM of {data['checkpoint']}"))
    for column in ("picture", "explained", "probability", "likeliest", "blocks without evidence"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for image in data["images"]:
        without = [str(found["block"]) for found in image["maps"] if not found["has_evidence"]]
        table.add_row(
            plain(image["path"]),
            plain(image["explained"]),
            f"{image['probability']:.1%}",
            plain(image["predicted"]),
            ", ".join(without) or "-",
        )
    console().print(table)
