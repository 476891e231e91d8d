"""Read job files into jobs, and say everything that is wrong with them in one go.

Whoever writes a job file finds out from us what is wrong with it. Told one fault at a time, they need as many
tries as they made mistakes; told without the line, they search; and what is ignored silently they find out in
production. So reading goes on after a fault, and a job comes back as far as it could be read: whoever asked
checks its graph and its references too, and runs nothing while there are problems.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from landingd.edge.jobfiles import jobs as jobs_of_file
from landingd.edge.jobfiles.tree import Source
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
    # An alias, or a file that is one long line, says the same of one line twice, if with another hint.
    told = {(problem.line, problem.what): problem for problem in reversed(source.problems)}
    return jobs, in_order(told.values())


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
