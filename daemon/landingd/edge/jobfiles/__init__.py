"""Read job files into jobs, and say everything that is wrong with them in one go.

Whoever writes a job file finds out from us what is wrong with it. Told one fault at a time, they need as many
tries as they made mistakes; told without the line, they search; and what is ignored silently they find out in
production. So reading goes on after a fault, and a job comes back as far as it could be read: whoever asked
checks its graph and its references too, and runs nothing while there are problems.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from landingd.edge.jobfiles import jobs as jobs_of_file
from landingd.edge.jobfiles.bundles import Choice, File, jobs_of
from landingd.edge.jobfiles.fields import Fields, is_outside
from landingd.edge.jobfiles.files import text_of as text_of
from landingd.edge.jobfiles.tree import Keyed, Source, parse
from landingd.errors import Problem, in_order
from landingd.model import Job, shown

FILE_NAMES = ("job.yml", "job.yaml")
FILE_BYTES_MAX = 4 << 20

Read = tuple[list[Job], list[Problem]]


def read_jobs(folder: Path, *, shown_root: Path | None = None) -> Read:
    """The jobs of `<folder>/<job>/job.yml`, by name, and every problem of every file.

    A job that has problems is among the jobs as far as it could be read: to be checked further, not run.
    Files are named relative to `shown_root`, or to the working directory.
    """
    try:
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        return [], [Problem(_shown(folder, shown_root), 0, f"cannot be read: {error.strerror}")]
    jobs: list[Job] = []
    problems: list[Problem] = []
    for child in children:
        try:
            more_jobs, more_problems = _read_child(child, shown_root)
        except OSError as error:
            problems.append(Problem(_shown(child, shown_root), 0, f"cannot be read: {error.strerror}"))
        else:
            jobs += more_jobs
            problems += more_problems
    if not jobs and not problems:
        hint = "a job is a folder with a job.yml in it"
        problems.append(Problem(_shown(folder, shown_root), 0, "there is no job here", hint))
    problems += _same_names(jobs)
    return sorted(jobs, key=lambda job: job.name), in_order(problems)


def read_job(file: Path, *, shown_root: Path | None = None) -> Read:
    """The jobs of one file (several if a bundle's `resources: jobs:` holds them), and all its problems."""
    source = Source(file, _shown(file, shown_root), _shown(file.parent, shown_root))
    text = _text(source)
    jobs = [] if text is None else jobs_of_file.read(text, source)
    return jobs, in_order(_told(source))


@dataclass(frozen=True, slots=True)
class BundleRead:
    """What a bundle says: its jobs as far as they could be read, and what of them would not run here."""

    jobs: list[Job]
    problems: list[Problem]
    sound: frozenset[str]
    """Names of the jobs in which the reading found nothing wrong."""


def read_bundle(
    file: Path, variables: Mapping[str, str], target: str | None, *, shown_root: Path | None = None
) -> BundleRead:
    """The jobs of an asset bundle as it is: `databricks.yml`, also by its folder, and the files that it includes.

    `variables` are laid over those of the target, and these over the defaults; without a target it is the bundle's
    default one. What is only about the bundle's way to a workspace is passed over.
    """
    file = file / "databricks.yml" if file.is_dir() else file
    sources: list[Source] = []
    files = _bundle_files(file, shown_root, sources)
    nodes = jobs_of(files, Choice(variables, target)) if files else []
    jobs: list[Job] = []
    sound: set[str] = set()
    for node in nodes:
        before = len(node.source.problems)
        jobs.append(job := jobs_of_file.read_job(node.node, node.source, name=node.key))
        if node.whole and len(node.source.problems) == before:
            sound.add(job.name)
    problems = [problem for source in sources for problem in _told(source)]
    if not nodes and not problems:
        problems.append(Problem(_shown(file, shown_root), 0, "there is no job in this bundle"))
    problems += _same_names(jobs)
    return BundleRead(sorted(jobs, key=lambda job: job.name), in_order(problems), frozenset(sound))


def _bundle_files(file: Path, shown_root: Path | None, sources: list[Source]) -> list[File]:
    """The bundle's own file and those that it includes, by name."""
    top = _bundle_file(file, file.parent, shown_root, sources)
    if top is None:
        return []
    fields = Fields(top.root, top.source, called="a bundle")
    found: dict[Path, None] = {}
    for word in fields.texts("include") or ():
        if is_outside(word.text) or not word.text:
            top.source.wrong(word.line, f"{word.text!r} is not below the bundle's folder")
            continue
        matches = sorted(path for path in file.parent.glob(word.text) if path.is_file())
        if not matches:
            top.source.wrong(word.line, f"no file matches {word.text!r}")
        found |= dict.fromkeys(matches)
    included = [_bundle_file(path, file.parent, shown_root, sources) for path in found if path != file]
    return [top, *(one for one in included if one is not None)]


def _bundle_file(file: Path, root: Path, shown_root: Path | None, sources: list[Source]) -> File | None:
    source = Source(file, _shown(file, shown_root), _shown(file.parent, shown_root), root=root)
    sources.append(source)
    text = _text(source)
    node = None if text is None else parse(text, source)
    if isinstance(node, Keyed):
        return File(node, source)
    if node is not None:
        source.wrong(node.line, f"a bundle must be a mapping, found {node}")
    return None


def _told(source: Source) -> Iterable[Problem]:
    """An alias, or a file that is one long line, says the same of one line twice, if with another hint."""
    return {(problem.line, problem.what): problem for problem in reversed(source.problems)}.values()


def _read_child(child: Path, shown_root: Path | None) -> Read:
    if not child.is_dir():
        if child.suffix not in (".yml", ".yaml", ".sql"):
            return [], []
        hint = "a job is a folder with a job.yml in it"
        return [], [Problem(_shown(child, shown_root), 0, "does not belong to a job", hint)]
    files = [file for name in FILE_NAMES if (file := child / name).is_file()]
    if len(files) == 1:
        return read_job(files[0], shown_root=shown_root)
    if files:
        return [], [Problem(_shown(child, shown_root), 0, "has a job.yml and a job.yaml", "remove one of them")]
    left_over = sorted(file.name for file in child.rglob("*") if file.suffix in (".yml", ".yaml", ".sql"))
    if not left_over:
        return [], []
    what = f"has no job.yml, but {left_over[0]}"
    return [], [Problem(_shown(child, shown_root), 0, what, "the job file has to be called job.yml")]


def _text(source: Source) -> str | None:
    try:
        with source.path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        source.wrong(0, f"cannot be read: {error.strerror}")
        return None
    if len(content) > FILE_BYTES_MAX:
        source.wrong(0, f"larger than {FILE_BYTES_MAX} bytes")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        source.wrong(content.count(b"\n", 0, error.start) + 1, "not UTF-8", "save the file as UTF-8")
        return None


def _same_names(jobs: list[Job]) -> Iterable[Problem]:
    first: dict[str, Job] = {}
    for job in jobs:
        other = first.setdefault(job.name, job)
        if other is not job:
            what = f"a job {job.name!r} is there already ({other.place.file}:{other.place.line})"
            yield Problem(job.place.file, job.place.line, what, "give one of them another 'name'")


def _shown(path: Path, root: Path | None) -> str:
    base = (root or Path.cwd()).absolute()
    absolute = path.absolute()
    below = absolute.is_relative_to(base) and base != Path("/")
    named = absolute.relative_to(base) if below else path
    return shown(os.fsencode(named))
