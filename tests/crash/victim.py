"""A daemon that is killed from outside, at a system call that the test chooses.

`strace` attaches to the process, counts its writes to the files of the two stores, and sends the signal as the n-th of
them begins: a SIGKILL there means that this write does not happen, and that the n-1 before it have happened. So
killing at every n is killing before and after every write. It counts for each thread and each system call apart; with
one DuckDB thread each store is written by one thread, but for the warehouse's opening and closing, which is another's.
"""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from brokers import needed
from crash import shop
from daemons import LANDINGD, START_TIMEOUT_S, LandingdProcess

STORES = {
    "ledger": ("ledger.sqlite", "ledger.sqlite-wal"),
    "warehouse": ("warehouse.duckdb", "warehouse.duckdb.wal"),
}
CALLS = ("write", "pwrite64", "fdatasync", "ftruncate", "unlink")
"""What the two stores are seen to write with; `test_no_write_goes_uncounted` looks for others."""
ALL_CALLS = (*CALLS, "writev", "pwritev", "pwritev2", "fsync", "sync_file_range", "fallocate", "msync", "truncate")
ALL_CALLS += ("rename", "renameat", "renameat2", "unlinkat", "sendfile", "copy_file_range")
Span = tuple[int, int]
"""At least, and at most."""


def writes_of(*, pages: Span, syncs: Span, log: Span, log_syncs: Span, file: Span) -> dict[tuple[str, str], Span]:
    """The ledger's writes and syncs, the warehouse's (`file`: past its log); both logs are folded in at the end."""
    return {
        ("ledger", "pwrite64"): pages,
        ("ledger", "fdatasync"): syncs,
        ("ledger", "ftruncate"): (1, 1),
        ("ledger", "unlink"): (1, 1),
        ("warehouse", "write"): log,
        ("warehouse", "fdatasync"): log_syncs,
        ("warehouse", "pwrite64"): file,
        ("warehouse", "unlink"): (1, 1),
    }


# Where Yama guards processes, strace may attach only to one that has allowed it. The launcher stops itself, so that
# not even the daemon's first write comes before strace.
_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)
ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
os.kill(os.getpid(), signal.SIGSTOP)
os.execv(sys.argv[1], sys.argv[1:])
"""

_CALL = re.compile(r'^(\d+) +(\w+)\((?:\d+<([^>]*)>|"([^"]*)")', re.MULTILINE)


def strace_works() -> str:
    """Where strace is; skips (in CI: fails) where it is missing or not permitted."""
    program = needed("strace")
    if subprocess.run([program, "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("strace may not trace processes here")
        pytest.skip("strace may not trace processes here")
    return program


class Strace:
    """An strace that is attached to a running process when this returns."""

    def __init__(self, pid: int, report: Path, files: list[Path], *, calls: tuple[str, ...], inject: str = "") -> None:
        self._report = report
        said = report.with_suffix(".said")
        only = [argument for file in files for argument in ("-P", str(file))]
        inject_ = ["-e", f"inject={inject}"] if inject else []
        known = ",".join(f"?{call}" for call in calls)
        command = [strace_works(), "-f", "-y", "-s", "0", "-o", report, "-e", f"trace={known}", *inject_, *only]
        with said.open("wb") as out:
            self._process = subprocess.Popen([*command, "-p", str(pid)], stderr=out)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while b"attached" not in said.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                pytest.fail(f"strace does not attach: {said.read_text()}")
            time.sleep(0.002)

    def calls(self) -> list[tuple[str, str, str]]:
        """Each (thread, file, system call) that was seen, in order."""
        return [(thread, Path(fd or path).name, call) for thread, call, fd, path in _CALL.findall(self._text())]

    def stops(self) -> list[str]:
        """The files at whose fdatasync the process was stopped, in order."""
        stopped = Counter(re.findall(r"^(\d+) +--- stopped by SIGSTOP ---", self._text(), re.MULTILINE))
        files: list[str] = []
        for thread, file, call in self.calls():
            if call == "fdatasync" and stopped[thread] > 0:
                stopped[thread] -= 1
                files.append(file)
        return files

    def _text(self) -> str:
        return self._report.read_text() if self._report.exists() else ""

    def end(self) -> None:
        """Leave the process alone, if it lives."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()


