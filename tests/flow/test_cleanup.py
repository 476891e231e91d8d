"""After loading: a real ledger, real directories, a clock that is turned by hand. The table says yes to every file."""

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import replace

import pytest

from bookkeeping import Clock, bronze, job, looked_up
from landingd.edge import landing
from landingd.edge.archive import CleanupError
from landingd.edge.ledger import LedgerThread
from landingd.errors import RefusedError
from landingd.flow import arriving
from landingd.flow.books import Books
from landingd.flow.cleanup import Cleaner, CleanupOptions
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.model import (
    Cleanup,
    Committed,
    Failed,
    FileArrival,
    FileLoad,
    Ingest,
    OnDelete,
    Stats,
    Task,
    Trigger,
)

ARCHIVE = FileArrival("in", cleanup=Cleanup.ARCHIVE)
DELETE = FileArrival("in", cleanup=Cleanup.DELETE)
KEEP = FileArrival("in")
DAY_S = 86400.0


@pytest.fixture(autouse=True)
def _lease_signal_ignored():
    before = signal.getsignal(signal.SIGIO)
    landing.ignore_lease_signal()
    yield
    signal.signal(signal.SIGIO, before)


class Yard:
    """A landing root, what takes files in, what cleans up after them, and a table that only counts."""

    def __init__(self, folder):
        self.folder = folder
        self.root, self.archive = folder / "landing", folder / "archive"
        (self.root / "in").mkdir(parents=True)
        self.clock = Clock()
        self.ledger_file = folder / "ledger.sqlite"
        self.ledger = LedgerThread(self.ledger_file)
        self.books = Books(self.ledger, self.clock)
        self.jobs, self.intake, self.cleaner = (), None, None
        self.woken, self.lost = [], 0
        self.fails = set()
        """Tasks whose attempts fail."""
        self.loads = 0

    async def start(self, *jobs):
        """Like a new process."""
        await self.stop()
        self.jobs = jobs
        self.intake = Intake(
            self.books,
            jobs,
            IntakeOptions(self.root, 3600.0, quiet_floor_s=0.0),
            on_arrived=lambda _: None,
            clock=self.clock,
        )
        await self.intake._remember()
        self.cleaner = Cleaner(
            self.ledger,
            CleanupOptions(self.root, self.archive, 5.0),
            lambda: self.jobs,
            on_done=self.woken.append,
            on_lost=self._lose,
            clock=self.clock,
        )
        return self

    async def _lose(self):
        self.lost += 1
        await self.intake.set_jobs(self.jobs)

    def write(self, path, content="id\n1\n"):
        file = self.root / os.fsdecode(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode())
        return file

    async def scan(self):
        self.intake.ask_scan()
        async with asyncio.TaskGroup() as hashing:
            await self.intake.look(hashing, patience_s=None)

    async def load(self):
        """Take in what is there and run every job until nothing is left to do."""
        await self.scan()
        for one in self.jobs:
            while (started := await self.books.next_run(one)) is not None:
                begun = list(started.begun)
                while begun:
                    key = begun.pop(0)
                    begun += (await self.books.conclude(one, key, await self._attempt(one, key), go_on=True)).begun

    async def _attempt(self, of, key):
        if key.task_key in self.fails:
            return Failed("no", permanent=True)
        batch = await self.books.batch(of, key)
        self.loads += len(batch.load)
        loads = [FileLoad(one.file.file_id, 1, 1) for one in batch.load]
        return Committed(Stats(files=(*loads, *(FileLoad(i, retracted=True) for i in batch.retract))))

    async def clean(self):
        while await self.cleaner.round():
            pass

    def rows(self, columns="name, state, presence"):
        return looked_up(self.ledger_file, f"SELECT {columns} FROM files ORDER BY file_id")

    def presences(self):
        return [presence for (presence,) in self.rows("presence")]

    def events(self, prefix="file_"):
        told = [json.loads(payload) for (payload,) in looked_up(self.ledger_file, "SELECT payload FROM outbox")]
        return [
            one for one in told if one["event"] in {f"{prefix}{e}" for e in ("archived", "deleted", "cleanup_failed")}
        ]

    def landed(self):
        return sorted(os.fsencode(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())

    def archived(self):
        """`{name in the archive: content}`."""
        return {os.fsencode(p.relative_to(self.archive)): p.read_text() for p in self.archive.rglob("*") if p.is_file()}

    def copies(self):
        return sorted(self.archived().values())

    async def stop(self):
        if self.intake is not None:
            self.intake._threads.shutdown()
            self.intake._roots.close()
            self.cleaner._thread.shutdown()


@pytest.fixture
async def yard(tmp_path):
    yard = Yard(tmp_path)
    yield yard
    await yard.stop()
    yard.ledger.close()


@pytest.fixture
def mounted(tmp_path):
    """A small file system of its own as the archive; called with options it is mounted anew with these."""
    point = tmp_path / "archive"
    point.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "landingd-test", point], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"not permitted here: mount: {made.stderr.strip()}")
    yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", point], check=True)
    subprocess.run(["umount", "-l", point], check=False, capture_output=True)


