"""The installed daemon as a user has it: a process with a base of its own, asked from outside and nowhere else.

Nothing here reaches into the package: what a story knows it knows from the command line, the control socket, the
ledger file, the log and the broker.
"""

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[1]
LANDINGD = Path(sys.executable).with_name("landingd")
START_TIMEOUT_S = 60.0
WAIT_TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.02
LOG_TAIL_CHARS = 6000

ORDERS = {
    "orders/job.yml": """
        name: orders
        triggers:
          - file_arrival: {path: orders, pattern: "*.csv*"}
        tasks:
          - task_key: bronze
            ingest: {schema_hints: {id: BIGINT, customer: VARCHAR, amount: "DECIMAL(12,2)"}}
            table: bronze.orders
          - task_key: silver
            depends_on: [{task_key: bronze}]
            sql: silver.sql
            table: silver.orders
          - task_key: gold
            depends_on: [{task_key: silver}]
            sql: gold.sql
            table: gold.revenue
        """,
    "orders/silver.sql": "SELECT id, customer, amount FROM bronze.orders WHERE amount > 0",
    "orders/gold.sql": "SELECT customer, count(*) AS orders, sum(amount) AS revenue FROM silver.orders GROUP BY ALL",
}
"""The job of most stories: a table that is loaded, one that is appended to, one that is recomputed."""


class NotAnsweringError(Exception):
    """The daemon does not answer on its control socket."""


