"""Ask the daemon, or, where none runs, the files that it left.

Reading verbs work either way: the ledger and the warehouse are opened for reading only, and say the same.
"""

import contextlib
import errno
import http.client
import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from landingd.errors import LandingdError, NotRunningError
from landingd.model import shown

if TYPE_CHECKING:
    from landingd.cli.offline import Offline
    from landingd.core.redo import Asked
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
        """Whether a daemon answers; NotRunningError where one may listen and we may not ask."""
        with socket.socket(socket.AF_UNIX) as probe:
            failure = probe.connect_ex(str(self._socket))
        if failure in {errno.EACCES, errno.EPERM}:
            raise self._not_for_us()
        return failure == 0

    def _not_for_us(self) -> NotRunningError:
        hint = "who is in the daemon's group may talk to it"
        return NotRunningError(f"{self._socket}: permission denied", hint=hint)

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        with contextlib.closing(_UnixConnection(self._socket)) as connection:
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                answer = response.read()
            except PermissionError as error:
                raise self._not_for_us() from error
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


def _part(name: str) -> str:
    """A name as a part of a path, also one that is no text: nothing is called so, and the daemon says that."""
    return quote(name, safe="", errors="surrogateescape")


def _text(file: str) -> str:
    """A name that is no text cannot go over the socket and come back; as it is shown, it can."""
    return file if file.isprintable() else shown(os.fsencode(file))


class Asker:
    """Every reading verb, asked of the daemon if it runs and of its files otherwise."""

    def __init__(self, settings: "Settings") -> None:
        self.settings = settings
        self.daemon = Daemon(settings.socket_path)

    @property
    def _offline(self) -> "Offline":
        # Imported only where no daemon runs: it brings DuckDB and the rest, and `landingd status` shall be quick.
        from landingd.cli.offline import Offline

        return Offline(self.settings)

    def status(self) -> dict[str, Any]:
        """How the daemon stands, or what the ledger says without it."""
        return dict(self.daemon.get("/v1/status") if self.daemon.runs else self._offline.status())

    def runs(self, job: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest runs; NotFoundError for a job that is not known."""
        if self.daemon.runs:
            return list(self.daemon.get("/v1/runs", job=job, limit=limit))
        return self._offline.runs(job, limit)

    def run(self, run_id: int) -> dict[str, Any]:
        """One run, whole."""
        return dict(self.daemon.get(f"/v1/runs/{run_id}") if self.daemon.runs else self._offline.run(run_id))

    def matrix(self, job: str, limit: int) -> dict[str, Any]:
        """Tasks by the newest runs of a job."""
        if self.daemon.runs:
            return dict(self.daemon.get(f"/v1/matrix/{_part(job)}", limit=limit))
        return self._offline.matrix(job, limit)

    def queue(self) -> list[dict[str, Any]]:
        """Runs that wait for room."""
        return list(self.daemon.get("/v1/queue") if self.daemon.runs else self._offline.queue())

    def jobs(self) -> list[dict[str, Any]]:
        """Every job, and where it stands."""
        return list(self.daemon.get("/v1/jobs") if self.daemon.runs else self._offline.jobs())

    def triggers(self, job: str, limit: int) -> dict[str, Any]:
        """What starts a job, and what came of that."""
        if self.daemon.runs:
            return dict(self.daemon.get(f"/v1/triggers/{_part(job)}", limit=limit))
        return self._offline.triggers(job, limit)

    def alerts(self, limit: int) -> list[dict[str, Any]]:
        """Mail and web calls that are still to be made."""
        return list(self.daemon.get("/v1/alerts", limit=limit) if self.daemon.runs else self._offline.alerts(limit))

    def backfill(self, backfill_id: str) -> dict[str, Any]:
        """How the runs of a backfill stand; it is the daemon that goes on with them."""
        return dict(self.daemon.get(f"/v1/backfills/{_part(backfill_id)}"))

    def set_paused(self, job: str, trigger: str | None, *, paused: bool) -> dict[str, Any]:
        """Pause or resume a job or one of its triggers; without a daemon the next one finds it so."""
        if self.daemon.runs:
            verb = "pause" if paused else "resume"
            return dict(self.daemon.post(f"/v1/jobs/{_part(job)}/{verb}", trigger=trigger))
        from landingd.cli.alone import alone, set_paused_once

        return alone(self.settings, set_paused_once(self.settings, job, trigger, paused=paused))

    def cancel(self, run_id: int | None, job: str | None, *, queued_only: bool) -> dict[str, Any]:
        """Cancel a run, or all of a job; without a daemon nothing of them runs, and they end at once."""
        if self.daemon.runs:
            if run_id is not None:
                return dict(self.daemon.post(f"/v1/runs/{run_id}/cancel"))
            return dict(self.daemon.post(f"/v1/jobs/{_part(str(job))}/cancel", queued_only=queued_only))
        from landingd.cli.alone import alone, cancel_once

        return alone(self.settings, cancel_once(self.settings, run_id, job, queued_only=queued_only))

    def files(self, state: str | None, job: str | None, limit: int) -> list[dict[str, Any]]:
        """File versions."""
        if self.daemon.runs:
            return list(self.daemon.get("/v1/files", state=state, job=job, limit=limit))
        return self._offline.files(state, job, limit)

    def why(self, file: str) -> dict[str, Any]:
        """Everything known of one file."""
        if not self.daemon.runs:
            return self._offline.why(file)
        return dict(self.daemon.get("/v1/why", file=_text(file)))

    def plan(self, job: str) -> dict[str, Any]:
        """What a run of a job would do now."""
        return dict(self.daemon.get(f"/v1/plan/{_part(job)}") if self.daemon.runs else self._offline.plan(job))

    def census(self, job: str | None, *, rows: bool) -> dict[str, Any]:
        """Every file on disk against the ledger; with `rows` every row against the tables."""
        if self.daemon.runs:
            return dict(self.daemon.get("/v1/census", job=job, rows=int(rows)))
        return self._offline.census(job, rows=rows)

    def redo(self, asked: "Asked") -> dict[str, Any]:
        """Unload, replay or requeue; without a daemon it is done here and now, to its end."""
        if self.daemon.runs:
            given = {name: value for name, value in asdict(asked).items() if name != "verb"}
            return dict(self.daemon.post(f"/v1/{asked.verb.value}", **given | {"files": list(map(_text, asked.files))}))
        if asked.dry_run:
            return self._offline.redo_dry(asked)
        from landingd.cli.alone import alone, redo_once

        return alone(self.settings, redo_once(self.settings, asked))

    def query(self, sql: str, format_: str) -> bytes:
        """The result of one SELECT, in a format."""
        if self.daemon.runs:
            return self.daemon.post_raw("/v1/query", sql=sql, format=format_)
        return self._offline.query(sql, format_)

    def catalog(self) -> "Catalog":
        """The jobs, checked against the tables that exist; raises JobFileError."""
        from landingd.flow.catalog import load_catalog
        from landingd.supervisor import abilities

        columns = self.daemon.get("/v1/columns") if self.daemon.runs else self._offline.columns()
        return load_catalog(self.settings.pipelines_dir, columns, abilities(self.settings))
