"""Put the parts together, keep them running, and stop them in order.

One TaskGroup: if intake, dispatch or the control socket dies, the process dies, and systemd starts it anew: recovery
at start is the path that is tested, healing in place is not. Publishing alone survives a broken broker.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import structlog

from landingd import __version__
from landingd.edge import landing, notify
from landingd.edge.broker import Address, Message, keep_connected
from landingd.edge.control import ControlSocket
from landingd.edge.embedded_broker import embedded_broker
from landingd.edge.engine import Engine, EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread, views
from landingd.edge.watch import Blind, Watch
from landingd.errors import JobFileError
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog, load_catalog
from landingd.flow.census import Census
from landingd.flow.cleanup import Cleaner, CleanupOptions
from landingd.flow.dispatch import Dispatch
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.preparing import Preparer
from landingd.flow.publish import Publisher
from landingd.flow.recovery import recover
from landingd.flow.requests import Requests
from landingd.flow.roots import RootOptions, Roots, make_missing
from landingd.flow.rowcount import warehouse_rows
from landingd.flow.runner import Runner
from landingd.flow.scanning import watched_directories
from landingd.model import Hint, shown
from landingd.settings import Settings

log = structlog.get_logger("landingd")
T = TypeVar("T")

TICK_S = 1.0
STATUS_EVERY_S = 60.0
FLUSH_S = 2.0
"""How long a stop waits for the broker to take the last events."""


@dataclass(slots=True)
class Stores:
    """What is open for the daemon's life."""

    engine: Engine
    ledger: LedgerThread
    books: Books
    catalog: Catalog


