"""From a file in a landing directory to rows in gold, and what is said of it on the way."""

import gzip
import json
import os
from pathlib import Path
from urllib.parse import urlencode

import zstandard

from brokers import Mosquitto
from daemons import ORDERS, LandingdProcess, orders
from listening import Subscriber

GOLD = "SELECT customer, orders, CAST(revenue AS DOUBLE) AS revenue FROM gold.revenue ORDER BY customer"
STATUS = "landingd/story/status"
TASKS = ["bronze", "silver", "gold"]


def gold(daemon: LandingdProcess) -> dict[str, tuple[int, float]]:
    return {row["customer"]: (row["orders"], row["revenue"]) for row in daemon.query(GOLD)}


def test_a_file_becomes_gold_and_every_step_is_said_over_mqtt(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        daemon.drop("orders/in-place.csv", orders((1, "ada", 10.5), (2, "bob", 2)))
        ear.until(lambda: ear.events("run_finished"))
        assert gold(daemon) == {"ada": (1, 10.5), "bob": (1, 2.0)}

        kinds = [event["event"] for event in ear.events()]
        assert kinds[:3] == ["file_landed", "run_queued", "run_started"]
        assert sorted(kinds[3:-1]) == ["file_loaded", "task_finished", "task_finished", "task_finished"]
        assert kinds[-1] == "run_finished"
        topics = {message.payload["event"]: message.topic for message in ear.heard if "event" in message.payload}
        assert topics["file_landed"] == topics["file_loaded"] == "landingd/story/files"
        assert topics["run_queued"] == topics["run_finished"] == "landingd/story/jobs/orders/runs/1"
        assert topics["task_finished"] == "landingd/story/jobs/orders/runs/1/tasks/gold"
        assert [event["task_key"] for event in ear.events("task_finished")] == TASKS
        (finished,) = ear.events("run_finished")
        assert finished["result"] == "SUCCESS"
        assert finished["files"] == ["orders/in-place.csv"]
        assert (finished["rows_in"], finished["rows_loaded"], finished["rows_rejected"]) == (2, 2, 0)
        assert finished["duration_ms"] > 0
        (loaded,) = ear.events("file_loaded")
        assert (loaded["file"], loaded["rows_loaded"], loaded["run_id"]) == ("orders/in-place.csv", 2, 1)

        content = orders((3, "ada", 1), (4, "cyd", 4)).encode()
        daemon.move_in("orders/moved.csv", content)
        daemon.drop("orders/packed.csv.gz", gzip.compress(orders((5, "ada", 1)).encode()))
        daemon.drop("orders/packed.csv.zst", zstandard.compress(orders((6, "eve", 6)).encode()))
        ear.until(lambda: len(ear.events("file_loaded")) == 4)
        daemon.until_loaded(4)
        assert gold(daemon) == {"ada": (3, 12.5), "bob": (1, 2.0), "cyd": (1, 4.0), "eve": (1, 6.0)}
        moved = daemon.cli("why", "orders/moved.csv")["versions"][0]
        assert moved["evidence"] == "moved into place"

        runs = len(daemon.ledger("SELECT 1 FROM runs"))
        ear.until(lambda: len(ear.events("run_finished")) == runs)

        def at_rest() -> bool:
            retained = ear.retained()
            status, job = retained[STATUS], retained["landingd/story/jobs/orders/state"]
            told = (status["state"], status["jobs"], status["active_jobs"], status["files"])
            job_told = (job["state"], job["last_result"], job["last_run"], job["backlog_files"])
            return told == ("online", ["orders"], [], {"orders": {"loaded": 4}}) and job_told == (
                "IDLE",
                "SUCCESS",
                runs,
                0,
            )

        daemon.until(at_rest)
        ids = [event["event_id"] for event in ear.events()]
        assert len(ids) == len(set(ids))
        assert daemon.stop() == 0
        ear.until(lambda: ear.heard[-1] == (STATUS, {"state": "offline"}, False))
        assert ear.retained()[STATUS] == {"state": "offline"}


def test_a_daemon_that_is_killed_is_said_to_be_offline(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        ear.until(lambda: any(m.payload.get("state") == "online" for m in ear.heard))
        daemon.kill()
        ear.until(lambda: ear.heard[-1].payload == {"state": "offline"})


def test_a_corrected_file_replaces_its_rows_down_to_gold(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 10), (2, "bob", 2)))
        daemon.until_loaded(1)
        daemon.drop("orders/b.csv", orders((3, "ada", 5)))
        daemon.until_loaded(2)
        daemon.drop("orders/a.csv", orders((1, "ada", 11), (9, "cyd", 7)))
        daemon.until(lambda: daemon.file_counts().get("replaced") == 1 and not daemon.open_runs())

        plan = {task["task_key"]: task["refresh"] for task in daemon.cli("plan", "orders")["tasks"]}
        assert plan == {"bronze": "ingest", "silver": "append", "gold": "full"}
        assert daemon.value("SELECT list(id ORDER BY id) FROM bronze.orders") == [1, 3, 9]
        assert daemon.value("SELECT list(id ORDER BY id) FROM silver.orders") == [1, 3, 9]
        assert gold(daemon) == {"ada": (2, 16.0), "cyd": (1, 7.0)}
        ear.until(lambda: ear.events("file_replaced"))
        (replaced,) = ear.events("file_replaced")
        assert (replaced["file"], replaced["file_id"], replaced["by"]) == ("orders/a.csv", 1, 3)
        story = daemon.cli("why", "orders/a.csv")["versions"]
        assert [(version["state"], version["reason"]) for version in story] == [
            ("replaced", "replaced by file 3"),
            ("loaded", ""),
        ]


