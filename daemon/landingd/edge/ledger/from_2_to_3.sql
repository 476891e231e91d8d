-- Bring a ledger of schema 2 to schema 3: runs may be canceled and skipped, tasks wait by count and have an output.
ALTER TABLE runs RENAME TO runs_2;
ALTER TABLE tasks RENAME TO tasks_2;
ALTER TABLE attempts RENAME TO attempts_2;
ALTER TABLE repairs RENAME TO repairs_2;
DROP INDEX runs_open;
-- (schema.sql)
INSERT INTO runs (run_id, job, trigger_type, trigger_key, parameters, has_files, state, result, error, repairs,
    queued_at_s, started_at_s, resumed_at_s, ended_at_s)
SELECT run_id, job, trigger_type, trigger_key, parameters,
    EXISTS (SELECT 1 FROM run_files WHERE run_files.run_id = runs_2.run_id), state, result, error, repairs,
    queued_at_s, started_at_s, started_at_s, ended_at_s
FROM runs_2;
INSERT INTO edges (run_id, upstream, task_key)
SELECT DISTINCT run_id, value, task_key FROM tasks_2, json_each(depends_on);
INSERT INTO tasks (run_id, task_key, position, depends_on, blockers, state, result, error, attempts, failures, crashes,
    retry_at_s, started_at_s, ended_at_s)
SELECT run_id, task_key, position, depends_on,
    (SELECT count(*) FROM edges JOIN tasks_2 AS above ON above.run_id = edges.run_id AND above.task_key = edges.upstream
     WHERE edges.run_id = tasks_2.run_id AND edges.task_key = tasks_2.task_key AND above.state <> 'TERMINATED'),
    state, result, error, attempts, failures, crashes, retry_at_s, started_at_s, ended_at_s
FROM tasks_2;
INSERT INTO attempts (run_id, task_key, attempt, started_at_s, ended_at_s, outcome, error, rows_in, rows_out,
    rows_rejected, worked_ms, how)
SELECT run_id, task_key, attempt, started_at_s, ended_at_s, outcome, error, rows_in, rows_out, rows_rejected,
    worked_ms, how
FROM attempts_2;
INSERT INTO repairs (run_id, repair, requested_at_s, tasks) SELECT run_id, repair, requested_at_s, tasks FROM repairs_2;
UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM sqlite_sequence WHERE name IN ('runs', 'runs_2'))
WHERE name = 'runs';
DROP TABLE repairs_2;
DROP TABLE attempts_2;
DROP TABLE tasks_2;
DROP TABLE runs_2;
