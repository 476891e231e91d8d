"""Attempts, one at a time: who has the write lane, and when an attempt has to end early."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from landingd.edge.engine.calls import Call
from landingd.edge.engine.lane import NO_CHECKS, WriteLane
from landingd.edge.engine.loading import FileChecks
from landingd.edge.engine.waiting import Waiting
from landingd.model import (
    Canceled,
    Committed,
    Failed,
    Interrupted,
    Outcome,
    Plan,
    PythonPlan,
    Stats,
    TimedOut,
)

T = TypeVar("T")

INTERRUPT_EVERY_S = 0.05
"""An interrupt that lands between two statements is lost: it is repeated until the call returns."""
_LOOK_EVERY_S = 0.5
CALLS_MAX = 8
"""Python tasks at a time: they share the interpreter with everything else that the daemon does."""
ABANDONED_MAX = 16
"""Threads of calls that were given up and still run; beyond it no call is begun."""


class _Early(Enum):
    """Why an attempt has to end before it is done."""

    LATE = "late"
    CANCELED = "canceled"
    STOPPING = "stopping"


@dataclass(slots=True)
class _Limits:
    """What an attempt may take."""

    timeout_s: float
    cancel: asyncio.Event | None
    spent_s: float = 0.0
    """Of the timeout, in earlier stretches."""

    @property
    def canceled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    def outcome(self, why: _Early) -> Outcome:
        match why:
            case _Early.LATE:
                return TimedOut(after_s=self.timeout_s)
            case _Early.CANCELED:
                return Canceled()
            case _Early.STOPPING:
                return Interrupted(crashed=False)


class Attempts:
    """All that goes through the write lane. Its methods are for the event loop."""

    def __init__(self, lane: WriteLane, waiting: Waiting) -> None:
        self._lane = lane
        self._waiting = waiting
        self._lane_free = asyncio.Lock()
        self._lane_thread = ThreadPoolExecutor(1, thread_name_prefix="write-lane")
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._abandoned: list[Call] = []
        self._stopping = False
        self._uncheckpointed = False

    async def execute(
        self, plan: Plan, *, timeout_s: float, checks: FileChecks, cancel: asyncio.Event | None
    ) -> Outcome:
        """See Engine.execute."""
        limits = _Limits(timeout_s, cancel)
        if isinstance(plan, PythonPlan):
            return await self._call(plan, limits)
        done = await self._work([plan], checks, limits)
        return Committed(done[0]) if isinstance(done, Sequence) else done

    async def execute_together(
        self, plans: Sequence[Plan], *, checks: FileChecks, cancel: asyncio.Event | None
    ) -> list[Outcome]:
        """See Engine.execute_together."""
        if any(isinstance(plan, PythonPlan) for plan in plans):
            return [Interrupted(crashed=False, why="a Python task is tried alone")] * len(plans)
        done = await self._work(plans, checks, _Limits(0.0, cancel))
        if isinstance(done, Sequence):
            return [Committed(stats) for stats in done]
        if isinstance(done, Interrupted | Canceled):
            return [done] * len(plans)
        why = "rolled back with the other tasks of the run, each is tried alone now"
        cause = f": {done.error}" if isinstance(done, Failed) else ""
        return [Interrupted(crashed=False, why=why + cause)] * len(plans)

    def interrupt_all(self) -> None:
        """See Engine.interrupt_all."""
        self._stopping = True
        self._lane.interrupt()

    async def on_lane(self, do: Callable[[WriteLane], T]) -> T:
        """Do something short on the lane."""
        async with self._lane_free:
            self._uncheckpointed = True
            return await asyncio.get_running_loop().run_in_executor(self._lane_thread, do, self._lane)

    async def checkpoint_if_idle(self) -> bool:
        """See Engine.checkpoint_if_idle."""
        if not self._uncheckpointed or self._lane_free.locked() or self._stopping:
            return False
        async with self._lane_free:
            self._uncheckpointed = False
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._lane_thread, self._lane.checkpoint)

    def close(self) -> None:
        """Blocks until what runs on the lane has ended."""
        self._lane_thread.shutdown()
        self._lane.close()
        self._waiting.close()

    # -- one attempt --

    async def _work(
        self, plans: Sequence[Plan], checks: FileChecks, limits: _Limits, call: Call | None = None
    ) -> Sequence[Stats] | Outcome:
        # A call has begun before it asks for the lane, and may have threads that go on meanwhile.
        waits = [plan.key for plan in plans] if call is None and self._lane_free.locked() else []
        self._waiting.begin(waits)
        async with self._mine(self._lane_free, limits) as not_begun:
            if waits:
                self._waiting.end(waits)
            if not_begun is not None:
                return limits.outcome(not_begun)
            self._uncheckpointed = True
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._lane_thread, self._lane.attempt, plans, checks, call)
            early = await self._until(work, limits, lambda: self._break_off(call))
            done = await work
        return limits.outcome(early) if early is not None and isinstance(done, Interrupted) else done

    async def _call(self, plan: PythonPlan, limits: _Limits) -> Outcome:
        """Let a function run beside the lane until it wants it, or has ended."""
        async with self._mine(self._calls, limits) as not_begun:
            if not_begun is not None:
                return limits.outcome(not_begun)
            self._abandoned = [call for call in self._abandoned if call.running]
            if len(self._abandoned) >= ABANDONED_MAX:
                return Failed(
                    f"{ABANDONED_MAX} functions of Python tasks still run after their attempts were broken off, so no "
                    "other is begun\n  hint: a restart of the daemon ends them; a script can be killed"
                )
            loop = asyncio.get_running_loop()
            news = loop.create_future()
            call = Call(plan, lambda: _tell(loop, news))
            try:
                call.start()
                began_s = loop.time()
                early = await self._until(news, limits, call.give_up)
                limits.spent_s = loop.time() - began_s
                done = limits.outcome(early) if early is not None else await self._work([plan], NO_CHECKS, limits, call)
            finally:
                call.give_up()
                if call.running:
                    self._abandoned.append(call)
        return Committed(done[0]) if isinstance(done, Sequence) else done

    def _break_off(self, call: Call | None) -> None:
        if call is not None:
            call.give_up()
        self._lane.interrupt()

    async def _until(
        self, work: "asyncio.Future[Any]", limits: _Limits, break_off: Callable[[], None]
    ) -> _Early | None:
        """Wait for the work; where it has to end early, break it off, and say why."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + limits.timeout_s - limits.spent_s if limits.timeout_s else None
        # Most attempts are over in a moment; to watch for a cancel meanwhile would make each of them dearer.
        at_first_s = INTERRUPT_EVERY_S if deadline_s is None else min(INTERRUPT_EVERY_S, deadline_s - loop.time())
        await asyncio.wait({work}, timeout=at_first_s)
        cancel = None if work.done() else limits.cancel
        canceling = asyncio.ensure_future(cancel.wait()) if cancel is not None else None
        early: _Early | None = None
        try:
            while not work.done():
                remaining_s = None if deadline_s is None else deadline_s - loop.time()
                early = early or self._early(limits, remaining_s)
                if early is not None:
                    break_off()
                wait_s = min(remaining_s or _LOOK_EVERY_S, _LOOK_EVERY_S) if early is None else INTERRUPT_EVERY_S
                watched = {work} if canceling is None or early is not None else {work, canceling}
                await asyncio.wait(watched, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if canceling is not None:
                canceling.cancel()
        return early

    def _early(self, limits: _Limits, remaining_s: float | None) -> _Early | None:
        if limits.canceled:
            return _Early.CANCELED
        if remaining_s is not None and remaining_s <= 0:
            return _Early.LATE
        return _Early.STOPPING if self._stopping else None

    @asynccontextmanager
    async def _mine(self, what: asyncio.Lock | asyncio.Semaphore, limits: _Limits) -> AsyncIterator[_Early | None]:
        """Hold it, or, where the attempt is to end before it is free, do not, and say why."""
        taken = await _taken(what, limits.cancel)
        try:
            yield self._early(limits, None) if taken else _Early.CANCELED
        finally:
            if taken:
                what.release()


async def _taken(what: asyncio.Lock | asyncio.Semaphore, cancel: asyncio.Event | None) -> bool:
    """Wait until it is ours; false if the attempt is canceled first."""
    if cancel is None or not what.locked():
        return await what.acquire()
    acquiring = asyncio.ensure_future(what.acquire())
    canceling = asyncio.ensure_future(cancel.wait())
    try:
        await asyncio.wait({acquiring, canceling}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        if acquiring.done():
            what.release()
        acquiring.cancel()
        raise
    finally:
        canceling.cancel()
    if acquiring.done():
        return acquiring.result()
    acquiring.cancel()
    with suppress(asyncio.CancelledError):
        await acquiring
    return False


def _tell(loop: asyncio.AbstractEventLoop, news: "asyncio.Future[None]") -> None:
    """From a foreign thread. A loop that is closed has no use for it."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if news.done() else news.set_result(None))
