"""Backfills over a real ledger: each value once, whatever breaks off and however often it is asked."""

import asyncio

import pytest

from bookkeeping import Clock, UnkindLedger, job, looked_up, place
from landingd.errors import NotFoundError, RefusedError
from landingd.flow import backfill
from landingd.flow.backfill import Backfills
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.model import Committed, Failed, Job, Parameter, Queue, Result, Stats, Task, ValueType

DAY = Parameter("day", "2026-01-01", type=ValueType.DATE)
LABEL = Parameter("label", "")
SHOP = Job(
    "shop",
    place(),
    (Task("sum", place(), sql="SELECT $day"), Task("tell", place(), ("sum",), sql="SELECT 1")),
    parameters=(DAY, LABEL),
)
OCTOBER = {"job": "shop", "parameter": "day", "from": "2026-10-01", "to": "2026-10-05"}


class Stage:
    """The backfills of a daemon, which can be started again on the same ledger."""

    def __init__(self, path, jobs=(SHOP,)):
        self.path = path
        self.jobs = jobs
        self.clock = Clock()
        self.woken = []
        self.ledger = UnkindLedger(path)
        self.books = Books(self.ledger, self.clock)
        self.backfills = Backfills(
            self.books, self.ledger, path, lambda: Catalog(self.jobs), wake=self.woken.append, clock=self.clock
        )

    async def ask(self, **asked):
        return await self.backfills.ask(OCTOBER | asked)

    def runs(self):
        return looked_up(self.path, "SELECT trigger_key, parameters ->> '$.day', state FROM runs ORDER BY run_id")

    async def run_one(self, outcome):
        """Start the next run and end all of its tasks with this outcome."""
        of = self.jobs[0]
        started = await self.books.next_run(of)
        todo = list(started.begun)
        while todo:
            concluded = await self.books.conclude(of, todo.pop(), outcome, go_on=not started.together)
            todo += concluded.begun
        return started.run.run_id


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def stage(path):
    stage = Stage(path)
    yield stage
    stage.ledger.close()


def values(answer):
    return [run["value"] for run in answer["runs"]]


def ids(answer):
    return [run["run_id"] for run in answer["runs"]]


DAYS = [f"2026-10-0{n}" for n in range(1, 6)]


async def test_each_value_of_the_range_becomes_a_run_that_is_given_it(stage):
    answer = await stage.ask(backfill_id="october", parameters={"label": "for {{backfill.iso_date}}"})
    assert stage.runs() == [(f"backfill:october:{day}", day, "QUEUED") for day in DAYS]
    assert answer["runs"][0] == {
        "value": "2026-10-01",
        "run_id": 1,
        "state": "QUEUED",
        "result": None,
        "known": False,
    }
    noted = "trigger_type, trigger_info ->> '$.backfill.iso_date', parameters ->> '$.label'"
    assert looked_up(stage.path, f"SELECT {noted} FROM runs WHERE run_id = 2") == [
        ("BACKFILL", "2026-10-02", "for 2026-10-02")
    ]
    assert set(stage.woken) == {"shop"}


async def test_a_dry_run_shows_the_same_runs_and_leaves_nothing(stage):
    dry = await stage.ask(dry_run=True)
    assert (dry["dry_run"], values(dry), set(ids(dry))) == (True, DAYS, {None})
    assert stage.runs() == []
    assert looked_up(stage.path, "SELECT * FROM backfills") == []
    wet = await stage.ask()
    assert (wet["backfill_id"], values(wet)) == (dry["backfill_id"], DAYS)
    again = await stage.ask(dry_run=True)
    assert ids(again) == ids(wet)
    assert all(run["known"] for run in again["runs"])


async def test_the_same_request_gives_the_same_runs(stage):
    first = await stage.ask(step="2d")
    second = await stage.ask(step="2d")
    assert ids(first) == ids(second) == [1, 2, 3]
    assert all(run["known"] for run in second["runs"])
    third = await stage.ask(step="2d", backfill_id="another")
    assert ids(third) == [4, 5, 6]


