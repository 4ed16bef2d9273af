"""What is made of the objects in a PyTorch file, and what is refused. Nothing of it may run."""

import argparse
import builtins
import collections
import datetime
import os
import pickle
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from densenets.errors import InputError
from densenets.pickles import StandIn
from densenets.torch_files import read_torch_file


class Settings(dict):  # type: ignore[type-arg]
    """As many configuration libraries have it."""


class Steps(list):  # type: ignore[type-arg]
    """A kind of list."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, eps=0.25))
        self.scale = 3


class Calls:
    """Calls a function with arguments when it is unpickled."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.called = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.called


def read(path: Path, content: object, *, zipped: bool = True) -> Any:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return read_torch_file(path, objects=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_network_keeps_its_tensors_and_attributes_and_none_of_its_classes(tmp_path: Path, zipped: bool):
    net = Net()
    found = read(tmp_path / "net.pt", {"model": net, "epoch": 3}, zipped=zipped)["model"]
    assert isinstance(found, StandIn)
    assert type(found).__name__ == "Net"
    assert found.scale == 3
    linear, norm = found._modules["layer"]._modules.values()
    assert isinstance(linear, StandIn)
    assert torch.equal(linear._parameters["weight"], net.layer[0].weight)
    assert norm.eps == 0.25
    assert not hasattr(found, "forward")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_trainers_keep_is_read_as_far_as_it_is_data(tmp_path: Path, zipped: bool):
    content = {
        "args": argparse.Namespace(lr=0.1, root=PurePosixPath("a/b")),
        "best": np.float64(76.2),
        "array": np.zeros(3),
        "settings": Settings(depth=121),
        "steps": Steps([1, 2]),
        "counts": collections.defaultdict(list, a=[1]),
        "time": datetime.datetime(2026, 1, 2),
        "range": range(3),
        "weights": {"a": torch.arange(3.0)},
    }
    found = read(tmp_path / "all.pt", content, zipped=zipped)
    assert found["args"].lr == 0.1
    assert found["settings"] == {"depth": 121}
    assert found["steps"] == [1, 2]
    assert found["counts"] == {"a": [1]}
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))
    assert all(isinstance(found[name], StandIn) for name in ("best", "array", "time", "range"))


def test_a_second_file_is_read_as_if_it_were_the_first(tmp_path: Path):
    read(tmp_path / "a.pt", {"model": collections.OrderedDict(a=torch.zeros(1))})
    assert isinstance(read(tmp_path / "b.pt", Net()), StandIn)


FUNCTIONS = {
    "os.mkdir": lambda mark: Calls(os.mkdir, str(mark)),
    "subprocess.run": lambda mark: Calls(subprocess.run, ["mkdir", str(mark)]),
    "builtins.exec": lambda mark: Calls(builtins.exec, f"import os; os.mkdir({str(mark)!r})"),
    "builtins.eval": lambda mark: Calls(builtins.eval, f"__import__('os').mkdir({str(mark)!r})"),
    "builtins.getattr": lambda mark: Calls(Path.mkdir, mark),  # a method is found by getattr
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("with_sources", [True, False])
def test_what_reaches_the_machine_is_refused_by_its_name(
    tmp_path: Path, name: str, zipped: bool, with_sources: bool
):
    mark, path = tmp_path / "mark", tmp_path / "trap.pt"
    content = [FUNCTIONS[name](mark), Net() if with_sources else torch.zeros(3)]
    with pytest.raises(InputError, match=r"trap\.pt: it asks for \S+, as no weights do; it was not loaded"):
        read(path, content, zipped=zipped)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have run


class Mark:
    """Leaves a mark when it is made, filled, called, or found."""

    path: Path

    def __init__(self, *_: object) -> None:
        self.path.mkdir()

    def __setstate__(self, state: object) -> None:
        self.path.mkdir()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("with_sources", [True, False])
def test_no_class_of_a_file_is_constructed_or_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, with_sources: bool
):
    monkeypatch.setattr(Mark, "path", tmp_path / "mark", raising=False)
    filled = Mark.__new__(Mark)
    filled.state = 3  # type: ignore[attr-defined]
    content = [Calls(Mark, 1), filled, Net() if with_sources else torch.zeros(3)]
    found = read(tmp_path / "a.pt", content, zipped=zipped)
    assert not Mark.path.exists()
    assert found[1].state == 3
    assert [type(value).__name__ for value in found[:2]] == ["Mark", "Mark"]
    assert Mark not in {type(value) for value in found}


def test_names_that_a_stand_in_has_itself_are_only_attributes(tmp_path: Path):
    odd = argparse.Namespace(**{"__setstate__": 2, "__init__": 3, "__del__": 4})
    found = read(tmp_path / "a.pt", {"args": odd, "weights": torch.zeros(1)})["args"]
    assert isinstance(found, StandIn)
    assert vars(found)["__del__"] == 4


def test_only_objects_that_are_asked_for_are_read(tmp_path: Path):
    torch.save({"args": argparse.Namespace()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds more than weights"):
        read_torch_file(tmp_path / "a.pt")


def test_a_function_that_python_does_not_have_is_refused(tmp_path: Path):
    pickled = b"\x80\x02cbuiltins\nnothing_of_the_kind\n(tR."
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    (tmp_path / "a.pt").write_bytes(magic + pickled + pickle.dumps([], 2))
    with pytest.raises(InputError, match=r"asks for builtins\.nothing_of_the_kind"):
        read_torch_file(tmp_path / "a.pt", objects=True)
