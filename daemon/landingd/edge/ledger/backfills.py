"""The verbs about backfills: what was asked for, how far it has been entered, and which runs it has."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from landingd.model import Result, RunState


@dataclass(frozen=True, slots=True)
class BackfillRow:
    """A backfill, as stored."""

    backfill_id: str
    job: str
    parameter: str
    first: str
    last: str
    step: str
    count: int
    """How many values the range has."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """The others that were given."""
    admitted: int = 0
    """For so many of its values, the first ones, runs have been asked for. That they were stays true when history
    forgets them: they are not done again.
    """

    def asks_the_same_as(self, other: "BackfillRow") -> bool:
        """Whether it is the same question, however far it has come."""
        return replace(self, admitted=0) == replace(other, admitted=0)


@dataclass(frozen=True, slots=True)
class BackfillRun:
    """The run for one value."""

    run_id: int
    state: RunState
    result: Result | None


class BackfillVerbs:
    """What can happen to a backfill, and what can be asked of one. See Ledger."""

    _db: sqlite3.Connection

    def add_backfill(self, asked: BackfillRow, *, now_s: float) -> BackfillRow:
        """Remember what was asked for; returns what is known under this id, which is older if it was known before."""
        self._db.execute(
            "INSERT INTO backfills (backfill_id, job, parameter, range, parameters, requested_at_s) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (backfill_id) DO NOTHING",
            (
                asked.backfill_id,
                asked.job,
                asked.parameter,
                json.dumps(
                    {
                        "from": asked.first,
                        "to": asked.last,
                        "step": asked.step,
                        "count": asked.count,
                        "admitted": asked.admitted,
                    }
                ),
                json.dumps(dict(asked.parameters)),
                now_s,
            ),
        )
        return self.backfill(asked.backfill_id) or asked

    def backfill(self, backfill_id: str) -> BackfillRow | None:
        """One backfill."""
        row = self._db.execute("SELECT * FROM backfills WHERE backfill_id = ?", (backfill_id,)).fetchone()
        return _backfill(row) if row else None

    def unfinished_backfills(self) -> list[BackfillRow]:
        """Backfills for some of whose values no run has been asked for yet."""
        rows = self._db.execute(
            "SELECT * FROM backfills WHERE range ->> '$.admitted' < range ->> '$.count' ORDER BY requested_at_s"
        )
        return [_backfill(row) for row in rows]

    def note_admitted(self, backfill_id: str, admitted: int) -> None:
        """Runs have been asked for as many of its values, the first ones. It never goes back."""
        self._db.execute(
            "UPDATE backfills SET range = json_set(range, '$.admitted', ?1) "
            "WHERE backfill_id = ?2 AND range ->> '$.admitted' < ?1",
            (admitted, backfill_id),
        )

    def backfill_runs(self, backfill_id: str, job: str) -> dict[str, BackfillRun]:
        """Its runs that history has not forgotten, by value."""
        prefix = f"backfill:{backfill_id}:"
        rows = self._db.execute(
            # ";" is the character after ":".
            "SELECT trigger_key, run_id, state, result FROM runs "
            "WHERE job = ? AND trigger_key >= ? AND trigger_key < ?",
            (job, prefix, f"backfill:{backfill_id};"),
        )
        return {
            row["trigger_key"].removeprefix(prefix): BackfillRun(
                row["run_id"], RunState(row["state"]), Result(row["result"]) if row["result"] else None
            )
            for row in rows
        }


def _backfill(row: sqlite3.Row) -> BackfillRow:
    range_ = json.loads(row["range"])
    return BackfillRow(
        backfill_id=row["backfill_id"],
        job=row["job"],
        parameter=row["parameter"],
        first=range_["from"],
        last=range_["to"],
        step=range_["step"],
        count=range_["count"],
        parameters=json.loads(row["parameters"]),
        admitted=range_["admitted"],
    )
