"""The verbs about what runs do with file versions: which have to be loaded, and what came of them."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from landingd.edge.ledger.files import signature_of
from landingd.model import AttemptKey, Facts, FileAction, FileLoad, FileRef

Row = sqlite3.Row


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A version with which the next run has to do something."""

    file_id: int
    path: bytes
    size: int


class LoadVerbs:
    """Versions in runs and in tables. See Ledger."""

    _db: sqlite3.Connection

    # -- tables --

    def load(self, key: AttemptKey, load: FileLoad, *, now_s: float) -> list[int]:
        """A version's rows are in a task's table. Returns the older versions that have given way to it for good."""
        gone = self.replaced_by(load.file_id, key.task_key)
        self._db.executemany(
            "DELETE FROM loads WHERE file_id = ? AND task_key = ?",
            [(file_id, key.task_key) for file_id in gone],
        )
        self._db.execute(
            "INSERT OR REPLACE INTO loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                load.file_id,
                key.task_key,
                key.run_id,
                key.attempt,
                load.rows_in,
                load.rows_loaded,
                load.rows_rejected,
                load.rows_dropped,
                load.rows_rescued,
                now_s,
            ),
        )
        self._db.executemany(
            "UPDATE files SET state = 'replaced', reason = 'replaced by file ' || ?, leaving = 0 "
            "WHERE file_id = ? AND state = 'loaded'",
            [(load.file_id, file_id) for file_id in gone],
        )
        self._db.execute(
            "UPDATE files SET loaded_at_s = iif(state = 'waiting', ?, loaded_at_s), state = 'loaded', reason = '', "
            "failures = 0, wanted = iif(wanted = 'load', NULL, wanted) "
            "WHERE file_id = ? AND state IN ('waiting', 'loaded')",
            (now_s, load.file_id),
        )
        return gone

    def retract(self, task_key: str, file_id: int) -> bool:
        """A version's rows have left a task's table; true when they have left every table."""
        self._db.execute("DELETE FROM loads WHERE file_id = ? AND task_key = ?", (file_id, task_key))
        row = self._db.execute(
            "UPDATE files SET state = 'retracted', leaving = 0, reason = 'its rows were taken out: ' || reason "
            "WHERE file_id = ?1 AND state = 'loaded' AND leaving = 1 "
            "AND NOT EXISTS (SELECT 1 FROM loads WHERE file_id = ?1) RETURNING file_id",
            (file_id,),
        ).fetchone()
        return row is not None

    def replaced_by(self, file_id: int, task_key: str) -> list[int]:
        """Older versions of the same path whose rows are in a task's table and leave it when this one's enter."""
        rows = self._db.execute(
            "SELECT l.file_id FROM files f "
            "JOIN files old ON old.path = f.path AND old.job = f.job AND old.file_id < f.file_id "
            "JOIN loads l ON l.file_id = old.file_id AND l.task_key = ? WHERE f.file_id = ? AND NOT f.keeps_older",
            (task_key, file_id),
        )
        return [row["file_id"] for row in rows]

    # -- runs --

    def pending_files(self, job: str, limit: int) -> list[int]:
        """Versions with which the next run has to do something, oldest first."""
        rows = self._db.execute(
            "SELECT file_id FROM files WHERE job = ? AND wanted IS NOT NULL AND cleaning IS NULL "
            "ORDER BY file_id LIMIT ?",
            (job, limit),
        )
        return [row["file_id"] for row in rows]

    def pending(self, job: str, limit: int) -> list[PendingFile]:
        """The same, with where they are and how large."""
        rows = self._db.execute(
            "SELECT file_id, path, size FROM files WHERE job = ? AND wanted IS NOT NULL AND cleaning IS NULL "
            "ORDER BY file_id LIMIT ?",
            (job, limit),
        )
        return [PendingFile(row["file_id"], row["path"], row["size"]) for row in rows]

    def turns(self, file_ids: Collection[int]) -> list[tuple[int, int]]:
        """How often each of these was given to a run: `(file_id, turns)`."""
        rows = self._db.execute(
            "SELECT file_id, turns FROM files WHERE file_id IN (SELECT value FROM json_each(?)) ORDER BY file_id",
            (json.dumps(list(file_ids)),),
        )
        return [(row["file_id"], row["turns"]) for row in rows]

    def files_of_run(self, run_id: int, task_key: str) -> list[tuple[FileRef, int, bool]]:
        """The run's versions that a task may have to do with: `(version, part, done)`.

        Not those that were replaced by a newer one or quarantined. `done`: this run has settled it for the task.
        """
        rows = self._db.execute(
            "SELECT f.*, r.action, r.part, coalesce(l.run_id, 0) = r.run_id AS loaded_here, "
            "l.file_id IS NOT NULL AS is_in FROM run_files r JOIN files f USING (file_id) "
            "LEFT JOIN loads l ON l.file_id = f.file_id AND l.task_key = ? "
            "WHERE r.run_id = ? AND (f.state IN ('waiting', 'loaded') OR r.action = 'retract') ORDER BY f.file_id",
            (task_key, run_id),
        )
        return [(_ref(row), row["part"], _done(row)) for row in rows]

    def is_split(self, run_id: int) -> bool:
        """Whether a run's versions are loaded in parts."""
        row = self._db.execute("SELECT 1 FROM run_files WHERE run_id = ? AND part > 0 LIMIT 1", (run_id,)).fetchone()
        return row is not None

    def split_part(self, run_id: int, later: Sequence[int]) -> None:
        """These versions of a run are loaded after all the others: one of either half has broken an attempt."""
        row = self._db.execute("SELECT max(part) AS part FROM run_files WHERE run_id = ?", (run_id,)).fetchone()
        self._db.executemany(
            "UPDATE run_files SET part = ? WHERE run_id = ? AND file_id = ?",
            [(row["part"] + 1, run_id, file_id) for file_id in later],
        )

    def is_in_run(self, file_id: int) -> bool:
        """Whether an attempt is under way that may load it."""
        row = self._db.execute(
            "SELECT 1 FROM files f JOIN tasks t USING (run_id) WHERE f.file_id = ? AND f.state = 'waiting' "
            "AND t.state = 'RUNNING'",
            (file_id,),
        ).fetchone()
        return row is not None

    def give_up_reload(self, run_id: int, file_id: int) -> None:
        """This run does not try to load a version anew any more: its rows stay as they are."""
        self._db.execute(
            "UPDATE run_files SET action = 'load' WHERE run_id = ? AND file_id = ? AND action = 'reload'",
            (run_id, file_id),
        )

    def blame(self, file_id: int) -> int:
        """A version has broken an attempt in which it was alone; returns how often by now."""
        row = self._db.execute(
            "UPDATE files SET failures = failures + 1 WHERE file_id = ? RETURNING failures", (file_id,)
        ).fetchone()
        return int(row["failures"])


def _done(row: Row) -> bool:
    match FileAction(row["action"]):
        case FileAction.LOAD:
            return bool(row["is_in"])
        case FileAction.RELOAD:
            return bool(row["loaded_here"])
        case FileAction.RETRACT:
            return not row["is_in"]


def _ref(row: Row) -> FileRef:
    return FileRef(
        row["file_id"],
        row["path"],
        row["content_hash"],
        signature_of(row),
        Facts(**json.loads(row["facts"])),
        row["archive_path"] if row["presence"] == "archived" else None,
        FileAction(row["action"]),
    )
