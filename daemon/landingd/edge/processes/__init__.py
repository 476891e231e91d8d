"""Run a task in a process of its own: a script, or a notebook.

A process can do what a function in the daemon cannot: be killed, have its memory limited, take the interpreter down.
The price is a start of some 50 ms, and that it cannot open the warehouse, which another process holds: it asks the
daemon (`landingd query`), and leaves small values behind as JSON.

Each runs below a keeper (keeper.py), which writes down its output and ends what it leaves behind.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from landingd.edge.processes import keeper
from landingd.edge.processes.exchange import Exchange, TaskValuesError, environment, forget_logs, open_exchange, tail_of
from landingd.edge.processes.notebooks import notebook_available

__all__ = [
    "Exchange",
    "ProcessEnd",
    "Processes",
    "Reason",
    "ScriptCall",
    "TaskValuesError",
    "environment",
    "forget_logs",
    "notebook_available",
    "open_exchange",
    "run_script",
]

HEAD_BYTES = 512 << 10
TAIL_BYTES = 512 << 10
"""Of what a task prints so much is kept, from its start and from its end."""
GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""
SHOWN_BYTES = 4 << 10
"""The end of the log that goes along with a task's end."""
_BACKSTOP_S = 10.0
_OUT_OF_MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory", "out of memory")


class Reason(StrEnum):
    """How a process came to its end."""

    EXITED = "exited"
    SIGNALED = "ended by a signal"
    OUT_OF_MEMORY = "out of memory"
    TIMED_OUT = "timed out"
    CANCELED = "canceled"
    NOT_STARTED = "could not be started"


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A command to run, in a process of its own."""

    command: Sequence[str]
    """The first word is a path."""
    cwd: Path
    log_file: Path
    """What it prints: the first and the last 512 KiB of it."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """All that it gets."""
    timeout_s: float = 0.0
    """0: none."""
    memory_limit_bytes: int = 0
    """Of address space (RLIMIT_AS), for each of its processes; 0: none."""
    grace_s: float = GRACE_S
    """From the request to end to the kill."""


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How it ended."""

    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    tail: str = ""
    """The end of what it printed."""


async def run_script(call: ScriptCall, cancel: asyncio.Event | None = None) -> ProcessEnd:
    """Run it to its end; where `cancel` is set or its time is over it is ended, with all that it has started.

    Raises OSError where not even the keeper can be started.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        keeper.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    talk = asyncio.ensure_future(process.communicate(_told(call)))
    try:
        early = await _until(talk, call.timeout_s, cancel)
        if early is not None:
            _signal(process, 15)
            await asyncio.wait({talk}, timeout=call.grace_s + _BACKSTOP_S)
    finally:
        if not talk.done():
            # The keeper hangs, or we are: the kernel kills its task with it.
            _signal(process, 9)
            await asyncio.wait({talk})
    said, complaint = talk.result()
    tail = await asyncio.to_thread(tail_of, call.log_file, SHOWN_BYTES)
    return _end(call, early, said, tail or complaint.decode(errors="replace")[-SHOWN_BYTES:])


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _told(call: ScriptCall) -> bytes:
    told = {
        "parent": os.getpid(),
        "command": list(call.command),
        "environment": dict(call.environment),
        "cwd": str(call.cwd),
        "log_file": str(call.log_file),
        "head_bytes": HEAD_BYTES,
        "tail_bytes": TAIL_BYTES,
        "grace_s": call.grace_s,
        "memory_bytes": call.memory_limit_bytes,
    }
    return json.dumps(told).encode()


async def _until(work: "asyncio.Future[Any]", timeout_s: float, cancel: asyncio.Event | None) -> Reason | None:
    """Wait for the work to be done; where its time is over first, or it is canceled, which."""
    canceling = asyncio.ensure_future(cancel.wait()) if cancel is not None else None
    watched = {work} if canceling is None else {work, canceling}
    try:
        await asyncio.wait(watched, timeout=timeout_s or None, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if canceling is not None:
            canceling.cancel()
    if work.done():
        return None
    return Reason.CANCELED if cancel is not None and cancel.is_set() else Reason.TIMED_OUT


def _end(call: ScriptCall, early: Reason | None, said: bytes, tail: str) -> ProcessEnd:
    code = int(said) if said.strip() else -9  # the keeper itself was killed, and its task with it
    exit_code, number = (code, None) if code >= 0 else (None, -code)
    if early is not None:
        reason = early
    elif code == keeper.CANNOT_START_CODE and keeper.CANNOT_START in tail:
        reason = Reason.NOT_STARTED
    elif code != 0 and call.memory_limit_bytes and any(word in tail for word in _OUT_OF_MEMORY):
        reason = Reason.OUT_OF_MEMORY
    else:
        reason = Reason.EXITED if number is None else Reason.SIGNALED
    return ProcessEnd(reason, exit_code, number, tail)


class Processes:
    """So many at a time; others wait, in the order in which they came."""

    def __init__(self, processes_max: int) -> None:
        self._free = asyncio.Semaphore(processes_max)

    async def run(self, call: ScriptCall, cancel: asyncio.Event | None = None) -> ProcessEnd:
        """See run_script; its time counts from when it is its turn, and one that is canceled first is never started."""
        waiting = asyncio.ensure_future(self._free.acquire())
        try:
            early = await _until(waiting, 0.0, cancel)
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        if early is not None or (cancel is not None and cancel.is_set()):
            if not waiting.cancel():
                self._free.release()
            return ProcessEnd(Reason.CANCELED)
        try:
            return await run_script(call, cancel)
        finally:
            self._free.release()
