"""Whether the ledger agrees with itself: the laws of runs, tasks, attempts, loops, repairs, files and events.

`python tests/invariants.py LEDGER` names every law that is broken; the daemon may be running. Some laws hold at any
moment, because whatever they speak of is written in one transaction; the others once nothing is open any more. What
follows from what is worked out anew from the definitions in `landingd.core`, so that the books and the rules are held
against each other.
"""

import argparse
import json
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from landingd.core import lifecycle, runif
from landingd.model import Canceled, Committed, Result, RunIf, TaskState, TriggerType, loop_of

ENDED = ("TERMINATED", "SKIPPED")
NOT_RUN = frozenset({"EXCLUDED", "DISABLED", "UPSTREAM_FAILED", "UPSTREAM_CANCELED"})
RUN = frozenset({"SUCCESS", "FAILED", "TIMEDOUT"})
BROKEN_OFF = frozenset({"CANCELED", "TIMEDOUT"})
DEPTH_MAX = 3

Row = sqlite3.Row
Law = Callable[["Books"], Iterable[str]]


@dataclass(frozen=True)
class Limits:
    """What the ledger cannot know, because job files say it."""

    concurrent: Mapping[str, int]
    """`max_concurrent_runs`, by job."""
    keeps_news: bool = False
    """Whether no broker has taken any event: then each must be in the outbox."""


class Books:
    """One consistent look at a ledger."""

    def __init__(self, db: sqlite3.Connection, limits: Limits) -> None:
        self._db = db
        self.limits = limits
        self.runs: dict[int, Row] = {row["run_id"]: row for row in self.rows("SELECT * FROM runs")}

    def rows(self, sql: str) -> list[Row]:
        return self._db.execute(sql).fetchall()

    @cached_property
    def tasks(self) -> dict[int, dict[str, Row]]:
        """By run and key, iterations among them."""
        found: dict[int, dict[str, Row]] = {run_id: {} for run_id in self.runs}
        for row in self.rows("SELECT * FROM tasks ORDER BY run_id, position"):
            found.setdefault(row["run_id"], {})[row["task_key"]] = row
        return found

    @cached_property
    def attempts(self) -> dict[tuple[int, str], list[Row]]:
        """By run and task, in order."""
        found: dict[tuple[int, str], list[Row]] = defaultdict(list)
        for row in self.rows("SELECT * FROM attempts ORDER BY run_id, task_key, attempt"):
            found[row["run_id"], row["task_key"]].append(row)
        return found

    @cached_property
    def edges(self) -> dict[tuple[int, str], list[Row]]:
        """By run and the task that waits."""
        found: dict[tuple[int, str], list[Row]] = defaultdict(list)
        for row in self.rows("SELECT * FROM edges"):
            found[row["run_id"], row["task_key"]].append(row)
        return found

    @cached_property
    def repairs(self) -> dict[int, list[Row]]:
        """By run, in order."""
        found: dict[int, list[Row]] = defaultdict(list)
        for row in self.rows("SELECT * FROM repairs ORDER BY run_id, repair"):
            found[row["run_id"]].append(row)
        return found

    def all_tasks(self) -> Iterator[tuple[Row, Row]]:
        """Each task with its run."""
        for run_id, of_run in self.tasks.items():
            for task in of_run.values():
                yield self.runs[run_id], task

    def iterations(self, task: Row) -> list[Row]:
        return [t for t in self.tasks[task["run_id"]].values() if t["parent"] == task["task_key"]]

    def judged_in(self, task: Row) -> int:
        """The last repair in which it was decided what becomes of a task; 0: the original."""
        of_run = self.repairs[task["run_id"]]
        keys = {r["repair"]: {loop_of(key) or key for key in json.loads(r["tasks"])} for r in of_run}
        return max((repair for repair, again in keys.items() if task["task_key"] in again), default=0)


def _of(task: Row) -> str:
    return f"run {task['run_id']}, {task['task_key']}"


