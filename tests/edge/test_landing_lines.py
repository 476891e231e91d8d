"""Where in its file a loaded row stands: told by walking the file, and held against DuckDB's own numbering."""

import gzip

import duckdb
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from landingd.edge.landing.lines import lines_of

EVERY = range(1, 100)


@pytest.fixture
def lines(tmp_path):
    def lines(content, rows=EVERY, rejected=(), *, compression="none", delimiter=",", **more):
        path = tmp_path / "file"
        path.write_bytes(content)
        return lines_of(str(path).encode(), compression, delimiter, rows, rejected, **more)

    return lines


def test_rows_follow_the_header_line_by_line(lines):
    assert lines(b"id,brand\n1,a\n2,b\n3,c\n") == {1: 2, 2: 3, 3: 4}


def test_a_file_without_a_header_begins_with_a_row(lines):
    assert lines(b"1,a\n2,b\n", header=False) == {1: 1, 2: 2}


def test_a_quoted_field_over_several_lines_moves_what_follows_and_its_row_begins_where_it_begins(lines):
    assert lines(b'id,brand\n1,"a\n""b""\n\nc"\n2,b\n') == {1: 2, 2: 6}


def test_a_header_may_take_several_lines(lines):
    assert lines(b'id,"two\nlines"\n1,a\n') == {1: 3}


def test_blank_lines_are_no_rows_and_count_as_lines(lines):
    assert lines(b"id,brand\n\n1,a\n\n\n2,b\n") == {1: 3, 2: 6}


def test_in_a_file_of_one_column_a_blank_line_is_a_row(lines):
    assert lines(b"id\n1\n\n2\n") == {1: 2, 2: 3, 3: 4}


def test_a_rejected_record_is_no_row(lines):
    assert lines(b'id,brand\n1,"a\nb"\nbad,x\n3,c\n', rejected=[3]) == {1: 2, 2: 5}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CR LF", "CR"])
def test_whatever_ends_a_line_it_is_one_line(lines, end):
    assert lines(end.join([b"id,brand", b'1,"a', b'b"', b"", b"2,b"])) == {1: 2, 2: 5}


@pytest.mark.parametrize(
    ("compression", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)]
)
def test_lines_of_a_compressed_file_are_those_of_its_text(lines, compression, pack):
    assert lines(pack(b'id,brand\n1,"a\nb"\n2,b\n'), compression=compression) == {1: 2, 2: 4}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "cp1252"])
def test_lines_do_not_depend_on_the_encoding(lines, encoding):
    assert lines('id;brand\n1;"é\ní"\n2;b\n'.encode(encoding), delimiter=";", encoding=encoding) == {1: 2, 2: 4}


def test_a_byte_order_mark_does_not_hide_the_quote_behind_it(lines):
    assert lines(b'\xef\xbb\xbf"i\nd",brand\n1,a\n') == {1: 3}


def test_other_quotes_hold_lines_together_too(lines):
    assert lines(b"id,brand\n1,'a\n\\'b'\n2,\"\n", quote="'", escape="\\") == {1: 2, 2: 4}


def test_bytes_that_are_no_text_are_walked_over(lines):
    assert lines(b"id,brand\n1,\xff\xfe\x00\n2,b\n") == {1: 2, 2: 3}


def test_only_the_rows_that_were_asked_for_and_that_exist_are_told(lines):
    assert lines(b"id,brand\n1,a\n2,b\n3,c\n", rows=[2, 7]) == {2: 3}
    assert lines(b"id,brand\n1,a\n", rows=[]) == {}


def test_nothing_is_read_behind_the_last_row_that_was_asked_for(lines):
    """A gzip stream that is cut off raises when its end is read, and here that is far away."""
    packed = gzip.compress(b"id,brand\n" + b"".join(b"%d,%x\n" % (n, hash((n, n))) for n in range(200_000)))
    cut = packed[: len(packed) // 2]
    assert lines(cut, rows=[1, 50], compression="gzip") == {1: 2, 50: 51}
    with pytest.raises(EOFError):
        lines(cut, rows=[200_000], compression="gzip")


FIELDS = st.sampled_from(["a", "", "x y", '"q"', '"two\nlines"', '"say ""hi"""', '",\n\n,"', "é"])
RECORDS = st.one_of(st.just(""), st.just("bad,x"), st.just("7,x,y"), st.tuples(st.integers(0, 9), FIELDS))


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORDS, max_size=12), st.sampled_from(["\n", "\r\n"]))
@example([(1, '"two\nlines"'), "bad,x", "", (2, "a")], "\n")
def test_every_row_that_duckdb_loads_stands_where_the_walk_says(tmp_path_factory, records, end):
    """The file is written record by record, so where each begins is known; who was rejected is DuckDB's word."""
    path = tmp_path_factory.mktemp("lines") / "f.csv"
    text, line, begins = f"id,brand{end}", 2, []
    for record in records:
        body = record if isinstance(record, str) else f"{record[0]},{record[1]}"
        if not isinstance(record, str):
            begins.append((record[0], line))
        text += body + end
        line += body.count("\n") + 1
    path.write_bytes(text.encode())
    with duckdb.connect(config={"threads": 1}) as db:
        ids = db.execute(
            f"SELECT id FROM read_csv('{path}', header=true, auto_detect=false, delim=',', quote='\"', escape='\"', "
            "columns={'id': 'BIGINT', 'brand': 'VARCHAR'}, strict_mode=true, store_rejects=true)"
        ).fetchall()
        rejected = [row[0] for row in db.execute("SELECT DISTINCT line FROM reject_errors").fetchall()]
    assert [row[0] for row in ids] == [record for record, _ in begins]
    found = lines_of(str(path).encode(), "none", ",", range(1, len(ids) + 1), rejected)
    assert found == {row: line for row, (_, line) in enumerate(begins, 1)}
