"""Which runs the paper's tables and figures consist of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from densenets.models.layer_table import layer_table
from densenets.models.registry import named_config
from densenets.reproduce.options import TARGETS, DataPlace, ReproduceOptions
from densenets.reproduce.targets import Entry, entries, title

SCALES = ("cpu", "gpu", "paper")


def listed(target: str, scale: str = "paper", **fields: Any) -> list[Entry]:
    return entries(ReproduceOptions(target, scale=scale, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(("target", "scale"), list(itertools.product(TARGETS, SCALES)))
@pytest.mark.parametrize("recipes", ["own", "densenet"])
def test_every_run_has_a_recipe_and_a_name_of_its_own(target: str, scale: str, recipes: str) -> None:
    found = listed(target, scale, recipes=recipes)
    bases = [entry.base for entry in found]
    assert len(set(bases)) == len(bases)
    for entry in found:
        assert entry.recipe.model.name == entry.network
        assert entry.series
        if recipes == "densenet":
            assert "-own-" not in entry.base


def test_table_2_is_every_figure_that_the_paper_prints() -> None:
    found = listed("table2")
    printed = {(entry.network, entry.columns[0]): entry.published[entry.columns[0]] for entry in found}
    assert len(printed) == len(found)
    # Some of the table's corners, and how many figures it has of networks that can be named here.
    assert printed["densenet-bc-190-40", "cifar10+"] == 3.46
    assert printed["nin", "svhn"] == 2.35
    assert printed["preact-resnet1001", "cifar100"] == 33.47
    assert printed["wrn-16-4", "svhn"] == 1.64
    assert ("highway-19", "cifar10") not in printed
    assert len([network for network, _ in printed if network.startswith("densenet")]) == 5 * 5 + 2
    recipe = {(entry.network, entry.columns[0]): entry.base for entry in found}
    assert recipe["resnet110", "cifar10"] == "cifar10-plain-own-resnet110"
    assert recipe["densenet-40-12", "cifar10"] == "cifar10-plain-densenet-40-12"
    assert recipe["dsn", "cifar100+"] == "cifar100-own-dsn"


def test_table_3_has_one_run_for_single_crop_and_ten_crops() -> None:
    found = listed("table3")
    assert [entry.network for entry in found] == ["densenet121", "densenet169", "densenet201", "densenet264"]
    assert found[0].columns == ("imagenet", "imagenet 10-crop")
    assert found[0].published == {"imagenet": 25.02, "imagenet 10-crop": 23.61}


def test_figure_3_compares_densenets_with_resnets() -> None:
    series = {entry.network: entry.series for entry in listed("fig3")}
    assert set(series.values()) == {"DenseNet-BC", "ResNet"}
    assert all(entry.published for entry in listed("fig3"))


def test_figure_4_has_the_variants_by_depth_and_the_curves_of_two() -> None:
    found = listed("fig4")
    by_series: dict[str, int] = {}
    for entry in found:
        by_series[entry.series] = by_series.get(entry.series, 0) + 1
    assert by_series == {
        "DenseNet": 3, "DenseNet-B": 3, "DenseNet-C": 3, "DenseNet-BC": 5, "ResNet (pre-activation)": 4,
    }  # fmt: skip
    assert [entry.network for entry in found if entry.curves] == ["densenet-bc-100-12", "preact-resnet1001"]


def test_the_papers_scale_changes_nothing_but_where_it_runs() -> None:
    for entry in listed("table2"):
        assert set(entry.changes) == {"data.root", "training.device"}
    assert listed("table2", data=DataPlace(download=True))[0].recipe.data.download


def test_a_gpu_gets_a_tenth_of_the_epochs() -> None:
    full = {entry.base: entry.recipe for entry in listed("table2")}
    for entry in listed("table2", "gpu"):
        whole = full[entry.base]
        assert entry.recipe.training.epochs == whole.training.epochs // 10
        assert entry.recipe.schedule.milestones == whole.schedule.milestones
        assert entry.recipe.training.precision == "bfloat16"


def test_two_cores_compare_equal_parameters_on_equal_images() -> None:
    found = [entry for entry in listed("fig4", "cpu") if entry.curves]
    assert {entry.series for entry in found} == {
        "DenseNet-BC", "ResNet (pre-activation)", "Highway Network", "FractalNet", "plain",
    }  # fmt: skip
    counts = [
        layer_table(entry.network, named_config(entry.network), (32, 32)).total("parameters")
        for entry in found
    ]
    assert max(counts) < 1.025 * min(counts)
    # A cosine has no use for the milestones, which stay those of the own recipes.
    same = {
        (recipe.data, recipe.training, recipe.schedule.name, recipe.schedule.warmup_epochs)
        for recipe in (entry.recipe for entry in found)
    }
    assert len(same) == 1
    # What differs is the optimiser, each network's own.
    assert len({entry.recipe.optimizer for entry in found}) > 2
    assert len({e.recipe.optimizer for e in listed("fig4", "cpu", recipes="densenet")}) == 1


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_smaller_scales_say_so(scale: str) -> None:
    text = title(ReproduceOptions("fig4", scale=scale))  # type: ignore[arg-type]
    assert ("12,800" in text and "8 epochs" in text) if scale == "cpu" else "a tenth" in text
    # The paper's figures belong to other runs: at a smaller scale no network of two cores has any.
    if scale == "cpu":
        assert not any(entry.published for entry in listed("fig4", "cpu"))
