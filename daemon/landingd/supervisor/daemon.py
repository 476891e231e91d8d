"""Keep the parts running, and stop them in order.

One TaskGroup: if intake, dispatch or the control socket dies, the process dies, and systemd starts it anew: recovery
at start is the path that is tested, healing in place is not. Publishing alone survives a broken broker, and alerts a
broken mail server.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog

from landingd import __version__
from landingd.edge import landing, notify
from landingd.edge.alerts import unreadable
from landingd.edge.broker import Message, keep_connected
from landingd.edge.embedded_broker import embedded_broker
from landingd.edge.engine import Engine
from landingd.edge.watch import Blind  # noqa: TC001 -- with the other imports
from landingd.errors import JobFileError
from landingd.flow.catalog import load_catalog
from landingd.flow.roots import make_missing
from landingd.flow.scanning import watched_directories
from landingd.model import shown
from landingd.settings import Settings
from landingd.supervisor.parts import Parts
from landingd.supervisor.state import States
from landingd.supervisor.stores import Stores, abilities, broker_address, destinations, open_stores

log = structlog.get_logger("landingd")
T = TypeVar("T")

TICK_S = 1.0
STATUS_EVERY_S = 60.0
FLUSH_S = 2.0
"""How long a stop waits for the broker and for mail servers to take the last of what is to be told."""


class Daemon:
    """The running daemon. `serve` returns after an orderly stop."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._notify = notify.Notify(environ)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._states = States(settings)
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
        self._parts = parts = Parts(self._settings, stores, states=self._states, reload=self._reload_now)
        self._states.parts = parts
        parts.jobs_changed()
        await self._check_destinations()
        # Listening comes before the first scan, so that nothing can land between the two.
        await self._watch_jobs()
        await self._in_watch_thread(parts.watch.start)
        async with asyncio.TaskGroup() as flows:
            intake = flows.create_task(parts.intake.run(), name="intake")
            tailer = flows.create_task(parts.tailer.run(), name="tailer")
            dispatch = flows.create_task(parts.dispatch.run(), name="dispatch")
            schedule = flows.create_task(parts.schedule.run(), name="schedule")
            control = flows.create_task(parts.control.serve(), name="control")
            cleaner = flows.create_task(parts.cleaner.run(), name="cleanup")
            alerting = flows.create_task(parts.alerting.run(), name="alerts")
            ticker = flows.create_task(self._tick(stores.engine), name="ticker")
            aside = [
                flows.create_task(parts.roots.run(), name="roots"),
                flows.create_task(self._count(), name="census"),
                flows.create_task(parts.health.run(), name="health"),
                flows.create_task(parts.history.run(), name="history"),
                flows.create_task(parts.backfills.resume(), name="backfills"),
            ]
            commands = flows.create_task(parts.commands.run(), name="commands")
            publisher = flows.create_task(self._publish(), name="publish") if self._settings.mqtt.enabled else None
            self._notify.ready(self._states.summary())
            log.info("ready", version=__version__, jobs=[job.name for job in parts.catalog.jobs])
            await self._stop.wait()
            for task in (commands, *aside):
                task.cancel()
            parts.cleaner.stop()
            await asyncio.wait({cleaner, commands, *aside})
            await self._shut_down(stores.engine, {intake, tailer, dispatch, schedule})
            await self._say_goodbye(publisher)
            await asyncio.wait({alerting})
            parts.control.stop()
            ticker.cancel()
            await asyncio.wait({ticker})
            self._watch_thread.shutdown(wait=False, cancel_futures=True)
            await control

    async def _shut_down(self, engine: Engine, flows: "set[asyncio.Task[None]]") -> None:
        """The order matters: nothing new, let it finish, interrupt the rest."""
        parts = self._parts
        log.info("stopping", active=sorted(parts.dispatch.active))
        self._notify.stopping()
        await asyncio.wait({self._in_watch_thread(parts.watch.stop)}, timeout=TICK_S)
        parts.schedule.stop()
        parts.intake.stop()
        parts.tailer.stop()
        parts.dispatch.stop()
        _, late = await asyncio.wait(flows, timeout=self._settings.runs.drain_seconds)
        if late:
            log.warning("interrupting", drain_seconds=self._settings.runs.drain_seconds)
            parts.actor.interrupt_all()
            engine.interrupt_all()
            await asyncio.wait(late)

    async def _say_goodbye(self, publisher: "asyncio.Task[None] | None") -> None:
        """Tell what has happened to the last, then that we are gone."""
        parts = self._parts
        if publisher is not None:
            parts.publisher.news()
            if parts.publisher.link_state.startswith("connected"):
                await parts.publisher.flushed(FLUSH_S)
            publisher.cancel()
            await asyncio.wait({publisher})
        await parts.alerting.stop(grace_s=FLUSH_S)

    async def _check_destinations(self) -> None:
        """Web hooks that no alert can be sent to are said at the start, and not only when one is due."""
        for name, why in (await asyncio.to_thread(unreadable, destinations(self._settings))).items():
            log.error("destination_unreadable", destination=name, why=why)

    async def _watch_jobs(self) -> None:
        directories = watched_directories(self._parts.catalog.jobs)
        await make_missing(self._parts.ledger, self._settings.landing_dir, directories)
        for directory, recursive in directories:
            path = self._settings.landing_dir / directory
            await self._in_watch_thread(partial(self._parts.watch.add, path, recursive))

    async def _publish(self) -> None:
        mqtt, parts = self._settings.mqtt, self._parts
        will = parts.publisher.will
        found = parts.discovery
        await keep_connected(
            broker_address(self._settings),
            client_id=f"landingd-{self._settings.node}",
            will=will,
            farewell=Message(will.topic, will.payload, retain=True),
            serve=[parts.publisher.serve, parts.commands.serve, *([found.serve] if found else [])],
            takers={parts.commands.topics: parts.commands.take, **(found.takers if found else {})},
            backoff_min_s=mqtt.reconnect_min_seconds,
            backoff_max_s=mqtt.reconnect_max_seconds,
            on_state=self._link_changed,
        )

    def _link_changed(self, state: str) -> None:
        self._parts.publisher.link_state = state
        log.info("broker", state=state, host=self._settings.mqtt.host, port=self._settings.mqtt.port)

    # -- the pulse --

    async def _tick(self, engine: Engine) -> None:
        """What has to be done now and then: watch the watch, feed the watchdog, use idle moments."""
        parts = self._parts
        status_due_s = idle_due_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            await self._check_watch()
            if self._reload.is_set():
                self._reload.clear()
                with contextlib.suppress(JobFileError):  # said in the log and in the status; the old jobs go on
                    await self._reload_now()
            parts.publisher.renew_status()
            if now_s >= status_due_s:
                status_due_s = now_s + STATUS_EVERY_S
                await parts.publisher.trim()
                parts.publisher.changed()
            if parts.dispatch.active:
                idle_due_s = now_s + self._settings.engine.idle_checkpoint_seconds
            elif now_s >= idle_due_s:
                await engine.checkpoint_if_idle()
            await asyncio.sleep(TICK_S)

    async def _count(self) -> None:
        """A census every so often."""
        interval_s = self._settings.landing.census_interval_seconds
        parts = self._parts
        try:
            await parts.census.run(interval_s, lambda: parts.catalog.jobs, parts.publisher.census)
        finally:
            parts.census.close()

    async def _check_watch(self) -> None:
        if self._parts.watch.alive:
            self._notify.watchdog()
        if self._checking is None:
            self._checking = self._in_watch_thread(self._parts.watch.check)
        # A server that hangs holds the thread that asks about its files; nothing else may wait for it.
        done, _ = await asyncio.wait({self._checking}, timeout=TICK_S)
        if not done:
            return
        blind, self._checking = self._checking.result(), None
        for one in blind:
            if one not in self._states.blind:
                log.warning("directory_not_watched", directory=shown(one.directory), why=one.why)
        self._states.blind = blind
        self._parts.roots.not_watched(blind)

    def _in_watch_thread(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._watch_thread, call)

    # -- reload --

    async def _reload_now(self) -> dict[str, Any]:
        """Read the jobs again; a bad file keeps the jobs that run, and says so."""
        parts, states = self._parts, self._states
        self._notify.reloading()
        try:
            columns = await parts.engine.columns()
            catalog = await asyncio.to_thread(
                load_catalog, self._settings.pipelines_dir, columns, abilities(self._settings)
            )
        except JobFileError as error:
            states.reload_problem = str(error)
            log.error("reload_refused", problems=[str(p) for p in error.problems])  # noqa: TRY400 -- the problems say it
            self._notify.ready(f"old jobs kept: {len(error.problems)} problems in the job files")
            parts.publisher.changed()
            raise
        else:
            states.reload_problem = None
            parts.dispatch.catalog = catalog
            await self._watch_jobs()
            await parts.intake.set_jobs(catalog.jobs)
            await parts.tailer.set_jobs(catalog.jobs)
            parts.jobs_changed()
            log.info("reloaded", jobs=[job.name for job in catalog.jobs])
            self._notify.ready(states.summary())
        return {"jobs": [job.name for job in catalog.jobs]}
