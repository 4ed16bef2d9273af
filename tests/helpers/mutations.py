"""Files that somebody damaged, or made to do harm: mutations of good ones, each from a seed."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Mutation = Callable[[bytes, random.Random], bytes]

EXTREMES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 10**6, 2**31, 2**53 + 1, 10**12, 2**63, 10**30, 10**400, -(10**12),
    0.0, 0.5, -0.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"),
    "", "0", "1e9", "last", "x" * 5000, "\0", "\ud800", "\x1b[31m", "a\nb", "../../etc/passwd", "[/red]",
    [], [0], [[]], [1] * 1000, ["a", "a"], {}, {"a": 1}, {"": {}},
)  # fmt: skip
_DTYPES = ("F32", "F64", "F16", "BF16", "I64", "I8", "U64", "BOOL", "C64", "F8_E4M3", "F4", "F128", "")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut off, put in, doubled, zeroed or moved."""
    data = bytearray(content)
    place, other = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    kind = rng.randrange(8)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        # The beginning is where most programs stumble.
        for _ in range(rng.choice((1, 2, 8))):
            if data:
                data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
    elif kind == 2:
        del data[place:]
    elif kind == 3:
        data[place:place] = rng.randbytes(rng.choice((1, 8, 1000)))
    elif kind == 4:
        del data[place : min(other, place + rng.choice((1, 8, 1000)))]
    elif kind == 5:
        data[place:other] = bytes(other - place)
    elif kind == 6:
        data[place:place] = data[place:other]
    else:
        return rng.randbytes(rng.choice((0, 1, 8, 100, 5000)))
    return bytes(data)


def changed_json(value: Any, rng: random.Random) -> Any:
    """A value of JSON in which one to three places are others."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed_once(value, rng)
    return value


def _changed_once(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            del value[key]
        elif kind < 0.15:
            value[rng.choice(("", "extra", key + "_", "\ud800", "x" * 3000))] = value.pop(key)
        elif kind < 0.2:
            value["extra"] = copy.deepcopy(rng.choice(EXTREMES))
        else:
            value[key] = _changed_once(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.15:
            del value[place]
        elif kind < 0.3:
            value.insert(place, value[place])
        else:
            value[place] = _changed_once(value[place], rng)
        return value
    return _other(value, rng)


def _other(value: Any, rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.25 and type(value) in (int, float) and abs(value) < 2**100:
        return rng.choice((value + 1, value - 1, 2 * value, -value, value / 2, str(value), [value]))
    if kind < 0.3:
        nested: Any = value
        for _ in range(rng.choice((1, 50, 250))):  # at about a thousand json.dumps itself ends
            nested = rng.choice(([nested], {"a": nested}))
        return nested
    return copy.deepcopy(rng.choice(EXTREMES))  # it may be changed again, in place


def json_text(value: Any, rng: random.Random) -> bytes:
    """The text of a value, sometimes in a form that is not quite JSON."""
    text = json.dumps(value)
    kind = rng.random()
    if kind < 0.05:
        text = text.replace("{", '{"a": 1, "a": 2, ', 1)
    elif kind < 0.08:
        text = "[" * 10**5
    elif kind < 0.12:
        text = text.replace("1", "1" * rng.choice((30, 5000)), 1)
    elif kind < 0.15:
        return b"\xef\xbb\xbf" + text.encode()
    elif kind < 0.17:
        return text.encode("utf-16")
    elif kind < 0.22:
        return damaged(text.encode(), rng)
    return text.encode()


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON file with other values."""
    return json_text(changed_json(json.loads(content), rng), rng)


def mutated_lines(content: bytes, rng: random.Random) -> bytes:
    """A file of JSON lines, one of which has other values."""
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    lines[place] = mutated_json(lines[place], rng)
    return b"\n".join(lines) + b"\n" * rng.randrange(2)


def changed_metadata(metadata: dict[str, str], rng: random.Random) -> dict[str, str]:
    """The texts that describe a network, one of which says something else."""
    name = rng.choice([*metadata, *["model"] * 4 * ("model" in metadata)])
    if metadata[name].startswith(("{", "[")):
        text = json_text(changed_json(json.loads(metadata[name]), rng), rng)
        return {**metadata, name: text.decode(errors="replace")}
    return {**metadata, name: rng.choice(("", "densenets-2", "[]", "{}"))}


