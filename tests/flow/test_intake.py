"""Files on a real file system, taken in round by round, with a clock that is turned by hand."""

import asyncio
import gzip
import hashlib
import json
import os
import signal
import threading

import pytest
from structlog.testing import capture_logs

from bookkeeping import Clock, bronze, job, looked_up
from landingd.edge import landing
from landingd.edge.landing import beside, content
from landingd.edge.ledger import LedgerThread
from landingd.flow import intake as intake_module
from landingd.flow import looking
from landingd.flow.books import Books
from landingd.flow.intake import CREATED_LOOK_S, Intake
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

    def denied(path, **_):
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

    def slowly(path, **more):
        if os.stat(path).st_size >= 100:  # noqa: PTH116 -- bytes
            assert go_on.wait(30)
        return fingerprint(path, **more)

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


# --- just created -----------------------------------------------------------------------------------------


async def test_a_file_that_is_held_open_from_its_creation_is_listed_a_moment_later_and_without_a_scan(box):
    await box.look()
    with box.write().open("ab"):
        box.intake.hint(os.fsencode(box.root / "in" / "a.csv"), Hint.CREATED)
        await box.look()
        assert box.files() == []
        box.clock.pass_s(CREATED_LOOK_S)
        await box.look()
        assert box.files("state, reason") == [("waiting", str(Lease.HELD))]


@pytest.mark.parametrize("better", [Hint.CLOSED, Hint.MOVED])
@pytest.mark.parametrize("is_first", [True, False], ids=["creation first", "creation last"])
async def test_of_several_hints_the_best_counts_and_the_creation_costs_no_look_of_its_own(box, better, is_first):
    await box.look()
    path = os.fsencode(box.write())
    for hint in [Hint.CREATED, better, Hint.SCAN] if is_first else [better, Hint.SCAN, Hint.CREATED]:
        box.intake.hint(path, hint)
    await box.look()
    assert box.files("evidence")[0][0].startswith(better.value[:6])
    assert not box.intake._memory.begun


async def test_the_loop_wakes_up_for_what_was_created_and_not_only_for_the_next_scan(box):
    waits = asyncio.Event()
    wait = box.books.wait

    async def wait_and_tell(waiting):
        await wait(waiting)
        waits.set()

    box.books.wait = wait_and_tell
    box.intake = Intake(box.books, [SHOP], IntakeOptions(box.root, SCAN_S, 2.0), on_arrived=lambda _: None)
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        group.create_task(box.intake.run())
        await box.intake._in_thread(lambda: None)
        with box.write().open("ab"):
            box.intake.hint(os.fsencode(box.root / "in" / "a.csv"), Hint.CREATED)
            await waits.wait()
        box.intake.stop()
    assert box.files("reason") == [(str(Lease.HELD),)]


# --- an event is remembered while nothing changes -----------------------------------------------------------


async def test_a_scan_meanwhile_does_not_make_a_moved_file_one_that_was_only_found(box):
    box.watch(PATIENT)
    path = box.write()
    await box.look(moved=[path])
    box.intake.ask_scan()
    await box.look()
    box.clock.pass_s(10)
    await box.look()
    assert box.files("evidence") == [("moved into place; unchanged for 10.0 s",)]


async def test_a_moved_file_that_is_written_to_afterwards_is_one_that_was_only_found(box):
    box.watch(PATIENT)
    path = box.write()
    await box.look(moved=[path])
    path.write_bytes(b"id\n2\n3\n")
    box.clock.pass_s(10)
    await box.look()
    box.clock.pass_s(10)
    await box.look()
    assert box.files("evidence")[0][0].startswith("found by a scan, and no process has it open for writing")


# --- markers ----------------------------------------------------------------------------------------------


def marked(marker, **more):
    return job(arrival=FileArrival("in", marker=marker, **more))


async def test_a_file_waits_for_its_marker_and_the_marker_brings_it_in(box):
    box.watch(marked("{name}.done"))
    path = box.write()
    await box.look(path)
    assert box.files("state, reason, content_hash") == [("waiting", "waiting for its marker a.csv.done", None)]
    box.clock.pass_s(SCAN_S)
    await box.look()
    assert box.complete() == set()
    marker = box.write("a.csv.done", b"")
    await box.look(marker)
    await box.look()
    assert box.files("name, evidence") == [
        ("in/a.csv", "marker a.csv.done, and no process has it open for writing"),
    ]


