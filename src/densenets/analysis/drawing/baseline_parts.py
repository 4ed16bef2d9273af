"""The parts of the networks that a DenseNet is compared with. Needs no PyTorch."""

from __future__ import annotations

from densenets.analysis.drawing.network_parts import NetworkParts, PartRole, PartsOfTable, counted
from densenets.models.baselines.convnet_config import POOL_KERNEL, POOL_STRIDE, ConvLayer, ConvNetConfig
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.baselines.resnet_config import ResNetConfig
from densenets.models.layer_rows import LayerTable


def resnet_parts(config: ResNetConfig, table: LayerTable) -> NetworkParts:
    """A residual network, or a plain one."""
    parts = PartsOfTable(table)
    has_norm = config.stem == "imagenet" or not config.pre_activation
    parts.add_stem(config.stem, parts.rows("stem"), has_norm=has_norm)
    is_plain = config.shortcut == "none"
    for stage, units in enumerate(config.stage_units, start=1):
        parts.add(
            "stage",
            f"Stage {stage}",
            [counted(units, "unit" if is_plain else "residual unit")],
            parts.rows(f"layer{stage}."),
            links="none" if is_plain else "shortcut",
        )
    operations = ["BN-ReLU"] if config.pre_activation else []
    parts.add_classifier(operations, [*parts.rows("last"), *parts.rows("fc")])
    return NetworkParts(parts=tuple(parts.parts), notes=_unit_notes(config))


def _unit_notes(config: ResNetConfig) -> tuple[str, ...]:
    convolutions = ["1×1 conv", "3×3 conv", "1×1 conv"] if config.unit == "bottleneck" else ["3×3 conv"] * 2
    if config.pre_activation:
        branch = "-".join(f"BN-ReLU-{convolution}" for convolution in convolutions)
    else:
        branch = "-ReLU-".join(f"{convolution}-BN" for convolution in convolutions)
    end = "" if config.pre_activation else "-ReLU"
    if config.shortcut == "none":
        return (f"A unit is {branch}{end}, without a shortcut.",)
    changed = {
        "subsampled": "it takes every other pixel, and zeros for further channels",
        "pooled": "it takes the mean of 2×2 pixels, and zeros for further channels",
        "projection": "it is a 1×1 conv" + (" of the first BN-ReLU" if config.pre_activation else "-BN"),
    }[config.shortcut]
    notes = [
        f"A residual unit is {branch}, added to the shortcut around it{', then ReLU' if end else ''}; "
        f"where the shape changes, the shortcut is not the identity: {changed}."
    ]
    if config.last_survival < 1:
        notes.append(
            "In training a step skips units: the last with probability "
            f"{1 - config.last_survival:g}, those before it with ever smaller ones."
        )
    return tuple(notes)


def convnet_parts(config: ConvNetConfig, table: LayerTable) -> NetworkParts:
    """A network of convolutions."""
    parts = PartsOfTable(table)
    for number, layer in enumerate(config.layers, start=1):
        row = next(row for row in table.layers if row.name == f"features.conv{number}")
        parts.add("convolution", f"Convolution {number}", _convolution(layer), [row])
    relu = "-ReLU" if config.last_relu else ""
    operations = [*([f"1×1 conv{relu}"] if config.num_classes else []), "global average pool"]
    title = "Classifier" if config.num_classes else "Pooling"
    parts.add("classifier", title, operations, parts.rows(config.head))
    numbers = [str(number) for number, _ in config.companions()]
    note = f"In training companion classifiers read convolutions {', '.join(numbers)}."
    return NetworkParts(parts=tuple(parts.parts), notes=(note,) if numbers and config.num_classes else ())


def _convolution(layer: ConvLayer) -> list[str]:
    stride = f", stride {layer.stride}" if layer.stride > 1 else ""
    operations = [f"{layer.kernel}×{layer.kernel} conv-ReLU{stride}"]
    if layer.pooling != "none":
        operations.append(f"{POOL_KERNEL}×{POOL_KERNEL} {layer.pooling} pool, stride {POOL_STRIDE}")
    return operations


def highway_parts(config: HighwayConfig, table: LayerTable) -> NetworkParts:
    """A Highway Network."""
    parts = PartsOfTable(table)
    for stage, layers in enumerate(config.stage_layers, start=1):
        pool = ["2×2 max pool"] if stage > 1 else []
        role: PartRole = "transition" if pool else "stem"
        title = f"Transition {stage - 1}" if pool else "Stem"
        parts.add(role, title, [*pool, "3×3 conv-ReLU"], parts.rows(f"features.conv{stage}")[:1])
        if layers:
            rows = parts.rows(f"features.highway{stage}_")
            name = [counted(layers, "highway layer")]
            parts.add("stage", f"Stage {stage}", name, rows, links="carry")
    parts.add("transition", "Head", ["1×1 conv-ReLU"], parts.rows("features.head"))
    parts.add_classifier([], parts.rows("classifier"))
    note = "A highway layer is T(x) H(x) + (1 - T(x)) x, where H is 3×3 conv-ReLU and T 3×3 conv-sigmoid."
    return NetworkParts(parts=tuple(parts.parts), notes=(note,))


def fractalnet_parts(config: FractalNetConfig, table: LayerTable) -> NetworkParts:
    """A FractalNet."""
    parts = PartsOfTable(table)
    depths = [config.block_depth // period for period in config.periods()]
    deep = ", ".join(str(depth) for depth in depths)
    for number in range(len(config.block_channels)):
        name = [
            counted(config.columns, "column"),
            f"{deep} {'conv' if depths == [1] else 'convs'}",
            "2×2 max pool",
        ]
        row = next(row for row in table.layers if row.name == f"blocks.{number}")
        parts.add(
            "stage", f"Fractal block {number + 1}", name, [row], links="fractal", columns=config.columns
        )
    parts.add_classifier([], parts.rows("classifier"))
    notes = ["A conv is 3×3 conv-BN-ReLU; where columns end together, they go on with their mean."]
    if config.skips_layers:
        notes.append(
            f"In training a join drops each of its inputs with probability {config.local_drop_path:g}, "
            f"and a share of {config.global_drop_path:g} of the steps runs one column alone."
        )
    return NetworkParts(parts=tuple(parts.parts), notes=tuple(notes))
