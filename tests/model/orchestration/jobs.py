"""Twenty jobs of varied shape whose tasks fail when they are told to.

A run is given two lists of task keys: those in `bad` fail however often they are tried, those in `flaky` fail until
their third attempt. So what a run comes to is known from its parameters, and a repair with an empty `bad` mends it.
Every task that can leaves a row in `gold.did`, in the transaction of its attempt: nothing may be done twice or not at
all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

FLAKY_UNTIL = 3
"""The attempt that succeeds."""
RETRIES = {"max_retries": FLAKY_UNTIL, "min_retry_interval_millis": 20}
ONCE_MORE = {"max_retries": 1, "min_retry_interval_millis": 10}

_FAILS = (
    "CASE WHEN contains(CAST($bad AS VARCHAR), ',' || $task_key || ',') "
    "THEN CAST(error($task_key || ' is bad') AS INTEGER) "
    f"WHEN contains(CAST($flaky AS VARCHAR), ',' || $task_key || ',') AND CAST($nth AS INTEGER) < {FLAKY_UNTIL} "
    "THEN CAST(error($task_key || ' is flaky') AS INTEGER) ELSE 0 END"
)
FILES = {
    "mark.sql": "CREATE TABLE IF NOT EXISTS gold.did (run_id BIGINT, task_key VARCHAR, nth INTEGER);\n"
    f"INSERT INTO gold.did SELECT CAST($run_id AS BIGINT), $task_key, CAST($nth AS INTEGER) + {_FAILS};\n"
    "SELECT 3 AS n, [1, 2, 3, 4] AS list;",
    "slow.sql": "CREATE TABLE IF NOT EXISTS gold.did (run_id BIGINT, task_key VARCHAR, nth INTEGER);\n"
    "INSERT INTO gold.did SELECT CAST($run_id AS BIGINT), $task_key, CAST($nth AS INTEGER) + "
    f"(SELECT sum(CAST(hash(range) = 1 AS INTEGER)) FROM range(20000000)) + {_FAILS};\n"
    "SELECT 1 AS n;",
    "work.py": f"""
def main(ctx):
    import time

    time.sleep(0.03)
    if f",{{ctx.task_key}}," in ctx.parameters["bad"]:
        raise ValueError(ctx.task_key + " is bad")
    if f",{{ctx.task_key}}," in ctx.parameters["flaky"] and ctx.attempt < {FLAKY_UNTIL}:
        raise ValueError(ctx.task_key + " is flaky")
    ctx.sql("CREATE TABLE IF NOT EXISTS gold.did (run_id BIGINT, task_key VARCHAR, nth INTEGER)")
    ctx.sql("INSERT INTO gold.did VALUES ($r, $t, $n)", {{"r": ctx.run_id, "t": ctx.task_key, "n": ctx.attempt}})
    ctx.values["n"] = 3
    ctx.values["list"] = [1, 2, 3, 4]
""",
    "process.py": f"""
import json
import os
import sys
import time

key = os.environ["LANDINGD_TASK_KEY"]
bad, flaky = sys.argv[1:]
time.sleep(0.05)
if f",{{key}}," in bad or (f",{{key}}," in flaky and int(os.environ["LANDINGD_ATTEMPT"]) < {FLAKY_UNTIL}):
    sys.exit(key + " fails")
with open(os.environ["LANDINGD_VALUES"], "w") as file:
    json.dump({{"n": 3, "list": [1, 2, 3, 4]}}, file)
""",
}
_NTH = {"parameters": {"nth": "{{task.execution_count}}"}}
_TOLD = ["{{job.parameters.bad}}", "{{job.parameters.flaky}}"]
Spec = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A job, and which of its tasks can be told to fail."""

    name: str
    tasks: tuple[Spec, ...]
    more: Mapping[str, Any]
    failing: tuple[str, ...]
    flaky: tuple[str, ...]
    child: str | None = None
    """The job that its `run_job` tasks start, directly or through another one, whose tasks `child_bad` names."""

    @property
    def concurrent_max(self) -> int:
        return int(self.more.get("max_concurrent_runs", 1))

    def files(self) -> dict[str, str]:
        """The job file and what stands beside it."""
        passed = {} if self.child is None else {"child_bad": ""}
        parameters = [{"name": name, "default": ""} for name in ("bad", "flaky", *passed)]
        job = {"name": self.name, "parameters": parameters, **self.more, "tasks": list(self.tasks)}
        of_tables = {f"{key}.sql": text for key, text in _tables(self.tasks).items()}
        given = {name: text for name, text in {**FILES, **of_tables}.items() if name in json.dumps(job)}
        return {
            f"{self.name}/job.yml": yaml.safe_dump(job, sort_keys=False, width=1000),
            **{f"{self.name}/{name}": text for name, text in given.items()},
        }


