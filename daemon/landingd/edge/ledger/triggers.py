"""The verbs about triggers: what each remembers, what came of looking at it, and how often tables have changed."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from landingd.model import Result, TriggerOutcome

HISTORY_KEPT = 1000
"""Entries of the history for each trigger."""

Row = sqlite3.Row


@dataclass(frozen=True, slots=True)
class TriggerRow:
    """What is known of a trigger; that with the name "" is the job's own."""

    name: str
    definition: str = ""
    """What it says; empty: only a pause is known of it."""
    paused: bool | None = None
    """None: as the job file says."""
    since_s: float = 0.0
    """When this definition was first seen."""
    last_fired_s: float | None = None
    """Of a schedule: the last time that is dealt with; of the others: when it last fired."""
    next_fire_s: float | None = None
    failures: int = 0
    """Of a continuous trigger: failed runs in a row."""
    retry_at_s: float | None = None
    """Of a continuous trigger: when the next run may start."""
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What else it remembers, JSON."""


@dataclass(frozen=True, slots=True)
class TableVersion:
    """How often a table has changed, when last, and by what."""

    version: int
    changed_at_s: float
    run_id: int
    task_key: str


@dataclass(frozen=True, slots=True)
class EndedRun:
    """The end of a run; a repaired run ends once more."""

    run_id: int
    repairs: int
    ended_at_s: float
    result: Result


class TriggerVerbs:
    """What can be asked and said of triggers and table versions. See Ledger."""

    _db: sqlite3.Connection

    # -- what a trigger remembers --

    def trigger_rows(self, job: str) -> dict[str, TriggerRow]:
        """What is known of the job's triggers, by name; "" is the job itself."""
        rows = self._db.execute("SELECT * FROM triggers WHERE job = ?", (job,))
        return {row["trigger_name"]: _trigger(row) for row in rows}

    def trigger_row(self, job: str, name: str) -> TriggerRow | None:
        """What is known of one trigger."""
        row = self._db.execute("SELECT * FROM triggers WHERE job = ? AND trigger_name = ?", (job, name)).fetchone()
        return _trigger(row) if row else None

    def begin_trigger(
        self, job: str, name: str, definition: str, *, state: Mapping[str, Any], next_fire_s: float | None, now_s: float
    ) -> TriggerRow:
        """A definition is seen for the first time: the trigger starts anew. What was asked about pauses stays."""
        self._db.execute(
            "INSERT INTO triggers (job, trigger_name, definition, since_s, next_fire_s, state) "
            "VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (job, trigger_name) DO UPDATE SET definition = excluded.definition, "
            "since_s = excluded.since_s, last_fired_s = NULL, next_fire_s = excluded.next_fire_s, failures = 0, "
            "retry_at_s = NULL, state = excluded.state",
            (job, name, definition, now_s, next_fire_s, json.dumps(dict(state))),
        )
        row = self.trigger_row(job, name)
        assert row is not None  # noqa: S101 -- written above
        return row

    def move_trigger(
        self, job: str, name: str, *, last_fired_s: float | None, next_fire_s: float | None, state: Mapping[str, Any]
    ) -> None:
        """What the trigger has dealt with by now, and when it is due next."""
        self._db.execute(
            "UPDATE triggers SET last_fired_s = ?, next_fire_s = ?, state = ? WHERE job = ? AND trigger_name = ?",
            (last_fired_s, next_fire_s, json.dumps(dict(state)), job, name),
        )

    def note_fired(self, job: str, name: str, now_s: float) -> None:
        """Files have started a run."""
        self._db.execute(
            "INSERT INTO triggers (job, trigger_name, since_s, last_fired_s) VALUES (?1, ?2, 0, ?3) "
            "ON CONFLICT (job, trigger_name) DO UPDATE SET last_fired_s = ?3",
            (job, name, now_s),
        )

    def set_backoff(self, job: str, name: str, *, failures: int, retry_at_s: float | None) -> None:
        """Of a continuous trigger: how many runs have failed in a row, and when the next one may start."""
        self._db.execute(
            "INSERT INTO triggers (job, trigger_name, since_s, failures, retry_at_s) VALUES (?1, ?2, 0, ?3, ?4) "
            "ON CONFLICT (job, trigger_name) DO UPDATE SET failures = ?3, retry_at_s = ?4",
            (job, name, failures, retry_at_s),
        )

    def set_paused(self, job: str, name: str, paused: bool | None) -> None:  # noqa: FBT001 -- it is what is said
        """Pause or resume a trigger, with the name "" the whole job, whatever the job file says; None: as it says."""
        self._db.execute(
            "INSERT INTO triggers (job, trigger_name, since_s, paused) VALUES (?1, ?2, 0, ?3) "
            "ON CONFLICT (job, trigger_name) DO UPDATE SET paused = ?3",
            (job, name, paused),
        )

    def forget_triggers(self, kept: Collection[tuple[str, str]]) -> None:
        """Triggers that no job has any more, all but `(job, name)` of these: should they come back, they start anew.

        What was asked about pauses stays.
        """
        self._db.execute(
            "UPDATE triggers SET definition = '', last_fired_s = NULL, next_fire_s = NULL, failures = 0, "
            "retry_at_s = NULL, state = '{}' WHERE definition <> '' AND (job, trigger_name) NOT IN "
            "(SELECT value ->> 0, value ->> 1 FROM json_each(?))",
            (json.dumps([list(one) for one in kept]),),
        )

    def rename_triggers(self, job: str, names: Mapping[str, str]) -> None:
        """Triggers have other names now. Who had one of those, and has no other, is forgotten.

        `names`: the new ones by the old ones.
        """
        taken = json.dumps([new for new in names.values() if new not in names])
        for table in ("triggers", "trigger_history"):
            self._db.execute(
                f"DELETE FROM {table} WHERE job = ? AND trigger_name IN (SELECT value FROM json_each(?))", (job, taken)
            )
            # Two may change places, so none takes its new name before all have left their old ones.
            self._db.executemany(
                f"UPDATE {table} SET trigger_name = '>' || ?3 WHERE job = ?1 AND trigger_name = ?2",
                [(job, old, new) for old, new in names.items()],
            )
            self._db.execute(
                f"UPDATE {table} SET trigger_name = substr(trigger_name, 2) WHERE job = ? AND trigger_name LIKE '>%'",
                (job,),
            )

    # -- history --

    def note_trigger(
        self,
        job: str,
        trigger_name: str,
        outcome: TriggerOutcome,
        description: str,
        *,
        now_s: float,
        run_id: int | None = None,
    ) -> None:
        """What looking at a trigger led to. The same answer again, without a run, only counts up."""
        if run_id is None:
            row = self._db.execute(
                "UPDATE trigger_history SET last_s = ?, times = times + 1 WHERE seq = (SELECT max(seq) "
                "FROM trigger_history WHERE job = ? AND trigger_name = ?) "
                "AND outcome = ? AND description = ? AND run_id IS NULL RETURNING seq",
                (now_s, job, trigger_name, outcome.value, description),
            ).fetchone()
            if row is not None:
                return
        self._db.execute(
            "INSERT INTO trigger_history (job, trigger_name, outcome, description, run_id, first_s, last_s) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
            (job, trigger_name, outcome.value, description, run_id, now_s),
        )
        self._db.execute(
            "DELETE FROM trigger_history WHERE job = ?1 AND trigger_name = ?2 AND seq <= (SELECT seq "
            "FROM trigger_history WHERE job = ?1 AND trigger_name = ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3)",
            (job, trigger_name, HISTORY_KEPT),
        )

    # -- what triggers look at --

    def bump_table(self, table: str, *, run_id: int, task_key: str, now_s: float) -> None:
        """A table's rows may be others than before."""
        self._db.execute(
            "INSERT INTO table_versions VALUES (?1, 1, ?2, ?3, ?4) ON CONFLICT (table_name) DO UPDATE "
            "SET version = version + 1, changed_at_s = ?2, run_id = ?3, task_key = ?4",
            (table.casefold(), now_s, run_id, task_key),
        )

    def table_versions(self, tables: Collection[str]) -> dict[str, TableVersion]:
        """Of these tables those that have ever changed; by lower-case name."""
        rows = self._db.execute(
            "SELECT * FROM table_versions WHERE table_name IN (SELECT value FROM json_each(?))",
            (json.dumps([table.casefold() for table in tables]),),
        )
        return {
            row["table_name"]: TableVersion(row["version"], row["changed_at_s"], row["run_id"], row["task_key"])
            for row in rows
        }

    def newest_pending(self, job: str) -> int | None:
        """The newest version with which the job's next run has to do something."""
        row = self._db.execute(
            "SELECT max(file_id) AS newest FROM files WHERE job = ? AND wanted IS NOT NULL AND cleaning IS NULL", (job,)
        ).fetchone()
        return row["newest"] if row else None

    def newest_arrival_s(self, job: str, *, settled_s: float) -> float | None:
        """When the newest of the job's files last changed, as far as is known; None: none waits.

        A file that is complete had been unchanged for `settled_s` before; of one that is not complete yet its first
        sight counts, or a file that never ends would keep the others for ever.
        """
        row = self._db.execute(
            "SELECT max("
            "(SELECT coalesce(max(complete_at_s) - ?2, 0) FROM files WHERE job = ?1 AND wanted IS NOT NULL), "
            "(SELECT coalesce(max(seen_at_s), 0) FROM files WHERE job = ?1 AND state = 'waiting' "
            "AND content_hash IS NULL)) AS s",
            (job, settled_s),
        ).fetchone()
        return row["s"] or None

    def last_end(self, job: str, results: Collection[Result], after_s: float) -> EndedRun | None:
        """The job's newest run that ended in one of these ways, not before this time."""
        row = self._db.execute(
            "SELECT run_id, repairs, ended_at_s, result FROM runs WHERE job = ? AND ended_at_s >= ? "
            "AND state = 'TERMINATED' AND result IN (SELECT value FROM json_each(?)) "
            "ORDER BY ended_at_s DESC, run_id DESC LIMIT 1",
            (job, after_s, json.dumps([result.value for result in results])),
        ).fetchone()
        return EndedRun(row["run_id"], row["repairs"], row["ended_at_s"], Result(row["result"])) if row else None


def _trigger(row: Row) -> TriggerRow:
    return TriggerRow(
        name=row["trigger_name"],
        definition=row["definition"],
        paused=None if row["paused"] is None else bool(row["paused"]),
        since_s=row["since_s"],
        last_fired_s=row["last_fired_s"],
        next_fire_s=row["next_fire_s"],
        failures=row["failures"],
        retry_at_s=row["retry_at_s"],
        state=json.loads(row["state"]),
    )
