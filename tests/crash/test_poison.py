"""What kills the process is found and put aside, be it a file or a query; what was beside it is not held to account."""

import pytest

from crash import shop

FILES = {f"shop/day/orders-{n}.csv": f"order_id,shop,amount\n{n}1,ada,{n}\n{n}2,bob,{2 * n}\n" for n in range(1, 8)}
POISON = "shop/day/orders-5.csv"
DEATHS_MAX = 12
BESIDE = {
    "shop/job.yml": """
        name: shop
        tasks:
          - {task_key: bad, sql: endless.sql}
          - {task_key: good, sql: mark.sql}
          - {task_key: fine, sql: mark.sql, timeout_seconds: 60}
        """,
    "shop/endless.sql": "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3;",
    "shop/mark.sql": "SELECT 1 AS n;",
}


@pytest.mark.parametrize("job", [shop.TOGETHER, shop.ALONE], ids=["together", "alone"])
def test_a_file_that_kills_the_process_is_isolated_and_the_rest_is_loaded(victim_with, job):
    """The cool-down after the first run gives the others the time to gather: they are one batch."""
    slow = job["shop/job.yml"].replace('pattern: "*.csv"}', 'pattern: "*.csv", min_time_between_triggers_seconds: 4}')
    victim = victim_with(job | {"shop/job.yml": slow})
    victim.start_traceable()
    victim.deliver({"shop/day/shops-1.csv": "shop,city\nada,Ulm\nbob,Bonn\n"})
    victim.until(victim.at_rest)
    victim.deliver(FILES)
    victim.until(lambda: len(victim.ledger("SELECT 1 FROM files WHERE content_hash IS NOT NULL")) == len(FILES) + 1)
    poison_id = victim.ledger("SELECT file_id FROM files WHERE name = ?", [POISON])[0]["file_id"]
    del victim.files[POISON]
    deaths = 0
    while deaths < DEATHS_MAX:
        victim.trace(
            [victim.state / "temp" / "reading" / str(poison_id)], calls=("openat",), inject="openat:signal=KILL"
        )
        if deaths:
            victim.let_go()
        victim.until_dead_or(victim.at_rest)
        if not victim.killed():
            break
        deaths += 1
        victim.hold()
    assert victim.alive, f"it died {deaths} times"
    assert deaths >= 3, "the reader does not open the file under the name that this test waits for"
    state, reason = victim.ledger("SELECT state, reason FROM files WHERE file_id = ?", [poison_id])[0]
    assert (state, "the process died while it was loaded" in reason) == ("quarantined", True)
    assert [row["result"] for row in victim.ledger("SELECT DISTINCT result FROM runs")] == ["SUCCESS"]
    orders = victim.ledger("SELECT sum(rows_loaded) AS n FROM loads WHERE task_key = 'bronze_orders'")
    assert orders[0]["n"] == 2 * (len(FILES) - 1)


def test_a_query_that_kills_the_process_takes_no_task_down_that_waits_behind_it(victim_with):
    victim = victim_with(BESIDE)
    victim.start()
    victim.post("/v1/runs", job="shop")
    last_has_begun = "SELECT 1 FROM tasks WHERE task_key = 'fine' AND state = 'RUNNING' AND attempts = ?"
    for death in (1, 2, 3):
        victim.until(lambda n=death: victim.ledger(last_has_begun, (n,)))
        victim.kill()
        victim.start()
    victim.until(victim.at_rest)
    results = {row["task_key"]: row["result"] for row in victim.ledger("SELECT task_key, result FROM tasks")}
    assert results == {"bad": "FAILED", "good": "SUCCESS", "fine": "SUCCESS"}
