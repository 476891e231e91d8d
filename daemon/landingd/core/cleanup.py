"""Decide what becomes of a file after loading: when it may leave its directory, where to, and for how long it is kept.

A file may be of several jobs, and it can leave only once. So nobody's wish counts before everybody is done with it,
and of several wishes the one that keeps more wins. Whatever is not certain keeps the file where it is: a cleanup that
comes late costs space, one that comes early costs data.

An archived file's name has to say where it came from, when it was loaded and which version it is, since the archive
is read by people long after the ledger is gone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landingd.core import backoff
from landingd.model import Backoff, Cleanup, FileState, utc

BACKOFF = Backoff(initial_s=1.0, factor=2.0, max_s=600.0, jitter=0.0)
NAME_BYTES_MAX = 255
"""What file systems allow a name."""
NAMES_MAX = 9
"""Names that are tried for one version before its archiving counts as failed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the trigger by which a job wants a path says of files after loading."""

    cleanup: Cleanup
    after_s: float = 0.0
    tasks: frozenset[str] = frozenset()
    """The job's ingest tasks of today that take the name."""


@dataclass(frozen=True, slots=True)
class Version:
    """The version that lies at a path, as one job knows it."""

    job: str
    content_hash: str | None
    state: FileState
    since_s: float | None
    """When it was loaded, or found to be a duplicate."""
    busy: bool = False
    """A run has to do with it or is about to, or a cleanup was begun, or the one that it is a duplicate of is not
    loaded: its bytes may still be needed."""
    lacking: frozenset[str] = frozenset()
    """Ingest tasks that were to take it and do not hold it."""
    retry_at_s: float = 0.0
    """Not before this: a cleanup has failed."""


def due(versions: Sequence[Version], wishes: Mapping[str, Wish], now_s: float) -> Cleanup:
    """What to do now with the file at a path, given what every job knows of it and every job that wants it wishes.

    KEEP: nothing, for now or for ever.
    """
    of = {version.job: version for version in versions}
    wanted = {wish.cleanup for wish in wishes.values()}
    if not wishes or Cleanup.KEEP in wanted or not wishes.keys() <= of.keys():
        return Cleanup.KEEP
    if len({version.content_hash for version in versions}) != 1 or not all(map(_is_done, versions)):
        return Cleanup.KEEP
    for job, wish in wishes.items():
        version = of[job]
        if version.lacking & wish.tasks or version.since_s is None or now_s < version.since_s + wish.after_s:
            return Cleanup.KEEP
    if now_s < max(version.retry_at_s for version in versions):
        return Cleanup.KEEP
    return Cleanup.ARCHIVE if Cleanup.ARCHIVE in wanted else Cleanup.DELETE


def _is_done(version: Version) -> bool:
    return version.state in {FileState.LOADED, FileState.DUPLICATE} and not version.busy


@dataclass(frozen=True, slots=True)
class Kept:
    """An archived copy, as one job has to do with it."""

    cleaned_s: float
    retention_s: float | None
    """0: for ever; None: no trigger of the job says anything (any more), which means the same."""
    busy: bool = False
    """A run has to do with it or is about to."""


def is_over(copies: Sequence[Kept], now_s: float) -> bool:
    """Whether nobody keeps an archived copy any longer."""
    return bool(copies) and all(
        copy.retention_s and not copy.busy and now_s >= copy.cleaned_s + copy.retention_s for copy in copies
    )


def retry_at_s(failures: int, now_s: float) -> float:
    """When to try again after so many failures in a row: 1 s, 2 s, 4 s ... 10 min."""
    return now_s + backoff.pause_s(BACKOFF, failures)


# --- names --------------------------------------------------------------------------------------------------

_SUFFIXES = re.compile(rb"(?:\.[A-Za-z0-9_]{1,16})?(?:\.(?:gz|zst|zip|bz2|xz|lz4))?\Z", re.IGNORECASE)


def archive_name(job: str, path: bytes, *, loaded_s: float, file_id: int, content_hash: str) -> bytes:
    """Where a version lies below the archive root: its job, its path, when it was loaded, which version it is."""
    folder, slash, name = path.rpartition(b"/")
    tag = f".{_compact(loaded_s)}.v{file_id}-{content_hash[:8]}".encode()
    return b"%b/%b%b%b" % (job.encode(), folder, slash, _tagged(name, tag))


def other_names(first: bytes) -> tuple[bytes, ...]:
    """The names to be tried for a version, in this order: the first one is the ledger's, for the case that it is
    taken by something else there are more.
    """
    folder, slash, name = first.rpartition(b"/")
    return (first, *(folder + slash + _tagged(name, b"-%d" % n) for n in range(2, NAMES_MAX + 1)))


def _tagged(name: bytes, tag: bytes) -> bytes:
    """The tag goes between stem and suffix, so that what opens by suffix still does; the stem gives way to it."""
    found = _SUFFIXES.search(name)
    suffix = found[0] if found and found.start() > 0 else b""
    stem = name[: len(name) - len(suffix)]
    return _cut(stem, NAME_BYTES_MAX - len(tag) - len(suffix)) + tag + suffix


def _cut(stem: bytes, size: int) -> bytes:
    """The first bytes of a stem; no character is cut in two where it is text."""
    try:
        stem.decode()
    except UnicodeDecodeError:
        return stem[:size]
    return stem[:size].decode(errors="ignore").encode()


def _compact(time_s: float) -> str:
    """20261121T041530Z: sorts, and is allowed in names everywhere."""
    text = utc(time_s) or ""
    return text[:19].replace("-", "").replace(":", "") + "Z"
