"""`densenets evaluate RUN`: error rates, per-class table and confusion matrix of a run or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from densenets.cli.command import Command
from densenets.cli.unfinished_run import tell_if_unfinished
from densenets.data.data_config import require_package_of
from densenets.evaluation_options import EvaluationOptions
from densenets.extras import has_extra
from densenets.figures.numbers import images_text
from densenets.files import json_text
from densenets.names import printable
from densenets.records import tells_top5
from densenets.terminal import console, plain, print_table


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is evaluated, and where the result goes."""

    run: Path
    """A run's folder or a checkpoint file."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    column: int | None = None
    """Of a FractalNet: the column that runs alone, 0 the shallowest."""
    out: Path | None = None
    """Folder for evaluation.json and the confusion matrix as a picture."""
    json: bool = False
    """Print JSON."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""


def evaluate(options: EvaluateOptions) -> None:
    """Evaluate a run or a checkpoint; print a table or JSON, and write files if asked to."""
    require_package_of(options.evaluation.data)
    from densenets.checkpoint import read_checkpoint
    from densenets.distributed import joined_ranks
    from densenets.evaluation import evaluate_on, images_of, write_evaluation
    from densenets.models.baselines.fractalnet import run_one_column

    checkpoint = read_checkpoint(options.run)
    tell_if_unfinished(options.run, checkpoint.details)
    if options.column is not None:
        run_one_column(checkpoint.model, options.column)
    images = images_of(checkpoint, options.evaluation)
    draws = options.out is not None and has_extra("plots", "confusion.png")
    with joined_ranks(options.device) as ranks:
        result = evaluate_on(checkpoint, images, options.evaluation, ranks)
        is_first = ranks.is_first
    facts = {
        "checkpoint": str(options.run),
        "data": options.evaluation.data or checkpoint.details["data"]["name"],
        "source": images.source,
        "crops": options.evaluation.crops,
        **result.to_dict(checkpoint.classes),
    }
    if is_first and options.out:
        if draws:
            from densenets.analysis.confusion_figure import write_confusion

            write_confusion(facts["confusion"], checkpoint.classes, options.out / "confusion")
        write_evaluation(facts, options.out)
    if is_first:
        print(json_text(facts)) if options.json else print_evaluation(facts)


COMMAND = Command(title="evaluate", options=EvaluateOptions, call=evaluate, flat=True)


def print_evaluation(facts: dict[str, Any]) -> None:
    """Print the error rates of every class and of all images."""
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
    print_table(out, table)
    top5 = f"top-5 error {facts['top5_error']:.2f}%, " if tells_top5(len(facts["per_class"])) else ""
    source = printable(f" of {facts['source']}") if "source" in facts else ""
    out.print(
        f"top-1 error {facts['top1_error']:.2f}%, {top5}"
        f"loss {facts['loss']:.4f} on {facts['images']} {images_text(facts.get('split', ''))}{source}; "
        f"{facts['images_per_second']:.0f} images/s",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
