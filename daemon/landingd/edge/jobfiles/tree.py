"""Read YAML so that every value still knows its line and means what it looks like.

A job file says `no`, `on`, `1:30` and `2024-10-01` and means text. YAML 1.1, which PyYAML speaks, makes
booleans, the number 90 and a date of them, and of a key that is given twice it forgets the first. So only the
parser is PyYAML's; what a plain word means is YAML 1.2's core schema: true, false, null, a number, else text.
"""

import re
from collections.abc import Callable, Iterator, Mapping
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

_FAST = getattr(yaml, "CSafeLoader", None)
"""PyYAML may have been built without libyaml."""

Plain = str | bool | int | float | None


@dataclass(slots=True)
class Source:
    """The job file being read: where it is, what a person calls it, and what is wrong with it so far."""

    path: Path
    shown: str
    shown_folder: str
    problems: list[Problem] = field(default_factory=list[Problem])
    root: Path | None = None
    """Of a bundle: the folder that all its files are below."""
    names_in: dict[Path, frozenset[str]] = field(default_factory=dict[Path, frozenset[str]])
    """Of each Python file that was looked at: the names at its top."""

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
        return _root(text, source)
    except yaml.MarkedYAMLError as error:
        source.wrong(*_syntax(error))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        source.wrong(line, f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed")
    except _TooMuchError as error:
        source.wrong(error.line, error.what)
    return None


def plain(text: str, line: int) -> Scalar:
    """What a word means that was given outside of a file: as it would unquoted within one."""
    return Scalar(_MEANING[_tag_of(text)](text), text, line)


def _root(text: str, source: Source) -> Node | None:
    """With libyaml, which is thirty times as fast; PyYAML's own parser says better what is wrong, and where."""
    before = len(source.problems)
    if _FAST is not None:
        try:
            return _Walk(text, _FAST, source).document()
        except yaml.YAMLError:
            del source.problems[before:]
    return _Walk(text, yaml.SafeLoader, source).document()


class _TooMuchError(Exception):
    """The file is more than a job file can be."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


class _Walk:
    """Turns the parser's events into our nodes, within the budget."""

    def __init__(self, text: str, loader: Any, source: Source) -> None:
        self._events: Iterator[Any] = yaml.parse(text, loader)
        self._source = source
        self._left = NODES_MAX
        self._anchors: dict[str, Node | None] = {}
        """None: what it names is still being read."""

    def document(self) -> Node | None:
        next(self._events)  # the stream begins
        first = next(self._events)
        if isinstance(first, yaml.StreamEndEvent):
            self._source.wrong(0, "the file is empty")
            return None
        root = self._node(next(self._events), depth=1)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            what = "expected a single document in the stream"
            problem = "but found another document"
            raise yaml.composer.ComposerError(what, first.start_mark, problem, after.start_mark)
        return root

    def _node(self, event: Any, *, depth: int) -> Node:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line, depth)
        self._spend(line, depth)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Listed(tuple(self._items(depth)), line)
        else:
            node = Keyed(self._entries(depth), line)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth=depth + 1)

    def _entries(self, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            name = self._node(event, depth=depth + 1)
            entry = Entry(self._node(next(self._events), depth=depth + 1), line)
            if not isinstance(name, Scalar):
                self._source.wrong(line, "a key has to be text")
            elif name.text in entries:
                first = entries[name.text].line
                self._source.wrong(line, f"key {name.text!r} is given twice", f"the first is on line {first}")
            else:
                entries[name.text] = entry
        return entries

    def _scalar(self, event: Any, line: int) -> Scalar:
        text = str(event.value)
        tag = event.tag
        if tag is None or tag == "!":
            tag = _tag_of(text) if event.implicit[0] else _TEXT
        try:
            return Scalar(_MEANING[tag](text), text, line)
        except KeyError:
            self._source.wrong(line, f"the YAML tag {tag!r} is not supported")
        except ValueError:
            self._source.wrong(line, f"{text[:50]!r} cannot be read as {tag.rpartition(':')[2]}")
        text = text.encode("utf-8", "replace").decode()
        return Scalar(text, text, line)

    def _alias(self, event: Any, line: int, depth: int) -> Node:
        if event.anchor not in self._anchors:
            raise yaml.composer.ComposerError(None, None, f"found undefined alias {event.anchor!r}", event.start_mark)
        node = self._anchors[event.anchor]
        if node is None:  # an alias inside of what it stands for
            raise _TooMuchError(line, f"nested deeper than {DEPTH_MAX} levels")
        self._spend_again(node, depth)
        return node

    def _spend(self, line: int, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError(line, f"more than {NODES_MAX} values")
        if depth > DEPTH_MAX:
            raise _TooMuchError(line, f"nested deeper than {DEPTH_MAX} levels")

    def _spend_again(self, node: Node, depth: int) -> None:
        self._spend(node.line, depth)
        if isinstance(node, Listed):
            for item in node.items:
                self._spend_again(item, depth + 1)
        elif isinstance(node, Keyed):
            for entry in node.entries.values():
                self._spend(entry.line, depth + 1)
                self._spend_again(entry.node, depth + 1)


def _syntax(error: yaml.MarkedYAMLError) -> tuple[int, str, str | None]:
    mark = error.problem_mark or error.context_mark
    what = f"not valid YAML: {error.problem or error.context}"
    if error.context and error.context_mark and mark and error.context_mark.line != mark.line:
        what += f" ({error.context}, from line {error.context_mark.line + 1})"
    hint = "indent with spaces, not with tabs" if "'\\t'" in what else None
    return (mark.line + 1 if mark else 0), what, hint


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
_TEXT = "tag:yaml.org,2002:str"
_MEANING: dict[str, Callable[[str], Plain]] = {_TEXT: _text}
_BY_FIRST: dict[str, list[tuple[re.Pattern[str], str]]] = {}
for _name, _pattern, _first, _read in _CORE:
    _tag = f"tag:yaml.org,2002:{_name}"
    _MEANING[_tag] = _read
    for _letter in _first:
        _BY_FIRST.setdefault(_letter, []).append((re.compile(_pattern), _tag))


def _tag_of(text: str) -> str:
    """What a plain word is: the first of the core schema's kinds that it looks like, else text."""
    return next((tag for pattern, tag in _BY_FIRST.get(text[:1], ()) if pattern.fullmatch(text)), _TEXT)
