"""The ledger as a real SQLite file, on its own thread."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from landingd.edge.ledger import LedgerError, LedgerThread, Notice, TaskEntry, views
from landingd.model import (
    Arrival,
    AttemptKey,
    Facts,
    FileLoad,
    FileState,
    Result,
    RunRequest,
    RunState,
    Signature,
    Stats,
    TaskState,
    TriggerType,
)

SIGNATURE = Signature(10, 1, 2, 3, 4)
TASKS = [("bronze", ()), ("silver", ("bronze",)), ("gold", ("silver",))]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    thread = LedgerThread(path)
    yield thread
    thread.close()


def arrival(path=b"in/a.csv", content="a", *, job="shop", signature=SIGNATURE, seen_s=1.0):
    return Arrival(job, path, content, signature, "moved into place", seen_s, 2.0, Facts(records=3))


def add_run(verbs, key="k", file_ids=(), *, job="shop", tasks=TASKS):
    request = RunRequest(TriggerType.FILE_ARRIVAL, key)
    run_id = verbs.add_run(job, request, parameters={"month": "Oct"}, file_ids=file_ids, now_s=10.0)
    if run_id is not None:
        verbs.set_tasks(run_id, [TaskEntry(task_key, upstreams) for task_key, upstreams in tasks])
    return run_id


def to_load(verbs, run_id):
    return [ref.file_id for ref, _, done in verbs.files_of_run(run_id, "bronze") if not done]


def set_task(verbs, key, state, result=None):
    verbs.set_task(
        key.run_id,
        key.task_key,
        state,
        result=result,
        error=None,
        failures=0,
        crashes=0,
        retry_at_s=None,
        now_s=12.0,
    )


def task_states(verbs, run_id):
    return {task.task_key: task.state for task in verbs.tasks(run_id)}


def looked_up(path, sql, *values):
    with closing(views.open_views(path)) as db:
        return [tuple(row) for row in db.execute(sql, values)]


# --- the file ---------------------------------------------------------------------------------------------


async def test_what_raises_leaves_nothing(ledger, path):
    def half(verbs):
        verbs.add_version(arrival())
        raise RuntimeError("died here")

    with pytest.raises(RuntimeError):
        await ledger.transact(half)
    assert looked_up(path, "SELECT count(*) FROM files") == [(0,)]
    assert await ledger.transact(lambda verbs: verbs.add_version(arrival())) == 1


async def test_what_was_recorded_is_there_in_the_next_process(path):
    first = LedgerThread(path)
    await first.transact(add_run, durably=True)
    first.close()
    second = LedgerThread(path)
    assert await second.transact(lambda verbs: verbs.find_run("shop", "k")) == 1
    second.close()


async def test_others_can_read_while_a_transaction_is_open_and_see_what_was_committed(ledger, path):
    await ledger.transact(lambda verbs: verbs.add_version(arrival()))

    def seen_from_outside(verbs):
        verbs.add_version(arrival(b"in/b.csv"))
        return looked_up(path, "SELECT count(*) FROM files")

    assert await ledger.transact(seen_from_outside) == [(1,)]


async def test_whoever_only_looks_cannot_write(ledger, path):
    with closing(views.open_views(path)) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM files")


async def test_a_ledger_is_found_under_any_name(tmp_path):
    path = tmp_path / "100% sure? #1" / "ledger.sqlite"
    LedgerThread(path).close()
    assert looked_up(path, "SELECT count(*) FROM files") == [(0,)]


def test_a_ledger_of_another_version_is_refused(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match=r"ledger schema 99"):
        LedgerThread(path)


async def test_a_ledger_of_the_version_before_is_brought_up_and_nothing_in_it_is_lost(path, tmp_path):
    old = (Path(__file__).parent / "data" / "ledger_schema_1.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(old)
    LedgerThread(tmp_path / "new.sqlite").close()
    ledger = LedgerThread(path)
    assert await ledger.transact(lambda v: v.pending_files("shop", 10)) == [3]
    assert {p: k.file_id for p, k in (await ledger.transact(lambda v: v.known_files("shop"))).items()} == {
        b"in/a": 2,
        b"in/b": 3,
        b"in/d": 9,
    }
    assert await ledger.transact(lambda v: v.incomplete("shop")) == [b"in/c"]
    assert await ledger.transact(lambda v: v.run_file_ids(7)) == [1, 2, 9]
    assert await ledger.transact(lambda v: v.add_version(arrival())) == 21
    ledger.close()
    columns = "file_id, state, presence, wanted, facts ->> 'records'"
    assert looked_up(path, f"SELECT {columns} FROM files WHERE file_id < 10") == [
        (1, "replaced", "overwritten", None, 3),
        (2, "loaded", "present", None, 4),
        (3, "waiting", "present", "load", 5),
        (4, "waiting", "present", None, None),
        (9, "quarantined", "present", None, 0),
    ]
    schema = (
        "SELECT s.type, s.name, c.name, c.type, c.[notnull], c.dflt_value FROM sqlite_schema s "
        "LEFT JOIN pragma_table_info(s.name) c WHERE s.name NOT LIKE 'sqlite_%' ORDER BY 1, 2, 3"
    )
    assert looked_up(path, schema) == looked_up(tmp_path / "new.sqlite", schema)
    assert looked_up(path, "PRAGMA foreign_key_check") == []
    LedgerThread(path).close()


async def test_a_run_that_was_under_way_in_a_ledger_of_schema_2_goes_on_where_it_was(path, tmp_path):
    old = (Path(__file__).parent / "data" / "ledger_schema_2.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(old)
    ledger = LedgerThread(path)
    ended, open_ = await ledger.transact(lambda v: (v.run(3), v.run(5)))
    assert (ended.state, ended.result, ended.repairs, ended.has_files) == (RunState.TERMINATED, Result.FAILED, 1, True)
    assert (open_.state, open_.resumed_at_s, open_.has_files) == (RunState.RUNNING, 11.0, False)
    assert await ledger.transact(lambda v: v.unblocked(5)) == ["silver"]
    assert await ledger.transact(lambda v: v.release(5, "silver")) == ["gold"]
    request = RunRequest(TriggerType.ONE_TIME, "new")
    assert await ledger.transact(lambda v: v.add_run("shop", request, parameters={}, file_ids=(), now_s=1.0)) == 21
    ledger.close()
    assert looked_up(path, "SELECT task_key, attempt FROM attempts WHERE run_id = 3") == [("gold", 1), ("gold", 2)]
    assert looked_up(path, "PRAGMA foreign_key_check") == []


def test_a_value_of_the_wrong_kind_is_refused(path):
    LedgerThread(path).close()
    with closing(sqlite3.connect(path)) as db:
        tables = {row[0]: row[1] for row in db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")}
        mine = {name for name in tables if not name.startswith("sqlite_")}
        assert {name for name in mine if "STRICT" in tables[name].rpartition(")")[2]} == mine
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("INSERT INTO outbox (event_id, topic, payload) VALUES ('x', 't', x'00')")


# --- files ------------------------------------------------------------------------------------------------


async def test_a_wait_becomes_the_version_and_keeps_its_id_and_the_time_it_was_seen(ledger, path):
    await ledger.transact(lambda v: v.add_waiting("shop", b"in/a.csv", SIGNATURE, reason="held", now_s=1.5))
    waiting = looked_up(path, "SELECT file_id, content_hash, reason FROM files")
    file_id = await ledger.transact(lambda v: v.add_version(arrival(seen_s=99.0)))
    assert waiting == [(file_id, None, "held")]
    assert looked_up(path, "SELECT file_id, content_hash, state, seen_at_s, complete_at_s FROM files") == [
        (file_id, "a", "waiting", 1.5, 2.0)
    ]


async def test_a_path_waits_in_one_row_whose_reason_is_kept_current(ledger, path):
    for reason in ("growing", "held"):
        await ledger.transact(
            lambda v, reason=reason: v.add_waiting("shop", b"in/a.csv", SIGNATURE, reason=reason, now_s=1.0)
        )
    assert looked_up(path, "SELECT reason FROM files") == [("held",)]
    assert await ledger.transact(lambda v: v.incomplete("shop")) == [b"in/a.csv"]


async def test_a_complete_version_is_not_made_incomplete_by_a_late_wait(ledger, path):
    await ledger.transact(lambda v: v.add_version(arrival()))
    before = looked_up(path, "SELECT * FROM files")
    await ledger.transact(lambda v: v.add_waiting("shop", b"in/a.csv", SIGNATURE, reason="late", now_s=9.0))
    await ledger.transact(lambda v: v.forget_waiting("shop", b"in/a.csv"))
    assert looked_up(path, "SELECT * FROM files") == before


async def test_a_wait_that_came_to_nothing_is_forgotten(ledger, path):
    await ledger.transact(lambda v: v.add_waiting("shop", b"in/a.csv", SIGNATURE, reason="held", now_s=1.0))
    await ledger.transact(lambda v: v.forget_waiting("other job", b"in/a.csv"))
    assert await ledger.transact(lambda v: v.incomplete("shop")) == [b"in/a.csv"]
    await ledger.transact(lambda v: v.forget_waiting("shop", b"in/a.csv"))
    assert looked_up(path, "SELECT count(*) FROM files") == [(0,)]


@pytest.mark.parametrize("name", [b"two\nlines.csv", b"caf\xe9.csv", b"'; DROP TABLE files; --", "größe.csv".encode()])
async def test_a_name_is_bytes_and_comes_back_as_it_was(ledger, name):
    await ledger.transact(lambda v: v.add_version(arrival(name)))
    assert list(await ledger.transact(lambda v: v.known_files("shop"))) == [name]


async def test_what_stat_says_comes_back_though_sqlite_has_no_unsigned_numbers(ledger):
    signature = Signature(1, 2, 3, inode=(1 << 64) - 1, device=1 << 63)
    await ledger.transact(lambda v: v.add_version(arrival(signature=signature)))
    known = await ledger.transact(lambda v: v.newest("shop", b"in/a.csv"))
    assert (known.state, known.signature) == (FileState.WAITING, signature)


async def test_each_job_has_its_own_version_of_a_path(ledger):
    ids = await ledger.transact(lambda v: [v.add_version(arrival()), v.add_version(arrival(job="other"))])
    assert len(set(ids)) == 2
    assert (await ledger.transact(lambda v: v.newest("other", b"in/a.csv"))).file_id == ids[1]


async def test_a_loaded_version_takes_the_place_of_the_one_before(ledger, path):
    old = await ledger.transact(lambda v: v.add_version(arrival()))
    key = AttemptKey(1, "bronze", 1)
    await ledger.transact(lambda v: v.load(key, FileLoad(old, 2, 2, 0), now_s=5.0))
    new = await ledger.transact(lambda v: v.add_version(arrival(content="b")))
    assert await ledger.transact(lambda v: v.replaced_by(new, "bronze")) == [old]
    assert await ledger.transact(lambda v: v.replaced_by(new, "another ingest")) == []
    assert await ledger.transact(lambda v: v.load(key, FileLoad(new, 3, 2, 1), now_s=6.0)) == [old]
    assert looked_up(path, "SELECT file_id, state FROM files ORDER BY 1") == [(old, "replaced"), (new, "loaded")]
    assert looked_up(path, "SELECT file_id, rows_in, rows_loaded, rows_rejected FROM loads") == [(new, 3, 2, 1)]


async def test_a_file_is_loaded_once_although_two_tasks_load_it(ledger, path):
    file_id = await ledger.transact(lambda v: v.add_version(arrival()))
    for task, now_s in (("one", 5.0), ("two", 6.0)):
        await ledger.transact(lambda v, t=task, s=now_s: v.load(AttemptKey(1, t, 1), FileLoad(file_id, 2, 2), now_s=s))
    assert looked_up(path, "SELECT state, loaded_at_s FROM files") == [("loaded", 5.0)]
    assert looked_up(path, "SELECT task_key FROM loads ORDER BY 1") == [("one",), ("two",)]


async def test_only_what_waits_is_quarantined_and_whatever_stands_can_be_replaced(ledger, path):
    ids = await ledger.transact(lambda v: [v.add_version(arrival(n)) for n in (b"a", b"b", b"c")])
    await ledger.transact(lambda v: v.load(AttemptKey(1, "t", 1), FileLoad(ids[0]), now_s=1.0))
    await ledger.transact(lambda v: [v.quarantine(i, reason="bad") for i in ids[:2]])
    await ledger.transact(lambda v: [v.replace(i, reason="newer") for i in ids])
    assert looked_up(path, "SELECT state, reason FROM files ORDER BY file_id") == [
        ("replaced", "newer"),
        ("replaced", "newer"),
        ("replaced", "newer"),
    ]


async def test_files_that_wait_for_a_run_come_oldest_first_and_up_to_the_limit(ledger):
    def record(v):
        ids = [v.add_version(arrival(b"%d.csv" % n)) for n in range(5)]
        v.add_waiting("shop", b"incomplete.csv", SIGNATURE, reason="held", now_s=1.0)
        v.add_version(arrival(job="other"))
        v.quarantine(ids[1], reason="bad")
        add_run(v, file_ids=ids[:1])
        return ids

    ids = await ledger.transact(record)
    assert await ledger.transact(lambda v: v.pending_files("shop", 2)) == ids[2:4]
    assert await ledger.transact(lambda v: v.pending_files("shop", 100)) == ids[2:]


# --- runs and tasks ---------------------------------------------------------------------------------------


async def test_a_trigger_key_is_accepted_once_for_each_job(ledger, path):
    first = await ledger.transact(add_run)
    assert await ledger.transact(add_run) is None
    assert await ledger.transact(lambda v: add_run(v, job="other")) not in (None, first)
    assert await ledger.transact(lambda v: v.find_run("shop", "k")) == first
    assert looked_up(path, "SELECT count(*) FROM tasks WHERE run_id = ?", first) == [(3,)]


async def test_a_key_that_is_refused_takes_no_files(ledger):
    await ledger.transact(add_run)
    file_id = await ledger.transact(lambda v: v.add_version(arrival()))
    await ledger.transact(lambda v: add_run(v, file_ids=[file_id]))
    assert await ledger.transact(lambda v: v.pending_files("shop", 10)) == [file_id]


async def test_a_run_is_what_it_was_made_with(ledger):
    file_id = await ledger.transact(lambda v: v.add_version(arrival()))
    run_id = await ledger.transact(lambda v: add_run(v, file_ids=[file_id]))
    run = await ledger.transact(lambda v: v.run(run_id))
    assert (run.state, run.parameters, run.trigger_type) == (
        RunState.QUEUED,
        {"month": "Oct"},
        TriggerType.FILE_ARRIVAL,
    )
    tasks = await ledger.transact(lambda v: v.tasks(run_id))
    assert [(t.task_key, t.depends_on, t.state) for t in tasks] == [(k, d, TaskState.PENDING) for k, d in TASKS]
    assert await ledger.transact(lambda v: v.run_file_ids(run_id)) == [file_id]
    assert await ledger.transact(lambda v: to_load(v, run_id)) == [file_id]


async def test_a_run_loads_what_was_not_replaced_or_quarantined_meanwhile(ledger):
    ids = await ledger.transact(lambda v: [v.add_version(arrival(n)) for n in (b"a", b"b", b"c")])
    run_id = await ledger.transact(lambda v: add_run(v, file_ids=ids))
    await ledger.transact(lambda v: v.replace(ids[0], reason="newer"))
    await ledger.transact(lambda v: v.quarantine(ids[1], reason="bad"))
    assert await ledger.transact(lambda v: to_load(v, run_id)) == ids[2:]


async def test_a_run_moves_only_from_the_state_that_the_verb_names(ledger):
    run_id = await ledger.transact(add_run)

    async def state_after(verb):
        await ledger.transact(verb)
        return (await ledger.transact(lambda v: v.run(run_id))).state

    assert await state_after(lambda v: v.terminate_run(run_id, Result.CANCELED, error="x")) is RunState.QUEUED
    assert await state_after(lambda v: v.start_run(run_id, now_s=2.0)) is RunState.RUNNING
    assert await state_after(lambda v: v.end_run(run_id, Result.FAILED, error="x", now_s=3.0)) is RunState.TERMINATED
    assert await state_after(lambda v: v.start_run(run_id, now_s=4.0)) is RunState.TERMINATED
    assert (await ledger.transact(lambda v: v.run(run_id))).started_at_s == 2.0
    assert await state_after(lambda v: v.repair_run(run_id, ["bronze"], now_s=5.0)) is RunState.QUEUED
    assert await state_after(lambda v: v.start_run(run_id, now_s=6.0)) is RunState.RUNNING
    assert await state_after(lambda v: v.skip_run(run_id, Result.CANCELED, error="x", now_s=7.0)) is RunState.RUNNING
    assert await state_after(lambda v: v.terminate_run(run_id, Result.CANCELED, error="x")) is RunState.TERMINATING
    assert await state_after(lambda v: v.end_run(run_id, Result.CANCELED, error="x", now_s=9.0)) is RunState.TERMINATED


async def test_a_running_run_is_not_repaired_and_nothing_of_the_try_stays(ledger, path):
    run_id = await ledger.transact(add_run)
    with pytest.raises(TypeError):
        await ledger.transact(lambda v: v.repair_run(run_id, ["bronze"], now_s=5.0))
    assert looked_up(path, "SELECT count(*) FROM repairs") == [(0,)]


async def test_a_task_moves_only_from_the_state_that_the_verb_names(ledger):
    run_id = await ledger.transact(add_run)
    never_begun = AttemptKey(run_id, "bronze", 1)
    await ledger.transact(lambda v: set_task(v, never_begun, TaskState.TERMINATED, Result.SUCCESS))
    assert (await ledger.transact(lambda v: task_states(v, run_id)))["bronze"] is TaskState.PENDING
    key = await ledger.transact(lambda v: v.begin_attempt(run_id, "bronze", now_s=11.0))
    await ledger.transact(lambda v: v.end_tasks(run_id, ["bronze", "silver"], Result.UPSTREAM_FAILED, now_s=12.0))
    assert await ledger.transact(lambda v: task_states(v, run_id)) == {
        "bronze": TaskState.RUNNING,
        "silver": TaskState.TERMINATED,
        "gold": TaskState.PENDING,
    }
    with pytest.raises(TypeError):  # it has begun
        await ledger.transact(lambda v: v.begin_attempt(run_id, "bronze", now_s=11.0))
    await ledger.transact(lambda v: set_task(v, key, TaskState.WAITING_FOR_RETRY))
    again = await ledger.transact(lambda v: v.begin_attempt(run_id, "bronze", now_s=13.0))
    assert (key.attempt, again.attempt) == (1, 2)


async def test_attempts_are_numbered_on_through_repairs(ledger, path):
    run_id = await ledger.transact(add_run)

    def fail(v):
        v.start_run(run_id, now_s=1.0)
        set_task(v, v.begin_attempt(run_id, "bronze", now_s=11.0), TaskState.TERMINATED, Result.FAILED)
        v.end_run(run_id, Result.FAILED, error="x", now_s=12.0)
        return v.repair_run(run_id, ["bronze"], now_s=13.0)

    assert [await ledger.transact(fail) for _ in range(3)] == [1, 2, 3]
    assert looked_up(path, "SELECT attempt FROM attempts ORDER BY 1") == [(1,), (2,), (3,)]


async def test_a_file_that_a_failed_run_did_not_load_says_what_to_do(ledger, path):
    def record(v):
        run_id = add_run(v, file_ids=[v.add_version(arrival())])
        v.start_run(run_id, now_s=1.0)
        v.end_run(run_id, Result.FAILED, error="x", now_s=2.0)

    await ledger.transact(record)
    (reason,) = looked_up(path, "SELECT reason FROM files")[0]
    assert "landingd repair 1" in reason


# --- ids --------------------------------------------------------------------------------------------------


async def test_ids_that_the_warehouse_has_seen_are_never_handed_out(ledger):
    await ledger.transact(lambda v: v.never_below(run_id=41, file_id=99))
    await ledger.transact(lambda v: v.never_below(run_id=1, file_id=1))
    assert await ledger.transact(add_run) == 42
    assert await ledger.transact(lambda v: v.add_version(arrival())) == 100


async def test_an_id_is_not_given_to_anything_else_after_a_deletion(ledger):
    await ledger.transact(lambda v: v.add_waiting("shop", b"a", SIGNATURE, reason="held", now_s=1.0))
    await ledger.transact(lambda v: v.forget_waiting("shop", b"a"))
    assert await ledger.transact(lambda v: v.add_version(arrival())) == 2


# --- outbox -----------------------------------------------------------------------------------------------


def notices(*names):
    return [Notice(f"topic/{name}", {"event_id": name, "job": "shop"}) for name in names]


async def test_events_are_told_in_the_order_in_which_they_happened_and_each_once(ledger):
    await ledger.transact(lambda v: v.tell(notices("a", "b")))
    await ledger.transact(lambda v: v.tell(notices("b", "c")))
    untold = await ledger.transact(lambda v: v.untold(10))
    assert [topic for _, topic, _ in untold] == ["topic/a", "topic/b", "topic/c"]
    await ledger.transact(lambda v: v.told(untold[1][0]))
    assert await ledger.transact(lambda v: v.untold(10)) == untold[2:]


async def test_the_outbox_gives_up_its_oldest_events_and_says_how_many(ledger):
    await ledger.transact(lambda v: v.tell(notices(*"abcdefg")))
    assert await ledger.transact(lambda v: v.trim_outbox(3)) == 4
    assert [topic for _, topic, _ in await ledger.transact(lambda v: v.untold(10))] == ["topic/e", "topic/f", "topic/g"]
    assert await ledger.transact(lambda v: v.trim_outbox(3)) == 0


async def test_an_empty_outbox_has_nothing_to_give_up(ledger):
    assert await ledger.transact(lambda v: v.trim_outbox(3)) == 0


async def test_a_ledger_that_keeps_no_notices_keeps_none(path):
    thread = LedgerThread(path, keep_notices=False)
    await thread.transact(lambda v: v.tell(notices("a")))
    assert await thread.transact(lambda v: v.outbox_size()) == 0
    thread.close()


# --- views ------------------------------------------------------------------------------------------------


@pytest.fixture
async def with_history(ledger, path):
    """Two versions of one path: the first loaded and then replaced by the second, which runs now; one that waits."""

    def record(v):
        old = v.add_version(arrival())
        run_id = add_run(v, file_ids=[old])
        v.start_run(run_id, now_s=11.0)
        for task, _ in TASKS:
            key = v.begin_attempt(run_id, task, now_s=11.5)
            stats = Stats(rows_in=2, rows_out=2, how="load 1 file", worked_ms=250.0)
            v.end_attempt(key, "committed", stats=stats, error=None, now_s=12.0)
            set_task(v, key, TaskState.TERMINATED, Result.SUCCESS)
        v.load(AttemptKey(run_id, "bronze", 1), FileLoad(old, 2, 1, 1), now_s=12.0)
        v.end_run(run_id, Result.SUCCESS, error=None, now_s=12.5)
        new = v.add_version(arrival(content="b"))
        second = add_run(v, "k2", file_ids=[new])
        v.start_run(second, now_s=20.0)
        v.add_waiting("shop", b"in/b.csv", SIGNATURE, reason="held", now_s=21.0)

    await ledger.transact(record)
    with closing(views.open_views(path)) as db:
        yield db


def test_a_job_shows_its_last_run_the_one_under_way_and_its_backlog(with_history):
    state = views.job_state(with_history, "shop")
    shown = {key: state[key] for key in ("state", "active_run", "last_run", "last_result", "backlog_files")}
    assert shown == {
        "state": "RUNNING",
        "active_run": 2,
        "last_run": 1,
        "last_result": "SUCCESS",
        "backlog_files": 2,
    }
    assert state["last_ended_at"] == "1970-01-01T00:00:12.500Z"
    nothing = views.job_state(with_history, "never heard of")
    assert (nothing["state"], nothing["last_run"], nothing["backlog_files"]) == ("IDLE", None, 0)


def test_a_run_shows_its_tasks_attempts_and_files(with_history):
    run = views.run(with_history, 1)
    assert (run["result"], run["duration_ms"], run["file_count"]) == ("SUCCESS", 1500.0, 1)
    assert [(t["task_key"], t["attempts"][0]["outcome"]) for t in run["tasks"]] == [
        (key, "committed") for key, _ in TASKS
    ]
    assert [(f["file"], f["rows_in"], f["rows_loaded"], f["rows_rejected"]) for f in run["files"]] == [
        ("in/a.csv", 2, 1, 1)
    ]
    assert views.run(with_history, 99) is None


def test_the_newest_runs_come_first_and_only_those_of_the_job(with_history):
    assert [run["run_id"] for run in views.runs(with_history, job=None, limit=10)] == [2, 1]
    assert [run["run_id"] for run in views.runs(with_history, job=None, limit=1)] == [2]
    assert views.runs(with_history, job="other", limit=10) == []


def test_files_are_counted_and_listed_by_state(with_history):
    assert views.counts(with_history) == {"shop": {"loaded": 1, "waiting": 2}}
    waiting = views.files(with_history, state="waiting", job=None, limit=10)
    assert [(f["file"], f["reason"]) for f in waiting] == [("in/b.csv", "held"), ("in/a.csv", "in run 2")]
    assert views.files(with_history, state=None, job="other", limit=10) == []


@pytest.mark.parametrize("named", [b"in/a.csv", b"a.csv"])
def test_the_versions_of_a_path_are_found_by_the_whole_of_it_or_by_its_end(with_history, named):
    found = views.versions(with_history, named)
    assert [(f["content_hash"], [load["task_key"] for load in f["loads"]]) for f in found] == [
        ("a", ["bronze"]),
        ("b", []),
    ]


def test_the_end_of_a_name_is_not_the_end_of_a_path(with_history):
    assert views.versions(with_history, b".csv") == []


def test_only_complete_files_that_no_run_has_are_pending(with_history):
    assert views.pending(with_history, "shop") == {"files": 0, "bytes": 0}


def test_timings_count_from_when_the_first_file_was_seen(with_history):
    steps = {step["step"]: step["since_landed_ms"] for step in views.timings(with_history, 1)}
    assert steps == {
        "landed": 0.0,
        "complete": 1000.0,
        "run started": 10000.0,
        "bronze": 10750.0,
        "silver": 10750.0,
        "gold": 10750.0,
        "committed": 11000.0,
    }
