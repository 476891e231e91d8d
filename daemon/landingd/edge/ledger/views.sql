-- What was, for anybody with sqlite3 and while the daemon runs: `SELECT * FROM job_run_timeline`. The columns are those
-- of Databricks' system tables of the same names, except that a run is one row however long it took, that a job is
-- named by its name, and that results are the words of the Jobs API. Columns at the end of a view, after the comment
-- "ours", are not in Databricks. Times are ISO 8601 in UTC, durations are seconds.

-- Of ended runs only: with one over all of them SQLite would not use `runs_open` any more to find the open ones.
CREATE INDEX IF NOT EXISTS runs_ended_newest ON runs (job, run_id) WHERE ended_at_s IS NOT NULL;

-- What each task had come to when a repair began: `repair` is the execution before it, 0 the original one. The matrix
-- shows it; nothing else looks at it.
CREATE TABLE IF NOT EXISTS earlier_results (
    run_id INTEGER NOT NULL REFERENCES runs (run_id),
    repair INTEGER NOT NULL,
    task_key TEXT NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (run_id, repair, task_key)
) STRICT, WITHOUT ROWID;

DROP VIEW IF EXISTS job_run_timeline;
CREATE VIEW job_run_timeline AS
SELECT
    job AS job_id,
    job AS job_name,
    run_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at_s, 'unixepoch') AS period_start_time, -- NULL: it never began
    strftime('%Y-%m-%dT%H:%M:%fZ', ended_at_s, 'unixepoch') AS period_end_time, -- NULL: it has not ended
    trigger_type,
    'JOB_RUN' AS run_type,
    job AS run_name,
    CASE WHEN state = 'SKIPPED' THEN 'SKIPPED' ELSE result END AS result_state, -- NULL: it has not ended
    CASE -- as `termination_details.code` of the Jobs API
        WHEN result = 'FAILED' THEN 'RUN_EXECUTION_ERROR'
        WHEN result = 'CANCELED' THEN 'USER_CANCELED'
        WHEN result = 'TIMEDOUT' THEN 'CANCELED'
        WHEN result = 'MAXIMUM_CONCURRENT_RUNS_REACHED' THEN 'MAX_CONCURRENT_RUNS_EXCEEDED'
        ELSE result
    END AS termination_code,
    CASE
        WHEN result IS NULL THEN NULL
        WHEN result IN ('SUCCESS', 'SUCCESS_WITH_FAILURES') THEN 'SUCCESS'
        ELSE 'CLIENT_ERROR'
    END AS termination_type,
    parameters AS job_parameters, -- JSON
    0.0 AS setup_duration_seconds,
    round(coalesce(started_at_s, ended_at_s) - queued_at_s, 6) AS queue_duration_seconds,
    -- From the first start on, without the time between an end and a repair.
    round(CASE WHEN started_at_s IS NULL THEN NULL WHEN resumed_at_s IS NULL THEN ended_at_s - started_at_s
          WHEN ended_at_s IS NOT NULL THEN worked_s END, 6) AS run_duration_seconds,
    round(CASE WHEN started_at_s IS NULL THEN NULL WHEN resumed_at_s IS NULL THEN ended_at_s - started_at_s
          WHEN ended_at_s IS NOT NULL THEN worked_s END, 6) AS execution_duration_seconds,
    0.0 AS cleanup_duration_seconds,
    CASE WHEN parent_run_id IS NOT NULL THEN parent_run_id || '/' || parent_task_key END AS source_task_run_id,
    -- ours
    state AS life_cycle_state,
    trigger_name,
    trigger_info, -- JSON
    only_tasks, -- JSON array: a partial run
    priority,
    repairs,
    error,
    strftime('%Y-%m-%dT%H:%M:%fZ', queued_at_s, 'unixepoch') AS queued_time,
    (SELECT count(*) FROM run_files WHERE run_files.run_id = runs.run_id) AS files
FROM runs;

-- A row for each attempt of each task, and one for a task that had none.
DROP VIEW IF EXISTS job_task_run_timeline;
CREATE VIEW job_task_run_timeline AS
SELECT
    runs.job AS job_id,
    runs.job AS job_name,
    tasks.run_id || '/' || tasks.task_key || '/' || coalesce(attempts.attempt, 0) AS run_id, -- of the attempt
    tasks.run_id AS job_run_id,
    tasks.run_id || coalesce('/' || tasks.parent, '') AS parent_run_id, -- of an iteration: its loop
    tasks.task_key,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_at_s, 'unixepoch') AS period_start_time,
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(attempts.ended_at_s, iif(attempts.attempt IS NULL, tasks.ended_at_s, NULL)),
             'unixepoch') AS period_end_time,
    CASE
        WHEN attempts.attempt IS NULL THEN tasks.result
        WHEN attempts.outcome IS NULL THEN NULL
        WHEN attempts.outcome = 'committed' THEN 'SUCCESS'
        WHEN attempts.outcome = 'timed out' THEN 'TIMEDOUT'
        WHEN attempts.outcome IN ('canceled', 'interrupted') THEN 'CANCELED'
        WHEN attempts.outcome IN ('failed', 'died') THEN 'FAILED'
        ELSE tasks.result -- of a loop: its own
    END AS result_state,
    CASE
        WHEN attempts.attempt IS NULL THEN iif(tasks.result IS NULL, NULL, 'SKIPPED')
        WHEN attempts.outcome = 'committed' THEN 'SUCCESS'
        WHEN attempts.outcome = 'failed' THEN 'RUN_EXECUTION_ERROR'
        WHEN attempts.outcome = 'timed out' THEN 'CANCELED'
        WHEN attempts.outcome = 'canceled' THEN 'USER_CANCELED'
        WHEN attempts.outcome IN ('interrupted', 'died') THEN 'INTERNAL_ERROR'
    END AS termination_code,
    CASE
        WHEN attempts.outcome = 'committed' THEN 'SUCCESS'
        WHEN attempts.outcome IN ('interrupted', 'died') THEN 'INTERNAL_ERROR'
        WHEN attempts.outcome IS NOT NULL THEN 'CLIENT_ERROR'
    END AS termination_type,
    attempts.resolved AS task_parameters, -- JSON: the values that it ran with
    -- What an attempt did not spend in its statements: it waited to write, and for its commit.
    round(max(0, attempts.ended_at_s - attempts.started_at_s - attempts.worked_ms / 1000), 6) AS setup_duration_seconds,
    round(coalesce(attempts.worked_ms / 1000, attempts.ended_at_s - attempts.started_at_s), 6)
        AS execution_duration_seconds,
    0.0 AS cleanup_duration_seconds,
    -- ours
    coalesce(attempts.attempt, 0) AS attempt,
    coalesce(attempts.repair, 0) AS repair,
    tasks.state AS life_cycle_state,
    attempts.outcome,
    attempts.error,
    tasks.input, -- of an iteration, JSON
    attempts.rows_in,
    attempts.rows_out,
    attempts.rows_rejected,
    attempts.how
FROM tasks
JOIN runs USING (run_id)
LEFT JOIN attempts ON attempts.run_id = tasks.run_id AND attempts.task_key = tasks.task_key;
