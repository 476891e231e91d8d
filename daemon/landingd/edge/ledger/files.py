"""The verbs about file versions."""

import sqlite3
from dataclasses import dataclass

from landingd.model import Arrival, AttemptKey, FileLoad, FileRef, FileState, Signature, shown

Row = sqlite3.Row
_KNOWN = "file_id, content_hash, state, reason, size, mtime_ns, ctime_ns, inode, device"


@dataclass(frozen=True, slots=True)
class KnownFile:
    """The newest version of a path that the ledger knows."""

    file_id: int
    content_hash: str
    state: FileState
    signature: Signature
    reason: str


class FileVerbs:
    """What can happen to a file, and what can be asked of one. See Ledger."""

    _db: sqlite3.Connection

    def known_files(self, job: str) -> dict[bytes, KnownFile]:
        """The newest complete version of each path of a job that has not given way."""
        rows = self._db.execute(
            f"SELECT path, {_KNOWN} FROM files WHERE job = ? AND state <> 'replaced' AND content_hash IS NOT NULL "
            "ORDER BY file_id",
            (job,),
        )
        return {row["path"]: _known(row) for row in rows}

    def newest(self, job: str, path: bytes) -> KnownFile | None:
        """The newest complete version of one path that has not given way."""
        row = self._db.execute(
            f"SELECT {_KNOWN} FROM files WHERE path = ? AND job = ? AND state <> 'replaced' "
            "AND content_hash IS NOT NULL ORDER BY file_id DESC LIMIT 1",
            (path, job),
        ).fetchone()
        return _known(row) if row else None

    def add_waiting(self, job: str, path: bytes, signature: Signature, *, reason: str, now_s: float) -> None:
        """A file is seen and not complete: one row per path, its reason kept current."""
        self._db.execute(
            "INSERT INTO files (job, path, name, state, reason, size, mtime_ns, ctime_ns, inode, device, seen_at_s) "
            "VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (job, path) WHERE state = 'waiting' DO UPDATE SET reason = excluded.reason "
            "WHERE content_hash IS NULL",
            (job, path, shown(path), reason, *_signature(signature), now_s),
        )

    def forget_waiting(self, job: str, path: bytes) -> None:
        """A file went away before it was complete."""
        self._db.execute(
            "DELETE FROM files WHERE job = ? AND path = ? AND state = 'waiting' AND content_hash IS NULL",
            (job, path),
        )

    def incomplete(self, job: str) -> list[bytes]:
        """Paths that are waited for."""
        rows = self._db.execute(
            "SELECT path FROM files WHERE job = ? AND state = 'waiting' AND content_hash IS NULL", (job,)
        )
        return [row["path"] for row in rows]

    def add_version(self, arrival: Arrival) -> int:
        """A complete version enters as waiting; the row of its own wait becomes it. Returns its file id."""
        values = (
            arrival.content_hash,
            arrival.evidence,
            arrival.records,
            *_signature(arrival.signature),
            arrival.complete_s,
        )
        row = self._db.execute(
            "UPDATE files SET content_hash = ?, evidence = ?, records = ?, size = ?, mtime_ns = ?, ctime_ns = ?, "
            "inode = ?, device = ?, complete_at_s = ?, reason = 'complete; waiting for a run' "
            "WHERE job = ? AND path = ? AND state = 'waiting' AND content_hash IS NULL RETURNING file_id",
            (*values, arrival.job, arrival.path),
        ).fetchone()
        if row is None:
            row = self._db.execute(
                "INSERT INTO files (content_hash, evidence, records, size, mtime_ns, ctime_ns, inode, device, "
                "complete_at_s, reason, state, job, path, name, seen_at_s) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'complete; waiting for a run', 'waiting', ?, ?, ?, ?) "
                "RETURNING file_id",
                (*values, arrival.job, arrival.path, shown(arrival.path), arrival.seen_s),
            ).fetchone()
        return int(row["file_id"])

    def note_duplicate(self, file_id: int, signature: Signature, *, came_again: bool) -> None:
        """The same bytes again under the same path: remember what stat says now, so as not to hash them again."""
        self._db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, device = ?, duplicates = duplicates + ? "
            "WHERE file_id = ?",
            (*_signature(signature), int(came_again), file_id),
        )

    def replace(self, file_id: int, *, reason: str) -> None:
        """A version gives way to a newer one."""
        self._db.execute(
            "UPDATE files SET state = 'replaced', reason = ? WHERE file_id = ? AND state <> 'replaced'",
            (reason, file_id),
        )

    def quarantine(self, file_id: int, *, reason: str) -> None:
        """A waiting version cannot be loaded."""
        self._db.execute(
            "UPDATE files SET state = 'quarantined', reason = ? WHERE file_id = ? AND state = 'waiting'",
            (reason, file_id),
        )

    def load(self, key: AttemptKey, load: FileLoad, *, now_s: float) -> list[int]:
        """A version's rows are in a task's table. Returns the older versions whose rows left it for that."""
        gone = self.replaced_by(load.file_id, key.task_key)
        self._db.executemany(
            "DELETE FROM loads WHERE file_id = ? AND task_key = ?",
            [(file_id, key.task_key) for file_id in gone],
        )
        self._db.execute(
            "INSERT OR REPLACE INTO loads VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                load.file_id,
                key.task_key,
                key.run_id,
                key.attempt,
                load.rows_in,
                load.rows_loaded,
                load.rows_rejected,
                now_s,
            ),
        )
        self._db.execute(
            "UPDATE files SET state = 'replaced', reason = 'replaced by file ' || ?1 WHERE state = 'loaded' "
            "AND file_id < ?1 AND (job, path) = (SELECT job, path FROM files WHERE file_id = ?1)",
            (load.file_id,),
        )
        self._db.execute(
            "UPDATE files SET state = 'loaded', reason = '', loaded_at_s = ? WHERE file_id = ? AND state = 'waiting'",
            (now_s, load.file_id),
        )
        return gone

    def replaced_by(self, file_id: int, task_key: str) -> list[int]:
        """Older versions of the same path whose rows are in a task's table."""
        rows = self._db.execute(
            "SELECT l.file_id FROM files f "
            "JOIN files old ON old.path = f.path AND old.job = f.job AND old.file_id < f.file_id "
            "JOIN loads l ON l.file_id = old.file_id AND l.task_key = ? WHERE f.file_id = ?",
            (task_key, file_id),
        )
        return [row["file_id"] for row in rows]

    def file(self, file_id: int) -> Row:
        """One version."""
        row: Row = self._db.execute("SELECT * FROM files WHERE file_id = ?", (file_id,)).fetchone()
        return row

    def pending_files(self, job: str, limit: int) -> list[int]:
        """Complete versions that no run has taken, oldest first."""
        rows = self._db.execute(
            "SELECT file_id FROM files WHERE job = ? AND state = 'waiting' AND run_id IS NULL "
            "AND content_hash IS NOT NULL ORDER BY file_id LIMIT ?",
            (job, limit),
        )
        return [row["file_id"] for row in rows]

    def files_to_load(self, run_id: int) -> list[FileRef]:
        """The run's versions that may be loaded: not replaced by a newer one, not quarantined."""
        rows = self._db.execute(
            "SELECT f.* FROM run_files r JOIN files f USING (file_id) "
            "WHERE r.run_id = ? AND f.state IN ('waiting', 'loaded') ORDER BY file_id",
            (run_id,),
        )
        return [
            FileRef(row["file_id"], row["path"], row["content_hash"], _signature_of(row), row["records"])
            for row in rows
        ]


def _known(row: Row) -> KnownFile:
    return KnownFile(row["file_id"], row["content_hash"], FileState(row["state"]), _signature_of(row), row["reason"])


def _signature(s: Signature) -> tuple[int, int, int, int, int]:
    return (s.size, s.mtime_ns, s.ctime_ns, _signed(s.inode), _signed(s.device))


def _signed(number: int) -> int:
    """SQLite's integers are signed; some file systems use all 64 bits of an inode number."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _signature_of(row: Row) -> Signature:
    mask = (1 << 64) - 1
    return Signature(row["size"], row["mtime_ns"], row["ctime_ns"], row["inode"] & mask, row["device"] & mask)