class LandingdProcess:
    """`landingd serve` on a base of its own; `pipelines` maps names below the folder of the jobs to their text."""

    def __init__(
        self,
        base: Path,
        pipelines: Mapping[str, str] = ORDERS,
        *,
        broker_port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.base = base
        self.landing = base / "landing"
        self.state = base / "state"
        self.pipelines = base / "pipelines"
        self.log_file = base / "daemon.log"
        self.notified: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        mqtt = {"MQTT__ENABLED": "false"} if broker_port is None else {"MQTT__PORT": str(broker_port)}
        ours = {
            "CONFIG": str(REPOSITORY / "config/landingd.toml"),
            "BASE": str(base),
            "NODE": "story",
            "LOG__FORMAT": "json",
            "MQTT__RECONNECT_MIN_SECONDS": "0.05",
            "MQTT__RECONNECT_MAX_SECONDS": "0.2",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LANDINGD_")}
        self.env = clean | {f"LANDINGD_{name}": value for name, value in (ours | mqtt | dict(env or {})).items()}
        base.mkdir(parents=True, exist_ok=True)
        self.pipelines.mkdir(exist_ok=True)
        self.write(pipelines)

    # -- its life --

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        """Return when it says READY=1, as systemd would have it."""
        address = self.base / "notify"
        address.unlink(missing_ok=True)
        self.notified = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(address))
            ready.settimeout(0.1)
            with self.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    [LANDINGD, "serve"],
                    env=self.env | {"NOTIFY_SOCKET": str(address)},
                    stdout=log,
                    stderr=log,
                )
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while not any("READY=1" in told for told in self.notified):
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    pytest.fail(f"landingd does not start (exit code {self._process.poll()}):\n{self.log_tail()}")
                try:
                    self.notified.append(ready.recv(4096).decode())
                except TimeoutError:
                    continue
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None, "the daemon was not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the daemon was not started"
        self._process.send_signal(number)

    def wait(self, timeout_s: float = WAIT_TIMEOUT_S) -> int:
        """Its exit code."""
        assert self._process is not None, "the daemon was not started"
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"landingd does not end:\n{self.log_tail()}")

    def stop(self) -> int:
        """An orderly end."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    # -- its files --

    def write(self, pipelines: Mapping[str, str]) -> None:
        """Put job files and SQL in place; an indented text loses its indent."""
        for name, text in pipelines.items():
            file = self.pipelines / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(unindented(text))

    def drop(self, name: str | bytes, content: str | bytes) -> Path:
        """Write a file below the landing root in place, as a careless producer does."""
        file = self.landing / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def move_in(self, name: str | bytes, content: str | bytes) -> Path:
        """Write a file beside the landing root and rename it into place, as a careful one does."""
        outside = self.base / "outside"
        outside.write_bytes(content if isinstance(content, bytes) else content.encode())
        file = self.landing / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        return outside.rename(file)

    def log(self) -> list[dict[str, Any]]:
        """Every line of its log."""
        lines = self.log_file.read_text().splitlines() if self.log_file.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == event]

    def log_tail(self) -> str:
        return self.log_file.read_text()[-LOG_TAIL_CHARS:] if self.log_file.exists() else "(no log)"

    # -- asking --

    def cli(self, *arguments: str, exit_code: int = 0) -> Any:
        """`landingd ... --json`, parsed."""
        return json.loads(self.run(*arguments, "--json", exit_code=exit_code).stdout)

    def run(self, *arguments: str | bytes, exit_code: int = 0) -> "subprocess.CompletedProcess[bytes]":
        """`landingd ...`, which has to leave with this exit code."""
        done = subprocess.run([LANDINGD, *arguments], env=self.env, capture_output=True, timeout=60, check=False)
        assert done.returncode == exit_code, (arguments, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def get(self, path: str) -> Any:
        """A request on the control socket: what the command line asks too, without starting a process for it."""
        return json.loads(self._request("GET", path))

    def post(self, path: str, **body: object) -> Any:
        return json.loads(self._request("POST", path, json.dumps(body)))

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of one SELECT."""
        return self.post("/v1/query", sql=sql, format="json")  # type: ignore[no-any-return]

    def value(self, sql: str) -> Any:
        """The one value of one row."""
        (row,) = self.query(sql)
        (value,) = row.values()
        return value

    def ledger(self, sql: str, parameters: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Rows of the ledger, which anyone may read while the daemon runs; none while there is no ledger."""
        file = self.state / "ledger.sqlite"
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(sql, parameters).fetchall()

    def _request(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection("landingd", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        with closing(connection):
            try:
                connection.sock.settimeout(60)
                connection.sock.connect(str(self.state / "control.sock"))
                connection.request(method, path, body)
                response = connection.getresponse()
                answer = response.read()
            except OSError as error:
                raise NotAnsweringError(self.log_tail()) from error
        assert response.status < http.client.BAD_REQUEST, answer.decode()
        return answer

    # -- waiting --

    def until(self, predicate: Callable[[], T], timeout_s: float = WAIT_TIMEOUT_S) -> T:
        """Look again and again until this gives something that is true; then that."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := predicate()):
            if time.monotonic() > deadline_s:
                pytest.fail(f"waited {timeout_s:g} s in vain; the log ends:\n{self.log_tail()}")
            time.sleep(LOOK_EVERY_S)
        return found

    def until_loaded(self, count: int, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until so many file versions are loaded and no run is open."""
        self.until(lambda: self.file_counts().get("loaded", 0) >= count and not self.open_runs(), timeout_s)

    def file_counts(self) -> dict[str, int]:
        """File versions by state."""
        return {row["state"]: row["n"] for row in self.ledger("SELECT state, count(*) AS n FROM files GROUP BY 1")}

    def open_runs(self) -> list[int]:
        return [row["run_id"] for row in self.ledger("SELECT run_id FROM runs WHERE state <> 'TERMINATED'")]

    def ended(self, run_id: int, timeout_s: float = WAIT_TIMEOUT_S) -> dict[str, Any]:
        """The run, once it has ended."""
        sql = "SELECT 1 FROM runs WHERE run_id = ? AND state = 'TERMINATED'"
        self.until(lambda: self.ledger(sql, (run_id,)), timeout_s)
        return self.get(f"/v1/runs/{run_id}")  # type: ignore[no-any-return]


def results(run: Mapping[str, Any]) -> dict[str, str]:
    """Each task's result."""
    return {task["task_key"]: task["result"] for task in run["tasks"]}


def attempts(run: Mapping[str, Any]) -> dict[str, list[str]]:
    """How each attempt of each task ended."""
    return {task["task_key"]: [attempt["outcome"] for attempt in task["attempts"]] for task in run["tasks"]}


def orders(*rows: tuple[int, str, float]) -> str:
    """A CSV file for the job ORDERS."""
    return "id,customer,amount\n" + "".join(f"{order},{customer},{amount}\n" for order, customer, amount in rows)


def unindented(text: str) -> str:
    """Take away the indent of the first line; YAML within Python reads better with one."""
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    return "\n".join(line[indent:] for line in lines) + "\n"
