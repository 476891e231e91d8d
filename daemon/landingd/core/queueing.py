"""Say what a queued run waits for, in words: the same rules that let it start; and whose turn it is to write tables."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queued:
    """A run that waits, in the order in which runs are started."""

    run_id: int
    job: str
    has_files: bool


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A run that has begun and not ended."""

    run_id: int
    job: str
    has_files: bool


@dataclass(frozen=True, slots=True)
class Writer:
    """A run of a job, under way, that has tables of the job still to write."""

    run_id: int
    has_begun: bool
    """It has begun one since it was queued or last repaired: it may be half way through."""


def may_write(run: Writer, others: Sequence[Writer]) -> bool:
    """Whether the run's table tasks may begin, beside the other runs of its job that have tables to write.

    A run that has begun goes on; otherwise the oldest comes first. A repaired run may be older than one that has begun,
    so age alone would let the two write side by side. Of several runs one may always go on: none waits for ever.
    """
    return all(_turn(run) < _turn(other) for other in others)


def _turn(writer: Writer) -> tuple[bool, int]:
    return not writer.has_begun, writer.run_id


def waits_for(
    run: Queued, before: Sequence[Queued], active: Sequence[UnderWay], *, concurrent_max: int | None, slots: int | None
) -> str:
    """Why the run has not begun. `before`: what is queued ahead of it; `concurrent_max`: its job's
    `max_concurrent_runs`, None where the job is not known any more; `slots`: runs at a time over all jobs, None where
    that is not known.
    """
    mine = [one for one in active if one.job == run.job]
    ahead = [one.run_id for one in before if one.job == run.job]
    files = [one.run_id for one in mine if one.has_files] if run.has_files else []
    if concurrent_max is None:
        return f"there is no job '{run.job}' any more"
    reasons = (
        (concurrent_max == 0, "max_concurrent_runs is 0: no run of this job starts"),
        (
            len(mine) >= concurrent_max,
            f"{_named([m.run_id for m in mine])} to end (max_concurrent_runs: {concurrent_max})",
        ),
        (bool(files), f"{_named(files)} to end: runs with files are one at a time"),
        (bool(ahead), f"{_named(ahead)}, queued before it"),
        (slots is not None and len(active) >= slots, f"a free slot: {len(active)} of {slots} are taken"),
    )
    return next((why for is_so, why in reasons if is_so), "its turn")


def _named(run_ids: Sequence[int]) -> str:
    if len(run_ids) == 1:
        return f"run {run_ids[0]}"
    shown = ", ".join(map(str, run_ids[:3]))
    return f"runs {shown}{', ...' if len(run_ids) > 3 else ''}"
