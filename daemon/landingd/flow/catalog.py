"""All the jobs together: what they say, how each table is refreshed, and whether they can run at all.

Job files are read, the graph is checked, and every SQL file is bound in a DuckDB of its own, in memory, against the
tables that exist and those that the jobs would make. Nothing on disk is opened for writing, so `landingd validate`
and a reload can do this beside a running daemon.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from landingd.core import alerts, graph, jobcheck, refresh, tablereads
from landingd.edge import jobfiles, processes
from landingd.edge.engine.binding import Binding, Bound
from landingd.errors import EngineError, JobFileError, NotFoundError, Problem, did_you_mean
from landingd.model import Expectation, Job, Notebook, PythonCall, SqlCondition, Task

Columns = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The jobs that run, checked."""

    jobs: tuple[Job, ...] = ()
    refreshes: Mapping[str, refresh.Refresh] = field(default_factory=dict[str, refresh.Refresh])
    """By table."""
    definitions: Mapping[str, str] = field(default_factory=dict[str, str])
    """By table: what its rows were made by."""
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """By job: the tables that its SQL reads and other jobs make, in lower case."""
    unbound: tuple[Problem, ...] = ()
    """SQL that could not be bound yet, because nothing is known of a table that it reads. Not an error."""

    def job(self, name: str) -> Job:
        """The job of that name; NotFoundError where there is none."""
        for job in self.jobs:
            if job.name == name:
                return job
        hint = did_you_mean(name, [job.name for job in self.jobs])
        raise NotFoundError(f"there is no job '{name}'", hint=hint or f"jobs: {', '.join(j.name for j in self.jobs)}")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What jobs may ask for: what the configuration and what is installed give."""

    mail: bool = True
    """A mail server is named."""
    destinations: frozenset[str] | None = None
    """Ids of web hooks; None: any."""


def load_catalog(pipelines: Path, existing: Columns, abilities: Abilities | None = None) -> Catalog:
    """Read and check every job below `pipelines`, against the tables that exist and what can be done here.

    Raises JobFileError with every problem found, in all files.
    """
    jobs, problems = jobfiles.read_jobs(pipelines)
    problems += jobcheck.problems(jobs)
    for job in jobs:
        problems += _not_possible(job, abilities or Abilities())
    unsound: list[Problem] = []
    with Binding(existing) as binding:
        catalog = _bind(jobs, binding, unsound)
    if problems:
        # What is missing in SQL may be missing only because the task that makes it could not be read.
        unsound = [problem for problem in unsound if "does not exist" not in problem.what]
    if problems or unsound:
        raise JobFileError(problems + unsound)
    return catalog


def _not_possible(job: Job, abilities: Abilities) -> list[Problem]:
    """What the job asks for and this daemon cannot do."""
    known = abilities.destinations
    asked = frozenset(one.destination for one in alerts.wanted(job)) if known is None else known
    faults = alerts.undeliverable(job, has_mail=abilities.mail, destinations=asked)
    found = [Problem(job.place.file, job.place.line, fault) for fault in faults]
    missing = processes.notebook_available()
    if missing is not None:
        notebooks = (task for task in jobcheck.with_nested(job) if isinstance(task.action, Notebook))
        found += [_problem(task, missing, None) for task in notebooks]
    return found


def _bind(jobs: list[Job], binding: Binding, problems: list[Problem]) -> Catalog:
    tasks = {task.table.casefold(): (job, task) for job in jobs for task in job.tasks if task.table}
    for _, task in tasks.values():
        if task.ingest and task.table:
            binding.add_raw_table(task.table, task.ingest.schema_hints, whole=task.ingest.schema_is_whole)
    for table in _created(jobs):
        binding.add_unknown_table(table)
    binding.read_ahead({task.sql for _, task in tasks.values() if task.sql is not None})
    parse = cache(binding.parse)  # each statement is wanted twice
    draft = _Draft(binding, parse, problems, tracked={table for table, (_, task) in tasks.items() if task.ingest})
    for _, task in tasks.values():
        if task.ingest:
            draft.expect(task)
    for job, task in _upstream_first(tasks, parse, problems):
        draft.add_table(job, task)
    for job in jobs:
        draft.add_rest(job)
    reads = tablereads.by_job(jobs, draft.reads)
    return Catalog(tuple(jobs), draft.refreshes, draft.definitions, reads, tuple(draft.unbound))


def _created(jobs: list[Job]) -> set[str]:
    """The tables that scripts and Python create, which no job file says."""
    tasks = [task for job in jobs for task in jobcheck.with_nested(job)]
    texts = [task.sql for task in tasks if task.sql is not None and task.table is None]
    texts += [jobfiles.text_of(task.action.file) for task in tasks if isinstance(task.action, PythonCall)]
    return {table for text in texts for table in tablereads.created(text)}


@dataclass(slots=True)
class _Draft:
    """A catalog in the making: tables come in the order in which they read each other."""

    binding: Binding
    parse: Callable[[str], refresh.Tree]
    problems: list[Problem]
    tracked: set[str]
    """Tables that know which file each of their rows came from."""
    refreshes: dict[str, refresh.Refresh] = field(default_factory=dict[str, refresh.Refresh])
    definitions: dict[str, str] = field(default_factory=dict[str, str])
    reads: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    unbound: list[Problem] = field(default_factory=list[Problem])

    def add_table(self, job: Job, task: Task) -> None:
        """Choose how the table is refreshed, and bind its SELECT."""
        if task.sql is None or task.table is None:
            return
        statement = self.parse(task.sql)
        table = task.table.casefold()
        chosen = refresh.choose(
            statement, declared=task.refresh, tracked=self.tracked, functions=self.binding.functions
        )
        if task.refresh == "append" and chosen.upstream is None:
            what = f"cannot be refreshed by appending: it {chosen.reason}"
            self.problems.append(_problem(task, what, "leave out `refresh: append`"))
        if chosen.upstream is not None:
            self.tracked.add(table)
        self.reads[table] = refresh.tables_read(statement)
        above = {t: self.definitions[t] for t in self.reads[table] if t in self.definitions}
        self.refreshes[table] = chosen
        self.definitions[table] = refresh.definition(task.sql, chosen, above, task.expectations)
        names, tracked = _parameter_names(job, task), chosen.upstream is not None
        bound = self.binding.bind_table(task.table, task.sql, names, tracked=tracked)
        self.note(task, bound)
        if bound.error is None:
            self.expect(task)

    def add_rest(self, job: Job) -> None:
        """Bind what makes no table: scripts, and the conditions of triggers."""
        for task in jobcheck.with_nested(job):
            if task.sql is not None and task.table is None:
                creates = tablereads.created(task.sql)
                self.note(task, self.binding.bind_script(task.sql, _parameter_names(job, task), creates=creates))
        for trigger in job.triggers:
            if trigger.condition is not None:
                self.gate(trigger.condition)

    def expect(self, task: Task) -> None:
        """Bind what is expected of the rows of the task's table."""
        for expected in task.expectations:
            bound = self._bind_expectation(str(task.table), expected.expect)
            if bound.error is not None:
                what = f"{expected.expect!r} {bound.error}"
                self.problems.append(_expectation_problem(expected, what, bound.hint))
            elif bound.missing:
                self.unbound.append(_expectation_problem(expected, *_not_bound(bound)))

    def _bind_expectation(self, table: str, expect: str) -> Bound:
        try:
            expression = self.binding.parse_expression(expect)
        except EngineError as error:
            return Bound(error=error.what)
        obstacle = refresh.why_not_of_one_row(expression, fickle=self.binding.fickle)
        if obstacle is not None:
            return Bound(error=obstacle, hint="an expectation is about one row alone, and holds for ever or not at all")
        return self.binding.bind_expression(table, expect)

    def gate(self, condition: SqlCondition) -> None:
        """Bind the SELECT that stands between a trigger and its runs."""
        try:
            self.parse(condition.sql)
            bound = self.binding.bind_script(condition.sql, ())
        except EngineError as error:
            bound = Bound(error=error.what, hint=error.hint)
        place = condition.place
        if bound.error is not None:
            problem = Problem(place.file, place.line, f"sql_condition: {bound.error}", bound.hint)
            self.problems.append(problem)
        elif bound.missing:
            what, hint = _not_bound(bound)
            self.unbound.append(Problem(place.file, place.line, f"sql_condition: {what}", hint))

    def note(self, task: Task, bound: Bound) -> None:
        """Keep what binding found."""
        if bound.error is not None:
            self.problems.append(_problem(task, bound.error, bound.hint, line=bound.line))
        elif bound.missing:
            self.unbound.append(_problem(task, *_not_bound(bound)))


