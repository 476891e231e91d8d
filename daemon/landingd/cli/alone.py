"""A daemon's work without one: open both stores, do this one thing to its end, and close them.

Events stay in the outbox until a daemon tells them.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from landingd.core.redo import Asked
from landingd.edge import landing
from landingd.edge.ledger import Ledger
from landingd.edge.logs import start_logging
from landingd.flow import evaluating
from landingd.flow.asked import trigger_of
from landingd.flow.catalog import Catalog
from landingd.flow.dispatch import Dispatch
from landingd.flow.driving import Driver
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.pausing import is_paused
from landingd.flow.redo import Redo
from landingd.flow.requests_runs import RunRequests
from landingd.flow.roots import Roots
from landingd.flow.tailing import Tailer
from landingd.model import ForEach, Job, RunJob
from landingd.settings import Settings
from landingd.supervisor import Stores, actor, open_stores, root_options, runner
from landingd.supervisor.stores import segments

T = TypeVar("T")


def alone(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    """Do it; the log goes to standard error, as a daemon's does."""
    stop_logging = start_logging(level=settings.log.level, log_format=settings.log.format)
    try:
        return asyncio.run(work)
    finally:
        stop_logging()


async def run_once(settings: Settings, asked: dict[str, Any]) -> int:
    """One run of a job, over the files that are complete now; returns its run id. `asked`: as `POST /v1/runs`."""
    landing.ignore_lease_signal()
    async with open_stores(settings) as stores:
        job = stores.catalog.job(asked["job"])
        requests = RunRequests(stores.books, lambda: stores.catalog, wake=lambda _: None)
        options = IntakeOptions(settings.landing_dir, settings.landing.scan_interval_seconds, 0.0)
        roots = Roots(settings.landing_dir, root_options(settings), ledger=stores.ledger)
        intake = Intake(stores.books, [job], options, on_arrived=lambda _: None, roots=roots)
        await intake.once()
        await Tailer(stores.ledger, [job], segments(settings), root=settings.landing_dir).once()
        answer = await requests.start(asked)
        await _drive(stores, settings, job.name, int(answer["run_id"]))
        return int(answer["run_id"])


async def repair_once(settings: Settings, run_id: int, asked: dict[str, Any]) -> list[str]:
    """Repair a run; returns the tasks that ran again. `asked`: as `POST /v1/runs/{run_id}/repair`."""
    landing.ignore_lease_signal()
    async with open_stores(settings) as stores:
        requests = RunRequests(stores.books, lambda: stores.catalog, wake=lambda _: None)
        answer = await requests.repair({"run_id": run_id, **asked})
        await _drive(stores, settings, answer["job"], run_id)
        return list(answer["tasks"])


async def cancel_once(settings: Settings, run_id: int | None, job: str | None, *, queued_only: bool) -> dict[str, Any]:
    """Cancel a run, or those of a job. What the last daemon left under way ends at once."""
    async with open_stores(settings) as stores:
        requests = RunRequests(stores.books, lambda: stores.catalog, wake=lambda _: None)
        if run_id is not None:
            return await requests.cancel({"run_id": run_id})
        return await requests.cancel_job({"job": job, "queued_only": queued_only})


async def set_paused_once(settings: Settings, job: str, trigger: str | None, *, paused: bool) -> dict[str, Any]:
    """Pause or resume a job, or one of its triggers, for the daemons to come."""
    async with open_stores(settings) as stores:
        found = stores.catalog.job(job)
        key = trigger_of(found, trigger)

        def record(ledger: Ledger) -> list[str]:
            evaluating.begin(ledger, stores.catalog.jobs)
            ledger.set_paused(job, key or "", paused)
            return [each.key for each in found.triggers if is_paused(ledger, found, each)]

        still = await stores.ledger.transact(record, durably=True)
    return {"job": job, "trigger": trigger, "paused": paused, "paused_triggers": still}


async def redo_once(settings: Settings, asked: Asked) -> dict[str, Any]:
    """Unload, replay or requeue, and run what that leads to."""
    landing.ignore_lease_signal()
    async with open_stores(settings) as stores:
        redo = Redo(
            books=stores.books,
            ledger_file=settings.ledger_file,
            landing_root=settings.landing_dir,
            catalog=lambda: stores.catalog,
        )
        answer = await redo.ask(asked)
        for run in answer["runs"]:
            await _drive(stores, settings, run["job"], run["run_id"])
        return answer


async def _drive(stores: Stores, settings: Settings, job: str, run_id: int) -> None:
    """Run what this job has queued until this run has ended, and the runs of other jobs that it asks for."""
    catalog = replace(stores.catalog, jobs=_reached(stores.catalog, job))
    stores.books.definition = stores.catalog.job
    work = runner(settings, stores, actor(settings))
    dispatch = Dispatch(stores.books, Driver(work), catalog, max_concurrent=settings.runs.max_concurrent)
    work.wake = dispatch.wake
    async with asyncio.TaskGroup() as flows:
        flows.create_task(dispatch.run())
        await stores.books.ended(run_id)
        dispatch.stop()


def _reached(catalog: Catalog, name: str) -> tuple[Job, ...]:
    """The job, and those that its run_job tasks run, and theirs."""
    reached: dict[str, Job] = {}
    left = [name]
    while left:
        job = catalog.job(left.pop())
        if job.name not in reached:
            reached[job.name] = job
            loops = [task.action.task for task in job.tasks if isinstance(task.action, ForEach)]
            actions = [task.action for task in (*job.tasks, *loops)]
            left += [action.job for action in actions if isinstance(action, RunJob)]
    return tuple(reached.values())
