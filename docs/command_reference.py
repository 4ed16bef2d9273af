"""Writes docs/reference/commands.md, all verbs with their options, from the command line's own table.

`python docs/command_reference.py` writes it; with `--check` it writes nothing, and fails where it is not what
the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from densenets.cli.command_options import Option, options_of, positional_words
from densenets.cli.verbs import SECTIONS, Verb, VerbGroup

PAGE = Path(__file__).parent / "reference" / "commands.md"
RECIPE = "cifar10-densenet-bc-100-12"  # whose values stand for the defaults of `train`

_BEGINNING = """# Commands

<!-- written by docs/command_reference.py -->

`densenets VERB --help` prints the same at the terminal. A switch has its opposite, such as `--no-measure`.
A wrong option is answered by one line and exit code 2; a run that a signal stops ends with 128 and its
number."""


def page() -> str:
    """The whole page."""
    lines = [_BEGINNING]
    for section, verbs in SECTIONS.items():
        lines += ["", f"## {section}"]
        for verb in verbs:
            lines += _group(verb) if isinstance(verb, VerbGroup) else _verb(verb, f"densenets {verb.name}")
    return "\n".join(lines) + "\n"


def _group(group: VerbGroup) -> Iterator[str]:
    yield from _beginning(f"densenets {group.name}", group.arguments, group.help)
    if group.alike:
        yield from ("", f"The defaults below are those of `{RECIPE}`.")
        yield from _options(options_of(group.named(RECIPE).command()), "")
    for verb in group.members:
        yield from _verb(verb, f"densenets {group.name} {verb.name}")


def _verb(verb: Verb, title: str) -> Iterator[str]:
    yield from _beginning(title, verb.arguments, verb.help)
    yield from _options(options_of(verb.command()), verb.arguments)


def _beginning(title: str, arguments: str, text: str) -> tuple[str, ...]:
    sentence = f"{text[0].upper()}{text[1:]}."
    return (
        "",
        f"### {title}",
        "",
        "```console",
        f"{title} {arguments}".rstrip() + " [OPTIONS]",
        "```",
        "",
        sentence,
    )


def _options(options: list[Option], arguments: str) -> Iterator[str]:
    """A row an option; of positional ones the name is their placeholder in the verb's arguments."""
    words = positional_words(arguments)
    yield from ("", "| option | default | what it is |", "|---|---|---|")
    for option in sorted(options, key=lambda option: bool(option.names)):
        shown = f"{option.names[0]} {option.value}".rstrip() if option.names else words.pop(0)
        yield f"| {_code(shown)} | {_default(option)} | {_cell(option.help)} |"


def _default(option: Option) -> str:
    if option.default is None:
        return "needed"
    return option.default if not option.value else _code(option.default) if option.default else ""


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())


def main() -> None:
    """Write the page, or check it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(
            f"docs/reference/{PAGE.name} is not what the code says: run python docs/command_reference.py"
        )


if __name__ == "__main__":
    main()
