"""A producer that writes in place never says that it is done, so something has to stand in for its word.

What can: a marker or a manifest beside it, which is the producer's word after all; a rename into place, since
whoever renames has finished; a moment in which no process has the file open for writing; and, where the file
system can show none of these, silence for a while. Temporary names are the producer saying "not yet".

A close that leaves nobody writing proves one open, and only the producer knows whether it was the last one. Where
producers were seen to open a file again (`is_reopened`), silence is asked for as well. Until one was seen to, a
version may be taken that is whole as far as anybody can tell; the next one replaces it.

Times are seconds on one clock of the caller's that does not jump.
"""

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import assert_never

from landingd.model import Hint, Lease, Signature

TEMPORARY_SUFFIXES = (b".tmp", b".part", b".filepart", b".partial", b".crdownload")

HELD_LOOK_MIN_S = 0.25
HELD_LOOK_MAX_S = 5.0

ON_AN_EVENT = math.inf
"""When to look again at what only another file can complete: an event and every scan do that anyway."""

REOPENED_WITHIN_S = 5.0
"""A file that grows this soon after it was complete shows how its producer works; later it is a correction."""
REOPENED_QUIET_RATIO = 2.5
"""Silence asked for, by the longest gap seen between two opens."""


@dataclass(frozen=True, slots=True)
class Word:
    """What the producer says of a file, by another file beside it."""

    evidence: str
    is_final: bool = True
    """It says that the file is whole; otherwise only that it is one to be taken, and the usual proof is asked for."""
    algorithm: str = ""
    checksum: str = ""
    """What the file's bytes have to come to, lower-case hex; empty: it does not say."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a file: all that the decision rests on."""

    hint: Hint
    lease: Lease
    signature: Signature
    unchanged_since_s: float
    """When this signature was seen first."""
    words: tuple[Word, ...] = ()
    """The producer's, where the triggers that want the file ask for it."""
    is_vouched: bool = False
    """Every trigger that wants the file has a final word on it."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The file has arrived; `evidence` says what proves it."""

    evidence: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The file may still grow. Look again at `until_s`, or earlier if an event says so."""

    reason: str
    until_s: float


def decide(
    look: Look, *, now_s: float, wait_s: float, quiet_floor_s: float, reopened_quiet_s: float = 0.0
) -> Complete | Wait:
    """Whether it has arrived.

    `wait_s` is the silence that the trigger asks for in any case, `quiet_floor_s` the one that stands in for
    proof, `reopened_quiet_s` the one that producers of this directory were seen to need.
    """
    idle_s = max(0.0, now_s - look.unchanged_since_s)
    if look.lease is Lease.HELD:
        # Its close raises an event, so this look is only for a close whose event was lost: the longer nothing
        # changes, the less often.
        again_s = min(max(idle_s / 2, HELD_LOOK_MIN_S), HELD_LOOK_MAX_S)
        return Wait(str(Lease.HELD), now_s + again_s)
    owed_s, why = _silence_owed(look, wait_s=wait_s, quiet_floor_s=quiet_floor_s, reopened_quiet_s=reopened_quiet_s)
    # The sum and not the difference is compared, so that a look at exactly `until_s` is never rounded into
    # one more wait.
    until_s = look.unchanged_since_s + owed_s
    if now_s < until_s:
        return Wait(f"changed {idle_s:.1f} s ago, to be quiet for {owed_s:g} s{why}", until_s)
    quiet = f"unchanged for {idle_s:.1f} s{why}" if owed_s > 0 else ""
    return Complete(_evidence(look, quiet))


def _silence_owed(look: Look, *, wait_s: float, quiet_floor_s: float, reopened_quiet_s: float) -> tuple[float, str]:
    """How long nothing may have changed, and why where it is not for the trigger's sake."""
    if look.is_vouched or look.hint is Hint.MOVED:
        return wait_s, ""
    # An empty file that nobody holds may be a name just created, its writer about to open it again.
    proven = look.lease is Lease.FREE and look.signature.size > 0
    owed_s = wait_s if proven else max(wait_s, quiet_floor_s)
    if reopened_quiet_s > owed_s:
        return reopened_quiet_s, ", since files here were opened again after they were closed"
    return owed_s, ""


