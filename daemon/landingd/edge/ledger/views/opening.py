"""Open the ledger for those who only ask."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from landingd.errors import LandingdError

Answer = dict[str, Any]
Connection = sqlite3.Connection


class LedgerUnreadableError(LandingdError):
    """The ledger is there and cannot be read. Exit code 77 (EX_NOPERM)."""

    exit_code = 77


def open_views(path: Path) -> sqlite3.Connection:
    """The ledger, for reading only; works beside a running daemon. Raises LedgerUnreadableError."""
    try:
        return _open(path, "mode=ro")
    except sqlite3.OperationalError as error:
        # Who may only read cannot make the shared memory that a ledger with a log needs. After an orderly stop there
        # is no log, and nobody writes: then the file can be read as it lies.
        log = path.with_name(path.name + "-wal")
        if not log.exists() or log.stat().st_size == 0:
            return _open(path, "immutable=1")
        raise LedgerUnreadableError(
            f"{path}: {error}", hint="the daemon did not stop in order; start it, or ask as the user that it runs as"
        ) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The same, closed at the end."""
    with contextlib.closing(open_views(path)) as db:
        yield db


@contextlib.contextmanager
def one_moment(path: Path) -> Iterator[sqlite3.Connection]:
    """The same, and all that is read is of one moment.

    For an answer that is put together from several reads: a daemon at work may write between any two of them.
    """
    with reading(path) as db:
        db.execute("BEGIN")
        yield db


def _open(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{_escaped(path)}?{how}", uri=True, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        db.close()
        raise
    db.row_factory = sqlite3.Row
    return db


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
