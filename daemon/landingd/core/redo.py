"""Rows are to be taken out, or files loaded anew: which versions are meant, and for which of them that cannot be.

The same choice is shown by a dry run and carried out by a real one, so the two cannot drift apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from landingd.model import FileAction, FileState, Presence


class Verb(StrEnum):
    """What is asked for."""

    UNLOAD = "unload"
    """Take the rows out of every table; the file stays where it is and is not loaded again by itself."""
    REPLAY = "replay"
    """Load anew: the rows that tables hold leave as the new ones enter."""
    REQUEUE = "requeue"
    """Load anew what was quarantined, or had rows rejected or quarantined, after the cause is mended."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was made."""

    verb: Verb
    files: tuple[str, ...] = ()
    job: str | None = None
    since: str | None = None
    failed: bool = False
    dry_run: bool = False
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version as far as it matters here."""

    file_id: int
    job: str
    path: bytes
    name: str
    state: FileState
    presence: Presence
    reason: str = ""
    is_complete: bool = True
    duplicate_of: int | None = None
    rows_rejected: int = 0
    seen_s: float = 0.0
    loaded_s: float | None = None
    twin: int | None = None
    """A version of another path with its bytes, for the same tasks, that is loaded or about to be."""
    is_left: bool = False
    """The run that had it has failed, and no other one is to do anything with it."""
    is_segment: bool = False
    """It is a stretch of a file that grows, and stands beside the others of its path."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One version with what is to become of it, or why nothing is."""

    version: Version
    action: FileAction | None
    refused: str | None = None


def choose_named(verb: Verb, versions: Sequence[Version]) -> tuple[list[Choice], int]:
    """Of all versions of one path, by job, those that are meant when the file is named; how many are left out.

    Where some of a job's can be done, those that cannot are left out; else the newest says why not.
    """
    chosen: list[Choice] = []
    left_out = 0
    for job in dict.fromkeys(v.job for v in versions):
        meant = [choose(verb, v) for v in _named(verb, [v for v in versions if v.job == job])]
        possible = [choice for choice in meant if choice.refused is None] or meant[-1:]
        chosen += possible
        left_out += len(meant) - len(possible)
    return chosen, left_out


def _named(verb: Verb, versions: Sequence[Version]) -> Sequence[Version]:
    """Of a job's versions of one path those that its name means: the newest, but of a file that grows every stretch."""
    loaded = [v for v in versions if v.state is FileState.LOADED]
    if verb is Verb.UNLOAD and loaded:
        return loaded
    standing = [v for v in versions if v.is_complete and v.state is not FileState.REPLACED] or versions
    segments = [v for v in standing if v.is_segment]
    if verb is Verb.REQUEUE:
        segments = [v for v in segments if is_flawed(v)]
    return segments if segments and standing[-1].is_segment else standing[-1:]


def choose(verb: Verb, version: Version) -> Choice:
    """What is to become of one version."""
    refused = _not_out(version) if verb is Verb.UNLOAD else _not_again(verb, version)
    if refused is not None:
        return Choice(version, None, refused)
    if verb is Verb.UNLOAD:
        return Choice(version, FileAction.RETRACT)
    return Choice(version, FileAction.LOAD if version.state is FileState.WAITING else FileAction.RELOAD)


def choose_all(
    verb: Verb, versions: Iterable[Version], *, since_s: float | None = None, failed: bool = False
) -> tuple[list[Choice], int]:
    """Of all versions those that are meant when none is named; and how many are left out as that cannot be."""
    meant = [
        choose(verb, v)
        for v in versions
        if (since_s is None or max(v.seen_s, v.loaded_s or 0.0) >= since_s)
        and (not failed or has_failed(v))
        and (verb is not Verb.REQUEUE or is_flawed(v))
    ]
    possible = [choice for choice in meant if choice.refused is None]
    return possible, len(meant) - len(possible)


def has_failed(version: Version) -> bool:
    """Quarantined, or still waiting after its run has failed."""
    return version.state is FileState.QUARANTINED or (version.state is FileState.WAITING and version.is_left)


def is_flawed(version: Version) -> bool:
    """Quarantined, or loaded without some of its rows."""
    return version.state is FileState.QUARANTINED or (version.state is FileState.LOADED and version.rows_rejected > 0)


def would_be_double(choice: Choice) -> bool:
    """Whether rows that another file has brought would enter once more."""
    again = choice.action in {FileAction.LOAD, FileAction.RELOAD}
    return again and choice.version.state is not FileState.LOADED and choice.version.twin is not None


def refuse(choice: Choice, why: str) -> Choice:
    """The same, refused."""
    return replace(choice, action=None, refused=why)


def _not_out(version: Version) -> str | None:
    if version.state is FileState.LOADED:
        return None
    if version.state is FileState.DUPLICATE:
        return f"it is a duplicate of file {version.duplicate_of}: its rows are that one's"
    return f"it is not loaded: {_stands(version)}"


def _not_again(verb: Verb, version: Version) -> str | None:
    if not version.is_complete:
        return f"it is not complete: {version.reason}"
    if version.state is FileState.REPLACED:
        return f"version {version.file_id} was replaced; only the newest can be loaded anew"
    if version.state is FileState.DUPLICATE:
        return f"it is a duplicate of file {version.duplicate_of}: name that one"
    if version.presence not in {Presence.PRESENT, Presence.ARCHIVED}:
        return f"its bytes are not kept, the file was {version.presence.value}"
    if verb is Verb.REQUEUE and not is_flawed(version):
        return f"none of its rows was rejected or quarantined: it is {_stands(version)}; replay loads it anew"
    return None


def _stands(version: Version) -> str:
    return f"{version.state.value} ({version.reason})" if version.reason else version.state.value
