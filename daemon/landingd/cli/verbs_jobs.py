"""Verbs about jobs and what starts them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from landingd.cli import common
from landingd.cli.common import JOBS, Json, Limit, app
from landingd.errors import JobFileError, RefusedError

TriggerOption = Annotated[
    str | None, typer.Option("--trigger", "-t", help="Only this trigger of the job: landingd triggers JOB lists them.")
]


@app.command(rich_help_panel=JOBS)
def validate(
    *,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="A Databricks asset bundle, or one file of it, to check.")
    ] = None,
    var: Annotated[list[str] | None, typer.Option("--var", help="name=value of a bundle's variable.")] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="A target of the bundle.")] = None,
    json: Json = False,
) -> None:
    """Check every job file and bind every SQL file; writes nothing. Exit code 1 if anything is wrong."""
    from landingd.cli import printing, render

    if bundle is not None:
        _validate_bundle(bundle, common.pairs(var, "--var"), target, json=json)
        return
    if var or target:
        raise RefusedError("--var and --target belong to --bundle FILE")
    try:
        catalog = common.asker().catalog()
    except JobFileError as error:
        if json:
            printing.as_json({"valid": False, "problems": [render.problem(p) for p in error.problems]})
            raise typer.Exit(1) from None
        print(error, file=sys.stderr)
        count = len(error.problems)
        print(f"{count} problem{'' if count == 1 else 's'}", file=sys.stderr)
        raise typer.Exit(1) from None
    if json:
        printing.as_json({"valid": True, "unbound": [render.problem(p) for p in catalog.unbound]})
    else:
        render.valid(catalog)


def _validate_bundle(path: Path, variables: dict[str, str], target: str | None, *, json: bool) -> None:
    from landingd.cli import printing, render
    from landingd.flow.bundles import check_bundle

    read = check_bundle(path, variables, target)
    if json:
        jobs = [{"job": job.name, "tasks": len(job.tasks), "runs": job.name in read.sound} for job in read.jobs]
        problems = [render.problem(p) for p in read.problems]
        printing.as_json(
            {"bundle": str(path), "target": target, "valid": not problems, "jobs": jobs, "problems": problems}
        )
    else:
        render.bundle(read)
    if read.problems:
        raise typer.Exit(1)


@app.command(rich_help_panel=JOBS)
def jobs(json: Json = False) -> None:
    """Every job: what starts it, whether it is paused, how its last run ended, when the next one starts."""
    from landingd.cli import printing, render

    answer = common.asker().jobs()
    printing.as_json(answer) if json else render.jobs(answer)


@app.command(rich_help_panel=JOBS)
def plan(job: str, json: Json = False) -> None:
    """What a run of the job would do now, and how each table would be refreshed."""
    from landingd.cli import printing, render

    answer = common.asker().plan(job)
    printing.as_json(answer) if json else render.plan(answer)


@app.command(rich_help_panel=JOBS)
def triggers(job: str, limit: Limit = 20, json: Json = False) -> None:
    """Why did it not fire? What starts the job, when it fired and fires next, and what each look at it led to."""
    from landingd.cli import printing, render_triggers

    answer = common.asker().triggers(job, limit)
    printing.as_json(answer) if json else render_triggers.triggers(answer)


@app.command(rich_help_panel=JOBS)
def pause(job: str, trigger: TriggerOption = None, json: Json = False) -> None:
    """Start no more runs of a job by its triggers, or by one of them, until it is resumed; this outlives restarts."""
    _set_paused(job, trigger, paused=True, json=json)


@app.command(rich_help_panel=JOBS)
def resume(job: str, trigger: TriggerOption = None, json: Json = False) -> None:
    """Let a job, or one of its triggers, start runs again, even one that its job file says is paused."""
    _set_paused(job, trigger, paused=False, json=json)


def _set_paused(job: str, trigger: str | None, *, paused: bool, json: bool) -> None:
    from landingd.cli import printing

    answer = common.asker().set_paused(job, trigger, paused=paused)
    if json:
        printing.as_json(answer)
        return
    what = f"trigger {trigger} of {job}" if trigger else job
    print(f"{what} is {'paused' if paused else 'active'}")
    if not paused and answer.get("paused_triggers"):
        print(f"  still paused: {', '.join(answer['paused_triggers'])}")


@app.command(rich_help_panel=JOBS)
def alerts(
    test: Annotated[
        str | None, typer.Option("--test", help="Send a message to this destination or address now.")
    ] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Mail and web calls that are still to be made, and why they could not be yet."""
    from landingd.cli import printing, render_triggers

    asker = common.asker()
    if test is None:
        answer = asker.alerts(limit)
        printing.as_json(answer) if json else render_triggers.alerts(answer)
        return
    told = asker.daemon.post("/v1/alerts/test", destination=test)
    printing.as_json(told) if json else render_triggers.tested(told)
    if not told["delivered"]:
        raise typer.Exit(1)
