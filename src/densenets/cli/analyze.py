"""`densenets analyze ANALYSIS ...`: one short function an analysis; heavy imports inside it.

Each writes its data to the folder of --out, its figure too where matplotlib is installed, and prints a table
or JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from densenets.analysis.cost.cost_config import CostConfig
from densenets.analysis.gradients.gradients_config import GradientsConfig
from densenets.analysis.memory.memory_config import MemoryConfig
from densenets.analysis.reuse.reuse_config import ReuseConfig
from densenets.cli.analysis_options import (
    AnalysisOptions,
    CheckpointOptions,
    EfficiencyOptions,
    OutputOptions,
    SaliencyOptions,
)
from densenets.cli.command import Command
from densenets.data.data_config import require_package_of
from densenets.extras import has_extra, require
from densenets.files import json_text, write_csv, write_json


def analyze_reuse(options: CheckpointOptions[ReuseConfig]) -> None:
    """Weights that each layer gives to every source before it, of a trained DenseNet."""
    draws = _has_plots("reuse")
    from densenets.analysis.reuse.compute import feature_reuse
    from densenets.analysis.reuse.table import print_reuse
    from densenets.checkpoint import read_checkpoint

    reuse = feature_reuse(read_checkpoint(options.checkpoint).model, options.config)
    data = {"checkpoint": str(options.checkpoint), **reuse.to_dict()}
    if draws:
        from densenets.analysis.reuse.figure import write_reuse

        write_reuse(reuse, f"feature reuse, {options.checkpoint}", options.out / "reuse")
    rows = [dataclasses.asdict(row) for row in reuse.rows()]
    _finish("reuse", options, data, rows, lambda: print_reuse(str(options.checkpoint), reuse), draws=draws)


def analyze_gradients(options: AnalysisOptions[GradientsConfig]) -> None:
    """Signal and gradient by depth of networks, at initialisation and along training."""
    require_package_of(options.config.data)
    draws = _has_plots("gradients")
    from densenets.analysis.gradients.compute import gradient_flow, measurements
    from densenets.analysis.gradients.table import print_gradients
    from densenets.machine import choose_device, keep_freed_memory
    from densenets.progress import announcements

    if choose_device(options.config.device).type == "cpu":
        keep_freed_memory()
    with announcements(measurements(options.config)) as announce:
        flow = gradient_flow(options.config, announce)
    if draws:
        from densenets.analysis.gradients.figure import write_gradients

        write_gradients(flow, options.out / "gradients")
    rows = [row.to_dict() for row in flow.rows()]
    _finish("gradients", options, flow.to_dict(), rows, lambda: print_gradients(flow), draws=draws)


def analyze_memory(options: AnalysisOptions[MemoryConfig]) -> None:
    """Training memory of a network against depth and batch."""
    draws = _has_plots("memory")
    from densenets.analysis.memory.compute import measurements, memory_growth
    from densenets.analysis.memory.table import print_memory
    from densenets.progress import announcements

    with announcements(measurements(options.config)) as announce:
        growth = memory_growth(options.config, announce)
    if draws:
        from densenets.analysis.memory.figure import write_memory

        write_memory(growth, options.out / "memory")
    _finish("memory", options, growth.to_dict(), growth.rows(), lambda: print_memory(growth), draws=draws)


def analyze_cost(options: AnalysisOptions[CostConfig]) -> None:
    """Multiply-adds and measured time of networks' training steps."""
    draws = _has_plots("cost")
    from densenets.analysis.cost.compute import step_costs
    from densenets.analysis.cost.table import print_cost
    from densenets.progress import announcements

    with announcements(len(options.config.steps)) as announce:
        costs = step_costs(options.config, announce)
    if draws:
        from densenets.analysis.cost.figure import write_cost

        write_cost(costs.rows, options.out / "cost")
    rows = [row.to_dict() for row in costs.rows]
    _finish("cost", options, costs.to_dict(), rows, lambda: print_cost(costs), draws=draws)


