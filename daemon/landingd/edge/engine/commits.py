"""The commit rows: which attempts are in the warehouse, and what they did."""

import json
from collections.abc import Collection

import duckdb

from landingd.model import AttemptKey, ExpectationCount, FileLoad, Stats


def committed_stats(cursor: duckdb.DuckDBPyConnection, run_ids: Collection[int]) -> dict[AttemptKey, Stats]:
    """Every attempt of these runs that committed, and what it did."""
    if not run_ids:
        return {}
    rows = cursor.execute(
        "SELECT run_id, task_key, attempt, stats FROM meta.commits WHERE run_id IN (SELECT unnest($runs))",
        {"runs": sorted(run_ids)},
    ).fetchall()
    return {AttemptKey(row[0], row[1], row[2]): _stats(row[3]) for row in rows}


def high_water(cursor: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """The highest run id and the highest file id in the warehouse."""
    row = cursor.execute(
        "SELECT (SELECT coalesce(max(run_id), 0) FROM meta.commits), (SELECT coalesce(max(file_id), 0) FROM meta.loads)"
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def message(error: Exception) -> str:
    """What DuckDB says, without blank edges."""
    return str(error).strip() or type(error).__name__


def _stats(text: str) -> Stats:
    # Rows from before there were expectations lack some of the fields; what is not said has its usual value.
    fields = json.loads(text)
    files = tuple(FileLoad(**f) for f in fields.get("files", ()))
    expectations = tuple(ExpectationCount(**e) for e in fields.get("expectations", ()))
    return Stats(**(fields | {"files": files, "expectations": expectations}))
