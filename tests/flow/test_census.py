"""The census over a real directory and a real ledger, beside an intake that is at work and without one."""

import asyncio
import os
import signal
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace

import pytest
import structlog

from bookkeeping import job
from landingd.edge import landing
from landingd.edge.ledger import LedgerThread
from landingd.flow import arriving
from landingd.flow.books import Books
from landingd.flow.census import NO_DAEMON_HINT, Census
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.roots import RootOptions, Roots
from landingd.model import Committed, FileArrival, FileLoad, Stats, Trigger

SHOP = job(arrival=FileArrival("in", pattern="*.csv"))
NOTHING = {"loaded": 0, "waiting": 0, "duplicate": 0, "quarantined": 0, "ignored": 0}


@pytest.fixture(autouse=True)
def _lease_signal_ignored():
    before = signal.getsignal(signal.SIGIO)
    landing.ignore_lease_signal()
    yield
    signal.signal(signal.SIGIO, before)


async def no_warehouse(_):
    return []


class Place:
    """A landing root with its ledger, and whoever takes files in or counts them."""

    def __init__(self, folder):
        self.root = folder / "landing"
        self.ledger_file = folder / "ledger.sqlite"
        self.ledger = LedgerThread(self.ledger_file)
        self.books = Books(self.ledger)
        self.closing = []

    def intake(self, *jobs, on_arrived=lambda _: None):
        roots = Roots(self.root, RootOptions(3600.0), ledger=self.ledger)
        options = IntakeOptions(self.root, 3600.0, quiet_floor_s=0.0)
        return roots, Intake(self.books, jobs or (SHOP,), options, on_arrived=on_arrived, roots=roots)

    async def take_in(self, *jobs):
        await self.intake(*jobs)[1].once()

    def census(self, **more):
        census = Census(landing_root=self.root, ledger_file=self.ledger_file, query=no_warehouse, **more)
        self.closing.append(census)
        return census

    async def count(self, *jobs, **more):
        return await self.census(**more).take(jobs or (SHOP,))

    def write(self, path, content="id\n1\n"):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content)
        return self.root / path

    async def load(self, **by_id):
        """A run over everything that waits; `by_id`: what came of a file, where it was not loaded."""
        while (started := await self.books.next_run(SHOP)) is not None:
            (key,) = started.begun
            batch = await self.books.batch(SHOP, key)
            loads = [by_id.get(f"f{one.file.file_id}", FileLoad(one.file.file_id, 1, 1)) for one in batch.load]
            loads += [FileLoad(file_id, retracted=True) for file_id in batch.retract]
            await self.books.conclude(SHOP, key, Committed(Stats(files=tuple(loads))), go_on=True)

    async def unload(self, file_id):
        await self.books.request_run(
            SHOP, request_id="out", parameters={}, file_ids=[file_id], prepare=arriving.want_out
        )
        await self.load()

    def tamper(self, sql):
        with closing(sqlite3.connect(self.ledger_file)) as db:
            db.execute(sql)
            db.commit()

    @contextmanager
    def open_for_writing(self, path):
        with (self.root / path).open("a") as file:
            yield file


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    (place.root / "in").mkdir(parents=True)
    yield place
    for census in place.closing:
        census.close()
    place.ledger.close()


@asynccontextmanager
async def at_work(intake):
    """The intake's loop, as long as this lasts."""
    task = asyncio.get_running_loop().create_task(intake.run())
    try:
        yield
    finally:
        intake.stop()
        await task


def counts(answer, index=0):
    return {key: answer["roots"][index][key] for key in NOTHING}


def told(answer):
    return {one["file"]: (one["what"], one["why"]) for one in answer["discrepancies"]}


# --- it adds up -----------------------------------------------------------------------------------------------


