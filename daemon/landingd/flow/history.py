"""Forget what was long ago, so that the ledger does not grow for ever.

A run that ended longer ago than it is to be kept goes, with its tasks, attempts and repairs: a few hundred at a time,
each in a transaction of its own, so that nothing else waits. Then the warehouse forgets which of their attempts
committed; it is asked last, and only after the ledger's own forgetting is on the disk, since a run that came back
without its commit rows would be done again. What is known of files stays.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from landingd.edge.ledger import Ledger, LedgerThread, views

log = structlog.get_logger("landingd.history")
T = TypeVar("T")

RUNS_AT_A_TIME = 50
EVERY_S = 86400.0

ForgetCommits = Callable[[int, Collection[int]], Awaitable[int]]
"""`forget_commits(before_run_id, keep)`: the warehouse forgets what runs with lower numbers did, except these."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many of each are gone."""

    runs: int = 0
    commits: int = 0
    backfills: int = 0
    answers_of_triggers: int = 0


class History:
    """Keeps what has happened for `retention_s` (0: for ever)."""

    def __init__(
        self,
        ledger: LedgerThread,
        ledger_file: Path,
        forget_commits: ForgetCommits,
        *,
        retention_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._ledger_file = ledger_file
        self._forget_commits = forget_commits
        self._retention_s = retention_s
        self._clock = clock

    async def run(self) -> None:
        """Forget now, and every day; returns at once where everything is kept. Ends by being canceled."""
        while self._retention_s > 0:
            gone = await self.forget()
            if gone != Forgotten():
                log.info(
                    "history_forgotten",
                    runs=gone.runs,
                    commits=gone.commits,
                    backfills=gone.backfills,
                    answers_of_triggers=gone.answers_of_triggers,
                )
            await asyncio.sleep(EVERY_S)

    async def forget(self) -> Forgotten:
        """Forget what is older than that; with a retention of 0 nothing."""
        if self._retention_s <= 0:
            return Forgotten()
        before_s = self._clock() - self._retention_s
        gone = await self._forget_runs(before_s)

        def forget_the_rest(ledger: Ledger) -> tuple[int, int]:
            return ledger.forget_backfills(before_s=before_s), ledger.forget_trigger_history(before_s=before_s)

        backfills, answers = await self._ledger.transact(forget_the_rest, durably=bool(gone))
        commits = await self._forget_their_commits(gone) if gone else 0
        return Forgotten(len(gone), commits, backfills, answers)

    async def _forget_runs(self, before_s: float) -> list[int]:
        # A run that comes to be one of these meanwhile has not ended long ago.
        keep = await asyncio.to_thread(self._read, views.runs_to_keep)
        gone: list[int] = []
        last = 0

        def forget_some(ledger: Ledger) -> tuple[list[int], list[int]]:
            looked_at = ledger.runs_after(last, before_s=before_s, limit=RUNS_AT_A_TIME)
            return looked_at, ledger.forget_runs([i for i in looked_at if i not in keep], before_s=before_s)

        while True:
            looked_at, forgotten = await self._ledger.transact(forget_some)
            gone += forgotten
            if not looked_at:
                return gone
            last = looked_at[-1]

    async def _forget_their_commits(self, gone: list[int]) -> int:
        before_run_id = max(gone) + 1
        left = await asyncio.to_thread(self._read, lambda db: views.runs_below(db, before_run_id))
        return await self._forget_commits(before_run_id, left)

    def _read(self, read: Callable[[views.Connection], T]) -> T:
        """Over a connection of its own: looking at every run takes a while, and the ledger's thread is for all."""
        with views.reading(self._ledger_file) as db:
            return read(db)
