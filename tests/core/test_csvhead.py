import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import csvhead
from landingd.core.csvhead import Header, Unreadable

names = st.lists(
    st.text("abcdefgh_ ÄøЖ", min_size=1, max_size=8).map(str.strip).filter(bool),
    min_size=2,
    max_size=8,
    unique_by=str.casefold,
)


@given(names, st.sampled_from(csvhead.DELIMITERS), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.booleans())
def test_what_a_csv_writer_wrote_is_read_back(columns, delimiter, quoting, has_mark):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([columns, ["1"] * len(columns)])
    head = text.getvalue().encode("utf-8-sig" if has_mark else "utf-8")
    assert csvhead.read(head) == Header(tuple(columns), delimiter)


@given(st.binary(max_size=200), st.sampled_from([None, ",", ";"]))
def test_whatever_the_bytes_are_the_answer_is_a_header_that_can_be_used_or_a_reason(head, delimiter):
    answer = csvhead.read(head, delimiter=delimiter)
    if isinstance(answer, Unreadable):
        assert answer.reason
    else:
        folded = [name.casefold() for name in answer.columns]
        assert all(folded)
        assert len(set(folded)) == len(folded)
        assert csvhead.RESERVED.isdisjoint(folded)


@pytest.mark.parametrize(
    ("head", "columns", "delimiter"),
    [
        (b"a,b\n1,2\n", ("a", "b"), ","),
        (b"a;b\n1;2\n", ("a", "b"), ";"),
        (b"a\tb\n1\t2\n", ("a", "b"), "\t"),
        (b"a|b\n1|2\n", ("a", "b"), "|"),
        (b"a;b,c;d\n", ("a", "b,c", "d"), ";"),
        (b"\xef\xbb\xbfa,b\n", ("a", "b"), ","),
        (b'\xef\xbb\xbf"a",b\n', ("a", "b"), ","),
        (b"a,b\r\n1,2\r\n", ("a", "b"), ","),
        (b"a,b\r1,2\r", ("a", "b"), ","),
        (b"a,b", ("a", "b"), ","),
        (b"\n\na,b\n", ("a", "b"), ","),
        (b" a , b \n", ("a", "b"), ","),
        (b'"a,b",c\n', ("a,b", "c"), ","),
        (b'"a ""b""",c\n', ('a "b"', "c"), ","),
        (b'"two\nlines",b\n1,2\n', ("two\nlines", "b"), ","),
        (b"only\n1\n", ("only",), ","),
        ("größe,цена\n".encode(), ("größe", "цена"), ","),
    ],
)
def test_the_header_says_the_columns_and_what_parts_them(head, columns, delimiter):
    assert csvhead.read(head) == Header(columns, delimiter)


def test_of_several_readings_the_one_that_knows_most_names_wins():
    head = b"price,net;brand;comment,a,b,c\n"
    assert csvhead.read(head).delimiter == ","
    assert csvhead.read(head, known=["Brand", "Price,Net"]).delimiter == ";"


def test_a_header_whose_order_changed_is_still_known():
    assert csvhead.read(b"b;a\n", known=["a", "b"]) == Header(("b", "a"), ";")


def test_a_declared_delimiter_is_believed():
    assert csvhead.read(b"a,b;c\n", delimiter=";") == Header(("a,b", "c"), ";")
    assert csvhead.read(b"a^b\n", delimiter="^") == Header(("a", "b"), "^")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "empty"),
        (b"\n \r\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"a,b\0\n", "NUL"),
        ("a,b\n".encode("utf-16"), "NUL"),
        (b"PAR1\x15\x00\x15", "NUL"),
        (b"caf\xe9,b\n1,2\n", "byte 0xe9 at offset 3"),
        (b"a,b\n1,caf\xe9\n", "byte 0xe9 at offset 9"),
        (b"a,,c\n", "no name for column 2"),
        (b"a,b,\n", "no name for column 3"),
        (b"a, ,c\n", "no name for column 2"),
        (b"a,b,A\n", "'A' twice"),
        (b"a,a\n", "'a' twice"),
        (b"_file_id,b\n", "'_file_id'"),
        (b"a,_ROW\n", "'_ROW'"),
    ],
)
def test_what_cannot_be_read_says_why(head, reason):
    answer = csvhead.read(head)
    assert isinstance(answer, Unreadable)
    assert reason in answer.reason


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_character_that_the_samples_end_cuts_in_two_is_no_fault(cut):
    head = "a,b\n1,größe €\n2,€€€€".encode()
    assert csvhead.read(head[: len(head) - cut]) == Header(("a", "b"), ",")


def test_a_quote_that_is_never_closed_is_no_crash():
    """Whoever else reads CSV in this process may have raised the limit that is met here."""
    before = csv.field_size_limit(131_072)
    try:
        assert isinstance(csvhead.read(b'a,"' + b"x" * 500_000), Unreadable)
    finally:
        csv.field_size_limit(before)


# --- no header, other names, other quotes -----------------------------------------------------------------


@pytest.mark.parametrize("head", [b"1,2\n", b"2026-01-01;;3,5\n", b"17\n18\n", b'"1","-2.5"\n'])
def test_a_first_line_of_numbers_and_dates_is_no_header(head):
    answer = csvhead.read(head)
    assert isinstance(answer, Unreadable)
    assert answer.reason.startswith("no header: the first line looks like data")


def test_a_column_may_be_called_by_a_number_if_the_table_knows_it_or_another_has_a_name():
    assert csvhead.read(b"2025,2026\n1,2\n", known=["2025"]) == Header(("2025", "2026"), ",")
    assert csvhead.read(b"city,2025,2026\nx,1,2\n") == Header(("city", "2025", "2026"), ",")


@given(names, st.sampled_from(csvhead.DELIMITERS))
def test_without_a_header_the_number_of_fields_tells_the_delimiter(columns, delimiter):
    row = delimiter.join("1" for _ in columns).encode()
    assert csvhead.read_headless(row, columns) == Header(tuple(columns), delimiter)
    assert isinstance(csvhead.read_headless(row, [*columns, "one more"]), Unreadable)


def test_a_renamed_column_keeps_its_place():
    header = Header(("Datum", "x", "id"), ",")
    assert csvhead.renamed(header, {"datum": "day", "other": "y"}) == Header(("day", "x", "id"), ",")
    assert csvhead.renamed(header, {"ID": "id"}) == Header(("Datum", "x", "id"), ",")
    assert isinstance(csvhead.renamed(header, {"datum": "ID"}), Unreadable)


def test_the_header_is_parted_by_the_quotes_that_the_job_says():
    assert csvhead.read(b"'a,b',c\n", quote="'", escape="'") == Header(("a,b", "c"), ",")
    assert csvhead.read(b'"a\\"b",c\n', escape="\\") == Header(('a"b', "c"), ",")
