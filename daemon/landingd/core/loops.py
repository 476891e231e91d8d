"""Decide what a loop runs over.

The inputs of a loop are text by the time they come here: written into the job file, or what a task before it has found.
They must be a JSON array; each element becomes the `{{input}}` of one iteration.
"""

import json
from typing import Any

from landingd.errors import LandingdError

ITERATIONS_MAX = 10_000
_SHOWN_CHARACTERS = 60


class InputsError(LandingdError):
    """The inputs of a loop are no JSON array, or too many. Trying again cannot help. Exit code 65."""

    exit_code = 65


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


_HINT = 'for example: inputs: \'["Oct", "Nov"]\', or a reference to a task value that is a list'


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
