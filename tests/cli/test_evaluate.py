"""An evaluation, as a table."""

from __future__ import annotations

import pytest
from printed_rows import printed_rows

from densenets.cli.evaluate import print_evaluation

EVALUATION = {
    "per_class": [
        {"class": "ant", "images": 1234, "top1_error": 12.345, "most_often_taken_for": "bee"},
        {"class": "bee", "images": 0, "top1_error": None, "most_often_taken_for": None},
    ],
    "top1_error": 12.345,
    "top5_error": 0.5,
    "loss": 1.23456,
    "images": 1234,
    "images_per_second": 567.8,
}


def test_an_evaluation_is_printed_by_class(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(EVALUATION)
    printed = capsys.readouterr().out
    assert printed_rows(printed)["ant"] == ["1234", "12.35", "bee"]
    assert printed_rows(printed)["bee"] == ["0", "-"]
    assert "top-1 error 12.35%, loss 1.2346 on 1234 images; 568 images/s" in printed


def test_a_top5_error_is_told_of_more_than_five_classes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**EVALUATION["per_class"][0], "class": name} for name in "abcdef"]
    print_evaluation(EVALUATION | {"per_class": rows})
    assert "top-1 error 12.35%, top-5 error 0.50%, loss 1.2346 on" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["[other]", "tags[/b]", "a:cat:"])
def test_class_names_are_no_markup(capsys: pytest.CaptureFixture[str], name: str) -> None:
    row = {"class": name, "images": 1, "top1_error": 100.0, "most_often_taken_for": name}
    print_evaluation(EVALUATION | {"per_class": [row]})
    assert printed_rows(capsys.readouterr().out)[name] == ["1", "100.00", name]
