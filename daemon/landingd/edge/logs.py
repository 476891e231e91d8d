"""Write the log without ever waiting for whoever reads it.

A terminal that is stopped, a full pipe, a journal that is busy: each of them blocks the write, and with it
the event loop and every file that arrives. So the caller only puts its line into a queue, and a thread of
its own does the writing. When the queue is full the line is dropped and counted, and the count is logged
when there is room.

Everything ends up in this one stream, also what libraries say through `logging`: JSON, one object per line,
or colours on a terminal. Under systemd each line starts with its priority (`<4>`), so that `journalctl -p
warning` works.
"""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from queue import Full, Queue
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LINES_MAX = 10_000
STOP_TIMEOUT_S = 2.0
"""How long a stop waits for a reader that has stopped reading."""

QUIET = {
    "amqtt": logging.CRITICAL,  # the embedded broker calls a client that speaks MQTT 5 an error
    "apprise": logging.CRITICAL,  # its lines may hold addresses, and those hold passwords
    "asyncio": logging.WARNING,
    "mqtt": logging.CRITICAL,  # a link that breaks is told in one line by whoever keeps it
    "transitions": logging.ERROR,
    "urllib3": logging.CRITICAL,
    "uvicorn": logging.WARNING,
    "watchdog": logging.WARNING,
}
"""Libraries that would otherwise say more than is worth reading, and from which level on they may speak."""


def start_logging(
    *,
    level: str = "info",
    log_format: str = "auto",
    fd: int = 2,
    environ: Mapping[str, str] | None = None,
    lines_max: int = LINES_MAX,
) -> Callable[[], None]:
    """Send all logging of this process to `fd`; the returned function writes what is left and stops.

    Standard error by default: under systemd both streams are the journal, and in a terminal the output of a
    command stays free of log lines.
    """
    environ = os.environ if environ is None else environ
    threshold = logging.getLevelNamesMapping()[level.upper()]
    journal = _is_journal(fd, environ)
    console = log_format == "console" or (log_format == "auto" and not journal and os.isatty(fd))

    funnel = _Funnel(Queue(lines_max))
    writer = _Writer(fd, funnel.queue, _formatter(console=console, journal=journal))
    _configure_structlog(threshold)
    _configure_stdlib(funnel, threshold)
    writer.start()
    return lambda: _stop(funnel, writer)


def _stop(funnel: "_Funnel", writer: "_Writer") -> None:
    """May be called twice. After it, warnings still reach standard error, by Python's last resort."""
    logging.getLogger().removeHandler(funnel)
    logging.captureWarnings(capture=False)
    with contextlib.suppress(Full):
        funnel.queue.put(None, timeout=STOP_TIMEOUT_S)
    writer.join(STOP_TIMEOUT_S)


def _is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Children inherit JOURNAL_STREAM; device and inode tell whether this stream is the one meant."""
    status = os.fstat(fd)
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _configure_structlog(threshold: int) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *_common(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _resolve_exception,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # or a logger that a test has used keeps that test's configuration
    )


def _configure_stdlib(funnel: "_Funnel", threshold: int) -> None:
    logging.basicConfig(handlers=[funnel], level=threshold, force=True)
    logging.captureWarnings(capture=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, threshold))


def _common() -> list[Processor]:
    return [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name]


def _resolve_exception(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Fetch the exception that `exc_info=True` means; in the writer's thread there is none."""
    if event.get("exc_info") is True:
        event["exc_info"] = sys.exc_info()
    return event


def _formatter(*, console: bool, journal: bool) -> logging.Formatter:
    """Tracebacks are plain ones: those that show the values of local variables would show passwords."""
    render: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]
    if console:
        render = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    kind = _WithPriority if journal else structlog.stdlib.ProcessorFormatter
    return kind(
        foreign_pre_chain=[_merge_captured, *_common()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )


def _merge_captured(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Give a library's line the time, and the run and task, that it was logged in: it is formatted later."""
    record: logging.LogRecord = event["_record"]
    captured: dict[str, Any] = record.__dict__.get("bound", {})
    logged = datetime.fromtimestamp(record.created, UTC)
    return {**captured, **event, "timestamp": logged.isoformat().replace("+00:00", "Z")}


class _WithPriority(structlog.stdlib.ProcessorFormatter):
    """Starts a line with its syslog priority, which journald takes off and files the line under."""

    def format(self, record: logging.LogRecord) -> str:
        levels = (logging.ERROR, logging.WARNING, logging.INFO, logging.NOTSET)
        priority = dict(zip(levels, (3, 4, 6, 7), strict=True))
        least = next(each for each in levels if record.levelno >= each)
        return f"<{priority[least]}>{super().format(record)}"


class _Funnel(QueueHandler):
    """Takes every line of the process and never waits. `logging` calls it under the handler's lock."""

    queue: Queue[logging.LogRecord | None]

    def __init__(self, lines: Queue[logging.LogRecord | None]) -> None:
        super().__init__(lines)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Take along what only the caller's thread knows; structlog's own lines have it already."""
        if not isinstance(record.msg, dict):
            record.msg, record.args = record.getMessage(), None
            record.__dict__["bound"] = structlog.contextvars.get_contextvars()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self.dropped:
                self.queue.put_nowait(_drop_notice(self.dropped))
                self.dropped = 0
            self.queue.put_nowait(record)
        except Full:
            self.dropped += 1


def _drop_notice(lines: int) -> logging.LogRecord:
    text = f"{lines} log lines were dropped, because they were not read fast enough"
    return logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)


class _Writer(threading.Thread):
    """Formats and writes, and waits for the reader in everybody's place.

    It writes to the descriptor itself. A daemon thread that holds the lock of `sys.stderr` when the
    interpreter ends takes the process down with a fatal error.
    """

    def __init__(self, fd: int, lines: Queue[logging.LogRecord | None], formatter: logging.Formatter) -> None:
        super().__init__(name="log-writer", daemon=True)
        self._fd = fd
        self._lines = lines
        self._formatter = formatter

    def run(self) -> None:
        while (record := self._lines.get()) is not None:
            try:
                line = self._formatter.format(record)
            except Exception as error:  # noqa: BLE001 - one line that cannot be written must not end the log
                line = f"a log line from {record.name} cannot be formatted: {error!r}"
            with contextlib.suppress(OSError):  # the reader is gone: work goes on without a log
                self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
