"""Decide which tasks of a job take part: in a partial run, and in a repair.

Both are asked for by people in a hurry: "only gold and what is behind it", "what failed last night, and then the rest".
A name that does not exist is refused with the one that was meant; nothing is guessed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from landingd.errors import RefusedError, did_you_mean
from landingd.model import Job, RepairRequest, Result, loop_of

NO_LOOPS: Mapping[str, Sequence[str]] = {}
_WELL = frozenset({Result.SUCCESS, Result.EXCLUDED, Result.DISABLED})


@dataclass(frozen=True, slots=True)
class RepairTask:
    """A task of a finished run."""

    task_key: str
    depends_on: tuple[str, ...]
    result: Result | None
    """None: it has not run, because the job has it only since then."""


def select(job: Job, only: Sequence[str]) -> tuple[str, ...]:
    """The tasks of a partial run, in the job file's order (Databricks: `run-now`, `only`); all where none is named.

    `t`; `+t` with all that is before it; `t+` with all that is behind it; `+t+` with both. Raises RefusedError for a
    task that the job does not have.
    """
    before = {task.task_key: task.depends_on for task in job.tasks}
    if not only:
        return tuple(before)
    chosen: set[str] = set()
    for selector in only:
        key = selector.strip().removeprefix("+").removesuffix("+")
        _check_known([key], before, whose=f"job {job.name!r}")
        chosen.add(key)
        if selector.strip().startswith("+"):
            chosen |= _reached([key], before)
        if selector.strip().endswith("+"):
            chosen |= _reached([key], _turned_round(before))
    return tuple(key for key in before if key in chosen)


def to_repair(
    tasks: Sequence[RepairTask], request: RepairRequest, iterations: Mapping[str, Sequence[str]] = NO_LOOPS
) -> tuple[str, ...]:
    """The tasks of a finished run that are to run again, in the order given (Databricks: `runs/repair`).

    Where the request names nothing: all that failed or was skipped, and all that is behind it. A task that was
    excluded is judged anew when a task right before it runs again. `iterations`: those of each loop, in order; where
    some are named and not the loop, they stand in its place. Raises RefusedError for unknown tasks, for
    names together with `rerun_all_failed_tasks`, and where nothing is left to repair.
    """
    if request.rerun_tasks and request.rerun_all_failed_tasks:
        raise RefusedError(
            "rerun_tasks and rerun_all_failed_tasks exclude each other", hint="name the tasks, or ask for all failed"
        )
    before = {task.task_key: task.depends_on for task in tasks}
    asked = frozenset(request.rerun_tasks)
    named = {_task_of(key, before, iterations) for key in request.rerun_tasks}
    chosen = named or {task.task_key for task in tasks if task.result not in _WELL}
    if not chosen:
        raise RefusedError(
            "there is nothing to repair: no task failed or was skipped",
            hint="name tasks to run them again all the same",
        )
    names_nothing = not request.rerun_tasks and not request.rerun_all_failed_tasks
    if request.rerun_dependent_tasks or names_nothing:
        chosen |= _reached(chosen, _turned_round(before))
    excluded = {task.task_key for task in tasks if task.result is Result.EXCLUDED}
    while anew := {key for key in excluded - chosen if chosen & set(before[key])}:
        chosen |= anew
    in_part = named - asked - _reached(chosen, _turned_round(before))
    again: list[str] = []
    for key in before:
        again += [key] if key in chosen - in_part else []
        again += [one for one in iterations.get(key, ()) if one in asked]
    return tuple(again)


def whole(tasks: Sequence[RepairTask], again: Collection[str]) -> frozenset[str]:
    """Of the tasks that run again those that start from nothing: they had succeeded, or one before them runs again.

    A loop among the others keeps the iterations that succeeded, or, where some are named, all but those; here each of
    its iterations runs again, because what they read may be new.
    """
    before = {task.task_key: task.depends_on for task in tasks}
    succeeded = {task.task_key for task in tasks if task.result is Result.SUCCESS}
    behind = _reached((key if key in before else loop_of(key) or key for key in again), _turned_round(before))
    return frozenset(key for key in again if key in succeeded or key in behind)


def _task_of(key: str, known: Mapping[str, object], iterations: Mapping[str, Sequence[str]]) -> str:
    """The task of a run that is named, or an iteration of which is. Raises RefusedError where there is none."""
    loop = loop_of(key)
    if loop is None or loop not in known:
        _check_known([key], known, whose="the run")
        return key
    there = iterations.get(loop, ())
    if key not in there:
        hint = f"the iterations are {there[0]} to {there[-1]}" if there else f"{loop!r} has none: name the task"
        raise RefusedError(f"the run has no iteration {key!r}", hint=hint)
    return loop


def _check_known(keys: Iterable[str], known: Mapping[str, object], *, whose: str) -> None:
    for key in keys:
        if key in known:
            continue
        loop = loop_of(key)
        if loop in known:
            raise RefusedError(f"{key!r} is an iteration", hint=f"name its loop {loop!r}: what succeeded in it is kept")
        hint = did_you_mean(key, known) or f"the tasks are {', '.join(known)}"
        raise RefusedError(f"{whose} has no task {key!r}", hint=hint)


def _reached(start: Iterable[str], edges: Mapping[str, Sequence[str]]) -> set[str]:
    """All that can be come to from these, without these themselves unless a way leads back."""
    reached: set[str] = set()
    to_visit = [key for one in start for key in edges[one]]
    while to_visit:
        key = to_visit.pop()
        if key in edges and key not in reached:
            reached.add(key)
            to_visit.extend(edges[key])
    return reached


def _turned_round(before: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    behind: dict[str, list[str]] = {key: [] for key in before}
    for key, others in before.items():
        for other in others:
            if other in behind:
                behind[other].append(key)
    return behind
