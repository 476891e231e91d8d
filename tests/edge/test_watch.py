"""What real inotify events become.

Nothing here sleeps: what did not arrive is proven by a file that lands afterwards and does.
"""
# ruff: noqa: PTH104 -- a name that is not UTF-8 is bytes, and pathlib takes none

import ctypes
import errno
import logging
import os
import queue
import shutil
import threading
import warnings
from itertools import count
from pathlib import Path

import pytest
from watchdog.events import FileClosedEvent
from watchdog.observers import Observer, inotify, inotify_c

from landingd.edge import landing, watch
from landingd.edge.watch import Blind, Watch, asking
from landingd.model import Hint

TIMEOUT_S = 30


class Watched:
    """A Watch whose callbacks fill one queue, in the order in which they are made."""

    def __init__(self, *roots: Path, recursive: bool = False) -> None:
        self.queue: queue.Queue[tuple[bytes, object]] = queue.Queue()
        self.watch = Watch(self.took, self.took)
        for root in roots:
            self.watch.add(root, recursive)
        self.watch.start()
        self._sentinels = count()

    def took(self, path: bytes, what: object) -> None:
        self.queue.put((path, what))

    def next(self) -> tuple[bytes, object]:
        return self.queue.get(timeout=TIMEOUT_S)

    def until(self, wanted: tuple[bytes, object]) -> list[tuple[bytes, object]]:
        seen = []
        while wanted not in seen:
            seen.append(self.next())
        return seen

    def all_so_far(self, root: Path) -> list[tuple[bytes, object]]:
        """Everything reported before a file that lands now."""
        sentinel = root / f"sentinel-{next(self._sentinels)}"
        sentinel.touch()
        return self.until((os.fsencode(sentinel), Hint.CLOSED))[:-1]

    def emitter(self):
        return next(iter(self.watch._observer.emitters))


@pytest.fixture
def watched():
    started: list[Watched] = []

    def start(*roots: Path, recursive: bool = False) -> Watched:
        started.append(Watched(*roots, recursive=recursive))
        return started[-1]

    yield start
    for each in started:
        each.watch.stop()


@pytest.fixture
def landing_dir(tmp_path) -> Path:
    (tmp_path / "landing").mkdir()
    return tmp_path / "landing"


def b(path: Path) -> bytes:
    return os.fsencode(path)


# --- files ------------------------------------------------------------------------------------------------


def test_a_file_written_in_place_is_closed_once(landing_dir, watched):
    seen = watched(landing_dir)
    with (landing_dir / "a.csv").open("w") as file:
        for line in ("a,b\n", "1,2\n", "3,4\n"):
            file.write(line)
            file.flush()
    assert seen.all_so_far(landing_dir) == [(b(landing_dir / "a.csv"), Hint.CLOSED)]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_file_that_is_held_open_is_told_of_once_by_a_check(landing_dir, watched, recursive):
    seen = watched(landing_dir, recursive=recursive)
    with (landing_dir / "a.csv").open("w"):
        assert seen.all_so_far(landing_dir) == []
        for _ in range(2):
            assert seen.watch.check() == []
        assert seen.next() == (b(landing_dir / "a.csv"), Hint.CREATED)
        assert seen.queue.empty()
    assert seen.all_so_far(landing_dir) == [(b(landing_dir / "a.csv"), Hint.CLOSED)]


def test_a_file_that_is_closed_needs_no_word_of_its_creation(landing_dir, watched):
    seen = watched(landing_dir)
    (landing_dir / "a.csv").touch()
    assert seen.next() == (b(landing_dir / "a.csv"), Hint.CLOSED)
    assert seen.watch.check() == []
    assert seen.queue.empty()


def test_a_hard_link_which_nobody_closes_is_told_of(landing_dir, tmp_path, watched):
    (tmp_path / "a.csv").write_text("x")
    seen = watched(landing_dir)
    (landing_dir / "a.csv").hardlink_to(tmp_path / "a.csv")
    assert seen.all_so_far(landing_dir) == []
    seen.watch.check()
    assert seen.next() == (b(landing_dir / "a.csv"), Hint.CREATED)


