"""Read the jobs of one file: a job as it is, or those that an asset bundle wraps in `resources: jobs:`."""

import re

from landingd.edge.jobfiles import bundles, refused
from landingd.edge.jobfiles.alerts import read_health, read_notifications
from landingd.edge.jobfiles.fields import Fields
from landingd.edge.jobfiles.parameters import read_parameters
from landingd.edge.jobfiles.tasks import read_task
from landingd.edge.jobfiles.tree import Keyed, Node, Source, parse
from landingd.edge.jobfiles.triggers import read_paused, read_triggers
from landingd.model import Compute, Job, Queue, Task

TASKS_MAX = 1000
RUNS_MAX = 1000
QUEUE_MAX = 100_000
THREADS_MAX = 1024
PRIORITY_MAX = 1000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def read(text: str, source: Source) -> list[Job]:
    """The jobs as far as they can be read; what is wrong with them goes to the source's problems."""
    root = parse(text, source)
    if isinstance(root, Keyed) and "resources" in root.entries:
        file = bundles.File(root, source)
        return [read_job(found.node, found.source, name=found.key) for found in bundles.jobs_of([file])]
    if isinstance(root, Keyed):
        return [read_job(root, source, name=source.path.resolve().parent.name)]
    if root is not None:
        source.wrong(root.line, f"a job must be a mapping, found {root}")
    return []


def read_job(node: Node, source: Source, *, name: str) -> Job:
    """One job; `name` where it has none of its own."""
    fields = Fields(node, source, called="a job")
    tasks = _tasks(fields)
    job = Job(
        name=_name(fields, name),
        place=source.place(node.line),
        tasks=tasks,
        triggers=read_triggers(fields),
        parameters=read_parameters(fields),
        description=fields.text("description") or "",
        tags={key: word.text for key, word in fields.texts_by_key("tags").items()},
        folder=source.path.parent,
        max_concurrent_runs=fields.whole("max_concurrent_runs", default=1, least=0, most=RUNS_MAX),
        queue=_queue(fields),
        priority=fields.whole("priority", default=0, least=-PRIORITY_MAX, most=PRIORITY_MAX),
        timeout_s=fields.number("timeout_seconds", default=0.0),
        strict=fields.flag("strict", default=False),
        compute=_compute(fields),
        notifications=read_notifications(fields, of_task=False),
        health=read_health(fields, of_task=False),
        paused=read_paused(fields),
    )
    fields.done(refused=refused.JOB, elsewhere=refused.ELSEWHERE["job"])
    return job


def _name(fields: Fields, default: str) -> str:
    name = fields.text("name")
    if name is None:
        name = default
    if not _NAME.fullmatch(name):
        allowed = "letters, digits, _, - and ., at most 100, and first a letter, digit or _"
        hint = f"{allowed}: it is a level of MQTT topics, a word of commands and a part of URLs"
        fields.wrong("name", f"{name!r} cannot be the name of a job", hint)
    return name


def _tasks(fields: Fields) -> tuple[Task, ...]:
    nodes = fields.items("tasks")
    if not nodes and (fields.lacks("tasks") or fields.is_list("tasks")):
        fields.wrong("tasks", "a job needs at least one task")
    if len(nodes) > TASKS_MAX:
        fields.wrong("tasks", f"a job has at most {TASKS_MAX} tasks, found {len(nodes)}")
    tasks = [read_task(node, fields.source) for node in nodes[:TASKS_MAX]]
    # What has no key cannot be spoken of: that it lacks one is said, and nothing follows from it.
    return tuple(task for task in tasks if task.task_key)


def _queue(fields: Fields) -> Queue:
    queue = fields.fields("queue")
    if queue is None:
        return Queue()
    read = Queue(
        enabled=queue.flag("enabled", default=True),
        max_length=queue.whole("max_length", default=Queue().max_length, least=1, most=QUEUE_MAX),
    )
    if not read.enabled:
        queue.means_nothing(("max_length",), "without a queue")
    queue.done()
    return read


def _compute(fields: Fields) -> Compute | None:
    """DuckDB's settings for a job's tasks; what a job cluster is there."""
    compute = fields.fields("compute")
    if compute is None:
        return None
    read = Compute(
        threads=compute.whole("threads", default=0, least=1, most=THREADS_MAX),
        memory_limit=compute.size_text("memory_limit"),
    )
    compute.done(refused=refused.COMPUTE)
    return read