@contextlib.asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Open the warehouse and the ledger, read the jobs, and make the two stores agree."""
    engine = open_engine(
        EngineOptions(
            warehouse=settings.warehouse_file,
            scratch=settings.temp_dir,
            landing=settings.landing_dir,
            archive=settings.archive_dir,
            threads=settings.engine.threads,
            memory_limit=settings.engine.memory_limit,
            checkpoint_threshold=settings.engine.checkpoint_threshold,
        )
    )
    try:
        ledger = LedgerThread(settings.ledger_file, keep_notices=settings.mqtt.enabled)
        try:
            catalog = load_catalog(settings.pipelines_dir, await engine.columns())
            await make_missing(ledger, settings.landing_dir, watched_directories(catalog.jobs))
            books = Books(ledger)
            await recover(books, engine, catalog)
            yield Stores(engine, ledger, books, catalog)
        finally:
            ledger.close()
    finally:
        engine.close()


class Daemon:
    """The running daemon. `serve` returns after an orderly stop."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._notify = notify.Notify(environ)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._started_s = time.time()
        self._reload_problem: str | None = None
        self._blind: list[Blind] = []
        self._checking: asyncio.Future[list[Blind]] | None = None
        self._watch_thread = ThreadPoolExecutor(1, thread_name_prefix="watch")

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT. SIGHUP reloads the jobs."""
        # Armed before the first await: a stop that comes early must not find Python's default action.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        landing.ignore_lease_signal()
        async with contextlib.AsyncExitStack() as stack:
            if self._settings.broker.embedded:
                await stack.enter_async_context(embedded_broker(self._settings.broker.host, self._settings.broker.port))
            stores = await stack.enter_async_context(open_stores(self._settings))
            await self._run(stores)
        log.info("stopped")

    async def _run(self, stores: Stores) -> None:
        self._build(stores)
        # Listening comes before the first scan, so that nothing can land between the two.
        await self._watch_jobs()
        await self._in_watch_thread(self._watch.start)
        async with asyncio.TaskGroup() as flows:
            intake = flows.create_task(self._intake.run(), name="intake")
            dispatch = flows.create_task(self._dispatch.run(), name="dispatch")
            control = flows.create_task(self._control.serve(), name="control")
            ticker = flows.create_task(self._tick(stores.engine), name="ticker")
            roots = flows.create_task(self._roots.run(), name="roots")
            census = flows.create_task(self._count(), name="census")
            cleaner = flows.create_task(self._cleaner.run(), name="cleanup")
            publisher = flows.create_task(self._publish(), name="publish") if self._settings.mqtt.enabled else None
            self._notify.ready(self._summary())
            log.info("ready", version=__version__, jobs=[job.name for job in self._catalog.jobs])
            await self._stop.wait()
            roots.cancel()
            census.cancel()
            self._cleaner.stop()
            await asyncio.wait({cleaner})
            await self._shut_down(stores.engine, intake, dispatch, publisher)
            self._control.stop()
            ticker.cancel()
            self._watch_thread.shutdown(wait=False, cancel_futures=True)
            await control

    async def _shut_down(
        self,
        engine: Engine,
        intake: "asyncio.Task[None]",
        dispatch: "asyncio.Task[None]",
        publisher: "asyncio.Task[None] | None",
    ) -> None:
        """The order matters: nothing new, let it finish, interrupt the rest, tell it, say goodbye."""
        log.info("stopping", active=sorted(self._dispatch.active))
        self._notify.stopping()
        await asyncio.wait({self._in_watch_thread(self._watch.stop)}, timeout=TICK_S)
        self._intake.stop()
        self._dispatch.stop()
        _, late = await asyncio.wait({intake, dispatch}, timeout=self._settings.runs.drain_seconds)
        if late:
            log.warning("interrupting", drain_seconds=self._settings.runs.drain_seconds)
            engine.interrupt_all()
            await asyncio.wait(late)
        if publisher is not None:
            self._publisher.news()
            if self._publisher.link_state.startswith("connected"):
                await self._publisher.flushed(FLUSH_S)
            publisher.cancel()
            await asyncio.wait({publisher})

    # -- the parts --

    def _build(self, stores: Stores) -> None:
        settings, books = self._settings, stores.books
        self._engine, self._ledger = stores.engine, stores.ledger
        self._publisher = Publisher(
            books,
            prefix=settings.topic_root,
            daemon_state=self._status,
            job_state=self._job_state,
            outbox_max_events=settings.mqtt.outbox_max_events,
        )
        self._publisher.set_jobs([job.name for job in stores.catalog.jobs])
        books.on_news = self._publisher.news
        self._dispatch = Dispatch(
            books,
            Runner(books, stores.engine, preparer(settings)),
            stores.catalog,
            max_concurrent=settings.runs.max_concurrent,
            on_change=self._job_changed,
        )
        self._cleaner = Cleaner(
            stores.ledger,
            CleanupOptions(settings.landing_dir, settings.archive_dir, settings.landing.cleanup_interval_seconds),
            lambda: self._catalog.jobs,
            on_news=self._publisher.news,
            on_done=self._dispatch.wake,
            on_lost=lambda: self._intake.set_jobs(self._catalog.jobs),
        )
        self._build_landing(stores)
        requests = Requests(
            books=books,
            engine=stores.engine,
            ledger_file=settings.ledger_file,
            landing_root=settings.landing_dir,
            scratch=settings.temp_dir,
            census=self._census,
            catalog=lambda: self._catalog,
            wake=self._dispatch.wake,
            reload=self._reload_now,
            status=self._status,
        )
        self._control = ControlSocket(settings.socket_path, requests.handlers())

    def _build_landing(self, stores: Stores) -> None:
        """What sees the files: the watch, the roots, intake, the census."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        self._watch = Watch(
            lambda path, hint: _say(loop, self._hint, path, hint),
            lambda directory, why: _say(loop, self._scan_wanted, directory, why),
        )
        self._roots = Roots(
            settings.landing_dir,
            root_options(settings),
            ledger=stores.ledger,
            on_change=self._roots_changed,
            on_remount=self._watch.watch_again,
        )
        self._intake = Intake(
            stores.books,
            stores.catalog.jobs,
            IntakeOptions(settings.landing_dir, settings.landing.scan_interval_seconds, settings.landing.quiet_seconds),
            on_arrived=self._arrived,
            roots=self._roots,
        )
        self._census = Census(
            landing_root=settings.landing_dir,
            ledger_file=settings.ledger_file,
            query=warehouse_rows(stores.engine, settings.temp_dir),
            intake=self._intake,
            roots=self._roots,
            has_in_hand=self._intake.has_in_hand,
        )

    @property
    def _catalog(self) -> Catalog:
        return self._dispatch.catalog

    def _job_changed(self, job: str) -> None:
        self._publisher.changed(job)
        self._cleaner.wake()

    def _arrived(self, job: str) -> None:
        self._dispatch.wake(job)
        self._publisher.changed(job)

    def _hint(self, path: bytes, hint: Hint) -> None:
        if not self._roots.heard(path):
            self._intake.hint(path, hint)

    def _roots_changed(self) -> None:
        self._intake.wake()
        self._publisher.changed()

    def _scan_wanted(self, directory: bytes, why: str) -> None:
        log.info("scan_wanted", directory=directory.decode("utf-8", "backslashreplace"), why=why)
        self._intake.ask_scan()

    async def _watch_jobs(self) -> None:
        directories = watched_directories(self._catalog.jobs)
        await make_missing(self._ledger, self._settings.landing_dir, directories)
        for directory, recursive in directories:
            path = self._settings.landing_dir / directory
            await self._in_watch_thread(partial(self._watch.add, path, recursive))

    async def _publish(self) -> None:
        mqtt = self._settings.mqtt
        will = self._publisher.will
        await keep_connected(
            broker_address(self._settings),
            client_id=f"landingd-{self._settings.node}",
            will=will,
            farewell=Message(will.topic, will.payload, retain=True),
            serve=self._publisher.serve,
            backoff_min_s=mqtt.reconnect_min_seconds,
            backoff_max_s=mqtt.reconnect_max_seconds,
            on_state=self._link_changed,
        )

    def _link_changed(self, state: str) -> None:
        self._publisher.link_state = state
        log.info("broker", state=state, host=self._settings.mqtt.host, port=self._settings.mqtt.port)

    # -- the pulse --

    async def _tick(self, engine: Engine) -> None:
        """What has to be done now and then: watch the watch, feed the watchdog, use idle moments."""
        status_due_s = idle_due_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            await self._check_watch()
            if self._reload.is_set():
                self._reload.clear()
                with contextlib.suppress(JobFileError):  # said in the log and in the status; the old jobs go on
                    await self._reload_now()
            self._publisher.renew_status()
            if now_s >= status_due_s:
                status_due_s = now_s + STATUS_EVERY_S
                await self._publisher.trim()
                self._publisher.changed()
            if self._dispatch.active:
                idle_due_s = now_s + self._settings.engine.idle_checkpoint_seconds
            elif now_s >= idle_due_s:
                await engine.checkpoint_if_idle()
            await asyncio.sleep(TICK_S)

    async def _count(self) -> None:
        """A census every so often."""
        interval_s = self._settings.landing.census_interval_seconds
        try:
            await self._census.run(interval_s, lambda: self._catalog.jobs, self._publisher.census)
        finally:
            self._census.close()

    async def _check_watch(self) -> None:
        if self._watch.alive:
            self._notify.watchdog()
        if self._checking is None:
            self._checking = self._in_watch_thread(self._watch.check)
        # A server that hangs holds the thread that asks about its files; nothing else may wait for it.
        done, _ = await asyncio.wait({self._checking}, timeout=TICK_S)
        if not done:
            return
        blind, self._checking = self._checking.result(), None
        for one in blind:
            if one not in self._blind:
                log.warning("directory_not_watched", directory=shown(one.directory), why=one.why)
        self._blind = blind
        self._roots.not_watched(blind)

    def _in_watch_thread(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._watch_thread, call)

    # -- reload --

    async def _reload_now(self) -> dict[str, Any]:
        """Read the jobs again; a bad file keeps the jobs that run, and says so."""
        self._notify.reloading()
        try:
            catalog = await asyncio.to_thread(load_catalog, self._settings.pipelines_dir, await self._engine.columns())
        except JobFileError as error:
            self._reload_problem = str(error)
            log.error("reload_refused", problems=[str(p) for p in error.problems])  # noqa: TRY400 -- the problems say it
            self._notify.ready(f"old jobs kept: {len(error.problems)} problems in the job files")
            self._publisher.changed()
            raise
        else:
            self._reload_problem = None
            self._dispatch.catalog = catalog
            await self._watch_jobs()
            await self._intake.set_jobs(catalog.jobs)
            self._publisher.set_jobs([job.name for job in catalog.jobs])
            self._dispatch.wake()
            log.info("reloaded", jobs=[job.name for job in catalog.jobs])
            self._notify.ready(self._summary())
        return {"jobs": [job.name for job in catalog.jobs]}

    # -- how things stand --

    async def _status(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._read_status)

    def _read_status(self) -> dict[str, Any]:
        with contextlib.closing(views.open_views(self._settings.ledger_file)) as db:
            counts = views.counts(db)
            untold = views.outbox_size(db)
            failing = views.cleanup_failing(db)
        return {
            "state": "online",
            "version": __version__,
            "node": self._settings.node,
            "started_at": datetime.fromtimestamp(self._started_s, UTC).isoformat(timespec="seconds"),
            "jobs": [job.name for job in self._catalog.jobs],
            "active_jobs": sorted(self._dispatch.active),
            "files": counts,
            "waited_for": self._intake.waiting(),
            "untold_events": untold,
            "cleanup_failing": failing,
            "broker": self._publisher.link_state if self._settings.mqtt.enabled else "disabled",
            "roots": self._roots.report(),
            "not_watched": [f"{shown(blind.directory)}: {blind.why}" for blind in self._blind],
            "reload_problem": self._reload_problem,
        }

    async def _job_state(self, job: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._read_job_state, job)

    def _read_job_state(self, job: str) -> dict[str, Any]:
        with contextlib.closing(views.open_views(self._settings.ledger_file)) as db:
            return views.job_state(db, job)

    def _summary(self) -> str:
        jobs = len(self._catalog.jobs)
        return f"{jobs} job{'' if jobs == 1 else 's'}, watching {self._settings.landing_dir}"