def _tables(tasks: Sequence[Spec]) -> dict[str, str]:
    """The SELECTs of tasks that make tables: each counts the one before it."""
    texts = {}
    for task in tasks:
        if "table" in task and "sql" in task:
            above = [one["table"] for one in tasks if one["task_key"] in _above(task) and "table" in one]
            source = above[0] if above else "(SELECT 1)"
            texts[task["task_key"]] = f"SELECT count(*) + {_FAILS} AS n, $run_id AS run FROM {source}"
    return texts


def _above(task: Spec) -> list[str]:
    return [one["task_key"] for one in task.get("depends_on", ())]


# --- tasks --------------------------------------------------------------------------------------------------------


def _after(*above: str) -> Spec:
    return {"depends_on": [{"task_key": key} for key in above]} if above else {}


def mark(key: str, *above: str, **more: Any) -> Spec:
    return {"task_key": key, **_after(*above), "sql": "mark.sql", **_NTH, **more}


def slow(key: str, *above: str, **more: Any) -> Spec:
    return mark(key, *above, **more) | {"sql": "slow.sql"}


def python(key: str, *above: str, **more: Any) -> Spec:
    return {"task_key": key, **_after(*above), "python_task": {"file": "work.py"}, **more}


def process(key: str, *above: str, **more: Any) -> Spec:
    return {
        "task_key": key,
        **_after(*above),
        "spark_python_task": {"python_file": "process.py", "parameters": _TOLD},
        **more,
    }


def table(job: str, key: str, *above: str, **more: Any) -> Spec:
    return {"task_key": key, **_after(*above), "sql": f"{key}.sql", "table": f"gold.{job}_{key}", **_NTH, **more}


def condition(key: str, left: str, op: str, right: str, *above: str) -> Spec:
    return {"task_key": key, **_after(*above), "condition_task": {"op": op, "left": left, "right": right}}


def when(task: Spec, key: str, outcome: str) -> Spec:
    return task | {"depends_on": [*task.get("depends_on", ()), {"task_key": key, "outcome": outcome}]}


def loop(key: str, inputs: str, inner: Spec, *above: str, concurrency: int) -> Spec:
    each = {"inputs": inputs, "concurrency": concurrency, "task": inner | {"task_key": f"{key}_each"}}
    return {"task_key": key, **_after(*above), "for_each_task": each}


def run_job(key: str, job: str, *above: str, passes: str = "bad", **more: Any) -> Spec:
    given = {passes: "{{job.parameters.child_bad}}"}
    return {
        "task_key": key,
        **_after(*above),
        "run_job_task": {"job_name": job, "job_parameters": given},
        **more,
    }


def _iterations(key: str, count: int) -> tuple[str, ...]:
    return tuple(f"{key}[{n}]" for n in range(count))


# --- jobs ---------------------------------------------------------------------------------------------------------


def _shape(name: str, tasks: Sequence[Spec], *, loops: Mapping[str, int] | None = None, **more: Any) -> Shape:
    """`loops`: how many iterations each has."""
    child = more.pop("child", None)
    plain = [t for t in tasks if not {"for_each_task", "run_job_task", "condition_task", "ingest"} & t.keys()]
    failing = [t["task_key"] for t in plain if not t.get("disabled")]
    flaky = [t["task_key"] for t in plain if t.get("max_retries", 0) >= FLAKY_UNTIL]
    for key, count in (loops or {}).items():
        failing += _iterations(key, count)
        inner = next(t["for_each_task"]["task"] for t in tasks if t["task_key"] == key)
        flaky += _iterations(key, count) if inner.get("max_retries", 0) >= FLAKY_UNTIL else ()
    return Shape(name, tuple(tasks), more, tuple(failing), tuple(flaky), child)


