"""The decisions where they are recorded: a real ledger, a clock turned by hand, outcomes made up."""

import asyncio
import json
from dataclasses import replace

import pytest

from bookkeeping import LARGE, Clock, UnkindLedger, arrival, bronze, job, looked_up, table, to_load
from landingd.core.versions import Arrived
from landingd.edge.ledger import LedgerThread
from landingd.errors import NotFoundError, RefusedError
from landingd.flow.books import Books
from landingd.flow.entries import Later
from landingd.model import (
    AttemptKey,
    Committed,
    Failed,
    FileArrival,
    FileLoad,
    Interrupted,
    Parameter,
    Result,
    Stats,
    TimedOut,
)

CHAIN = job(bronze(), table("silver", "bronze"), table("gold", "silver"))
DIAMOND = job(bronze(), table("left", "bronze"), table("right", "bronze"), table("gold", "left", "right"))
DONE = Committed(Stats())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def books(path, clock):
    ledger = LedgerThread(path)
    yield Books(ledger, clock)
    ledger.close()


def loaded(*file_ids):
    return Committed(Stats(files=tuple(FileLoad(n, 2, 2, 0) for n in file_ids)))


def files(path):
    return looked_up(path, "SELECT file_id, content_hash, state FROM files ORDER BY 1")


def tasks(path, run_id=1):
    return dict(
        looked_up(
            path, "SELECT task_key, coalesce(result, state) FROM tasks WHERE run_id = ? ORDER BY position", run_id
        )
    )


def events(path):
    return [json.loads(payload) for (payload,) in looked_up(path, "SELECT payload FROM outbox ORDER BY seq")]


def told(path):
    return [event["event"] for event in events(path)]


async def accept(books, *arrivals):
    return [what.value for what in await books.accept(arrivals)]


async def load_all(books, of=None):
    """Run the job once over everything that waits, file by file loaded by its only task."""
    started = await books.next_run(of or job())
    waiting = await to_load(books, started.run.run_id)
    await books.conclude(of or job(), started.begun[0], loaded(*(f.file.file_id for f in waiting)), go_on=True)
    return started.run.run_id


# --- files ------------------------------------------------------------------------------------------------


async def test_a_path_that_comes_as_a_b_and_a_again_has_three_versions_of_which_the_last_is_loaded(books, path):
    for content in "aba":
        await accept(books, arrival(content=content))
        await load_all(books)
    assert files(path) == [(1, "a", "replaced"), (2, "b", "replaced"), (3, "a", "loaded")]
    assert looked_up(path, "SELECT file_id FROM loads") == [(3,)]
    assert told(path).count("file_replaced") == 2


async def test_the_same_bytes_again_are_a_duplicate_that_is_counted_and_told_each_time(books, path):
    assert await accept(books, arrival()) == [Arrived.NEW.value]
    await load_all(books)
    for mtime_ns in (50, 60):
        assert await accept(books, arrival(mtime_ns=mtime_ns)) == [Arrived.DUPLICATE.value]
    assert looked_up(path, "SELECT state, duplicates, mtime_ns FROM files") == [("loaded", 2, 60)]
    duplicates = [event["event_id"] for event in events(path) if event["event"] == "file_duplicate"]
    assert len(set(duplicates)) == 2
    assert await books.next_run(job()) is None


async def test_a_second_look_at_an_unchanged_file_is_no_second_coming(books, path):
    await accept(books, arrival())
    await accept(books, arrival())
    assert looked_up(path, "SELECT duplicates FROM files") == [(0,)]
    assert told(path) == ["file_landed"]


async def test_a_newer_version_takes_the_place_of_one_that_was_not_loaded_yet(books, path):
    await accept(books, arrival(content="a"))
    assert await accept(books, arrival(content="b")) == [Arrived.CHANGED.value]
    await load_all(books)
    assert files(path) == [(1, "a", "replaced"), (2, "b", "loaded")]


