"""Show it: a real daemon, real files, a real subscriber, and the gold table at the end."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from landingd.cli import render, render_runs, sample, watching
from landingd.cli.asking import Asker
from landingd.edge.broker import Incoming, LinkLost, Message, connect
from landingd.errors import LandingdError, RefusedError
from landingd.settings import Settings
from landingd.supervisor import broker_address

JOB = "ecommerce"
MARKER = ".demo"
START_TIMEOUT_S = 30.0
LOAD_TIMEOUT_S = 300.0


async def run_demo(settings: Settings, *, scale: float, seed: int) -> int:
    """Returns the exit code: 0 if every sample file was loaded and gold is there."""
    out = Console(highlight=False)
    _clear_last_demo(settings)
    folder = settings.landing_dir / JOB
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.landing_dir.parent, prefix=".sample-") as made:
        files = sample.write_sample(Path(made), seed=seed, scale=scale)
        out.print(f"[bold]landingd demo[/]: {len(files)} sample files made; starting the daemon")
        async with _daemon(settings) as environment:
            asker = Asker(environment)
            runs = await _watch_and_drop(asker, files, folder, out)
            _show(asker, runs, out)
    (settings.state_dir / MARKER).write_text(_newest(settings))
    out.print(
        f"Everything stays in {settings.state_dir}: try [bold]landingd runs[/], [bold]landingd why 2019-Oct.csv[/]"
    )
    return 0


def _clear_last_demo(settings: Settings) -> None:
    """Start from nothing, but only over what an earlier demo left."""
    state = settings.state_dir
    if Asker(settings).daemon.runs:
        raise RefusedError(f"a daemon runs on {state}", hint="the demo starts its own; stop that one first")
    if _is_a_demos(settings):
        shutil.rmtree(state)
        shutil.rmtree(settings.landing_dir / JOB, ignore_errors=True)
    elif (state / "ledger.sqlite").exists() or (state / "warehouse.duckdb").exists():
        raise RefusedError(
            f"{state} holds a ledger that is not a demo's",
            hint="the demo would delete it; use another --config",
        )
    state.mkdir(parents=True, exist_ok=True)
    (state / MARKER).touch()


def _is_a_demos(settings: Settings) -> bool:
    """Whether the state is what the last demo left, and nothing has been loaded since."""
    marker = settings.state_dir / MARKER
    return marker.exists() and marker.read_text() in {"", _newest(settings)}


def _newest(settings: Settings) -> str:
    """The newest run and file of the ledger: other numbers mean that somebody has used it."""
    if not settings.ledger_file.exists():
        return ""
    from landingd.edge.ledger import views

    with contextlib.closing(views.open_views(settings.ledger_file)) as db:
        return views.newest_ids(db)


@contextlib.asynccontextmanager
async def _daemon(settings: Settings) -> Any:
    """`landingd serve` as it is installed, with the embedded broker on a free port."""
    port = _free_port()
    changed = {
        "LANDINGD_BROKER__EMBEDDED": "true",
        "LANDINGD_BROKER__PORT": str(port),
        "LANDINGD_MQTT__ENABLED": "true",
        "LANDINGD_MQTT__HOST": "127.0.0.1",
        "LANDINGD_MQTT__PORT": str(port),
        "LANDINGD_LOG__FORMAT": "json",
    }
    os.environ.update(changed)
    log_file = settings.state_dir / "demo.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "landingd", "serve", stderr=log, stdout=log, env={**os.environ}
        )
    try:
        from landingd.settings import load

        environment = load(None)
        await _until_up(Asker(environment), process, log_file)
        yield environment
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_up(asker: Asker, process: asyncio.subprocess.Process, log_file: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not asker.daemon.runs:
            if process.returncode is not None:
                raise LandingdError(f"the daemon did not start:\n{_tail(log_file)}")
            await asyncio.sleep(0.05)


def _tail(log_file: Path) -> str:
    return log_file.read_text()[-2000:]


async def _watch_and_drop(asker: Asker, files: list[Path], folder: Path, out: Console) -> list[int]:
    """Subscribe, move the files in one by one, and return the runs that took them, once all have ended."""
    settings = asker.settings
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    heard: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
    with Progress(*columns, console=out) as progress:
        async with connect(
            broker_address(settings),
            will=Message(f"{settings.topic_root}/demo", b"{}"),
            client_id="landingd-demo",
        ) as link:
            await link.subscribe([f"{settings.topic_root}/#"])

            def hear(message: Incoming) -> None:
                heard.put_nowait((message.topic, json.loads(message.payload or b"{}")))

            listening = asyncio.create_task(link.listen({"#": hear}))
            bar = progress.add_task("loaded", total=len(files))
            dropping = asyncio.create_task(_drop(files, folder))
            try:
                return await _until_gold(settings, heard, progress, bar, len(files))
            finally:
                await dropping
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError, LinkLost):
                    await listening


async def _drop(files: list[Path], folder: Path) -> None:
    for file in files:
        file.rename(folder / file.name)
        await asyncio.sleep(0.15)  # as producers do: not all at once


async def _until_gold(
    settings: Settings,
    heard: "asyncio.Queue[tuple[str, dict[str, Any]]]",
    progress: Progress,
    bar: Any,
    total: int,
) -> list[int]:
    """Print what the subscriber hears until every file is loaded and the run that took the last one has ended."""
    loaded: set[str] = set()
    open_runs: set[int] = set()
    ended: list[int] = []
    async with asyncio.timeout(LOAD_TIMEOUT_S):
        while len(loaded) < total or open_runs:
            topic, payload = await heard.get()
            progress.console.print(watching.line(topic.removeprefix(f"{settings.topic_root}/"), payload))
            match payload.get("event"):
                case "file_loaded" | "file_quarantined":
                    loaded.add(payload["file"])
                    open_runs.add(payload["run_id"])
                    open_runs -= set(ended)
                    progress.update(bar, completed=len(loaded))
                case "run_finished":
                    ended.append(payload["run_id"])
                    open_runs.discard(payload["run_id"])
    return ended


def _show(asker: Asker, runs: list[int], out: Console) -> None:
    out.print()
    gold = asker.query("SELECT * FROM gold.revenue_by_brand ORDER BY revenue DESC LIMIT 10", "json")
    render.rows(gold, title="gold.revenue_by_brand (the ten largest)")
    out.print("\n[bold]How long it took[/]")
    for run_id in runs:
        run = asker.run(run_id)
        names = ", ".join(Path(file["file"]).name for file in run["files"])
        out.print(f"run {run_id}: {names}")
        render_runs.timings(run["timings"], out)
