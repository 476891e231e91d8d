"""What was asked of the daemon, read out of JSON: a value of the wrong kind is refused by its name."""

from collections.abc import Collection, Mapping
from typing import Any

from landingd.errors import NotFoundError, RefusedError, did_you_mean
from landingd.model import Job, Parameters

LIST_MAX = 100_000
RUN_ID_MAX = (1 << 63) - 1
"""The largest that the ledger can hold."""


def only_these(asked: Parameters, names: Collection[str]) -> None:
    """Refuse what the request does not know: `paramters` would be a run with other values than those that are meant."""
    for name in asked:
        if name not in names:
            hint = did_you_mean(name, names) or f"it takes {', '.join(names)}"
            raise RefusedError(f"the request has no {name!r}", hint=hint)


def job_name(asked: Parameters) -> str:
    """The job that is meant."""
    name = asked.get("job")
    if not isinstance(name, str) or not name:
        raise RefusedError("job: must be the name of a job")
    return name


def run_id(asked: Parameters) -> int:
    """The run that is meant; NotFoundError for a number that no run can have."""
    value = number(asked, "run_id")
    if value is None:
        raise RefusedError("run_id: must be the number of a run")
    if not 0 <= value <= RUN_ID_MAX:
        raise NotFoundError(f"there is no run {value}", hint="`landingd runs` lists them")
    return value


def limit(asked: Parameters, usual: int = 50) -> int:
    """How many are wanted: at least 1, at most LIST_MAX."""
    try:
        return max(1, min(int(asked.get("limit") or usual), LIST_MAX))
    except (TypeError, ValueError):
        raise RefusedError(f"limit: {asked['limit']!r} is no number") from None


def texts(asked: Parameters, name: str) -> tuple[str, ...]:
    """A list of texts; empty where it is not given."""
    value = asked.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise RefusedError(f"{name}: must be a list of texts")
    return tuple(value)


def values(asked: Parameters, name: str = "parameters") -> dict[str, str]:
    """Names and values; a value that is a number or a truth becomes text."""
    value = asked.get(name) or {}
    if not isinstance(value, Mapping):
        raise RefusedError(f"{name}: must be an object of names and values")
    return {str(key): _text(f"{name}.{key}", one) for key, one in value.items()}


def flag(asked: Parameters, name: str) -> bool | None:
    """True or false; None where it is not given."""
    value = asked.get(name)
    if value is not None and not isinstance(value, bool):
        raise RefusedError(f"{name}: must be true or false")
    return value


def number(asked: Parameters, name: str) -> int | None:
    """A whole number; None where it is not given."""
    value = asked.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise RefusedError(f"{name}: must be a whole number")
    return value


def trigger_of(job: Job, key: str | None) -> str | None:
    """A trigger of the job, by its key; NotFoundError where there is none of that key."""
    if key is None:
        return None
    known = [trigger.key for trigger in job.triggers]
    if key not in known:
        listed = f"its triggers: {', '.join(known)}" if known else "it has no triggers"
        raise NotFoundError(f"job '{job.name}' has no trigger '{key}'", hint=did_you_mean(key, known) or listed)
    return key


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise RefusedError(f"{name}: must be a text, a number, true or false")
    return str(value)
