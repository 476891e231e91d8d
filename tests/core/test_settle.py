"""When is a file whole? The laws first, then one example for each sentence of the module's promise."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.settle import (
    HELD_LOOK_MAX_S,
    ON_AN_EVENT,
    Complete,
    Look,
    Wait,
    Word,
    decide,
    ignored_reason,
    is_reopened,
    last_change_s,
    marker_of,
    marks,
    standing_hint,
    temporary_name,
    unfit,
    word_of_marker,
)
from landingd.model import Hint, Lease, Signature

NOW_S = 1000.0
FLOOR_S = 2.0


MARKED = (Word("marker a.csv.done"),)


def signature(size=7, mtime_ns=1, ctime_ns=1, inode=1):
    return Signature(size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns, inode=inode, device=1)


def look(hint=Hint.CLOSED, lease=Lease.FREE, size=7, unchanged_since_s=NOW_S, words=()):
    return Look(hint, lease, signature(size), unchanged_since_s, words, is_vouched=bool(words))


def verdict(a_look, *, now_s=NOW_S, wait_s=0.0, quiet_floor_s=FLOOR_S, reopened_quiet_s=0.0):
    return decide(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=quiet_floor_s, reopened_quiet_s=reopened_quiet_s)


seconds = st.floats(0, 1e6)
looks = st.builds(
    look,
    hint=st.sampled_from(Hint),
    lease=st.sampled_from(Lease),
    size=st.integers(0, 3),
    unchanged_since_s=seconds,
    words=st.sampled_from([(), MARKED]),
)
loose_looks = looks.filter(lambda a_look: a_look.lease is not Lease.HELD)


# --- laws -------------------------------------------------------------------------------------------------


@given(looks, seconds, seconds, seconds)
def test_a_file_that_is_held_is_never_complete(a_look, now_s, wait_s, floor_s):
    held = replace(a_look, lease=Lease.HELD)
    assert isinstance(verdict(held, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s), Wait)


@given(looks, seconds, seconds, seconds, seconds)
def test_what_is_complete_stays_complete_while_nothing_changes(a_look, now_s, later_s, wait_s, floor_s):
    if isinstance(verdict(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s), Complete):
        later = verdict(a_look, now_s=now_s + later_s, wait_s=wait_s, quiet_floor_s=floor_s)
        assert isinstance(later, Complete)


@given(looks, seconds, seconds, seconds, seconds)
def test_what_is_complete_under_a_long_wait_is_complete_under_a_shorter_one(a_look, now_s, wait_s, more_s, floor_s):
    if isinstance(verdict(a_look, now_s=now_s, wait_s=wait_s + more_s, quiet_floor_s=floor_s), Complete):
        assert isinstance(verdict(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s), Complete)


@given(looks, seconds, seconds, seconds)
def test_a_wait_ends_in_the_future(a_look, now_s, wait_s, floor_s):
    decided = verdict(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s)
    assert isinstance(decided, Complete) or decided.until_s > now_s


@given(loose_looks, seconds, seconds, seconds)
def test_one_look_at_the_end_of_the_wait_is_enough(a_look, now_s, wait_s, floor_s):
    decided = verdict(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s)
    if isinstance(decided, Wait):
        last = verdict(a_look, now_s=decided.until_s, wait_s=wait_s, quiet_floor_s=floor_s)
        assert isinstance(last, Complete)


@given(looks, seconds, seconds, seconds)
def test_nothing_is_complete_before_the_triggers_wait_is_over(a_look, idle_s, wait_s, floor_s):
    now_s = a_look.unchanged_since_s + idle_s
    if isinstance(verdict(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s), Complete):
        assert now_s >= a_look.unchanged_since_s + wait_s


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_held_file_is_looked_at_less_and_less_often_but_for_ever(idle_s, more_s):
    held = look(lease=Lease.HELD, unchanged_since_s=0.0)
    gap_s = verdict(held, now_s=idle_s).until_s - idle_s
    later_gap_s = verdict(held, now_s=idle_s + more_s).until_s - (idle_s + more_s)
    assert gap_s <= later_gap_s + 1e-6
    assert later_gap_s <= HELD_LOOK_MAX_S + 1e-6


@given(st.binary(min_size=1), st.booleans())
def test_any_name_gets_an_answer(path, recursive):
    assert ignored_reason(path, pattern="[a-z]*", exclude=("*?",), recursive=recursive) is not None


# --- examples ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "lease", "evidence"),
    [
        (Hint.MOVED, Lease.FREE, "moved into place"),
        (Hint.MOVED, Lease.UNKNOWN, "moved into place"),
        (Hint.CLOSED, Lease.FREE, "closed, and no process has it open for writing"),
        (Hint.CREATED, Lease.FREE, "created, and no process has it open for writing"),
        (Hint.SCAN, Lease.FREE, "found by a scan, and no process has it open for writing"),
    ],
)
def test_proof_is_enough_without_any_wait(hint, lease, evidence):
    assert verdict(look(hint, lease)) == Complete(evidence)


@pytest.mark.parametrize("hint", [Hint.CLOSED, Hint.CREATED, Hint.SCAN])
def test_where_writers_cannot_be_seen_silence_stands_in_for_proof(hint):
    a_look = look(hint, Lease.UNKNOWN)
    assert verdict(a_look, now_s=NOW_S + 0.5) == Wait("changed 0.5 s ago, to be quiet for 2 s", NOW_S + FLOOR_S)
    assert verdict(a_look, now_s=NOW_S + 2.0) == Complete("unchanged for 2.0 s; writers cannot be seen here")


def test_the_triggers_wait_is_kept_whatever_else_is_proven():
    moved = look(Hint.MOVED)
    assert verdict(moved, now_s=NOW_S + 59, wait_s=60) == Wait("changed 59.0 s ago, to be quiet for 60 s", NOW_S + 60)
    assert verdict(moved, now_s=NOW_S + 60, wait_s=60) == Complete("moved into place; unchanged for 60.0 s")


def test_a_file_moved_into_place_by_someone_who_still_writes_to_it_waits():
    assert verdict(look(Hint.MOVED, Lease.HELD)) == Wait("a process has it open for writing", NOW_S + 0.25)


@pytest.mark.parametrize("hint", [Hint.CLOSED, Hint.SCAN])
def test_an_empty_file_is_given_time_to_be_written(hint):
    empty = look(hint, size=0)
    assert isinstance(verdict(empty), Wait)
    assert isinstance(verdict(empty, now_s=NOW_S + FLOOR_S), Complete)


def test_an_empty_file_that_was_moved_into_place_is_meant_to_be_empty():
    assert isinstance(verdict(look(Hint.MOVED, size=0)), Complete)


def test_a_clock_that_went_back_makes_nobody_complete_early():
    assert isinstance(verdict(look(Hint.SCAN, Lease.UNKNOWN), now_s=NOW_S - 3600), Wait)


@pytest.mark.parametrize("now", [Hint.SCAN, Hint.CREATED])
@pytest.mark.parametrize("before", [Hint.MOVED, Hint.CLOSED])
def test_looking_again_at_an_unchanged_file_forgets_no_event(now, before):
    assert standing_hint(now, before) is before
    assert standing_hint(before, now) is before
    assert standing_hint(now, None) is now


# --- producers that open a file several times -------------------------------------------------------------


@given(looks, seconds, seconds, seconds, seconds)
def test_learned_silence_makes_nobody_complete_earlier(a_look, now_s, wait_s, floor_s, learned_s):
    learned = verdict(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s, reopened_quiet_s=learned_s)
    if isinstance(learned, Complete):
        assert isinstance(verdict(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=floor_s), Complete)


def test_where_files_were_opened_again_a_close_is_no_proof_and_silence_is_asked_for_too():
    closed = look(Hint.CLOSED)
    early = verdict(closed, now_s=NOW_S + 4, reopened_quiet_s=5)
    assert early == Wait(
        "changed 4.0 s ago, to be quiet for 5 s, since files here were opened again after they were closed", NOW_S + 5
    )
    assert verdict(closed, now_s=NOW_S + 5, reopened_quiet_s=5) == Complete(
        "closed, and no process has it open for writing; "
        "unchanged for 5.0 s, since files here were opened again after they were closed"
    )


@pytest.mark.parametrize("a_look", [look(Hint.MOVED), look(Hint.CLOSED, words=MARKED)], ids=["moved", "marked"])
def test_better_proof_than_a_close_needs_no_learned_silence(a_look):
    assert isinstance(verdict(a_look, reopened_quiet_s=5), Complete)


def test_only_the_same_file_that_grew_soon_may_have_been_opened_again():
    old, grown = signature(size=7), signature(size=9)
    assert is_reopened(old, grown, gap_s=2)
    assert not is_reopened(old, grown, gap_s=3600)
    assert not is_reopened(old, signature(size=9, inode=2), gap_s=2)
    assert not is_reopened(old, signature(size=7), gap_s=2)
    assert not is_reopened(signature(size=0), grown, gap_s=2)


# --- content that is not whole ------------------------------------------------------------------------------


def test_a_file_whose_end_is_missing_is_waited_for_since_its_last_change():
    assert unfit("cut", changed_s=100, incomplete_after_s=300, now_s=399) == Wait("cut", 400)
    assert unfit("cut", changed_s=100, incomplete_after_s=300, now_s=400) is None


def test_the_last_change_is_the_files_own_unless_its_clock_is_ahead():
    changed = signature(ctime_ns=100_000_000_000)
    assert last_change_s(changed, unchanged_since_s=500) == 100
    assert last_change_s(changed, unchanged_since_s=50) == 50


# --- markers ------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1).filter(lambda name: b"/" not in name))
def test_a_marker_tells_which_file_it_marks(name):
    for template in ("{name}.done", "done-{name}", "{name}.{name}.ok", "({name})"):
        assert marks(template, marker_of(template, name)) == name


@pytest.mark.parametrize(
    ("template", "marker", "marked"),
    [
        ("_SUCCESS", b"_SUCCESS", b""),
        ("_SUCCESS", b"_SUCCESS2", None),
        ("{name}.done", b"a.csv", None),
        ("{name}.done", b".done", None),
        ("{name}.done", b"a.csvxdone", None),
        ("{name}.{name}", b"a.b", None),
        ("{name}.done", b"two\nlines.csv.done", b"two\nlines.csv"),
        ("caf\udce9", b"caf\xe9", b""),
    ],
)
def test_a_name_is_a_marker_or_it_is_not(template, marker, marked):
    assert marks(template, marker) == marked


def test_a_marker_that_is_missing_or_older_is_waited_for_until_something_happens():
    file = signature(mtime_ns=5, ctime_ns=5)
    assert word_of_marker("a.done", None, file) == Wait("waiting for its marker a.done", ON_AN_EVENT)
    old = signature(mtime_ns=4, ctime_ns=4)
    assert word_of_marker("a.done", old, file) == Wait("marker a.done is older than the file", ON_AN_EVENT)


@pytest.mark.parametrize(("mtime_ns", "ctime_ns"), [(5, 5), (5, 1), (1, 5), (9, 9)])
def test_a_marker_from_the_same_moment_or_later_by_either_time_is_the_producers_word(mtime_ns, ctime_ns):
    word = word_of_marker("a.done", signature(mtime_ns=mtime_ns, ctime_ns=ctime_ns), signature(mtime_ns=5, ctime_ns=5))
    assert word == Word("marker a.done")


@pytest.mark.parametrize("hint", list(Hint))
@pytest.mark.parametrize("size", [0, 7])
def test_with_the_producers_word_no_silence_is_asked_for(hint, size):
    assert verdict(look(hint, size=size, words=MARKED)) == Complete(
        "marker a.csv.done, and no process has it open for writing"
    )
    assert verdict(look(hint, Lease.UNKNOWN, size=size, words=MARKED)) == Complete(
        "marker a.csv.done; writers cannot be seen here"
    )


def test_a_word_that_is_not_final_is_said_beside_the_usual_proof():
    listed = replace(look(Hint.CLOSED, words=(Word("listed in m.txt", is_final=False),)), is_vouched=False)
    assert verdict(listed) == Complete("listed in m.txt; closed, and no process has it open for writing")


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b".a.csv.Xk3dQ1",
        b".hidden",
        b"~a.csv",
        b"a.csv~",
        b"a.tmp",
        b"A.TMP",
        b"a.csv.part",
        b"a.filepart",
        b"a.Partial",
        b"a.crdownload",
    ],
)
def test_a_name_that_says_not_yet_is_temporary(name):
    assert temporary_name(name)


@pytest.mark.parametrize("name", [b"a.csv", b"a.tmp.csv", b"part", b"a~b", b"\xe9t\xe9.csv"])
def test_a_final_name_is_not_temporary(name):
    assert not temporary_name(name)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (b"a.csv", None),
        (b"2019/10/a.csv", None),
        (b"caf\xe9.csv", None),
        (b"two\nlines.csv", None),
        (b"a.csv.tmp", "temporary name"),
        (b".~tmp~/a.csv", "in a hidden directory"),
        (b"2019/.snapshot/a.csv", "in a hidden directory"),
        (b"a.CSV", "matches no pattern"),
        (b"2019.csv/a.txt", "matches no pattern"),
        (b"a.bak.csv", "excluded by '*.bak.csv'"),
    ],
)
def test_a_trigger_says_why_it_does_not_look_at_a_file(path, reason):
    assert ignored_reason(path, pattern="*.csv", exclude=("x*", "*.bak.csv"), recursive=True) == reason


def test_without_recursive_only_the_directory_itself_counts():
    given_paths = {path: ignored_reason(path, pattern="*", exclude=(), recursive=False) for path in (b"a", b"b/a")}
    assert given_paths == {b"a": None, b"b/a": "in a subdirectory and recursive is off"}
