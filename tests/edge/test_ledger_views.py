"""What is told of runs: by the views that answer the command line, and by those that anybody may SELECT from."""

import sqlite3

import pytest

from landingd.edge.ledger import views
from landingd.edge.ledger.views.alerts import alerts as waiting_alerts
from landingd.model import utc
from pastruns import T0_S, PastRuns


@pytest.fixture
def past(tmp_path):
    with PastRuns(tmp_path / "ledger.sqlite") as past:
        yield past


@pytest.fixture
def db(past):
    with views.reading(past.path) as db:
        yield db


def repaired(past):
    """A run whose gold failed, was tried twice, and repaired an hour later."""
    run = past.run(took=30, repairs=1, resumed_at_s=T0_S + 3601, ended_at_s=T0_S + 3621, worked_s=30.0)
    past.task(run, "bronze")
    past.task(run, "gold", after=["bronze"], output='{"rows": [{"n": 1}, {"n": 2}], "values": {"n": 1}}')
    past.task(run, "report", after=["gold"], run_if="ALL_DONE")
    past.attempt(run, "bronze", 1, (1, 5), resolved='{"month": "Oct"}')
    past.attempt(run, "gold", 1, (5, 6), "failed", error="no such column")
    past.attempt(run, "gold", 2, (8, 11), "timed out")
    past.attempt(run, "gold", 3, (3601, 3620), repair=1)
    past.attempt(run, "report", 1, (3620, 3621), repair=1)
    past.repair(run, 1, ["gold", "report"], 3600, started_at_s=T0_S + 3601, ended_at_s=T0_S + 3621, result="SUCCESS")
    return run


# --- runs -------------------------------------------------------------------------------------------------------


def test_the_duration_of_a_repaired_run_is_without_the_night_in_between(past, db):
    run = repaired(past)
    assert views.run(db, run)["duration_ms"] == 30_000.0


def test_a_run_from_before_repairs_were_timed_apart_has_its_duration(past, db):
    run = past.run(took=7, resumed_at_s=None, worked_s=0.0)
    assert views.run(db, run)["duration_ms"] == 7_000.0


def test_a_run_that_goes_on_or_was_skipped_has_no_duration(past, db):
    going = past.run(result=None)
    skipped = past.run(
        result="MAXIMUM_CONCURRENT_RUNS_REACHED", state="SKIPPED", started_at_s=None, resumed_at_s=None, worked_s=0.0
    )
    assert [run["duration_ms"] for run in views.runs(db, job="shop", limit=9)] == [None, None]
    assert views.run(db, skipped)["queued_ms"] is None
    assert views.run(db, going)["queued_ms"] == 1000.0


def test_a_run_tells_of_its_repairs_attempts_and_what_its_tasks_left(past, db):
    run = views.run(db, repaired(past))
    (repair,) = run["repair_history"]
    assert (repair["repair"], repair["tasks"], repair["result"]) == (1, ["gold", "report"], "SUCCESS")
    assert (repair["started_at"], repair["ended_at"]) == ("2023-11-14T23:13:21.000Z", "2023-11-14T23:13:41.000Z")
    bronze, gold, report = run["tasks"]
    assert bronze["attempts"][0]["parameters"] == {"month": "Oct"}
    assert [(a["attempt"], a["repair"], a["outcome"]) for a in gold["attempts"]] == [
        (1, 0, "failed"),
        (2, 0, "timed out"),
        (3, 1, "committed"),
    ]
    assert gold["output"]["row_count"] == 2
    assert (report["run_if"], report["depends_on"]) == ("ALL_DONE", ["gold"])


def test_of_the_rows_that_a_task_left_the_first_ones_are_told(past, db):
    run = past.run()
    past.task(run, "gold", output=f'{{"rows": {[1] * 1000}}}')
    output = views.run(db, run)["tasks"][0]["output"]
    assert (len(output["rows"]), output["row_count"]) == (10, 1000)


def test_a_loop_counts_its_iterations(past, db):
    run = past.run(result=None)
    past.task(run, "each", None, state="RUNNING", concurrency=2)
    for number, (state, result) in enumerate(
        [("TERMINATED", "SUCCESS"), ("TERMINATED", "FAILED"), ("RUNNING", None), ("PENDING", None)]
    ):
        past.task(run, f"each[{number}]", result, state=state, parent="each", input=f'"{number}"')
    loop, first, *_ = views.run(db, run)["tasks"]
    counts = {"concurrency": 2, "total": 4, "active": 1, "completed": 2, "succeeded": 1, "failed": 1}
    assert loop["iterations"] == counts | {"errors": []}
    assert (first["parent"], first["input"], first["iterations"]) == ("each", "0", None)


