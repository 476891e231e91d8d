"""Files on a real file system, taken in round by round, with a clock that is turned by hand."""

import asyncio
import os
import signal
import threading

import pytest

from bookkeeping import Clock, bronze, job, looked_up
from landingd.edge import landing
from landingd.edge.landing import content
from landingd.edge.ledger import LedgerThread
from landingd.flow import intake as intake_module, looking
from landingd.flow.books import Books
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.scanning import watched_directories
from landingd.model import FileArrival, Hint, Lease

SHOP = job(arrival=FileArrival("in", pattern="*.csv"))
PATIENT = job(arrival=FileArrival("in", wait_after_last_change_s=10))
SCAN_S = 3600.0


@pytest.fixture(autouse=True)
def _lease_signal_ignored():
    before = signal.getsignal(signal.SIGIO)
    landing.ignore_lease_signal()
    yield
    signal.signal(signal.SIGIO, before)


class Landing:
    """A landing root, an intake over it, and what the ledger says of it."""

    def __init__(self, folder, books, clock):
        self.root = folder / "landing"
        self.ledger_file = folder / "ledger.sqlite"
        self.books = books
        self.clock = clock
        self.arrived = []
        self.intake = None
        (self.root / "in").mkdir(parents=True)

    def watch(self, *jobs):
        options = IntakeOptions(self.root, SCAN_S, quiet_floor_s=2.0)
        self.intake = Intake(self.books, jobs or (SHOP,), options, on_arrived=self.arrived.append, clock=self.clock)

    async def look(self, *hints, moved=()):
        """One round, told of these paths; returns when what it began to hash is entered."""
        for path in hints:
            self.intake.hint(os.fsencode(path), Hint.CLOSED)
        for path in moved:
            self.intake.hint(os.fsencode(path), Hint.MOVED)
        async with asyncio.TaskGroup() as hashing:
            await self.intake.look(hashing)

    def write(self, name="a.csv", content=b"id\n1\n"):
        path = self.root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def files(self, columns="name, state, content_hash IS NOT NULL"):
        return looked_up(self.ledger_file, f"SELECT {columns} FROM files ORDER BY file_id")

    def complete(self):
        return {name for name, _, is_complete in self.files() if is_complete}


@pytest.fixture
def box(tmp_path):
    ledger, clock = LedgerThread(tmp_path / "ledger.sqlite"), Clock()
    box = Landing(tmp_path, Books(ledger, clock), clock)
    box.watch()
    yield box
    box.intake._threads.shutdown()
    ledger.close()


# --- who is noticed ---------------------------------------------------------------------------------------


async def test_the_first_round_finds_what_no_event_told_of(box):
    box.write("a.csv")
    box.write("deep/er/b.csv")
    await box.look()
    assert box.complete() == {"in/a.csv", "in/deep/er/b.csv"}
    assert box.arrived == ["shop"]


async def test_between_scans_only_what_was_told_is_looked_at_and_the_next_scan_finds_the_rest(box):
    await box.look()
    told, untold = box.write("told.csv"), box.write("untold.csv")
    await box.look(told)
    assert box.complete() == {"in/told.csv"}
    box.clock.pass_s(SCAN_S)
    await box.look()
    assert box.complete() == {"in/told.csv", f"in/{untold.name}"}


async def test_a_scan_that_is_asked_for_is_made_at_once(box):
    await box.look()
    box.write()
    box.intake.ask_scan()
    await box.look()
    assert box.complete() == {"in/a.csv"}


async def test_an_event_for_a_file_that_is_gone_or_was_never_ours_is_nothing(box, tmp_path):
    await box.look()
    await box.look(box.root / "in" / "gone.csv", tmp_path / "elsewhere.csv", box.root / "other" / "a.csv")
    assert box.files() == []


@pytest.mark.parametrize("name", [".hidden.csv", "a.csv.part", "a.csv.tmp", "~a.csv", "a.txt", ".rsync/a.csv"])
async def test_temporary_and_unwanted_names_are_never_taken(box, name):
    await box.look(box.write(name))
    assert box.files() == []