def _result(task: Row) -> Result:
    """That a task has ended without one is another law's matter."""
    return Result(task["result"] or "UPSTREAM_FAILED")


# --- at any moment ------------------------------------------------------------------------------------------------


def runs_are_in_one_state(books: Books) -> Iterable[str]:
    wanted: dict[str, Callable[[Row], bool]] = {
        "QUEUED": lambda r: r["result"] is None and r["ended_at_s"] is None and r["ending"] is None,
        "RUNNING": lambda r: r["result"] is None and r["ended_at_s"] is None and r["started_at_s"] is not None,
        "TERMINATING": lambda r: r["result"] is None and r["ended_at_s"] is None and r["ending"] is not None,
        "TERMINATED": lambda r: r["result"] is not None and r["ended_at_s"] is not None and r["ending"] is None,
        "SKIPPED": lambda r: bool(r["result"] and r["error"] and r["ended_at_s"] is not None),
    }
    for run in books.runs.values():
        if not wanted[run["state"]](run):
            yield f"run {run['run_id']} is {run['state']}, and yet {dict(run)}"


def ended_runs_have_no_open_tasks(books: Books) -> Iterable[str]:
    for run, task in books.all_tasks():
        if run["state"] in ENDED and task["state"] != "TERMINATED":
            yield f"{_of(task)} is {task['state']}, and its run is {run['state']}"


def runs_under_way_have_open_tasks(books: Books) -> Iterable[str]:
    for run_id, of_run in books.tasks.items():
        is_open = any(task["state"] != "TERMINATED" for task in of_run.values())
        if books.runs[run_id]["state"] in {"RUNNING", "TERMINATING"} and not is_open:
            yield f"run {run_id} is {books.runs[run_id]['state']}, and every task of it has ended"


def queued_runs_have_begun_nothing(books: Books) -> Iterable[str]:
    for run, task in books.all_tasks():
        if run["state"] in {"QUEUED", "SKIPPED"} and task["state"] in {"RUNNING", "WAITING_FOR_RETRY"}:
            yield f"{_of(task)} is {task['state']}, and its run is {run['state']}"


def nothing_of_a_run_that_is_broken_off_waits(books: Books) -> Iterable[str]:
    for run, task in books.all_tasks():
        if run["state"] == "TERMINATING" and task["state"] in {"PENDING", "WAITING_FOR_RETRY"}:
            yield f"{_of(task)} is {task['state']}, and its run is TERMINATING"


def tasks_are_in_one_state(books: Books) -> Iterable[str]:
    for run, task in books.all_tasks():
        loop = books.tasks[run["run_id"]].get(task["parent"] or "")
        # A loop that is to run again from nothing has forgotten what its iterations came to.
        forgotten = loop is not None and loop["concurrency"] is None
        if task["state"] == "TERMINATED" and not (task["result"] or forgotten):
            yield f"{_of(task)} has ended without a result"
        if task["state"] != "TERMINATED" and task["result"] is not None:
            yield f"{_of(task)} is {task['state']} and has the result {task['result']}"
        if (task["state"] == "WAITING_FOR_RETRY") != (task["retry_at_s"] is not None):
            yield f"{_of(task)} is {task['state']}, and its retry is due at {task['retry_at_s']}"


def attempts_are_numbered(books: Books) -> Iterable[str]:
    for (run_id, key), of_task in books.attempts.items():
        numbers = [attempt["attempt"] for attempt in of_task]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"run {run_id}, {key}: its attempts are numbered {numbers}"
        task = books.tasks[run_id].get(key)
        if task is not None and task["attempts"] != len(numbers):
            yield f"{_of(task)} counts {task['attempts']} attempts, and there are {len(numbers)}"
        repairs = [attempt["repair"] for attempt in of_task]
        if repairs != sorted(repairs) or repairs[-1] > books.runs[run_id]["repairs"]:
            yield f"run {run_id}, {key}: its attempts belong to the repairs {repairs}"


