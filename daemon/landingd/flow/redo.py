"""Unload, replay, requeue: one request becomes one run per job, with every version that is meant and can be had.

Choosing reads the ledger through a connection that cannot write, and a dry run ends there. The run is asked for in one
transaction, in which each version is looked at once more: what changed since it was chosen is chosen anew.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from landingd.core import redo, references, triggers
from landingd.core.redo import Asked, Choice, Verb, Version
from landingd.edge.ledger import views
from landingd.errors import RefusedError
from landingd.flow import arriving
from landingd.flow.answers import relative_to_root
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.model import FileState, OnDuplicate, Presence, shown

TRIES_MAX = 3
NAMED_MAX = 5
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a request means now."""

    choices: tuple[Choice, ...]
    unknown: tuple[tuple[str, str], ...]
    """Names that mean nothing, or too much, and why."""
    left_out: int
    """Versions that were meant, though not each by its name, and cannot be had."""
    accepted: Mapping[str, int]
    """Runs of the same request, asked for before: `{job: run_id}`."""


class Redo:
    """Answers these requests. `books` None: only dry runs."""

    def __init__(
        self,
        *,
        books: Books | None,
        ledger_file: Path,
        landing_root: Path,
        catalog: Callable[[], Catalog],
        wake: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._books = books
        self._ledger_file = ledger_file
        self._root = landing_root
        self._catalog = catalog
        self._wake = wake
        self._clock = clock

    async def ask(self, asked: Asked) -> dict[str, Any]:
        """Do it, or say what would be done; every version with its action or the reason why not."""
        self._check(asked)
        request_id = asked.request_id or str(uuid.uuid4())
        for _ in range(TRIES_MAX):
            chosen = await asyncio.to_thread(partial(self._choose, asked, request_id))
            if asked.dry_run or self._books is None:
                return _answer(asked, chosen, {})
            try:
                runs = await self._request(self._books, asked.verb, chosen, request_id)
            except RefusedError:
                continue
            return _answer(asked, chosen, runs)
        raise RefusedError("the files go on changing while they are chosen", hint="try again")

    def _check(self, asked: Asked) -> None:
        if asked.job is not None:
            self._catalog().job(asked.job)
        if asked.files and (asked.since is not None or asked.failed):
            raise RefusedError("name the files, or choose them with --since and --failed: not both")
        if not asked.files and asked.verb is not Verb.REQUEUE and asked.since is None and not asked.failed:
            raise RefusedError(f"{asked.verb.value} which files?", hint="name them; replay takes --since and --failed")
        if asked.since is not None and time_of(asked.since, now_s=0.0) is None:
            raise RefusedError(
                f"'{asked.since}' is no time", hint="2026-11-05T08:00 (UTC), or how long ago: 30m, 2h, 7d"
            )

    # -- choosing: reads only --

    def _choose(self, asked: Asked, request_id: str) -> _Chosen:
        with views.one_moment(self._ledger_file) as db:
            accepted = views.requested_runs(db, triggers.request_key(request_id))
            unknown: list[tuple[str, str]] = []
            left_out = 0
            if asked.files:
                choices, left_out = self._named(db, asked, unknown)
            else:
                versions = _versions(db, views.ids_of(db, job=asked.job))
                since_s = None if asked.since is None else time_of(asked.since, now_s=self._clock())
                choices, left_out = redo.choose_all(asked.verb, versions, since_s=since_s, failed=asked.failed)
            kept = [c for c in choices if c.version.job not in accepted]
            for job, run_id in accepted.items():
                given = _versions(db, views.files_given(db, run_id))
                kept += [Choice(v, None) for v in given if asked.job in {None, job}]
        return _Chosen(tuple(self._possible(c) for c in kept), tuple(unknown), left_out, accepted)

    def _named(self, db: views.Connection, asked: Asked, unknown: list[tuple[str, str]]) -> tuple[list[Choice], int]:
        choices: dict[int, Choice] = {}
        left_out = 0
        for name in asked.files:
            ids, why = self._ids(db, name)
            versions = [v for v in _versions(db, ids) if asked.job in {None, v.job}]
            if not versions:
                unknown.append((name, why or f"no version of it is for job '{asked.job}'"))
            found, out = redo.choose_named(asked.verb, versions)
            choices |= {choice.version.file_id: choice for choice in found}
            left_out += out
        return list(choices.values()), left_out

    def _ids(self, db: views.Connection, name: str) -> tuple[list[int], str | None]:
        """The versions that somebody means: by a path, its end, or an id where no path is called so."""
        paths = views.paths_named(db, relative_to_root(name, self._root))
        if len(paths) > 1:
            listed = ", ".join(shown(path) for path in paths[:NAMED_MAX])
            return [], f"{len(paths)} files are called so: {listed}{', ...' if len(paths) > NAMED_MAX else ''}"
        if paths:
            return views.ids_at(db, paths[0]), None
        number = name.removeprefix("#")
        if number.isascii() and number.isdecimal() and views.path_of(db, int(number)) is not None:
            return [int(number)], None
        return [], "not in the ledger; `landingd files` lists what is"

    def _possible(self, choice: Choice) -> Choice:
        if choice.refused is None and all(job.name != choice.version.job for job in self._catalog().jobs):
            return redo.refuse(choice, f"there is no job '{choice.version.job}' any more")
        if redo.would_be_double(choice) and self._skips_duplicates(choice.version):
            return redo.refuse(choice, f"its bytes are loaded as file {choice.version.twin}: unload that one first")
        return choice

    def _skips_duplicates(self, version: Version) -> bool:
        matches, _ = triggers.matching(version.path, [self._catalog().job(version.job)])
        return all(match.trigger.on_duplicate is OnDuplicate.SKIP for match in matches)

    # -- doing --

    async def _request(self, books: Books, verb: Verb, chosen: _Chosen, request_id: str) -> dict[str, int]:
        runs = dict(chosen.accepted)
        wanted = [choice.version for choice in chosen.choices if choice.action is not None]
        for name in dict.fromkeys(version.job for version in wanted):
            job = self._catalog().job(name)
            runs[name] = await books.request_run(
                job,
                request_id=request_id,
                parameters=references.choose_parameters(job, {}),
                file_ids=sorted(v.file_id for v in wanted if v.job == name),
                prepare=arriving.want_out if verb is Verb.UNLOAD else arriving.want_again,
            )
            self._wake(name)
        return runs


def time_of(text: str, *, now_s: float) -> float | None:
    """A time as people say it, in Unix seconds: ISO 8601 (UTC unless it says otherwise), or how long ago: 90m, 2h, 7d.

    None: neither.
    """
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if ago:
        return now_s - float(ago[1]) * _UNITS_S[ago[2]]
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def asked_of(verb: Verb, given: Mapping[str, Any]) -> Asked:
    """A request as it comes over the socket. Raises RefusedError for files that are no list of names."""
    files = given.get("files") or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise RefusedError("files: must be a list of names")
    text = {key: None if given.get(key) is None else str(given[key]) for key in ("job", "since", "request_id")}
    return Asked(verb, tuple(files), failed=bool(given.get("failed")), dry_run=bool(given.get("dry_run")), **text)


def _versions(db: views.Connection, file_ids: Sequence[int]) -> list[Version]:
    return [
        Version(**(row | {"state": FileState(row["state"]), "presence": Presence(row["presence"])}))
        for row in views.asked_versions(db, file_ids)
    ]


def _answer(asked: Asked, chosen: _Chosen, runs: Mapping[str, int]) -> dict[str, Any]:
    files: list[dict[str, Any]] = [
        {
            "file_id": choice.version.file_id,
            "job": choice.version.job,
            "file": choice.version.name,
            "state": choice.version.state.value,
            "action": choice.action.value if choice.action else None,
            "refused": choice.refused,
        }
        for choice in chosen.choices
    ]
    files += [
        {"file_id": None, "job": asked.job, "file": name, "state": None, "action": None, "refused": why}
        for name, why in chosen.unknown
    ]
    return {
        "verb": asked.verb.value,
        "dry_run": asked.dry_run,
        "files": files,
        "refused": sum(file["refused"] is not None for file in files),
        "left_out": chosen.left_out,
        "runs": [{"job": job, "run_id": run_id} for job, run_id in sorted(runs.items(), key=lambda one: one[1])],
    }
