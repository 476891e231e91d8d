"""Open what outlives a run: the warehouse, the ledger and the jobs; and make them agree."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from landingd.edge.alerts import MailServer, Sender, SenderOptions
from landingd.edge.broker import Address
from landingd.edge.engine import Engine, EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread
from landingd.flow.acting import ActingOptions, Actor
from landingd.flow.books import Books
from landingd.flow.catalog import Abilities, Catalog, load_catalog
from landingd.flow.preparing import Preparer
from landingd.flow.recovery import recover
from landingd.flow.roots import RootOptions, make_missing
from landingd.flow.runner import Runner
from landingd.flow.scanning import watched_directories
from landingd.flow.segments import Segments, tail_in
from landingd.settings import Settings


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
            tails=tails_dir(settings),
            threads=settings.engine.threads,
            memory_limit=settings.engine.memory_limit,
            checkpoint_threshold=settings.engine.checkpoint_threshold,
        )
    )
    try:
        ledger = LedgerThread(settings.ledger_file, keep_notices=settings.mqtt.enabled)
        try:
            catalog = load_catalog(settings.pipelines_dir, await engine.columns(), abilities(settings))
            await make_missing(ledger, settings.landing_dir, watched_directories(catalog.jobs))
            books = Books(ledger)
            books.definition = catalog.job
            await recover(books, engine, catalog)
            yield Stores(engine, ledger, books, catalog)
        finally:
            ledger.close()
    finally:
        engine.close()


def abilities(settings: Settings) -> Abilities:
    """What jobs may ask for here."""
    return Abilities(mail=bool(settings.alerts.smtp_host), destinations=frozenset(settings.alerts.destinations))


def root_options(settings: Settings) -> RootOptions:
    """How often directories are listed."""
    listed = settings.landing
    return RootOptions(listed.scan_interval_seconds, listed.poll_interval_seconds, listed.quiet_seconds)


def preparer(settings: Settings) -> Preparer:
    """Opens the files of a run."""
    return Preparer(settings.landing_dir, settings.archive_dir, settings.temp_dir, segments=segments(settings))


def tails_dir(settings: Settings) -> Path:
    """Where the copies of segments of growing files lie until they are loaded."""
    return settings.state_dir / "tails"


def segments(settings: Settings) -> Segments:
    """Takes segments off growing files, and gives them back."""
    return Segments(settings.landing_dir, tails_dir(settings), partial(tail_in, settings.ledger_file))


def tasks_dir(settings: Settings) -> Path:
    """Where scripts and notebooks keep their logs."""
    return settings.state_dir / "tasks"


def actor(settings: Settings) -> Actor:
    """Carries out what runs outside the warehouse."""
    options = ActingOptions(
        tasks_dir=tasks_dir(settings),
        socket=settings.socket_path,
        python=settings.tasks.python,
        processes_max=settings.tasks.max_processes,
        environment=_how_to_ask(settings),
    )
    return Actor(options)


def _how_to_ask(settings: Settings) -> dict[str, str]:
    """What `landingd query` in a script needs to find this daemon, which may be somewhere else than its file says."""
    paths = {"STATE": settings.state_dir, "SOCKET": settings.socket_path, "LANDING": settings.landing_dir}
    found = {f"LANDINGD_PATHS__{name}": str(path) for name, path in paths.items()}
    return found | ({"LANDINGD_CONFIG": str(settings.config_file)} if settings.config_file else {})


def runner(settings: Settings, stores: Stores, acting: Actor) -> Runner:
    """Carries out attempts."""
    return Runner(stores.books, stores.engine, preparer(settings), actor=acting, landing_root=settings.landing_dir)


def sender(settings: Settings) -> Sender:
    """Carries alerts to people."""
    told = settings.alerts
    mail = None
    if told.smtp_host:
        mail = MailServer(
            told.smtp_host,
            told.sender or f"landingd@{settings.node}",
            told.smtp_port,
            told.smtp_encryption,
            told.smtp_username,
            told.smtp_password.get_secret_value(),
        )
    return Sender(SenderOptions(mail, destinations(settings), told.timeout_seconds))


def destinations(settings: Settings) -> dict[str, str]:
    """The addresses of web hooks by id. They hold passwords."""
    return {name: url.get_secret_value() for name, url in settings.alerts.destinations.items()}


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
