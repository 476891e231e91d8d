"""At start, make the ledger agree with the warehouse.

No commit covers both. An attempt that was begun and never concluded either has its row in `meta.commits`, then it is
done and its verdict is taken from there, or it has not, then nothing of it stayed and its task may run again. The row
is looked for also where the permitted attempts are used up.

After a power cut the ledger may lack its last commits, back to the one that formed the run: then it takes tasks that
are done for tasks that were never begun. So every commit of an open run is looked for, not only those of attempts that
the ledger knows of.
"""

import structlog

from landingd.edge.engine import Engine
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.model import Committed, Interrupted, Job, Outcome, PythonCall

log = structlog.get_logger("landingd.recovery")


async def recover(books: Books, engine: Engine, catalog: Catalog) -> int:
    """Conclude every attempt that the last process left open; returns how many there were."""
    run_id, file_id = await engine.high_water()
    await books.never_below(run_id=run_id, file_id=file_id)
    committed = await engine.committed(await books.open_run_ids())
    await books.recall(committed)
    dangling = await books.dangling()
    jobs = {job.name: job for job in catalog.jobs}
    for run, key in dangling:
        stats = committed.get(key)
        job = jobs.get(run.job)
        lived = key in engine.waited or _is_outside(job, key.task_key)
        broken_off = Interrupted(crashed=not lived, why="the process ended during this attempt")
        outcome: Outcome = broken_off if stats is None else Committed(stats)
        await books.conclude(job, key, outcome, go_on=False)
        log.warning(
            "attempt_recovered",
            job=run.job,
            run_id=key.run_id,
            task_key=key.task_key,
            attempt=key.attempt,
            committed=stats is not None,
        )
    return len(dangling)


def _is_outside(job: Job | None, task_key: str) -> bool:
    """Whether it runs outside this process: then it cannot have been what killed it."""
    try:
        action = job.task(task_key).action if job else None
    except KeyError:
        action = None
    return action is not None and not isinstance(action, PythonCall)
