"""Keep one process of a user's: start it, write down what it prints, and see to it that nothing of it outlives it.

This file is run by itself (`python -I -S keeper.py`, told what to do in JSON on its standard input), as the parent of a
task's process. The daemon could do most of this, and two things it could not: be there when the daemon has been killed,
and inherit the processes that the task has started and left (PR_SET_CHILD_SUBREAPER), so that they end with it.

On SIGTERM the task is asked to end, and killed with all that it has started when the grace is over. When the daemon
dies, it is killed at once. What it prints goes to its log: the first part as it comes, the last part at the end.
The keeper's own word, on its standard output, is one number: the exit code, or, negative, the signal that ended the
task.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing would cost each start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
READ_BYTES = 1 << 16
LOOK_EVERY_S = 0.05
CANNOT_START = "cannot start"
CANNOT_START_CODE = 127

_libc = ctypes.CDLL(None, use_errno=True)


class Log:
    """A file that takes so many bytes from the start of a stream and so many from its end."""

    def __init__(self, path: str, head_bytes: int, tail_bytes: int) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: PTH123, SIM115 -- kept open, and pathlib costs a start 10 ms
        self._room = head_bytes
        self._tail_max = tail_bytes
        self._tail = bytearray()
        self._left_out = 0

    def write(self, text: bytes) -> None:
        head, rest = text[: self._room], text[self._room :]
        self._file.write(head)
        self._room -= len(head)
        self._tail += rest
        if len(self._tail) > 2 * self._tail_max:  # seldom, since it moves everything
            self._cut()

    def _cut(self) -> None:
        surplus = max(0, len(self._tail) - self._tail_max)
        self._left_out += surplus
        del self._tail[:surplus]

    def close(self) -> None:
        self._cut()
        if self._left_out:
            self._file.write(b"\n[... %d bytes are left out here ...]\n" % self._left_out)
        self._file.write(self._tail)
        self._file.close()


class Keeper:
    """One task's process, until nothing of it is left."""

    def __init__(self, grace_s: float, log: Log) -> None:
        self._grace_s = grace_s
        self._log = log
        self._heard: list[int] = []
        self._kill_at_s: float | None = None
        self._status: int | None = None
        self._wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda number, _: self._heard.append(number))

    def run(self, start: Callable[[int], None]) -> int:
        """Start the process, and see it to its end; its exit code, or, negative, the signal that ended it.

        `start` is called in the new process with where its output goes, and does not return.
        """
        output, output_write = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            start(output_write)
        os.close(output_write)
        pipes = [output, self._wake]
        while True:
            ended = self._status is not None
            hurry = ended or self._kill_at_s is not None
            ready, _, _ = select.select(pipes, [], [], LOOK_EVERY_S if hurry else None)
            if self._wake in ready:
                os.read(self._wake, READ_BYTES)
            if output in ready and not self._write_down(output):
                pipes.remove(output)
            self._obey()
            if self._reap():
                if self._status is not None:
                    self._kill_all()
            elif ended and output not in ready and self._status is not None:
                return os.waitstatus_to_exitcode(self._status)

    def _write_down(self, output: int) -> bool:
        text = os.read(output, READ_BYTES)
        self._log.write(text)
        return bool(text)

    def _obey(self) -> None:
        if signal.SIGUSR1 in self._heard:
            self._kill_at_s = 0.0
        elif self._kill_at_s is None and not {signal.SIGTERM, signal.SIGINT}.isdisjoint(self._heard):
            self._kill_at_s = time.monotonic() + self._grace_s
            self._send(signal.SIGTERM)
        if self._kill_at_s is not None and time.monotonic() >= self._kill_at_s:
            self._kill_all()

    def _send(self, number: int) -> None:
        """To the task's process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, number)

    def _kill_all(self) -> None:
        """The group, and whoever is our child: those that left the group become that when their parents end."""
        self._send(signal.SIGKILL)
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 -- as above
                pids = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> bool:
        """Take in whoever has ended; whether anybody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._status = status


def start(command: list[str], environment: dict[str, str], cwd: str, memory_bytes: int, output: int) -> None:
    """Become the task's process; does not return."""
    try:
        os.setpgid(0, 0)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(cwd)
        if memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.execvpe(command[0], command, environment)  # noqa: S606 -- no shell is what is wanted
    except (OSError, ValueError) as error:
        os.write(2, f"{CANNOT_START} {command[0]}: {error}\n".encode())
    finally:
        os._exit(CANNOT_START_CODE)


def main() -> None:
    told = json.load(sys.stdin)
    log = Log(told["log_file"], told["head_bytes"], told["tail_bytes"])
    keeper = Keeper(told["grace_s"], log)
    # SIGUSR1 comes from the kernel when the daemon has died; it may have died before we could ask for that.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != told["parent"]:
        return
    task = (told["command"], told["environment"], told["cwd"], told["memory_bytes"])
    code = keeper.run(lambda output: start(*task, output))
    log.close()
    os.write(1, b"%d\n" % code)


if __name__ == "__main__":
    main()