async def test_a_marker_is_no_word_about_the_version_that_came_after_it(box):
    box.watch(marked("{name}.done"))
    path, marker = box.write(), box.write("a.csv.done", b"")
    os.utime(path, ns=(5, 5))
    await box.look()
    assert box.complete() == {"in/a.csv"}
    path.write_bytes(b"id\n1\n2\n")
    stat = path.stat()
    assert stat.st_ctime_ns > marker.stat().st_ctime_ns
    await box.look(path)
    assert box.files("size, reason")[-1] == (7, "marker a.csv.done is older than the file")
    marker.write_bytes(b"")
    await box.look(marker)
    await box.look()
    assert box.files("size, evidence")[-1] == (7, "marker a.csv.done, and no process has it open for writing")


async def test_a_marker_beside_a_file_that_is_still_written_to_is_not_believed(box):
    box.watch(marked("{name}.done"))
    with box.write().open("ab"):
        await box.look(box.write("a.csv.done", b""))
        assert box.files("reason") == [(str(Lease.HELD),)]


async def test_one_marker_for_a_directory_brings_in_all_that_lies_beside_it_and_nothing_else(box):
    box.watch(marked("_SUCCESS"))
    for name in ("day1/a.csv", "day1/b.csv", "day2/c.csv"):
        box.write(name)
    await box.look()
    assert len(box.files()) == 3
    await box.look(box.write("day1/_SUCCESS", b""))
    await box.look()
    assert box.complete() == {"in/day1/a.csv", "in/day1/b.csv"}


async def test_a_marker_whose_event_was_lost_is_found_by_the_scan(box):
    box.watch(marked("_SUCCESS"))
    box.write()
    await box.look()
    box.write("_SUCCESS", b"")
    box.clock.pass_s(SCAN_S)
    await box.look()
    assert box.complete() == {"in/a.csv"}


async def test_what_is_a_marker_to_one_job_may_be_data_to_another(box):
    box.watch(marked("{name}.done"), job(name="other", arrival=FileArrival("in", pattern="*.done")))
    await box.look(box.write())
    await box.look(box.write("a.csv.done", b"x\n1\n"))
    await box.look()
    assert sorted(looked_up(box.ledger_file, "SELECT job, name FROM files WHERE content_hash IS NOT NULL")) == [
        ("other", "in/a.csv.done"),
        ("shop", "in/a.csv"),
    ]


# --- manifests --------------------------------------------------------------------------------------------


def listing(*files):
    return json.dumps([{"name": name, "size": len(content), **more} for name, content, more in files]).encode()


ROWS = b"id\n1\n"
LISTED = job(arrival=FileArrival("in", manifest="*.manifest", incomplete_after_s=300))


async def test_a_file_waits_for_a_manifest_that_lists_it(box):
    box.watch(LISTED)
    await box.look(box.write("a.csv", ROWS), box.write("b.csv", ROWS))
    assert box.files("reason") == [("no manifest lists it",)] * 2
    await box.look(box.write("1.manifest", listing(("a.csv", ROWS, {}))))
    await box.look()
    assert box.files("name, evidence, reason") == [
        (
            "in/a.csv",
            "listed in 1.manifest with its size, and no process has it open for writing",
            "complete; waiting for a run",
        ),
        ("in/b.csv", "", "no manifest lists it"),
    ]


