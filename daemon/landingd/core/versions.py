"""What a complete file is, next to what is known of its path.

A version is a path and the hash of its content. The same bytes may come again, other bytes may come under the same
path, and a path may come back after it was withdrawn: each of these is one case here, and the policies of the trigger
(`on_duplicate`, `on_change`) choose between them.
"""

from dataclasses import dataclass
from enum import Enum

from landingd.model import FileAction, FileState, OnChange, OnDuplicate


class Arrived(Enum):
    """For the log and the caller: what a complete file turned out to be."""

    NEW = "new"
    CHANGED = "changed"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest version of a path that has not given way."""

    content_hash: str
    state: FileState
    leaving: bool = False
    """Its rows are to leave the tables."""
    wanted: FileAction | None = None
    """What the next run is to do with it."""
    path_is_loaded: bool = False
    """This or an older version of the path is loaded."""


@dataclass(frozen=True, slots=True)
class Note:
    """The version that stands there already: only its signature is new."""


@dataclass(frozen=True, slots=True)
class Back:
    """It was removed and is back before its rows left: they stay."""


@dataclass(frozen=True, slots=True)
class Enter:
    """A version of its own."""

    what: Arrived
    keeps_older: bool = False
    """Older versions of the path stay loaded beside it."""
    rejected: bool = False
    """It must not be loaded: the path is loaded with other bytes, and `on_change: reject`."""


def decide(
    content_hash: str,
    standing: Standing | None,
    *,
    came_again: bool,
    on_duplicate: OnDuplicate = OnDuplicate.SKIP,
    on_change: OnChange = OnChange.REPLACE,
) -> Note | Back | Enter:
    """What to do with a complete file; `came_again`: written or moved in anew, and not merely touched by chmod."""
    if standing is None:
        return Enter(Arrived.NEW)
    if content_hash != standing.content_hash:
        return _other_bytes(standing, on_change)
    if standing.leaving:
        # Once a run has taken the withdrawal up, the file has to enter anew behind it.
        return Back() if standing.wanted is FileAction.RETRACT else Enter(Arrived.NEW)
    if came_again and standing.state in {FileState.QUARANTINED, FileState.RETRACTED}:
        return _other_bytes(standing, on_change)  # delivered again, it gets another chance
    if came_again and standing.state is FileState.LOADED and on_duplicate is OnDuplicate.LOAD:
        return Enter(Arrived.CHANGED, keeps_older=on_change is OnChange.APPEND)
    return Note()


def _other_bytes(standing: Standing, on_change: OnChange) -> Enter:
    if on_change is OnChange.REJECT and standing.path_is_loaded:
        return Enter(Arrived.REJECTED, rejected=True)
    return Enter(Arrived.CHANGED, keeps_older=on_change is OnChange.APPEND)
