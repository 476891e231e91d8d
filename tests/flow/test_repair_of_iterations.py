"""One iteration of a loop is repaired by its name: it alone runs again, whatever became of the others."""

import pytest

import invariants
from bookkeeping import looked_up, place
from landingd.edge.ledger import LedgerThread
from landingd.errors import RefusedError
from landingd.flow.books import Books
from landingd.model import (
    Committed,
    Expanded,
    Failed,
    ForEach,
    Job,
    RepairRequest,
    RunRequest,
    Stats,
    Task,
    TriggerType,
)

GOOD = Committed(Stats())


def script(key, *above):
    # With a timeout a task is tried alone, and not with the whole run in one transaction.
    return Task(key, place(), above, sql="SELECT 1", timeout_s=600.0)


JOB = Job(
    "shop",
    place(),
    (
        script("before"),
        Task("each", place(), ("before",), action=ForEach("[]", script("one"), 10)),
        script("after", "each"),
    ),
)
INPUTS = ("a", "b", "c", "d")


class Ended:
    """A run that has ended: of its loop the first and third iteration went well."""

    def __init__(self, path):
        self.path = path
        self.ledger = LedgerThread(path)
        self.books = Books(self.ledger)
        self.begun = {}

    async def start(self):
        self.take((await self.books.next_run(JOB)).begun)

    def take(self, keys):
        self.begun |= {key.task_key: key for key in keys}

    async def end(self, task_key, outcome=GOOD):
        self.take((await self.books.conclude(JOB, self.begun.pop(task_key), outcome, go_on=True)).begun)

    async def repair(self, *tasks, **more):
        again = await self.books.repair(1, lambda _: JOB, RepairRequest(tasks, **more))
        await self.start()
        return again

    async def expand(self, inputs=INPUTS):
        """Begin the loop; returns the iterations that begin."""
        await self.end("each", Expanded(inputs))
        return sorted(self.begun)

    def stand(self):
        rows = looked_up(self.path, "SELECT task_key, result FROM tasks WHERE parent IS NOT NULL ORDER BY position")
        return [f"{key}: {result}" for key, result in rows]

    def results(self):
        return dict(looked_up(self.path, "SELECT task_key, result FROM tasks WHERE parent IS NULL ORDER BY position"))


@pytest.fixture
async def run(tmp_path):
    ended = Ended(tmp_path / "ledger.sqlite")
    await ended.books.admit(JOB, RunRequest(TriggerType.ONE_TIME, "k"))
    await ended.start()
    await ended.end("before")
    await ended.expand()
    for n, outcome in enumerate((GOOD, Failed("x"), GOOD, Failed("y"))):
        await ended.end(f"each[{n}]", outcome)
    yield ended
    ended.ledger.close()
    assert invariants.broken(ended.path, at_rest=True) == []


async def test_the_iteration_that_is_named_runs_again_and_the_others_stand_as_they_stood(run):
    assert await run.repair("each[3]") == ("each[3]",)
    assert await run.expand() == ["each[3]"]
    await run.end("each[3]")
    assert run.stand() == ["each[0]: SUCCESS", "each[1]: FAILED", "each[2]: SUCCESS", "each[3]: SUCCESS"]
    assert run.results() == {"before": "SUCCESS", "each": "FAILED", "after": "UPSTREAM_FAILED"}
    errors = looked_up(run.path, "SELECT task_key, error FROM tasks WHERE task_key IN ('each', 'each[1]')")
    assert errors == [("each", "1 of 4 iterations did not succeed: each[1]"), ("each[1]", "x")]
    assert await run.repair("each[1]", rerun_dependent_tasks=True) == ("each[1]", "after")
    assert await run.expand() == ["each[1]"]
    await run.end("each[1]")
    await run.end("after")
    assert set(run.results().values()) == {"SUCCESS"}


async def test_one_that_had_gone_well_runs_again_where_it_is_named(run):
    await run.repair("each[0]", "each[1]")
    assert await run.expand() == ["each[0]", "each[1]"]
    await run.end("each[0]", Failed("z"))
    await run.end("each[1]")
    assert run.stand() == ["each[0]: FAILED", "each[1]: SUCCESS", "each[2]: SUCCESS", "each[3]: FAILED"]


async def test_after_a_repair_of_one_the_next_of_the_loop_runs_all_that_failed(run):
    await run.repair("each[3]")
    await run.expand()
    await run.end("each[3]", Failed("y"))
    assert await run.repair() == ("each", "after")
    assert await run.expand() == ["each[1]", "each[3]"]
    for key in ("each[1]", "each[3]", "after"):
        await run.end(key)


async def test_where_what_the_others_ran_over_is_new_they_run_too(run):
    await run.repair("each[3]")
    assert await run.expand(("a", "new", "c", "d", "e")) == ["each[1]", "each[3]", "each[4]"]
    for key in ("each[1]", "each[3]", "each[4]"):
        await run.end(key)


async def test_where_something_before_the_loop_runs_again_all_of_the_loop_does(run):
    assert await run.repair("before", "each[3]") == ("before", "each", "each[3]")
    await run.end("before")
    assert await run.expand() == ["each[0]", "each[1]", "each[2]", "each[3]"]
    for n in range(4):
        await run.end(f"each[{n}]")


@pytest.mark.parametrize("key", ["each[4]", "each[-1]", "each[]", "before[0]", "each[03]"])
async def test_an_iteration_that_is_not_there_is_refused_and_nothing_is_repaired(run, key):
    with pytest.raises(RefusedError, match="the run has no iteration"):
        await run.repair(key)
    assert looked_up(run.path, "SELECT state, repairs FROM runs") == [("TERMINATED", 0)]
