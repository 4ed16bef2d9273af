"""Tables for the terminal: plain data in, text out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.table import Table

from densenets.figures.text import bytes_text, console, images_text, plain, plain_title, short
from densenets.models.layer_rows import LayerTable
from densenets.models.registry import NAME_FORMS
from densenets.names import printable
from densenets.ops.execution import Choice


def print_summary(facts: LayerTable, execution: Choice) -> None:
    """Print a network layer by layer, and how its blocks would run on this machine's CPU."""
    has_blocks = facts.has_stored_bytes
    table = Table(title=plain_title(f"{facts.name} for {_times(facts.input_shape)} inputs"), box=None)
    for column in ("layer", "maps"):
        table.add_column(column)
    counts = ("reads", "adds", "hands on", "connections") if has_blocks else ("reads", "makes")
    stored = ("stored", "recompute", "fused", "lean") if has_blocks else ()
    for column in (*counts, "parameters", "multiply-adds", *stored):
        table.add_column(column, justify="right")
    for layer in facts.layers:
        links = [f"{layer.out_channels}", f"{layer.connections or ''}"] if has_blocks else []
        table.add_row(
            layer.name,
            _times(layer.size),
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
        out.print("makes: channels of the maps that a layer hands on", style="dim")
        return
    out.print(
        "stored, recompute, fused, lean: float32 activations that training keeps for the backward pass, one "
        "image, in the executions reference, recompute, fused and fused-lean; multiply-adds in the paper's "
        "order (transitions convolve, then pool; fused ones pool first)",
        style="dim",
    )
    out.print(f"execution on this machine's CPU: {execution}", style="dim")


def _quantities(facts: LayerTable, value: Callable[[str], int]) -> list[str]:
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


def print_benchmark(report: dict[str, Any], *, stderr: bool = False) -> None:
    """Print what a benchmark measured: of each case a table of time and one of memory.

    Args:
        report: of `run_benchmarks`.
        stderr: print to standard error, where standard output is for JSON.
    """
    out = console(stderr=stderr)
    for name, case in report["cases"].items():
        sizes = _times([case["in_channels"], *case["sides"]])
        what = "training steps" if case["mode"] == "train" else "forward passes"
        out.print(f"{name}: {what} of {case['model']}, batch {case['batch']} of {sizes}", markup=False)
        if not case["only_memory"]:
            out.print(_time_table(case["rows"]))
        out.print(_memory_table(case["rows"]))
        for remark in _remarks(case):
            out.print(remark, markup=False, style="dim")
        out.print()
    peaks = [
        f"{precision} {peak['gigaflops']:,.0f} GFLOP/s ({peak['measured_by']})"
        for precision, peak in report["peaks"].items()
    ]
    if "failed" in report:
        peaks = [f"unknown, failed: {report['failed']}"]
    out.print(
        f"{report['device']}, torch {report['torch']}; peak: {', '.join(peaks) or 'not measured'}. FLOPs are "
        "the network's own, without what is recomputed. Memory is above the process with its libraries "
        "loaded: resident as the system sees it, in use without what the allocator holds in reserve.",
        style="dim",
        markup=False,
    )


def print_depths(lines: list[dict[str, Any]], *, stderr: bool = False) -> None:
    """Print memory in use against depth.

    Args:
        lines: each the name of a variant, in_use_bytes (depth -> bytes, None if it failed), and residual and
            activations_residual (of the straight line that fits best, as a share of the value, and the same
            without weights and their gradients; None without three values).
        stderr: print to standard error, where standard output is for JSON.
    """
    table = Table(title="memory in use against depth", box=None)
    table.add_column("depth", justify="right")
    for line in lines:
        table.add_column(line["variant"], justify="right")
    for depth in lines[0]["in_use_bytes"]:
        table.add_row(f"{depth}", *(bytes_text(line["in_use_bytes"][depth]) for line in lines))
    table.add_section()
    table.add_row("off a line by", *(_percent(line["residual"]) for line in lines))
    table.add_row(
        "without weights and gradients", *(_percent(line["activations_residual"]) for line in lines)
    )
    console(stderr=stderr).print(table)


def _time_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("time", no_wrap=True)
    for column in ("median (ms)", "min ... max (ms)", "GFLOP/s", "of peak", "faster"):
        table.add_column(column, justify="right")
    for row in rows:
        if "failed" in row:
            table.add_row(row["variant"], "failed")
            continue
        table.add_row(
            row["variant"],
            f"{1000 * row['median_seconds']:,.1f}",
            f"{1000 * row['min_seconds']:,.1f} ... {1000 * row['max_seconds']:,.1f}",
            f"{row['gigaflops']:,.1f}",
            _percent(row["share_of_peak"]),
            _ratio(row["times_faster"]),
        )
    return table


def _memory_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("memory", no_wrap=True)
    for column in ("resident", "in use"):
        for heading in (column, "of fastest", "of leanest"):
            table.add_column(heading, justify="right")
    for row in rows:
        if "failed" in row:
            table.add_row(row["variant"], "failed")
            continue
        cells = []
        for memory in ("peak", "in_use"):
            cells.append(bytes_text(row[f"{memory}_bytes"]))
            cells += [_ratio(row[f"{memory}_of_{other}"]) for other in ("fastest", "leanest")]
        table.add_row(row["variant"], *cells)
    return table


def _remarks(case: dict[str, Any]) -> list[str]:
    """Why variants failed, and what the ratios are to."""
    remarks = []
    for row in case["rows"]:
        if "failed" in row:
            remarks.append(f"{row['variant']} failed: {row['failed']}")
        if "in_use_failed" in row:
            remarks.append(f"{row['variant']}, memory in use, failed: {row['in_use_failed']['failed']}")
    remarks += case["notes"]
    measured = [row for row in case["rows"] if "failed" not in row]
    for row in {row["precision"]: row for row in measured}.values():
        peak, in_use = row["leanest_peak"] or "-", row["leanest_in_use"] or "-"
        leanest = peak if peak == in_use else f"{peak} (resident) and {in_use} (in use)"
        remarks.append(f"{row['precision']}: fastest is {row['fastest'] or '-'}, leanest is {leanest}")
    if any(row["memory_measured_by"] != "VmHWM" for row in measured):
        remarks.append("this system cannot reset the high-water mark: resident memory is at least that much")
    return remarks


def _times(sizes: tuple[int, ...] | list[int]) -> str:
    return "x".join(str(size) for size in sizes)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
