"""What the one pass over a file tells besides its hash: records by the format's rules, and whether the end is there."""

import gzip
import json
import os
import re

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from landingd.edge.landing import Dialect, content, count_objects, fingerprint, first_cell_like, last_record, tail
from landingd.edge.landing.facts import Reading
from landingd.model import Facts

JSON = frozenset({"json"})
BOTH = frozenset({"csv", "json"})
PACK = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a"\\[]{},: \n\té')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"],'), inner, max_size=3),
    max_leaves=8,
)


def read(text, cuts=(), formats=JSON):
    reading, start = Reading(formats), 0
    for cut in [*sorted(cuts), len(text)]:
        reading.feed(text[start:cut])
        start = max(start, cut)
    return reading


def facts(text, *cuts, formats=frozenset({"csv"})):
    return read(text, cuts, formats).facts(is_text=True)


@pytest.fixture
def file(tmp_path):
    def write(text):
        (tmp_path / "f").write_bytes(text)
        return os.fsencode(tmp_path / "f")

    return write


# --- JSON -------------------------------------------------------------------------------------------------


@given(
    st.lists(values, max_size=6), st.sampled_from([None, 1]), st.booleans(), st.lists(st.integers(0, 300), max_size=9)
)
def test_elements_are_counted_as_a_json_reader_does_wherever_chunks_end(array, indent, is_ascii, cuts):
    text = b" " + json.dumps(array, indent=indent, ensure_ascii=is_ascii).encode() + b"\n"
    reading = read(text, cuts)
    assert (reading.facts(is_text=True).records, reading.cut()) == (len(array), None)


@given(st.lists(values, max_size=4), st.data())
def test_an_array_that_lost_its_end_is_seen_whatever_was_lost(array, data):
    text = json.dumps(array).encode()
    kept = data.draw(st.integers(1, len(text) - 1))
    cuts = data.draw(st.lists(st.integers(0, kept), max_size=4))
    assert read(text[:kept], cuts).cut() is not None


@given(
    st.lists(st.dictionaries(st.text(), values), min_size=1, max_size=6),
    st.sampled_from([b"\n", b"\r\n", b" \n\n \t\n"]),
)
def test_lines_of_objects_are_counted_whatever_their_strings_hold(objects, line_end):
    text = b"".join(json.dumps(each).encode() + line_end for each in objects)
    assert facts(text, 5, 9, formats=JSON).records == len(objects)
    assert facts(text.rstrip(), formats=JSON).records == len(objects)


def test_nesting_without_end_costs_no_time_without_end():
    assert "10000000 brackets" in read(b"[" * 10_000_000, range(0, 10_000_000, 1 << 18)).cut()
    assert read(b"[" + b"[[[[[[[[[[]]]]]]]]]]," * 100_000 + b"1]", range(0, 2_000_000, 1 << 18)).facts(
        is_text=True
    ).records == 100_001  # fmt: skip


def test_who_wants_both_formats_is_answered_by_the_first_character():
    assert facts(b'{"a": "\\""}\n{"a": 1}\n', formats=BOTH).records == 2
    assert facts(b'\xef\xbb\xbf[{"a": 1},\n{"a": 2}]', formats=BOTH).records == 2
    assert facts(b'a,b\n"x\ny",2\n', formats=BOTH).records == 2
    assert facts(b'\n\n {"a": 1}\n', 1, 2, formats=BOTH).records == 1


def test_who_wants_csv_only_has_no_end_of_an_array_to_wait_for():
    assert read(b"[Date],[Close]\n1,2\n[", formats=frozenset({"csv"})).cut() is None


@pytest.mark.parametrize("compression", PACK)
def test_objects_are_counted_again_the_same(file, compression):
    assert count_objects(file(PACK[compression](b'[{"a": 1}, {"a": [2, 3]}]')), compression) == 2
    assert count_objects(file(PACK[compression](b'{"a": 1}\n\n{"a": 2}')), compression) == 2


