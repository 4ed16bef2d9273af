from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from densenets.analysis.confusion_figure import write_confusion
from densenets.analysis.curves_figure import write_curves
from densenets.analysis.learning_curves import Epoch

CONFUSION = [[999, 1, 0], [1, 2, 1], [0, 0, 0]]
CLASSES = ("ant", "bee", "cow")


def epochs(count: int) -> list[Epoch]:
    """The epochs of a run."""
    return [
        Epoch(
            epoch=number,
            split="test",
            train_error=90 / number,
            evaluation_error=90 / number,
            train_loss=2 / number,
            evaluation_loss=2 / number,
        )
        for number in range(1, count + 1)
    ]


def texts(svg: Path) -> list[str]:
    """Every piece of text in a picture."""
    root = ElementTree.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def assert_sane(png: Path) -> None:
    with Image.open(png) as image:
        image.load()
        assert image.format == "PNG"
        assert 400 <= min(image.size) <= max(image.size) <= 2500
        assert len(image.convert("L").getcolors(256) or []) > 2  # not one empty field


def test_a_confusion_matrix_is_a_png_and_an_svg(tmp_path: Path) -> None:
    write_confusion(CONFUSION, CLASSES, tmp_path / "confusion")
    assert_sane(tmp_path / "confusion.png")
    assert len(texts(tmp_path / "confusion.svg")) > 3


def test_cells_are_percent_of_the_true_class(tmp_path: Path) -> None:
    write_confusion(CONFUSION, CLASSES, tmp_path / "confusion")
    shown = texts(tmp_path / "confusion.svg")
    assert [shown.count(name) for name in CLASSES] == [2, 2, 2]  # on both axes
    # 999 and 1 of 1000; 1, 2 and 1 of 4; a class without images has none.
    assert [shown.count(cell) for cell in ("<1", "25", "50")] == [1, 2, 1]


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    for stem in ("first", "second"):
        write_confusion(CONFUSION, CLASSES, tmp_path / stem)
        write_curves(epochs(3), "a run", "test", tmp_path / f"{stem}-curves")
    for ending in (".svg", ".png", "-curves.svg", "-curves.png"):
        assert (tmp_path / f"first{ending}").read_bytes() == (tmp_path / f"second{ending}").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 30, 31, 100])
def test_any_number_of_classes_can_be_drawn(tmp_path: Path, count: int) -> None:
    classes = [f"class {n}" for n in range(count)]
    diagonal = [[int(i == j) for j in range(count)] for i in range(count)]
    write_confusion(diagonal, classes, tmp_path / "confusion")
    assert_sane(tmp_path / "confusion.png")
    # More names than 30 could not be read.
    assert ("class 0" in texts(tmp_path / "confusion.svg")) is (count <= 30)


@pytest.mark.parametrize("name", ["under_$5_$10", "a & b <c>", "_hidden", "50%", "a\\b", "{x}^2"])
def test_class_names_are_no_markup(tmp_path: Path, name: str) -> None:
    write_confusion([[1, 0], [0, 1]], (name, "other"), tmp_path / "confusion")
    assert texts(tmp_path / "confusion.svg").count(name) == 2


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_the_curves_of_any_run_can_be_drawn(tmp_path: Path, count: int) -> None:
    write_curves(epochs(count), "a run", "test", tmp_path / "curves")
    assert_sane(tmp_path / "curves.png")
    shown = texts(tmp_path / "curves.svg")
    assert {"a run", "top-1 error (%)", "loss (nats)", "epoch", "training", "test"} <= set(shown)


def test_a_stem_may_hold_a_dot(tmp_path: Path) -> None:
    write_curves(epochs(2), "a run", "test", tmp_path / "rate-0.1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rate-0.1.png", "rate-0.1.svg"]
