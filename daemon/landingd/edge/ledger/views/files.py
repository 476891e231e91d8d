"""File versions: one line for each, and the whole story of one path."""

import json
import sqlite3
from collections.abc import Sequence

from landingd.edge.ledger.views.opening import Answer
from landingd.model import shown, utc

_FILES = (
    "SELECT f.*, r.state AS run_state, r.result AS run_result, sum(l.rows_in) AS rows_in, "
    "sum(l.rows_loaded) AS rows_loaded, sum(l.rows_rejected) AS rows_rejected, sum(l.rows_dropped) AS rows_dropped, "
    "sum(l.rows_rescued) AS rows_rescued FROM files f LEFT JOIN loads l USING (file_id) "
    "LEFT JOIN runs r ON r.run_id = f.run_id"
)


def files(db: sqlite3.Connection, *, state: str | None, job: str | None, limit: int) -> list[Answer]:
    """File versions, the newest first."""
    rows = db.execute(
        f"{_FILES} WHERE (?1 IS NULL OR f.state = ?1) AND (?2 IS NULL OR f.job = ?2) GROUP BY f.file_id "
        "ORDER BY f.file_id DESC LIMIT ?3",
        (state, job, limit),
    )
    return [_file(row) for row in rows]


def file_answers(db: sqlite3.Connection, file_ids: Sequence[int]) -> list[Answer]:
    """These versions, by their ids."""
    listed = json.dumps(list(file_ids))
    rows = db.execute(
        f"{_FILES} WHERE f.file_id IN (SELECT value FROM json_each(?)) GROUP BY f.file_id ORDER BY f.file_id", (listed,)
    )
    return [_file(row) for row in rows]


def versions(db: sqlite3.Connection, path: bytes, *, newest: int | None = None) -> list[Answer]:
    """Every version of a path, oldest first, with what each task made of it; by its end where nothing has the whole."""
    where, value = _named(db, path)
    rows = db.execute(
        f"{_FILES} WHERE {where} GROUP BY f.file_id ORDER BY f.path, f.job, f.file_id", (value,)
    ).fetchall()
    rows = rows if newest is None else rows[-newest:]
    return [_file(row) | {"loads": _loads(db, row["file_id"])} for row in rows]


def paths_named(db: sqlite3.Connection, path: bytes) -> list[bytes]:
    """The paths that a name may mean: that of its own, or all that end with it."""
    where, value = _named(db, path)
    rows = db.execute(f"SELECT DISTINCT f.path FROM files f WHERE {where} ORDER BY f.path", (value,))
    return [bytes(row["path"]) for row in rows]


def path_of(db: sqlite3.Connection, file_id: int) -> bytes | None:
    """The path of a version, as bytes; None: there is no such version."""
    row = db.execute("SELECT path FROM files WHERE file_id = ?", (file_id,)).fetchone()
    return bytes(row["path"]) if row else None


# --- versions of which something is asked ---------------------------------------------------------------------


def ids_at(db: sqlite3.Connection, path: bytes) -> list[int]:
    """The versions of one path, oldest first."""
    return [row["file_id"] for row in db.execute("SELECT file_id FROM files WHERE path = ? ORDER BY file_id", (path,))]


def ids_of(db: sqlite3.Connection, *, job: str | None) -> list[int]:
    """Every complete version that has not given way, of a job or of all, oldest first."""
    rows = db.execute(
        "SELECT file_id FROM files WHERE (?1 IS NULL OR job = ?1) AND state <> 'replaced' "
        "AND content_hash IS NOT NULL ORDER BY file_id",
        (job,),
    )
    return [row["file_id"] for row in rows]


def asked_versions(db: sqlite3.Connection, file_ids: Sequence[int]) -> list[Answer]:
    """What is to be known of versions of which something is asked; times as Unix seconds."""
    rows = db.execute(
        f"{_FILES} WHERE f.file_id IN (SELECT value FROM json_each(?)) GROUP BY f.file_id ORDER BY f.file_id",
        (json.dumps(list(file_ids)),),
    )
    return [
        {
            "file_id": row["file_id"],
            "job": row["job"],
            "path": bytes(row["path"]),
            "name": row["name"],
            "state": row["state"],
            "presence": row["presence"],
            "reason": row["reason"],
            "is_complete": row["content_hash"] is not None,
            "duplicate_of": row["duplicate_of"],
            "twin": _twin(db, row["file_id"]),
            "rows_rejected": row["rows_rejected"] or 0,
            "seen_s": row["seen_at_s"],
            "loaded_s": row["loaded_at_s"],
            "is_segment": json.loads(row["facts"]).get("segment") is not None,
            "is_left": row["run_state"] == "TERMINATED" and row["run_result"] != "SUCCESS" and row["wanted"] is None,
        }
        for row in rows
    ]


