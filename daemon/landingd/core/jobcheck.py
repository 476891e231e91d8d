"""Decide whether jobs can run at all, of which each field is well by itself.

A job file is read field by field. What it says can still not be: a schedule for the 30th of February, two jobs that
start each other for ever, a branch on a task that decides nothing, a trigger on a table that nobody makes. Each of
these would be a run that never comes or never ends, found out by whoever waits for its rows; here all of them are
found before anything runs, each with its line.
"""

from collections.abc import Iterable, Mapping, Sequence

from landingd.core import condition, cron, graph, parameters, references, tailing
from landingd.core.cronfields import CronError
from landingd.errors import Problem, did_you_mean
from landingd.model import (
    Condition,
    ConditionOp,
    Continuous,
    ForEach,
    HealthMetric,
    Job,
    JobCompletion,
    Place,
    RunJob,
    Schedule,
    TableUpdate,
    Task,
    Trigger,
)

RUN_JOB_DEPTH_MAX = 3
"""Jobs that run jobs that run jobs, as in Databricks."""

_BACKLOG = (
    HealthMetric.STREAMING_BACKLOG_FILES,
    HealthMetric.STREAMING_BACKLOG_BYTES,
    HealthMetric.STREAMING_BACKLOG_SECONDS,
)


def problems(jobs: Sequence[Job]) -> list[Problem]:
    """Everything that is wrong with these jobs, each alone and all together; SQL is not looked at."""
    found: list[Problem] = []
    for job in jobs:
        found += graph.problems(job)
        found += parameters.problems(job)
        found += references.problems(job)
        found += tailing.problems(job)
        found += of_job(job)
    return [*found, *graph.table_problems(jobs), *between(jobs)]


def with_nested(job: Job) -> Iterable[Task]:
    """The job's tasks, and those inside of its loops."""
    for task in job.tasks:
        yield task
        if isinstance(task.action, ForEach):
            yield task.action.task


def concerned(jobs: Sequence[Job], found: Iterable[Problem]) -> frozenset[str]:
    """Names of the jobs that these problems are about: those in whose lines, or in whose SQL files, they stand."""
    by_file: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.place.line):
        by_file.setdefault(job.place.file, []).append(job)
    named: set[str] = set()
    for problem in found:
        above = [job for job in by_file.get(problem.file, ()) if job.place.line <= problem.line]
        named.update(job.name for job in above[-1:])
        named.update(job.name for job in jobs if any(task.sql_file == problem.file for task in with_nested(job)))
    return frozenset(named)


# --- one job ----------------------------------------------------------------------------------------------


def of_job(job: Job) -> list[Problem]:
    """What of one job's fields does not go together."""
    return [
        *_schedules(job),
        *_continuous(job),
        *_without_files(job),
        *_outcomes(job),
        *_loops(job),
        *_comparisons(job),
    ]


def _schedules(job: Job) -> Iterable[Problem]:
    for trigger in job.triggers:
        if not isinstance(trigger.on, Schedule):
            continue
        on = trigger.on
        try:
            ticks = cron.parse(on.expression, on.syntax, on.timezone)
        except CronError as error:
            yield _at(trigger.place, error.what, error.hint)
        else:
            if ticks.next(0.0) is None:
                yield _at(trigger.place, f"the schedule {on.expression!r} never comes: there is no such day")


def _continuous(job: Job) -> Iterable[Problem]:
    if job.continuous is None:
        return
    others = [trigger for trigger in job.triggers if not isinstance(trigger.on, Continuous)]
    if others:
        what = f"a continuous job has no other trigger, and this one has {', '.join(other.key for other in others)}"
        yield _at(others[0].place, what, "a continuous job that is to take files: continuous: {path: ...}")
    for trigger in job.triggers:
        if trigger.condition is not None and isinstance(trigger.on, Continuous):
            hint = "put the question into a condition_task, or use another trigger"
            yield _at(trigger.place, "a continuous job is always on, so a 'sql_condition' cannot hold it up", hint)
    if sum(isinstance(trigger.on, Continuous) for trigger in job.triggers) > 1:
        yield _at(job.triggers[1].place, "a job is continuous once", "file_arrival triggers may be several")
    if job.max_concurrent_runs > 1:
        what = f"a continuous job has one run at a time, and 'max_concurrent_runs' is {job.max_concurrent_runs}"
        yield _at(job.place, what, "leave 'max_concurrent_runs' out")


