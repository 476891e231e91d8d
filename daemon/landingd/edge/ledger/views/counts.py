"""What is counted over all jobs."""

import sqlite3

from landingd.edge.ledger.views.opening import Answer


def counts(db: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """File versions by job and state."""
    found: dict[str, dict[str, int]] = {}
    for row in db.execute("SELECT job, state, count(*) AS n FROM files GROUP BY 1, 2"):
        found.setdefault(row["job"], {})[row["state"]] = row["n"]
    return found


def pending(db: sqlite3.Connection, job: str) -> Answer:
    """Complete files that no run has taken."""
    row = db.execute(
        "SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM files "
        "WHERE job = ? AND state = 'waiting' AND run_id IS NULL AND content_hash IS NOT NULL",
        (job,),
    ).fetchone()
    return dict(row)


def newest_ids(db: sqlite3.Connection) -> str:
    """The newest run and the newest file, as one word."""
    row = db.execute(
        "SELECT (SELECT max(run_id) FROM runs) AS run, (SELECT max(file_id) FROM files) AS file"
    ).fetchone()
    return f"{row['run']}/{row['file']}"


def outbox_size(db: sqlite3.Connection) -> int:
    """Events that the broker has not acknowledged."""
    return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])


def cleanup_failing(db: sqlite3.Connection) -> int:
    """Versions whose files could not be archived or deleted so far."""
    row = db.execute(
        "SELECT count(*) FROM files WHERE cleanup_error IS NOT NULL "
        "AND (presence IN ('present', 'archived') OR cleaning IS NOT NULL)"
    ).fetchone()
    return int(row[0])
