-- The ledger: what is known of every file, run, task and attempt, and what is still to be told.
-- Times are Unix seconds. Anyone may read this file while the daemon runs.

-- One row for each file version. A version is a path and the hash of its content; `content_hash` is NULL while the
-- file is still being written.
CREATE TABLE IF NOT EXISTS files (
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
CREATE UNIQUE INDEX IF NOT EXISTS files_incomplete ON files (job, path) WHERE state = 'waiting' AND content_hash IS NULL;
CREATE INDEX IF NOT EXISTS files_pending ON files (job, file_id) WHERE wanted IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_path ON files (path, job, file_id);
CREATE INDEX IF NOT EXISTS files_state ON files (state, job);
CREATE INDEX IF NOT EXISTS files_run ON files (run_id);
CREATE INDEX IF NOT EXISTS files_hash ON files (content_hash, job) WHERE state IN ('waiting', 'loaded');
CREATE INDEX IF NOT EXISTS files_duplicates ON files (duplicate_of) WHERE state = 'duplicate';
CREATE INDEX IF NOT EXISTS files_present ON files (job, path) WHERE presence = 'present';
CREATE INDEX IF NOT EXISTS files_to_clean ON files (job, coalesce(loaded_at_s, complete_at_s), file_id)
    WHERE presence = 'present' AND state IN ('loaded', 'duplicate');
CREATE INDEX IF NOT EXISTS files_cleaning ON files (file_id) WHERE cleaning IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_archived ON files (job, cleaned_at_s, file_id) WHERE archive_path IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_cleanup_failing ON files (job) WHERE cleanup_error IS NOT NULL;

-- What came of a file in each ingest task: rows_in = rows_loaded + rows_rejected + rows_dropped.
CREATE TABLE IF NOT EXISTS loads (
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
CREATE INDEX IF NOT EXISTS loads_run ON loads (run_id);

-- One row for each trigger key that was accepted, once.
CREATE TABLE IF NOT EXISTS runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    trigger_type TEXT NOT NULL,
    trigger_key TEXT NOT NULL,
    trigger_name TEXT,                   -- which of the job's triggers; NULL: somebody asked for it
    trigger_info TEXT NOT NULL DEFAULT '{}', -- JSON: what {{job.trigger...}} stands for: time_s, file_arrival, ...
    parameters TEXT NOT NULL DEFAULT '{}',
    only_tasks TEXT,                     -- JSON array of selectors: a partial run
    priority INTEGER NOT NULL DEFAULT 0,
    parent_run_id INTEGER,               -- of a run_job task
    parent_task_key TEXT,
    depth INTEGER NOT NULL DEFAULT 0,    -- how many run_job tasks are above it
    has_files INTEGER NOT NULL DEFAULT 0, -- 1: it was given files; such runs of a job are one at a time
    state TEXT NOT NULL CHECK (state IN ('QUEUED', 'RUNNING', 'TERMINATING', 'TERMINATED', 'SKIPPED')),
    result TEXT,
    ending TEXT,                         -- of a TERMINATING run: the result that it will have
    error TEXT,
    repairs INTEGER NOT NULL DEFAULT 0,
    queued_at_s REAL NOT NULL,
    started_at_s REAL,
    resumed_at_s REAL,                   -- when it was last started: first, or by a repair
    ended_at_s REAL,
    worked_s REAL NOT NULL DEFAULT 0,    -- time spent in its earlier executions, before repairs
    UNIQUE (job, trigger_key)
) STRICT;
CREATE INDEX IF NOT EXISTS runs_open ON runs (job, run_id) WHERE state IN ('QUEUED', 'RUNNING', 'TERMINATING');
CREATE INDEX IF NOT EXISTS runs_ended ON runs (job, ended_at_s) WHERE ended_at_s IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_parent ON runs (parent_run_id) WHERE parent_run_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS run_files (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    file_id INTEGER NOT NULL REFERENCES files (file_id),
    action TEXT NOT NULL DEFAULT 'load' CHECK (action IN ('load', 'reload', 'retract')),
    part INTEGER NOT NULL DEFAULT 0,     -- parts are loaded one after another: a batch is split to find a culprit
    PRIMARY KEY (run_id, file_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS tasks (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    task_key TEXT NOT NULL,              -- of an iteration: <loop>[<n>]
    position INTEGER NOT NULL,
    depends_on TEXT NOT NULL,            -- JSON array of task keys
    run_if TEXT NOT NULL DEFAULT 'ALL_SUCCESS',
    disabled INTEGER NOT NULL DEFAULT 0,
    parent TEXT,                         -- of an iteration: the loop's task key
    input TEXT,                          -- of an iteration: JSON
    concurrency INTEGER,                 -- of a loop whose iterations have begun
    blockers INTEGER NOT NULL DEFAULT 0, -- how many of the tasks it depends on have not ended
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'WAITING_FOR_RETRY', 'TERMINATED')),
    result TEXT,
    error TEXT,
    output TEXT,                         -- JSON: values, rows, condition, run_id, text
    attempts INTEGER NOT NULL DEFAULT 0, -- numbered on through repairs
    failures INTEGER NOT NULL DEFAULT 0, -- failed attempts since the run was queued or last repaired
    crashes INTEGER NOT NULL DEFAULT 0,  -- deaths of the process during this task
    retry_at_s REAL,
    started_at_s REAL,
    ended_at_s REAL,
    PRIMARY KEY (run_id, task_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_open ON tasks (run_id, position) WHERE state <> 'TERMINATED';
CREATE INDEX IF NOT EXISTS tasks_of_loop ON tasks (run_id, parent, state) WHERE parent IS NOT NULL;

-- Which task waits for which; `outcome`: of a condition task the one that lets it run.
CREATE TABLE IF NOT EXISTS edges (
    run_id INTEGER NOT NULL,
    upstream TEXT NOT NULL,
    task_key TEXT NOT NULL,
    outcome TEXT CHECK (outcome IN ('true', 'false')),
    PRIMARY KEY (run_id, upstream, task_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS edges_down ON edges (run_id, task_key);

CREATE TABLE IF NOT EXISTS attempts (
    run_id INTEGER NOT NULL,
    task_key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    repair INTEGER NOT NULL DEFAULT 0,   -- which repair of the run it belongs to; 0: the original
    started_at_s REAL NOT NULL,
    ended_at_s REAL,
    outcome TEXT,                        -- committed, failed, timed out, interrupted, died, canceled
    error TEXT,
    resolved TEXT,                       -- JSON: the parameters it ran with
    rows_in INTEGER,
    rows_out INTEGER,
    rows_rejected INTEGER,
    worked_ms REAL,                      -- its statements, without waiting for the write lane and without the commit
    how TEXT,                            -- what the engine did: "append 3 files", "full"
    PRIMARY KEY (run_id, task_key, attempt)
) STRICT, WITHOUT ROWID;

-- How the rows of a committed attempt did by each expectation of its table.
CREATE TABLE IF NOT EXISTS expectations (
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
CREATE TABLE IF NOT EXISTS roots (
    directory TEXT PRIMARY KEY,          -- below the landing root
    mount TEXT NOT NULL,                 -- "<type> <source> <mount point>"
    seen_at_s REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS repairs (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    repair INTEGER NOT NULL,
    requested_at_s REAL NOT NULL,
    tasks TEXT NOT NULL,                 -- JSON array of the task keys that run again
    parameters TEXT,                     -- JSON: those that were given anew
    started_at_s REAL,
    ended_at_s REAL,
    result TEXT,
    PRIMARY KEY (run_id, repair)
) STRICT, WITHOUT ROWID;

-- What is known of each trigger of each job. `paused` stands above the job file; NULL: as the job file says.
-- The row with trigger_name '' is the job's own.
CREATE TABLE IF NOT EXISTS triggers (
    job TEXT NOT NULL,
    trigger_name TEXT NOT NULL,
    definition TEXT NOT NULL DEFAULT '', -- another one starts anew
    paused INTEGER,
    since_s REAL NOT NULL,               -- when this definition was first seen
    last_fired_s REAL,                   -- of a schedule: the scheduled time; of the others: when
    next_fire_s REAL,
    failures INTEGER NOT NULL DEFAULT 0, -- of a continuous job: failed runs in a row
    retry_at_s REAL,                     -- of a continuous job: when the next run may start
    state TEXT NOT NULL DEFAULT '{}',    -- JSON: what else it must remember
    PRIMARY KEY (job, trigger_name)
) STRICT, WITHOUT ROWID;

-- What evaluations of triggers led to; the same answer again only counts.
CREATE TABLE IF NOT EXISTS trigger_history (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    trigger_name TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('TRIGGERED', 'NOT_TRIGGERED', 'FAILED', 'SKIPPED')),
    description TEXT NOT NULL,
    run_id INTEGER,
    first_s REAL NOT NULL,
    last_s REAL NOT NULL,
    times INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX IF NOT EXISTS trigger_history_of ON trigger_history (job, trigger_name, seq);

-- How often each table has changed, and by what last.
CREATE TABLE IF NOT EXISTS table_versions (
    table_name TEXT PRIMARY KEY,         -- lower case
    version INTEGER NOT NULL,
    changed_at_s REAL NOT NULL,
    run_id INTEGER NOT NULL,
    task_key TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Mail and web calls that are still to be made; a row is deleted once its destination has taken it.
CREATE TABLE IF NOT EXISTS alerts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    channel TEXT NOT NULL CHECK (channel IN ('email', 'webhook')),
    destination TEXT NOT NULL,           -- an address, or the id of a destination in the configuration
    payload TEXT NOT NULL,               -- JSON: what happened
    created_at_s REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try_s REAL NOT NULL,
    error TEXT,
    UNIQUE (event_id, channel, destination)
) STRICT;
CREATE INDEX IF NOT EXISTS alerts_due ON alerts (next_try_s);

-- What a health rule found last, so that it is told once and not at each look.
CREATE TABLE IF NOT EXISTS health (
    job TEXT NOT NULL,
    subject TEXT NOT NULL,               -- the metric, with the run and task that it is about
    since_s REAL NOT NULL,
    told_at_s REAL NOT NULL,
    PRIMARY KEY (job, subject)
) STRICT, WITHOUT ROWID;

-- Runs over a range of a parameter; its runs have the keys backfill:<id>:<value>.
CREATE TABLE IF NOT EXISTS backfills (
    backfill_id TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    parameter TEXT NOT NULL,
    range TEXT NOT NULL,                 -- JSON: from, to, step
    parameters TEXT NOT NULL DEFAULT '{}',
    requested_at_s REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Files that keep growing: one row for each generation of a path (a rotation or a truncation begins a new one).
-- What of it has been entered are rows of `files`, one for each stretch of whole lines, with facts.segment.
CREATE TABLE IF NOT EXISTS tails (
    tail_id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    path BLOB NOT NULL,                  -- below the landing root, where it was when it began
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    head TEXT NOT NULL DEFAULT '',       -- SHA-256 of its first bytes, hex: tells it from another file with the inode
    head_bytes INTEGER NOT NULL DEFAULT 0,
    header BLOB,                         -- of CSV: the header line
    offset INTEGER NOT NULL DEFAULT 0,   -- bytes that have been entered; whole lines only
    state TEXT NOT NULL DEFAULT 'growing' CHECK (state IN ('growing', 'rotated', 'finished')),
    began_at_s REAL NOT NULL,
    changed_at_s REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS tails_open ON tails (job, path) WHERE state <> 'finished';

-- Written with the state change that it tells of, deleted once the broker has acknowledged it.
-- `event_id` is made from what happened, not drawn: the same event told twice carries the same one.
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,                 -- below <root>/<node>/
    payload TEXT NOT NULL                -- JSON
) STRICT;
