"""A DAG of 1,000 tasks, Databricks' limit: what carrying it out costs beyond the engine's own commits.

A condition needs no engine, so all that its task costs is orchestration. A script that selects nothing, and a table of
one row, cost a commit too, and what a commit costs hangs on the disk and on who else uses it. So the engine has a clock
in the run itself: it runs while an attempt is with the engine, and what is left of the run is orchestration.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import structlog

from landingd.edge.engine import Engine, EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread
from landingd.flow.acting import ActingOptions, Actor
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog, load_catalog
from landingd.flow.dispatch import Dispatch
from landingd.flow.driving import Driver
from landingd.flow.preparing import Preparer
from landingd.flow.runner import Runner
from landingd.model import Outcome, Result, RunRequest, TriggerType

TASKS = 1000
LOAD_GOAL_S = 1.0
ORCHESTRATION_GOAL_MS = 1.0

Above = Callable[[int], Sequence[int]]
SHAPES: dict[str, Above] = {
    "chain": lambda n: [n - 1] if n else [],
    "wide": lambda n: [] if n == 0 else [0] if n < TASKS - 1 else range(1, TASKS - 1),
    "lattice": lambda n: [n - 30, n - 29, n - 28] if n >= 30 else [],
}
KINDS = {
    "condition": '    condition_task: {op: EQUAL_TO, left: "a", right: "a"}\n',
    # With a timeout each is tried alone, in a transaction of its own.
    "script": "    sql: nothing.sql\n    timeout_seconds: 600\n",
    "table": "    table: silver.t{n}\n    sql: t{n}.sql\n    timeout_seconds: 600\n",
}
CASES = [*((shape, kind) for shape in SHAPES for kind in ("condition", "script")), ("chain", "table")]


@dataclass(frozen=True, slots=True)
class DagOutcome:
    """One shape of one kind of task."""

    shape: str
    kind: str
    load_s: float
    """Reading, checking and binding the job file."""
    run_s: float
    commit_ms: float
    """How long an attempt was with the engine, on average; 0 for conditions. Attempts that wait for each other: what
    each adds.
    """
    result: Result | None

    @property
    def orchestration_ms(self) -> float:
        """Per task, beyond the commit."""
        return 1000 * self.run_s / TASKS - self.commit_ms


def measure(folder: Path) -> list[DagOutcome]:
    """Every shape of every kind."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = []
    for shape, kind in CASES:
        base = folder / f"{shape}-{kind}"
        _write_job(base, SHAPES[shape], kind)
        found.append(asyncio.run(_carry_out(base, shape, kind)))
    return found


def _write_job(base: Path, above: Above, kind: str) -> None:
    job = base / "pipelines" / "large"
    job.mkdir(parents=True)
    (base / "landing").mkdir()
    (job / "nothing.sql").write_text("SELECT 1;\n")
    lines = ["tasks:\n"]
    for n in range(TASKS):
        before = ", ".join(f"{{task_key: t{other}}}" for other in above(n))
        lines.append(f"  - task_key: t{n}\n    depends_on: [{before}]\n{KINDS[kind].replace('{n}', str(n))}")
        if kind == "table":
            rows = " UNION ALL ".join(f"SELECT n + 1 AS n FROM silver.t{other}" for other in above(n))
            (job / f"t{n}.sql").write_text(f"{rows or 'SELECT 0 AS n'}\n")
    (job / "job.yml").write_text("".join(lines))


class _Clocked:
    """The engine with a clock, which runs while any attempt is with it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inside = 0
        self._began_s = 0.0
        self.busy_s = 0.0

    async def execute(self, *args: Any, **more: Any) -> Outcome:
        if not self._inside:
            self._began_s = time.perf_counter()
        self._inside += 1
        try:
            return await self._engine.execute(*args, **more)
        finally:
            self._inside -= 1
            if not self._inside:
                self.busy_s += time.perf_counter() - self._began_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


async def _carry_out(base: Path, shape: str, kind: str) -> DagOutcome:
    engine = open_engine(EngineOptions(base / "warehouse.duckdb", base / "scratch", base / "landing"))
    ledger = LedgerThread(base / "ledger.sqlite")
    try:
        began_s = time.perf_counter()
        catalog = load_catalog(base / "pipelines", {})
        load_s = time.perf_counter() - began_s
        clocked = _Clocked(engine)
        run_s, result = await _run(Books(ledger), cast("Engine", clocked), catalog, base)
        return DagOutcome(shape, kind, load_s, run_s, 1000 * clocked.busy_s / TASKS, result)
    finally:
        ledger.close()
        engine.close()


async def _run(books: Books, engine: Engine, catalog: Catalog, base: Path) -> tuple[float, Result | None]:
    actor = Actor(ActingOptions(base / "tasks", base / "socket"))
    runner = Runner(books, engine, Preparer(base / "landing", None, base / "scratch"), actor=actor)
    dispatch = Dispatch(books, Driver(runner), catalog, max_concurrent=4)
    working = asyncio.create_task(dispatch.run())
    request = RunRequest(TriggerType.ONE_TIME, "bench")
    admitted = await books.admit(catalog.job("large"), request)
    began_s = time.perf_counter()
    dispatch.wake("large")
    ended = await books.ended(admitted.run_id)
    run_s = time.perf_counter() - began_s
    dispatch.stop()
    await working
    return run_s, ended.result
