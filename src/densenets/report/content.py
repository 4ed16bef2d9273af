"""Texts and numbers of the page's sections, from an overview."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from densenets.figures.numbers import bytes_text, duration, images_text, milliseconds, shape_text, short
from densenets.models.layer_rows import STORED_BYTES, LayerTable
from densenets.records import tells_top5
from densenets.report.mistakes import Mistake
from densenets.report.overview import Overview

_SMALL_SIDE = 64  # pixels: pictures up to it are kept to the last bit
_STORED_TEXTS = {
    "reference": "every concatenation and every activation",
    "recompute": "the maps and the bottlenecks; the rest is made again",
    "fused": "the maps once in the block's buffer, and the bottlenecks",
    "fused-lean": "the maps once in the block's buffer",
}


@dataclass(frozen=True, kw_only=True)
class ShownMistake:
    """A `Mistake` as the page shows it.

    Attributes:
        name: of the picture.
        image: its pixels as a data URI.
        width: in pixels.
        height: in pixels.
        true: its class.
        true_share: probability of that class.
        predicted: the class that it was taken for.
        predicted_share: probability of that class.
    """

    name: str
    image: str
    width: int
    height: int
    true: str
    true_share: str
    predicted: str
    predicted_share: str


@dataclass(frozen=True, kw_only=True)
class MeasuredSteps:
    """The measured training steps.

    Attributes:
        batch: images of a step.
        device: on which they ran.
        rows: execution, milliseconds an image of each phase, and memory, as shown.
    """

    batch: int
    device: str
    rows: tuple[tuple[str, ...], ...]


def headline(overview: Overview) -> list[tuple[str, str]]:
    """Labels and values of the numbers at the head of the page."""
    facts, evaluation = overview.facts, overview.evaluation
    shown = []
    if evaluation:
        split = evaluation.reported_split
        shown.append(("error" if split == "all" else f"{split} error", f"{evaluation.top1_error:.2f}%"))
        if len(overview.classes) > 10:
            shown.append(("top-5 error", f"{evaluation.top5_error:.2f}%"))
    shown += [
        ("parameters", f"{facts.total('parameters'):,}"),
        ("multiply-adds an image", short(facts.total("multiply_adds"))),
    ]
    if evaluation and evaluation.training_seconds is not None:
        shown.append(("training", duration(evaluation.training_seconds)))
    if facts.has_stored_bytes:
        shown.append(("direct connections", f"{facts.total('connections'):,}"))
    return shown


def result_sentence(overview: Overview) -> str:
    """The result in a sentence; empty without one."""
    evaluation = overview.evaluation
    if not evaluation:
        return ""
    loss, count = evaluation.loss, evaluation.images
    loss_text = "a loss that is not a number" if loss is None else f"a loss of {loss:.4f} nats"
    right = count - round(evaluation.top1_error * count / 100)
    top5 = f", a top-5 error of {evaluation.top5_error:.2f}%" if tells_top5(len(overview.classes)) else ""
    return (
        f"{right:,} of {count:,} {images_text(evaluation.reported_split)} are classified right: a top-1 "
        f"error of {evaluation.top1_error:.2f}%{top5} and {loss_text}."
    )


def shown_mistakes(mistakes: Sequence[Mistake]) -> list[ShownMistake]:
    """The worst mistakes with their pictures."""
    return [
        ShownMistake(
            name=mistake.name,
            image=_data_uri(mistake),
            width=mistake.pixels.shape[2],
            height=mistake.pixels.shape[1],
            true=mistake.true,
            true_share=_share(mistake.true_probability),
            predicted=mistake.predicted,
            predicted_share=_share(mistake.predicted_probability),
        )
        for mistake in mistakes
    ]


def _share(probability: float) -> str:
    return "below 0.1%" if probability < 0.001 else f"{100 * probability:.1f}%"


def _data_uri(mistake: Mistake) -> str:
    """The pixels inside the page: small pictures as they are, photographs as JPEG."""
    pixels = mistake.pixels.permute(1, 2, 0).squeeze(-1).numpy()
    picture, content = Image.fromarray(pixels), io.BytesIO()
    form = "png" if max(picture.size) <= _SMALL_SIDE else "jpeg"
    picture.save(content, form, quality=85)
    return f"data:image/{form};base64,{base64.b64encode(content.getvalue()).decode()}"


def network_sentence(overview: Overview) -> str:
    """Name, depth and size of the network, in a sentence."""
    facts = overview.facts
    size = shape_text(facts.input_shape)
    return (
        f"{overview.network}, {len(overview.classes)} classes, images of {size}: depth "
        f"{overview.config.depth}, {facts.total('parameters'):,} parameters, "
        f"{facts.total('multiply_adds'):,} multiply-adds a forward pass."
    )


def layer_table(facts: LayerTable) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the network's layer table."""
    stored = facts.has_stored_bytes
    columns = ["layer", "maps", "reads", "adds" if stored else "makes"]
    columns += ["behind it", "connections"] if stored else []
    columns += ["parameters", "multiply-adds"]
    columns += ["stored, reference", "stored, fused"] if stored else []
    rows = []
    for layer in facts.layers:
        row = [layer.name, shape_text(layer.size), f"{layer.in_channels:,}", f"{layer.new_channels:,}"]
        row += [f"{layer.out_channels:,}", f"{layer.connections or ''}"] if stored else []
        row += [f"{layer.parameters:,}", f"{layer.multiply_adds:,}"]
        row += [bytes_text(layer.stored_reference), bytes_text(layer.stored_fused)] if stored else []
        rows.append(row)
    return columns, rows


