"""For the flow tests: jobs and files in one line, a clock that is turned by hand, and a real ledger that is unkind."""

import asyncio
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from landingd.edge.ledger import Ledger, LedgerThread, views
from landingd.flow.books import Books
from landingd.flow.filebooks import ToLoad
from landingd.model import Arrival, AttemptKey, Facts, FileArrival, Ingest, Job, Place, Signature, Task, Trigger

LARGE = 9 << 20
"""A file of this size makes a run whose tasks commit one by one."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class UnkindLedger(LedgerThread):
    """Before each of its transactions every other task of the loop may go first, some of them twice."""

    async def transact(self, verbs: Callable[[Ledger], Any], *, durably: bool = False) -> Any:
        for _ in range(random.randrange(4)):  # noqa: S311 -- seeded by the test run
            await asyncio.sleep(0)
        return await super().transact(verbs, durably=durably)


def place(line: int = 1) -> Place:
    return Place("job.yml", line)


def job(*tasks: Task, name: str = "shop", arrival: FileArrival | None = None, **more: Any) -> Job:
    return Job(name, place(), tasks or (bronze(),), triggers=(Trigger(arrival or FileArrival("in")),), **more)


def bronze(**more: Any) -> Task:
    return Task("bronze", place(), ingest=Ingest(), table="bronze.t", **more)


def table(key: str, *after: str, sql: str = "SELECT count(*) AS n FROM bronze.t", **more: Any) -> Task:
    return Task(key, place(), depends_on=after, sql=sql, sql_file=f"{key}.sql", table=f"gold.{key}", **more)


def arrival(
    path: bytes = b"in/a.csv", content: str = "a", *, name: str = "shop", size: int = 10, mtime_ns: int = 1, **more: Any
) -> Arrival:
    return Arrival(
        job=name,
        path=path,
        content_hash=content,
        signature=Signature(size, mtime_ns, 2, 3, 4),
        evidence="moved into place",
        facts=Facts(records=3),
        seen_s=1000.0,
        complete_s=1000.0,
        **more,
    )


async def to_load(books: Books, run_id: int, of: Job | None = None) -> list[ToLoad]:
    """What the next attempt of a run's ingest task would load."""
    return list((await books.batch(of or job(), AttemptKey(run_id, "bronze", 1))).load)


def looked_up(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the ledger as an outsider sees them."""
    with closing(views.open_views(path)) as db:
        return [tuple(row) for row in db.execute(sql, values)]