async def test_a_version_that_is_replaced_while_its_run_loads_it_leaves_with_its_successor(books, path):
    await accept(books, arrival(content="a"))
    started = await books.next_run(job())
    await accept(books, arrival(content="b"))
    await books.conclude(job(), started.begun[0], loaded(1), go_on=True)
    assert files(path) == [(1, "a", "loaded"), (2, "b", "waiting")]
    second = await books.next_run(job())
    (one,) = await to_load(books, second.run.run_id)
    assert (one.file.file_id, one.replaces) == (2, (1,))
    await books.conclude(job(), second.begun[0], loaded(2), go_on=True)
    assert looked_up(path, "SELECT file_id FROM loads") == [(2,)]


async def test_a_version_that_was_replaced_before_its_run_began_is_not_loaded(books):
    await accept(books, arrival(content="a"), arrival(b"in/b.csv"))
    await books.request_run(job(), request_id="x", parameters={})
    await accept(books, arrival(content="b"))
    started = await books.next_run(job())
    assert [f.file.file_id for f in await to_load(books, started.run.run_id)] == [2]


async def test_a_damaged_file_is_quarantined_at_once_and_starts_nothing(books, path):
    await accept(books, arrival(damage="the gzip stream is cut off"))
    assert looked_up(path, "SELECT state, reason FROM files") == [("quarantined", "the gzip stream is cut off")]
    assert told(path) == ["file_landed", "file_quarantined"]
    assert await books.next_run(job()) is None


async def test_a_good_version_after_a_quarantined_one_is_loaded_and_the_old_one_before_it_leaves(books, path):
    await accept(books, arrival(content="a"))
    await load_all(books)
    await accept(books, arrival(content="b", damage="cut off"))
    await accept(books, arrival(content="c"))
    await load_all(books)
    assert files(path) == [(1, "a", "replaced"), (2, "b", "replaced"), (3, "c", "loaded")]


async def test_a_quarantined_file_that_is_delivered_again_is_tried_again(books, path):
    await accept(books, arrival(content="a", damage="cut off"))
    await accept(books, arrival(content="a", damage="cut off"))
    assert files(path) == [(1, "a", "quarantined")], "nobody delivered it again"
    again = replace(arrival(content="a"), signature=replace(arrival().signature, mtime_ns=99))
    await accept(books, again)
    await load_all(books)
    assert files(path) == [(1, "a", "replaced"), (2, "a", "loaded")]


async def test_what_an_attempt_says_of_its_files_is_what_becomes_of_them(books, path):
    await accept(books, *(arrival(b"in/%d" % n) for n in range(3)))
    started = await books.next_run(job())
    stats = Stats(files=(FileLoad(1, 5, 4, 1), FileLoad(2, quarantined="no header"), FileLoad(3, gone="went away")))
    await books.conclude(job(), started.begun[0], Committed(stats), go_on=True)
    assert looked_up(path, "SELECT state, reason FROM files") == [
        ("loaded", ""),
        ("quarantined", "no header"),
        ("replaced", "went away"),
    ]
    assert looked_up(path, "SELECT file_id, rows_in, rows_loaded, rows_rejected FROM loads") == [(1, 5, 4, 1)]
    end = events(path)[-1]
    assert (end["event"], end["rows_in"], end["rows_rejected"], end["files_quarantined"]) == ("run_finished", 5, 1, 1)


# --- runs -------------------------------------------------------------------------------------------------


async def test_files_that_wait_become_one_run_up_to_the_limit_and_the_rest_the_next(books):
    small = job(arrival=FileArrival("in", max_files_per_trigger=3))
    await accept(books, *(arrival(b"in/%d" % n) for n in range(5)))
    first = await books.next_run(small)
    assert [f.file.file_id for f in await to_load(books, first.run.run_id)] == [1, 2, 3]
    await books.conclude(small, first.begun[0], loaded(1, 2, 3), go_on=True)
    second = await books.next_run(small)
    assert [f.file.file_id for f in await to_load(books, second.run.run_id)] == [4, 5]
    await books.conclude(small, second.begun[0], loaded(4, 5), go_on=True)
    assert await books.next_run(small) is None


