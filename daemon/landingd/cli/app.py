"""The verbs of `landingd`. Each is a few lines: ask, then print; `--json` prints the answer as it is."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landingd import __version__
from landingd.errors import JobFileError, LandingdError, RefusedError

if TYPE_CHECKING:
    from landingd.cli.asking import Asker
    from landingd.core.redo import Asked
    from landingd.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Files dropped into landing directories become bronze, silver and gold tables, exactly once.",
)

_config: Path | None = None

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Wait = Annotated[bool, typer.Option(help="Wait for the end; the exit code tells the result.")]
RequestId = Annotated[str | None, typer.Option(help="The same request id gives the same run (an idempotency token).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; writes nothing.")]
JobOption = Annotated[str | None, typer.Option("--job", help="Only for this job.")]
_A_FILE = "A path (below the landing root or absolute), its end, or an id (#17)."
Files = Annotated[list[str], typer.Argument(help=_A_FILE)]
OptionalFiles = Annotated[list[str] | None, typer.Argument(help=_A_FILE)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]

_FINE = frozenset({"SUCCESS", "SUCCESS_WITH_FAILURES"})


def _version(wanted: bool) -> None:
    if wanted:
        print(f"landingd {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="landingd.toml; else $LANDINGD_CONFIG, config/, /etc/landingd/."),
    ] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an unexpected fault came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version, traceback  # read where they act
    global _config  # noqa: PLW0603 -- typer hands the option to the callback, the verbs need it
    _config = config


def _settings() -> "Settings":
    from landingd.settings import load

    return load(_config)


def _asker() -> "Asker":
    from landingd.cli.asking import Asker

    return Asker(_settings())


def _parameters(given: list[str]) -> dict[str, str]:
    pairs = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RefusedError(f"-p {pair}: a parameter is given as name=value")
        pairs[name] = value
    return pairs


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="landingd.toml.")] = None,
) -> None:
    """Run the daemon until SIGTERM. SIGHUP reloads the jobs."""
    import structlog

    from landingd.edge.engine import EngineBrokenError
    from landingd.edge.logs import start_logging
    from landingd.settings import load
    from landingd.supervisor import Daemon

    settings = load(config or _config)
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


@app.command()
def validate(json: Json = False) -> None:
    """Check every job file and bind every SQL file; writes nothing. Exit code 1 if anything is wrong."""
    from landingd.cli import render

    try:
        catalog = _asker().catalog()
    except JobFileError as error:
        if json:
            render.as_json({"valid": False, "problems": [render.problem(p) for p in error.problems]})
            raise typer.Exit(1) from None
        print(error, file=sys.stderr)
        count = len(error.problems)
        print(f"{count} problem{'' if count == 1 else 's'}", file=sys.stderr)
        raise typer.Exit(1) from None
    if json:
        render.as_json({"valid": True, "unbound": [render.problem(p) for p in catalog.unbound]})
    else:
        render.valid(catalog)


@app.command()
def run(
    job: str,
    parameter: Annotated[list[str] | None, typer.Option("--param", "-p", help="name=value; may be repeated.")] = None,
    request_id: RequestId = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Run a job now: in the running daemon, or once by itself if none runs."""
    from landingd.cli import render

    asker = _asker()
    parameters = _parameters(parameter or [])
    if asker.daemon.runs:
        started = asker.daemon.post("/v1/runs", job=job, parameters=parameters, request_id=request_id)
        run_id = int(started["run_id"])
        answer = render.wait_for_run(asker, run_id, quiet=json) if wait else started
    else:
        from landingd.cli.alone import alone, run_once

        run_id = alone(asker.settings, run_once(asker.settings, job, parameters, request_id=request_id))
        answer = asker.run(run_id)
    _print_run(answer, json=json)


@app.command()
def repair(run_id: int, wait: Wait = True, json: Json = False) -> None:
    """Run the failed and skipped tasks of a finished run again, under the same run id."""
    from landingd.cli import render

    asker = _asker()
    if asker.daemon.runs:
        started = asker.daemon.post(f"/v1/runs/{run_id}/repair")
        answer = render.wait_for_run(asker, run_id, quiet=json) if wait else started
    else:
        from landingd.cli.alone import alone, repair_once

        alone(asker.settings, repair_once(asker.settings, run_id))
        answer = asker.run(run_id)
    _print_run(answer, json=json)


def _print_run(answer: dict[str, Any], *, json: bool) -> None:
    from landingd.cli import render

    if json:
        render.as_json(answer)
    elif "tasks" in answer and "state" in answer:
        render.run(answer)
    else:
        print(f"run {answer['run_id']} of {answer['job']} is queued")
    if answer.get("result") not in {None, *_FINE}:
        raise typer.Exit(1)


@app.command()
def status(json: Json = False) -> None:
    """How the daemon stands."""
    from landingd.cli import render

    answer = _asker().status()
    render.as_json(answer) if json else render.status(answer)


@app.command()
def runs(job: Annotated[str | None, typer.Argument()] = None, limit: Limit = 20, json: Json = False) -> None:
    """The newest runs, of all jobs or of one."""
    from landingd.cli import render

    answer = _asker().runs(job, limit)
    render.as_json(answer) if json else render.runs(answer)


@app.command()
def show(run_id: int, json: Json = False) -> None:
    """One run: its tasks, attempts, errors and files."""
    from landingd.cli import render

    answer = _asker().run(run_id)
    render.as_json(answer) if json else render.run(answer)


