"""Jobs are run, repaired, paused and canceled over MQTT: by a program, and by Home Assistant from what it was told."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt

from brokers import Mosquitto
from daemons import LandingdProcess, results
from listening import Subscriber

OURS = "landingd/story"
JOBS = {
    "shop/job.yml": """
        name: shop
        parameters: [{name: month, default: Oct, choices: [Oct, Nov]}]
        triggers: [{file_arrival: {path: shop}}]
        tasks:
          - {task_key: silver, sql: silver.sql, table: silver.shop}
          - {task_key: gold, depends_on: [{task_key: silver}], sql: gold.sql, table: gold.shop}
        """,
    "shop/silver.sql": "SELECT $month AS month",
    "shop/gold.sql": "SELECT CASE $month WHEN 'Nov' THEN error('not yet') ELSE month END AS month FROM silver.shop",
    "slow/job.yml": """
        name: slow
        tasks: [{task_key: count, sql: count.sql, table: gold.count}]
        """,
    "slow/count.sql": """
        SELECT count(*) AS n FROM range(3000) a, range(3000) b, range(1000000) c WHERE hash(a, b, c) = 1
        """,
}


def until_it_hears(ear: Subscriber) -> None:
    """Commands are for a daemon that is there: no broker keeps them for it."""
    ear.until(lambda: [h for h in ear.heard if h.topic == f"{OURS}/status" and h.payload["state"] == "online"])


def say(broker: Mosquitto, topic: str, payload: object) -> None:
    """Publish as any client would, at QoS 1."""

    async def publish() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.publish(topic, json.dumps(payload), qos=1)

    asyncio.run(publish())


def answered(ear: Subscriber, verb: str, transaction: str) -> dict[str, Any]:
    """The answer to a command."""

    def found() -> dict[str, Any] | None:
        of_verb = [heard.payload for heard in ear.heard if heard.topic == f"{OURS}/response/{verb}"]
        return next((payload for payload in of_verb if payload["transaction"] == transaction), None)

    payload = ear.until(found)
    assert payload is not None
    return payload


def ended(ear: Subscriber, run_id: int, times: int = 1) -> str:
    """How the run has ended the last of so many times."""
    told = ear.until(
        lambda: (ends := [e for e in ear.events("run_finished") if e["run_id"] == run_id])[times - 1 :] and ends
    )
    return str(told[-1]["result"])


def test_a_program_runs_repairs_cancels_and_pauses_what_it_may_and_hears_how_it_went(
    tmp_path: Path, broker: Mosquitto
) -> None:
    env = {"MQTT__COMMANDS": json.dumps(["run", "repair", "cancel", "pause", "resume"])}
    with (
        Subscriber(broker.port) as ear,
        LandingdProcess(tmp_path / "base", JOBS, broker_port=broker.port, env=env) as daemon,
    ):
        until_it_hears(ear)
        ask = {"transaction": "t-1", "job": "shop", "parameters": {"month": "Nov"}}
        say(broker, f"{OURS}/command/run", ask)
        first = answered(ear, "run", "t-1")
        run_id = first["result"]["run_id"]
        assert (first["ok"], ended(ear, run_id)) == (True, "FAILED")
        say(broker, f"{OURS}/command/run", ask | {"transaction": "t-2", "parameters": {"month": "Dec"}})
        refused = answered(ear, "run", "t-2")
        assert (refused["ok"], refused["error"]["code"]) == (False, "refused")
        assert "'Dec'" in refused["error"]["what"]

        # The same transaction is the same run, however often it comes.
        say(broker, f"{OURS}/command/run", ask)
        ear.until(lambda: sum(heard.topic == f"{OURS}/response/run" for heard in ear.heard) == 3)
        assert len(daemon.get("/v1/runs")) == 1

        repair = {"transaction": "t-3", "run_id": run_id, "parameters": {"month": "Oct"}, "latest_repair_id": 0}
        say(broker, f"{OURS}/command/repair", repair | {"tasks": ["silver"], "dependents": True})
        assert answered(ear, "repair", "t-3")["result"]["tasks"] == ["silver", "gold"]
        assert ended(ear, run_id, times=2) == "SUCCESS"
        assert results(daemon.get(f"/v1/runs/{run_id}")) == {"silver": "SUCCESS", "gold": "SUCCESS"}
        assert daemon.query("FROM gold.shop") == [{"month": "Oct"}]

        say(broker, f"{OURS}/command/run", {"transaction": "t-4", "job": "slow"})
        slow = answered(ear, "run", "t-4")["result"]["run_id"]
        ear.until(lambda: [event for event in ear.events("run_started") if event["run_id"] == slow])
        say(broker, f"{OURS}/command/cancel", {"transaction": "t-5", "run_id": slow})
        assert answered(ear, "cancel", "t-5")["ok"]
        assert ended(ear, slow) == "CANCELED"

        say(broker, f"{OURS}/command/backfill", {"transaction": "t-6", "job": "shop"})
        assert answered(ear, "backfill", "t-6")["error"]["code"] == "not_allowed"
        say(broker, f"{OURS}/command/pause", {"transaction": "t-7", "job": "shop", "trigger": "file_arrival"})
        assert answered(ear, "pause", "t-7")["ok"]
        (trigger,) = daemon.cli("triggers", "shop")["triggers"]
        assert trigger["paused_because"] == "the trigger is paused, on request"
        triggers = f"{OURS}/jobs/shop/triggers"
        ear.until(lambda: [h for h in ear.heard if h.topic == triggers and h.payload["triggers"][0]["paused"]])


def test_home_assistant_finds_a_button_to_run_a_job_and_a_switch_to_pause_it(tmp_path: Path, broker: Mosquitto) -> None:
    env = {"MQTT__COMMANDS": json.dumps(["run", "pause", "resume"]), "HOMEASSISTANT__ENABLED": "true"}
    with (
        Subscriber(broker.port, "#") as ear,
        LandingdProcess(tmp_path / "base", JOBS, broker_port=broker.port, env=env) as daemon,
    ):
        device = ear.until(lambda: [h.payload for h in ear.heard if h.topic.startswith("homeassistant/device/")])[-1]
        until_it_hears(ear)
        button, switch = (device["cmps"][f"shop_{name}"] for name in ("run", "pause"))

        say(broker, button["cmd_t"], json.loads(button["pl_prs"]) | {"transaction": "ha-1"})
        run_id = answered(ear, "run", "ha-1")["result"]["run_id"]
        assert ended(ear, run_id) == "SUCCESS"
        for payload, paused in ((switch["pl_on"], True), (switch["pl_off"], False)):
            say(broker, switch["cmd_t"], json.loads(payload))
            daemon.until(lambda paused=paused: ear.retained()[switch["stat_t"]]["paused"] is paused)
        state = ear.retained()[device["cmps"]["shop_result"]["stat_t"]]
        assert (state["last_result"], state["last_run"]) == ("SUCCESS", run_id)