async def test_files_wait_until_the_cooldown_is_over(books, clock):
    slow = job(arrival=FileArrival("in", min_time_between_triggers_s=60))
    await accept(books, arrival(b"in/1"))
    await load_all(books, slow)
    await accept(books, arrival(b"in/2"))
    clock.pass_s(59.9)
    assert await books.next_run(slow) == Later(1060.0)
    clock.pass_s(0.1)
    assert await books.next_run(slow) is not None


async def test_a_run_that_somebody_asks_for_does_not_wait_for_the_cooldown(books):
    slow = job(arrival=FileArrival("in", min_time_between_triggers_s=60))
    await accept(books, arrival(b"in/1"))
    await load_all(books, slow)
    run_id = await books.request_run(slow, request_id="x", parameters={})
    assert (await books.next_run(slow)).run.run_id == run_id


async def test_the_same_request_gives_the_same_run_and_takes_the_files_that_wait(books, path):
    await accept(books, arrival())
    first = await books.request_run(job(), request_id="x", parameters={"month": "Oct"})
    assert await books.request_run(job(), request_id="x", parameters={"month": "Nov"}) == first
    assert looked_up(path, "SELECT run_id, trigger_type, parameters FROM runs") == [
        (first, "ONE_TIME", '{"month": "Oct"}')
    ]
    assert looked_up(path, "SELECT file_id FROM run_files") == [(1,)]
    assert told(path).count("run_queued") == 1


async def test_a_run_of_files_has_the_jobs_default_parameters(books):
    await accept(books, arrival())
    started = await books.next_run(job(parameters=(Parameter("month", "Oct"),)))
    assert started.run.parameters == {"month": "Oct"}


async def test_jobs_do_not_take_each_others_files(books):
    other = job(name="other")
    await accept(books, arrival(), arrival(name="other"))
    first, second = await books.next_run(job()), await books.next_run(other)
    assert [(first.run.job, 1), (second.run.job, 1)] == [
        (s.run.job, len(await to_load(books, s.run.run_id))) for s in (first, second)
    ]


async def test_a_run_that_is_under_way_is_taken_up_where_it_stands(books, path):
    await accept(books, arrival(size=LARGE))
    first = await books.next_run(CHAIN)
    await books.conclude(CHAIN, first.begun[0], DONE, go_on=False)
    again = await books.next_run(CHAIN)
    assert (again.run.run_id, [key.task_key for key in again.begun]) == (first.run.run_id, ["silver"])
    assert told(path).count("run_started") == 1


async def test_a_retry_that_is_due_after_a_restart_is_handed_out_with_its_time(books):
    retrying = job(bronze(max_retries=1, min_retry_interval_s=30))
    await accept(books, arrival())
    started = await books.next_run(retrying)
    concluded = await books.conclude(retrying, started.begun[0], Failed("x"), go_on=True)
    assert concluded.retry_at_s == 1030.0
    again = await books.next_run(retrying)
    assert (again.begun, again.retries) == ((), (("bronze", 1030.0),))
    assert await books.begin(1, "bronze") == AttemptKey(1, "bronze", 2)


async def test_a_small_run_begins_all_of_its_tasks_to_be_committed_together(books, path):
    await accept(books, arrival())
    started = await books.next_run(CHAIN)
    assert started.together
    assert [key.task_key for key in started.begun] == ["bronze", "silver", "gold"]
    concluded = await books.conclude_together(CHAIN, [(key, DONE) for key in started.begun], go_on=True)
    assert (concluded.run_result, concluded.begun) == (Result.SUCCESS, ())
    assert tasks(path) == {"bronze": "SUCCESS", "silver": "SUCCESS", "gold": "SUCCESS"}
    assert told(path).count("run_finished") == 1


