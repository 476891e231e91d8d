"""What was asked of the daemon, read out of JSON: a value of the wrong kind is refused by its name."""

from collections.abc import Mapping
from typing import Any

from landingd.errors import NotFoundError, RefusedError, did_you_mean
from landingd.model import Job, Parameters

LIST_MAX = 100_000


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
