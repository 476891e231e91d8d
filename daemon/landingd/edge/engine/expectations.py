"""Hold rows against their table's expectations: every rule once for every row, in one pass.

What a row violates is one number, a bit for each rule. Where rows have to be left out of a SELECT's result, one
statement computes the rows with their numbers, inserts those that pass, keeps the quarantined ones and counts:
nothing is staged in a table that could survive, and it took hardly longer than the insert alone (deleting the rows
after the insert made the commit of a large table fifteen times as long).

A rule that is NULL for a row is violated, and so is one that cannot be computed for it: a cell that does not cast
must not stop the rows around it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import duckdb

from landingd.edge.engine.sqltext import ident, literal, table_ident
from landingd.errors import EngineError
from landingd.model import Expectation, ExpectationCount, IngestPlan, OnViolation, RefreshMode, TablePlan

LinesOf = Callable[[int, Sequence[int]], Mapping[int, int]]
"""Of a file version, the line on which each of these rows (`_row`) begins."""

_REMOVING = (OnViolation.DROP, OnViolation.QUARANTINE)
_VIOLATED = '"landingd violated"'
"""The column of the number; no SELECT is expected to make one of this name."""
_ROW_AS_JSON = f"to_json(struct_pack(*COLUMNS(* EXCLUDE ({_VIOLATED}))))"
_EXAMPLE_CHARACTERS_MAX = 500
_NO_FILE = 0
"""Stands for the file id of rows that have none: grouped by NULL, DuckDB 2.0.0 ends with an internal error."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many of a file's rows may not be in the table."""

    rows_dropped: int = 0
    rows_quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of the rows of a SELECT."""

    rows_out: int
    counts: tuple[ExpectationCount, ...] = ()
    rows_quarantined: int = 0
    removed: Mapping[int, Removed] = field(default_factory=dict[int, Removed])
    """What each file lost (no entry: nothing); empty for a table that does not know its files."""


def remove_rows(expectations: Iterable[Expectation]) -> bool:
    """Whether any of them keeps rows out of the table."""
    return any(e.on_violation in _REMOVING for e in expectations)


def fill(cursor: duckdb.DuckDBPyConnection, plan: TablePlan, select: str, parameters: Mapping[str, str]) -> Filled:
    """Insert the rows of a SELECT that may be inserted, into the plan's table.

    Raises EngineError where an expectation is not met that must be; the transaction has to be rolled back then.
    """
    rules = plan.expectations
    removing, quarantining = _bits(rules, *_REMOVING), _bits(rules, OnViolation.QUARANTINE)
    file_id = "_file_id" if plan.mode is RefreshMode.APPEND else _NO_FILE
    found = cursor.execute(
        f"""
        WITH judged AS MATERIALIZED (
            SELECT *, {_violated(rules)} AS {_VIOLATED} FROM (\n{select}\n) AS {_alias(plan.table)}
        ), kept AS (
            INSERT INTO {table_ident(plan.table)} BY NAME
            SELECT * EXCLUDE ({_VIOLATED}) FROM judged WHERE {_VIOLATED} & {removing} = 0
        ){_quarantine_of_table(plan) if quarantining else ""}
        SELECT {file_id}, {_VIOLATED}, count(*), first({_example(rules)}) FROM judged GROUP BY 1, 2
        """,
        dict(parameters),
    ).fetchall()
    groups = [_Group(*group) for group in found]
    _refuse(rules, plan.table, groups)
    return Filled(
        rows_out=sum(g.rows for g in groups if not g.violated & removing),
        rows_quarantined=sum(g.rows for g in groups if g.violated & quarantining),
        counts=_counts(rules, groups),
        removed=_removed(rules, groups),
    )


def check_standing(cursor: duckdb.DuckDBPyConnection, plan: TablePlan) -> tuple[ExpectationCount, ...]:
    """Count how the rows of a table that has just been made do, where no rule takes any of them out.

    Raises EngineError as `fill` does.
    """
    rules = plan.expectations
    found = cursor.execute(
        f"""
        SELECT {_NO_FILE}, {_VIOLATED}, count(*), first({_example(rules)})
        FROM (SELECT *, {_violated(rules)} AS {_VIOLATED} FROM {table_ident(plan.table)})
        GROUP BY 2
        """
    ).fetchall()
    groups = [_Group(*group) for group in found]
    _refuse(rules, plan.table, groups)
    return _counts(rules, groups)


def check_ingested(
    cursor: duckdb.DuckDBPyConnection, plan: IngestPlan, file_ids: Sequence[int], lines_of: LinesOf
) -> tuple[tuple[ExpectationCount, ...], dict[int, Removed]]:
    """Judge the rows of files that have just been loaded; take out, and keep, those that may not stay.

    Answers the counts, and what each file lost (no entry: nothing). Raises EngineError as `fill` does.
    """
    rules = plan.expectations
    if not rules:
        return (), {}
    found = cursor.execute(_judge_ingested(plan), {"ids": list(file_ids)}).fetchall()
    groups = [_Group(*group) for group in found]
    _refuse(rules, plan.table, groups, {file.file_id: file.name for file in plan.files})
    removed = _removed(rules, groups)
    for file_id in [f for f, lost in removed.items() if lost.rows_quarantined]:
        _add_lines(cursor, plan.table, file_id, lines_of)
    return _counts(rules, groups), removed


def forget_quarantined(cursor: duckdb.DuckDBPyConnection, table: str) -> None:
    """The table is computed anew: what it quarantined belongs to what it was."""
    cursor.execute(
        "DELETE FROM meta.rejected_rows WHERE table_name = $table AND error_type = 'EXPECTATION'", {"table": table}
    ).fetchall()


def no_rows(expectations: Sequence[Expectation]) -> tuple[ExpectationCount, ...]:
    """The counts where no row was judged."""
    return _counts(expectations, ())


# --- the statements ---------------------------------------------------------------------------------------


def _violated(rules: Sequence[Expectation]) -> str:
    """The number, as SQL. A line end closes a comment that an expression may end with."""
    bits = (f"CASE WHEN TRY((\n{rule.expect}\n)) THEN 0 ELSE {1 << n} END" for n, rule in enumerate(rules))
    return f"CAST({' | '.join(bits)} AS BIGINT)"


def _bits(rules: Sequence[Expectation], *actions: OnViolation) -> int:
    return sum(1 << n for n, rule in enumerate(rules) if rule.on_violation in actions)


def _example(rules: Sequence[Expectation]) -> str:
    """A row to show where the attempt fails; any other is not worth writing as JSON."""
    failing = _bits(rules, OnViolation.FAIL)
    return f"CASE WHEN {_VIOLATED} & {failing} <> 0 THEN {_ROW_AS_JSON} END" if failing else "NULL"


def _alias(table: str) -> str:
    return ident(table.partition(".")[2])


def _first_violated(rules: Sequence[Expectation], shown: Callable[[Expectation], str]) -> str:
    """Of the quarantining rules that a row violates, the first: a row is kept once."""
    whens = (
        f"WHEN {_VIOLATED} & {1 << n} <> 0 THEN {literal(shown(rule))}"
        for n, rule in enumerate(rules)
        if rule.on_violation is OnViolation.QUARANTINE
    )
    return f"CASE {' '.join(whens)} END"


def _rejected(table: str, rules: Sequence[Expectation], *, file_id: str, row: str) -> str:
    """What is written to meta.rejected_rows of a row, beside `raw`."""
    return (
        f"{literal(table)} AS table_name, {file_id} AS file_id, {row} AS row, 'EXPECTATION' AS error_type, "
        f"{_first_violated(rules, lambda r: r.expect)} AS error, {_first_violated(rules, lambda r: r.name)} AS rule"
    )


def _quarantine_of_table(plan: TablePlan) -> str:
    # A recomputed table may or may not have the lineage columns; the row's JSON says so without a look at the catalog.
    columns = _rejected(
        plan.table,
        plan.expectations,
        file_id="TRY_CAST(raw->>'_file_id' AS BIGINT)",
        row="TRY_CAST(raw->>'_row' AS BIGINT)",
    )
    return f""", quarantined AS (
            INSERT INTO meta.rejected_rows BY NAME
            SELECT {columns}, raw FROM (
                SELECT {_VIOLATED}, {_ROW_AS_JSON} AS raw FROM judged
                WHERE {_VIOLATED} & {_bits(plan.expectations, OnViolation.QUARANTINE)} <> 0
            )
        )"""


def _judge_ingested(plan: IngestPlan) -> str:
    rules, table = plan.expectations, table_ident(plan.table)
    showing = _bits(rules, OnViolation.QUARANTINE, OnViolation.FAIL)
    judged = f"""
        judged AS MATERIALIZED (
            SELECT _file_id, _row, {_VIOLATED},
                   CASE WHEN {_VIOLATED} & {showing} <> 0 THEN {_ROW_AS_JSON} END AS raw
            FROM (SELECT *, {_violated(rules)} AS {_VIOLATED} FROM {table} WHERE _file_id IN (SELECT unnest($ids)))
        )"""
    parts = [judged]
    if remove_rows(rules):
        parts.append(f"""
        gone AS (
            DELETE FROM {table} USING judged
            WHERE {table}._file_id = judged._file_id AND {table}._row = judged._row
              AND judged.{_VIOLATED} & {_bits(rules, *_REMOVING)} <> 0
        )""")
    if _bits(rules, OnViolation.QUARANTINE):
        columns = _rejected(plan.table, rules, file_id="_file_id", row="_row")
        parts.append(f"""
        quarantined AS (
            INSERT INTO meta.rejected_rows BY NAME
            SELECT {columns}, raw FROM judged WHERE {_VIOLATED} & {_bits(rules, OnViolation.QUARANTINE)} <> 0
        )""")
    return f"WITH {','.join(parts)} SELECT _file_id, {_VIOLATED}, count(*), first(raw) FROM judged GROUP BY 1, 2"


def _add_lines(cursor: duckdb.DuckDBPyConnection, table: str, file_id: int, lines_of: LinesOf) -> None:
    """Say where in its file each quarantined row begins: the reader does not tell, so the file is walked once."""
    of_file = {"table": table, "file_id": file_id}
    rows = cursor.execute(
        "SELECT row FROM meta.rejected_rows "
        "WHERE table_name = $table AND file_id = $file_id AND error_type = 'EXPECTATION' ORDER BY row",
        of_file,
    ).fetchall()
    lines = lines_of(file_id, [row[0] for row in rows])
    if not lines:
        return
    cursor.execute(
        """
        UPDATE meta.rejected_rows SET line = found.line
        FROM (SELECT unnest($rows) AS row, unnest($lines) AS line) AS found
        WHERE rejected_rows.row = found.row
          AND table_name = $table AND file_id = $file_id AND error_type = 'EXPECTATION'
        """,
        of_file | {"rows": list(lines), "lines": list(lines.values())},
    ).fetchall()


# --- the verdict ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows, of one file where that is known, that violate the same rules."""

    file_id: int
    violated: int
    rows: int
    example: str | None


