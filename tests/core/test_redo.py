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
)


def version(state=FileState.LOADED, file_id=1, **more):
    whole = {"job": "shop", "path": b"in/a", "name": "in/a", "presence": Presence.PRESENT} | more
    return Version(file_id=file_id, state=state, **whole)


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
    assert [c.version.file_id for c in choose_named(Verb.REPLAY, history)] == [3]
    assert [c.version.file_id for c in choose_named(Verb.UNLOAD, history)] == [2]


def test_every_job_that_has_the_file_is_meant():
    history = [version(), version(file_id=2, job="other")]
    assert [c.version.file_id for c in choose_named(Verb.REPLAY, history)] == [1, 2]


def test_versions_that_are_loaded_side_by_side_are_unloaded_together():
    history = [version(file_id=1, presence=Presence.OVERWRITTEN), version(file_id=2)]
    assert [c.version.file_id for c in choose_named(Verb.UNLOAD, history)] == [1, 2]


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
