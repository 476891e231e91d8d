-- The layers, and what landingd knows about them. Everything in `meta` is written in the transaction that changes
-- the data it speaks of.
CREATE SCHEMA IF NOT EXISTS bronze;
CREATE SCHEMA IF NOT EXISTS silver;
CREATE SCHEMA IF NOT EXISTS gold;
CREATE SCHEMA IF NOT EXISTS meta;

-- One row for each attempt that committed. After a crash this row is the truth, and the ledger is made to agree.
CREATE TABLE IF NOT EXISTS meta.commits (
    run_id BIGINT NOT NULL,
    task_key VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    job VARCHAR NOT NULL,
    table_name VARCHAR,
    stats VARCHAR NOT NULL,            -- JSON: rows, and what came of each file version
    committed_at TIMESTAMP NOT NULL    -- UTC
);

-- Which file versions each table holds now. Tables that are recomputed in full have no rows here.
-- Join on `_file_id` to trace a row to its file, version and load time.
CREATE TABLE IF NOT EXISTS meta.loads (
    table_name VARCHAR NOT NULL,
    file_id BIGINT NOT NULL,
    job VARCHAR NOT NULL,
    path VARCHAR NOT NULL,             -- below the landing root; bytes that are no printable text are \xNN
    content_hash VARCHAR NOT NULL,     -- SHA-256 of the file
    rows_in BIGINT NOT NULL,           -- records in the file; rows of it in the upstream table
    rows_loaded BIGINT NOT NULL,       -- rows of it in this table
    rows_rejected BIGINT NOT NULL,     -- rows of it in meta.rejected_rows
    run_id BIGINT NOT NULL,
    loaded_at TIMESTAMP NOT NULL       -- UTC
);
ALTER TABLE meta.loads ADD COLUMN IF NOT EXISTS rows_dropped BIGINT DEFAULT 0;   -- taken out by an expectation
ALTER TABLE meta.loads ADD COLUMN IF NOT EXISTS rows_rescued BIGINT DEFAULT 0;   -- loaded with `_rescued_data`

-- Rows of loaded files that did not parse, with the text as it stands in the file; and rows of any table that an
-- expectation quarantined (error_type EXPECTATION, `error` is what it expects, `raw` the row as JSON).
CREATE TABLE IF NOT EXISTS meta.rejected_rows (
    table_name VARCHAR NOT NULL,
    file_id BIGINT,                    -- NULL: the table does not know which file the row came from
    line BIGINT,                       -- from 1, the header is line 1; NULL for rows of tables made by a SELECT
    column_name VARCHAR,
    error_type VARCHAR NOT NULL,
    error VARCHAR NOT NULL,
    raw VARCHAR
);
ALTER TABLE meta.rejected_rows ADD COLUMN IF NOT EXISTS rule VARCHAR;   -- the expectation's name
ALTER TABLE meta.rejected_rows ADD COLUMN IF NOT EXISTS row BIGINT;     -- its `_row`
-- Of warehouses from before there were expectations:
ALTER TABLE meta.rejected_rows ALTER COLUMN file_id DROP NOT NULL;
ALTER TABLE meta.rejected_rows ALTER COLUMN line DROP NOT NULL;

-- What each table was made from: another definition voids its rows.
CREATE TABLE IF NOT EXISTS meta.tables (
    table_name VARCHAR PRIMARY KEY,
    definition VARCHAR NOT NULL,
    refresh VARCHAR NOT NULL
);
