"""Roots on a real file system, scanned at their own times: what is found, what is gone, and what only is out of sight.

The clock is turned by hand, the watch is the kernel's, and the mounts are real where they are permitted.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import threading

import pytest

from bookkeeping import Clock, job, looked_up
from landingd.edge import landing
from landingd.edge.ledger import LedgerThread
from landingd.edge.watch import Blind, Watch
from landingd.flow import roots as roots_module
from landingd.flow.books import Books
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.roots import RootOptions, Roots, make_missing
from landingd.flow.scanning import watched_directories
from landingd.model import FileArrival, OnDelete

SCAN_S, POLL_S = 3600.0, 1.0
SHOP = job(arrival=FileArrival("in", pattern="*.csv"))
OTHER = job(name="other", arrival=FileArrival("other"))


@pytest.fixture(autouse=True)
def _lease_signal_ignored():
    before = signal.getsignal(signal.SIGIO)
    landing.ignore_lease_signal()
    yield
    signal.signal(signal.SIGIO, before)


class Box:
    """A landing root, an intake over it with the roots it watches, and what the ledger says."""

    def __init__(self, folder):
        self.root = folder / "landing"
        self.ledger_file = folder / "ledger.sqlite"
        self.ledger = LedgerThread(self.ledger_file)
        self.clock = Clock()
        self.arrived = []
        self.watch = None
        self.roots = None
        self.intake = None
        for name in ("in", "other"):
            (self.root / name).mkdir(parents=True)

    async def start(self, *jobs):
        """Like a new process: nothing is known but what the ledger knows."""
        self.stop()
        listed = RootOptions(SCAN_S, POLL_S, quiet_floor_s=2.0)
        self.roots = Roots(self.root, listed, ledger=self.ledger, clock=self.clock, on_remount=self.remounted)
        self.intake = Intake(
            Books(self.ledger, self.clock),
            jobs or (SHOP,),
            IntakeOptions(self.root, SCAN_S, quiet_floor_s=0.0),
            on_arrived=self.arrived.append,
            clock=self.clock,
            roots=self.roots,
        )
        await self.intake._remember()

    def listen(self, *directories):
        """Watch these; their events go where the daemon sends them, but no file is hinted at."""
        loop = asyncio.get_running_loop()
        self.watch = Watch(
            lambda path, _: loop.call_soon_threadsafe(self.roots.heard, path),
            lambda *_: None,
        )
        for directory in directories:
            self.watch.add(self.root / directory, recursive=True)
        self.watch.start()

    def remounted(self, path):
        if self.watch is not None:
            self.watch.watch_again(path)
            self.watch.check()

    async def look(self):
        """A round, with the scans that are due."""
        async with asyncio.TaskGroup() as hashing:
            await self.intake.look(hashing, patience_s=None)

    async def scan(self):
        self.intake.ask_scan()
        await self.look()

    def write(self, path, content="id\n1\n"):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content)

    def presence(self, job="shop"):
        return dict(looked_up(self.ledger_file, "SELECT name, presence FROM files WHERE job = ? ORDER BY file_id", job))

    def versions(self):
        return looked_up(self.ledger_file, "SELECT count(*), sum(duplicates) FROM files")[0]

    def report(self, directory="in"):
        return next(one for one in self.roots.report() if one["directory"] == directory)

    def stop(self):
        if self.watch is not None:
            self.watch.stop()
        if self.intake is not None:
            self.intake._threads.shutdown()
            self.roots.close()


@pytest.fixture
async def box(tmp_path):
    box = Box(tmp_path)
    await box.start()
    yield box
    box.stop()
    box.ledger.close()


# --- how a root is listened to ----------------------------------------------------------------------------


async def test_a_root_whose_test_file_is_heard_is_listened_to(box):
    box.listen("in")
    await box.roots.check()
    box.roots.threads.shutdown()
    seen = box.report()
    assert (seen["mode"], seen["latency_seconds"]) == ("inotify", 0.0)
    assert seen["why"].endswith("the event of a test file came")
    assert list((box.root / "in").iterdir()) == []


async def test_a_root_where_nothing_is_heard_is_polled_while_the_other_one_is_not(box, monkeypatch):
    monkeypatch.setattr(roots_module, "PROBE_WAIT_S", 0.05)
    await box.start(SHOP, OTHER)
    box.listen("other")
    await box.roots.check()
    modes = {one["directory"]: one["mode"] for one in box.roots.report()}
    assert modes == {"in": "poll", "other": "inotify"}
    await box.look()
    assert POLL_S <= box.report()["latency_seconds"] < 2 * POLL_S

    box.write("in/a.csv")
    box.write("other/a.csv")
    box.clock.pass_s(box.report()["latency_seconds"])
    await box.look()
    assert (box.presence("shop"), box.presence("other")) == ({"in/a.csv": "present"}, {})
    box.clock.pass_s(SCAN_S)
    await box.look()
    assert box.presence("other") == {"other/a.csv": "present"}


async def test_a_root_that_is_not_watched_is_polled_for_that_reason_until_it_is(box):
    box.listen("in")
    await box.roots.check()
    box.roots.not_watched([Blind(os.fsencode(box.root / "in"), "no more watches")])
    assert (box.report()["mode"], box.report()["why"]) == ("poll", "no more watches")
    box.roots.not_watched([Blind(os.fsencode(box.root / "in/deep"), "no more watches")])
    assert (box.report()["mode"], box.report()["why"]) == ("poll", "deep: no more watches")
    box.roots.not_watched([])
    assert box.report()["mode"] == "inotify"


async def test_a_probe_that_was_late_is_repeated_soon(box, monkeypatch):
    monkeypatch.setattr(roots_module, "PROBE_WAIT_S", 0.05)
    await box.roots.check()
    assert box.report()["mode"] == "poll"
    monkeypatch.undo()
    box.listen("in")
    await box.roots.check()
    assert box.report()["mode"] == "poll"
    box.clock.pass_s(roots_module.PROBE_AGAIN_S)
    await box.roots.check()
    assert box.report()["mode"] == "inotify"


async def test_a_root_that_cannot_be_written_to_is_judged_by_its_file_system(box, monkeypatch):
    def refused(_path):
        raise PermissionError

    monkeypatch.setattr(landing, "leave_probe", refused)
    await box.roots.check()
    assert (box.report()["mode"], box.report()["why"]) == (
        "inotify",
        f"{box.report()['filesystem']}: a local file system; no test file was written",
    )


async def test_a_scan_that_hangs_holds_up_no_other_root(box, monkeypatch):
    await box.start(SHOP, OTHER)
    released = threading.Event()
    scan = landing.scan

    def hanging(directory, **how):
        if directory.name == "in":
            released.wait()
        return scan(directory, **how)

    monkeypatch.setattr(landing, "scan", hanging)
    box.write("in/a.csv")
    box.write("other/a.csv")
    async with asyncio.TaskGroup() as hashing:
        await box.intake.look(hashing, patience_s=0.2)
    assert (box.presence("shop"), box.presence("other")) == ({}, {"other/a.csv": "present"})
    box.clock.pass_s(12)
    assert box.report()["trouble"] == ["a scan has been under way for 12 s"]
    assert box.report("other")["trouble"] == []
    box.intake._wake.clear()
    released.set()
    await box.intake._wake.wait()
    await box.look()
    assert box.presence("shop") == {"in/a.csv": "present"}


async def test_a_file_that_is_waited_for_is_not_looked_at_by_every_poll(box, monkeypatch):
    await box.start(job(arrival=FileArrival("in", wait_after_last_change_s=60)))
    box.write("in/a.csv")
    await box.look()
    looks = []
    lease = landing.lease
    monkeypatch.setattr(landing, "lease", lambda path, **how: looks.append(path) or lease(path, **how))
    for _ in range(5):
        box.clock.pass_s(POLL_S)
        await box.scan()
    assert looks == []
    box.write("in/a.csv", "id\n1\n2\n")
    await box.scan()
    assert len(looks) == 1
    box.clock.pass_s(60)
    await box.look()
    assert box.presence() == {"in/a.csv": "present"}


# --- what is gone -----------------------------------------------------------------------------------------


async def test_a_file_that_was_removed_is_gone_for_every_job_that_wanted_it(box):
    await box.start(SHOP, job(name="too", arrival=FileArrival("in/deep")))
    for name in ("in/deep/a.csv", "in/b.csv"):
        box.write(name)
    await box.look()
    (box.root / "in/deep/a.csv").unlink()
    await box.scan()
    assert box.presence("shop") == {"in/deep/a.csv": "removed", "in/b.csv": "present"}
    assert box.presence("too") == {"in/deep/a.csv": "removed"}
    events = looked_up(box.ledger_file, "SELECT count(*) FROM outbox WHERE topic LIKE '%removed%'")
    await box.scan()
    assert looked_up(box.ledger_file, "SELECT count(*) FROM outbox WHERE topic LIKE '%removed%'") == events


async def test_a_removed_file_that_comes_again_is_taken_in_again(box):
    box.write("in/a.csv")
    await box.look()
    (box.root / "in/a.csv").unlink()
    await box.scan()
    box.write("in/a.csv", "id\n2\n")
    await box.scan()
    assert looked_up(box.ledger_file, "SELECT presence FROM files ORDER BY file_id") == [("removed",), ("present",)]


async def test_files_below_a_folder_that_cannot_be_read_are_not_gone(box, monkeypatch):
    box.write("in/deep/a.csv")
    box.write("in/b.csv")
    await box.look()
    (box.root / "in/deep/a.csv").unlink()
    (box.root / "in/b.csv").unlink()
    scandir = os.scandir

    def refusing(path):
        if os.fsencode(path).endswith(b"/deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    # The superuser may read everything, so permissions prove nothing here.
    monkeypatch.setattr(os, "scandir", refusing)
    await box.scan()
    assert box.presence() == {"in/deep/a.csv": "present", "in/b.csv": "removed"}
    monkeypatch.undo()
    await box.scan()
    assert box.presence()["in/deep/a.csv"] == "removed"


async def test_files_that_a_scan_does_not_reach_are_not_gone(box):
    box.write("in/deep/a.csv")
    await box.look()
    await box.intake.set_jobs([job(arrival=FileArrival("in", recursive=False))])
    await box.look()
    assert box.presence() == {"in/deep/a.csv": "present"}


async def test_a_file_that_is_back_when_it_is_asked_for_by_name_is_not_gone(box, monkeypatch):
    box.write("in/a.csv")
    await box.look()
    monkeypatch.setattr(landing, "scan", lambda *_, **__: iter(()))
    await box.scan()
    assert box.presence() == {"in/a.csv": "present"}


async def test_a_root_that_is_missing_is_unavailable_and_nothing_is_gone(box):
    box.write("in/a.csv")
    await box.look()
    (box.root / "in").rename(box.root / "away")
    await box.scan()
    seen = box.report()
    assert (seen["available"], seen["unavailable_because"], seen["trouble"]) == (False, "missing", ["missing"])
    assert box.presence() == {"in/a.csv": "present"}
    (box.root / "away").rename(box.root / "in")
    await box.scan()
    assert box.report()["available"]
    assert box.versions() == (1, 0)


async def test_a_file_that_was_waited_for_is_not_forgotten_while_its_root_is_away(box):
    with (box.root / "in/a.csv").open("w") as file:
        file.write("id\n")
        file.flush()
        await box.look()
        assert box.intake.waiting() == 1
        (box.root / "in").rename(box.root / "away")
        await box.scan()
        assert looked_up(box.ledger_file, "SELECT state FROM files") == [("waiting",)]
    (box.root / "away").rename(box.root / "in")
    await box.scan()
    assert box.presence() == {"in/a.csv": "present"}


async def test_a_missing_directory_is_made_unless_files_are_known_to_lie_in_it(box):
    box.write("in/a.csv")
    await box.look()
    for name in ("in", "other"):
        (box.root / name).rename(box.root / f"{name}-away")
    await make_missing(box.ledger, box.root, watched_directories([SHOP, OTHER]))
    assert [(box.root / name).is_dir() for name in ("in", "other")] == [False, True]
    box.root.rename(box.root.with_name("elsewhere"))
    await make_missing(box.ledger, box.root, watched_directories([SHOP, OTHER]))
    assert not box.root.exists()


# --- mounts -----------------------------------------------------------------------------------------------


class Mounting:
    """Mounts that are taken down again, also those that a failed test leaves."""

    def __init__(self, folder):
        self.folder = folder
        self.points = []

    def __call__(self, *how):
        made = subprocess.run(["mount", *map(str, how)], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"not permitted here: mount {' '.join(map(str, how))}: {made.stderr.strip()}")
        self.points.append(how[-1])

    def share(self):
        """A file system of its own, to be mounted where a test wants it."""
        path = self.folder / "share"
        path.mkdir()
        self("-t", "tmpfs", "landingd-test", path)
        return path

    def off(self, point):
        subprocess.run(["umount", point], check=True, capture_output=True)
        self.points.remove(point)


@pytest.fixture
def mount(tmp_path):
    mount = Mounting(tmp_path)
    yield mount
    for point in reversed(mount.points):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


RETRACTING = job(arrival=FileArrival("in", pattern="*.csv", on_delete=OnDelete.RETRACT))


@pytest.fixture
async def shared(box, mount):
    """A box whose root `in` is a share with one file, which was taken in."""
    await box.start(RETRACTING)
    box.share, box.mount = mount.share(), mount
    mount("--bind", box.share, box.root / "in")
    box.write("in/a.csv")
    # The kernel dates the files, so the clock has to agree with it: the scan comes after the file.
    box.clock.now_s = (box.share / "a.csv").stat().st_ctime + 0.001
    await box.scan()
    assert box.presence() == {"in/a.csv": "present"}
    box.clock.pass_s(1)
    return box


async def test_a_share_that_is_not_mounted_is_unavailable_and_its_files_are_not_deleted(shared):
    shared.mount.off(shared.root / "in")
    await shared.scan()
    why = shared.report()["unavailable_because"]
    assert why.startswith("was on tmpfs landingd-test ")
    assert ", is now on " in why
    assert shared.presence() == {"in/a.csv": "present"}
    assert looked_up(shared.ledger_file, "SELECT count(*) FROM files WHERE wanted = 'retract'") == [(0,)]

    shared.mount("--bind", shared.share, shared.root / "in")
    await shared.scan()
    assert shared.report()["available"]
    assert shared.versions() == (1, 0)


async def test_a_process_that_starts_without_the_share_knows_that_it_is_missing(shared):
    shared.mount.off(shared.root / "in")
    await shared.start(RETRACTING)
    await shared.scan()
    assert not shared.report()["available"]
    assert shared.presence() == {"in/a.csv": "present"}


async def test_a_file_that_is_deleted_while_the_share_is_away_is_gone_when_it_is_back(shared):
    shared.mount.off(shared.root / "in")
    await shared.scan()
    (shared.share / "a.csv").unlink()
    shared.mount("--bind", shared.share, shared.root / "in")
    await shared.scan()
    assert shared.presence() == {"in/a.csv": "removed"}


async def test_a_stray_file_in_the_empty_mount_point_is_taken_and_retracts_nothing(shared):
    shared.mount.off(shared.root / "in")
    await shared.scan()
    shared.write("in/stray.csv", "id\n9\n")
    for _ in range(3):
        await shared.scan()
        assert shared.presence() == {"in/a.csv": "present", "in/stray.csv": "present"}
    assert shared.report()["available"]
    assert "none of the known files" in shared.report()["trouble"][0]
    # A process that starts now must not take the stray for a file that was always there.
    await shared.start(RETRACTING)
    await shared.scan()
    assert shared.presence()["in/a.csv"] == "present"


async def test_the_same_files_on_another_mount_are_accepted_from_then_on(shared, tmp_path):
    shared.mount.off(shared.root / "in")
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy2(shared.share / "a.csv", moved)
    shared.mount("--bind", moved, shared.root / "in")
    await shared.scan()
    assert shared.report()["trouble"] == []
    (shared.root / "in/a.csv").unlink()
    await shared.scan()
    assert shared.presence() == {"in/a.csv": "removed"}


async def test_a_share_below_a_root_is_out_of_sight_and_the_rest_of_the_root_is_not(box, mount):
    await box.start(RETRACTING)
    share = mount.share()
    (box.root / "in/deep").mkdir()
    mount("--bind", share, box.root / "in/deep")
    for name in ("in/deep/a.csv", "in/b.csv", "in/c.csv"):
        box.write(name)
    await box.scan()
    mount.off(box.root / "in/deep")
    (box.root / "in/b.csv").unlink()
    await box.scan()
    assert box.presence() == {"in/deep/a.csv": "present", "in/b.csv": "removed", "in/c.csv": "present"}
    seen = box.report()
    assert seen["available"]
    assert seen["trouble"][0].startswith("in/deep: was on tmpfs landingd-test")
    mount("--bind", share, box.root / "in/deep")
    await box.scan()
    assert box.report()["trouble"] == []
    assert box.versions()[0] == 3


async def test_a_root_that_is_mounted_again_is_heard_again(box, mount):
    tmpfs = ("-t", "tmpfs", "landingd-test", box.root / "in")
    mount(*tmpfs)
    box.listen("in")
    await box.roots.check()
    for _ in range(2):
        assert (box.report()["mode"], box.report()["filesystem"]) == ("inotify", "tmpfs")
        mount.off(box.root / "in")
        await box.roots.check()
        mount(*tmpfs)
        await box.roots.check()
        # The watch went with the file system that it was on.
        assert box.roots.roots[0].probe_heard is None
        box.clock.pass_s(roots_module.PROBE_AFTER_MOUNT_S)
        await box.roots.check()
        assert box.roots.roots[0].probe_heard


async def test_an_overlay_is_polled_though_our_own_files_are_heard(box, mount):
    share = mount.share()
    for layer in ("lower", "upper", "work"):
        (share / layer).mkdir()
    layers = ",".join(f"{name}dir={share / name}" for name in ("lower", "upper", "work"))
    mount("-t", "overlay", "overlay", "-o", layers, box.root / "in")
    box.listen("in")
    await box.roots.check()
    assert box.roots.roots[0].probe_heard
    assert (box.report()["mode"], box.report()["filesystem"]) == ("poll", "overlay")
    await box.look()
    (share / "upper/a.csv").write_text("id\n1\n")
    box.clock.pass_s(box.report()["latency_seconds"])
    await box.look()
    assert box.presence() == {"in/a.csv": "present"}