def test_a_root_that_is_to_be_watched_again_is_watched_by_the_next_check(landing_dir, watched):
    seen = watched(landing_dir)
    before = seen.emitter()
    seen.watch.watch_again(landing_dir)
    assert seen.watch.check() == []
    assert seen.next() == (b(landing_dir), "watched from now on")
    assert seen.emitter() is not before
    (landing_dir / "a.csv").touch()
    assert seen.next() == (b(landing_dir / "a.csv"), Hint.CLOSED)


def test_a_file_moved_in_from_outside_is_moved(landing_dir, tmp_path, watched):
    seen = watched(landing_dir)
    for content in ("first", "second, over the first"):
        (tmp_path / "a.csv").write_text(content)
        (tmp_path / "a.csv").rename(landing_dir / "a.csv")
        assert seen.next() == (b(landing_dir / "a.csv"), Hint.MOVED)


def test_a_file_renamed_within_is_closed_and_then_moved(landing_dir, watched):
    seen = watched(landing_dir)
    (landing_dir / "a.part").write_text("x")
    (landing_dir / "a.part").rename(landing_dir / "a.csv")
    assert seen.all_so_far(landing_dir) == [
        (b(landing_dir / "a.part"), Hint.CLOSED),
        (b(landing_dir / "a.csv"), Hint.MOVED),
    ]


@pytest.mark.parametrize("recursive", [False, True])
def test_our_own_looking_raises_nothing(landing_dir, watched, recursive):
    (landing_dir / "sub").mkdir()
    path = b(landing_dir / "a.csv")
    Path(os.fsdecode(path)).write_text("a\n1\n")
    seen = watched(landing_dir, recursive=recursive)
    landing.fingerprint(path)
    landing.lease(path)
    assert len(list(landing.scan(landing_dir, recursive=True, unreadable=[]))) == 1
    assert seen.all_so_far(landing_dir) == []


def test_a_file_archived_out_of_the_directory_holds_nothing_back(landing_dir, tmp_path, watched):
    (landing_dir / "old.csv").write_text("x")
    seen = watched(landing_dir)
    (landing_dir / "old.csv").rename(tmp_path / "old.csv")
    (landing_dir / "new.csv").write_text("y")
    # What would hold the second event back for half a second is the first: IN_MOVED_FROM, unpaired.
    assert seen.all_so_far(landing_dir) == [(b(landing_dir / "new.csv"), Hint.CLOSED)]
    group = seen.emitter()._inotify
    assert not group.event_mask & inotify_c.InotifyConstants.IN_MOVED_FROM


@pytest.mark.parametrize("name", [b"caf\xe9.csv", b"two\nlines.csv", b"back\\slash.csv", b" .csv "])
def test_any_name_arrives_as_it_is(landing_dir, watched, name):
    seen = watched(landing_dir)
    path = b(landing_dir) + b"/" + name
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    assert seen.next() == (path, Hint.CLOSED)
    os.rename(path, path + b"2")
    assert seen.next() == (path + b"2", Hint.MOVED)


# --- directories ------------------------------------------------------------------------------------------


def test_a_new_directory_is_to_be_scanned_and_is_watched_from_then_on(landing_dir, watched):
    seen = watched(landing_dir, recursive=True)
    (landing_dir / "2019" / "10").mkdir(parents=True)
    seen.until((b(landing_dir / "2019"), "new directory"))
    (landing_dir / "2019" / "10" / "a.csv").write_text("x")
    # Either way it is found: by its event, or by the scan that is asked for once the directory is watched.
    found = [
        (b(landing_dir / "2019" / "10" / "a.csv"), Hint.CLOSED),
        (b(landing_dir / "2019/10"), "new directory"),
    ]
    while seen.next() not in found:
        pass


