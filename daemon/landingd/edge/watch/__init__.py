"""The kernel tells what happens in a directory, but not all of it, not for ever, and less if asked for more.

An event here is a hint and carries nothing: a lost one costs time, since a scan finds the file, and never a
file. So whatever this module knows or suspects to have missed becomes a request to scan: a queue that
overflowed, a directory that is new (files may have been closed in it before it was watched), a root that went
away and came back.

What is asked of the kernel takes names that watchdog does not promise to keep (`asking`). Without them its plain
observer serves, which does not say when it loses events, so `check` then asks for scans.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from landingd.edge.watch.asking import (
    WATCHED_NOW,
    Overflowed,
    quieten,
    slim_observer,
    unreadable,
)
from landingd.model import Hint

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, EventEmitter, ObservedWatch


@dataclass(frozen=True, slots=True)
class Blind:
    """A directory whose events do not arrive: only scans see what lands there."""

    directory: bytes
    why: str


class Watch:
    """Watches directories and turns events into hints.

    `on_hint(path, hint)` and `on_scan(directory, why)` get absolute paths. They are called from watchdog's
    threads, `on_scan` from within `check` too, and must not block (`loop.call_soon_threadsafe` does not). The
    methods are to be called by one thread at a time. To miss nothing, start first and scan then.
    """

    def __init__(self, on_hint: Callable[[bytes, Hint], None], on_scan: Callable[[bytes, str], None]) -> None:
        self._on_hint = on_hint
        self._on_scan = on_scan
        self._roots: list[_Root] = []
        self._observer: BaseObserver | None = None
        self._slim = True
        self._running = False

    def add(self, directory: Path, recursive: bool) -> None:  # noqa: FBT001 -- a directory and how deep, said together
        """Watch `directory` too; events call it as it is called here.

        Where two names lead to one directory it is watched once and reported under both.
        """
        name = Path(os.path.abspath(directory))  # noqa: PTH100 -- resolve() would replace the name by its target
        root = next((root for root in self._roots if root.target() == _resolved(name)), None)
        if root is None:
            root = _Root(name, recursive)
            self._roots.append(root)
        root.names.add(os.fsencode(name))
        if recursive and not root.recursive:
            root.recursive = True
            self._disarm(root)
        self._arm(root)

    def start(self) -> None:
        """From here on events arrive. What cannot be watched yet is left to `check`."""
        self._running = True
        self._open()
        for root in self._roots:
            self._arm(root)

    def stop(self) -> None:
        """After this no callback is called from another thread."""
        self._running = False
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
        for root in self._roots:
            root.armed = None

    def watch_again(self, directory: Path) -> None:
        """What is mounted there has changed: `check` sets the watches anew, and asks for a scan. From any thread."""
        for root in self._roots:
            if os.fsencode(directory) in root.names:
                root.is_stale = True

    @property
    def alive(self) -> bool:
        """False: a thread died that should run, and if `check` does not mend it, only a new process does.

        A directory that cannot be watched does not count, nor does a lack of inotify instances: scans go on.
        """
        if self._observer is None:
            return True
        reader = getattr(self._observer, "_inotify_fd", self._observer)
        return all(
            thread.is_alive() or not thread.should_keep_running()
            for thread in (self._observer, reader, *tuple(self._observer.emitters))
        )

    def check(self) -> list[Blind]:
        """Watch again what went away and came back, and say what is not watched.

        Asks for the scans that either calls for. To be called every second or so; it costs a few system calls
        for each root.
        """
        if not self._running:
            return []
        self._open()
        return [blind for root in self._roots for blind in self._checked(root)]

    def _checked(self, root: "_Root") -> "Iterator[Blind]":
        if root.is_stale or (
            root.armed is not None and (root.armed.identity != _identity(root.path) or not self._listens(root))
        ):
            root.is_stale = False
            self._disarm(root)
        if root.armed is None and self._arm(root):
            self._scan(root, WATCHED_NOW)
        elif root.armed is not None and (lost := root.armed.handler.take_failure()):
            self._scan(root, f"a hint was lost: {lost}")
        elif not self._slim:
            self._scan(root, "watchdog's plain observer does not say when it loses events")
        if trouble := root.trouble or unreadable(root.path):
            yield from (Blind(name, trouble) for name in root.names)
        elif root.armed is not None:
            self._tell_begun(root.armed)
            yield from self._checked_below(root.armed)

    def _tell_begun(self, armed: "_Armed") -> None:
        """Files that somebody holds open, or linked: their creation is all that is heard of them for a while."""
        begun: list[bytes] = getattr(self._emitter(armed.watch), "take_begun", list)()
        for path in begun:
            armed.handler.tell(path, Hint.CREATED)

    def _checked_below(self, armed: "_Armed") -> "Iterator[Blind]":
        """Directories below a root that could not be watched: some can by now, the others are named."""
        below: dict[bytes, str] = getattr(self._emitter(armed.watch), "watch_unwatched", dict)()
        for directory, why in below.items():
            for name in armed.handler.named(directory):
                if why == WATCHED_NOW:
                    self._on_scan(name, why)
                else:
                    yield Blind(name, why)

    def _scan(self, root: "_Root", why: str) -> None:
        for name in root.names:
            self._on_scan(name, why)

    def _open(self) -> None:
        if self._observer is None:
            quieten()
            # OSError: the user's limit of inotify instances. Each `check` tries again.
            with suppress(OSError):
                observer, self._slim = _new_observer()
                observer.start()
                self._observer = observer

    def _arm(self, root: "_Root") -> bool:
        """True: it is watched now and was not before."""
        if root.armed is not None:
            return False
        if self._observer is None:
            root.trouble = "no inotify instance is to be had (fs.inotify.max_user_instances)"
            return False
        # The identity is taken before the watch: if another directory takes the name in between, the next
        # check sees a difference, and not the other way round.
        identity, target = _identity(root.path), root.target()
        root.trouble = "missing, or not a directory" if identity is None else unreadable(root.path)
        if identity is None or root.trouble is not None:
            return False
        handler = _Handler(self._on_hint, self._on_scan, target=target, names=root.names)
        try:
            watch = self._observer.schedule(
                handler,
                os.fsdecode(target),
                recursive=root.recursive,
                event_filter=None if self._slim else _PLAIN_EVENTS,
            )
        except OSError as error:
            root.trouble = error.strerror or repr(error)
            return False
        root.armed = _Armed(watch, identity, handler)
        return True

    def _disarm(self, root: "_Root") -> None:
        if root.armed is not None and self._observer is not None:
            self._observer.unschedule(root.armed.watch)
        root.armed = None

    def _listens(self, root: "_Root") -> bool:
        emitter = None if root.armed is None else self._emitter(root.armed.watch)
        return emitter is not None and emitter.is_alive()

    def _emitter(self, watch: "ObservedWatch") -> "EventEmitter | None":
        emitters = () if self._observer is None else tuple(self._observer.emitters)
        return next((emitter for emitter in emitters if emitter.watch == watch), None)


@dataclass(eq=False)
class _Root:
    """A directory that is to be watched, under the names that the caller has for it."""

    path: Path
    recursive: bool
    names: set[bytes] = field(default_factory=set)
    armed: "_Armed | None" = None
    trouble: str | None = None
    is_stale: bool = False

    def target(self) -> bytes:
        return _resolved(self.path)


@dataclass(frozen=True)
class _Armed:
    """A root's watch while there is one, and which directory it was set on."""

    watch: "ObservedWatch"
    identity: tuple[int, int]
    handler: "_Handler"