async def test_a_link_is_no_file(box, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    link = box.root / "in" / "link.csv"
    link.symlink_to(tmp_path / "secret.csv")
    await box.look(link)
    assert box.files() == []


@pytest.mark.parametrize("name", [b"two\nlines.csv", b"caf\xe9.csv", b"o'clock*.csv", b"x" * 251 + b".csv"])
async def test_a_name_is_bytes(box, name):
    await box.look(box.write(os.fsdecode(name)))
    assert box.files("path, state") == [(b"in/" + name, "waiting")]


async def test_every_file_of_a_burst_is_taken(box, monkeypatch):
    monkeypatch.setattr(intake_module, "LOOK_AT_ONCE_MAX", 50)
    for n in range(180):
        box.write(f"{n}.csv", b"id\n%d\n" % n)
    await box.look()
    assert len(box.complete()) == 180


# --- when it is complete ----------------------------------------------------------------------------------


async def test_a_file_that_is_held_open_waits_with_its_reason_and_completes_when_it_is_closed(box):
    await box.look()
    with box.write().open("ab") as writer:
        await box.look(box.root / "in" / "a.csv")
        assert box.files("state, reason, content_hash") == [("waiting", str(Lease.HELD), None)]
        writer.write(b"2\n")
    waited_for = box.files("file_id")
    await box.look(box.root / "in" / "a.csv")
    assert box.files("file_id, state, size, facts ->> 'records'") == [(*waited_for[0], "waiting", 7, 3)]
    assert box.intake.waiting() == 0


async def test_a_close_that_nobody_told_of_is_found_by_looking_again(box):
    with box.write().open("ab"):
        await box.look()
    assert box.complete() == set()
    box.clock.pass_s(60)
    await box.look()
    assert box.complete() == {"in/a.csv"}


async def test_a_file_is_taken_after_the_silence_that_its_trigger_asks_for(box):
    box.watch(PATIENT)
    path = box.write()
    await box.look()
    box.clock.pass_s(9.9)
    await box.look()
    assert box.complete() == set()
    assert "quiet for 10 s" in box.files("reason")[0][0]
    path.write_bytes(b"id\n1\n2\n")
    await box.look(path)
    box.clock.pass_s(9.9)
    await box.look(path)
    assert box.complete() == set()
    box.clock.pass_s(0.1)
    await box.look()
    assert box.complete() == {"in/a.csv"}


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "unseen"])
async def test_a_file_that_vanishes_and_returns_waits_in_full(box, is_seen):
    box.watch(PATIENT)
    path = box.write()
    await box.look()
    box.clock.pass_s(9)
    path.unlink()
    if is_seen:
        await box.look(path)
        assert box.files() == []
        assert box.intake.waiting() == 0
    box.write()
    await box.look(path)
    box.clock.pass_s(9.9)
    await box.look(path)
    assert box.complete() == set()
    box.clock.pass_s(0.1)
    await box.look()
    assert box.complete() == {"in/a.csv"}


async def test_a_file_that_goes_away_while_it_is_waited_for_is_forgotten_by_the_next_scan(box):
    with box.write().open("ab"):
        await box.look()
    (box.root / "in" / "a.csv").unlink()
    box.intake.ask_scan()
    await box.look()
    assert box.files() == []
    assert box.intake.waiting() == 0


async def test_an_empty_file_waits_a_while_for_its_writer_to_come_back(box):
    path = box.write(content=b"")
    await box.look(path)
    assert box.complete() == set()
    path.write_bytes(b"id\n1\n")
    await box.look(path)
    assert box.complete() == {"in/a.csv"}


async def test_a_file_that_was_moved_in_is_complete_whatever_else(box):
    path = box.write(content=b"")
    await box.look(moved=[path])
    assert box.files("evidence") == [("moved into place",)]


async def test_a_file_that_changes_while_it_is_hashed_is_hashed_again_and_enters_once_and_whole(box, monkeypatch):
    path = box.write()
    feed = content.Content.feed
    later = [b"2\n", b"3\n"]

    def feed_and_append(content, chunk):
        if later:
            with path.open("ab") as writer:
                writer.write(later.pop())
        feed(content, chunk)

    monkeypatch.setattr(content.Content, "feed", feed_and_append)
    for _ in range(4):
        await box.look(path)
        box.clock.pass_s(1)
    assert box.files("size, facts ->> 'records'") == [(9, 4)]


async def test_a_file_that_cannot_be_read_says_so_and_is_tried_again(box, monkeypatch):
    path = box.write()
    fingerprint = landing.fingerprint

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(landing, "fingerprint", denied)
    await box.look()
    assert box.files("reason, content_hash") == [("cannot be looked at: Permission denied", None)]
    monkeypatch.setattr(landing, "fingerprint", fingerprint)
    box.clock.pass_s(SCAN_S)
    await box.look()
    assert box.complete() == {f"in/{path.name}"}


# --- which version it is ----------------------------------------------------------------------------------


async def test_the_same_bytes_again_are_a_duplicate_and_other_bytes_a_new_version(box):
    path = box.write()
    await box.look()
    os.utime(path, ns=(5, 5))
    await box.look(path)
    assert box.files("duplicates") == [(1,)]
    path.write_bytes(b"id\n7\n")
    await box.look(path)
    assert box.files("state") == [("replaced",), ("waiting",)]


async def test_an_unchanged_file_is_not_read_again(box, monkeypatch):
    path = box.write()
    await box.look()
    monkeypatch.setattr(landing, "fingerprint", None)
    box.intake.ask_scan()
    await box.look(path)
    assert box.files("duplicates") == [(0,)]


async def test_what_is_known_is_known_to_the_next_process(box, monkeypatch):
    box.write()
    await box.look()
    box.watch()
    await box.intake._remember()
    monkeypatch.setattr(landing, "fingerprint", None)
    await box.look()
    assert len(box.files()) == 1


# --- several jobs -----------------------------------------------------------------------------------------