async def test_tasks_that_could_not_commit_together_are_begun_one_by_one(books):
    await accept(books, arrival())
    started = await books.next_run(CHAIN)
    ended = [(key, Interrupted(crashed=False)) for key in started.begun]
    concluded = await books.conclude_together(CHAIN, ended, go_on=True)
    assert (concluded.run_result, [key.task_key for key in concluded.begun]) == (None, ["bronze"])


# --- verdicts ---------------------------------------------------------------------------------------------


async def test_a_run_goes_down_its_graph_and_ends_with_its_last_task(books, path):
    await accept(books, arrival(size=LARGE))
    started = await books.next_run(DIAMOND)
    assert [key.task_key for key in started.begun] == ["bronze"]
    after_bronze = await books.conclude(DIAMOND, started.begun[0], DONE, go_on=True)
    assert [key.task_key for key in after_bronze.begun] == ["left", "right"]
    after_left = await books.conclude(DIAMOND, after_bronze.begun[0], DONE, go_on=True)
    assert (after_left.begun, after_left.run_result) == ((), None)
    after_right = await books.conclude(DIAMOND, after_bronze.begun[1], DONE, go_on=True)
    assert [key.task_key for key in after_right.begun] == ["gold"]
    end = await books.conclude(DIAMOND, after_right.begun[0], DONE, go_on=True)
    assert end.run_result is Result.SUCCESS
    assert looked_up(path, "SELECT state, result FROM runs") == [("TERMINATED", "SUCCESS")]


async def test_a_failure_skips_what_is_below_it_and_nothing_beside_it(books, path):
    await accept(books, arrival(size=LARGE))
    started = await books.next_run(DIAMOND)
    side_by_side = await books.conclude(DIAMOND, started.begun[0], DONE, go_on=True)
    await books.conclude(DIAMOND, side_by_side.begun[0], Failed("disk full"), go_on=True)
    end = await books.conclude(DIAMOND, side_by_side.begun[1], DONE, go_on=True)
    assert end.run_result is Result.FAILED
    assert tasks(path) == {"bronze": "SUCCESS", "left": "FAILED", "right": "SUCCESS", "gold": "UPSTREAM_FAILED"}
    assert looked_up(path, "SELECT error FROM runs") == [("left: disk full",)]
    skipped = [e for e in events(path) if e["event"] == "task_finished" and e["task_key"] == "gold"]
    assert [event["result"] for event in skipped] == ["UPSTREAM_FAILED"]


@pytest.mark.parametrize(
    "outcome", [DONE, Failed("x"), TimedOut(1.0), Interrupted(crashed=False), Interrupted(crashed=True)]
)
async def test_the_same_verdict_twice_is_applied_once(books, path, outcome):
    await accept(books, arrival(size=LARGE))
    started = await books.next_run(CHAIN)
    await books.conclude(CHAIN, started.begun[0], outcome, go_on=False)
    before = [looked_up(path, f"SELECT * FROM {table}") for table in ("runs", "tasks", "attempts", "files", "outbox")]
    again = await books.conclude(CHAIN, started.begun[0], outcome, go_on=True)
    assert (again.begun, again.retry_at_s, again.run_result) == ((), None, None)
    after = [looked_up(path, f"SELECT * FROM {table}") for table in ("runs", "tasks", "attempts", "files", "outbox")]
    assert after == before


async def test_a_late_verdict_on_an_attempt_is_not_taken_for_one_on_the_next(books, path):
    retrying = job(bronze(max_retries=1))
    await accept(books, arrival())
    started = await books.next_run(retrying)
    await books.conclude(retrying, started.begun[0], Failed("x"), go_on=True)
    await books.begin(1, "bronze")
    await books.conclude(retrying, started.begun[0], DONE, go_on=True)
    assert tasks(path) == {"bronze": "RUNNING"}


