"""Every file is accounted for, and what was loaded can be taken back, loaded anew, and queued again after a fix."""

import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from brokers import Mosquitto, observing
from daemons import ORDERS, LandingdProcess, orders

pytestmark = pytest.mark.timeout(300)  # each verb is a process, and the machine may be busy

NAMED = "expectations: [{name: named, expect: customer <> 'eve', on_violation: quarantine}]"
STRICT = ORDERS | {
    "orders/job.yml": ORDERS["orders/job.yml"].replace(
        "table: bronze.orders", f"table: bronze.orders\n            {NAMED}"
    )
}
EVE = orders((1, "ada", 1), (2, "eve", 2))


@pytest.fixture(params=["beside a daemon", "without a daemon"])
def quiet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LandingdProcess]:
    """Two files are loaded, one is a duplicate, one is quarantined, one is ignored, and nothing moves any more."""
    with LandingdProcess(tmp_path / "base") as daemon:
        daemon.move_in("orders/a.csv", orders((1, "ada", 1)))
        daemon.move_in("orders/b.csv", orders((2, "bob", 2)))
        daemon.until_loaded(2)
        daemon.move_in("orders/again.csv", orders((2, "bob", 2)))
        daemon.move_in("orders/bad.csv", b"<html><body>no</body></html>\n")
        daemon.drop("orders/x.tmp", "")
        daemon.until(lambda: daemon.file_counts() == {"loaded": 2, "duplicate": 1, "quarantined": 1})
        daemon.until(lambda: not daemon.open_runs())
        if request.param == "without a daemon":
            assert daemon.stop() == 0
        yield daemon


def bronze(daemon: LandingdProcess) -> list[str]:
    """Whose orders the table holds, with or without a daemon."""
    rows = daemon.cli("query", "SELECT customer FROM bronze.orders ORDER BY ALL")
    return [row["customer"] for row in rows]


def states(daemon: LandingdProcess) -> dict[str, str]:
    return {row["name"]: row["state"] for row in daemon.ledger("SELECT name, state FROM files ORDER BY file_id")}


# --- the census -------------------------------------------------------------------------------------------------


def test_every_file_is_counted_with_and_without_a_daemon(quiet: LandingdProcess) -> None:
    answer = quiet.cli("census", "--rows")
    (root,) = answer["roots"]
    assert {key: root[key] for key in ("on_disk", "loaded", "waiting", "duplicate", "quarantined", "ignored")} == {
        "on_disk": 5, "loaded": 2, "waiting": 0, "duplicate": 1, "quarantined": 1, "ignored": 1,
    }  # fmt: skip
    assert (root["adds_up"], answer["adds_up"], answer["discrepancies"]) == (True, True, [])
    printed = quiet.run("census", "orders").stdout.decode()
    assert "quarantined" in printed
    assert "yes" in printed
    assert b"no job 'nobody'" in quiet.run("census", "nobody", exit_code=66).stderr


