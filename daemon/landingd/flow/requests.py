"""What people and programs may ask of the running daemon, and the answers. The control socket is one face of it.

Every answer is JSON-ready; every refusal is a LandingdError with a hint.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from landingd.core.redo import Verb
from landingd.edge.engine import Engine
from landingd.edge.ledger import views
from landingd.errors import RefusedError
from landingd.flow import answers
from landingd.flow import asked as given
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.census import Census
from landingd.flow.redo import Redo, asked_of
from landingd.flow.requests_runs import RunRequests
from landingd.flow.requests_triggers import TriggerRequests
from landingd.flow.viewing import View
from landingd.model import FileAnswer, FileState, Handler, Parameters

MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


class Requests:
    """The verbs. Reading ones go to the ledger through a connection of their own."""

    def __init__(
        self,
        *,
        books: Books,
        engine: Engine,
        ledger_file: Path,
        landing_root: Path,
        scratch: Path,
        census: Census,
        catalog: Callable[[], Catalog],
        wake: Callable[[str], None],
        reload: Callable[[], Awaitable[dict[str, Any]]],
        status: Callable[[], Awaitable[dict[str, Any]]],
        triggers: TriggerRequests,
    ) -> None:
        self._engine = engine
        self._view = View(ledger_file)
        self._root = landing_root
        self._scratch = scratch
        self._census = census
        self._catalog = catalog
        self._redo = Redo(books=books, ledger_file=ledger_file, landing_root=landing_root, catalog=catalog, wake=wake)
        self._reload = reload
        self._status = status
        self._runs = RunRequests(books, catalog, wake)
        self._triggers = triggers

    def handlers(self) -> Mapping[str, Handler]:
        """Each request with what answers it."""
        return {
            "GET /v1/status": lambda _: self._status(),
            "POST /v1/reload": lambda _: self._reload(),
            "GET /v1/runs": self.runs,
            "GET /v1/runs/{run_id:int}": self.run,
            "GET /v1/files": self.files,
            "GET /v1/why": self.why,
            "GET /v1/plan/{job}": self.plan,
            "GET /v1/census": self.census,
            "POST /v1/unload": lambda asked: self._redo.ask(asked_of(Verb.UNLOAD, asked)),
            "POST /v1/replay": lambda asked: self._redo.ask(asked_of(Verb.REPLAY, asked)),
            "POST /v1/requeue": lambda asked: self._redo.ask(asked_of(Verb.REQUEUE, asked)),
            "GET /v1/columns": lambda _: self._engine.columns(),
            "POST /v1/query": self.query,
            **self._runs.handlers(),
            **self._triggers.handlers(),
        }

    async def runs(self, asked: Parameters) -> Any:
        """`job`, `limit`: the newest runs."""
        job = asked.get("job")
        found = await self._view(lambda db: views.runs(db, job=job, limit=given.limit(asked)))
        if job is not None and not found:
            self._catalog().job(job)  # no runs yet, or no such job
        return found

    async def run(self, asked: Parameters) -> Any:
        """`run_id`: one run, whole."""
        run_id = given.run_id(asked)
        return await self._view(lambda db: answers.run_or_refuse(db, run_id))

    async def files(self, asked: Parameters) -> Any:
        """`state`, `job`, `limit`: file versions; the ignored ones are looked for on disk."""
        state, job = asked.get("state"), asked.get("job")
        if state == FileState.IGNORED.value:
            return await asyncio.to_thread(answers.ignored_files, self._catalog(), self._root)
        return await self._view(
            lambda db: views.files(db, state=answers.checked_state(state), job=job, limit=given.limit(asked))
        )

    async def why(self, asked: Parameters) -> Any:
        """`file`: everything known of one path."""
        return await self._view(lambda db: answers.story(db, str(asked["file"]), self._catalog(), self._root))

    async def query(self, asked: Parameters) -> FileAnswer:
        """`sql`, `format` (json, csv, parquet): the rows of one SELECT."""
        format_ = str(asked.get("format") or "json")
        if format_ not in MEDIA_TYPES:
            raise RefusedError(f"unknown format '{format_}'", hint=f"one of {', '.join(MEDIA_TYPES)}")
        to = self._scratch / f"query-{uuid.uuid4().hex}.{format_}"
        await self._engine.query(str(asked.get("sql") or ""), format_, to)
        return FileAnswer(to, MEDIA_TYPES[format_])

    async def plan(self, asked: Parameters) -> Any:
        """`job`: what a run of it would do now."""
        catalog = self._catalog()
        job = catalog.job(str(asked["job"]))
        waiting = await self._view(lambda db: views.pending(db, job.name))
        return answers.plan(job, catalog, await self._engine.definitions(), waiting)

    async def census(self, asked: Parameters) -> Any:
        """`job`, `rows`: every file on disk against the ledger; with `rows` also every row against the tables."""
        catalog, job = self._catalog(), asked.get("job")
        jobs = catalog.jobs if job is None else [catalog.job(str(job))]
        return await self._census.take(jobs, rows=str(asked.get("rows")).lower() in {"1", "true", "yes"})
