"""ResNets and relatives: pre-activation, wide, Stochastic Depth, plain. Needs no PyTorch.

The errors are those of the DenseNet paper's Table 2 or of the source named beside them, in percent; nothing
here was measured by this project.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from densenets.models.baselines.resnet_config import ResidualUnit, ResNetConfig
from densenets.models.baselines.resnet_rows import resnet_rows
from densenets.models.registry.entry import Architecture, Family, PublishedErrors
from densenets.models.registry.rules import DEPTH_AND_WIDTH, table2, units_of_depth

if TYPE_CHECKING:
    import torch

    from densenets.models.baselines.resnet import ResNet
    from densenets.ops.execution import Execution

_CIFAR_WIDTH = 16  # channels of the first stage; the others have twice and four times as many
_IMAGENET_RESNETS: dict[int, tuple[ResidualUnit, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
_BASIC_PREACT = 110  # could be of bottlenecks too, but the paper's is of basic units


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
        stage_units=(units_of_depth(depth, 6, 2),) * 3,
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
        stage_units=(units_of_depth(depth, 9, 2),) * 3,
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
        stage_units=(units_of_depth(depth, 6, 4),) * 3,
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


def _build(config: ResNetConfig, _execution: Execution, generator: torch.Generator | None) -> ResNet:
    from densenets.models.baselines.resnet import ResNet

    return ResNet(config, generator)


_HE = "He et al. 2016, Table 6"
_TORCH = "fb.resnet.torch, single crop"
_RESNET110 = "paper, Table 2 (6.61 by He et al., the others by Huang et al. 2016)"


def _imagenet_error(top1: float) -> PublishedErrors:
    return PublishedErrors(top1={"imagenet": top1}, source=_TORCH)


_RESNET = Architecture(
    label="ResNet", name_rules=((rf"resnet{DEPTH_AND_WIDTH}", _resnet),), own_recipe="resnet"
)
_PLAIN = Architecture(label="plain", name_rules=((rf"plain-{DEPTH_AND_WIDTH}", _plain),), own_recipe="resnet")
_PREACT_RESNET = Architecture(
    label="ResNet (pre-activation)",
    name_rules=(
        (rf"preact-resnet{DEPTH_AND_WIDTH}", _preact_resnet),
        (rf"preact-resnet{DEPTH_AND_WIDTH}-basic", partial(_preact_resnet, basic=True)),
    ),
    own_recipe="preact-resnet",
)
_STOCHASTIC_DEPTH = Architecture(
    label="Stochastic Depth",
    name_rules=((rf"stochastic-depth-{DEPTH_AND_WIDTH}", _stochastic_depth),),
    own_recipe="stochastic-depth",
)
_WIDE_RESNET = Architecture(
    label="Wide ResNet",
    name_rules=((r"wrn-(\d{1,6})-(\d{1,6})", _wide_resnet),),
    own_recipe="wide-resnet",
)

RESNET_FAMILY = Family(
    config=ResNetConfig,
    build=_build,
    layer_rows=resnet_rows,
    architectures=(_RESNET, _PLAIN, _PREACT_RESNET, _STOCHASTIC_DEPTH, _WIDE_RESNET),
    name_forms=(
        "resnetDEPTH[-WIDTH]",
        "plain-DEPTH[-WIDTH]",
        "preact-resnetDEPTH[-WIDTH][-basic]",
        "stochastic-depth-DEPTH[-WIDTH]",
        "wrn-DEPTH-WIDENING",
    ),
    networks={
        "resnet20": _RESNET.entry(_resnet(20), table2(None, 8.75, None, None, None, source=_HE), 0.27),
        "resnet32": _RESNET.entry(_resnet(32), table2(None, 7.51, None, None, None, source=_HE), 0.46),
        "resnet44": _RESNET.entry(_resnet(44), table2(None, 7.17, None, None, None, source=_HE), 0.66),
        "resnet56": _RESNET.entry(_resnet(56), table2(None, 6.97, None, None, None, source=_HE), 0.85),
        "resnet110": _RESNET.entry(
            _resnet(110), table2(13.63, 6.61, 44.74, 27.22, 2.01, source=_RESNET110), 1.7
        ),
        "resnet1202": _RESNET.entry(_resnet(1202), table2(None, 7.93, None, None, None, source=_HE), 19.4),
        "plain-20": _PLAIN.entry(_plain(20)),
        "plain-56": _PLAIN.entry(_plain(56)),
        "plain-110": _PLAIN.entry(_plain(110)),
        "stochastic-depth-110": _STOCHASTIC_DEPTH.entry(
            _stochastic_depth(110), table2(11.66, 5.23, 37.80, 24.58, 1.75), 1.7
        ),
        "stochastic-depth-1202": _STOCHASTIC_DEPTH.entry(
            _stochastic_depth(1202), table2(None, 4.91, None, None, None), 10.2
        ),
        "wrn-16-4": _WIDE_RESNET.entry(_wide_resnet(16, 4), table2(None, None, None, None, 1.64), 2.7),
        "wrn-16-8": _WIDE_RESNET.entry(_wide_resnet(16, 8), table2(None, 4.81, None, 22.07, None), 11.0),
        "wrn-28-10": _WIDE_RESNET.entry(_wide_resnet(28, 10), table2(None, 4.17, None, 20.50, None), 36.5),
        "preact-resnet110": _PREACT_RESNET.entry(_preact_resnet(110), printed_parameters=1.7),
        "preact-resnet164": _PREACT_RESNET.entry(
            _preact_resnet(164), table2(11.26, 5.46, 35.58, 24.33, None), 1.7
        ),
        "preact-resnet1001": _PREACT_RESNET.entry(
            _preact_resnet(1001), table2(10.56, 4.62, 33.47, 22.71, None), 10.2
        ),
        "resnet18": _RESNET.entry(_resnet(18), _imagenet_error(30.43)),
        "resnet34": _RESNET.entry(_resnet(34), _imagenet_error(26.73)),
        "resnet50": _RESNET.entry(_resnet(50), _imagenet_error(24.01)),
        "resnet101": _RESNET.entry(_resnet(101), _imagenet_error(22.44)),
        "resnet152": _RESNET.entry(_resnet(152), _imagenet_error(22.16)),
    },
)
