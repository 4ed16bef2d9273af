"""Networks of convolutions and pooling only: Network in Network, All-CNN, Deeply Supervised Net.

Shapes: N batch, C channels, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from densenets.models.baselines.convnet_config import POOL_KERNEL, POOL_STRIDE, ConvNetConfig
from densenets.models.initialization import he_normal_, normal_, xavier_uniform_
from densenets.models.network import CompanionLogits, Network


class ConvNet(Network):
    """Convolutions to one map a class, then global average pooling: N x C x H x W -> N x classes logits.

    Args:
        config: of the network.
        generator: where the initial weights are drawn from; PyTorch's own without one.

    Attributes:
        companions: linear layers that read a convolution's output, before ReLU; used only in training.
    """

    config: ConvNetConfig

    def __init__(self, config: ConvNetConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config)
        self.features = nn.Sequential(OrderedDict(_feature_modules(config)))
        classes = config.num_classes
        self.classifier: nn.Module = nn.Conv2d(config.num_features, classes, 1) if classes else nn.Identity()
        self.last_relu = nn.ReLU() if config.last_relu else nn.Identity()
        self.companions = nn.ModuleDict(
            {f"conv{number}": nn.Linear(inputs, classes) for number, inputs in config.companions() if classes}
        )
        self.record_structure()
        self.initialize(generator)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again: normal, by the config's deviation or He's; of companions Xavier's."""
        deviation = self.config.weight_deviation
        for module in self.modules():
            if isinstance(module, nn.Linear):
                xavier_uniform_(module.weight, generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                if deviation:
                    normal_(module.weight, deviation, generator)
                else:
                    he_normal_(module.weight, "fan_in", generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """The maps that the last convolution reads: N x C x H x W -> N x channels x H / stride x W / stride.

        Raises:
            InputError: the modules cannot read the image's channels, or it is too small.
        """
        return self.checked_call(self.features, x)

    def forward(self, x: Tensor) -> Tensor | CompanionLogits:
        """N x C x H x W -> N x classes; in training with the logits of the companions, if there are any."""
        if not (self.training and self.companions):
            return self._logits(self.forward_features(x))
        return self.checked_call(self._logits_and_companions, x)

    def _logits_and_companions(self, x: Tensor) -> CompanionLogits:
        companions = []
        for name, module in self.features.named_children():
            x = module(x)
            if name in self.companions:
                companions.append(self.companions[name](x.flatten(start_dim=1)))
        return CompanionLogits(self._logits(x), tuple(companions))

    def reset_classifier(self, num_classes: int, generator: torch.Generator | None = None) -> None:
        """Replace the last convolution and the companions by fresh ones of `num_classes`."""
        weight = next(self.parameters())
        fresh = ConvNet(dataclasses.replace(self.config, num_classes=num_classes), generator)
        fresh = fresh.to(weight.device, weight.dtype)
        self.config, self.classifier, self.companions = fresh.config, fresh.classifier, fresh.companions
        for part in (self.config.head, "companions"):
            self.record_structure(part)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.last_relu(self.classifier(features)).mean(dim=(2, 3))
        return logits


def _feature_modules(config: ConvNetConfig) -> Iterator[tuple[str, nn.Module]]:
    if config.input_dropout:
        yield "dropout0", nn.Dropout(config.input_dropout)
    channels = config.in_channels
    for number, layer in enumerate(config.layers, start=1):
        padding = layer.kernel // 2 if layer.padded else 0
        yield f"conv{number}", nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, padding)
        yield f"relu{number}", nn.ReLU()
        if layer.pooling != "none":
            pool = nn.MaxPool2d if layer.pooling == "max" else nn.AvgPool2d
            yield f"pool{number}", pool(POOL_KERNEL, POOL_STRIDE, ceil_mode=True)
        if layer.dropout:
            yield f"dropout{number}", nn.Dropout(layer.dropout)
        channels = layer.channels
