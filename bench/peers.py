"""Everyone who takes the same files to the same three tables, behind one face.

A peer is given content; it puts the file where it watches and says how long it took from the moment the
producer closed the file to the moment the gold table was committed. Both moments are wall-clock times of this
machine: the first taken by the producer right after `close()`, the second recorded by the peer itself, so that
how often the bench looks plays no part.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import duckdb
from bench import limit

REPOSITORY = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

Gold = list[tuple[Any, ...]]


class PeerFailedError(Exception):
    """The peer did not start, died, or did not load a file in time."""


class Peer(Protocol):
    name: str

    def deliver(self, name: str, content: bytes) -> float:
        """Land one file; seconds from its close to gold."""

    def burst(self, contents: Mapping[str, bytes]) -> float:
        """Land many files at once; seconds from the first one's close to the last one's rows in gold."""

    def gold(self) -> Gold:
        """The gold table, after `stop`."""

    def stop(self) -> None: ...


def land(path: Path, content: bytes) -> float:
    """Write a file in place, as most producers do; the time right after it was closed."""
    with path.open("wb") as file:
        file.write(content)
    return time.time()


class Limit:
    """The bare statements in this process: nobody has to notice a file, so what it measures is the work alone."""

    name = "limit"

    def __init__(self, base: Path, *, all_at_once: bool = False) -> None:
        self.landing = base / "landing"
        self.landing.mkdir(parents=True)
        self.warehouse = base / "warehouse.duckdb"
        self.connection = limit.connect(self.warehouse)
        self.all_at_once = all_at_once

    def deliver(self, name: str, content: bytes) -> float:
        closed_at_s = land(self.landing / name, content)
        limit.load(self.connection, [self.landing / name])
        return time.time() - closed_at_s

    def burst(self, contents: Mapping[str, bytes]) -> float:
        """The files lie there before the clock starts: what a limit does is favourable to the limit."""
        for name, content in contents.items():
            land(self.landing / name, content)
        paths = [self.landing / name for name in contents]
        started_at_s = time.time()
        for batch in [paths] if self.all_at_once else [[path] for path in paths]:
            limit.load(self.connection, batch)
        return time.time() - started_at_s

    def gold(self) -> Gold:
        return read_gold(self.warehouse)

    def stop(self) -> None:
        self.connection.close()


class Process:
    """What the peers that are processes of their own have in common."""

    name: str

    def __init__(self, base: Path, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        self.landing.mkdir(parents=True)
        self.log = base / "stderr.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @property
    def landing(self) -> Path:
        raise NotImplementedError

    @property
    def warehouse(self) -> Path:
        raise NotImplementedError

    def committed_at_s(self, names: list[str]) -> float | None:
        """When the last of these files was in gold; None while one of them is not."""
        raise NotImplementedError

    def deliver(self, name: str, content: bytes) -> float:
        closed_at_s = land(self.landing / name, content)
        return self.wait_for([name], look_every_s=0.005) - closed_at_s

    def burst(self, contents: Mapping[str, bytes]) -> float:
        closed_at_s = [land(self.landing / name, content) for name, content in contents.items()]
        return self.wait_for(list(contents), look_every_s=0.05) - closed_at_s[0]

    def wait_for(self, names: list[str], *, look_every_s: float) -> float:
        until_s = time.monotonic() + LOAD_TIMEOUT_S
        while time.monotonic() < until_s:
            committed_at_s = self.committed_at_s(names)
            if committed_at_s is not None:
                return committed_at_s
            if self.process.poll() is not None:
                raise PeerFailedError(f"{self.name} exited with {self.process.returncode}{self.last_words()}")
            time.sleep(look_every_s)
        raise PeerFailedError(
            f"{self.name}: {names[-1]} was not in gold after {LOAD_TIMEOUT_S:.0f} s{self.last_words()}"
        )

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        # An interpreter that ends with an exception makes DuckDB's binding list what it could not free.
        telling = [line for line in lines if "leaked" not in line and "nanobind" not in line]
        return "".join(f"\n  | {line}" for line in telling[-15:])

    def cpu_s(self) -> float:
        """Processor time used so far, of the process alone: no peer has children that live."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def gold(self) -> Gold:
        return read_gold(self.warehouse)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Naive(Process):
    """bench/naive.py; it says on its standard output what it has committed, and when."""

    name = "naive"

    def __init__(self, base: Path) -> None:
        self.base = base
        self.committed: dict[str, float] = {}
        super().__init__(base, [sys.executable, "-m", "bench.naive", str(self.landing), str(self.warehouse)])
        self.ready = threading.Event()
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        if not self.ready.wait(START_TIMEOUT_S):
            self.stop()
            raise PeerFailedError(f"naive did not start{self.last_words()}")

    @property
    def landing(self) -> Path:
        return self.base / "landing"

    @property
    def warehouse(self) -> Path:
        return self.base / "warehouse.duckdb"

    def listen(self) -> None:
        for line in self.process.stdout or ():
            said = json.loads(line)
            if "file" in said:
                self.committed[said["file"]] = said["committed_at_s"]
            self.ready.set()

    def committed_at_s(self, names: list[str]) -> float | None:
        if any(name not in self.committed for name in names):
            return None
        return max(self.committed[name] for name in names)

    def stop(self) -> None:
        self.process.terminate()
        self.listener.join(STOP_TIMEOUT_S)
        super().stop()


