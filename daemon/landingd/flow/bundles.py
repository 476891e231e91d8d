"""Would the jobs of an asset bundle run here? Read as they are, and checked as job files are."""

from collections.abc import Mapping
from pathlib import Path

from landingd.core import jobcheck
from landingd.edge.jobfiles import BundleRead, read_bundle
from landingd.errors import in_order


def check_bundle(file: Path, variables: Mapping[str, str], target: str | None) -> BundleRead:
    """What of a bundle would run, and every reason why something would not. Its SQL is not bound: the tables that it
    reads are in another place.
    """
    read = read_bundle(file, variables, target)
    found = jobcheck.problems(read.jobs)
    sound = frozenset(read.sound) - jobcheck.concerned(read.jobs, found)
    return BundleRead(read.jobs, in_order([*read.problems, *found]), sound)
