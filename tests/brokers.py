"""Private MQTT brokers for tests: a real Mosquitto that can be stopped, killed, hung and started again."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import aiomqtt
import pytest

START_TIMEOUT_S = 20.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def needed(program: str) -> str:
    """Where a program is. Without it a test is skipped on a laptop and fails in CI, so that none goes missing."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not installed")
    pytest.skip(f"{program} is not installed")


class Mosquitto:
    """A broker on a loopback port that it keeps over restarts; it forgets everything else.

    `users` maps names to passwords; without it anybody may connect. `tls` is a folder made by `certificates`.
    """

    def __init__(self, folder: Path, *, users: dict[str, str] | None = None, tls: Path | None = None) -> None:
        self._program = needed("mosquitto")
        self._folder = folder
        self._users = users
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Return when it takes connections."""
        config = self._folder / "mosquitto.conf"
        config.write_text(self._config())
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(config)], stderr=log)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                pytest.fail(f"mosquitto does not start:\n{(self._folder / 'mosquitto.log').read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """An orderly end: its clients are told."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.kill()
        self.start()

    def hang(self) -> None:
        """It keeps its connections and answers nothing."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def _end(self, how: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _config(self) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence false",
            "log_dest stderr",
            "max_queued_messages 0",
            f"allow_anonymous {'false' if self._users else 'true'}",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # it would change to one that may not read a test's files
        if self._users:
            lines.append(f"password_file {self._password_file(self._users)}")
        if self._tls:
            lines += [f"certfile {self._tls}/server.pem", f"keyfile {self._tls}/server.key"]
        return "\n".join(lines) + "\n"

    def _password_file(self, users: dict[str, str]) -> Path:
        file = self._folder / "passwords"
        file.touch(mode=0o600)
        for name, password in users.items():
            command = [needed("mosquitto_passwd"), "-b", str(file), name, password]
            subprocess.run(command, check=True, capture_output=True)
        return file


def certificates(folder: Path) -> Path:
    """Make a throwaway authority, `ca.pem`, and a certificate of it for 127.0.0.1, `server.pem` and `.key`."""
    openssl = needed("openssl")
    folder.mkdir()

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run("req", "-x509", *key, *usage, "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")
    run("req", *key, "-subj", "/CN=broker", "-keyout", "server.key", "-out", "server.csr")
    sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san")
    run("x509", "-req", "-in", "server.csr", *sign, "-out", "server.pem")
    return folder


class Observer:
    """Another client of the broker, which keeps all that it is sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self._news = asyncio.Condition()

    async def until(self, predicate: Callable[[list[tuple[str, bytes]]], bool]) -> None:
        """Wait until what was seen so far is enough; a test's own timeout ends a wait for what never comes."""
        async with self._news:
            await self._news.wait_for(lambda: predicate(self.seen))

    async def saw(self, topic: str, payload: bytes) -> None:
        await self.until(lambda seen: (topic, payload) in seen)

    async def _watch(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            async with self._news:
                self.seen.append((message.topic.value, bytes(message.payload)))  # type: ignore[arg-type]
                self._news.notify_all()


@asynccontextmanager
async def observing(port: int, topic: str = "#") -> AsyncIterator[Observer]:
    """Watch a broker from outside, retained messages first; subscribed when the block begins."""
    observer = Observer()
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(topic, qos=1)
        watch = asyncio.create_task(observer._watch(client))
        try:
            yield observer
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
