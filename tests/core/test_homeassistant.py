"""What Home Assistant is told, held against its own rules as its releases 2025.12 and 2026.11 have them.

The rules below were written from Home Assistant's schemas, and the message was given to a real one: it took each
component, showed these values, and let go of what was taken away. It refuses a whole message for one bad key.
"""

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import commands, homeassistant
from landingd.core.commands import Command
from landingd.model import Result

ALL = frozenset({"run", "pause", "resume"})
PREFIX = "landingd/press7"


def message(
    *jobs: str,
    allowed: frozenset[str] = ALL,
    before: dict[str, str] | None = None,
    prefix: str = PREFIX,
) -> dict[str, Any]:
    return homeassistant.device(
        prefix, node="press7", version="0.1.0", jobs=jobs or ("shop",), allowed=allowed, before=before or {}
    )


def component(name: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = message(**more)["cmps"][f"shop_{name}"]
    return found


# --- Home Assistant's rules -----------------------------------------------------------------------------------

ABBREVIATIONS = {
    "avty_t": "availability_topic", "avty_tpl": "availability_template", "cmd_t": "command_topic",
    "cmd_tpl": "command_template", "cmps": "components", "dev": "device", "dev_cla": "device_class",
    "ent_cat": "entity_category", "ic": "icon", "json_attr_t": "json_attributes_topic",
    "json_attr_tpl": "json_attributes_template", "o": "origin", "ops": "options", "p": "platform",
    "pl_avail": "payload_available", "pl_not_avail": "payload_not_available", "pl_off": "payload_off",
    "pl_on": "payload_on", "pl_prs": "payload_press", "stat_cla": "state_class", "stat_off": "state_off",
    "stat_on": "state_on", "stat_t": "state_topic", "sug_dsp_prc": "suggested_display_precision",
    "uniq_id": "unique_id", "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template",
}  # fmt: skip
IN_DEVICE = {"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version", "name": "name"}
IN_ORIGIN = {"sw": "sw_version", "url": "support_url", "name": "name"}

SHARED = {
    "availability_topic", "availability_template", "payload_available", "payload_not_available", "state_topic",
    "command_topic", "qos", "encoding",
}  # fmt: skip
OF_EACH = {"name", "unique_id", "icon", "entity_category", "json_attributes_topic", "json_attributes_template", "qos"}
OF_PLATFORM = {
    "binary_sensor": {"state_topic", "value_template", "device_class", "payload_on", "payload_off"},
    "sensor": {
        "state_topic", "value_template", "device_class", "state_class", "unit_of_measurement", "options",
        "suggested_display_precision",
    },
    "button": {"command_topic", "command_template", "payload_press", "device_class"},
    "switch": {
        "command_topic", "command_template", "state_topic", "value_template", "payload_on", "payload_off", "state_on",
        "state_off", "device_class",
    },
}  # fmt: skip
NEEDED = {
    "binary_sensor": {"state_topic"},
    "sensor": {"state_topic"},
    "button": {"command_topic"},
    "switch": {"command_topic"},
}
DEVICE_CLASSES = {
    "binary_sensor": {"problem", "running", "connectivity", "update"},
    "sensor": {"duration": {"s", "ms", "min", "h", "d"}, "enum": set(), "timestamp": set()},
    "button": {"restart", "update", "identify"},
    "switch": {"outlet", "switch"},
}
STATE_CLASSES = {"measurement", "total", "total_increasing", "measurement_angle"}
DISCOVERY_TOPIC = re.compile(r"[^+#]+/device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")


def spelt_out(given: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    return {words.get(key, key): value for key, value in given.items()}


def faults(described: dict[str, Any]) -> list[str]:
    """Why Home Assistant would refuse the message, or a component of it."""
    whole = spelt_out(described, ABBREVIATIONS)
    found = [f"key {key}" for key in whole.keys() - SHARED - {"device", "origin", "components"}]
    found += [f"needs {key}" for key in {"device", "origin", "components"} - whole.keys()]
    device, origin = spelt_out(whole.get("device", {}), IN_DEVICE), spelt_out(whole.get("origin", {}), IN_ORIGIN)
    found += [f"device key {key}" for key in device.keys() - set(IN_DEVICE.values())]
    found += [f"origin key {key}" for key in origin.keys() - set(IN_ORIGIN.values())]
    found += [] if device.get("identifiers") else ["device without an identifier"]
    found += [] if origin.get("name") else ["origin without a name"]
    unique = [one["uniq_id"] for one in whole["components"].values() if "uniq_id" in one]
    found += ["two components with one unique_id"] if len(unique) > len(set(unique)) else []
    for name, one in whole["components"].items():
        found += [f"{name}: {fault}" for fault in faults_of_one(name, spelt_out(one, ABBREVIATIONS))]
    return found


def faults_of_one(name: str, one: dict[str, Any]) -> list[str]:
    platform = one.get("platform")
    if platform not in OF_PLATFORM:
        return [f"platform {platform}"]
    if len(one) == 1:
        return []  # taken away
    found = [f"key {key}" for key in one.keys() - OF_EACH - OF_PLATFORM[platform] - {"platform"}]
    found += [f"needs {key}" for key in (NEEDED[platform] | {"unique_id"}) - one.keys()]
    found += [] if " " not in name else ["an id with a space"]
    found += [f"{key} is no text" for key, value in one.items() if key in TEXTS and not isinstance(value, str)]
    found += [
        f"{key} has a wildcard" for key, value in one.items() if key.endswith("_topic") and set(value) & set("+#")
    ]
    found += [] if "icon" not in one or ":" in one["icon"] else ["icon without its set"]
    class_ = one.get("device_class")
    found += [f"device_class {class_}"] if class_ and class_ not in DEVICE_CLASSES[platform] else []
    return found + (faults_of_sensor(one) if platform == "sensor" and not found else [])


TEXTS = OF_EACH - {"qos"} | set().union(*OF_PLATFORM.values()) - {"options", "suggested_display_precision"}


def faults_of_sensor(one: dict[str, Any]) -> list[str]:
    class_, unit = one.get("device_class"), one.get("unit_of_measurement")
    found = []
    if one.get("state_class") not in STATE_CLASSES | {None}:
        found.append(f"state_class {one['state_class']}")
    if "options" in one and (class_ != "enum" or unit or "state_class" in one or not one["options"]):
        found.append("options belong to device_class enum, without unit and state_class")
    if class_ in {"enum", "timestamp"} and (unit or "state_class" in one):
        found.append(f"{class_} is no number")
    if class_ == "duration" and unit not in DEVICE_CLASSES["sensor"]["duration"]:  # type: ignore[call-overload]
        found.append(f"unit {unit} of a duration")
    return found


@pytest.mark.parametrize("allowed", [frozenset(), frozenset({"run"}), frozenset({"pause"}), ALL])
def test_the_message_keeps_to_home_assistants_rules(allowed: frozenset[str]):
    described = message("shop", "a.b", "_x-Y", allowed=allowed, before={"old_result": "sensor", "old_run": "button"})
    assert faults(described) == []
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (lambda m: m.update(state="x"), "key state"),
        (lambda m: m.pop("o"), "needs origin"),
        (lambda m: m["dev"].pop("ids"), "device without an identifier"),
        (lambda m: m["dev"].update(url="x"), "device key url"),
        (lambda m: m["cmps"]["shop_result"].pop("uniq_id"), "shop_result: needs unique_id"),
        (lambda m: m["cmps"]["shop_result"].update(valtpl="x"), "shop_result: key valtpl"),
        (lambda m: m["cmps"]["shop_result"].update(cmd_t="x"), "shop_result: key command_topic"),
        (lambda m: m["cmps"]["shop_result"].update(unit_of_meas="x"), "shop_result: options belong to"),
        (lambda m: m["cmps"]["shop_duration"].update(unit_of_meas="sec"), "shop_duration: unit sec of a duration"),
        (lambda m: m["cmps"]["shop_duration"].update(stat_cla="x"), "shop_duration: state_class x"),
        (lambda m: m["cmps"]["shop_nextfire"].update(stat_cla="measurement"), "shop_nextfire: timestamp is no number"),
        (lambda m: m["cmps"]["shop_problem"].update(dev_cla="trouble"), "shop_problem: device_class trouble"),
        (lambda m: m["cmps"]["shop_run"].pop("cmd_t"), "shop_run: needs command_topic"),
        (lambda m: m["cmps"]["shop_run"].update(pl_prs={"job": "shop"}), "shop_run: payload_press is no text"),
        (lambda m: m["cmps"]["shop_run"].update(p="knob"), "shop_run: platform knob"),
        (lambda m: m["cmps"]["shop_pause"].update(uniq_id=m["cmps"]["shop_run"]["uniq_id"]), "two components with one"),
    ],
)
def test_the_rules_notice_what_home_assistant_would_refuse(break_it, fault):
    described = message()
    break_it(described)
    assert [found for found in faults(described) if found.startswith(fault)]


