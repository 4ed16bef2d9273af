"""Norms beside the convolutions that read through them, by order and channels alone."""

from __future__ import annotations

import pytest
import torch

from densenets.weights.formats.file_modules import FileModule
from densenets.weights.norm_places import place_norms, why_unplaced


def norm(channels: int) -> FileModule:
    vector = torch.zeros(channels)
    return FileModule(
        name=f"norm of {channels}",
        kind="norm",
        tensors={"running_mean": vector, "running_var": vector},
        keys={},
    )


def convolution(in_channels: int, out_channels: int = 4) -> FileModule:
    weight = torch.zeros(out_channels, in_channels, 1, 1)
    return FileModule(
        name=f"conv{in_channels}",
        kind="convolution",
        tensors={"weight": weight},
        keys={"weight": "conv.weight"},
    )


STEM = convolution(3, out_channels=8)
NEEDED = [convolution(8), convolution(16), convolution(8)]


def test_the_stems_norm_is_the_first_that_fits_and_the_last_one_the_last() -> None:
    norms = [norm(channels) for channels in (8, 8, 16, 8, 16, 4)]  # the last is of a head
    places = place_norms(norms, 1, NEEDED, STEM, features=16)
    assert places is not None
    assert places.stem is norms[0]
    assert [places.of_convolution[id(conv)] for conv in NEEDED] == norms[1:4]
    assert places.last is norms[4]
    assert places.head == (norms[5],)


def test_a_head_may_stand_before_everything() -> None:
    norms = [norm(channels) for channels in (32, 8, 16, 8, 16)]
    places = place_norms(norms, 1, NEEDED, None, features=16)
    assert places is not None
    assert places.head == (norms[0],)
    assert places.of_convolution[id(NEEDED[0])] is norms[1]


@pytest.mark.parametrize(
    ("channels", "reason"),
    [
        ((8, 16, 8), "the last batch norm, of 24 channels, is missing"),
        ((8, 16, 24), "a batch norm of 8 channels, such as that of conv.weight, is missing"),
        ((8, 16, 8, 5, 24), "the batch norm norm of 5 of 5 channels fits no convolution"),
        ((16, 8, 8, 24), "its batch norms do not stand in the order of its convolutions"),
    ],
)
def test_what_does_not_fit_is_said(channels: tuple[int, ...], reason: str) -> None:
    norms = [norm(count) for count in channels]
    assert place_norms(norms, 0, NEEDED, None, features=24) is None
    assert why_unplaced(norms, NEEDED, features=24) == reason
