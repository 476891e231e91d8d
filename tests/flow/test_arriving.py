"""What becomes of versions: duplicates, changes, removals, withdrawals. The table is a dict that does as it is told."""

import itertools
import random

import pytest

from bookkeeping import Clock, arrival, bronze, job, looked_up, table
from landingd.edge.ledger import LedgerThread
from landingd.errors import RefusedError
from landingd.flow import arriving
from landingd.flow.books import Books
from landingd.model import (
    Committed,
    Failed,
    FileArrival,
    FileLoad,
    Interrupted,
    OnChange,
    OnDelete,
    OnDuplicate,
    Stats,
    TimedOut,
)

REASON = "it broke"


class Plant:
    """A ledger, and a table that holds `{file_id: content}`; mtimes never repeat."""

    def __init__(self, path, *, of=None):
        self.path = path
        self.clock = Clock()
        self.ledger = LedgerThread(path)
        self.books = Books(self.ledger, self.clock)
        self.job = of or job()
        self.table = {}
        self.breaks = {}
        """Files that break the attempt that loads them: `{file_id: outcome}`."""
        self._mtimes = itertools.count(100)

    async def land(self, name, content, **more):
        one = arrival(b"in/" + name.encode(), content, mtime_ns=next(self._mtimes), taken_by=("bronze",), **more)
        (what,) = await self.books.accept([one])
        return what.value

    async def take_away(self, name, on_delete=OnDelete.KEEP):
        await self.books.removed([("shop", b"in/" + name.encode())], lambda *_: on_delete)

    async def ask(self, verb, file_id):
        return await self.books.request_run(
            self.job, request_id=f"r{next(self._mtimes)}", parameters={}, file_ids=[file_id], prepare=verb
        )

    async def run(self):
        """Run until nothing is left to do; returns how many attempts of the ingest task that took."""
        attempts = 0
        while (started := await self.books.next_run(self.job)) is not None:
            begun = list(started.begun)
            while begun:
                key = begun.pop(0)
                attempts += 1
                outcome = await self._attempt(key)
                begun += (await self.books.conclude(self.job, key, outcome, go_on=True)).begun
        return attempts

    async def _attempt(self, key):
        if key.task_key != "bronze":
            return Committed(Stats())
        batch = await self.books.batch(self.job, key)
        ids = [one.file.file_id for one in batch.load]
        broken = next((self.breaks[i] for i in ids if i in self.breaks), None)
        if broken is not None:
            return broken
        files = [FileLoad(i, 1, 1) for i in ids] + [FileLoad(i, retracted=True) for i in batch.retract]
        for one in batch.load:
            for old in one.replaces:
                self.table.pop(old, None)
            self.table[one.file.file_id] = one.file.content_hash
        for old in batch.retract:
            self.table.pop(old, None)
        return Committed(Stats(files=tuple(files)))

    def files(self, columns="name, content_hash, state"):
        return looked_up(self.path, f"SELECT {columns} FROM files ORDER BY file_id")

    def contents(self):
        return sorted(self.table.values())

    def close(self):
        self.ledger.close()


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path / "ledger.sqlite")
    yield plant
    plant.close()


# --- duplicates -------------------------------------------------------------------------------------------


async def test_the_same_bytes_under_another_name_are_skipped_and_said_so(plant):
    await plant.land("a", "x")
    await plant.land("b", "x")
    await plant.run()
    assert plant.contents() == ["x"]
    assert plant.files("name, state, reason") == [
        ("in/a", "loaded", ""),
        ("in/b", "duplicate", "the same bytes as file 1, in/a"),
    ]


async def test_duplicates_are_loaded_where_the_trigger_says_so(plant):
    await plant.land("a", "x", on_duplicate=OnDuplicate.LOAD)
    await plant.land("b", "x", on_duplicate=OnDuplicate.LOAD)
    await plant.run()
    assert plant.contents() == ["x", "x"]


async def test_a_duplicate_is_loaded_once_the_version_that_it_repeats_has_left(plant):
    for name in "abc":
        await plant.land(name, "x")
    await plant.run()
    await plant.land("a", "y")
    await plant.run()
    assert plant.contents() == ["x", "y"]
    assert [state for *_, state in plant.files()] == ["replaced", "loaded", "duplicate", "loaded"]
    await plant.take_away("b", OnDelete.RETRACT)
    await plant.run()
    assert plant.contents() == ["x", "y"]


