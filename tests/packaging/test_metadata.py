"""What several files say of one thing is the same: the version, the tools' versions, make's targets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import ROOT

import densenets

WORKFLOWS = tuple(sorted((ROOT / ".github/workflows").glob("*.yml")))
FORMS = tuple(sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    """The versions of constraints.txt."""
    return dict(re.findall(r"^([\w.-]+)==([^;\s]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def test_the_version_is_written_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "densenets.__version__"}


def test_the_newest_heading_of_the_changelog_is_the_version():
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] == densenets.__version__


def test_the_citation_is_of_the_version():
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == densenets.__version__
    assert citation["license"] == "MIT"


def commands() -> list[tuple[str, str]]:
    """The workflows' names and what they run."""
    return [
        (path.name, step["run"])
        for path in WORKFLOWS
        for job in read(path)["jobs"].values()
        for step in job.get("steps", ())
        if "run" in step
    ]


def test_workflows_call_targets_of_make():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {
        target for _, run in commands() for target in re.findall(r"^make ([a-z-]+)$", run, re.MULTILINE)
    }
    assert {"check", "docs", "test-all"} <= called
    assert called <= targets


def test_workflows_pin_what_constraints_pin():
    found = [
        (tool, version) for _, run in commands() for tool, version in re.findall(r"([\w-]+)==(\S+)", run)
    ]
    assert "build" in dict(found)
    for tool, version in found:
        assert pins().get(tool, version) == version, tool


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_but_where_it_says_otherwise(path: Path):
    assert read(path)["permissions"] == {"contents": "read"}


def test_hooks_are_the_pinned_tools_of_make():
    makefile = (ROOT / "Makefile").read_text()
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in local["hooks"]}
    assert tools == {"ruff", "clang-format", "mypy", "lint-imports"}
    for tool in tools:
        assert f"$(BIN)/{tool}" in makefile, tool
        assert {"lint-imports": "import-linter"}.get(tool, tool) in pins(), tool


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_its_host_asks_for(path: Path):
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
