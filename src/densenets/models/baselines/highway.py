"""Highway Networks (Srivastava et al. 2015): gated layers that transform a part of x and carry the rest.

Shapes: N batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.initialization import xavier_uniform_
from densenets.models.network import Network, make_head


class HighwayNetwork(Network):
    """A convolutional Highway Network: N x C x H x W -> N x classes logits.

    Args:
        config: of the network.
        generator: where the initial weights are drawn from; PyTorch's own without one.
    """

    config: HighwayConfig

    def __init__(self, config: HighwayConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config)
        self.features = nn.Sequential(OrderedDict(_feature_modules(config)))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier: nn.Module = make_head(config.num_features, config.num_classes)
        self.record_structure()
        self.initialize(generator)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again: Xavier's, as in the authors' code; biases 0, those of gates `gate_bias`."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                xavier_uniform_(module.weight, generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, HighwayLayer):
                nn.init.constant_(module.gate.bias, self.config.gate_bias)  # type: ignore[arg-type]

    def forward_features(self, x: Tensor) -> Tensor:
        """The last maps: N x C x H x W -> N x head_channels x H / stride x W / stride.

        Raises:
            InputError: the modules cannot read the image's channels, or it is too small.
        """
        return self.checked_call(self.features, x)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x classes."""
        logits: Tensor = self.classifier(self.dropout(self.forward_features(x).mean(dim=(2, 3))))
        return logits


class HighwayLayer(nn.Module):
    """T(x) H(x) + (1 - T(x)) x, with H = ReLU(conv3x3), T = sigmoid(conv3x3): N x C x H x W, as x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C x H x W."""
        return torch.lerp(x, self.relu(self.transform(x)), self.sigmoid(self.gate(x)))


def _feature_modules(config: HighwayConfig) -> Iterator[tuple[str, nn.Module]]:
    yield "dropout0", nn.Dropout(config.input_dropout)
    in_channels = config.in_channels
    stages = zip(config.stage_layers, config.stage_channels, strict=True)
    for stage, (layers, channels) in enumerate(stages, start=1):
        if stage > 1:
            yield f"pool{stage - 1}", nn.MaxPool2d(2)
            yield f"dropout{stage - 1}", nn.Dropout(config.dropout)
        yield f"conv{stage}", nn.Conv2d(in_channels, channels, 3, padding=1)
        yield f"relu{stage}", nn.ReLU()
        for layer in range(1, layers + 1):
            yield f"highway{stage}_{layer}", HighwayLayer(channels)
        in_channels = channels
    yield "head", nn.Conv2d(in_channels, config.head_channels, 1)
    yield "head_relu", nn.ReLU()
