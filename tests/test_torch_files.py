import io
import os
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from mutations import odd_tensors

from densenets.errors import InputError
from densenets.profiling.peak_memory import PeakMemory
from densenets.torch_files import check_tensors, read_torch_file


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def packed(path: Path, parts: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return path


def parts_of(value: object) -> dict[str, bytes]:
    content = io.BytesIO()
    torch.save(value, content)
    file = zipfile.ZipFile(content)
    return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize("zipped", [True, False])
def test_what_was_saved_comes_back(tmp_path: Path, zipped: bool) -> None:
    value = {"weights": {"a": torch.arange(5.0)}, "epoch": 3, "names": ["x"]}
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch_file(tmp_path / "a.pt")
    assert torch.equal(found["weights"]["a"], torch.arange(5.0))
    assert (found["epoch"], found["names"]) == (3, ["x"])


def test_a_packed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    parts = parts_of({"a": torch.zeros(10)})
    bomb = {name: bytes(3 * 10**8) if name.endswith("data/0") else part for name, part in parts.items()}
    path = packed(tmp_path / "bomb.pt", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    memory = PeakMemory()
    with pytest.raises(InputError, match=r"bomb\.pt is packed, as no file of torch\.save is"):
        read_torch_file(path)
    assert memory.read() < 10**8


@pytest.mark.parametrize(
    ("entry", "program"),
    [("net/code/__torch__/Net.py", "TorchScript"), ("net/archive_format", "torch.export or AOTInductor")],
)
def test_programs_are_called_what_they_are(tmp_path: Path, entry: str, program: str) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr(entry, "def forward")
    with pytest.raises(
        InputError, match=rf"a program of {program}, which holds code; save the network's state"
    ):
        read_torch_file(tmp_path / "net.pt")


def test_what_is_none_is_told_in_words_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.pt"
    path.write_text("# not weights\n")  # whose first byte is no instruction of a pickle
    with pytest.raises(InputError) as told:
        read_torch_file(path)
    assert str(told.value) == f"{path} is not a whole PyTorch file"


def test_parts_that_say_they_are_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    # Two names for the same bytes: the directory at the end names an entry twice.
    content = bytearray(packed(tmp_path / "a.pt", {"a/data/0": bytes(10**5)}).read_bytes())
    start, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    twice = content[:end] + content[start:end] + content[end:]
    end += end - start
    twice[end + 8 : end + 16] = (2).to_bytes(2, "little") * 2 + (2 * (end - start) // 2).to_bytes(4, "little")
    (tmp_path / "twice.pt").write_bytes(twice)
    with pytest.raises(InputError, match="its parts are larger than the file"):
        read_torch_file(tmp_path / "twice.pt")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        read_torch_file(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["sparse", "quantised", "meta"])
def test_tensors_that_are_no_plain_ones_are_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a.pt", {})
    with pytest.raises(InputError, match=r"layer\.weight is sparse, quantised or without values"):
        check_tensors([("layer.weight", odd_tensors()[name]())], path)


@pytest.mark.parametrize("name", ["expanded", "repeated"])
def test_a_value_that_stands_for_many_is_not_spread_out(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a.pt", {"a": odd_tensors()[name]()})
    assert path.stat().st_size < 10**4
    found = read_torch_file(path)
    with pytest.raises(InputError, match="are much larger than the file"):
        check_tensors(found.items(), path)


def test_many_views_of_the_same_values_are_not_spread_out(tmp_path: Path) -> None:
    values = torch.zeros(10**5)
    tied = {f"{number}": values for number in range(3)}
    check_tensors(tied.items(), saved(tmp_path / "tied.pt", tied))
    many = {f"{number}": values for number in range(100)}
    with pytest.raises(InputError, match="are much larger than the file"):
        check_tensors(many.items(), saved(tmp_path / "many.pt", many))


def pickle_of(function: str, argument: bytes) -> bytes:
    """A pickle that calls a function with an argument, as no file of torch.save does."""
    module, _, name = function.rpartition(".")
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + argument + b"tR."


BILLIONS = b"\x8a\x05" + (10**11).to_bytes(5, "little")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "pickled",
    [
        pickle_of("builtins.bytearray", BILLIONS),
        pickle_of("builtins.set", pickle_of("builtins.bytearray", BILLIONS)[2:-1]),
        pickle_of("collections.Counter", pickle_of("torch.Tensor", BILLIONS)[2:-1]),
        pickle_of("torch._utils._rebuild_meta_tensor_no_storage", BILLIONS),
        b"\x80\x02X\xff\xff\xff\xffa",
        b"\x80\x02]r\xff\xff\xff\xff.",  # for the place of which C's Unpickler takes 64 GB
    ],
    ids=["bytes", "set", "counter", "meta", "text", "memo"],
)
@pytest.mark.slow
def test_a_number_in_a_file_takes_no_memory(tmp_path: Path, pickled: bytes, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    if zipped:
        packed(path, {"a/data.pkl": pickled, "a/version": b"3\n", "a/byteorder": b"little"})
    else:
        magic, rest = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps({"little_endian": True}, 2)
        path.write_bytes(magic + pickle.dumps(1001, 2) + rest + pickled + pickle.dumps([], 2))
    memory = PeakMemory()
    if b"]r" in pickled:
        assert read_torch_file(path) == []
    else:
        with pytest.raises(InputError, match=r"holds more than weights|is not a whole PyTorch file"):
            read_torch_file(path)
    assert memory.read() < 10**8


def test_what_trainers_keep_beside_the_weights_is_read(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3).T)
    kept = {
        "model": OrderedDict(weight=weight),
        "milestones": Counter([3, 3]),
        "seen": {1, 2},
        "size": weight.shape,
        "type": torch.float16,
    }
    for zipped in (True, False):
        torch.save(kept, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        found = read_torch_file(tmp_path / "a.pt")
        assert torch.equal(found.pop("model")["weight"], weight)
        assert found == {name: kept[name] for name in found}


def test_a_size_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    parts = parts_of({"a": torch.zeros(10)})
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))
    # How many numbers are stored, and how many of them are the tensor's.
    parts[pickled], changes = re.subn(rb"K\x0a", b"J\x00\x00\x00\x10", parts[pickled])
    assert changes
    with pytest.raises(InputError, match="is not a whole PyTorch file"):
        read_torch_file(packed(tmp_path / "a.pt", parts))
