"""Growing files on a real file system, looked at round by round with a clock that is turned by hand.

Nothing loads here: what was taken is read from the copies of the segments, which stay while these wait.
"""

import gzip
import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookkeeping import Clock, job, looked_up, place
from landingd.core import tailing
from landingd.edge import landing
from landingd.edge.landing import growing
from landingd.edge.ledger import LedgerThread
from landingd.flow import segments as segments_module
from landingd.flow.books import Books
from landingd.flow.filebooks import ToLoad
from landingd.flow.intake import Intake
from landingd.flow.looking import IntakeOptions
from landingd.flow.preparing import NoRoomForCopyError, Preparer
from landingd.flow.segments import Segments, tail_in
from landingd.flow.tailing import Tailer
from landingd.model import Facts, FileArrival, FileLoad, FileRef, Hint, Ingest, Job, Signature, SourceFile, Task

HEADER = "n,text\n"


def tailing_job(pattern: str = "*.log*", **ingest: object) -> Job:
    task = Task("bronze", place(), ingest=Ingest(tail=True, **ingest), table="bronze.t")  # type: ignore[arg-type]
    return job(task, arrival=FileArrival("in", pattern=pattern))


class Logs:
    """A landing directory with growing files, a tailer over it, and what the ledger says of them."""

    def __init__(self, folder: Path, ledger: LedgerThread, of: Job | None = None) -> None:
        self.root = folder / "landing"
        self.spool = folder / "tails"
        self.ledger_file = folder / "ledger.sqlite"
        self.ledger = ledger
        self.job = of or tailing_job()
        self.clock = Clock(2_000_000_000.0)
        self.arrived: list[str] = []
        (self.root / "in").mkdir(parents=True)
        self._tailers: list[Tailer] = []
        self.tailer = self.anew()

    def anew(self) -> Tailer:
        """As after a death: nothing is remembered."""
        self.close()
        self.segments = Segments(self.root, self.spool, lambda tail: tail_in(self.ledger_file, tail))
        self.tailer = Tailer(
            self.ledger, [self.job], self.segments, root=self.root, on_arrived=self.arrived.append, clock=self.clock
        )
        self._tailers.append(self.tailer)
        return self.tailer

    def close(self) -> None:
        for tailer in self._tailers:
            tailer._thread.shutdown()

    def path(self, name: str = "app.log") -> Path:
        return self.root / "in" / name

    def append(self, text: str, name: str = "app.log") -> None:
        with self.path(name).open("a") as file:
            file.write(text)

    async def look(self, *, pass_s: float = 1.0, rounds: int = 1) -> None:
        """Rounds with the pattern's files noticed, as a scan would."""
        for _ in range(rounds):
            self.clock.pass_s(pass_s)
            for path, _seen in landing.scan(self.root / "in", recursive=True, unreadable=[]):
                self.tailer.notice(b"in/" + path)
            await self.tailer.look()

    async def settle(self) -> None:
        """Until everything that can be read is."""
        for _ in range(8):
            await self.look(pass_s=20.0)

    def segments_taken(self) -> list[tuple[str, str]]:
        """`(name, lines without the header)` of each segment, in the order of their ids."""
        rows = looked_up(self.ledger_file, "SELECT name, content_hash FROM files ORDER BY file_id")
        return [(name, (self.spool / content_hash).read_text()) for name, content_hash in rows]

    def lines(self) -> list[str]:
        return [line for _, text in self.segments_taken() for line in text.removeprefix(HEADER).splitlines()]

    def states(self) -> list[tuple[str, str, int]]:
        rows = looked_up(self.ledger_file, "SELECT path, state, offset FROM tails ORDER BY tail_id")
        return [(os.fsdecode(path), state, offset) for path, state, offset in rows]


@pytest.fixture
def ledger(tmp_path):
    thread = LedgerThread(tmp_path / "ledger.sqlite")
    yield thread
    thread.close()


