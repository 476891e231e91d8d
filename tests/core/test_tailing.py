"""What a look at a growing file means, and which of its bytes are whole records."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import tailing
from landingd.core.tailing import Change, Cut, Seen
from landingd.model import (
    Cleanup,
    Continuous,
    FileArrival,
    Ingest,
    Job,
    OnDelete,
    Place,
    Tail,
    TailState,
    Task,
    Trigger,
)

TAIL = Tail(1, "logs", b"in/app.log", device=1, inode=7, head="h", head_bytes=10, header=b"n,t\n", offset=100)
NEW = Tail(2, "logs", b"in/app.log", device=1, inode=7)
CSV = Ingest(tail=True)
JSON = Ingest(format="json", tail=True)


def tailing_job(*ingests: Ingest) -> Job:
    tasks = tuple(Task(f"t{n}", Place("job.yml", 1), ingest=each, table="b.t") for n, each in enumerate(ingests))
    return Job("logs", Place("job.yml", 1), tasks, triggers=(Trigger(FileArrival("in")),))


# --- what became of it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "means"),
    [
        (None, Change.VANISHED),
        (Seen(7, 100), Change.NONE),
        (Seen(7, 101), Change.GROWN),
        (Seen(7, 99), Change.TRUNCATED),
        (Seen(7, 0), Change.TRUNCATED),
        (Seen(7, 200, begins_alike=False), Change.TRUNCATED),
        (Seen(8, 200), Change.REPLACED),
        (Seen(8, 0), Change.REPLACED),
    ],
)
def test_inode_size_and_beginning_tell_what_became_of_a_file(seen, means):
    assert tailing.change(TAIL, seen) is means


@given(inode=st.integers(1, 9), size=st.integers(0, 300), alike=st.booleans())
def test_bytes_are_only_read_on_from_the_offset_of_the_file_that_they_were_read_from(inode, size, alike):
    seen = Seen(inode, size, alike)
    if tailing.change(TAIL, seen) in {Change.NONE, Change.GROWN}:
        assert (inode, alike, size >= TAIL.offset) == (TAIL.inode, True, True)
        assert tailing.may_be(TAIL, seen)


def test_only_what_begins_alike_and_is_as_long_may_hold_what_was_read():
    assert tailing.may_be(TAIL, Seen(99, 100))
    assert not tailing.may_be(TAIL, Seen(99, 99))
    assert not tailing.may_be(TAIL, Seen(99, 100, begins_alike=False))


# --- whose paths --------------------------------------------------------------------------------------------


def test_a_path_is_tailed_where_an_ingest_task_that_takes_it_says_so():
    job = tailing_job(Ingest(pattern="*.csv"), Ingest(pattern="*.log*", tail=True))
    assert tailing.tailed_by(b"in/a.log", ("t1",), job) == job.tasks[1].ingest
    assert tailing.tailed_by(b"in/a.csv", ("t0",), job) is None
    assert tailing.tailed_by(b"in/a.log", (), job) is None
    assert tailing.is_tailed(b"in/a.log.1", job)
    assert not tailing.is_tailed(b"in/a.csv", job)
    assert tailing.has_tails(job)
    assert not tailing.has_tails(tailing_job(Ingest()))


@pytest.mark.parametrize("name", [b"a.log.gz", b"a.log.2.GZ", b"a.log.zst", b"a.log.xz"])
def test_a_packed_file_is_not_tailed_and_may_be_a_log_that_was(name):
    job = tailing_job(CSV)
    assert tailing.tailed_by(b"in/" + name, ("t0",), job) is None
    assert tailing.may_be_packed_log(b"in/" + name, ("t0",), job)
    assert not tailing.may_be_packed_log(b"in/a.log", ("t0",), job)


@pytest.mark.parametrize(
    ("arrival", "says"),
    [
        (FileArrival("in", marker="{name}.done"), "never complete"),
        (FileArrival("in", manifest="*.manifest"), "never complete"),
        (FileArrival("in", cleanup=Cleanup.ARCHIVE), "cleanup: archive"),
        (FileArrival("in", on_delete=OnDelete.RETRACT), "on_delete: retract"),
        (FileArrival("in", wait_after_last_change_s=5.0), "a silence that may never come"),
        (Continuous(FileArrival("in", cleanup=Cleanup.DELETE)), "cleanup: delete"),
    ],
)
def test_what_cannot_be_had_of_a_growing_file_is_refused(arrival, says):
    tailing_it = replace(tailing_job(CSV), triggers=(Trigger(arrival),))
    (problem,) = tailing.problems(tailing_it)
    assert says in problem.what
    assert tailing.problems(replace(tailing_job(Ingest()), triggers=(Trigger(arrival),))) == []


def test_lines_of_utf_16_are_refused_and_all_others_are_fine():
    assert [p.line for p in tailing.problems(tailing_job(Ingest(tail=True, encoding="utf-16")))] == [1]
    assert tailing.problems(tailing_job(CSV)) == []


# --- lines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"", 0),
        (b"1,a", 0),
        (b"1,a\n", 4),
        (b"1,a\n2", 4),
        (b'1,"a\n', 0),
        (b'1,"a\nb"\n', 8),
        (b'0,x\n1,"a\nb\n', 4),
        (b'0,"x"\n1,"a\nb\nc', 6),
        (b'1,"a ""b""\n"\n2,c\n', 17),
        (b"1,a\r\n2", 5),
    ],
)
def test_a_record_is_whole_when_its_line_has_ended_outside_of_quotes(data, whole):
    assert tailing.whole_records(data, b'"') == whole


def test_a_quote_that_is_escaped_opens_and_closes_nothing():
    assert tailing.whole_records(b'1,"a \\" b"\n2,c\n', b'"', b"\\") == 15
    assert tailing.whole_records(b'1,5" pipe\n2\n') == 12


CELLS = st.text(alphabet='ab,"\n x', max_size=6)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=6)


def written(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


@given(rows=ROWS, cuts=st.lists(st.integers(0, 200), max_size=5))
def test_however_a_file_grows_its_segments_are_whole_records_and_together_all_of_it(rows, cuts):
    data = written(rows)
    taken, offset = [], 0
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        size = tailing.whole_records(data[offset:end], b'"')
        taken.append(data[offset : offset + size])
        offset += size
    assert b"".join(taken) == data
    parsed = [row for piece in taken for row in csv.reader(io.StringIO(piece.decode(), newline=""))]
    assert parsed == list(csv.reader(io.StringIO(data.decode(), newline="")))


@given(rows=ROWS.filter(bool))
def test_the_first_record_is_the_first_that_a_csv_reader_finds(rows):
    data = written(rows)
    first = data[: tailing.first_record(data, b'"')]
    assert (
        list(csv.reader(io.StringIO(first.decode(), newline="")))
        == list(csv.reader(io.StringIO(data.decode(), newline="")))[:1]
    )
    assert tailing.first_record(first[:-1], b'"') == 0


# --- what is taken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "data", "ingest", "taken"),
    [
        (NEW, b"n,t\n1,a\n2", CSV, Cut(4, 8, b"n,t\n")),
        (NEW, b"n,t\n", CSV, Cut(4, 4, b"n,t\n")),
        (NEW, b"n,t", CSV, Cut(0, 0, None)),
        (TAIL, b"1,a\n2,b\n3", CSV, Cut(0, 8, b"n,t\n")),
        (NEW, b'{"n": 1}\n{"n"', JSON, Cut(0, 9, None)),
        (NEW, b"1,a\n2,b\n", Ingest(tail=True, header=False), Cut(0, 8, None)),
        (NEW, b"\0\0\0n,t\n1,a\n", CSV, Cut(7, 11, b"n,t\n")),
    ],
)
def test_the_header_is_kept_and_whole_lines_are_taken(tail, data, ingest, taken):
    assert tailing.cut(tail, data, ingest) == taken


def test_at_the_end_of_a_file_the_rest_is_a_line_too():
    assert tailing.cut(TAIL, b"1,a\n2,b", CSV, is_last=True) == Cut(0, 7, b"n,t\n")
    assert tailing.cut(TAIL, b"2,b", CSV) == Cut(0, 0, b"n,t\n")


def test_a_quote_that_is_taken_for_a_stray_one_holds_nothing_up():
    assert tailing.cut(TAIL, b'1,5" pipe\n2', CSV) == Cut(0, 0, b"n,t\n")
    assert tailing.cut(TAIL, b'1,5" pipe\n2', CSV, takes_stray_quotes=True) == Cut(0, 10, b"n,t\n")


@pytest.mark.parametrize(
    ("first", "header", "is_here"),
    [
        (b"n,t\n", b"n,t\n", True),
        (b"n,t,more\n", b"n,t,more\n", True),
        (b"T,n\n", b"T,n\n", True),
        (b"other,names,here\n", b"other,names,here\n", True),
        (b"1,2026-01-01\n", b"n,t\n", False),
        (b"ada,berlin\n", b"n,t\n", False),
        (b"17,ada\n", b"n,t\n", False),
    ],
)
def test_who_writes_on_after_a_truncation_without_a_header_means_the_one_before(first, header, is_here):
    assert tailing.header_of(first, b"n,t\n", CSV) == (header, is_here)
    assert tailing.header_of(first, None, CSV) == (first, True)


# --- when -----------------------------------------------------------------------------------------------------


def test_a_file_that_rests_is_looked_at_less_often():
    assert tailing.look_again_s(now_s=100.0, grew_s=99.0) == tailing.LOOK_EVERY_S
    assert tailing.look_again_s(now_s=200.0, grew_s=99.0) == tailing.LOOK_IDLE_S


@given(waiting=st.integers(0, 10_000))
def test_the_more_segments_wait_the_larger_are_the_next_ones(waiting):
    assert tailing.GATHER_S <= tailing.gather_s(waiting) <= tailing.gather_s(waiting + 1) <= tailing.GATHER_MAX_S


def test_a_rotated_file_is_over_when_nobody_can_write_to_it_any_more():
    rotated = TailState.ROTATED
    assert not tailing.is_over(rotated, rested_s=1.0, has_writer=False)
    assert tailing.is_over(rotated, rested_s=tailing.FINISHED_AFTER_S, has_writer=False)
    assert not tailing.is_over(rotated, rested_s=10.0, has_writer=None)
    assert tailing.is_over(rotated, rested_s=tailing.FINISHED_UNPROVEN_S, has_writer=None)
    assert not tailing.is_over(rotated, rested_s=1e6, has_writer=True)
    assert not tailing.is_over(TailState.GROWING, rested_s=1e6, has_writer=False)
