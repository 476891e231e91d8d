"""Decide what must be finished before what, and refuse a job whose tasks cannot be put in order.

`depends_on` is written by hand, so it names tasks that are not there, tasks that wait for each other, and the
same task twice. All of this is known before anything runs, and is said all at once. A job has up to 1,000
tasks in any shape, a chain of 1,000 too: nothing here recurses.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from landingd.errors import Problem, did_you_mean
from landingd.model import Job, Place, Task


def order(job: Job) -> tuple[str, ...]:
    """Every task after the tasks that it depends on; where that leaves a choice, as in the file.

    For a job without `problems`: ValueError if its tasks wait for each other or share a key.
    """
    ordered = in_order({task.task_key: task.depends_on for task in job.tasks})
    if len(ordered) < len(job.tasks):
        raise ValueError(f"the tasks of job {job.name!r} cannot be put in order")
    return tuple(ordered)


def downstream(job: Job, task_key: str) -> frozenset[str]:
    """The tasks that depend on this one, directly or through others; KeyError where there is no such task."""
    dependents = _dependents({task.task_key: task.depends_on for task in job.tasks})
    reached: set[str] = set()
    to_visit = list(dependents[task_key])
    while to_visit:
        key = to_visit.pop()
        if key not in reached:
            reached.add(key)
            to_visit.extend(dependents[key])
    return frozenset(reached)


def before(job: Job) -> Callable[[str, str], bool]:
    """Answers, often and at once, whether the first task runs before the second."""
    waits_for = {task.task_key: task.depends_on for task in job.tasks}
    bits = {key: 1 << number for number, key in enumerate(waits_for)}
    above: dict[str, int] = {}
    for key in in_order(waits_for):
        above[key] = 0
        for other in waits_for[key]:
            above[key] |= above.get(other, 0) | bits.get(other, 0)

    def runs_before(first: str, second: str) -> bool:
        if second in above:
            return bool(above[second] & bits.get(first, 0))
        return first in bits and second in downstream(job, first)  # in a circle, or behind one

    return runs_before


def problems(job: Job) -> list[Problem]:
    """Everything that keeps this job's tasks from being put in order."""
    return [*_same_keys(job), *_wrong_dependencies(job), *_circles(job)]


def table_problems(jobs: Sequence[Job]) -> list[Problem]:
    """Tables that more than one task writes, in one job or in two: each would undo what the other did."""
    first_writer: dict[str, Task] = {}
    found: list[Problem] = []
    for task in (task for job in jobs for task in job.tasks):
        if task.table is None:
            continue
        # DuckDB compares names without case: gold.Revenue and gold.revenue are one table.
        writer = first_writer.setdefault(task.table.lower(), task)
        if writer is not task:
            other = f"task {writer.task_key!r} writes already ({writer.place.file}:{writer.place.line})"
            what = f"task {task.task_key!r} writes table {task.table!r}, which {other}."
            found.append(_problem(task.place, what, "give each task a table of its own"))
    return found


def _same_keys(job: Job) -> Iterable[Problem]:
    first: dict[str, Task] = {}
    for task in job.tasks:
        other = first.setdefault(task.task_key, task)
        if other is not task:
            what = f"a task {task.task_key!r} is there already, on line {other.place.line}."
            yield _problem(task.place, what, "give one of them another 'task_key'")


def _wrong_dependencies(job: Job) -> Iterable[Problem]:
    keys = dict.fromkeys(task.task_key for task in job.tasks)
    for task in job.tasks:
        said: set[str] = set()
        for index, other in enumerate(task.depends_on):
            name, place = f"task {task.task_key!r}", _said_at(task, index)
            if other not in keys:
                hint = did_you_mean(other, [key for key in keys if key != task.task_key])
                what = f"{name} depends on {other!r}, which no task in this job is called."
                yield _problem(place, what, hint)
            elif other == task.task_key:
                yield _problem(place, f"{name} depends on itself.")
            elif other in said:
                yield _problem(place, f"{name} depends on {other!r} twice.")
            said.add(other)


def _circles(job: Job) -> Iterable[Problem]:
    """A Problem for each circle; of circles that share a task only one, as cutting it may cut the others."""
    tasks: dict[str, Task] = {}
    for task in job.tasks:
        tasks.setdefault(task.task_key, task)
    for circle in circles({key: [k for k in task.depends_on if k != key] for key, task in tasks.items()}):
        task = tasks[circle[0]]
        what = f"these tasks depend on each other in a circle: {' -> '.join([*circle, circle[0]])}."
        place = _said_at(task, task.depends_on.index(circle[1]))
        yield _problem(place, what, "remove one of these dependencies")


def circles(waits_for: Mapping[str, Iterable[str]]) -> Iterable[list[str]]:
    """Circles of keys of which each waits for the next; they share no key, and begin with the one given first."""
    left = {key: [other for other in others if other in waits_for] for key, others in waits_for.items()}
    while left := _without(left, in_order(left)):
        circle = _walk_back(left)
        first = circle.index(next(key for key in waits_for if key in circle))
        yield circle[first:] + circle[:first]
        left = _without(left, circle)


def in_order(waits_for: Mapping[str, Collection[str]]) -> list[str]:
    """The keys, each after those it waits for, else as given; without those in a circle or behind one."""
    keys = list(waits_for)
    position = {key: index for index, key in enumerate(keys)}
    dependents = _dependents(waits_for)
    missing = dict.fromkeys(keys, 0)
    for key in (key for others in dependents.values() for key in others):
        missing[key] += 1
    ready = [position[key] for key in keys if not missing[key]]  # ascending, so it is a heap
    ordered: list[str] = []
    while ready:
        ordered.append(key := keys[heapq.heappop(ready)])
        for dependent in dependents[key]:
            missing[dependent] -= 1
            if not missing[dependent]:
                heapq.heappush(ready, position[dependent])
    return ordered


def levels(waits_for: Mapping[str, Collection[str]]) -> dict[str, int]:
    """How many others stand behind each key, one behind the other; keys in a circle, or behind one, are left out."""
    found: dict[str, int] = {}
    for key in in_order(waits_for):
        found[key] = max((found[other] + 1 for other in waits_for[key] if other in found), default=0)
    return found


def _walk_back(waits_for: Mapping[str, Sequence[str]]) -> list[str]:
    """From any task to one that it waits for, and on: as each waits for another, this comes round."""
    key = next(iter(waits_for))
    path: dict[str, None] = {}
    while key not in path:
        path[key] = None
        key = waits_for[key][0]
    walked = list(path)
    return walked[walked.index(key) :]


def _dependents(waits_for: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {key: [] for key in waits_for}
    for key, others in waits_for.items():
        for other in dict.fromkeys(others):
            if other in dependents:
                dependents[other].append(key)
    return dependents


def _without(waits_for: Mapping[str, Collection[str]], keys: Collection[str]) -> dict[str, list[str]]:
    gone = set(keys)
    return {
        key: [other for other in others if other not in gone] for key, others in waits_for.items() if key not in gone
    }


def _said_at(task: Task, index: int) -> Place:
    return task.depends_on_places[index] if task.depends_on_places else task.place


def _problem(place: Place, what: str, hint: str | None = None) -> Problem:
    return Problem(place.file, place.line, what, hint)
