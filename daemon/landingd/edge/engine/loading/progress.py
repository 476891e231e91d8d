"""One ingest in progress: what it was asked, what stands, and when to begin anew."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from landingd.edge.engine.remembered import Remembered
from landingd.edge.engine.sqltext import table_ident
from landingd.model import ExpectationCount, FileLoad, IngestPlan, SourceFile

SMALL_BYTES = 1 << 20
"""Files below this are read together in one statement, larger ones one by one."""
FILE_FAULTS = (
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.IOException,
    duckdb.OutOfRangeException,
    duckdb.DataError,
)
"""What the readers raise for what stands in a file; anything else is not the file's fault."""
LINEAGE = {"_file_id": "BIGINT", "_row": "BIGINT"}
RESCUED = "_rescued_data"


@dataclass(frozen=True, slots=True)
class FileChecks:
    """What the load asks about a file; answered by whoever knows the file system, on the write lane's thread."""

    recount: Callable[[SourceFile], int]
    """Count the records after the header again, slowly and exactly."""
    changed: Callable[[SourceFile], bool]
    """Whether the file is not the one that was hashed any more."""
    lines: Callable[[SourceFile, Collection[int], Collection[int]], Mapping[int, int]] = lambda *_: {}
    """On which lines these rows stand (numbered among the loaded ones), given the lines of the rejected ones."""


class TryAgainError(Exception):
    """The transaction has to be begun anew, knowing more: it got too far to be mended from within."""

    def __init__(
        self, *, settled: Mapping[int, FileLoad] | None = None, widened: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("the load begins anew")
        self.settled = settled or {}
        """Files that cannot be loaded and are left out."""
        self.widened = widened or {}
        """Columns that need a wider type, and which."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of one file."""

    sources: Mapping[str, tuple[str, ...]]
    """A column's name in the table to its names in the file: JSON has several where they differ in case."""
    types: Mapping[str, str] = field(default_factory=dict[str, str])
    """Types as far as the file tells them by itself; a CSV file does not."""


@dataclass(slots=True)
class Loading:
    """One ingest in progress: what it was asked, and what came of each file so far."""

    cursor: duckdb.DuckDBPyConnection
    plan: IngestPlan
    reading: Path
    checks: FileChecks
    remembered: Remembered
    keep_rejects: bool = True
    """False: the first cell that does not fit raises one of FILE_FAULTS. Clean CSV files load faster so."""
    widened: Mapping[str, str] = field(default_factory=dict[str, str])
    """Columns whose type an earlier try found too narrow."""
    loads: dict[int, FileLoad] = field(default_factory=dict[int, FileLoad])
    already: set[int] = field(default_factory=set[int])
    """Versions that the table held before: an attempt whose commit was lost sight of."""
    left: set[int] = field(default_factory=set[int])
    """Versions whose rows were taken out to be loaded anew."""
    shapes: dict[int, Shape] = field(default_factory=dict[int, Shape])
    made_table: bool = False
    """There was no table before."""
    added: dict[str, str] = field(default_factory=dict[str, str])
    """Columns that the table has gained from this plan's files."""
    expectations: tuple[ExpectationCount, ...] = ()
    """How the rows that entered did by each expectation."""

    @property
    def table(self) -> str:
        """The table's name, quoted."""
        return table_ident(self.plan.table)

    @property
    def columns(self) -> dict[str, str]:
        """The table's columns and types; empty while there is no table."""
        return self.remembered.columns.get(self.plan.table.casefold(), {})

    @columns.setter
    def columns(self, columns: dict[str, str]) -> None:
        self.remembered.columns[self.plan.table.casefold()] = columns

    @property
    def to_load(self) -> list[SourceFile]:
        """Files of which nothing is decided yet."""
        return [f for f in self.plan.files if f.file_id not in self.loads]

    @property
    def fresh(self) -> list[SourceFile]:
        """Files whose rows entered the table in this attempt."""
        return [f for f in self.plan.files if f.file_id not in self.already and self.loads[f.file_id].loaded]


def folded(names: Mapping[str, object]) -> dict[str, str]:
    """Names as SQL compares them, to names as they are written."""
    return {name.casefold(): name for name in names}
