"""Watched directories: how each one is listened to, whether it is there, and what it was on when it last was.

Per directory a test file is written now and then, to see whether its event comes; until it is known, the type of the
file system decides. Mounts are compared with those in the ledger, so that a share that is not mounted is not taken for
one that was emptied.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from landingd.core import roots as decide
from landingd.core.roots import Listening, Mode, Standing
from landingd.edge import landing
from landingd.edge.ledger import Ledger, LedgerThread
from landingd.edge.watch import Blind
from landingd.model import path_of, shown, utc

log = structlog.get_logger("landingd.roots")
T = TypeVar("T")

CHECK_EVERY_S = 1.0
PROBE_WAIT_S = 1.0
PROBE_EVERY_S = 600.0
PROBE_AGAIN_S = 30.0
"""After a probe that was not heard: its event may only have been late."""
PROBE_AFTER_MOUNT_S = 3.0
"""By then the watch is set on what was mounted."""
RECORD_EVERY_S = 600.0
SLOW_SCAN_S = 10.0
"""A scan that takes longer is named: the directory is very large, or its server does not answer."""
THREADS_MAX = 8
"""A server that hangs takes the thread that asked it something; the other roots go on."""


@dataclass(frozen=True, slots=True)
class RootOptions:
    """How often directories are listed, and the silence that files owe where writers cannot be seen."""

    scan_interval_s: float
    poll_interval_s: float = 1.0
    quiet_floor_s: float = 0.0


_NOT_YET = Mode(Listening.INOTIFY, "not looked at yet")
_NOT_SEEN = Standing(available=True, certain=False)


@dataclass(slots=True, eq=False)
class Root:
    """A watched directory and how it stands. Changed on the event loop only."""

    directory: bytes
    """Below the landing root; b"": that itself."""
    recursive: bool
    path: Path
    mount: landing.Mount | None = None
    mounts_below: tuple[landing.Mount, ...] = ()
    """What is mounted further down, if that is watched too."""
    mounts_seen: landing.Mounts | None = None
    mode: Mode = _NOT_YET
    standing: Standing = _NOT_SEEN
    trouble: tuple[str, ...] = ()
    """What is not in order with it or with what is mounted below it."""
    probe_heard: bool | None = None
    probe_due_s: float = 0.0
    swept: bool = False
    """Test files that an earlier process may have left are gone."""
    due_at_s: float = 0.0
    scanning: bool = False
    scan_began_s: float = 0.0
    scanned_at_s: float | None = None
    took_s: float = 0.0
    files: int = 0
    unreadable: tuple[bytes, ...] = ()

    @property
    def kind(self) -> str:
        return self.mount.kind if self.mount else ""

    def covers(self, path: bytes) -> bool:
        """Whether a scan of this root lists `path`, if it is there."""
        prefix = self.directory + b"/" if self.directory else b""
        return path.startswith(prefix) and (self.recursive or b"/" not in path[len(prefix) :])


@dataclass(slots=True)
class Recorded:
    """The mount that a directory was on when it was in order, and when that was."""

    mount: str
    seen_s: float
    written_s: float = 0.0


class Roots:
    """The watched directories. Without a ledger what is recorded lasts as long as the process."""

    def __init__(
        self,
        landing_root: Path,
        options: RootOptions,
        *,
        ledger: LedgerThread | None = None,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
        on_remount: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self.landing_root = landing_root
        self.roots: list[Root] = []
        self.recorded: dict[bytes, Recorded] = {}
        self.threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="roots")
        self._closed = False
        self.on_change = on_change
        """Called, on the event loop, when a root is listened to otherwise than before, goes away or comes back."""
        self._on_remount = on_remount
        self._options = options
        self._ledger = ledger
        self._clock = clock
        self._probes: dict[bytes, asyncio.Event] = {}
        self._tests: dict[Root, asyncio.Task[None]] = {}
        self._blind: dict[bytes, str] = {}

    # -- said from outside --

    def set_directories(self, directories: Iterable[tuple[str, bool]]) -> None:
        """What is to be watched from now on; what is watched already keeps what is known of it."""
        before = {(root.directory, root.recursive): root for root in self.roots}
        wanted = [(os.fsencode(directory), recursive) for directory, recursive in directories]
        self.roots = [before.get(one) or self._root(*one) for one in wanted]
        for root in self.roots:
            root.probe_due_s = 0.0

    def heard(self, path: bytes) -> bool:
        """An event came for this path. True: it is a file of ours, and nobody else's business."""
        if not landing.is_ours(path):
            return False
        probe = self._probes.get(path.rpartition(b"/")[2])
        if probe is not None:
            probe.set()
        return True

    def not_watched(self, blind: Sequence[Blind]) -> None:
        """The directories, absolute, that the watch cannot watch."""
        now = {one.directory: one.why for one in blind}
        if now != self._blind:
            self._blind = now
            for root in self.roots:
                self._decide(root)

    async def recall(self) -> None:
        """Read from the ledger which mounts the directories were on."""
        if self._ledger is not None:
            known = await self._ledger.transact(lambda ledger: ledger.recorded_mounts())
            self.recorded = {path_of(name): Recorded(mount, seen_s, seen_s) for name, (mount, seen_s) in known.items()}

    def close(self) -> None:
        """No more work; a thread that hangs is not waited for. `run` ends."""
        self._closed = True
        self.threads.shutdown(wait=False, cancel_futures=True)

    # -- the loop --

    async def run(self) -> None:
        """Look at the mounts every second, and test now and then whether events come, until `close`."""
        try:
            while not self._closed:
                await self.check()
                await asyncio.sleep(CHECK_EVERY_S)
        finally:
            for test in self._tests.values():
                test.cancel()

    async def check(self) -> None:
        """One round: what has changed, and the tests that are due."""
        table = await self._in_thread(landing.mount_table)
        for root in self.roots:
            if root not in self._tests and (root.mounts_seen is not table or self._is_probe_due(root)):
                self._tests[root] = asyncio.create_task(self._test(root, table), name="root-test")
        if self._tests:
            # One whose server hangs must not keep the others from being tested.
            await asyncio.wait(self._tests.values(), timeout=2 * PROBE_WAIT_S)
        for root in [root for root, test in self._tests.items() if test.done()]:
            self._tests.pop(root).result()

    def _is_probe_due(self, root: Root) -> bool:
        return root.standing.available and self._clock() >= root.probe_due_s

    async def _test(self, root: Root, table: landing.Mounts) -> None:
        if root.mounts_seen is not table:
            self._mounted(root, *await self._in_thread(lambda: _mounts_of(root, table)))
            root.mounts_seen = table
        if self._is_probe_due(root):
            await self._probe(root)

    def _mounted(self, root: Root, mount: landing.Mount | None, below: tuple[landing.Mount, ...]) -> None:
        """The table of mounts has changed: this is what the root is on now."""
        if (mount, below) == (root.mount, root.mounts_below):
            return
        is_new = root.mount is None
        root.mount, root.mounts_below, root.probe_heard = mount, below, None
        self._decide(root)
        if not is_new:
            root.due_at_s = 0.0
            root.probe_due_s = self._clock() + PROBE_AFTER_MOUNT_S
            log.info("root_mount_changed", directory=shown(root.directory), mount=str(root.mount))
            self._on_remount(root.path)
        self.on_change()

    async def _probe(self, root: Root) -> None:
        """Write a file, and see whether its event comes."""
        path = landing.probe_path(root.path)
        heard = self._probes[path.rpartition(b"/")[2]] = asyncio.Event()
        try:
            root.probe_heard = await self._is_heard(root, path, heard)
        finally:
            del self._probes[path.rpartition(b"/")[2]]
            self.threads.submit(landing.remove_probe, path)
        root.probe_due_s = self._clock() + (PROBE_AGAIN_S if root.probe_heard is False else PROBE_EVERY_S)
        self._decide(root)

    async def _is_heard(self, root: Root, path: bytes, heard: asyncio.Event) -> bool | None:
        if not root.swept:
            await self._in_thread(lambda: landing.remove_old_probes(root.path))
            root.swept = True
        try:
            await self._in_thread(lambda: landing.leave_probe(path))
        except OSError:
            return None
        try:
            async with asyncio.timeout(PROBE_WAIT_S):
                await heard.wait()
        except TimeoutError:
            return False
        return True

    def _decide(self, root: Root) -> None:
        below = (mount.kind for mount in root.mounts_below)
        worst = next(filter(landing.writers_unseen, below), root.kind)
        mode = decide.decide_mode(
            worst,
            written_elsewhere=landing.writers_unseen(worst),
            probe_heard=root.probe_heard,
            watch_trouble=self._trouble(root),
        )
        if mode == root.mode:
            return
        if mode.listening is not root.mode.listening or root.scanned_at_s is None:
            log.info("root_mode", directory=shown(root.directory), mode=mode.listening.value, why=mode.why)
        root.mode = mode
        root.due_at_s = min(root.due_at_s, self._clock() + self.rest_s(root))
        self.on_change()

    def _trouble(self, root: Root) -> str | None:
        """Why the root, or something below it, is not watched."""
        path = os.fsencode(root.path)
        if path in self._blind:
            return self._blind[path]
        below = sorted(one for one in self._blind if one.startswith(path + b"/")) if root.recursive else []
        return f"{shown(below[0][len(path) + 1 :])}: {self._blind[below[0]]}" if below else None

    # -- asked by the scanner --

    def rest_s(self, root: Root) -> float:
        """How long after a scan of this root the next one is due."""
        return decide.rest_s(
            root.mode,
            took_s=root.took_s,
            poll_interval_s=self._options.poll_interval_s,
            scan_interval_s=self._options.scan_interval_s,
        )

    def stands(self, root: Root, standing: Standing, trouble: tuple[str, ...]) -> None:
        """How a root was found by its scan; said in the log when it changes."""
        if trouble != root.trouble:
            tell = log.warning if trouble else log.info
            name = "root_unavailable" if not standing.available else "root_uncertain" if trouble else "root_available"
            tell(name, directory=shown(root.directory), because=list(trouble))
        changed = (standing, trouble) != (root.standing, root.trouble)
        root.standing, root.trouble = standing, trouble
        if changed:
            self.on_change()

    async def record(self, seen: dict[bytes, str], over: Iterable[bytes], *, now_s: float) -> None:
        """These directories are in order, on these mounts; of those in `over` nothing is to be kept."""
        to_write: list[tuple[str, str]] = []
        for directory, mount in seen.items():
            known = self.recorded.setdefault(directory, Recorded(mount, now_s))
            if known.mount != mount or now_s - known.written_s >= RECORD_EVERY_S:
                to_write.append((shown(directory), mount))
                known.mount, known.written_s = mount, now_s
            known.seen_s = now_s
        to_forget = [shown(directory) for directory in over if self.recorded.pop(directory, None) is not None]

        def write(ledger: Ledger) -> None:
            for directory, mount in to_write:
                ledger.record_mount(directory, mount, seen_s=now_s)
            for directory in to_forget:
                ledger.forget_mount(directory)

        if self._ledger is not None and (to_write or to_forget):
            await self._ledger.transact(write)

    # -- how things stand --

    def report(self) -> list[dict[str, Any]]:
        """Each root, JSON-ready: how it is listened to, what that costs, and whether it is there."""
        return [
            {
                "directory": shown(root.directory) or ".",
                "mode": root.mode.listening.value,
                "why": root.mode.why,
                "filesystem": root.kind,
                "latency_seconds": round(self._latency_s(root), 3),
                "available": root.standing.available,
                "unavailable_because": None if root.standing.available else root.standing.because,
                "trouble": [*root.trouble, *self._slowness(root)],
                "files": root.files,
                "scanned_at": utc(root.scanned_at_s),
                "scan_ms": round(1000 * root.took_s, 1),
            }
            for root in self.roots
        ]

    def _slowness(self, root: Root) -> list[str]:
        since_s = self._clock() - root.scan_began_s
        is_slow = root.scanning and since_s > SLOW_SCAN_S
        return [f"a scan has been under way for {since_s:.0f} s"] if is_slow else []

    def _latency_s(self, root: Root) -> float:
        return decide.latency_s(
            root.mode,
            took_s=root.took_s,
            poll_interval_s=self._options.poll_interval_s,
            scan_interval_s=self._options.scan_interval_s,
            quiet_s=self._options.quiet_floor_s if landing.writers_unseen(root.kind) else 0.0,
        )

    def _root(self, directory: bytes, recursive: bool) -> Root:  # noqa: FBT001 -- a directory and how deep, said together
        return Root(directory, recursive, self.landing_root / os.fsdecode(directory))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._closed:  # the daemon stops, and its runs may take longer to end than intake: nobody waits for a look
            raise asyncio.CancelledError
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)


def _mounts_of(root: Root, table: landing.Mounts) -> tuple[landing.Mount | None, tuple[landing.Mount, ...]]:
    path = os.path.realpath(os.fsencode(root.path))
    return table.of(path), tuple(table.below(path)) if root.recursive else ()


async def make_missing(ledger: LedgerThread, landing_root: Path, directories: Iterable[tuple[str, bool]]) -> None:
    """Create the directories that are missing, but none in which files are known to lie.

    Made anew on the disk below a share that is not mounted, such a directory would look like one that was emptied.
    """
    for directory in ("", *(directory for directory, _ in directories)):
        if await asyncio.to_thread((landing_root / directory).is_dir):
            continue
        if await ledger.transact(partial(Ledger.knows_files_below, directory=os.fsencode(directory))):
            log.warning("root_not_created", directory=directory or ".", why="missing, and files are known to lie in it")
            if not directory:
                return
        elif directory:
            await asyncio.to_thread(landing.make_directory, landing_root, directory)
        else:
            await asyncio.to_thread(lambda: landing_root.mkdir(parents=True, exist_ok=True))
