"""The same answers without a daemon, from the files that it left: both stores are opened for reading only."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from landingd.core.redo import Asked
from landingd.edge.engine import open_read_only, write_query
from landingd.edge.engine.remembered import read_definitions, table_columns
from landingd.edge.ledger import views
from landingd.errors import NotFoundError
from landingd.flow import answers
from landingd.flow.catalog import Catalog, load_catalog
from landingd.flow.census import Census
from landingd.flow.redo import Redo
from landingd.settings import Settings

T = TypeVar("T")
NO_STORE_HINT = "start the daemon: landingd serve; or name its configuration with --config"
Answer = dict[str, Any]


class Offline:
    """The verbs of `Asker`, on the stores of a daemon that does not run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def status(self) -> Answer:
        """What the ledger says."""

        def read(db: views.Connection) -> Answer:
            return {
                "state": "not running",
                "files": views.counts(db),
                "untold_events": views.outbox_size(db),
                "cleanup_failing": views.cleanup_failing(db),
            }

        return self._view(read)

    def runs(self, job: str | None, limit: int) -> list[Answer]:
        """See Asker.runs."""
        found = self._view(lambda db: views.runs(db, job=job, limit=limit))
        if job is not None and not found:
            self._catalog().job(job)  # no runs yet, or no such job
        return found

    def run(self, run_id: int) -> Answer:
        """See Asker.run."""
        return self._view(lambda db: answers.run_or_refuse(db, run_id))

    def matrix(self, job: str, limit: int) -> Answer:
        """See Asker.matrix."""
        found = self._view(lambda db: views.matrix(db, job, limit))
        if not found["columns"]:
            self._catalog().job(job)  # no runs yet, or no such job
        return found

    def queue(self) -> list[Answer]:
        """See Asker.queue."""
        catalog = self._catalog()
        return self._view(lambda db: answers.queue(db, catalog, self._settings.runs.max_concurrent))

    def jobs(self) -> list[Answer]:
        """See Asker.jobs."""
        catalog = self._catalog()
        return self._view(lambda db: answers.jobs(db, catalog))

    def triggers(self, job: str, limit: int) -> Answer:
        """See Asker.triggers."""
        catalog = self._catalog()
        return self._view(lambda db: answers.triggers_of(db, catalog.job(job), limit))

    def alerts(self, limit: int) -> list[Answer]:
        """See Asker.alerts."""
        return self._view(lambda db: views.alerts(db, limit=limit))

    def files(self, state: str | None, job: str | None, limit: int) -> list[Answer]:
        """See Asker.files."""
        if state == "ignored":
            return answers.ignored_files(self._catalog(), self._settings.landing_dir)
        checked = answers.checked_state(state)
        return self._view(lambda db: views.files(db, state=checked, job=job, limit=limit))

    def why(self, file: str) -> Answer:
        """See Asker.why."""
        catalog = self._catalog()
        return self._view(lambda db: answers.story(db, file, catalog, self._settings.landing_dir))

    def plan(self, job_name: str) -> Answer:
        """See Asker.plan."""
        catalog = self._catalog()
        job = catalog.job(job_name)
        made_by: Mapping[str, tuple[str, str]] = {}
        if self._settings.warehouse_file.exists():
            with self._warehouse() as db:
                made_by = read_definitions(db)
        waiting: Answer = {"files": 0, "bytes": 0}
        if self._settings.ledger_file.exists():
            waiting = self._view(lambda db: views.pending(db, job.name))
        return answers.plan(job, catalog, made_by, waiting)

    def query(self, sql: str, format_: str) -> bytes:
        """See Asker.query."""
        if not self._settings.warehouse_file.exists():
            raise NotFoundError(
                f"{self._settings.warehouse_file}: no warehouse yet",
                hint=NO_STORE_HINT,
            )
        with self._warehouse() as db, tempfile.TemporaryDirectory(prefix="landingd-") as folder:
            to = Path(folder) / "answer"
            write_query(db, sql, format_, to)
            return to.read_bytes()

    def census(self, job: str | None, *, rows: bool) -> Answer:
        """See Asker.census."""
        catalog = self._catalog()
        jobs = catalog.jobs if job is None else (catalog.job(job),)
        self._view(lambda _: None)  # there is a ledger, and it can be read

        async def take() -> Answer:
            census = Census(
                landing_root=self._settings.landing_dir, ledger_file=self._settings.ledger_file, query=self._rows
            )
            try:
                return await census.take(jobs, rows=rows)
            finally:
                census.close()

        return asyncio.run(take())

    def redo_dry(self, asked: Asked) -> Answer:
        """What an unload, a replay or a requeue would do; nothing is written."""
        catalog = self._catalog()
        self._view(lambda _: None)
        redo = Redo(
            books=None,
            ledger_file=self._settings.ledger_file,
            landing_root=self._settings.landing_dir,
            catalog=lambda: catalog,
        )
        return asyncio.run(redo.ask(asked))

    async def _rows(self, sql: str) -> list[Answer]:
        found: list[Answer] = json.loads(self.query(sql, "json")) if self._settings.warehouse_file.exists() else []
        return found

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Every table's columns; none where there is no warehouse yet."""
        if not self._settings.warehouse_file.exists():
            return {}
        with self._warehouse() as db:
            return table_columns(db)

    def _catalog(self) -> Catalog:
        return load_catalog(self._settings.pipelines_dir, self.columns())

    def _view(self, read: Callable[[views.Connection], T]) -> T:
        if not self._settings.ledger_file.exists():
            raise NotFoundError(
                f"{self._settings.ledger_file}: no ledger yet",
                hint=NO_STORE_HINT,
            )
        with views.one_moment(self._settings.ledger_file) as db:
            return read(db)

    @contextlib.contextmanager
    def _warehouse(self) -> Iterator[Any]:
        with contextlib.closing(open_read_only(self._settings.warehouse_file)) as db:
            yield db
