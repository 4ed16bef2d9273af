"""The command line: `densenets VERB ...`. One short function a verb; heavy imports inside it.

Wrong input ends with one line on standard error and exit code 2; a bug with its stack trace.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from densenets import __version__
from densenets.cli.analyze import analyze
from densenets.cli.arguments import parse, read_shape
from densenets.cli.options import (
    ConvertOptions,
    EvaluateOptions,
    ListOptions,
    PredictOptions,
    ReportOptions,
    SummaryOptions,
)
from densenets.errors import InputError, Interrupted, unknown_name
from densenets.files import json_text, write_json
from densenets.names import one_line, tell
from densenets.training.recipe import Recipe

if TYPE_CHECKING:
    from densenets.models.network_config import NetworkConfig

_HELP = """usage: densenets VERB [...]

Densely connected convolutional networks without their drawbacks.

  train RECIPE        train a network; the run's folder holds all that comes out of it
  evaluate RUN        error rates, per-class table and confusion matrix of a run or a checkpoint
  predict RUN FILE    what a trained network sees in pictures
  report RUN          one page that opens in a browser: result, mistakes, network, cost
  convert FILE        a checkpoint from the DenseNet weights of another program
  summary MODEL       a network layer by layer: channels, parameters, multiply-adds, memory
  analyze ANALYSIS    see inside: feature reuse, gradients, memory, cost, efficiency, saliency
  benchmark MODEL     time and memory of a network on this machine, beside torchvision's
  reproduce TARGET    a table or figure of the paper, run by run, the paper's figures beside ours
  recipes             the recipes, with what they cost
  models              the networks that have a name

densenets VERB --help shows a verb's options; densenets --version the version.
"""

_TRAIN_HELP = """usage: densenets train RECIPE [--field.sub VALUE ...] [--out FOLDER] [--resume]

densenets recipes lists the recipes; densenets train RECIPE --help shows a recipe's fields.
"""


def main() -> NoReturn:
    """Run the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What the terminal's encoding lacks is shown as in a Python string, and ends nothing.
            stream.reconfigure(errors="backslashreplace")
    # Pillow logs some of what it raises, and Python prints what nobody listens to.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    verb, *rest = list(arguments) or ["--help"]
    try:
        if verb in ("-h", "--help", "help"):
            print(_HELP, end="")
        elif verb == "--version":
            print(f"densenets {__version__}")
        elif verb in _VERBS:
            _VERBS[verb](rest)
        else:
            raise unknown_name("verb", verb, _VERBS)
        sys.stdout.flush()
    except InputError as error:
        print(f"densenets: {one_line(str(error))}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"densenets: {one_line(str(stop))}", file=sys.stderr)
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        print("densenets: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough; Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@dataclass(frozen=True, kw_only=True)
class _TrainOptions(Recipe):
    out: Path
    """The run's folder."""
    resume: bool = False
    """Go on with the run in that folder, if there is one."""


def _train(arguments: list[str]) -> None:
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(_TRAIN_HELP, end="")
        return
    from densenets.training.recipes import named_recipe

    recipe = named_recipe(name)
    default = _TrainOptions(**_fields(recipe), out=Path("runs") / recipe.name)
    options = parse(_TrainOptions, rest, f"train {name}", default)
    from densenets.training.loop import train

    train(Recipe(**_fields(options)), options.out, resume=options.resume)
    if os.environ.get("RANK", "0") == "0":
        print(f"{options.out} holds evaluation.json, confusion.png, curves.png and checkpoints/")


def _fields(recipe: Recipe) -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Recipe)}


def _evaluate(arguments: list[str]) -> None:
    options = parse(EvaluateOptions, arguments, "evaluate")
    from densenets.checkpoint import read_checkpoint
    from densenets.cli.tables import print_evaluation
    from densenets.distributed import joined_ranks
    from densenets.evaluation import EvaluationOptions, evaluate_on, images_of
    from densenets.models.baselines.fractalnet import run_one_column
    from densenets.report.evaluation import write_evaluation

    checkpoint = read_checkpoint(options.run)
    if options.column is not None:
        run_one_column(checkpoint.model, options.column)
    asked = EvaluationOptions(
        data=options.data,
        root=options.root,
        crops=options.crops,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        skip_broken=options.skip_broken,
    )
    images = images_of(checkpoint, asked)
    with joined_ranks(options.device) as ranks:
        result = evaluate_on(checkpoint, images, asked, ranks)
        is_first = ranks.is_first
    facts = {
        "checkpoint": str(options.run),
        "data": options.data or checkpoint.details["data"]["name"],
        "source": images.source,
        "crops": options.crops,
        **result.to_dict(checkpoint.classes),
    }
    if is_first and options.out:
        write_evaluation(facts, checkpoint.classes, options.out)
    if is_first:
        print(json_text(facts)) if options.json else print_evaluation(facts)


