"""What may leave its directory after loading, when, and what it is called in the archive."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import cleanup
from landingd.core.cleanup import Kept, Version, Wish
from landingd.model import Cleanup, FileState

KEEP, ARCHIVE, DELETE = Cleanup.KEEP, Cleanup.ARCHIVE, Cleanup.DELETE
LOADED_S = 1000.0


def version(job="shop", **more):
    return Version(**{"job": job, "content_hash": "x", "state": FileState.LOADED, "since_s": LOADED_S} | more)


def due(*versions, now_s=LOADED_S, **wishes):
    return cleanup.due(versions, wishes, now_s)


def test_a_loaded_file_goes_where_its_trigger_says():
    for how in Cleanup:
        assert due(version(), shop=Wish(how)) is how


def test_a_file_stays_until_its_time_has_come():
    wish = Wish(ARCHIVE, after_s=60)
    assert due(version(), now_s=LOADED_S + 59.9, shop=wish) is KEEP
    assert due(version(), now_s=LOADED_S + 60, shop=wish) is ARCHIVE


@pytest.mark.parametrize("state", [s for s in FileState if s not in {FileState.LOADED, FileState.DUPLICATE}])
def test_what_is_neither_loaded_nor_a_duplicate_stays(state):
    assert due(version(state=state), shop=Wish(DELETE)) is KEEP


@pytest.mark.parametrize(
    "more", [{"busy": True}, {"lacking": frozenset({"bronze"})}, {"since_s": None}, {"retry_at_s": LOADED_S + 1}]
)
def test_a_file_that_somebody_may_still_need_stays(more):
    assert due(version(**more), shop=Wish(DELETE, tasks=frozenset({"bronze"}))) is KEEP


def test_a_task_that_is_not_in_the_job_any_more_is_not_waited_for():
    assert due(version(lacking=frozenset({"old"})), shop=Wish(DELETE, tasks=frozenset({"bronze"}))) is DELETE


def test_of_several_wishes_the_one_that_keeps_more_wins():
    for one, other in itertools.product(Cleanup, repeat=2):
        expected = next(how for how in (KEEP, ARCHIVE, DELETE) if how in (one, other))
        assert due(version("a"), version("b"), a=Wish(one), b=Wish(other)) is expected


def test_every_job_that_wants_the_path_has_to_be_done_with_it():
    wishes = {"a": Wish(ARCHIVE), "b": Wish(ARCHIVE, after_s=60)}
    assert due(version("a"), **wishes, now_s=2000) is KEEP
    assert due(version("a"), version("b", state=FileState.WAITING), **wishes, now_s=2000) is KEEP
    assert due(version("a"), version("b", content_hash="y"), **wishes, now_s=2000) is KEEP
    assert due(version("a"), version("b"), **wishes, now_s=LOADED_S + 59) is KEEP
    assert due(version("a"), version("b"), **wishes, now_s=2000) is ARCHIVE


def test_a_job_that_is_not_there_any_more_wishes_nothing_and_its_unfinished_business_keeps_the_file():
    assert due(version()) is KEEP
    assert due(version("a"), version("gone"), a=Wish(DELETE)) is DELETE
    assert due(version("a"), version("gone", state=FileState.WAITING), a=Wish(DELETE)) is KEEP


# --- retention ----------------------------------------------------------------------------------------------


def test_a_copy_is_kept_until_nobody_keeps_it():
    day = Kept(0.0, 86400.0)
    assert not cleanup.is_over([day], 86399)
    assert cleanup.is_over([day], 86400)
    assert not cleanup.is_over([day, Kept(0.0, 2 * 86400.0)], 86400)
    for keeper in (Kept(0.0, 0.0), Kept(0.0, None), Kept(0.0, 1.0, busy=True)):
        assert not cleanup.is_over([day, keeper], 1e9)
    assert not cleanup.is_over([], 1e9)


def test_tries_come_less_and_less_often_but_never_cease():
    waits = [cleanup.retry_at_s(failures, 0.0) for failures in (1, 2, 3, 10, 11, 10_000)]
    assert waits == [1, 2, 4, 512, 600, 600]


# --- names --------------------------------------------------------------------------------------------------

HASH = "0123456789abcdef" * 4


def name(path, *, job="shop", file_id=17):
    return cleanup.archive_name(job, path, loaded_s=1795234530.9, file_id=file_id, content_hash=HASH)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"in/a.csv", b"shop/in/a.20261121T041530Z.v17-01234567.csv"),
        (b"a.csv.gz", b"shop/a.20261121T041530Z.v17-01234567.csv.gz"),
        (b"in/x/y/data", b"shop/in/x/y/data.20261121T041530Z.v17-01234567"),
        (b"v1.2.final.json.zst", b"shop/v1.2.final.20261121T041530Z.v17-01234567.json.zst"),
        (b"odd. name with blanks", b"shop/odd. name with blanks.20261121T041530Z.v17-01234567"),
        (b"gr\xfc\xdfe.csv", b"shop/gr\xfc\xdfe.20261121T041530Z.v17-01234567.csv"),
        (b"line\nbreak.csv\n", b"shop/line\nbreak.csv\n.20261121T041530Z.v17-01234567"),
    ],
)
def test_an_archived_file_says_where_it_came_from_when_it_was_loaded_and_which_version_it_is(path, expected):
    assert name(path) == expected


def test_a_long_name_gives_way_but_not_within_a_character_and_never_the_suffix():
    cut = name("ä".encode() * 124 + b".csv.gz").rpartition(b"/")[2]
    assert 253 <= len(cut) <= 255
    assert cut.endswith(b".20261121T041530Z.v17-01234567.csv.gz")
    assert set(cut.decode().partition(".")[0]) == {"ä"}


names = st.binary(min_size=1, max_size=255).filter(lambda n: not set(n) & {0, 0x2F} and not n.startswith(b"."))


@given(st.lists(names, min_size=1, max_size=3), st.integers(1, 1 << 62))
def test_names_fit_differ_and_stay_below_the_job(components, file_id):
    first = name(b"/".join(components), file_id=file_id)
    tried = cleanup.other_names(first)
    assert tried[0] == first
    assert len(set(tried)) == len(tried)
    for each in tried:
        assert each.startswith(b"shop/")
        assert all(0 < len(part) <= 255 and part not in {b".", b".."} for part in each.split(b"/"))
        assert b".v%d-01234567" % file_id in each
