"""Runs of one job that go on side by side write its tables one after another, whatever is repaired or canceled."""

from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bookkeeping import place
from landingd.edge.ledger import Ledger, _connect
from landingd.errors import RefusedError
from landingd.flow import entries
from landingd.model import (
    Canceled,
    Committed,
    Failed,
    Interrupted,
    Job,
    RepairRequest,
    RunRequest,
    RunState,
    Stats,
    Task,
    TaskState,
    TriggerType,
)

TABLES = frozenset({"silver", "gold"})
GOOD = Committed(Stats())
UNDER_WAY = {RunState.RUNNING, RunState.TERMINATING}


def script(key, *above, **more):
    return Task(key, place(), above, sql="SELECT 1", timeout_s=1.0, max_retries=1, **more)


def shop(most=3):
    tasks = (
        script("look"),
        script("silver", "look", table="silver.t"),
        script("think", "silver"),
        script("gold", "think", table="gold.t"),
        script("tell", "gold"),
    )
    return Job("shop", place(), tasks, max_concurrent_runs=most)


class Daemon:
    """Drives the runs of one job as `flow.driving` does: after each change whoever may have waited for it looks."""

    def __init__(self, ledger, job):
        self.ledger, self.job, self.now_s = ledger, job, 1000.0
        self.runs, self.under_way, self.retries, self.driven = [], {}, {}, set()
        self.silver = None
        """The run whose rows silver holds."""
        self.made = set()
        """Runs that have made silver since they were started or repaired."""

    def accept(self, priority=0):
        asked = RunRequest(TriggerType.ONE_TIME, f"k{len(self.runs)}", priority=priority)
        self.runs.append(entries.admit(self.ledger, self.job, asked, self.now_s).run_id)

    def dispatch(self):
        while (started := entries.next_run(self.ledger, self.job, self.now_s, self.driven)) is not None:
            self.driven.add(started.run.run_id)
            self.take(started.begun)
            self.retries |= dict.fromkeys((started.run.run_id, key) for key, _ in started.retries)

    def take(self, begun):
        for key in begun:
            if key.task_key in TABLES:
                assert not [one for one in self.writers() if one != key.run_id], "two runs write side by side"
            self.under_way[key.run_id, key.task_key] = key

    def writers(self):
        """Runs that have begun a table since they were started or repaired, and have tables to write still."""
        return [
            run
            for run in self.runs
            if self.ledger.run(run).state in UNDER_WAY and self.began_tables(run) and self.open_tables(run)
        ]

    def began_tables(self, run_id):
        return self.ledger._db.execute(
            "SELECT count(*) FROM attempts JOIN runs USING (run_id) WHERE run_id = ? AND repair = repairs "
            "AND task_key IN ('silver', 'gold')",
            (run_id,),
        ).fetchone()[0]

    def open_tables(self, run_id):
        return any(t.state is not TaskState.TERMINATED and t.task_key in TABLES for t in self.ledger.tasks(run_id))

    def end(self, which, outcome):
        self.now_s += 1
        key = self.under_way.pop(which)
        if outcome is GOOD:
            self.commit(key)
        concluded = entries.conclude(self.ledger, self.job, key, outcome, self.now_s, go_on=True)
        self.take(concluded.begun)
        if concluded.retry_at_s is not None:
            self.retries[which] = None
        self.look()

    def commit(self, key):
        if key.task_key == "silver":
            self.silver = key.run_id
            self.made.add(key.run_id)
        if key.task_key == "gold" and key.run_id in self.made:
            assert self.silver == key.run_id, "gold is made from the silver of another run"

    def retry(self, which):
        del self.retries[which]
        if self.ledger.task(*which).state is TaskState.WAITING_FOR_RETRY:
            self.take([self.ledger.begin_attempt(*which, now_s=self.now_s)])

    def look(self):
        self.driven = {run for run in self.driven if self.ledger.run(run).state in UNDER_WAY}
        self.dispatch()
        for run in sorted(self.driven):
            self.take(entries.begin_ready(self.ledger, self.job, run, self.now_s))

    def cancel(self, run):
        entries.cancel(self.ledger, self.job, run, self.now_s, why="by hand")
        self.look()

    def repair(self, run, tasks=()):
        entries.repair(self.ledger, run, lambda _: self.job, self.now_s, RepairRequest(tasks))
        self.made.discard(run)
        self.look()

    def restart(self):
        for key in self.under_way.values():
            entries.conclude(self.ledger, self.job, key, Interrupted(crashed=False), self.now_s, go_on=False)
        self.under_way, self.retries, self.driven = {}, {}, set()
        self.look()