def root_options(settings: Settings) -> RootOptions:
    """How often directories are listed."""
    listed = settings.landing
    return RootOptions(listed.scan_interval_seconds, listed.poll_interval_seconds, listed.quiet_seconds)


def preparer(settings: Settings) -> Preparer:
    """Opens the files of a run."""
    return Preparer(settings.landing_dir, settings.archive_dir, settings.temp_dir)


def broker_address(settings: Settings) -> Address:
    """The broker of `[mqtt]`; the embedded one speaks MQTT 3.1.1 only."""
    mqtt = settings.mqtt
    return Address(
        host=mqtt.host,
        port=mqtt.port,
        username=mqtt.username,
        password=mqtt.password.get_secret_value(),
        protocol="3.1.1" if settings.broker.embedded else mqtt.protocol,
        tls=mqtt.tls,
        ca_file=settings.absolute(mqtt.ca_file) if mqtt.ca_file else None,
        cert_file=settings.absolute(mqtt.cert_file) if mqtt.cert_file else None,
        key_file=settings.absolute(mqtt.key_file) if mqtt.key_file else None,
        keepalive_s=mqtt.keepalive_seconds,
    )


def _say(loop: asyncio.AbstractEventLoop, hear: Callable[..., None], *what: object) -> None:
    """From a foreign thread: let the loop hear it. A loop that is closed has no use for it."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(hear, *what)
