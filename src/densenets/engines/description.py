"""What stands in an exported file beside its graph: the checkpoint's description, and how it was exported.

The names are those of a checkpoint's metadata, and `export`; each is a text, all but `format` JSON. They lie
in ONNX's metadata_props, in OpenVINO's rt_info below `densenets`, and in a .pt2 archive as the extra file
densenets.json. Needs no engine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from densenets.checkpoint import Description, read_metadata
from densenets.errors import InputError
from densenets.schema import parse_json, read

FORMAT = "densenets-export-1"  # "format" in the metadata
SECTION = "densenets"  # of rt_info
WEIGHTS_DIGEST = "weights_sha256"  # in rt_info, of the .bin file
EXTRA_FILE = "densenets.json"  # of a .pt2 archive

Format = Literal["onnx", "openvino", "torch-export", "aot-inductor"]
FORMATS: tuple[Format, ...] = get_args(Format)
Dynamic = Literal["batch", "size"]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Comparison of an exported network with the checkpoint's own, in the engine, on real images.

    Attributes:
        images: how many, and where they are from.
        source: where they lie, for people.
        difference: the largest difference of two logits.
        spread: the largest logit less the smallest, of the checkpoint's network on these images.
        agreement: percent of the images whose likeliest class is the same.
    """

    images: int
    source: str
    difference: float
    spread: float
    agreement: float

    @property
    def relative(self) -> float:
        """The largest difference as a share of the spread of logits."""
        return self.difference / self.spread if self.spread else float(self.difference > 0)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What quantisation to 8 bits cost, measured in the engine.

    Attributes:
        calibration_images: how many the ranges of activations are from.
        images: how many the accuracies are from.
        source: where those lie, for people.
        top1_before: percent, of the file in float32.
        top1_after: percent, of the file with 8 bits.
    """

    calibration_images: int
    images: int
    source: str
    top1_before: float
    top1_after: float

    @property
    def loss(self) -> float:
        """Points of top-1 accuracy that are lost."""
        return self.top1_before - self.top1_after


@dataclass(frozen=True, kw_only=True)
class ExportFacts:
    """How a network was exported.

    Attributes:
        format: of the file.
        input: "float32" of normalised images; "uint8" of pixels, which the graph normalises.
        dynamic: what of the input may have any size: "batch", "size"; what is not named is as exported, one
            image at a time of the preprocessing's image_size.
        precision: of the convolutions.
        verification: None in a draft that has not been verified.
        quantization: of a file in int8.
        versions: of the packages that made the file.
    """

    format: Format
    input: Literal["float32", "uint8"]
    dynamic: tuple[Dynamic, ...]
    precision: Literal["float32", "int8"]
    verification: Verification | None
    quantization: Quantization | None
    versions: dict[str, str]


@dataclass(frozen=True)
class ExportDescription:
    """The metadata of an exported file.

    Attributes:
        network: of the checkpoint: config, classes, preprocessing, details.
        facts: how it was exported.
    """

    network: Description
    facts: ExportFacts

    def metadata(self) -> dict[str, str]:
        """The texts that are stored, from which `read_export_metadata` makes it again."""
        fields = json.dumps(dataclasses.asdict(self.facts), allow_nan=False)
        return {"format": FORMAT, **self.network.metadata("the file was not exported"), "export": fields}


def read_export_metadata(metadata: Mapping[str, str], file: object) -> ExportDescription:
    """The description in the metadata of an exported file.

    Raises:
        InputError: the file is another program's, or its description is broken.
    """
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{file} was not written by densenets export: its metadata have no format {FORMAT}, and so no "
            "classes and no preprocessing; export the checkpoint with: densenets export CHECKPOINT"
        )
    error_start = f"{file} does not describe a network"
    network = read_metadata(metadata, error_start)
    if "export" not in metadata:
        raise InputError(f"{error_start}: the metadata have no export")
    fields: Any = parse_json(metadata["export"], f"{error_start}: export is no JSON")
    return ExportDescription(network, read(ExportFacts, fields, f"{error_start}: export"))
