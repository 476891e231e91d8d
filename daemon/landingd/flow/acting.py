"""Carry out a task that asks nothing of the write lane: a condition, a script, a notebook."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from landingd.core import condition
from landingd.core.references import RunContext, TaskContext
from landingd.edge import processes
from landingd.edge.processes import Exchange, ProcessEnd, Processes, Reason, ScriptCall, TaskValuesError, notebooks
from landingd.errors import LandingdError
from landingd.model import (
    Action,
    AttemptKey,
    Canceled,
    Committed,
    Condition,
    Failed,
    Interrupted,
    Job,
    Notebook,
    Outcome,
    Output,
    Script,
    Stats,
    Task,
    TimedOut,
)

log = structlog.get_logger("landingd.acting")

_LINES_MAX = 12
"""Of what a process printed last, in the error of an attempt."""
_SHOWN_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class ActingOptions:
    """Where processes keep their files, and what they are given."""

    tasks_dir: Path
    """`tasks/` in paths.state."""
    socket: Path
    """The daemon's control socket: through it a process asks for what is in the warehouse."""
    python: str = ""
    """The interpreter of scripts; "": the daemon's own."""
    processes_max: int = 4
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Given to every process besides."""


@dataclass(frozen=True, slots=True)
class _Act:
    """A task to be carried out in a process."""

    task: Task
    action: Script | Notebook
    job: Job
    key: AttemptKey
    parameters: Mapping[str, str]
    files: tuple[str, ...]
    ending: asyncio.Event
    """Set when it is to be ended, because of a cancel or a stop of the daemon."""


class Actor:
    """Carries out conditions, scripts and notebooks."""

    def __init__(self, options: ActingOptions, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        self._processes = Processes(options.processes_max)
        self._stopping = False
        self._under_way: set[asyncio.Event] = set()

    def interrupt_all(self) -> None:
        """End what runs, as interrupted, and begin nothing any more (the daemon stops)."""
        self._stopping = True
        for ending in self._under_way:
            ending.set()

    async def act(
        self,
        task: Task,
        action: Action,
        *,
        job: Job,
        key: AttemptKey,
        parameters: Mapping[str, str],
        contexts: tuple[RunContext, TaskContext],
        cancel: asyncio.Event,
    ) -> Outcome:
        """Carry out one attempt; never raises for what a user's file can do wrong.

        `action` has its references resolved. `task.timeout_s` counts from when a process may start.
        """
        match action:
            case Condition():
                return _decide(action)
            case Script() | Notebook():
                files = contexts[0].files
                named = tuple(files() if callable(files) else files)
                return await self._in_process(_Act(task, action, job, key, parameters, named, asyncio.Event()), cancel)
            case _:
                return Failed(f"there is no way to carry out a {type(action).__name__} here", permanent=True)

    async def _in_process(self, act: _Act, cancel: asyncio.Event) -> Outcome:
        if self._stopping:
            return Interrupted(crashed=False)
        self._under_way.add(act.ending)
        passing_on = asyncio.create_task(_pass_on(cancel, act.ending))
        try:
            return await self._run(act, cancel)
        except OSError as error:
            return Failed(f"{act.action.shown_file}: no process could be started: {error}")
        finally:
            passing_on.cancel()
            self._under_way.discard(act.ending)

    async def _run(self, act: _Act, cancel: asyncio.Event) -> Outcome:
        exchange = await asyncio.to_thread(processes.open_exchange, self._options.tasks_dir, act.key, act.files)
        began_s = self._clock()
        try:
            end = await self._processes.run(self._call(act, exchange), act.ending)
            if end.reason is Reason.CANCELED:
                return Canceled() if cancel.is_set() else Interrupted(crashed=False)
            return await asyncio.to_thread(_outcome, act, exchange, end, began_s, self._clock())
        finally:
            await asyncio.to_thread(exchange.clear)

    def _call(self, act: _Act, exchange: Exchange) -> ScriptCall:
        action, options = act.action, self._options
        environment = processes.environment(exchange, act.key, act.job.name, act.parameters, options.socket)
        environment |= options.environment
        if isinstance(action, Notebook):
            command = notebooks.command(action.file, exchange, action.parameters)
            environment |= notebooks.places(options.tasks_dir)
        else:
            command = [options.python or sys.executable, str(action.file), *action.arguments]
        return ScriptCall(
            command=command,
            cwd=action.file.parent,
            log_file=exchange.log_file,
            environment=environment,
            timeout_s=act.task.timeout_s,
            memory_limit_bytes=action.memory_limit_bytes,
        )


async def _pass_on(cancel: asyncio.Event, ending: asyncio.Event) -> None:
    await cancel.wait()
    ending.set()


def _decide(action: Condition) -> Outcome:
    try:
        holds = condition.evaluate(action.op, action.left, action.right)
    except LandingdError as error:
        return Failed(str(error), permanent=True)
    answer = "true" if holds else "false"
    how = f"{_short(action.left)} {action.op.value} {_short(action.right)}"
    return Committed(Stats(how=how, changed=False, output=Output(condition=answer)))


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "...")


def _outcome(act: _Act, exchange: Exchange, end: ProcessEnd, began_s: float, now_s: float) -> Outcome:
    if end.reason is Reason.TIMED_OUT:
        return TimedOut(after_s=act.task.timeout_s)
    kept = exchange.notebook if isinstance(act.action, Notebook) and exchange.notebook.exists() else exchange.log_file
    if end.reason is not Reason.EXITED or end.exit_code:
        what = f"{act.action.shown_file}: {_why(act, exchange, end)}"
        return Failed(f"{what}\n  log: {kept}", permanent=end.reason is Reason.NOT_STARTED)
    try:
        values = exchange.read_values()
    except TaskValuesError as error:
        return Failed(f"{act.action.shown_file}: {error}", permanent=True)
    kind = "notebook" if isinstance(act.action, Notebook) else "script in a process"
    text = f"{end.tail.rstrip()}\nlog: {kept}".lstrip()
    worked_ms = round(1000 * (now_s - began_s), 3)
    return Committed(
        Stats(how=kind, began_s=began_s, worked_ms=worked_ms, changed=False, output=Output(values=values, text=text))
    )


def _why(act: _Act, exchange: Exchange, end: ProcessEnd) -> str:
    lines = [line for line in end.tail.splitlines() if line.strip()]
    if isinstance(act.action, Notebook):
        failure = notebooks.failure(exchange.notebook)
        if failure is not None:
            return failure
        lines = lines[-1:]  # before it: where in papermill it was said
    said = "".join(f"\n    {line}" for line in lines[-_LINES_MAX:])
    match end.reason:
        case Reason.OUT_OF_MEMORY:
            limit = act.action.memory_limit_bytes >> 20
            return f"ran out of the {limit} MiB of memory that it may use{said}"
        case Reason.SIGNALED:
            by_kernel = "; the kernel does that where memory runs out" if end.signal == 9 else ""
            return f"was ended by signal {end.signal}{by_kernel}{said}"
        case Reason.NOT_STARTED:
            return f"could not be started{said}"
        case _:
            last = lines[-1].strip() if lines else "it printed nothing"
            return f"exit code {end.exit_code}: {last}{said if len(lines) > 1 else ''}"
