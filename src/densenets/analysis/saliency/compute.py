"""Saliency: the evidence for a class in a picture, dense block by dense block of a DenseNet.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), through the library torchcam. The feature maps of a
layer are added up, each with the mean over its pixels of the gradient of the class's logit as its weight;
what is below zero, evidence against the class, becomes zero (their eqs. 1 and 2).

The layer of a block is the last ReLU before the block's maps are read: that of the transition behind it, of
the last block `relu5`. Grad-CAM is defined of rectified maps: where no value is below zero, a map's weight
alone says whether it speaks for the class. What a block itself gives out are the sums of its convolutions,
of either sign and of any scale, which only the BN of their reader makes comparable. And nothing reads a
block's maps but through that one BN-ReLU, so the gradient there is all that the block does for the class.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchcam.methods import GradCAM

from densenets.checkpoint import Checkpoint
from densenets.data.augmentation import normalize
from densenets.data.images import read_pixels
from densenets.errors import InputError, unknown_name
from densenets.finite import no_finite_logits
from densenets.models.densenet import DenseBlock, DenseNet, Features, Transition
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network import Network
from densenets.names import printable


@dataclass(frozen=True, kw_only=True)
class SaliencyMap:
    """The Grad-CAM map of one dense block.

    Attributes:
        block: its number, from 1.
        layer: the module whose maps were added up.
        values: rows from the top, as shares of the largest value: 0 is no evidence or evidence against the
            class, 1 the strongest for it. All are 0 where `largest` is.
        largest: the largest value before that, in logits by pixels of the map. It cannot be compared with
            that of another block: every block has its own pixels and channels.
    """

    block: int
    layer: str
    values: tuple[tuple[float, ...], ...]
    largest: float

    @property
    def has_evidence(self) -> bool:
        """Whether any pixel speaks for the class. In a map without all values are 0."""
        return self.largest > 0

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; shares to 6 digits."""
        return {
            "block": self.block,
            "layer": self.layer,
            "largest": self.largest,
            "has_evidence": self.has_evidence,
            "values": [[round(value, 6) for value in row] for row in self.values],
        }


@dataclass(frozen=True, kw_only=True)
class SaliencyRow:
    """One dense block's map of one picture, without its values.

    Attributes:
        path: the file.
        explained: the class that the map is of.
        probability: of that class, by the softmax.
        block: number of the dense block, from 1.
        layer: the module whose maps were added up.
        height: of the map, in pixels.
        width: of the map, in pixels.
        largest: as in `SaliencyMap`.
    """

    path: str
    explained: str
    probability: float
    block: int
    layer: str
    height: int
    width: int
    largest: float