def test_no_file_is_missed_in_directories_that_come_fast(landing_dir, watched):
    seen = watched(landing_dir, recursive=True)
    expected = set()
    for number in range(50):
        deep = landing_dir / str(number) / "x" / "y"
        deep.mkdir(parents=True)
        (deep / "a.csv").write_text("x")
        expected.add(b(deep / "a.csv"))
    found: set[bytes] = set()
    while found != expected:
        path, what = seen.next()
        if what is Hint.CLOSED:
            found.add(path)
        else:
            below = landing.scan(Path(os.fsdecode(path)), recursive=True, unreadable=[])
            found.update(path + b"/" + name for name, _ in below)


def test_a_directory_moved_in_or_renamed_is_to_be_scanned(landing_dir, tmp_path, watched):
    (tmp_path / "outside").mkdir()
    seen = watched(landing_dir, recursive=True)
    (tmp_path / "outside").rename(landing_dir / "in")
    seen.until((b(landing_dir / "in"), "new directory"))
    (landing_dir / "in").rename(landing_dir / "renamed")
    seen.until((b(landing_dir / "renamed"), "new directory"))
    (landing_dir / "renamed" / "a.csv").write_text("x")
    seen.until((b(landing_dir / "renamed" / "a.csv"), Hint.CLOSED))
    assert seen.watch.alive


def test_without_recursive_subdirectories_raise_nothing(landing_dir, tmp_path, watched):
    (tmp_path / "outside").mkdir()
    seen = watched(landing_dir)
    (landing_dir / "sub").mkdir()
    (landing_dir / "sub" / "a.csv").write_text("x")
    (tmp_path / "outside").rename(landing_dir / "in")
    assert seen.all_so_far(landing_dir) == []


def test_a_root_within_a_root_takes_nothing_from_the_outer_one(landing_dir, watched):
    (landing_dir / "inner").mkdir()
    seen = watched(landing_dir, recursive=True)
    seen.watch.add(landing_dir / "inner", recursive=False)
    (landing_dir / "inner" / "sub").mkdir()
    assert seen.next() == (b(landing_dir / "inner" / "sub"), "new directory")


def test_one_directory_named_twice_is_watched_once(landing_dir, watched, monkeypatch):
    monkeypatch.chdir(landing_dir.parent)
    seen = watched(landing_dir, Path(f"{landing_dir}/"), Path("landing"), landing_dir / ".." / "landing")
    (landing_dir / "a.csv").touch()
    assert seen.all_so_far(landing_dir) == [(b(landing_dir / "a.csv"), Hint.CLOSED)]


def test_a_directory_asked_for_again_with_what_is_below_it_is_watched_that_deep(landing_dir, watched):
    (landing_dir / "sub").mkdir()
    seen = watched(landing_dir)
    seen.watch.add(landing_dir, recursive=True)
    seen.watch.add(landing_dir, recursive=False)
    (landing_dir / "sub" / "a.csv").touch()
    assert seen.next() == (b(landing_dir / "sub" / "a.csv"), Hint.CLOSED)


def test_a_link_to_a_directory_is_watched_and_keeps_its_name(landing_dir, tmp_path, watched):
    (tmp_path / "link").symlink_to(landing_dir)
    seen = watched(tmp_path / "link")
    (landing_dir / "a.csv").touch()
    assert seen.next() == (b(tmp_path / "link" / "a.csv"), Hint.CLOSED)


def test_a_directory_with_two_names_is_reported_under_both(landing_dir, tmp_path, watched):
    (tmp_path / "link").symlink_to(landing_dir)
    seen = watched(landing_dir, tmp_path / "link")
    (landing_dir / "a.csv").touch()
    assert {seen.next(), seen.next()} == {
        (b(landing_dir / "a.csv"), Hint.CLOSED),
        (b(tmp_path / "link" / "a.csv"), Hint.CLOSED),
    }


# --- roots that come and go -------------------------------------------------------------------------------


def gone(seen: Watched) -> None:
    """The kernel has said that the root is not there any more."""
    seen.emitter().join(TIMEOUT_S)
    assert not seen.emitter().is_alive()


