"""The ledger: one SQLite file, one thread, and verbs that carry exactly their data.

A verb that moves a state names the state it moves from, so that a decision applies only to what it was made on.
Transactions are opened by `flow.books`: read, decide and record are one hop to this thread.

Commits are not synced to the disk one by one. What must survive a power cut is made durable in two other ways: the
commit that forms a run is synced (`Ledger.durably`), so no id is ever handed out twice; and what a task did is in the
warehouse, in the same transaction as the data, from where recovery takes it.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TypeVar

from landingd.edge.ledger.alerts import AlertVerbs
from landingd.edge.ledger.backfills import BackfillVerbs
from landingd.edge.ledger.cleaning import Begun, CleaningVerbs, Held
from landingd.edge.ledger.files import FileVerbs, KnownFile
from landingd.edge.ledger.loads import LoadVerbs, PendingFile
from landingd.edge.ledger.loops import LoopVerbs
from landingd.edge.ledger.outbox import Notice, OutboxVerbs
from landingd.edge.ledger.retention import RetentionVerbs
from landingd.edge.ledger.roots import RootVerbs
from landingd.edge.ledger.runs import RunRow, RunVerbs
from landingd.edge.ledger.tails import SegmentVersion, TailVerbs
from landingd.edge.ledger.tasks import TaskEntry, TaskRow, TaskVerbs, UpstreamRow
from landingd.edge.ledger.triggers import TableVersion, TriggerRow, TriggerVerbs
from landingd.errors import LandingdError

__all__ = [
    "Begun",
    "Held",
    "KnownFile",
    "Ledger",
    "LedgerError",
    "LedgerThread",
    "Notice",
    "PendingFile",
    "RunRow",
    "SegmentVersion",
    "TableVersion",
    "TaskEntry",
    "TaskRow",
    "TriggerRow",
    "UpstreamRow",
]

T = TypeVar("T")
SCHEMA_VERSION = 3
CHECKPOINT_PAGES = 4000
"""Of 4 KiB each, about 500 tasks: a checkpoint syncs twice, and the commit that happens on it waits for that."""


class LedgerError(LandingdError):
    """The ledger file is not one that this version can use."""


class Ledger(
    FileVerbs,
    LoadVerbs,
    RunVerbs,
    TaskVerbs,
    LoopVerbs,
    TriggerVerbs,
    AlertVerbs,
    BackfillVerbs,
    CleaningVerbs,
    RetentionVerbs,
    RootVerbs,
    TailVerbs,
    OutboxVerbs,
):
    """The verbs. Every method runs on the ledger's thread, inside a transaction that the caller opened."""

    def __init__(self, connection: sqlite3.Connection, *, keep_notices: bool) -> None:
        self._db = connection
        self._keep_notices = keep_notices
        self.ended = []

    def never_below(self, *, run_id: int, file_id: int) -> None:
        """Ids that the warehouse has seen are never handed out again, whatever became of this file."""
        for table, least in (("runs", run_id), ("files", file_id)):
            self._db.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS "
                "(SELECT 1 FROM sqlite_sequence WHERE name = ?)",
                (table, table),
            )
            self._db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (least, table))


class LedgerThread:
    """The connection and the one thread that may use it. Without `keep_notices` nothing enters the outbox."""

    def __init__(self, path: Path, *, keep_notices: bool = True) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._db = self._thread.submit(_connect, path).result()
        self._ledger = Ledger(self._db, keep_notices=keep_notices)

    async def transact(self, verbs: Callable[[Ledger], T], *, durably: bool = False) -> T:
        """Run these verbs in one transaction and return what they return; nothing stays if they raise.

        `durably`: the commit is on the disk, with every one before it, when this returns.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, verbs, durably)

    def _transact(self, verbs: Callable[[Ledger], T], durably: bool) -> T:  # noqa: FBT001 -- executor call
        if durably:
            self._db.execute("PRAGMA synchronous = FULL")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = verbs(self._ledger)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            return result
        finally:
            if durably:
                self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Close the file; blocks until running calls have ended."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    db.execute("PRAGMA busy_timeout = 10000")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        db.close()
        raise LedgerError(
            f"{path}: written by a later version of landingd (ledger schema {version}, this one has {SCHEMA_VERSION})"
        )
    if version < SCHEMA_VERSION:
        _bring_up(db, version)
    views = resources.files(__package__).joinpath("views.sql").read_text(encoding="utf-8")
    db.executescript(f"BEGIN;\n{views}\nCOMMIT;")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _bring_up(db: sqlite3.Connection, version: int) -> None:
    """Create the tables, or bring those of an older version up to this one, in one transaction."""
    here = resources.files(__package__)
    schema = here.joinpath("schema.sql").read_text(encoding="utf-8")
    older = range(version, SCHEMA_VERSION) if version else ()
    steps = [here.joinpath(f"from_{v}_to_{v + 1}.sql").read_text(encoding="utf-8") for v in older]
    # First every old table is put aside, then all are created as they are today, then the rows come back.
    halves = [step.split("-- (schema.sql)\n") for step in steps]
    script = "\n".join([*(aside for aside, _ in halves), schema, *(back for _, back in halves)])
    db.execute("PRAGMA legacy_alter_table = ON")  # a table that is put aside is not followed by who refers to it
    db.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
    db.execute("PRAGMA legacy_alter_table = OFF")