def test_a_rewrite_with_the_same_bytes_loads_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        content = orders((1, "ada", 10), (2, "bob", 2))
        daemon.drop("orders/a.csv", content)
        daemon.until_loaded(1)
        before = daemon.value("SELECT count(*) FROM meta.commits")
        daemon.drop("orders/a.csv", content)
        ear.until(lambda: len(ear.events("file_duplicate")) == 1)
        daemon.move_in("orders/a.csv", content)
        ear.until(lambda: len(ear.events("file_duplicate")) == 2)

        daemon.drop("orders/after.csv", orders((3, "cyd", 3)))
        daemon.until_loaded(2)
        assert daemon.value("SELECT count(*) FROM meta.commits") == before + 3
        assert gold(daemon) == {"ada": (1, 10.0), "bob": (1, 2.0), "cyd": (1, 3.0)}
        assert daemon.cli("why", "orders/a.csv")["versions"][0]["duplicates"] == 2
        ids = [event["event_id"] for event in ear.events()]
        assert len(ids) == len(set(ids))


def test_a_temporary_name_is_never_taken_and_its_rename_is(daemon: LandingdProcess) -> None:
    names = [".hidden.csv", "a.csv.tmp", "b.csv.part", "c.csv.filepart", "~d.csv", "e.csv~"]
    for number, name in enumerate(names):
        daemon.drop(f"orders/{name}", orders((number, "nobody", 1)))
    daemon.drop("orders/last.csv", orders((100, "ada", 1)))
    daemon.until_loaded(1)
    ignored = {one["file"]: one["reason"] for one in daemon.cli("files", "--state", "ignored")}
    assert ignored == {f"orders/{name}": "temporary name" for name in names}
    assert daemon.cli("why", "orders/b.csv.part")["ignored"] == "temporary name"
    assert daemon.file_counts() == {"loaded": 1}

    (daemon.landing / "orders/b.csv.part").rename(daemon.landing / "orders/b.csv")
    daemon.until_loaded(2)
    assert gold(daemon) == {"ada": (1, 1.0), "nobody": (1, 1.0)}