def one_step(daemon, data):
    able = {"accept"} if len(daemon.runs) < 5 else set()
    able |= {"end"} if daemon.under_way else set()
    able |= {"retry"} if daemon.retries else set()
    able |= {"cancel", "repair", "restart"} if daemon.runs else set()
    match data.draw(st.sampled_from(sorted(able | ({"end "} if daemon.under_way else set())))).strip():
        case "accept":
            daemon.accept(data.draw(st.sampled_from([0, 0, 9])))
            daemon.look()
        case "end":
            which = data.draw(st.sampled_from(sorted(daemon.under_way)))
            over = daemon.ledger.run(which[0]).state is RunState.TERMINATING
            ends = [GOOD, Canceled()] if over else [GOOD, GOOD, Failed("x"), Failed("y", permanent=True)]
            daemon.end(which, data.draw(st.sampled_from(ends)))
        case "retry":
            daemon.retry(data.draw(st.sampled_from(sorted(daemon.retries))))
        case "restart":
            daemon.restart()
        case verb:
            run = data.draw(st.sampled_from(daemon.runs))
            daemon.ledger._db.execute("SAVEPOINT asked")
            try:
                if verb == "cancel":
                    daemon.cancel(run)
                else:
                    daemon.repair(run, data.draw(st.sampled_from([(), ("silver", "gold"), ("gold",), ("look",)])))
            except RefusedError:
                daemon.ledger._db.execute("ROLLBACK TO asked")


def to_the_end(daemon):
    """Nothing fails any more."""
    daemon.look()
    for _ in range(200):
        if daemon.retries:
            daemon.retry(min(daemon.retries))
        elif daemon.under_way:
            daemon.end(min(daemon.under_way), GOOD)
        else:
            return


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_two_runs_never_write_side_by_side_and_none_waits_for_ever(data):
    with closing(_connect(Path(":memory:"))) as connection:
        connection.execute("BEGIN")
        daemon = Daemon(Ledger(connection, keep_notices=False), shop())
        for _ in range(data.draw(st.integers(5, 60))):
            one_step(daemon, data)
        to_the_end(daemon)
        assert {daemon.ledger.run(run).state for run in daemon.runs} <= {RunState.TERMINATED}


def test_a_run_that_is_repaired_waits_for_a_younger_one_that_writes_and_goes_on_when_it_has_written():
    with closing(_connect(Path(":memory:"))) as connection:
        connection.execute("BEGIN")
        daemon = Daemon(Ledger(connection, keep_notices=False), shop(most=2))
        daemon.accept()
        daemon.look()
        daemon.end((1, "look"), GOOD)
        daemon.end((1, "silver"), Failed("x", permanent=True))
        daemon.accept()
        daemon.look()
        daemon.end((2, "look"), GOOD)
        daemon.end((2, "silver"), Failed("not yet"))
        daemon.repair(1)
        assert not daemon.under_way  # the younger one waits for its retry, and the tables are its own until then
        daemon.retry((2, "silver"))
        for key in ("silver", "think", "gold"):
            assert sorted(daemon.under_way) == [(2, key)]
            daemon.end((2, key), GOOD)
        assert sorted(daemon.under_way) == [(1, "silver"), (2, "tell")]
        to_the_end(daemon)
        assert (daemon.silver, daemon.made) == (1, {1, 2})