def _upstream_first(
    tasks: Mapping[str, tuple[Job, Task]], parse: Callable[[str], refresh.Tree], problems: list[Problem]
) -> list[tuple[Job, Task]]:
    """Table tasks in the order in which their SELECTs read each other; a SELECT that is no SELECT is a problem."""
    reads: dict[str, frozenset[str]] = {}
    for table, (_, task) in tasks.items():
        if task.sql is None:
            continue
        try:
            reads[table] = refresh.tables_read(parse(task.sql)) & tasks.keys()
        except EngineError as error:
            problems.append(_problem(task, error.what, error.hint))
    ordered = graph.in_order({table: others - {table} for table, others in reads.items()})
    if len(ordered) < len(reads):
        waiting = [table for table in reads if table not in set(ordered)]
        task = tasks[waiting[0]][1]
        problems.append(_problem(task, f"the tables {', '.join(waiting)} are made from each other in a circle", None))
    jobs = {id(job): job for job, _ in tasks.values()}
    before = {known: graph.before(job) for known, job in jobs.items()}
    for table in ordered:
        problems += _order_problems(table, reads[table], tasks, before[id(tasks[table][0])])
    return [tasks[table] for table in ordered]


def _order_problems(
    table: str,
    reads: frozenset[str],
    tasks: Mapping[str, tuple[Job, Task]],
    before: Callable[[str, str], bool],
) -> list[Problem]:
    """A task that reads a table of its own job must come after the task that makes it."""
    job, task = tasks[table]
    found: list[Problem] = []
    for read in sorted(reads):
        maker_job, maker = tasks[read]
        if read == table:
            found.append(_problem(task, f"reads {table}, which it makes itself", None))
        elif maker_job is job and not before(maker.task_key, task.task_key):
            found.append(
                _problem(
                    task,
                    f"reads {read}, but does not run after the task '{maker.task_key}' that makes it",
                    f"add `depends_on: [{{task_key: {maker.task_key}}}]`",
                )
            )
    return found


def _parameter_names(job: Job, task: Task) -> frozenset[str]:
    return frozenset({p.name for p in job.parameters} | set(task.parameters) | BUILT_IN_PARAMETERS)


BUILT_IN_PARAMETERS = frozenset({"run_id", "job_name", "task_key"})
"""Values that every SQL may bind, whatever the job declares."""


def _not_bound(bound: Bound) -> tuple[str, str]:
    what = f"not bound: not all columns of {', '.join(bound.missing)} are known yet"
    return what, "give the ingest task its whole `schema`, or let the table be made first"


def _expectation_problem(expected: Expectation, what: str, hint: str | None) -> Problem:
    return Problem(expected.place.file, expected.place.line, f"expectation '{expected.name}': {what}", hint)


def _problem(task: Task, what: str, hint: str | None, *, line: int = 0) -> Problem:
    if task.sql_file is not None and line:
        return Problem(task.sql_file, line, what, hint)
    return Problem(task.place.file, task.place.line, f"task '{task.task_key}': {what}", hint)
