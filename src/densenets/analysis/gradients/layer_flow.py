"""Signal and gradient of every layer of a network, for one batch of images.

Batch normalisation and the scale of initial weights decide about them as much as shortcuts and dense
connections do, so a network can be put into several settings; see `SETTINGS`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.analysis.gradients.gradients_config import Setting
from densenets.data.batches import Batch
from densenets.models.baselines.fractalnet import RunningStatistics
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.densenet import DenseNet
from densenets.models.initialization import he_normal_, xavier_uniform_
from densenets.models.network import Network

_OFF_THE_PATH = {"gate", "downsample", "companions"}  # what decides or leads past is no layer of depth


@dataclass(frozen=True, kw_only=True)
class LayerFlow:
    """Signal and gradient of one convolution; None for what is not finite.

    Means are over all values of all images: of a mean over 2x2 pixels each gets a quarter of the gradient.

    Attributes:
        name: as in the state dict.
        signal: root mean square of its output.
        gradient: root mean square of the gradient of the loss, summed over images, by its output, in nats.
        weight_gradient: root mean square of the gradient of the mean loss by its weights.
        relative_gradient: the same by the root mean square of the weights.
    """

    name: str
    signal: float | None
    gradient: float | None
    weight_gradient: float | None
    relative_gradient: float | None


def apply_setting(model: Network, setting: Setting, generator: torch.Generator) -> None:
    """Rebuild a fresh network in place as a setting of `SETTINGS` says.

    Batch normalisations become identities. Weights of all convolutions, gates and projections too, are drawn
    anew by what they read; biases stay, as does the classifier.
    """
    if setting == "paper":
        return
    for module in list(model.modules()):
        if isinstance(module, _ConvNd):
            with torch.no_grad():
                if setting == "xavier":
                    xavier_uniform_(module.weight, generator)
                else:
                    he_normal_(module.weight, "fan_in", generator)
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(module, name, nn.Identity())
            elif isinstance(child, RunningStatistics):
                setattr(module, name, None)


def layer_flows(model: Network, batch: Batch) -> tuple[float | None, tuple[LayerFlow, ...]]:
    """Mean loss of a batch, and signal and gradient of every convolution on the path, in order of running.

    Batch normalisation takes the batch's statistics, as in training; dropout, drop-path and stochastic depth
    are off and companion classifiers silent. A copy of the network is measured: itself, its statistics, its
    gradients and PyTorch's generator stay as they are.

    Args:
        model: any network; of a FractalNet the deepest column is the path.
        batch: on the network's device.
    """
    network = copy.deepcopy(model).eval().requires_grad_(True)
    if isinstance(network, DenseNet):
        network.execution = "reference"  # the others do not call the modules inside
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.train()
    recorded: list[tuple[str, nn.Module, Tensor]] = []
    for name, module in network.named_modules():
        if isinstance(module, _ConvNd) and _is_on_the_path(name, network):
            module.register_forward_hook(
                lambda layer, _, output, name=name: recorded.append((name, layer, output))
            )
    with torch.enable_grad():
        loss = cross_entropy(network(batch.images), batch.labels, reduction="sum")
    names, layers, outputs = zip(*recorded, strict=True)
    weights = [layer.weight for layer in layers]
    gradients = torch.autograd.grad(loss, [*outputs, *weights])
    images = len(batch.labels)
    flows = zip(names, outputs, gradients, weights, gradients[len(outputs) :], strict=False)
    return finite_or_none(loss.detach() / images), tuple(_layer_flow(*flow, images) for flow in flows)


def first_to_last_ratio(values: Sequence[float | None]) -> float | None:
    """The geometric mean of the first tenth of the values (at least one) by that of the last tenth.

    None where one of them is None or the last are 0.
    """
    tenth = math.ceil(len(values) / 10)
    ends = [*values[:tenth], *values[len(values) - tenth :]]
    known = [value for value in ends if value is not None]
    if not known or len(known) < len(ends) or not all(known[tenth:]):
        return None
    if not all(known):
        return 0.0
    logarithms = [math.log(value) for value in known]
    return math.exp((math.fsum(logarithms[:tenth]) - math.fsum(logarithms[tenth:])) / tenth)


def finite_or_none(value: Tensor) -> float | None:
    """A scalar as a float; None for infinity and NaN, which JSON cannot hold."""
    number = float(value)
    return number if math.isfinite(number) else None


def _is_on_the_path(name: str, network: Network) -> bool:
    """Whether a convolution is a layer of depth."""
    parts = name.split(".")
    if isinstance(network.config, FractalNetConfig):
        # blocks.BLOCK.columns.COLUMN.NUMBER.conv
        return parts[3] == str(network.config.columns - 1)
    return not _OFF_THE_PATH.intersection(parts)


def _layer_flow(
    name: str, output: Tensor, gradient: Tensor, weight: Tensor, weight_gradient: Tensor, images: int
) -> LayerFlow:
    of_weights = _rms(weight_gradient) / images
    return LayerFlow(
        name=name,
        signal=finite_or_none(_rms(output)),
        gradient=finite_or_none(_rms(gradient)),
        weight_gradient=finite_or_none(of_weights),
        relative_gradient=finite_or_none(of_weights / _rms(weight)),
    )


def _rms(values: Tensor) -> Tensor:
    """Root mean square, in float64: squares of small float32 numbers would be 0."""
    return values.detach().double().square().mean().sqrt()
