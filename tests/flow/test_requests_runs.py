"""Runs that are asked for, taken up again and broken off, over the requests of the control socket."""

import pytest

from bookkeeping import Clock, bronze, job, table
from landingd.edge.ledger import LedgerThread, views
from landingd.errors import NotFoundError, RefusedError
from landingd.flow import answers
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.entries import Started, ending
from landingd.flow.requests_runs import RunRequests
from landingd.model import Committed, Failed, Parameter, Queue, Stats, Widget

MONTH = Parameter("month", "Oct", ("Oct", "Nov"), Widget.DROPDOWN)
SHOP = job(bronze(), table("gold", "bronze"), table("report", "gold"), parameters=(MONTH,), queue=Queue(max_length=5))
BUSY = job(name="busy", queue=Queue(enabled=False))


class Desk:
    """Two jobs, a ledger, and the requests."""

    def __init__(self, path):
        self.path = path
        self.ledger = LedgerThread(path)
        self.books = Books(self.ledger, Clock(10_000.0))
        self.catalog = Catalog((SHOP, BUSY))
        self.books.definition = self.catalog.job
        self.woken = []
        self.requests = RunRequests(self.books, lambda: self.catalog, self.woken.append)

    async def start(self, name="shop", **asked):
        return await self.requests.start({"job": name, **asked})

    async def begin(self, of=SHOP):
        """Start what is queued; returns the first attempts."""
        started = await self.books.next_run(of)
        assert isinstance(started, Started)
        return started.begun

    async def play(self, outcomes, of=SHOP):
        """Start a run and let its tasks end so: by key, else well."""
        begun = list(await self.begin(of))
        while begun:
            key = begun.pop(0)
            outcome = outcomes.get(key.task_key, Committed(Stats()))
            begun += (await self.books.conclude(of, key, outcome, go_on=True)).begun
        return key.run_id

    def run(self, run_id):
        with views.reading(self.path) as db:
            return answers.run_or_refuse(db, run_id)

    def close(self):
        self.ledger.close()


@pytest.fixture
async def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.sqlite")
    yield desk
    desk.close()


# --- start ------------------------------------------------------------------------------------------------------


async def test_a_run_is_queued_with_its_values_and_its_job_is_woken(desk):
    answer = await desk.start(parameters={"month": "Nov"})
    assert answer == {"run_id": 1, "job": "shop", "state": "QUEUED", "result": None, "known": False}
    assert desk.run(1)["parameters"] == {"month": "Nov"}
    assert desk.woken == ["shop"]


async def test_the_same_request_id_is_the_same_run(desk):
    first = await desk.start(request_id="42")
    again = await desk.start(request_id="42")
    other = await desk.start(request_id="43")
    assert (again["run_id"], again["known"], other["run_id"]) == (first["run_id"], True, 2)


async def test_a_run_of_some_tasks_has_only_those(desk):
    answer = await desk.start(only=["+gold"])
    run = desk.run(answer["run_id"])
    assert ([task["task_key"] for task in run["tasks"]], run["only"]) == (["bronze", "gold"], ["+gold"])


async def test_a_run_that_may_not_wait_is_skipped_and_says_so(desk):
    await desk.start("busy")
    skipped = await desk.start("busy")
    assert (skipped["state"], skipped["result"]) == ("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED")
    waits = await desk.start("busy", queue=True)
    assert waits["state"] == "QUEUED"


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"job": "shp"}, NotFoundError, ["shp", "shop"]),
        ({"parameters": {"month": "Dec"}}, RefusedError, ["month", "Dec", "Oct"]),
        ({"parameters": {"moth": "Oct"}}, RefusedError, ["moth", "month"]),
        ({"parameters": ["Oct"]}, RefusedError, ["parameters", "object"]),
        ({"parameters": {"month": ["Oct"]}}, RefusedError, ["parameters.month"]),
        ({"only": "gold"}, RefusedError, ["only", "list"]),
        ({"only": ["golf"]}, RefusedError, ["golf"]),
        ({"queue": "no"}, RefusedError, ["queue", "true or false"]),
        ({"paramters": {"month": "Nov"}}, RefusedError, ["paramters", "did you mean 'parameters'"]),
        ({"job": None}, RefusedError, ["job", "name"]),
    ],
)
async def test_what_cannot_be_started_is_refused_and_leaves_no_run(desk, asked, error, words):
    with pytest.raises(error) as refused:
        await desk.start(**asked) if "job" not in asked else await desk.requests.start(asked)
    assert all(word in str(refused.value) for word in words), refused.value
    with views.reading(desk.path) as db:
        assert views.runs(db, job=None, limit=9) == []


