"""What arrives at systemd's socket, with a socket of our own in its place."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from landingd.edge.notify import Notify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@landingd-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1))
        sock.settimeout(10)
        yield sock, name


def test_each_message_arrives_word_for_word(manager: tuple[socket.socket, str]):
    sock, name = manager
    notify = Notify({"NOTIFY_SOCKET": name})

    notify.ready("watching /srv/landing")
    assert sock.recv(4096) == b"READY=1\nSTATUS=watching /srv/landing"
    notify.status("3 runs")
    assert sock.recv(4096) == b"STATUS=3 runs"
    notify.watchdog()
    assert sock.recv(4096) == b"WATCHDOG=1"
    notify.stopping()
    assert sock.recv(4096) == b"STOPPING=1"


def test_a_reload_carries_the_monotonic_time_that_newer_systemd_asks_for(manager: tuple[socket.socket, str]):
    sock, name = manager
    Notify({"NOTIFY_SOCKET": name}).reloading()
    first, second = sock.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_a_status_cannot_smuggle_in_another_message(manager: tuple[socket.socket, str]):
    sock, name = manager
    Notify({"NOTIFY_SOCKET": name}).status("loaded a\nREADY=1\rb\x85c\u2028d.csv")
    assert sock.recv(4096) == b"STATUS=loaded a READY=1 b c d.csv"


def test_outside_of_systemd_nothing_happens():
    notify = Notify({})
    notify.ready("up")
    notify.watchdog()
    assert notify.watchdog_interval_s() is None


def test_a_socket_that_is_not_there_is_told_once_and_then_left_alone(tmp_path: Path):
    with capture_logs() as logs:
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")})
        notify.ready("up")
        notify.watchdog()
    assert [entry["event"] for entry in logs] == ["notify_socket_unusable"]


def test_a_socket_that_goes_away_later_does_no_harm(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notify.ready("up")


def test_the_watchdog_is_fed_twice_in_its_time():
    mine = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notify(mine).watchdog_interval_s() == 15.0
    assert Notify({"WATCHDOG_USEC": "30000000"}).watchdog_interval_s() == 15.0


@pytest.mark.parametrize("usec", ["", "0", "soon"])
def test_no_usable_deadline_is_no_watchdog(usec: str):
    assert Notify({"WATCHDOG_USEC": usec}).watchdog_interval_s() is None


def test_a_deadline_meant_for_another_process_is_not_ours():
    other = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notify(other).watchdog_interval_s() is None