async def test_two_who_ask_for_the_same_at_once_get_the_same_runs(stage, monkeypatch):
    monkeypatch.setattr(backfill, "ROWS_AT_A_TIME", 1)
    one, other = await asyncio.gather(stage.ask(), stage.ask())
    assert ids(one) == ids(other) == [1, 2, 3, 4, 5]


async def test_a_known_id_with_another_question_is_refused_and_nothing_enters(stage):
    await stage.ask(backfill_id="october")
    for asked in (
        {"to": "2026-10-06"},
        {"parameters": {"label": "x"}},
        {"step": "1w"},
        {"step": "1d", "dry_run": True},
    ):
        with pytest.raises(RefusedError, match="'october' is known already, and is another one"):
            await stage.ask(backfill_id="october", **asked)
    assert len(stage.runs()) == 5


class BreaksOffError(Exception):
    """The process dies."""


async def break_off(stage, monkeypatch, after):
    """Ask for October; the process dies after so many transactions, each of which enters one run."""
    monkeypatch.setattr(backfill, "ROWS_AT_A_TIME", 1)
    left = [after]
    admit = stage.backfills._admit

    def dying(*arguments):
        row = admit(*arguments)
        left[0] -= 1
        if left[0] < 0:
            raise BreaksOffError
        return row

    monkeypatch.setattr(stage.backfills, "_admit", dying)
    with pytest.raises(BreaksOffError):
        await stage.ask(backfill_id="october")
    stage.ledger.close()


@pytest.mark.parametrize("after", range(5))
async def test_after_a_crash_the_same_request_adds_the_runs_that_are_missing(path, monkeypatch, after):
    await break_off(Stage(path), monkeypatch, after)
    stage = Stage(path)
    assert len(stage.runs()) == after
    answer = await stage.ask(backfill_id="october")
    assert [run["known"] for run in answer["runs"]] == [n < after for n in range(5)]
    assert stage.runs() == [(f"backfill:october:{day}", day, "QUEUED") for day in DAYS]
    stage.ledger.close()


@pytest.mark.parametrize("after", range(1, 5))
async def test_what_a_crash_has_broken_off_goes_on_by_itself_at_the_next_start(path, monkeypatch, after):
    await break_off(Stage(path), monkeypatch, after)
    stage = Stage(path)
    await stage.backfills.resume()
    assert [run[1] for run in stage.runs()] == DAYS
    await stage.backfills.resume()
    assert len(stage.runs()) == 5
    stage.ledger.close()


async def test_a_backfill_that_its_job_does_not_fit_any_more_is_left_alone_at_the_next_start(path, monkeypatch):
    await break_off(Stage(path), monkeypatch, 2)
    for today in (
        (),
        (Job("shop", place(), SHOP.tasks),),
        (Job("shop", place(), SHOP.tasks, max_concurrent_runs=0, parameters=(DAY,)),),
    ):
        stage = Stage(path, today)
        await stage.backfills.resume()
        assert len(stage.runs()) == 2
        stage.ledger.close()


async def test_runs_that_history_has_forgotten_are_not_done_again(stage):
    first = await stage.ask(backfill_id="october")
    for _ in DAYS:
        await stage.run_one(Committed(Stats()))
    await stage.ledger.transact(lambda ledger: ledger.forget_runs([1, 2], before_s=1e9))
    again = await stage.ask(backfill_id="october")
    assert ids(again) == [None, None, *ids(first)[2:]]
    assert all(run["known"] for run in again["runs"])
    assert len(stage.runs()) == 3


