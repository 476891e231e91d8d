"""Write the events of what happened into the outbox, in the transaction that it happened in."""

from landingd.core import lifecycle, news
from landingd.edge.ledger import Ledger, Notice, RunRow
from landingd.model import AttemptKey, Result, Stats, shown


def tell_file(ledger: Ledger, event: str, file_id: int, now_s: float, **more: object) -> None:
    row = ledger.file(file_id)
    topic, payload = news.file_event(
        event,
        job=row["job"],
        name=row["name"],
        file_id=file_id,
        content_hash=row["content_hash"],
        now_s=now_s,
        **more,
    )
    ledger.tell([Notice(topic, payload)])


def tell_run(
    ledger: Ledger,
    run_id: int,
    event: str,
    now_s: float,
    *,
    result: Result | None = None,
    error: str | None = None,
) -> None:
    run = ledger.run(run_id)
    assert run is not None  # noqa: S101 -- written or read in this transaction
    file_ids = ledger.run_file_ids(run_id)
    topic, payload = news.run_event(
        event,
        job=run.job,
        run_id=run_id,
        repair=run.repairs,
        queued_s=run.queued_at_s,
        started_s=run.started_at_s,
        now_s=now_s,
        trigger=run.trigger_type.value,
        parameters=run.parameters,
        files=[shown(ledger.file(i)["path"]) for i in file_ids[: news.FILES_NAMED_MAX]],
        file_count=len(file_ids),
        result=result,
        error=error,
        rows=ledger.run_rows(run_id) if event == "finished" else None,
        trigger_name=run.trigger,
    )
    ledger.tell([Notice(topic, payload)])


def tell_task(
    ledger: Ledger,
    key: AttemptKey,
    decision: lifecycle.Decision,
    *,
    now_s: float,
    stats: Stats | None = None,
    started_s: float | None = None,
    run: RunRow | None = None,
) -> None:
    run = run or ledger.run(key.run_id)
    assert run is not None  # noqa: S101 -- its task was read in this transaction
    topic, payload = news.task_event(
        job=run.job,
        run_id=run.run_id,
        repair=run.repairs,
        queued_s=run.queued_at_s,
        task_key=key.task_key,
        attempt=key.attempt,
        state=decision.state,
        result=decision.result,
        error=decision.error,
        stats=stats,
        started_s=started_s,
        now_s=now_s,
        retry_at_s=decision.retry_at_s,
    )
    ledger.tell([Notice(topic, payload)])
