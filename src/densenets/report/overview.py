"""A run or a checkpoint gathered for its report: network, evaluation, mistakes, feature reuse, cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from densenets.analysis.cost.compute import CostRow, cost_row
from densenets.analysis.reuse.compute import FeatureReuse, feature_reuse
from densenets.analysis.run_facts import RunFacts, read_run
from densenets.checkpoint import Checkpoint, read_checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.distributed import joined_ranks
from densenets.errors import InputError, NotFinite
from densenets.evaluation import Evaluation
from densenets.finite import check_weights
from densenets.machine import environment
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_rows import LayerTable
from densenets.models.layer_table import layer_table
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import name_of
from densenets.ops.execution import Execution
from densenets.profiling.measured_step import measured_step
from densenets.profiling.step import StepConfig
from densenets.progress import announcements, progress_bar
from densenets.records import RunEvaluation
from densenets.report.mistakes import Mistake, evaluate_with_mistakes
from densenets.report.overview_config import OverviewConfig

_SMALL_BATCH, _LARGE_BATCH = 64, 4  # of a checkpoint that does not say how it was trained, by image size
_LARGE_SIDE = 64  # pixels


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything that the report of a run or a checkpoint shows.

    Attributes:
        source: the run's folder or the file.
        name: of the run's recipe, or the file's.
        network: its name, or the family and the depth.
        config: what the network is.
        classes: their names.
        preprocessing: from a picture to the network's input.
        details: what the checkpoint says of where it comes from.
        facts: the network layer by layer.
        reuse: its heat maps; None if it is no DenseNet.
        run: the run; None of a checkpoint file.
        evaluation: of the checkpoint; None if nothing was evaluated.
        mistakes: the worst first.
        mistakes_split: the role of the images among which they were looked for.
        mistakes_note: why there are none, in a sentence; empty if there are.
        costs: of the run's training step, a row an execution.
        machine: where the steps were measured and the overview was made, with the command.
    """

    source: Path
    name: str
    network: str
    config: NetworkConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    details: Mapping[str, Any]
    facts: LayerTable
    reuse: FeatureReuse | None
    run: RunFacts | None
    evaluation: RunEvaluation | None
    mistakes: tuple[Mistake, ...]
    mistakes_split: str
    mistakes_note: str
    costs: tuple[CostRow, ...]
    machine: Mapping[str, Any]

    @property
    def default_path(self) -> Path:
        """Default path of its page."""
        return self.source / "report.html" if self.source.is_dir() else self.source.with_suffix(".html")


def make_overview(config: OverviewConfig) -> Overview:
    """Gather what a run's folder or a checkpoint holds, evaluate it and measure a step where that is missing.

    Raises:
        InputError: there is no such run or checkpoint, or it cannot be read.
        NotFinite: weights or logits are NaN or infinite.
    """
    checkpoint = read_checkpoint(config.source)
    check_weights(checkpoint.model)
    run = read_run(config.source) if config.source.is_dir() else None
    network = checkpoint.model.config
    sides = (checkpoint.preprocessing.image_size,) * network.spatial_dims
    evaluation, mistakes, note = _mistakes(checkpoint, config)
    name = run.network if run else name_of(network) or f"{network.title} of depth {network.depth}"
    return Overview(
        source=config.source,
        name=run.recipe.name if run else config.source.stem,
        network=name,
        config=network,
        classes=checkpoint.classes,
        preprocessing=checkpoint.preprocessing,
        details=checkpoint.details,
        facts=layer_table(name, network, sides),
        reuse=feature_reuse(checkpoint.model) if isinstance(network, DenseNetConfig) else None,
        run=run,
        evaluation=(run.evaluation if run else None) or evaluation,
        mistakes=mistakes,
        mistakes_split=evaluation.reported_split if evaluation else "",
        mistakes_note=note,
        costs=tuple(_costs(name, network, sides, run, measure=config.measure)),
        machine=environment(torch.device("cpu")),
    )


def _mistakes(
    checkpoint: Checkpoint, config: OverviewConfig
) -> tuple[RunEvaluation | None, tuple[Mistake, ...], str]:
    """The evaluation, the worst mistakes, and why there are none; data that is missing is no error here."""
    if not config.mistakes:
        return None, (), "They were not looked for."
    with joined_ranks(config.device) as ranks, progress_bar() as bar:
        task = bar.add_task("looking for mistakes", total=None)
        try:
            evaluation, mistakes = evaluate_with_mistakes(
                checkpoint,
                config.evaluation,
                ranks,
                config.mistakes,
                lambda done, of: bar.update(task, completed=done, total=of),
            )
        except NotFinite:
            raise
        except InputError as error:
            return None, (), f"They need the images to evaluate on: {error}."
    note = "" if mistakes else f"All {evaluation.images} images were classified right."
    return _run_evaluation(evaluation), tuple(mistakes), note


def _run_evaluation(evaluation: Evaluation) -> RunEvaluation:
    return RunEvaluation(
        top1_error=evaluation.top1_error,
        split=evaluation.split,
        top5_error=evaluation.top5_error,
        loss=evaluation.loss,
        images=evaluation.images,
        confusion=evaluation.confusion,
    )


def _costs(
    name: str, network: NetworkConfig, sides: tuple[int, ...], run: RunFacts | None, *, measure: bool
) -> list[CostRow]:
    """A training step in the reference execution, and in the one that training takes."""
    step = run.step if run else _default_step(network, sides)
    executions: list[Execution] = ["reference"]
    if isinstance(network, DenseNetConfig) and step.execution != "reference":
        executions.append(step.execution)
    rows = []
    with announcements(len(executions)) as announce:
        for execution in executions:
            executed = dataclasses.replace(step, execution=execution)
            if run:
                cost = run.cost(execution, measure=measure, announce=announce)
            elif measure:
                announce(f"a training step, {execution}")
                cost = measured_step(executed)
            else:
                cost = None
            if cost:
                rows.append(cost_row(name, executed, cost))
    return rows


def _default_step(network: NetworkConfig, sides: tuple[int, ...]) -> StepConfig:
    batch = _LARGE_BATCH if max(sides) > _LARGE_SIDE else _SMALL_BATCH
    return StepConfig(network=network, batch=batch, sides=sides)
