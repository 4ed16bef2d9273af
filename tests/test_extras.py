"""What the extras bring, and what is said where one is not installed."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from documents import ROOT
from packaging.version import Version

from densenets.errors import InputError
from densenets.extras import _MODULES, PACKAGES, has_extra, missing_packages, require

_BOUND = re.compile(r"([\w-]+)>=([\d.]+)")


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torchcam, matplotlib and scikit-learn were not installed."""
    for module in ("torchcam", "matplotlib", "sklearn"):
        monkeypatch.setitem(sys.modules, module, None)


def names(requirements: list[str]) -> tuple[str, ...]:
    return tuple(re.split(r"[<>=!\[]", text)[0] for text in requirements)


def test_the_table_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert {name: names(extras[name]) for name in PACKAGES} == PACKAGES
    (everything,) = extras["all"]
    assert re.findall(r"\w+", everything)[1:] == list(PACKAGES)
    assert set(extras) == {*PACKAGES, "all", "docs", "test", "dev"}
    assert "densenets[all,docs,test]" in extras["dev"]
    # An extra adds to what is always installed, and no package stands twice.
    for listed in (project["dependencies"], *extras.values()):
        assert len(set(names(listed))) == len(listed)
    assert not {package for packages in PACKAGES.values() for package in packages} & set(
        names(project["dependencies"])
    )


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    supported = [*project["dependencies"], *(text for name in PACKAGES for text in extras[name])]
    lowest = {match[1]: Version(match[2]) for text in supported if (match := _BOUND.match(text))}
    assert len(lowest) == len(set(names(supported)))
    pinned = [
        line.partition("==")
        for line in (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert {name: Version(version) for name, _, version in pinned} == lowest


def test_a_package_is_looked_for_by_the_name_it_is_imported_by() -> None:
    importable = importlib.metadata.packages_distributions()
    for package in {package for packages in PACKAGES.values() for package in packages}:
        distributions = importable[_MODULES.get(package, package)]
        assert _normalized(package) in [_normalized(name) for name in distributions]


def _normalized(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name.lower())


def test_what_is_installed_is_not_missed(capsys: pytest.CaptureFixture[str]) -> None:
    for extra in PACKAGES:
        assert missing_packages(extra) == []
        require(extra, "anything")
        assert has_extra(extra, "nothing")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("hidden")
def test_what_is_needed_and_how_to_get_it_is_one_line() -> None:
    with pytest.raises(InputError) as one:
        require("digits", "the data set digits")
    assert str(one.value) == (
        "the data set digits needs scikit-learn, which is not installed; "
        'pip install "densenets[digits]" brings it'
    )
    with pytest.raises(InputError) as two:
        require("saliency", "analyze saliency")
    assert str(two.value) == (
        "analyze saliency needs torchcam and matplotlib, which are not installed; "
        'pip install "densenets[saliency]" brings them'
    )
    assert missing_packages("report") == ["matplotlib"]


@pytest.mark.usefixtures("hidden")
def test_what_is_left_out_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert not has_extra("plots", "confusion.png")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        'no confusion.png: matplotlib is not installed; pip install "densenets[plots]" brings it\n'
    )


def test_other_ranks_say_nothing(
    hidden: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not has_extra("plots", "confusion.png")
    assert capsys.readouterr().err == ""


def test_a_folder_of_the_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A run's folder has one with its curves.
    (tmp_path / "tensorboard").mkdir()
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert missing_packages("tensorboard") == ["tensorboard"]
