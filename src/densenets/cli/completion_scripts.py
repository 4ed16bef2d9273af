"""Completions as scripts for bash, zsh and fish.

Each script has all names in it, and decides by the words before the one that is being typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ANY_WORD = "*"


@dataclass(frozen=True, kw_only=True)
class Values:
    """What may stand in a place.

    Attributes:
        names: of what may, each with a line on it, or "".
        files: whether files and folders may stand there too.
        several: whether more such may follow.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    files: bool = False
    several: bool = False


@dataclass(frozen=True, kw_only=True)
class OptionCompletion:
    """An option.

    Attributes:
        names: such as ("--measure", "--no-measure").
        help: what it is for.
        values: what may follow it; None of a switch.
    """

    names: tuple[str, ...]
    help: str
    values: Values | None = None


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What may follow some words.

    Attributes:
        words: these words, behind `densenets`; ANY_WORD is any.
        exact: whether nothing may stand between them and the word that is typed.
        values: what may follow that is no option.
        options: that may follow.
    """

    words: tuple[str, ...]
    exact: bool = False
    values: Values = Values()
    options: tuple[OptionCompletion, ...]


def bash(completions: Sequence[Completion]) -> str:
    """The script for bash, 3.2 or later."""
    lines = [
        "# Completions of densenets for bash, as `densenets completion bash` prints them.",
        "_densenets() {",
        "    local names options files",
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}",
        "    # Bash splits an option and its value at the equals sign.",
        '    if [[ $current == "=" ]]; then current=; fi',
        '    if [[ $previous == "=" ]]; then previous=${COMP_WORDS[COMP_CWORD-2]}; fi',
        '    local words="${COMP_WORDS[*]:1:COMP_CWORD-1} "',
        "    case ${words# } in",
    ]
    for completion in completions:
        lines += [f"    {_pattern(completion)})", *_bash_branch(completion), "        ;;"]
    lines += [
        "    esac",
        "    COMPREPLY=()",
        '    if [[ $current == -* || -z "$names$files" ]]; then',
        '        COMPREPLY=($(compgen -W "$options" -- "$current"))',
        "        return",
        "    fi",
        '    COMPREPLY=($(compgen -W "$names" -- "$current"))',
        "    if [[ -n $files ]]; then",
        "        compopt -o filenames 2> /dev/null",
        "        local IFS=$'\\n'",
        '        COMPREPLY+=($(compgen -f -- "$current"))',
        "    fi",
        "}",
        "complete -F _densenets densenets",
    ]
    return "\n".join(lines) + "\n"


def _pattern(completion: Completion) -> str:
    """The pattern, of bash's and zsh's case, of the words before the one that is typed, each with a space."""
    words = "".join("?* " if word == ANY_WORD else f"{word} " for word in completion.words)
    return words.replace(" ", "\\ ") + ("" if completion.exact else "*") or '""'


def _bash_branch(completion: Completion) -> Iterator[str]:
    options = " ".join(name for option in completion.options for name in option.names)
    yield f"        options='{options}' {_bash_values(completion.values)}"
    with_values = [(option.names, option.values) for option in completion.options if option.values]
    if with_values:
        yield "        case $previous in"
        for names, values in with_values:
            yield f"        {'|'.join(names)}) options= {_bash_values(values)} ;;"
        yield "        esac"


def _bash_values(values: Values) -> str:
    return f"names='{' '.join(values.names)}' files={'1' if values.files else ''}"


def zsh(completions: Sequence[Completion]) -> str:
    """The script for zsh; it may be sourced, or lie as `_densenets` in a folder of `fpath`."""
    lines = [
        "#compdef densenets",
        "# Completions of densenets for zsh, as `densenets completion zsh` prints them.",
        "_densenets_values() {",
        "    (( $#names )) && _describe -t names name names",
        "    [[ -n $files ]] && _files",
        "}",
        "_densenets() {",
        "    local -a names",
        "    local files",
        '    local typed="${(j: :)words[2,CURRENT-1]} "',
        "    case ${typed# } in",
    ]
    for completion in completions:
        typed = len(completion.words)
        names = [
            _sh_quoted(f"{name}:{text}" if text else name) for name, text in completion.values.names.items()
        ]
        lines += [
            f"    {_pattern(completion)})",
            f"        names=({' '.join(names)}) files={'1' if completion.values.files else ''}",
            f"        shift {typed} words; (( CURRENT -= {typed} ))",
            " \\\n            ".join(("        _arguments -S", *_zsh_specs(completion))),
            "        ;;",
        ]
    lines += [
        "    esac",
        "}",
        'if [[ $funcstack[1] == _densenets ]]; then _densenets "$@"; else compdef _densenets densenets; fi',
    ]
    return "\n".join(lines) + "\n"


def _zsh_specs(completion: Completion) -> Iterator[str]:
    if completion.values.names or completion.values.files:
        yield "'*:value:_densenets_values'"
    for option in completion.options:
        text = re.sub(r"[\[\]\\]", r"\\\g<0>", option.help)
        value = ""
        if option.values:
            action = "_files" if option.values.files else f"({' '.join(option.values.names)})"
            # Several values end at the next option.
            value = f":{'*-*:' if option.values.several else ''}value:{action}"
        for name in option.names:
            yield _sh_quoted(f"{name}[{text}]{value}")


def fish(completions: Sequence[Completion]) -> str:
    """The script for fish."""
    lines = [
        "# Completions of densenets for fish, as `densenets completion fish` prints them.",
        "function __densenets_typed -d 'Whether these words stand before the one that is typed'",
        "    set -l words (commandline -opc)[2..]",
        "    if test $argv[1] = exactly -a (count $words) -ne (math (count $argv) - 1)",
        "        return 1",
        "    end",
        "    for word in $argv[2..]",
        "        if not string match -q -- $word $words[1]",
        "            return 1",
        "        end",
        "        set words $words[2..]",
        "    end",
        "end",
        "complete -c densenets -f",
    ]
    for completion in completions:
        typed = " ".join(
            ("exactly" if completion.exact else "first", *(f"'{word}'" for word in completion.words))
        )
        start = f'complete -c densenets -n "__densenets_typed {typed}"'
        for name, text in completion.values.names.items():
            lines.append(f"{start} -a {name}" + (f" -d {_fish_quoted(text)}" if text else ""))
        if completion.values.files:
            lines.append(f"{start} -F")
        for option in completion.options:
            for name in option.names:
                value = _fish_value(option.values)
                lines.append(f"{start} -l {name.removeprefix('--')} -d {_fish_quoted(option.help)}{value}")
    return "\n".join(lines) + "\n"


def _fish_value(values: Values | None) -> str:
    if values is None:
        return ""
    if values.files:
        return " -r -F"
    return f" -x -a {_fish_quoted(' '.join(values.names))}"


def _sh_quoted(text: str) -> str:
    """A word of bash or zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    """A word of fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