def analyze_efficiency(options: EfficiencyOptions) -> None:
    """Error of finished runs against what they cost."""
    draws = _has_plots("efficiency")
    from densenets.analysis.efficiency.compute import efficiency_rows
    from densenets.analysis.efficiency.table import print_efficiency
    from densenets.progress import announcements

    with announcements(len(options.runs)) as announce:
        rows = efficiency_rows(options.runs, measure=options.measure, announce=announce)
    if draws:
        from densenets.analysis.efficiency.figure import RUN_AXES, write_comparison

        title = f"{len(options.runs)} finished runs"
        images = "validation or test images"
        write_comparison(rows, title, options.out / "efficiency", RUN_AXES, evaluated_on=images)
    data = [row.to_dict() for row in rows]
    flat = [{name: value for name, value in row.items() if name != "curves"} for row in data]
    _finish("efficiency", options, {"rows": data}, flat, lambda: print_efficiency(rows), draws=draws)


def analyze_saliency(options: SaliencyOptions) -> None:
    """Evidence for a class in pictures, dense block by dense block."""
    require("saliency", "analyze saliency")
    from densenets.analysis.saliency.compute import saliency
    from densenets.analysis.saliency.figure import write_saliency
    from densenets.analysis.saliency.table import print_saliency
    from densenets.checkpoint import read_checkpoint
    from densenets.machine import choose_device
    from densenets.prediction import find_images
    from densenets.progress import announcements

    paths, device = find_images(options.images), choose_device(options.device)
    explained = saliency(
        read_checkpoint(options.checkpoint), paths, class_name=options.class_name, device=device
    )
    with announcements(len(paths)) as announce:
        images = []
        for path in paths:
            announce(path.name)
            images.append(next(explained))
    write_saliency(images, options.out / "saliency")
    data = {"checkpoint": str(options.checkpoint), "images": [image.to_dict() for image in images]}
    rows = [dataclasses.asdict(row) for image in images for row in image.rows()]
    _finish(
        "saliency", options, data, rows, lambda: print_saliency(str(options.checkpoint), images), draws=True
    )


REUSE = Command(title="analyze reuse", options=CheckpointOptions[ReuseConfig], call=analyze_reuse, flat=True)
GRADIENTS = Command(
    title="analyze gradients", options=AnalysisOptions[GradientsConfig], call=analyze_gradients, flat=True
)
MEMORY = Command(
    title="analyze memory", options=AnalysisOptions[MemoryConfig], call=analyze_memory, flat=True
)
COST = Command(title="analyze cost", options=AnalysisOptions[CostConfig], call=analyze_cost, flat=True)
EFFICIENCY = Command(title="analyze efficiency", options=EfficiencyOptions, call=analyze_efficiency)
SALIENCY = Command(title="analyze saliency", options=SaliencyOptions, call=analyze_saliency)


def _has_plots(name: str) -> bool:
    return has_extra("plots", f"{name}.png and {name}.svg")


def _finish(
    name: str,
    options: OutputOptions,
    data: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    print_table: Callable[[], None],
    *,
    draws: bool,
) -> None:
    """Write an analysis as JSON, with where and when it was made, and its rows as CSV; then print it.

    A row may lack columns that others have, such as one whose measurement failed. `draws`: its figure was
    written too.
    """
    import torch

    from densenets.machine import environment

    report = {**environment(torch.device("cpu")), **data}
    write_json(options.out / f"{name}.json", report)
    columns = dict.fromkeys(column for row in rows for column in row)
    write_csv(options.out / f"{name}.csv", [columns | row for row in rows])
    if options.json:
        print(json_text(report))
        return
    print_table()
    suffixes = ("json", "csv", *(("png", "svg") if draws else ()))
    print(f"{options.out} holds {', '.join(f'{name}.{suffix}' for suffix in suffixes)}")