class Landingd(Process):
    """The daemon as it is installed, with the ecommerce job as it is in the repository and no broker."""

    name = "landingd"

    # The one place that knows the ledger's tables: when did the runs of these files end their gold task?
    COMMITTED = """
        SELECT count(*), max(tasks.ended_at_s)
        FROM files JOIN tasks USING (run_id)
        WHERE files.name IN (SELECT value FROM json_each(?))
          AND files.state = 'loaded'
          AND tasks.task_key = 'gold_revenue'
          AND tasks.result = 'SUCCESS'
    """
    TROUBLE = """
        SELECT name || ': ' || state || ' ' || reason FROM files WHERE state = 'quarantined'
        UNION ALL
        SELECT 'run ' || run_id || ': ' || result || ' ' || coalesce(error, '')
        FROM runs WHERE state = 'TERMINATED' AND result <> 'SUCCESS'
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.ledger: sqlite3.Connection | None = None
        shutil.copytree(REPOSITORY / "pipelines" / "ecommerce", base / "pipelines" / "ecommerce")
        config = base / "landingd.toml"
        config.write_text('base = "."\n[mqtt]\nenabled = false\n')
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LANDINGD_")}
        # So that an uninstalled working tree can be measured too.
        environment["PYTHONPATH"] = str(REPOSITORY / "daemon")
        command = [sys.executable, "-m", "landingd", "serve", "--config", str(config)]
        super().__init__(base, command, environment)

    @property
    def landing(self) -> Path:
        return self.base / "landing" / "ecommerce"

    @property
    def warehouse(self) -> Path:
        return self.base / "state" / "warehouse.duckdb"

    def committed_at_s(self, names: list[str]) -> float | None:
        try:
            if self.ledger is None:
                self.ledger = sqlite3.connect(f"file:{self.base}/state/ledger.sqlite?mode=ro", uri=True)
            keys = json.dumps([f"ecommerce/{name}" for name in names])
            in_gold, last_s = self.ledger.execute(self.COMMITTED, (keys,)).fetchone()
            trouble = [text for (text,) in self.ledger.execute(self.TROUBLE)]
        except sqlite3.OperationalError:  # not there yet, or without its tables
            return None
        if trouble:
            raise PeerFailedError("landingd: " + "; ".join(trouble[:3]))
        return last_s if in_gold >= len(names) else None

    def stop(self) -> None:
        if self.ledger:
            self.ledger.close()
        super().stop()


def read_gold(warehouse: Path) -> Gold:
    with duckdb.connect(warehouse, read_only=True) as connection:
        return connection.execute(limit.GOLD).fetchall()
