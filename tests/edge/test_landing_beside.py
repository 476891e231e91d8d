"""Markers and manifests on a real disk."""

import hashlib
import os

import pytest

from landingd.edge import landing
from landingd.edge.landing import beside


def test_a_glob_finds_the_names_beside_and_no_directories(tmp_path):
    for name in ("b.manifest", "a.manifest", "a.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.manifest").mkdir()
    assert beside.names_like(os.fsencode(tmp_path), "*.manifest") == [b"a.manifest", b"b.manifest"]


def test_a_name_without_a_wildcard_is_not_looked_for(tmp_path):
    assert beside.names_like(os.fsencode(tmp_path / "missing"), "manifest.json") == [b"manifest.json"]


def test_a_directory_that_is_gone_has_no_names(tmp_path):
    assert beside.names_in(os.fsencode(tmp_path / "missing")) == []


def test_a_small_file_is_read_whole_with_what_stat_said_of_it(tmp_path):
    file = tmp_path / "m"
    file.write_bytes(b"x" * 1_000_000)
    signature, content = beside.whole(os.fsencode(file))
    assert (signature, content) == (landing.signature(os.fsencode(file)), b"x" * 1_000_000)


def test_what_is_too_large_to_be_a_manifest_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "MANIFEST_BYTES_MAX", 1 << 20)
    with (tmp_path / "m").open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(beside.TooLargeError) as caught:
        beside.whole(os.fsencode(tmp_path / "m"))
    assert caught.value.strerror == "is larger than 1 MiB"


def test_a_directory_under_a_manifests_name_is_none(tmp_path):
    with pytest.raises(landing.ChangedWhileReadingError):
        beside.whole(os.fsencode(tmp_path))


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha512"])
def test_other_sums_are_of_the_version_that_was_asked_about(tmp_path, algorithm):
    file = tmp_path / "a.csv"
    file.write_bytes(b"id\n1\n" * 200_000)
    path = os.fsencode(file)
    version = landing.signature(path)
    assert beside.checksum(path, algorithm, version) == hashlib.new(algorithm, file.read_bytes()).hexdigest()
    file.write_bytes(b"id\n1\n")
    with pytest.raises(landing.ChangedWhileReadingError):
        beside.checksum(path, algorithm, version)


@pytest.mark.parametrize("size", [1, 5, 1 << 18, (1 << 18) + 1, 700_000])
def test_whether_a_file_begins_with_an_older_version_is_told_from_its_bytes(tmp_path, size):
    old = os.urandom(size)
    file = tmp_path / "a.csv"
    file.write_bytes(old + b"more")
    path, content_hash = os.fsencode(file), hashlib.sha256(old).hexdigest()
    assert beside.begins_with(path, size, content_hash)
    assert not beside.begins_with(path, size + 1, content_hash)
    assert not beside.begins_with(path, size + 10, content_hash)