# --- what is in it --------------------------------------------------------------------------------------------


def test_a_job_has_its_sensors_a_button_and_a_switch():
    assert {name: one["p"] for name, one in message()["cmps"].items()} == {
        "shop_problem": "binary_sensor",
        "shop_result": "sensor",
        "shop_duration": "sensor",
        "shop_rows": "sensor",
        "shop_backlog": "sensor",
        "shop_nextfire": "sensor",
        "shop_run": "button",
        "shop_pause": "switch",
    }


@pytest.mark.parametrize(
    ("allowed", "there"),
    [
        (frozenset(), set()),
        (frozenset({"run"}), {"shop_run"}),
        (frozenset({"pause"}), set()),
        (frozenset({"resume"}), set()),
        (frozenset({"pause", "resume", "cancel"}), {"shop_pause"}),
    ],
)
def test_what_is_not_allowed_has_no_button(allowed, there):
    assert {"shop_run", "shop_pause"} & message(allowed=allowed)["cmps"].keys() == there


def test_an_enum_knows_every_result_that_a_run_can_have():
    never = {Result.EXCLUDED, Result.DISABLED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED}
    assert set(component("result")["ops"]) == {result.value for result in Result} - never


def test_a_switch_is_one_topic_for_both_ways():
    switch = component("pause")
    assert switch["cmd_t"] == f"{PREFIX}/command/pause"
    routes = []
    for payload in (switch["pl_on"], switch["pl_off"]):
        read = commands.parse("pause", payload.encode(), ALL)
        assert isinstance(read, Command)
        assert read.body == {"job": "shop"}
        routes.append(read.route)
    assert routes == ["POST /v1/jobs/{job}/pause", "POST /v1/jobs/{job}/resume"]