def _evidence(look: Look, quiet: str) -> str:
    said = dict.fromkeys(word.evidence for word in look.words)
    blind = look.lease is Lease.UNKNOWN and (look.is_vouched or look.hint is not Hint.MOVED)
    if look.is_vouched:
        proof = [" and ".join(said) + ("" if blind else f", and {Lease.FREE}")]
    else:
        proof = [*said] if blind else [*said, _proof(look.hint)]
    parts = (*proof, quiet, "writers cannot be seen here" if blind else "")
    return "; ".join(part for part in parts if part)


def _proof(hint: Hint) -> str:
    match hint:
        case Hint.MOVED:
            return "moved into place"
        case Hint.CLOSED:
            return f"closed, and {Lease.FREE}"
        case Hint.CREATED:
            return f"created, and {Lease.FREE}"
        case Hint.SCAN:
            return f"found by a scan, and {Lease.FREE}"
        case _:
            assert_never(hint)


def standing_hint(hint: Hint, before: Hint | None) -> Hint:
    """What counts of an unchanged file: the newest event about it, not that it was looked at again since."""
    return before if before is not None and hint in (Hint.SCAN, Hint.CREATED) else hint


def unfit(reason: str, *, changed_s: float, incomplete_after_s: float, now_s: float) -> Wait | None:
    """A file that is closed, and yet not whole by what is in it: wait for the rest; None: it was waited for."""
    until_s = changed_s + incomplete_after_s
    return Wait(reason, until_s) if now_s < until_s else None


def last_change_s(signature: Signature, unchanged_since_s: float) -> float:
    """When the content or the name last changed, told alike by every process that looks.

    A change time that lies ahead of our first sight of it is some other machine's clock.
    """
    return min(signature.ctime_ns / 1e9, unchanged_since_s)


# --- producers that open a file several times ---------------------------------------------------------------


def is_reopened(old: Signature, new: Signature, *, gap_s: float) -> bool:
    """Whether a version that was complete may have grown by being opened again, rather than been corrected.

    It was, if it also begins with the old bytes.
    """
    same_file = (old.inode, old.device) == (new.inode, new.device)
    return same_file and new.size > old.size > 0 and gap_s <= REOPENED_WITHIN_S


def learned_quiet_s(gap_s: float) -> float:
    """The silence to ask for where this was the longest gap between two opens; in tenths, for people."""
    return math.ceil(REOPENED_QUIET_RATIO * gap_s * 10) / 10


# --- markers ------------------------------------------------------------------------------------------------


def marker_of(template: str, name: bytes) -> bytes:
    """The name of a file's marker: `{name}` in the template stands for the file's own."""
    return template.encode("utf-8", "surrogateescape").replace(b"{name}", name)


def marks(template: str, marker: bytes) -> bytes | None:
    """The name of the one file that a file of this name marks, b"" for every file beside it; None: it is no marker."""
    if "{name}" not in template:
        return b"" if marker == template.encode("utf-8", "surrogateescape") else None
    found = _marker_names(template).fullmatch(marker)
    return None if found is None else found["name"]


@lru_cache(maxsize=256)
def _marker_names(template: str) -> re.Pattern[bytes]:
    first, *others = template.encode("utf-8", "surrogateescape").split(b"{name}")
    again = b"(?P=name)".join(map(re.escape, others))
    return re.compile(re.escape(first) + b"(?P<name>.+)" + again, re.DOTALL)


def word_of_marker(marker: str, stands: Signature | None, file: Signature) -> Word | Wait:
    """What a marker says of a file; `stands`: what stat says of the marker.

    One that is older than the file was written for the version before. By either time, since a copy may keep the
    modification time of its source.
    """
    if stands is None:
        return Wait(f"waiting for its marker {marker}", ON_AN_EVENT)
    if not is_written_after(stands, file):
        return Wait(f"marker {marker} is older than the file", ON_AN_EVENT)
    return Word(f"marker {marker}")


def is_written_after(beside: Signature, file: Signature) -> bool:
    """Whether a marker or manifest may speak of this version, and not of the one before."""
    return beside.mtime_ns >= file.mtime_ns or beside.ctime_ns >= file.ctime_ns


# --- names --------------------------------------------------------------------------------------------------


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