@pytest.fixture
def logs(tmp_path, ledger):
    logs = Logs(tmp_path, ledger)
    yield logs
    logs.close()


# --- lines ------------------------------------------------------------------------------------------------


async def test_whole_lines_are_taken_and_a_line_that_has_not_ended_waits_for_its_end(logs):
    logs.append(HEADER + "1,a\n2,b\n3,")
    await logs.look(rounds=2)
    assert logs.segments_taken() == [("in/app.log", HEADER + "1,a\n2,b\n")]
    await logs.look(rounds=5, pass_s=5)
    assert len(logs.segments_taken()) == 1
    logs.append("c\n")
    await logs.look()
    assert logs.segments_taken()[1:] == [("in/app.log", HEADER + "3,c\n")]
    assert logs.arrived == ["shop", "shop"]


async def test_equal_lines_at_two_places_are_two_versions(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.append("1,a\n")
    await logs.look()
    assert logs.lines() == ["1,a", "1,a"]
    hashes = looked_up(logs.ledger_file, "SELECT content_hash FROM files")
    assert len(set(hashes)) == 2


async def test_a_file_with_nothing_but_a_header_has_no_segments(logs):
    logs.append(HEADER)
    await logs.look(rounds=3)
    assert logs.segments_taken() == []
    assert logs.states() == [("in/app.log", "growing", len(HEADER))]


async def test_a_field_in_quotes_is_not_cut_where_its_line_ends(logs):
    logs.append(HEADER + '1,"a\nb')
    await logs.look(rounds=2)
    assert logs.segments_taken() == []
    logs.append('\nc"\n')
    await logs.look()
    assert logs.segments_taken() == [("in/app.log", HEADER + '1,"a\nb\nc"\n')]


async def test_a_stray_quote_holds_lines_up_for_a_moment_only(logs):
    logs.append(HEADER + '1,a 5" pipe\n')
    await logs.look(pass_s=0.5, rounds=3)
    assert logs.segments_taken() == []
    logs.append("2,b\n")
    await logs.look(pass_s=tailing.OPEN_RECORD_S, rounds=2)
    assert logs.lines() == ['1,a 5" pipe', "2,b"]


async def test_a_busy_file_is_gathered_into_few_segments(logs):
    logs.append(HEADER)
    await logs.look()
    for n in range(50):
        logs.append(f"{n},x\n")
        await logs.look(pass_s=0.02)
    await logs.look()
    assert logs.lines() == [f"{n},x" for n in range(50)]
    assert len(logs.segments_taken()) <= 1 + 50 * 0.02 / tailing.GATHER_S + 1


async def test_a_large_file_is_taken_in_pieces_of_whole_lines(logs, monkeypatch):
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES_MAX", 1000)
    written = [f"{n},{'x' * (n % 90)}" for n in range(200)]
    logs.append(HEADER + "".join(line + "\n" for line in written))
    await logs.look(pass_s=0.0, rounds=20)
    assert len(logs.lines()) > 150
    await logs.settle()
    assert logs.lines() == written
    assert len(logs.segments_taken()) > 5


async def test_a_line_longer_than_a_segment_is_taken_whole(logs, monkeypatch):
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES_MAX", 100)
    logs.append(HEADER + "1," + "x" * 5000 + "\n2,b\n")
    await logs.look(rounds=4)
    assert [len(line) for line in logs.lines()] == [5002, 3]


async def test_what_waits_too_long_is_left_where_it_is_until_there_is_room(logs, monkeypatch):
    monkeypatch.setattr(tailing, "BACKLOG_BYTES_MAX", 10)
    logs.append(HEADER + "1,aaaaaaaaaaaaaa\n")
    await logs.look()
    logs.append("2,b\n")
    await logs.look(rounds=5, pass_s=60)
    assert logs.lines() == ["1,aaaaaaaaaaaaaa"]


async def test_lines_of_json_need_no_header(tmp_path, ledger):
    logs = Logs(tmp_path, ledger, tailing_job("*.ndjson", format="json"))
    logs.append('{"n": 1}\n{"n": 2}\n{"n"', "a.ndjson")
    await logs.look(rounds=2)
    logs.append(": 3}\n", "a.ndjson")
    await logs.look()
    assert logs.lines() == ['{"n": 1}', '{"n": 2}', '{"n": 3}']
    logs.close()


# --- rotation ---------------------------------------------------------------------------------------------


async def test_a_renamed_file_is_read_to_its_end_and_a_new_one_begun(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.append("2,b\n")
    logs.path().rename(logs.path("app.log.1"))
    logs.append(HEADER + "3,c\n")
    logs.append("2b,late\n", "app.log.1")
    await logs.settle()
    assert sorted(logs.lines()) == ["1,a", "2,b", "2b,late", "3,c"]
    assert [state for _, state, _ in logs.states()] == ["finished", "growing"]


async def test_a_file_begun_at_the_path_of_one_found_under_its_new_name_is_read_at_once_without_another_event(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.path().rename(logs.path("app.log.1"))
    logs.append(HEADER + "2,b\n")
    for name in (b"in/app.log.1", b"in/app.log"):  # all that the kernel says of it
        logs.tailer.notice(name)
    for _ in range(5):
        logs.clock.pass_s(0.1)
        await logs.tailer.look()
    assert logs.lines() == ["1,a", "2,b"]


async def test_the_last_line_of_a_rotated_file_needs_no_end(logs):
    logs.append(HEADER + "1,a\n2,b")
    await logs.look()
    logs.path().rename(logs.path("app.log.1"))
    await logs.settle()
    assert logs.lines() == ["1,a", "2,b"]


async def test_a_rotated_name_that_the_pattern_does_not_take_is_found_all_the_same(tmp_path, ledger):
    logs = Logs(tmp_path, ledger, tailing_job("app.log"))
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.append("2,b\n")
    logs.path().rename(logs.path("2026-11-21.old"))
    logs.append(HEADER + "3,c\n")
    await logs.settle()
    assert logs.lines() == ["1,a", "2,b", "3,c"]
    logs.close()


async def test_rotated_files_that_move_on_are_not_read_again(logs):
    for generation in range(4):
        logs.append(f"{HEADER}{generation},a\n")
        await logs.settle()
        for old in (3, 2, 1):
            if logs.path(f"app.log.{old}").exists():
                logs.path(f"app.log.{old}").rename(logs.path(f"app.log.{old + 1}"))
        logs.path().rename(logs.path("app.log.1"))
    await logs.settle()
    logs.anew()
    await logs.settle()
    assert logs.lines() == ["0,a", "1,a", "2,a", "3,a"]


async def test_rotations_while_nobody_looked_lose_nothing(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.append("2,b\n")
    logs.path().rename(logs.path("app.log.2"))
    logs.append(HEADER + "3,c\n")
    logs.path().rename(logs.path("app.log.1"))
    logs.append(HEADER + "4,d\n")
    logs.anew()
    await logs.settle()
    assert sorted(logs.lines()) == ["1,a", "2,b", "3,c", "4,d"]


async def test_a_file_that_is_copied_and_cut_to_nothing_is_read_to_its_end_from_the_copy(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.append("2,b\n")
    shutil.copyfile(logs.path(), logs.path("app.log.1"))
    os.truncate(logs.path(), 0)
    logs.append("3,c\n")  # its writer goes on, and does not know that a header is due
    await logs.settle()
    assert logs.lines() == ["1,a", "2,b", "3,c"]
    assert all(text.startswith(HEADER) for _, text in logs.segments_taken())


async def test_a_copy_that_is_seen_before_the_file_is_cut_is_not_read_as_another(logs):
    logs.append(HEADER + "1,a\n2,b\n")
    await logs.look()
    shutil.copyfile(logs.path(), logs.path("app.log.1"))
    await logs.look(rounds=3)
    logs.append("3,c\n")
    os.truncate(logs.path(), 0)
    logs.append(HEADER + "4,d\n")
    await logs.settle()
    assert [line for line in logs.lines() if line != "3,c"] == ["1,a", "2,b", "4,d"]


async def test_a_hole_before_what_is_written_on_at_an_old_place_is_nothing(logs):
    with logs.path().open("w") as writer:
        writer.write(HEADER + "1,a\n")
        writer.flush()
        await logs.look()
        os.truncate(logs.path(), 0)
        writer.write("2,b\n")
        writer.flush()
        await logs.settle()
    assert logs.lines() == ["1,a", "2,b"]


async def test_another_header_in_a_new_generation_is_other_columns(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.path().rename(logs.path("app.log.1"))
    logs.append("n,text,more\n2,b,c\n")
    await logs.settle()
    assert logs.segments_taken() == [("in/app.log", HEADER + "1,a\n"), ("in/app.log", "n,text,more\n2,b,c\n")]


async def test_a_file_with_the_inode_of_one_that_was_removed_is_another(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    os.truncate(logs.path(), 0)  # the surest way to be given the inode again
    logs.append(HEADER + "2,a\n3,b\n4,c\n")
    await logs.settle()
    assert logs.lines() == ["1,a", "2,a", "3,b", "4,c"]


async def test_a_longer_copy_in_the_place_of_a_file_goes_on_where_that_was_read_to(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.append("2,b\n")
    shutil.copyfile(logs.path(), logs.root / "other")
    (logs.root / "other").rename(logs.path())
    await logs.settle()
    assert logs.lines() == ["1,a", "2,b"]


async def test_a_file_that_goes_away_for_a_while_goes_on_where_it_was_read_to(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.path().rename(logs.root / "hidden")
    await logs.look(rounds=10, pass_s=30)
    assert logs.states()[0][1] == "finished"
    (logs.root / "hidden").rename(logs.path())
    logs.append("2,b\n")
    await logs.settle()
    assert logs.lines() == ["1,a", "2,b"]


async def test_a_hard_link_is_the_same_file(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.path("linked.log").hardlink_to(logs.path())
    await logs.settle()
    logs.append("2,b\n")
    await logs.settle()
    assert logs.lines() == ["1,a", "2,b"]


# --- what is kept of a segment ----------------------------------------------------------------------------


def refs(logs: Logs) -> list[FileRef]:
    rows = looked_up(logs.ledger_file, "SELECT file_id, path, content_hash, facts FROM files ORDER BY file_id")
    return [FileRef(i, path, h, Signature(0, 0, 0, 0, 0), Facts(**json.loads(facts))) for i, path, h, facts in rows]


def prepared(logs: Logs, tmp_path: Path) -> list[SourceFile | FileLoad]:
    preparer = Preparer(logs.root, None, tmp_path / "scratch", segments=logs.segments)
    return preparer.prepare([ToLoad(ref, ()) for ref in refs(logs)], Ingest(tail=True), (), table="bronze.t")


async def test_a_segment_is_prepared_with_its_header_and_counted(logs, tmp_path):
    logs.append(HEADER + "1,a\n2,b\n")
    await logs.look()
    logs.append("3,c\n")
    await logs.look()
    first, second = prepared(logs, tmp_path)
    assert isinstance(first, SourceFile)
    assert isinstance(second, SourceFile)
    assert (first.columns, first.rows_in, first.name) == (("n", "text"), 2, "in/app.log")
    assert (second.columns, second.rows_in) == (("n", "text"), 1)


@pytest.mark.parametrize("spoil", ["removed", "altered", "rotated"])
async def test_a_copy_that_is_lost_is_made_anew_from_the_file_wherever_it_lies_now(logs, tmp_path, spoil):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    (copy,) = logs.segments.copies()
    logs.segments.release([copy])
    if spoil == "altered":
        growing.keep(logs.spool, copy, b"other")
    if spoil == "rotated":
        logs.path().rename(logs.path("app.log.1"))
    (source,) = prepared(logs, tmp_path)
    assert isinstance(source, SourceFile)
    assert landing.peek(source.path).head == HEADER.encode() + b"1,a\n"


async def test_a_segment_of_which_nothing_is_left_is_quarantined_since_nobody_enters_it_again(logs, tmp_path):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    shutil.rmtree(logs.spool)
    logs.path().rename(logs.root / "hidden")
    with pytest.raises(NoRoomForCopyError, match="its directory is empty or missing"):
        prepared(logs, tmp_path)
    logs.append("another", "other")
    (load,) = prepared(logs, tmp_path)
    assert isinstance(load, FileLoad)
    assert (
        load.quarantined
        == "bytes 7 to 11 of the file were cut away before they could be loaded, and their copy was lost"
    )


async def test_copies_that_nobody_needs_are_released_also_those_of_an_earlier_process(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    (logs.spool / "left").write_text("of a segment that never was entered")
    await logs.ledger.transact(
        lambda ledger: ledger._db.execute("UPDATE files SET state = 'replaced', wanted = NULL").fetchall()
    )
    logs.anew()
    await logs.look(rounds=2)
    assert logs.segments.copies() == []


# --- beside intake ----------------------------------------------------------------------------------------


async def test_intake_leaves_a_tailed_path_to_the_tailer_and_knows_its_packed_rotation(logs):
    intake = Intake(
        Books(logs.ledger, logs.clock),
        [logs.job],
        IntakeOptions(logs.root, 3600.0, quiet_floor_s=0.0),
        on_arrived=lambda _: None,
        on_tailed=logs.tailer.notice,
        clock=logs.clock,
    )
    logs.append(HEADER + "1,a\n2,b\n")
    intake.hint(os.fsencode(logs.path()), Hint.CLOSED)
    await intake.once()
    await logs.tailer.look()
    assert logs.lines() == ["1,a", "2,b"]
    logs.path("app.log.2.gz").write_bytes(gzip.compress(logs.path().read_bytes()))
    logs.path("other.log.1.gz").write_bytes(gzip.compress(b"n,text\n7,z\n"))
    again = Intake(
        Books(logs.ledger, logs.clock),
        [logs.job],
        IntakeOptions(logs.root, 3600.0, quiet_floor_s=0.0),
        on_arrived=lambda _: None,
        clock=logs.clock,
    )
    await again.once()
    rows = looked_up(logs.ledger_file, "SELECT name, state, reason FROM files WHERE name LIKE '%gz' ORDER BY name")
    assert rows == [
        ("in/app.log.2.gz", "duplicate", "in/app.log packed, which was read while it grew"),
        ("in/other.log.1.gz", "waiting", "complete; waiting for a run"),
    ]


async def test_that_a_growing_file_is_gone_is_nothing_to_intake(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.path().unlink()
    options = IntakeOptions(logs.root, 3600.0, quiet_floor_s=0.0)
    await Intake(Books(logs.ledger, logs.clock), [logs.job], options, on_arrived=lambda _: None).once()
    assert looked_up(logs.ledger_file, "SELECT state, presence FROM files") == [("waiting", "present")]


# --- jobs, and what is gone -------------------------------------------------------------------------------


async def test_everything_that_stands_there_is_entered_in_one_go_when_asked_once(logs, monkeypatch):
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES_MAX", 100)
    logs.append(HEADER + "".join(f"{n},x\n" for n in range(100)))
    logs.append(HEADER + "100,x\n", "other.log")
    await logs.tailer.once()
    assert sorted(logs.lines(), key=lambda line: int(line.split(",")[0])) == [f"{n},x" for n in range(101)]


async def test_other_jobs_end_the_tailing_and_the_old_ones_go_on_with_it(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    await logs.tailer.set_jobs([job()])
    logs.append("2,b\n")
    await logs.look(rounds=2)
    assert (logs.tailer.tailed(), logs.lines()) == (0, ["1,a"])
    await logs.tailer.set_jobs([logs.job])
    await logs.look(rounds=2)
    assert (logs.tailer.tailed(), logs.lines()) == (1, ["1,a", "2,b"])


async def test_a_rotated_file_that_was_removed_is_known_to_be_gone(logs):
    logs.append(HEADER + "1,a\n")
    await logs.look()
    logs.path().rename(logs.path("app.log.1"))
    logs.append(HEADER + "2,b\n")
    await logs.settle()
    await logs.ledger.transact(lambda ledger: ledger._db.execute("UPDATE files SET state = 'loaded'").fetchall())
    logs.path("app.log.1").unlink()
    await logs.look(pass_s=700.0)
    presences = looked_up(logs.ledger_file, "SELECT presence FROM files ORDER BY file_id")
    assert presences == [("removed",), ("present",)]
    assert [tail.offset for tail in await logs.ledger.transact(lambda ledger: ledger.tails("shop"))] == [11]


# --- anything, in any order -------------------------------------------------------------------------------


class Producer:
    """Writes numbered lines, rotates as logs are rotated, and knows what it has written."""

    def __init__(self, logs: Logs, seed: int) -> None:
        self.logs = logs
        self.written: list[str] = []
        self._draw = random.Random(seed)  # noqa: S311 -- drawn by Hypothesis
        self._half = ""
        self._rotated = 0
        self._has_header = True
        logs.append(HEADER)

    async def act(self, action: str) -> None:
        await getattr(self, f"_{action}")()

    async def _lines(self) -> None:
        self._end_half("\n" if self._half else "")
        first = len(self.written)
        new = [f"{n},{'x' * self._draw.randrange(300)}" for n in range(first, first + self._draw.randrange(1, 8))]
        self.written += new
        self.logs.append("".join(line + "\n" for line in new))

    async def _half_a_line(self) -> None:
        if not self._half:
            self._half = f"{len(self.written)},half"
            self.logs.append(self._half)

    async def _rename(self) -> None:
        if self._half:
            await self.logs.look(rounds=2)  # of a file that nobody has seen before, nobody knows that it was rotated
            self._end_half("")
        self.logs.path().rename(self._rotated_name())
        self._has_header = True
        self.logs.append(HEADER)

    async def _copy_and_cut(self) -> None:
        self._end_half("\n" if self._half else "")
        had_header, self._has_header = self._has_header, self._draw.random() < 0.5
        if not (had_header and self._has_header):
            await self.logs.look(rounds=2)  # which header holds, only those can know who have seen one
        shutil.copyfile(self.logs.path(), self._rotated_name())
        os.truncate(self.logs.path(), 0)
        self.logs.append(HEADER if self._has_header else "")

    async def _look(self) -> None:
        await self.logs.look(pass_s=0.5)

    async def _settle(self) -> None:
        await self.logs.settle()

    async def _die(self) -> None:
        self.logs.anew()

    def _end_half(self, with_: str) -> None:
        self.written += [self._half] if self._half else []
        self.logs.append(with_)
        self._half = ""

    def _rotated_name(self) -> Path:
        self._rotated += 1
        return self.logs.path(f"app.log.{self._rotated}")


ACTIONS = ("lines", "lines", "lines", "half_a_line", "rename", "copy_and_cut", "look", "look", "settle", "die")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.sampled_from(ACTIONS), max_size=25), seed=st.integers(0, 2**16))
async def test_whatever_happens_to_a_log_every_line_is_taken_once(tmp_path_factory, actions, seed):
    """Nobody writes between a copy and the cut: those lines are lost, and not by us."""
    folder = tmp_path_factory.mktemp("logs")
    ledger = LedgerThread(folder / "ledger.sqlite")
    logs = Logs(folder, ledger)
    try:
        producer = Producer(logs, seed)
        for action in [*actions, "lines", "settle"]:
            await producer.act(action)
        assert Counter(logs.lines()) == Counter(producer.written)
    finally:
        logs.close()
        ledger.close()
