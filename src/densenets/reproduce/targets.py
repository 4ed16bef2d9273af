"""The runs that a table or figure of the paper consists of. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from densenets.models.registry import DENSENETS, NETWORKS, network_entry
from densenets.reproduce.options import Recipes, ReproduceOptions, Scale
from densenets.training.baseline_recipes import has_own_recipe
from densenets.training.recipe import Recipe, changed
from densenets.training.recipes import named_recipe

TABLE2_COLUMNS = ("cifar10", "cifar10+", "cifar100", "cifar100+", "svhn")
IMAGENET_COLUMNS = ("imagenet", "imagenet 10-crop")

_RECIPE_DATA = {
    "cifar10": "cifar10-plain",
    "cifar10+": "cifar10",
    "cifar100": "cifar100-plain",
    "cifar100+": "cifar100",
    "svhn": "svhn",
    "imagenet": "imagenet",
}
_GPU_SHARE = 10  # of the paper's epochs, one in so many

# What two cores finish: the same images, epochs, batch and form of schedule for all; optimiser and
# regularisation stay those of the recipe.
CPU_CHANGES: dict[str, Any] = {
    "data.training_images": 12_800,
    "data.held_out": 1_000,
    "training.epochs": 8,
    "training.batch_size": 64,
    "training.channels_last": True,
    "training.report": "last",
    "schedule.name": "cosine",
    "schedule.warmup_epochs": 1.0,
}

# A DenseNet-BC and baselines of the same number of parameters, within 2%, at the scale of two cores. All but
# FractalNet have channels that processors like, or time would tell of that.
_EQUAL_PARAMETERS = (
    "densenet-bc-52-12",
    "preact-resnet20-basic",
    "highway-17-12",
    "fractalnet-10-9",
    "plain-20",
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network in a column of the table, trained as often as there are seeds.

    Attributes:
        network: its name in the zoo.
        base: name of the recipe.
        changes: fields of the recipe that differ, as in "training.epochs".
        columns: of the table that the run gives an error for; the first is the run's own test.
        published: errors that the paper prints in these columns, in percent.
        curves: whether the figure shows its errors by epoch.
    """

    network: str
    base: str
    changes: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ("cifar10+",)
    published: dict[str, float] = field(default_factory=dict)
    curves: bool = False

    @property
    def series(self) -> str:
        """Label of the network's architecture in a figure's legend."""
        return network_entry(self.network).architecture.label

    @property
    def recipe(self) -> Recipe:
        """The named recipe with its changes, for the first seed."""
        return changed(named_recipe(self.base), self.changes)


def entries(options: ReproduceOptions) -> list[Entry]:
    """The networks of a target at a scale, in the order of its table."""
    small = {
        "table2": _cpu_table2,
        "table3": _cpu_table3,
        "fig3": _cpu_fig3,
        "fig4": _cpu_fig4,
    }
    large = {
        "table2": _table2,
        "table3": _table3,
        "fig3": _fig3,
        "fig4": _fig4,
    }
    listed = (small if options.scale == "cpu" else large)[options.target](options.recipes)
    if options.scale == "gpu":
        listed = [_shortened(entry) for entry in listed]
    machine: dict[str, Any] = {"data.root": options.data.root, "training.device": options.device}
    if options.data.download:
        machine["data.download"] = True
    return [_with(entry, machine) for entry in listed]


def title(options: ReproduceOptions) -> str:
    """Title of the table and the figure: the target, its scale and its recipes."""
    scales: dict[Scale, str] = {
        "cpu": (
            f"small networks on {CPU_CHANGES['data.training_images']:,} of CIFAR-10's training images, "
            f"{CPU_CHANGES['training.epochs']} epochs"
        ),
        "gpu": "a tenth of the paper's epochs",
        "paper": "the paper's scale",
    }
    recipes = "each by its own paper's recipe" if options.recipes == "own" else "all by DenseNet's recipe"
    return f"{options.target}: {scales[options.scale]}; {recipes}"


