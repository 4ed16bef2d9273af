"""The networks that DenseNet is compared with, and any other of their rules. Needs no PyTorch.

The errors are those of the paper's Table 2 or of the source named beside them, in percent; nothing here was
measured by this project.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial

from densenets.errors import InputError
from densenets.models.baselines.convnet_config import ConvLayer, ConvNetConfig, Pooling
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.baselines.resnet_config import ResidualUnit, ResNetConfig
from densenets.models.network_config import NetworkConfig
from densenets.models.registry.entry import PublishedErrors, ZooEntry, layers_of, table2

_CIFAR_WIDTH = 16  # channels of the first stage; the others have twice and four times as many
_IMAGENET_RESNETS: dict[int, tuple[ResidualUnit, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
_BASIC_PREACT = 110  # could be of bottlenecks too, but the paper's is of basic units
_FRACTAL_BLOCKS = 5
_FRACTAL_CHANNELS = 64
_FRACTAL_DROPOUT = (0.0, 0.1, 0.2, 0.3, 0.4)


def _resnet(depth: int, width: int | None = None) -> ResNetConfig:
    """He et al. 2016: section 4.2 for CIFAR, table 1 for ImageNet's depths where no width is named."""
    if depth in _IMAGENET_RESNETS and width is None:
        unit, stage_units = _IMAGENET_RESNETS[depth]
        widest = 4 if unit == "bottleneck" else 1
        return ResNetConfig(
            stage_units=stage_units,
            stage_channels=tuple(widest * channels for channels in (64, 128, 256, 512)),
            unit=unit,
            pre_activation=False,
            shortcut="projection",
            stem="imagenet",
            stem_channels=64,
            num_classes=1000,
        )
    return _basic(depth, _CIFAR_WIDTH if width is None else width)


def _basic(depth: int, width: int) -> ResNetConfig:
    return ResNetConfig(
        stage_units=(layers_of(depth, 6, 2),) * 3,
        stage_channels=(width, 2 * width, 4 * width),
        unit="basic",
        pre_activation=False,
        shortcut="subsampled",
        stem="cifar",
        stem_channels=width,
    )


def _plain(depth: int, width: int = _CIFAR_WIDTH) -> ResNetConfig:
    """He et al. 2016, section 4.2: the layers of a ResNet without its shortcuts."""
    return dataclasses.replace(_basic(depth, width), shortcut="none")


def _preact_resnet(depth: int, width: int = _CIFAR_WIDTH, *, basic: bool = False) -> ResNetConfig:
    """He et al. 2016 (Identity Mappings): bottlenecks where the depth is 9n+2, but not in 110 layers."""
    if basic or depth == _BASIC_PREACT or ((depth - 2) % 9 and (depth - 2) % 6 == 0):
        return dataclasses.replace(_basic(depth, width), pre_activation=True)
    return ResNetConfig(
        stage_units=(layers_of(depth, 9, 2),) * 3,
        stage_channels=(4 * width, 8 * width, 16 * width),
        unit="bottleneck",
        pre_activation=True,
        shortcut="projection",
        stem="cifar",
        stem_channels=width,
    )


def _wide_resnet(depth: int, widening: int) -> ResNetConfig:
    """Zagoruyko and Komodakis 2016, table 1. The depth in the name counts the three shortcut convolutions."""
    return ResNetConfig(
        stage_units=(layers_of(depth, 6, 4),) * 3,
        stage_channels=tuple(_CIFAR_WIDTH * factor * widening for factor in (1, 2, 4)),
        unit="basic",
        pre_activation=True,
        shortcut="projection",
        stem="cifar",
        stem_channels=_CIFAR_WIDTH,
    )


def _stochastic_depth(depth: int, width: int = _CIFAR_WIDTH) -> ResNetConfig:
    """Huang et al. 2016: a ResNet whose last unit survives half of the steps; shortcuts as in their code."""
    return dataclasses.replace(
        _basic(depth, width), shortcut="pooled", last_survival=0.5, initialization="fan_in"
    )