def only_what_runs_has_an_open_attempt(books: Books) -> Iterable[str]:
    for _, task in books.all_tasks():
        of_task = books.attempts.get((task["run_id"], task["task_key"]), [])
        open_ = [attempt["attempt"] for attempt in of_task if attempt["outcome"] is None]
        wanted = [task["attempts"]] if task["state"] == "RUNNING" else []
        if open_ != wanted:
            yield f"{_of(task)} is {task['state']}, and its open attempts are {open_}, not {wanted}"
    for attempt in chain.from_iterable(books.attempts.values()):
        if (attempt["outcome"] is None) != (attempt["ended_at_s"] is None):
            yield f"{_of(attempt)}, attempt {attempt['attempt']}: {attempt['outcome']} at {attempt['ended_at_s']}"


def a_task_commits_once(books: Books) -> Iterable[str]:
    """In the original run and in each repair; a batch in parts commits once for each part."""
    split = {row["run_id"] for row in books.rows("SELECT DISTINCT run_id FROM run_files WHERE part > 0")}
    for (run_id, key), of_task in books.attempts.items():
        committed = Counter(a["repair"] for a in of_task if a["outcome"] == "committed")
        if run_id not in split and any(n > 1 for n in committed.values()):
            yield f"run {run_id}, {key} has committed {dict(committed)} times, by repair"


def blockers_are_counted(books: Books) -> Iterable[str]:
    """Of tasks that have not ended: nobody looks at the others' until a repair counts them anew."""
    for run, task in books.all_tasks():
        if run["state"] in ENDED or task["state"] == "TERMINATED":
            continue
        above = [books.tasks[run["run_id"]][e["upstream"]] for e in books.edges[run["run_id"], task["task_key"]]]
        waiting = sum(one["state"] != "TERMINATED" for one in above)
        if task["blockers"] != waiting:
            yield f"{_of(task)} counts {task['blockers']} tasks before it that have not ended, and there are {waiting}"


def nothing_begins_before_what_it_waits_for(books: Books) -> Iterable[str]:
    """But in a run whose tasks are tried in one transaction: there all are begun at once."""
    for run, task in books.all_tasks():
        if task["state"] == "RUNNING" and task["blockers"] and task["attempts"] > 1:
            yield f"{_of(task)} runs, and waits for {task['blockers']} tasks; run {run['run_id']} is {run['state']}"


def runs_are_no_more_than_allowed(books: Books) -> Iterable[str]:
    active = [run for run in books.runs.values() if run["state"] in {"RUNNING", "TERMINATING"}]
    for job, count in Counter(run["job"] for run in active).items():
        most = books.limits.concurrent.get(job, count)
        if count > most:
            yield f"job {job} has {count} runs at a time, and {most} are allowed"
    for job, count in Counter(run["job"] for run in active if run["has_files"]).items():
        if count > 1:
            yield f"job {job} has {count} runs with files at a time"


def loops_keep_to_their_concurrency(books: Books) -> Iterable[str]:
    for _, task in books.all_tasks():
        if task["concurrency"] is None or task["state"] == "TERMINATED":
            continue
        busy = sum(one["state"] in {"RUNNING", "WAITING_FOR_RETRY"} for one in books.iterations(task))
        if busy > task["concurrency"]:
            yield f"{_of(task)} has {busy} iterations at a time, and {task['concurrency']} are allowed"


def loops_end_as_their_iterations(books: Books) -> Iterable[str]:
    for _, task in books.all_tasks():
        if task["concurrency"] is None:
            continue
        iterations = books.iterations(task)
        is_open = any(one["state"] != "TERMINATED" for one in iterations)
        if (task["state"] == "TERMINATED") == is_open:
            yield f"{_of(task)} is {task['state']}; its iterations: {[one['state'] for one in iterations]}"
        elif task["state"] == "TERMINATED":
            came = {one["task_key"]: _result(one) for one in iterations}
            outcome = lifecycle.of_loop(came)
            should = {Committed: "SUCCESS", Canceled: "CANCELED"}.get(type(outcome), "FAILED")
            in_time = books.attempts[task["run_id"], task["task_key"]][-1]["outcome"] != "timed out"
            should = should if should == "SUCCESS" or in_time else "TIMEDOUT"
            if task["result"] != should:
                yield f"{_of(task)} ended {task['result']} and should have ended {should}: {came}"


