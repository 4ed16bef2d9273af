"""What the page says, section by section: an overview in, texts and numbers for the template out."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from densenets.analysis.learning_curves import watched_value
from densenets.analysis.reuse.compute import BlockReuse, FeatureReuse, reuse_summary
from densenets.analysis.reuse.figure import layer_values
from densenets.analysis.run_facts import RunFacts
from densenets.figures.text import bytes_text, duration, images_text, milliseconds, short
from densenets.models.layer_rows import LayerTable
from densenets.report.mistakes import Mistake
from densenets.report.overview import Overview

MOST_NAMED_CLASSES = 30  # with more a table cannot be taken in
_CONFUSIONS = 20
_SMALL_SIDE = 64  # pixels: pictures up to it are kept to the last bit
_CELL, _GAP = 10, 4  # of a heat map, in its own units
_EXECUTIONS = (
    ("stored_reference", "reference", "every concatenation and every activation"),
    ("stored_recompute", "recompute", "the maps and the bottlenecks; the rest is made again"),
    ("stored_fused", "fused", "the maps once in the block's buffer, and the bottlenecks"),
    ("stored_fused_lean", "fused-lean", "the maps once in the block's buffer"),
)

Values = dict[str, Any]


def headline(overview: Overview) -> list[tuple[str, str]]:
    """The figures that come first."""
    facts, found = overview.facts, overview.evaluation
    shown = []
    if found:
        split = found.get("split", "test")  # an older version's run says nothing else
        shown.append(("error" if split == "all" else f"{split} error", f"{found['top1_error']:.2f}%"))
        if len(overview.classes) > 10:
            shown.append(("top-5 error", f"{found['top5_error']:.2f}%"))
    shown += [
        ("parameters", f"{facts.total('parameters'):,}"),
        ("multiply-adds an image", short(facts.total("multiply_adds"))),
    ]
    if found and "training_seconds" in found:
        shown.append(("training", duration(found["training_seconds"])))
    if facts.has_stored_bytes:
        shown.append(("direct connections", f"{facts.total('connections'):,}"))
    return shown


def result(overview: Overview) -> Values | None:
    """The result in a sentence; None without one."""
    found = overview.evaluation
    if not found:
        return None
    loss = "a loss that is not a number" if found["loss"] is None else f"a loss of {found['loss']:.4f} nats"
    right = found["images"] - round(found["top1_error"] * found["images"] / 100)
    images = f"{found['images']:,} {images_text(found.get('split', 'test'))}"
    return {
        "sentence": (
            f"{right:,} of {images} are classified right: a top-1 error of "
            f"{found['top1_error']:.2f}%, a top-5 error of {found['top5_error']:.2f}% and {loss}."
        )
    }


def epochs(run: RunFacts) -> list[Values]:
    """The epochs of a run with what was watched, whichever images that were."""
    return [
        {
            **line,
            "watched_error": watched_value(line, "top1_error"),
            "watched_loss": watched_value(line, "loss"),
        }
        for line in run.metrics
        if line["kind"] == "epoch"
    ]


def confusion_cells(overview: Overview) -> list[Values]:
    """The rows of a confusion matrix of few classes."""
    found = overview.evaluation
    if not found or len(overview.classes) > MOST_NAMED_CLASSES:
        return []
    rows = []
    for label, (name, counts) in enumerate(zip(overview.classes, found["confusion"], strict=True)):
        images = sum(counts)
        shares = [count / images if images else 0.0 for count in counts]
        rows.append(
            {
                "name": name,
                "images": images,
                "error": f"{100 * (1 - shares[label]):.1f}" if images else "-",
                "cells": [
                    {
                        "share": f"{share:.3f}",
                        "count": count,
                        "right": place == label,
                        "text": f"{100 * share:.0f}" if share >= 0.005 else "·" if count else "",
                    }
                    for place, (share, count) in enumerate(zip(shares, counts, strict=True))
                ],
            }
        )
    return rows


def confusion_pairs(overview: Overview) -> list[Values]:
    """The most frequent confusions, the most frequent first."""
    assert overview.evaluation is not None
    counts = np.array(overview.evaluation["confusion"])
    images = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_CONFUSIONS]
    pairs = [(int(place // len(counts)), int(place % len(counts))) for place in order]
    return [
        {
            "true": overview.classes[true],
            "predicted": overview.classes[guess],
            "count": int(counts[true, guess]),
            "share": f"{100 * counts[true, guess] / images[true]:.0f}%",
        }
        for true, guess in pairs
        if counts[true, guess]
    ]


def mistakes(found: Sequence[Mistake]) -> list[Values]:
    """The worst mistakes with their pictures."""
    return [
        {
            "name": mistake.name,
            "image": _data_uri(mistake),
            "width": mistake.pixels.shape[2],
            "height": mistake.pixels.shape[1],
            "true": mistake.true,
            "true_share": _share(mistake.true_probability),
            "predicted": mistake.predicted,
            "predicted_share": _share(mistake.predicted_probability),
        }
        for mistake in found
    ]


def _share(probability: float) -> str:
    return "below 0.1%" if probability < 0.001 else f"{100 * probability:.1f}%"


def _data_uri(mistake: Mistake) -> str:
    """The pixels inside the page: small pictures as they are, photographs as JPEG."""
    pixels = mistake.pixels.permute(1, 2, 0).squeeze(-1).numpy()
    picture, content = Image.fromarray(pixels), io.BytesIO()
    kind = "png" if max(picture.size) <= _SMALL_SIDE else "jpeg"
    picture.save(content, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def network_sentence(overview: Overview) -> str:
    """What the network is, in a sentence."""
    facts = overview.facts
    size = "x".join(str(side) for side in facts.input_shape)
    return (
        f"{overview.network}, {len(overview.classes)} classes, images of {size}: depth "
        f"{overview.config.depth}, {facts.total('parameters'):,} parameters, "
        f"{facts.total('multiply_adds'):,} multiply-adds a forward pass."
    )


def layer_table(facts: LayerTable) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the summary."""
    stored = facts.has_stored_bytes
    columns = ["layer", "maps", "reads", "adds" if stored else "makes"]
    columns += ["behind it", "connections"] if stored else []
    columns += ["parameters", "multiply-adds"]
    columns += ["stored, reference", "stored, fused"] if stored else []
    rows = []
    for layer in facts.layers:
        row = [layer.name, "x".join(str(side) for side in layer.size)]
        row += [f"{layer.in_channels:,}", f"{layer.new_channels:,}"]
        row += [f"{layer.out_channels:,}", f"{layer.connections or ''}"] if stored else []
        row += [f"{layer.parameters:,}", f"{layer.multiply_adds:,}"]
        row += [bytes_text(layer.stored_reference), bytes_text(layer.stored_fused)] if stored else []
        rows.append(row)
    return columns, rows


