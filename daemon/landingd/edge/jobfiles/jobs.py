"""Read the jobs of one file: a job as it is, or those that an asset bundle wraps in `resources: jobs:`."""

import re

from landingd.edge.jobfiles import later
from landingd.edge.jobfiles.fields import Fields, Word, is_outside
from landingd.edge.jobfiles.tasks import IDENTIFIER, read_task
from landingd.edge.jobfiles.tree import Keyed, Node, Scalar, Source, parse
from landingd.model import Cleanup, FileArrival, Job, OnChange, OnDelete, OnDuplicate, Parameter, Task, Trigger

TASKS_MAX = 1000
FILES_PER_TRIGGER_MAX = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def read(text: str, source: Source) -> list[Job]:
    """The jobs as far as they can be read; what is wrong with them goes to the source's problems."""
    root = parse(text, source)
    if isinstance(root, Keyed) and "resources" in root.entries:
        return _bundle(root, source)
    if isinstance(root, Keyed):
        return [_job(root, source, name=source.path.resolve().parent.name)]
    if root is not None:
        source.wrong(root.line, f"a job must be a mapping, found {root}")
    return []


def _bundle(root: Node, source: Source) -> list[Job]:
    top = Fields(root, source, called="a bundle")
    entry = top.entry("resources")
    top.done(later=later.BUNDLE)
    if entry is None:
        return []
    resources = Fields(entry.node, source, called="'resources'")
    jobs = resources.entry("jobs")
    resources.done(later=later.RESOURCES)
    if jobs is None or not isinstance(jobs.node, Keyed) or not jobs.node.entries:
        resources.wrong("jobs", "'resources' must hold 'jobs', a mapping of each job's key to the job")
        return []
    return [_job(job.node, source, name=key) for key, job in jobs.node.entries.items()]


def _job(node: Node, source: Source, *, name: str) -> Job:
    fields = Fields(node, source, called="a job")
    job = Job(
        name=_name(fields, name),
        place=source.place(node.line),
        tasks=_tasks(fields),
        triggers=tuple(Trigger(on) for on in _triggers(fields)),
        parameters=_parameters(fields),
        description=fields.text("description") or "",
        tags={key: word.text for key, word in fields.texts_by_key("tags").items()},
        folder=source.path.parent,
    )
    for task in job.tasks:
        if task.ingest is not None and not job.triggers:
            what = f"task {task.task_key!r} ingests files, but the job has no trigger that brings any"
            source.wrong(task.place.line, what, "triggers: [{file_arrival: {path: ...}}]")
    fields.done(later=later.JOB, elsewhere=later.ELSEWHERE["job"])
    return job


def _name(fields: Fields, default: str) -> str:
    name = fields.text("name")
    if name is None:
        name = default
    if not _NAME.fullmatch(name):
        # It is a level of an MQTT topic, a word on the command line and a part of a URL.
        hint = "letters, digits, _, - and ., at most 100, and first a letter, digit or _"
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


# --- triggers ---------------------------------------------------------------------------------------------


def _triggers(fields: Fields) -> tuple[FileArrival, ...]:
    nodes = list(fields.items("triggers"))
    single = fields.entry("trigger")
    if single is not None:
        nodes.append(single.node)
        if fields.has("triggers"):
            fields.wrong("trigger", "a job has either 'trigger' or 'triggers', not both")
    found = [_trigger(node, fields.source) for node in nodes]
    return tuple(trigger for trigger in found if trigger is not None)


def _trigger(node: Node, source: Source) -> FileArrival | None:
    fields = Fields(node, source, called="a trigger")
    entry = fields.entry("file_arrival")
    fields.done(later=later.TRIGGER)
    if entry is not None:
        return _file_arrival(entry.node, source)
    if isinstance(node, Keyed) and not node.entries:
        source.wrong(node.line, "a trigger needs 'file_arrival'")
    return None


def _file_arrival(node: Node, source: Source) -> FileArrival:
    fields = Fields(node, source, called="'file_arrival'")
    usual = FileArrival(path="")
    arrival = FileArrival(
        path=_path(fields),
        pattern=fields.pattern("pattern") or usual.pattern,
        exclude=tuple(word.text for word in fields.texts("exclude") or ()),
        recursive=fields.flag("recursive", default=usual.recursive),
        wait_after_last_change_s=fields.number("wait_after_last_change_seconds", default=0.0),
        min_time_between_triggers_s=fields.number("min_time_between_triggers_seconds", default=0.0),
        max_files_per_trigger=fields.whole(
            "max_files_per_trigger",
            default=usual.max_files_per_trigger,
            least=1,
            most=FILES_PER_TRIGGER_MAX,
        ),
        marker=_beside(fields, "marker"),
        manifest=_beside(fields, "manifest"),
        incomplete_after_s=fields.number("incomplete_after_seconds", default=usual.incomplete_after_s),
        on_duplicate=fields.member("on_duplicate", OnDuplicate),
        on_change=fields.member("on_change", OnChange),
        on_delete=fields.member("on_delete", OnDelete),
        cleanup=fields.member("cleanup", Cleanup),
        cleanup_after_s=fields.number("cleanup_after_seconds", default=usual.cleanup_after_s),
        archive_retention_s=fields.number("archive_retention_days", default=0.0) * 86400,
    )
    _check_arrival(fields, arrival)
    fields.done()
    return arrival