_FOUND = "{{tasks.list.values.list}}"
_ALARMS = [
    mark("a", **ONCE_MORE),
    mark("b"),
    mark("alarm", "a", "b", run_if="AT_LEAST_ONE_FAILED"),
    mark("fine", "a", "b"),
    mark("any", "a", "b", run_if="AT_LEAST_ONE_SUCCESS"),
    mark("none", "a", "b", run_if="ALL_FAILED"),
    mark("done", "alarm", "fine", "any", "none", run_if="ALL_DONE"),
    mark("quiet", "alarm", "fine", run_if="NONE_FAILED"),
]
CHAIN = _shape(
    "chain",
    [table("chain", "a"), table("chain", "b", "a", **RETRIES), mark("c", "b", **RETRIES)],
    max_concurrent_runs=2,
)
DIAMOND = _shape(
    "diamond",
    [mark("a"), slow("b", "a", **ONCE_MORE), python("c", "a", **RETRIES), mark("d", "b", "c")],
    max_concurrent_runs=10,
)
BRANCHES = _shape(
    "branches",
    [
        mark("a", **RETRIES),
        condition("more", "{{tasks.a.values.n}}", "GREATER_THAN", "2", "a"),
        when(mark("yes"), "more", "true"),
        when(mark("no"), "more", "false"),
        mark("behind_no", "no"),
        mark("join", "yes", "behind_no", run_if="NONE_FAILED"),
    ],
    max_concurrent_runs=3,
)
LOOP = _shape(
    "loop",
    [
        mark("list"),
        loop("each", _FOUND, mark("x", **RETRIES), "list", concurrency=3),
        mark("after", "each"),
        mark("always", "each", run_if="ALL_DONE"),
    ],
    loops={"each": 4},
    max_concurrent_runs=3,
)
PARENT = _shape(
    "parent",
    [mark("before"), run_job("call", "chain", "before"), mark("after", "call")],
    child="chain",
    max_concurrent_runs=3,
)
ALARMS = _shape("alarms", _ALARMS, max_concurrent_runs=5)
PYTHONS = _shape(
    "pythons",
    [python("a", **RETRIES), python("list", "a"), loop("each", _FOUND, python("x"), "list", concurrency=2)],
    loops={"each": 4},
    max_concurrent_runs=4,
)
TOGETHER = _shape(
    "together",
    [table("together", "a"), table("together", "b", "a"), table("together", "c", "a"), mark("d", "b", "c")],
    max_concurrent_runs=2,
)
PROCESSES = _shape(
    "processes",
    [process("a", **RETRIES), process("b", "a"), mark("c", "b", run_if="ALL_DONE")],
    max_concurrent_runs=2,
)
INGEST = _shape(
    "ingest",
    [
        {"task_key": "bronze", "ingest": {"schema_hints": {"id": "BIGINT"}}, "table": "bronze.ingest"},
        table("ingest", "gold", "bronze", **RETRIES),
        mark("last", "gold"),
    ],
    triggers=[{"file_arrival": {"path": "ingest"}}],
    max_concurrent_runs=3,
)
SHORT = (CHAIN, DIAMOND, BRANCHES, LOOP, PARENT, ALARMS, PYTHONS, TOGETHER, PROCESSES, INGEST)
LONG = (
    *SHORT,
    _shape("deep", [run_job("call", "parent", passes="child_bad"), mark("after", "call")], child="chain"),
    _shape(
        "deepest",
        [run_job("call", "deep", passes="child_bad", **ONCE_MORE), mark("after", "call")],
        child="chain",
        max_concurrent_runs=2,
    ),
    _shape(
        "many",
        [loop("each", "[1, 2, 3]", run_job("x", "branches"), concurrency=2), mark("after", "each", run_if="ALL_DONE")],
        child="branches",
        max_concurrent_runs=2,
    ),
    _shape("line", [mark("a"), *(mark(b, a, **RETRIES) for a, b in ("ab", "bc", "cd", "de", "ef"))]),
    _shape(
        "wide",
        [mark("a"), *(mark(f"w{n}", "a", **RETRIES) for n in range(8)), mark("z", *(f"w{n}" for n in range(8)))],
        max_concurrent_runs=4,
    ),
    _shape("sides", [mark("a"), mark("off", "a", disabled=True), mark("b", "off"), mark("c", "b", "a")], strict=True),
    _shape("hurry", [python("a"), slow("b", "a", timeout_seconds=60), python("c", "b")], queue={"enabled": False}),
    _shape("urgent", [slow("a", **RETRIES), process("b", "a")], priority=5, max_concurrent_runs=2),
    _shape("late", [python("a"), slow("b", "a"), slow("c", "b")], timeout_seconds=300, max_concurrent_runs=6),
    _shape(
        "ladder",
        [
            mark("a"),
            python("b", "a", **RETRIES),
            condition("is_set", "{{job.parameters.flaky}}", "NOT_EQUAL", "", "a"),
            when(mark("c", "b"), "is_set", "true"),
            mark("d", "c", "b", run_if="ALL_DONE"),
        ],
        max_concurrent_runs=3,
    ),
)
"""The children of `run_job` tasks come before whoever starts them."""
