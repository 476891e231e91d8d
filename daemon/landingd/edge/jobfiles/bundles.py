"""Read the jobs of an asset bundle: several files, with `${...}` in them, and targets that give other values.

A bundle is a job file for many workspaces: what differs between them is a variable. What `${...}` stands for is put
in before a job is read, so that the reading knows nothing of it: a variable that is the number 3 is a number where it
stands alone, and its text where it stands within another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from landingd.edge.jobfiles import refused
from landingd.edge.jobfiles.fields import Fields
from landingd.edge.jobfiles.tree import Keyed, Node, Source
from landingd.edge.jobfiles.variables import Variable, Variables
from landingd.errors import did_you_mean


@dataclass(frozen=True, slots=True)
class File:
    """One file of a bundle."""

    root: Keyed
    source: Source


@dataclass(frozen=True, slots=True)
class JobNode:
    """A job of a bundle, with nothing left to be put in."""

    key: str
    node: Node
    source: Source
    whole: bool = True
    """Whether all that was to be put in had a value."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What whoever checks a bundle as it is says to it."""

    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    target: str | None = None


def jobs_of(files: Sequence[File], choice: Choice | None = None) -> list[JobNode]:
    """The jobs of these files together; what is wrong is among the problems of their sources.

    Without a choice it is a job file, where what is only about the way to a workspace does not belong.
    """
    tops = [Fields(file.root, file.source, called="a bundle") for file in files]
    variables = Variables()
    jobs: list[JobNode] = []
    for top in tops:
        bundle = top.fields("bundle")
        variables.name = (bundle.text("name") if bundle else None) or variables.name
        _declare(top.fields("variables"), variables)
        resources = top.fields("resources")
        if resources is not None:
            jobs += _jobs(resources, needed=choice is None)
    if choice is not None:
        _choose_target(tops, choice.target, variables)
        _overlay(choice.variables, variables, tops[0])
    for top in tops:
        for key in ("include", "targets", *refused.DEPLOYMENT) if choice is not None else ():
            top.entry(key)
        top.done(refused=refused.BUNDLE)
    variables.name_jobs({job.key: (job.node, job.source) for job in jobs})
    return [_filled(job, variables) for job in jobs]


def _filled(job: JobNode, variables: Variables) -> JobNode:
    before = len(job.source.problems)
    node = variables.put_in(job.node, job.source)
    return JobNode(job.key, node, job.source, whole=len(job.source.problems) == before)


def _jobs(resources: Fields, *, needed: bool) -> list[JobNode]:
    jobs = resources.entry("jobs")
    resources.done(refused=refused.RESOURCES)
    if jobs is not None and isinstance(jobs.node, Keyed) and jobs.node.entries:
        return [JobNode(key, entry.node, resources.source) for key, entry in jobs.node.entries.items()]
    if needed or jobs is not None:
        resources.wrong("jobs", "'resources' must hold 'jobs', a mapping of each job's key to the job")
    return []


def _declare(declared: Fields | None, variables: Variables) -> None:
    """`variables: {x: {default, description, type}}`."""
    for name in declared.keys() if declared else ():
        fields = declared.fields(name) if declared else None
        if fields is None:
            continue
        entry = fields.entry("default")
        fields.text("description")
        fields.choice("type", ("string", "complex"))
        fields.done(refused=refused.VARIABLE)
        variables.by_name[name] = Variable(entry.node if entry else None, fields.source)


def _choose_target(tops: Sequence[Fields], wanted: str | None, variables: Variables) -> None:
    """The one that is wanted, else the one that says that it is the default, else the only one."""
    found = [(name, targets) for top in tops if (targets := top.fields("targets")) for name in targets.keys()]  # noqa: SIM118  # no dict
    usual = [name for name, targets in found if _is_default(targets, name)] or list(dict(found))[:2]
    name = wanted if wanted is not None else (usual[0] if len(usual) == 1 else "")
    variables.target = name
    if wanted is not None and wanted not in dict(found):
        hint = did_you_mean(wanted, dict(found)) or f"targets: {', '.join(dict(found)) or 'none'}"
        tops[0].source.wrong(0, f"the bundle has no target {wanted!r}", hint)
    for targets in [targets for other, targets in found if other == name]:
        _read_target(targets, name, variables)


def _is_default(targets: Fields, name: str) -> bool:
    entry = targets.entry(name)
    if entry is None or not isinstance(entry.node, Keyed):
        return False
    return Fields(entry.node, targets.source, called="a target").flag("default", default=False)


def _read_target(targets: Fields, name: str, variables: Variables) -> None:
    entry = targets.entry(name)
    if entry is None or not isinstance(entry.node, Keyed):
        return
    target = Fields(entry.node, targets.source, called="a target")
    for key in ("default", *refused.DEPLOYMENT):
        target.entry(key)
    values = target.entry("variables")
    target.done(refused=refused.TARGET)
    if values is None or not isinstance(values.node, Keyed):
        return
    for key, value in values.node.entries.items():
        if key not in variables.by_name:
            hint = did_you_mean(key, variables.by_name)
            target.source.wrong(value.line, f"the bundle declares no variable {key!r}", hint)
        given = value.node
        if isinstance(given, Keyed) and "default" in given.entries:
            given = given.entries["default"].node
        variables.by_name[key] = Variable(given, target.source)


def _overlay(given: Mapping[str, str], variables: Variables, top: Fields) -> None:
    for name, text in given.items():
        if name not in variables.by_name:
            hint = did_you_mean(name, variables.by_name) or f"variables: {', '.join(variables.by_name) or 'none'}"
            top.source.wrong(0, f"the bundle declares no variable {name!r}", hint)
        variables.by_name[name] = Variable.of_text(text, top.source)