# --- repair -----------------------------------------------------------------------------------------------------


async def test_a_repair_runs_what_failed_and_what_is_behind_it(desk):
    await desk.start()
    run_id = await desk.play({"gold": Failed("no such column", permanent=True)})
    answer = await desk.requests.repair({"run_id": run_id})
    assert answer == {"run_id": run_id, "job": "shop", "tasks": ["gold", "report"], "repair": 1}
    assert await desk.play({}) == run_id
    run = desk.run(run_id)
    assert (run["result"], [r["result"] for r in run["repair_history"]]) == ("SUCCESS", ["SUCCESS"])
    bronze_, gold, _ = run["tasks"]
    assert ([a["repair"] for a in bronze_["attempts"]], [a["repair"] for a in gold["attempts"]]) == ([0], [0, 1])


async def test_named_tasks_of_a_run_that_went_well_run_again_with_other_values(desk):
    await desk.start()
    run_id = await desk.play({})
    answer = await desk.requests.repair({"run_id": run_id, "tasks": ["gold"], "parameters": {"month": "Nov"}})
    assert (answer["tasks"], desk.run(run_id)["parameters"]) == (["gold"], {"month": "Nov"})


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"run_id": 99}, NotFoundError, ["99"]),
        ({"run_id": 1 << 63}, NotFoundError, [str(1 << 63)]),
        ({"run_id": "the last"}, RefusedError, ["run_id", "number"]),
        ({"latest_repair_id": 3}, RefusedError, ["latest repair"]),
        ({"tasks": ["gold"], "all_failed": True}, RefusedError, ["not both"]),
        ({"tasks": ["golf"]}, RefusedError, ["golf"]),
        ({"latest_repair_id": "1"}, RefusedError, ["latest_repair_id", "whole number"]),
        ({"dependents": 1}, RefusedError, ["dependents"]),
    ],
)
async def test_a_repair_that_cannot_be_is_refused(desk, asked, error, words):
    await desk.start()
    run_id = await desk.play({"gold": Failed("no", permanent=True)})
    with pytest.raises(error) as refused:
        await desk.requests.repair({"run_id": run_id} | asked)
    assert all(word in str(refused.value) for word in words), refused.value
    assert desk.run(run_id)["state"] == "TERMINATED"


# --- cancel -----------------------------------------------------------------------------------------------------


async def test_a_queued_run_that_is_canceled_ends_at_once(desk):
    answer = await desk.start()
    assert (await desk.requests.cancel({"run_id": answer["run_id"]}))["state"] == "TERMINATED"
    run = desk.run(answer["run_id"])
    assert (run["result"], {task["result"] for task in run["tasks"]}) == ("CANCELED", {"CANCELED"})


async def test_a_run_under_way_is_told_to_end(desk):
    await desk.start()
    key, *_ = await desk.begin()
    told = []
    desk.books.on_cancel = told.append
    assert (await desk.requests.cancel({"run_id": key.run_id}))["state"] == "TERMINATING"
    assert told == [key.run_id]


async def test_all_runs_of_a_job_are_canceled_or_only_those_that_wait(desk):
    for _ in range(3):
        await desk.start()
    key, *_ = await desk.begin()
    assert await desk.requests.cancel_job({"job": "shop", "queued_only": True}) == {"job": "shop", "runs": [2, 3]}
    assert await desk.requests.cancel_job({"job": "shop"}) == {"job": "shop", "runs": [key.run_id]}
    assert await desk.requests.cancel_job({"job": "busy"}) == {"job": "busy", "runs": []}
    with pytest.raises(NotFoundError):
        await desk.requests.cancel_job({"job": "nobody"})


async def test_thousands_of_runs_are_canceled_in_many_transactions_and_none_is_left_out(desk, monkeypatch):
    monkeypatch.setattr(ending, "CANCELED_AT_ONCE", 2)
    for _ in range(5):
        await desk.start()
    assert (await desk.requests.cancel_job({"job": "shop"}))["runs"] == [1, 2, 3, 4, 5]
    assert {desk.run(run_id)["result"] for run_id in range(1, 6)} == {"CANCELED"}


async def test_a_run_that_has_ended_cannot_be_canceled(desk):
    await desk.start()
    run_id = await desk.play({})
    with pytest.raises(RefusedError, match="ended"):
        await desk.requests.cancel({"run_id": run_id})
    with pytest.raises(NotFoundError):
        await desk.requests.cancel({"run_id": 99})
