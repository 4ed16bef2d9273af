"""A run that was cut off anywhere ends with the bits of one that was not."""

from __future__ import annotations

import random
import signal
import time

import pytest
import torch
from forked_processes import ForkedCommand, run_command
from training_runs import SMALL, weights

from densenets.files import read_json_lines
from densenets.training.run_folder import RunFolder

# Six epochs of a tiny network, saved after every step: enough moments to be hit at.
RUN = (*SMALL, "--training.epochs", "6", "--training.checkpoint-minutes", "0", "--training.ema-decay", "0.9")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    done = run_command("train", "digits", *RUN, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def assert_same(out, whole):
    ours, theirs = weights(out), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    timed = {"seconds"}
    strip = [
        {k: v for k, v in line.items() if k not in timed} for line in read_json_lines(out / "metrics.jsonl")
    ]
    assert strip == [
        {k: v for k, v in line.items() if k not in timed} for line in read_json_lines(whole / "metrics.jsonl")
    ]


def start(out):
    return ForkedCommand("train", "digits", *RUN, "--out", str(out), "--resume")


def wait_for_steps(process, out, steps):
    """Wait until a run has gone some steps beyond where it began, or has ended."""
    metrics = out / "metrics.jsonl"
    begun = len(read_json_lines(metrics))
    while process.is_running and len(read_json_lines(metrics)) < begun + steps:
        time.sleep(0.01)


@pytest.mark.slow
def test_kill_9_at_random_moments(uninterrupted, tmp_path):
    out = tmp_path / "run"
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for _ in range(3):
        process = start(out)
        wait_for_steps(process, out, moments.randrange(8))
        time.sleep(moments.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = start(out).wait()
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert_same(out, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_polite_signal_stops_after_the_step(number, uninterrupted, tmp_path):
    out = tmp_path / "run"
    process = start(out)
    wait_for_steps(process, out, 3)
    process.send_signal(number)
    stopped = process.wait()
    assert stopped.returncode == 128 + number
    assert stopped.stderr.splitlines()[-1].startswith("densenets: stopped after epoch")
    done = start(out).wait()
    assert done.returncode == 0, done.stderr
    assert_same(out, uninterrupted)


def test_an_epoch_that_the_state_does_not_know_is_told_once(tmp_path):
    # Killed after the line of an epoch was written, with a state of the epoch's last step.
    folder = RunFolder(tmp_path)
    step = {"kind": "step", "run_step": 4, "epoch": 0}
    epoch = {"kind": "epoch", "run_step": 4, "epoch": 1}
    later = {"kind": "step", "run_step": 5, "epoch": 1}
    for line in (step, epoch, later):
        folder.add_metrics(line)
    folder.drop_metrics_after(4, epochs=1)
    assert read_json_lines(folder.metrics) == [step, epoch]
    folder.drop_metrics_after(4, epochs=0)
    assert read_json_lines(folder.metrics) == [step]
