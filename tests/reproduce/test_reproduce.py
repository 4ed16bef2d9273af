"""The whole way: plan, cost, runs, table and figure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from digits_runs import digits_run
from measured_times import given_step
from PIL import Image

from densenets.errors import InputError
from densenets.reproduce import plan_cost
from densenets.reproduce import reproduce as module
from densenets.reproduce.options import DataPlace, ReproduceOptions
from densenets.reproduce.plan import PlannedRun
from densenets.reproduce.reproduce import reproduce


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[PlannedRun]:
    """Two runs of digits instead of a target's; one of them cannot come to an end."""
    runs = [digits_run(tmp_path, seed=0), digits_run(tmp_path, seed=1, optimizer__learning_rate=1e30)]
    runs = [
        dataclasses.replace(run, entry=dataclasses.replace(run.entry, columns=("cifar10+",), curves=True))
        for run in runs
    ]
    monkeypatch.setattr(module, "planned_runs", lambda _: runs)
    return runs


@pytest.mark.slow
def test_runs_become_a_table_and_a_figure(
    digits: list[PlannedRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ReproduceOptions("fig4", out=tmp_path)
    report = reproduce(options)
    printed = capsys.readouterr()
    assert "time left" in printed.out.splitlines()[1] or "time left" in printed.out
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(report.to_dict()))
    (row,) = report.results
    assert (len(row.results), list(row.failed)) == (1, [1])
    table = (tmp_path / "table.md").read_text()
    assert "seed 1 failed: the loss is not a number any more" in table
    assert f"{row.mean_error:.2f} (some failed)" in table
    assert "paper (%) | ours (%) | seeds" in table
    assert report.machine["device"] in table
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.size[0] > 1000
    texts = "".join(ElementTree.parse(tmp_path / "figure.svg").getroot().itertext())
    for said in ("12,800", "8 epochs", "2 seeds", "backward pass", "peak training memory", "DenseNet-BC"):
        assert said in texts, said
    # Once more: nothing is left but what failed, and the same comes out.
    again = reproduce(options)
    assert again.results[0].errors == row.errors


def test_a_plan_starts_nothing(
    digits: list[PlannedRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(plan_cost, "measured_step", lambda _: given_step())
    report = reproduce(ReproduceOptions("fig4", out=tmp_path, plan=True))
    assert report.plan[0].states == {"new": 2, "cut": 0, "done": 0, "failed": 0}
    assert not (tmp_path / "runs").exists()
    assert "2" in capsys.readouterr().out


def test_missing_data_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cifar10"):
        reproduce(ReproduceOptions("fig4", out=tmp_path / "out", data=DataPlace(tmp_path)))
    assert not (tmp_path / "out").exists()


def test_torchrun_is_for_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="say --processes instead"):
        reproduce(ReproduceOptions("fig4", out=tmp_path))


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device 'gpu' cannot be used"):
        reproduce(ReproduceOptions("fig4", out=tmp_path, device="gpu"))
