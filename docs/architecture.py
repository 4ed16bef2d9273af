"""Writes what docs/architecture.md shows of the code: the drawing of the rooms, their imports, and the tree.

`python docs/architecture.py` writes between the markers of the document, and docs/images/architecture.svg;
with `--check` it writes nothing, and fails where they are not what the code says.

A room is a package or a module directly below src/densenets. The layers are those of the contract in
pyproject.toml; the imports are grimp's, those inside functions and under TYPE_CHECKING among them.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "densenets"
DOCUMENT = ROOT / "docs" / "architecture.md"
DRAWING = ROOT / "docs" / "images" / "architecture.svg"

_NAME_COLUMN, _TEXT_WIDTH = 34, 96  # of the tree, in characters
_BOX_WIDTH, _BOX_HEIGHT, _ROW_HEIGHT, _GAP, _MARGIN = 220, 52, 80, 26, 20  # of the drawing, in pixels
_CHARACTER = 6.1  # the width of a character of small print
_HEAD = """<title>The rooms of densenets, and which imports from which</title>
<style>
text { font: 10.5px Helvetica, Arial, sans-serif; text-anchor: middle; fill: #57606a }
.title { font-size: 14px; font-weight: bold; fill: #1b1f24 }
.box { fill: #f0f5fb; stroke: #0072b2 }
.arrow { fill: none; stroke: #57606a; stroke-width: 1.2; marker-end: url(#head) }
</style>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#57606a"/></marker>
<rect width="100%" height="100%" rx="6" fill="#ffffff"/>"""


@dataclass(frozen=True)
class Rooms:
    """The rooms of the package.

    Attributes:
        layers: the rooms that there are, from the top layer to the bottom one.
        imports: what each room imports from.
    """

    layers: tuple[tuple[str, ...], ...]
    imports: dict[str, frozenset[str]]

    def foundation(self) -> tuple[str, ...]:
        """The modules of the layers below the last one that holds a package."""
        last = max(number for number, layer in enumerate(self.layers) if any(map(is_package, layer)))
        return tuple(room for layer in self.layers[last + 1 :] for room in layer)


def is_package(room: str) -> bool:
    """Whether a room is a folder."""
    return (SOURCE / room).is_dir()


def read_rooms() -> Rooms:
    """The layers of the contract, and the imports of the code."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(contract for contract in settings["contracts"] if contract["type"] == "layers")
    sys.path.insert(0, str(SOURCE.parent))
    graph = grimp.build_graph("densenets", cache_dir=None)
    there = graph.find_children("densenets")
    layers = (re.findall(r"\w+", layer) for layer in contract["layers"])
    known = (tuple(room for room in layer if f"densenets.{room}" in there) for layer in layers)
    imports: dict[str, set[str]] = {name.partition(".")[2]: set() for name in there}
    for module in graph.modules - {"densenets"}:
        room = module.split(".")[1]
        imported = graph.find_modules_directly_imported_by(module) - {"densenets"}
        imports[room] |= {name.split(".")[1] for name in imported} - {room}
    return Rooms(
        tuple(layer for layer in known if layer),
        {room: frozenset(imported) for room, imported in imports.items()},
    )


def first_line(path: Path) -> str:
    """What a file says first: a docstring's first line, a heading, or a C++ file's first comment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    elif path.suffix in (".h", ".cpp"):
        comment = re.match(r"(// .*\n)*", text)
        text = comment[0].replace("// ", "").replace("\n", " ") if comment and comment[0] else text
        text = re.split(r"\n|\.(?= )", text)[0]
    else:
        text = text.partition("\n")[0].removeprefix("# ") if path.suffix == ".md" else ""
    return text.strip().removesuffix(".")


def first_line_of_room(room: str) -> str:
    """What a room is, in its own words."""
    return first_line(SOURCE / room / "__init__.py" if is_package(room) else SOURCE / f"{room}.py")


def tree(rooms: Rooms) -> str:
    """The files of src, the rooms in the order of their layers, then benchmarks, docs and tests."""
    lines = ["src/densenets/"]
    for name in ("__init__", *(room for layer in rooms.layers for room in layer)):
        path = SOURCE / name
        lines += _branch(path if path.is_dir() else path.with_suffix(".py"), 1)
    for folder, pattern in (("benchmarks", "*.py"), ("docs", "*.*")):
        lines.append(f"{folder}/")
        for path in sorted((ROOT / folder).glob(pattern)):
            lines += _branch(path, 1)
    lines += _branch(ROOT / "setup.py", 0)
    lines.append(f"{'tests/':{_NAME_COLUMN}}mirrors src; what tests share is in helpers/")
    return "\n".join(["```text", *lines, "```"])


def _branch(path: Path, depth: int) -> Iterator[str]:
    """The lines of a file, or of a folder and all that it holds."""
    entry = "  " * depth + path.name
    if path.is_file():
        yield _line(entry, first_line(path))
        return
    package = path / "__init__.py"
    yield _line(entry + "/", first_line(package) if package.exists() else "")
    for inner in sorted(path.iterdir()):
        is_source = inner.suffix in (".py", ".h", ".cpp", ".jinja", ".js", ".css") and inner != package
        if is_source or (inner.is_dir() and inner.name != "__pycache__"):
            yield from _branch(inner, depth + 1)


def _line(entry: str, text: str) -> str:
    short = textwrap.shorten(text, _TEXT_WIDTH, placeholder=" ...")
    return f"{entry:{_NAME_COLUMN - 1}} {short}".rstrip()


def table(rooms: Rooms) -> str:
    """What each room is, which layers it may import, and which rooms it does import.

    An import that the layers do not allow is in bold face.
    """
    last = len(rooms.layers)
    lines = ["| layer | room | what it is | may import | imports |", "|---|---|---|---|---|"]
    for number, layer in enumerate(rooms.layers):
        for room in layer:
            below = [other for lower in rooms.layers[number:] for other in lower]
            upward = [f"**{other}**" for other in sorted(rooms.imports[room] - set(below))]
            imported = [*upward, *(other for other in below if other in rooms.imports[room])]
            allowed = f"{number + 2} to {last}" if number + 1 < last else "nothing"
            cells = (number + 1, f"`{room}`", first_line_of_room(room), allowed, ", ".join(imported))
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def reduced(imports: dict[str, frozenset[str]]) -> list[tuple[str, str]]:
    """The arrows that do not follow from others (transitive reduction); there are no circles."""

    def reached(room: str) -> frozenset[str]:
        return imports[room].union(*(reached(other) for other in imports[room]))

    return [
        (room, other)
        for room in imports
        for other in sorted(imports[room])
        if not any(other in reached(between) for between in imports[room] - {other})
    ]


def draw(rooms: Rooms) -> str:
    """The rooms as boxes, a layer a row, as SVG.

    Arrows to the foundation are left out, as are those that follow from others.
    """
    foundation = rooms.foundation()
    layers = [
        [room for room in layer if room not in foundation and not room.startswith("__")]
        for layer in rooms.layers
    ]
    layers = [layer for layer in layers if layer]
    row_of = {room: row for row, layer in enumerate(layers) for room in layer}
    downward = {
        room: frozenset(o for o in rooms.imports[room] if row_of.get(o, -1) > row_of[room]) for room in row_of
    }
    # An arrow over several rows has a place of its own in each, so that it crosses no box.
    rows: list[list[str]] = [list(layer) for layer in layers]
    paths = []
    for start, end in reduced(downward):
        between = [f"{start} {end} {row}" for row in range(row_of[start] + 1, row_of[end])]
        for row, place in enumerate(between, start=row_of[start] + 1):
            rows[row].append(place)
        paths.append([start, *between, end])
    x = _places(_ordered(rows, paths))
    y = {place: _MARGIN + row * _ROW_HEIGHT for row, places in enumerate(rows) for place in places}
    width = max(x.values()) + _BOX_WIDTH / 2 + _MARGIN
    bottom = _MARGIN + len(rows) * _ROW_HEIGHT
    parts = [_arrow([(x[place], y[place], " " not in place) for place in path]) for path in paths]
    for room in row_of:
        parts += _box(x[room] - _BOX_WIDTH / 2, y[room], _BOX_WIDTH, room, first_line_of_room(room))
    parts += _box(_MARGIN, bottom, width - 2 * _MARGIN, "what all may import", ", ".join(foundation))
    height = bottom + _BOX_HEIGHT + _MARGIN
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', _HEAD, *parts, "</svg>\n"])


def _ordered(rows: list[list[str]], paths: list[list[str]]) -> list[list[str]]:
    """The rows, each in an order in which few arrows cross: by the mean place of the neighbours."""
    neighbours: dict[str, list[str]] = {place: [] for row in rows for place in row}
    for upper, lower in (pair for path in paths for pair in pairwise(path)):
        neighbours[upper].append(lower)
        neighbours[lower].append(upper)
    for sweep in range(8):
        x = _places(rows)
        for row in rows if sweep % 2 else reversed(rows):
            others = {place: [x[o] for o in neighbours[place] if o not in row] or [x[place]] for place in row}
            row.sort(key=lambda place: sum(others[place]) / len(others[place]))
            x |= _places(rows)
    return rows


def _places(rows: list[list[str]]) -> dict[str, float]:
    """The middle of each box, and of each arrow's way past boxes, with all rows about one middle."""
    sizes = [[_GAP + (0 if " " in place else _BOX_WIDTH) for place in row] for row in rows]
    middle = max(map(sum, sizes)) / 2 + _MARGIN
    x = {}
    for row, widths in zip(rows, sizes, strict=True):
        at = middle - sum(widths) / 2
        for place, width in zip(row, widths, strict=True):
            x[place], at = at + width / 2, at + width
    return x


def _arrow(points: list[tuple[float, float, bool]]) -> str:
    """A curve from the lower edge of a box, past others, to the upper edge of another."""
    (x, y, _), *rest = points
    y += _BOX_HEIGHT
    d = f"M{x:.1f} {y:.1f}"
    for next_x, next_y, is_box in rest:
        half = (y + next_y) / 2
        d += f"C{x:.1f} {half:.1f} {next_x:.1f} {half:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
        if not is_box:
            y += _BOX_HEIGHT
            d += f"V{y:.1f}"
    return f'<path class="arrow" d="{d}"/>'


def _box(x: float, y: float, width: float, title: str, text: str) -> Iterator[str]:
    """A box with a title and two lines of text; of a longer one its first clause."""
    lines = textwrap.wrap(text, int(width / _CHARACTER))
    if len(lines) > 2:
        lines = textwrap.wrap(re.split(r"[:.] ", text)[0], int(width / _CHARACTER))[:2]
    yield f'<rect class="box" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BOX_HEIGHT}" rx="5"/>'
    at = f'x="{x + width / 2:.1f}" y='
    yield f'<text class="title" {at}"{y + 17}">{escape(title)}</text>'
    for number, line in enumerate(lines):
        yield f'<text {at}"{y + 32 + 13 * number}">{escape(line)}</text>'


def written(document: str, part: str, content: str) -> str:
    """The document with new content between the markers of a part."""
    begin, end = f"<!-- begin {part} -->", f"<!-- end {part} -->"
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{DOCUMENT.relative_to(ROOT)} must have the markers {begin} and {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def main() -> None:
    """Write the document and the drawing, or check them."""
    rooms = read_rooms()
    document = DOCUMENT.read_text()
    for part, content in (("imports", table(rooms)), ("tree", tree(rooms))):
        document = written(document, part, content)
    for path, text in ((DOCUMENT, document), (DRAWING, draw(rooms))):
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.relative_to(ROOT)} is not what the code says: run python docs/architecture.py")


if __name__ == "__main__":
    main()