# --- templates, as Home Assistant renders them ------------------------------------------------------------------


def rendered(template: str, payload: bytes, **more: Any) -> str:
    jinja2 = pytest.importorskip("jinja2.sandbox")
    environment = jinja2.ImmutableSandboxedEnvironment()
    environment.filters |= {"from_json": json.loads, "to_json": json.dumps}
    with suppress(ValueError):  # then it is not defined there either
        more["value_json"] = json.loads(payload)
    text: str = environment.from_string(template).render(value=payload.decode(), **more)
    return text


STATE = {
    "last_run": 7, "last_result": "FAILED", "last_ended_at": "2026-11-21T02:48:49.957Z", "last_error": "x" * 5000,
    "last_duration_ms": 1234.5, "last_rows": 900, "backlog_files": 3, "paused": True, "active_run": None,
    "next_fire_time": "2026-11-22T02:00:00.000Z",
}  # fmt: skip
NEVER_RUN = dict.fromkeys(STATE) | {"backlog_files": 0, "paused": False}


@pytest.mark.parametrize(
    ("name", "of_state", "of_nothing_yet", "of_a_job_that_is_gone"),
    [
        ("problem", "ON", "OFF", "OFF"),
        ("result", "FAILED", "None", "None"),
        ("duration", "1.2345", "None", "None"),
        ("rows", "900", "None", "None"),
        ("backlog", "3", "0", "None"),
        ("nextfire", "2026-11-22T02:00:00.000Z", "None", "None"),
        ("pause", "ON", "OFF", "OFF"),
    ],
)
def test_a_state_is_shown_and_what_is_not_known_is_none(name, of_state, of_nothing_yet, of_a_job_that_is_gone):
    """None is Home Assistant's word for unknown."""
    template = component(name)["val_tpl"]
    payloads = [json.dumps(STATE).encode(), json.dumps(NEVER_RUN).encode(), b""]
    assert [rendered(template, payload) for payload in payloads] == [of_state, of_nothing_yet, of_a_job_that_is_gone]


@pytest.mark.parametrize(
    ("result", "problem"), [("SUCCESS", "OFF"), ("SUCCESS_WITH_FAILURES", "OFF"), ("TIMEDOUT", "ON")]
)
def test_a_problem_is_a_last_run_that_did_not_go_well(result, problem):
    assert rendered(component("problem")["val_tpl"], json.dumps({"last_result": result}).encode()) == problem


def test_a_broken_health_rule_is_a_problem_though_the_last_run_went_well():
    state = {"last_result": "SUCCESS", "unhealthy": ["NO_SUCCESS_WITHIN_SECONDS > 3600"]}
    assert rendered(component("problem")["val_tpl"], json.dumps(state).encode()) == "ON"
    attributes = json.loads(rendered(component("problem")["json_attr_tpl"], json.dumps(state).encode()))
    assert attributes["unhealthy"] == state["unhealthy"]
    assert rendered(component("problem")["val_tpl"], json.dumps(state | {"unhealthy": []}).encode()) == "OFF"