# --- the usual way ------------------------------------------------------------------------------------------


async def test_a_loaded_file_is_archived_and_the_ledger_says_where(yard):
    await yard.start(job(arrival=ARCHIVE))
    yard.write("in/sub/a.csv")
    await yard.load()
    await yard.clean()
    [(name, content)] = yard.archived().items()
    assert name.startswith(b"shop/in/sub/a.19700101T001640Z.v1-")
    assert name.endswith(b".csv")
    assert content == "id\n1\n"
    assert yard.landed() == []
    assert yard.rows("state, presence, archive_path, cleaned_at_s, cleaning") == [
        ("loaded", "archived", name, 1000.0, None)
    ]
    [event] = yard.events()
    assert (event["event"], event["archive"]) == ("file_archived", name.decode())
    assert yard.woken == ["shop"]


async def test_a_loaded_file_is_deleted(yard):
    await yard.start(job(arrival=DELETE))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    assert (yard.landed(), yard.archive.exists(), yard.presences()) == ([], False, ["deleted"])
    assert [(e["event"], e["from"]) for e in yard.events()] == [("file_deleted", "landing")]


async def test_nothing_is_moved_that_is_to_be_kept_or_not_loaded(yard):
    await yard.start(job(arrival=KEEP), job(name="other", arrival=FileArrival("other", cleanup=Cleanup.ARCHIVE)))
    yard.write("in/a.csv")
    yard.write("other/b.csv")
    await yard.scan()
    await yard.clean()
    assert (yard.landed(), yard.presences()) == ([b"in/a.csv", b"other/b.csv"], ["present"] * 2)
    await yard.load()
    await yard.clean()
    assert (yard.landed(), yard.copies()) == ([b"in/a.csv"], ["id\n1\n"])


async def test_a_file_stays_for_as_long_as_it_is_to(yard):
    await yard.start(job(arrival=FileArrival("in", cleanup=Cleanup.DELETE, cleanup_after_s=60.0)))
    yard.write("in/a.csv")
    await yard.load()
    yard.clock.pass_s(59.9)
    await yard.clean()
    assert yard.landed() == [b"in/a.csv"]
    yard.clock.pass_s(0.1)
    await yard.clean()
    assert yard.landed() == []


async def test_a_duplicate_leaves_too_but_not_before_the_other_one_is_loaded(yard):
    await yard.start(job(arrival=DELETE))
    yard.write("in/a.csv")
    yard.write("in/b.csv")
    await yard.scan()
    await yard.clean()
    assert yard.landed() == [b"in/a.csv", b"in/b.csv"]
    await yard.load()
    await yard.clean()
    assert yard.landed() == []
    assert sorted(yard.rows("state, presence")) == [("duplicate", "deleted"), ("loaded", "deleted")]