# --- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", Facts(0, utf8=True)),
        (b"a,b\n1,2\n", Facts(2, utf8=True)),
        (b"a,b\r1,2\r", Facts(2, utf8=True)),
        (b"a,b\n1,2", Facts(2, utf8=True, line_ended=False)),
        (b'a,b\n1,"2\n', Facts(2, utf8=True, quote_open=True)),
        (b"a,b\n1,4.4E+18\n", Facts(2, utf8=True, scientific=True)),
        (b"a,b\n1,4.4E-18 e+1\n", Facts(2, utf8=True)),
        ("größe\n€\n".encode(), Facts(2, utf8=True)),
        (b"gr\xf6\xdfe\n", Facts(1, utf8=False)),
        (b"a\n\xc3", Facts(2, utf8=False, line_ended=False)),
        (b"a\n\xed\xa0\x80\n", Facts(2, utf8=False)),
        (b"a\n\0\n", Facts(2, utf8=False)),
    ],
)
def test_facts_of_a_text_are_the_same_wherever_chunks_end(text, expected):
    assert facts(text) == expected
    assert facts(text, *range(len(text))) == expected
    assert facts(text, *range(0, len(text), 2)) == expected


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_utf8_is_what_decodes_as_utf8_and_holds_no_zeros(text, cuts):
    text = b"," + text
    try:
        is_utf8 = b"\0" not in text and text.decode("utf-8") is not None
    except UnicodeDecodeError:
        is_utf8 = False
    assert facts(text, *cuts).utf8 == is_utf8


def test_a_column_may_be_called_like_the_mark_of_parquet():
    for text in (b"PAR1,PAR2\n1,2\n", b"PAR1\n1\n", b"PAR12\n1\n"):
        assert facts(text) == facts(text, 2, 4, 5) == Facts(2, utf8=True)


def test_a_hole_of_zeros_behind_the_head_is_no_text(file):
    assert fingerprint(file(b"a,b\n" * 50_000 + bytes(4096))).facts.utf8 is False


# --- ends -------------------------------------------------------------------------------------------------

PARQUET = b"PAR1" + bytes(100) + (50).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("formats", [frozenset({"csv"}), frozenset({"parquet"})])
def test_parquet_is_whole_if_its_footer_is(file, compression, formats, monkeypatch):
    pack = PACK[compression]
    for chunk_bytes in (3, 1 << 18):
        monkeypatch.setattr(content, "CHUNK_BYTES", chunk_bytes)
        assert fingerprint(file(pack(PARQUET)), formats=formats).cut is None
        for end in (4, 5, 8, 50, -8, -4, -1):
            assert "Parquet file has no" in fingerprint(file(pack(PARQUET[:end])), formats=formats).cut
    whole = fingerprint(file(pack(PARQUET)), formats=formats)
    assert (whole.facts, whole.damage) == (Facts(), None)


def test_a_cut_stream_is_told_before_what_was_in_it(file):
    cut = fingerprint(file(gzip.compress(b'[{"a": 1}]' * 100)[:-9]), formats=JSON).cut
    assert cut == "the gzip stream ends early"


def test_what_was_altered_is_damage_and_will_not_end(file):
    packed = bytearray(gzip.compress(b'[{"a": 1}'))
    packed[-6] ^= 1  # of the checksum
    seen = fingerprint(file(bytes(packed)), formats=JSON)
    assert seen.damage.startswith("gzip stream is damaged")
    assert seen.cut is None


# --- row by row -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "fields", "is_open"),
    [
        (b"a,b\n1,2\n", 2, 2, False),
        (b"a,b\n1,2\n\n\n", 2, 2, False),
        (b"a,b\r\n1", 2, 1, False),
        (b'a,b\n"x\ny",2', 2, 2, False),
        (b'a,b\n"x\ny",2\n3,"z\n\n', 4, 2, True),
        (b'a,b\n1,"x', 2, 2, True),
        (b'a,b\n1,5"', 2, 2, False),
        (b"", 1, 0, False),
    ],
)
def test_the_last_record_is_found_where_it_begins(file, text, line, fields, is_open):
    for compression, pack in PACK.items():
        last = last_record(file(pack(text)), compression, Dialect(","))
        assert (last.line, last.fields, last.is_open) == (line, fields, is_open)


@pytest.mark.parametrize("compression", PACK)
def test_the_tail_is_the_end_of_the_content(file, compression):
    text = b"".join(b"%d\n" % n for n in range(50_000))
    assert tail(file(PACK[compression](text)), compression) == text[-(64 << 10) :]
    assert tail(file(PACK[compression](b"short")), compression) == b"short"


def test_a_cell_is_found_by_its_line_and_column(file):
    path = file(b'a,b\n"x\ny",1\n 4E+12 ,4E+11\n')
    pattern = re.compile(r"4E\+1\d")
    assert first_cell_like(path, "none", Dialect(","), pattern, holding="E+", but_columns=()).line == 4
    found = first_cell_like(path, "none", Dialect(","), pattern, holding="E+", but_columns={0})
    assert (found.line, found.column, found.text) == (4, 1, "4E+11")
    assert first_cell_like(path, "none", Dialect(","), pattern, holding="E+", but_columns={0, 1}) is None