@app.command()
def files(
    state: Annotated[
        str | None,
        typer.Option(help="waiting, loaded, duplicate, quarantined, replaced, retracted or ignored."),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only of this job.")] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """File versions and where they stand."""
    from landingd.cli import render

    answer = _asker().files(state, job, limit)
    render.as_json(answer) if json else render.files(answer)


@app.command()
def why(file: str, json: Json = False) -> None:
    """A file's whole story: seen, complete by what proof, loaded by which run, rejected rows, versions."""
    from landingd.cli import render

    answer = _asker().why(file)
    render.as_json(answer) if json else render.why(answer)


@app.command()
def census(
    job: Annotated[str | None, typer.Argument()] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Count the rows of the tables too.")] = False,
    json: Json = False,
) -> None:
    """Count every file on disk against the ledger. Exit code 1 if that does not add up."""
    from landingd.cli import render

    answer = _asker().census(job, rows=rows)
    render.as_json(answer) if json else render.census(answer)
    if not answer["adds_up"]:
        raise typer.Exit(1)


@app.command()
def unload(
    file: Files,
    *,
    job: JobOption = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    request_id: RequestId = None,
    json: Json = False,
) -> None:
    """Take the rows of files out of every table; the files stay, and replay brings the rows back."""
    from landingd.core.redo import Asked, Verb

    asked = Asked(Verb.UNLOAD, _named(file), job, dry_run=dry_run, request_id=request_id)
    _redo(asked, wait=wait, json=json)


@app.command()
def replay(
    file: OptionalFiles = None,
    *,
    since: Annotated[str | None, typer.Option(help="Seen or loaded since: 2h, 7d, 2026-11-05T08:00 (UTC).")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Quarantined, or left over by a run that failed.")] = False,
    job: JobOption = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    request_id: RequestId = None,
    json: Json = False,
) -> None:
    """Load files anew, from where they lie or from the archive; their old rows leave in the same transaction."""
    from landingd.core.redo import Asked, Verb

    asked = Asked(Verb.REPLAY, _named(file), job, since, failed=failed, dry_run=dry_run, request_id=request_id)
    _redo(asked, wait=wait, json=json)


@app.command()
def requeue(
    file: OptionalFiles = None,
    *,
    job: JobOption = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    request_id: RequestId = None,
    json: Json = False,
) -> None:
    """After a fix: load what was quarantined, and files with rejected or quarantined rows; all of them, or these."""
    from landingd.core.redo import Asked, Verb

    asked = Asked(Verb.REQUEUE, _named(file), job, dry_run=dry_run, request_id=request_id)
    _redo(asked, wait=wait, json=json)


def _named(given: list[str] | None) -> tuple[str, ...]:
    """What the shell completed from where we stand becomes absolute; what is named otherwise is left to the daemon."""
    root = str(_settings().landing_dir)
    return tuple(_absolute(file, root) for file in given or ())


def _absolute(file: str, root: str) -> str:
    path = os.path.join(os.path.realpath(os.path.dirname(file)), os.path.basename(file))  # noqa: PTH120 -- a link itself is not followed
    return path if path.startswith(f"{root}/") and os.path.lexists(file) else file


def _redo(asked: "Asked", *, wait: bool, json: bool) -> None:
    from landingd.cli import render

    asker = _asker()
    answer = asker.redo(asked)
    ended = [render.wait_for_run(asker, run["run_id"], quiet=json) for run in answer["runs"]] if wait else []
    if json:
        render.as_json(answer | {"ended": ended} if wait and not asked.dry_run else answer)
    else:
        render.redone(answer)
        for one in ended:
            render.run(one)
    if answer["refused"]:
        raise typer.Exit(RefusedError.exit_code)
    if any(one["result"] not in _FINE for one in ended):
        raise typer.Exit(1)


@app.command()
def plan(job: str, json: Json = False) -> None:
    """What a run of the job would do now, and how each table would be refreshed."""
    from landingd.cli import render

    answer = _asker().plan(job)
    render.as_json(answer) if json else render.plan(answer)


@app.command()
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
    answer = _asker().query(sql, "json" if format_ == "table" else format_)
    if format_ == "table" and to is None:
        render.rows(answer)
    elif to is not None:
        to.write_bytes(answer)
    elif format_ == "parquet" and sys.stdout.isatty():
        raise RefusedError("Parquet is no text", hint="name a file with --output, or pipe it somewhere")
    else:
        sys.stdout.buffer.write(answer)


@app.command()
def reload(json: Json = False) -> None:
    """Let the running daemon read its jobs again (as SIGHUP does); a bad file keeps the old jobs."""
    from landingd.cli import render

    answer = _asker().daemon.post("/v1/reload")
    render.as_json(answer) if json else print(f"jobs: {', '.join(answer['jobs'])}")


@app.command()
def watch(
    count: Annotated[int, typer.Option(min=0, help="Leave after so many messages; 0: never.")] = 0,
    json: Json = False,
) -> None:
    """The daemon's MQTT topics, live."""
    from landingd.cli.watching import follow

    asyncio.run(follow(_settings(), count=count, as_json=json))


@app.command()
def demo(
    scale: Annotated[float, typer.Option(min=0.01, max=100.0, help="How much sample data.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the generator.")] = 7,
) -> None:
    """Start a daemon, drop sample files, watch them become gold, and leave."""
    from landingd.cli.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(_settings(), scale=scale, seed=seed)))