async def test_a_stop_leaves_the_rest_of_the_run_for_the_next_start(books, path):
    await accept(books, arrival(size=LARGE))
    started = await books.next_run(CHAIN)
    stopped = await books.conclude(CHAIN, started.begun[0], DONE, go_on=False)
    assert (stopped.begun, stopped.run_result) == ((), None)
    assert tasks(path) == {"bronze": "SUCCESS", "silver": "PENDING", "gold": "PENDING"}


async def test_a_task_whose_job_is_gone_still_gets_its_verdict(books, path):
    await accept(books, arrival())
    started = await books.next_run(job(bronze(max_retries=5)))
    end = await books.conclude(None, started.begun[0], Failed("x"), go_on=True)
    assert end.run_result is Result.FAILED


async def test_every_event_is_announced_when_it_is_written_and_each_has_its_own_id(books, path):
    heard = []
    books.on_news = lambda: heard.append(len(told(path)))
    await accept(books, arrival())
    await load_all(books)
    assert heard[-1] == len(told(path))
    assert sorted(told(path)) == [
        "file_landed",
        "file_loaded",
        "run_finished",
        "run_queued",
        "run_started",
        "task_finished",
    ]
    assert told(path)[-1] == "run_finished"
    assert len({event["event_id"] for event in events(path)}) == len(events(path))


# --- tasks that end at once -------------------------------------------------------------------------------

WIDE = job(
    bronze(),
    *(table(f"t{n}", "bronze") for n in range(6)),
    *(table(f"u{n}", f"t{n}", f"t{(n + 1) % 6}") for n in range(6)),
    table("end", *(f"u{n}" for n in range(6))),
)


@pytest.mark.parametrize("bad", [None, "t3", "end"])
async def test_however_tasks_end_at_once_the_runs_end_is_never_lost_and_never_doubled(path, clock, bad):
    ledger = UnkindLedger(path)
    books = Books(ledger, clock)
    ends, attempts = [], []

    async def attempt(group, key):
        attempts.append(key)
        outcome = Failed("x") if key.task_key == bad else DONE
        concluded = await books.conclude(WIDE, key, outcome, go_on=True)
        if concluded.run_result is not None:
            ends.append(concluded.run_result)
        for begun in concluded.begun:
            group.create_task(attempt(group, begun))

    for number in range(15):
        await books.accept([arrival(content=f"v{number}", size=LARGE)])
        started = await books.next_run(WIDE)
        async with asyncio.TaskGroup() as group:
            for key in started.begun:
                group.create_task(attempt(group, key))
    assert ends == [Result.SUCCESS if bad is None else Result.FAILED] * 15
    assert len(set(attempts)) == len(attempts)
    assert looked_up(path, "SELECT count(*) FROM tasks WHERE state <> 'TERMINATED'") == [(0,)]
    assert looked_up(path, "SELECT count(*) FROM outbox WHERE payload LIKE '%run_finished%'") == [(15,)]
    ledger.close()


async def test_however_files_and_runs_come_at_once_every_file_is_in_one_run(path, clock):
    ledger = UnkindLedger(path)
    books = Books(ledger, clock)
    small = job(arrival=FileArrival("in", max_files_per_trigger=4))

    async def arrive(n):
        await books.accept([arrival(b"in/%d" % n)])

    async def run_until_empty():
        while (started := await books.next_run(small)) is not None:
            for key in started.begun:
                ids = [f.file.file_id for f in await to_load(books, key.run_id)]
                await books.conclude(small, key, loaded(*ids), go_on=True)

    async with asyncio.TaskGroup() as group:
        for n in range(40):
            group.create_task(arrive(n))
    await run_until_empty()
    assert looked_up(path, "SELECT count(*), count(DISTINCT file_id) FROM run_files") == [(40, 40)]
    assert looked_up(path, "SELECT max(n) FROM (SELECT count(*) AS n FROM run_files GROUP BY run_id)") == [(4,)]
    assert looked_up(path, "SELECT state, count(*) FROM files GROUP BY 1") == [("loaded", 40)]
    ledger.close()


