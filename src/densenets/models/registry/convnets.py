"""Stacks of convolutions: Network in Network, All-CNN, Deeply Supervised Net. Needs no PyTorch.

The errors are those of the DenseNet paper's Table 2, in percent; nothing here was measured by this
project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from densenets.models.baselines.convnet_config import ConvLayer, ConvNetConfig, Pooling
from densenets.models.baselines.convnet_rows import convnet_rows
from densenets.models.registry.entry import Architecture, Family
from densenets.models.registry.rules import table2

if TYPE_CHECKING:
    import torch

    from densenets.models.baselines.convnet import ConvNet
    from densenets.ops.execution import Execution


def _network_in_network() -> ConvNetConfig:
    """Lin et al. 2014; pooling and initial weights as in the authors' network file for CIFAR-10."""
    return ConvNetConfig(
        layers=_mlpconv_layers("average", companions=False), last_relu=True, weight_deviation=0.05
    )


def _deeply_supervised_net() -> ConvNetConfig:
    """Lee et al. 2015: companion classifiers at the three spatial convolutions, as in the authors' file."""
    return ConvNetConfig(
        layers=_mlpconv_layers("max", companions=True),
        last_relu=False,
        weight_deviation=0.05,
    )


def _mlpconv_layers(second_pooling: Pooling, *, companions: bool) -> tuple[ConvLayer, ...]:
    return (
        ConvLayer(channels=192, kernel=5, companion=companions),
        ConvLayer(channels=160, kernel=1),
        ConvLayer(channels=96, kernel=1, pooling="max", dropout=0.5),
        ConvLayer(channels=192, kernel=5, companion=companions),
        ConvLayer(channels=192, kernel=1),
        ConvLayer(channels=192, kernel=1, pooling=second_pooling, dropout=0.5),
        ConvLayer(channels=192, kernel=3, companion=companions),
        ConvLayer(channels=192, kernel=1),
    )


def _all_cnn() -> ConvNetConfig:
    """Springenberg et al. 2015, All-CNN-C: strides in the place of pooling.

    The paper does not give the initial weights; these are Network in Network's. With He's larger ones the
    last ReLU soon outputs only zeros.
    """
    return ConvNetConfig(
        layers=(
            ConvLayer(channels=96, kernel=3),
            ConvLayer(channels=96, kernel=3),
            ConvLayer(channels=96, kernel=3, stride=2, dropout=0.5),
            ConvLayer(channels=192, kernel=3),
            ConvLayer(channels=192, kernel=3),
            ConvLayer(channels=192, kernel=3, stride=2, dropout=0.5),
            ConvLayer(channels=192, kernel=3, padded=False),
            ConvLayer(channels=192, kernel=1),
        ),
        last_relu=True,
        input_dropout=0.2,
        weight_deviation=0.05,
    )


def _build(config: ConvNetConfig, _execution: Execution, generator: torch.Generator | None) -> ConvNet:
    from densenets.models.baselines.convnet import ConvNet

    return ConvNet(config, generator)


_NETWORK_IN_NETWORK = Architecture(label="Network in Network", own_recipe="network-in-network")
_ALL_CNN = Architecture(label="All-CNN", own_recipe="all-cnn")
_DEEPLY_SUPERVISED_NET = Architecture(label="Deeply Supervised Net", own_recipe="deeply-supervised-net")

CONVNET_FAMILY = Family(
    config=ConvNetConfig,
    build=_build,
    layer_rows=convnet_rows,
    architectures=(_NETWORK_IN_NETWORK, _ALL_CNN, _DEEPLY_SUPERVISED_NET),
    networks={
        "nin": _NETWORK_IN_NETWORK.entry(_network_in_network(), table2(10.41, 8.81, 35.68, None, 2.35)),
        "all-cnn": _ALL_CNN.entry(_all_cnn(), table2(9.08, 7.25, None, 33.71, None)),
        "dsn": _DEEPLY_SUPERVISED_NET.entry(_deeply_supervised_net(), table2(9.69, 7.97, None, 34.57, 1.92)),
    },
)
