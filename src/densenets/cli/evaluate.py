"""`densenets evaluate RUN`: error rates, per-class table and confusion matrix of a run or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from densenets.cli.arguments import parse
from densenets.figures.numbers import images_text
from densenets.files import json_text
from densenets.names import printable
from densenets.terminal import console, plain


@dataclass(frozen=True)
class EvaluateOptions:
    """What an evaluation is made on, and how it is told."""

    run: Path
    """A run's folder or a checkpoint file."""
    data: str = ""
    """A named set, or a folder: its test/, else val/, else class folders; by default the run's own images."""
    root: Path | None = None
    """Where a named set lies (imagenet: the folder that holds val/)."""
    crops: Literal[1, 10] = 1
    """Of folders: the central crop, or ten (corners, centre, mirrored) whose logits are averaged."""
    column: int | None = None
    """Of a FractalNet: the column that runs alone, 0 the shallowest."""
    out: Path | None = None
    """Folder for evaluation.json and the confusion matrix as a picture."""
    json: bool = False
    """Print JSON."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 evaluates under autocast."""
    batch_size: int = 100
    """Images of a batch, on each process."""
    workers: int = 2
    """Processes that decode images of folders."""
    skip_broken: bool = False
    """Leave out images that cannot be decoded, naming them."""


def evaluate(arguments: list[str]) -> None:
    """Evaluate a run or a checkpoint; print a table or JSON, and write files if asked to."""
    options = parse(EvaluateOptions, arguments, "evaluate")
    from densenets.checkpoint import read_checkpoint
    from densenets.distributed import joined_ranks
    from densenets.evaluation import EvaluationOptions, evaluate_on, images_of
    from densenets.models.baselines.fractalnet import run_one_column
    from densenets.report.evaluation import write_evaluation

    checkpoint = read_checkpoint(options.run)
    if options.column is not None:
        run_one_column(checkpoint.model, options.column)
    asked = EvaluationOptions(
        data=options.data,
        root=options.root,
        crops=options.crops,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        skip_broken=options.skip_broken,
    )
    images = images_of(checkpoint, asked)
    with joined_ranks(options.device) as ranks:
        result = evaluate_on(checkpoint, images, asked, ranks)
        is_first = ranks.is_first
    facts = {
        "checkpoint": str(options.run),
        "data": options.data or checkpoint.details["data"]["name"],
        "source": images.source,
        "crops": options.crops,
        **result.to_dict(checkpoint.classes),
    }
    if is_first and options.out:
        write_evaluation(facts, checkpoint.classes, options.out)
    if is_first:
        print(json_text(facts)) if options.json else print_evaluation(facts)


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
