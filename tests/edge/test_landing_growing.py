"""The end of a growing file, read from one descriptor, and our own copies of what was taken."""

import os

from hypothesis import given
from hypothesis import strategies as st

from landingd.edge import landing
from landingd.edge.landing import growing


def test_what_stands_behind_an_offset_is_read_with_what_tells_whose_file_it_is(tmp_path):
    file = tmp_path / "app.log"
    file.write_bytes(b"n\n1\n2\n")
    found = growing.stretch(os.fsencode(file), 2, 100)
    assert found == growing.Stretch(landing.signature(os.fsencode(file)), b"n\n1\n2\n", b"1\n2\n")
    assert growing.stretch(os.fsencode(file), 2, 3).data == b"1\n2"
    assert growing.stretch(os.fsencode(file), 6, 100).data == b""
    assert growing.stretch(os.fsencode(file), 99, 100).data == b""


def test_only_the_beginning_is_kept_to_tell_a_file_by(tmp_path):
    file = tmp_path / "app.log"
    file.write_bytes(b"x" * 5000)
    assert growing.stretch(os.fsencode(file), 0, 0).first == b"x" * growing.HEAD_BYTES_MAX
    assert growing.head_of(b"abc", 2) == growing.head_of(b"abd", 2) != growing.head_of(b"abd", 3)


def test_what_is_no_regular_file_is_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe", "missing"):
        assert growing.stretch(os.fsencode(tmp_path / name), 0, 10) is None


def test_files_beside_are_told_by_name_links_and_folders_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").mkdir()
    assert growing.beside(os.fsencode(tmp_path)) == {b"a": landing.signature(os.fsencode(tmp_path / "a"))}
    assert growing.beside(os.fsencode(tmp_path / "missing")) == {}


@given(tail=st.integers(1, 9), start=st.integers(0, 99), content=st.binary(max_size=20))
def test_a_segments_hash_is_of_its_place_too(tail, start, content):
    mine = growing.segment_hash(tail, start, content)
    assert mine == growing.segment_hash(tail, start, content)
    assert mine != growing.segment_hash(tail + 1, start, content)
    assert mine != growing.segment_hash(tail, start + 1, content)
    assert mine != growing.segment_hash(tail, start, content + b"x")


def test_the_facts_of_a_segment_are_those_of_a_file_with_its_bytes(tmp_path):
    for format_, content in (("csv", 'a,b\n1,"x\ny"\n2,é\n'.encode()), ("json", b'{"a": 1}\n{"a": 2}\n')):
        file = tmp_path / format_
        file.write_bytes(content)
        seen = landing.fingerprint(os.fsencode(file), formats=frozenset({format_}))
        assert growing.facts_of(content, format_) == seen.facts


def test_a_copy_is_kept_under_its_hash_until_it_is_released(tmp_path):
    spool = tmp_path / "tails"
    assert growing.kept(spool, "h") is None
    assert growing.names_kept(spool) == []
    growing.keep(spool, "h", b"n\n1\n")
    assert growing.kept(spool, "h") == b"n\n1\n"
    assert growing.names_kept(spool) == ["h"]
    growing.release(spool, "h")
    growing.release(spool, "h")
    assert growing.names_kept(spool) == []
