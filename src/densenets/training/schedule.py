"""The learning rate as a pure function of the step: nothing to save, nothing to get out of step."""

from __future__ import annotations

import math

from densenets.training.recipe import ScheduleRecipe

_ONECYCLE_START = 1 / 25  # of the highest rate, where a one-cycle schedule begins


def learning_rate(
    schedule: ScheduleRecipe, highest: float, step: int, steps_per_epoch: int, epochs: int
) -> float:
    """The rate of a step.

    Args:
        schedule: its form.
        highest: the rate that the form scales.
        step: of the whole run, from 0.
        steps_per_epoch: steps of an epoch.
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
    """Smith and Topin 2017: a cosine up to `peak`, a cosine down to 0."""
    if progress < peak:
        return 1 - (1 - _ONECYCLE_START) * _cosine(progress / peak)
    return _cosine((progress - peak) / (1 - peak))


def _cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2
