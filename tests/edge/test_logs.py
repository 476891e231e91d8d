"""The log as it comes out of a pipe: complete, in order, and never in the way."""

import asyncio
import json
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from landingd.edge import logs


@dataclass
class Pipe:
    """A log that goes into a pipe; nothing is read from it before `text` is asked for."""

    stops: list[Callable[[], None]] = field(default_factory=list)
    ends: tuple[int, int] = field(default_factory=os.pipe)

    def start(self, **options: Any) -> None:
        options.setdefault("environ", {})
        self.stops.append(logs.start_logging(fd=self.ends[1], **options))

    def text(self) -> str:
        """Stop, and read all that was written."""
        got = bytearray()
        reader = threading.Thread(target=lambda: got.extend(drained(self.ends[0])))
        reader.start()
        for stop in self.stops:
            stop()
        os.close(self.ends[1])
        reader.join()
        return got.decode()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


def drained(fd: int) -> bytes:
    with os.fdopen(fd, "rb", closefd=False) as file:
        return file.read()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in logs.QUIET}
    pipe = Pipe()
    yield pipe
    for fd in pipe.ends:  # a writer that is stuck comes free when its reader goes
        try:
            os.close(fd)
        except OSError:
            continue
    for stop in pipe.stops:
        stop()
    root.handlers[:], root.level = before[:2]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


log = structlog.stdlib.get_logger("landingd.test")


def test_a_line_is_one_json_object_with_what_is_bound(pipe: Pipe):
    pipe.start()
    with structlog.contextvars.bound_contextvars(job="ecommerce", run_id=7):
        log.info("task_committed", rows=1204, path=b"\xff")
    [event] = pipe.events()
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "task_committed",
        "level": "info",
        "logger": "landingd.test",
        "job": "ecommerce",
        "run_id": 7,
        "rows": 1204,
        "path": "b'\\xff'",
    }


async def test_what_is_bound_goes_along_into_tasks_and_threads(pipe: Pipe):
    pipe.start()
    structlog.contextvars.bind_contextvars(run_id=7)

    async def task() -> None:
        log.info("in a task")

    await asyncio.create_task(task())
    await asyncio.to_thread(log.info, "in a thread")
    assert [event["run_id"] for event in pipe.events()] == [7, 7]


def test_a_library_that_logs_in_a_run_gets_the_run_too(pipe: Pipe):
    pipe.start()
    with structlog.contextvars.bound_contextvars(run_id=7):
        logging.getLogger("watchdog.x").warning("queue of %d is full", 16384)
    [event] = pipe.events()
    assert (event["event"], event["run_id"], event["logger"], event["level"]) == (
        "queue of 16384 is full",
        7,
        "watchdog.x",
        "warning",
    )


def test_values_are_those_of_the_moment_of_the_call(pipe: Pipe):
    pipe.start()
    names = ["a"]
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", (names,), None)
    record.created = 86_400.5
    logging.getLogger("x").handle(record)
    names.append("b")
    [event] = pipe.events()
    assert (event["event"], event["timestamp"]) == ("['a']", "1970-01-02T00:00:00.500000Z")


def test_a_reader_that_stalls_does_not_hold_up_the_caller_and_is_told_what_it_missed(pipe: Pipe):
    pipe.start(lines_max=100)
    for number in range(5_000):  # 64 KiB of pipe take a few hundred of them; the rest has nowhere to go
        log.info("line", number=number, text="x" * 100)
    reader = threading.Thread(target=lambda: lines.extend(drained(pipe.ends[0]).splitlines()))
    lines: list[bytes] = []
    reader.start()
    while pipe_is_full():
        threading.Event().wait(0.001)  # until the reader has made room: the next line finds it
    log.info("last")
    for stop in pipe.stops:
        stop()
    os.close(pipe.ends[1])
    reader.join()

    events = [json.loads(line) for line in lines]
    kept = [event["number"] for event in events if event["event"] == "line"]
    dropped = [int(event["event"].split()[0]) for event in events if "were dropped" in event["event"]]
    assert kept == sorted(kept)
    assert dropped
    assert len(kept) + sum(dropped) == 5_000
    assert events[-1]["event"] == "last"


def pipe_is_full() -> bool:
    [funnel] = logging.getLogger().handlers
    return isinstance(funnel, logs._Funnel) and funnel.queue.full()


def test_a_stop_does_not_wait_for_ever_for_a_reader_that_stalls(pipe: Pipe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "STOP_TIMEOUT_S", 0.01)
    pipe.start(lines_max=10)
    for _ in range(2_000):
        log.info("line", text="x" * 100)
    for stop in pipe.stops:
        stop()  # comes back


def test_a_reader_that_is_gone_ends_nothing(pipe: Pipe):
    pipe.start()
    os.close(pipe.ends[0])
    log.info("into the void")
    for stop in pipe.stops:
        stop()


def test_a_line_that_cannot_be_formatted_is_named_and_the_next_one_comes(pipe: Pipe):
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    pipe.start()
    log.info("hostile", value=Hostile())
    log.info("next")
    first, second = pipe.text().splitlines()
    assert first == "a log line from landingd.test cannot be formatted: RuntimeError('no text')"
    assert json.loads(second)["event"] == "next"


def fail_with(password: str) -> None:
    raise ValueError(f"refused after {len(password)} letters")


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("logger", [log, logging.getLogger("library")])
def test_an_exception_keeps_its_traceback_and_shows_no_variables(pipe: Pipe, log_format: str, logger: Any):
    pipe.start(log_format=log_format)
    try:
        fail_with(password="hunter" + "2")
    except ValueError:
        logger.log(logging.ERROR, "failed", exc_info=True)
    text = pipe.text()
    assert "fail_with" in text
    assert "ValueError: refused after 7 letters" in text
    assert "hunter2" not in text


def test_under_systemd_each_line_starts_with_its_priority(pipe: Pipe):
    status = os.fstat(pipe.ends[1])
    pipe.start(level="debug", environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("x")
    assert [line[:4] for line in pipe.text().splitlines()] == ["<7>{", "<6>{", "<4>{", "<3>{", "<3>{"]


def test_another_process_stream_is_no_journal(pipe: Pipe):
    pipe.start(environ={"JOURNAL_STREAM": "1:1"})
    log.info("x")
    assert pipe.text().startswith("{")


def test_a_terminal_gets_text_in_colours(pipe: Pipe):
    primary, terminal = os.openpty()
    stop = logs.start_logging(fd=terminal, environ={})
    log.info("hello", rows=1)
    stop()
    os.close(terminal)
    text = os.read(primary, 4096).decode()
    os.close(primary)
    assert "\x1b[" in text
    assert "hello" in text
    assert not text.startswith("{")


def test_below_the_level_nothing_is_written_and_talkative_libraries_are_quiet(pipe: Pipe):
    pipe.start(level="info")
    log.debug("no")
    logging.getLogger("uvicorn.access").info("no")
    logging.getLogger("amqtt.broker").error("no")
    logging.getLogger("asyncio").info("no")
    log.info("yes")
    assert [event["event"] for event in pipe.events()] == ["yes"]


def test_a_quiet_library_does_not_get_louder_than_the_rest(pipe: Pipe):
    pipe.start(level="error")
    logging.getLogger("watchdog").warning("no")
    assert pipe.text() == ""


def test_python_warnings_are_part_of_the_log(pipe: Pipe):
    pipe.start()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "UserWarning: old" in pipe.events()[0]["event"]
