"""Turn what happened into requests for runs, each with a key that the ledger accepts once.

Every trigger reduces to a key: what arrived, which second, which request. Catch-up, repeats and restarts are then a
unique constraint and not code.
"""

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from landingd.core import settle
from landingd.model import FileArrival, Ingest, Job


@dataclass(frozen=True, slots=True)
class Matched:
    """A job that wants a path, by which of its triggers."""

    job: str
    trigger: FileArrival
    taken_by: tuple[str, ...] = ()
    """Keys of the ingest tasks that take a file of this name."""


def matching(path: bytes, jobs: Sequence[Job]) -> tuple[list[Matched], str]:
    """The jobs that want this path (relative to the landing root), and if none does, why not."""
    found: list[Matched] = []
    reason = "no job watches this directory"
    for job in jobs:
        for trigger in job.file_arrivals:
            below = _below(path, trigger.path)
            if below is None:
                continue
            ignored = (
                _speaks_of_others(path, job)
                or settle.ignored_reason(
                    below, pattern=trigger.pattern, exclude=trigger.exclude, recursive=trigger.recursive
                )
                or _nobody_takes(path, job)
            )
            if ignored is None:
                found.append(Matched(job.name, trigger, taken_by(path, job)))
                break
            reason = ignored
    return found, reason


def takes(ingest: Ingest, path: bytes) -> bool:
    """Whether an ingest task takes a file of this name."""
    name = path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
    return fnmatch.fnmatchcase(name, ingest.pattern)


def taken_by(path: bytes, job: Job) -> tuple[str, ...]:
    """Keys of the job's ingest tasks that take a file of this name."""
    return tuple(task.task_key for task in job.tasks if task.ingest is not None and takes(task.ingest, path))


def _nobody_takes(path: bytes, job: Job) -> str | None:
    ingests = [task.ingest for task in job.tasks if task.ingest is not None]
    return (
        None
        if not ingests or any(takes(i, path) for i in ingests)
        else f"no ingest task of job '{job.name}' takes this name"
    )


def formats_wanted(path: bytes, job: Job) -> frozenset[str]:
    """As what the job's ingest tasks read a file of this name; nothing where it has no ingest task."""
    ingests = (task.ingest for task in job.tasks if task.ingest is not None)
    return frozenset(ingest.format for ingest in ingests if takes(ingest, path))


# --- markers and manifests ----------------------------------------------------------------------------------


def spoken_of(path: bytes, jobs: Sequence[Job]) -> bytes | None:
    """Which file a marker or manifest at this path speaks of, below the landing root; None: it is neither.

    A directory, with its slash, for every file in it; b"" is the landing root itself.
    """
    directory, slash, name = path.rpartition(b"/")
    found: set[bytes] = set()
    for job in jobs:
        for trigger in job.file_arrivals:
            if (trigger.marker is None and trigger.manifest is None) or _below(path, trigger.path) is None:
                continue
            if trigger.marker is not None and (marked := settle.marks(trigger.marker, name)) is not None:
                found.add(marked)
            elif trigger.manifest is not None and _is_like(name, trigger.manifest):
                found.add(b"")
    if not found:
        return None
    return directory + slash + (found.pop() if len(found) == 1 else b"")


def _speaks_of_others(path: bytes, job: Job) -> str | None:
    """Why a file is none of the job's data: whatever trigger calls it a marker or manifest, it is one for all."""
    name = path.rpartition(b"/")[2]
    for trigger in job.file_arrivals:
        if (trigger.marker is None and trigger.manifest is None) or _below(path, trigger.path) is None:
            continue
        if trigger.marker is not None and settle.marks(trigger.marker, name) is not None:
            return "marker file"
        if trigger.manifest is not None and _is_like(name, trigger.manifest):
            return "manifest"
    return None


def _is_like(name: bytes, glob: str) -> bool:
    return fnmatch.fnmatchcase(name.decode("utf-8", "surrogateescape"), glob)


def _below(path: bytes, directory: str) -> bytes | None:
    clean = directory.strip("/")
    if clean in {"", "."}:
        return path
    prefix = clean.encode("utf-8", "surrogateescape") + b"/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def files_key(turns: Sequence[tuple[int, int]]) -> str:
    """The key of a run for these file versions: `(file_id, how often it was given to a run before)`."""
    text = ",".join(f"{file_id}.{turn}" for file_id, turn in sorted(turns))
    return "files:" + hashlib.sha256(text.encode()).hexdigest()[:32]


def request_key(request_id: str) -> str:
    """The key of a run that somebody asked for."""
    return f"request:{request_id}"


def batch_limit(job: Job) -> int:
    """How many files one run takes."""
    return min((t.max_files_per_trigger for t in job.file_arrivals), default=1000)
