from __future__ import annotations

import pytest
import torch

from densenets.training.recipe import ScheduleRecipe
from densenets.training.schedule import learning_rate


def rates(schedule: ScheduleRecipe, steps_per_epoch: int, epochs: int, highest: float = 0.1) -> list[float]:
    total = steps_per_epoch * epochs
    return [learning_rate(schedule, highest, step, steps_per_epoch, epochs) for step in range(total)]


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.1),
        (147 * 700, 0.1),  # 49% of 300 epochs
        (150 * 700 - 1, 0.1),
        (150 * 700, 0.01),  # 50%
        (225 * 700 - 1, 0.01),
        (225 * 700, 0.001),  # 75%
        (300 * 700 - 1, 0.001),
    ],
)
def test_the_papers_rate_falls_at_half_and_three_quarters(step: int, rate: float) -> None:
    assert learning_rate(ScheduleRecipe(), 0.1, step, 700, 300) == pytest.approx(rate)


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 39, 313, 5004, 5005])
def test_thirds_of_90_epochs_are_ends_of_epochs(steps_per_epoch: int) -> None:
    schedule = ScheduleRecipe(milestones=(30 / 90, 60 / 90))
    for epoch, before, after in ((30, 0.1, 0.01), (60, 0.01, 0.001)):
        first = epoch * steps_per_epoch
        assert learning_rate(schedule, 0.1, first - 1, steps_per_epoch, 90) == pytest.approx(before)
        assert learning_rate(schedule, 0.1, first, steps_per_epoch, 90) == pytest.approx(after)


def test_milestones_and_factor_can_be_others() -> None:
    schedule = ScheduleRecipe(milestones=(0.1, 0.2, 0.9), factor=0.5)
    assert rates(schedule, 1, 10, highest=8) == pytest.approx([8, 4, 2, 2, 2, 2, 2, 2, 2, 1])
    assert rates(ScheduleRecipe(milestones=()), 2, 3) == [0.1] * 6


def test_a_cosine_falls_from_the_highest_rate_to_almost_0() -> None:
    cosine = rates(ScheduleRecipe(name="cosine"), 10, 20)
    assert cosine[0] == 0.1
    assert cosine[100] == pytest.approx(0.05)
    assert 0 < cosine[-1] < 1e-5
    assert cosine == sorted(cosine, reverse=True)


def test_a_cosine_is_pytorchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
    for rate in rates(ScheduleRecipe(name="cosine"), 12, 5):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("name", ["cosine", "multistep"])
def test_the_warm_up_is_linear_and_ends_at_the_highest_rate(name: str) -> None:
    warm = rates(ScheduleRecipe(name=name, warmup_epochs=2), 5, 10)
    assert warm[:10] == pytest.approx([0.01 * step for step in range(1, 11)])
    assert max(warm) == pytest.approx(0.1)


def test_after_the_warm_up_a_cosine_takes_what_is_left() -> None:
    warm = rates(ScheduleRecipe(name="cosine", warmup_epochs=2), 5, 10)
    assert warm[10:] == pytest.approx(rates(ScheduleRecipe(name="cosine"), 5, 8))


@pytest.mark.parametrize("name", ["multistep", "cosine", "onecycle"])
@pytest.mark.parametrize("warmup_epochs", [0, 0.5, 2.3, 50])
@pytest.mark.parametrize("steps_per_epoch", [1, 3, 10])
def test_no_rate_is_above_the_highest(name: str, warmup_epochs: float, steps_per_epoch: int) -> None:
    schedule = ScheduleRecipe(name=name, warmup_epochs=warmup_epochs)
    all_rates = rates(schedule, steps_per_epoch, 10)
    assert all(0 < rate <= 0.1 + 1e-12 for rate in all_rates)


@pytest.mark.parametrize("peak", [0.3, 0.5])
def test_one_cycle_is_pytorchs(peak: float) -> None:
    # PyTorch ends its ascent at step pct_start * total_steps - 1 and its descent at the last step,
    # ours at peak * steps and one step behind the last; so PyTorch is given one step more.
    steps = 100
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.3,
        total_steps=steps + 1,
        pct_start=(peak * steps + 1) / (steps + 1),
        div_factor=25,
        final_div_factor=1e9,
        cycle_momentum=False,
    )
    ours = rates(ScheduleRecipe(name="onecycle", peak=peak), 10, 10, highest=0.3)
    for rate in ours:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        oracle.step()
    assert ours[0] == pytest.approx(0.3 / 25)
    assert max(ours) == ours[round(peak * steps)] == pytest.approx(0.3)
    assert ours[-1] < 0.3 / 500
