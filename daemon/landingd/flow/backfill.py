"""One run for each value of a parameter in a range: asked for once, however often the request is repeated.

A range can be ten thousand runs, and entering them all at once would hold up every file that arrives meanwhile. So they
are entered a few at a time. Each run has a key made of the backfill's id and its value, which is accepted once, and how
far the entering has come is written with the runs: a crash in between, or the same request again, goes on from there.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from landingd.core import backfill
from landingd.core.backfill import Range
from landingd.edge.ledger import Ledger, LedgerThread, views
from landingd.edge.ledger.backfills import BackfillRow, BackfillRun
from landingd.errors import LandingdError, NotFoundError, RefusedError, did_you_mean
from landingd.flow import asked as given
from landingd.flow import entries
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.model import Job, Parameters, Result, RunRequest, RunState, TriggerType

log = structlog.get_logger("landingd.backfill")

ROWS_AT_A_TIME = 200
"""Rows of the ledger, one for each task, that are entered before others have their turn."""

_WELL = frozenset({Result.SUCCESS, Result.SUCCESS_WITH_FAILURES})


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be: the same list for a dry run, a first request and a repeated one."""

    job: Job
    row: BackfillRow
    requests: tuple[tuple[str, RunRequest], ...]
    """By value, in the order in which they run."""


