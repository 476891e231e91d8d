"""A warehouse for tests: a real DuckDB file, and plans made from what a test has to say."""
# ruff: noqa: PTH103, PTH120, PTH123 -- the paths under test are bytes, and pathlib takes none

import itertools
import json
import os
import textwrap
from dataclasses import replace

from landingd.core import csvhead
from landingd.edge import landing
from landingd.edge.engine import FileChecks
from landingd.model import (
    AttemptKey,
    Committed,
    Ingest,
    IngestPlan,
    RefreshMode,
    ScriptPlan,
    SourceFile,
    TablePlan,
    shown,
)

CHECKS = FileChecks(
    recount=lambda file: landing.count_records(file.path, file.compression, file.delimiter) - 1,
    changed=lambda file: landing.signature(file.path) != file.signature,
)
EVENTS = b"id,brand\n1,acme\n2,zeta\n"


class Warehouse:
    """The engine, with plans made from what a test has to say."""

    def __init__(self, engine, options):
        self.engine = engine
        self.options = options
        self._attempts = itertools.count(1)
        self.file_ids = itertools.count(1)

    def file(self, file_id, content=EVENTS, name=None, **more):
        """A file on disk, and what the load is told of it."""
        name = name or b"%d.csv" % file_id
        path = os.path.join(os.fsencode(self.options.landing), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        seen = landing.fingerprint(path)
        header = csvhead.read(seen.head)
        assert isinstance(header, csvhead.Header)
        source = SourceFile(
            file_id=file_id,
            path=path,
            name=shown(name),
            content_hash=seen.content_hash,
            columns=header.columns,
            delimiter=header.delimiter,
            compression=seen.compression,
            signature=seen.signature,
            rows_in=None if seen.records is None else seen.records - 1,
        )
        return replace(source, **more)

    def key(self, task_key):
        return AttemptKey(1, task_key, next(self._attempts))

    def other(self, file_id, content, *, records=None, compression="none", is_array=False, **more):
        """A JSON or Parquet file: its columns are the engine's to find."""
        path = os.path.join(os.fsencode(self.options.landing), b"%d.data" % file_id)
        with open(path, "wb") as file:
            file.write(content)
        source = SourceFile(
            file_id=file_id,
            path=path,
            name=shown(b"%d.data" % file_id),
            content_hash=str(file_id),
            columns=(),
            delimiter=",",
            compression=compression,
            signature=landing.signature(path),
            rows_in=records,
            is_array=is_array,
        )
        return replace(source, **more)

    def lines(self, file_id, *records, **more):
        """A file with a JSON object (or whatever a test takes for one) a line."""
        texts = [r if isinstance(r, str) else json.dumps(r) for r in records]
        count = sum(1 for text in texts if text.strip())
        return self.other(file_id, "".join(text + "\n" for text in texts).encode(), records=count, **more)

    def ingest(self, *files, ingest=None, unusable=(), retract=()):
        return IngestPlan(self.key("bronze"), "shop", "bronze.t", ingest or Ingest(), files, unusable, retract)

    async def load(self, *files, checks=CHECKS, **more):
        """What came of each file, by id; the attempt has to commit."""
        outcome = await self.engine.execute(self.ingest(*files, **more), checks=checks)
        assert isinstance(outcome, Committed), outcome
        return {load.file_id: load for load in outcome.stats.files}

    def table(self, select, mode, *, definition="1", table="silver.t", upstream="bronze.t", parameters=None):
        upstream = upstream if mode is RefreshMode.APPEND else None
        return TablePlan(
            self.key("silver"), "shop", table, select, mode, "", upstream, definition, parameters=parameters or {}
        )

    async def refresh(self, *args, **more):
        outcome = await self.engine.execute(self.table(*args, **more))
        assert isinstance(outcome, Committed), outcome
        return outcome.stats

    def script(self, sql, **parameters):
        return ScriptPlan(self.key("script"), "shop", textwrap.dedent(sql), parameters)

    async def rows(self, sql):
        to = self.options.scratch / "answer.json"
        await self.engine.query(sql, "json", to)
        return [tuple(row.values()) for row in json.loads(to.read_text())]
