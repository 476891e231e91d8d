"""Would the jobs of an asset bundle run here? Read as they are, and checked as job files are."""

from collections.abc import Mapping
from pathlib import Path

from landingd.core import graph, references
from landingd.edge.jobfiles import BundleRead, read_bundle
from landingd.errors import in_order


def check_bundle(file: Path, variables: Mapping[str, str], target: str | None) -> BundleRead:
    """What of a bundle would run, and every reason why something would not. Its SQL is not bound: the tables that it
    reads are in another place.
    """
    read = read_bundle(file, variables, target)
    problems = list(read.problems)
    sound = set(read.sound)
    for job in read.jobs:
        found = graph.problems(job) + references.problems(job)
        problems += found
        if found:
            sound.discard(job.name)
    return BundleRead(read.jobs, in_order(problems), frozenset(sound))