def mutated_safetensors(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose description, names, shapes, types or places are others."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.get("__metadata__", {})
    kind = rng.random()
    if metadata and kind < 0.65:
        header["__metadata__"] = changed_metadata(metadata, rng)
    elif kind < 0.9:
        name = rng.choice([key for key in header if key != "__metadata__"] or ["a"])
        entry = header.setdefault(name, {"dtype": "F32", "shape": [], "data_offsets": [0, 4]})
        change = rng.randrange(6)
        if change == 0:
            header[name] = changed_json(entry, rng)
        elif change == 1:
            entry["dtype"] = rng.choice(_DTYPES)
        elif change == 2:
            entry["shape"] = [rng.choice((0, 1, 2**20, 2**40, 2**63 - 1)) for _ in range(rng.randrange(5))]
        elif change == 3 and entry["shape"]:
            # Shapes that hold as many numbers as before.
            entry["shape"] = rng.choice((entry["shape"][::-1], [*entry["shape"], 1]))
        elif change == 4:
            header[rng.choice(("extra", "module." * 2000 + name, name + "\n"))] = header.pop(name)
        else:
            del header[name]
    else:
        return damaged(content, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def odd_tensors() -> dict[str, Callable[[], Any]]:
    """What else than plain weights may stand in a state dict."""
    return {
        "sparse": lambda: torch.zeros(3, 3).to_sparse(),
        "quantised": _quantised,
        "meta": lambda: torch.empty(10**6, 10**6, device="meta"),
        "expanded": lambda: torch.zeros(1).expand(10**9),
        "repeated": lambda: torch.zeros(1).expand(10**5, 10**5, 10**5),
        "window": lambda: torch.zeros(1000).as_strided((500, 500), (1, 1)),
        "complex": lambda: torch.zeros(3, 3, dtype=torch.complex64),
        "integers": lambda: torch.zeros(3, 3, dtype=torch.int64),
        "short": lambda: torch.zeros(3, 3, dtype=torch.float8_e4m3fn),
        "double": lambda: torch.zeros(3, 3, dtype=torch.float64),
        "empty": lambda: torch.zeros(10**9, 0),
        "number": lambda: torch.zeros(()),
        "parameter": lambda: torch.nn.Parameter(torch.zeros(2)),
        "nothing": lambda: None,
        "text": lambda: "weights",
        "list": lambda: [torch.zeros(2)],
        "inner": lambda: {"weight": torch.zeros(2)},
        "nan": lambda: torch.full((3, 3), float("nan")),
    }


def _quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are on their way out; files have them
        return torch._empty_affine_quantized([3], scale=0.1, zero_point=0, dtype=torch.qint8)


def mutated_torch(content: bytes, rng: random.Random) -> bytes:
    """A file of torch.save with other tensors, names or numbers, or whose parts are others."""
    kind = rng.random()
    if kind < 0.2:
        return damaged(content, rng)
    if kind < 0.55 and content.startswith(b"PK"):
        return _mutated_zip(content, rng)
    value = torch.load(io.BytesIO(content), weights_only=True)
    value = _changed_state(value, rng)
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=content.startswith(b"PK"))
    return file.getvalue()


def _changed_state(value: Any, rng: random.Random) -> Any:
    """A state dict or what holds it, with one place changed."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = rng.choice(list(value))
        change = rng.random()
        value = dict(value)
        if change < 0.1:
            del value[key]
        elif change < 0.2:
            value[rng.choice(("extra", "module." * 3000 + str(key), 3, (1, 2), ""))] = value.pop(key)
        elif change < 0.25:
            value["extra"] = rng.choice(list(odd_tensors().values()))()
        else:
            value[key] = _changed_state(value[key], rng)
        return value
    if isinstance(value, Tensor) and rng.random() < 0.4:
        return rng.choice(
            (
                value[None],
                value.flatten()[:1],
                value.double(),
                value.half(),
                value.expand(7, *value.shape),
                value[..., :0],
            )
            if value.dim()
            else (value[None], value.double())
        )
    if rng.random() < 0.5:
        return rng.choice(list(odd_tensors().values()))()
    return rng.choice([extreme for extreme in EXTREMES if not isinstance(extreme, dict)])


def _mutated_zip(content: bytes, rng: random.Random) -> bytes:
    file, made = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    names = file.namelist()
    chosen = rng.choice([names[0]] * 4 + names)
    kind = rng.randrange(5)
    packing = zipfile.ZIP_DEFLATED if kind == 0 else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", packing) as out:
        for name in names:
            part = file.read(name)
            if name == chosen:
                if kind == 1:
                    continue
                if kind == 0 and rng.random() < 0.5:
                    part = bytes(rng.choice((10**6, 10**8)))  # a megabyte or a hundred in a kilobyte
                elif kind >= 2:
                    part = _renumbered(part, rng) if rng.random() < 0.6 else damaged(part, rng)
            out.writestr(name, part)
    return made.getvalue()


def _renumbered(pickled: bytes, rng: random.Random) -> bytes:
    """A pickle in which a small number is another one: a size, a stride, an offset or how much is stored."""
    places = [place for place in range(len(pickled) - 1) if pickled[place : place + 1] == b"K"]
    if not places:
        return damaged(pickled, rng)
    place = rng.choice(places)
    number = rng.choice((0, 1, 255, 10**5, 2**31 - 1, -1, -(2**31)))
    return pickled[:place] + b"J" + struct.pack("<i", number) + pickled[place + 2 :]