def _twin(db: sqlite3.Connection, file_id: int) -> int | None:
    """Another version with the same bytes, for the same tasks, that is loaded or about to be."""
    row = db.execute(
        "SELECT min(t.file_id) AS file_id FROM files f JOIN files t ON t.content_hash = f.content_hash "
        "AND t.job = f.job AND t.taken_by = f.taken_by AND t.path <> f.path WHERE f.file_id = ? AND t.leaving = 0 "
        "AND t.state IN ('waiting', 'loaded')",
        (file_id,),
    ).fetchone()
    return None if row["file_id"] is None else int(row["file_id"])


def requested_runs(db: sqlite3.Connection, trigger_key: str) -> dict[str, int]:
    """The runs of a request that was accepted before: `{job: run_id}`."""
    rows = db.execute("SELECT job, run_id FROM runs WHERE trigger_key = ?", (trigger_key,))
    return {row["job"]: row["run_id"] for row in rows}


def files_given(db: sqlite3.Connection, run_id: int) -> list[int]:
    """The versions that a run was formed with."""
    rows = db.execute("SELECT file_id FROM run_files WHERE run_id = ? ORDER BY file_id", (run_id,))
    return [row["file_id"] for row in rows]


# --- as they are told -----------------------------------------------------------------------------------------


def _named(db: sqlite3.Connection, path: bytes) -> tuple[str, bytes]:
    """The condition that finds a path, or, where nothing has it, every path that ends with it."""
    if db.execute("SELECT 1 FROM files WHERE path = ?1 LIMIT 1", (path,)).fetchone():
        return "f.path = ?1", path
    # The slash is put before it here: SQLite's || makes text of blobs, and text never equals a blob.
    return "substr(f.path, -length(?1)) = ?1", b"/" + path


def _loads(db: sqlite3.Connection, file_id: int) -> list[Answer]:
    loads = db.execute("SELECT * FROM loads WHERE file_id = ? ORDER BY loaded_at_s, task_key", (file_id,))
    return [
        {
            "task_key": load["task_key"],
            "run_id": load["run_id"],
            "attempt": load["attempt"],
            "rows_in": load["rows_in"],
            "rows_loaded": load["rows_loaded"],
            "rows_rejected": load["rows_rejected"],
            "rows_dropped": load["rows_dropped"],
            "rows_rescued": load["rows_rescued"],
            "loaded_at": utc(load["loaded_at_s"]),
        }
        for load in loads
    ]


def _file(row: sqlite3.Row) -> Answer:
    return {
        "file_id": row["file_id"],
        "job": row["job"],
        "file": row["name"],
        "state": row["state"],
        "presence": row["presence"],
        "reason": row["reason"],
        "evidence": row["evidence"],
        "content_hash": row["content_hash"],
        "size": row["size"],
        "duplicates": row["duplicates"],
        "duplicate_of": row["duplicate_of"],
        "wanted": row["wanted"],
        "failures": row["failures"],
        "rows_in": row["rows_in"],
        "rows_loaded": row["rows_loaded"],
        "rows_rejected": row["rows_rejected"],
        "rows_dropped": row["rows_dropped"],
        "rows_rescued": row["rows_rescued"],
        "run_id": row["run_id"],
        "seen_at": utc(row["seen_at_s"]),
        "complete_at": utc(row["complete_at_s"]),
        "loaded_at": utc(row["loaded_at_s"]),
        **_after_loading(row),
    }


def _after_loading(row: sqlite3.Row) -> Answer:
    """What became of the bytes, as far as it was us."""
    return {
        "archived_as": None if row["archive_path"] is None else shown(row["archive_path"]),
        "cleaned_at": utc(row["cleaned_at_s"]),
        "cleanup_failures": row["cleanup_failures"],
        "cleanup_error": row["cleanup_error"],
        "cleanup_retry_at": utc(row["cleanup_retry_at_s"]),
    }