def _table2(recipes: Recipes) -> list[Entry]:
    """Every network of the paper's Table 2 in every column in which it prints an error."""
    return [
        _entry(name, column, recipes)
        for name, known in NETWORKS.items()
        for column in TABLE2_COLUMNS
        if "Table 2" in known.published.source and column in known.published.top1
    ]


def _table3(recipes: Recipes) -> list[Entry]:
    """The four networks of Table 3, with single crop and ten crops."""
    names = [name for name, known in DENSENETS.items() if IMAGENET_COLUMNS[1] in known.published.top1]
    return [_entry(name, "imagenet", recipes, also=IMAGENET_COLUMNS[1:]) for name in names]


def _fig3(recipes: Recipes) -> list[Entry]:
    """DenseNets and ResNets on ImageNet."""
    names = ("densenet121", "densenet169", "densenet201", "densenet161")
    others = ("resnet34", "resnet50", "resnet101", "resnet152")
    return [_entry(name, "imagenet", recipes) for name in (*names, *others)]


def _fig4(recipes: Recipes) -> list[Entry]:
    """On the left the variants (k = 12) by depth, then -BC beside ResNets, then learning curves of two."""
    variants = [f"densenet{v}-{depth}-12" for v in ("", "-b", "-c", "-bc") for depth in (40, 70, 100)]
    larger = ("densenet-bc-160-12", "densenet-bc-250-12")
    residual = ("preact-resnet56", "preact-resnet110", "preact-resnet164", "preact-resnet1001")
    shown = ("densenet-bc-100-12", "preact-resnet1001")
    return [
        _entry(name, "cifar10+", recipes, curves=name in shown) for name in (*variants, *larger, *residual)
    ]


def _cpu_table2(recipes: Recipes) -> list[Entry]:
    others = ("densenet-22-12", "resnet20", "stochastic-depth-20", "fractalnet-10-9-drop-path", "wrn-10-2")
    return _for_two_cores((*_EQUAL_PARAMETERS, *others), recipes)


def _cpu_table3(recipes: Recipes) -> list[Entry]:
    return _for_two_cores(("densenet-bc-22-12", "densenet-bc-40-12", "densenet-bc-52-12"), recipes)


def _cpu_fig3(recipes: Recipes) -> list[Entry]:
    """Sizes in pairs of about the same number of parameters."""
    residual = ("resnet8", "resnet14", "resnet20")
    return [*_cpu_table3(recipes), *_for_two_cores(residual, recipes)]


def _cpu_fig4(recipes: Recipes) -> list[Entry]:
    """All at equal parameters, and a smaller pair."""
    smaller = ("densenet-bc-40-12", "preact-resnet14")
    return [*_for_two_cores(_EQUAL_PARAMETERS, recipes, curves=True), *_for_two_cores(smaller, recipes)]


def _for_two_cores(names: Iterable[str], recipes: Recipes, *, curves: bool = False) -> list[Entry]:
    return [_with(_entry(name, "cifar10+", recipes, curves=curves), CPU_CHANGES) for name in names]


def _entry(
    network: str, column: str, recipes: Recipes, *, also: tuple[str, ...] = (), curves: bool = False
) -> Entry:
    own = "own-" if has_own_recipe(network) and recipes == "own" and column != "imagenet" else ""
    columns = (column, *also)
    known = NETWORKS[network].published.top1 if network in NETWORKS else {}
    return Entry(
        network=network,
        base=f"{_RECIPE_DATA[column]}-{own}{network}",
        columns=columns,
        published={name: known[name] for name in columns if name in known},
        curves=curves,
    )


def _shortened(entry: Entry) -> Entry:
    epochs = max(1, entry.recipe.training.epochs // _GPU_SHARE)
    warmup = entry.recipe.schedule.warmup_epochs / _GPU_SHARE
    return _with(
        entry,
        {
            "training.epochs": epochs,
            "training.precision": "bfloat16",
            "training.channels_last": True,
            **({"schedule.warmup_epochs": warmup} if warmup else {}),
        },
    )


def _with(entry: Entry, changes: dict[str, Any]) -> Entry:
    return dataclasses.replace(entry, changes={**entry.changes, **changes})
