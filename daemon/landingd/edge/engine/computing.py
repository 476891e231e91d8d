"""A job's own threads and memory, for as long as one of its attempts has the write lane.

DuckDB's settings hold for the whole instance, so readers feel them meanwhile. They are locked against SQL, but for the
few named here, and SQL that people write cannot SET at all: the statements of a script are of listed kinds, a query is
one SELECT, and no function of a SELECT sets anything that is not locked (tests try each of them).

Where spilled data goes cannot be changed once SQL is kept from the file system: DuckDB refuses it (2.0.0).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import duckdb

from landingd.edge.engine.sqltext import literal
from landingd.errors import EngineError
from landingd.model import Compute

SETTABLE = ("threads", "memory_limit")
"""What stays settable when the configuration is locked."""


@dataclass(frozen=True, slots=True)
class Usual:
    """How the warehouse was opened; 0 and "" mean DuckDB's own choice."""

    threads: int
    memory_limit: str


class Computing:
    """Sets a job's compute on the lane's connection, and the usual one afterwards."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, usual: Usual) -> None:
        self._cursor = cursor
        self._usual = {
            "threads": f"SET threads = {usual.threads}" if usual.threads else "RESET threads",
            "memory_limit": f"SET memory_limit = {literal(usual.memory_limit)}"
            if usual.memory_limit
            else "RESET memory_limit",
        }
        self._unusual: set[str] = set()
        """Settings that do not have their usual value."""

    @contextmanager
    def of(self, compute: Compute | None) -> Iterator[None]:
        """The settings while the block runs; raises EngineError where DuckDB refuses one."""
        self._restore()
        wanted = _wanted(compute)
        try:
            for setting, value in wanted.items():
                self._unusual.add(setting)
                self._set(setting, value)
            yield
        finally:
            self._restore()

    def _set(self, setting: str, value: str) -> None:
        try:
            self._cursor.execute(f"SET {setting} = {value}").fetchall()
        except duckdb.OutOfMemoryException as error:
            raise EngineError(
                f"compute.{setting}: more than {value} is in use just now",
                permanent=False,
                hint="other queries run beside the job; a retry comes when they have ended",
            ) from error
        except duckdb.Error as error:
            first = str(error).strip().splitlines()[0]
            raise EngineError(f"compute.{setting}: {first}", permanent=True) from error

    def _restore(self) -> None:
        """Set the usual values; what cannot be set now (too much memory in use) is set before the next attempt."""
        for setting in tuple(self._unusual):
            with suppress(duckdb.Error):
                self._cursor.execute(self._usual[setting]).fetchall()
                self._unusual.discard(setting)


def _wanted(compute: Compute | None) -> dict[str, str]:
    if compute is None:
        return {}
    wanted = {"threads": str(compute.threads) if compute.threads else "", "memory_limit": ""}
    wanted["memory_limit"] = literal(compute.memory_limit) if compute.memory_limit else ""
    return {setting: value for setting, value in wanted.items() if value}
