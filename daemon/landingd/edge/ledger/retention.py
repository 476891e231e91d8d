"""The verbs that forget what was long ago. What is known of files, and which rows they became, stays."""

import json
import sqlite3
from collections.abc import Sequence

_OF_A_RUN = ("run_files", "expectations", "attempts", "edges", "tasks", "repairs", "earlier_results", "runs")
"""In an order in which nothing refers to what is gone."""


class RetentionVerbs:
    """See Ledger."""

    _db: sqlite3.Connection

    def runs_after(self, run_id: int, *, before_s: float, limit: int) -> list[int]:
        """The next runs by number; none from the first on that was queued at `before_s` or later."""
        rows = self._db.execute(
            "SELECT run_id, queued_at_s FROM runs WHERE run_id > ? ORDER BY run_id LIMIT ?", (run_id, limit)
        ).fetchall()
        late = next((at for at, row in enumerate(rows) if row["queued_at_s"] >= before_s), len(rows))
        return [row["run_id"] for row in rows[:late]]

    def forget_runs(self, run_ids: Sequence[int], *, before_s: float) -> list[int]:
        """Of these runs forget those that ended before; returns them.

        One stays while a file waits that was given to it, since only its repair will load that; and while the run
        that asked for it is kept.
        """
        rows = self._db.execute(
            "SELECT r.run_id FROM json_each(?1) AS given JOIN runs AS r ON r.run_id = given.value "
            "WHERE r.state IN ('TERMINATED', 'SKIPPED') AND r.ended_at_s < ?2 "
            "AND NOT EXISTS (SELECT 1 FROM files AS f WHERE f.run_id = r.run_id AND f.state = 'waiting') "
            "AND NOT EXISTS (SELECT 1 FROM runs AS above WHERE above.run_id = r.parent_run_id) "
            "ORDER BY r.run_id",
            (json.dumps(list(run_ids)), before_s),
        ).fetchall()
        gone = [row["run_id"] for row in rows]
        self._db.executemany("UPDATE files SET run_id = NULL WHERE run_id = ?", [(run_id,) for run_id in gone])
        for table in _OF_A_RUN:
            self._db.executemany(f"DELETE FROM {table} WHERE run_id = ?", [(run_id,) for run_id in gone])
        return gone

    def forget_backfills(self, *, before_s: float) -> int:
        """Forget backfills that were asked for before, and of which no run is left; returns how many."""
        return self._db.execute(
            "DELETE FROM backfills AS b WHERE requested_at_s < ? AND NOT EXISTS (SELECT 1 FROM runs WHERE job = b.job "
            "AND trigger_key >= 'backfill:' || backfill_id || ':' AND trigger_key < 'backfill:' || backfill_id || ';')",
            (before_s,),
        ).rowcount

    def forget_trigger_history(self, *, before_s: float) -> int:
        """Forget old answers of triggers, except the newest one of each; returns how many."""
        return self._db.execute(
            "DELETE FROM trigger_history AS h WHERE last_s < ? AND seq < "
            "(SELECT max(seq) FROM trigger_history AS n WHERE n.job = h.job AND n.trigger_name = h.trigger_name)",
            (before_s,),
        ).rowcount
