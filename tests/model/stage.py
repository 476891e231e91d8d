"""A daemon with a job for each policy, the folders of many lists, and the comparison with their models."""

import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemons import LANDINGD, LandingdProcess
from model import laws
from model.actions import Action, Hands
from model.contents import IDS_OF_A_LIST, REJECTED_PERCENT_MAX, Row
from model.drawing import Event, Step
from model.laws import POLICIES, Found, Policy, Version
from model.world import DoesNotApplyError, World

REST_TIMEOUT_S = 40.0
REST_ALONE_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.02
STUMBLE_S = 0.6
"""The process is dead before it is ready, or soon after."""

JOB = """
name: {name}
triggers:
  - file_arrival:
      path: {name}
      pattern: "*.csv*"
      incomplete_after_seconds: 0.3
      on_change: {on_change}
      on_delete: {on_delete}
      on_duplicate: {on_duplicate}
tasks:
  - task_key: bronze
    ingest: {{schema: {{id: BIGINT, name: VARCHAR, amount: BIGINT}}, max_rejected_percent: {rejected_max}}}
    table: bronze.{name}
  - task_key: silver
    depends_on: [{{task_key: bronze}}]
    sql: silver.sql
    table: silver.{name}
  - task_key: gold
    depends_on: [{{task_key: silver}}]
    sql: gold.sql
    table: gold.{name}
"""
SILVER = "SELECT id, upper(name) AS name, amount FROM bronze.{name} WHERE amount > 0"
GOLD = "SELECT id // {ids} AS list_no, count(*) AS n, sum(amount) AS amount FROM silver.{name} GROUP BY ALL"

VERSIONS = (
    "SELECT path, file_id, content_hash, state, presence, reason, wanted, leaving, duplicate_of, "
    "loaded_at_s IS NOT NULL AS was_loaded FROM files ORDER BY file_id"
)
OPEN_RUNS = "SELECT run_id FROM runs WHERE state <> 'TERMINATED'"


class BrokenLawsError(AssertionError):
    """`by_list`: what is wrong, by list; 0 for what belongs to no list."""

    def __init__(self, by_list: dict[int, list[str]]) -> None:
        self.by_list = by_list
        told = [f"list {n}: {what}" if n else what for n, whats in sorted(by_list.items()) for what in whats]
        super().__init__("\n".join(told))


@dataclass
class Played:
    """One list while it is played."""

    policy: Policy
    hands: Hands
    world: World = field(default_factory=World)
    at_last_rest: Found | None = None