def deleted(root: Path) -> None:
    shutil.rmtree(root)


def renamed_away(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


@pytest.mark.parametrize("goes", [deleted, renamed_away])
@pytest.mark.parametrize("recursive", [False, True])
def test_a_root_that_went_away_and_came_back_is_watched_again_and_to_be_scanned(landing_dir, watched, goes, recursive):
    seen = watched(landing_dir, recursive=recursive)
    goes(landing_dir)
    gone(seen)
    assert seen.watch.check() == [Blind(b(landing_dir), "missing, or not a directory")]
    assert seen.queue.empty()

    landing_dir.mkdir()
    assert seen.watch.check() == []
    assert seen.next() == (b(landing_dir), "watched from now on")
    (landing_dir / "a.csv").touch()
    assert seen.next() == (b(landing_dir / "a.csv"), Hint.CLOSED)


def test_a_root_replaced_between_two_checks_is_noticed(landing_dir, watched):
    seen = watched(landing_dir)
    renamed_away(landing_dir)
    landing_dir.mkdir()
    gone(seen)
    assert seen.watch.check() == []
    assert seen.next() == (b(landing_dir), "watched from now on")


def test_a_root_whose_parent_was_replaced_is_noticed_although_no_event_says_so(tmp_path, watched):
    root = tmp_path / "share" / "landing"
    root.mkdir(parents=True)
    seen = watched(root)
    (tmp_path / "share").rename(tmp_path / "old")
    root.mkdir(parents=True)
    assert seen.watch.check() == []
    assert seen.next() == (b(root), "watched from now on")
    (tmp_path / "old" / "landing" / "not-ours.csv").touch()
    (root / "a.csv").touch()
    assert seen.next() == (b(root / "a.csv"), Hint.CLOSED)


def test_a_link_that_leads_elsewhere_now_is_followed(tmp_path, watched):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to("one")
    seen = watched(link)
    link.unlink()
    link.symlink_to("two")
    seen.watch.check()
    assert seen.next() == (b(link), "watched from now on")
    (tmp_path / "two" / "a.csv").touch()
    assert seen.next() == (b(link / "a.csv"), Hint.CLOSED)


def test_a_root_that_was_missing_at_the_start_is_watched_once_it_exists(landing_dir, tmp_path, watched):
    seen = watched(tmp_path / "late", landing_dir)
    assert seen.watch.check() == [Blind(b(tmp_path / "late"), "missing, or not a directory")]
    (tmp_path / "late").mkdir()
    assert seen.watch.check() == []
    assert seen.next() == (b(tmp_path / "late"), "watched from now on")


def test_a_check_of_what_is_well_does_nothing(landing_dir, watched):
    seen = watched(landing_dir, recursive=True)
    before = seen.emitter()
    assert seen.watch.check() == seen.watch.check() == []
    assert seen.emitter() is before
    assert seen.queue.empty()


def test_a_root_that_cannot_be_read_is_reported(landing_dir, watched, monkeypatch):
    seen = watched(landing_dir)
    # The superuser may read everything, so permissions prove nothing here.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert seen.watch.check() == [Blind(b(landing_dir), "not readable")]
    monkeypatch.undo()
    assert seen.watch.check() == []


# --- limits -----------------------------------------------------------------------------------------------


def test_an_overflow_asks_for_a_scan_and_events_go_on(landing_dir, watched):
    seen = watched(landing_dir, recursive=True)
    reader = seen.watch._observer._inotify_fd
    overflow = inotify_c.InotifyEvent(-1, inotify_c.InotifyConstants.IN_Q_OVERFLOW, 0, b"")
    reader.handle_event(overflow)
    assert seen.next() == (b(landing_dir), "more events than the kernel's queue holds")
    (landing_dir / "a.csv").touch()
    seen.until((b(landing_dir / "a.csv"), Hint.CLOSED))
    assert seen.watch.check() == []


def test_a_burst_of_files_arrives_whole(landing_dir, watched):
    seen = watched(landing_dir)
    paths = [b(landing_dir) + b"/%d" % number for number in range(3000)]
    for path in paths:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    assert [seen.next() for _ in paths] == [(path, Hint.CLOSED) for path in paths]


def test_a_directory_beyond_the_limit_of_watches_is_reported_until_it_fits(landing_dir, watched, monkeypatch):
    sub = landing_dir / "sub"
    sub.mkdir()

    def add_watch(fd, path, mask, real=inotify_c.inotify_add_watch):
        if path == b(sub):
            ctypes.set_errno(errno.ENOSPC)
            return -1
        return real(fd, path, mask)

    monkeypatch.setattr(inotify_c, "inotify_add_watch", add_watch)
    seen = watched(landing_dir, recursive=True)
    why = "not watched (fs.inotify.max_user_watches?)"
    assert seen.watch.check() == [Blind(b(sub), why)]
    assert seen.queue.empty()

    monkeypatch.undo()
    assert seen.watch.check() == []
    assert seen.next() == (b(sub), "watched from now on")
    (sub / "a.csv").touch()
    assert seen.next() == (b(sub / "a.csv"), Hint.CLOSED)


def test_a_subdirectory_that_becomes_readable_is_watched(landing_dir, watched, monkeypatch):
    sub = landing_dir / "sub"
    sub.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _mode: path != b(sub))
    seen = watched(landing_dir, recursive=True)
    assert seen.watch.check() == [Blind(b(sub), "not readable")]
    assert seen.queue.empty()
    monkeypatch.undo()
    assert seen.watch.check() == []
    assert seen.next() == (b(sub), "watched from now on")