class Victim(LandingdProcess):
    """A daemon with the shop's job whose death can be arranged."""

    def __init__(
        self, base: Path, broker_port: int, job: Mapping[str, str], *, env: Mapping[str, str] | None = None
    ) -> None:
        quick = {"ENGINE__THREADS": "1", "ENGINE__IDLE_CHECKPOINT_SECONDS": "0", "LOG__LEVEL": "warning"}
        super().__init__(base.resolve(), job, broker_port=broker_port, env=quick | dict(env or {}))
        self.files: dict[str, str] = {}
        self._deliveries = 0
        self._reports = 0
        self._straces: list[Strace] = []

    def kill(self) -> None:
        super().kill()
        for strace in self._straces:
            strace.end()

    # -- strace --

    def store(self, name: str) -> list[Path]:
        return [self.state / file for file in STORES[name]]

    def trace(self, files: list[Path], *, calls: tuple[str, ...] = CALLS, inject: str = "") -> Strace:
        """Attach strace to the running (or held) daemon."""
        self._reports += 1
        report = self.base / f"strace-{self._reports}"
        self._straces.append(Strace(self.pid, report, files, calls=calls, inject=inject))
        return self._straces[-1]

    def arm(self, store: str, call: str, number: int, how: str = "KILL") -> Strace:
        """Send the signal as the n-th such system call on this store begins."""
        return self.trace(self.store(store), calls=(call,), inject=f"{call}:signal={how}:when={number}")

    # -- its life --

    def hold(self) -> None:
        """Start it, stopped before its first instruction."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, LANDINGD, "serve"], env=self.env, stdout=log, stderr=log
            )
        self.until(lambda: Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")

    def let_go(self) -> None:
        self.signal(signal.SIGCONT)

    def start_traceable(self) -> None:
        """As `start`, but strace may attach later."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.settimeout(START_TIMEOUT_S)
            address = self.base / "notify"
            address.unlink(missing_ok=True)
            ready.bind(str(address))
            self.env["NOTIFY_SOCKET"] = str(address)
            self.hold()
            del self.env["NOTIFY_SOCKET"]
            self.let_go()
            while b"READY=1" not in ready.recv(4096):
                pass

    def deliver(self, files: Mapping[str, str]) -> None:
        """Put files into the landing directory; they are remembered as what has to be loaded."""
        self._deliveries += 1
        shop.deliver(files, self.landing, self.base / f"delivery-{self._deliveries}")
        self.files |= files

    # -- waiting --

    def at_rest(self) -> bool:
        """All that was delivered is loaded, all that was begun has ended, all that happened is told."""
        try:
            loaded = self.ledger("SELECT name, content_hash FROM files WHERE state = 'loaded'")
            open_ = self.ledger(
                "SELECT (SELECT count(*) FROM runs WHERE state <> 'TERMINATED') "
                "+ (SELECT count(*) FROM files WHERE state = 'waiting') + (SELECT count(*) FROM outbox) AS n"
            )
        except sqlite3.OperationalError:
            return False  # it is being made
        expected = {(name, shop.content_hash(text)) for name, text in self.files.items()}
        return {tuple(row) for row in loaded} == expected and open_[0]["n"] == 0

    def checkpointed(self) -> bool:
        return not (self.state / "warehouse.duckdb.wal").exists()

    def killed(self) -> bool:
        """Whether the signal has come; any other end fails the test."""
        if self.alive:
            return False
        assert self.wait() == -signal.SIGKILL, self.log_tail()
        return True

    def until_dead_or(self, predicate: Callable[[], bool]) -> None:
        self.until(lambda: not self.alive or predicate())