def _highway(depth: int, width: int) -> HighwayConfig:
    """Three stages as wide as those of the 19 layers (32, 80, 128) for a width of 32, equally deep."""
    layers = layers_of(depth, 3, 5, least=0)
    return HighwayConfig(stage_layers=(layers,) * 3, stage_channels=(width, 5 * width // 2, 4 * width))


def _fractalnet(depth: int, channels: int, *, drop_path: bool) -> FractalNetConfig:
    """Larsson et al. 2017, section 4: five blocks, channels doubled to eight times the first block's."""
    columns = (depth // _FRACTAL_BLOCKS).bit_length()
    if columns < 1 or depth != _FRACTAL_BLOCKS * 2 ** (columns - 1):
        raise InputError(f"depth {depth} cannot be: it is 5, 10, 20, 40, 80, ... (5 blocks of 2^n layers)")
    return FractalNetConfig(
        columns=columns,
        block_channels=tuple(factor * channels for factor in (1, 2, 4, 8, 8)),
        block_dropout=_FRACTAL_DROPOUT if drop_path else (0.0,) * _FRACTAL_BLOCKS,
        local_drop_path=0.15 if drop_path else 0.0,
        global_drop_path=0.5 if drop_path else 0.0,
    )


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
    """Springenberg et al. 2015, All-CNN-C: strides for pooling. They are silent of the initial weights.

    Ours are those of Network in Network: with He's larger ones the last ReLU soon lets nothing through.
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


# The authors publish the 19 layers as a network file. Of the 32 they say only that there are about 1.25M
# parameters; half the channels and these numbers of layers give that.
_HIGHWAY_19 = HighwayConfig(stage_layers=(4, 5, 5), stage_channels=(32, 80, 128))
_HIGHWAY_32 = HighwayConfig(stage_layers=(6, 8, 13), stage_channels=(16, 40, 64))

_HE = "He et al. 2016, Table 6"
_TORCH = "fb.resnet.torch, single crop"
_RESNET110 = "paper, Table 2 (6.61 by He et al., the others by Huang et al. 2016)"


def _imagenet_error(top1: float) -> PublishedErrors:
    return PublishedErrors(top1={"imagenet": top1}, source=_TORCH)


PEERS: dict[str, ZooEntry] = {
    name: ZooEntry(config=config, published=published, printed_parameters=printed)
    for name, config, printed, published in (
        ("nin", _network_in_network(), 0.0, table2(10.41, 8.81, 35.68, None, 2.35)),
        ("all-cnn", _all_cnn(), 0.0, table2(9.08, 7.25, None, 33.71, None)),
        ("dsn", _deeply_supervised_net(), 0.0, table2(9.69, 7.97, None, 34.57, 1.92)),
        ("highway-19", _HIGHWAY_19, 0.0, table2(None, 7.72, None, 32.39, None)),
        ("highway-32", _HIGHWAY_32, 0.0, PublishedErrors()),
        (
            "fractalnet-20",
            _fractalnet(20, 64, drop_path=False),
            38.6,
            table2(10.18, 5.22, 35.34, 23.30, 2.01),
        ),
        (
            "fractalnet-20-drop-path",
            _fractalnet(20, 64, drop_path=True),
            38.6,
            table2(7.33, 4.60, 28.20, 23.73, 1.87),
        ),
        ("fractalnet-40-16-drop-path", _fractalnet(40, 16, drop_path=True), 4.8, PublishedErrors()),
        ("resnet20", _resnet(20), 0.27, table2(None, 8.75, None, None, None, source=_HE)),
        ("resnet32", _resnet(32), 0.46, table2(None, 7.51, None, None, None, source=_HE)),
        ("resnet44", _resnet(44), 0.66, table2(None, 7.17, None, None, None, source=_HE)),
        ("resnet56", _resnet(56), 0.85, table2(None, 6.97, None, None, None, source=_HE)),
        ("resnet110", _resnet(110), 1.7, table2(13.63, 6.61, 44.74, 27.22, 2.01, source=_RESNET110)),
        ("resnet1202", _resnet(1202), 19.4, table2(None, 7.93, None, None, None, source=_HE)),
        ("plain-20", _plain(20), 0.0, PublishedErrors()),
        ("plain-56", _plain(56), 0.0, PublishedErrors()),
        ("plain-110", _plain(110), 0.0, PublishedErrors()),
        ("stochastic-depth-110", _stochastic_depth(110), 1.7, table2(11.66, 5.23, 37.80, 24.58, 1.75)),
        ("stochastic-depth-1202", _stochastic_depth(1202), 10.2, table2(None, 4.91, None, None, None)),
        ("wrn-16-4", _wide_resnet(16, 4), 2.7, table2(None, None, None, None, 1.64)),
        ("wrn-16-8", _wide_resnet(16, 8), 11.0, table2(None, 4.81, None, 22.07, None)),
        ("wrn-28-10", _wide_resnet(28, 10), 36.5, table2(None, 4.17, None, 20.50, None)),
        ("preact-resnet110", _preact_resnet(110), 1.7, PublishedErrors()),
        ("preact-resnet164", _preact_resnet(164), 1.7, table2(11.26, 5.46, 35.58, 24.33, None)),
        ("preact-resnet1001", _preact_resnet(1001), 10.2, table2(10.56, 4.62, 33.47, 22.71, None)),
        ("resnet18", _resnet(18), 0.0, _imagenet_error(30.43)),
        ("resnet34", _resnet(34), 0.0, _imagenet_error(26.73)),
        ("resnet50", _resnet(50), 0.0, _imagenet_error(24.01)),
        ("resnet101", _resnet(101), 0.0, _imagenet_error(22.44)),
        ("resnet152", _resnet(152), 0.0, _imagenet_error(22.16)),
    )
}

_DEPTH_WIDTH = r"(\d{1,6})(?:-(\d{1,6}))?"

# A form of names, what it builds from the numbers in the name, and how people are told of it.
_RULES: tuple[tuple[str, Callable[..., NetworkConfig], str], ...] = (
    (rf"resnet{_DEPTH_WIDTH}", _resnet, "resnetDEPTH[-WIDTH]"),
    (rf"plain-{_DEPTH_WIDTH}", _plain, "plain-DEPTH[-WIDTH]"),
    (rf"preact-resnet{_DEPTH_WIDTH}", _preact_resnet, "preact-resnetDEPTH[-WIDTH][-basic]"),
    (rf"preact-resnet{_DEPTH_WIDTH}-basic", partial(_preact_resnet, basic=True), ""),
    (rf"stochastic-depth-{_DEPTH_WIDTH}", _stochastic_depth, "stochastic-depth-DEPTH[-WIDTH]"),
    (r"wrn-(\d{1,6})-(\d{1,6})", _wide_resnet, "wrn-DEPTH-WIDENING"),
    (r"highway-(\d{1,6})-(\d{1,6})", _highway, "highway-DEPTH-WIDTH"),
)
_FRACTALNET = re.compile(r"fractalnet-(\d{1,6})(?:-(\d{1,6}))?(-drop-path)?")

PEER_FORMS = (*(form for _, _, form in _RULES if form), "fractalnet-DEPTH-CHANNELS[-drop-path]")


def peer_config(name: str) -> NetworkConfig | None:
    """The config of a peer that is named by its rules; None for another form.

    Raises:
        InputError: the depth cannot be.
    """
    for pattern, build, _ in _RULES:
        if match := re.fullmatch(pattern, name):
            return build(*(int(number) for number in match.groups() if number is not None))
    if match := _FRACTALNET.fullmatch(name):
        channels = int(match[2]) if match[2] else _FRACTAL_CHANNELS
        return _fractalnet(int(match[1]), channels, drop_path=bool(match[3]))
    return None
