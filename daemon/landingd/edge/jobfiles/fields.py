"""Take the keys of one mapping, each by the name and the type that it must have.

A key that is misspelt and ignored is a setting that its writer believes in. So each key is asked for by name;
what nobody asked for by the end is a fault, and all faults are collected, not only the first. A faulty value
reads as if it were left out, so that the reading can go on.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TypeVar

from landingd.edge.jobfiles.refused import Refusal
from landingd.edge.jobfiles.tree import Entry, Keyed, Listed, Node, Scalar, Source
from landingd.errors import did_you_mean

SECONDS_MAX = 10**9
E = TypeVar("E", bound=StrEnum)
_NOWHERE: Mapping[str, str] = {}
_NOTHING: Mapping[str, Refusal] = {}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Word:
    """A text, and where it stands."""

    text: str
    line: int


class Fields:
    """The keys of one mapping. `called` names it in messages."""

    def __init__(self, node: Node, source: Source, *, called: str) -> None:
        self.source = source
        self.called = called
        self.line = node.line
        self._is_mapping = isinstance(node, Keyed)
        self._entries = node.entries if isinstance(node, Keyed) else {}
        self._known: dict[str, None] = {}
        if not isinstance(node, Keyed):
            source.wrong(node.line, f"{called} must be a mapping, found {node}")

    def entry(self, key: str) -> Entry | None:
        self._known[key] = None
        return self._entries.get(key)

    def has(self, key: str) -> bool:
        return key in self._entries

    def lacks(self, key: str) -> bool:
        """Whether a key is left out; of what is no mapping at all nothing more is said than that."""
        return self._is_mapping and key not in self._entries

    def is_list(self, key: str) -> bool:
        return key in self._entries and isinstance(self._entries[key].node, Listed)

    def keys(self) -> Collection[str]:
        return self._entries.keys()

    def wrong(self, key: str, what: str, hint: str | None = None) -> None:
        """A fault at the line of this key, or of the mapping if the key is not there."""
        self.source.wrong(self._entries[key].line if key in self._entries else self.line, what, hint)

    def done(self, *, refused: Mapping[str, Refusal] = _NOTHING, elsewhere: Mapping[str, str] = _NOWHERE) -> None:
        """All keys have been asked for, so any other is a fault.

        `refused`: keys that mean something to Databricks and nothing here, and why. `elsewhere`: keys that are right
        in another place, and where that is.
        """
        for key, entry in self._entries.items():
            if key in self._known:
                continue
            if key in elsewhere:
                self.source.wrong(entry.line, f"{key!r} does not belong here", f"it belongs in {elsewhere[key]}")
            elif key in refused:
                self.refuse(key, refused[key])
            else:
                self.source.wrong(entry.line, f"unknown key {key!r}", did_you_mean(key, self._known))

    def refuse(self, key: str, refusal: Refusal) -> None:
        """Say why a key of Databricks means nothing here."""
        self.wrong(key, f"{key!r} means nothing here: {refusal.reason}", refusal.hint)

    def means_nothing(self, keys: Iterable[str], what: str, hint: str | None = None) -> None:
        """Those of the keys that are given would be ignored without a word."""
        for key in keys:
            if key in self._entries:
                self.wrong(key, f"{key!r} means nothing {what}", hint)

    # --- one value ---

    def fields(self, key: str) -> "Fields | None":
        """A mapping within this one; None where it is left out."""
        entry = self.entry(key)
        return None if entry is None else Fields(entry.node, self.source, called=repr(key))

    def text(self, key: str, *, references: bool = False) -> str | None:
        """A text; a plain number is none."""
        scalar = self._scalar(key, "text")
        if scalar is None:
            return None
        if not isinstance(scalar.value, str):
            hint = "put it in quotes" if scalar.value is not None else None
            self._mistyped(key, "text", scalar, hint)
            return None
        return scalar.value if references or self._without_reference(scalar.text, scalar.line) else None

    def needed(self, key: str, why: str, hint: str | None = None) -> str:
        """A text that must be there and not be empty; "" where it is not, which is a problem."""
        text = self.text(key)
        if self.lacks(key) or text == "":
            self.wrong(key, why, hint)
        return text or ""

    def operand(self, key: str) -> str:
        """A text that may hold references; a plain number or boolean stands for the text that it was written as."""
        entry = self.entry(key)
        word = None if entry is None else self.word(entry.node, repr(key), references=True)
        return word.text if word else ""

    def pattern(self, key: str) -> str | None:
        """A glob for the names of files."""
        pattern = self.text(key)
        if pattern == "":
            self.wrong(key, f"{key!r} must not be empty", "leave it out for every file")
        return pattern

    def flag(self, key: str, *, default: bool) -> bool:
        scalar = self._scalar(key, "true or false")
        if scalar is None or isinstance(scalar.value, bool):
            return default if scalar is None else bool(scalar.value)
        self._mistyped(key, "true or false", scalar)
        return default

    def whole(self, key: str, *, default: int, least: int, most: int = SECONDS_MAX) -> int:
        scalar = self._scalar(key, "a whole number")
        if scalar is None:
            return default
        if not isinstance(scalar.value, int) or isinstance(scalar.value, bool):
            self._mistyped(key, "a whole number", scalar)
        elif self._within(key, scalar, scalar.value, least, most):
            return scalar.value
        return default

    def number(self, key: str, *, default: float, least: int = 0, most: int = SECONDS_MAX) -> float:
        scalar = self._scalar(key, "a number")
        if scalar is None:
            return default
        if not isinstance(scalar.value, int | float) or isinstance(scalar.value, bool):
            self._mistyped(key, "a number", scalar)
        elif self._within(key, scalar, scalar.value, least, most):
            return float(scalar.value)
        return default

    def size(self, key: str) -> int:
        """Bytes, as a number or as a text like "10mb"; 0 if the key is left out."""
        scalar = self._scalar(key, "a size")
        if scalar is None:
            return 0
        if isinstance(scalar.value, int) and not isinstance(scalar.value, bool):
            return scalar.value if self._within(key, scalar, scalar.value, 1, 1 << 50) else 0
        bytes_ = size_of(scalar.text) if isinstance(scalar.value, str) else None
        if bytes_:
            return bytes_
        self._mistyped(key, "a size", scalar, 'for example "512mb" or "1GB", or a number of bytes')
        return 0

    def size_text(self, key: str) -> str:
        """A size as DuckDB reads it; "" if the key is left out."""
        size = self.size(key)
        return f"{size}B" if size else ""

    def choice(self, key: str, known: Sequence[str], *, later: Collection[str] = ()) -> str:
        """One of the known words; the first of them if the key is left out."""
        text = self.text(key)
        if text is None or text in known:
            return text or known[0]
        if text in later:
            self.wrong(key, f"{key} {text!r} is not supported yet", f"write {_or(known)}")
        else:
            hint = did_you_mean(text, [*known, *later])
            self.wrong(key, f"{key!r} must be {_or(known)}, found text {text!r}", hint)
        return known[0]

    def member(self, key: str, kind: type[E], *, later: Collection[str] = ()) -> E:
        """One of an enum's words; the first of them if the key is left out."""
        return kind(self.choice(key, [member.value for member in kind], later=later))

    # --- several ---

    def items(self, key: str) -> tuple[Node, ...]:
        """A list, of anything."""
        entry = self.entry(key)
        if entry is None:
            return ()
        if isinstance(entry.node, Listed):
            return entry.node.items
        self._mistyped(key, "a list", entry.node)
        return ()

    def texts(self, key: str, *, references: bool = False) -> tuple[Word, ...] | None:
        """A text or a list of texts. A plain number or boolean stands for the text that it was written as."""
        entry = self.entry(key)
        if entry is None:
            return None
        items = entry.node.items if isinstance(entry.node, Listed) else (entry.node,)
        return tuple(word for item in items if (word := self.word(item, f"{key!r}", references=references)))

    def texts_by_key(self, key: str, *, references: bool = False) -> dict[str, Word]:
        """A mapping of texts, with the lines of their keys; plain numbers as in `texts`."""
        entry = self.entry(key)
        if entry is None:
            return {}
        if not isinstance(entry.node, Keyed):
            self._mistyped(key, "a mapping", entry.node)
            return {}
        read = {
            name: (self.word(value.node, f"{key!r} {name!r}", references=references), value.line)
            for name, value in entry.node.entries.items()
        }
        return {name: Word(word.text, line) for name, (word, line) in read.items() if word}

    def word(self, node: Node, called: str, *, references: bool = False) -> Word | None:
        """A text, or a plain number or boolean as the text that it was written as."""
        if not isinstance(node, Scalar) or node.value is None:
            hint = 'for an empty text write ""' if isinstance(node, Scalar) else None
            self.source.wrong(node.line, f"{called} must be text, found {node}", hint)
        elif references or self._without_reference(node.text, node.line):
            return Word(node.text, node.line)
        return None

    # --- what is wrong ---

    def _scalar(self, key: str, wanted: str) -> Scalar | None:
        entry = self.entry(key)
        if entry is None:
            return None
        if isinstance(entry.node, Scalar):
            return entry.node
        self._mistyped(key, wanted, entry.node)
        return None

    def _mistyped(self, key: str, wanted: str, node: Node, hint: str | None = None) -> None:
        self.wrong(key, f"{key!r} must be {wanted}, found {node}", hint)

    def _within(self, key: str, scalar: Scalar, value: float, least: int, most: int) -> bool:
        if least <= value <= most:  # false for NaN too
            return True
        self.wrong(key, f"{key!r} must be from {least} to {most}, found {scalar}")
        return False

    def _without_reference(self, text: str, line: int) -> bool:
        if "{{" not in text:
            return True
        what = f"{text!r} holds a reference, which is resolved in the values that a task gets, and not here"
        self.source.wrong(line, what, "parameters, arguments, inputs and operands of tasks may hold references")
        return False


def size_of(text: str) -> int | None:
    """The bytes that a text like "10mb" or "1.5 GiB" stands for; None: it is no size. k is 1000, Ki 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def is_outside(path: str) -> bool:
    """Whether a path that must be relative leads out of the folder that it is relative to."""
    return path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path


def _or(words: Sequence[str]) -> str:
    return " or ".join(repr(word) for word in words)