async def test_files_of_every_kind_are_counted_once_each(place):
    for name in ("1loaded", "2duplicate", "3quarantined", "4unloaded", "5waiting"):
        place.write(f"in/{name}.csv", "id\n1\n" if name[0] in "12" else name)
    place.write("in/6.csv.tmp")
    place.write("in/7.txt")
    place.write("in/8open.csv")
    with place.open_for_writing("in/8open.csv"):
        await place.take_in()
        place.tamper("UPDATE files SET wanted = NULL WHERE name = 'in/5waiting.csv'")
        (bad,) = [row[0] for row in select(place, "SELECT file_id FROM files WHERE name = 'in/3quarantined.csv'")]
        await place.load(**{f"f{bad}": FileLoad(bad, quarantined="no header")})
        (out,) = [row[0] for row in select(place, "SELECT file_id FROM files WHERE name = 'in/4unloaded.csv'")]
        await place.unload(out)
        answer = await place.count()
    assert counts(answer) == {"loaded": 1, "waiting": 2, "duplicate": 1, "quarantined": 1, "ignored": 3}
    assert (answer["roots"][0]["on_disk"], answer["adds_up"]) == (8, True)


def select(place, sql):
    with closing(sqlite3.connect(place.ledger_file)) as db:
        return db.execute(sql).fetchall()


async def test_an_empty_directory_adds_up(place):
    answer = await place.count()
    assert (answer["roots"][0]["adds_up"], counts(answer), answer["totals"]["on_disk"]) == (True, NOTHING, 0)


async def test_a_file_in_two_directories_of_a_job_counts_in_the_inner_one(place):
    triggers = tuple(Trigger(FileArrival(directory, pattern="*.csv")) for directory in ("in", "in/deep"))
    nested = replace(SHOP, triggers=triggers)
    place.write("in/a.csv")
    place.write("in/deep/b.csv", "id\n2\n")
    await place.take_in(nested)
    answer = await place.count(nested)
    assert [(root["directory"], root["on_disk"], root["waiting"]) for root in answer["roots"]] == [
        ("in", 1, 1),
        ("in/deep", 1, 1),
    ]


# --- it does not --------------------------------------------------------------------------------------------------


async def test_without_a_daemon_a_new_file_is_unaccounted_and_the_hint_says_who_will_look(place):
    place.write("in/a.csv")
    answer = await place.count()
    assert not answer["adds_up"]
    assert told(answer) == {"in/a.csv": ("unaccounted", "on disk, and not on the books")}
    assert answer["discrepancies"][0]["hint"] == NO_DAEMON_HINT
    assert answer["roots"][0]["unaccounted"] == 1


async def test_without_a_daemon_a_changed_file_and_a_missing_one_are_named_with_their_versions(place):
    place.write("in/a.csv")
    place.write("in/b.csv", "id\n2\n")
    await place.take_in()
    await place.load()
    place.write("in/a.csv", "id\n1\n2\n")
    (place.root / "in/b.csv").unlink()
    answer = await place.count()
    assert told(answer) == {
        "in/a.csv": ("unaccounted", "it is not as it was when version 1 was taken in"),
        "in/b.csv": ("missing", "loaded, and not on disk"),
    }
    assert (answer["roots"][0]["on_disk"], answer["roots"][0]["missing"]) == (1, 1)


async def test_a_version_that_the_ledger_lost_is_found_by_counting(place):
    place.write("in/a.csv")
    await place.take_in()
    place.tamper("DELETE FROM files")
    _, intake = place.intake()
    async with at_work(intake):
        answer = await place.count(intake=intake, waits_s=(0.01, 0.01))
    # The hint alone does not make intake look: it remembers nothing of the file, so it takes it in.
    assert answer["adds_up"]
    assert counts(answer)["waiting"] == 1


async def test_rows_that_are_neither_loaded_nor_rejected_nor_dropped_are_told(place):
    place.write("in/a.csv")
    place.write("in/b.csv", "id\n2\n")
    await place.take_in()
    await place.load()
    place.tamper("UPDATE loads SET rows_in = 5 WHERE file_id = 1")
    place.tamper("DELETE FROM loads WHERE file_id = 2")
    answer = await place.count()
    assert told(answer) == {
        "in/a.csv": ("rows", "bronze: 5 rows in, but 1 loaded + 0 rejected + 0 dropped"),
        "in/b.csv": ("rows", "loaded, but by no task"),
    }
    assert not answer["adds_up"]