async def test_a_file_that_one_of_two_tasks_failed_to_take_stays_for_the_repair(yard):
    second = Task("second", bronze().place, ingest=Ingest(), table="bronze.second")
    yard.fails = {"second"}
    await yard.start(job(bronze(), second, arrival=DELETE))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    assert yard.rows("state, presence") == [("loaded", "present")]
    yard.fails = set()
    await yard.books.repair(1, lambda _: yard.jobs[0])
    await yard.clean()
    assert yard.landed() == [b"in/a.csv"], "the run is open again"
    await yard.load()
    await yard.clean()
    assert yard.landed() == []


async def test_more_files_than_one_batch_and_more_kept_ones_than_one_look(yard):
    two = replace(job(), triggers=(Trigger(KEEP), Trigger(FileArrival("out", cleanup=Cleanup.ARCHIVE))))
    await yard.start(two)
    for i in range(230):
        yard.write(f"in/{i}", f"kept {i}")
    await yard.load()
    for i in range(230):
        yard.write(f"out/{i}", f"moved {i}")
    await yard.load()
    await yard.clean()
    assert len(yard.landed()) == 230
    assert yard.copies() == sorted(f"moved {i}" for i in range(230))


async def test_names_that_are_no_text_and_names_that_are_long(yard):
    names = [b"in/gr\xfc\xdfe.csv", b"in/" + b"x" * 251 + b".csv", "in/ä%.csv".encode()]
    await yard.start(job(arrival=ARCHIVE))
    for i, name in enumerate(names):
        yard.write(name, str(i))
    await yard.load()
    await yard.clean()
    assert (yard.landed(), yard.copies()) == ([], ["0", "1", "2"])
    assert {bytes(path) for (path,) in yard.rows("archive_path")} == set(yard.archived())


# --- several jobs -------------------------------------------------------------------------------------------


async def test_a_file_of_several_jobs_leaves_once_when_all_are_done_with_it(yard):
    slow = FileArrival("in", cleanup=Cleanup.DELETE, cleanup_after_s=60.0)
    await yard.start(job(name="a", arrival=ARCHIVE), job(name="b", arrival=slow))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    assert yard.landed() == [b"in/a.csv"]
    yard.clock.pass_s(60)
    await yard.clean()
    [name] = yard.archived()
    assert name.startswith(b"a/in/")
    assert yard.rows("job, presence, archive_path") == [("a", "archived", name), ("b", "archived", name)]
    assert sorted(e["job"] for e in yard.events()) == ["a", "b"]
    assert sorted(yard.woken) == ["a", "b"]


async def test_a_job_that_keeps_keeps_it_for_all(yard):
    await yard.start(job(name="a", arrival=DELETE), job(name="b", arrival=KEEP))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    assert (yard.landed(), yard.presences()) == ([b"in/a.csv"], ["present", "present"])


# --- what comes afterwards ----------------------------------------------------------------------------------


async def test_a_scan_does_not_take_an_archived_file_for_one_that_was_removed(yard):
    await yard.start(job(arrival=FileArrival("in", cleanup=Cleanup.ARCHIVE, on_delete=OnDelete.RETRACT)))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    await yard.load()
    await yard.start(*yard.jobs)
    await yard.load()
    assert yard.rows("state, presence, wanted") == [("loaded", "archived", None)]


