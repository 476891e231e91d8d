"""The command line: every verb beside a running daemon and without one, for people and for machines."""

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from brokers import Mosquitto, free_port
from daemons import LANDINGD, ORDERS, REPOSITORY, LandingdProcess, orders, results

pytestmark = pytest.mark.timeout(300)  # each verb is a process, and the machine may be busy

REPORT = {
    **ORDERS,
    "report/job.yml": """
        name: report
        parameters:
          - {name: month, default: Oct, choices: [Oct, Nov]}
          - {name: note, default: none}
        tasks: [{task_key: note, sql: note.sql, table: gold.note}]
        """,
    "report/note.sql": "SELECT $month AS month, $note AS note, CAST($run_id AS INTEGER) AS run",
}
WRITES = [
    "INSERT INTO gold.revenue VALUES ('eve', 1, 1)",
    "DELETE FROM gold.revenue",
    "CREATE TABLE gold.x AS SELECT 1 AS x",
    "COPY gold.revenue TO 'out.csv'",
    "SELECT 1; SELECT 2",
    "ATTACH 'other.duckdb'",
    "",
]


def complaint(daemon: LandingdProcess, *arguments: str, exit_code: int) -> str:
    """What it says on standard error, which is never a traceback."""
    said = daemon.run(*arguments, exit_code=exit_code).stderr.decode()
    assert said.strip(), arguments
    assert "Traceback" not in said, said
    return said


def answers(daemon: LandingdProcess) -> dict[str, Any]:
    """What every reading verb says."""
    return {
        "runs": daemon.cli("runs", "orders"),
        "show": daemon.cli("show", "1"),
        "files": daemon.cli("files", "--state", "loaded", "--job", "orders", "--limit", "5"),
        "ignored": daemon.cli("files", "--state", "ignored"),
        "why": daemon.cli("why", "orders/a.csv"),
        "plan": daemon.cli("plan", "orders"),
        "query": daemon.cli("query", "FROM gold.revenue ORDER BY customer"),
        "validate": daemon.cli("validate"),
    }


def test_every_reading_verb_says_the_same_with_and_without_a_daemon(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", REPORT) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1), (2, "bob", 2)))
        daemon.drop("orders/b.tmp", "")
        daemon.until_loaded(1)
        told = answers(daemon)
        status = daemon.cli("status")
        assert (status["state"], status["files"]) == ("online", {"orders": {"loaded": 1}})
        assert daemon.stop() == 0
        assert answers(daemon) == told
        assert daemon.cli("why", str(daemon.landing / "orders/a.csv")) == told["why"]
        assert daemon.cli("why", "a.csv")["versions"] == told["why"]["versions"]
        offline = daemon.cli("status")
        assert (offline["state"], offline["files"]) == ("not running", status["files"])

    assert told["show"]["result"] == "SUCCESS"
    assert told["query"] == [
        {"customer": "ada", "orders": 1, "revenue": 1.0},
        {"customer": "bob", "orders": 1, "revenue": 2.0},
    ]
    assert [one["file"] for one in told["ignored"]] == ["orders/b.tmp"]
    assert told["why"]["file"] == "orders/a.csv"
    assert [one["file"] for one in told["files"]] == ["orders/a.csv"]
    assert told["validate"]["valid"]


def test_every_verb_prints_for_people(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", REPORT) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        for arguments, word in (
            (["status"], b"online"),
            (["runs"], b"SUCCESS"),
            (["show", "1"], b"silver"),
            (["files"], b"orders/a.csv"),
            (["why", "orders/a.csv"], b"loaded"),
            (["plan", "orders"], b"append"),
            (["census"], b"adds up"),
            (["replay", "orders/a.csv", "--dry-run"], b"reload"),
            (["query", "FROM gold.revenue"], b"ada"),
            (["validate"], b"orders"),
            (["run", "report"], b"SUCCESS"),
            (["reload"], b"orders"),
            (["--version"], b"landingd 0"),
            (["--help"], b"validate"),
        ):
            assert word in daemon.run(*arguments).stdout, arguments


def test_a_query_comes_as_table_csv_json_or_parquet_and_into_a_file(tmp_path: Path) -> None:
    select = "SELECT customer, orders FROM gold.revenue ORDER BY customer"
    with LandingdProcess(tmp_path / "base") as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1), (2, "bob", 2)))
        daemon.until_loaded(1)
        for state in ("running", "stopped"):
            assert b"ada" in daemon.run("query", select, "--format", "table").stdout
            assert daemon.run("query", select, "--format", "csv").stdout == b"customer,orders\nada,1\nbob,1\n"
            assert json.loads(daemon.run("query", select, "--format", "json").stdout)[1]["customer"] == "bob"
            file = tmp_path / f"{state}.parquet"
            daemon.run("query", select, "--format", "parquet", "--output", str(file))
            assert duckdb.sql(f"FROM '{file}'").fetchall() == [("ada", 1), ("bob", 1)]
            piped = daemon.run("query", select, "--format", "parquet").stdout
            assert io.BytesIO(piped).read(4) == b"PAR1"
            assert daemon.cli("query", "SELECT 1 AS one WHERE false") == []
            if daemon.alive:
                daemon.stop()


