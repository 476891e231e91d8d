"""What one attempt costs the ledger does not hang on how many tasks its run has."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from landingd.edge.ledger import Ledger, _connect
from landingd.flow import entries
from landingd.model import Committed, Job, Place, RunRequest, Stats, Task, TriggerType

HERE = Place("job.yml", 1)
COMMITTED = Committed(Stats())
PROBED = "b0"
"""The task whose end is looked at; those called a... are before it, those called c... behind it."""


def chain(length):
    """Its end lets the next one begin."""
    before, behind = [f"a{n}" for n in range(length)], [f"c{n}" for n in range(length)]
    keys = [*before, PROBED, *behind]
    return [(key, keys[n - 1 : n]) for n, key in enumerate(keys)]


def fan(width):
    """Its end lets none begin: the last task still waits for the others."""
    middle = [*(f"a{n}" for n in range(width)), PROBED, *(f"c{n}" for n in range(width))]
    return [("first", []), *((key, ["first"]) for key in middle), ("last", middle)]


@contextmanager
def a_ledger():
    connection = _connect(Path(":memory:"))
    connection.execute("BEGIN")
    try:
        yield connection, Ledger(connection, keep_notices=True)
    finally:
        connection.close()


def steps_of_the_end(tasks):
    """How many steps SQLite takes to record the end of PROBED, with all tasks before it done and none behind it."""
    job = Job("long", HERE, tuple(Task(key, HERE, tuple(above), sql="SELECT 1", timeout_s=1) for key, above in tasks))
    steps = 0

    def count():
        nonlocal steps
        steps += 1
        return 0

    with a_ledger() as (connection, ledger):
        entries.admit(ledger, job, RunRequest(TriggerType.ONE_TIME, "k"), 1000.0)
        under_way = {key.task_key: key for key in entries.next_run(ledger, job, 1000.0).begun}
        for key in [name for name, _ in tasks if name < PROBED or name == "first"]:
            ended = entries.conclude(ledger, job, under_way.pop(key), COMMITTED, 1001.0, go_on=True)
            under_way |= {begun.task_key: begun for begun in ended.begun}
        connection.set_progress_handler(count, 1)
        entries.conclude(ledger, job, under_way[PROBED], COMMITTED, 1002.0, go_on=True)
    return steps


@pytest.mark.parametrize("shape", [chain, fan])
def test_the_end_of_an_attempt_costs_the_ledger_the_same_in_a_run_of_ten_tasks_and_of_hundreds(shape):
    assert steps_of_the_end(shape(200)) < 1.2 * steps_of_the_end(shape(5))
