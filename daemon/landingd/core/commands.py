"""Read a command that came over MQTT: what is asked for, or why it is refused.

Whoever the broker lets publish may send anything: no JSON, a number for a name, a megabyte, a verb that is not
allowed here. Each of these is answered with one sentence and never reaches what carries commands out. A command that
does is one of the requests of the control socket, with the same body.

QoS 1 may deliver a command twice, so each may come twice. `run`, `replay`, `unload` and `requeue` carry an id made from
the transaction, which the ledger accepts once. `pause`, `resume` and `cancel` lead to a state and find it reached.
`repair` and `backfill` (it may repair too) are remembered by their transaction (`Command.once`) while the daemon runs;
longer than that no broker has them, since the daemon leaves no session behind in which messages could wait.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from landingd.errors import did_you_mean

PAYLOAD_BYTES_MAX = 64 << 10
TRANSACTION_CHARS_MAX = 256
INTEGER_MAX = (1 << 63) - 1
"""The largest that the ledger can hold."""

Transaction = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a command is not carried out, for whoever sent it. `code` is one of the words below."""

    what: str
    hint: str | None = None
    code: str = "bad_request"


@dataclass(frozen=True, slots=True)
class Command:
    """A command that may be carried out: the request of the control socket that does it, and its body."""

    verb: str
    route: str
    body: Mapping[str, Any]
    transaction: Transaction = None

    @property
    def turn(self) -> str | None:
        """Commands with the same one are carried out one after another, as they came: what is meant by pausing and
        resuming a job depends on which was last.
        """
        for name in ("job", "run_id"):
            if name in self.body:
                return f"{name} {self.body[name]}"
        return None

    @property
    def once(self) -> str | None:
        """What a repeat has in common with the command that it repeats, where carrying it out twice would be wrong."""
        if self.verb not in {"repair", "backfill"} or self.transaction is None:
            return None
        return json.dumps([self.verb, self.body, self.transaction], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that is answered with what is wrong with it."""

    verb: str
    fault: Fault
    transaction: Transaction = None


_CODES = {65: "refused", 66: "not_found", 69: "unavailable", 75: "unavailable", 78: "config"}


def code_of(exit_code: int) -> str:
    """The word for a kind of error that a request ended with; programs can tell errors apart by it.

    bad_request: the message is wrong; unknown_verb, not_allowed: the verb is; refused: understood, and not possible as
    things stand; not_found: no such job, run or file; busy: too many commands wait; failed: anything else.
    """
    return _CODES.get(exit_code, "failed")


# --- what may be asked --------------------------------------------------------------------------------------


class _BadError(Exception):
    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.fault = Fault(what, hint)


Check = Callable[[str, Any], Any]
"""Takes the argument's name and value, returns the value as the request wants it."""


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _BadError(f"{name} must be a text that is not empty")
    return value


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _BadError(f"{name} must be true or false")
    return value


def _number(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= INTEGER_MAX:
        raise _BadError(f"{name} must be a whole number from 0 on")
    return value


def _texts(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise _BadError(f"{name} must be a list of texts")
    return value


def _scalar(name: str, value: Any) -> str:
    """As parameters are: text. A number stands as it would in JSON."""
    if not isinstance(value, str | int | float):
        raise _BadError(f"{name} must be a text, a number, true or false")
    return value if isinstance(value, str) else json.dumps(value)


def _parameters(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _BadError(f"{name} must be an object of names and values")
    return {key: _scalar(f"{name}.{key}", given) for key, given in value.items()}


@dataclass(frozen=True, slots=True)
class _Verb:
    route: str
    arguments: Mapping[str, Check]
    needed: tuple[str, ...] = ()
    id_name: str | None = None
    """The argument that makes a repeated request the same one; where it is not given, the transaction is."""


_FILES: dict[str, Check] = {
    "files": _texts,
    "since": _text,
    "failed": _boolean,
    "job": _text,
    "dry_run": _boolean,
    "request_id": _text,
}
_PAUSE: dict[str, Check] = {"job": _text, "trigger": _text}

_VERBS = {
    "run": _Verb(
        "POST /v1/runs",
        {"job": _text, "parameters": _parameters, "only": _texts, "queue": _boolean, "request_id": _text},
        ("job",),
        "request_id",
    ),
    "repair": _Verb(
        "POST /v1/runs/{run_id:int}/repair",
        {
            "run_id": _number,
            "tasks": _texts,
            "all_failed": _boolean,
            "dependents": _boolean,
            "latest_repair_id": _number,
            "parameters": _parameters,
        },
        ("run_id",),
    ),
    "cancel": _Verb("POST /v1/runs/{run_id:int}/cancel", {"run_id": _number}, ("run_id",)),
    "pause": _Verb("POST /v1/jobs/{job}/pause", _PAUSE, ("job",)),
    "resume": _Verb("POST /v1/jobs/{job}/resume", _PAUSE, ("job",)),
    "replay": _Verb("POST /v1/replay", _FILES, (), "request_id"),
    "unload": _Verb("POST /v1/unload", _FILES, (), "request_id"),
    "requeue": _Verb("POST /v1/requeue", _FILES, (), "request_id"),
    "backfill": _Verb(
        "POST /v1/backfills",
        {
            "job": _text,
            "parameter": _text,
            "from": _scalar,
            "to": _scalar,
            "step": _scalar,
            "parameters": _parameters,
            "backfill_id": _text,
            "dry_run": _boolean,
            "rerun_failed": _boolean,
        },
        ("job", "parameter", "from", "to"),
    ),
}
_CANCEL_JOB = _Verb("POST /v1/jobs/{job}/cancel", {"job": _text, "queued_only": _boolean}, ("job",))

ROUTES = frozenset(verb.route for verb in (*_VERBS.values(), _CANCEL_JOB))
"""The requests of the control socket that commands lead to."""


# --- reading one --------------------------------------------------------------------------------------------


def parse(verb: str, payload: bytes, allowed: frozenset[str]) -> Command | Refusal:
    """What the message of `command/<verb>` asks for. `allowed`: the verbs that are carried out here."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        large = f"the command has {len(payload)} bytes; {PAYLOAD_BYTES_MAX} are read"
        return Refusal(verb, Fault(large, "files can be chosen with job, since and failed"))
    transaction: Transaction = None
    try:
        given = _read(payload)
        transaction = _transaction(given.pop("transaction", None))
        meant = _meant(verb, given)
        if meant not in allowed:
            return Refusal(verb, _not_allowed(meant), transaction)
        return _command(verb, meant, given, transaction)
    except _BadError as bad:
        return Refusal(verb, bad.fault, transaction)


def _read(payload: bytes) -> dict[str, Any]:
    example = 'for example {"transaction": "42", "job": "sales"}'
    try:
        given = json.loads(payload, parse_constant=_finite, parse_float=_finite)
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeError:
        raise _BadError("the command is not text in UTF-8") from None
    except RecursionError:
        raise _BadError("the command is nested too deeply") from None
    except ValueError as error:
        raise _BadError(f"the command is no JSON: {error}", example) from None
    if not isinstance(given, dict):
        raise _BadError("the command is not a JSON object", example)
    return given


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is no number that JSON can hold")
    return number


def _transaction(value: Any) -> Transaction:
    if isinstance(value, list | dict):
        raise _BadError("transaction must be a text, a number, true, false or null")
    if isinstance(value, str | int) and len(json.dumps(value)) > TRANSACTION_CHARS_MAX:
        raise _BadError(f"transaction is longer than {TRANSACTION_CHARS_MAX} characters")
    checked: Transaction = value
    return checked


def _meant(verb: str, given: dict[str, Any]) -> str:
    """A switch has one topic for both ways: `pause` with "paused": false is `resume`, and has to be allowed as that."""
    if verb == "pause" and "paused" in given and not _boolean("paused", given.pop("paused")):
        return "resume"
    return verb


def _not_allowed(verb: str) -> Fault:
    if verb not in _VERBS:
        hint = did_you_mean(verb, _VERBS) or f"the verbs are {', '.join(_VERBS)}"
        return Fault(f"there is no verb '{verb}'", hint, "unknown_verb")
    return Fault(
        f"'{verb}' is not allowed over MQTT",
        "whoever runs this daemon can name it in its configuration, [mqtt] commands",
        "not_allowed",
    )


def _command(verb: str, meant: str, given: Mapping[str, Any], transaction: Transaction) -> Command:
    known = _VERBS[meant]
    if meant == "cancel" and "job" in given:
        if "run_id" in given:
            raise _BadError("cancel takes run_id or job, not both")
        known = _CANCEL_JOB
    for name in given:
        if name not in known.arguments:
            accepted = ", ".join(known.arguments)
            raise _BadError(f"'{meant}' has no '{name}'", did_you_mean(name, known.arguments) or f"it takes {accepted}")
    for name in known.needed:
        if given.get(name) is None:
            raise _BadError(f"'{meant}' needs {'run_id or job' if meant == 'cancel' else name}")
    # null is as good as not given: it is what many a client sends for a field that nobody filled in.
    body = {name: known.arguments[name](name, value) for name, value in given.items() if value is not None}
    if known.id_name is not None and transaction is not None:
        body.setdefault(known.id_name, request_id(transaction))
    return Command(verb, known.route, body, transaction)


def request_id(transaction: str | float) -> str:
    """The id of a request that was sent with this transaction: the same transaction is the same request."""
    return f"mqtt:{transaction if isinstance(transaction, str) else json.dumps(transaction)}"


# --- answering ----------------------------------------------------------------------------------------------


def answer(transaction: Transaction, *, result: Any = None, fault: Fault | None = None) -> dict[str, Any]:
    """The answer's payload: `{"transaction", "ok": true, "result"}` or `{"transaction", "ok": false, "error"}`."""
    if fault is None:
        return {"transaction": transaction, "ok": True, "result": result}
    error = {"what": fault.what, "hint": fault.hint, "code": fault.code}
    return {"transaction": transaction, "ok": False, "error": error}


def may_answer_on(topic: str, *, prefix: str) -> bool:
    """Whether an answer may go to the response topic that a sender names.

    It is published with our rights, not with the sender's: so never to a broker's own topics, and not to what this
    daemon says or hears itself. (Of MQTT: no wildcards, no zero character, at most 65,535 bytes.)
    """
    level = topic.removeprefix(f"{prefix}/")
    ours = level != topic or topic == prefix
    return (
        0 < len(topic.encode("utf-8", "replace")) <= 65_535
        and not topic.startswith("$")
        and not any(character in topic for character in "+#\0")
        and (not ours or level.startswith("response/"))
    )