async def test_two_files_that_exchange_their_bytes_are_both_loaded_in_the_end(plant):
    await plant.land("a", "x")
    await plant.land("b", "y")
    await plant.run()
    await plant.land("a", "y")
    await plant.land("b", "x")
    await plant.run()
    assert plant.contents() == ["x", "y"]


async def test_a_renamed_file_is_loaded_under_its_new_name_when_removed_files_are_retracted(plant):
    await plant.land("a", "x")
    await plant.run()
    await plant.land("b", "x")
    await plant.take_away("a", OnDelete.RETRACT)
    await plant.run()
    assert plant.contents() == ["x"]
    assert plant.files() == [("in/a", "x", "retracted"), ("in/b", "x", "loaded")]


async def test_the_same_bytes_for_another_task_are_no_duplicate(plant):
    await plant.land("a", "x")
    other = arrival(b"in/b", "x", taken_by=("other",))
    await plant.books.accept([other])
    assert [state for *_, state in plant.files()] == ["waiting", "waiting"]


# --- changes ----------------------------------------------------------------------------------------------


async def test_a_changed_file_joins_the_older_version_where_the_trigger_appends(plant):
    for content in "xyx":
        await plant.land("a", content, on_change=OnChange.APPEND)
        await plant.run()
    assert plant.contents() == ["x", "y"]
    assert plant.files("content_hash, state, presence") == [
        ("x", "loaded", "present"),
        ("y", "loaded", "overwritten"),
    ]


async def test_a_changed_file_is_quarantined_where_the_trigger_rejects_and_its_old_rows_stay(plant):
    for content in "xyz":
        await plant.land("a", content, on_change=OnChange.REJECT)
        await plant.run()
    assert plant.contents() == ["x"]
    assert [state for *_, state in plant.files()] == ["loaded", "replaced", "quarantined"]
    await plant.land("a", "x", on_change=OnChange.REJECT)
    assert plant.files("content_hash, state, presence")[0] == ("x", "loaded", "present")
    assert [state for *_, state in plant.files()] == ["loaded", "replaced", "replaced"]


# --- removals ---------------------------------------------------------------------------------------------


async def test_the_rows_of_a_removed_file_stay_or_leave_as_the_trigger_says(plant):
    await plant.land("a", "x")
    await plant.land("b", "y")
    await plant.run()
    await plant.take_away("a", OnDelete.KEEP)
    await plant.take_away("b", OnDelete.RETRACT)
    await plant.run()
    assert plant.contents() == ["x"]
    assert plant.files("state, presence") == [("loaded", "removed"), ("retracted", "removed")]


async def test_a_removed_file_that_comes_back_is_a_duplicate_of_itself_or_loaded_anew(plant):
    for name, on_delete in (("a", OnDelete.KEEP), ("b", OnDelete.RETRACT)):
        await plant.land(name, name)
        await plant.run()
        await plant.take_away(name, on_delete)
        await plant.run()
    assert await plant.land("a", "a") == "duplicate"
    assert await plant.land("b", "b") == "changed"
    await plant.run()
    assert plant.contents() == ["a", "b"]


async def test_a_file_that_is_back_before_its_rows_left_keeps_them(plant):
    await plant.land("a", "x")
    await plant.run()
    await plant.take_away("a", OnDelete.RETRACT)
    await plant.land("a", "x")
    assert await plant.run() == 0
    assert plant.contents() == ["x"]


async def test_a_file_that_is_removed_while_its_run_loads_it_is_retracted_afterwards(plant):
    await plant.land("a", "x")
    started = await plant.books.next_run(plant.job)
    await plant.take_away("a", OnDelete.RETRACT)
    outcome = await plant._attempt(started.begun[0])
    await plant.books.conclude(plant.job, started.begun[0], outcome, go_on=True)
    await plant.run()
    assert plant.contents() == []
    assert plant.files("state, presence") == [("retracted", "removed")]


# --- on request -------------------------------------------------------------------------------------------