def test_a_census_that_does_not_add_up_says_where_and_why_and_leaves_with_1(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base") as daemon:
        daemon.drop("orders/a.csv", orders((1, "ada", 1), (2, "bob", 2)))
        daemon.until_loaded(1)
        assert daemon.stop() == 0
        with duckdb.connect(daemon.state / "warehouse.duckdb") as warehouse:
            warehouse.execute("DELETE FROM bronze.orders WHERE customer = 'bob'")
        with closing(sqlite3.connect(daemon.state / "ledger.sqlite")) as ledger, ledger:
            ledger.execute("UPDATE loads SET rows_rejected = 1")
        daemon.drop("orders/new.csv", "id\n")
        answer = daemon.cli("census", "--rows", exit_code=1)
        assert [(one["what"], one["file"], one["why"]) for one in answer["discrepancies"]] == [
            ("unaccounted", "orders/new.csv", "on disk, and not on the books"),
            ("rows", "orders/a.csv", "bronze: 2 rows in, but 2 loaded + 1 rejected + 0 dropped"),
            ("rows", "orders/a.csv", "bronze: meta.loads says 2 rows, bronze.orders holds 1"),
        ]
        printed = daemon.run("census", exit_code=1).stdout.decode()
        assert "NO" in printed
        assert "hint: no daemon runs" in printed


@pytest.mark.parametrize("seed", [1, 2])
def test_a_census_adds_up_whenever_it_is_taken_while_files_land_change_and_leave(
    daemon: LandingdProcess, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 -- a test's dice
    for step in range(40):
        for _ in range(chance.randrange(1, 6)):
            name = f"orders/{chance.randrange(12)}.csv"
            match chance.choices(["write", "move in", "remove", "the same", "bad"], [4, 2, 2, 1, 1]):
                case ["write"]:
                    daemon.drop(name, orders((step, "ada", step)))
                case ["move in"]:
                    daemon.move_in(name, orders((step, "bob", step)))
                case ["remove"]:
                    (daemon.landing / name).unlink(missing_ok=True)
                case ["the same"]:
                    daemon.drop(name, orders((0, "eve", 0)))
                case _:
                    daemon.drop(name, "<html>no</html>")
        answer = daemon.get("/v1/census?rows=1")
        assert answer["adds_up"], (step, answer)
    answer = daemon.until(lambda: not daemon.open_runs() and daemon.get("/v1/census?rows=1"))
    assert answer["totals"]["on_disk"] == len(list((daemon.landing / "orders").iterdir()))


async def test_the_census_is_retained_on_the_broker(tmp_path: Path, broker: Mosquitto) -> None:
    often = {"LANDING__CENSUS_INTERVAL_SECONDS": "0.2"}
    with LandingdProcess(tmp_path / "base", broker_port=broker.port, env=often) as daemon:
        async with observing(broker.port, "landingd/story/census") as observer:
            daemon.drop("orders/a.csv", orders((1, "ada", 1)))
            await observer.until(lambda seen: any(json.loads(payload)["totals"]["loaded"] for _, payload in seen))
        async with observing(broker.port, "landingd/story/census") as late:
            await late.until(bool)
    census = json.loads(late.seen[0][1])
    assert census["adds_up"]
    assert [root["directory"] for root in census["roots"]] == ["orders"]


# --- unload, replay, requeue ------------------------------------------------------------------------------------


def test_an_unloaded_file_leaves_every_table_and_comes_back_by_a_replay(quiet: LandingdProcess) -> None:
    answer = quiet.cli("unload", "orders/a.csv")
    assert [one["result"] for one in answer["ended"]] == ["SUCCESS"]
    assert bronze(quiet) == ["bob"]
    assert quiet.cli("query", "SELECT customer FROM gold.revenue") == [{"customer": "bob"}]
    assert states(quiet)["orders/a.csv"] == "retracted"
    assert quiet.cli("census", "--rows")["roots"][0]["ignored"] == 2

    quiet.cli("replay", str(quiet.landing / "orders/a.csv"))
    assert bronze(quiet) == ["ada", "bob"]
    assert states(quiet)["orders/a.csv"] == "loaded"
    assert quiet.cli("census", "--rows")["adds_up"]


def test_a_replay_loads_each_row_once_and_the_others_go_on_where_one_is_refused(quiet: LandingdProcess) -> None:
    answer = quiet.cli("replay", "a.csv", "#2", "orders/again.csv", "nothing.csv", exit_code=65)
    refused = {one["file"]: one["refused"] for one in answer["files"] if one["refused"]}
    assert refused == {
        "orders/again.csv": "it is a duplicate of file 2: name that one",
        "nothing.csv": "not in the ledger; `landingd files` lists what is",
    }
    assert len(answer["runs"]) == 1
    assert answer["ended"][0]["file_count"] == 2
    assert bronze(quiet) == ["ada", "bob"]


def test_the_same_request_is_the_same_run(quiet: LandingdProcess) -> None:
    first = quiet.cli("unload", "a.csv", "--request-id", "monday")
    again = quiet.cli("unload", "a.csv", "--request-id", "monday")
    assert again["runs"] == first["runs"]
    assert bronze(quiet) == ["bob"]


def test_an_unloaded_file_hands_its_part_to_its_duplicate(quiet: LandingdProcess) -> None:
    quiet.cli("unload", "b.csv")
    if quiet.alive:
        quiet.until(lambda: states(quiet)["orders/again.csv"] == "loaded" and not quiet.open_runs())
    assert bronze(quiet) == ["ada", "bob"]
    assert quiet.cli("census", "--rows")["adds_up"]
    # Its bytes are in the tables again: loaded once more, its rows would be there twice.
    (refused,) = quiet.cli("replay", "b.csv", exit_code=65)["files"]
    assert "its bytes are loaded as file" in refused["refused"]


def test_a_replay_reaches_the_tables_that_are_appended_to(tmp_path: Path) -> None:
    """What is read otherwise today (here: which texts mean NULL) is otherwise in silver and gold too."""
    with LandingdProcess(tmp_path) as daemon:
        daemon.drop("orders/a.csv", "id,customer,amount\n1,ada,5\n2,?,7\n")
        daemon.until_loaded(1)
        daemon.write({"orders/job.yml": ORDERS["orders/job.yml"].replace("ingest: {", "ingest: {nulls: ['?'], ")})
        daemon.cli("reload")
        daemon.cli("replay", "a.csv")
        for table in ("bronze.orders", "silver.orders", "gold.revenue"):
            names = daemon.query(f"SELECT customer FROM {table} ORDER BY ALL")
            assert [row["customer"] for row in names] == ["ada", None], table
        assert daemon.cli("census", "--rows")["adds_up"]


def test_a_dry_run_says_the_same_as_the_run_and_writes_nothing(quiet: LandingdProcess) -> None:
    quiet.until(lambda: not quiet.alive or not (quiet.state / "warehouse.duckdb.wal").exists())
    stores = [quiet.state / name for name in ("ledger.sqlite", "ledger.sqlite-wal", "warehouse.duckdb")]
    with closing(sqlite3.connect(f"file:{stores[0]}?mode=ro", uri=True)) as watcher:
        seen = watcher.execute("PRAGMA data_version").fetchone()
        before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in stores if file.exists()}
        planned = [
            quiet.cli("replay", "--since", "1d", "--dry-run"),
            quiet.cli("replay", "--failed", "--dry-run"),
            quiet.cli("requeue", "--dry-run"),
            quiet.cli("unload", "a.csv", "bad.csv", "--dry-run", exit_code=65),
        ]
        assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in stores if file.exists()} == before
        assert watcher.execute("PRAGMA data_version").fetchone() == seen
    assert [[(f["file"], f["action"]) for f in one["files"]] for one in planned] == [
        [("orders/a.csv", "reload"), ("orders/b.csv", "reload"), ("orders/bad.csv", "reload")],
        [("orders/bad.csv", "reload")],
        [("orders/bad.csv", "reload")],
        [("orders/a.csv", "retract"), ("orders/bad.csv", None)],
    ]
    assert (planned[0]["left_out"], [one["runs"] for one in planned]) == (1, [[]] * 4)
    done = quiet.cli("replay", "--since", "1d", "--no-wait")
    assert done["files"] == planned[0]["files"]


