"""What producers write: bytes, and the rows that have to come out of them.

Every row is in one content only, so a row that is lost, doubled or taken from a file that was not finished can be
told from every other one.
"""

import gzip
import hashlib
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

HEADER = "id,name,amount\n"
IDS_OF_A_LIST = 1_000_000
"""`id // IDS_OF_A_LIST` is the number of the list that a row belongs to."""
REJECTED_PERCENT_MAX = 50

Row = tuple[int, str, int]


@dataclass(frozen=True)
class Content:
    """The bytes of a file, and what they mean."""

    raw: bytes
    kind: str
    rows: tuple[Row, ...] = ()
    rejected: int = 0
    """Rows of it that cannot be read."""
    is_cut: bool = False
    """Its compressed stream ends too early."""

    @cached_property
    def hash(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def can_be_loaded(self) -> bool:
        records = len(self.rows) + self.rejected
        return bool(self.raw) and not self.is_cut and self.rejected * 100 <= REJECTED_PERCENT_MAX * records

    @property
    def is_packed(self) -> bool:
        return self.raw[:2] == b"\x1f\x8b"

    def __str__(self) -> str:
        ids = f" {self.rows[0][0]}..{self.rows[-1][0]}" if self.rows else ""
        return f"{self.kind}{ids} ({len(self.raw)} bytes, {self.hash[:8]})"


EMPTY = Content(b"", "empty")
HEADER_ONLY = Content(HEADER.encode(), "header only")


class Contents:
    """Makes contents for one list, no two of them alike."""

    def __init__(self, rng: random.Random, list_no: int) -> None:
        self._rng = rng
        self._next_id = list_no * IDS_OF_A_LIST + 100_000

    def new(self) -> Content:
        """Mostly plain CSV."""
        few = self._rng.randint(1, 6)
        makers: list[tuple[int, Callable[[], Content]]] = [
            (10, lambda: self._plain(self.rows(few), "plain")),
            (1, lambda: self._plain(self.rows(self._rng.randint(200, 2000)), "long")),
            (1, lambda: self._plain(self.rows(3, break_lines=True), "quoted newlines")),
            (2, lambda: self._gzip(self.rows(few))),
            (1, lambda: self._cut(self._gzip(self.rows(20)))),
            (1, lambda: EMPTY),
            (1, lambda: HEADER_ONLY),
            (1, lambda: self._with_bad(good=4, bad=1, kind="1 bad row of 5")),
            (1, lambda: self._with_bad(good=1, bad=5, kind="5 bad rows of 6")),
        ]
        weights, of_kinds = zip(*makers, strict=True)
        (make,) = self._rng.choices(of_kinds, weights)
        return make()

    def rows(self, count: int, *, break_lines: bool = False) -> tuple[Row, ...]:
        return tuple(
            (
                self._new_id(),
                self._name(break_line=break_lines),
                self._rng.choice([-1, 1]) * self._rng.randint(100, 999),
            )
            for _ in range(count)
        )

    def of_the_same_size(self, old: Content) -> Content:
        """Other rows in as many bytes; of plain CSV only."""
        letters = str.maketrans(string.ascii_lowercase, "".join(self._shuffled(string.ascii_lowercase)))
        rows = tuple((number, name.translate(letters), amount) for number, name, amount in old.rows)
        return Content((HEADER + text(rows)).encode(), f"{old.kind}, renamed", rows)

    def grown(self, old: Content) -> Content:
        """The same with some rows at its end."""
        rows = self.rows(self._rng.randint(1, 3))
        if old.is_packed:
            return replace(old, raw=old.raw + _packed(text(rows)), kind=f"{old.kind} grown", rows=old.rows + rows)
        before = old.raw or HEADER.encode()
        return replace(old, raw=before + text(rows).encode(), kind=f"{old.kind} grown", rows=old.rows + rows)

    def _plain(self, rows: tuple[Row, ...], kind: str) -> Content:
        return Content((HEADER + text(rows)).encode(), kind, rows)

    def _gzip(self, rows: tuple[Row, ...]) -> Content:
        return Content(_packed(HEADER + text(rows)), "gzip", rows)

    def _cut(self, whole: Content) -> Content:
        return Content(whole.raw[: len(whole.raw) * 2 // 3], "cut gzip", is_cut=True)

    def _with_bad(self, *, good: int, bad: int, kind: str) -> Content:
        rows = self.rows(good)
        lines = "".join(f"number {self._new_id()},bad,1\n" for _ in range(bad))
        return Content((HEADER + text(rows) + lines).encode(), kind, rows, rejected=bad)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _name(self, *, break_line: bool) -> str:
        letters = "".join(self._rng.choices(string.ascii_lowercase, k=10))
        return f"{letters[:4]}\n{letters[5:]}" if break_line else letters

    def _shuffled(self, letters: str) -> Sequence[str]:
        return self._rng.sample(letters, len(letters))


def text(rows: Sequence[Row]) -> str:
    """As CSV, without a header."""
    return "".join(f"{number},{_field(name)},{amount}\n" for number, name, amount in rows)


def _field(name: str) -> str:
    return f'"{name}"' if "\n" in name else name


def _packed(of: str) -> bytes:
    return gzip.compress(of.encode(), mtime=0)