# --- beside an intake that is at work ---------------------------------------------------------------------------


async def test_files_that_land_change_and_leave_while_they_are_counted_add_up(place):
    """None of them raises an event here: what does not fit is hinted at, and looked at again."""
    for name in "abc":
        place.write(f"in/{name}.csv", f"id\n{name}\n")
    scanned = asyncio.Event()
    roots, intake = place.intake(on_arrived=lambda _: scanned.set())
    async with at_work(intake):
        await scanned.wait()  # and for the next hour there is no other scan, unless somebody asks for one
        place.write("in/a.csv", "id\n7\n8\n")
        (place.root / "in/b.csv").unlink()
        place.write("in/d.csv", "id\n9\n")
        answer = await place.count(intake=intake, roots=roots)
    assert answer["adds_up"], answer["discrepancies"]
    assert (answer["roots"][0]["on_disk"], counts(answer)["waiting"]) == (3, 3)


async def test_a_file_that_goes_on_changing_waits(place):
    _, intake = place.intake()
    async with at_work(intake):
        with place.open_for_writing("in/a.csv") as file:
            file.write("id\n")
            file.flush()
            answer = await place.count(intake=intake)
    assert answer["adds_up"], answer["discrepancies"]
    assert counts(answer)["waiting"] == 1


async def test_a_file_that_intake_has_in_hand_waits(place):
    place.write("in/large.csv")
    answer = await place.count(has_in_hand=lambda path: path == b"in/large.csv")
    assert (counts(answer)["waiting"], answer["adds_up"]) == (1, True)


# --- directories that are not there -----------------------------------------------------------------------------


async def test_the_files_of_a_directory_that_is_away_are_out_of_sight_and_not_missing(place):
    place.write("in/a.csv")
    await place.take_in()
    (place.root / "in").rename(place.root / "away")
    answer = await place.count()
    root = answer["roots"][0]
    assert (root["adds_up"], root["out_of_sight"], root["missing"]) == (None, 1, 0)
    assert root["unavailable"].startswith("it cannot be listed")
    assert answer["adds_up"]


async def test_an_empty_directory_on_another_mount_than_it_was_is_unavailable(place):
    place.write("in/a.csv")
    await place.take_in()
    (place.root / "in/a.csv").unlink()
    place.tamper("INSERT OR REPLACE INTO roots VALUES ('in', 'nfs server:/share /somewhere', 1.0)")
    root = (await place.count())["roots"][0]
    assert (root["adds_up"], root["out_of_sight"], root["missing"]) == (None, 1, 0)
    assert root["unavailable"].startswith("was on nfs server:/share /somewhere, is now on ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_lies_in_a_folder_that_cannot_be_read_is_out_of_sight(place):
    place.write("in/deep/a.csv")
    await place.take_in()
    (place.root / "in/deep").chmod(0)
    try:
        root = (await place.count())["roots"][0]
    finally:
        (place.root / "in/deep").chmod(0o755)
    assert (root["out_of_sight"], root["missing"]) == (1, 0)


# --- again and again ------------------------------------------------------------------------------------------


async def test_it_is_taken_again_and_again_and_what_is_wrong_is_logged_once(place):
    place.write("in/a.csv")
    taken = asyncio.Queue()
    with structlog.testing.capture_logs() as logged:
        run = place.census().run(0.01, lambda: (SHOP,), taken.put_nowait)
        task = asyncio.get_running_loop().create_task(run)
        first, second, _ = [await taken.get() for _ in range(3)]
        task.cancel()
        await asyncio.wait({task})
    assert not first["adds_up"]
    assert first["time"] <= second["time"]
    assert [(one["event"], one["discrepancies"]) for one in logged] == [
        ("census_does_not_add_up", ["in/a.csv: on disk, and not on the books"])
    ]
