"""A path counts once, or is in doubt; what is in doubt never adds up."""

from hypothesis import given
from hypothesis import strategies as st

from landingd.core.census import (
    COUNTED,
    Doubt,
    Entry,
    Finding,
    Sight,
    TableRows,
    Tailed,
    Tally,
    innermost,
    judge,
    report,
)
from landingd.core.census import Discrepancy as Told
from landingd.core.census import rows_differing as differing
from landingd.model import FileState, Signature

OLD = Signature(10, 1, 2, 3, 4)
NEW = Signature(11, 5, 6, 3, 4)
HERE = [FileState.LOADED, FileState.WAITING, FileState.DUPLICATE, FileState.QUARANTINED, FileState.RETRACTED]

entries = st.builds(
    Entry,
    file_id=st.integers(1, 99),
    state=st.sampled_from(HERE),
    is_complete=st.just(True),
    signature=st.sampled_from([OLD, NEW]),
    seen_s=st.floats(0, 1e9),
    is_cleaned=st.booleans(),
)
partials = st.builds(
    Entry,
    file_id=st.integers(100, 199),
    state=st.just(FileState.WAITING),
    is_complete=st.just(False),
    signature=st.just(OLD),
    seen_s=st.floats(0, 1e9),
)
sights = st.builds(
    Sight,
    path=st.binary(min_size=1),
    on_disk=st.sampled_from([None, OLD, NEW]),
    entries=st.builds(
        lambda complete, partial: (*complete, *partial),
        st.lists(entries, max_size=1),
        st.lists(partials, max_size=1),
    ),
    ignored=st.sampled_from([None, "temporary name"]),
    at_work=st.booleans(),
)


def entry(state=FileState.LOADED, **more):
    return Entry(**({"file_id": 7, "state": state, "is_complete": True, "signature": OLD, "seen_s": 5.0} | more))


def seen(on_disk=OLD, *known, **more):
    return Sight(b"in/a.csv", on_disk, known, **more)


@given(sights)
def test_what_is_on_disk_counts_as_one_thing_or_is_unaccounted_and_what_is_not_never_counts(sight):
    found = judge(sight)
    if sight.on_disk is None:
        assert found.counts is None
        assert found.doubt in {None, Doubt.MISSING}
    else:
        assert (found.counts is None) != (found.doubt is None)
        assert found.counts in {None, *COUNTED}


@given(st.lists(sights))
def test_it_adds_up_exactly_where_nothing_is_in_doubt(looked_at):
    tally = Tally("shop", "in", on_disk=sum(sight.on_disk is not None for sight in looked_at))
    findings = [judge(sight) for sight in looked_at]
    for finding in findings:
        tally.add(finding)
    assert tally.adds_up == all(finding.doubt is None for finding in findings)


def test_a_count_that_the_scan_does_not_confirm_does_not_add_up():
    tally = Tally("shop", "in", on_disk=2)
    tally.add(Finding(FileState.LOADED))
    assert tally.adds_up is False


def test_a_file_that_was_unloaded_and_lies_there_still_is_ignored():
    assert judge(seen(OLD, entry(FileState.RETRACTED))).counts is FileState.IGNORED


def test_a_file_that_no_trigger_takes_is_ignored_unless_it_is_loaded():
    assert judge(seen(ignored="matches no pattern")).counts is FileState.IGNORED
    assert judge(seen(OLD, entry(), ignored="matches no pattern")).counts is FileState.LOADED


def test_a_file_that_is_written_over_waits_as_soon_as_the_books_or_a_second_look_say_so():
    changed = seen(NEW, entry())
    assert judge(changed).doubt is Doubt.UNACCOUNTED
    partial = entry(FileState.WAITING, file_id=8, is_complete=False)
    assert judge(seen(NEW, entry(), partial)).counts is FileState.WAITING
    assert judge(changed, seen(OLD)).counts is FileState.WAITING
    assert judge(changed, changed).doubt is Doubt.UNACCOUNTED
    assert judge(seen(NEW, entry(), at_work=True)).counts is FileState.WAITING


