"""What a complete file is, next to what is known of its path."""

import itertools

import pytest

from landingd.core.versions import Arrived, Back, Enter, Note, Standing, decide
from landingd.model import FileAction, FileState, OnChange, OnDuplicate

LOADED = Standing("a", FileState.LOADED, path_is_loaded=True)
STANDING = [s for s in FileState if s not in {FileState.IGNORED, FileState.REPLACED}]


def test_a_path_that_is_not_known_enters():
    assert decide("a", None, came_again=False) == Enter(Arrived.NEW)


@pytest.mark.parametrize("state", STANDING)
@pytest.mark.parametrize("on_change", OnChange)
def test_the_same_bytes_that_were_only_touched_by_chmod_are_no_arrival(state, on_change):
    standing = Standing("a", state, path_is_loaded=state is FileState.LOADED)
    assert decide("a", standing, came_again=False, on_change=on_change) == Note()


def test_the_same_bytes_again_are_a_duplicate_unless_duplicates_are_to_be_loaded():
    assert decide("a", LOADED, came_again=True) == Note()
    again = decide("a", LOADED, came_again=True, on_duplicate=OnDuplicate.LOAD)
    assert again == Enter(Arrived.CHANGED)
    beside = decide("a", LOADED, came_again=True, on_duplicate=OnDuplicate.LOAD, on_change=OnChange.APPEND)
    assert beside == Enter(Arrived.CHANGED, keeps_older=True)


@pytest.mark.parametrize("state", [FileState.QUARANTINED, FileState.RETRACTED])
def test_what_could_not_be_loaded_or_was_withdrawn_gets_another_chance_when_it_comes_again(state):
    assert decide("a", Standing("a", state), came_again=True) == Enter(Arrived.CHANGED)


def test_other_bytes_replace_join_or_are_refused_as_the_trigger_says():
    assert decide("b", LOADED, came_again=True) == Enter(Arrived.CHANGED)
    assert decide("b", LOADED, came_again=True, on_change=OnChange.APPEND) == Enter(Arrived.CHANGED, keeps_older=True)
    assert decide("b", LOADED, came_again=True, on_change=OnChange.REJECT) == Enter(Arrived.REJECTED, rejected=True)


def test_what_was_refused_once_is_refused_again_as_long_as_the_path_is_loaded():
    refused = Standing("b", FileState.QUARANTINED, path_is_loaded=True)
    for content_hash in ("b", "c"):
        decision = decide(content_hash, refused, came_again=True, on_change=OnChange.REJECT)
        assert decision == Enter(Arrived.REJECTED, rejected=True)


def test_a_path_that_is_not_loaded_takes_any_bytes_whatever_its_trigger_says():
    """With `append` beside a version that a run may be loading just now."""
    for state, on_change in itertools.product([FileState.WAITING, FileState.QUARANTINED], OnChange):
        decision = decide("b", Standing("a", state), came_again=True, on_change=on_change)
        assert decision == Enter(Arrived.CHANGED, keeps_older=on_change is OnChange.APPEND)


def test_a_file_that_is_back_before_its_rows_left_keeps_them():
    leaving = Standing("a", FileState.LOADED, leaving=True, wanted=FileAction.RETRACT)
    assert decide("a", leaving, came_again=True) == Back()


def test_a_file_that_is_back_while_a_run_takes_its_rows_out_enters_behind_that_run():
    leaving = Standing("a", FileState.LOADED, leaving=True)
    assert decide("a", leaving, came_again=True) == Enter(Arrived.NEW)
