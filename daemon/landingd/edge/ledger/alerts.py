"""The verbs about people who are told: alerts on their way, and what health rules have found.

A lane is what goes to one destination: it is delivered in order, and waits as a whole when its destination does not
answer.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from landingd.model import AttemptKey

Row = sqlite3.Row
Lane = tuple[str, str]
"""`(channel, destination)`."""


@dataclass(frozen=True, slots=True)
class QueuedAlert:
    """An alert for one recipient; `payload` is JSON-ready, with its `event_id`."""

    channel: str
    """email or webhook."""
    destination: str
    """An address, or the id of a destination in the configuration: never a URL, for those hold secrets."""
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DueAlert:
    """The alert at the head of its lane."""

    seq: int
    lane: Lane
    payload: Mapping[str, Any]
    created_at_s: float
    tries: int


class AlertVerbs:
    """What can happen to an alert and to the health of a job. See Ledger."""

    _db: sqlite3.Connection

    # -- alerts on their way --

    def queue_alerts(self, alerts: Iterable[QueuedAlert], *, now_s: float) -> None:
        """Queue alerts; one that waits already (the same event, for the same recipient) stays as it is."""
        self._db.executemany(
            "INSERT INTO alerts (event_id, channel, destination, payload, created_at_s, next_try_s) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (event_id, channel, destination) DO NOTHING",
            [(a.payload["event_id"], a.channel, a.destination, _json(a.payload), now_s, now_s) for a in alerts],
        )

    def alert_lanes(self) -> dict[Lane, float]:
        """Every destination that something waits for, and when it may be tried: not before its last pause is over."""
        rows = self._db.execute(
            "SELECT channel, destination, max(next_try_s) AS due_s FROM alerts GROUP BY channel, destination"
        )
        return {(row["channel"], row["destination"]): row["due_s"] for row in rows}

    def next_alert(self, lane: Lane, *, tries_in_front: int, now_s: float) -> DueAlert | None:
        """The oldest alert of a lane that may be tried; those that were tried often come after those that were not."""
        row = self._db.execute(
            "SELECT *, (SELECT max(next_try_s) FROM alerts WHERE channel = ?1 AND destination = ?2) AS due_s "
            "FROM alerts WHERE channel = ?1 AND destination = ?2 ORDER BY tries >= ?3, seq LIMIT 1",
            (*lane, tries_in_front),
        ).fetchone()
        if row is None or row["due_s"] > now_s:
            return None
        return DueAlert(row["seq"], lane, json.loads(row["payload"]), row["created_at_s"], row["tries"])

    def drop_alert(self, seq: int) -> None:
        """It was delivered, or is given up."""
        self._db.execute("DELETE FROM alerts WHERE seq = ?", (seq,))

    def postpone_alert(self, seq: int, *, next_try_s: float, error: str, channel: str | None = None) -> None:
        """A try has failed; with `channel` everything on that channel waits as long: its server does not answer."""
        self._db.execute(
            "UPDATE alerts SET tries = tries + 1, next_try_s = ?, error = ? WHERE seq = ?", (next_try_s, error, seq)
        )
        if channel is not None:
            self._db.execute(
                "UPDATE alerts SET next_try_s = max(next_try_s, ?) WHERE channel = ?", (next_try_s, channel)
            )

    def trim_alerts(self, keep: int) -> int:
        """Drop the oldest alerts of each destination above `keep`; returns how many were dropped."""
        count = self._db.execute("SELECT count(*) AS n FROM alerts").fetchone()["n"]
        if count <= keep:
            return 0
        return self._db.execute(
            "DELETE FROM alerts WHERE seq IN (SELECT seq FROM (SELECT seq, row_number() OVER "
            "(PARTITION BY channel, destination ORDER BY seq DESC) AS place FROM alerts) WHERE place > ?)",
            (keep,),
        ).rowcount

    # -- what an alert tells --

    def run_to_tell(self, run_id: int) -> Row:
        """A run, with how many files it was given (`file_count`)."""
        row: Row = self._db.execute(
            "SELECT *, (SELECT count(*) FROM run_files WHERE run_files.run_id = runs.run_id) AS file_count "
            "FROM runs WHERE run_id = ?",
            (run_id,),
        ).fetchone()
        return row

    def run_rows_to_tell(self, run_id: int) -> dict[str, int]:
        """What became of the rows of the run's files, and how many files were quarantined."""
        row = self._db.execute(
            "SELECT coalesce(sum(rows_in), 0) AS rows_in, coalesce(sum(rows_loaded), 0) AS rows_loaded, "
            "coalesce(sum(rows_rejected), 0) AS rows_rejected, coalesce(sum(rows_dropped), 0) AS rows_dropped, "
            "(SELECT count(*) FROM files WHERE run_id = ?1 AND state = 'quarantined') AS files_quarantined "
            "FROM loads WHERE run_id = ?1",
            (run_id,),
        ).fetchone()
        return dict(row)

    def file_names_to_tell(self, run_id: int, limit: int) -> list[str]:
        """The first of a run's files, as people see them."""
        rows = self._db.execute(
            "SELECT name FROM run_files JOIN files USING (file_id) WHERE run_files.run_id = ? ORDER BY file_id LIMIT ?",
            (run_id, limit),
        )
        return [row["name"] for row in rows]

    def failed_tasks_to_tell(self, run_id: int, limit: int) -> list[str]:
        """The first of a run's tasks that failed themselves."""
        rows = self._db.execute(
            "SELECT task_key FROM tasks WHERE run_id = ? AND result IN ('FAILED', 'TIMEDOUT') "
            "ORDER BY position LIMIT ?",
            (run_id, limit),
        )
        return [row["task_key"] for row in rows]

    def attempt_to_tell(self, key: AttemptKey) -> Row:
        """An attempt, with how often its task has failed (`failures`)."""
        row: Row = self._db.execute(
            "SELECT a.*, t.failures FROM attempts a JOIN tasks t USING (run_id, task_key) "
            "WHERE run_id = ? AND task_key = ? AND attempt = ?",
            (key.run_id, key.task_key, key.attempt),
        ).fetchone()
        return row

    def outcome_before(self, key: AttemptKey) -> str | None:
        """How the attempt before this one ended, of those since the run was queued or last repaired."""
        row = self._db.execute(
            "SELECT p.outcome FROM attempts a JOIN attempts p ON p.run_id = a.run_id AND p.task_key = a.task_key "
            "AND p.repair = a.repair AND p.attempt < a.attempt "
            "WHERE a.run_id = ? AND a.task_key = ? AND a.attempt = ? ORDER BY p.attempt DESC LIMIT 1",
            (key.run_id, key.task_key, key.attempt),
        ).fetchone()
        return row["outcome"] or "" if row else None

    # -- health --

    def set_health(self, job: str, subject: str, *, since_s: float, told_at_s: float) -> None:
        """Remember what a rule has found; `told_at_s` 0: nobody was told."""
        self._db.execute(
            "INSERT INTO health (job, subject, since_s, told_at_s) VALUES (?, ?, ?, ?) ON CONFLICT (job, subject) "
            "DO UPDATE SET since_s = excluded.since_s, told_at_s = excluded.told_at_s",
            (job, subject, since_s, told_at_s),
        )

    def health_of(self, job: str) -> dict[str, tuple[float, float]]:
        """What is remembered of a job, by subject: since when, and when it was told (0: nobody was)."""
        rows = self._db.execute("SELECT subject, since_s, told_at_s FROM health WHERE job = ?", (job,))
        return {row["subject"]: (row["since_s"], row["told_at_s"]) for row in rows}

    def forget_health(self, job: str, subject: str) -> None:
        """A subject is well again, or over."""
        self._db.execute("DELETE FROM health WHERE job = ? AND subject = ?", (job, subject))

    def keep_health_of(self, jobs: Iterable[str]) -> None:
        """Forget what was found about any other job: it is gone, or has no rules any more."""
        self._db.execute(
            "DELETE FROM health WHERE job NOT IN (SELECT value FROM json_each(?))", (json.dumps(sorted(jobs)),)
        )


def _json(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