def test_without_an_inotify_instance_it_says_so_and_tries_again(landing_dir, watched, monkeypatch):
    def refused():
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(watch, "_new_observer", refused)
    seen = watched(landing_dir)
    assert seen.watch.check() == [
        Blind(b(landing_dir), "no inotify instance is to be had (fs.inotify.max_user_instances)")
    ]
    assert seen.watch.alive
    monkeypatch.undo()
    assert seen.watch.check() == []
    assert seen.next() == (b(landing_dir), "watched from now on")


# --- threads ----------------------------------------------------------------------------------------------


def test_a_callback_that_fails_ends_nothing_and_its_hint_is_made_good_by_a_scan(landing_dir, watched):
    seen = watched(landing_dir)
    failed = threading.Event()

    def fails_once(path: bytes, hint: object) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("Event loop is closed")
        seen.took(path, hint)

    for handlers in seen.watch._observer._handlers.values():
        for handler in handlers:
            handler._on_hint = fails_once
    (landing_dir / "a.csv").touch()
    (landing_dir / "b.csv").touch()
    assert seen.next() == (b(landing_dir / "b.csv"), Hint.CLOSED)
    assert seen.watch.alive
    assert seen.watch.check() == []
    assert seen.next() == (b(landing_dir), "a hint was lost: RuntimeError('Event loop is closed')")
    seen.watch.check()
    assert seen.queue.empty()


def test_a_reader_that_died_is_not_alive(landing_dir, watched, monkeypatch):
    seen = watched(landing_dir)
    assert seen.watch.alive
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    reader = seen.watch._observer._inotify_fd
    monkeypatch.setattr(reader, "handle_event", None)
    (landing_dir / "a.csv").touch()
    reader.join(TIMEOUT_S)
    assert not seen.watch.alive


def test_an_emitter_that_died_is_replaced(landing_dir, watched, monkeypatch):
    seen = watched(landing_dir)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(seen.emitter(), "build_and_queue_event", None)
    (landing_dir / "a.csv").touch()
    seen.emitter().join(TIMEOUT_S)
    assert not seen.watch.alive
    assert seen.watch.check() == []
    assert seen.watch.alive
    assert seen.next() == (b(landing_dir), "watched from now on")


