"""The exercise that this project grew from: a nightly job that fails in gold, is fixed, and is repaired.

A job with at least two dependent tasks, a dropdown parameter, a daily 2 AM schedule, a gold task that fails on
purpose; repairing it runs only the failed task and those after it again; alerts arrive by mail and by web hook.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from brokers import Mosquitto
from daemons import LandingdProcess, results
from destinations import mail_server, web_server
from listening import Subscriber

ZONE = next(name for name in ("Asia/Kolkata", "America/Phoenix") if datetime.now(ZoneInfo(name)).hour != 1)
"""Without daylight saving, so that 2 AM is there every day; and it is not about to be 2 AM while the story goes on."""

SHOP = {
    "shop/job.yml": f"""
        name: shop
        parameters:
          - {{name: month, widget: dropdown, choices: [Oct, Nov], default: Oct}}
        triggers:
          - schedule: {{quartz_cron_expression: "0 0 2 * * ?", timezone_id: {ZONE}}}
          - file_arrival: {{path: shop}}
            pause_status: PAUSED  # files wait for the night
        email_notifications: {{on_failure: [data@example.com], on_success: [data@example.com]}}
        webhook_notifications: {{on_failure: [{{id: ops}}], on_success: [{{id: ops}}]}}
        tasks:
          - {{task_key: bronze, ingest: {{}}, table: bronze.sales}}
          - {{task_key: silver, depends_on: [{{task_key: bronze}}], sql: silver.sql, table: silver.sales}}
          - {{task_key: gold, depends_on: [{{task_key: silver}}], sql: gold.sql, table: gold.revenue}}
          - {{task_key: report, depends_on: [{{task_key: gold}}], sql: report.sql, table: gold.report}}
          - {{task_key: checks, depends_on: [{{task_key: silver}}], sql: checks.sql, table: gold.checks}}
        """,
    "shop/silver.sql": "SELECT brand, amount FROM bronze.sales WHERE month = $month AND amount > 0",
    "shop/gold.sql": "SELECT error('gold is broken on purpose') AS brand, sum(amount) AS revenue FROM silver.sales",
    "shop/report.sql": "SELECT $month AS month, count(*) AS brands, sum(revenue) AS revenue FROM gold.revenue",
    "shop/checks.sql": "SELECT count(*) AS rows FROM silver.sales",
}
FIXED = {"shop/gold.sql": "SELECT brand, sum(amount) AS revenue FROM silver.sales GROUP BY brand"}
SALES = "brand,month,amount\nacme,Oct,5\nacme,Nov,7\nbest,Nov,2\nbest,Nov,-2\n"


def attempts_of(run: Mapping[str, Any], *, repair: int) -> dict[str, list[str]]:
    """How the attempts of each task ended that were made for this repair; 0: before the first."""
    return {
        task["task_key"]: [one["outcome"] for one in task["attempts"] if one["repair"] == repair]
        for task in run["tasks"]
    }


def test_a_nightly_job_that_failed_in_gold_is_fixed_and_repaired_from_there(tmp_path: Path, broker: Mosquitto) -> None:
    with (
        mail_server() as mail,
        web_server() as web,
        Subscriber(broker.port) as ear,
        LandingdProcess(
            tmp_path / "base",
            SHOP,
            broker_port=broker.port,
            env={
                "ALERTS__SMTP_HOST": "127.0.0.1",
                "ALERTS__SMTP_PORT": str(mail.port),
                "ALERTS__DESTINATIONS": json.dumps({"ops": f"json://127.0.0.1:{web.port}/landingd"}),
            },
        ) as daemon,
    ):
        daemon.run("validate")
        (schedule, _) = daemon.cli("triggers", "shop")["triggers"]
        fires = datetime.fromisoformat(schedule["next_fire_time"]).astimezone(ZoneInfo(ZONE))
        assert (fires.hour, fires.minute, fires.second) == (2, 0, 0)
        assert 0 < (fires - datetime.now(UTC)).total_seconds() <= 24 * 3600
        assert f"0 0 2 * * ?, {ZONE}" in daemon.run("triggers", "shop").stdout.decode()

        # A month that the dropdown does not have is refused before there is a run.
        refused = daemon.run("run", "shop", "-p", "month=Dec", exit_code=65).stderr.decode()
        assert refused.splitlines()[0].count("month") == 1
        assert all(word in refused for word in ("'Dec'", "Oct", "Nov"))
        assert daemon.cli("runs") == []

        # The files of the day wait for the run; gold fails in it, on purpose.
        daemon.drop("shop/sales.csv", SALES)
        daemon.until(lambda: daemon.ledger("SELECT 1 FROM files WHERE content_hash IS NOT NULL"))
        failed = daemon.cli("run", "shop", "-p", "month=Nov", exit_code=1)
        assert failed["result"] == "FAILED"
        assert results(failed) == {
            "bronze": "SUCCESS",
            "silver": "SUCCESS",
            "gold": "FAILED",
            "report": "UPSTREAM_FAILED",
            "checks": "SUCCESS",
        }
        assert attempts_of(failed, repair=0)["gold"][-1] == "failed"

        # Whoever is on duty gets a mail and a call with the error, and with the command to repair it.
        daemon.until(lambda: mail.mails and web.requests)
        (letter,) = mail.mails
        assert (letter["To"], "shop: run 1 failed" in letter["Subject"]) == ("data@example.com", True)
        told = letter.get_content()
        assert all(words in told for words in ("gold is broken on purpose", "landingd repair 1", "month=Nov"))
        (call,) = web.bodies
        assert (call["event_type"], call["run"]["failed_tasks"]) == ("jobs.on_failure", ["gold"])
        assert "gold is broken on purpose" in call["error"]

        # The SQL is fixed, the daemon reads it anew, and the command from the alert is all there is to do.
        daemon.write(FIXED)
        assert daemon.cli("reload")["jobs"] == ["shop"]
        landingd, *command = call["repair_command"].split()
        repaired = daemon.cli(*command)
        assert landingd == "landingd"
        assert (repaired["run_id"], repaired["result"], repaired["repairs"]) == (failed["run_id"], "SUCCESS", 1)
        assert attempts_of(repaired, repair=0) == attempts_of(failed, repair=0)
        assert attempts_of(repaired, repair=1) == {
            "bronze": [],
            "silver": [],
            "gold": ["committed"],
            "report": ["committed"],
            "checks": [],
        }
        (repair,) = repaired["repair_history"]
        assert (sorted(repair["tasks"]), repair["result"]) == (["gold", "report"], "SUCCESS")
        assert daemon.query("FROM gold.revenue ORDER BY brand") == [
            {"brand": "acme", "revenue": 7},
            {"brand": "best", "revenue": 2},
        ]
        assert daemon.query("FROM gold.report") == [{"month": "Nov", "brands": 2, "revenue": 9}]

        # The good end is told as well; over MQTT both, and only what ran in each.
        daemon.until(lambda: len(mail.mails) == 2 and len(web.requests) == 2)
        assert "shop: run 1 succeeded" in mail.mails[1]["Subject"]
        assert (web.bodies[1]["event_type"], web.bodies[1]["run"]["repair"]) == ("jobs.on_success", 1)
        assert web.bodies[1]["repair_command"] is None
        ear.until(lambda: len(ear.events("run_finished")) == 2)
        assert [end["result"] for end in ear.events("run_finished")] == ["FAILED", "SUCCESS"]
        told_before = [event["task_key"] for event in ear.events("task_finished")]
        assert sorted(told_before) == ["bronze", "checks", "gold", "gold", "report", "report", "silver"]
        assert daemon.cli("alerts") == []