def test_a_file_that_is_still_open_waits_until_its_writer_is_done(daemon: LandingdProcess) -> None:
    path = daemon.landing / "orders/slow.csv"
    with path.open("w") as writer:
        writer.write(orders((1, "ada", 1)))
        writer.flush()
        # A second writer that opens, appends and closes: its close says nothing about the first.
        with path.open("a") as other:
            other.write("2,bob,2\n")
        (waiting,) = daemon.until(lambda: daemon.cli("files", "--state", "waiting"))
        assert waiting["reason"] == "a process has it open for writing"
        writer.seek(0, os.SEEK_END)
        writer.write("3,cyd,3\n")
    daemon.until_loaded(1)
    assert gold(daemon) == {"ada": (1, 1.0), "bob": (1, 2.0), "cyd": (1, 3.0)}


NAMES = {
    b"not-utf8-\xff\xfe.csv": r"not-utf8-\xff\xfe.csv",
    b"line\nbreak.csv": r"line\nbreak.csv",
    b'it\'s "quoted" *?[x].csv': 'it\'s "quoted" *?[x].csv',
    b"back\\slash.csv": r"back\\slash.csv",
    "größe-日本.csv".encode(): "größe-日本.csv",
    "größe-日本".encode() + b"\xff\n.csv": r"größe-日本\xff\n.csv",
    b" spaces & %41;#.csv": " spaces & %41;#.csv",
}


def test_names_that_are_no_text_survive_to_gold_to_mqtt_and_to_json(tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port) as ear, LandingdProcess(tmp_path / "base", broker_port=broker.port) as daemon:
        for number, name in enumerate(NAMES):
            daemon.drop(b"orders/" + name, orders((number, "ada", 1)))
        daemon.until_loaded(len(NAMES))
        assert gold(daemon) == {"ada": (len(NAMES), float(len(NAMES)))}

        told = {f"orders/{name}" for name in NAMES.values()}
        ear.until(lambda: len(ear.events("file_loaded")) == len(NAMES))
        assert {event["file"] for event in ear.events("file_landed")} == told
        assert {event["file"] for event in ear.events("file_loaded")} == told
        assert {one["file"] for one in daemon.cli("files")} == told
        assert {row["path"] for row in daemon.query("SELECT path FROM meta.loads")} == told
        for raw, shown in NAMES.items():
            by_bytes = json.loads(daemon.run("why", b"orders/" + raw, "--json").stdout)
            by_text = daemon.get(f"/v1/why?{urlencode({'file': f'orders/{shown}'})}")
            assert by_bytes == by_text
            assert by_bytes["file"] == f"orders/{shown}"
            assert by_bytes["versions"][0]["state"] == "loaded"
            assert by_bytes["on_disk"]
        for verb in (["files"], ["why", r"orders/not-utf8-\xff\xfe.csv"]):
            assert rb"not-utf8-\xff\xfe.csv" in daemon.run(*verb).stdout


BAD_JOB = {
    **ORDERS,
    "orders/job.yml": ORDERS["orders/job.yml"].replace(
        "ingest: {", "ingest: {max_rejected_percent: 50, delimiter: ',', "
    ),
}


