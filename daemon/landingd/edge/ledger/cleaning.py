"""The verbs about files after loading: what may leave, what is on its way, what the archive holds.

`cleaning` is the intent, synced before anything is done to a file and taken back when it is done with. A row without
it whose `archive_path` is set has a copy there, whatever its presence says. One file may be of several jobs: their
versions of it are begun, ended and given up together.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from landingd.edge.ledger.files import signature_of, signed
from landingd.model import FileRef, FileState

Row = sqlite3.Row

_BUSY = """(f.wanted IS NOT NULL OR f.leaving OR EXISTS (
    SELECT 1 FROM runs r CROSS JOIN run_files rf ON rf.run_id = r.run_id AND rf.file_id = f.file_id
    WHERE r.state <> 'TERMINATED'))"""


@dataclass(frozen=True, slots=True)
class Held:
    """A version whose bytes lie at its path, or in the archive, and what keeps it from being cleaned up."""

    job: str
    file: FileRef
    state: FileState
    busy: bool
    """A run has to do with it or is about to."""
    cleaning: bool
    lacking: frozenset[str]
    """Ingest tasks that were to take it and do not hold it."""
    unsettled: bool
    """It is a duplicate of a version that is not loaded."""
    loaded_s: float | None
    """When it was loaded; for a duplicate, when it had arrived."""
    cleaned_s: float | None
    retry_at_s: float
    archive_path: bytes | None
    """Where a copy of it lies, also while it lies at its path (it has come again)."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What was begun with one file."""

    how: str
    """archive, delete or expire."""
    file: FileRef
    file_ids: tuple[int, ...]
    """The versions of all jobs."""
    archive_path: bytes | None


