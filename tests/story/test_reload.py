"""Job files may be wrong: what runs goes on with the old ones, and says so."""

import signal
from pathlib import Path

from brokers import Mosquitto
from daemons import LandingdProcess, orders
from listening import Subscriber

SECOND = {
    "second/job.yml": """
        name: second
        triggers: [{file_arrival: {path: second}}]
        tasks: [{task_key: bronze, ingest: {}, table: bronze.second}]
        """
}


def test_a_bad_job_file_keeps_the_old_jobs_and_says_so_and_a_good_one_is_taken(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        bad = "name: second\ntasks:\n  - {task_key: a, sqll: x.sql, table: gold.a}\n"
        daemon.write({"second/job.yml": bad, "orders/gold.sql": "SELECT customer FROM silver.nothing"})
        daemon.signal(signal.SIGHUP)
        (refused,) = daemon.until(lambda: daemon.logged("reload_refused"))
        assert any("pipelines/second/job.yml:3" in problem and "sqll" in problem for problem in refused["problems"])
        ear.until(lambda: (ear.heard[-1].payload.get("reload_problem") or "").count("sqll"))
        assert "sqll" in daemon.cli("status")["reload_problem"]
        assert b"sqll" in daemon.run("status").stdout
        assert b"sqll" in daemon.run("reload", exit_code=1).stderr

        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        assert daemon.value("SELECT revenue FROM gold.revenue") == 1

        daemon.write(SECOND | {"orders/gold.sql": "SELECT count(*) AS n FROM silver.orders"})
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: daemon.logged("reloaded"))
        assert daemon.cli("status")["reload_problem"] is None
        assert (daemon.landing / "second").is_dir()
        daemon.drop("second/a.csv", "id\n7\n")
        daemon.until_loaded(2)
        assert daemon.value("SELECT id FROM bronze.second") == 7
        daemon.drop("orders/b.csv", orders((2, "bob", 2)))
        daemon.until_loaded(3)
        assert daemon.query("FROM gold.revenue") == [{"n": 2}]

        (daemon.pipelines / "second/job.yml").unlink()
        assert daemon.cli("reload") == {"jobs": ["orders"]}
        daemon.drop("second/b.csv", "id\n8\n")
        assert daemon.cli("why", "second/b.csv")["ignored"] == "no job watches this directory"


def test_files_that_landed_before_their_job_was_there_are_loaded_after_the_reload(daemon: LandingdProcess) -> None:
    daemon.drop("second/early.csv", "id\n1\n")
    daemon.write(SECOND)
    daemon.cli("reload")
    daemon.until_loaded(1)
    assert daemon.value("SELECT id FROM bronze.second") == 1
