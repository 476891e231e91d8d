"""The kernel's table of mounts, as text and as it is, and the test files that are left in directories."""

import os
from pathlib import Path

import pytest

from landingd.edge import landing
from landingd.edge.landing.mounts import Mounts

TABLE = (
    b"1 0 8:1 / / rw - ext4 /dev/a rw\n"
    b"2 1 0:40 / /srv rw shared:2 - nfs4 host:/x rw\n"
    b"3 2 0:41 / /srv/two\\040words rw - xfs /dev/b rw\n"
    b"4 2 0:42 / /srv/two\\040words rw - tmpfs none rw\n"
    b"5 1 8:1 /data/in /landing rw master:3 - ext4 /dev/a rw\n"
)


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        (b"/srv/two words/x", "tmpfs none /srv/two words"),
        (b"/srv/two words", "tmpfs none /srv/two words"),
        (b"/srv", "nfs4 host:/x /srv"),
        (b"/srvx", "ext4 /dev/a /"),
        (b"/", "ext4 /dev/a /"),
    ],
)
def test_a_path_is_on_what_was_mounted_deepest_and_last(path, mount):
    assert str(Mounts(TABLE).of(path)) == mount


def test_a_directory_mounted_elsewhere_is_told_from_the_disk_that_it_is_on():
    assert str(Mounts(TABLE).of(b"/landing/a")) == "ext4 /dev/a[/data/in] /landing"


def test_what_is_mounted_below_is_listed_once_and_not_the_directory_itself():
    below = [str(mount) for mount in Mounts(TABLE).below(b"/srv")]
    assert below == ["tmpfs none /srv/two words"]
    assert list(Mounts(TABLE).below(b"/srv/two")) == []


def test_an_empty_table_says_nothing():
    assert Mounts(b"").of(b"/") is None


def test_the_table_is_the_same_object_until_it_changes(tmp_path, monkeypatch):
    assert landing.mount_table().of(os.fsencode(tmp_path)) is not None
    table = tmp_path / "mountinfo"
    monkeypatch.setattr("landingd.edge.landing.mounts._TABLE", table)
    table.write_bytes(TABLE)
    first = landing.mount_table()
    assert landing.mount_table() is first
    table.write_bytes(TABLE.splitlines(keepends=True)[0])
    assert str(landing.mount_table().of(b"/srv")) == "ext4 /dev/a /"


def test_a_type_is_forgotten_with_the_mount_whose_device_number_it_had(tmp_path, monkeypatch):
    table = tmp_path / "mountinfo"
    monkeypatch.setattr("landingd.edge.landing.mounts._TABLE", table)
    for kind in ("nfs4", "ext4"):
        table.write_bytes(b"1 0 8:1 / / rw - %s x rw\n" % kind.encode())
        landing.mount_table()
        assert landing.filesystem_type(os.fsencode(tmp_path)) == kind


# --- test files -------------------------------------------------------------------------------------------


def scanned(directory: Path) -> list[bytes]:
    return [path for path, _ in landing.scan(directory, recursive=True, unreadable=[])]


def test_a_probe_is_a_file_that_no_scan_reports(tmp_path):
    path = landing.probe_path(tmp_path)
    landing.leave_probe(path)
    assert os.listdir(os.fsencode(tmp_path)) == [os.path.basename(path)]  # noqa: PTH208 -- bytes
    assert landing.is_ours(path)
    assert scanned(tmp_path) == []
    landing.remove_probe(path)
    landing.remove_probe(path)
    assert list(tmp_path.iterdir()) == []


def test_probes_of_a_process_that_died_are_removed_and_nothing_else(tmp_path):
    old, young = landing.probe_path(tmp_path), landing.probe_path(tmp_path)
    for path in (old, young, os.fsencode(tmp_path / "old.csv")):
        landing.leave_probe(path)
    for path in (old, os.fsencode(tmp_path / "old.csv")):
        os.utime(path, (0, 0))
    landing.remove_old_probes(tmp_path)
    assert sorted(os.fsencode(each) for each in tmp_path.iterdir()) == sorted(
        [young, os.fsencode(tmp_path / "old.csv")]
    )
    landing.remove_old_probes(tmp_path / "missing")


def test_a_directory_that_may_not_be_written_to_takes_no_probe(tmp_path):
    with pytest.raises(FileNotFoundError):
        landing.leave_probe(landing.probe_path(tmp_path / "missing"))
    assert not landing.is_ours(b"in/landingd-probe-1")
