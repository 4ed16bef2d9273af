"""Signal and gradient by depth as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from densenets.analysis.gradients.compute import GradientFlow
from densenets.figures.numbers import significant
from densenets.terminal import console, plain_title, print_table


def print_gradients(flow: GradientFlow) -> None:
    """Print losses and the ratios of signal and gradient, network by network."""
    table = Table(box=None, title=plain_title(f"signal and gradient by depth, {flow.data}"))
    for column in ("setting", "network", "steps", "loss", "training loss", "signal", "gradient"):
        table.add_column(column, justify="left" if column in ("setting", "network") else "right")
    for row in flow.summary():
        values = (row.loss, row.training_loss, row.signal_ratio, row.gradient_ratio)
        table.add_row(row.setting, row.model, f"{row.step}", *(significant(value, 3) for value in values))
    out = console()
    print_table(out, table)
    for network in flow.networks:
        if network.note:
            out.print(f"{network.model}, {network.setting}: {network.note}", markup=False)
    for setting, meaning in flow.meaning.items():
        out.print(f"{setting}: {meaning}", style="dim")
    out.print(
        "signal, gradient: of the first tenth of the layers by that of the last tenth; a gradient far below "
        "1 vanishes on its way to the image, one far above explodes; losses in nats",
        style="dim",
    )
