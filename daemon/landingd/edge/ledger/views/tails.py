"""Files that keep growing: how far each is read, and what became of its segments."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from landingd.edge.ledger.tails import IS_SEGMENT, tail_of
from landingd.edge.ledger.views.opening import Answer
from landingd.model import Tail, utc


@dataclass(frozen=True, slots=True)
class TailStanding:
    """A generation, with those of its segments that are not loaded."""

    tail: Tail
    waiting: int
    quarantined: int
    waiting_since_s: float | None
    quarantined_id: int | None
    """A version that is quarantined."""


def tail(db: sqlite3.Connection, tail_id: int) -> Tail | None:
    """One generation; None: it is not known, or not on disk any more."""
    row = db.execute("SELECT * FROM tails WHERE tail_id = ?", (tail_id,)).fetchone()
    return None if row is None else tail_of(row)


def tails_standing(db: sqlite3.Connection, job: str) -> list[TailStanding]:
    """Every generation of a job that is on disk as far as is known, the newest first."""
    open_ = {
        (row["tail_id"], row["state"]): row
        for row in db.execute(
            "SELECT json_extract(facts, '$.segment.tail') AS tail_id, state, count(*) AS n, "
            "min(seen_at_s) AS since_s, min(file_id) AS file_id FROM files "
            f"WHERE job = ? AND state IN ('waiting', 'quarantined') AND {IS_SEGMENT} GROUP BY 1, 2",
            (job,),
        )
    }
    rows = db.execute("SELECT * FROM tails WHERE job = ? AND inode <> 0 ORDER BY tail_id DESC", (job,))
    return [_standing(tail_of(row), open_) for row in rows]


def _standing(of: Tail, open_: dict[tuple[int, str], sqlite3.Row]) -> TailStanding:
    waiting, quarantined = (open_.get((of.tail_id, state)) for state in ("waiting", "quarantined"))
    return TailStanding(
        of,
        waiting["n"] if waiting else 0,
        quarantined["n"] if quarantined else 0,
        waiting["since_s"] if waiting else None,
        quarantined["file_id"] if quarantined else None,
    )


def tails_at(db: sqlite3.Connection, paths: Sequence[bytes]) -> list[Answer]:
    """Every generation of these paths, oldest first: how far it is read, and its segments by state."""
    listed = [
        row for path in paths for row in db.execute("SELECT * FROM tails WHERE path = ? ORDER BY tail_id", (path,))
    ]
    counts: dict[int, dict[str, int]] = {}
    for path in paths:
        for row in db.execute(
            "SELECT json_extract(facts, '$.segment.tail') AS tail_id, f.state, count(DISTINCT f.file_id) AS n, "
            "coalesce(sum(l.rows_loaded), 0) AS rows_loaded FROM files f LEFT JOIN loads l USING (file_id) "
            f"WHERE f.path = ? AND {IS_SEGMENT} GROUP BY 1, 2",
            (path,),
        ):
            of = counts.setdefault(row["tail_id"], {"rows_loaded": 0})
            of[row["state"]] = row["n"]
            of["rows_loaded"] += row["rows_loaded"]
    generations: dict[tuple[str, bytes], int] = {}
    found: list[Answer] = []
    for row in listed:
        key = (row["job"], bytes(row["path"]))
        generations[key] = generations.get(key, 0) + 1
        of = counts.get(row["tail_id"], {"rows_loaded": 0})
        found.append(
            {
                "tail_id": row["tail_id"],
                "job": row["job"],
                "generation": generations[key],
                "state": row["state"],
                "is_on_disk": row["inode"] != 0,
                "offset": row["offset"],
                "began_at": utc(row["began_at_s"]),
                "changed_at": utc(row["changed_at_s"]),
                "segments": {state: n for state, n in of.items() if state != "rows_loaded"},
                "rows_loaded": of["rows_loaded"],
            }
        )
    return found