def test_rows_that_do_not_parse_are_kept_with_line_column_error_and_text(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", BAD_JOB) as daemon:
        daemon.drop("orders/a.csv", "id,customer,amount\n1,ada,1\n2,bob,much\n3,cyd,3\n4,eve\n5,fay,5,extra\n6,gus,6\n")
        daemon.until_loaded(1)
        rows = daemon.query(
            "SELECT path, line, column_name, error_type, error, raw FROM meta.rejected_rows "
            "JOIN meta.loads USING (table_name, file_id) ORDER BY line"
        )
        assert [(row["path"], row["line"], row["raw"]) for row in rows] == [
            ("orders/a.csv", 3, "2,bob,much"),
            ("orders/a.csv", 5, "4,eve"),
            ("orders/a.csv", 6, "5,fay,5,extra"),
        ]
        assert rows[0]["column_name"] == "amount"
        assert "much" in rows[0]["error"]
        assert all(row["error_type"] for row in rows)
        (version,) = daemon.cli("why", "orders/a.csv")["versions"]
        assert (version["rows_in"], version["rows_loaded"], version["rows_rejected"]) == (6, 3, 3)
        assert gold(daemon) == {"ada": (1, 1.0), "cyd": (1, 3.0), "gus": (1, 6.0)}


def test_a_file_that_cannot_be_loaded_is_quarantined_and_the_others_go_on(tmp_path: Path, broker: Mosquitto) -> None:
    packed = gzip.compress(orders(*((n, "nobody", n) for n in range(5000))).encode())
    bad = {
        "over.csv": ("id,customer,amount\n" + "x,nobody,1\n" * 2 + "1,nobody,1\n", "max_rejected_percent"),
        "empty.csv": ("", "the file is empty"),
        "nameless.csv": ("id,,amount\n1,nobody,1\n", "no name for column 2"),
        "twice.csv": ("id,amount,id\n1,1,1\n", "names column 'id' twice"),
        "binary.csv": (b"id,customer\n\0\0\0\0", "not a text file"),
        "utf32.csv": ("id,customer\n1,ada\n".encode("utf-32"), "UTF-32"),
        "cut.csv.gz": (packed[: len(packed) // 2], "ends early"),
    }
    base = tmp_path / "base"
    job = ORDERS["orders/job.yml"].replace('"*.csv*"}', '"*.csv*", incomplete_after_seconds: 0}')
    first = LandingdProcess(base, ORDERS | {"orders/job.yml": job}, broker_port=broker.port)
    # All of them lie there before the daemon starts, so that they are one batch.
    for name, (content, _) in bad.items():
        first.drop(f"orders/{name}", content)
    first.drop("orders/good.csv", orders((1, "ada", 1)))
    first.drop("orders/better.csv", orders((2, "bob", 2)))
    with Subscriber(broker.port) as ear, first as daemon:
        daemon.until(lambda: daemon.file_counts() == {"loaded": 2, "quarantined": len(bad)} and not daemon.open_runs())
        reasons = {one["file"]: one["reason"] for one in daemon.cli("files", "--state", "quarantined")}
        for name, (_, reason) in bad.items():
            assert reason in reasons[f"orders/{name}"], name
        assert gold(daemon) == {"ada": (1, 1.0), "bob": (1, 2.0)}
        assert {run["result"] for run in daemon.cli("runs")} == {"SUCCESS"}
        ear.until(lambda: len(ear.events("file_quarantined")) == len(bad))
        assert {event["file"]: event["reason"] for event in ear.events("file_quarantined")} == reasons

        # What its producer mends is a new version.
        daemon.drop("orders/over.csv", orders((3, "cyd", 3)))
        daemon.until_loaded(3)
        assert gold(daemon) == {"ada": (1, 1.0), "bob": (1, 2.0), "cyd": (1, 3.0)}


def test_columns_may_come_go_and_change_places(daemon: LandingdProcess) -> None:
    daemon.drop("orders/1.csv", orders((1, "ada", 1)))
    daemon.until_loaded(1)
    daemon.drop("orders/2.csv", "amount,id,customer\n2,2,bob\n")
    daemon.until_loaded(2)
    daemon.drop("orders/3.csv", "id,customer,amount,channel\n3,cyd,3,web\n")
    daemon.until_loaded(3)
    daemon.drop("orders/4.csv", "id,amount\n4,4\n")
    daemon.until_loaded(4)
    rows = daemon.query(
        "SELECT id, customer, CAST(amount AS INTEGER) AS amount, channel FROM bronze.orders ORDER BY id"
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, "ada", 1, None),
        (2, "bob", 2, None),
        (3, "cyd", 3, "web"),
        (4, None, 4, None),
    ]
    traced = daemon.query(
        "SELECT o.id, l.path, o._row FROM bronze.orders o JOIN meta.loads l ON l.file_id = o._file_id "
        "AND l.table_name = 'bronze.orders' ORDER BY id"
    )
    assert [(row["id"], row["path"], row["_row"]) for row in traced] == [(n, f"orders/{n}.csv", 1) for n in range(1, 5)]
