"""Make the parts of a running daemon, and say who hears whom.

A part knows nothing of the others but what it is given here: mostly a callback that says "look".
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import structlog

from landingd import __version__
from landingd.edge import processes
from landingd.edge.control import ControlSocket
from landingd.edge.watch import Watch
from landingd.flow.alerting import Alerting
from landingd.flow.backfill import Backfills
from landingd.flow.catalog import Catalog
from landingd.flow.census import Census
from landingd.flow.cleanup import Cleaner, CleanupOptions
from landingd.flow.commands import Commands
from landingd.flow.dispatch import Dispatch
from landingd.flow.driving import Driver
from landingd.flow.health import Health
from landingd.flow.history import History
from landingd.flow.homeassistant import Discovery
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.publish import Publisher
from landingd.flow.requests import Requests
from landingd.flow.requests_triggers import TriggerRequests
from landingd.flow.roots import Roots
from landingd.flow.rowcount import warehouse_rows
from landingd.flow.schedule import Schedule
from landingd.flow.tailing import Tailer
from landingd.flow.viewing import View
from landingd.model import Hint
from landingd.settings import Settings
from landingd.supervisor.state import States
from landingd.supervisor.stores import Stores, actor, root_options, runner, segments, sender, tasks_dir

log = structlog.get_logger("landingd")


class Parts:
    """Everything that runs, made from the settings and the open stores."""

    def __init__(
        self, settings: Settings, stores: Stores, *, states: States, reload: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        self._settings = settings
        self.stores = stores
        self.engine, self.ledger = stores.engine, stores.ledger
        stores.books.definition = lambda name: self.catalog.job(name)  # noqa: PLW0108 -- the catalog is exchanged
        stores.books.on_news = self._news
        stores.books.on_ended.append(lambda _: self._ended())
        self._make_telling(states)
        self._make_running()
        self._make_landing()
        self.requests = self._make_requests(states, reload)
        allowed = frozenset(settings.mqtt.commands)
        self.commands = Commands(self.requests.handlers(), prefix=settings.topic_root, allowed=allowed)
        self.control = ControlSocket(settings.socket_path, self.requests.handlers())

    @property
    def catalog(self) -> Catalog:
        """The jobs as they are today."""
        return self.dispatch.catalog

    def jobs_changed(self) -> None:
        """The jobs were read anew."""
        names = [job.name for job in self.catalog.jobs]
        self.publisher.set_jobs(names)
        if self.discovery is not None:
            self.discovery.set_jobs(names)
        self.schedule.wake()
        self.dispatch.wake()

    # -- making --

    def _make_telling(self, states: States) -> None:
        settings, stores = self._settings, self.stores
        self.publisher = Publisher(
            stores.books,
            prefix=settings.topic_root,
            daemon_state=states.daemon,
            job_state=states.job,
            trigger_state=states.triggers,
            outbox_max_events=settings.mqtt.outbox_max_events,
        )
        self.discovery = self._make_discovery() if settings.homeassistant.enabled else None
        self.alerting = Alerting(
            stores.ledger,
            sender(settings),
            node=settings.node,
            give_up_after_s=settings.alerts.give_up_after_hours * 3600,
        )
        self.health = Health(stores.ledger, settings.ledger_file, lambda: self.catalog.jobs, told=self._health_changed)

    def _make_discovery(self) -> Discovery:
        settings = self._settings
        return Discovery(
            discovery_prefix=settings.homeassistant.discovery_prefix,
            prefix=settings.topic_root,
            node=settings.node,
            version=__version__,
            allowed=frozenset(settings.mqtt.commands),
        )

    def _make_running(self) -> None:
        settings, stores = self._settings, self.stores
        self.actor = actor(settings)
        work = runner(settings, stores, self.actor)
        self.dispatch = Dispatch(
            stores.books,
            Driver(work),
            stores.catalog,
            max_concurrent=settings.runs.max_concurrent,
            on_change=self._job_changed,
        )
        work.wake = self.dispatch.wake
        self.schedule = Schedule(
            stores.ledger,
            catalog=lambda: self.catalog,
            reads=lambda job: self.catalog.reads.get(job, frozenset()),
            query=stores.engine.first_rows,
            wake_job=self._trigger_fired,
            on_news=self._news,
        )
        self.backfills = Backfills(
            stores.books, stores.ledger, settings.ledger_file, lambda: self.catalog, wake=self.dispatch.wake
        )
        self.history = History(
            stores.ledger,
            settings.ledger_file,
            self._forget,
            retention_s=settings.history.retention_days * 86400,
        )

    def _make_landing(self) -> None:
        """What sees the files: the watch, the roots, intake, the census, the cleaner."""
        settings, stores = self._settings, self.stores
        loop = asyncio.get_running_loop()
        self.watch = Watch(
            lambda path, hint: _say(loop, self._hint, path, hint),
            lambda directory, why: _say(loop, self._scan_wanted, directory, why),
        )
        self.roots = Roots(
            settings.landing_dir,
            root_options(settings),
            ledger=stores.ledger,
            on_change=self._roots_changed,
            on_remount=self.watch.watch_again,
        )
        self.tailer = Tailer(
            stores.ledger,
            stores.catalog.jobs,
            segments(settings),
            root=settings.landing_dir,
            on_arrived=self._arrived,
            on_news=self._news,
        )
        self.intake = Intake(
            stores.books,
            stores.catalog.jobs,
            IntakeOptions(settings.landing_dir, settings.landing.scan_interval_seconds, settings.landing.quiet_seconds),
            on_arrived=self._arrived,
            on_tailed=self.tailer.notice,
            roots=self.roots,
        )
        self.census = Census(
            landing_root=settings.landing_dir,
            ledger_file=settings.ledger_file,
            query=warehouse_rows(stores.engine, settings.temp_dir),
            intake=self.intake,
            roots=self.roots,
            has_in_hand=self.intake.has_in_hand,
        )
        self.cleaner = Cleaner(
            stores.ledger,
            CleanupOptions(settings.landing_dir, settings.archive_dir, settings.landing.cleanup_interval_seconds),
            lambda: self.catalog.jobs,
            on_news=self._news,
            on_done=self.dispatch.wake,
            on_lost=lambda: self.intake.set_jobs(self.catalog.jobs),
        )

    def _make_requests(self, states: States, reload: Callable[[], Awaitable[dict[str, Any]]]) -> Requests:
        settings, stores = self._settings, self.stores
        return Requests(
            books=stores.books,
            engine=stores.engine,
            ledger_file=settings.ledger_file,
            landing_root=settings.landing_dir,
            scratch=settings.temp_dir,
            census=self.census,
            catalog=lambda: self.catalog,
            wake=self.dispatch.wake,
            reload=reload,
            status=states.daemon,
            triggers=TriggerRequests(
                lambda: self.catalog,
                View(settings.ledger_file),
                slots=settings.runs.max_concurrent,
                pause=self.schedule.pause,
                backfill=self.backfills.ask,
                backfill_state=self.backfills.state,
                test_alert=self.alerting.test,
            ),
        )

    async def _forget(self, before_run_id: int, keep: Collection[int]) -> int:
        """What else is kept of runs that the history forgets: their commit rows and logs."""
        await asyncio.to_thread(processes.forget_logs, tasks_dir(self._settings), before_run_id, keep)
        return await self.engine.forget_commits(before_run_id, keep)

    # -- who hears whom --

    def _news(self) -> None:
        """Events, and alerts with them, may have been written."""
        self.publisher.news()
        self.alerting.wake()

    def _ended(self) -> None:
        self.schedule.wake()

    def _job_changed(self, job: str) -> None:
        self.publisher.changed(job)
        self.cleaner.wake()

    def _trigger_fired(self, job: str) -> None:
        self.dispatch.wake(job)
        self.publisher.changed(job)

    def _health_changed(self, job: str) -> None:
        self.publisher.changed(job)
        self._news()

    def _arrived(self, job: str) -> None:
        self.dispatch.wake(job)
        self.schedule.arrived(job)
        self.publisher.changed(job)

    def _hint(self, path: bytes, hint: Hint) -> None:
        if not self.roots.heard(path):
            self.tailer.hint(path)
            self.intake.hint(path, hint)

    def _roots_changed(self) -> None:
        self.intake.wake()
        self.publisher.changed()

    def _scan_wanted(self, directory: bytes, why: str) -> None:
        log.info("scan_wanted", directory=directory.decode("utf-8", "backslashreplace"), why=why)
        self.intake.ask_scan()


def _say(loop: asyncio.AbstractEventLoop, hear: Callable[..., None], *what: object) -> None:
    """From a foreign thread: let the loop hear it. A loop that is closed has no use for it."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(hear, *what)
