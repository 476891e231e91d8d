"""Verbs about files."""

import os
from typing import Annotated, Any

import typer

from landingd.cli import common
from landingd.cli.common import FILES, DryRun, JobOption, Json, Limit, OptionalJob, RequestId, Wait, app
from landingd.errors import RefusedError

_A_FILE = "A path (below the landing root or absolute), its end, or an id (#17)."
Files = Annotated[list[str], typer.Argument(help=_A_FILE)]
OptionalFiles = Annotated[list[str] | None, typer.Argument(help=_A_FILE)]


@app.command(rich_help_panel=FILES)
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
    from landingd.cli import printing, render_files

    answer = common.asker().files(state, job, limit)
    printing.as_json(answer) if json else render_files.files(answer)


@app.command(rich_help_panel=FILES)
def why(file: str, json: Json = False) -> None:
    """A file's whole story: seen, complete by what proof, loaded by which run, rejected rows, versions."""
    from landingd.cli import printing, render_files

    answer = common.asker().why(file)
    printing.as_json(answer) if json else render_files.why(answer)


@app.command(rich_help_panel=FILES)
def census(
    job: OptionalJob = None,
    rows: Annotated[bool, typer.Option("--rows", help="Count the rows of the tables too.")] = False,
    json: Json = False,
) -> None:
    """Count every file on disk against the ledger. Exit code 1 if that does not add up."""
    from landingd.cli import printing, render_files

    answer = common.asker().census(job, rows=rows)
    printing.as_json(answer) if json else render_files.census(answer)
    if not answer["adds_up"]:
        raise typer.Exit(1)


@app.command(rich_help_panel=FILES)
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
    _redo("unload", file, job=job, dry_run=dry_run, request_id=request_id, wait=wait, json=json)


@app.command(rich_help_panel=FILES)
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
    chosen = {"since": since, "failed": failed, "job": job}
    _redo("replay", file, **chosen, dry_run=dry_run, request_id=request_id, wait=wait, json=json)


@app.command(rich_help_panel=FILES)
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
    _redo("requeue", file, job=job, dry_run=dry_run, request_id=request_id, wait=wait, json=json)


def _named(given: list[str] | None) -> tuple[str, ...]:
    """What the shell completed from where we stand becomes absolute; what is named otherwise is left to the daemon."""
    root = str(common.settings().landing_dir)
    return tuple(_absolute(file, root) for file in given or ())


def _absolute(file: str, root: str) -> str:
    path = os.path.join(os.path.realpath(os.path.dirname(file)), os.path.basename(file))  # noqa: PTH120 -- a link itself is not followed
    return path if path.startswith(f"{root}/") and os.path.lexists(file) else file


def _redo(verb: str, files: list[str] | None, *, wait: bool, json: bool, **asked: Any) -> None:
    """Ask for it, and tell what it comes to. `asked`: the options that are the request's own; see Asked."""
    from landingd.cli import printing, render_files, render_runs, waiting
    from landingd.core.redo import Asked, Verb

    asker = common.asker()
    answer = asker.redo(Asked(Verb(verb), _named(files), **asked))
    ended = [waiting.for_run(asker, run["run_id"], quiet=json) for run in answer["runs"]] if wait else []
    if json:
        printing.as_json(answer | {"ended": ended} if wait and not answer["dry_run"] else answer)
    else:
        render_files.redone(answer)
        for one in ended:
            render_runs.run(one)
    if answer["refused"]:
        raise typer.Exit(RefusedError.exit_code)
    if any(one["result"] not in common.FINE for one in ended):
        raise typer.Exit(1)
