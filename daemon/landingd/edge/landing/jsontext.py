"""Count the objects in JSON without a JSON reader: the reader's number is what this is held against.

A count needs no values, only where strings and brackets begin and end. That is found by operations on whole chunks,
since a loop over characters would hold the interpreter for seconds.
"""

import re

from landingd.edge.landing.records import Lines

_NESTED_AT_ONCE = 8
"""How many levels of closed brackets are taken out of a chunk at once; what is nested deeper is walked through."""

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[]{},"')
_NO_QUOTES = bytes.maketrans(b'"', b"'")  # a double quote would be taken for CSV's
_CLOSED = re.compile(rb"\[,*\]")
_RUNS = re.compile(rb"\[+|\]+|,+")


class JsonLines:
    """One object a line: lines that are not blank. A line end within a string is escaped, so every one counts."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._lines.feed(chunk.translate(_NO_QUOTES, b" \t\r"))

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
        self._begins = b""
        """The first two characters that are not blank: the array's bracket, and what tells whether it is empty."""
        self._closed = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        structure = self._structure(chunk)
        if self._depth == 0 and not self._closed and structure:
            # Taken out here, or a small array would be closed, and gone with its commas, in one go.
            self._depth, structure = 1, structure[1:]
        if len(self._begins) < 2:
            self._begin(chunk)
        self._walk(structure)

    def _begin(self, chunk: bytes) -> None:
        begins = self._begins + chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
        self._begins = begins[:1] + begins[1:].lstrip()[:1]

    def _structure(self, chunk: bytes) -> bytes:
        """Only brackets and commas, and of those none that stand in a string."""
        chunk = self._escape + chunk
        backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
        self._escape = b"\\" if backslashes % 2 else b""
        if self._escape:
            chunk = chunk[:-1]
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        # Of a string without brackets and commas two quotes are left, side by side: most strings need not be cut out.
        parts = chunk.translate(_BRACKETS, _NOT_STRUCTURE).replace(b'""', b"").split(b'"')
        outside = b"".join(parts[self._inside :: 2])
        self._inside ^= len(parts) % 2 == 0
        return outside

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
        return 0 if self._begins in (b"[", b"[]") else self._commas + 1

    def cut(self) -> str | None:
        """Why its end is missing."""
        if self._inside or self._escape:
            return "the JSON array is cut: it ends within a string"
        if self._depth > 0 or not self._closed:
            return f"the JSON array is cut: {max(self._depth, 1)} brackets are still open at its end"
        return None
