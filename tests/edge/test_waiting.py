"""Who waited for the write lane is known after a death, and whoever had his turn is not among them."""

import pytest

from landingd.edge.engine import waiting
from landingd.edge.engine.waiting import Waiting
from landingd.model import AttemptKey

ONE, TWO, THREE = AttemptKey(1, "each[0]", 1), AttemptKey(1, "each[1]", 2), AttemptKey(2, "a", 1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "warehouse.waiting"


@pytest.fixture
def start(path):
    """A process opens the file, and none that was killed has closed it."""
    made = []

    def start():
        made.append(Waiting(path))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_who_waited_is_known_after_a_death_and_who_had_his_turn_is_not_among_them(start):
    before = start()
    before.begin([ONE, TWO])
    before.begin([THREE])
    before.end([TWO])
    assert start().at_death == {ONE, THREE}


def test_a_start_that_dies_too_forgets_nobody(start):
    start().begin([ONE])
    start()
    assert start().at_death == {ONE}


def test_once_nobody_waits_nothing_is_left_of_it(path, start):
    before = start()
    before.begin([ONE, TWO])
    before.end([ONE])
    before.end([TWO])
    assert path.read_bytes() == b""


def test_the_file_does_not_grow_where_somebody_waits_all_the_time(path, start, monkeypatch):
    monkeypatch.setattr(waiting, "REWRITTEN_AT_BYTES", 1000)
    before = start()
    before.begin([THREE])
    for attempt in range(1000):
        before.begin([AttemptKey(1, "a", attempt)])
        before.end([AttemptKey(1, "a", attempt)])
        assert path.stat().st_size < 1100
    assert start().at_death == {THREE}


def test_what_cannot_be_read_says_nothing(path, start):
    path.write_bytes(b"\x00\xff\n+ 1\n+ x 1 a\n+ 1 1 a\n- 1 1\n")
    assert start().at_death == {AttemptKey(1, "a", 1)}