async def test_each_job_that_watches_a_directory_gets_its_files_and_only_those_of_its_pattern(box):
    other = job(name="other", arrival=FileArrival("in"))
    box.watch(SHOP, other)
    box.write("a.csv")
    box.write("b.txt")
    await box.look()
    assert sorted(looked_up(box.ledger_file, "SELECT job, name FROM files")) == [
        ("other", "in/a.csv"),
        ("other", "in/b.txt"),
        ("shop", "in/a.csv"),
    ]
    assert sorted(box.arrived) == ["other", "shop"]


async def test_a_job_that_is_added_later_gets_the_files_that_the_others_have_had(box):
    box.write("a.csv")
    await box.look()
    await box.intake.set_jobs([SHOP, job(name="later", arrival=FileArrival("in"))])
    await box.look()
    assert sorted(looked_up(box.ledger_file, "SELECT job, name FROM files")) == [
        ("later", "in/a.csv"),
        ("shop", "in/a.csv"),
    ]


async def test_the_most_patient_trigger_holds_for_all_jobs_that_want_a_file(box):
    box.watch(SHOP, job(name="patient", arrival=FileArrival("in", wait_after_last_change_s=10)))
    box.write()
    await box.look()
    assert box.complete() == set()
    box.clock.pass_s(10)
    await box.look()
    assert sorted(box.arrived) == ["patient", "shop"]


def test_directories_are_watched_once_and_with_their_subdirectories_if_anybody_wants_them():
    jobs = [
        job(bronze(), name="a", arrival=FileArrival("in/", recursive=False)),
        job(bronze(), name="b", arrival=FileArrival("/in")),
        job(bronze(), name="c", arrival=FileArrival(".", recursive=False)),
    ]
    assert watched_directories(jobs) == [("", False), ("in", True)]


# --- large files ------------------------------------------------------------------------------------------


@pytest.fixture
def slow_hashing(monkeypatch):
    """Files from 100 bytes on are large, and their hashing stands still until it is let go."""
    go_on, fingerprint = threading.Event(), landing.fingerprint

    def slowly(path):
        if os.stat(path).st_size >= 100:  # noqa: PTH116 -- bytes
            assert go_on.wait(30)
        return fingerprint(path)

    monkeypatch.setattr(looking, "LARGE_BYTES", 100)
    monkeypatch.setattr(landing, "fingerprint", slowly)
    yield go_on
    go_on.set()


async def test_small_files_do_not_wait_for_a_large_one(box, slow_hashing):
    box.write("large.csv", b"id\n" + b"1\n" * 100)
    small = box.write("small.csv")
    async with asyncio.TaskGroup() as hashing:
        await box.intake.look(hashing)
        assert box.complete() == {f"in/{small.name}"}
        assert box.intake.waiting() == 1
        slow_hashing.set()
    assert box.complete() == {"in/small.csv", "in/large.csv"}
    assert box.intake.waiting() == 0


async def test_a_large_file_that_is_written_over_while_it_is_hashed_is_looked_at_again_afterwards(box, slow_hashing):
    path = box.write("large.csv", b"id\n" + b"1\n" * 100)
    async with asyncio.TaskGroup() as hashing:
        await box.intake.look(hashing)
        path.write_bytes(b"id\n" + b"2\n" * 200)
        box.intake.hint(os.fsencode(path), Hint.CLOSED)
        await box.intake.look(hashing)
        slow_hashing.set()
    box.clock.pass_s(1)
    await box.look()
    assert box.files("size")[-1] == (403,)
    assert box.files("count(*) FILTER (WHERE state = 'waiting')") == [(1,)]


# --- the loop ---------------------------------------------------------------------------------------------


async def test_the_loop_takes_in_what_it_is_told_until_it_is_stopped(box):
    arrived = asyncio.Event()
    options = IntakeOptions(box.root, SCAN_S, 2.0)
    box.intake = Intake(box.books, [SHOP], options, on_arrived=lambda _: arrived.set())
    box.write("before.csv")
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        group.create_task(box.intake.run())
        await arrived.wait()
        arrived.clear()
        box.intake.hint(os.fsencode(box.write("after.csv")), Hint.CLOSED)
        await arrived.wait()
        box.intake.stop()
    assert box.complete() == {"in/before.csv", "in/after.csv"}


async def test_a_file_that_waits_is_looked_at_when_it_is_due_and_not_only_at_the_next_scan(box):
    arrived = asyncio.Event()
    options = IntakeOptions(box.root, SCAN_S, 2.0)
    quick = job(arrival=FileArrival("in", wait_after_last_change_s=0.05))
    box.intake = Intake(box.books, [quick], options, on_arrived=lambda _: arrived.set())
    box.write()
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        group.create_task(box.intake.run())
        await arrived.wait()
        box.intake.stop()


async def test_one_pass_takes_in_everything_that_is_complete(box):
    box.write("a.csv")
    with box.write("held.csv").open("ab"):
        await box.intake.once()
    assert box.complete() == {"in/a.csv"}