def test_a_loop_tells_its_commonest_errors(past, db):
    run = past.run(result=None)
    past.task(run, "each", "FAILED", concurrency=2)
    for number, error in enumerate(["a", "disk full", "b", "disk full", "c", "b", "disk full", None]):
        past.task(run, f"each[{number}]", "FAILED" if error else "CANCELED", parent="each", input="1", error=error)
    loop, *_ = views.run(db, run)["tasks"]
    assert loop["iterations"]["errors"] == [("disk full", 3), ("b", 2), ("a", 1)]


def test_iterations_that_a_repair_no_longer_asks_for_are_not_counted(past, db):
    run = past.run(repairs=1)
    past.task(run, "each", concurrency=2)
    for number, result in enumerate(["SUCCESS", "EXCLUDED", "EXCLUDED"]):
        past.task(run, f"each[{number}]", result, parent="each", input="1")
    loop, *_ = views.run(db, run)["tasks"]
    assert (loop["iterations"]["total"], loop["iterations"]["completed"]) == (1, 1)


def test_what_has_no_statements_is_done_when_it_ends_and_steps_stand_as_they_were_done(past, db):
    run = past.run()
    for key, worked_ms, (began, ended) in [("child", 0.0, (1, 9)), ("sql", 2500.0, (2, 5)), ("check", 0.0, (3, 4))]:
        past.task(run, key)
        past.attempt(run, key, 1, (began, ended), "committed", worked_ms=worked_ms)
    steps = views.timings(db, run)
    done = {step["step"]: step["since_landed_ms"] - steps[0]["since_landed_ms"] for step in steps}
    assert list(done) == ["run started", "check", "sql", "child", "committed"]
    assert (done["child"] - done["check"], done["sql"] - done["check"]) == (5000.0, 500.0)
    assert done["committed"] == done["child"]


def test_a_run_says_who_asked_for_it_and_for_which_tasks(past, db):
    run = past.run(
        trigger_name="schedule", only_tasks='["+gold"]', parent_run_id=7, parent_task_key="sub", priority=3, depth=1
    )
    told = views.run(db, run)
    assert (told["trigger_name"], told["only"], told["priority"]) == ("schedule", ["+gold"], 3)
    assert told["parent"] == {"run_id": 7, "task_key": "sub"}


def test_the_queue_is_in_the_order_in_which_runs_start(past, db):
    nobody = {"state": "QUEUED", "started_at_s": None, "resumed_at_s": None}
    late, urgent = past.run(result=None, **nobody), past.run(result=None, priority=9, **nobody)
    going = past.run(result=None)
    assert [run["run_id"] for run in views.queued(db)] == [urgent, late]
    assert [run["run_id"] for run in views.under_way(db)] == [going]


def test_an_alert_waits_as_long_as_its_destination_does(past, db):
    for seq, (destination, next_try_s) in enumerate([("ops", 500.0), ("ops", 100.0), ("chat", 200.0)], 1):
        past.put(
            "alerts", seq=seq, channel="webhook", destination=destination, event_id=f"e{seq}", created_at_s=1.0,
            next_try_s=next_try_s, payload="{}",
        )  # fmt: skip
    told = [(one["seq"], one["next_try_at"]) for one in waiting_alerts(db)]
    assert told == [(1, utc(500.0)), (2, utc(500.0)), (3, utc(200.0))]


# --- jobs -------------------------------------------------------------------------------------------------------


def test_a_job_tells_its_runs_its_queue_and_its_last_success(past, db):
    past.run(at=0, took=1)
    failed = past.run(result="FAILED", at=100, took=2, error="gold: no")
    one, two = past.run(result=None, at=200), past.run(result=None, at=201)
    past.run(result=None, at=202, state="QUEUED", started_at_s=None)
    past.run(result="MAX_JOB_QUEUE_SIZE_EXCEEDED", at=203, state="SKIPPED", started_at_s=None)
    past.run(job="other", result=None)
    state = views.job_state(db, "shop")
    assert (state["state"], state["active_run"], state["active_runs"], state["queued_runs"]) == (
        "RUNNING",
        one,
        [one, two],
        1,
    )
    assert (state["last_run"], state["last_result"], state["last_duration_ms"]) == (failed, "FAILED", 2000.0)
    assert state["last_success_at"] == "2023-11-14T22:13:22.000Z"


