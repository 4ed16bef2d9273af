"""`densenets evaluate RUN`: error rates, per-class table and confusion matrix of a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from densenets.cli.command import Command
from densenets.cli.engine_options import EngineName, opened_classifier
from densenets.cli.unfinished_run import tell_if_unfinished
from densenets.data.data_config import require_package_of
from densenets.errors import InputError
from densenets.evaluation_options import EvaluationOptions
from densenets.extras import has_extra
from densenets.figures.numbers import images_text
from densenets.files import json_text
from densenets.names import printable
from densenets.progress import progress_bar
from densenets.records import tells_top5
from densenets.terminal import console, plain, print_table


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is evaluated, and where the result goes."""

    run: Path
    """A run's folder, a checkpoint file, or an exported file (.onnx, .xml, .pt2)."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    column: int | None = None
    """Of a FractalNet: the column that runs alone, 0 the shallowest."""
    out: Path | None = None
    """Folder for evaluation.json and the confusion matrix as a picture."""
    json: bool = False
    """Print JSON."""
    device: str = "auto"
    """auto, cpu, cuda, ...; exported files run on the CPU."""
    engine: EngineName = "auto"
    """What runs it; auto takes what it was exported for, and PyTorch for a run or a checkpoint."""
    trust: bool = False
    """Open a .pt2 file, which runs the code in it: only if you know who made it."""


def evaluate(options: EvaluateOptions) -> None:
    """Evaluate a network; print a table or JSON, and write files if asked to."""
    require_package_of(options.evaluation.data)
    from densenets.checkpoint import Checkpoint
    from densenets.distributed import joined_ranks
    from densenets.evaluation import evaluate_on, images_of, write_evaluation
    from densenets.models.baselines.fractalnet import run_one_column

    classifier, device = opened_classifier(options.run, options.engine, options.device, trust=options.trust)
    tell_if_unfinished(options.run, classifier.details)
    if not isinstance(classifier, Checkpoint):
        if options.column is not None or options.evaluation.precision != "float32":
            raise InputError(
                "--column and --precision are of checkpoints; an exported file computes as it is"
            )
    elif options.column is not None:
        run_one_column(classifier.model, options.column)
    images = images_of(classifier, options.evaluation)
    draws = options.out is not None and has_extra("plots", "confusion.png")
    with joined_ranks(device) as ranks, progress_bar() as bar:
        task = bar.add_task("Evaluating", total=len(images.images) // ranks.shard.world_size)
        result = evaluate_on(
            classifier, images, options.evaluation, ranks, lambda labels, _: bar.advance(task, len(labels))
        )
        is_first = ranks.is_first
    facts = {
        "checkpoint": str(options.run),
        "data": options.evaluation.data or classifier.details["data"]["name"],
        "source": images.source,
        "crops": options.evaluation.crops,
        "engine": classifier.engine,
        **result.to_dict(classifier.classes),
    }
    if is_first and options.out:
        if draws:
            from densenets.analysis.confusion_figure import write_confusion

            write_confusion(facts["confusion"], classifier.classes, options.out / "confusion")
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
    engine = f" by {facts['engine']}" if "engine" in facts else ""
    out.print(
        f"top-1 error {facts['top1_error']:.2f}%, {top5}"
        f"loss {facts['loss']:.4f} on {facts['images']} {images_text(facts.get('split', ''))}{source}; "
        f"{facts['images_per_second']:.0f} images/s{engine}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
