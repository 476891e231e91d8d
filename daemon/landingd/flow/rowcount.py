"""Count rows: what the ledger says of each file, what `meta.loads` says, and what the table holds.

No commit covers ledger and warehouse, and runs go on while they are read. So what differs is asked for again, and only
what differs in the same way each time is told.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from landingd.core.census import Discrepancy, Doubt, TableRows, rows_differing
from landingd.edge.engine import Engine
from landingd.edge.engine.sqltext import literal, table_ident
from landingd.edge.ledger import views
from landingd.model import Job

Query = Callable[[str], Awaitable[list[dict[str, Any]]]]
"""The rows of one SELECT over the warehouse."""

HINT = "query meta.loads and meta.commits for this file_id; `landingd replay` loads the file anew"


async def differing_rows(
    jobs: Sequence[Job], query: Query, ledger_file: Path, waits_s: Sequence[float]
) -> list[Discrepancy]:
    """The versions of these jobs for which ledger, `meta.loads` and table do not agree."""
    found = await _differing(jobs, query, ledger_file)
    for wait_s in waits_s:
        if not found:
            break
        await asyncio.sleep(wait_s)
        again = await _differing(jobs, query, ledger_file)
        found = {what: why for what, why in found.items() if again.get(what) == why}
    if not found:
        return []
    names = await asyncio.to_thread(partial(_names, ledger_file, [file_id for _, _, file_id in found]))
    return [
        Discrepancy(Doubt.ROWS, job, names.get(file_id, f"file {file_id}"), file_id, f"{task_key}: {why}", HINT)
        for (job, task_key, file_id), why in sorted(found.items())
    ]


def warehouse_rows(engine: Engine, scratch: Path) -> Query:
    """Asks the open warehouse."""

    async def ask(sql: str) -> list[dict[str, Any]]:
        to = scratch / f"census-{uuid.uuid4().hex}.json"
        try:
            await engine.query(sql, "json", to)
            found: list[dict[str, Any]] = await asyncio.to_thread(lambda: json.loads(to.read_bytes()))
        finally:
            to.unlink(missing_ok=True)
        return found

    return ask


async def _differing(jobs: Sequence[Job], query: Query, ledger_file: Path) -> dict[tuple[str, str, int], str]:
    found: dict[tuple[str, str, int], str] = {}
    there = {row["name"].casefold() for row in await query(_TABLES)}
    for job in jobs:
        for task in job.tasks:
            if task.ingest is None or task.table is None:
                continue
            ledger = await asyncio.to_thread(partial(_ledger, ledger_file, job.name, task.task_key))
            rows = await query(_rows_sql(task.table)) if task.table.casefold() in there else []
            counted = TableRows(
                task.table,
                ledger,
                listed={
                    row["file_id"]: (row["rows_in"], row["rows_loaded"], row["rows_rejected"])
                    for row in rows
                    if row["rows_in"] is not None
                },
                held={row["file_id"]: row["held"] for row in rows},
            )
            found |= {(job.name, task.task_key, file_id): why for file_id, why in rows_differing(counted).items()}
    return found


_TABLES = (
    "SELECT schema_name || '.' || table_name AS name FROM duckdb_tables() "
    "WHERE database_name = current_database() AND NOT internal"
)


def _rows_sql(table: str) -> str:
    return f"""
        SELECT file_id, l.rows_in, l.rows_loaded, l.rows_rejected, coalesce(t.held, 0) AS held
        FROM (SELECT _file_id AS file_id, count(*) AS held FROM {table_ident(table)} GROUP BY 1) t
        FULL JOIN (SELECT * FROM meta.loads WHERE lower(table_name) = {literal(table.casefold())}) l USING (file_id)
        """


def _ledger(ledger_file: Path, job: str, task_key: str) -> dict[int, tuple[int, int, int]]:
    with views.reading(ledger_file) as db:
        return views.loads_of(db, job, task_key)


def _names(ledger_file: Path, file_ids: Sequence[int]) -> dict[int, str]:
    with views.reading(ledger_file) as db:
        return {file["file_id"]: file["file"] for file in views.file_answers(db, file_ids)}
