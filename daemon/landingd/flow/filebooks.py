"""The ledger's side of files: what landed, what is waited for, what went away, and what an attempt is to load of it.

Like all of the books: read, decide and record in one ledger transaction.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from landingd.core import versions
from landingd.edge.ledger import Ledger, LedgerThread
from landingd.flow import arriving, entries
from landingd.model import Arrival, AttemptKey, FileAction, FileRef, Job, OnDelete, Signature

Clock = Callable[[], float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ToLoad:
    """A file version for an ingest task, with the older versions whose rows it takes out."""

    file: FileRef
    replaces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What an attempt of an ingest task has to do."""

    load: tuple[ToLoad, ...]
    retract: tuple[int, ...]
    """Versions whose rows leave its table."""


class FileBooks:
    """Transactions on the ledger, and those that are about files."""

    def __init__(self, ledger: LedgerThread, clock: Clock = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self.on_news: Callable[[], None] = lambda: None
        """Called, on the event loop, when events may have been written."""
        self.on_ended: list[Callable[[Sequence[int]], None]] = []
        """The same, with the runs that have ended."""

    async def _transact(self, verbs: Callable[[Ledger], T], *, durably: bool = False) -> T:
        """A transaction that may have written events and ended runs."""

        def record(ledger: Ledger) -> tuple[T, list[int]]:
            ledger.ended.clear()
            return verbs(ledger), list(ledger.ended)

        result, ended = await self._ledger.transact(record, durably=durably)
        self.on_news()
        if ended:
            for hear in self.on_ended:
                hear(ended)
        return result

    async def accept(self, arrivals: Sequence[Arrival]) -> list[versions.Arrived]:
        """Enter complete files: new, changed, or a duplicate of what is known."""
        now_s = self._clock()
        return await self._transact(lambda ledger: [arriving.accept(ledger, a, now_s) for a in arrivals])

    async def wait(self, waits: Sequence[tuple[str, bytes, Signature, str]]) -> None:
        """Files that are not complete: `(job, path, signature, reason)`."""
        now_s = self._clock()

        def record(ledger: Ledger) -> None:
            for job, path, signature, reason in waits:
                ledger.add_waiting(job, path, signature, reason=reason, now_s=now_s)

        await self._ledger.transact(record)

    async def forget(self, gone: Sequence[tuple[str, bytes]]) -> None:
        """Files that went away before they were complete: `(job, path)`."""

        def record(ledger: Ledger) -> None:
            for job, path in gone:
                ledger.forget_waiting(job, path)

        await self._ledger.transact(record)

    async def incomplete(self, jobs: Sequence[str]) -> list[tuple[str, bytes]]:
        """Files of these jobs that are waited for: `(job, path)`."""
        return await self._ledger.transact(lambda ledger: [(j, p) for j in jobs for p in ledger.incomplete(j)])

    async def known_signatures(self, job: str) -> dict[bytes, Signature]:
        """What stat said of each path when it was last hashed."""
        return await self._ledger.transact(
            lambda ledger: {path: known.signature for path, known in ledger.known_files(job).items()}
        )

    async def removed(
        self, gone: Sequence[tuple[str, bytes]], policy: Callable[[str, bytes], OnDelete] = lambda *_: OnDelete.KEEP
    ) -> None:
        """Files that somebody took from the disk: `(job, path)`. `policy`: what the job's trigger wants then."""
        now_s = self._clock()

        def record(ledger: Ledger) -> None:
            for job, path in gone:
                arriving.remove(ledger, job, path, policy(job, path), now_s)

        await self._transact(record)

    async def batch(self, job: Job, key: AttemptKey) -> Batch:
        """What this attempt of an ingest task has to do."""

        def read(ledger: Ledger) -> Batch:
            files = entries.part(ledger, job, key.run_id, key.task_key)
            return Batch(
                tuple(
                    ToLoad(f, tuple(ledger.replaced_by(f.file_id, key.task_key)))
                    for f in files
                    if f.action is not FileAction.RETRACT
                ),
                tuple(f.file_id for f in files if f.action is FileAction.RETRACT),
            )

        return await self._ledger.transact(read)
