"""The batch is split until the culprit stands alone."""

from hypothesis import given
from hypothesis import strategies as st

from landingd.core import isolate
from landingd.core.isolate import Split, Suspect
from landingd.model import Committed, Failed, Interrupted, Stats, TimedOut

DIED = Interrupted(crashed=True)


def test_only_what_a_file_can_be_to_blame_for_makes_it_a_suspect():
    for outcome in (Committed(Stats()), Failed("no such column"), Interrupted(crashed=False)):
        assert isolate.suspicion(outcome, [1, 2], max_retries=0) is None
    for outcome in (DIED, TimedOut(60), Failed("out of memory", isolate=True)):
        assert isolate.suspicion(outcome, [1, 2], max_retries=0) is not None


def test_an_attempt_without_files_blames_none():
    assert isolate.suspicion(DIED, [], max_retries=0) is None


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=200, unique=True), st.data())
def test_the_culprit_is_found_in_few_attempts_and_never_anybody_else(files, data):
    culprit = data.draw(st.sampled_from(files))
    parts, loaded, attempts = [files], [], 0
    blamed = None
    while parts:
        part = parts.pop(0)
        attempts += 1
        if culprit not in part:
            loaded += part
            continue
        found = isolate.suspicion(DIED, part, max_retries=0)
        if isinstance(found, Split):
            later = list(found.later)
            parts = [[f for f in part if f not in later], *parts, later]
        else:
            assert isinstance(found, Suspect)
            blamed = found.file_id
    assert blamed == culprit
    assert sorted(loaded) == sorted(set(files) - {culprit})
    assert attempts <= 2 * len(files).bit_length() + 1


def test_a_kill_from_outside_is_forgiven_twice_and_a_timeout_as_often_as_the_task_may_be_retried():
    assert isolate.suspicion(DIED, [7], max_retries=0).chances == 3
    assert isolate.suspicion(DIED, [7], max_retries=5).chances == 6
    assert isolate.suspicion(TimedOut(1), [7], max_retries=0).chances == 1
    assert isolate.suspicion(TimedOut(1), [7], max_retries=2).chances == 3


def test_without_end_means_without_end_but_a_file_that_kills_the_process_is_stopped():
    assert isolate.suspicion(TimedOut(1), [7], max_retries=-1).chances is None
    assert isolate.suspicion(DIED, [7], max_retries=-1).chances == 3
