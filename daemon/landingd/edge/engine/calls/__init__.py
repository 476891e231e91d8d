"""Call a function that a user has written, so that the lane waits for what it does there and for nothing else.

The function has a thread of its own. Until it first touches its cursor it runs beside the write lane; from then on the
lane is its own, until it ends: its transaction begins there, and is committed with the attempt's commit row. A thread
cannot be killed. Where an attempt has to end early, what runs in DuckDB is interrupted and the cursor is taken away, so
the lane is free at once; the thread goes on until the function returns, and can change nothing in the warehouse.
"""

import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from landingd.edge.engine import statements
from landingd.edge.engine.calls.context import CallEndedError, TaskContext, TaskCursor
from landingd.edge.engine.calls.source import explained, loaded
from landingd.edge.engine.faults import message
from landingd.edge.engine.remembered import Remembered
from landingd.errors import EngineError
from landingd.model import OUTPUT_BYTES_MAX, Output, PythonCall, PythonPlan, Stats

__all__ = ["Call", "CallEndedError", "TaskContext", "TaskCursor"]


class Call:
    """One call of a function, on a thread of its own."""

    def __init__(self, plan: PythonPlan, on_news: Callable[[], None]) -> None:
        """`on_news` is called from the thread when the function wants the lane, or has ended."""
        self._plan = plan
        self._on_news = on_news
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._in_use = threading.RLock()
        """Held while something runs on the cursor: a function may have threads of its own."""
        self._may_go_on = threading.Event()
        """The lane is lent, or the attempt has ended."""
        self._over = threading.Event()
        """The function has ended, or the attempt has."""
        self._ended = False
        """The attempt: the cursor is not to be touched any more."""
        self._output: Output | None = None
        self._error: EngineError | None = None
        self._failed_statement: duckdb.Error | None = None
        self._changed = False
        """Rows, maybe."""
        self._reshaped = False
        """Tables, maybe."""
        self._books_named = False
        """By a statement that writes."""
        self._began_s, self._took_ms = 0.0, 0.0
        self._thread = threading.Thread(target=self._run, name=f"python-task {plan.key.task_key}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the function has not returned."""
        return self._thread.is_alive()

    def give_up(self) -> None:
        """The attempt has to end: what waits for the call goes on, and the function's next use of `ctx` raises.

        A statement that runs just now is to be interrupted by the caller.
        """
        self._ended = True
        self._may_go_on.set()
        self._over.set()
        self._on_news()

    # -- on the write lane's thread --

    def finish(self, cursor: duckdb.DuckDBPyConnection, remembered: Remembered) -> Stats:
        """Lend the lane's cursor until the function has ended; what it did.

        Raises EngineError where it failed, duckdb.InterruptException where it was given up, duckdb.FatalException
        where DuckDB is broken, whatever the function made of that.
        """
        self._cursor = cursor
        self._may_go_on.set()
        self._over.wait()
        given_up, self._ended = self._ended, True
        with self._in_use:  # a statement of a call that was given up: it is being interrupted
            self._cursor = None
        if isinstance(self._failed_statement, duckdb.FatalException):
            raise self._failed_statement
        if given_up:
            raise duckdb.InterruptException("given up")
        if self._error is not None:
            raise self._error
        if self._failed_statement is not None:
            _require_transaction(cursor, self._failed_statement)
        if self._books_named:
            remembered.renew(cursor)
        elif self._reshaped:
            remembered.renew_columns(cursor)
        return Stats(
            how="python",
            began_s=self._began_s,
            worked_ms=self._took_ms,
            changed=self._changed,
            output=self._output or Output(),
        )

    # -- on the function's thread --

    def _run(self) -> None:
        cursor = TaskCursor(self._lend, self._plan.parameters, on_statements=self._note)
        context = TaskContext(self._plan, cursor)
        self._began_s, start_s = time.time(), time.perf_counter()
        try:
            with loaded(self._plan.call) as function:
                _require_done(self._plan.call, function(context))
            self._output = Output(values=_checked(context.values))
        except CallEndedError:
            self._error = EngineError("the attempt has ended", permanent=False)
        except BaseException as error:  # noqa: BLE001 -- whatever a user's function raises is the attempt's outcome
            self._error = explained(self._plan.call, error)
        self._took_ms = round(1000 * (time.perf_counter() - start_s), 3)
        self._over.set()
        self._on_news()

    def _note(self, found: Sequence[duckdb.Statement]) -> None:
        self._changed = self._changed or any(map(statements.may_write, found))
        self._reshaped = self._reshaped or any(map(statements.may_reshape, found))
        self._books_named = self._books_named or any(map(statements.may_write_books, found))

    @contextmanager
    def _lend(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self._may_go_on.is_set():
            self._on_news()
            self._may_go_on.wait()
        with self._in_use:
            if self._ended or self._cursor is None:
                raise CallEndedError(f"the attempt {self._plan.key.attempt} of {self._plan.key.task_key} has ended")
            try:
                yield self._cursor
            except duckdb.Error as error:
                self._failed_statement = self._failed_statement or error
                raise


def _require_done(call: PythonCall, returned: object) -> None:
    """An async function or a generator returns before a line of it has run; raises EngineError (permanent)."""
    kinds = (
        (inspect.iscoroutine, "an async function", "use asyncio.run(...) inside of a plain one"),
        (inspect.isasyncgen, "an async generator", "use asyncio.run(...) inside of a plain function"),
        (inspect.isgenerator, "a generator", "a task's function has no `yield`"),
    )
    for is_it, kind, hint in kinds:
        if is_it(returned):
            if inspect.iscoroutine(returned):
                returned.close()  # or Python warns that nobody has awaited it
            what = f"{call.shown_file}: {call.function!r} is {kind}: nothing of it was carried out"
            raise EngineError(what, permanent=True, hint=hint)


def _require_transaction(cursor: duckdb.DuckDBPyConnection, cause: duckdb.Error) -> None:
    """Not every error costs the transaction; raises EngineError where the one that the function caught did."""
    try:
        cursor.execute("SELECT 1").fetchall()
    except duckdb.Error as error:
        raise EngineError(
            f"a statement failed, and though its error was caught the transaction is lost: {message(cause)}",
            permanent=False,
            hint="let the error end the function: nothing of the attempt can be kept after it",
        ) from error


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """What `ctx.values` holds, as JSON reads it back; raises EngineError (permanent) where it is none or too much."""
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise EngineError(
                f"ctx.values[{name!r}] is {_shown(value)}, which JSON cannot say: {error}",
                permanent=True,
                hint="set text, numbers, true or false, None, lists and dicts of these",
            ) from error
    text = json.dumps({str(name): value for name, value in values.items()})
    if len(text.encode()) > OUTPUT_BYTES_MAX:
        raise EngineError(
            f"ctx.values is {len(text.encode()):,} bytes as JSON, and {OUTPUT_BYTES_MAX:,} is the most",
            permanent=True,
            hint="task values are for small things; put rows into a table, and set its name or a number of rows",
        )
    return dict(json.loads(text))


def _shown(value: object) -> str:
    return f"a {type(value).__name__}"
