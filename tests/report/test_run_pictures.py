from __future__ import annotations

from pathlib import Path

import pytest

from densenets.files import json_text
from densenets.report.run_pictures import write_run_pictures

RESULT = {"run": "small", "per_class": [{"class": "ant"}, {"class": "bee"}], "confusion": [[9, 1], [1, 2]]}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_run_is_drawn_with_the_images_that_it_was_evaluated_on(tmp_path: Path, split: str) -> None:
    line = {"kind": "epoch", "run_step": 5, "epoch": 1}
    for images in ("train", split):
        line |= {f"{images}_loss": 2.0, f"{images}_top1_error": 50.0}
    (tmp_path / "metrics.jsonl").write_text(json_text(line) + "\n")
    write_run_pictures(RESULT, tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()} - {"metrics.jsonl"}
    assert drawn == {"confusion.png", "confusion.svg", "curves.png", "curves.svg"}
    curves, confusion = ((tmp_path / f"{name}.svg").read_text() for name in ("curves", "confusion"))
    assert f">{split}<" in curves
    assert ">small<" in curves
    assert all(f">{name}<" in confusion for name in ("ant", "bee"))
