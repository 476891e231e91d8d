"""What people and programs may ask of the running daemon, and the answers. The control socket is one face of it.

Every answer is JSON-ready; every refusal is a LandingdError with a hint.
"""

import asyncio
import contextlib
import os
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from landingd.core import graph, references, triggers
from landingd.edge import landing
from landingd.edge.engine import Engine
from landingd.edge.ledger import views
from landingd.errors import NotFoundError, RefusedError
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.scanning import watched_directories
from landingd.model import FileAnswer, FileState, Handler, Job, Parameters, Signature, path_of, shown

MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
LIST_MAX = 100_000


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
        catalog: Callable[[], Catalog],
        wake: Callable[[str], None],
        reload: Callable[[], Awaitable[dict[str, Any]]],
        status: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self._books = books
        self._engine = engine
        self._ledger_file = ledger_file
        self._root = landing_root
        self._scratch = scratch
        self._catalog = catalog
        self._wake = wake
        self._reload = reload
        self._status = status

    def handlers(self) -> Mapping[str, Handler]:
        """Each request with what answers it."""
        return {
            "GET /v1/status": lambda _: self._status(),
            "POST /v1/reload": lambda _: self._reload(),
            "GET /v1/runs": self.runs,
            "GET /v1/runs/{run_id:int}": self.run,
            "POST /v1/runs": self.start,
            "POST /v1/runs/{run_id:int}/repair": self.repair,
            "GET /v1/files": self.files,
            "GET /v1/why": self.why,
            "GET /v1/plan/{job}": self.plan,
            "GET /v1/columns": lambda _: self._engine.columns(),
            "POST /v1/query": self.query,
        }

    async def runs(self, asked: Parameters) -> Any:
        """`job`, `limit`: the newest runs."""
        job = asked.get("job")
        found = await self._view(lambda db: views.runs(db, job=job, limit=_limit(asked)))
        if job is not None and not found:
            self._catalog().job(job)  # no runs yet, or no such job
        return found

    async def run(self, asked: Parameters) -> Any:
        """`run_id`: one run, whole."""
        run_id = int(asked["run_id"])
        return await self._view(lambda db: run_or_refuse(db, run_id))

    async def files(self, asked: Parameters) -> Any:
        """`state`, `job`, `limit`: file versions; the ignored ones are looked for on disk."""
        state, job = asked.get("state"), asked.get("job")
        if state == FileState.IGNORED.value:
            return await asyncio.to_thread(ignored_files, self._catalog(), self._root)
        return await self._view(lambda db: views.files(db, state=checked_state(state), job=job, limit=_limit(asked)))

    async def why(self, asked: Parameters) -> Any:
        """`file`: everything known of one path."""
        return await self._view(lambda db: story(db, str(asked["file"]), self._catalog(), self._root))

    async def start(self, asked: Parameters) -> Any:
        """`job`, `parameters`, `request_id`: a run; the same request id gives the same run."""
        job = self._catalog().job(str(asked.get("job")))
        given = asked.get("parameters") or {}
        values = references.choose_parameters(job, {str(k): str(v) for k, v in given.items()})
        request_id = str(asked.get("request_id") or uuid.uuid4())
        run_id = await self._books.request_run(job, request_id=request_id, parameters=values)
        self._wake(job.name)
        return {"run_id": run_id, "job": job.name}

    async def repair(self, asked: Parameters) -> Any:
        """`run_id`: run its failed and skipped tasks again."""
        run_id = int(asked["run_id"])
        tasks = await self._books.repair(run_id, self._catalog().job)
        run = await self._view(lambda db: run_or_refuse(db, run_id))
        self._wake(run["job"])
        return {"run_id": run_id, "job": run["job"], "tasks": list(tasks)}

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
        return plan(job, catalog, await self._engine.definitions(), waiting)

    async def _view(self, read: Callable[[sqlite3.Connection], Any]) -> Any:
        return await asyncio.to_thread(self._read, read)

    def _read(self, read: Callable[[sqlite3.Connection], Any]) -> Any:
        with contextlib.closing(views.open_views(self._ledger_file)) as db:
            return read(db)