def _predict(arguments: list[str]) -> None:
    options = parse(PredictOptions, arguments, "predict")
    if options.top < 1 or options.batch_size < 1:
        raise InputError("--top and --batch-size are at least 1")
    from densenets.checkpoint import read_checkpoint
    from densenets.cli.prediction_rows import write_predictions
    from densenets.machine import choose_device
    from densenets.prediction import find_images, predict

    checkpoint = read_checkpoint(options.run)
    paths = find_images(options.files)
    predictions = predict(
        checkpoint,
        paths,
        device=choose_device(options.device),
        top=options.top,
        batch_size=options.batch_size,
        on_broken=(lambda reason: tell(f"skipped: {reason}")) if options.skip_broken else None,
    )
    write_predictions(predictions, len(paths), options.format, options.out)


def _convert(arguments: list[str]) -> None:
    options = parse(ConvertOptions, arguments, "convert")
    if options.out is None:
        raise InputError("convert needs --out FILE, such as --out network.safetensors")
    from densenets.weights.conventions import Pixels, read_class_names
    from densenets.weights.conversion import convert

    conversion = convert(
        options.source,
        options.out,
        data=options.data,
        pixels=Pixels(mean=options.mean, std=options.std, image_size=options.image_size),
        classes=read_class_names(options.classes) if options.classes else (),
    )
    print("\n".join(conversion.lines))


def _report(arguments: list[str]) -> None:
    options = parse(ReportOptions, arguments, "report")
    from densenets.evaluation import EvaluationOptions
    from densenets.report.overview import OverviewConfig, make_overview
    from densenets.report.write import write_page

    overview = make_overview(
        OverviewConfig(
            source=options.source,
            evaluation=EvaluationOptions(
                data=options.data,
                root=options.root,
                batch_size=options.batch_size,
                workers=options.workers,
                skip_broken=options.skip_broken,
            ),
            mistakes=options.mistakes,
            measure=options.measure,
            device=options.device,
        )
    )
    path = options.out or overview.default_path
    size = write_page(overview, path)
    print(f"{path} ({size / 1e6:.1f} MB); open it in a browser")


def _summary(arguments: list[str]) -> None:
    options = parse(SummaryOptions, arguments, "summary")
    from densenets.cli.tables import print_summary
    from densenets.models.layer_table.densenet_rows import block_facts
    from densenets.models.layer_table.table import network_facts
    from densenets.ops.backends.cpp.library import native_state
    from densenets.ops.execution import choose_execution

    if options.model == "dense-block":
        channels, *sides = read_shape(options.input or "1x32x32")
        facts = block_facts(
            channels,
            options.layers,
            options.growth_rate,
            tuple(sides),
            bottleneck=options.bottleneck,
        )
    else:
        config = _summarized_config(options.model)
        channels, *sides = read_shape(options.input) if options.input else _default_shape(config)
        config = dataclasses.replace(
            config,
            in_channels=channels,
            spatial_dims=len(sides),
            num_classes=options.num_classes or config.num_classes,
        )
        facts = network_facts(options.model, config, tuple(sides))
    execution = choose_execution("auto", device="cpu", dtype="float32", native=native_state())
    if options.json:
        print(json_text({**facts.to_dict(), "execution": str(execution)}))
    else:
        print_summary(facts, execution)


def _summarized_config(model: str) -> NetworkConfig:
    from densenets.models.registry import named_config

    if not Path(model).exists():
        return named_config(model)
    from densenets.checkpoint import read_checkpoint

    return read_checkpoint(model).model.config


def _default_shape(config: NetworkConfig) -> list[int]:
    return [config.in_channels] + [config.default_size] * config.spatial_dims


def _benchmark(arguments: list[str]) -> None:
    from densenets.models.registry import named_config
    from densenets.profiling.benchmark_config import BenchmarkOptions

    options = parse(BenchmarkOptions, arguments, "benchmark")
    shape = read_shape(options.input) if options.input else _default_shape(named_config(options.model))
    config = options.to_config(shape)
    from densenets.profiling.results import all_failed
    from densenets.profiling.runner import run_benchmarks
    from densenets.profiling.table import print_benchmark

    report = run_benchmarks({options.model: config})
    print(json_text(report)) if options.json else print_benchmark(report)
    if options.out:
        write_json(options.out, report)
    if reason := all_failed(report["cases"]):
        raise InputError(reason)


def _reproduce(arguments: list[str]) -> None:
    from densenets.reproduce.options import ReproduceOptions

    options = parse(ReproduceOptions, arguments, "reproduce")
    from densenets.reproduce.reproduce import reproduce

    report = reproduce(options)
    if options.json:
        print(json_text(report))


def _recipes(arguments: list[str]) -> None:
    options = parse(ListOptions, arguments, "recipes")
    from densenets.cli.catalog import recipe_rows
    from densenets.cli.tables import print_recipes

    print(json_text(recipe_rows())) if options.json else print_recipes(recipe_rows())


def _models(arguments: list[str]) -> None:
    options = parse(ListOptions, arguments, "models")
    from densenets.cli.catalog import model_rows
    from densenets.cli.tables import print_models

    print(json_text(model_rows())) if options.json else print_models(model_rows())


_VERBS = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "convert": _convert,
    "report": _report,
    "summary": _summary,
    "analyze": analyze,
    "benchmark": _benchmark,
    "reproduce": _reproduce,
    "recipes": _recipes,
    "models": _models,
}
