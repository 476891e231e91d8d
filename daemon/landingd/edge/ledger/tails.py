"""The verbs about files that keep growing: their generations, and the segments that are entered of them.

The offset moves in the transaction that enters the segment's version, and only from where the segment begins: so each
byte of a generation is in one version, whatever dies when.
"""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from landingd.edge.ledger.files import signed
from landingd.model import Facts, Segment, Signature, Tail, TailState, shown

Row = sqlite3.Row
IS_SEGMENT = """facts LIKE '%"segment": {%'"""
"""SQL: a version is a segment of a growing file."""


@dataclass(frozen=True, slots=True)
class SegmentVersion:
    """A segment that is to be entered."""

    segment: Segment
    content_hash: str
    signature: Signature
    """`size` is the segment's own; the rest is the file's."""
    facts: Facts
    evidence: str
    taken_by: tuple[str, ...]


class TailVerbs:
    """Growing files. See Ledger."""

    _db: sqlite3.Connection

    # -- generations --

    def tails(self, job: str) -> list[Tail]:
        """Every generation of a job that is on disk, as far as is known, oldest first."""
        rows = self._db.execute("SELECT * FROM tails WHERE job = ? AND inode <> 0 ORDER BY tail_id", (job,))
        return [tail_of(row) for row in rows]

    def begin_tail(
        self, job: str, path: bytes, signature: Signature, *, header: bytes | None = None, now_s: float
    ) -> Tail:
        """A new generation of a path, of which nothing is read. `header`: that of the one before it."""
        row = self._db.execute(
            "INSERT INTO tails (job, path, device, inode, header, began_at_s, changed_at_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (job, path, signed(signature.device), signed(signature.inode), header, now_s, now_s),
        ).fetchone()
        return tail_of(row)

    def advance_tail(self, tail: Tail, *, start: int) -> bool:
        """The offset moves from `start` to that of `tail`; false: it stands elsewhere, and nothing is done."""
        row = self._db.execute(
            "UPDATE tails SET offset = ?, head = ?, head_bytes = ?, header = ?, changed_at_s = ? "
            "WHERE tail_id = ? AND offset = ? RETURNING tail_id",
            (tail.offset, tail.head, tail.head_bytes, tail.header, tail.changed_s, tail.tail_id, start),
        ).fetchone()
        return row is not None

    def place_tail(self, tail: Tail) -> None:
        """Another state, or another inode: it was copied, or lies on a share that numbers files anew."""
        self._db.execute(
            "UPDATE tails SET state = ?, device = ?, inode = ?, changed_at_s = ? WHERE tail_id = ?",
            (tail.state.value, signed(tail.device), signed(tail.inode), tail.changed_s, tail.tail_id),
        )

    def drop_tail(self, tail_id: int) -> None:
        """A generation of which nothing was entered turns out to be a copy of another."""
        self._db.execute("DELETE FROM tails WHERE tail_id = ?", (tail_id,))

    def lose_tail(self, tail: Tail, *, now_s: float) -> None:
        """A finished generation is not on disk any more: what of it is not loaded is all that is left of it."""
        self._db.execute(
            "UPDATE tails SET inode = 0, state = 'finished', changed_at_s = ? WHERE tail_id = ?", (now_s, tail.tail_id)
        )
        self._db.execute(
            "UPDATE files SET presence = 'removed' WHERE job = ? AND path = ? AND presence = 'present' "
            "AND state NOT IN ('waiting', 'quarantined') "
            f"AND {IS_SEGMENT} AND json_extract(facts, '$.segment.tail') = ?",
            (tail.job, tail.path, tail.tail_id),
        )

    def tail_beginning(self, job: str, path: bytes, head: bytes) -> Tail | None:
        """A generation in the same directory that begins like this content, of which lines were entered."""
        folder = path.rpartition(b"/")[0]
        digests: dict[int, str] = {}
        for row in self._db.execute(
            "SELECT * FROM tails WHERE job = ? AND head_bytes > 0 AND offset > length(coalesce(header, '')) "
            "ORDER BY tail_id DESC",
            (job,),
        ):
            size = min(row["head_bytes"], len(head))
            digest = digests.setdefault(size, hashlib.sha256(head[:size]).hexdigest())
            if size == row["head_bytes"] and digest == row["head"] and row["path"].rpartition(b"/")[0] == folder:
                return tail_of(row)
        return None

    def be_packed_log(self, file_id: int, *, reason: str) -> None:
        """Waiting -> duplicate: it was read, line by line, before it was packed."""
        self._db.execute(
            "UPDATE files SET state = 'duplicate', reason = ?, wanted = NULL WHERE file_id = ? AND state = 'waiting'",
            (reason, file_id),
        )

    # -- segments --

    def add_segment(self, tail: Tail, version: SegmentVersion, *, keeps_older: bool = True, now_s: float) -> int:
        """A segment enters as a version that waits for a run. Returns its file id."""
        s = version.signature
        row = self._db.execute(
            "INSERT INTO files (content_hash, evidence, facts, taken_by, keeps_older, size, mtime_ns, ctime_ns, "
            "inode, device, complete_at_s, reason, wanted, state, job, path, name, seen_at_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'complete; waiting for a run', 'load', 'waiting', ?, ?, ?, ?) "
            "RETURNING file_id",
            (
                version.content_hash,
                version.evidence,
                json.dumps(asdict(version.facts)),
                json.dumps(version.taken_by),
                keeps_older,
                *(s.size, s.mtime_ns, s.ctime_ns, signed(s.inode), signed(s.device)),
                now_s,
                *(tail.job, tail.path, shown(tail.path), now_s),
            ),
        ).fetchone()
        return int(row["file_id"])

    def was_whole(self, tail: Tail) -> bool:
        """Whether a path was taken in as a whole file before it came to be tailed: those rows have to leave."""
        row = self._db.execute(
            f"SELECT 1 FROM files WHERE path = ? AND job = ? AND state <> 'replaced' AND NOT {IS_SEGMENT} "
            "AND content_hash IS NOT NULL LIMIT 1",
            (tail.path, tail.job),
        ).fetchone()
        return row is not None

    def last_segment(self, tail: Tail) -> tuple[Segment, str] | None:
        """The newest segment of a generation and its hash; None: it has none."""
        row = self._db.execute(
            f"SELECT content_hash, facts FROM files WHERE path = ? AND job = ? AND {IS_SEGMENT} "
            "AND json_extract(facts, '$.segment.tail') = ? ORDER BY file_id DESC LIMIT 1",
            (tail.path, tail.job, tail.tail_id),
        ).fetchone()
        return None if row is None else (segment_of(row["facts"]), row["content_hash"])

    def segments_needed(self, content_hashes: Sequence[str]) -> dict[str, bool]:
        """Of these segments, those whose bytes may still be asked for; whether each waits to be loaded.

        Waiting, quarantined (a requeue may come), in a run that has not ended, or lacking in a task's table.
        """
        rows = self._db.execute(
            "SELECT content_hash, state = 'waiting' AS waits FROM files f "
            "WHERE content_hash IN (SELECT value FROM json_each(?)) AND state IN ('waiting', 'loaded') "
            "AND (state = 'waiting' OR wanted IS NOT NULL "
            "OR (SELECT count(*) FROM loads l WHERE l.file_id = f.file_id) < json_array_length(f.taken_by) "
            "OR EXISTS (SELECT 1 FROM runs r WHERE r.run_id = f.run_id AND r.state NOT IN ('TERMINATED', 'SKIPPED'))) "
            "UNION ALL SELECT content_hash, 0 FROM files WHERE state = 'quarantined' "
            f"AND {IS_SEGMENT} AND content_hash IN (SELECT value FROM json_each(?))",
            (json.dumps(list(content_hashes)),) * 2,
        )
        return {row["content_hash"]: bool(row["waits"]) for row in rows}


def segment_of(facts: str) -> Segment:
    """The segment in the JSON of a version's facts."""
    return Segment(**json.loads(facts)["segment"])


def tail_of(row: Row) -> Tail:
    mask = (1 << 64) - 1
    return Tail(
        tail_id=row["tail_id"],
        job=row["job"],
        path=row["path"],
        device=row["device"] & mask,
        inode=row["inode"] & mask,
        head=row["head"],
        head_bytes=row["head_bytes"],
        header=row["header"],
        offset=row["offset"],
        state=TailState(row["state"]),
        changed_s=row["changed_at_s"],
    )