def _beside(fields: Fields, key: str) -> str | None:
    """The name of a file in the same directory as the data files."""
    name = fields.pattern(key)
    if name and "/" in name:
        fields.wrong(key, f"{key!r} names a file beside the data files, found text {name!r}", "leave the folder out")
        return None
    return name


def _check_arrival(fields: Fields, arrival: FileArrival) -> None:
    """Refuse what would be ignored without a word, and what could never be."""
    if arrival.marker == "{name}":
        fields.wrong("marker", "every file would be its own marker", 'for example: marker: "{name}.done"')
    if arrival.manifest and arrival.manifest.strip("*") == "":
        fields.wrong("manifest", "every file would be a manifest", 'for example: manifest: "*.manifest"')
    if arrival.marker and arrival.manifest:
        fields.wrong("manifest", "'manifest' stands beside 'marker'", "leave one of them out")
    if arrival.cleanup is Cleanup.KEEP and fields.has("cleanup_after_seconds"):
        fields.wrong(
            "cleanup_after_seconds",
            "'cleanup_after_seconds' means nothing without 'cleanup: archive' or 'cleanup: delete'",
        )
    if arrival.cleanup is not Cleanup.ARCHIVE and fields.has("archive_retention_days"):
        fields.wrong("archive_retention_days", "'archive_retention_days' means nothing without 'cleanup: archive'")


def _path(fields: Fields) -> str:
    path = fields.text("path")
    if fields.entry("url") is not None:
        fields.wrong("url", "'url' is not supported", "write 'path', a folder below the landing root")
    elif fields.lacks("path"):
        fields.wrong("path", "'file_arrival' needs a 'path'", "a folder below the landing root")
    if path is None:
        return ""
    if not path or is_outside(path):
        what = f"'path' must be a folder below the landing root, found text {path!r}"
        fields.wrong("path", what, "for example: path: ecommerce")
    elif "*" in path or "?" in path:
        fields.wrong("path", f"'path' names one folder, found text {path!r}", "put wildcards into 'pattern'")
    return "/".join(part for part in path.split("/") if part not in ("", ".")) or "."


# --- parameters -------------------------------------------------------------------------------------------


def _parameters(fields: Fields) -> tuple[Parameter, ...]:
    parameters: dict[str, Parameter] = {}
    for node in fields.items("parameters"):
        parameter = _parameter(node, fields.source)
        other = parameters.setdefault(parameter.name.lower(), parameter)
        if other is not parameter and parameter.name:
            hint = f"it is the same as {other.name!r} to SQL" if other.name != parameter.name else None
            fields.source.wrong(node.line, f"parameter {parameter.name!r} is declared twice", hint)
    return tuple(parameter for parameter in parameters.values() if parameter.name)


def _parameter(node: Node, source: Source) -> Parameter:
    fields = Fields(node, source, called="a parameter")
    name = fields.text("name")
    if fields.lacks("name"):
        fields.wrong("name", "a parameter needs a 'name'")
    elif name is not None and not IDENTIFIER.fullmatch(name):
        hint = "SQL reads it as $name: letters, digits and _"
        fields.wrong("name", f"{name!r} cannot be the name of a parameter", hint)
    default = _default(fields)
    choices = fields.texts("choices")
    texts = tuple(word.text for word in choices or ())
    if choices is not None and default is not None and default.text not in texts:
        what = f"the default {default.text!r} is not among the choices"
        fields.wrong("default", what, f"the choices are {', '.join(texts) or 'none'}")
    fields.done()
    return Parameter(name or "", default.text if default else "", tuple(dict.fromkeys(texts)))


def _default(fields: Fields) -> Word | None:
    entry = fields.entry("default")
    if fields.lacks("default"):
        fields.wrong("default", "a parameter needs a 'default'", 'for an empty one write: default: ""')
    if entry is None:
        return None
    if isinstance(entry.node, Scalar):
        return fields.word(entry.node, "'default'")
    fields.wrong("default", f"'default' must be text, found {entry.node}")
    return None
