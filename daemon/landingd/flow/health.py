"""Look at the health of jobs every few seconds, and say what has changed.

Looking is reading, on a thread and a connection of its own; only what is news goes to the ledger: what is remembered,
the alerts and the event, in one transaction. A job without health rules costs nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from landingd.core import health
from landingd.core.health import Change, Going, Known, Sample, Seen, Step
from landingd.edge.ledger import LedgerThread
from landingd.edge.ledger.views import Connection, reading
from landingd.edge.ledger.views.alerts import backlog, going_on, health_known, last_success_s
from landingd.flow.unhealthy import record
from landingd.model import HealthMetric, Job

log = structlog.get_logger("landingd.health")

INTERVAL_S = 5.0


class Health:
    """Watches the jobs that have health rules. `told` is called with each job of which there is news."""

    def __init__(
        self,
        ledger: LedgerThread,
        ledger_file: Path,
        jobs: Callable[[], Sequence[Job]],
        *,
        told: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._ledger_file = ledger_file
        self._jobs = jobs
        self._told = told
        self._clock = clock
        self._samples: dict[str, tuple[Sample, ...]] = {}
        self._watched: set[str] | None = None

    async def run(self, interval_s: float = INTERVAL_S) -> None:
        """Look, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(interval_s)

    async def look(self) -> list[Change]:
        """Look at every job once; returns what has changed."""
        watched = [job for job in self._jobs() if health.is_watched(job)]
        await self._keep_only({job.name for job in watched})
        if not watched:
            return []
        now_s = self._clock()
        found = await asyncio.to_thread(self._found, watched, now_s)
        changes: list[Change] = []
        for job, seen, known in found:
            self._samples[job.name] = seen.samples
            decided = health.decide(job, seen, known, now_s)
            if decided:
                await self._ledger.transact(partial(record, job=job, changes=decided, now_s=now_s))
                _say(job, decided)
                self._told(job.name)
            changes += decided
        return changes

    async def _keep_only(self, names: set[str]) -> None:
        """Jobs come and go with their files."""
        if names == self._watched:
            return
        await self._ledger.transact(lambda ledger: ledger.keep_health_of(names))
        self._samples = {name: samples for name, samples in self._samples.items() if name in names}
        self._watched = names

    def _found(self, jobs: Sequence[Job], now_s: float) -> list[tuple[Job, Seen, Mapping[str, Known]]]:
        with reading(self._ledger_file) as db:
            remembered = health_known(db)
            found: list[tuple[Job, Seen, Mapping[str, Known]]] = []
            for job in jobs:
                known = {subject: Known(*times) for subject, times in remembered.get(job.name, {}).items()}
                found.append((job, self._seen(db, job, known, now_s), known))
            return found

    def _seen(self, db: Connection, job: Job, known: Mapping[str, Known], now_s: float) -> Seen:
        samples = self._samples.get(job.name, ())
        if health.needs_backlog(job):
            samples = health.sampled(samples, Sample(now_s, backlog(db, job.name, now_s=now_s)))
        last_s = None
        if any(rule.metric is HealthMetric.NO_SUCCESS_WITHIN_SECONDS for rule in job.health):
            last_s = last_success_s(db, job.name, after_s=health.success_known_s(job, known))
        going = [Going(*row) for row in going_on(db, job.name)]
        return Seen(tuple(going), samples, last_s)


def _say(job: Job, changes: Sequence[Change]) -> None:
    for change in changes:
        about = {"job": job.name, "what": change.subject, "measured": round(change.measured, 3)}
        if change.step is Step.TELL:
            log.warning("job_unhealthy", **about)
        elif change.step is Step.RECOVERED:
            log.info("job_healthy_again", **about)