def test_a_job_without_runs_is_idle(db):
    state = views.job_state(db, "shop")
    assert (state["state"], state["active_run"], state["last_run"], state["next_fire_time"]) == (
        "IDLE",
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("said", "asked", "paused"),
    [(False, None, False), (True, None, True), (False, 1, True), (True, 0, False)],
    ids=["nothing", "the job file", "a pause", "a resume above the job file"],
)
def test_a_pause_on_request_stands_above_the_job_file(past, db, said, asked, paused):
    past.put("triggers", job="shop", trigger_name="", since_s=0.0, paused=asked)
    past.put("triggers", job="shop", trigger_name="schedule", since_s=0.0, next_fire_s=T0_S)
    state = views.job_state(db, "shop", paused=said)
    assert state["paused"] is paused
    assert (state["next_fire_time"] is None) is paused


def test_the_next_fire_time_is_the_first_of_the_triggers_that_are_not_paused(past, db):
    for name, at, paused in (("schedule", 50, None), ("periodic", 20, None), ("schedule-2", 5, 1)):
        past.put("triggers", job="shop", trigger_name=name, since_s=0.0, next_fire_s=T0_S + at, paused=paused)
    assert views.job_state(db, "shop")["next_fire_time"] == "2023-11-14T22:13:40.000Z"


# --- the matrix -------------------------------------------------------------------------------------------------


def cells(matrix, key):
    task = next(task for task in matrix["tasks"] if task["task_key"] == key)
    return [None if cell is None else cell["result"] or cell["state"] for cell in task["cells"]]


def test_a_repair_is_a_column_in_which_only_what_ran_again_has_a_mark(past, db):
    run = repaired(past)
    matrix = views.matrix(db, "shop", 10)
    assert [(c["run_id"], c["repair"], c["result"]) for c in matrix["columns"]] == [
        (run, 0, "FAILED"),
        (run, 1, "SUCCESS"),
    ]
    assert cells(matrix, "bronze") == ["SUCCESS", None]
    assert cells(matrix, "gold") == ["TIMEDOUT", "SUCCESS"]
    assert cells(matrix, "report") == ["UPSTREAM_FAILED", "SUCCESS"]
    assert [c["duration_ms"] for c in matrix["columns"]] == [10_000.0, 20_000.0]


def test_the_matrix_has_the_newest_runs_and_every_task_that_one_of_them_has(past, db):
    for number, keys in enumerate([["gone"], ["bronze", "old"], ["bronze", "new"]]):
        run = past.run(at=100 * number)
        for key in keys:
            past.task(run, key)
    matrix = views.matrix(db, "shop", 2)
    assert [column["run_id"] for column in matrix["columns"]] == [2, 3]
    assert [task["task_key"] for task in matrix["tasks"]] == ["bronze", "new", "old"]
    assert (cells(matrix, "new"), cells(matrix, "old")) == ([None, "SUCCESS"], ["SUCCESS", None])


def test_what_each_task_had_come_to_before_a_repair_is_kept_though_the_job_has_changed(past, db):
    run = past.run(repairs=1)
    for key in ("bronze", "gold", "added"):
        past.task(run, key)
    past.attempt(run, "bronze", 1, (1, 2), "committed")
    past.attempt(run, "gold", 1, (20, 29), "committed", repair=1)
    past.attempt(run, "added", 1, (20, 29), "committed", repair=1)
    past.repair(run, 1, ["gold", "added"], 19)
    for key, result in [("bronze", "SUCCESS"), ("gold", "CANCELED"), ("gone", "EXCLUDED")]:
        past.earlier(run, 0, key, result)
    matrix = views.matrix(db, "shop", 5)
    assert [(task["task_key"], cells(matrix, task["task_key"])) for task in matrix["tasks"]] == [
        ("bronze", ["SUCCESS", None]),
        ("gold", ["CANCELED", "SUCCESS"]),
        ("added", [None, "SUCCESS"]),
        ("gone", ["EXCLUDED", None]),
    ]