async def test_a_scan_in_the_middle_of_it_does_not_either(yard):
    """And a replay that is asked for in the middle is told to come back."""
    await yard.start(job(arrival=FileArrival("in", cleanup=Cleanup.ARCHIVE, on_delete=OnDelete.RETRACT)))
    yard.write("in/a.csv")
    await yard.load()
    drop, cleaner = yard.cleaner._drop, yard.cleaner
    in_the_middle, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(moved):
        loop.call_soon_threadsafe(in_the_middle.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return drop(moved)

    cleaner._drop = wait
    cleaning = asyncio.create_task(cleaner.round())
    await in_the_middle.wait()
    await yard.scan()
    with pytest.raises(RefusedError, match="moved just now"):
        await yard.ledger.transact(lambda ledger: arriving.want_again(ledger, 1))
    go_on.set()
    await cleaning
    assert yard.rows("state, presence, wanted") == [("loaded", "archived", None)]


async def test_a_replay_of_an_archived_file_is_told_where_it_lies(yard):
    await yard.start(job(arrival=ARCHIVE))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    await yard.ledger.transact(lambda ledger: arriving.want_again(ledger, 1))
    started = await yard.books.next_run(yard.jobs[0])
    [one] = (await yard.books.batch(yard.jobs[0], started.begun[0])).load
    assert {one.file.archive_path} == set(yard.archived())


async def test_the_same_bytes_again_leave_again_and_are_not_stored_twice(yard):
    await yard.start(job(arrival=ARCHIVE))
    for _ in range(2):
        yard.write("in/a.csv")
        await yard.load()
        await yard.clean()
        assert yard.landed() == []
        yard.clock.pass_s(10)
    assert yard.copies() == ["id\n1\n"]
    assert yard.rows("presence, duplicates, cleaned_at_s") == [("archived", 1, 1010.0)]
    assert len({e["event_id"] for e in yard.events()}) == len(yard.events()) == 2
    assert yard.loads == 1


async def test_versions_of_one_path_lie_side_by_side_in_the_archive(yard):
    await yard.start(job(arrival=ARCHIVE))
    for content in ("old", "new"):
        yard.write("in/a.csv", content)
        await yard.load()
        await yard.clean()
    assert yard.copies() == ["new", "old"]
    assert yard.rows("state, presence") == [("replaced", "archived"), ("loaded", "archived")]


async def test_an_archived_copy_counts_when_the_file_that_came_again_is_removed_by_hand(yard):
    await yard.start(job(arrival=ARCHIVE))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    yard.write("in/a.csv").touch()
    await yard.load()
    assert yard.presences() == ["present"]
    (yard.root / "in/a.csv").unlink()
    await yard.load()
    assert yard.presences() == ["archived"]


async def test_a_file_that_changed_since_it_was_loaded_stays_and_is_loaded_first(yard):
    await yard.start(job(arrival=ARCHIVE))
    yard.write("in/a.csv", "old")
    await yard.load()
    yard.write("in/a.csv", "new")
    await yard.clean()
    assert (yard.landed(), yard.archive.exists()) == ([b"in/a.csv"], False)
    await yard.load()
    await yard.clean()
    assert (yard.landed(), yard.copies()) == ([], ["new"])
    assert yard.rows("state, presence") == [("replaced", "overwritten"), ("loaded", "archived")]


async def test_a_file_that_somebody_writes_to_is_left_alone(yard):
    await yard.start(job(arrival=ARCHIVE))
    file = yard.write("in/a.csv")
    await yard.load()
    with file.open("ab"):
        await yard.clean()
        assert (yard.landed(), yard.rows("cleanup_failures")) == ([b"in/a.csv"], [(0,)])
    await yard.clean()
    assert yard.landed() == []


# --- retention ----------------------------------------------------------------------------------------------


def kept(days):
    return FileArrival("in", cleanup=Cleanup.ARCHIVE, archive_retention_s=days * DAY_S)


async def test_an_archived_file_is_deleted_when_its_time_is_over(yard):
    await yard.start(job(arrival=kept(1)))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    yard.clock.pass_s(DAY_S - 1)
    await yard.clean()
    assert yard.copies() == ["id\n1\n"]
    yard.clock.pass_s(1)
    await yard.clean()
    assert yard.rows("state, presence, archive_path, cleaning") == [("loaded", "deleted", None, None)]
    assert list(yard.archive.iterdir()) == []
    assert [(e["event"], e.get("from")) for e in yard.events()] == [
        ("file_archived", None),
        ("file_deleted", "archive"),
    ]


async def test_a_copy_of_several_jobs_is_kept_for_the_longest_time_and_for_ever_is_the_longest(yard):
    await yard.start(job(name="a", arrival=kept(1)), job(name="b", arrival=kept(2)), job(name="c", arrival=kept(0)))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    yard.clock.pass_s(9 * DAY_S)
    await yard.clean()
    assert len(yard.copies()) == 1
    yard.jobs = tuple(job(name=name, arrival=kept(10)) for name in "abc")
    await yard.clean()
    assert len(yard.copies()) == 1
    yard.clock.pass_s(DAY_S)
    await yard.clean()
    assert (yard.copies(), yard.presences()) == ([], ["deleted"] * 3)


async def test_a_copy_that_a_replay_is_going_to_read_is_kept(yard):
    await yard.start(job(arrival=kept(1)))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    yard.clock.pass_s(2 * DAY_S)
    await yard.ledger.transact(lambda ledger: arriving.want_again(ledger, 1))
    await yard.clean()
    assert len(yard.copies()) == 1
    started = await yard.books.next_run(yard.jobs[0])
    await yard.clean()
    assert len(yard.copies()) == 1, "a run is about to read it"
    await yard.books.conclude(yard.jobs[0], started.begun[0], Committed(Stats(files=(FileLoad(1, 1, 1),))), go_on=True)
    await yard.clean()
    assert yard.copies() == []


async def test_a_deletion_that_was_cut_off_is_brought_to_its_end(yard):
    await yard.start(job(arrival=kept(1)))
    yard.write("in/a.csv")
    await yard.load()
    await yard.clean()
    yard.clock.pass_s(DAY_S)
    die_in(yard, "_drop")
    with pytest.raises(DiedError):
        await yard.cleaner.round()
    await yard.start(*yard.jobs)
    await yard.clean()
    assert (yard.copies(), yard.presences()) == ([], ["deleted"])


# --- failures -----------------------------------------------------------------------------------------------


async def test_a_failure_is_told_once_tried_again_later_and_repeats_no_load(yard, mounted):
    content = "x" * 200_000
    await yard.start(job(arrival=ARCHIVE))
    yard.write("in/a.csv", content)
    await yard.load()
    for attempt in range(1, 5):
        await yard.clean()
        [(failures, error, retry_at_s)] = yard.rows("cleanup_failures, cleanup_error, cleanup_retry_at_s")
        assert (failures, retry_at_s) == (attempt, yard.clock.now_s + 2 ** (attempt - 1))
        assert "No space left" in error
        assert "free some space" in error
        await yard.clean()
        assert yard.rows("cleanup_failures") == [(attempt,)], "not before its time"
        yard.clock.pass_s(2 ** (attempt - 1))
        await yard.load()
    assert [e["event"] for e in yard.events()] == ["file_cleanup_failed"]
    assert yard.rows() == [("in/a.csv", "loaded", "present")]
    assert yard.loads == 1
    assert looked_up(yard.ledger_file, "SELECT count(*) FROM runs") == [(1,)]
    mounted("ro")
    await yard.clean()
    assert [e["event"] for e in yard.events()] == ["file_cleanup_failed"] * 2, "another error is news"
    yard.clock.pass_s(600)
    mounted("rw,size=1m")
    await yard.clean()
    assert yard.copies() == [content]
    assert yard.rows("presence, cleanup_failures, cleanup_error, cleanup_retry_at_s") == [("archived", 0, None, None)]


async def test_a_copy_whose_original_cannot_be_taken_away_is_not_made_twice(yard, mounted):
    await yard.start(job(arrival=ARCHIVE))
    yard.write("in/a.csv")
    await yard.load()
    hide = yard.cleaner._archive._hide

    def refuse(_):
        raise CleanupError("not permitted")

    yard.cleaner._archive._hide = refuse
    await yard.clean()
    [(presence, path)] = yard.rows("presence, archive_path")
    assert (presence, yard.landed(), set(yard.archived())) == ("present", [b"in/a.csv"], {path})
    yard.cleaner._archive._hide = hide
    yard.clock.pass_s(1)
    await yard.clean()
    assert (yard.landed(), set(yard.archived()), yard.presences()) == ([], {path}, ["archived"])


# --- dying in between ---------------------------------------------------------------------------------------


class DiedError(Exception):
    """Stands for a kill: what was done stays done, what was not is not."""


def die_in(yard, step, *, after=False):
    def die(*arguments):
        if after:
            getattr(Cleaner, step)(yard.cleaner, *arguments)
        raise DiedError

    setattr(yard.cleaner, step, die)


@pytest.fixture(params=["one file system", "two file systems"])
def anywhere(request, yard):
    if request.param == "two file systems":
        request.getfixturevalue("mounted")
    return yard


@pytest.mark.parametrize("how", ["archive", "delete"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["_bring", "_drop", "_move", "_synced"])
async def test_what_was_begun_is_brought_to_its_end_after_a_restart(anywhere, step, after, how):
    yard = anywhere
    trigger = FileArrival("in", cleanup=Cleanup(how), on_delete=OnDelete.RETRACT)
    await yard.start(job(name="a", arrival=trigger), job(name="b", arrival=trigger))
    yard.write("in/a.csv")
    await yard.load()
    die_in(yard, step, after=after)
    with pytest.raises(DiedError):
        await yard.cleaner.round()
    assert {cleaning for (cleaning,) in yard.rows("cleaning")} == {how}
    await yard.start(*yard.jobs)
    await yard.load()
    assert {state for (state,) in yard.rows("state")} == {"loaded"}, "a scan took it for removed"
    await yard.clean()
    await yard.load()
    presence = "archived" if how == "archive" else "deleted"
    assert yard.rows("state, presence, cleaning") == [("loaded", presence, None)] * 2
    assert yard.landed() == []
    assert yard.copies() == (["id\n1\n"] if how == "archive" else [])
    assert yard.loads == 2


async def test_a_new_version_that_came_while_we_were_down_stays_and_the_old_one_is_archived(yard):
    await yard.start(job(arrival=ARCHIVE))
    yard.write("in/a.csv", "old")
    await yard.load()
    cleaner = yard.cleaner
    cleaner._archive._brought = lambda *_: (_ for _ in ()).throw(DiedError)
    with pytest.raises(DiedError):
        await cleaner.round()
    assert yard.landed() == [b"in/.landingd-cleaning-1"]
    yard.write("in/a.csv", "new")
    await yard.start(*yard.jobs)
    await yard.load()
    await yard.clean()
    assert (yard.landed(), yard.copies()) == ([], ["new", "old"])
    assert yard.rows("state, presence") == [("replaced", "archived"), ("loaded", "archived")]


async def test_a_file_that_went_away_in_the_last_moment_is_found_to_be_gone(yard):
    await yard.start(job(arrival=FileArrival("in", cleanup=Cleanup.ARCHIVE, on_delete=OnDelete.RETRACT)))
    file = yard.write("in/a.csv")
    await yard.load()
    bring = yard.cleaner._bring

    def too_late(begun):
        file.unlink()
        return bring(begun)

    yard.cleaner._bring = too_late
    await yard.clean()
    assert (yard.rows("state, presence, cleaning, archive_path"), yard.lost) == ([("loaded", "present", None, None)], 1)
    await yard.load()
    assert yard.rows("state, presence") == [("retracted", "removed")]


# --- its own timer ------------------------------------------------------------------------------------------


async def test_it_runs_by_itself_is_woken_by_runs_and_stops_in_order(yard):
    await yard.start(job(arrival=FileArrival("in", cleanup=Cleanup.DELETE, cleanup_after_s=60.0)))
    yard.write("in/a.csv")
    await yard.load()
    done = asyncio.Event()
    yard.cleaner._on_done = lambda _: done.set()
    running = asyncio.create_task(yard.cleaner.run())
    yard.cleaner.wake()
    yard.clock.pass_s(60)
    yard.cleaner.wake()
    await done.wait()
    assert yard.landed() == []
    yard.cleaner.stop()
    await running
