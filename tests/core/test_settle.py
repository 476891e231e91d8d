"""When is a file whole? The laws first, then one example for each sentence of the module's promise."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.settle import HELD_LOOK_MAX_S, Complete, Look, Wait, decide, ignored_reason, temporary_name
from landingd.model import Hint, Lease, Signature

NOW_S = 1000.0
FLOOR_S = 2.0


def look(hint=Hint.CLOSED, lease=Lease.FREE, size=7, unchanged_since_s=NOW_S):
    signature = Signature(size=size, mtime_ns=1, ctime_ns=1, inode=1, device=1)
    return Look(hint=hint, lease=lease, signature=signature, unchanged_since_s=unchanged_since_s)


def verdict(a_look, *, now_s=NOW_S, wait_s=0.0, quiet_floor_s=FLOOR_S):
    return decide(a_look, now_s=now_s, wait_s=wait_s, quiet_floor_s=quiet_floor_s)


seconds = st.floats(0, 1e6)
looks = st.builds(
    look,
    hint=st.sampled_from(Hint),
    lease=st.sampled_from(Lease),
    size=st.integers(0, 3),
    unchanged_since_s=seconds,
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
        (Hint.SCAN, Lease.FREE, "found by a scan, and no process has it open for writing"),
    ],
)
def test_proof_is_enough_without_any_wait(hint, lease, evidence):
    assert verdict(look(hint, lease)) == Complete(evidence)


@pytest.mark.parametrize("hint", [Hint.CLOSED, Hint.SCAN])
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
