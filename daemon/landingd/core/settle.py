"""A producer that writes in place never says that it is done, so something has to stand in for its word.

What can: a rename into place, since whoever renames has finished; a moment in which no process has the file
open for writing; and, where the file system can show neither, silence for a while. A close alone is no proof:
a producer that opens, appends and closes twice is halfway after the first. Temporary names are the producer
saying "not yet".

Times are seconds on one clock of the caller's that does not jump.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import assert_never

from landingd.model import Hint, Lease, Signature

TEMPORARY_SUFFIXES = (b".tmp", b".part", b".filepart", b".partial", b".crdownload")

HELD_LOOK_MIN_S = 0.25
HELD_LOOK_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a file: all that the decision rests on."""

    hint: Hint
    lease: Lease
    signature: Signature
    unchanged_since_s: float
    """When this signature was seen first."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The file has arrived; `evidence` says what proves it."""

    evidence: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The file may still grow. Look again at `until_s`, or earlier if an event says so."""

    reason: str
    until_s: float


def decide(look: Look, *, now_s: float, wait_s: float, quiet_floor_s: float) -> Complete | Wait:
    """Whether it has arrived.

    `wait_s` is the silence that the trigger asks for in any case, `quiet_floor_s` the one that stands in for
    proof.
    """
    idle_s = max(0.0, now_s - look.unchanged_since_s)
    if look.lease is Lease.HELD:
        # Its close raises an event, so this look is only for a close whose event was lost: the longer nothing
        # changes, the less often.
        again_s = min(max(idle_s / 2, HELD_LOOK_MIN_S), HELD_LOOK_MAX_S)
        return Wait(str(Lease.HELD), now_s + again_s)
    owed_s = _silence_owed_s(look, wait_s=wait_s, quiet_floor_s=quiet_floor_s)
    # The sum and not the difference is compared, so that a look at exactly `until_s` is never rounded into
    # one more wait.
    until_s = look.unchanged_since_s + owed_s
    if now_s < until_s:
        return Wait(f"changed {idle_s:.1f} s ago, to be quiet for {owed_s:g} s", until_s)
    return Complete(_evidence(look, idle_s=idle_s, waited=owed_s > 0))


def _silence_owed_s(look: Look, *, wait_s: float, quiet_floor_s: float) -> float:
    if look.hint is Hint.MOVED:
        return wait_s
    # An empty file that nobody holds may be a name just created, its writer about to open it again.
    proven = look.lease is Lease.FREE and look.signature.size > 0
    return wait_s if proven else max(wait_s, quiet_floor_s)


def _evidence(look: Look, *, idle_s: float, waited: bool) -> str:
    quiet = f"unchanged for {idle_s:.1f} s"
    if look.lease is Lease.UNKNOWN and look.hint is not Hint.MOVED:
        return f"{quiet}; writers cannot be seen here"
    proof = _proof(look.hint)
    return f"{proof}; {quiet}" if waited else proof


def _proof(hint: Hint) -> str:
    match hint:
        case Hint.MOVED:
            return "moved into place"
        case Hint.CLOSED:
            return f"closed, and {Lease.FREE}"
        case Hint.SCAN:
            return f"found by a scan, and {Lease.FREE}"
        case _:
            assert_never(hint)


def temporary_name(name: bytes) -> bool:
    """A name that producers use until they are done (rsync, sftp clients, browsers, editors)."""
    return name.startswith((b".", b"~")) or name.endswith(b"~") or name.lower().endswith(TEMPORARY_SUFFIXES)


def ignored_reason(path: bytes, *, pattern: str, exclude: tuple[str, ...], recursive: bool) -> str | None:
    """Why a trigger never looks at the file at `path`, relative to the trigger's directory; None: it does.

    Patterns are case-sensitive globs on the file's name. A name need not be text; bytes that are none match
    `*` and `?`.
    """
    *folders, name = path.split(b"/")
    text = name.decode("utf-8", "surrogateescape")
    if folders and not recursive:
        return "in a subdirectory and recursive is off"
    if temporary_name(name):
        return "temporary name"
    if any(folder.startswith(b".") for folder in folders):
        return "in a hidden directory"  # rsync --delay-updates fills `.~tmp~/` with final names
    if not fnmatchcase(text, pattern):
        return "matches no pattern"
    excluding = next((glob for glob in exclude if fnmatchcase(text, glob)), None)
    return None if excluding is None else f"excluded by '{excluding}'"