class CleaningVerbs:
    """What happens to files after loading. See Ledger."""

    _db: sqlite3.Connection

    def cleanable(
        self, job: str, *, before_s: float, after: tuple[float, int], now_s: float, limit: int
    ) -> list[tuple[float, int, bytes]]:
        """Versions that were loaded before then and lie at their paths: `(since_s, file_id, path)`, in that order.

        `after`: only what comes behind this in that order.
        """
        rows = self._db.execute(
            "SELECT coalesce(loaded_at_s, complete_at_s) AS since_s, file_id, path FROM files WHERE job = ? "
            "AND presence = 'present' AND state IN ('loaded', 'duplicate') "
            "AND coalesce(loaded_at_s, complete_at_s) <= ? "
            "AND (coalesce(loaded_at_s, complete_at_s), file_id) > (?, ?) "
            "AND cleaning IS NULL AND wanted IS NULL AND coalesce(cleanup_retry_at_s, 0) <= ? "
            "ORDER BY coalesce(loaded_at_s, complete_at_s), file_id LIMIT ?",
            (job, before_s, *after, now_s, limit),
        )
        return [(row["since_s"], row["file_id"], row["path"]) for row in rows]

    def held_at(self, path: bytes) -> list[Held]:
        """What each job holds of the file at a path, complete or not."""
        return self._held("f.path = ? AND f.presence = 'present'", (path,))

    def begin_cleaning(self, file_ids: Iterable[int], how: str, archive_path: bytes | None) -> None:
        """From now on the file may be on its way, to there."""
        self._db.executemany(
            "UPDATE files SET cleaning = ?, archive_path = coalesce(archive_path, ?) WHERE file_id = ?",
            [(how, archive_path, file_id) for file_id in file_ids],
        )

    def begun(self, now_s: float) -> list[Begun]:
        """What was begun and is not done with, unless it is to be tried later."""
        rows = self._db.execute(
            "SELECT * FROM files WHERE cleaning IS NOT NULL AND coalesce(cleanup_retry_at_s, 0) <= ? ORDER BY file_id",
            (now_s,),
        ).fetchall()
        of: dict[tuple[bytes, str, str, bytes | None], list[Row]] = {}
        for row in rows:
            of.setdefault((row["path"], row["content_hash"], row["cleaning"], row["archive_path"]), []).append(row)
        return [
            Begun(how, _ref(rows[0]), tuple(row["file_id"] for row in rows), archived)
            for (_, _, how, archived), rows in of.items()
        ]

    def end_cleaning(self, begun: Begun, archive_path: bytes | None, *, now_s: float) -> list[int]:
        """It is done. Returns the versions of which it was the end.

        Not of those whose bytes came again meanwhile: they lie at the path once more, and are cleaned up once more.
        """
        presence = "deleted" if archive_path is None else "archived"
        signature = begun.file.signature
        rows = self._db.execute(
            "UPDATE files SET archive_path = ?1, cleaned_at_s = ?2, cleaning = NULL, cleanup_failures = 0, "
            "cleanup_error = NULL, cleanup_retry_at_s = NULL, "
            "presence = iif(presence = 'present' AND (size, mtime_ns, inode) <> (?3, ?4, ?5), presence, ?6) "
            f"WHERE file_id IN ({_listed(begun.file_ids)}) AND cleaning IS NOT NULL RETURNING file_id, presence",
            (archive_path, now_s, signature.size, signature.mtime_ns, signed(signature.inode), presence),
        ).fetchall()
        return sorted(row["file_id"] for row in rows if row["presence"] == presence)

    def end_expiry(self, begun: Begun) -> list[int]:
        """The archived copy is gone; returns the versions whose bytes are nowhere now."""
        rows = self._db.execute(
            "UPDATE files SET archive_path = NULL, cleaning = NULL, cleanup_failures = 0, cleanup_error = NULL, "
            "cleanup_retry_at_s = NULL, presence = iif(presence = 'archived', 'deleted', presence) "
            f"WHERE file_id IN ({_listed(begun.file_ids)}) AND cleaning = 'expire' RETURNING file_id, presence"
        ).fetchall()
        return sorted(row["file_id"] for row in rows if row["presence"] == "deleted")

    def call_off_cleaning(self, begun: Begun, kept: bytes | None, *, now_s: float) -> None:
        """The file was left at its path. `kept`: a copy of it lies there nevertheless."""
        self._db.execute(
            "UPDATE files SET cleaning = NULL, archive_path = ?1, cleaned_at_s = iif(?1 IS NULL, cleaned_at_s, ?2), "
            "presence = iif(?1 IS NOT NULL AND presence IN ('removed', 'overwritten'), 'archived', presence) "
            f"WHERE file_id IN ({_listed(begun.file_ids)})",
            (kept, now_s),
        )

    def fail_cleaning(self, file_ids: Sequence[int], error: str, *, retry_at_s: float) -> list[int]:
        """A try has failed; returns the versions for which that is news."""
        listed = _listed(file_ids)
        news = self._db.execute(
            f"SELECT file_id FROM files WHERE file_id IN ({listed}) AND cleanup_error IS NOT ?", (error,)
        ).fetchall()
        self._db.execute(
            "UPDATE files SET cleanup_failures = cleanup_failures + 1, cleanup_error = ?, cleanup_retry_at_s = ? "
            f"WHERE file_id IN ({listed})",
            (error, retry_at_s),
        )
        return [row["file_id"] for row in news]

    def expirable(
        self, job: str, *, before_s: float, after: tuple[float, int], now_s: float, limit: int
    ) -> list[tuple[float, int, bytes]]:
        """Versions whose copies came to the archive before then: `(cleaned_at_s, file_id, path)`, in that order."""
        rows = self._db.execute(
            "SELECT cleaned_at_s, file_id, path FROM files WHERE job = ? AND archive_path IS NOT NULL "
            "AND cleaned_at_s <= ? AND (cleaned_at_s, file_id) > (?, ?) AND cleaning IS NULL "
            "AND coalesce(cleanup_retry_at_s, 0) <= ? ORDER BY cleaned_at_s, file_id LIMIT ?",
            (job, before_s, *after, now_s, limit),
        )
        return [(row["cleaned_at_s"], row["file_id"], row["path"]) for row in rows]

    def held_in_archive(self, path: bytes) -> list[Held]:
        """The versions of a path of which copies lie in the archive."""
        return self._held("f.path = ? AND f.archive_path IS NOT NULL", (path,))

    def _held(self, where: str, values: Sequence[object]) -> list[Held]:
        rows = self._db.execute(
            f"SELECT f.*, {_BUSY} AS busy, o.file_id IS NOT NULL AND (o.state <> 'loaded' OR o.leaving) AS unsettled, "
            "(SELECT json_group_array(l.task_key) FROM loads l WHERE l.file_id = f.file_id) AS loaded_by "
            f"FROM files f LEFT JOIN files o ON o.file_id = f.duplicate_of WHERE {where} ORDER BY f.file_id",
            values,
        )
        return [
            Held(
                job=row["job"],
                file=_ref(row),
                state=FileState(row["state"]),
                busy=bool(row["busy"]),
                cleaning=row["cleaning"] is not None,
                lacking=_lacking(row),
                unsettled=bool(row["unsettled"]) or (row["state"] == "duplicate" and row["duplicate_of"] is None),
                loaded_s=row["loaded_at_s"] or row["complete_at_s"],
                cleaned_s=row["cleaned_at_s"],
                retry_at_s=row["cleanup_retry_at_s"] or 0.0,
                archive_path=row["archive_path"],
            )
            for row in rows
        ]


def _ref(row: Row) -> FileRef:
    return FileRef(row["file_id"], row["path"], row["content_hash"] or "", signature_of(row))


def _lacking(row: Row) -> frozenset[str]:
    if row["state"] == "duplicate":
        return frozenset()
    return frozenset(json.loads(row["taken_by"] or "[]")) - frozenset(json.loads(row["loaded_by"]))


def _listed(file_ids: Iterable[int]) -> str:
    return ",".join(map(str, file_ids))