def test_the_error_is_an_attribute_and_is_cut():
    for payload in (json.dumps(STATE).encode(), json.dumps(NEVER_RUN).encode(), b""):
        attributes = json.loads(rendered(component("problem")["json_attr_tpl"], payload))
        assert len(attributes["error"]) in {0, homeassistant.ERROR_CHARS_MAX}


def test_each_press_is_a_request_of_its_own():
    button = component("run")

    class Now:
        def __init__(self, at_s: float) -> None:
            self._at_s = at_s

        def timestamp(self) -> float:
            return self._at_s

    sent = [
        rendered(button["cmd_tpl"], button["pl_prs"].encode(), now=lambda at_s=at_s: Now(at_s)) for at_s in (1.5, 2.5)
    ]
    pressed = [commands.parse("run", payload.encode(), ALL) for payload in sent]
    assert [read.body for read in pressed if isinstance(read, Command)] == [
        {"job": "shop", "request_id": "mqtt:ha-1.5"},
        {"job": "shop", "request_id": "mqtt:ha-2.5"},
    ]


def test_the_availability_is_the_daemons_status():
    described = message()
    assert described["avty_t"] == f"{PREFIX}/status"
    assert rendered(described["avty_tpl"], b'{"state":"online","jobs":[]}') == described["pl_avail"]
    assert rendered(described["avty_tpl"], b'{"state":"offline"}') == described["pl_not_avail"]


# --- coming and going -------------------------------------------------------------------------------------------


def named(described: dict[str, Any]) -> dict[str, str]:
    return homeassistant.named_in(json.dumps(described).encode())


def test_a_job_that_is_gone_is_named_with_its_platforms_and_nothing_else():
    described = message("shop", before=named(message("shop", "old")))
    gone = {name: one for name, one in described["cmps"].items() if name.startswith("old_")}
    assert gone == {name: {"p": one["p"]} for name, one in message("old")["cmps"].items()}
    assert named(described) == named(message("shop"))


def test_a_job_that_comes_back_is_described_again():
    assert message("shop", "old", before=named(message("old"))) == message("shop", "old")


def test_a_verb_that_is_not_allowed_any_more_takes_its_button_away():
    described = message(allowed=frozenset(), before=named(message()))
    assert described["cmps"]["shop_run"] == {"p": "button"}
    assert described["cmps"]["shop_pause"] == {"p": "switch"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        b"\xff",
        b"[]",
        b"{}",
        b'{"cmps": []}',
        b'{"cmps": {"a": 1}}',
        b'{"cmps": {"a": {"p": "knob", "x": 1}}}',
        b'{"cmps": {"a b": {"p": "sensor", "x": 1}}}',
        b'{"cmps": {"a": {"x": 1, "y": 2}}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_such_message_names_nothing(payload):
    assert homeassistant.named_in(payload) == {}


NODES = st.text("ab_-./ü ", min_size=1, max_size=6)


@given(st.tuples(NODES, NODES), st.tuples(NODES, NODES))
def test_ids_are_what_topics_may_hold_and_two_daemons_or_jobs_never_share_one(one, other):
    prefixes = [f"landingd/{daemon}" for daemon, _ in (one, other)]
    topics = [homeassistant.config_topic("homeassistant", prefix) for prefix in prefixes]
    assert all(DISCOVERY_TOPIC.fullmatch(topic) for topic in topics)
    assert (topics[0] == topics[1]) == (prefixes[0] == prefixes[1])
    ids = [
        {c["uniq_id"] for c in message(job, prefix=prefix)["cmps"].values()}
        for prefix, (_, job) in zip(prefixes, (one, other), strict=True)
    ]
    assert bool(ids[0] & ids[1]) == (one == other)


def test_ids_stay_what_they_are():
    """Home Assistant keeps names and rooms that people have given by them."""
    assert homeassistant.config_topic("homeassistant", PREFIX) == "homeassistant/device/landingd_press7/config"
    assert component("result")["uniq_id"] == "landingd_press7.shop_result"
    assert homeassistant.object_id("landingd/press 7") == "landingd_press_7_fca72c03"


def test_it_comes_up_on_its_own_topic_whatever_the_prefix_is():
    assert homeassistant.birth_topics("homeassistant") == ("homeassistant/status",)
    assert homeassistant.birth_topics("ha") == ("homeassistant/status", "ha/status")
