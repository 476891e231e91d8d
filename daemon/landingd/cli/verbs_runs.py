"""Verbs about runs."""

from typing import Annotated, Any

import typer

from landingd.cli import common
from landingd.cli.common import RUNS, DryRun, Json, Limit, OptionalJob, Parameter, RequestId, RunId, Wait, app
from landingd.errors import RefusedError


@app.command(rich_help_panel=RUNS)
def run(
    job: str,
    *,
    parameter: Parameter = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="A task, +task with what is before it, task+ with what is behind it; repeatable."),
    ] = None,
    queue: Annotated[
        bool | None, typer.Option("--queue/--no-queue", help="Whether it may wait for room; else as the job says.")
    ] = None,
    request_id: RequestId = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Run a job now: in the running daemon, or once by itself if none runs."""
    from landingd.cli import waiting

    asker = common.asker()
    asked: dict[str, Any] = {"parameters": common.pairs(parameter), "only": list(only or ())}
    if asker.daemon.runs:
        answer = asker.daemon.post("/v1/runs", job=job, request_id=request_id, queue=queue, **asked)
        if wait:
            answer = waiting.for_run(asker, int(answer["run_id"]), quiet=json)
    else:
        from landingd.cli.alone import alone, run_once

        run_id = alone(asker.settings, run_once(asker.settings, {"job": job, "request_id": request_id, **asked}))
        answer = asker.run(run_id)
    common.print_run(answer, json=json)


@app.command(rich_help_panel=RUNS)
def repair(
    run_id: RunId,
    *,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="A task that is to run again, or an iteration: 'each[2]'; repeatable."),
    ] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="Every task that failed or was skipped.")] = False,
    dependents: Annotated[bool, typer.Option("--dependents", help="Also what is behind them.")] = False,
    latest_repair_id: Annotated[
        int | None, typer.Option(min=0, help="The newest repair that you know of; refused if there is a newer one.")
    ] = None,
    parameter: Parameter = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Run tasks of a finished run again, under the same run id; nothing named: what failed, and what is behind it."""
    from landingd.cli import render_runs, waiting

    asker = common.asker()
    asked: dict[str, Any] = {
        "tasks": list(task or ()),
        "all_failed": all_failed,
        "dependents": dependents,
        "latest_repair_id": latest_repair_id,
        "parameters": common.pairs(parameter),
    }
    if asker.daemon.runs:
        answer = asker.daemon.post(f"/v1/runs/{run_id}/repair", **asked)
        if not json:
            render_runs.again(answer)
        if wait:
            answer = waiting.for_run(asker, run_id, quiet=json)
        elif not json:
            return
    else:
        from landingd.cli.alone import alone, repair_once

        tasks = alone(asker.settings, repair_once(asker.settings, run_id, asked))
        answer = asker.run(run_id)
        if not json:
            render_runs.again({"run_id": run_id, "job": answer["job"], "tasks": tasks})
    common.print_run(answer, json=json)


@app.command(rich_help_panel=RUNS)
def cancel(
    run_id: Annotated[int | None, typer.Argument(min=0, max=(1 << 63) - 1)] = None,
    *,
    job: Annotated[str | None, typer.Option("--job", help="All open runs of this job.")] = None,
    queued_only: Annotated[bool, typer.Option("--queued-only", help="With --job: only those that wait.")] = False,
    json: Json = False,
) -> None:
    """End a run, or all runs of a job; what is under way is rolled back, what is committed stays."""
    from landingd.cli import printing, render_runs

    if (run_id is None) == (job is None):
        raise RefusedError("cancel which runs?", hint="landingd cancel RUN, or landingd cancel --job JOB")
    if queued_only and job is None:
        raise RefusedError("--queued-only belongs to --job JOB")
    answer = common.asker().cancel(run_id, job, queued_only=queued_only)
    printing.as_json(answer) if json else render_runs.canceled(answer)


@app.command(rich_help_panel=RUNS)
def backfill(
    job: str,
    *,
    param: Annotated[str, typer.Option("--param", help="The parameter that takes each value of the range.")],
    start: Annotated[str, typer.Option("--from", help="The first value: a date, a time or a whole number.")],
    end: Annotated[str, typer.Option("--to", help="The last value; it belongs to the range.")],
    every: Annotated[str, typer.Option("--every", help="The step: 1d, 1w, 1mo, 6h, 15m, or a number.")] = "",
    parameter: Annotated[
        list[str] | None, typer.Option("-p", help="name=value of another parameter, for all of its runs; repeatable.")
    ] = None,
    backfill_id: Annotated[
        str | None, typer.Option("--id", help="Go on with a backfill: what it has run is not run again.")
    ] = None,
    rerun_failed: Annotated[bool, typer.Option("--rerun-failed", help="With --id: repair what failed of it.")] = False,
    dry_run: DryRun = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """A run for each value of a range of a parameter; needs the running daemon, and goes on where it was broken off."""
    from landingd.cli import printing, render_triggers, waiting

    asker = common.asker()
    asked: dict[str, Any] = {"job": job, "parameter": param, "from": start, "to": end, "step": every}
    asked |= {"parameters": common.pairs(parameter), "backfill_id": backfill_id}
    answer = asker.daemon.post("/v1/backfills", **asked, rerun_failed=rerun_failed, dry_run=dry_run)
    if not json:
        render_triggers.backfill(answer)
    if dry_run or not wait:
        if json:
            printing.as_json(answer)
        return
    ended = waiting.for_backfill(asker, str(answer["backfill_id"]), quiet=json)
    printing.as_json(answer | {"ended": ended}) if json else render_triggers.backfill_state(ended)
    if any(word not in common.FINE for word in ended["runs"]):
        raise typer.Exit(1)


@app.command(rich_help_panel=RUNS)
def runs(
    job: OptionalJob = None,
    *,
    matrix: Annotated[bool, typer.Option("--matrix", help="Tasks by runs, a mark for each; needs JOB.")] = False,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """The newest runs, of all jobs or of one."""
    from landingd.cli import printing, render_runs

    if matrix and job is None:
        raise RefusedError("the matrix of which job?", hint="landingd runs JOB --matrix")
    if matrix and job is not None:
        tasks = common.asker().matrix(job, limit)
        printing.as_json(tasks) if json else render_runs.matrix(tasks)
        return
    answer = common.asker().runs(job, limit)
    printing.as_json(answer) if json else render_runs.runs(answer)


@app.command(rich_help_panel=RUNS)
def show(
    run_id: RunId,
    every: Annotated[bool, typer.Option("--all", "-a", help="Every task and iteration, however many.")] = False,
    json: Json = False,
) -> None:
    """One run: its tasks and attempts, when each was at work, errors, repairs, files."""
    from landingd.cli import printing, render_runs

    answer = common.asker().run(run_id)
    printing.as_json(answer) if json else render_runs.run(answer, every=every)


@app.command(rich_help_panel=RUNS)
def queue(json: Json = False) -> None:
    """Runs that wait for room, in order, and what each waits for."""
    from landingd.cli import printing, render_runs

    answer = common.asker().queue()
    printing.as_json(answer) if json else render_runs.queue(answer)