def test_after_a_fix_what_was_quarantined_and_rejected_is_queued_again(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", STRICT) as daemon:
        daemon.move_in("orders/a.csv", EVE)
        daemon.move_in("orders/bad.csv", "id,customer,amount\n" + "x,y,z\n" * 9)
        daemon.until(lambda: sorted(daemon.file_counts()) == ["loaded", "quarantined"] and not daemon.open_runs())
        assert bronze(daemon) == ["ada"]
        shown = daemon.cli("show", "1")
        assert shown["rows"]["rows_rejected"] == 1
        assert shown["tasks"][0]["expectations"] == [
            {"name": "named", "on_violation": "quarantine", "passed": 1, "failed": 1}
        ]
        assert b"named" in daemon.run("show", "1").stdout
        assert b"rejected_rows" in daemon.run("why", "a.csv").stdout

        daemon.write(ORDERS)  # the rule goes
        daemon.cli("reload")
        answer = daemon.cli("requeue", "--job", "orders")
        assert [one["file"] for one in answer["files"]] == ["orders/a.csv", "orders/bad.csv"]
        assert bronze(daemon) == ["ada", "eve"]
        assert states(daemon) == {"orders/a.csv": "loaded", "orders/bad.csv": "quarantined"}
        assert daemon.cli("census", "--rows")["adds_up"]
        assert [one["file"] for one in daemon.cli("requeue", "--dry-run")["files"]] == ["orders/bad.csv"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["replay"], b"which files"),
        (["replay", "a.csv", "--failed"], b"not both"),
        (["replay", "--since", "yesterday"], b"is no time"),
        (["unload", "a.csv", "--job", "order"], b"did you mean 'orders'"),
    ],
)
def test_a_request_that_says_nothing_clear_is_refused_with_a_hint(
    daemon: LandingdProcess, arguments: list[str], complaint: bytes
) -> None:
    said = daemon.run(*arguments, exit_code=66 if "--job" in arguments else 65).stderr
    assert complaint in said
    assert b"Traceback" not in said


def test_a_name_that_fits_two_files_is_refused_and_both_are_named(daemon: LandingdProcess) -> None:
    daemon.move_in("orders/mon/a.csv", orders((1, "ada", 1)))
    daemon.move_in("orders/tue/a.csv", orders((2, "bob", 2)))
    daemon.until_loaded(2)
    (one,) = daemon.cli("unload", "a.csv", exit_code=65)["files"]
    assert one["refused"] == "2 files are called so: orders/mon/a.csv, orders/tue/a.csv"
    os.chdir(daemon.landing / "orders/mon")
    try:
        assert daemon.cli("unload", "./a.csv")["files"][0]["file"] == "orders/mon/a.csv"
    finally:
        os.chdir(Path(__file__).parent)


# --- how files are shown ------------------------------------------------------------------------------------------


def test_a_file_is_shown_with_what_became_of_its_bytes(quiet: LandingdProcess) -> None:
    printed = quiet.run("files", "--state", "duplicate").stdout.decode()
    assert "the same bytes as file 2" in printed
    assert "file is" not in printed
    assert "a duplicate of version 2" in quiet.run("why", "again.csv").stdout.decode()
    if not quiet.alive:
        return
    (quiet.landing / "orders/a.csv").unlink()
    assert quiet.cli("census")["adds_up"]  # it lets the daemon look first
    printed = quiet.run("files", "--state", "loaded").stdout.decode()
    assert "removed" in printed
    assert "removed from disk; its rows stay" in quiet.run("why", "orders/a.csv").stdout.decode()


def test_the_plan_says_what_becomes_of_files_and_what_rows_must_be(tmp_path: Path) -> None:
    with LandingdProcess(tmp_path / "base", STRICT) as daemon:
        answer = daemon.cli("plan", "orders")
        assert answer["triggers"][0] | {"on_change": "replace", "cleanup": "keep"} == answer["triggers"][0]
        assert answer["tasks"][0]["expectations"][0]["expect"] == "customer <> 'eve'"
        printed = daemon.run("plan", "orders").stdout
        assert b"customer <> 'eve'" in printed
        assert b"orders/*.csv*" in printed
