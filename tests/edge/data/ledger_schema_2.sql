-- A ledger as it was before runs could be canceled: schema 2, with a run that had ended and one under way.
-- Times are Unix seconds. Anyone may read this file while the daemon runs.

-- One row for each file version. A version is a path and the hash of its content; `content_hash` is NULL while the
-- file is still being written.
CREATE TABLE files (
    file_id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    path BLOB NOT NULL,                  -- below the landing root, as bytes
    name TEXT NOT NULL,                  -- the same for people
    content_hash TEXT,                   -- SHA-256, hex
    state TEXT NOT NULL
        CHECK (state IN ('waiting', 'loaded', 'duplicate', 'quarantined', 'replaced', 'retracted')),
    presence TEXT NOT NULL DEFAULT 'present' -- what became of its bytes at the path
        CHECK (presence IN ('present', 'removed', 'overwritten', 'archived', 'deleted')),
    reason TEXT NOT NULL DEFAULT '',
    evidence TEXT NOT NULL DEFAULT '',   -- why it was taken to be complete
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    device INTEGER NOT NULL,
    facts TEXT NOT NULL DEFAULT '{}',    -- JSON: what hashing found besides: records, utf8, ...
    taken_by TEXT NOT NULL DEFAULT '',   -- keys of the ingest tasks that take this name, as JSON
    duplicates INTEGER NOT NULL DEFAULT 0, -- how often the same bytes came again
    duplicate_of INTEGER REFERENCES files (file_id),
    keeps_older INTEGER NOT NULL DEFAULT 0, -- 1: older versions of the path stay loaded (on_change: append)
    wanted TEXT CHECK (wanted IN ('load', 'reload', 'retract')), -- what the next run is to do with it
    leaving INTEGER NOT NULL DEFAULT 0,  -- 1: loaded, and its rows are to leave
    turns INTEGER NOT NULL DEFAULT 0,    -- how often it was given to a run
    failures INTEGER NOT NULL DEFAULT 0, -- attempts that it has broken when it was alone in them
    seen_at_s REAL NOT NULL,
    complete_at_s REAL,
    loaded_at_s REAL,
    run_id INTEGER REFERENCES runs (run_id), -- the newest run that it was given to
    archive_path BLOB,                   -- below the archive root, where it lies there
    cleaning TEXT CHECK (cleaning IN ('archive', 'delete', 'expire')), -- what is being done with its bytes just now
    cleaned_at_s REAL,                   -- when it was archived or deleted
    cleanup_failures INTEGER NOT NULL DEFAULT 0,
    cleanup_error TEXT,
    cleanup_retry_at_s REAL
) STRICT;
CREATE UNIQUE INDEX files_incomplete ON files (job, path) WHERE state = 'waiting' AND content_hash IS NULL;
CREATE INDEX files_pending ON files (job, file_id) WHERE wanted IS NOT NULL;
CREATE INDEX files_path ON files (path, job, file_id);
CREATE INDEX files_state ON files (state, job);
CREATE INDEX files_run ON files (run_id);
CREATE INDEX files_hash ON files (content_hash, job) WHERE state IN ('waiting', 'loaded');
CREATE INDEX files_duplicates ON files (duplicate_of) WHERE state = 'duplicate';
CREATE INDEX files_present ON files (job, path) WHERE presence = 'present';
CREATE INDEX files_to_clean ON files (job, coalesce(loaded_at_s, complete_at_s), file_id)
    WHERE presence = 'present' AND state IN ('loaded', 'duplicate');
CREATE INDEX files_cleaning ON files (file_id) WHERE cleaning IS NOT NULL;
CREATE INDEX files_archived ON files (job, cleaned_at_s, file_id) WHERE archive_path IS NOT NULL;
CREATE INDEX files_cleanup_failing ON files (job) WHERE cleanup_error IS NOT NULL;

-- What came of a file in each ingest task: rows_in = rows_loaded + rows_rejected + rows_dropped.
CREATE TABLE loads (
    file_id INTEGER NOT NULL REFERENCES files (file_id),
    task_key TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    rows_in INTEGER NOT NULL,
    rows_loaded INTEGER NOT NULL,
    rows_rejected INTEGER NOT NULL,
    rows_dropped INTEGER NOT NULL DEFAULT 0, -- by an expectation
    rows_rescued INTEGER NOT NULL DEFAULT 0, -- of the loaded ones those with something in _rescued_data
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
    action TEXT NOT NULL DEFAULT 'load' CHECK (action IN ('load', 'reload', 'retract')),
    part INTEGER NOT NULL DEFAULT 0,     -- parts are loaded one after another: a batch is split to find a culprit
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

-- How the rows of a committed attempt did by each expectation of its table.
CREATE TABLE expectations (
    run_id INTEGER NOT NULL,
    task_key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    name TEXT NOT NULL,
    on_violation TEXT NOT NULL,          -- warn, drop, quarantine, fail
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (run_id, task_key, attempt, name)
) STRICT, WITHOUT ROWID;

-- What each watched directory lay on when it was last seen: one that is unmounted is not one that is empty.
CREATE TABLE roots (
    directory TEXT PRIMARY KEY,          -- below the landing root
    mount TEXT NOT NULL,                 -- "<type> <source> <mount point>"
    seen_at_s REAL NOT NULL
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
INSERT INTO runs (run_id, job, trigger_type, trigger_key, parameters, state, result, repairs, queued_at_s, started_at_s,
    ended_at_s) VALUES
    (3, 'shop', 'FILE_ARRIVAL', 'files:1', '{"month": "Oct"}', 'TERMINATED', 'FAILED', 1, 1.0, 2.0, 9.0),
    (5, 'shop', 'ONE_TIME', 'request:x', '{}', 'RUNNING', NULL, 0, 10.0, 11.0, NULL);
INSERT INTO files (file_id, job, path, name, content_hash, state, size, mtime_ns, ctime_ns, inode, device, seen_at_s, run_id)
    VALUES (1, 'shop', x'696e2f61', 'in/a', 'a', 'loaded', 5, 1, 1, 1, 1, 1.0, 3);
INSERT INTO run_files (run_id, file_id) VALUES (3, 1);
INSERT INTO tasks (run_id, task_key, position, depends_on, state, result, attempts, started_at_s, ended_at_s) VALUES
    (3, 'bronze', 0, '[]', 'TERMINATED', 'SUCCESS', 1, 2.0, 3.0),
    (3, 'gold', 1, '["bronze"]', 'TERMINATED', 'FAILED', 2, 4.0, 9.0),
    (5, 'bronze', 0, '[]', 'TERMINATED', 'SUCCESS', 1, 11.0, 12.0),
    (5, 'silver', 1, '["bronze"]', 'PENDING', NULL, 0, NULL, NULL),
    (5, 'gold', 2, '["bronze", "silver"]', 'PENDING', NULL, 0, NULL, NULL);
INSERT INTO attempts (run_id, task_key, attempt, started_at_s, ended_at_s, outcome) VALUES
    (3, 'gold', 1, 4.0, 5.0, 'failed'), (3, 'gold', 2, 8.0, 9.0, 'failed'), (5, 'bronze', 1, 11.0, 12.0, 'committed');
INSERT INTO repairs VALUES (3, 1, 7.0, '["gold"]');
UPDATE sqlite_sequence SET seq = 20 WHERE name = 'runs';
PRAGMA user_version = 2;
