"""Remember over a death who waited for the write lane: whatever killed the process, those did not.

In the ledger an attempt that waits for the lane looks like the one that holds it: both have begun. So they are written
down here as they begin to wait, and as their turn comes, in a file that needs no sync: what a killed process has
written stays, and where the whole machine goes down nobody is to blame anyway. Where nobody waits nothing is written.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from landingd.model import AttemptKey

REWRITTEN_AT_BYTES = 1 << 20


class Waiting:
    """The attempts that wait for the lane, in memory and in the file."""

    def __init__(self, path: Path) -> None:
        self.at_death = _read(path)
        """Those that waited when the last process ended."""
        # What it says stays until somebody waits and has waited: the start after a death may be killed as well.
        self._file = path.open("ab", buffering=0)
        self._n_bytes = self._file.tell()
        self._waiting: dict[AttemptKey, None] = {}

    def begin(self, keys: Iterable[AttemptKey]) -> None:
        """These wait from now on."""
        for key in keys:
            self._waiting[key] = None
            self._write(_line("+", key))

    def end(self, keys: Iterable[AttemptKey]) -> None:
        """It is their turn, or they do not want it any more; called before any of their work is done."""
        for key in keys:
            self._waiting.pop(key, None)
            self._write(_line("-", key))
        if not self._waiting or self._n_bytes > REWRITTEN_AT_BYTES:
            self._rewrite()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        with suppress(OSError):  # a full disk: then they are suspects like the others
            self._n_bytes += self._file.write(line)

    def _rewrite(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), 0)
        self._n_bytes = 0
        for key in self._waiting:
            self._write(_line("+", key))


def _line(sign: str, key: AttemptKey) -> bytes:
    return f"{sign} {key.run_id} {key.attempt} {key.task_key}\n".encode()


def _read(path: Path) -> frozenset[AttemptKey]:
    """What cannot be read, after a power cut perhaps, says nothing."""
    waiting: set[AttemptKey] = set()
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        sign, _, rest = line.partition(" ")
        run_id, _, rest = rest.partition(" ")
        attempt, _, task_key = rest.partition(" ")
        if not (run_id.isdecimal() and attempt.isdecimal()):
            continue
        key = AttemptKey(int(run_id), task_key, int(attempt))
        if sign == "+":
            waiting.add(key)
        else:
            waiting.discard(key)
    return frozenset(waiting)
