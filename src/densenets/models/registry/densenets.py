"""DenseNets: the paper's and its authors', and any other by the paper's rules. Needs no PyTorch.

The errors are those of the paper (Tables 2 and 3) and of the official README, in percent; nothing here
was measured by this project.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from densenets.models.densenet_config import DenseNetConfig
from densenets.models.densenet_rows import densenet_rows
from densenets.models.registry.entry import Architecture, Family, PublishedErrors
from densenets.models.registry.rules import table2, units_of_depth

if TYPE_CHECKING:
    import torch

    from densenets.models.densenet import DenseNet
    from densenets.ops.execution import Execution

_CIFAR_BLOCKS = 3
_CIFAR_STEM_CHANNELS = 16


def _cifar(variant: str, depth: int, growth_rate: int) -> DenseNetConfig:
    """The CIFAR/SVHN network of a depth (paper, section 4.2): three equal blocks.

    Raises:
        InputError: no number of layers gives this depth.
    """
    bottleneck, compressed = "b" in variant, "c" in variant
    convolutions = _CIFAR_BLOCKS * (2 if bottleneck else 1)
    of = "with bottleneck" if bottleneck else "without bottleneck"
    layers = units_of_depth(depth, convolutions, 4, of=of)
    return DenseNetConfig(
        block_layers=(layers,) * _CIFAR_BLOCKS,
        growth_rate=growth_rate,
        bottleneck=bottleneck,
        compression=0.5 if compressed else 1.0,
        stem="cifar",
        stem_channels=2 * growth_rate if variant == "bc" else _CIFAR_STEM_CHANNELS,
    )


def _imagenet(growth_rate: int, *block_layers: int) -> DenseNetConfig:
    return DenseNetConfig(
        block_layers=block_layers,
        growth_rate=growth_rate,
        bottleneck=True,
        compression=0.5,
        stem="imagenet",
        stem_channels=2 * growth_rate,
        num_classes=1000,
    )


def _table3(top1: float, top5: float, ten_crop_top1: float, ten_crop_top5: float) -> PublishedErrors:
    return PublishedErrors(
        top1={"imagenet": top1, "imagenet 10-crop": ten_crop_top1},
        source=f"paper, Table 3 (top-5 {top5}, 10-crop {ten_crop_top5})",
    )


def _readme(top1: float, note: str = "") -> PublishedErrors:
    return PublishedErrors(top1={"imagenet": top1}, source=f"official README{note}")


_NAME = r"-(\d{1,6})-(\d{1,6})"  # -DEPTH-GROWTH
_PLAIN = Architecture(label="DenseNet", name_rules=((f"densenet{_NAME}", partial(_cifar, "")),))
_B = Architecture(label="DenseNet-B", name_rules=((f"densenet-b{_NAME}", partial(_cifar, "b")),))
_C = Architecture(label="DenseNet-C", name_rules=((f"densenet-c{_NAME}", partial(_cifar, "c")),))
_BC = Architecture(label="DenseNet-BC", name_rules=((f"densenet-bc{_NAME}", partial(_cifar, "bc")),))


def _build(config: DenseNetConfig, execution: Execution, generator: torch.Generator | None) -> DenseNet:
    from densenets.models.densenet import DenseNet

    return DenseNet(config, execution, generator)


DENSENET_FAMILY = Family(
    config=DenseNetConfig,
    build=_build,
    has_dense_blocks=True,
    layer_rows=densenet_rows,
    architectures=(_PLAIN, _B, _C, _BC),
    name_forms=("densenet[-b|-c|-bc]-DEPTH-GROWTH",),
    networks={
        "densenet-40-12": _PLAIN.entry(_cifar("", 40, 12), table2(7.00, 5.24, 27.55, 24.42, 1.79), 1.0),
        "densenet-100-12": _PLAIN.entry(_cifar("", 100, 12), table2(5.77, 4.10, 23.79, 20.20, 1.67), 7.0),
        "densenet-100-24": _PLAIN.entry(_cifar("", 100, 24), table2(5.83, 3.74, 23.42, 19.25, 1.59), 27.2),
        "densenet-bc-100-12": _BC.entry(_cifar("bc", 100, 12), table2(5.92, 4.51, 24.15, 22.27, 1.76), 0.8),
        "densenet-bc-250-24": _BC.entry(_cifar("bc", 250, 24), table2(5.19, 3.62, 19.64, 17.60, 1.74), 15.3),
        "densenet-bc-190-40": _BC.entry(_cifar("bc", 190, 40), table2(None, 3.46, None, 17.18, None), 25.6),
        "densenet121": _BC.entry(_imagenet(32, 6, 12, 24, 16), _table3(25.02, 7.71, 23.61, 6.66)),
        "densenet169": _BC.entry(_imagenet(32, 6, 12, 32, 32), _table3(23.80, 6.85, 22.08, 5.92)),
        "densenet201": _BC.entry(_imagenet(32, 6, 12, 48, 32), _table3(22.58, 6.34, 21.46, 5.54)),
        "densenet264": _BC.entry(_imagenet(32, 6, 12, 64, 48), _table3(22.15, 6.12, 20.80, 5.29)),
        "densenet161": _BC.entry(_imagenet(48, 6, 12, 36, 24), _readme(22.2)),
        "densenet232-48": _BC.entry(_imagenet(48, 6, 12, 48, 48), _readme(21.2)),
        "densenet264-48": _BC.entry(_imagenet(48, 6, 12, 64, 48), _readme(20.4, " (cosine schedule)")),
    },
)
