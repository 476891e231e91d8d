"""Requests that start runs, break them off, and take them up again."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from landingd.core import references, triggers
from landingd.errors import RefusedError
from landingd.flow import asked as given
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.model import Handler, Parameters, RepairRequest, RunRequest, TriggerType


class RunRequests:
    """The verbs about runs. See Requests."""

    def __init__(self, books: Books, catalog: Callable[[], Catalog], wake: Callable[[str], None]) -> None:
        self._books = books
        self._catalog = catalog
        self._wake = wake

    def handlers(self) -> Mapping[str, Handler]:
        """Each request with what answers it."""
        return {
            "POST /v1/runs": self.start,
            "POST /v1/runs/{run_id:int}/repair": self.repair,
            "POST /v1/runs/{run_id:int}/cancel": self.cancel,
            "POST /v1/jobs/{job}/cancel": self.cancel_job,
        }

    async def start(self, asked: Parameters) -> dict[str, Any]:
        """`job`, `parameters`, `request_id`, `only`, `queue`: a run; the same request id gives the same run.

        Databricks: `jobs/run-now`, with `idempotency_token` and `only`.
        """
        given.only_these(asked, ("job", "parameters", "request_id", "only", "queue"))
        job = self._catalog().job(given.job_name(asked))
        parameters = given.values(asked)
        references.choose_parameters(job, parameters)  # refuses what the job does not take
        request = RunRequest(
            TriggerType.ONE_TIME,
            triggers.request_key(str(asked.get("request_id") or uuid.uuid4())),
            parameters,
            only=given.texts(asked, "only"),
            queue=given.flag(asked, "queue"),
            file_ids=None,
        )
        admitted = await self._books.admit(job, request)
        self._wake(job.name)
        return {
            "run_id": admitted.run_id,
            "job": job.name,
            "state": admitted.state.value,
            "result": admitted.result.value if admitted.result else None,
            "known": admitted.known,
        }

    async def repair(self, asked: Parameters) -> dict[str, Any]:
        """`run_id`, `tasks`, `all_failed`, `dependents`, `latest_repair_id`, `parameters`: run tasks of it again.

        Nothing named: what failed or was skipped, and what depends on it. Databricks: `jobs/runs/repair`.
        """
        run_id = given.run_id(asked)
        tasks = await self._books.repair(run_id, self._catalog().job, repair_request(asked))
        run = await self._books.run(run_id)
        self._wake(run.job)
        return {"run_id": run_id, "job": run.job, "tasks": list(tasks), "repair": run.repairs}

    async def cancel(self, asked: Parameters) -> dict[str, Any]:
        """`run_id`: end it as soon as what runs of it is broken off (Databricks: `jobs/runs/cancel`)."""
        answer = await self._books.cancel(given.run_id(asked))
        self._wake(str(answer["job"]))
        return answer

    async def cancel_job(self, asked: Parameters) -> dict[str, Any]:
        """`job`, `queued_only`: cancel all its open runs (Databricks: `jobs/runs/cancel-all`)."""
        job = self._catalog().job(str(asked["job"]))
        runs = await self._books.cancel_all(job.name, queued_only=bool(given.flag(asked, "queued_only")))
        self._wake(job.name)
        return {"job": job.name, "runs": runs}


def repair_request(asked: Parameters) -> RepairRequest:
    """Which tasks are meant. Raises RefusedError where tasks are named and all failed ones are asked for as well."""
    tasks, all_failed = given.texts(asked, "tasks"), bool(given.flag(asked, "all_failed"))
    if tasks and all_failed:
        raise RefusedError("name the tasks, or ask for all that failed: not both")
    return RepairRequest(
        rerun_tasks=tasks,
        rerun_all_failed_tasks=all_failed,
        rerun_dependent_tasks=bool(given.flag(asked, "dependents")),
        latest_repair_id=given.number(asked, "latest_repair_id"),
        parameters=given.values(asked),
    )
