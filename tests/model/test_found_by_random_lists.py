"""What the random lists have found, each cut down to the order of moments that matters."""

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bookkeeping import Clock, arrival, job, looked_up
from landingd.edge.engine import EngineOptions, open_engine
from landingd.edge.ledger import LedgerThread
from landingd.flow.books import Books
from landingd.flow.filebooks import Batch
from landingd.model import AttemptKey, Committed, FileLoad, OnChange, OnDelete, Stats
from warehouses import Warehouse


class Slow:
    """Books whose attempts take as long as a test says: things happen between `begin` and `commit`.

    The table is a dict that is true to what was begun.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ledger = LedgerThread(path)
        self._books = Books(self._ledger, Clock())
        self._mtimes = itertools.count(100)
        self.table: dict[int, str] = {}
        self._batch = Batch((), ())

    async def land(self, content: str, path: bytes = b"in/a", *, on_change: OnChange = OnChange.REPLACE) -> None:
        one = arrival(path, content, mtime_ns=next(self._mtimes), taken_by=("bronze",), on_change=on_change)
        await self._books.accept([one])

    async def take_away(self, on_delete: OnDelete) -> None:
        await self._books.removed([("shop", b"in/a")], lambda *_: on_delete)

    async def begin(self) -> AttemptKey:
        """Start a run, and its only task: what it loads is chosen now."""
        started = await self._books.next_run(job())
        assert started is not None, "nothing is left to do"
        (key,) = started.begun
        self._batch = await self._books.batch(job(), key)
        return key

    async def commit(self, key: AttemptKey, **of_loaded: str) -> None:
        """End it. `gone` or `quarantined`: that is what became of all that it should have loaded."""
        batch = self._batch
        for one in batch.load if not of_loaded else ():
            for old in one.replaces:
                self.table.pop(old, None)
            self.table[one.file.file_id] = one.file.content_hash
        for old in batch.retract:
            self.table.pop(old, None)
        counts = (1, 1) if not of_loaded else (0, 0)
        files = [FileLoad(one.file.file_id, *counts, **of_loaded) for one in batch.load]
        files += [FileLoad(file_id, retracted=True) for file_id in batch.retract]
        await self._books.conclude(job(), key, Committed(Stats(files=tuple(files))), go_on=True)

    async def run(self) -> None:
        """Everything that is left to do."""
        while (started := await self._books.next_run(job())) is not None:
            (key,) = started.begun
            self._batch = await self._books.batch(job(), key)
            await self.commit(key)

    def loaded(self) -> dict[int, str]:
        """What the ledger says is in the table."""
        return dict(looked_up(self._path, "SELECT file_id, content_hash FROM files WHERE state = 'loaded'"))

    def states(self) -> list[str]:
        return [state for (state,) in looked_up(self._path, "SELECT state FROM files ORDER BY file_id")]

    def close(self) -> None:
        self._ledger.close()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    books = Slow(tmp_path / "ledger.sqlite")
    yield books
    books.close()


async def test_a_file_that_is_touched_while_a_run_has_it_is_not_lost(slow: Slow) -> None:
    """Moved in, then chmod: the run finds another signature and calls it gone, after intake has seen that it is not."""
    await slow.land("x")
    key = await slow.begin()
    await slow.land("x")
    await slow.commit(key, gone="its content changed before it could be loaded")
    await slow.run()
    assert slow.loaded() == slow.table
    assert list(slow.table.values()) == ["x"]


async def test_a_version_whose_run_commits_after_a_newer_one_came_is_loaded_where_versions_stay(slow: Slow) -> None:
    await slow.land("x", on_change=OnChange.APPEND)
    key = await slow.begin()
    await slow.land("y", on_change=OnChange.APPEND)
    await slow.commit(key)
    await slow.run()
    assert sorted(slow.table.values()) == ["x", "y"]
    assert slow.loaded() == slow.table


async def test_a_version_whose_run_commits_after_a_newer_one_came_is_in_the_books_until_that_is_loaded(
    slow: Slow,
) -> None:
    """The newer one is never loaded, so nothing would ever take out the rows of which the books know nothing."""
    await slow.land("x")
    key = await slow.begin()
    await slow.land("y")
    await slow.commit(key)
    key = await slow.begin()
    await slow.commit(key, quarantined="not a text file")
    assert slow.loaded() == slow.table == {1: "x"}


async def test_rows_leave_with_their_file_also_when_a_newer_version_went_away_before_it_was_loaded(slow: Slow) -> None:
    await slow.land("x")
    await slow.run()
    await slow.land("y")
    key = await slow.begin()
    await slow.commit(key, gone="it went away before it could be loaded")
    await slow.take_away(OnDelete.RETRACT)
    await slow.run()
    assert slow.table == {}
    assert slow.loaded() == {}


async def test_a_file_that_is_renamed_while_a_run_has_it_is_loaded_once(slow: Slow) -> None:
    """Its new name is its duplicate, and must not step in for a version that is about to be loaded."""
    await slow.land("x", b"in/a")
    key = await slow.begin()
    await slow.land("x", b"in/b")
    await slow.take_away(OnDelete.KEEP)
    await slow.commit(key)
    await slow.run()
    assert list(slow.table.values()) == ["x"]
    assert slow.loaded() == slow.table


async def test_a_file_that_goes_away_while_it_is_read_is_gone_and_not_to_blame(tmp_path: Path) -> None:
    """Quarantined it would stay so, also when it is moved back: to a rename its bytes are no new delivery."""
    (tmp_path / "landing").mkdir()
    options = EngineOptions(tmp_path / "state/warehouse.duckdb", tmp_path / "scratch", tmp_path / "landing")
    with closing(open_engine(options)) as engine:
        warehouse = Warehouse(engine, options)
        away = warehouse.file(2)
        os.unlink(away.path)  # noqa: PTH108 -- bytes
        loads = await warehouse.load(warehouse.file(1), away)
    assert loads[1].loaded
    assert loads[2].quarantined is None
    assert loads[2].gone
