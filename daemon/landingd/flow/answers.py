"""Answers that are read from the ledger, the jobs and the disk, alike for the daemon and for who asks without one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landingd.core import graph, queueing, triggers
from landingd.edge import landing
from landingd.edge.ledger import views
from landingd.errors import NotFoundError, RefusedError
from landingd.flow.catalog import Catalog
from landingd.flow.scanning import watched_directories
from landingd.model import (
    Condition,
    FileArrival,
    FileState,
    ForEach,
    Job,
    Notebook,
    PythonCall,
    RunJob,
    Script,
    Signature,
    Task,
    path_of,
    shown,
)

VERSIONS_MAX = 50
"""Versions of a path that are told: of a file that grows there are a great many."""


def run_or_refuse(db: views.Connection, run_id: int) -> dict[str, Any]:
    """One run; NotFoundError where there is none."""
    found = views.run(db, run_id)
    if found is None:
        raise NotFoundError(f"there is no run {run_id}", hint="`landingd runs` lists them")
    return found | {"timings": views.timings(db, run_id)}


def checked_state(state: str | None) -> str | None:
    """A state that files can be in; RefusedError for another word."""
    listed = [s.value for s in FileState]
    if state is not None and state not in listed:
        raise RefusedError(f"unknown state '{state}'", hint=f"one of {', '.join(listed)}")
    return state


def ignored_files(catalog: Catalog, root: Path) -> list[dict[str, Any]]:
    """Files in the watched directories that no job takes, and why not."""
    found: dict[bytes, dict[str, Any]] = {}
    for directory, _ in watched_directories(catalog.jobs):
        prefix = directory.encode("utf-8", "surrogateescape") + b"/" if directory else b""
        for path, signature in landing.scan(root / directory, recursive=True, unreadable=[]):
            matches, reason = triggers.matching(prefix + path, catalog.jobs)
            if not matches:
                found[prefix + path] = {
                    "file": shown(prefix + path),
                    "state": "ignored",
                    "reason": reason,
                    "size": signature.size,
                }
    return [found[path] for path in sorted(found)]


def story(db: views.Connection, named: str, catalog: Catalog, root: Path) -> dict[str, Any]:
    """Everything known of a file, named as a path below the landing root, an absolute path, or by its end."""
    path = relative_to_root(named, root)
    known = views.versions(db, path, newest=VERSIONS_MAX)
    if known:
        path = views.path_of(db, known[-1]["file_id"]) or path
    absolute = os.path.join(os.fsencode(root), path)
    seen = landing.signature(absolute)
    matches, reason = triggers.matching(path, catalog.jobs)
    if not known and seen is None:
        raise NotFoundError(f"{named}: neither on disk nor in the ledger", hint=f"name it below {root}")
    return {
        "file": shown(path),
        "on_disk": isinstance(seen, Signature),
        "size": seen.size if isinstance(seen, Signature) else None,
        "jobs": [match.job for match in matches],
        "ignored": None if matches or known else reason,
        "versions": known,
        "tails": views.tails_at(db, [path]),
    }


def relative_to_root(named: str, root: Path) -> bytes:
    """The path below the landing root that somebody means: as it is, or as `shown` shows it."""
    prefix = os.fsencode(root) + b"/"
    path = os.fsencode(named).removeprefix(prefix)
    return path if os.path.lexists(os.path.join(prefix, path)) else path_of(os.fsdecode(path))


def jobs(db: views.Connection, catalog: Catalog) -> list[dict[str, Any]]:
    """Every job: what starts it, and where it stands."""
    return [
        {
            "job": job.name,
            "description": job.description,
            "tags": dict(job.tags),
            "triggers": [trigger.key for trigger in job.triggers],
            "max_concurrent_runs": job.max_concurrent_runs,
        }
        | job_state(db, job)
        for job in sorted(catalog.jobs, key=lambda job: job.name)
    ]


def job_state(db: views.Connection, job: Job) -> dict[str, Any]:
    """Where a job stands."""
    paused = [trigger.key for trigger in job.triggers if trigger.paused]
    return views.job_state(db, job.name, paused=job.paused, paused_triggers=paused)


def triggers_of(db: views.Connection, job: Job, limit: int) -> dict[str, Any]:
    """What starts a job, and the newest `limit` answers of each trigger."""
    return views.triggers(db, job.name, job.triggers, job_paused=job.paused, limit=limit)


def queue(db: views.Connection, catalog: Catalog, slots: int | None) -> list[dict[str, Any]]:
    """Runs that wait, in the order in which they start, each with what it waits for."""
    active = [queueing.UnderWay(run["run_id"], run["job"], run["has_files"]) for run in views.under_way(db)]
    allowed = {job.name: job.max_concurrent_runs for job in catalog.jobs}
    before: list[queueing.Queued] = []
    found = []
    for run in views.queued(db):
        one = queueing.Queued(run["run_id"], run["job"], run["has_files"])
        why = queueing.waits_for(one, before, active, concurrent_max=allowed.get(one.job), slots=slots)
        found.append(run | {"waits_for": why})
        before.append(one)
    return found


def plan(
    job: Job, catalog: Catalog, definitions: Mapping[str, tuple[str, str]], waiting: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run would do now, task by task: the same choice that the runner makes."""
    return {
        "job": job.name,
        "waiting_files": waiting["files"],
        "waiting_bytes": waiting["bytes"],
        "triggers": [_trigger(trigger) for trigger in job.file_arrivals],
        "tasks": [_step(job.task(task_key), catalog, definitions) for task_key in graph.order(job)],
    }