class Backfills:
    """Answers requests for backfills, and goes on with those that a stop has broken off."""

    def __init__(
        self,
        books: Books,
        ledger: LedgerThread,
        ledger_file: Path,
        catalog: Callable[[], Catalog],
        *,
        wake: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._books = books
        self._ledger = ledger
        self._ledger_file = ledger_file
        self._catalog = catalog
        self._wake = wake
        self._clock = clock

    async def ask(self, asked: Parameters) -> dict[str, Any]:
        """`job`, `parameter`, `from`, `to`, `step`, `parameters`, `dry_run`, `backfill_id`, `rerun_failed`.

        Each value with its run. The same request gives the same runs, and adds those that are missing; with
        `rerun_failed` those that have failed are repaired. Raises NotFoundError, RefusedError, UnresolvedError.
        """
        plan = await asyncio.to_thread(_plan_of, asked, self._catalog())
        dry = bool(given.flag(asked, "dry_run"))
        before = await self._ledger.transact(lambda ledger: _stands(ledger, plan.row))
        repaired: list[int] = []
        if not dry:
            await self._enter(plan)
            if given.flag(asked, "rerun_failed"):
                repaired = await self._repair([run.run_id for run in before.runs.values() if _has_failed(run)])
            self._wake(plan.job.name)
        after = await self._ledger.transact(lambda ledger: _stands(ledger, plan.row))
        return _answer(plan, before, after) | {"dry_run": dry, "repaired": repaired}

    async def state(self, asked: Parameters) -> dict[str, Any]:
        """`backfill_id`: its runs counted by state or result, and those that have failed."""
        return await asyncio.to_thread(self._read, str(asked["backfill_id"]))

    async def resume(self) -> None:
        """Go on entering what a stop has broken off. A backfill that its job does not fit any more is left alone."""
        for row in await self._ledger.transact(lambda ledger: ledger.unfinished_backfills()):
            try:
                await self._enter(await asyncio.to_thread(_plan, row, self._catalog()))
            except LandingdError as error:
                log.warning("backfill_not_resumed", backfill_id=row.backfill_id, job=row.job, why=error.what)
            else:
                log.info("backfill_resumed", backfill_id=row.backfill_id, job=row.job, after=row.admitted, of=row.count)

    # -- entering --

    async def _enter(self, plan: _Plan) -> None:
        """Ask for the runs that were not asked for yet, a few in each transaction."""
        at_a_time = max(1, ROWS_AT_A_TIME // (len(plan.job.tasks) + 1))
        while True:
            row = await self._ledger.transact(lambda ledger: self._admit(ledger, plan, at_a_time), durably=True)
            self._books.on_news()
            self._wake(plan.job.name)
            if row.admitted >= row.count:
                return

    def _admit(self, ledger: Ledger, plan: _Plan, at_a_time: int) -> BackfillRow:
        """The next few, in one transaction with how far it has come."""
        now_s = self._clock()
        known = ledger.add_backfill(plan.row, now_s=now_s)
        _check_the_same(known, plan.row)
        upto = min(known.admitted + at_a_time, known.count)
        for _, request in plan.requests[known.admitted : upto]:
            entries.admit(ledger, plan.job, request, now_s)
        ledger.note_admitted(known.backfill_id, upto)
        return replace(known, admitted=upto)

    async def _repair(self, run_ids: Sequence[int]) -> list[int]:
        repaired: list[int] = []
        for run_id in run_ids:
            with suppress(RefusedError):  # somebody else has taken it up meanwhile
                await self._books.repair(run_id, self._catalog().job)
                repaired.append(run_id)
        return repaired

    def _read(self, backfill_id: str) -> dict[str, Any]:
        with views.reading(self._ledger_file) as db:
            found = views.backfill(db, backfill_id)
        if found is None:
            raise NotFoundError(f"there is no backfill {backfill_id!r}", hint="history may have forgotten it")
        return found


# --- what is asked for ------------------------------------------------------------------------------------


def _plan_of(asked: Parameters, catalog: Catalog) -> _Plan:
    job = catalog.job(str(asked.get("job")))
    texts = {name: str(asked[name]) if asked.get(name) is not None else "" for name in ("parameter", "from", "to")}
    for name, text in texts.items():
        if not text:
            raise RefusedError(
                f"{name}: a backfill needs one", hint="a parameter of the job, and a range of its values"
            )
    range_ = Range(texts["parameter"], texts["from"], texts["to"], str(asked.get("step") or ""))
    parameters = given.values(asked)
    chosen = asked.get("backfill_id")
    row = BackfillRow(
        backfill_id=backfill.id_of(str(chosen)) if chosen else backfill.backfill_id(job.name, range_, parameters),
        job=job.name,
        parameter=range_.parameter,
        first=range_.first,
        last=range_.last,
        step=range_.step,
        count=0,
        parameters=parameters,
    )
    return _plan(row, catalog)


def _plan(row: BackfillRow, catalog: Catalog) -> _Plan:
    job = catalog.job(row.job)
    if job.max_concurrent_runs == 0:
        raise RefusedError(f"no run of job {job.name!r} starts: its max_concurrent_runs is 0")
    declared = {parameter.name: parameter for parameter in job.parameters}
    if row.parameter not in declared:
        hint = did_you_mean(row.parameter, declared) or f"its parameters are {', '.join(declared) or 'none'}"
        raise RefusedError(f"job {job.name!r} has no parameter {row.parameter!r}", hint=hint)
    range_ = Range(row.parameter, row.first, row.last, row.step)
    values = backfill.values(declared[row.parameter], range_)
    requests = tuple((value, _request(job, row.backfill_id, range_, value, row.parameters)) for value in values)
    return _Plan(job, replace(row, count=len(values)), requests)


def _request(job: Job, id_: str, range_: Range, value: str, parameters: Mapping[str, str]) -> RunRequest:
    return RunRequest(
        TriggerType.BACKFILL,
        backfill.key(id_, value),
        backfill.parameters_of(job, range_, value, parameters),
        info=backfill.info(value),
        queue=True,
    )


# --- how it stands ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Standing:
    admitted: int
    runs: Mapping[str, BackfillRun]
    """By value."""


def _stands(ledger: Ledger, row: BackfillRow) -> _Standing:
    known = ledger.backfill(row.backfill_id)
    if known is None:
        return _Standing(0, {})
    _check_the_same(known, row)
    return _Standing(known.admitted, ledger.backfill_runs(row.backfill_id, row.job))


def _check_the_same(known: BackfillRow, asked: BackfillRow) -> None:
    if known.asks_the_same_as(asked):
        return
    what = f"{known.parameter} of {known.job} from {known.first!r} to {known.last!r}, {known.count} runs"
    raise RefusedError(
        f"the backfill {known.backfill_id!r} is known already, and is another one: {what}",
        hint="give this one another id",
    )


def _has_failed(run: BackfillRun) -> bool:
    return run.state is RunState.TERMINATED and run.result not in _WELL


def _answer(plan: _Plan, before: _Standing, after: _Standing) -> dict[str, Any]:
    """A value whose run history has forgotten is known, and has none."""
    return {
        "backfill_id": plan.row.backfill_id,
        "job": plan.job.name,
        "parameter": plan.row.parameter,
        "runs": [
            {
                "value": value,
                "run_id": run.run_id if run else None,
                "state": run.state.value if run else None,
                "result": run.result.value if run and run.result else None,
                "known": index < before.admitted,
            }
            for index, (value, _) in enumerate(plan.requests)
            for run in (after.runs.get(value),)
        ],
    }