def _without_files(job: Job) -> Iterable[Problem]:
    if job.file_arrivals:
        return
    for task in job.tasks:
        if task.ingest is not None:
            what = f"task {task.task_key!r} ingests files, but the job has no trigger that brings any"
            yield _at(task.place, what, "triggers: [{file_arrival: {path: ...}}]")
    for rule in job.health:
        if rule.metric in _BACKLOG:
            what = f"the health rule {rule.metric.value} is about files, and the job has no trigger that brings any"
            yield _at(job.place, what, "leave the rule out")


def _outcomes(job: Job) -> Iterable[Problem]:
    conditions = {task.task_key for task in job.tasks if isinstance(task.action, Condition)}
    keys = {task.task_key for task in job.tasks}
    for task in job.tasks:
        for key, outcome in task.outcomes.items():
            if key in keys and key not in conditions:  # one that is not there at all is told by the graph
                what = f"task {task.task_key!r} waits for the outcome {outcome!r} of {key!r}, which is no condition"
                yield _at(_said_at(task, key), what, "only a condition_task has an outcome; `run_if` is for the others")


def _comparisons(job: Job) -> Iterable[Problem]:
    """A comparison of numbers with what is none and no reference to one: it fails each time."""
    for task in with_nested(job):
        if not isinstance(task.action, Condition) or task.action.op in {ConditionOp.EQUAL_TO, ConditionOp.NOT_EQUAL}:
            continue
        for operand in (task.action.left, task.action.right):
            if not parameters.holds_reference(operand) and not condition.is_number(operand):
                what = f"task {task.task_key!r} compares numbers ({task.action.op.value}), and {operand!r} is none"
                yield _at(task.place, what, condition.COMPARES_TEXT)


def _loops(job: Job) -> Iterable[Problem]:
    for task in job.tasks:
        if not isinstance(task.action, ForEach):
            continue
        nested = task.action.task
        if nested.ingest is not None:
            what = f"the loop {task.task_key!r} cannot ingest: each file is loaded once, by one task"
            yield _at(nested.place, what, "an ingest task takes all the files of a run by itself")
        elif nested.table is not None:
            what = (
                f"the loop {task.task_key!r} cannot make table {nested.table!r}: each iteration would undo the others'"
            )
            yield _at(nested.place, what, "leave 'table' out, and write with INSERT")


# --- several jobs -----------------------------------------------------------------------------------------


def between(jobs: Sequence[Job]) -> list[Problem]:
    """What jobs say of each other, and of each other's tables."""
    by_name = {job.name: job for job in jobs}
    found: list[Problem] = []
    for job in jobs:
        found += _unknown_jobs(job, by_name)
    return [*found, *_unknown_tables(jobs), *_endless(by_name), *_too_deep(by_name)]


def _unknown_jobs(job: Job, by_name: Mapping[str, Job]) -> Iterable[Problem]:
    for task, run in _runs(job):
        other = by_name.get(run.job)
        if other is None:
            yield _unknown(task.place, f"task {task.task_key!r} runs", run.job, by_name)
            continue
        yield from _given(task, run, other)
    for trigger, completion in _completions(job):
        for name in completion.jobs:
            if name not in by_name:
                yield _unknown(trigger.place, "the trigger waits for", name, by_name)


def _given(task: Task, run: RunJob, other: Job) -> Iterable[Problem]:
    """The values that a task gives the job that it runs; what references stand for is known when it runs."""
    declared = {parameter.name: parameter for parameter in other.parameters}
    for name in run.job_parameters:
        if name not in declared:
            hint = did_you_mean(name, declared) or f"its parameters are {', '.join(declared) or 'none'}"
            what = f"task {task.task_key!r} gives job {run.job!r} a parameter {name!r}, which it does not declare"
            yield _at(task.place, what, hint)
    if parameters.problems(other):
        return  # told already, and nothing can be held against them
    for name, parameter in declared.items():
        value = run.job_parameters.get(name, parameter.default)
        wrong = None if parameters.holds_reference(value) else parameters.fault(parameter, value)
        if wrong is not None:
            yield _at(task.place, f"task {task.task_key!r} runs job {run.job!r}: {wrong[0]}", wrong[1])