def _trigger(trigger: FileArrival) -> dict[str, Any]:
    """What becomes of files in a directory, before and after loading."""
    return {
        "directory": trigger.path,
        "pattern": trigger.pattern,
        "exclude": list(trigger.exclude),
        "recursive": trigger.recursive,
        "marker": trigger.marker,
        "manifest": trigger.manifest,
        "on_duplicate": trigger.on_duplicate.value,
        "on_change": trigger.on_change.value,
        "on_delete": trigger.on_delete.value,
        "cleanup": trigger.cleanup.value,
        "cleanup_after_seconds": trigger.cleanup_after_s,
        "archive_retention_seconds": trigger.archive_retention_s,
    }


def _step(task: Task, catalog: Catalog, definitions: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """How one task's table would be refreshed, and what its rows must be."""
    refresh, why = _refresh(task, catalog, definitions)
    return {
        "task_key": task.task_key,
        "depends_on": list(task.depends_on),
        "table": task.table,
        "refresh": refresh,
        "why": why,
        "expectations": [
            {"name": e.name, "expect": e.expect, "on_violation": e.on_violation.value} for e in task.expectations
        ],
    }


def _refresh(task: Task, catalog: Catalog, definitions: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if task.ingest is not None:
        return "ingest", f"loads the files that match {task.ingest.pattern}"
    if task.action is not None:
        return _KINDS[type(task.action)]
    if task.table is None:
        return "script", "no table: its statements run in one transaction"
    chosen = catalog.refreshes[task.table.casefold()]
    made_by = definitions.get(task.table)
    if chosen.mode == "append" and made_by != (catalog.definitions[task.table.casefold()], chosen.mode.value):
        now = "its definition changed" if made_by else "it is new"
        return chosen.mode.value, f"{chosen.reason}; this time in full, {now}"
    return chosen.mode.value, chosen.reason


_KINDS: Mapping[type, tuple[str, str]] = {
    Condition: ("condition", "decides which of the tasks behind it run"),
    ForEach: ("loop", "its task once for each input"),
    RunJob: ("job", "a run of another job, waited for"),
    PythonCall: ("python", "a function in the daemon; its statements are one transaction"),
    Script: ("process", "a script in a process of its own"),
    Notebook: ("process", "a notebook in a process of its own"),
}
