"""Find the file that breaks an attempt: split the batch until the culprit stands alone.

A file may crash the reader, eat all memory or never end, and what is known afterwards is only which files were in the
attempt. So half of them is put off to an attempt of its own, and again, until an attempt with a single file breaks:
that file is the culprit, the others are loaded. An outside hand (kill -9, a power cut) looks the same as a file that
kills the process, so a lone file gets more than one chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from landingd.model import Failed, Interrupted, Outcome, TimedOut

DEATHS_MAX = 3
"""A file in whose lone attempts the process died this often is what kills it."""


@dataclass(frozen=True, slots=True)
class Split:
    """These files are tried later, after the others."""

    later: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """This file was alone. After `chances` such attempts it is quarantined; None: never."""

    file_id: int
    chances: int | None
    reason: str


def suspicion(outcome: Outcome, file_ids: Sequence[int], *, max_retries: int) -> Split | Suspect | None:
    """What an attempt to load these files says about them; None: nothing."""
    match outcome:
        case Interrupted(crashed=True):
            what, chances = "the process died while it was loaded", max(DEATHS_MAX, max_retries + 1)
        case TimedOut(after_s=after_s):
            what, chances = f"loading it did not end within {after_s:g} s (timeout_seconds)", max_retries + 1
        case Failed(isolate=True, error=error):
            what, chances = error, max_retries + 1
        case _:
            return None
    if not file_ids:
        return None
    if len(file_ids) > 1:
        return Split(tuple(file_ids[(len(file_ids) + 1) // 2 :]), f"{what}: its files are tried in two parts now")
    return Suspect(file_ids[0], chances if chances > 0 else None, what)
