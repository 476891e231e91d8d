"""Read YAML so that every value still knows its line and means what it looks like.

A job file says `no`, `on`, `1:30` and `2024-10-01` and means text. YAML 1.1, which PyYAML speaks, makes
booleans, the number 90 and a date of them, and of a key that is given twice it forgets the first. So only the
parser is PyYAML's; what a plain word means is YAML 1.2's core schema: true, false, null, a number, else text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from landingd.errors import Problem
from landingd.model import Place

NODES_MAX = 100_000
"""Values in one file, counted where an alias repeats them: a short file can otherwise stand for billions."""
DEPTH_MAX = 50
WHAT_MAX = 500
"""Characters of a message: it quotes what it found, which can be as long as the file."""

Plain = str | bool | int | float | None


@dataclass(slots=True)
class Source:
    """The job file being read: where it is, what a person calls it, and what is wrong with it so far."""

    path: Path
    shown: str
    shown_folder: str
    problems: list[Problem] = field(default_factory=list[Problem])

    def place(self, line: int) -> Place:
        return Place(self.shown, line)

    def wrong(self, line: int, what: str, hint: str | None = None) -> None:
        if len(what) > WHAT_MAX:
            what = f"{what[:WHAT_MAX]}..."
        self.problems.append(Problem(self.shown, line, what, hint))


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value: what it means, and the text that it was written as."""

    value: Plain
    text: str
    line: int

    def __str__(self) -> str:
        if self.value is None:
            return "nothing"
        return f"text {self.text!r}" if isinstance(self.value, str) else self.text


@dataclass(frozen=True, slots=True)
class Listed:
    """A list."""

    items: tuple["Node", ...]
    line: int

    def __str__(self) -> str:
        return "a list"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value, and the line of the key."""

    node: "Node"
    line: int


@dataclass(frozen=True, slots=True)
class Keyed:
    """A mapping; keys are text, whatever they look like."""

    entries: Mapping[str, Entry]
    line: int

    def __str__(self) -> str:
        return "a mapping"


Node = Scalar | Listed | Keyed


def parse(text: str, source: Source) -> Node | None:
    """The file's values; None, and the reason among the problems, where it is not one YAML document."""
    try:
        loader = _Core(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        source.wrong(*_syntax(error))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        source.wrong(line, f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed")
    except RecursionError:
        source.wrong(0, f"nested deeper than {DEPTH_MAX} levels")
    else:
        if root is None:
            source.wrong(0, "the file is empty")
            return None
        try:
            return _Walk(source).node(root, depth=1)
        except _TooMuchError as error:
            source.wrong(error.line, error.what)
    return None


class _TooMuchError(Exception):
    """The file is more than a job file can be."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


class _Walk:
    """Turns PyYAML's nodes into ours, within the budget."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = NODES_MAX

    def node(self, node: yaml.Node, *, depth: int) -> Node:
        line = node.start_mark.line + 1
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError(line, f"more than {NODES_MAX} values")
        if depth > DEPTH_MAX:  # an alias inside of what it stands for ends here too
            raise _TooMuchError(line, f"nested deeper than {DEPTH_MAX} levels")
        if isinstance(node, yaml.SequenceNode):
            return Listed(tuple(self.node(item, depth=depth + 1) for item in node.value), line)
        if isinstance(node, yaml.MappingNode):
            return Keyed(self._entries(node, depth=depth), line)
        return self._scalar(node, line)

    def _entries(self, node: yaml.MappingNode, *, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            entry = Entry(self.node(value, depth=depth + 1), line)
            name = self.node(key, depth=depth + 1)
            if not isinstance(name, Scalar):
                self._source.wrong(line, "a key has to be text")
            elif name.text in entries:
                first = entries[name.text].line
                self._source.wrong(line, f"key {name.text!r} is given twice", f"the first is on line {first}")
            else:
                entries[name.text] = entry
        return entries

    def _scalar(self, node: yaml.Node, line: int) -> Scalar:
        text = str(node.value)
        try:
            return Scalar(_MEANING[node.tag](text), text, line)
        except KeyError:
            self._source.wrong(line, f"the YAML tag {node.tag!r} is not supported")
        except ValueError:
            self._source.wrong(line, f"{text[:50]!r} cannot be read as {node.tag.rpartition(':')[2]}")
        text = text.encode("utf-8", "replace").decode()
        return Scalar(text, text, line)


def _syntax(error: yaml.MarkedYAMLError) -> tuple[int, str, str | None]:
    mark = error.problem_mark or error.context_mark
    what = f"not valid YAML: {error.problem or error.context}"
    if error.context and error.context_mark and mark and error.context_mark.line != mark.line:
        what += f" ({error.context}, from line {error.context_mark.line + 1})"
    hint = "indent with spaces, not with tabs" if "'\\t'" in what else None
    return (mark.line + 1 if mark else 0), what, hint


class _Core(yaml.SafeLoader):
    """PyYAML's parser with the plain words of YAML 1.2's core schema, and no others."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way to declare them


def _text(text: str) -> str:
    text.encode()  # half of a surrogate pair (`\ud800`) could be neither stored nor sent nor printed
    return text


def _number(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_CORE: tuple[tuple[str, str, list[str], Callable[[str], Plain]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda _: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"), _number),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
        _float,
    ),
)
_MEANING: dict[str, Callable[[str], Plain]] = {"tag:yaml.org,2002:str": _text}
for _name, _pattern, _first, _read in _CORE:
    _tag = f"tag:yaml.org,2002:{_name}"
    _MEANING[_tag] = _read
    _Core.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)
