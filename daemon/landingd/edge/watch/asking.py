"""What watchdog is asked for, below what it promises: the names used here it may change.

Little is asked for: a close after writing and a rename into place are all that can complete a file. IN_MOVED_FROM
would make watchdog hold every later event back for half a second whenever a file is moved out; opens and reads would
report ourselves. A creation shows a file that is held open, or a hard link, which nobody closes; most are followed by
a close at once and would cost a burst of files dear, so they are not sent on but kept, until asked for or closed.
"""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import DirCreatedEvent, FileClosedEvent, FileMovedEvent, FileSystemEvent

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

BEGUN_MAX = 100_000
"""Creations kept; a scan finds what is beyond."""


def unreadable(path: Path | bytes) -> str | None:
    # inotify would take the watch without an error and never raise an event.
    return None if os.access(path, os.R_OK | os.X_OK) else UNREADABLE


UNREADABLE = "not readable"
UNWATCHED = "not watched (fs.inotify.max_user_watches?)"
WATCHED_NOW = "watched from now on"


class Overflowed(FileSystemEvent):
    """The kernel's queue was full and events were lost; `src_path` is the root."""

    event_type = "overflowed"
    is_directory = True


def quieten() -> None:
    """Two noises of watchdog's that mean nothing here.

    The warning prints the table of all watches whenever a directory is found twice, which each `mkdir -p` can
    bring about; the error is logged when a thread is stopped while it reads.
    """
    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.observers\.inotify")
    logging.getLogger("watchdog.observers.inotify").addFilter(_says_more_than_stopped)


def _says_more_than_stopped(record: logging.LogRecord) -> bool:
    return "called when the thread is inactive" not in record.getMessage()


slim_observer: "Callable[[], BaseObserver] | None"
try:
    from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver, InotifyWatchGroup
    from watchdog.observers.inotify_c import InotifyConstants as In
    from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, Mask, WatchDescriptor
    from watchdog.observers.inotify_move_event_grouper import PathedInotifyEvent
except ImportError:
    slim_observer = None
else:
    if TYPE_CHECKING:
        from watchdog.observers.inotify_move_event_grouper import GroupedInotifyEvent

    # IN_MASK_ADD: where one root lies within another, the two share the kernel's watch of a directory, and
    # without it the later one's mask would replace the earlier one's.
    _MASK = In.IN_CREATE | In.IN_CLOSE_WRITE | In.IN_MOVED_TO | In.IN_DELETE_SELF | In.IN_MOVE_SELF | In.IN_MASK_ADD

    class _Group(InotifyWatchGroup):
        """The kernel's watches of one root and what is below it."""

        def __init__(self, fd: InotifyFD, path: bytes, *, recursive: bool, on_overflow: Callable[[], None]) -> None:
            self._unwatched: set[bytes] = set()  # before the base class, which begins to watch at once
            self._on_overflow = on_overflow
            self._begun: dict[tuple[WatchDescriptor, bytes], None] = {}
            super().__init__(fd, path, is_recursive=recursive, event_mask=Mask(_MASK))

        def on_queue_overflow(self) -> None:
            super().on_queue_overflow()
            self._on_overflow()

        def on_event(self, event: InotifyEvent) -> None:
            if event.is_create and not event.is_directory:
                if len(self._begun) < BEGUN_MAX:
                    self._begun[event.wd, event.name] = None
                return
            if event.is_close_write:
                self._begun.pop((event.wd, event.name), None)
            super().on_event(event)

        def take_begun(self) -> list[bytes]:
            """Files that were created and not closed since, each told of once."""
            begun, self._begun = self._begun, {}
            with self._lock:
                folders = self._active_callbacks_by_watch
                return [os.path.join(folders[wd], name) for wd, name in tuple(begun) if wd in folders]

        def _add_callback(self, path: bytes) -> None:
            # The base class keeps silent about a directory that it cannot watch.
            if unreadable(path) is None:
                super()._add_callback(path)
            if path in self._active_callbacks_by_path:
                self._unwatched.discard(path)
            else:
                self._unwatched.add(path)

        def watch_unwatched(self) -> dict[bytes, str]:
            """Try again what could not be watched, and say how each of them stands."""
            with self._lock:
                if not self._unwatched or not self.is_active:
                    return {}
                before = sorted(filter(os.path.isdir, self._unwatched))
                self._unwatched.clear()
                for path in before:
                    self._add_all_callbacks(path)
                now_watched = dict.fromkeys((path for path in before if path not in self._unwatched), WATCHED_NOW)
                return now_watched | {path: unreadable(path) or UNWATCHED for path in self._unwatched}

    class _Emitter(InotifyFullEmitter):
        """One event of watchdog's for each of the kernel's that matters, and none for the rest."""

        def on_thread_start(self) -> None:
            self._group = self._inotify = _Group(
                self._inotify_fd,
                os.fsencode(self.watch.path),
                recursive=self.watch.is_recursive,
                on_overflow=lambda: self.queue_event(Overflowed(self.watch.path)),
            )

        def build_and_queue_event(self, event: "GroupedInotifyEvent", *, full_events: bool = True) -> None:  # noqa: ARG002
            seen = event if isinstance(event, PathedInotifyEvent) else event[1]
            path = os.fsdecode(seen.path)
            if seen.ev.is_delete_self or seen.ev.is_move_self or seen.ev.mask & In.IN_UNMOUNT:
                if path == self.watch.path:
                    self.stop()  # this path means another directory from now on, or none: `check` sees to it
            elif seen.ev.is_directory:
                if self.watch.is_recursive:
                    self.queue_event(DirCreatedEvent(path))
            elif seen.ev.is_moved_to:
                self.queue_event(FileMovedEvent("", path))
            elif seen.ev.is_close_write:
                self.queue_event(FileClosedEvent(path))

        def take_begun(self) -> list[bytes]:
            return self._group.take_begun()

        def watch_unwatched(self) -> dict[bytes, str]:
            return self._group.watch_unwatched()

    class _Observer(InotifyObserver):
        def __init__(self) -> None:
            super().__init__(generate_full_events=True)
            self._emitter_class = _Emitter

    slim_observer = _Observer