def test_a_query_that_writes_is_refused(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base") as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        for sql in WRITES:
            complaint(daemon, "query", sql, exit_code=65)
        assert "no table" not in complaint(daemon, "query", "SELECT * FROM read_text('/etc/passwd')", exit_code=1)
        assert "nothing_here" in complaint(daemon, "query", "FROM gold.nothing_here", exit_code=1)
        daemon.stop()
        for sql in WRITES[:3]:
            complaint(daemon, "query", sql, exit_code=65)
        assert daemon.cli("query", "SELECT count(*) AS n FROM gold.revenue") == [{"n": 1}]


def test_a_run_takes_parameters_and_a_request_id_with_and_without_a_daemon(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", REPORT) as daemon:
        for number, state in enumerate(("running", "stopped"), start=1):
            note = f"{state}; '; --"
            run = daemon.cli("run", "report", "-p", "month=Nov", "-p", f"note={note}", "--request-id", state)
            assert (run["result"], run["trigger"]) == ("SUCCESS", "ONE_TIME")
            assert run["parameters"] == {"month": "Nov", "note": note}
            (row,) = daemon.cli("query", "FROM gold.note")
            assert row == {"month": "Nov", "note": note, "run": run["run_id"]}
            again = daemon.cli("run", "report", "--request-id", state)
            assert (again["run_id"], again["parameters"]) == (run["run_id"], run["parameters"])
            assert daemon.cli("run", "report")["parameters"] == {"month": "Oct", "note": "none"}

            assert "Oct, Nov" in complaint(daemon, "run", "report", "-p", "month=Dec", exit_code=65)
            assert "monht" in complaint(daemon, "run", "report", "-p", "monht=Nov", exit_code=65)
            assert "name=value" in complaint(daemon, "run", "report", "-p", "month", exit_code=65)
            assert len(daemon.cli("runs", "report")) == 2 * number
            if daemon.alive:
                daemon.stop()


def test_a_run_that_is_not_waited_for_is_queued(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", REPORT) as daemon:
        queued = daemon.cli("run", "report", "--no-wait")
        assert queued["job"] == "report"
        assert daemon.ended(queued["run_id"])["result"] == "SUCCESS"


def test_a_run_without_a_daemon_loads_what_waits_and_tells_of_it_later(tmp_path: Path, broker: Mosquitto) -> None:
    daemon = LandingdProcess(tmp_path / "base", broker_port=broker.port)
    daemon.drop("orders/a.csv", orders((1, "ada", 1)))
    run = daemon.cli("run", "orders")
    assert results(run) == {"bronze": "SUCCESS", "silver": "SUCCESS", "gold": "SUCCESS"}
    assert run["file_count"] == 1
    assert daemon.cli("query", "SELECT customer FROM gold.revenue") == [{"customer": "ada"}]
    assert daemon.cli("status")["untold_events"] > 0
    with daemon:
        daemon.until(lambda: daemon.cli("status")["untold_events"] == 0)
        assert daemon.file_counts() == {"loaded": 1}
        assert daemon.value("SELECT orders FROM gold.revenue") == 1


def test_what_is_not_there_is_66_what_is_not_allowed_65_and_what_needs_the_daemon_69(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", REPORT, broker_port=free_port()) as daemon:
        daemon.cli("run", "report")
        for _ in ("running", "stopped"):
            assert "did you mean 'report'" in complaint(daemon, "run", "reprot", exit_code=66)
            for arguments in (["plan", "nothing"], ["show", "99"], ["repair", "99"], ["why", "orders/nothing.csv"]):
                complaint(daemon, *arguments, exit_code=66)
            for arguments in (["files", "--state", "lost"], ["repair", "1"]):
                complaint(daemon, *arguments, exit_code=65)
            if daemon.alive:
                assert "landingd status" in complaint(daemon, "serve", exit_code=75)
                daemon.stop()
        complaint(daemon, "query", "SELECT 1", "--format", "xml", exit_code=65)
        assert "landingd serve" in complaint(daemon, "reload", exit_code=69)
        assert "broker" in complaint(daemon, "watch", exit_code=69)


def test_before_the_first_start_the_verbs_say_that_there_is_nothing_yet(tmp_path: Path) -> None:
    daemon = LandingdProcess(tmp_path / "base")
    for arguments in (["status"], ["runs"], ["show", "1"], ["files"], ["why", "orders/a.csv"]):
        assert "landingd serve" in complaint(daemon, *arguments, exit_code=66)
    assert "no warehouse yet" in complaint(daemon, "query", "SELECT 1", exit_code=66)
    assert daemon.cli("plan", "orders")["waiting_files"] == 0
    assert daemon.cli("validate")["valid"]
    assert not daemon.state.exists()


def test_what_a_terminal_cannot_show_costs_its_look_and_not_the_answer(tmp_path: Path) -> None:
    daemon = LandingdProcess(tmp_path / "base")
    daemon.env = {**daemon.env, "PYTHONIOENCODING": "ascii"}
    assert b"\\u2713 orders" in daemon.run("validate").stdout


def test_watch_prints_what_the_broker_tells(tmp_path: Path, broker: Mosquitto) -> None:
    with LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        daemon.until(lambda: daemon.cli("status")["broker"].startswith("connected"))
        with subprocess.Popen([LANDINGD, "watch", "--json"], env=daemon.env, stdout=subprocess.PIPE) as watch:
            assert watch.stdout is not None
            heard = [json.loads(watch.stdout.readline())]
            daemon.drop("orders/a.csv", orders((1, "ada", 1)))
            while heard[-1]["payload"].get("event") != "run_finished":
                heard.append(json.loads(watch.stdout.readline()))
            watch.terminate()
        assert heard[0]["topic"].endswith(("/status", "/state"))
        assert b"online" in daemon.run("watch", "--count", "3").stdout


@pytest.mark.parametrize(
    ("text", "env", "words"),
    [
        ("[mqtt]\nports = 1883\n", {}, ["landingd.toml:2", "mqtt.ports", "mqtt.port"]),
        ('[mqtt]\nport = "many"\n', {}, ["landingd.toml", "mqtt.port", "many"]),
        ("[mqtt\n", {}, ["landingd.toml"]),
        ("", {"LANDINGD_MQTT__PORTS": "1"}, ["LANDINGD_MQTT__PORTS", "LANDINGD_MQTT__PORT"]),
    ],
)
def test_a_wrong_setting_is_78_with_file_key_and_hint(
    tmp_path: Path, text: str, env: dict[str, str], words: list[str]
) -> None:
    config = tmp_path / "landingd.toml"
    config.write_text(text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LANDINGD_")}
    for verb in ("serve", "status"):
        command = [LANDINGD, "--config", config, verb]
        done = subprocess.run(command, env=clean | env, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 78, done
        assert "Traceback" not in done.stderr
        assert all(word in done.stderr for word in words), done.stderr


def test_a_daemon_with_bad_job_files_does_not_start_and_says_why(tmp_path: Path) -> None:
    daemon = LandingdProcess(tmp_path / "base", {"a/job.yml": "name: a\ntask: []\n"})
    assert "pipelines/a/job.yml:2" in complaint(daemon, "serve", exit_code=78)


BAD = {
    "bad/job.yml": """
        name: bad
        schedule: {quartz_cron_expression: "0 0 25 * * ?", timezone_id: UTC}
        tasks:
          - {task_key: a, depends_on: [{task_key: nobody}], sql: a.sql, table: gold.a}
          - {task_key: b, depends_on: [{task_key: c}], sql: b.sql, table: gold.b}
          - {task_key: c, depends_on: [{task_key: b}], sql: b.sql, table: gold.B}
        """,
    "bad/a.sql": "SELECT 1 AS one",
    "bad/b.sql": "SELECT 1 AS one",
    "bound/job.yml": """
        name: bound
        tasks: [{task_key: a, sql: a.sql, table: gold.bound}]
        """,
    "bound/a.sql": "SELECT\n  one,\n  two\nFROM silver.orders",
}


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """When each file was changed, and its size; a running daemon writes its ledger's log as it likes."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        if path.name == "ledger.sqlite-wal":
            continue
        status = path.lstat()
        found[str(path)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    return found


@pytest.mark.parametrize("runs", [True, False], ids=["beside a daemon", "without a daemon"])
def test_validate_reports_every_problem_and_writes_nothing(tmp_path: Path, runs: bool) -> None:
    with LandingdProcess(tmp_path / "base") as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1)))
        daemon.until_loaded(1)
        if not runs:
            daemon.stop()
        else:
            # The log is folded in once, two seconds after the last write; from there on it rests.
            daemon.until(lambda: not (daemon.state / "warehouse.duckdb.wal").exists())
        before = snapshot(daemon.base)
        assert daemon.cli("validate") == {"valid": True, "unbound": []}
        assert snapshot(daemon.base) == before

        daemon.write(BAD)
        before = snapshot(daemon.base)
        told = daemon.cli("validate", exit_code=1)
        assert snapshot(daemon.base) == before
        assert not told["valid"]
        job_file = str(daemon.pipelines / "bad/job.yml")
        assert {2, 4, 5, 6} <= {problem["line"] for problem in told["problems"] if problem["file"] == job_file}
        text = complaint(daemon, "validate", exit_code=1)
        for words in ("0 0 25", "'nobody'", "b -> c -> b", "gold.B"):
            assert words in text

        daemon.write({"bad/job.yml": "name: bad\ntasks: [{task_key: a, sql: a.sql, table: gold.a}]\n"})
        (problem,) = daemon.cli("validate", exit_code=1)["problems"]
        assert (problem["file"], problem["line"]) == (str(daemon.pipelines / "bound/a.sql"), 2)
        assert "one" in problem["error"]


def test_the_jobs_that_are_shipped_are_valid(tmp_path: Path) -> None:
    daemon = LandingdProcess(tmp_path / "base", {}, env={"PATHS__PIPELINES": str(REPOSITORY / "pipelines")})
    assert daemon.cli("validate") == {"valid": True, "unbound": []}
