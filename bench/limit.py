"""The limit: the three statements of the ecommerce job on a bare DuckDB connection, and nothing else.

No daemon that keeps the same tables with the same engine one file at a time can be faster by much. It may be
faster where it does less than these statements do: silver and gold are rebuilt from all rows for every file.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS bronze;
CREATE SCHEMA IF NOT EXISTS silver;
CREATE SCHEMA IF NOT EXISTS gold;
CREATE TABLE IF NOT EXISTS bronze.events (
    event_time TIMESTAMP,
    event_type VARCHAR,
    product_id BIGINT,
    category_id BIGINT,
    category_code VARCHAR,
    brand VARCHAR,
    price DECIMAL(12, 2),
    user_id BIGINT,
    user_session VARCHAR
);
CREATE TABLE IF NOT EXISTS silver.events AS FROM bronze.events LIMIT 0;
CREATE TABLE IF NOT EXISTS gold.revenue_by_brand (
    brand VARCHAR,
    purchases BIGINT,
    revenue DECIMAL(38, 2),
    avg_price DOUBLE
);
"""

# The types are given, so nothing is sniffed; rejects are not kept, so nothing is spent on them.
BRONZE = """
INSERT INTO bronze.events
FROM read_csv($path, auto_detect = false, header = true, delim = ',', quote = '"', escape = '"', columns = {
    'event_time': 'TIMESTAMP',
    'event_type': 'VARCHAR',
    'product_id': 'BIGINT',
    'category_id': 'BIGINT',
    'category_code': 'VARCHAR',
    'brand': 'VARCHAR',
    'price': 'DECIMAL(12, 2)',
    'user_id': 'BIGINT',
    'user_session': 'VARCHAR'
})
"""

# Each table is emptied and filled again by its defining query.
REBUILDS = (
    "DELETE FROM silver.events",
    "INSERT INTO silver.events SELECT DISTINCT * FROM bronze.events WHERE user_id IS NOT NULL",
    "DELETE FROM gold.revenue_by_brand",
    """
    INSERT INTO gold.revenue_by_brand
    SELECT brand, count(*), sum(price), avg(price)
    FROM silver.events
    WHERE event_type = 'purchase' AND brand IS NOT NULL
    GROUP BY brand
    """,
)

GOLD = "SELECT brand, purchases, revenue, avg_price FROM gold.revenue_by_brand ORDER BY brand"


def connect(warehouse: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(warehouse)
    connection.execute(SCHEMA)
    return connection


def load(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Take files into all three tables, in one transaction."""
    connection.execute("BEGIN")
    try:
        connection.execute(BRONZE, {"path": [str(path) for path in files]})
        for statement in REBUILDS:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
