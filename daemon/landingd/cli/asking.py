"""Ask the daemon, or, where none runs, the files that it left.

Reading verbs work either way: the ledger and the warehouse are opened for reading only, and say the same.
"""

import contextlib
import http.client
import json
import os
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from landingd.errors import LandingdError, NotFoundError, NotRunningError
from landingd.model import shown

if TYPE_CHECKING:
    from landingd.flow.catalog import Catalog
    from landingd.settings import Settings

T = TypeVar("T")
TIMEOUT_S = 600.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("landingd", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Daemon:
    """The running daemon, through its control socket."""

    def __init__(self, socket_path: Path) -> None:
        self._socket = socket_path

    def get(self, path: str, **parameters: object) -> Any:
        """A reading request; raises NotRunningError, or what the daemon refused it with."""
        given = {k: str(v) for k, v in parameters.items() if v is not None}
        return json.loads(self._request("GET", f"{path}?{urlencode(given, errors='surrogateescape')}", None))

    def post(self, path: str, **body: object) -> Any:
        """A request that does something."""
        return json.loads(self.post_raw(path, **body))

    def post_raw(self, path: str, **body: object) -> bytes:
        """The same, for an answer that is not JSON."""
        return self._request("POST", path, json.dumps(body).encode())

    @property
    def runs(self) -> bool:
        """Whether a daemon answers."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        with contextlib.closing(_UnixConnection(self._socket)) as connection:
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                answer = response.read()
            except PermissionError as error:
                raise NotRunningError(
                    f"{self._socket}: permission denied", hint="who is in the daemon's group may talk to it"
                ) from error
            except (FileNotFoundError, ConnectionError) as error:
                raise NotRunningError(
                    f"no daemon listens at {self._socket}", hint="start it: landingd serve"
                ) from error
        if response.status >= http.client.BAD_REQUEST:
            raise _refusal(answer)
        return answer


def _refusal(answer: bytes) -> LandingdError:
    try:
        told = json.loads(answer)
    except ValueError:
        return LandingdError(f"the daemon answered: {answer[:200]!r}")
    error = LandingdError(str(told.get("error")), hint=told.get("hint"))
    error.exit_code = int(told.get("exit_code") or 1)
    return error


class Asker:
    """Every reading verb, asked of the daemon if it runs and of its files otherwise."""

    def __init__(self, settings: "Settings") -> None:
        self.settings = settings
        self.daemon = Daemon(settings.socket_path)

    def status(self) -> dict[str, Any]:
        """How the daemon stands, or what the ledger says without it."""
        return self._ask(lambda: self.daemon.get("/v1/status"), self._offline_status)

    def runs(self, job: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest runs."""
        from landingd.edge.ledger import views

        return self._ask(
            lambda: self.daemon.get("/v1/runs", job=job, limit=limit),
            lambda: self._view(lambda db: views.runs(db, job=job, limit=limit)),
        )

    def run(self, run_id: int) -> dict[str, Any]:
        """One run, whole."""
        from landingd.flow import requests

        return self._ask(
            lambda: self.daemon.get(f"/v1/runs/{run_id}"),
            lambda: self._view(lambda db: requests.run_or_refuse(db, run_id)),
        )

    def files(self, state: str | None, job: str | None, limit: int) -> list[dict[str, Any]]:
        """File versions."""
        from landingd.edge.ledger import views
        from landingd.flow import requests

        def offline() -> list[dict[str, Any]]:
            if state == "ignored":
                return requests.ignored_files(self.catalog(), self.settings.landing_dir)
            checked = requests.checked_state(state)
            return self._view(lambda db: views.files(db, state=checked, job=job, limit=limit))

        return self._ask(lambda: self.daemon.get("/v1/files", state=state, job=job, limit=limit), offline)

    def why(self, file: str) -> dict[str, Any]:
        """Everything known of one file."""
        from landingd.flow import requests

        # A name that is no text cannot go into a URL and come back; as it is shown, it can.
        sent = file if file.isprintable() else shown(os.fsencode(file))
        return self._ask(
            lambda: self.daemon.get("/v1/why", file=sent),
            lambda: self._view(lambda db: requests.story(db, file, self.catalog(), self.settings.landing_dir)),
        )

    def plan(self, job: str) -> dict[str, Any]:
        """What a run of a job would do now."""
        return self._ask(lambda: self.daemon.get(f"/v1/plan/{quote(job)}"), lambda: self._offline_plan(job))

    def query(self, sql: str, format_: str) -> bytes:
        """The result of one SELECT, in a format."""

        def offline() -> bytes:
            from landingd.edge.engine import write_query

            with self._warehouse() as db, tempfile.TemporaryDirectory(prefix="landingd-") as folder:
                to = Path(folder) / "answer"
                write_query(db, sql, format_, to)
                return to.read_bytes()

        return self._ask(lambda: self.daemon.post_raw("/v1/query", sql=sql, format=format_), offline)

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Every table's columns; none where there is no warehouse yet."""

        def offline() -> Mapping[str, Mapping[str, str]]:
            from landingd.edge.engine.remembered import table_columns

            if not self.settings.warehouse_file.exists():
                return {}
            with self._warehouse() as db:
                return table_columns(db)

        return self._ask(lambda: self.daemon.get("/v1/columns"), offline)

    def catalog(self) -> "Catalog":
        """The jobs, checked; raises JobFileError."""
        from landingd.flow.catalog import load_catalog

        return load_catalog(self.settings.pipelines_dir, self.columns())

    # -- without a daemon --

    def _ask(self, online: Callable[[], T], offline: Callable[[], T]) -> T:
        return online() if self.daemon.runs else offline()

    def _view(self, read: Callable[[sqlite3.Connection], T]) -> T:
        from landingd.edge.ledger import views

        if not self.settings.ledger_file.exists():
            raise NotFoundError(f"{self.settings.ledger_file}: no ledger yet", hint="start the daemon: landingd serve")
        with contextlib.closing(views.open_views(self.settings.ledger_file)) as db:
            return read(db)

    @contextlib.contextmanager
    def _warehouse(self) -> "Iterator[Any]":
        from landingd.edge.engine import open_read_only

        with contextlib.closing(open_read_only(self.settings.warehouse_file)) as db:
            yield db

    def _offline_status(self) -> dict[str, Any]:
        from landingd.edge.ledger import views

        def read(db: sqlite3.Connection) -> dict[str, Any]:
            return {"state": "not running", "files": views.counts(db), "untold_events": views.outbox_size(db)}

        return dict(self._view(read))

    def _offline_plan(self, job_name: str) -> dict[str, Any]:
        from landingd.edge.engine.remembered import read_definitions
        from landingd.edge.ledger import views
        from landingd.flow import requests

        catalog = self.catalog()
        job = catalog.job(job_name)
        made_by: Mapping[str, tuple[str, str]] = {}
        if self.settings.warehouse_file.exists():
            with self._warehouse() as db:
                made_by = read_definitions(db)
        waiting = {"files": 0, "bytes": 0}
        if self.settings.ledger_file.exists():
            waiting = self._view(lambda db: views.pending(db, job.name))
        return requests.plan(job, catalog, made_by, waiting)