def _unknown(place: Place, who: str, name: str, by_name: Mapping[str, Job]) -> Problem:
    hint = did_you_mean(name, by_name) or f"jobs: {', '.join(by_name)}"
    return _at(place, f"{who} job {name!r}, which is not there", hint)


def _unknown_tables(jobs: Sequence[Job]) -> Iterable[Problem]:
    made = {task.table.casefold(): task.table for job in jobs for task in job.tasks if task.table}
    for trigger, table in ((trigger, table) for job in jobs for trigger, table in _awaited(job)):
        if table.casefold() not in made:
            what = f"the trigger waits for table {table!r}, which no task makes"
            yield _at(trigger.place, what, did_you_mean(table, made.values()) or "only tasks' tables have changes")


def _endless(by_name: Mapping[str, Job]) -> Iterable[Problem]:
    """Jobs of which each starts the next, round and round."""
    started_by = _starters(by_name)
    for name, starters in started_by.items():
        if name in starters:
            yield _at(by_name[name].place, f"job {name!r} starts itself, for ever", _CUT)
    others = {name: [other for other in starters if other != name] for name, starters in started_by.items()}
    for circle in graph.circles(others):
        shown = " -> ".join([circle[0], *reversed(circle)])
        yield _at(by_name[circle[0]].place, f"these jobs start each other in a circle: {shown}.", _CUT)


_CUT = "remove one of their run_job tasks, job_completion or table_update triggers"


def _starters(by_name: Mapping[str, Job]) -> dict[str, list[str]]:
    """By job the jobs a run of which leads to a run of it."""
    makers: dict[str, list[str]] = {}
    started_by: dict[str, list[str]] = {name: [] for name in by_name}
    for name, job in by_name.items():
        for task in job.tasks:
            if task.table:
                makers.setdefault(task.table.casefold(), []).append(name)
        for _, run in _runs(job):
            if run.job in by_name:
                started_by[run.job].append(name)
    for name, job in by_name.items():
        started_by[name] += [other for _, on in _completions(job) for other in on.jobs if other in by_name]
        started_by[name] += [maker for _, table in _awaited(job) for maker in makers.get(table.casefold(), ())]
    return {name: list(dict.fromkeys(starters)) for name, starters in started_by.items()}


def _too_deep(by_name: Mapping[str, Job]) -> Iterable[Problem]:
    runs = {name: [run.job for _, run in _runs(job) if run.job in by_name] for name, job in by_name.items()}
    levels = graph.levels(runs)
    for name, level in levels.items():
        if level == RUN_JOB_DEPTH_MAX + 1:  # those above it are told by its being told
            task = next(task for task, run in _runs(by_name[name]) if levels.get(run.job) == level - 1)
            what = f"task {task.task_key!r} runs a job that runs others, {level} deep; {RUN_JOB_DEPTH_MAX} is the most"
            yield _at(task.place, what, "let a job_completion trigger start one of them")


def _runs(job: Job) -> Iterable[tuple[Task, RunJob]]:
    return ((task, task.action) for task in with_nested(job) if isinstance(task.action, RunJob))


def _completions(job: Job) -> Iterable[tuple[Trigger, JobCompletion]]:
    return ((trigger, trigger.on) for trigger in job.triggers if isinstance(trigger.on, JobCompletion))


def _awaited(job: Job) -> Iterable[tuple[Trigger, str]]:
    updates = ((trigger, trigger.on) for trigger in job.triggers if isinstance(trigger.on, TableUpdate))
    return ((trigger, table) for trigger, on in updates for table in on.tables)


def _said_at(task: Task, key: str) -> Place:
    return task.depends_on_places[task.depends_on.index(key)] if task.depends_on_places else task.place


def _at(place: Place, what: str, hint: str | None = None) -> Problem:
    return Problem(place.file, place.line, what, hint)
