"""One daemon that is asked for runs, killed, stopped, started and asked for repairs, all of it drawn from a seed.

Its ledger is held against its laws while it runs, after each death and at rest; then everything that went wrong is
repaired, with nothing told to fail any more, and has to end well.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import invariants
from brokers import free_port
from daemons import LandingdProcess
from model.orchestration.jobs import Shape

OPEN = "SELECT run_id, job FROM runs WHERE state IN ('QUEUED', 'RUNNING', 'TERMINATING') ORDER BY run_id"
REST_TIMEOUT_S = 120.0
PAUSE_S_MAX = 0.25
LIVES_S_MAX = 0.6
"""How long after a burst of requests the daemon is killed, at most."""
WELL = ("SUCCESS", "EXCLUDED", "DISABLED")
ROWS_IN_A_FILE = 3


class BrokenLawsError(Exception):
    """What is wrong, and what was done before."""

    def __init__(self, wrong: Sequence[str], done: Sequence[str]) -> None:
        super().__init__("\n".join([*wrong[:20], "", "done before:", *done[-60:]]))


class Stage:
    """A daemon with these jobs. No broker answers it, so every event that it writes stays in its outbox."""

    def __init__(self, base: Path, shapes: Sequence[Shape], seed: int) -> None:
        self.shapes = {shape.name: shape for shape in shapes}
        self.done: list[str] = []
        self._random = random.Random(seed)  # noqa: S311 -- the same each time
        self._requests = 0
        self._dropped = 0
        pipelines = {name: text for shape in shapes for name, text in shape.files().items()}
        env = {"RUNS__DRAIN_SECONDS": "0.3", "LOG__LEVEL": "info"}
        self.daemon = LandingdProcess(base, pipelines, broker_port=free_port(), env=env)

    # -- what is done to it --

    def play(self, *, runs: int, kills: int, stops: int) -> None:
        """So many runs, with so many deaths and orderly stops between them; then rest, and everything is mended."""
        ends: list[Callable[[], None]] = [self._die] * kills + [self._stop] * stops
        self._random.shuffle(ends)
        bursts = self._shares(runs, len(ends) + 1)
        try:
            self.daemon.start()
            for burst, end in zip(bursts, [*ends, None], strict=True):
                self._act(burst)
                if end is not None:
                    end()
                    self._hold(at_rest=False)
                    self.daemon.start()
                self._hold(at_rest=False)
            self._rest()
            self._as_told()
            self._mend()
            self._everything_was_done_once()
            assert self.daemon.stop() == 0, self.daemon.log_tail()
        finally:
            self.daemon.kill()

    def _shares(self, total: int, count: int) -> list[int]:
        cuts = sorted(self._random.randrange(total + 1) for _ in range(count - 1))
        return [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]

    def _act(self, runs: int) -> None:
        """A burst of requests with other things between them."""
        for _ in range(runs):
            self._request()
            draw = self._random.random()
            if draw < 0.12:
                self._cancel()
            elif draw < 0.25:
                self._repair()
            elif draw < 0.33:
                self._drop()
            elif draw < 0.45:
                self._pause(PAUSE_S_MAX)
            elif draw < 0.50:
                self._hold(at_rest=False)

    def _pause(self, most_s: float) -> None:
        time.sleep(self._random.uniform(0, most_s))  # a moment is a part of what is drawn

    def _request(self) -> None:
        self._requests += 1
        shape = self.shapes[self._random.choice(list(self.shapes))]
        parameters = {"bad": self._some(shape.failing, 0.3), "flaky": self._some(shape.flaky, 0.4)}
        if shape.child is not None:
            parameters["child_bad"] = self._some(self.shapes[shape.child].failing, 0.3)
        asked = {"job": shape.name, "parameters": parameters, "request_id": f"n{self._requests}"}
        answer = self.daemon.post("/v1/runs", **asked)
        self._say(f"run {answer['run_id']} of {shape.name}: {parameters}, {answer['state']}")
        if self._random.random() < 0.1:
            again = self.daemon.post("/v1/runs", **asked)
            if (again["run_id"], again["known"]) != (answer["run_id"], True):
                self._wrong([f"the same request gave {again} after {answer}"])

    def _some(self, keys: Sequence[str], share: float) -> str:
        """Up to two of these, or none."""
        if not keys or self._random.random() >= share:
            return ""
        chosen = self._random.sample(keys, min(len(keys), self._random.choice([1, 1, 2])))
        return f",{','.join(chosen)},"

    def _cancel(self) -> None:
        found = self.daemon.ledger(OPEN)
        if not found:
            return
        run = self._random.choice(found)
        if self._random.random() < 0.15:
            answer = self.daemon.post(f"/v1/jobs/{run['job']}/cancel", queued_only=self._random.random() < 0.5)
            self._say(f"cancel job {run['job']}: {answer}")
        else:
            self._try("cancel", f"/v1/runs/{run['run_id']}/cancel")

    def _repair(self) -> None:
        found = self.daemon.ledger("SELECT run_id FROM runs WHERE state = 'TERMINATED' AND result <> 'SUCCESS'")
        if not found:
            return
        run_id = self._random.choice(found)["run_id"]
        keys = [
            row[0]
            for row in self.daemon.ledger(f"SELECT task_key FROM tasks WHERE run_id = {run_id} AND parent IS NULL")
        ]
        asked: dict[str, Any] = {"parameters": {"bad": ""}} if self._random.random() < 0.6 else {}
        draw = self._random.random()
        if draw < 0.2 and keys:
            asked |= {"tasks": [self._random.choice(keys)], "dependents": self._random.random() < 0.5}
        elif draw < 0.4:
            asked |= {"all_failed": True}
        self._try("repair", f"/v1/runs/{run_id}/repair", **asked)

    def _try(self, what: str, path: str, **body: object) -> None:
        """It may be refused: a run may have ended meanwhile, or not yet."""
        try:
            self._say(f"{what} {path} {body}: {self.daemon.post(path, **body)}")
        except AssertionError as refused:
            self._say(f"{what} {path} {body}: refused: {refused}"[:200])

    def _drop(self) -> None:
        if "ingest" in self.shapes:
            self._dropped += 1
            rows = "".join(f"{self._dropped * ROWS_IN_A_FILE + n}\n" for n in range(ROWS_IN_A_FILE))
            self.daemon.move_in(f"ingest/{self._dropped}.csv", f"id\n{rows}")
            self._say(f"dropped {self._dropped}")

    def _die(self) -> None:
        self._pause(LIVES_S_MAX)
        self.daemon.kill()
        self._say("killed")

    def _stop(self) -> None:
        self._pause(LIVES_S_MAX)
        assert self.daemon.stop() == 0, self.daemon.log_tail()
        self._say("stopped")

    # -- what has to be true --

    def _say(self, what: str) -> None:
        self.done.append(what)

    def _wrong(self, what: Sequence[str]) -> None:
        if what:
            raise BrokenLawsError(what, self.done)

    def _hold(self, *, at_rest: bool) -> None:
        most = {shape.name: shape.concurrent_max for shape in self.shapes.values()}
        ledger = self.daemon.state / "ledger.sqlite"
        self._wrong(invariants.broken(ledger, at_rest=at_rest, concurrent=most, keeps_news=True))

    def _rest(self) -> None:
        """Until no run is open and every file is loaded."""
        waits = "SELECT 1 FROM files WHERE state = 'waiting' AND wanted IS NOT NULL"
        known = "SELECT count(*) AS n FROM files"
        deadline_s = time.monotonic() + REST_TIMEOUT_S
        while (
            self.daemon.ledger(OPEN) or self.daemon.ledger(waits) or self.daemon.ledger(known)[0]["n"] < self._dropped
        ):
            if time.monotonic() > deadline_s:
                self._wrong([f"is stuck: {[dict(row) for row in self.daemon.ledger(OPEN)]}", *self._open_tasks()])
            time.sleep(0.05)
        self._hold(at_rest=True)

    def _open_tasks(self) -> list[str]:
        sql = "SELECT run_id, task_key, tasks.state, blockers FROM tasks JOIN runs USING (run_id) "
        return [str(tuple(r)) for r in self.daemon.ledger(f"{sql} WHERE runs.state <> 'TERMINATED' LIMIT 40")]

    def _as_told(self) -> None:
        """In runs that nobody broke off or repaired exactly those tasks failed that were told to.

        A task during which the process died too often is failed for that.
        """
        wrong = []
        for run in self.daemon.ledger(
            "SELECT run_id, job, result, parameters FROM runs WHERE state = 'TERMINATED' AND repairs = 0 "
            "AND result <> 'CANCELED'"
        ):
            bad = json.loads(run["parameters"])["bad"]
            told = set(self.shapes[run["job"]].failing)
            for task in self.daemon.ledger(
                "SELECT task_key, result, (SELECT outcome FROM attempts AS a WHERE a.run_id = t.run_id "
                "AND a.task_key = t.task_key ORDER BY attempt DESC LIMIT 1) AS last FROM tasks AS t WHERE run_id = ?",
                (run["run_id"],),
            ):
                key, result = task["task_key"], task["result"]
                is_bad = f",{key}," in bad
                failed = result == "FAILED" and task["last"] != "died"
                if key in told and ((failed and not is_bad) or (result == "SUCCESS" and is_bad)):
                    wrong.append(f"run {run['run_id']} of {run['job']}, bad {bad!r}: {key} ended {result}")
        self._wrong(wrong)

    def _mend(self) -> None:
        """Repair every run that nobody waits for, with nothing told to fail: each ends well."""
        ids = [
            row["run_id"]
            for row in self.daemon.ledger(
                "SELECT run_id FROM runs WHERE state = 'TERMINATED' AND parent_run_id IS NULL AND EXISTS "
                f"(SELECT 1 FROM tasks WHERE tasks.run_id = runs.run_id AND parent IS NULL AND result NOT IN {WELL})"
            )
        ]
        for run_id in ids:
            (row,) = self.daemon.ledger("SELECT parameters FROM runs WHERE run_id = ?", (run_id,))
            nothing = {name: "" for name in json.loads(row["parameters"]) if name.endswith("bad")}
            self.daemon.post(f"/v1/runs/{run_id}/repair", parameters=nothing)
            self._say(f"mended {run_id}")
        self._rest()
        left = self.daemon.ledger(
            "SELECT run_id, job, result, error FROM runs WHERE result <> 'SUCCESS' AND run_id IN "
            f"(SELECT value FROM json_each('{json.dumps(ids)}'))"
        )
        self._wrong([f"run {r['run_id']} of {r['job']} was repaired: {r['result']}, {r['error']}" for r in left])

    def _everything_was_done_once(self) -> None:
        """The warehouse has one row of each attempt that the ledger says was committed, and none of any other."""
        marking = [
            (row["run_id"], row["task_key"], row["attempt"])
            for row in self.daemon.ledger(
                "SELECT run_id, job, task_key, attempt FROM attempts JOIN runs USING (run_id) "
                "WHERE outcome = 'committed'"
            )
            if self._marks(row["job"], row["task_key"])
        ]
        found = [tuple(row.values()) for row in self.daemon.query("SELECT run_id, task_key, nth FROM gold.did")]
        lost, doubled = Counter(marking) - Counter(found), Counter(found) - Counter(marking)
        self._wrong([*(f"{one} left no row" for one in lost), *(f"{one} left a row too many" for one in doubled)])
        if self._dropped:
            rows = self.daemon.value("SELECT list(id ORDER BY id) FROM bronze.ingest")
            wanted = list(range(ROWS_IN_A_FILE, (self._dropped + 1) * ROWS_IN_A_FILE))
            self._wrong([] if rows == wanted else [f"bronze.ingest has {rows}, not {wanted}"])

    def _marks(self, job: str, key: str) -> bool:
        """Whether an attempt of the task leaves a row."""
        loop_key = key.partition("[")[0]
        task = next(t for t in self.shapes[job].tasks if t["task_key"] == loop_key)
        if "[" in key:
            task = task["for_each_task"]["task"]
        return task.get("sql") in {"mark.sql", "slow.sql"} or "python_task" in task
