"""Decide whether a task runs, once every task before it has ended.

Databricks' six `run_if` values, with its rules for what was left out: an excluded task counts as one that went well,
a task all of whose upstream tasks were excluded is excluded itself, and a condition whose outcome is not the wanted
one excludes what hangs on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from landingd.model import Result, RunIf

_FAILED = frozenset({Result.FAILED, Result.TIMEDOUT, Result.UPSTREAM_FAILED})
_CANCELED = frozenset({Result.CANCELED, Result.UPSTREAM_CANCELED})
_LEFT_OUT = frozenset({Result.EXCLUDED, Result.DISABLED})


@dataclass(frozen=True, slots=True)
class Upstream:
    """How a task that another one depends on has ended."""

    result: Result
    wanted: str | None = None
    """Of a condition task: the outcome ("true" or "false") that lets the other one run."""
    outcome: str | None = None
    """Of a condition task: what came out."""


def leaves_out(run_if: RunIf, upstreams: Sequence[Upstream], *, disabled: bool = False) -> Result | None:
    """The result of a task that does not run, or None: it runs. All of `upstreams` have ended.

    Source: Databricks Jobs, "Configure task dependencies" (`run_if`).
    """
    if disabled:
        return Result.DISABLED
    seen = [_seen(upstream) for upstream in upstreams]
    if not seen:
        return None
    if all(result is Result.EXCLUDED for result in seen):
        return Result.EXCLUDED
    return None if _holds(run_if, seen) else _otherwise(run_if, seen)


def _seen(upstream: Upstream) -> Result:
    if upstream.wanted is not None and upstream.result is Result.SUCCESS and upstream.outcome != upstream.wanted:
        return Result.EXCLUDED
    return upstream.result


def _holds(run_if: RunIf, seen: Sequence[Result]) -> bool:
    bad = [result in _FAILED or result in _CANCELED for result in seen]
    match run_if:
        case RunIf.ALL_SUCCESS:
            return not any(bad)
        case RunIf.AT_LEAST_ONE_SUCCESS:
            return not all(bad)
        case RunIf.NONE_FAILED:
            return not any(bad) and any(result not in _LEFT_OUT for result in seen)
        case RunIf.ALL_DONE:
            return True
        case RunIf.AT_LEAST_ONE_FAILED:
            return any(bad)
        case RunIf.ALL_FAILED:
            return all(bad)


def _otherwise(run_if: RunIf, seen: Sequence[Result]) -> Result:
    if run_if in {RunIf.AT_LEAST_ONE_FAILED, RunIf.ALL_FAILED}:
        return Result.EXCLUDED
    if any(result in _FAILED for result in seen):
        return Result.UPSTREAM_FAILED
    if any(result in _CANCELED for result in seen):
        return Result.UPSTREAM_CANCELED
    return Result.EXCLUDED  # NONE_FAILED where nothing before it was executed
