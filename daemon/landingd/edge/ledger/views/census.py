"""What a census counts: which versions the ledger takes to be on disk, and whether their rows add up."""

import sqlite3
from collections.abc import Sequence

from landingd.edge.ledger.tails import IS_SEGMENT
from landingd.edge.ledger.views.opening import Answer

Standing = tuple[int, bytes, str, bool, bool, tuple[int, int, int, int, int], float]
"""`(file_id, path, state, is_complete, is_cleaned, (size, mtime_ns, ctime_ns, inode, device), seen_s)`."""

_STANDING = (
    "SELECT file_id, path, state, content_hash IS NOT NULL, cleaning IS NOT NULL, "
    "size, mtime_ns, ctime_ns, inode, device, seen_at_s "
    f"FROM files WHERE job = ? AND presence = 'present' AND state <> 'replaced' AND NOT {IS_SEGMENT}"
)


def standing(db: sqlite3.Connection, job: str, paths: Sequence[bytes] | None = None) -> list[Standing]:
    """Every version of a job that should be on disk as a file, of all paths or of these; no segments of files."""
    with_cursor = db.cursor()
    with_cursor.row_factory = None  # a hundred thousand of them: plain tuples
    if paths is None:
        rows = with_cursor.execute(_STANDING, (job,)).fetchall()
    else:
        rows = [row for path in paths for row in with_cursor.execute(f"{_STANDING} AND path = ?", (job, path))]
    return [(row[0], row[1], row[2], bool(row[3]), bool(row[4]), _stat(row), row[10]) for row in rows]


def uneven_loads(db: sqlite3.Connection, job: str) -> list[Answer]:
    """Loads in which not every row of the file is accounted for."""
    rows = db.execute(
        "SELECT l.*, f.name FROM loads l JOIN files f USING (file_id) "
        "WHERE f.job = ? AND l.rows_in <> l.rows_loaded + l.rows_rejected + l.rows_dropped ORDER BY l.file_id",
        (job,),
    )
    return [dict(row) for row in rows]


def loaded_nowhere(db: sqlite3.Connection, job: str) -> list[Answer]:
    """Versions that are loaded, and in no task's table."""
    rows = db.execute(
        "SELECT file_id, name FROM files f WHERE job = ? AND state = 'loaded' "
        "AND NOT EXISTS (SELECT 1 FROM loads l WHERE l.file_id = f.file_id) ORDER BY file_id",
        (job,),
    )
    return [dict(row) for row in rows]


def loads_of(db: sqlite3.Connection, job: str, task_key: str) -> dict[int, tuple[int, int, int]]:
    """What a task's table should hold: `{file_id: (rows_in, rows_loaded, rows_rejected)}`."""
    rows = db.execute(
        "SELECT l.file_id, l.rows_in, l.rows_loaded, l.rows_rejected FROM loads l JOIN files f USING (file_id) "
        "WHERE f.job = ? AND l.task_key = ?",
        (job, task_key),
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def recorded_mounts(db: sqlite3.Connection) -> dict[str, tuple[str, float]]:
    """The mount that each watched directory was on when it was in order, and when that was."""
    rows = db.execute("SELECT directory, mount, seen_at_s FROM roots")
    return {row["directory"]: (row["mount"], row["seen_at_s"]) for row in rows}


def _stat(row: sqlite3.Row) -> tuple[int, int, int, int, int]:
    mask = (1 << 64) - 1  # SQLite's integers are signed; some file systems use all 64 bits of an inode number
    return (row[5], row[6], row[7], row[8] & mask, row[9] & mask)