async def test_a_file_of_another_size_than_listed_waits_until_either_is_corrected(box):
    box.watch(LISTED)
    manifest = box.write("1.manifest", listing(("a.csv", ROWS, {}), ("b.csv", ROWS + b"2\n", {})))
    await box.look(box.write("a.csv", ROWS[:3]), box.write("b.csv", ROWS))
    assert box.files("reason") == [
        ("the manifest says 5 bytes, there are 3",),
        ("the manifest says 7 bytes, there are 5",),
    ]
    await box.look(box.write("a.csv", ROWS))
    manifest.write_bytes(listing(("b.csv", ROWS, {})))
    await box.look(manifest)
    await box.look()
    assert box.complete() == {"in/a.csv", "in/b.csv"}


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
async def test_a_file_with_another_checksum_waits_and_is_quarantined_in_the_end(box, algorithm):
    box.watch(LISTED)
    right = hashlib.new(algorithm, ROWS).hexdigest()
    wrong = hashlib.new(algorithm, b"other").hexdigest()
    listed = listing(("a.csv", ROWS, {"checksum": right}), ("b.csv", ROWS, {"checksum": wrong}))
    box.write("1.manifest", listed)
    await box.look(box.write("a.csv", ROWS))
    await box.look(box.write("b.csv", ROWS))
    assert box.complete() == {"in/a.csv"}
    reason = f"{algorithm} checksum {right[:16]}... differs from the manifest's {wrong[:16]}..."
    assert box.files("state, reason")[1] == ("waiting", reason)
    box.clock.pass_s(300)
    await box.look()
    assert box.files("state, reason")[1] == ("quarantined", f"{reason}; unchanged for 300 s")


async def test_a_corrected_checksum_is_believed_before_the_time_is_over(box):
    box.watch(LISTED)
    manifest = box.write("1.manifest", listing(("a.csv", ROWS, {"md5": "0" * 32})))
    await box.look(box.write("a.csv", ROWS))
    assert box.complete() == set()
    manifest.write_bytes(listing(("a.csv", ROWS, {"md5": hashlib.md5(ROWS).hexdigest()})))  # noqa: S324
    await box.look(manifest)
    await box.look()
    assert box.complete() == {"in/a.csv"}


async def test_a_manifest_that_is_being_written_or_damaged_lets_its_files_wait_and_says_so(box):
    box.watch(LISTED)
    manifest = box.write("1.manifest", b'[{"name":')
    with manifest.open("ab") as writer:
        await box.look(box.write())
        assert box.files("reason") == [("manifest 1.manifest is still being written",)]
        writer.write(b" ")
    await box.look(manifest)
    await box.look()
    assert box.files("reason")[0][0].startswith("manifest 1.manifest cannot be read: ")


async def test_a_manifest_is_read_once_for_all_the_files_that_it_lists(box, monkeypatch):
    read = []
    whole = beside.whole
    monkeypatch.setattr(beside, "whole", lambda path: read.append(path) or whole(path))
    box.watch(LISTED)
    for n in range(20):
        box.write(f"{n}.csv", b"%d" % n)
    box.write("1.manifest", "\n".join(f"{n}.csv" for n in range(20)).encode())
    await box.look()
    await box.look()
    assert len(box.complete()) == 20
    assert len(read) == 1


async def test_a_manifest_that_lists_what_is_not_there_is_told_of_once(box):
    box.watch(LISTED)
    manifest = box.write("1.manifest", b"a.csv\nmissing.csv\n")
    with capture_logs() as logs:
        await box.look(box.write(), manifest)
        await box.look(manifest)
    told = [line for line in logs if line["event"] == "manifest_incomplete"]
    assert [(line["manifest"], line["missing"]) for line in told] == [("in/1.manifest", ["missing.csv"])]


# --- content whose end is missing -------------------------------------------------------------------------

PACKED = gzip.compress(b"id\n" + b"12345\n" * 1000, mtime=0)
ANY = job(arrival=FileArrival("in", incomplete_after_s=300))


async def test_a_file_whose_end_is_missing_waits_for_it_and_is_taken_when_it_is_there(box):
    box.watch(ANY)
    path = box.write("a.csv.gz", PACKED[:-9])
    await box.look(path)
    assert box.files("state, reason, content_hash") == [("waiting", "the gzip stream ends early", None)]
    box.clock.pass_s(299)
    path.write_bytes(PACKED)
    await box.look(path)
    assert box.files("state, reason") == [("waiting", "complete; waiting for a run")]


async def test_a_file_whose_end_does_not_come_is_quarantined_and_judged_anew_when_it_changes(box):
    box.watch(ANY)
    path = box.write("a.csv.gz", PACKED[:-9])
    await box.look(path)
    box.clock.pass_s(300)
    await box.look()
    assert box.files("state, reason") == [("quarantined", "the gzip stream ends early; unchanged for 300 s")]
    path.write_bytes(PACKED)
    await box.look(path)
    assert [state for (state,) in box.files("state")] == ["replaced", "waiting"]


