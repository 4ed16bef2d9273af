"""Export of a checkpoint: traced, brought to the form of an engine, verified in it, and only then kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from densenets.checkpoint import Checkpoint, read_checkpoint
from densenets.data.augmentation import normalize
from densenets.engines.description import (
    ExportDescription,
    ExportFacts,
    Format,
    Quantization,
    read_export_metadata,
)
from densenets.engines.engine import open_session
from densenets.engines.exported_network import EngineModule, ExportedNetwork
from densenets.export.draft import Draft, QuantizableDraft
from densenets.export.export_config import ExportConfig
from densenets.export.inference_network import PixelNetwork, inference_network
from densenets.export.program import trace
from densenets.export.quantization import QuantizationData, check_loss, measure_loss, quantization_data
from densenets.export.verification import SampleImages, check_bound, compare, sample_images
from densenets.files import write_atomically, write_bytes
from densenets.progress import announcements

_STEPS = 7  # that are announced at most

# The packages that make a file of each form.
_PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "openvino"),
    "torch-export": ("torch",),
    "aot-inductor": ("torch",),
}


@dataclass(frozen=True)
class Export:
    """A file that was exported.

    Attributes:
        file: the file.
        facts: that stand in it.
    """

    file: Path
    facts: ExportFacts

    @property
    def size(self) -> int:
        """Bytes of the file, and of the .bin that belongs to an .xml file."""
        files = [self.file, *([self.file.with_suffix(".bin")] if self.facts.format == "openvino" else [])]
        return sum(file.stat().st_size for file in files)

    @property
    def lines(self) -> tuple[str, ...]:
        """A summary, for people."""
        facts, verified = self.facts, self.facts.verification
        assert verified is not None
        images = "pixels (uint8)" if facts.input == "uint8" else "normalised images (float32)"
        fixed = [name for name in ("batch", "size") if name not in facts.dynamic]
        sizes = {0: "any batch and size", 2: "one at a time"}.get(len(fixed)) or (
            "any batch" if fixed == ["size"] else "one at a time, of any size"
        )
        first = (
            f"{self.file}: {facts.format} of {facts.precision}, {self.size / 1e6:.1f} MB; "
            f"reads {images}, {sizes}"
        )
        second = (
            f"compared with PyTorch's network on {verified.images} images of {verified.source}: "
            f"logits differ by at most {verified.difference:.2g}, {verified.relative:.2g} of their spread; "
            f"the likeliest class is the same on {verified.agreement:.1f}%"
        )
        cost = facts.quantization
        if cost is None:
            return (first, second)
        third = (
            f"top-1 accuracy {cost.top1_before:.2f}% in float32, {cost.top1_after:.2f}% in int8 "
            f"on {cost.images} images of {cost.source}; ranges from {cost.calibration_images} images"
        )
        return (first, second, third)


def export(config: ExportConfig) -> Export:
    """Export a checkpoint.

    Raises:
        InputError: there is no such checkpoint, or no images to verify on; the exported network does not
            compute what the checkpoint's does; 8 bits cost too much; a package or compiler is missing; the
            file cannot be written. Nothing is kept then, and an older file is untouched.
    """
    with announcements(_STEPS) as announce:
        announce("reading the checkpoint and images")
        checkpoint = read_checkpoint(config.checkpoint, "reference")
        checkpoint.check_pictures()
        checkpoint.network(torch.device("cpu"))
        images = sample_images(checkpoint, config.images)
        quantized_on = quantization_data(checkpoint, config) if config.int8 else None
        announce("tracing the network")
        draft = make_draft(checkpoint, config, images.pixels)
        exported = _verified(checkpoint, config, images, draft, announce)
        if quantized_on is not None:
            draft, exported = _quantized(checkpoint, config, images, draft, exported, quantized_on, announce)
        _write(config.file, draft.contents(exported.description.metadata()))
    return Export(config.file, exported.description.facts)


def make_draft(checkpoint: Checkpoint, config: ExportConfig, pixels: Tensor) -> Draft:
    """The network of a checkpoint in the form of an engine, in float32.

    Args:
        checkpoint: with the network.
        config: names the form.
        pixels: uint8 images, N x C x H x W, of the size that it is exported for.

    Raises:
        InputError: there is no compiler, for a form that is compiled.
    """
    network = inference_network(checkpoint.model)
    if config.with_preprocessing:
        network = PixelNetwork(network, checkpoint.preprocessing, sides=2)
    # Of more than one image, if their number may vary: the tracer takes a 1 for one that does not.
    count = 2 if "batch" in config.dynamic else 1
    program = trace(network, input_of(checkpoint, config, pixels[:1].repeat(count, 1, 1, 1)), config.dynamic)
    if config.to == "onnx":
        from densenets.export.onnx_format import onnx_draft

        return onnx_draft(program)
    if config.to == "openvino":
        from densenets.export.openvino_format import openvino_draft

        batch = -1 if "batch" in config.dynamic else 1
        sides = [-1, -1] if "size" in config.dynamic else pixels.shape[2:]
        return openvino_draft(program, [batch, pixels.shape[1], *sides])
    from densenets.export.torch_formats import TorchExportDraft, aot_inductor_draft

    return TorchExportDraft(program) if config.to == "torch-export" else aot_inductor_draft(program)


def input_of(checkpoint: Checkpoint, config: ExportConfig, pixels: Tensor) -> Tensor:
    """What the exported graph reads of uint8 images, N x C x H x W."""
    return pixels if config.with_preprocessing else normalize(pixels, checkpoint.preprocessing)


def _verified(
    checkpoint: Checkpoint,
    config: ExportConfig,
    images: SampleImages,
    draft: Draft,
    announce: Callable[[str], None],
    cost: Quantization | None = None,
) -> ExportedNetwork:
    """The draft in its engine, compared with the checkpoint; in float32 its logits must be the same."""
    announce(f"comparing the network in {'int8' if cost else 'float32'} with PyTorch's")
    exported = _loaded(checkpoint, config, draft, cost)
    verification = compare(
        checkpoint.model, EngineModule(exported), images, checkpoint.preprocessing, config.dynamic
    )
    if cost is None:
        check_bound(verification)
    facts = dataclasses.replace(exported.description.facts, verification=verification)
    description = dataclasses.replace(exported.description, facts=facts)
    # Nothing is written that could not be read again.
    read_export_metadata(description.metadata(), config.file)
    return dataclasses.replace(exported, description=description)


def _quantized(
    checkpoint: Checkpoint,
    config: ExportConfig,
    images: SampleImages,
    draft: Draft,
    exported: ExportedNetwork,
    data: QuantizationData,
    announce: Callable[[str], None],
) -> tuple[Draft, ExportedNetwork]:
    """The network in 8 bits, if that costs no more than it may."""
    announce("quantising")
    assert isinstance(draft, QuantizableDraft)  # as the config has checked
    calibration = input_of(checkpoint, config, data.calibration.pixels)
    quantized = draft.quantized([image[None].numpy() for image in calibration])
    announce("evaluating in float32, then in int8")
    cost = measure_loss(exported, _loaded(checkpoint, config, quantized, None), data)
    check_loss(cost, config.most_loss)
    return quantized, _verified(checkpoint, config, images, quantized, announce, cost)


def _loaded(
    checkpoint: Checkpoint, config: ExportConfig, draft: Draft, cost: Quantization | None
) -> ExportedNetwork:
    """A draft in its engine, from the bytes that its file would have."""
    packages = [*_PACKAGES[config.to], *(["nncf"] if cost and config.to == "openvino" else [])]
    facts = ExportFacts(
        format=config.to,
        input="uint8" if config.with_preprocessing else "float32",
        dynamic=config.dynamic,
        precision="int8" if cost else "float32",
        verification=None,
        quantization=cost,
        versions={name: version(name) for name in packages},
    )
    description = ExportDescription(checkpoint.description, facts)
    session = open_session(config.to, draft.contents(description.metadata()), description)
    return ExportedNetwork(description, session)


def _write(file: Path, contents: Sequence[bytes]) -> None:
    """Write a file, and a .bin that belongs to it; both are whole before either gets its name."""

    def write(opened: IO[bytes]) -> None:
        opened.write(contents[0])
        opened.flush()
        for weights in contents[1:]:
            write_bytes(file.with_suffix(".bin"), weights)

    write_atomically(file, write)
