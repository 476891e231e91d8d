"""Say how the daemon, a job and its triggers stand: what is retained over MQTT and answered on the control socket."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from landingd import __version__
from landingd.core import standing
from landingd.edge.ledger import views
from landingd.edge.watch import Blind  # noqa: TC001 -- with the other imports
from landingd.errors import NotFoundError
from landingd.flow import answers
from landingd.model import shown
from landingd.settings import Settings

if TYPE_CHECKING:
    from landingd.supervisor.parts import Parts


class States:
    """Reads the ledger through connections of its own. `parts` is set once they are made."""

    parts: "Parts"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_s = time.time()
        self.reload_problem: str | None = None
        self.blind: list[Blind] = []

    async def daemon(self) -> dict[str, Any]:
        """The daemon."""
        return await asyncio.to_thread(self._daemon)

    async def job(self, job: str) -> dict[str, Any] | None:
        """A job; None: it has just gone."""
        try:
            found = self.parts.catalog.job(job)
        except NotFoundError:
            return None
        return await asyncio.to_thread(self._read, lambda db: answers.job_state(db, found))

    async def triggers(self, job: str) -> dict[str, Any] | None:
        """The triggers of a job; None: it has just gone."""
        try:
            found = self.parts.catalog.job(job)
        except NotFoundError:
            return None
        return standing.triggers(found, await self.parts.ledger.transact(lambda ledger: ledger.trigger_rows(job)))

    def summary(self) -> str:
        """In a few words, for systemd."""
        jobs = len(self.parts.catalog.jobs)
        return f"{jobs} job{'' if jobs == 1 else 's'}, watching {self._settings.landing_dir}"

    def _read(self, read: Callable[[views.Connection], dict[str, Any]]) -> dict[str, Any]:
        with contextlib.closing(views.open_views(self._settings.ledger_file)) as db:
            return read(db)

    def _daemon(self) -> dict[str, Any]:
        parts = self.parts
        return {
            "state": "online",
            "version": __version__,
            "node": self._settings.node,
            "started_at": datetime.fromtimestamp(self._started_s, UTC).isoformat(timespec="seconds"),
            "jobs": [job.name for job in parts.catalog.jobs],
            "active_jobs": sorted(parts.dispatch.active),
            **self._read(_counted),
            "waited_for": parts.intake.waiting(),
            "broker": parts.publisher.link_state if self._settings.mqtt.enabled else "disabled",
            "roots": parts.roots.report(),
            "not_watched": [f"{shown(blind.directory)}: {blind.why}" for blind in self.blind],
            "reload_problem": self.reload_problem,
        }


def _counted(db: views.Connection) -> dict[str, Any]:
    return {
        "files": views.counts(db),
        "untold_events": views.outbox_size(db),
        "undelivered_alerts": views.alert_count(db),
        "cleanup_failing": views.cleanup_failing(db),
    }
