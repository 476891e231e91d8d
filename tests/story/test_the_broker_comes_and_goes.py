"""Events lie in the ledger until the broker has them, so a broker that is away loses none."""

import asyncio
import itertools
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from brokers import Mosquitto, free_port
from daemons import ORDERS, LandingdProcess, orders
from listening import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_BY_ONE = {
    **ORDERS,
    "orders/job.yml": ORDERS["orders/job.yml"].replace('"*.csv*"', '"*.csv", max_files_per_trigger: 1'),
    "other/job.yml": """
        name: other
        triggers: [{file_arrival: {path: other, max_files_per_trigger: 1}}]
        tasks: [{task_key: bronze, ingest: {}, table: bronze.other}]
        """,
}
RUNS = 200
STOPS = 5


class Cable:
    """The line between the daemon and the broker, which can be pulled out and put back."""

    def __init__(self, broker_port: int) -> None:
        self.port = free_port()
        self._broker_port = broker_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._flows: set[asyncio.Task[None]] = set()

    @classmethod
    @contextmanager
    def to(cls, broker_port: int) -> "Iterator[Cable]":
        cable = cls(broker_port)
        cable._thread.start()
        cable.put_back()
        try:
            yield cable
        finally:
            cable.pull()
            cable._loop.call_soon_threadsafe(cable._loop.stop)
            cable._thread.join()
            cable._loop.close()

    def put_back(self) -> None:
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def pull(self) -> None:
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for flow in (flows := tuple(self._flows)):
            flow.cancel()
        await asyncio.gather(*flows, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flow = asyncio.current_task()
        assert flow is not None
        self._flows.add(flow)
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
            there = asyncio.create_task(_pump(reader, far_writer))
            back = asyncio.create_task(_pump(far_reader, writer))
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                far_writer.transport.abort()
        writer.transport.abort()
        self._flows.discard(flow)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()


@pytest.mark.timeout(120)
def test_every_end_of_200_runs_arrives_in_order_though_the_broker_is_killed_again_and_again(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """The subscriber is there before the daemon's line is put back: it could not hear what is said without it."""
    with (
        Subscriber(broker.port) as ear,
        Cable.to(broker.port) as cable,
        LandingdProcess(tmp_path / "base", ONE_BY_ONE, broker_port=cable.port) as daemon,
    ):
        for stop in range(STOPS):
            drop(daemon, stop * RUNS // STOPS, RUNS // STOPS // 2)
            heard = len(ear.events("run_finished"))
            ear.until(lambda heard=heard: len(ear.events("run_finished")) > heard)
            subscriptions = ear.subscriptions
            if stop % 2:
                cable.pull()  # between two packets, or in the middle of one
            else:
                broker.kill()
                cable.pull()
            ended = _ended(daemon)
            drop(daemon, stop * RUNS // STOPS + RUNS // STOPS // 2, RUNS // STOPS // 2)
            daemon.until(lambda ended=ended: _ended(daemon) > ended)
            if not stop % 2:
                broker.start()
                ear.until_subscribed(subscriptions + 1)
            cable.put_back()
        daemon.until(lambda: _ended(daemon) == RUNS, timeout_s=60)
        daemon.until(lambda: not daemon.ledger("SELECT 1 FROM outbox LIMIT 1"))
        runs = {row["run_id"]: row["job"] for row in daemon.ledger("SELECT run_id, job FROM runs")}
        ear.until(lambda: {event["run_id"] for event in ear.events("run_finished")} == runs.keys())

        finished = ear.events("run_finished")
        ids = {(event["run_id"], event["event_id"]) for event in finished}
        assert len(ids) == len(runs), "a repeat carries the event id of the first"
        for job in ("orders", "other"):
            first_told = dict.fromkeys(event["run_id"] for event in finished if event["job"] == job)
            assert list(first_told) == sorted(run_id for run_id in runs if runs[run_id] == job)
        for run_id in runs:
            told = [event["event"] for event in ear.events() if event.get("run_id") == run_id]
            firsts = [kind for kind in dict.fromkeys(told) if kind.startswith("run_")]
            assert firsts == ["run_queued", "run_started", "run_finished"]
        retained = ear.retained()
        assert retained["landingd/story/status"]["state"] == "online"
        assert {f"landingd/story/jobs/{job}/state" for job in ("orders", "other")} <= retained.keys()


def drop(daemon: LandingdProcess, first: int, count: int) -> None:
    """Files that are a run each; one in four is for the other job."""
    for number in range(first, first + count):
        if number % 4:
            daemon.drop(f"orders/{number:03}.csv", orders((number, "ada", 1)))
        else:
            daemon.drop(f"other/{number:03}.csv", f"id\n{number}\n")


def _ended(daemon: LandingdProcess) -> int:
    return int(daemon.ledger("SELECT count(*) AS n FROM runs WHERE state = 'TERMINATED'")[0]["n"])


def test_what_happens_while_there_is_no_broker_is_told_later(tmp_path: Path, broker: Mosquitto) -> None:
    broker.kill()
    base = tmp_path / "base"
    with LandingdProcess(base, broker_port=broker.port) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        assert daemon.cli("status")["untold_events"] > 0
        assert daemon.stop() == 0
    broker.start()
    with Subscriber(broker.port) as ear, LandingdProcess(base, broker_port=broker.port) as daemon:
        ear.until(lambda: ear.events("run_finished"))
        kinds = [event["event"] for event in ear.events()]
        assert kinds[0] == "file_landed"
        assert kinds[-1] == "run_finished"
        for earlier, later in itertools.pairwise(event["time"] for event in ear.events()):
            assert earlier <= later
        daemon.until(lambda: daemon.cli("status")["untold_events"] == 0)


def test_a_broker_that_hangs_holds_up_neither_a_run_nor_a_stop(tmp_path: Path, broker: Mosquitto) -> None:
    with LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        daemon.until(lambda: daemon.get("/v1/status")["broker"].startswith("connected"))
        broker.hang()
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(timeout_s=15) == 0
        assert daemon.ledger("SELECT count(*) AS n FROM outbox")[0]["n"] > 0
