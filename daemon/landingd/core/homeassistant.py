"""What Home Assistant has to be told so that it finds the daemon by itself.

One message describes one device with all its components (MQTT discovery, device based: Home Assistant 2024.12 and
later); its keys are abbreviated as Home Assistant defines. Everything that it shows comes from the retained topics that
are published anyway, so nothing is said twice. What it may do goes over the command topics: a button or a switch for a
verb that is not allowed would only disappoint, and is left out.

Home Assistant keeps a component that a later message leaves out. Only one that is named with nothing but its platform
goes away, so the message goes on naming those that were there before.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from landingd.model import Result

Payload = dict[str, Any]

ONLINE = "online"
"""The payload of Home Assistant's birth message, and the state of ours."""

_PLATFORMS = ("binary_sensor", "sensor", "button", "switch")
_NEVER_OF_A_RUN = {Result.EXCLUDED, Result.DISABLED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED}
RESULTS = [result.value for result in Result if result not in _NEVER_OF_A_RUN]
"""How a run can end."""

ERROR_CHARS_MAX = 1000
"""An attribute is kept in Home Assistant's history each time that it changes."""

TRANSACTION_TEMPLATE = "{{ dict(value | from_json, transaction='ha-' ~ now().timestamp()) | to_json }}"
"""Each press of a button is a request of its own, and the same one however often it is delivered."""


def object_id(prefix: str) -> str:
    """The id of the device, in the topic of its discovery and before the ids of its components."""
    # Without "_" in the root there is but one way to read the "_" that takes the slash's place.
    plain = re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9_-]+", prefix)
    return prefix.replace("/", "_") if plain else _word(prefix)


def config_topic(discovery_prefix: str, prefix: str) -> str:
    """Where the device is described, retained."""
    return f"{discovery_prefix}/device/{object_id(prefix)}/config"


def birth_topics(discovery_prefix: str) -> tuple[str, ...]:
    """Where Home Assistant says that it has come up: it stays by this topic when its discovery prefix is changed."""
    return tuple(dict.fromkeys(("homeassistant/status", f"{discovery_prefix}/status")))


def device(
    prefix: str, *, node: str, version: str, jobs: Iterable[str], allowed: frozenset[str], before: Mapping[str, str]
) -> Payload:
    """The message. `before`: platforms by component id, of what earlier messages have named (`named_in`)."""
    components: dict[str, Payload] = {}
    for job in jobs:
        components |= _of_job(prefix, job, allowed)
    gone = {name: {"p": platform} for name, platform in before.items() if name not in components}
    return {
        "dev": {"ids": [object_id(prefix)], "name": f"landingd {node}", "mf": "landingd", "sw": version},
        "o": {"name": "landingd", "sw": version},
        "avty_t": f"{prefix}/status",
        "avty_tpl": "{{ value_json.state }}",
        "pl_avail": ONLINE,
        "pl_not_avail": "offline",
        "qos": 1,
        "cmps": components | gone,
    }


def named_in(payload: bytes) -> dict[str, str]:
    """Platforms by component id of what a message has described; those that it has only taken away do not count.

    Anybody may have left something else there: what this daemon cannot have said names nothing.
    """
    try:
        components = json.loads(payload)["cmps"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        name: component["p"]
        for name, component in components
        if isinstance(component, dict)
        and len(component) > 1
        and component.get("p") in _PLATFORMS
        and re.fullmatch(r"[A-Za-z0-9_-]+", name)
    }


def _of_job(prefix: str, job: str, allowed: frozenset[str]) -> dict[str, Payload]:
    """Its components by id. None of their words ends in another one, so no two jobs can have an id in common."""
    state = f"{prefix}/jobs/{job}/state"
    found: dict[str, Payload] = {
        "problem": _reads("binary_sensor", state, _PROBLEM)
        | {"name": f"{job} problem", "dev_cla": "problem", "json_attr_t": state, "json_attr_tpl": _ATTRIBUTES},
        "result": _reads("sensor", state, _value("last_result"))
        | {"name": f"{job} last run result", "dev_cla": "enum", "ops": RESULTS},
        "duration": _reads("sensor", state, _SECONDS)
        | {"name": f"{job} last run duration", "dev_cla": "duration", "unit_of_meas": "s", "sug_dsp_prc": 1}
        | {"stat_cla": "measurement"},
        "rows": _reads("sensor", state, _value("last_rows"))
        | {"name": f"{job} last run rows", "unit_of_meas": "rows", "stat_cla": "measurement"},
        "backlog": _reads("sensor", state, _value("backlog_files"))
        | {"name": f"{job} backlog", "unit_of_meas": "files", "stat_cla": "measurement"},
        "nextfire": _reads("sensor", state, _value("next_fire_time"))
        | {"name": f"{job} next run", "dev_cla": "timestamp"},
    }
    if "run" in allowed:
        found["run"] = {"p": "button", "name": f"{job} run", "ic": "mdi:play", "cmd_t": f"{prefix}/command/run"} | {
            "pl_prs": _json({"job": job}),
            "cmd_tpl": TRANSACTION_TEMPLATE,
        }
    if {"pause", "resume"} <= allowed:
        # A switch has one topic for both ways, so `pause` takes both.
        found["pause"] = _reads("switch", state, f"{{{{ 'ON' if {_STATE}.get('paused') else 'OFF' }}}}") | {
            "name": f"{job} paused",
            "ic": "mdi:pause",
            "cmd_t": f"{prefix}/command/pause",
            "pl_on": _json({"job": job, "paused": True}),
            "pl_off": _json({"job": job, "paused": False}),
            "stat_on": "ON",
            "stat_off": "OFF",
        }
    start = f"{_word(job)}_"
    ids = {start + name: component for name, component in found.items()}
    return {id_: component | {"uniq_id": f"{object_id(prefix)}.{id_}"} for id_, component in ids.items()}


_STATE = "(value_json | default({}))"
"""The state of the job; of one that is gone the message is empty, and no JSON."""

_WELL = [None, Result.SUCCESS.value, Result.SUCCESS_WITH_FAILURES.value]
_PROBLEM = (
    f"{{% set s = {_STATE} %}}{{{{ 'OFF' if s.get('last_result') in {_WELL} and not s.get('unhealthy') else 'ON' }}}}"
)
_SECONDS = f"{{% set ms = {_STATE}.get('last_duration_ms') %}}{{{{ ms / 1000 if ms is number else None }}}}"
_ATTRIBUTES = (
    f"{{% set s = {_STATE} %}}"
    "{{ {'run_id': s.get('last_run'), 'ended_at': s.get('last_ended_at'), 'active_run': s.get('active_run'), "
    f"'error': (s.get('last_error') or '')[:{ERROR_CHARS_MAX}], 'unhealthy': s.get('unhealthy') or []}} | to_json }}}}"
)


def _value(name: str) -> str:
    """None means unknown there, and is written so."""
    return f"{{{{ {_STATE}.get('{name}') }}}}"


def _reads(platform: str, topic: str, template: str) -> Payload:
    return {"p": platform, "stat_t": topic, "val_tpl": template}


def _json(payload: Payload) -> str:
    return json.dumps(payload, separators=(",", ":"))


def _word(text: str) -> str:
    """Letters, digits, _ and -: what discovery topics and ids may hold. Two texts never give one word."""
    word = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return word if word == text else f"{word}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
