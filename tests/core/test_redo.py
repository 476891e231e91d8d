"""Which versions an unload, a replay or a requeue means, and which it refuses and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.redo import Verb, Version, choose, choose_all, choose_named, has_failed, is_flawed
from landingd.model import FileAction, FileState, Presence

versions = st.builds(
    Version,
    file_id=st.integers(1, 99),
    job=st.sampled_from(["shop", "other"]),
    path=st.just(b"in/a"),
    name=st.just("in/a"),
    state=st.sampled_from([state for state in FileState if state is not FileState.IGNORED]),
    presence=st.sampled_from(Presence),
    is_complete=st.booleans(),
    duplicate_of=st.just(3),
    rows_rejected=st.integers(0, 2),
    seen_s=st.floats(0, 1000),
    loaded_s=st.none() | st.floats(0, 1000),
    is_left=st.booleans(),
    is_segment=st.booleans(),
)


def version(state=FileState.LOADED, file_id=1, **more):
    whole = {"job": "shop", "path": b"in/a", "name": "in/a", "presence": Presence.PRESENT} | more
    return Version(file_id=file_id, state=state, **whole)


def ids(verb, history):
    """The versions that are meant where their file is named, and how many are left out."""
    chosen, left_out = choose_named(verb, history)
    return [choice.version.file_id for choice in chosen], left_out


@given(st.sampled_from(Verb), versions)
def test_every_version_gets_an_action_or_a_reason(verb, one):
    choice = choose(verb, one)
    assert (choice.action is None) == (choice.refused is not None)


@given(versions)
def test_only_what_is_loaded_is_unloaded(one):
    loaded = one.state is FileState.LOADED
    assert (choose(Verb.UNLOAD, one).action is FileAction.RETRACT) == loaded


@given(versions)
def test_nothing_is_loaded_anew_whose_bytes_are_not_kept_or_not_complete(one):
    choice = choose(Verb.REPLAY, one)
    if choice.action is not None:
        assert one.is_complete
        assert one.presence in {Presence.PRESENT, Presence.ARCHIVED}
        assert one.state not in {FileState.REPLACED, FileState.DUPLICATE}


@given(st.sampled_from(Verb), st.lists(versions, max_size=6), st.booleans())
def test_without_names_nothing_is_refused_but_left_out_and_counted(verb, all_of_them, failed):
    chosen, left_out = choose_all(verb, all_of_them, since_s=500.0, failed=failed)
    assert all(choice.refused is None for choice in chosen)
    meant = [
        v
        for v in all_of_them
        if max(v.seen_s, v.loaded_s or 0) >= 500
        and (not failed or has_failed(v))
        and (verb != "requeue" or is_flawed(v))
    ]
    assert len(chosen) + left_out == len(meant)


def test_a_file_that_is_named_means_its_newest_version_that_stands():
    history = [version(FileState.REPLACED, 1), version(FileState.LOADED, 2), version(FileState.QUARANTINED, 3)]
    assert ids(Verb.REPLAY, history) == ([3], 0)
    assert ids(Verb.UNLOAD, history) == ([2], 0)


def test_every_job_that_has_the_file_is_meant():
    history = [version(), version(file_id=2, job="other")]
    assert ids(Verb.REPLAY, history) == ([1, 2], 0)


def test_versions_that_are_loaded_side_by_side_are_unloaded_together():
    history = [version(file_id=1, presence=Presence.OVERWRITTEN), version(file_id=2)]
    assert ids(Verb.UNLOAD, history) == ([1, 2], 0)


def segment(file_id, state=FileState.LOADED, **more):
    return version(state, file_id, is_segment=True, **more)


def test_a_file_that_grows_means_every_stretch_of_it_that_can_be_had():
    gone, whole = segment(1, presence=Presence.REMOVED), version(FileState.REPLACED, 9)
    flawed, waiting = segment(3, FileState.QUARANTINED), segment(5, FileState.WAITING)
    log = [gone, segment(2), flawed, segment(4, rows_rejected=1), waiting, segment(6), whole]
    assert ids(Verb.REPLAY, log) == ([2, 3, 4, 5, 6], 1)
    assert ids(Verb.UNLOAD, log) == ([1, 2, 4, 6], 0)
    assert ids(Verb.REQUEUE, log) == ([3, 4], 0)


def test_where_none_of_a_file_that_grows_can_be_had_its_newest_stretch_says_why():
    log = [segment(1, presence=Presence.REMOVED), segment(2, presence=Presence.REMOVED)]
    (choice,), left_out = choose_named(Verb.REPLAY, log)
    assert (choice.refused, left_out) == ("its bytes are not kept, the file was removed", 1)
    (choice,), left_out = choose_named(Verb.REQUEUE, [segment(1), segment(2)])
    assert (choice.version.file_id, choice.action, left_out) == (2, None, 0)


@given(st.sampled_from(Verb), st.lists(versions, max_size=6))
def test_what_is_named_is_done_or_says_why_and_is_refused_only_where_nothing_of_it_can_be_done(verb, all_of_them):
    chosen, left_out = choose_named(verb, all_of_them)
    for job in {v.job for v in all_of_them}:
        of_job = [choice for choice in chosen if choice.version.job == job]
        assert of_job
        assert len(of_job) == 1 or all(choice.action for choice in of_job)
    assert left_out <= len(all_of_them) - len(chosen)


@pytest.mark.parametrize(
    ("verb", "one", "reason"),
    [
        (
            Verb.UNLOAD,
            version(FileState.DUPLICATE, duplicate_of=3),
            "it is a duplicate of file 3: its rows are that one's",
        ),
        (Verb.UNLOAD, version(FileState.WAITING, reason="in run 4"), "it is not loaded: waiting (in run 4)"),
        (Verb.REPLAY, version(FileState.REPLACED, 5), "version 5 was replaced; only the newest can be loaded anew"),
        (Verb.REPLAY, version(presence=Presence.DELETED), "its bytes are not kept, the file was deleted"),
        (Verb.REPLAY, version(is_complete=False, reason="still written"), "it is not complete: still written"),
        (
            Verb.REQUEUE,
            version(),
            "none of its rows was rejected or quarantined: it is loaded; replay loads it anew",
        ),
    ],
)
def test_a_refusal_says_why(verb, one, reason):
    assert choose(verb, one).refused == reason


def test_what_waits_is_loaded_and_what_was_loaded_is_loaded_anew():
    assert choose(Verb.REPLAY, version(FileState.WAITING)).action is FileAction.LOAD
    assert choose(Verb.REPLAY, version(FileState.LOADED)).action is FileAction.RELOAD
    assert choose(Verb.REQUEUE, version(rows_rejected=1)).action is FileAction.RELOAD
    assert choose(Verb.REQUEUE, version(FileState.QUARANTINED)).action is FileAction.RELOAD
