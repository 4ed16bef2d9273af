"""`densenets models` and `densenets recipes`: lists of the networks and the recipes. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from densenets.cli.command import Command
from densenets.figures.numbers import shape_text, short
from densenets.files import json_text
from densenets.models.layer_table import layer_table
from densenets.models.registry import NAME_FORMS, NETWORKS, NetworkEntry
from densenets.terminal import console, print_table
from densenets.training.recipe import Recipe
from densenets.training.recipe_cost import recipe_cost
from densenets.training.recipes import named_recipe, recipe_names


@dataclass(frozen=True)
class ListOptions:
    """Form in which a list is printed."""

    json: bool = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A network that has a name, as `densenets models` lists it; the fields are those of its JSON.

    Attributes:
        name: of the network.
        family: of its config.
        depth: the longest path, in layers.
        growth_rate: channels that a dense layer adds; None of other networks.
        input: shape of the images that it was made for, channels and sides.
        parameters: counted by the rules of its paper.
        printed_parameters: as the DenseNet paper prints them, in millions; some are not what the rules give.
            None where it prints none.
        multiply_adds: of one image's forward pass.
        published_errors: top-1 errors that its authors report, in percent, by data set.
        source: of these errors.
    """

    name: str
    family: str
    depth: int
    growth_rate: int | None
    input: tuple[int, ...]
    parameters: int
    printed_parameters: float | None
    multiply_adds: int
    published_errors: Mapping[str, float]
    source: str

    @property
    def printed_text(self) -> str:
        """The printed parameters, with a ! where the paper's own rules give others; empty without them."""
        if self.printed_parameters is None:
            return ""
        follows = abs(self.parameters / (1e6 * self.printed_parameters) - 1) < 0.05
        return f"{self.printed_parameters:g}M" + ("" if follows else " !")


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """A recipe, as `densenets recipes` lists it; the fields are those of its JSON.

    Attributes:
        name: of the recipe.
        model: name of its network.
        data: name of its data set.
        epochs: of training.
        batch_size: images of a step.
        parameters: of the network; None where the size of the data is not known before it is read.
        multiply_adds: of one image's forward pass; None as before.
        training_multiply_adds: of the whole training, by arithmetic: 3 forward passes an image and epoch;
            None as before.
        published_error: top-1 error that the authors of the network report of the same data, in percent;
            None where they report none.
    """

    name: str
    model: str
    data: str
    epochs: int
    batch_size: int
    parameters: int | None
    multiply_adds: int | None
    training_multiply_adds: int | None
    published_error: float | None


def models(options: ListOptions) -> None:
    """Print the networks that have a name."""
    rows = model_rows()
    print(json_text([asdict(row) for row in rows])) if options.json else print_models(rows)


def recipes(options: ListOptions) -> None:
    """Print the recipes with what they cost."""
    rows = recipe_rows()
    print(json_text([asdict(row) for row in rows])) if options.json else print_recipes(rows)


MODELS = Command(title="models", options=ListOptions, call=models)
RECIPES = Command(title="recipes", options=ListOptions, call=recipes)


def model_rows() -> list[ModelRow]:
    """A row for every network that has a name."""
    return [_model_row(name, entry) for name, entry in NETWORKS.items()]


def _model_row(name: str, entry: NetworkEntry) -> ModelRow:
    config = entry.config
    facts = layer_table(name, config, (config.default_size, config.default_size))
    return ModelRow(
        name=name,
        family=config.family,
        depth=config.depth,
        growth_rate=getattr(config, "growth_rate", None),
        input=facts.input_shape,
        parameters=facts.total("parameters"),
        printed_parameters=entry.printed_parameters or None,
        multiply_adds=facts.total("multiply_adds"),
        published_errors=entry.published.top1,
        source=entry.published.source,
    )


def recipe_rows() -> list[RecipeRow]:
    """A row for every recipe."""
    return [_recipe_row(named_recipe(name)) for name in recipe_names()]


def _recipe_row(recipe: Recipe) -> RecipeRow:
    cost = recipe_cost(recipe)
    return RecipeRow(
        name=recipe.name,
        model=recipe.model.name,
        data=recipe.data.name,
        epochs=recipe.training.epochs,
        batch_size=recipe.training.batch_size,
        parameters=cost.parameters if cost else None,
        multiply_adds=cost.multiply_adds if cost else None,
        training_multiply_adds=cost.training_multiply_adds if cost else None,
        published_error=_published_error(recipe),
    )


def _published_error(recipe: Recipe) -> float | None:
    entry = NETWORKS.get(recipe.model.name)
    if entry is None:
        return None
    augmented = recipe.data.name.startswith("cifar") and "crop" in recipe.data.augmentation
    return entry.published.top1.get(recipe.data.name + ("+" if augmented else ""))


def print_models(rows: Sequence[ModelRow]) -> None:
    """Print the networks that have a name."""
    table = Table(box=None)
    columns = (
        "model",
        "L",
        "k",
        "input",
        "parameters",
        "printed",
        "multiply-adds",
        "published top-1 error (%)",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in ("model", "input", columns[-1]) else "right")
    for row in rows:
        errors = ", ".join(f"{data} {error:g}" for data, error in row.published_errors.items())
        table.add_row(
            row.name,
            f"{row.depth}",
            f"{row.growth_rate or ''}",
            shape_text(row.input),
            f"{row.parameters:,}",
            row.printed_text,
            short(row.multiply_adds),
            errors or "-",
        )
    out = console()
    print_table(out, table)
    out.print(
        f"and any of {', '.join(NAME_FORMS)}; + is with standard augmentation; L is the longest path (a Wide "
        "ResNet's name counts two more); printed: parameters as the paper prints them, ! where its own rules "
        "give others",
        style="dim",
        markup=False,
    )


def print_recipes(rows: Sequence[RecipeRow]) -> None:
    """Print the recipes with what they cost."""
    table = Table(box=None)
    columns = ("recipe", "epochs", "batch", "parameters", "multiply-adds", "training", "published error (%)")
    for column in columns:
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.epochs}",
            f"{row.batch_size}",
            f"{row.parameters:,}" if row.parameters else "-",
            short(row.multiply_adds),
            short(row.training_multiply_adds),
            "-" if row.published_error is None else f"{row.published_error:g}",
        )
    out = console()
    print_table(out, table)
    out.print(
        "multiply-adds of one image's forward pass, and of the whole training (3 forward passes an image "
        "and epoch); the published error is the authors', not measured here. A recipe is DATA-NETWORK or, "
        "for the baselines' own training, DATA-own-NETWORK; DATA is cifar10, cifar100, cifar10-plain, "
        "cifar100-plain (without augmentation), svhn, fashion-mnist or imagenet",
        style="dim",
    )