def iterations_belong_to_loops(books: Books) -> Iterable[str]:
    for run, task in books.all_tasks():
        if task["parent"] is not None and task["parent"] not in books.tasks[run["run_id"]]:
            yield f"{_of(task)} is an iteration of {task['parent']}, which is no task of the run"


def skipped_runs_have_reasons_and_nothing_else(books: Books) -> Iterable[str]:
    for run in books.runs.values():
        if run["state"] == "SKIPPED" and (not run["error"] or books.tasks[run["run_id"]] or run["started_at_s"]):
            yield f"run {run['run_id']} was skipped: {dict(run)}"


def child_runs_know_their_parents(books: Books) -> Iterable[str]:
    for run in books.runs.values():
        parent = books.runs.get(run["parent_run_id"] or 0)
        if (run["trigger_type"] == TriggerType.RUN_JOB_TASK.value) != (run["parent_run_id"] is not None):
            yield f"run {run['run_id']} has the trigger {run['trigger_type']} and the parent {run['parent_run_id']}"
        elif run["parent_run_id"] is None:
            if run["depth"] != 0:
                yield f"run {run['run_id']} has no parent and the depth {run['depth']}"
        elif parent is None or run["parent_task_key"] not in books.tasks[parent["run_id"]]:
            yield f"run {run['run_id']} has the parent {run['parent_run_id']}/{run['parent_task_key']}: there is none"
        elif run["depth"] != parent["depth"] + 1 or run["depth"] > DEPTH_MAX:
            yield f"run {run['run_id']} has the depth {run['depth']} below a run of depth {parent['depth']}"


def a_task_waits_for_one_child(books: Books) -> Iterable[str]:
    """A child that somebody repairs after its end is not waited for any more."""
    of_task = Counter(
        (run["parent_run_id"], run["parent_task_key"])
        for run in books.runs.values()
        if run["parent_run_id"] is not None and run["state"] not in ENDED and not run["repairs"]
    )
    for (run_id, key), count in of_task.items():
        if count > 1:
            yield f"run {run_id}, {key} has {count} runs that have not ended"


def repairs_are_numbered(books: Books) -> Iterable[str]:
    for run in books.runs.values():
        of_run = books.repairs[run["run_id"]]
        if [r["repair"] for r in of_run] != list(range(1, run["repairs"] + 1)):
            yield f"run {run['run_id']} was repaired {run['repairs']} times: {[r['repair'] for r in of_run]}"
            continue
        ended = [r for r in of_run if r["ended_at_s"] is not None]
        due = len(of_run) if run["state"] == "TERMINATED" else len(of_run) - 1
        if of_run and len(ended) != due:
            yield f"run {run['run_id']} is {run['state']}, and {len(ended)} of its {len(of_run)} repairs have ended"
        if of_run and run["state"] == "TERMINATED" and of_run[-1]["result"] != run["result"]:
            yield f"run {run['run_id']} ended {run['result']}, and its last repair {of_run[-1]['result']}"


def keys_are_accepted_once(books: Books) -> Iterable[str]:
    for (job, key), count in Counter((r["job"], r["trigger_key"]) for r in books.runs.values()).items():
        if count > 1:
            yield f"job {job} has {count} runs for the key {key}"


