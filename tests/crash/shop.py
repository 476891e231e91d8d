"""The job under test, and what its tables have to hold for the files that lie in the landing directory.

Two tables that are loaded, one that is appended to, one that is recomputed, and beside them a script that would show
if it were run twice: it adds a row each time.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TOGETHER = {
    "shop/job.yml": """
        name: shop
        triggers:
          - file_arrival: {path: shop, pattern: "*.csv"}
        tasks:
          - task_key: bronze_orders
            ingest:
              pattern: "orders-*"
              schema_hints: {order_id: BIGINT, shop: VARCHAR, amount: BIGINT}
              max_rejected_percent: 50
            table: bronze.orders
          - task_key: bronze_shops
            ingest:
              pattern: "shops-*"
              schema_hints: {shop: VARCHAR, city: VARCHAR}
            table: bronze.shops
          - task_key: silver_orders
            depends_on: [{task_key: bronze_orders}]
            sql: silver_orders.sql
            table: silver.orders
          - task_key: visits
            depends_on: [{task_key: bronze_orders}]
            sql: visits.sql
          - task_key: gold_revenue
            depends_on: [{task_key: silver_orders}, {task_key: bronze_shops}]
            sql: gold_revenue.sql
            table: gold.revenue
        """,
    "shop/silver_orders.sql": "SELECT order_id, upper(shop) AS shop, 100 * amount AS cents FROM bronze.orders "
    "WHERE amount > 0",
    "shop/visits.sql": "CREATE TABLE IF NOT EXISTS gold.visits (run_id BIGINT);\n"
    "INSERT INTO gold.visits VALUES (CAST($run_id AS BIGINT));",
    "shop/gold_revenue.sql": "SELECT city, count(*) AS orders, sum(cents) AS cents "
    "FROM silver.orders JOIN bronze.shops ON silver.orders.shop = upper(bronze.shops.shop) GROUP BY city",
}
ALONE = TOGETHER | {
    "shop/job.yml": TOGETHER["shop/job.yml"].replace(
        "sql: visits.sql", "timeout_seconds: 600\n            sql: visits.sql"
    )
}
"""A small run commits once; a timeout makes each of its tasks commit alone."""

TASKS = ("bronze_orders", "bronze_shops", "silver_orders", "visits", "gold_revenue")

Delivery = Mapping[str, str]
"""Names below the landing root, and contents."""

FIRST: Delivery = {
    "shop/day/orders-1.csv": "order_id,shop,amount\n11,ada,5\n12,bob,0\n13,ada,7\n14,cyd,1\n",
    "shop/day/orders-2.csv": "order_id,shop,amount\n21,bob,3\n22,ada,many\n23,bob,9\n",
    "shop/day/orders-3.csv": "order_id,shop,amount\n31,cyd,2\n32,cyd,2\n32,cyd,2\n",
    "shop/day/shops-1.csv": "shop,city\nada,Ulm\nbob,Bonn\n",
    "shop/day/shops-2.csv": "shop,city\ncyd,Ulm\n",
}
CORRECTED: Delivery = {
    "shop/day/orders-2.csv": "order_id,shop,amount\n21,bob,3\n22,ada,4\n",
    "shop/day/shops-1.csv": "shop,city\nada,Ulm\nbob,Köln\n",
    "shop/day/orders-4.csv": "order_id,shop,amount\n41,ada,6\n42,bob,none\n",
}
"""A rejected row becomes good and another one goes, a shop moves, and there is a new file."""


def content_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def deliver(files: Delivery, landing: Path, outside: Path) -> None:
    """Rename complete files into place; a folder that is not there yet comes as a whole."""
    outside.mkdir()
    for name, text in files.items():
        (outside / Path(name).name).write_text(text)
    folder = landing / "shop/day"
    if folder.exists():
        for name in sorted(files):
            (outside / Path(name).name).rename(landing / name)
        outside.rmdir()
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        outside.rename(folder)


# --- what the tables have to hold -------------------------------------------------------------------------------


class Rows(NamedTuple):
    """One file's rows: those that parse, numbered, and the texts of those that do not."""

    good: list[tuple[object, ...]]
    bad: list[str]


def rows(name: str, text: str) -> Rows:
    good: list[tuple[object, ...]] = []
    bad: list[str] = []
    for line in text.splitlines()[1:]:
        fields = line.split(",")
        if "/shops-" in name:
            good.append((len(good) + 1, *fields))
        elif fields[2].isdecimal():
            good.append((len(good) + 1, int(fields[0]), fields[1], int(fields[2])))
        else:
            bad.append(line)
    return Rows(good, bad)


def bronze(files: Delivery, table: str) -> list[tuple[object, ...]]:
    """`(file, _row, columns...)` of a bronze table."""
    kind = f"/{table.partition('.')[2]}-"
    return sorted((name, *row) for name, text in files.items() if kind in name for row in rows(name, text).good)


def silver(files: Delivery) -> list[tuple[object, ...]]:
    """`(file, order_id, shop, cents)`, the file being lineage."""
    return sorted(
        (name, order_id, str(shop).upper(), 100 * amount)
        for name, _, order_id, shop, amount in bronze(files, "bronze.orders")
        if isinstance(amount, int) and amount > 0
    )


def gold(files: Delivery) -> list[tuple[object, ...]]:
    city_of = {str(shop).upper(): city for _, _, shop, city in bronze(files, "bronze.shops")}
    sums: dict[object, list[int]] = {}
    for _, _, shop, cents in silver(files):
        assert isinstance(cents, int)
        sums.setdefault(city_of[str(shop)], []).append(cents)
    return sorted((city, len(cents), sum(cents)) for city, cents in sums.items())
