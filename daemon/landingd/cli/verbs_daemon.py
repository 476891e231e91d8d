"""Verbs about the daemon itself and what it holds."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from landingd.cli import common
from landingd.cli.common import DAEMON, Json, app
from landingd.errors import JobFileError, LandingdError, RefusedError


@app.command(rich_help_panel=DAEMON)
def serve(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="landingd.toml.")] = None,
) -> None:
    """Run the daemon until SIGTERM. SIGHUP reloads the jobs."""
    import structlog

    from landingd.edge.engine import EngineBrokenError
    from landingd.edge.logs import start_logging
    from landingd.supervisor import Daemon

    settings = common.settings(config)
    stop_logging = start_logging(level=settings.log.level, log_format=settings.log.format)
    try:
        asyncio.run(_serve(Daemon(settings, os.environ)))
    except* JobFileError as group:
        error = _first(group)
        error.exit_code = 78
        raise error from None
    except* LandingdError as group:
        raise _first(group) from None
    except* EngineBrokenError as group:
        raise LandingdError(
            f"the warehouse has to be opened anew: {_first(group)}", hint="start the daemon again"
        ) from None
    except* Exception as group:  # noqa: BLE001 -- the log gets it whole, the person one line
        structlog.get_logger("landingd").critical("died", exc_info=group)
        raise LandingdError(f"the daemon died: {_first(group)!r}", hint="its log holds the traceback") from None
    finally:
        stop_logging()


async def _serve(daemon: Any) -> None:
    await daemon.serve()


def _first(group: BaseExceptionGroup[Any]) -> Any:
    error: Any = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@app.command(rich_help_panel=DAEMON)
def status(json: Json = False) -> None:
    """How the daemon stands."""
    from landingd.cli import printing, render

    answer = common.asker().status()
    printing.as_json(answer) if json else render.status(answer)


@app.command(rich_help_panel=DAEMON)
def reload(json: Json = False) -> None:
    """Let the running daemon read its jobs again (as SIGHUP does); a bad file keeps the old jobs."""
    from landingd.cli import printing

    answer = common.asker().daemon.post("/v1/reload")
    printing.as_json(answer) if json else print(f"jobs: {', '.join(answer['jobs'])}")


@app.command(rich_help_panel=DAEMON)
def query(
    sql: str,
    output: Annotated[str, typer.Option("--format", "-f", help="table, csv, json or parquet.")] = "table",
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file instead of standard output.")
    ] = None,
    json: Json = False,
) -> None:
    """The rows of one SELECT, through the running daemon; nothing can be written."""
    from landingd.cli import render

    format_ = "json" if json else output
    if format_ not in {"table", "csv", "json", "parquet"}:
        raise RefusedError(f"unknown format '{format_}'", hint="one of table, csv, json, parquet")
    answer = common.asker().query(sql, "json" if format_ == "table" else format_)
    if format_ == "table" and to is None:
        render.rows(answer)
    elif to is not None:
        to.write_bytes(answer)
    elif format_ == "parquet" and sys.stdout.isatty():
        raise RefusedError("Parquet is no text", hint="name a file with --output, or pipe it somewhere")
    else:
        sys.stdout.buffer.write(answer)


@app.command(rich_help_panel=DAEMON)
def watch(
    count: Annotated[int, typer.Option(min=0, help="Leave after so many messages; 0: never.")] = 0,
    json: Json = False,
) -> None:
    """The daemon's MQTT topics, live."""
    from landingd.cli.watching import follow

    asyncio.run(follow(common.settings(), count=count, as_json=json))


@app.command(rich_help_panel=DAEMON)
def demo(
    scale: Annotated[float, typer.Option(min=0.01, max=100.0, help="How much sample data.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the generator.")] = 7,
) -> None:
    """Start a daemon, drop sample files, watch them become gold, and leave."""
    from landingd.cli.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(common.settings(), scale=scale, seed=seed)))