def every_end_is_told_once(books: Books) -> Iterable[str]:
    """While no broker takes them all events are there; an event's id is unique by the schema."""
    if not books.limits.keeps_news:
        return
    told = Counter(
        (payload["run_id"], payload["repair"], payload["event"])
        for row in books.rows("SELECT payload FROM outbox WHERE topic LIKE 'jobs/%/runs/%'")
        if (payload := json.loads(row["payload"]))["event"] in {"run_finished", "run_skipped"}
    )
    wanted: Counter[tuple[int, int, str]] = Counter()
    for run in books.runs.values():
        if run["state"] == "SKIPPED":
            wanted[run["run_id"], 0, "run_skipped"] = 1
            continue
        ends = run["repairs"] + (run["state"] == "TERMINATED")
        wanted.update((run["run_id"], repair, "run_finished") for repair in range(ends))
    for what in (wanted - told) | (told - wanted):
        yield f"{what}: happened {wanted[what]} times, told {told[what]} times"


def files_are_given_to_runs_that_know_them(books: Books) -> Iterable[str]:
    for row in books.rows(
        "SELECT file_id, name, files.run_id FROM files LEFT JOIN run_files USING (file_id, run_id) "
        "WHERE files.run_id IS NOT NULL AND run_files.run_id IS NULL"
    ):
        yield f"{row['name']} says that it is in run {row['run_id']}, which does not know it"


def files_wait_for_a_reason(books: Books) -> Iterable[str]:
    """A file that a run was given and did not load is nobody's unless it says why."""
    for row in books.rows(
        "SELECT name, reason, runs.run_id, runs.state FROM files JOIN runs USING (run_id) "
        "WHERE files.state = 'waiting' AND runs.state IN ('TERMINATED', 'SKIPPED') AND wanted IS NULL "
        "AND content_hash IS NOT NULL AND NOT leaving "
        "AND (reason = '' OR reason LIKE 'in run %')"
    ):
        yield f"{row['name']} waits without a reason ({row['reason']!r}), and run {row['run_id']} is {row['state']}"


# --- at rest ------------------------------------------------------------------------------------------------------


def everything_has_ended(books: Books) -> Iterable[str]:
    for run in books.runs.values():
        if run["state"] not in ENDED:
            yield f"run {run['run_id']} of {run['job']} is {run['state']}"


def results_follow_from_those_before(books: Books) -> Iterable[str]:
    """Each task ran, or was left out, as its `run_if` says of how those before it stand.

    Not where one before it was repaired later than it: it stands as it was judged then.
    """
    for run, task in books.all_tasks():
        if run["state"] != "TERMINATED" or task["parent"] is not None or task["result"] not in NOT_RUN | RUN:
            continue
        above = [(e, books.tasks[run["run_id"]][e["upstream"]]) for e in books.edges[run["run_id"], task["task_key"]]]
        if any(books.judged_in(one) > books.judged_in(task) for _, one in above):
            continue
        upstreams = [
            runif.Upstream(_result(one), e["outcome"], json.loads(one["output"] or "{}").get("condition"))
            for e, one in above
        ]
        should = runif.leaves_out(RunIf(task["run_if"]), upstreams, disabled=bool(task["disabled"]))
        if (task["result"] if task["result"] in NOT_RUN else None) != should:
            yield f"{_of(task)} ended {task['result']}; by its run_if {task['run_if']}: {should or 'it runs'} ({above})"


def runs_end_as_their_tasks(books: Books) -> Iterable[str]:
    """What was broken off has the result that was decided then."""
    for run in books.runs.values():
        if run["state"] != "TERMINATED" or run["result"] in BROKEN_OFF:
            continue
        statuses = [
            lifecycle.TaskStatus(
                t["task_key"], tuple(json.loads(t["depends_on"])), TaskState(t["state"]), Result(found)
            )
            for t in books.tasks[run["run_id"]].values()
            if t["parent"] is None and (found := t["result"])
        ]
        should = {lifecycle.run_result(statuses, strict=strict).value for strict in (False, True)}
        if run["result"] not in should:
            yield f"run {run['run_id']} ended {run['result']}, and its tasks say {should}"


