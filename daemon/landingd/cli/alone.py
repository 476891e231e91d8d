"""A daemon's work without one: open both stores, do this one thing to its end, and close them.

Events stay in the outbox until a daemon tells them.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from landingd.core import references
from landingd.core.redo import Asked
from landingd.edge import landing
from landingd.edge.logs import start_logging
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.redo import Redo
from landingd.flow.roots import Roots
from landingd.flow.runner import Runner
from landingd.settings import Settings
from landingd.supervisor import Stores, open_stores, preparer, root_options

T = TypeVar("T")


def alone(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    """Do it; the log goes to standard error, as a daemon's does."""
    stop_logging = start_logging(level=settings.log.level, log_format=settings.log.format)
    try:
        return asyncio.run(work)
    finally:
        stop_logging()


async def run_once(
    settings: Settings, job_name: str, parameters: Mapping[str, str], *, request_id: str | None = None
) -> int:
    """One run of a job, over the files that are complete now; returns its run id."""
    landing.ignore_lease_signal()
    async with open_stores(settings) as stores:
        job = stores.catalog.job(job_name)
        values = references.choose_parameters(job, dict(parameters))
        options = IntakeOptions(settings.landing_dir, settings.landing.scan_interval_seconds, 0.0)
        roots = Roots(settings.landing_dir, root_options(settings), ledger=stores.ledger)
        intake = Intake(stores.books, [job], options, on_arrived=lambda _: None, roots=roots)
        await intake.once()
        request = request_id or f"once-{time.time_ns()}"
        run_id = await stores.books.request_run(job, request_id=request, parameters=values)
        await _drive_job(stores, settings, job_name)
        return run_id


async def repair_once(settings: Settings, run_id: int) -> None:
    """Repair a run."""
    landing.ignore_lease_signal()
    async with open_stores(settings) as stores:
        await stores.books.repair(run_id, stores.catalog.job)
        run = await stores.books.job_of(run_id)
        await _drive_job(stores, settings, run)


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
            await _drive_job(stores, settings, run["job"])
        return answer


async def _drive_job(stores: Stores, settings: Settings, job_name: str) -> None:
    """Run what this job has queued, one run after another."""
    job = stores.catalog.job(job_name)
    runner = Runner(stores.books, stores.engine, preparer(settings))
    while (started := await stores.books.next_run(job)) is not None:
        await runner.drive(started, stores.catalog)
