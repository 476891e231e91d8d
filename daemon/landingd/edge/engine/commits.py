"""The commit rows: which attempts are in the warehouse, and what they did."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import duckdb

from landingd.model import AttemptKey, ExpectationCount, FileLoad, IngestPlan, Output, Plan, Stats, TablePlan


def committed_stats(cursor: duckdb.DuckDBPyConnection, run_ids: Collection[int]) -> dict[AttemptKey, Stats]:
    """Every attempt of these runs that committed, and what it did."""
    if not run_ids:
        return {}
    rows = cursor.execute(
        "SELECT run_id, task_key, attempt, stats FROM meta.commits WHERE run_id IN (SELECT unnest($runs))",
        {"runs": sorted(run_ids)},
    ).fetchall()
    return {AttemptKey(row[0], row[1], row[2]): _stats(row[3]) for row in rows}


def write_commits(
    cursor: duckdb.DuckDBPyConnection, plans: Sequence[Plan], stats: Sequence[Stats], at: datetime
) -> None:
    """Write the attempts' commit rows, in the transaction that changes the data."""
    cursor.execute(
        """
        INSERT INTO meta.commits
        SELECT $run_id, unnest($task_keys), unnest($attempts), $job, unnest($tables), unnest($stats), $at
        """,
        {
            "run_id": plans[0].key.run_id,
            "task_keys": [plan.key.task_key for plan in plans],
            "attempts": [plan.key.attempt for plan in plans],
            "job": plans[0].job,
            "tables": [plan.table if isinstance(plan, IngestPlan | TablePlan) else None for plan in plans],
            "stats": [_text(one) for one in stats],
            "at": at,
        },
    ).fetchall()


def forget_commits(cursor: duckdb.DuckDBPyConnection, *, before_run_id: int, keep: Collection[int]) -> int:
    """Delete the rows of runs before this one, but those to be kept; how many.

    Never those of the newest run: the ledger must not hand out its id again.
    """
    deleted = cursor.execute(
        """
        DELETE FROM meta.commits
        WHERE run_id < $before AND run_id NOT IN (SELECT unnest($keep))
          AND run_id < (SELECT max(run_id) FROM meta.commits)
        """,
        {"before": before_run_id, "keep": sorted(keep) or [0]},
    ).fetchall()
    return int(deleted[0][0])


def high_water(cursor: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """The highest run id and the highest file id in the warehouse."""
    row = cursor.execute(
        "SELECT (SELECT coalesce(max(run_id), 0) FROM meta.commits), (SELECT coalesce(max(file_id), 0) FROM meta.loads)"
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _text(stats: Stats) -> str:
    # The output may be large, and most attempts have none: it is not copied, and said only where there is one.
    said: dict[str, Any] = {name: getattr(stats, name) for name in _FIELDS}
    if stats.output != _NONE:
        said["output"] = {name: getattr(stats.output, name) for name in _OF_AN_OUTPUT}
    return json.dumps(said, default=asdict)


def _stats(text: str) -> Stats:
    # Rows of earlier versions lack some of the fields; what is not said has its usual value.
    said = json.loads(text)
    files = tuple(FileLoad(**f) for f in said.get("files", ()))
    expectations = tuple(ExpectationCount(**e) for e in said.get("expectations", ()))
    output = said.get("output", {})
    output = Output(**(output | {"rows": tuple(output.get("rows", ()))}))
    return Stats(**(said | {"files": files, "expectations": expectations, "output": output}))


_NONE = Output()
_OF_AN_OUTPUT = ("values", "rows", "rows_cut", "text")
_FIELDS = tuple(one.name for one in fields(Stats) if one.name != "output")
