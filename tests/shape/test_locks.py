"""The locks: every package by version and hash, and no address: whoever installs uses their own index."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def locked(lock: Path) -> dict[str, str]:
    """Each package and what stands behind its version."""
    return {normal(name): rest for name, _, rest in ENTRY.findall(lock.read_text())}


def normal(requirement: str) -> str:
    name = re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def in_lock(name: str) -> dict[str, str]:
    return locked(ROOT / "requirements" / name)


def test_there_are_locks_for_the_tools_the_daemon_and_its_developers():
    assert {lock.name for lock in LOCKS} == {"tools.txt", "daemon.txt", "dev.txt"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_has_a_version_and_hashes_and_nothing_else_stands_there(lock):
    packages = locked(lock)
    assert packages
    assert all("--hash=sha256:" in rest for rest in packages.values())
    entries = [line for line in lock.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    assert len(entries) == len(ENTRY.findall(lock.read_text()))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_address_is_written_down(lock):
    text = lock.read_text()
    assert (
        re.search(r"https?://|file:|git\+|--(extra-)?index-url|--find-links|--trusted-host|^-[ief]", text, re.MULTILINE)
        is None
    )


def test_there_is_no_lock_that_records_addresses():
    assert not (ROOT / "uv.lock").exists()


def test_everything_that_the_daemon_needs_is_locked():
    project = PROJECT["project"]
    needed = [
        *project["dependencies"],
        *project["optional-dependencies"]["broker"],
        *PROJECT["dependency-groups"]["build"],
    ]
    assert {normal(requirement) for requirement in needed} - in_lock("daemon.txt").keys() == set()


def test_everything_that_its_developers_need_is_locked():
    needed = PROJECT["dependency-groups"]["dev"]
    assert {normal(requirement) for requirement in needed} - in_lock("dev.txt").keys() == set()


def test_developers_test_with_the_versions_that_the_daemon_runs_with():
    daemon, dev = (
        {normal(name): version for name, version, _ in ENTRY.findall((ROOT / "requirements" / lock).read_text())}
        for lock in ("daemon.txt", "dev.txt")
    )
    assert {name: dev.get(name) for name in daemon} == daemon
