"""Read, decide and record, in one hop.

With tasks side by side, reading the states in one ledger call and recording the verdict in the next loses the end of a
run: two tasks each see the other one still running. So every method here is one ledger transaction in which core
decides on what was just read.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from landingd.core import triggers
from landingd.edge.ledger import Ledger, LedgerThread, RunRow, TaskRow
from landingd.errors import NotFoundError
from landingd.flow import entries
from landingd.flow.entries import Concluded, Later, Started
from landingd.flow.filebooks import Clock, FileBooks
from landingd.flow.outcomes import only_the_ledger_knows
from landingd.model import (
    Admitted,
    AttemptKey,
    Job,
    Outcome,
    RepairRequest,
    Result,
    RunRequest,
    RunState,
    TaskState,
    TriggerType,
    loop_of,
)


@dataclass(frozen=True, slots=True)
class TaskContextRows:
    """What the references of a task may stand for, as the ledger has it."""

    run: RunRow
    task: TaskRow
    upstreams: Mapping[str, TaskRow]


JobOf = Callable[[str], Job]
"""The job of that name as it is today; raises NotFoundError."""


class Books(FileBooks):
    """The ledger, with the decisions made where it is read: runs, tasks, attempts; see FileBooks for the rest."""

    def __init__(self, ledger: LedgerThread, clock: Clock = time.time) -> None:
        super().__init__(ledger, clock)
        self.on_cancel: Callable[[int], None] = lambda _: None
        """Called, on the event loop, with a run whose attempts are to be broken off."""
        self.definition: JobOf = _no_job
        """The jobs as they are today."""
        self._waiters: dict[int, asyncio.Event] = {}
        self.on_ended.append(self._wake_waiters)

    # -- runs --

    async def has_inner_runs(self, job: str) -> bool:
        """Whether a run of the job waits that a task of another run waits for."""
        return any(run.depth and run.state is RunState.QUEUED for run in await self.open_runs_of(job))

    async def next_run(
        self, job: Job, driven: Collection[int] = (), *, inner_only: bool = False
    ) -> Started | Later | None:
        """Take up or start a run of the job, or form one from the files that wait; None if there is nothing to do.

        `driven`: runs that go on already. `inner_only`: only what a task of another run waits for. Forming is the one
        commit that is synced to disk: from here on no id in it is ever given to anything else.
        """
        now_s = self._clock()
        return await self._transact(
            lambda ledger: entries.next_run(ledger, job, now_s, driven, inner_only=inner_only), durably=True
        )

    async def admit(self, job: Job, request: RunRequest) -> Admitted:
        """Queue a run, or skip it where there is no room; the same key gives the same run.

        Raises RefusedError where `only` names no tasks.
        """
        now_s = self._clock()
        return await self._transact(lambda ledger: entries.admit(ledger, job, request, now_s), durably=True)

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
        kind = TriggerType.ONE_TIME if file_ids is None else TriggerType.REPLAY
        key = triggers.request_key(request_id)
        request = RunRequest(kind, key, parameters, queue=True, file_ids=file_ids)

        def record(ledger: Ledger) -> int:
            if ledger.find_run(job.name, key) is None:
                for file_id in file_ids or ():
                    prepare(ledger, file_id)
            return entries.admit(ledger, job, request, now_s).run_id

        return await self._transact(record, durably=True)

    async def cancel(
        self, run_id: int, *, why: str = "canceled on request", ending: Result = Result.CANCELED
    ) -> dict[str, Any]:
        """End a run as soon as what runs of it is broken off (Databricks: `runs/cancel`); returns how it stands now.

        The runs that its tasks wait for are canceled with it. Raises NotFoundError, and RefusedError for a run that has
        ended.
        """
        now_s = self._clock()

        def record(ledger: Ledger) -> tuple[list[int], RunRow | None]:
            running = entries.break_off(ledger, self._today, run_id, now_s, why=why, ending=ending)
            return running, ledger.run(run_id)

        running, run = await self._transact(record, durably=True)
        for one in running:
            self.on_cancel(one)
        return {"run_id": run_id, "job": run.job if run else None, "state": run.state.value if run else None}

    async def time_out_loop(self, job: Job | None, key: AttemptKey) -> Concluded | None:
        """End a loop whose time is over as soon as what runs of it is broken off; None where it has ended already.

        The runs that its iterations wait for are canceled with it.
        """
        now_s = self._clock()
        concluded, running = await self._transact(
            lambda ledger: entries.time_out_loop(ledger, job, key, now_s, job_of=self._today), durably=True
        )
        for one in running:
            self.on_cancel(one)
        return concluded

    def _today(self, name: str) -> Job | None:
        try:
            return self.definition(name)
        except NotFoundError:
            return None

    async def cancel_all(self, job: str, *, queued_only: bool = False) -> list[int]:
        """Cancel the open runs of a job (Databricks: `runs/cancel-all`); returns them."""
        left = [run.run_id for run in await self.open_runs_of(job) if run.state is RunState.QUEUED or not queued_only]
        canceled: list[int] = []
        while left:
            record = partial(entries.break_off_some, job_of=self._today, run_ids=left, now_s=self._clock())
            done, running, left = await self._transact(record, durably=True)
            canceled += done
            for one in running:
                self.on_cancel(one)
        return canceled

    async def open_runs_of(self, job: str) -> list[RunRow]:
        """Runs of a job that have not ended, oldest first."""
        return await self._ledger.transact(lambda ledger: ledger.open_runs(job))

    async def repair(self, run_id: int, job_of: JobOf, request: RepairRequest | None = None) -> tuple[str, ...]:
        """Queue tasks of a finished run again; returns them (Databricks: `runs/repair`).

        Without a request: what failed or was skipped. Raises NotFoundError and RefusedError.
        """
        now_s = self._clock()
        asked = request or RepairRequest()
        return await self._transact(lambda ledger: entries.repair(ledger, run_id, job_of, now_s, asked), durably=True)

    async def ended(self, run_id: int) -> RunRow:
        """Wait until a run has ended; returns it. NotFoundError where there is none."""
        while True:
            waiter = self._waiters.setdefault(run_id, asyncio.Event())
            run = await self.run(run_id)
            if run.state in {RunState.TERMINATED, RunState.SKIPPED}:
                self._waiters.pop(run_id, None)
                return run
            await waiter.wait()

    def _wake_waiters(self, ended: Sequence[int]) -> None:
        for run_id in ended:
            if (waiter := self._waiters.pop(run_id, None)) is not None:
                waiter.set()

    async def run(self, run_id: int) -> RunRow:
        """One run; NotFoundError where there is none."""

        def read(ledger: Ledger) -> RunRow:
            run = ledger.run(run_id)
            if run is None:
                raise NotFoundError(f"there is no run {run_id}", hint="`landingd runs` lists them")
            return run

        return await self._ledger.transact(read)

    async def job_of(self, run_id: int) -> str:
        """The name of a run's job."""
        return (await self.run(run_id)).job

    async def begin_ready(self, job: Job | None, run_id: int) -> tuple[AttemptKey, ...]:
        """Begin what was held back by an older run of the job."""
        now_s = self._clock()
        return await self._transact(lambda ledger: entries.begin_ready(ledger, job, run_id, now_s))

    async def context(self, run_id: int, task_key: str, upstreams: Collection[str]) -> TaskContextRows:
        """What a task's references may stand for: the run as it is, the task, the tasks before it."""

        def read(ledger: Ledger) -> TaskContextRows:
            run, task = ledger.run(run_id), ledger.task(run_id, task_key)
            assert run is not None  # noqa: S101 -- its attempt is under way
            assert task is not None  # noqa: S101 -- the same
            return TaskContextRows(run, task, ledger.outputs(run_id, upstreams))

        return await self._ledger.transact(read)

    async def paths(self, run_id: int) -> list[bytes]:
        """The files that a run was given, below the landing root."""
        return await self._ledger.transact(
            lambda ledger: [ledger.file(file_id)["path"] for file_id in ledger.run_file_ids(run_id)]
        )

    async def begin(self, run_id: int, task_key: str) -> AttemptKey | None:
        """Begin the attempt of a task whose retry is due; None if it waits no more."""
        now_s = self._clock()

        def record(ledger: Ledger) -> AttemptKey | None:
            task = ledger.task(run_id, task_key)
            if task is None or task.state is not TaskState.WAITING_FOR_RETRY:
                return None
            return ledger.begin_attempt(run_id, task_key, now_s=now_s)

        return await self._ledger.transact(record)

    async def failures(self, run_id: int, task_key: str) -> str:
        """How often the task has failed since the run was queued or last repaired; of an iteration first its loop."""

        def read(ledger: Ledger) -> str:
            rows = [ledger.task(run_id, key) for key in (loop_of(task_key), task_key) if key is not None]
            return ".".join(str(row.failures) for row in rows if row)

        return await self._ledger.transact(read)

    async def conclude(
        self,
        job: Job | None,
        key: AttemptKey,
        outcome: Outcome,
        *,
        go_on: bool,
        ended_s: float | None = None,
        resolved: Mapping[str, str] | None = None,
    ) -> Concluded:
        """Record how an attempt ended and everything that follows; begins what is ready unless `go_on` is false.

        `resolved`: the parameters that it ran with.
        """
        now_s = self._clock() if ended_s is None else ended_s

        def record(ledger: Ledger) -> Concluded:
            if resolved:
                ledger.note_resolved(key, resolved)
            return entries.conclude(ledger, job, key, outcome, now_s, go_on=go_on)

        return await self._transact(record, durably=only_the_ledger_knows(outcome))

    async def conclude_together(
        self,
        job: Job,
        outcomes: Sequence[tuple[AttemptKey, Outcome]],
        *,
        go_on: bool,
        resolved: Sequence[Mapping[str, str]] = (),
    ) -> Concluded:
        """Record how the attempts of one transaction ended; begins what is ready where they were rolled back."""
        now_s = self._clock()

        def record(ledger: Ledger) -> Concluded:
            for (key, _), values in zip(outcomes, resolved, strict=False):
                if values:
                    ledger.note_resolved(key, values)
            ended = [entries.conclude(ledger, job, key, outcome, now_s, go_on=False) for key, outcome in outcomes]
            result = ended[-1].run_result
            run_id = outcomes[0][0].run_id
            begun = entries.begin_ready(ledger, job, run_id, now_s) if go_on and result is None else ()
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
                for task in ledger.open_tasks(run.run_id)
                if task.state is TaskState.RUNNING and task.concurrency is None
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


def _no_job(name: str) -> Job:
    raise NotFoundError(f"there is no job '{name}'")
