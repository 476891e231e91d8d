-- A ledger of schema 1, as the first version made it, with a few files in it.
CREATE TABLE files (
    file_id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    path BLOB NOT NULL,
    name TEXT NOT NULL,
    content_hash TEXT,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'loaded', 'quarantined', 'replaced')),
    reason TEXT NOT NULL DEFAULT '',
    evidence TEXT NOT NULL DEFAULT '',
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    device INTEGER NOT NULL,
    records INTEGER,
    duplicates INTEGER NOT NULL DEFAULT 0,
    seen_at_s REAL NOT NULL,
    complete_at_s REAL,
    loaded_at_s REAL,
    run_id INTEGER REFERENCES runs (run_id)
) STRICT;
CREATE UNIQUE INDEX files_loaded ON files (job, path) WHERE state = 'loaded';
CREATE UNIQUE INDEX files_waiting ON files (job, path) WHERE state = 'waiting';
CREATE INDEX files_pending ON files (job, file_id) WHERE state = 'waiting' AND run_id IS NULL;
CREATE INDEX files_path ON files (path, job, file_id);
CREATE INDEX files_state ON files (state, job);
CREATE INDEX files_run ON files (run_id);
CREATE TABLE loads (
    file_id INTEGER NOT NULL REFERENCES files (file_id),
    task_key TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    rows_in INTEGER NOT NULL,
    rows_loaded INTEGER NOT NULL,
    rows_rejected INTEGER NOT NULL,
    loaded_at_s REAL NOT NULL,
    PRIMARY KEY (file_id, task_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX loads_run ON loads (run_id);
CREATE TABLE runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    trigger_type TEXT NOT NULL,
    trigger_key TEXT NOT NULL,
    parameters TEXT NOT NULL DEFAULT '{}',
    state TEXT NOT NULL CHECK (state IN ('QUEUED', 'RUNNING', 'TERMINATED')),
    result TEXT,
    error TEXT,
    repairs INTEGER NOT NULL DEFAULT 0,
    queued_at_s REAL NOT NULL,
    started_at_s REAL,
    ended_at_s REAL,
    UNIQUE (job, trigger_key)
) STRICT;
CREATE INDEX runs_open ON runs (job, run_id) WHERE state <> 'TERMINATED';
CREATE TABLE run_files (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    file_id INTEGER NOT NULL REFERENCES files (file_id),
    PRIMARY KEY (run_id, file_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE tasks (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    task_key TEXT NOT NULL,
    position INTEGER NOT NULL,
    depends_on TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'WAITING_FOR_RETRY', 'TERMINATED')),
    result TEXT,
    error TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    retry_at_s REAL,
    started_at_s REAL,
    ended_at_s REAL,
    PRIMARY KEY (run_id, task_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (
    run_id INTEGER NOT NULL,
    task_key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    started_at_s REAL NOT NULL,
    ended_at_s REAL,
    outcome TEXT,
    error TEXT,
    rows_in INTEGER,
    rows_out INTEGER,
    rows_rejected INTEGER,
    worked_ms REAL,
    how TEXT,
    PRIMARY KEY (run_id, task_key, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE repairs (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    repair INTEGER NOT NULL,
    requested_at_s REAL NOT NULL,
    tasks TEXT NOT NULL,
    PRIMARY KEY (run_id, repair)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL
) STRICT;
INSERT INTO runs (run_id, job, trigger_type, trigger_key, state, result, queued_at_s) VALUES
    (7, 'shop', 'FILE_ARRIVAL', 'files:1', 'TERMINATED', 'SUCCESS', 1.0);
INSERT INTO files (file_id, job, path, name, content_hash, state, reason, size, mtime_ns, ctime_ns, inode, device, records,
    seen_at_s, complete_at_s, loaded_at_s, run_id) VALUES
    (1, 'shop', x'696e2f61', 'in/a', 'old', 'replaced', 'replaced by file 2', 5, 1, 1, 1, 1, 3, 1.0, 1.0, 1.0, 7),
    (2, 'shop', x'696e2f61', 'in/a', 'new', 'loaded', '', 6, 2, 2, 1, 1, 4, 2.0, 2.0, 2.0, 7),
    (3, 'shop', x'696e2f62', 'in/b', 'b', 'waiting', 'complete; waiting for a run', 7, 3, 3, 2, 1, 5, 3.0, 3.0, NULL, NULL),
    (4, 'shop', x'696e2f63', 'in/c', NULL, 'waiting', 'held', 8, 4, 4, 3, 1, NULL, 4.0, NULL, NULL, NULL),
    (9, 'shop', x'696e2f64', 'in/d', 'd', 'quarantined', 'empty', 0, 5, 5, 4, 1, 0, 5.0, 5.0, NULL, 7);
INSERT INTO run_files VALUES (7, 1), (7, 2), (7, 9);
INSERT INTO tasks (run_id, task_key, position, depends_on, state, result) VALUES (7, 'bronze', 0, '[]', 'TERMINATED', 'SUCCESS');
INSERT INTO loads VALUES (2, 'bronze', 7, 1, 3, 3, 0, 2.0);
UPDATE sqlite_sequence SET seq = 20 WHERE name = 'files';
PRAGMA user_version = 1;