async def test_a_file_that_waits_for_its_end_is_not_read_again_by_every_scan(box, monkeypatch):
    box.watch(ANY)
    await box.look(box.write("a.csv.gz", PACKED[:-9]))
    fingerprint = landing.fingerprint
    monkeypatch.setattr(landing, "fingerprint", None)
    box.intake.ask_scan()
    await box.look()
    monkeypatch.setattr(landing, "fingerprint", fingerprint)
    box.clock.pass_s(300)
    await box.look()
    assert box.files("state") == [("quarantined",)]


async def test_the_time_in_which_an_end_may_come_goes_on_while_no_process_looks(box):
    path = box.write("a.csv.gz", PACKED[:-9])
    changed_s = path.stat().st_ctime
    box.clock.now_s = changed_s + 1
    box.watch(ANY)
    await box.look(path)
    assert box.files("state") == [("waiting",)]
    box.clock.now_s = changed_s + 299
    box.watch(ANY)
    await box.look(path)
    assert box.files("state") == [("waiting",)]
    box.clock.now_s = changed_s + 301
    box.watch(ANY)
    await box.look(path)
    assert box.files("state") == [("quarantined",)]


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
async def test_a_file_that_is_opened_again_between_the_proof_and_the_reading_is_not_taken(box, monkeypatch, is_large):
    if is_large:
        monkeypatch.setattr(looking, "LARGE_BYTES", 1)
    path, prove, writers = box.write(), landing.lease, []

    def lease(*args, **more):
        found = prove(*args, **more)
        if not writers:
            writers.append(path.open("wb"))
            writers[0].write(b"id\n1\n2")
            writers[0].flush()
        return found

    monkeypatch.setattr(landing, "lease", lease)
    await box.look(path)
    assert box.files() == [("in/a.csv", "waiting", 0)]
    box.clock.pass_s(1)
    await box.look(path)
    assert box.files() == [("in/a.csv", "waiting", 0)]
    writers[0].write(b"2\n")
    writers[0].close()
    box.clock.pass_s(1)
    await box.look(path)
    assert box.files("size, content_hash IS NOT NULL") == [(8, 1)]


# --- producers that open a file several times -------------------------------------------------------------


async def test_a_producer_that_opens_again_is_learned_from_and_waited_for_in_all_the_directory(box):
    await box.look()
    path = box.write(content=b"id\n1\n")
    await box.look(path)
    box.clock.pass_s(2)
    with path.open("ab") as writer:
        writer.write(b"2\n")
    await box.look(path)
    other = box.write("b.csv", b"id\n7\n")
    await box.look(other)
    assert box.files("name, size, content_hash IS NOT NULL") == [
        ("in/a.csv", 5, 1),
        ("in/a.csv", 7, 0),
        ("in/b.csv", 5, 0),
    ]
    assert "to be quiet for 5 s, since files here were opened again" in box.files("reason")[2][0]
    box.clock.pass_s(5)
    await box.look()
    assert box.files("name, state, content_hash IS NOT NULL") == [
        ("in/a.csv", "replaced", 1),
        ("in/a.csv", "waiting", 1),
        ("in/b.csv", "waiting", 1),
    ]


def _renamed_in(path, content):
    beside_it = path.with_name(".new")
    beside_it.write_bytes(content)
    beside_it.rename(path)


@pytest.mark.parametrize(
    ("correct", "after_s"),
    [
        (lambda path: path.write_bytes(b"id\n7\n8\n"), 2),
        (lambda path: _renamed_in(path, b"id\n1\n2\n"), 2),
        (lambda path: path.write_bytes(b"id\n1\n2\n"), 3600),
    ],
    ids=["other content", "another file", "long after"],
)
async def test_a_correction_slows_nobody_down(box, correct, after_s):
    path = box.write(content=b"id\n1\n")
    await box.look(path)
    box.clock.pass_s(after_s)
    correct(path)
    await box.look(path)
    assert box.files("size, state") == [(5, "replaced"), (7, "waiting")]
    assert box.files("content_hash IS NOT NULL")[1] == (1,)