@dataclass(frozen=True, kw_only=True)
class ImageSaliency:
    """Evidence that a network finds for a class in one picture.

    Attributes:
        path: the file.
        explained: the class that the maps are of.
        probability: of that class, by the softmax.
        predicted: the likeliest class.
        predicted_probability: of the likeliest class.
        maps: one a dense block, from the first to the last.
        pixels: the crop that the network saw, uint8, channels x size x size.
    """

    path: Path
    explained: str
    probability: float
    predicted: str
    predicted_probability: float
    maps: tuple[SaliencyMap, ...]
    pixels: Tensor = field(repr=False, compare=False)  # tensors have no single answer to ==

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON can hold it."""
        return {
            "path": str(self.path),
            "explained": self.explained,
            "probability": self.probability,
            "predicted": self.predicted,
            "predicted_probability": self.predicted_probability,
            "maps": [saliency_map.to_dict() for saliency_map in self.maps],
        }

    def rows(self) -> list[SaliencyRow]:
        """A row a block."""
        return [
            SaliencyRow(
                path=str(self.path),
                explained=self.explained,
                probability=self.probability,
                block=saliency_map.block,
                layer=saliency_map.layer,
                height=len(saliency_map.values),
                width=len(saliency_map.values[0]),
                largest=saliency_map.largest,
            )
            for saliency_map in self.maps
        ]


def saliency(
    checkpoint: Checkpoint, paths: Sequence[Path], *, class_name: str = "", device: torch.device
) -> Iterator[ImageSaliency]:
    """Explain pictures one after another, in the order given.

    The network is checked at once; each picture is read and run when it is asked for. Between two pictures
    the network is as it was, but on `device`.

    Args:
        checkpoint: network, classes and preprocessing.
        paths: picture files.
        class_name: the class whose evidence is looked for (the first of that name); "" for the likeliest of
            each picture.
        device: where the network computes.

    Raises:
        InputError: the network is no DenseNet of pictures, or does not know the class; later, a picture is
            missing or broken, or the network gives it no finite logits.
    """
    model = _densenet_of_pictures(checkpoint.model).to(device)
    checkpoint.check_pictures()
    index = _class_index(checkpoint.classes, class_name) if class_name else None
    return (_image_saliency(model, checkpoint, path, index, device) for path in paths)


def saliency_layers(config: DenseNetConfig) -> dict[int, str]:
    """Number of each dense block -> the module that makes the maps which are read of it."""
    last = len(config.block_layers)
    return {
        number: "relu5" if number == last else f"features.transition{number}.relu"
        for number in range(1, last + 1)
    }


def _densenet_of_pictures(model: Network) -> DenseNet:
    if not isinstance(model, DenseNet):
        raise InputError(f"the network is a {model.config.title}; Grad-CAM per dense block needs a DenseNet")
    if model.config.spatial_dims != 2:
        raise InputError(
            f"the network has spatial_dims {model.config.spatial_dims}; Grad-CAM of pictures needs one with 2"
        )
    return model


def _class_index(classes: tuple[str, ...], name: str) -> int:
    if name not in classes:
        raise unknown_name("class", name, classes)
    return classes.index(name)


def _image_saliency(
    model: DenseNet, checkpoint: Checkpoint, path: Path, index: int | None, device: torch.device
) -> ImageSaliency:
    preprocessing, classes = checkpoint.preprocessing, checkpoint.classes
    pixels = read_pixels(path, preprocessing)
    images = normalize(pixels[None].to(device), preprocessing)
    layers = saliency_layers(model.config)
    logits, maps = _grad_cam(model, images, list(layers.values()), index)
    if not logits.isfinite().all():
        # torchcam takes what is not a number for zero: it would look like a picture without evidence.
        raise no_finite_logits(printable(str(path)))
    probabilities = logits.softmax(dim=0).tolist()
    predicted = int(logits.argmax())
    explained = predicted if index is None else index
    return ImageSaliency(
        path=path,
        explained=classes[explained],
        probability=probabilities[explained],
        predicted=classes[predicted],
        predicted_probability=probabilities[predicted],
        maps=tuple(
            _saliency_map(number, layer, values)
            for (number, layer), values in zip(layers.items(), maps, strict=True)
        ),
        pixels=pixels,
    )


def _grad_cam(
    model: DenseNet, images: Tensor, layers: Sequence[nn.Module | str], index: int | None
) -> tuple[Tensor, list[Tensor]]:
    """Logits of one image, 1 x C x H x W, and a map of each layer, height x width, in one pass.

    `index` is that of the class, None for the likeliest.
    """
    with _reference_evaluation(model), GradCAM(model, list(layers)) as grad_cam:
        # With a gradient of the image there is one of every layer, frozen weights or not; torchcam asks for
        # no gradient of the weights, so none is left in them. What inference mode made must be cloned for it.
        logits: Tensor = model(images.clone().requires_grad_())
        explained = int(logits.argmax()) if index is None else index
        # Not normalised: torchcam would subtract the smallest value, so that a map's weakest evidence becomes
        # none, and divide by the largest + 1e-8, in which faint maps are lost.
        maps = grad_cam(explained, logits, normalized=False)
    return logits[0].detach().cpu(), [values[0].cpu() for values in maps]


@contextlib.contextmanager
def _reference_evaluation(model: DenseNet) -> Iterator[None]:
    """Run a network in evaluation mode with every module called and the graph kept; restore it afterwards.

    Only "reference" calls all modules whatever hooks they have: "recompute" passes by those of an activation,
    and the fused executions refuse them.
    """
    training = {module: module.training for module in model.modules()}
    parts = (DenseNet, Features, DenseBlock, Transition)
    executions = {module: module.execution for module in model.modules() if isinstance(module, parts)}
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            model.eval()
            model.execution = "reference"
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
        # The network comes first and sets those of all its parts, which then get their own.
        for part, execution in executions.items():
            part.execution = execution


def _saliency_map(block: int, layer: str, values: Tensor) -> SaliencyMap:
    """From what torchcam gives, height x width and not below zero, to shares of the largest."""
    raw = values.double()
    largest = float(raw.max())
    shares = raw / largest if largest > 0 else raw
    return SaliencyMap(
        block=block, layer=layer, values=tuple(tuple(row) for row in shares.tolist()), largest=largest
    )
