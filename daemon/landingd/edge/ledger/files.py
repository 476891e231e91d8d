"""The verbs about file versions: how they enter, give way, and leave."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from landingd.model import (
    Arrival,
    AttemptKey,
    Facts,
    FileAction,
    FileLoad,
    FileRef,
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

    def turns(self, file_ids: Collection[int]) -> list[tuple[int, int]]:
        """How often each of these was given to a run: `(file_id, turns)`."""
        return [(file_id, self.file(file_id)["turns"]) for file_id in file_ids]

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


def _gone(presence: str) -> str:
    """SQL: what becomes of a version that left its path, where the archive may hold a copy of it."""
    return f"iif(archive_path IS NULL OR cleaning IS NOT NULL, '{presence}', 'archived')"


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