def _resolved(path: Path) -> bytes:
    # A watch on a symbolic link raises no event, and says nothing about it.
    return os.fsencode(os.path.realpath(path))


def _identity(path: Path) -> tuple[int, int] | None:
    """Which directory is at `path` now; None: there is none. A name may come to mean another one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


# --- from watchdog's events to hints ----------------------------------------------------------------------


class _Handler(FileSystemEventHandler):
    """Never raises: an exception here would end watchdog's thread and with it every watch."""

    def __init__(
        self,
        on_hint: Callable[[bytes, Hint], None],
        on_scan: Callable[[bytes, str], None],
        *,
        target: bytes,
        names: set[bytes],
    ) -> None:
        self._on_hint = on_hint
        self._on_scan = on_scan
        self._target = target
        self._names = names
        self._failure: str | None = None

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            self._tell(event)
        except Exception as error:  # noqa: BLE001 -- kept for `check`, which asks for a scan in its place
            self._failure = repr(error)

    def take_failure(self) -> str | None:
        failure, self._failure = self._failure, None
        return failure

    def named(self, path: bytes) -> list[bytes]:
        """`path`, which is below the link's target, as the caller calls it."""
        return [name + path[len(self._target) :] for name in tuple(self._names)]

    def _tell(self, event: FileSystemEvent) -> None:
        path = os.fsencode(event.dest_path or event.src_path)
        match event:
            case FileMovedEvent() if event.dest_path:
                self.tell(path, Hint.MOVED)
            case FileClosedEvent():
                self.tell(path, Hint.CLOSED)
            case FileCreatedEvent():  # from the plain observer only: moved in, or begun
                self.tell(path, Hint.SCAN)
            case DirCreatedEvent() | DirMovedEvent():
                self._scan(path, "new directory")
            case Overflowed():
                self._scan(path, "more events than the kernel's queue holds")

    def tell(self, path: bytes, hint: Hint) -> None:
        for name in self.named(path):
            self._on_hint(name, hint)

    def _scan(self, path: bytes, why: str) -> None:
        for name in self.named(path):
            self._on_scan(name, why)


_PLAIN_EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileMovedEvent,
    FileCreatedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]


def _new_observer() -> "tuple[BaseObserver, bool]":
    """An observer, and whether it is the slim one."""
    if slim_observer is None:
        return Observer(), False
    return slim_observer(), True