def test_stopping_leaves_no_thread_and_no_noise(landing_dir, watched, caplog):
    before = set(threading.enumerate())
    with caplog.at_level(logging.ERROR):
        seen = watched(landing_dir, recursive=True)
        (landing_dir / "a.csv").touch()
        seen.watch.stop()
    assert set(threading.enumerate()) <= before
    assert caplog.records == []
    assert seen.watch.check() == []
    assert set(threading.enumerate()) <= before


def test_the_error_that_watchdog_logs_on_stopping_is_dropped_and_others_are_not(landing_dir, watched, caplog):
    watched(landing_dir)
    log = logging.getLogger("watchdog.observers.inotify")
    log.error("InotifyEmitter.queue_events() called when the thread is inactive")
    log.error("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_the_warning_with_all_watches_in_it_is_dropped(landing_dir, watched):
    watched(landing_dir)
    warnings.warn_explicit("a table", RuntimeWarning, "inotify.py", 1, module="watchdog.observers.inotify")
    with pytest.raises(RuntimeWarning, match="another"):
        warnings.warn_explicit("another", RuntimeWarning, "own.py", 1, module="landingd.own")


# --- watchdog's private names -----------------------------------------------------------------------------


def test_the_names_that_watchdog_does_not_promise_are_still_there(landing_dir, watched):
    """If this fails, watchdog has changed: read edge/watch.py beside its new observers/inotify.py."""
    assert watch.slim_observer is not None
    seen = watched(landing_dir, recursive=True)
    observer, emitter = seen.watch._observer, seen.emitter()
    assert isinstance(emitter, asking._Emitter)  # _emitter_class is read
    assert isinstance(observer._inotify_fd, inotify_c.InotifyFD)
    assert isinstance(emitter._inotify, asking._Group)
    assert b(landing_dir) in emitter._inotify._active_callbacks_by_path
    for cls, overridden in [
        (inotify.InotifyFullEmitter, ["on_thread_start", "build_and_queue_event"]),
        (
            inotify.InotifyWatchGroup,
            ["on_queue_overflow", "_add_callback", "_add_all_callbacks", "is_active"],
        ),
    ]:
        assert all(hasattr(cls, name) for name in overridden)


def test_the_mask_asks_for_what_can_complete_a_file_and_nothing_else(landing_dir, watched):
    names = {
        "IN_CREATE",
        "IN_CLOSE_WRITE",
        "IN_MOVED_TO",
        "IN_DELETE_SELF",
        "IN_MOVE_SELF",
        "IN_MASK_ADD",
        "IN_DONT_FOLLOW",
    }
    for recursive in (False, True):
        mask = watched(landing_dir, recursive=recursive).emitter()._inotify.event_mask
        asked = {name for name, value in inotify_c.INOTIFY_ALL_CONSTANTS.items() if mask & value}
        # Two flags of inotify_init share their values with others.
        assert asked - {"IN_CLOEXEC", "IN_NONBLOCK"} == names


def test_without_those_names_the_plain_observer_hints_and_checks_ask_for_scans(
    landing_dir, tmp_path, watched, monkeypatch
):
    monkeypatch.setattr(watch, "slim_observer", None)
    seen = watched(landing_dir, recursive=True)
    assert type(seen.watch._observer) is Observer
    assert FileClosedEvent in seen.emitter()._event_filter
    (landing_dir / "a.csv").write_text("x")
    assert seen.until((b(landing_dir / "a.csv"), Hint.CLOSED))[0] == (b(landing_dir / "a.csv"), Hint.SCAN)
    (tmp_path / "b.csv").write_text("x")
    (tmp_path / "b.csv").rename(landing_dir / "b.csv")
    assert seen.next() == (b(landing_dir / "b.csv"), Hint.SCAN)
    (landing_dir / "b.csv").rename(landing_dir / "c.csv")
    assert seen.next() == (b(landing_dir / "c.csv"), Hint.MOVED)
    (landing_dir / "sub").mkdir()
    assert seen.next() == (b(landing_dir / "sub"), "new directory")
    assert seen.watch.alive
    assert seen.watch.check() == []
    assert seen.next() == (b(landing_dir), "watchdog's plain observer does not say when it loses events")
