"""Reproduction of a target: its runs, its table and its figure."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from densenets.analysis.learning_curves import reported_split
from densenets.data.data_config import DataConfig
from densenets.data.load import load_data
from densenets.errors import InputError
from densenets.extras import has_extra
from densenets.files import write_json
from densenets.machine import choose_device, environment
from densenets.reproduce.jobs import do_runs
from densenets.reproduce.options import ReproduceOptions
from densenets.reproduce.plan import PlannedRun, planned_runs
from densenets.reproduce.plan_cost import PlanRow, estimated_seconds, measured_costs, plan_rows
from densenets.reproduce.results import ResultRow, result_rows
from densenets.reproduce.tables import print_plan, print_results, write_markdown
from densenets.reproduce.targets import title


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The plan and the results of a target.

    Attributes:
        title: the target, and how its runs are trained.
        plan: a row a network, as it is after the runs.
        results: a row a network and column, also of runs that are not done.
        machine: device, versions, date and command.
    """

    title: str
    plan: Sequence[PlanRow]
    results: Sequence[ResultRow]
    machine: Mapping[str, Any]

    @property
    def machine_text(self) -> str:
        """Device, version of PyTorch and day, for people."""
        return f"{self.machine['device']}, torch {self.machine['torch']}, {self.machine['date'][:10]}"

    def to_dict(self) -> dict[str, Any]:
        """The content of results.json."""
        return {
            "title": self.title,
            "plan": [asdict(row) for row in self.plan],
            "results": [row.to_dict() for row in self.results],
            "machine": self.machine,
        }


def reproduce(options: ReproduceOptions) -> Reproduction:
    """Plan the runs of a target, show what they cost, do those that are not done, and report on all.

    Everything lies in the options' folder: runs/ with a folder a run, costs/ with the measured steps,
    results.json, table.md, and with the extra `plots` figure.png and figure.svg.

    Raises:
        InputError: data is missing, or the device cannot be used; nothing has been written.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("reproduce starts torchrun itself, once a run; say --processes instead")
    device = choose_device(options.device)
    runs = planned_runs(options)
    if not options.plan:
        _check_data(runs)
    draws = has_extra("plots", "figure.png and figure.svg")
    announce = Console(stderr=True, highlight=False)
    costs = measured_costs(runs, options.folder, announce.print)
    heading = f"{title(options)}, {options.seeds} seed{'s' if options.seeds > 1 else ''}"
    if not options.json:
        print_plan(plan_rows(runs, costs), heading)
        sys.stdout.flush()  # before the runs, also where it goes to a file
    if not options.plan:
        part, parts = options.shard_place
        mine = runs[part::parts]
        do_runs(mine, {run.folder: estimated_seconds(run, costs) or 1.0 for run in mine})
    report = Reproduction(
        title=heading,
        plan=plan_rows(runs, costs),
        results=result_rows(runs, costs),
        machine=environment(device),
    )
    if any(row.results or row.failed for row in report.results):
        _write(report, options)
        if draws:
            _draw(report, options)
        if not options.json:
            print_results(report.results, heading)
            figure = "figure.png, " if draws else ""
            announce.print(f"{options.folder} holds table.md, {figure}results.json and runs/")
    return report


def _check_data(runs: list[PlannedRun]) -> None:
    """Load every data set once: what is wrong with it shows before anything is written or measured."""
    configs: dict[str, DataConfig] = {}
    for run in runs:
        configs.setdefault(run.recipe.data.name, run.recipe.data)
    for config in configs.values():
        load_data(config)


def _write(report: Reproduction, options: ReproduceOptions) -> None:
    write_json(options.folder / "results.json", report.to_dict())
    write_markdown(report.results, report.title, report.machine_text, options.folder / "table.md")


def _draw(report: Reproduction, options: ReproduceOptions) -> None:
    from densenets.analysis.efficiency.figure import write_comparison

    shown = [row for row in report.results if row.column in ("cifar10+", "imagenet")]
    split = reported_split(row.split for row in shown)
    write_comparison(
        shown,
        f"{report.title}\n{report.machine_text}",
        options.folder / "figure",
        evaluated_on="held-out images" if options.scale == "cpu" else f"{split} images",
        with_paper=options.scale == "paper",
    )