# --- repair -----------------------------------------------------------------------------------------------


async def failed_run(books, of=DIAMOND):
    await accept(books, arrival(size=LARGE))
    started = await books.next_run(of)
    side_by_side = await books.conclude(of, started.begun[0], loaded(1), go_on=True)
    await books.conclude(of, side_by_side.begun[0], Failed("x"), go_on=True)
    await books.conclude(of, side_by_side.begun[1], DONE, go_on=True)
    return started.run.run_id


async def test_a_repair_runs_what_failed_and_what_was_skipped_and_nothing_else_under_the_same_run(books, path):
    run_id = await failed_run(books)
    assert await books.repair(run_id, lambda _: DIAMOND) == ("left", "gold")
    started = await books.next_run(DIAMOND)
    assert (started.run.run_id, [key.task_key for key in started.begun]) == (run_id, ["left"])
    assert started.begun[0].attempt == 2
    after = await books.conclude(DIAMOND, started.begun[0], DONE, go_on=True)
    end = await books.conclude(DIAMOND, after.begun[0], DONE, go_on=True)
    assert end.run_result is Result.SUCCESS
    assert looked_up(path, "SELECT repair, tasks FROM repairs") == [(1, '["left", "gold"]')]
    ends = [event for event in events(path) if event["event"] == "run_finished"]
    assert [(e["repair"], e["result"]) for e in ends] == [(0, "FAILED"), (1, "SUCCESS")]
    assert ends[0]["event_id"] != ends[1]["event_id"]


async def test_a_repair_follows_the_job_as_it_is_today(books, path):
    run_id = await failed_run(books)
    today = job(bronze(), table("left", "bronze"), table("new", "left"))
    assert await books.repair(run_id, lambda _: today) == ("left", "new")
    assert tasks(path) == {"bronze": "SUCCESS", "left": "PENDING", "new": "PENDING"}


async def test_only_a_finished_run_with_something_to_repair_is_repaired(books):
    with pytest.raises(NotFoundError):
        await books.repair(99, lambda _: job())
    await accept(books, arrival())
    started = await books.next_run(job())
    with pytest.raises(RefusedError, match="RUNNING"):
        await books.repair(1, lambda _: job())
    await books.conclude(job(), started.begun[0], loaded(1), go_on=True)
    with pytest.raises(RefusedError, match="nothing to repair"):
        await books.repair(1, lambda _: job())


async def test_a_file_that_a_failed_ingest_left_is_loaded_by_the_repair(books, path):
    await accept(books, arrival())
    started = await books.next_run(job())
    await books.conclude(job(), started.begun[0], Failed("x"), go_on=True)
    assert await books.next_run(job()) is None
    await books.repair(1, lambda _: job())
    again = await books.next_run(job())
    await books.conclude(job(), again.begun[0], loaded(1), go_on=True)
    assert files(path) == [(1, "a", "loaded")]


async def test_a_repair_does_not_bring_back_what_a_newer_version_has_replaced(books):
    await accept(books, arrival(content="a"))
    started = await books.next_run(job())
    await books.conclude(job(), started.begun[0], Failed("x"), go_on=True)
    await accept(books, arrival(content="b"))
    await load_all(books)
    await books.repair(1, lambda _: job())
    again = await books.next_run(job())
    assert again.run.run_id == 1
    assert await to_load(books, 1) == []


async def test_a_runs_job_can_be_asked_for(books):
    await books.request_run(job(), request_id="x", parameters={})
    assert await books.job_of(1) == "shop"
    with pytest.raises(NotFoundError):
        await books.job_of(2)
