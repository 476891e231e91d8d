"""Decide what a loop runs over, and say how its iterations did.

The inputs of a loop are text by the time they come here: written into the job file, or what a task before it has found.
They must be a JSON array; each element becomes the `{{input}}` of one iteration.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from landingd.errors import LandingdError
from landingd.model import Result, TaskState

ITERATIONS_MAX = 10_000
ERRORS_SHOWN = 3

_FAILED = frozenset({Result.FAILED, Result.TIMEDOUT})
_SHOWN_CHARACTERS = 60


class InputsError(LandingdError):
    """The inputs of a loop are no JSON array, or too many. Trying again cannot help. Exit code 65."""

    exit_code = 65


@dataclass(frozen=True, slots=True)
class Iteration:
    """How one iteration stands."""

    state: TaskState
    result: Result | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LoopStats:
    """How the iterations of a loop stand (Databricks: `for_each_stats`)."""

    total: int
    scheduled: int
    """Have begun."""
    active: int
    completed: int
    """Have succeeded or failed."""
    succeeded: int
    failed: int
    errors: tuple[tuple[str, int], ...]
    """The commonest errors, with how often each came."""


def inputs(text: str) -> tuple[Any, ...]:
    """The JSON values that a loop runs over; none is a loop that is done at once. Raises InputsError."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise InputsError(
            f"the inputs of a loop must be a JSON array, found {_short(text)}: {error}", hint=_HINT
        ) from None
    except RecursionError:
        raise InputsError("the inputs of a loop are nested too deeply") from None
    if not isinstance(found, list):
        raise InputsError(f"the inputs of a loop must be a JSON array, found {_short(text)}", hint=_HINT)
    if len(found) > ITERATIONS_MAX:
        raise InputsError(
            f"a loop has at most {ITERATIONS_MAX} iterations, found {len(found)}",
            hint="let one iteration do more: an array of arrays",
        )
    return tuple(found)


def stats(iterations: Sequence[Iteration]) -> LoopStats:
    """How they stand, all together."""
    succeeded = sum(one.result is Result.SUCCESS for one in iterations)
    failed = sum(one.result in _FAILED for one in iterations)
    errors = Counter(one.error for one in iterations if one.result in _FAILED and one.error)
    return LoopStats(
        total=len(iterations),
        scheduled=sum(one.state is not TaskState.PENDING for one in iterations),
        active=sum(one.state in {TaskState.RUNNING, TaskState.WAITING_FOR_RETRY} for one in iterations),
        completed=succeeded + failed,
        succeeded=succeeded,
        failed=failed,
        errors=tuple(errors.most_common(ERRORS_SHOWN)),
    )


_HINT = 'for example: inputs: \'["Oct", "Nov"]\', or a reference to a task value that is a list'


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