async def test_failed_runs_are_repaired_where_that_is_asked_for_and_others_left(stage):
    await stage.ask(backfill_id="october")
    outcomes = [Committed(Stats()), Failed("x", permanent=True), Committed(Stats())]
    for outcome in outcomes:
        await stage.run_one(outcome)
    plain = await stage.ask(backfill_id="october")
    assert [run["result"] for run in plain["runs"]] == ["SUCCESS", "FAILED", "SUCCESS", None, None]
    assert plain["repaired"] == []
    dry = await stage.ask(backfill_id="october", rerun_failed=True, dry_run=True)
    assert dry["repaired"] == []
    again = await stage.ask(backfill_id="october", rerun_failed=True)
    assert again["repaired"] == [2]
    assert ids(again) == ids(plain)
    assert again["runs"][1]["state"] == "QUEUED"
    assert looked_up(stage.path, "SELECT run_id, repairs FROM runs WHERE repairs > 0") == [(2, 1)]


async def test_how_a_backfill_stands_can_be_asked(stage):
    asked = await stage.ask()
    await stage.run_one(Committed(Stats()))
    await stage.run_one(Failed("disk full", permanent=True))
    state = await stage.backfills.state({"backfill_id": asked["backfill_id"]})
    assert state["runs"] == {"FAILED": 1, "QUEUED": 3, "SUCCESS": 1}
    assert (state["values"], state["admitted"], state["done"]) == (5, 5, False)
    assert [(one["value"], one["run_id"], one["result"]) for one in state["failed"]] == [("2026-10-02", 2, "FAILED")]
    with pytest.raises(NotFoundError, match="no backfill 'x'"):
        await stage.backfills.state({"backfill_id": "x"})


async def test_a_backfill_is_longer_than_the_jobs_queue_and_needs_none(path):
    short = Job("shop", place(), SHOP.tasks, parameters=(DAY,), queue=Queue(enabled=False, max_length=1))
    stage = Stage(path, (short,))
    answer = await stage.ask()
    assert {run["state"] for run in answer["runs"]} == {"QUEUED"}
    stage.ledger.close()


@pytest.mark.parametrize(
    ("asked", "error", "what"),
    [
        ({"job": "shpo"}, NotFoundError, "no job 'shpo'"),
        ({"job": None}, NotFoundError, "no job 'None'"),
        ({"parameter": "dya"}, RefusedError, "job 'shop' has no parameter 'dya'"),
        ({"parameter": None}, RefusedError, "parameter: a backfill needs one"),
        ({"to": ""}, RefusedError, "to: a backfill needs one"),
        ({"to": "2026-10-32"}, RefusedError, "both ends must be a date"),
        ({"from": "1900-01-01"}, RefusedError, "is more than 10000 runs"),
        ({"parameters": {"day": "2026-10-01"}}, RefusedError, "the backfill runs over 'day'"),
        ({"parameters": {"lable": "x"}}, RefusedError, "job 'shop' has no parameter 'lable'"),
        ({"parameters": [1]}, RefusedError, "parameters: must be an object"),
        ({"dry_run": "yes"}, RefusedError, "dry_run: must be true or false"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_before_anything_is_written(stage, asked, error, what):
    with pytest.raises(error, match=what):
        await stage.ask(**asked)
    assert stage.runs() == []
    assert looked_up(stage.path, "SELECT * FROM backfills") == []


async def test_a_job_that_starts_no_runs_is_not_backfilled(path):
    stage = Stage(path, (Job("shop", place(), SHOP.tasks, parameters=(DAY,), max_concurrent_runs=0),))
    with pytest.raises(RefusedError, match="no run of job 'shop' starts"):
        await stage.ask()
    stage.ledger.close()


async def test_a_backfill_takes_no_files_from_the_runs_that_wait_for_them(path):
    with_files = job(parameters=(DAY,))
    stage = Stage(path, (with_files,))
    await stage.ask()
    assert looked_up(stage.path, "SELECT DISTINCT has_files FROM runs") == [(0,)]
    stage.ledger.close()


def test_every_result_is_well_or_has_failed():
    assert {Result.SUCCESS, Result.SUCCESS_WITH_FAILURES} == backfill._WELL
