"""The verbs about file versions: how they enter, give way, and leave."""

import json
import sqlite3
from dataclasses import asdict, dataclass

from landingd.model import (
    Arrival,
    FileAction,
    FileState,
    Presence,
    Signature,
    shown,
)

Row = sqlite3.Row
_KNOWN = (
    "file_id, content_hash, state, presence, cleaning, reason, wanted, leaving, size, mtime_ns, ctime_ns, inode, device"
)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """The newest version of a path that the ledger knows."""

    file_id: int
    content_hash: str
    state: FileState
    presence: Presence
    signature: Signature
    reason: str
    wanted: FileAction | None
    leaving: bool
    cleaning: bool
    """Its file is being archived or deleted: that it is not at its path means nothing."""


class FileVerbs:
    """What can happen to a file, and what can be asked of one. See Ledger."""

    _db: sqlite3.Connection

    # -- what is known --

    def known_files(self, job: str) -> dict[bytes, KnownFile]:
        """The complete version that stands at each path of a job."""
        rows = self._db.execute(
            f"SELECT path, {_KNOWN} FROM files WHERE job = ? AND presence = 'present' AND state <> 'replaced' "
            "AND content_hash IS NOT NULL ORDER BY file_id",
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

    def standing_versions(self, job: str, path: bytes) -> list[KnownFile]:
        """Every complete version of one path that has not given way, oldest first."""
        rows = self._db.execute(
            f"SELECT {_KNOWN} FROM files WHERE path = ? AND job = ? AND state <> 'replaced' "
            "AND content_hash IS NOT NULL ORDER BY file_id",
            (path, job),
        )
        return [_known(row) for row in rows]

    def loaded_versions(self, job: str, path: bytes) -> list[int]:
        """The versions of one path whose rows are in tables and are to stay there, oldest first."""
        rows = self._db.execute(
            "SELECT file_id FROM files WHERE path = ? AND job = ? AND state = 'loaded' AND leaving = 0 "
            "ORDER BY file_id",
            (path, job),
        )
        return [row["file_id"] for row in rows]

    def loaded_with(self, job: str, path: bytes, content_hash: str) -> KnownFile | None:
        """A loaded version of one path with these bytes."""
        row = self._db.execute(
            f"SELECT {_KNOWN} FROM files WHERE path = ? AND job = ? AND state = 'loaded' AND leaving = 0 "
            "AND content_hash = ? ORDER BY file_id DESC LIMIT 1",
            (path, job, content_hash),
        ).fetchone()
        return _known(row) if row else None

    def twin(self, arrival: Arrival) -> int | None:
        """A version of another path with the same bytes, for the same tasks, that is loaded or about to be."""
        row = self._db.execute(
            "SELECT min(file_id) AS file_id FROM files WHERE content_hash = ? AND job = ? AND path <> ? "
            "AND state IN ('waiting', 'loaded') AND leaving = 0 AND taken_by = ?",
            (arrival.content_hash, arrival.job, arrival.path, json.dumps(arrival.taken_by)),
        ).fetchone()
        return row["file_id"] if row else None

    def file(self, file_id: int) -> Row:
        """One version."""
        row: Row = self._db.execute("SELECT * FROM files WHERE file_id = ?", (file_id,)).fetchone()
        return row

    # -- arriving --

    def add_waiting(self, job: str, path: bytes, signature: Signature, *, reason: str, now_s: float) -> None:
        """A file is seen and not complete: one row per path, its reason kept current."""
        self._db.execute(
            "INSERT INTO files (job, path, name, state, reason, size, mtime_ns, ctime_ns, inode, device, seen_at_s) "
            "VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (job, path) WHERE state = 'waiting' AND content_hash IS NULL "
            "DO UPDATE SET reason = excluded.reason, size = excluded.size",
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

    def add_version(self, arrival: Arrival, *, keeps_older: bool = False) -> int:
        """A complete version enters as waiting for a run; the row of its own wait becomes it. Returns its file id."""
        values = (
            arrival.content_hash,
            arrival.evidence,
            json.dumps(asdict(arrival.facts)),
            json.dumps(arrival.taken_by),
            keeps_older,
            *_signature(arrival.signature),
            arrival.complete_s,
        )
        row = self._db.execute(
            "UPDATE files SET content_hash = ?, evidence = ?, facts = ?, taken_by = ?, keeps_older = ?, size = ?, "
            "mtime_ns = ?, ctime_ns = ?, inode = ?, device = ?, complete_at_s = ?, "
            "reason = 'complete; waiting for a run', wanted = 'load' "
            "WHERE job = ? AND path = ? AND state = 'waiting' AND content_hash IS NULL RETURNING file_id",
            (*values, arrival.job, arrival.path),
        ).fetchone()
        if row is None:
            row = self._db.execute(
                "INSERT INTO files (content_hash, evidence, facts, taken_by, keeps_older, size, mtime_ns, ctime_ns, "
                "inode, device, complete_at_s, reason, wanted, state, job, path, name, seen_at_s) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'complete; waiting for a run', 'load', 'waiting', "
                "?, ?, ?, ?) RETURNING file_id",
                (*values, arrival.job, arrival.path, shown(arrival.path), arrival.seen_s),
            ).fetchone()
        return int(row["file_id"])

    def note_duplicate(self, file_id: int, signature: Signature, *, came_again: bool) -> None:
        """The same bytes again under the same path: they stand there now, whatever stat says of them."""
        self._db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, device = ?, "
            "duplicates = duplicates + ?, presence = 'present', cleanup_failures = 0, cleanup_retry_at_s = NULL, "
            # A run that has it may have found the file changed already, and would call it lost.
            "wanted = iif(state = 'waiting', 'load', wanted) WHERE file_id = ?",
            (*_signature(signature), int(came_again), file_id),
        )

    def be_duplicate(self, file_id: int, *, of: int, reason: str) -> None:
        """Waiting -> duplicate: the same bytes are loaded, or about to be, under another path."""
        self._db.execute(
            "UPDATE files SET state = 'duplicate', duplicate_of = ?, reason = ?, wanted = NULL "
            "WHERE file_id = ? AND state = 'waiting'",
            (of, reason, file_id),
        )

    def promote_duplicate(self, of: int) -> None:
        """The version that others are duplicates of has left: another one with its bytes takes its part.

        That is one that is loaded or about to be, else the oldest duplicate: duplicate -> waiting.
        """
        heir = self._db.execute(
            "SELECT min(h.file_id) AS file_id FROM files f JOIN files h ON h.content_hash = f.content_hash "
            "AND h.job = f.job AND h.taken_by = f.taken_by AND h.file_id <> f.file_id AND h.leaving = 0 "
            "AND h.state IN ('waiting', 'loaded') WHERE f.file_id = ? "
            "AND EXISTS (SELECT 1 FROM files WHERE duplicate_of = f.file_id AND state = 'duplicate')",
            (of,),
        ).fetchone()["file_id"]
        if heir is None:
            row = self._db.execute(
                "UPDATE files SET state = 'waiting', duplicate_of = NULL, wanted = 'load', "
                "reason = 'the file that it was a duplicate of has left; waiting for a run' "
                "WHERE file_id = (SELECT min(file_id) FROM files WHERE duplicate_of = ? AND state = 'duplicate' "
                "AND presence IN ('present', 'archived')) RETURNING file_id",
                (of,),
            ).fetchone()
            heir = row["file_id"] if row else None
        self._db.execute("UPDATE files SET duplicate_of = ? WHERE duplicate_of = ? AND state = 'duplicate'", (heir, of))

    # -- leaving the disk --

    def overwrite(self, job: str, path: bytes, *, but: int | None = None) -> None:
        """Other bytes stand at the path now: those of version `but`, or of one that is about to enter."""
        self._db.execute(
            f"UPDATE files SET presence = {_gone('overwritten')} WHERE job = ? AND path = ? AND presence = 'present' "
            "AND content_hash IS NOT NULL AND file_id IS NOT ?",
            (job, path, but),
        )

    def remove(self, file_id: int) -> None:
        """The file is not on disk any more. Of a loaded version the rows stay; a duplicate is nothing any more."""
        self._db.execute(
            f"UPDATE files SET presence = {_gone('removed')}, "
            "reason = CASE state WHEN 'quarantined' THEN reason WHEN 'loaded' THEN 'removed from disk; its rows stay' "
            "ELSE 'removed from disk' END, "
            "state = iif(state = 'duplicate' OR (state = 'waiting' AND wanted IS NOT NULL), 'retracted', state), "
            "wanted = iif(state = 'waiting', NULL, wanted) "
            "WHERE file_id = ? AND presence = 'present' AND cleaning IS NULL",
            (file_id,),
        )

    def want(self, file_id: int, action: FileAction, *, reason: str) -> None:
        """The job's next run is to do this. Quarantined and retracted versions wait from now on."""
        self._db.execute(
            "UPDATE files SET wanted = ?1, reason = ?2, leaving = (?1 = 'retract'), failures = 0, "
            "state = CASE WHEN ?1 <> 'retract' AND state IN ('quarantined', 'retracted') THEN 'waiting' ELSE state END "
            "WHERE file_id = ?3",
            (action.value, reason, file_id),
        )

    def want_no_more(self, file_id: int) -> None:
        """A removal that no run has taken up yet is called off: the file is back."""
        self._db.execute(
            "UPDATE files SET wanted = NULL, leaving = 0, reason = '', presence = 'present' "
            "WHERE file_id = ? AND wanted = 'retract'",
            (file_id,),
        )

    # -- giving way --

    def replace(self, file_id: int, *, reason: str) -> None:
        """A version gives way to a newer one."""
        self._db.execute(
            "UPDATE files SET state = 'replaced', reason = ?, wanted = NULL, leaving = 0, "
            f"presence = iif(presence = 'present', {_gone('overwritten')}, presence) "
            "WHERE file_id = ? AND state <> 'replaced'",
            (reason, file_id),
        )

    def quarantine(self, file_id: int, *, reason: str) -> None:
        """Waiting -> quarantined. A loaded version that was to be loaded anew stays as it is, and says why."""
        self._db.execute(
            "UPDATE files SET reason = iif(state = 'waiting', ?1, 'not loaded anew: ' || ?1), "
            "state = iif(state = 'waiting', 'quarantined', state), wanted = NULL "
            "WHERE file_id = ?2 AND state IN ('waiting', 'loaded')",
            (reason, file_id),
        )

    def lose(self, run_id: int, file_id: int, *, reason: str) -> bool:
        """A version went away, or other bytes came, before it was loaded. What was to be loaded anew stays.

        False: it was seen again meanwhile, and waits for the next run. Otherwise the version before it stands at the
        path again, as far as is known.
        """
        before = self.file(file_id)
        if before["state"] == "waiting" and before["wanted"] == "load" and before["presence"] == "present":
            self._db.execute("DELETE FROM run_files WHERE run_id = ? AND file_id = ?", (run_id, file_id))
            return False
        self._db.execute(
            "UPDATE files SET reason = iif(state = 'waiting', ?1, 'not loaded anew: ' || ?1), "
            "presence = iif(presence = 'present' AND state = 'waiting', 'overwritten', presence), "
            "state = iif(state = 'waiting', 'replaced', state), wanted = NULL, leaving = leaving AND state = 'loaded' "
            "WHERE file_id = ?2 AND state IN ('waiting', 'loaded')",
            (reason, file_id),
        )
        if before["state"] == "waiting" and before["presence"] == "present":
            self._db.execute(
                "UPDATE files SET presence = 'present' WHERE presence = 'overwritten' AND state = 'loaded' "
                "AND file_id = (SELECT max(file_id) FROM files WHERE job = ?1 AND path = ?2 AND state <> 'replaced' "
                "AND content_hash IS NOT NULL)",
                (before["job"], before["path"]),
            )
        return True


def _gone(presence: str) -> str:
    """SQL: what becomes of a version that left its path, where the archive may hold a copy of it."""
    return f"iif(archive_path IS NULL OR cleaning IS NOT NULL, '{presence}', 'archived')"


def _known(row: Row) -> KnownFile:
    return KnownFile(
        row["file_id"],
        row["content_hash"],
        FileState(row["state"]),
        Presence(row["presence"]),
        signature_of(row),
        row["reason"],
        FileAction(row["wanted"]) if row["wanted"] else None,
        bool(row["leaving"]),
        row["cleaning"] is not None,
    )


def _signature(s: Signature) -> tuple[int, int, int, int, int]:
    return (s.size, s.mtime_ns, s.ctime_ns, signed(s.inode), signed(s.device))


def signed(number: int) -> int:
    """SQLite's integers are signed; some file systems use all 64 bits of an inode number."""
    return number - (1 << 64) if number >= 1 << 63 else number


def signature_of(row: Row) -> Signature:
    mask = (1 << 64) - 1
    return Signature(row["size"], row["mtime_ns"], row["ctime_ns"], row["inode"] & mask, row["device"] & mask)