async def test_an_unloaded_file_can_be_replayed(plant):
    await plant.land("a", "x")
    await plant.run()
    await plant.ask(arriving.want_out, 1)
    await plant.run()
    assert (plant.contents(), plant.files("state")) == ([], [("retracted",)])
    await plant.ask(arriving.want_again, 1)
    await plant.run()
    assert (plant.contents(), plant.files("state")) == (["x"], [("loaded",)])
    await plant.ask(arriving.want_out, 1)
    await plant.run()
    assert plant.contents() == []


async def test_an_unloaded_file_that_nobody_touches_stays_unloaded(plant):
    await plant.land("a", "x")
    await plant.run()
    await plant.ask(arriving.want_out, 1)
    await plant.run()
    await plant.books.accept([arrival(b"in/a", "x", mtime_ns=100, taken_by=("bronze",))])
    await plant.run()
    assert plant.contents() == []


async def test_a_replay_of_a_loaded_file_reads_it_again(plant):
    await plant.land("a", "x")
    await plant.run()
    plant.table[1] = "misread"
    await plant.ask(arriving.want_again, 1)
    await plant.run()
    assert plant.contents() == ["x"]


async def test_what_cannot_be_replayed_or_unloaded_is_refused_with_the_reason(plant):
    await plant.land("a", "x")
    await plant.land("b", "x")
    with pytest.raises(RefusedError, match="not loaded: it is waiting"):
        await plant.ask(arriving.want_out, 1)
    await plant.run()
    with pytest.raises(RefusedError, match="duplicate of file 1"):
        await plant.ask(arriving.want_again, 2)
    await plant.take_away("a")
    with pytest.raises(RefusedError, match="its bytes are not kept, the file was removed"):
        await plant.ask(arriving.want_again, 1)


# --- poison -----------------------------------------------------------------------------------------------

DIED = Interrupted(crashed=True)


@pytest.mark.parametrize("outcome", [DIED, TimedOut(5.0), Failed("out of memory", isolate=True)])
@pytest.mark.parametrize("culprit", [1, 6, 11])
async def test_a_file_that_breaks_its_attempt_is_isolated_and_the_rest_goes_on(tmp_path, outcome, culprit):
    plant = Plant(tmp_path / "ledger.sqlite", of=job(bronze(), table("gold", "bronze", timeout_s=1.0)))
    plant.breaks = {culprit: outcome}
    for n in range(1, 12):
        await plant.land(f"{n:02}", f"content {n}")
    assert await plant.run() <= 14
    assert plant.contents() == sorted(f"content {n}" for n in range(1, 12) if n != culprit)
    states = dict(plant.files("file_id, state"))
    assert {i for i, state in states.items() if state == "quarantined"} == {culprit}
    assert looked_up(plant.path, "SELECT result FROM runs") == [("SUCCESS",)]
    plant.close()


async def test_a_quarantined_culprit_can_be_requeued(plant):
    plant.breaks = {1: TimedOut(5.0)}
    await plant.land("a", "x")
    await plant.run()
    assert plant.files("state") == [("quarantined",)]
    plant.breaks = {}
    await plant.ask(arriving.want_again, 1)
    await plant.run()
    assert plant.contents() == ["x"]


# --- all of it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_happens_in_whichever_order_the_table_is_what_stands_on_disk(tmp_path, seed):
    """Names come, change, go and come back; some runs happen in between. With `retract`, the table holds exactly the
    distinct contents on disk, each once."""
    dice = random.Random(seed)  # noqa: S311 -- a list of actions
    plant = Plant(tmp_path / "ledger.sqlite", of=job(arrival=FileArrival("in", on_delete=OnDelete.RETRACT)))
    disk = {}
    for _ in range(40):
        name = dice.choice("abcd")
        match dice.choice(["land", "land", "take", "run"]):
            case "land":
                disk[name] = dice.choice("wxyz")
                await plant.land(name, disk[name])
            case "take" if name in disk:
                del disk[name]
                await plant.take_away(name, OnDelete.RETRACT)
            case "run":
                await plant.run()
    await plant.run()
    assert plant.contents() == sorted(set(disk.values()))
    present = dict(looked_up(plant.path, "SELECT name, count(*) FROM files WHERE presence = 'present' GROUP BY 1"))
    assert present == dict.fromkeys((f"in/{name}" for name in disk), 1)
    states = looked_up(plant.path, "SELECT DISTINCT state FROM files WHERE presence = 'present'")
    assert {state for (state,) in states} <= {"loaded", "duplicate"}
    plant.close()
