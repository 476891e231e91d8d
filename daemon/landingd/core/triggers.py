"""Turn what happened into requests for runs, each with a key that the ledger accepts once.

Every trigger reduces to a key: what arrived, which second, which request. Catch-up, repeats and restarts are then a
unique constraint and not code.
"""

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from landingd.core import settle
from landingd.model import FileArrival, Ingest, Job


class Arrived(Enum):
    """What a complete file is, next to the newest version of its path that is known."""

    NEW = "new"
    CHANGED = "changed"
    DUPLICATE = "duplicate"


def classify(content_hash: str, newest_hash: str | None, *, quarantined: bool = False) -> Arrived:
    """A version is a path and the hash of its content.

    `quarantined`: the newest version could not be loaded; delivered again it gets another chance.
    """
    if newest_hash is None:
        return Arrived.NEW
    return Arrived.DUPLICATE if content_hash == newest_hash and not quarantined else Arrived.CHANGED


@dataclass(frozen=True, slots=True)
class Matched:
    """A job that wants a path, by which of its triggers."""

    job: str
    trigger: FileArrival


def matching(path: bytes, jobs: Sequence[Job]) -> tuple[list[Matched], str]:
    """The jobs that want this path (relative to the landing root), and if none does, why not."""
    found: list[Matched] = []
    reason = "no job watches this directory"
    for job in jobs:
        for trigger in job.triggers:
            below = _below(path, trigger.path)
            if below is None:
                continue
            ignored = settle.ignored_reason(
                below, pattern=trigger.pattern, exclude=trigger.exclude, recursive=trigger.recursive
            ) or _nobody_takes(path, job)
            if ignored is None:
                found.append(Matched(job.name, trigger))
                break
            reason = ignored
    return found, reason


def takes(ingest: Ingest, path: bytes) -> bool:
    """Whether an ingest task takes a file of this name."""
    name = path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
    return fnmatch.fnmatchcase(name, ingest.pattern)


def _nobody_takes(path: bytes, job: Job) -> str | None:
    ingests = [task.ingest for task in job.tasks if task.ingest is not None]
    return (
        None
        if not ingests or any(takes(i, path) for i in ingests)
        else f"no ingest task of job '{job.name}' takes this name"
    )


def _below(path: bytes, directory: str) -> bytes | None:
    clean = directory.strip("/")
    if clean in {"", "."}:
        return path
    prefix = clean.encode("utf-8", "surrogateescape") + b"/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def files_key(file_ids: Sequence[int]) -> str:
    """The key of a run for these file versions."""
    return "files:" + hashlib.sha256(",".join(map(str, sorted(file_ids))).encode()).hexdigest()[:32]


def request_key(request_id: str) -> str:
    """The key of a run that somebody asked for."""
    return f"request:{request_id}"


def next_batch_at_s(job: Job, last_run_s: float | None) -> float:
    """When the job's next file run may start: the cool-down of `min_time_between_triggers_seconds`."""
    pause_s = max((t.min_time_between_triggers_s for t in job.triggers), default=0.0)
    return 0.0 if last_run_s is None or pause_s == 0 else last_run_s + pause_s


def batch_limit(job: Job) -> int:
    """How many files one run takes."""
    return min((t.max_files_per_trigger for t in job.triggers), default=1000)
