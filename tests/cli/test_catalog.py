"""The lists of networks and recipes."""

from __future__ import annotations

import pytest
from printed_rows import printed_rows

from densenets.cli.catalog import RecipeRow, model_rows, print_models, print_recipes, recipe_rows
from densenets.models.registry import NETWORKS
from densenets.training.recipes import recipe_names


def test_every_model_is_listed_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    print_models(model_rows())
    printed = capsys.readouterr().out
    listed = printed_rows(printed)
    assert set(NETWORKS) <= set(listed)
    assert listed["densenet121"][:4] == ["121", "32", "3x224x224", "7,978,856"]
    assert "cifar100+ 24.42, svhn 1.79" in " ".join(printed.split())


def test_every_recipe_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    print_recipes(recipe_rows())
    listed = printed_rows(capsys.readouterr().out)
    assert set(recipe_names()) <= set(listed)
    assert listed["cifar10-densenet-bc-100-12"][:3] == ["300", "64", "769,162"]
    assert listed["cifar10-densenet-bc-100-12"][-1] == "4.51"
    assert listed["finetune"][2:] == ["-"] * 4  # of a folder nothing is known


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (999, "999"),
        (1000, "1 k"),
        (572_000_000, "572 M"),
        (2_850_000_000, "2.85 G"),
        (999_700_000, "1 G"),
        (None, "-"),
    ],
)
def test_costs_are_short(capsys: pytest.CaptureFixture[str], number: int | None, text: str) -> None:
    row = RecipeRow(
        name="some",
        model="any",
        data="digits",
        epochs=1,
        batch_size=2,
        parameters=3,
        multiply_adds=number,
        training_multiply_adds=None,
        published_error=None,
    )
    print_recipes([row])
    assert printed_rows(capsys.readouterr().out)["some"] == ["1", "2", "3", *text.split(), "-", "-"]


def test_the_list_of_models_flags_counts_that_the_rules_do_not_give() -> None:
    rows = {row.name: row for row in model_rows()}
    assert list(rows) == list(NETWORKS)
    assert rows["stochastic-depth-1202"].printed_parameters == 10.2
    assert rows["stochastic-depth-1202"].parameters == 19_421_274
    assert rows["resnet50"].input == (3, 224, 224)
    assert rows["nin"].growth_rate is None
