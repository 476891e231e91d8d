"""Backfills in a real ledger: what is remembered of each, and how its runs are counted."""

import pytest

from landingd.edge.ledger import LedgerThread, views
from landingd.edge.ledger.backfills import BackfillRow, BackfillRun
from landingd.model import Result, RunRequest, RunState, TriggerType

ASKED = BackfillRow("october", "shop", "day", "2026-10-01", "2026-10-04", "1d", 4, {"label": "x"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    thread = LedgerThread(path)
    yield thread
    thread.close()


def add_run(verbs, value, *, id_="october", job="shop"):
    request = RunRequest(TriggerType.BACKFILL, f"backfill:{id_}:{value}")
    return verbs.add_run(job, request, parameters={"day": value}, file_ids=(), now_s=10.0)


def end_run(verbs, run_id, result, error=None):
    verbs.start_run(run_id, now_s=11.0)
    verbs.end_run(run_id, result, error=error, now_s=12.0)


def shown(path, id_="october"):
    db = views.open_views(path)
    try:
        return views.backfill(db, id_)
    finally:
        db.close()


async def test_a_backfill_is_remembered_as_it_was_asked_for_first(ledger):
    assert await ledger.transact(lambda verbs: verbs.backfill("october")) is None
    assert await ledger.transact(lambda verbs: verbs.add_backfill(ASKED, now_s=1.0)) == ASKED
    other = BackfillRow("october", "shop", "day", "2026-11-01", "2026-11-02", "1d", 2)
    known = await ledger.transact(lambda verbs: verbs.add_backfill(other, now_s=2.0))
    assert known == ASKED
    assert not known.asks_the_same_as(other)


async def test_how_far_it_has_come_never_goes_back(ledger):
    def enter(verbs):
        verbs.add_backfill(ASKED, now_s=1.0)
        for admitted in (3, 2):
            verbs.note_admitted("october", admitted)
        return verbs.backfill("october")

    known = await ledger.transact(enter)
    assert known.admitted == 3
    assert known.asks_the_same_as(ASKED)


async def test_a_backfill_is_unfinished_until_every_value_was_asked_for(ledger):
    def enter(verbs):
        verbs.add_backfill(ASKED, now_s=1.0)
        found = []
        for admitted in (0, 3, 4):
            verbs.note_admitted("october", admitted)
            found.append([row.backfill_id for row in verbs.unfinished_backfills()])
        return found

    assert await ledger.transact(enter) == [["october"], ["october"], []]


async def test_the_runs_of_a_backfill_are_its_own(ledger):
    def enter(verbs):
        for id_, job in (("october", "shop"), ("october-2", "shop"), ("octobe", "shop"), ("october", "other")):
            add_run(verbs, "2026-10-01", id_=id_, job=job)
        end_run(verbs, add_run(verbs, "2026-10-02T08:00:00Z"), Result.FAILED)
        return verbs.backfill_runs("october", "shop")

    assert await ledger.transact(enter) == {
        "2026-10-01": BackfillRun(1, RunState.QUEUED, None),
        "2026-10-02T08:00:00Z": BackfillRun(5, RunState.TERMINATED, Result.FAILED),
    }


async def test_runs_are_counted_by_state_until_they_end_and_by_result_then(ledger, path):
    def enter(verbs):
        verbs.add_backfill(ASKED, now_s=1.0)
        runs = [add_run(verbs, f"2026-10-0{day}") for day in (1, 2, 3, 4)]
        verbs.note_admitted("october", 4)
        end_run(verbs, runs[0], Result.SUCCESS)
        end_run(verbs, runs[1], Result.FAILED, "gold: no such column")
        verbs.start_run(runs[2], now_s=11.0)

    await ledger.transact(enter)
    assert shown(path) == {
        "backfill_id": "october",
        "job": "shop",
        "parameter": "day",
        "from": "2026-10-01",
        "to": "2026-10-04",
        "step": "1d",
        "parameters": {"label": "x"},
        "requested_at": "1970-01-01T00:00:01.000Z",
        "values": 4,
        "admitted": 4,
        "runs": {"FAILED": 1, "QUEUED": 1, "RUNNING": 1, "SUCCESS": 1},
        "done": False,
        "failed": [{"value": "2026-10-02", "run_id": 2, "result": "FAILED", "error": "gold: no such column"}],
    }


async def test_a_backfill_is_done_when_every_value_was_asked_for_and_no_run_is_open(ledger, path):
    def enter(verbs):
        verbs.add_backfill(ASKED, now_s=1.0)
        end_run(verbs, add_run(verbs, "2026-10-01"), Result.SUCCESS_WITH_FAILURES)
        verbs.note_admitted("october", 1)

    await ledger.transact(enter)
    assert (shown(path)["done"], shown(path)["failed"]) == (False, [])
    await ledger.transact(lambda verbs: verbs.note_admitted("october", 4))  # history has forgotten three of them
    assert shown(path)["done"]


async def test_the_newest_backfills_come_first(ledger, path):
    def enter(verbs):
        for at_s, id_ in enumerate(("a", "b", "c")):
            verbs.add_backfill(BackfillRow(id_, "shop", "day", "1", "2", "1", 2), now_s=float(at_s))

    await ledger.transact(enter)
    db = views.open_views(path)
    assert [row["backfill_id"] for row in views.backfills(db, limit=2)] == ["c", "b"]
    db.close()
    assert shown(path, "x") is None
