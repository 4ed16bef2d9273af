"""Networks layer by layer, as a table."""

from __future__ import annotations

import pytest
from printed_rows import printed_rows

from densenets.cli.summary import print_summary
from densenets.models.densenet_rows import block_table
from densenets.models.layer_table import layer_table
from densenets.models.registry import named_config
from densenets.ops.execution import Choice

_EXECUTION = Choice("fused", True, "native kernels, avx2")


def test_the_papers_worked_example_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(block_table(1, 5, 4, (32, 32), bottleneck=False), _EXECUTION)
    printed = capsys.readouterr().out
    assert "the layers read 1, 5, 9, 13, 17 and the transition reads 21; 15 connections" in printed
    reads = {name: words[1] for name, words in printed_rows(printed).items() if "denselayer" in name}
    assert list(reads.values()) == ["1", "5", "9", "13", "17"]
    assert printed_rows(printed)["transition1"][:2] == ["16x16", "21"]


def test_a_summary_ends_with_its_totals(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(layer_table("densenet-40-12", named_config("densenet-40-12"), (32, 32)), _EXECUTION)
    printed = capsys.readouterr().out
    assert "densenet-40-12 for 3x32x32 inputs" in printed
    # 3 blocks of 12 layers; 1,019,722 parameters, as counted from the paper's rules.
    assert printed_rows(printed)["total"][:2] == ["234", "1,019,722"]
    assert len([name for name in printed_rows(printed) if "denselayer" in name]) == 36
