"""What a message may ask for, and with which words it is refused: whatever comes, there is one answer."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import commands
from landingd.core.commands import Command, Fault, Refusal

VERBS = ("run", "repair", "cancel", "pause", "resume", "replay", "unload", "requeue", "backfill")
ALL = frozenset(VERBS)

SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=40) | st.floats(allow_nan=False)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def read(verb: str, _allowed: frozenset[str] = ALL, **given: Any) -> Command | Refusal:
    return commands.parse(verb, json.dumps(given).encode(), _allowed)


def command(verb: str, **given: Any) -> Command:
    found = read(verb, **given)
    assert isinstance(found, Command), found
    return found


def fault(verb: str, **given: Any) -> Fault:
    found = read(verb, **given)
    assert isinstance(found, Refusal), found
    return found.fault


# --- what is asked for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "sent", "route", "body"),
    [
        ("run", {"job": "a"}, "POST /v1/runs", {"job": "a"}),
        (
            "run",
            {"job": "a", "parameters": {"n": 7, "x": 1.5, "b": True, "s": "t"}, "only": ["+t"], "queue": False},
            "POST /v1/runs",
            {"job": "a", "parameters": {"n": "7", "x": "1.5", "b": "true", "s": "t"}, "only": ["+t"], "queue": False},
        ),
        ("repair", {"run_id": 3}, "POST /v1/runs/{run_id:int}/repair", {"run_id": 3}),
        (
            "repair",
            {"run_id": 3, "tasks": ["t"], "dependents": True, "latest_repair_id": 1, "all_failed": False},
            "POST /v1/runs/{run_id:int}/repair",
            {"run_id": 3, "tasks": ["t"], "dependents": True, "latest_repair_id": 1, "all_failed": False},
        ),
        ("cancel", {"run_id": 3}, "POST /v1/runs/{run_id:int}/cancel", {"run_id": 3}),
        (
            "cancel",
            {"job": "a", "queued_only": True},
            "POST /v1/jobs/{job}/cancel",
            {"job": "a", "queued_only": True},
        ),
        ("pause", {"job": "a", "trigger": "t"}, "POST /v1/jobs/{job}/pause", {"job": "a", "trigger": "t"}),
        ("pause", {"job": "a", "paused": True}, "POST /v1/jobs/{job}/pause", {"job": "a"}),
        ("pause", {"job": "a", "paused": False}, "POST /v1/jobs/{job}/resume", {"job": "a"}),
        ("resume", {"job": "a"}, "POST /v1/jobs/{job}/resume", {"job": "a"}),
        ("replay", {"since": "2h", "dry_run": True}, "POST /v1/replay", {"since": "2h", "dry_run": True}),
        ("unload", {"files": ["in/a.csv"]}, "POST /v1/unload", {"files": ["in/a.csv"]}),
        ("requeue", {"failed": True, "job": None}, "POST /v1/requeue", {"failed": True}),
        (
            "backfill",
            {"job": "a", "parameter": "day", "from": "2026-01-01", "to": "2026-02-01", "step": "1d"},
            "POST /v1/backfills",
            {"job": "a", "parameter": "day", "from": "2026-01-01", "to": "2026-02-01", "step": "1d"},
        ),
    ],
)  # fmt: skip
def test_a_command_is_a_request_of_the_control_socket(verb, sent, route, body):
    found = command(verb, **sent)
    assert (found.route, found.body) == (route, body)
    assert found.route in commands.ROUTES


@pytest.mark.parametrize("transaction", ["42", 42, 4.5, True, False, "", "ü\n"])
@pytest.mark.parametrize(
    ("verb", "sent", "name"),
    [
        ("run", {"job": "a"}, "request_id"),
        ("replay", {"files": ["f"]}, "request_id"),
        ("unload", {"files": ["f"]}, "request_id"),
        ("requeue", {}, "request_id"),
    ],
)
def test_the_transaction_is_what_makes_a_repeated_message_the_same_request(verb, sent, name, transaction):
    first = command(verb, transaction=transaction, **sent)
    assert first.transaction == transaction
    assert first.body[name].startswith("mqtt:")
    assert first == command(verb, transaction=transaction, **sent)
    assert first.body[name] != command(verb, transaction="another", **sent).body[name]


def test_without_a_transaction_each_message_is_a_request_of_its_own():
    assert "request_id" not in command("run", job="a").body
    assert "request_id" not in command("run", job="a", transaction=None).body


def test_an_id_that_is_given_stands_above_the_transaction():
    assert command("run", job="a", transaction=1, request_id="mine").body["request_id"] == "mine"


def test_a_repair_is_told_from_another_one_by_its_transaction_and_what_it_asks_for():
    assert command("repair", run_id=1, transaction=1).once == command("repair", transaction=1, run_id=1).once
    assert command("repair", run_id=1, transaction=1).once != command("repair", run_id=1, transaction=2).once
    assert command("repair", run_id=1, transaction=1).once != command("repair", run_id=2, transaction=1).once
    assert command("repair", run_id=1).once is None
    backfill = {"job": "a", "parameter": "p", "from": 1, "to": 3, "rerun_failed": True}
    assert command("backfill", transaction=1, **backfill).once != command("backfill", transaction=2, **backfill).once
    assert command("pause", job="a", transaction=1).once is None


def test_commands_for_one_job_have_one_turn():
    assert command("pause", job="a").turn == command("resume", job="a").turn == command("run", job="a").turn
    assert command("pause", job="a").turn != command("pause", job="b").turn
    assert command("cancel", run_id=1).turn == command("repair", run_id=1).turn
    assert command("requeue").turn is None


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "no JSON"),
        (b"sales", "no JSON"),
        (b'{"job": "a"', "no JSON"),
        (b"\xff\xfe{", "not text in UTF-8"),
        (b'{"job": "\\ud800"}', "not text in UTF-8"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"run_id": %s}' % (b"9" * 5000), "no JSON"),
        (b'{"transaction": NaN, "job": "a"}', "NaN is no number"),
        (b'{"transaction": 1e999, "job": "a"}', "1e999 is no number"),
        (b'["job"]', "not a JSON object"),
        (b'"sales"', "not a JSON object"),
        (b'{"transaction": ["1"], "job": "a"}', "transaction must be"),
        (b'{"transaction": "%s", "job": "a"}' % (b"x" * 300), "transaction is longer"),
        (b'{"job": "%s"}' % (b"x" * (64 << 10)), "65547 bytes; 65536 are read"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(payload, what):
    found = commands.parse("run", payload, ALL)
    assert isinstance(found, Refusal)
    assert what in found.fault.what
    assert found.fault.code == "bad_request"
    assert "\n" not in found.fault.what


@pytest.mark.parametrize(
    ("verb", "sent", "what", "hint"),
    [
        ("run", {}, "'run' needs job", None),
        ("run", {"job": None}, "'run' needs job", None),
        ("run", {"job": 3}, "job must be a text", None),
        ("run", {"job": ""}, "job must be a text", None),
        ("run", {"job": "a", "jop": 1}, "'run' has no 'jop'", "did you mean 'job'?"),
        ("run", {"job": "a", "zzzzz": 1}, "'run' has no 'zzzzz'", "it takes job, parameters, only, queue, request_id"),
        ("run", {"job": "a", "paused": True}, "'run' has no 'paused'", None),
        ("run", {"job": "a", "parameters": ["n"]}, "parameters must be an object", None),
        ("run", {"job": "a", "parameters": {"n": None}}, "parameters.n must be a text", None),
        ("run", {"job": "a", "only": "t"}, "only must be a list of texts", None),
        ("run", {"job": "a", "queue": "no"}, "queue must be true or false", None),
        ("repair", {}, "'repair' needs run_id", None),
        ("repair", {"run_id": "3"}, "run_id must be a whole number", None),
        ("repair", {"run_id": True}, "run_id must be a whole number", None),
        ("repair", {"run_id": 1 << 63}, "run_id must be a whole number", None),
        ("repair", {"run_id": -1}, "run_id must be a whole number", None),
        ("cancel", {}, "'cancel' needs run_id or job", None),
        ("cancel", {"run_id": 1, "job": "a"}, "not both", None),
        ("pause", {"job": "a", "paused": "no"}, "paused must be true or false", None),
        ("resume", {"job": "a", "paused": False}, "'resume' has no 'paused'", None),
        ("replay", {"files": [1]}, "files must be a list of texts", None),
        ("backfill", {"job": "a", "parameter": "p", "from": 1}, "'backfill' needs to", None),
    ],
)
def test_what_is_wrong_with_a_command_is_named(verb, sent, what, hint):
    found = fault(verb, transaction=9, **sent)
    assert what in found.what
    assert found.code == "bad_request"
    assert hint is None or found.hint == hint


def test_a_verb_is_refused_unless_it_is_allowed_here():
    found = read("run", frozenset({"pause"}), job="a", transaction="t")
    assert isinstance(found, Refusal)
    assert found.transaction == "t"
    assert found.fault.code == "not_allowed"
    assert "[mqtt] commands" in str(found.fault.hint)


def test_what_is_not_allowed_is_not_explained():
    """Its arguments are nobody's business."""
    found = read("run", frozenset(), nonsense=1)
    assert isinstance(found, Refusal)
    assert found.fault.code == "not_allowed"


