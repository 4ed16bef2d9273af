"""The paper's DenseNets, and any other of the same rules. Needs no PyTorch.

The errors are those of the paper (Tables 2 and 3) and of the official README, in percent; nothing here
was measured by this project.
"""

from __future__ import annotations

import re

from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry.entry import PublishedErrors, ZooEntry, layers_of, table2

_CIFAR_NAME = re.compile(r"densenet(?:-(?P<variant>b|c|bc))?-(?P<depth>\d{1,6})-(?P<growth>\d{1,6})")
_CIFAR_BLOCKS = 3
_CIFAR_STEM_CHANNELS = 16


def _cifar(variant: str, depth: int, growth_rate: int) -> DenseNetConfig:
    """The CIFAR/SVHN network of a depth (paper, section 4.2): three equal blocks.

    Raises:
        InputError: no number of layers gives this depth.
    """
    bottleneck, compressed = "b" in variant, "c" in variant
    per_layer = _CIFAR_BLOCKS * (2 if bottleneck else 1)
    kind = f"{'with' if bottleneck else 'without'} bottleneck it"
    layers = layers_of(depth, per_layer, 4, of=kind)
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


DENSENETS: dict[str, ZooEntry] = {
    name: ZooEntry(config=config, published=published, printed_parameters=printed)
    for name, config, printed, published in (
        ("densenet-40-12", _cifar("", 40, 12), 1.0, table2(7.00, 5.24, 27.55, 24.42, 1.79)),
        ("densenet-100-12", _cifar("", 100, 12), 7.0, table2(5.77, 4.10, 23.79, 20.20, 1.67)),
        ("densenet-100-24", _cifar("", 100, 24), 27.2, table2(5.83, 3.74, 23.42, 19.25, 1.59)),
        ("densenet-bc-100-12", _cifar("bc", 100, 12), 0.8, table2(5.92, 4.51, 24.15, 22.27, 1.76)),
        ("densenet-bc-250-24", _cifar("bc", 250, 24), 15.3, table2(5.19, 3.62, 19.64, 17.60, 1.74)),
        ("densenet-bc-190-40", _cifar("bc", 190, 40), 25.6, table2(None, 3.46, None, 17.18, None)),
        ("densenet121", _imagenet(32, 6, 12, 24, 16), 0.0, _table3(25.02, 7.71, 23.61, 6.66)),
        ("densenet169", _imagenet(32, 6, 12, 32, 32), 0.0, _table3(23.80, 6.85, 22.08, 5.92)),
        ("densenet201", _imagenet(32, 6, 12, 48, 32), 0.0, _table3(22.58, 6.34, 21.46, 5.54)),
        ("densenet264", _imagenet(32, 6, 12, 64, 48), 0.0, _table3(22.15, 6.12, 20.80, 5.29)),
        ("densenet161", _imagenet(48, 6, 12, 36, 24), 0.0, _readme(22.2)),
        ("densenet232-48", _imagenet(48, 6, 12, 48, 48), 0.0, _readme(21.2)),
        ("densenet264-48", _imagenet(48, 6, 12, 64, 48), 0.0, _readme(20.4, " (cosine schedule)")),
    )
}


def densenet_config(name: str) -> DenseNetConfig | None:
    """The config of densenet[-b|-c|-bc]-DEPTH-GROWTH by the paper's rules; None for another form.

    Raises:
        InputError: the depth cannot be.
    """
    match = _CIFAR_NAME.fullmatch(name)
    return _cifar(match["variant"] or "", int(match["depth"]), int(match["growth"])) if match else None
