"""Learning-rate schedules as pure functions of the step, which need no saved state."""

from __future__ import annotations

import math

from densenets.training.recipe import ScheduleRecipe

_ONECYCLE_START = 1 / 25  # the first rate of a one-cycle schedule as a fraction of the highest


def learning_rate(
    schedule: ScheduleRecipe, highest: float, step: int, steps_per_epoch: int, epochs: int
) -> float:
    """The learning rate of a step.

    Args:
        schedule: name and constants of the schedule.
        highest: the rate that the schedule scales.
        step: of the whole run, from 0.
        steps_per_epoch: number of steps of an epoch.
        epochs: of the whole run.
    """
    total = steps_per_epoch * epochs
    progress = step / total
    if schedule.name == "onecycle":
        return highest * _one_cycle(progress, schedule.peak)
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:
        return highest * min(1.0, (step + 1) / warmup)
    if schedule.name == "cosine":
        return highest * _cosine((step - warmup) / max(1, total - warmup))
    passed = sum(step >= round(milestone * total) for milestone in schedule.milestones)
    return highest * schedule.factor**passed


def _one_cycle(progress: float, peak: float) -> float:
    """The one-cycle factor (Smith and Topin 2017): a cosine up to 1 at `peak`, then a cosine down to 0."""
    if progress < peak:
        return 1 - (1 - _ONECYCLE_START) * _cosine(progress / peak)
    return _cosine((progress - peak) / (1 - peak))


def _cosine(progress: float) -> float:
    """Half a cosine, from 1 at progress 0 to 0 at progress 1."""
    return (1 + math.cos(math.pi * progress)) / 2
