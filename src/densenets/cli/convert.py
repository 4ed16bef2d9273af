"""The verb convert: a checkpoint from the DenseNet weights of another program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from densenets.cli.command import Command
from densenets.errors import InputError


@dataclass(frozen=True)
class ConvertOptions:
    """Which weights of another program become a checkpoint, and what they do not say of themselves."""

    source: Path
    """A file of PyTorch, safetensors, Keras or ONNX with a DenseNet, or the name of published weights."""
    out: Path | None = None
    """The checkpoint, a .safetensors file; needed."""
    data: str = ""
    """The named set that it was trained on, such as cifar10; for the names of its classes and their size."""
    mean: tuple[float, ...] = ()
    """Of the pixels in 0 ... 1, for each channel, that training subtracted; without it that of --data."""
    std: tuple[float, ...] = ()
    """Of the pixels in 0 ... 1, for each channel, that training divided by; several are in use for CIFAR."""
    image_size: int = 0
    """Side of the network's input in pixels; 0 for that of --data, or 224 and 32 by the network's stem."""
    classes: Path | None = None
    """A text file of one class name a line, or the folder of class folders; without it those of --data."""
    new_maps: Literal["auto", "first", "last"] = "auto"
    """Where its dense layers put their new maps; auto finds it in the running statistics, or asks."""
    activation: Literal["auto", "relu"] = "auto"
    """Take the activations for ReLUs (relu), whatever the running statistics say."""
    norm_epsilon: float = 0.0
    """Of its batch norms; 0 for the one that the file says, or that of the program that wrote it."""
    new_head: int = 0
    """Classes of a fresh classifier in place of the file's head; 0 keeps the head."""
    in_channels: int = 0
    """Channels of the images, for which the first convolution is adapted; 0 for the network's own."""
    spatial_dims: int = 0
    """3 makes a network for volumes of one for images; 0 for the network's own."""
    keys: bool = False
    """Print what became of every key."""


def convert(options: ConvertOptions) -> None:
    """Convert weights of another program, and print what was recognised."""
    if options.out is None:
        raise InputError("convert needs --out FILE, such as --out network.safetensors")
    from densenets.weights import conversion
    from densenets.weights.conventions import Normalization, read_class_names
    from densenets.weights.conversion import Adaptation
    from densenets.weights.recognition import Unsaid

    converted = conversion.convert(
        options.source,
        options.out,
        data=options.data,
        normalization=Normalization(mean=options.mean, std=options.std, image_size=options.image_size),
        classes=read_class_names(options.classes) if options.classes else (),
        unsaid=Unsaid(
            new_maps=options.new_maps, norm_epsilon=options.norm_epsilon, activation=options.activation
        ),
        adaptation=Adaptation(
            new_head=options.new_head,
            in_channels=options.in_channels,
            spatial_dims=options.spatial_dims,
        ),
    )
    print("\n".join((*converted.lines, *(converted.key_lines if options.keys else ()))))


COMMAND = Command(title="convert", options=ConvertOptions, call=convert)
