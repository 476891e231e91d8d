"""Read, decide and record, in one hop.

With tasks side by side, reading the states in one ledger call and recording the verdict in the next loses the end of a
run: two tasks each see the other one still running. So every method here is one ledger transaction in which core
decides on what was just read.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from landingd.core import triggers, versions
from landingd.edge.ledger import Ledger, LedgerThread, RunRow
from landingd.errors import NotFoundError
from landingd.flow import arriving, entries
from landingd.flow.entries import Concluded, Started
from landingd.model import (
    Arrival,
    AttemptKey,
    FileAction,
    FileRef,
    Job,
    OnDelete,
    Outcome,
    Signature,
    TaskState,
    TriggerType,
)

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


class Books:
    """The ledger, with the decisions made where it is read."""

    def __init__(self, ledger: LedgerThread, clock: Clock = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self.on_news: Callable[[], None] = lambda: None
        """Called, on the event loop, when events may have been written."""

    async def _transact(self, verbs: Callable[[Ledger], T], *, durably: bool = False) -> T:
        """A transaction that may have written events."""
        result = await self._ledger.transact(verbs, durably=durably)
        self.on_news()
        return result

    # -- files --

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

    # -- runs --

    async def next_run(self, job: Job) -> Started | None:
        """Start the job's oldest queued run, or form one from the files that wait; None if there is nothing to do.

        Forming is the one commit that is synced to disk: from here on no id in it is ever given to anything else.
        """
        now_s = self._clock()
        return await self._transact(lambda ledger: entries.next_run(ledger, job, now_s), durably=True)

    async def has_work(self, job: Job) -> bool:
        """Whether next_run would find anything (ignoring the cool-down)."""
        return await self._ledger.transact(
            lambda ledger: (
                bool(ledger.pending_files(job.name, 1)) or any(run.job == job.name for run in ledger.open_runs())
            )
        )

    async def cooling_until_s(self, job: Job) -> float:
        """When the job's next file run may start (`min_time_between_triggers_seconds`)."""
        return await self._ledger.transact(
            lambda ledger: triggers.next_batch_at_s(job, ledger.last_run_start_s(job.name, TriggerType.FILE_ARRIVAL))
        )

    async def request_run(
        self,
        job: Job,
        *,
        request_id: str,
        parameters: Mapping[str, str],
        file_ids: Sequence[int] | None = None,
        prepare: Callable[[Ledger, int], None] = lambda *_: None,
    ) -> int:
        """Queue a run that somebody asked for; the same request gives the same run.

        `file_ids`: for these versions, each of which `prepare` first asks something of; None: for those that wait.
        """
        now_s = self._clock()

        def record(ledger: Ledger) -> int:
            key = triggers.request_key(request_id)
            known = ledger.find_run(job.name, key)
            if known is not None:
                return known
            for file_id in file_ids or ():
                prepare(ledger, file_id)
            run_id = entries.add_run(
                ledger, job, TriggerType.ONE_TIME, key, parameters=parameters, now_s=now_s, file_ids=file_ids
            )
            assert run_id is not None  # noqa: S101 -- the key was looked up in this transaction
            return run_id

        return await self._transact(record, durably=True)

    async def repair(self, run_id: int, job_of: Callable[[str], Job]) -> tuple[str, ...]:
        """Queue the failed and skipped tasks of a finished run again; returns them (Databricks: `runs/repair`)."""
        now_s = self._clock()
        return await self._transact(lambda ledger: entries.repair(ledger, run_id, job_of, now_s), durably=True)

    async def job_of(self, run_id: int) -> str:
        """The name of a run's job."""

        def read(ledger: Ledger) -> str:
            run = ledger.run(run_id)
            if run is None:
                raise NotFoundError(f"there is no run {run_id}", hint="`landingd runs` lists them")
            return run.job

        return await self._ledger.transact(read)

    async def begin(self, run_id: int, task_key: str) -> AttemptKey:
        """Begin the attempt of a task whose retry is due."""
        now_s = self._clock()
        return await self._ledger.transact(lambda ledger: ledger.begin_attempt(run_id, task_key, now_s=now_s))

    async def conclude(
        self, job: Job | None, key: AttemptKey, outcome: Outcome, *, go_on: bool, ended_s: float | None = None
    ) -> Concluded:
        """Record how an attempt ended and everything that follows; begins what is ready unless `go_on` is false."""
        now_s = self._clock() if ended_s is None else ended_s
        return await self._transact(lambda ledger: entries.conclude(ledger, job, key, outcome, now_s, go_on=go_on))

    async def conclude_together(
        self, job: Job, outcomes: Sequence[tuple[AttemptKey, Outcome]], *, go_on: bool
    ) -> Concluded:
        """Record how the attempts of one transaction ended; begins what is ready where they were rolled back."""
        now_s = self._clock()

        def record(ledger: Ledger) -> Concluded:
            ended = [entries.conclude(ledger, job, key, outcome, now_s, go_on=False) for key, outcome in outcomes]
            result = ended[-1].run_result
            begun = entries.begin_ready(ledger, outcomes[0][0].run_id, now_s) if go_on and result is None else ()
            return Concluded(begun, None, result)

        return await self._transact(record)

    # -- recovery --

    async def recall(self, committed: Iterable[AttemptKey]) -> None:
        """Of these attempts, begin those of open tasks that the ledger does not know of: they are then dangling."""
        now_s = self._clock()

        def record(ledger: Ledger) -> None:
            for key in sorted(committed, key=lambda key: key.attempt):
                ledger.recall_attempt(key, now_s=now_s)

        await self._ledger.transact(record)

    async def dangling(self) -> list[tuple[RunRow, AttemptKey]]:
        """Attempts that were begun and never concluded."""

        def read(ledger: Ledger) -> list[tuple[RunRow, AttemptKey]]:
            return [
                (run, AttemptKey(run.run_id, task.task_key, task.attempts))
                for run in ledger.open_runs()
                for task in ledger.tasks(run.run_id)
                if task.state is TaskState.RUNNING
            ]

        return await self._ledger.transact(read)

    async def never_below(self, *, run_id: int, file_id: int) -> None:
        """Hand out no id that the warehouse has seen."""
        await self._ledger.transact(lambda ledger: ledger.never_below(run_id=run_id, file_id=file_id), durably=True)

    async def open_run_ids(self) -> list[int]:
        """Runs that have not ended."""
        return await self._ledger.transact(lambda ledger: [run.run_id for run in ledger.open_runs()])

    # -- news --

    async def untold(self, limit: int) -> list[tuple[int, str, str]]:
        """The oldest events that the broker has not acknowledged: `(seq, topic, payload)`."""
        return await self._ledger.transact(lambda ledger: ledger.untold(limit))

    async def told(self, seq_max: int) -> None:
        """The broker has them, up to this one."""
        await self._ledger.transact(lambda ledger: ledger.told(seq_max))

    async def trim_outbox(self, keep: int) -> int:
        """Drop the oldest events above `keep`; returns how many."""
        return await self._ledger.transact(lambda ledger: ledger.trim_outbox(keep))
