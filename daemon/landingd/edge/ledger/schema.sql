-- The ledger: what is known of every file, run, task and attempt, and what is still to be told.
-- Times are Unix seconds. Anyone may read this file while the daemon runs.

-- One row for each file version. A version is a path and the hash of its content; `content_hash` is NULL while the
-- file is still being written.
CREATE TABLE files (
    file_id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    path BLOB NOT NULL,                  -- below the landing root, as bytes
    name TEXT NOT NULL,                  -- the same for people
    content_hash TEXT,                   -- SHA-256, hex
    state TEXT NOT NULL CHECK (state IN ('waiting', 'loaded', 'quarantined', 'replaced')),
    reason TEXT NOT NULL DEFAULT '',
    evidence TEXT NOT NULL DEFAULT '',   -- why it was taken to be complete
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    device INTEGER NOT NULL,
    records INTEGER,                     -- counted while hashing, header included
    duplicates INTEGER NOT NULL DEFAULT 0, -- how often the same bytes came again
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

-- What came of a file in each ingest task: rows_in = rows_loaded + rows_rejected.
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

-- One row for each trigger key that was accepted, once.
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
    depends_on TEXT NOT NULL,            -- JSON array of task keys
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'WAITING_FOR_RETRY', 'TERMINATED')),
    result TEXT,
    error TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, -- numbered on through repairs
    failures INTEGER NOT NULL DEFAULT 0, -- failed attempts since the run was queued or last repaired
    crashes INTEGER NOT NULL DEFAULT 0,  -- deaths of the process during this task
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
    outcome TEXT,                        -- committed, failed, timed out, interrupted, died
    error TEXT,
    rows_in INTEGER,
    rows_out INTEGER,
    rows_rejected INTEGER,
    worked_ms REAL,                      -- its statements, without waiting for the write lane and without the commit
    how TEXT,                            -- what the engine did: "append 3 files", "full"
    PRIMARY KEY (run_id, task_key, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE repairs (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    repair INTEGER NOT NULL,
    requested_at_s REAL NOT NULL,
    tasks TEXT NOT NULL,                 -- JSON array of the task keys that run again
    PRIMARY KEY (run_id, repair)
) STRICT, WITHOUT ROWID;

-- Written with the state change that it tells of, deleted once the broker has acknowledged it.
-- `event_id` is made from what happened, not drawn: the same event told twice carries the same one.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,                 -- below <root>/<node>/
    payload TEXT NOT NULL                -- JSON
) STRICT;
