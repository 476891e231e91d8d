"""Requests about what starts runs, and about what waits: triggers, jobs, the queue, the matrix, alerts, backfills."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from landingd.edge.ledger import views
from landingd.errors import RefusedError
from landingd.flow import answers
from landingd.flow import asked as given
from landingd.flow.catalog import Catalog
from landingd.flow.viewing import View
from landingd.model import Handler, Parameters

MATRIX_RUNS = 25


class TriggerRequests:
    """The verbs. `slots`: runs at a time, over all jobs.

    `pause(job, trigger, paused)` records it; `backfill` and `backfill_state` answer their requests themselves;
    `test_alert(destination)` sends one.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        view: View,
        *,
        slots: int | None,
        pause: Callable[[str, str | None, bool], Awaitable[Any]],
        backfill: Handler,
        backfill_state: Handler,
        test_alert: Callable[[str], Awaitable[Any]],
    ) -> None:
        self._catalog = catalog
        self._view = view
        self._slots = slots
        self._pause = pause
        self._backfill = backfill
        self._backfill_state = backfill_state
        self._test_alert = test_alert

    def handlers(self) -> Mapping[str, Handler]:
        """Each request with what answers it."""
        return {
            "GET /v1/jobs": self.jobs,
            "GET /v1/triggers/{job}": self.triggers,
            "POST /v1/jobs/{job}/pause": partial(self.set_paused, paused=True),
            "POST /v1/jobs/{job}/resume": partial(self.set_paused, paused=False),
            "GET /v1/queue": self.queue,
            "GET /v1/matrix/{job}": self.matrix,
            "POST /v1/backfills": self._backfill,
            "GET /v1/backfills/{backfill_id}": self._backfill_state,
            "GET /v1/alerts": self.alerts,
            "POST /v1/alerts/test": self.test,
        }

    async def jobs(self, _: Parameters) -> Any:
        """Every job: its triggers, whether it is paused, its runs, when the next one starts."""
        return await self._view(lambda db: answers.jobs(db, self._catalog()))

    async def triggers(self, asked: Parameters) -> Any:
        """`job`, `limit`: its triggers, and what their last evaluations led to: why did it not fire?"""
        job = self._catalog().job(str(asked["job"]))
        return await self._view(lambda db: answers.triggers_of(db, job, given.limit(asked)))

    async def set_paused(self, asked: Parameters, *, paused: bool) -> Any:
        """`job`, `trigger`: pause or resume one of its triggers, or the job (Databricks: `pause_status`)."""
        job = self._catalog().job(str(asked["job"]))
        key = asked.get("trigger")
        trigger = given.trigger_of(job, None if key is None else str(key))
        return await self._pause(job.name, trigger, paused)

    async def queue(self, _: Parameters) -> Any:
        """Runs that wait, in order, with what each waits for."""
        return await self._view(lambda db: answers.queue(db, self._catalog(), self._slots))

    async def matrix(self, asked: Parameters) -> Any:
        """`job`, `limit`: its tasks by its newest runs."""
        job = str(asked["job"])
        found = await self._view(lambda db: views.matrix(db, job, given.limit(asked, MATRIX_RUNS)))
        if not found["columns"]:
            self._catalog().job(job)  # no runs yet, or no such job
        return found

    async def alerts(self, asked: Parameters) -> Any:
        """`limit`: mail and web calls that are still to be made."""
        return await self._view(lambda db: views.alerts(db, limit=given.limit(asked)))

    async def test(self, asked: Parameters) -> Any:
        """`destination`: send it a message now, and say how that went."""
        destination = asked.get("destination")
        if not isinstance(destination, str) or not destination:
            raise RefusedError("destination: must be the id of a destination, or an address")
        return await self._test_alert(destination)