class Stage:
    """`events_only`: no scan but the one at start, so that a rest begins with a restart."""

    def __init__(self, base: Path, list_nos: Iterable[int], *, events_only: bool = False) -> None:
        self._events_only = events_only
        scan_s = 300.0 if events_only else 0.25
        self.daemon = LandingdProcess(
            base,
            {name: text for policy in POLICIES for name, text in _pipeline(policy).items()},
            env={
                "LANDING__SCAN_INTERVAL_SECONDS": str(scan_s),
                "LANDING__QUIET_SECONDS": "0.2",
                "ENGINE__THREADS": "1",
            },
        )
        self.lists = {n: self._list(n) for n in list_nos}
        self.played: list[tuple[Step, float, float]] = []
        """What was done, and from when to when."""
        self._newest_run = 0

    def _list(self, list_no: int) -> Played:
        policy = POLICIES[list_no % len(POLICIES)]
        hands = Hands(self.daemon.landing / policy.name / str(list_no), self.daemon.base / "aside" / str(list_no))
        hands.folder.mkdir(parents=True)
        hands.aside.mkdir(parents=True)
        return Played(policy, hands)

    def play(self, steps: Sequence[Step]) -> None:
        """Do all of it. Raises BrokenLawsError at the first rest at which something is wrong."""
        try:
            self.daemon.start()
            for step in steps:
                begin_s = time.monotonic()
                if isinstance(step.what, Event):
                    self._happen(step.what)
                else:
                    self._act(self.lists[step.list_no], step.what)
                self.played.append((step, begin_s, time.monotonic()))
                time.sleep(step.pause_s)  # a moment is a part of what was drawn
        finally:
            self.daemon.kill()
            for played in self.lists.values():
                played.hands.let_go()

    def _act(self, played: Played, action: Action) -> None:
        try:
            action.suppose(played.world)
        except DoesNotApplyError:
            return
        action.do(played.hands)

    def _happen(self, event: Event) -> None:
        match event:
            case Event.KILL:
                self._let_runs_end()
                self.daemon.kill()
            case Event.STUMBLE:
                self._stumble()
            case Event.START:
                self._start()
            case Event.FREEZE:
                self.daemon.signal(signal.SIGSTOP)
            case Event.THAW:
                self.daemon.signal(signal.SIGCONT)
            case Event.REST:
                self._rest()

    # -- the daemon's life --

    def _start(self) -> None:
        self._newest_run = self._ledger_value("SELECT coalesce(max(run_id), 0) FROM runs")
        self.daemon.start()

    def _let_runs_end(self) -> None:
        """A run that has met with a death may end: what dies three times is rightly taken for the cause."""
        sql = f"SELECT count(*) FROM runs WHERE state <> 'TERMINATED' AND run_id <= {self._newest_run}"
        self.daemon.until(lambda: not self._ledger_value(sql))

    def _ledger_value(self, sql: str) -> int:
        rows = self.daemon.ledger(sql)
        return int(rows[0][0]) if rows else 0

    def _stumble(self) -> None:
        with self.daemon.log_file.open("ab") as log:
            process = subprocess.Popen([LANDINGD, "serve"], env=self.daemon.env, stdout=log, stderr=log)
        time.sleep(STUMBLE_S)
        process.kill()
        process.wait()

    # -- rest --

    def _rest(self) -> None:
        if self._events_only:
            self.daemon.stop()
            self._start()
        timeout_s = REST_TIMEOUT_S if len(self.lists) > 1 else REST_ALONE_TIMEOUT_S
        deadline_s = time.monotonic() + timeout_s
        while (books := self._books_at_rest()) is None and time.monotonic() < deadline_s:
            time.sleep(LOOK_EVERY_S)
        wrong = self._compare(self._books() if books is None else books)
        if books is None:
            wrong.setdefault(0, []).append(f"did not come to rest within {timeout_s:g} s")
        if wrong:
            raise BrokenLawsError(wrong)

    def _books(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.daemon.ledger(VERSIONS)]

    def _books_at_rest(self) -> list[tuple[Any, ...]] | None:
        """The ledger's files, where nothing waits or runs and what is present by it is what is on disk."""
        if self.daemon.ledger(OPEN_RUNS):
            return None
        books = self._books()
        of_lists = _versions_by_list(books)
        return books if all(self._is_at_rest(played, of_lists[n]) for n, played in self.lists.items()) else None

    def _is_at_rest(self, played: Played, versions: Sequence[Version]) -> bool:
        """What is being written is not looked at."""
        world = played.world
        settled = [version for version in versions if not world.is_open(version.name)]
        present = sorted((v.name, str(v.content_hash)) for v in settled if v.presence == "present")
        on_disk = sorted((name, content.hash) for name, content in world.data().items() if not world.is_open(name))
        return present == on_disk and all(version.is_at_rest for version in settled)

    # -- comparing --

    def _compare(self, books: list[tuple[Any, ...]]) -> dict[int, list[str]]:
        """What is wrong, by list."""
        wrong: dict[int, list[str]] = {}
        found = self._found(books)
        if self._books() != books:
            return self._compare(self._books())  # a file that was only touched came late
        for n, played in self.lists.items():
            told = [
                *self._wrong_disk(played),
                *laws.broken(played.policy, played.world, found[n]),
                *laws.lost(played.policy, played.world, played.at_last_rest, found[n]),
            ]
            if told:
                wrong[n] = [*told, *map(str, found[n].versions)]
            played.world.rest()
            played.at_last_rest = found[n]
        if told := [*self._wrong_runs(), *self._wrong_census(found)]:
            wrong[0] = told
        return wrong

    def _wrong_disk(self, played: Played) -> list[str]:
        """The model itself is checked too."""
        disk = {
            name: played.hands.path(name).read_bytes()
            for name, file in played.world.names.items()
            if file.writer is None
        }
        return [
            f"{name}: the model says {played.world.names[name].content}, and {len(raw)} bytes are there"
            for name, raw in disk.items()
            if raw != played.world.names[name].content.raw
        ]

    def _wrong_runs(self) -> list[str]:
        rows = self.daemon.ledger("SELECT run_id, job, result, error FROM runs WHERE result <> 'SUCCESS'")
        return [f"run {run_id} of {job} ended with {result}: {error}" for run_id, job, result, error in rows]

    def _wrong_census(self, found: Mapping[int, Found]) -> list[str]:
        """The daemon's own count of files and rows is that of the model."""
        census = self.daemon.get("/v1/census?rows=1")
        wrong = [f"census: {one}" for one in census["discrepancies"]]
        for root in census["roots"]:
            mine = {n: played.world for n, played in self.lists.items() if played.policy.name == root["job"]}
            counts = Counter(on_disk=sum(len(world.names) for world in mine.values()))
            for n, world in mine.items():
                counts["ignored"] += len(world.names) - len(world.data())
                counts.update(version.state for version in found[n].versions if version.presence == "present")
            told = {key: root[key] for key in ("on_disk", "loaded", "waiting", "duplicate", "quarantined", "ignored")}
            is_written = any(world.unfinished for world in mine.values())
            if not is_written and told != {key: counts[key] for key in told}:
                wrong.append(f"census of {root['job']}: {told}, should be {dict(counts)}")
        return wrong

    def _found(self, books: list[tuple[Any, ...]]) -> dict[int, Found]:
        """What the daemon has made of each list's folder."""
        tables = set(self.daemon.get("/v1/columns"))
        loads = self._loads()
        of_lists = _versions_by_list(books)
        found: dict[int, Found] = {}
        for policy in POLICIES:
            bronze, silver = (self._rows(f"{layer}.{policy.name}", tables) for layer in ("bronze", "silver"))
            gold = self._gold(policy, tables)
            for n, played in self.lists.items():
                if played.policy is not policy:
                    continue
                mine = {version.file_id for version in of_lists[n]}
                rows = {
                    layer: {file_id: rows for file_id, rows in all_.items() if file_id in mine or _list_of(rows) == n}
                    for layer, all_ in (("bronze", bronze), ("silver", silver))
                }
                my_loads = {key: load for key, load in loads.items() if key[1] in mine}
                found[n] = Found(of_lists[n], rows["bronze"], rows["silver"], gold.get(n), my_loads)
        return found

    def _rows(self, table: str, tables: set[str]) -> dict[int, list[Row]]:
        by_file: dict[int, list[Row]] = defaultdict(list)
        if table in tables:
            for row in self.daemon.query(f"SELECT _file_id, id, name, amount FROM {table}"):
                by_file[row["_file_id"]].append((row["id"], row["name"], row["amount"]))
        return by_file

    def _gold(self, policy: Policy, tables: set[str]) -> dict[int, tuple[int, int]]:
        if f"gold.{policy.name}" not in tables:
            return {}
        rows = self.daemon.query(f"SELECT list_no, n, CAST(amount AS BIGINT) AS amount FROM gold.{policy.name}")
        return {row["list_no"]: (row["n"], row["amount"]) for row in rows}

    def _loads(self) -> dict[tuple[str, int], tuple[str, int]]:
        rows = self.daemon.query("SELECT table_name, file_id, content_hash, rows_loaded FROM meta.loads")
        return {
            (row["table_name"].partition(".")[0], row["file_id"]): (row["content_hash"], row["rows_loaded"])
            for row in rows
        }


def _pipeline(policy: Policy) -> dict[str, str]:
    name, ids = policy.name, IDS_OF_A_LIST
    return {
        f"{name}/job.yml": JOB.format(**vars(policy), rejected_max=REJECTED_PERCENT_MAX),
        f"{name}/silver.sql": SILVER.format(name=name),
        f"{name}/gold.sql": GOLD.format(name=name, ids=ids),
    }


def _versions_by_list(books: list[tuple[Any, ...]]) -> dict[int, list[Version]]:
    by_list: dict[int, list[Version]] = defaultdict(list)
    for path, file_id, content_hash, state, presence, reason, wanted, leaving, twin, was_loaded in books:
        _, list_no, name = bytes(path).decode().split("/", 2)
        version = (file_id, name, content_hash, state, presence, reason, wanted, bool(leaving), twin, bool(was_loaded))
        by_list[int(list_no)].append(Version(*version))
    return by_list


def _list_of(rows: Sequence[Row]) -> int:
    return rows[0][0] // IDS_OF_A_LIST
