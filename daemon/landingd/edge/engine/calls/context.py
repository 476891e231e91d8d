"""What a Python task is given: its parameters, what the tasks before it have said, and the attempt's transaction.

The cursor is DuckDB's, behind a fence: it takes the statements that a script may hold, so a function can neither commit
nor change a setting, and it cannot close what the next attempt needs. It works only while the attempt does. Where that
has ended (a timeout, a cancel), each call raises CallEndedError, which is no Exception: `except Exception` in the
function does not hold it up.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import duckdb

from landingd.edge.engine import outputs, statements
from landingd.model import AttemptKey, PythonPlan

Lend = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
"""The lane's cursor, for one thing at a time; the first time it waits until the lane is free."""

_PASSED_ON = frozenset(
    {"fetchone", "fetchmany", "fetchall", "fetchnumpy", "fetchdf", "fetch_df", "df", "arrow", "fetch_arrow_table", "pl"}
)


class CallEndedError(BaseException):
    """The attempt has ended, and with it what its function may do in the warehouse."""


class TaskCursor:
    """DuckDB's cursor as a Python task may use it: `execute`, the fetch methods, `description`, `rowcount`."""

    def __init__(
        self, lend: Lend, parameters: Mapping[str, str], *, on_statements: Callable[[Sequence[duckdb.Statement]], None]
    ) -> None:
        self._lend = lend
        self._parameters = parameters
        self._on_statements = on_statements

    def execute(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Self:
        """Carry out one or several statements; of a SELECT that is the last one the rows can be fetched.

        `$name` takes its value from `parameters`, else from the task's own. Raises duckdb.Error, and EngineError for
        a statement that a script may not hold.
        """
        with self._lend() as cursor:
            found = self._statements(cursor, sql, parameters)
            for n, (statement, values) in enumerate(found, start=1):
                cursor.execute(statement, values)
                if statement.type.name != "SELECT" or n < len(found) or statements.may_write(statement):
                    cursor.fetchall()  # a SELECT has only been started, and nobody else may carry it to its end
        return self

    def select(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Carry out statements; all rows of the last one, by column name. TIMESTAMPTZ comes as a datetime in UTC."""
        with self._lend() as cursor:
            rows: list[dict[str, Any]] = []
            for statement, values in self._statements(cursor, sql, parameters):
                if statement.type.name == "SELECT":
                    rows = outputs.all_rows(cursor, statement, values)
                else:
                    cursor.execute(statement, values).fetchall()
                    rows = []
        return rows

    def _statements(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None
    ) -> list[tuple[duckdb.Statement, Any]]:
        found = cursor.extract_statements(sql)
        for statement in found:
            statements.check(statement)
        self._on_statements(found)
        return [(statement, self._values(statement, parameters)) for statement in found]

    def _values(self, statement: duckdb.Statement, given: Mapping[str, Any] | Sequence[Any] | None) -> Any:
        if given is not None and not isinstance(given, Mapping):
            return given
        return statements.bound(statement.named_parameters, {**self._parameters, **(given or {})})

    @property
    def description(self) -> Any:
        """As in the DB-API."""
        with self._lend() as cursor:
            return cursor.description

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""
        with self._lend() as cursor:
            return cursor.rowcount

    def __getattr__(self, name: str) -> Any:
        """The methods that fetch; anything else that DuckDB's cursor has is refused."""
        if name not in _PASSED_ON:
            raise AttributeError(
                f"the cursor of a Python task has no {name!r}: the attempt is one transaction, opened, committed and "
                "closed by landingd"
            )

        def passed_on(*args: Any, **kwargs: Any) -> Any:
            with self._lend() as cursor:
                return getattr(cursor, name)(*args, **kwargs)

        return passed_on


class TaskContext:
    """`ctx` of a Python task."""

    def __init__(self, plan: PythonPlan, cursor: TaskCursor) -> None:
        self.parameters = dict(plan.parameters)
        """The task's parameters; values are strings."""
        self.task_values: Mapping[str, Mapping[str, Any]] = plan.task_values
        """What the tasks before this one have set, by task key."""
        self.values: dict[str, Any] = {}
        """What this task sets for those behind it: JSON, at most 48 KiB in all."""
        self.files = list(plan.files)
        """The run's files, as absolute paths."""
        self._key: AttemptKey = plan.key
        self.job = plan.job
        self.cursor = cursor
        """The cursor of the attempt's transaction. The write lane is taken at its first use, until the task ends."""

    @property
    def run_id(self) -> int:
        """Of the run."""
        return self._key.run_id

    @property
    def task_key(self) -> str:
        """Of the task."""
        return self._key.task_key

    @property
    def attempt(self) -> int:
        """Of the attempt: from 1, numbered on through repairs."""
        return self._key.attempt

    def sql(self, text: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Carry out statements in the attempt's transaction; the rows of the last one, as dicts.

        `$name` is bound from `parameters`, else from the task's parameters. A list binds a whole column:
        `ctx.sql("INSERT INTO gold.t SELECT unnest($ids)", {"ids": [1, 2]})`. Raises duckdb.Error where a statement
        fails; nothing of the attempt can be kept then.
        """
        return self.cursor.select(text, parameters)
