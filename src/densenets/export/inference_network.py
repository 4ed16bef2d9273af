"""The network that is exported: a DenseNet's evaluation with fewer operations, in PyTorch's own modules.

- a BN behind a convolution (norm0, norm2) is folded into it; one before a ReLU has another convolution behind
  it, whose zero padding a shift would not pass, and stays as scale and shift
- scale and shift are a BN of mean 0, and of variance 1 with its epsilon: engines know that operation, and
  ONNX Runtime is faster with it than with a multiplication and an addition
- a transition averages before its 1x1 convolution, which needs a quarter of the multiply-adds (of a volume's
  an eighth): both are linear, one over pixels, the other over channels, so they commute, at odd sizes too

Shapes: N batch, C channels, *sides the spatial sides, k growth rate, L layers of a block.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from densenets.data.preprocessing import Preprocessing
from densenets.models.blocks import DenseBlock, DenseLayer, Transition
from densenets.models.densenet import DenseNet
from densenets.models.network import Network
from densenets.ops.reference import reference_dense_block

# Of a BN that divides by 1, in float32 too. Not 0, which PyTorch's older versions refuse.
_EPSILON = 2.0**-20


class InferenceNetwork(nn.Module):
    """A DenseNet as it is exported: N x C x *sides -> N x classes logits, those of `network` to rounding.

    Args:
        network: whose weights are copied; it is not changed.
    """

    def __init__(self, network: DenseNet) -> None:
        super().__init__()
        children = dict(network.features.named_children())
        stem = children["conv0"]
        if "norm0" in children:
            self.stem: nn.Module = nn.Sequential(
                folded(stem, children["norm0"]), nn.ReLU(), copy.deepcopy(children["pool0"])
            )
        else:
            self.stem = copy.deepcopy(stem)
        parts: list[nn.Module] = []
        for child in children.values():
            if isinstance(child, DenseBlock):
                parts.append(_Block(child))
            elif isinstance(child, Transition):
                parts.append(_transition(child))
        self.parts = nn.Sequential(*parts)
        self.last = nn.Sequential(_scale_and_shift(children["norm5"]), nn.ReLU())
        self.sides = list(network.sides)
        self.classifier = copy.deepcopy(network.classifier)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x *sides -> N x classes; without classes, N x num_features."""
        logits: Tensor = self.classifier(self.last(self.parts(self.stem(x))).mean(dim=self.sides))
        return logits


class _Block(nn.Sequential):
    """A dense block: N x C0 x *sides -> N x (C0 + L k) x *sides.

    Each layer's input is concatenated from all outputs before it: to extend one concatenation by another is
    the same result, and slower in ONNX Runtime.
    """

    def __init__(self, block: DenseBlock) -> None:
        super().__init__(*(_layer(layer) for layer in block.values() if isinstance(layer, DenseLayer)))

    def forward(self, x: Tensor) -> Tensor:
        return reference_dense_block(x, self)


class PixelNetwork(nn.Module):
    """A network that normalises by itself: uint8 N x C x *sides of 0 ... 255 -> N x classes logits.

    Args:
        network: reads normalised images.
        preprocessing: that these were made with; resizing and cropping are not part of it.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, sides: int) -> None:
        super().__init__()
        self.network = network
        shape = (1, -1, *[1] * sides)
        mean, std = (
            torch.tensor(v, dtype=torch.float64).view(shape) for v in (preprocessing.mean, preprocessing.std)
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 N x C x *sides -> N x classes."""
        logits: Tensor = self.network(pixels.float() * self.scale + self.shift)
        return logits


def inference_network(network: Network) -> nn.Module:
    """A network as it is exported, with weights of its own.

    A DenseNet is rebuilt; other networks run as their modules say, and the exporters fold what they fold.
    """
    if type(network) is DenseNet:
        return InferenceNetwork(network)
    return copy.deepcopy(network).eval().requires_grad_(False)


def folded(convolution: nn.Module, norm: nn.Module) -> nn.Module:
    """A convolution that computes what it and the BN behind it compute in evaluation, as a copy."""
    assert isinstance(convolution, _ConvNd)
    assert isinstance(norm, _BatchNorm)
    double = copy.deepcopy(convolution).eval().double(), copy.deepcopy(norm).eval().double()
    return fuse_conv_bn_eval(*double).to(convolution.weight.dtype)


def _layer(layer: DenseLayer) -> nn.Module:
    """A dense layer, in evaluation, where dropout is the identity: N x C -> N x k."""
    first = (_scale_and_shift(layer.norm1), nn.ReLU())
    if not layer.bottleneck:
        return nn.Sequential(*first, copy.deepcopy(layer.conv1))
    return nn.Sequential(*first, folded(layer.conv1, layer.norm2), nn.ReLU(), copy.deepcopy(layer.conv2))


def _transition(transition: Transition) -> nn.Module:
    """A transition, its pooling before its convolution: N x C x *sides -> N x M x *sides / 2."""
    return nn.Sequential(
        _scale_and_shift(transition.norm),
        nn.ReLU(),
        copy.deepcopy(transition.pool),
        copy.deepcopy(transition.conv),
    )


def _scale_and_shift(norm: nn.Module) -> nn.Module:
    """The same BN with its statistics in weight and bias: mean 0, variance 1 with its epsilon."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    plain: _BatchNorm = type(norm)(norm.num_features, eps=_EPSILON, dtype=norm.weight.dtype)
    assert plain.running_var is not None
    with torch.no_grad():
        plain.running_var.fill_(1 - _EPSILON)
        plain.weight.copy_(scale)
        plain.bias.copy_(shift)
    return plain.eval()