def heat(reuse: FeatureReuse) -> Values:
    """The heat maps: cells with their colours, the scales, and the means."""
    largest = max(float(layer_values(block).max()) for block in reuse.blocks) or 1.0
    return {
        "sentence": (
            f"The {reuse.meaning}, of dense layers by their {reuse.through}: a column is what a layer gives "
            "to each of its sources. All dense layers are on one scale; what reads a whole block, the column "
            "that stands apart, is on a scale up to its own largest."
        ),
        "blocks": [_heat_block(block, largest) for block in reuse.blocks],
        "scales": [
            {"colours": _gradient("viridis"), "largest": f"{largest:.3g}", "label": "dense layers"},
            {
                "colours": _gradient("cividis"),
                "largest": "its largest",
                "label": "what reads the whole block",
            },
        ],
        "summary": [
            {
                "block": row["block"],
                **{name: _number(row[name]) for name in ("input", "next", "earlier")},
                "reader": block.targets[-1],
                "thirds": [_number(third) for third in row["reader"]],
            }
            for block, row in zip(reuse.blocks, reuse_summary(reuse), strict=True)
        ],
    }


def _heat_block(block: BlockReuse, largest: float) -> Values:
    last = len(block.targets) - 1
    cells = []
    for target, name in enumerate(block.targets):
        weights = block.of_target(target)
        whole = max(weights) or 1.0
        for source, weight in enumerate(weights):
            share = weight / (whole if target == last else largest)
            giver = "the block's input" if source == 0 else f"layer {block.sources[source]}"
            cells.append(
                {
                    "x": _CELL * target + (_GAP if target == last else 0),
                    "y": _CELL * source,
                    "colour": _hex("cividis" if target == last else "viridis", share),
                    "title": f"{name if target == last else f'layer {name}'} reads {giver}: {weight:.4g}",
                }
            )
    return {
        "number": block.number,
        "layers": last,
        "reader": block.targets[last],
        "width": _CELL * len(block.targets) + _GAP,
        "height": _CELL * len(block.sources),
        "label": f"heat map of dense block {block.number}; its means stand in the table below",
        "cells": cells,
    }


def _hex(colours: str, share: float) -> str:
    red, green, blue, _ = (round(255 * part) for part in colormaps[colours](share))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _gradient(colours: str) -> str:
    return ",".join(_hex(colours, place / 8) for place in range(9))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def stored_rows(facts: LayerTable) -> list[list[str]]:
    """What each execution keeps of an image."""
    return [[name, bytes_text(facts.total(quantity)), kept] for quantity, name, kept in _EXECUTIONS]


def costs(overview: Overview) -> Values | None:
    """The measured steps; None without one."""
    measured = [row for row in overview.costs if row["step_ms"] is not None]
    if not measured:
        return None
    phases = ("forward_ms", "backward_ms", "optimizer_ms", "step_ms")
    return {
        "batch": measured[0]["batch"],
        "device": measured[0]["device"],
        "rows": [
            [
                row["ran"],
                *(milliseconds(row[phase]) for phase in phases),
                bytes_text(row["memory_bytes"]),
            ]
            for row in measured
        ],
    }


def commands(overview: Overview) -> list[str]:
    """The commands that made the run, and the page."""
    starts = overview.run.starts if overview.run else ()
    return list(dict.fromkeys(shlex.join(start["command"]) for start in (*starts, overview.machine)))


def tables(overview: Overview) -> list[tuple[str, list[tuple[str, str]]]]:
    """Recipe, preprocessing and versions, as titles and pairs."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    if overview.run:
        for group, fields in overview.run.recipe.to_dict().items():
            if isinstance(fields, dict):
                found.append((f"Recipe: {group}", [(name, _text(value)) for name, value in fields.items()]))
    elif overview.details:
        found.append(("Checkpoint", _pairs(overview.details)))
    found.append(("Pictures", [(name, _text(v)) for name, v in overview.preprocessing.to_dict().items()]))
    starts = overview.run.starts if overview.run else ()
    if starts:
        found.append(("Trained with", _versions(starts[-1])))
    found.append(("This page", _versions(overview.machine)))
    return found


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
