"""A job that is always on: what lands is in gold at once, a batch that fails is tried again until it is healed."""

from pathlib import Path

from brokers import Mosquitto
from daemons import LandingdProcess, orders
from listening import Subscriber

CHECK = """
    import pathlib

    def main(ctx):
        if pathlib.Path(__file__).with_name("broken").exists():
            raise ConnectionError("the registry of customers is away")
    """
STREAM = {
    "stream/job.yml": """
        name: stream
        continuous:
          path: in
          backoff: {initial_seconds: 0.05, max_seconds: 0.2, jitter: 0}
        tasks:
          - {task_key: bronze, ingest: {schema: {id: BIGINT, customer: VARCHAR, amount: BIGINT}}, table: bronze.orders}
          - {task_key: check, depends_on: [{task_key: bronze}], python_task: {file: check.py}}
          - {task_key: gold, depends_on: [{task_key: check}], sql: gold.sql, table: gold.orders}
        """,
    "stream/check.py": CHECK,
    "stream/gold.sql": "SELECT count(*) AS orders, count(DISTINCT id) AS ids, sum(amount) AS amount FROM bronze.orders",
    "once/job.yml": """
        name: once
        continuous: {path: once, task_retry_mode: NEVER, backoff: {initial_seconds: 0.05, max_seconds: 0.2, jitter: 0}}
        tasks:
          - {task_key: bronze, ingest: {}, table: bronze.once}
          - {task_key: check, depends_on: [{task_key: bronze}], python_task: {file: check.py}}
        """,
    "once/check.py": CHECK,
}


def drop(daemon: LandingdProcess, *numbers: int) -> None:
    for n in numbers:
        daemon.drop(f"in/{n}.csv", orders((n, "ada", n)))


def gold(*numbers: int) -> list[dict[str, int]]:
    return [{"orders": len(numbers), "ids": len(numbers), "amount": sum(numbers)}]


def ends(daemon: LandingdProcess, job: str) -> list[tuple[str, str]]:
    """How each of the job's runs was started, and how it ended."""
    runs = daemon.ledger("SELECT trigger_type, result FROM runs WHERE job = ? ORDER BY run_id", (job,))
    return [(row["trigger_type"], row["result"]) for row in runs]


def failed_in_a_row(daemon: LandingdProcess) -> int:
    rows = daemon.ledger("SELECT failures FROM triggers WHERE job = 'stream' AND trigger_name = 'continuous'")
    return rows[0]["failures"] if rows else 0


def test_a_batch_that_fails_is_tried_again_until_it_is_healed_whatever_dies_meanwhile(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", STREAM, broker_port=broker.port) as daemon:
        drop(daemon, 1, 2)
        daemon.until_loaded(2)
        assert daemon.query("FROM gold.orders") == gold(1, 2)
        assert {run["trigger"] for run in daemon.cli("runs")} == {"CONTINUOUS"}
        well = len(daemon.get("/v1/runs"))

        broken = daemon.pipelines / "stream/broken"
        broken.touch()
        drop(daemon, 3)
        daemon.until(lambda: failed_in_a_row(daemon) >= 2)
        drop(daemon, 4)  # what comes while it is broken is not lost either
        (trigger,) = daemon.cli("triggers", "stream")["triggers"]
        assert trigger["failures"] >= 2
        assert trigger["retry_at"]
        assert "in a row" in trigger["last_not_triggered"]["description"]
        assert b"failed runs in a row" in daemon.run("triggers", "stream").stdout
        daemon.kill()
        drop(daemon, 5)
        before = failed_in_a_row(daemon)
        daemon.start()
        daemon.until(lambda: failed_in_a_row(daemon) > before)
        assert daemon.query("FROM gold.orders") == gold(1, 2), "gold has only what was checked"

        broken.unlink()
        daemon.until(lambda: daemon.query("FROM gold.orders") == gold(1, 2, 3, 4, 5))
        daemon.until(lambda: not daemon.open_runs())
        assert failed_in_a_row(daemon) == 0
        assert daemon.file_counts() == {"loaded": 5}
        ended = ends(daemon, "stream")
        assert ended[: well + 1] == [("CONTINUOUS", "SUCCESS")] * well + [("CONTINUOUS", "FAILED")]
        assert ended[-1] == ("CONTINUOUS_RESTART", "SUCCESS")
        assert set(ended[well + 1 : -1]) == {("CONTINUOUS_RESTART", "FAILED")}

        drop(daemon, 6)
        daemon.until(lambda: daemon.query("FROM gold.orders") == gold(1, 2, 3, 4, 5, 6))
        daemon.until(lambda: not daemon.open_runs())
        runs = daemon.get("/v1/runs")
        assert (runs[0]["trigger"], runs[0]["result"]) == ("CONTINUOUS", "SUCCESS")
        ear.until(lambda: {end["run_id"] for end in ear.events("run_finished")} == {run["run_id"] for run in runs})
        assert daemon.cli("census")["discrepancies"] == []


def test_with_task_retry_mode_never_a_failed_batch_is_left_and_the_next_file_is_a_batch_of_its_own(
    tmp_path: Path,
) -> None:
    with LandingdProcess(tmp_path / "base", STREAM) as daemon:
        for job in ("once", "stream"):
            (daemon.pipelines / job / "broken").touch()
        daemon.drop("once/1.csv", "id\n1\n")
        daemon.until(lambda: ends(daemon, "once") == [("CONTINUOUS", "FAILED")])
        drop(daemon, 1)
        daemon.until(lambda: failed_in_a_row(daemon) >= 5)  # by then it would have been tried again
        assert ends(daemon, "once") == [("CONTINUOUS", "FAILED")]

        (daemon.pipelines / "once/broken").unlink()
        daemon.drop("once/2.csv", "id\n2\n")
        daemon.until(lambda: ends(daemon, "once")[1:] == [("CONTINUOUS_RESTART", "SUCCESS")])
        assert daemon.query("SELECT id FROM bronze.once ORDER BY id") == [{"id": 1}, {"id": 2}]