def attempts_say_what_their_tasks_say(books: Books) -> Iterable[str]:
    words = {"SUCCESS": {"committed"}, "FAILED": {"failed", "died"}, "TIMEDOUT": {"timed out"}}
    for run, task in books.all_tasks():
        of_task = books.attempts.get((task["run_id"], task["task_key"]), [])
        if run["state"] != "TERMINATED" or task["result"] not in words:
            continue
        if not of_task or of_task[-1]["outcome"] not in words[task["result"]]:
            yield f"{_of(task)} ended {task['result']}, and its attempts {[a['outcome'] for a in of_task]}"


def children_end_before_their_parents(books: Books) -> Iterable[str]:
    for run in books.runs.values():
        parent = books.runs.get(run["parent_run_id"] or 0)
        if parent is not None and parent["state"] in ENDED and run["state"] not in ENDED and not run["repairs"]:
            yield f"run {run['run_id']} is {run['state']}, and run {parent['run_id']} that waited for it has ended"


def run_jobs_name_runs_that_went_well(books: Books) -> Iterable[str]:
    for _, task in books.all_tasks():
        child = json.loads(task["output"] or "{}").get("run_id")
        if child is None:
            continue
        run = books.runs.get(child)
        if run is None or (run["parent_run_id"], run["parent_task_key"]) != (task["run_id"], task["task_key"]):
            yield f"{_of(task)} names run {child}, which is not its own"


ALWAYS: tuple[Law, ...] = (
    runs_are_in_one_state,
    ended_runs_have_no_open_tasks,
    runs_under_way_have_open_tasks,
    queued_runs_have_begun_nothing,
    nothing_of_a_run_that_is_broken_off_waits,
    tasks_are_in_one_state,
    attempts_are_numbered,
    only_what_runs_has_an_open_attempt,
    a_task_commits_once,
    blockers_are_counted,
    nothing_begins_before_what_it_waits_for,
    runs_are_no_more_than_allowed,
    loops_keep_to_their_concurrency,
    loops_end_as_their_iterations,
    iterations_belong_to_loops,
    skipped_runs_have_reasons_and_nothing_else,
    child_runs_know_their_parents,
    a_task_waits_for_one_child,
    repairs_are_numbered,
    keys_are_accepted_once,
    every_end_is_told_once,
    files_are_given_to_runs_that_know_them,
    files_wait_for_a_reason,
    results_follow_from_those_before,
    runs_end_as_their_tasks,
    attempts_say_what_their_tasks_say,
)
"""Hold at any moment: whatever one of them speaks of changes in one transaction."""
AT_REST: tuple[Law, ...] = (everything_has_ended, children_end_before_their_parents, run_jobs_name_runs_that_went_well)
"""Hold besides where nothing is left to do."""


def broken(
    ledger: Path, *, at_rest: bool, concurrent: Mapping[str, int] | None = None, keeps_news: bool = False
) -> list[str]:
    """Every law that the ledger breaks, with what breaks it."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=30)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")  # all that is read is of one moment
        books = Books(db, Limits(concurrent or {}, keeps_news))
        laws = (*ALWAYS, *AT_REST) if at_rest else ALWAYS
        return [f"{law.__name__}: {what}" for law in laws for what in law(books)]


def main(arguments: list[str] | None = None) -> int:
    """Name what is broken; 1 if anything is."""
    asked = argparse.ArgumentParser(description="Which of its laws a ledger breaks")
    asked.add_argument("ledger", type=Path)
    asked.add_argument("--at-rest", action="store_true", help="nothing is left to do")
    asked.add_argument("--most", action="append", default=[], metavar="JOB=N", help="max_concurrent_runs of a job")
    given: Any = asked.parse_args(arguments)
    most = {job: int(n) for job, _, n in (one.rpartition("=") for one in given.most)}
    told = broken(given.ledger, at_rest=given.at_rest, concurrent=most)
    laws = len(ALWAYS) + (len(AT_REST) if given.at_rest else 0)
    sys.stdout.write("".join(f"{one}\n" for one in told) or f"{laws} laws hold\n")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