def run_or_refuse(db: sqlite3.Connection, run_id: int) -> dict[str, Any]:
    """One run; NotFoundError where there is none."""
    found = views.run(db, run_id)
    if found is None:
        raise NotFoundError(f"there is no run {run_id}", hint="`landingd runs` lists them")
    return found | {"timings": views.timings(db, run_id)}


def checked_state(state: str | None) -> str | None:
    """A state that files can be in; RefusedError for another word."""
    listed = [s.value for s in FileState if s is not FileState.DUPLICATE]
    if state is not None and state not in listed:
        raise RefusedError(f"unknown state '{state}'", hint=f"one of {', '.join(listed)}")
    return state


def ignored_files(catalog: Catalog, root: Path) -> list[dict[str, Any]]:
    """Files in the watched directories that no job takes, and why not."""
    found: dict[bytes, dict[str, Any]] = {}
    for directory, _ in watched_directories(catalog.jobs):
        prefix = directory.encode("utf-8", "surrogateescape") + b"/" if directory else b""
        for path, signature in landing.scan(root / directory, recursive=True, unreadable=[]):
            matches, reason = triggers.matching(prefix + path, catalog.jobs)
            if not matches:
                found[prefix + path] = {
                    "file": shown(prefix + path),
                    "state": "ignored",
                    "reason": reason,
                    "size": signature.size,
                }
    return [found[path] for path in sorted(found)]


def story(db: sqlite3.Connection, named: str, catalog: Catalog, root: Path) -> dict[str, Any]:
    """Everything known of a file, named as a path below the landing root, an absolute path, or by its end."""
    path = relative_to_root(named, root)
    known = views.versions(db, path)
    if known:
        path = views.path_of(db, known[-1]["file_id"])
    absolute = os.path.join(os.fsencode(root), path)
    seen = landing.signature(absolute)
    matches, reason = triggers.matching(path, catalog.jobs)
    if not known and seen is None:
        raise NotFoundError(f"{named}: neither on disk nor in the ledger", hint=f"name it below {root}")
    return {
        "file": shown(path),
        "on_disk": isinstance(seen, Signature),
        "size": seen.size if isinstance(seen, Signature) else None,
        "jobs": [match.job for match in matches],
        "ignored": None if matches or known else reason,
        "versions": known,
    }


def relative_to_root(named: str, root: Path) -> bytes:
    """The path below the landing root that somebody means: as it is, or as `shown` shows it."""
    prefix = os.fsencode(root) + b"/"
    path = os.fsencode(named).removeprefix(prefix)
    return path if os.path.lexists(os.path.join(prefix, path)) else path_of(os.fsdecode(path))


def plan(
    job: Job, catalog: Catalog, definitions: Mapping[str, tuple[str, str]], waiting: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run would do now, task by task: the same choice that the runner makes."""
    steps = []
    for task_key in graph.order(job):
        task = job.task(task_key)
        step: dict[str, Any] = {
            "task_key": task_key,
            "depends_on": list(task.depends_on),
            "table": task.table,
        }
        if task.ingest is not None:
            step |= {"refresh": "ingest", "why": f"loads the files that match {task.ingest.pattern}"}
        elif task.table is None:
            step |= {"refresh": "script", "why": "no table: its statements run in one transaction"}
        else:
            chosen = catalog.refreshes[task.table.casefold()]
            made_by = definitions.get(task.table)
            stands = made_by == (catalog.definitions[task.table.casefold()], chosen.mode.value)
            first = "" if stands else "; this time in full, " + ("its definition changed" if made_by else "it is new")
            step |= {
                "refresh": chosen.mode.value,
                "why": chosen.reason + (first if chosen.mode == "append" else ""),
            }
        steps.append(step)
    return {
        "job": job.name,
        "waiting_files": waiting["files"],
        "waiting_bytes": waiting["bytes"],
        "tasks": steps,
    }


def _limit(asked: Parameters) -> int:
    try:
        return max(1, min(int(asked.get("limit") or 50), LIST_MAX))
    except ValueError:
        raise RefusedError(f"limit is no number: {asked['limit']}") from None
