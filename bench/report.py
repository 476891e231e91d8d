"""The figures as a table for people and as JSON for the next run to be held against."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from statistics import quantiles
from typing import Any

import duckdb
from bench.cases import Idle, Outcome
from bench.dag import LOAD_GOAL_S, ORCHESTRATION_GOAL_MS, TASKS, DagOutcome
from rich.console import Console
from rich.table import Table


def print_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    table = Table(title="From a file's close to its rows in gold")
    table.add_column("files", no_wrap=True)
    table.add_column("peer", no_wrap=True)
    for column in ("median", "p90", "of limit"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("goal", no_wrap=True)
    before = None
    for outcome in outcomes:
        if before not in (None, outcome.case.label):
            table.add_section()
        label = outcome.case.label if outcome.case.label != before else ""
        before = outcome.case.label
        table.add_row(label, outcome.peer, *figures(outcome), goal(outcome))
    console.print(table)
    for outcome in outcomes:
        if outcome.failure:
            console.print(f"{outcome.case.label}, {outcome.peer}: {outcome.failure}", markup=False)


def figures(outcome: Outcome) -> tuple[str, str, str]:
    if outcome.failure or not outcome.samples:
        return "failed", "", ""
    if outcome.case.at_once:
        return f"{outcome.value:,.0f} files/s", "", f"{outcome.ratio:.2f}x"
    return (
        f"{1000 * outcome.value:,.1f} ms",
        f"{1000 * p90(outcome.samples):,.1f} ms",
        f"{outcome.ratio:.2f}x",
    )


def goal(outcome: Outcome) -> str:
    if outcome.goal_met is None or outcome.case.goal is None:
        return ""
    sign = "≥" if outcome.case.at_once else "≤"
    return f"{sign} {outcome.case.goal:g}x: {'met' if outcome.goal_met else 'missed'}"


def print_idle(idle: Sequence[Idle], console: Console) -> None:
    table = Table(title="While nothing lands")
    table.add_column("peer")
    table.add_column("CPU", justify="right")
    table.add_column("resident", justify="right")
    for one in idle:
        table.add_row(one.peer, f"{one.cpu_percent:.2f} %", f"{one.rss_mb:.0f} MB")
    console.print(table)


def print_dags(dags: Sequence[DagOutcome], console: Console) -> None:
    table = Table(title=f"A run of {TASKS:,} tasks")
    for column in ("shape", "task"):
        table.add_column(column, no_wrap=True)
    for column in ("load", "run", "commit", "orchestration", "goal"):
        table.add_column(column, justify="right", no_wrap=True)
    for dag in dags:
        met = dag.load_s < LOAD_GOAL_S and dag.orchestration_ms < ORCHESTRATION_GOAL_MS
        table.add_row(
            dag.shape,
            dag.kind,
            f"{dag.load_s:.2f} s",
            f"{dag.run_s:.2f} s" if dag.result == "SUCCESS" else str(dag.result),
            f"{dag.commit_ms:.2f} ms" if dag.commit_ms else "",
            f"{dag.orchestration_ms:.2f} ms",
            f"< {LOAD_GOAL_S:g} s, < {ORCHESTRATION_GOAL_MS:g} ms: {'met' if met else 'missed'}",
        )
    console.print(table)


def as_json(outcomes: Sequence[Outcome], idle: Sequence[Idle], dags: Sequence[DagOutcome]) -> dict[str, Any]:
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "duckdb": duckdb.__version__,
        },
        "cases": [
            {
                "case": outcome.case.label,
                "peer": outcome.peer,
                "unit": "files_per_s" if outcome.case.at_once else "s",
                "samples": outcome.samples,
                "median": outcome.value if outcome.samples else None,
                "of_limit": outcome.ratio if outcome.samples else None,
                "goal": outcome.case.goal if outcome.peer == "landingd" else None,
                "goal_met": outcome.goal_met,
                "failure": outcome.failure or None,
            }
            for outcome in outcomes
        ],
        "idle": [vars(one) for one in idle],
        "dags": [asdict(dag) | {"orchestration_ms": dag.orchestration_ms} for dag in dags],
    }


def p90(samples: Sequence[float]) -> float:
    return quantiles(samples, n=10, method="inclusive")[-1] if len(samples) > 1 else samples[0]
