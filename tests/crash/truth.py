"""What has to be true after any number of deaths, once the daemon has come to rest and is stopped."""

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

from crash import shop
from listening import Heard

Rows = list[tuple[Any, ...]]


class Stores:
    """Both stores of a daemon that does not run, read-only."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def ledger(self, sql: str) -> Rows:
        with closing(sqlite3.connect(f"file:{self._state}/ledger.sqlite?mode=ro", uri=True)) as db:
            return db.execute(sql).fetchall()

    def warehouse(self, sql: str) -> Rows:
        with duckdb.connect(self._state / "warehouse.duckdb", read_only=True) as db:
            return db.execute(sql).fetchall()

    def file_names(self) -> dict[int, str]:
        return dict(self.ledger("SELECT file_id, name FROM files"))


def check(state: Path, files: shop.Delivery, heard: list[Heard], *, ledger_was_lost: bool = False) -> None:
    """Every law at once; `files` are all that lie in the landing directory."""
    stores = Stores(state)
    check_census(stores, files)
    check_runs(stores)
    check_tables(stores, files)
    check_lineage(stores)
    check_commits(stores)
    check_news(stores, [message for message in heard if "event_id" in message.payload], exact=not ledger_was_lost)


def check_census(stores: Stores, files: shop.Delivery) -> None:
    """Each file on disk is loaded, by content; its rows are loaded or rejected, and nothing waits."""
    found = stores.ledger("SELECT name, content_hash, state FROM files WHERE state <> 'replaced' ORDER BY name")
    assert found == [(name, shop.content_hash(text), "loaded") for name, text in sorted(files.items())]
    loads = stores.ledger(
        "SELECT name, rows_in, rows_loaded, rows_rejected FROM loads JOIN files USING (file_id) ORDER BY name"
    )
    counts = {name: shop.rows(name, text) for name, text in sorted(files.items())}
    assert loads == [(n, len(c.good) + len(c.bad), len(c.good), len(c.bad)) for n, c in counts.items()]


def check_runs(stores: Stores) -> None:
    """Every run has ended well, and so has each of its tasks, by exactly one attempt; no event is left untold."""
    assert stores.ledger("PRAGMA integrity_check") == [("ok",)]
    assert set(stores.ledger("SELECT state, result FROM runs")) == {("TERMINATED", "SUCCESS")}
    tasks = stores.ledger("SELECT run_id, task_key, state, result FROM tasks ORDER BY run_id, position")
    runs = stores.ledger("SELECT run_id FROM runs ORDER BY run_id")
    assert tasks == [(run_id, key, "TERMINATED", "SUCCESS") for (run_id,) in runs for key in shop.TASKS]
    assert stores.ledger("SELECT * FROM attempts WHERE outcome IS NULL OR ended_at_s IS NULL") == []
    assert stores.ledger("SELECT * FROM outbox") == []


def check_tables(stores: Stores, files: shop.Delivery) -> None:
    """Every row of every file once, from bronze to gold, each with the file that it came from."""
    names = stores.file_names()

    def of_files(sql: str) -> Rows:
        return sorted((names[file_id], *rest) for file_id, *rest in stores.warehouse(sql))

    assert of_files("SELECT _file_id, _row, order_id, shop, amount FROM bronze.orders") == shop.bronze(
        files, "bronze.orders"
    )
    assert of_files("SELECT _file_id, _row, shop, city FROM bronze.shops") == shop.bronze(files, "bronze.shops")
    assert of_files("SELECT _file_id, order_id, shop, cents FROM silver.orders") == shop.silver(files)
    assert stores.warehouse("SELECT city, orders, cents FROM gold.revenue ORDER BY ALL") == shop.gold(files)
    assert of_files("SELECT file_id, table_name, raw FROM meta.rejected_rows") == sorted(
        (name, "bronze.orders", line) for name, text in files.items() for line in shop.rows(name, text).bad
    )
    assert stores.warehouse("SELECT run_id FROM gold.visits ORDER BY run_id") == stores.ledger(
        "SELECT run_id FROM runs ORDER BY run_id"
    )


def check_lineage(stores: Stores) -> None:
    """`meta.loads` names exactly the versions that are loaded, once for each table that holds them."""
    loaded = stores.ledger("SELECT file_id, name, content_hash FROM files WHERE state = 'loaded'")
    tables = {"bronze.orders": "/orders-", "silver.orders": "/orders-", "bronze.shops": "/shops-"}
    assert stores.warehouse("SELECT table_name, file_id, path, content_hash FROM meta.loads ORDER BY ALL") == sorted(
        (table, *version) for table, kind in tables.items() for version in loaded if kind in version[1]
    )


def check_commits(stores: Stores) -> None:
    """No task did the same twice in a run, and both stores name the same attempts.

    After a death a batch is loaded in parts: each part is an attempt of its own, and no file is in two of them.
    """
    commits = stores.warehouse("SELECT run_id, task_key, attempt FROM meta.commits ORDER BY ALL")
    done = stores.warehouse(
        "SELECT run_id, task_key, coalesce(unnest(nullif(CAST(json_extract(stats, '$.files[*].file_id') AS BIGINT[]), "
        "[])), 0) FROM meta.commits UNION ALL SELECT run_id, task_key, 0 FROM meta.commits "
        "WHERE json_array_length(stats, '$.files') = 0 ORDER BY ALL"
    )
    assert Counter(done).most_common(1)[0][1] == 1, done
    assert commits == stores.ledger(
        "SELECT run_id, task_key, attempt FROM attempts WHERE outcome = 'committed' ORDER BY run_id, task_key, attempt"
    )


# --- events -----------------------------------------------------------------------------------------------------

_TIMES = ("time", "started_at", "ended_at", "duration_ms", "queue_ms", "evidence")
"""What may differ when something is told again by a ledger that had forgotten that it was told."""


def check_news(stores: Stores, heard: list[Heard], *, exact: bool) -> None:
    """Each end was announced; a repeat has the same id and words, and no two happenings share an id."""
    told: dict[str, set[str]] = defaultdict(set)
    ids: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for message in heard:
        payload = dict(message.payload)
        ids[_happening(message)].add(payload["event_id"])
        words = payload if exact else {k: v for k, v in payload.items() if k not in _TIMES}
        told[payload["event_id"]].add(message.topic + " " + json.dumps(words, sort_keys=True))
    assert {i: words for i, words in told.items() if len(words) > 1} == {}
    assert {what: several for what, several in ids.items() if len(several) > 1} == {}
    versions = {(m.payload["file_id"], m.payload["content_hash"]) for m in heard if m.payload["event"] == "file_loaded"}
    assert max(Counter(file_id for file_id, _ in versions).values()) == 1, versions
    happened = {what[:4] for what in ids}
    for run_id, job in stores.ledger("SELECT run_id, job FROM runs"):
        for event in ("run_queued", "run_started", "run_finished"):
            assert (event, job, run_id, None) in happened
    for run_id, task_key in stores.ledger("SELECT run_id, task_key FROM tasks"):
        assert ("task_finished", "shop", run_id, task_key) in happened
    for run_id, task_key, file_id in stores.ledger("SELECT run_id, task_key, file_id FROM loads"):
        assert ("file_loaded", "shop", run_id, task_key, file_id) in {what[:5] for what in ids}


def _happening(message: Heard) -> tuple[Any, ...]:
    fields = ("event", "job", "run_id", "task_key", "file_id", "repair", "attempt", "occurrence", "by", "content_hash")
    return tuple(message.payload.get(field) for field in fields)
