import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import csvhead, misread
from landingd.core.csvhead import Header


def wrong(text, **more):
    header = csvhead.read(text.encode(), delimiter=more.pop("delimiter", None))
    assert isinstance(header, Header)
    return misread.wrong_delimiter(text, header, **({"declared": False} | more))


# --- formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["csv", "json", "parquet"])
def test_a_file_in_the_wanted_format_is_never_refused_for_its_format(wanted):
    heads = {"csv": b"a,b\n1,2\n", "json": b'{"a": 1}\n', "parquet": b"PAR1\x15\x04"}
    assert {name: misread.not_the_format(head, wanted) is None for name, head in heads.items()} == {
        name: name == wanted for name in heads
    }


@given(st.binary(max_size=300), st.sampled_from(["csv", "json", "parquet"]))
def test_any_bytes_are_judged_without_a_crash(head, wanted):
    answer = misread.not_the_format(head, wanted)
    assert answer is None or answer.startswith("not ")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_objects_and_arrays_of_objects_are_known_as_json(value):
    for whole in ({"a": value}, [{"a": value}]):
        head = json.dumps(whole).encode()
        assert misread.not_the_format(head, "json") is None
        assert "it is JSON" in misread.not_the_format(head, "csv")
        assert misread.not_json_rows(head, is_whole=True) is None


@pytest.mark.parametrize(
    "head", [b"[Date],[Close]\n", b"{id},name\n", b"<DATE>,<OPEN>\n", b"BZh,ORC,PK\n", b"version,id\n", b"PAR1,PAR2\n"]
)
def test_odd_names_in_a_header_make_no_other_format_of_it(head):
    assert misread.not_the_format(head, "csv") is None


# --- delimiters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [":", "^", "~", "\x1f", "\x01"])
def test_unusual_delimiters_are_found_where_they_part_every_line(delimiter):
    text = delimiter.join("abc") + "\n" + (delimiter.join("123") + "\n") * 5
    assert "parts every one into 3 fields" in wrong(text)
    assert wrong(text + "a line without any\n") is None


@pytest.mark.parametrize("delimiter", csvhead.DELIMITERS)
def test_a_delimiter_that_parts_the_lines_is_not_doubted(delimiter):
    text = delimiter.join(["a:x", "b"]) + "\n" + delimiter.join(["1:2", "3"]) + "\n"
    assert wrong(text) is None
    assert wrong(text, delimiter=delimiter, declared=True) is None


@pytest.mark.parametrize(
    "text",
    ["note\nhello, world\n", "time\n10:00\n11:30\n", "path\nC:\\x\n", "a\n\n1\n", '"a:b"\n"c:d"\n', "a:b\n"],
)
def test_a_single_column_may_hold_anything(text):
    assert wrong(text) is None


# --- headers ----------------------------------------------------------------------------------------------


def test_one_known_name_makes_a_header():
    assert misread.strange_header(["x", "ID"], "bronze.t", ["id", "brand", "_file_id"]) is None
    assert misread.strange_header(["x", "y"], "bronze.t", []) is None


def test_the_names_that_landingd_adds_make_no_header_known():
    assert "none of its columns" in misread.strange_header(["x"], "bronze.t", ["id", "_file_id", "_row"])


@pytest.mark.parametrize(
    "cell", ["1", "-2.50", "1,204.5", "2026-11-21", "21.11.2026", "2026-11-21T05:00:00Z", "05:30", "12 %"]
)
def test_numbers_and_dates_are_data(cell):
    assert csvhead.looks_like_data(cell)


@pytest.mark.parametrize("cell", ["id", "q1", "2nd", "price_2026", "", "A-1", "1a2b", "col 1"])
def test_names_are_not(cell):
    assert not csvhead.looks_like_data(cell)


# --- rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["4.4E+18", "-4.4E+18", "4E+12", "1.23457E+11", "9,99999E+99"])
def test_what_a_spreadsheet_makes_of_long_numbers_is_known(cell):
    assert misread.MANGLED.fullmatch(cell)


@pytest.mark.parametrize(
    "cell", ["4.4e+18", "4.4E+10", "4.4E+02", "4.4E-18", "4.412345E+18", "44E+18", "4.4E+180", "E+18"]
)
def test_what_programs_write_is_not(cell):
    assert not misread.MANGLED.fullmatch(cell)


def test_columns_declared_for_large_numbers_keep_them():
    hints = {"A": "double", "b": "DECIMAL(38,2)", "c": "BIGINT", "d": "FLOAT"}
    assert misread.keeping_exponents(["a", "b", "c", "d", "e"], hints) == {0, 1, 3}


@given(st.lists(st.text("ab1 ", max_size=4), min_size=2, max_size=6), st.integers(1, 5))
def test_a_last_line_is_torn_if_fields_are_missing(cells, lost):
    whole, part = ";".join(cells), ";".join(cells[: max(1, len(cells) - lost)])
    assert misread.may_be_torn(whole, len(cells), ";") is False
    assert misread.may_be_torn(part, len(cells), ";") is True
    assert misread.may_be_torn(part + '"', len(cells), ";") is None


@pytest.mark.parametrize(
    ("head", "is_whole", "reason"),
    [
        (b'{\n "a": 1\n}\n', True, "one object over several lines"),
        (b'{"a": 1,\n "b": 2}\n', True, "one object over several lines"),
        (b'{\n "a": 1,', False, "one object over several lines"),
        (b'{"a": 1', False, None),
        (b'{"a": }\n{"a": 1}\n', True, None),
        (b"[[1]]", True, "does not hold objects"),
        (b"[ \n", False, None),
        (b'{"a":' * 100_000 + b"\n", False, None),
    ],
)
def test_json_has_to_be_rows(head, is_whole, reason):
    answer = misread.not_json_rows(head, is_whole=is_whole)
    assert answer is None if reason is None else reason in answer