def _counts(rules: Sequence[Expectation], groups: Sequence[_Group]) -> tuple[ExpectationCount, ...]:
    total = sum(g.rows for g in groups)
    failed = [sum(g.rows for g in groups if g.violated & 1 << n) for n in range(len(rules))]
    return tuple(
        ExpectationCount(rule.name, rule.on_violation.value, total - f, f)
        for rule, f in zip(rules, failed, strict=True)
    )


def _removed(rules: Sequence[Expectation], groups: Iterable[_Group]) -> dict[int, Removed]:
    """By file. A row that one rule drops and another quarantines is quarantined: nothing is lost."""
    removing, quarantining = _bits(rules, *_REMOVING), _bits(rules, OnViolation.QUARANTINE)
    removed: dict[int, Removed] = {}
    for group in groups:
        if group.file_id == _NO_FILE or not group.violated & removing:
            continue
        lost = removed.get(group.file_id, Removed())
        if group.violated & quarantining:
            removed[group.file_id] = replace(lost, rows_quarantined=lost.rows_quarantined + group.rows)
        else:
            removed[group.file_id] = replace(lost, rows_dropped=lost.rows_dropped + group.rows)
    return removed


def _refuse(
    rules: Sequence[Expectation], table: str, groups: Sequence[_Group], file_names: Mapping[int, str] | None = None
) -> None:
    """Raise EngineError for the first rule that must hold and does not."""
    for n, rule in enumerate(rules):
        against = [g for g in groups if g.violated & 1 << n]
        if rule.on_violation is not OnViolation.FAIL or not against:
            continue
        one = against[0]
        file_name = (file_names or {}).get(one.file_id)
        where = f" in {file_name}" if file_name else ""
        raise EngineError(
            f"expectation '{rule.name}' failed for {sum(g.rows for g in against)} of {sum(g.rows for g in groups)} "
            f"rows of {table}; for example{where}: {(one.example or '')[:_EXAMPLE_CHARACTERS_MAX]}",
            permanent=True,
            hint=f"it expects: {rule.expect}",
        )
