"""Count the objects in JSON without a JSON reader: the reader's number is what this is held against.

A count needs no values, only where strings and brackets begin and end. That is found by operations on whole chunks,
since a loop over characters would hold the interpreter for seconds.
"""

import re

from landingd.edge.landing.records import Lines

_NESTED_AT_ONCE = 8
"""How many levels of closed brackets are taken out of a chunk at once; what is nested deeper is walked through."""

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b"[]{},")
_CLOSED = re.compile(rb"\[,*\]")
_RUNS = re.compile(rb"\[+|\]+|,+")


class JsonLines:
    """One object a line: lines that are not blank. A line end within a string is escaped, so every one counts."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        # Quotes would be taken for CSV's; any other character stands for them.
        self._lines.feed(chunk.replace(b'"', b"'").translate(None, b" \t\r"))

    def total(self) -> int:
        return self._lines.total()


class JsonArray:
    """The elements of one array."""

    def __init__(self) -> None:
        self._inside = False
        """Within a string."""
        self._escape = b""
        """A backslash whose character is in the next chunk."""
        self._depth = 0
        self._commas = 0
        self._opening = b""
        """What stands behind the first bracket, until it is not blank."""
        self._closed = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        if not self._opening.strip(b"[ \t\r\n"):
            self._opening = (self._opening + chunk.removeprefix(b"\xef\xbb\xbf").lstrip())[:4096].rstrip()
        self._walk(self._structure(chunk))

    def _structure(self, chunk: bytes) -> bytes:
        """Only brackets and commas, and of those none that stand in a string."""
        chunk = self._escape + chunk
        backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
        self._escape = b"\\" if backslashes % 2 else b""
        if self._escape:
            chunk = chunk[:-1]
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.split(b'"')
        outside = b"".join(parts[self._inside :: 2])
        self._inside ^= len(parts) % 2 == 0
        return outside.translate(_BRACKETS, _NOT_STRUCTURE)

    def _walk(self, structure: bytes) -> None:
        for _ in range(_NESTED_AT_ONCE):
            structure, changes = _CLOSED.subn(b"", structure)
            if not changes:
                break
        for run in _RUNS.findall(structure):
            if run.startswith(b"["):
                self._depth += len(run)
            elif run.startswith(b"]"):
                self._depth -= len(run)
                self._closed = self._closed or self._depth <= 0
            elif self._depth == 1:
                self._commas += len(run)

    def total(self) -> int:
        """How many elements."""
        begins = self._opening.removeprefix(b"[").lstrip()[:1]
        return 0 if begins in (b"", b"]") else self._commas + 1

    def cut(self) -> str | None:
        """Why its end is missing."""
        if self._inside or self._escape:
            return "the JSON array is cut: it ends within a string"
        if self._depth > 0 or not self._closed:
            return f"the JSON array is cut: {max(self._depth, 1)} brackets are still open at its end"
        return None
