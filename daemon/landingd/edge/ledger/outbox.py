"""The verbs about what is still to be told."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell: `topic` below `<root>/<node>/`, `payload` JSON-ready with its `event_id`."""

    topic: str
    payload: Mapping[str, Any]


class OutboxVerbs:
    """Events wait here until the broker has them. See Ledger."""

    _db: sqlite3.Connection
    _keep_notices: bool

    def tell(self, notices: Iterable[Notice]) -> None:
        """Queue notices; one that is queued already (the same event) stays as it is."""
        if not self._keep_notices:
            return
        self._db.executemany(
            "INSERT INTO outbox (event_id, topic, payload) VALUES (?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
            [(n.payload["event_id"], n.topic, json.dumps(n.payload, separators=(",", ":"))) for n in notices],
        )

    def untold(self, limit: int) -> list[tuple[int, str, str]]:
        """The oldest notices: `(seq, topic, payload)`."""
        rows = self._db.execute("SELECT seq, topic, payload FROM outbox ORDER BY seq LIMIT ?", (limit,))
        return [(row["seq"], row["topic"], row["payload"]) for row in rows]

    def told(self, seq_max: int) -> None:
        """The broker has acknowledged every notice up to this one."""
        self._db.execute("DELETE FROM outbox WHERE seq <= ?", (seq_max,))

    def trim_outbox(self, keep: int) -> int:
        """Drop the oldest notices above `keep`; returns how many were dropped."""
        cursor = self._db.execute("DELETE FROM outbox WHERE seq <= (SELECT max(seq) FROM outbox) - ?", (keep,))
        return cursor.rowcount

    def outbox_size(self) -> int:
        """How many notices wait for the broker."""
        return int(self._db.execute("SELECT count(*) AS n FROM outbox").fetchone()["n"])
