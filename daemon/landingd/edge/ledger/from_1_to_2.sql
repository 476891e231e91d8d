-- Bring a ledger of schema 1 to schema 2. Tables whose checks or columns change are made anew from schema.sql.
ALTER TABLE files RENAME TO files_1;
ALTER TABLE loads RENAME TO loads_1;
ALTER TABLE run_files RENAME TO run_files_1;
DROP INDEX files_loaded;
DROP INDEX files_waiting;
DROP INDEX files_pending;
DROP INDEX files_path;
DROP INDEX files_state;
DROP INDEX files_run;
DROP INDEX loads_run;
-- (schema.sql)
INSERT INTO files (file_id, job, path, name, content_hash, state, presence, reason, evidence, size, mtime_ns, ctime_ns,
    inode, device, facts, duplicates, wanted, seen_at_s, complete_at_s, loaded_at_s, run_id)
SELECT file_id, job, path, name, content_hash, state, iif(state = 'replaced', 'overwritten', 'present'), reason,
    evidence, size, mtime_ns, ctime_ns, inode, device, json_object('records', records), duplicates,
    iif(state = 'waiting' AND content_hash IS NOT NULL AND run_id IS NULL, 'load', NULL), seen_at_s, complete_at_s,
    loaded_at_s, run_id
FROM files_1;
INSERT INTO loads (file_id, task_key, run_id, attempt, rows_in, rows_loaded, rows_rejected, loaded_at_s)
SELECT file_id, task_key, run_id, attempt, rows_in, rows_loaded, rows_rejected, loaded_at_s FROM loads_1;
INSERT INTO run_files (run_id, file_id) SELECT run_id, file_id FROM run_files_1;
UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM sqlite_sequence WHERE name IN ('files', 'files_1'))
WHERE name = 'files';
DROP TABLE run_files_1;
DROP TABLE loads_1;
DROP TABLE files_1;