def stored_rows(facts: LayerTable) -> list[list[str]]:
    """Execution, activations stored for one image, and what they are, as shown."""
    return [
        [execution, bytes_text(facts.total(STORED_BYTES[execution])), text]
        for execution, text in _STORED_TEXTS.items()
    ]


def measured_steps(overview: Overview) -> MeasuredSteps | None:
    """The measured steps; None without one."""
    measured = [row for row in overview.costs if not row.failed]
    if not measured:
        return None
    return MeasuredSteps(
        batch=measured[0].batch,
        device=measured[0].device,
        rows=tuple(
            (
                row.ran,
                milliseconds(row.forward_ms),
                milliseconds(row.backward_ms),
                milliseconds(row.optimizer_ms),
                milliseconds(row.step_ms),
                bytes_text(row.memory_bytes),
            )
            for row in measured
        ),
    )


def commands(overview: Overview) -> list[str]:
    """The commands that made the run, and the page."""
    starts = overview.run.starts if overview.run else ()
    return list(dict.fromkeys(shlex.join(start["command"]) for start in (*starts, overview.machine)))


def tables(overview: Overview) -> list[tuple[str, list[tuple[str, str]]]]:
    """Recipe, preprocessing and versions, as titles and pairs."""
    shown: list[tuple[str, list[tuple[str, str]]]] = []
    if overview.run:
        for group, fields in overview.run.recipe.to_dict().items():
            if isinstance(fields, dict):
                shown.append((f"Recipe: {group}", [(name, _text(value)) for name, value in fields.items()]))
    elif overview.details:
        shown.append(("Checkpoint", _pairs(overview.details)))
    shown.append(("Pictures", [(name, _text(v)) for name, v in overview.preprocessing.to_dict().items()]))
    starts = overview.run.starts if overview.run else ()
    if starts:
        shown.append(("Trained with", _versions(starts[-1])))
    shown.append(("This page", _versions(overview.machine)))
    return shown


def _versions(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in environment.items() if name != "command"]


def _pairs(details: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested details as one list of pairs."""
    pairs: list[tuple[str, str]] = []
    for name, value in details.items():
        if isinstance(value, Mapping):
            pairs += _pairs(value, f"{before}{name}.")
        else:
            pairs.append((f"{before}{name}", _text(value)))
    return pairs


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None or value == "" else str(value)
