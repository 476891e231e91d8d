"""The verbs about watched directories: which mount each one was on when it was in order."""

import sqlite3


class RootVerbs:
    """What is remembered of watched directories. See Ledger."""

    _db: sqlite3.Connection

    def recorded_mounts(self) -> dict[str, tuple[str, float]]:
        """Each directory's mount, as text, and when it was last seen on it."""
        rows = self._db.execute("SELECT directory, mount, seen_at_s FROM roots")
        return {row["directory"]: (row["mount"], row["seen_at_s"]) for row in rows}

    def record_mount(self, directory: str, mount: str, *, seen_s: float) -> None:
        """The directory is in order, on this mount."""
        self._db.execute(
            "INSERT INTO roots (directory, mount, seen_at_s) VALUES (?, ?, ?) ON CONFLICT (directory) "
            "DO UPDATE SET mount = excluded.mount, seen_at_s = excluded.seen_at_s",
            (directory, mount, seen_s),
        )

    def forget_mount(self, directory: str) -> None:
        """Nothing that is known lies there any more."""
        self._db.execute("DELETE FROM roots WHERE directory = ?", (directory,))

    def knows_files_below(self, directory: bytes) -> bool:
        """Whether complete files are known to lie in the directory (b"": anywhere) or below it."""
        # "0" is the byte after "/".
        least, beyond = (directory + b"/", directory + b"0") if directory else (b"", b"\xff" * 64)
        row = self._db.execute(
            "SELECT 1 FROM files WHERE path >= ? AND path < ? AND presence = 'present' AND content_hash IS NOT NULL "
            "LIMIT 1",
            (least, beyond),
        ).fetchone()
        return row is not None