def test_a_verb_that_does_not_exist_is_told_with_one_that_may_be_meant():
    found = fault("runn", job="a")
    assert (found.code, found.hint) == ("unknown_verb", "did you mean 'run'?")
    hint = fault("frobnicate").hint
    assert hint is not None
    assert hint.startswith("the verbs are run, repair, cancel")


def test_a_switch_that_is_turned_off_needs_resume_to_be_allowed():
    found = read("pause", frozenset({"pause"}), job="a", paused=False)
    assert isinstance(found, Refusal)
    assert found.fault.what == "'resume' is not allowed over MQTT"
    assert isinstance(read("pause", frozenset({"resume"}), job="a", paused=False), Command)


@given(st.sampled_from(VERBS), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_there_is_one_answer_that_is_json(verb, payload):
    found = commands.parse(verb, payload, ALL)
    if isinstance(found, Refusal):
        said = commands.answer(found.transaction, fault=found.fault)
        assert said["error"]["what"]
    else:
        said = commands.answer(found.transaction, result={})
    assert json.loads(json.dumps(said, allow_nan=False)) == said


@given(SCALARS)
def test_any_scalar_comes_back_as_the_transaction(transaction):
    found = read("run", job="a", transaction=transaction)
    too_long = isinstance(transaction, str | int) and len(json.dumps(transaction)) > commands.TRANSACTION_CHARS_MAX
    if too_long or transaction in {math.inf, -math.inf}:
        assert isinstance(found, Refusal)
    else:
        assert isinstance(found, Command)
        assert found.transaction == transaction
        assert type(found.transaction) is type(transaction)


# --- where answers go ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic", ["answers/me", "landingd/other/status", "landingd/n/response/run", "landingd/nn", "/"]
)
def test_an_answer_may_go_where_its_sender_waits(topic):
    assert commands.may_answer_on(topic, prefix="landingd/n")


@pytest.mark.parametrize(
    "topic",
    ["", "a/+", "#", "a\0", "$SYS/x", "$CONTROL/dynamic-security/v1", "x" * 65_536, "landingd/n"]
    + [f"landingd/n/{rest}" for rest in ("status", "command/run", "jobs/a/state", "response", "")],
)
def test_an_answer_never_speaks_for_the_broker_or_for_the_daemon(topic):
    assert not commands.may_answer_on(topic, prefix="landingd/n")


def test_errors_of_requests_have_words():
    assert [commands.code_of(code) for code in (65, 66, 69, 75, 78, 1)] == [
        "refused",
        "not_found",
        "unavailable",
        "unavailable",
        "config",
        "failed",
    ]