def test_a_file_that_grows_is_one_file_and_loaded_when_all_that_stands_in_it_is():
    assert judge(seen(OLD, tailed=Tailed(offset=10))) == Finding(FileState.LOADED)
    assert judge(seen(OLD, tailed=Tailed(offset=9))).counts is FileState.WAITING
    waits = judge(seen(OLD, tailed=Tailed(offset=10, waiting=2, waiting_since_s=3.0, quarantined=1)))
    assert waits == Finding(FileState.WAITING, waiting_since_s=3.0)
    bad = judge(seen(OLD, tailed=Tailed(offset=10, quarantined=1, quarantined_id=4)))
    assert bad == Finding(FileState.QUARANTINED, file_id=4)
    assert judge(seen(None, tailed=Tailed(offset=10))) == Finding()


def test_a_file_that_was_cut_is_in_doubt_until_the_tailer_has_seen_it():
    assert judge(seen(OLD, tailed=Tailed(offset=11))).doubt is Doubt.UNACCOUNTED


def test_two_versions_of_a_path_cannot_both_lie_there():
    found = judge(seen(OLD, entry(), entry(file_id=9)))
    assert (found.doubt, found.why) == (Doubt.UNACCOUNTED, "versions 7, 9 are both on the books as lying there")


def test_a_loaded_file_that_is_gone_is_missing_unless_it_is_just_being_cleaned_up():
    assert judge(seen(None, entry())).why == "loaded, and not on disk"
    assert judge(seen(None, entry(is_cleaned=True))) == Finding()


def test_a_path_belongs_to_the_innermost_directory_that_reaches_it():
    find = innermost({b"": False, b"in": True, b"in/deep": False, b"in/deep/er": True})
    assert [find(p) for p in (b"x", b"y/x", b"in/x", b"in/a/b/x", b"in/deep/x", b"in/deep/a/x", b"in/deep/er/a/x")] == [
        b"", None, b"in", b"in", b"in/deep", b"in", b"in/deep/er",
    ]  # fmt: skip
    assert innermost({b"": True})(b"any/where/x") == b""


def test_an_unavailable_directory_neither_adds_up_nor_fails_to():
    tally = Tally("shop", "in", unavailable="missing", out_of_sight=3)
    assert tally.adds_up is None
    assert report([tally], [], now_s=0.0, named_max=10)["adds_up"]


def test_the_report_names_some_discrepancies_and_counts_all():
    told = report([], [Told(Doubt.ROWS, "shop", f"{n}", n, "why") for n in range(5)], now_s=0.0, named_max=2)
    assert (told["adds_up"], told["discrepancy_count"], len(told["discrepancies"])) == (False, 5, 2)


def test_the_file_that_waits_longest_is_told():
    tally = Tally("shop", "in")
    for seen_s in (30.0, 10.0, 20.0):
        tally.add(Finding(FileState.WAITING, waiting_since_s=seen_s))
    assert tally.answer()["oldest_waiting_since"] == "1970-01-01T00:00:10.000Z"


def test_rows_agree_only_if_ledger_list_and_table_say_the_same():
    same = (3, 2, 1)
    rows = TableRows(
        "bronze.t",
        ledger={1: same, 2: same, 3: same, 5: (4, 2, 2)},
        listed={1: same, 2: same, 4: same, 5: same},
        held={1: 2, 2: 1, 4: 2, 5: 2, 6: 8},
    )
    assert differing(rows) == {
        2: "meta.loads says 2 rows, bronze.t holds 1",
        3: "the ledger says that it is loaded, and meta.loads does not list it",
        4: "bronze.t holds 2 rows, and the ledger does not know that",
        5: "the ledger says 4 rows in, 2 loaded, 2 rejected, meta.loads 3 rows in, 2 loaded, 1 rejected",
        6: "8 rows are in bronze.t, and meta.loads does not list it",
    }
