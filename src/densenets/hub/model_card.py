"""Model cards: README.md of a checkpoint at the Hugging Face Hub, with what the checkpoint tells of itself.

Texts out of files stand as JSON or in code, so that they do not become markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from densenets.checkpoint import Checkpoint
from densenets.figures.numbers import images_text, shape_text
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import name_of
from densenets.names import printable
from densenets.records import tells_top5

_MOST_CLASSES = 100  # that are listed


def model_card(checkpoint: Checkpoint, repo_id: str) -> str:
    """The text of README.md: metadata of the Hub, figures, and how the checkpoint is used from Python.

    Args:
        checkpoint: what the card is of.
        repo_id: the repository that the checkpoint is loaded from, such as "me/my-densenet".
    """
    sections = {
        "Use": _use(checkpoint, repo_id),
        "Network": _network(checkpoint),
        "Errors": _errors(checkpoint),
        "Origin": _origin(checkpoint.details),
        "Preprocessing": _preprocessing(checkpoint),
        "Classes": _classes(checkpoint.classes),
    }
    title = f"# {printable(repo_id.rpartition('/')[2])}\n"
    texts = [f"## {name}\n\n{text}\n" for name, text in sections.items() if text]
    return "\n".join([_metadata(checkpoint, repo_id), title, *texts])


def _metadata(checkpoint: Checkpoint, repo_id: str) -> str:
    """The block of YAML that the Hub reads; its values are JSON, which YAML includes."""
    fields: dict[str, Any] = {
        "library_name": "densenets",
        "tags": ["densenets", checkpoint.model.config.family],
    }
    if _reads_pictures(checkpoint):
        fields["pipeline_tag"] = "image-classification"
    if result := _index_result(checkpoint.details):
        fields["model-index"] = [{"name": repo_id.rpartition("/")[2], "results": [result]}]
    lines = [f"{name}: {_json(value)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _index_result(details: Mapping[str, Any]) -> dict[str, Any] | None:
    """The accuracy on a named data set, as the Hub's lists of results take it."""
    evaluation, data = _evaluation(details), _data_name(details)
    if evaluation is None or data in (None, "folder"):
        return None
    accuracy = round(1 - evaluation["top1_error"] / 100, 6)
    return {
        "task": {"type": "image-classification"},
        "dataset": {"type": data, "name": data, "split": str(evaluation.get("split", ""))},
        "metrics": [{"type": "accuracy", "name": "top-1 accuracy", "value": accuracy}],
    }


def _use(checkpoint: Checkpoint, repo_id: str) -> str:
    config, preprocessing = checkpoint.model.config, checkpoint.preprocessing
    sides = (preprocessing.image_size,) * config.spatial_dims
    shape = ", ".join(str(size) for size in (1, config.in_channels, *sides))
    outputs = f"{config.num_classes} logits" if checkpoint.classes else f"{config.num_features} features"
    return (
        '`pip install "densenets[hub]"`, and in Python:\n\n'
        "```python\n"
        "import densenets, torch\n"
        f"trained = densenets.HubModel.from_pretrained({_json(repo_id)})\n"
        f"logits = trained.model(torch.rand({shape}))  # an image, preprocessed as below -> {outputs}\n"
        "```"
    )


def _network(checkpoint: Checkpoint) -> str:
    config = checkpoint.model.config
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    name = name_of(config)
    lines = [
        f"{name}, a {config.title}" if name else f"a {config.title}",
        f"depth: {config.depth} layers; {parameters:,} parameters",
        f"input: {config.in_channels} channels, {config.spatial_dims} dimensions",
    ]
    if isinstance(config, DenseNetConfig):
        layers = ", ".join(str(count) for count in config.block_layers)
        sizes = f"growth rate {config.growth_rate}, compression {config.compression:g}"
        lines.insert(1, f"blocks of {layers} layers, {sizes}")
    return _list(lines)


def _errors(checkpoint: Checkpoint) -> str:
    """Error rates of the run's evaluation, or those that training noted with the checkpoint."""
    details, classes = checkpoint.details, len(checkpoint.classes)
    lines = []
    if (evaluation := _evaluation(details)) is not None:
        split, images = evaluation.get("split", ""), evaluation.get("images")
        of = images_text(split if split in ("training", "validation", "test") else "")
        lines.append(
            f"top-1 error: {evaluation['top1_error']:.2f}%"
            + (f", top-5 error: {evaluation['top5_error']:.2f}%" if tells_top5(classes) else "")
            + (f", on {images:,} {of}" if isinstance(images, int) else f", on {of}")
        )
    else:
        for split in ("validation", "test"):
            if _is_percent(error := details.get(f"{split}_top1_error")):
                lines.append(f"top-1 error: {error:.2f}%, on {images_text(split)}, as training noted it")
    return _list(lines) or "The checkpoint tells none."


def _origin(details: Mapping[str, Any]) -> str:
    source = details.get("source")
    source = source if isinstance(source, dict) else {}
    facts = {
        "recipe": details.get("recipe"),
        "epoch": details.get("epoch"),
        "data set": _data_name(details),
        "converted from": source.get("file"),
        "which was written by": source.get("form"),
        "SHA-256 of that file": source.get("sha256"),
    }
    return _list([f"{what}: {_code(fact)}" for what, fact in facts.items() if isinstance(fact, str | int)])


def _preprocessing(checkpoint: Checkpoint) -> str:
    preprocessing = checkpoint.preprocessing
    side, channels = preprocessing.image_size, preprocessing.channels
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (preprocessing.mean, preprocessing.std))
    values = (
        f"{channels} channel{'s' if channels > 1 else ''} of pixels / 255, minus {mean}, divided by {std}."
    )
    if not _reads_pictures(checkpoint):
        return values
    return (
        f"Shorter side resized to {preprocessing.resize} pixels (bilinear), central crop of "
        f"{shape_text((side, side))}, {values} `densenets predict model.safetensors PICTURE` does so."
    )


def _reads_pictures(checkpoint: Checkpoint) -> bool:
    """Whether the network classifies pictures, not signals or volumes."""
    return bool(checkpoint.classes) and checkpoint.model.config.spatial_dims == 2


def _classes(classes: tuple[str, ...]) -> str:
    if not classes:
        return ""
    more = len(classes) - _MOST_CLASSES
    rest = f"\n\nand {more} more, which `trained.classes` has." if more > 0 else ""
    listed = "\n".join(_json(name) for name in classes[:_MOST_CLASSES])  # no line can begin with a fence
    return f"{len(classes)}, in the order of the logits:\n\n```json\n{listed}\n```{rest}"


def _evaluation(details: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The result that `HubModel.from_pretrained` has put beside a run's checkpoint, if it is one."""
    evaluation = details.get("evaluation")
    if not isinstance(evaluation, dict):
        return None
    is_result = all(_is_percent(evaluation.get(field)) for field in ("top1_error", "top5_error"))
    return evaluation if is_result else None


def _data_name(details: Mapping[str, Any]) -> str | None:
    data = details.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None


def _is_percent(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _code(value: object) -> str:
    return f"`{printable(str(value)).replace('`', chr(39))}`"


def _json(value: object) -> str:
    return printable(json.dumps(value, ensure_ascii=False))