@pytest.mark.parametrize(("outcome", "first"), [("failed", "FAILED"), ("committed", "SUCCESS")])
def test_what_a_loop_came_to_before_its_repair_is_what_its_iterations_came_to(past, db, outcome, first):
    run = past.run(repairs=1)
    past.task(run, "each", concurrency=1)
    past.task(run, "each[0]", parent="each", input="1")
    past.attempt(run, "each", 1, (1, 9), "expanded")
    past.attempt(run, "each[0]", 1, (1, 9), outcome)
    past.attempt(run, "each", 2, (20, 29), "expanded", repair=1)
    past.repair(run, 1, ["each"], 19)
    matrix = views.matrix(db, "shop", 5)
    assert [task["task_key"] for task in matrix["tasks"]] == ["each"]
    assert cells(matrix, "each") == [first, "SUCCESS"]


def test_a_run_under_way_shows_where_each_task_stands(past, db):
    run = past.run(result=None)
    past.task(run, "bronze", None, state="RUNNING")
    past.task(run, "gold", None, after=["bronze"])
    matrix = views.matrix(db, "shop", 5)
    assert (cells(matrix, "bronze"), cells(matrix, "gold")) == (["RUNNING"], ["PENDING"])
    assert matrix["columns"][0]["state"] == "RUNNING"


# --- for anybody ------------------------------------------------------------------------------------------------


def table(past, name):
    with sqlite3.connect(past.path) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT * FROM {name} ORDER BY 1, 3, 4")]


def test_job_run_timeline_has_a_row_for_each_run(past):
    run = repaired(past)
    past.run(
        result="MAXIMUM_CONCURRENT_RUNS_REACHED", state="SKIPPED", started_at_s=None, resumed_at_s=None, ended_at_s=T0_S
    )
    past.run(result=None)
    past.run(result="CANCELED", took=3)
    rows = {row["run_id"]: row for row in table(past, "job_run_timeline")}
    first = rows[run]
    assert (first["job_name"], first["run_type"], first["trigger_type"]) == ("shop", "JOB_RUN", "FILE_ARRIVAL")
    assert first["period_start_time"] == "2023-11-14T22:13:21.000Z"
    assert (first["queue_duration_seconds"], first["run_duration_seconds"]) == (1.0, 30.0)
    told = [(rows[i]["result_state"], rows[i]["termination_code"], rows[i]["termination_type"]) for i in (1, 2, 3, 4)]
    assert told == [
        ("SUCCESS", "SUCCESS", "SUCCESS"),
        ("SKIPPED", "MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
        (None, None, None),
        ("CANCELED", "USER_CANCELED", "CLIENT_ERROR"),
    ]
    assert rows[3]["period_end_time"] is None
    assert rows[3]["run_duration_seconds"] is None


def test_job_task_run_timeline_has_a_row_for_each_attempt_and_for_each_task_without_one(past):
    run = repaired(past)
    past.task(run, "left_out", "EXCLUDED")
    rows = [row for row in table(past, "job_task_run_timeline") if row["job_run_id"] == run]
    told = {(row["task_key"], row["attempt"]): (row["result_state"], row["termination_code"]) for row in rows}
    assert told == {
        ("bronze", 1): ("SUCCESS", "SUCCESS"),
        ("gold", 1): ("FAILED", "RUN_EXECUTION_ERROR"),
        ("gold", 2): ("TIMEDOUT", "CANCELED"),
        ("gold", 3): ("SUCCESS", "SUCCESS"),
        ("report", 1): ("SUCCESS", "SUCCESS"),
        ("left_out", 0): ("EXCLUDED", "SKIPPED"),
    }
    assert len({row["run_id"] for row in rows}) == len(rows), "each attempt has an id of its own"
    bronze = next(row for row in rows if row["task_key"] == "bronze")
    assert (bronze["task_parameters"], bronze["execution_duration_seconds"]) == ('{"month": "Oct"}', 4.0)


def test_the_views_of_an_older_version_are_brought_up_to_date(past, tmp_path):
    with sqlite3.connect(past.path) as db:
        db.execute("DROP VIEW job_run_timeline")
        db.execute("CREATE VIEW job_run_timeline AS SELECT 1 AS old")
    PastRuns(past.path).close()
    past.run()
    assert table(past, "job_run_timeline")[0]["result_state"] == "SUCCESS"
