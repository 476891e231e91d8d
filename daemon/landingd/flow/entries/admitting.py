"""Accept a request for a run: once for each key, queued where there is room, skipped and told where there is none."""

from collections.abc import Sequence

from landingd.core import admission, selecting, triggers
from landingd.edge.ledger import Ledger, TaskEntry
from landingd.errors import RefusedError
from landingd.flow import alerting, telling
from landingd.model import Admitted, Job, RunRequest, RunState


def admit(ledger: Ledger, job: Job, request: RunRequest, now_s: float) -> Admitted:
    """Queue a run, or skip it. The key of a run that was accepted before gives that run.

    Raises RefusedError where `only` names no tasks of the job, and where the run that asks for it is being broken off.
    """
    known = ledger.find_run(job.name, request.key)
    if known is not None:
        return _known(ledger, known)
    if request.parent is not None:
        parent = ledger.run(request.parent[0])
        if parent is None or parent.state is not RunState.RUNNING:
            raise RefusedError(f"run {request.parent[0]}, which asks for it, is being broken off")
    entries = task_entries(job, request.only)
    refusal = None
    if not admission.never_refused(job, request):
        active, queued = ledger.count_open(job.name)
        refusal = admission.refusal(job, request, active=active, queued=queued)
    run_id = ledger.add_run(
        job.name,
        request,
        parameters={p.name: p.default for p in job.parameters} | dict(request.parameters),
        file_ids=() if refusal else _files(ledger, job, request),
        now_s=now_s,
        priority=job.priority if request.priority is None else request.priority,
    )
    assert run_id is not None  # noqa: S101 -- the key was looked up in this transaction
    if refusal is not None:
        ledger.skip_run(run_id, refusal.result, error=refusal.reason, now_s=now_s)
        telling.tell_run(ledger, run_id, "skipped", now_s, result=refusal.result, error=refusal.reason)
        alerting.run_skipped(ledger, job, run_id, now_s)
        return Admitted(run_id, RunState.SKIPPED, refusal.result)
    ledger.set_tasks(run_id, entries)
    telling.tell_run(ledger, run_id, "queued", now_s)
    return Admitted(run_id, RunState.QUEUED)


def _known(ledger: Ledger, run_id: int) -> Admitted:
    run = ledger.run(run_id)
    assert run is not None  # noqa: S101 -- found in this transaction
    return Admitted(run_id, run.state, run.result, known=True)


def _files(ledger: Ledger, job: Job, request: RunRequest) -> Sequence[int]:
    """Which versions the run is given. Those that wait go to one run at a time."""
    if request.file_ids is not None:
        return request.file_ids
    if ledger.has_open_file_run(job.name):
        return ()
    return ledger.pending_files(job.name, triggers.batch_limit(job))


def task_entries(job: Job, only: Sequence[str] = ()) -> list[TaskEntry]:
    """The tasks of a run, all or those of a partial one; what a partial run leaves out is not waited for."""
    chosen = frozenset(selecting.select(job, only) if only else (task.task_key for task in job.tasks))
    return [
        TaskEntry(
            task.task_key,
            tuple(dict.fromkeys(key for key in task.depends_on if key in chosen)),
            task.outcomes,
            task.run_if,
            task.disabled,
        )
        for task in job.tasks
        if task.task_key in chosen
    ]
