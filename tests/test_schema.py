import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densenets.data.data_config import DataConfig
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.models.registry import FAMILIES, NETWORKS, config_from_dict
from densenets.schema import MOST_LEVELS, parse_json, read
from densenets.training.recipe import recipe_from_dict
from densenets.training.recipes import named_recipe


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size {self.size} cannot be: at least 1 is needed")


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: Literal["a", "b"]
    share: float = 0.5
    root: Path | None = None
    parts: tuple[Part, ...] = ()
    part: Part = dataclasses.field(default_factory=Part)


class Loose(TypedDict):
    number: int


def test_a_value_becomes_the_dataclass() -> None:
    value = {"name": "a", "share": 1, "root": "some/where", "parts": [{"size": 3}, {}], "part": {"size": 2}}
    parts = (Part(size=3), Part())
    assert read(Whole, value, "it") == Whole(
        name="a", share=1.0, root=Path("some/where"), parts=parts, part=Part(size=2)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, r"it: \$.name: expected str, got int"),
        ({"name": "c"}, r"it: \$.name: invalid enum value 'c'"),
        ({"share": True}, r"it: \$.share: expected float, got bool"),
        ({"share": "0.5"}, r"it: \$.share: expected float, got str"),
        ({"root": 1}, r"it: \$.root: expected a path, got 1"),
        ({"root": "a\0b"}, r"it: \$.root: expected a path"),
        ({"parts": {}}, r"it: \$.parts: expected array, got object"),
        ({"parts": [{"size": 2.5}]}, r"it: \$.parts\[0\].size: expected int, got float"),
        ({"parts": [{}, {"sise": 2}]}, r"it: \$.parts\[1\].sise is unknown"),
        ({"part": {"size": 0}}, r"it: \$.part: size 0 cannot be: at least 1 is needed"),
        ({"part": None}, r"it: \$.part: expected object, got null"),
        ({"more": 1}, r"it: \$.more is unknown"),
        ({"name": "\ud800"}, "it: .*surrogates"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(Whole, {"name": "a", **change}, "it")
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match="it: object missing required field name"):
        read(Whole, {}, "it")


def test_what_nobody_reads_may_stand_in_a_file_of_records() -> None:
    assert read(Loose, {"number": 1, "more": 2}, "it")["number"] == 1
    with pytest.raises(InputError, match="missing required field"):
        read(Loose, {"more": 2}, "it")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "NaN", "[Infinity]", "-Infinity", "1e999", "1" * 30, "-" + "1" * 5000, '{"a": 1, "a": 1}'),
        "[" * 10**5,
        "[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1),
        "\xff",
        b"\xff",
        b"\xff\xfe1\0",
        "1 2",
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(InputError, match=r"^it is no JSON \(") as caught:
        parse_json(text, "it is no JSON")
    assert len(str(caught.value)) < 400


def test_what_is_json_is_read() -> None:
    value = {"a": [1, -2.5, 2**62, None, True, "größer 猫"], "": {}}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False).encode()):
        assert parse_json(text, "it") == value
    assert parse_json(b"\xef\xbb\xbf1", "it") == 1  # as some editors begin a file
    assert parse_json("[" * MOST_LEVELS + "]" * MOST_LEVELS, "it")
    assert parse_json("[NaN, 1e999, 1.5]", "it", non_finite=True) == [None, None, 1.5]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2**31, 10**12, 2**62, -1, 0.5, 1.0, 1e300, "", "last", "\0", "\ud800"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
GOOD: list[tuple[Any, dict[str, Any]]] = [
    *((config_from_dict, NETWORKS[name].config.to_dict()) for name in ("densenet121", "resnet50", "dsn")),
    *((config_from_dict, NETWORKS[name].config.to_dict()) for name in ("highway-19", "fractalnet-20")),
    (recipe_from_dict, named_recipe("digits").to_dict()),
    (DataConfig.from_dict, named_recipe("finetune").to_dict()["data"]),
    (
        Preprocessing.from_dict,
        {"channels": 1, "image_size": 8, "resize": 9, "mean": [0.5], "std": [0.5]},
    ),
]


def test_every_family_is_among_them() -> None:
    assert {fields["family"] for _, fields in GOOD if "family" in fields} == set(FAMILIES)


@settings(max_examples=300, deadline=2000, derandomize=True)
@given(data=st.data())
def test_fields_of_any_value_are_read_or_refused(data: st.DataObject) -> None:
    build, fields = data.draw(st.sampled_from(GOOD))
    place: dict[str, Any] = json.loads(json.dumps(fields))
    whole = place
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict):  # a recipe's groups
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(JSON)
    try:
        made = build(whole)
    except InputError:
        return
    # What was taken can be written again and computed with.
    assert json.loads(json.dumps(dataclasses.asdict(made), default=str))
    for name in ("depth", "num_features", "smallest_size", "default_size"):
        assert getattr(made, name, 1) >= 1
