"""Growing files in the ledger: an offset that moves with the segment that it is moved for, and what is still needed."""

import hashlib
from dataclasses import replace

import pytest

from landingd.edge.ledger import LedgerThread, SegmentVersion, views
from landingd.model import Arrival, Facts, Segment, Signature, Tail, TailState

SEEN = Signature(100, 1, 2, 3, 4)
PATH = b"in/app.log"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    thread = LedgerThread(path)
    yield thread
    thread.close()


def version(tail: Tail, start: int, end: int, content_hash: str) -> SegmentVersion:
    segment = Segment(tail.tail_id, start, end)
    seen = replace(SEEN, size=end - start)
    return SegmentVersion(segment, content_hash, seen, Facts(records=2, segment=segment), "whole lines", ("bronze",))


async def begun(ledger: LedgerThread, path: bytes = PATH) -> Tail:
    return await ledger.transact(lambda verbs: verbs.begin_tail("logs", path, SEEN, now_s=1.0))


async def entered(ledger: LedgerThread, tail: Tail, end: int, content_hash: str) -> Tail:
    moved = replace(tail, offset=end, head="h", head_bytes=10, header=b"n\n", changed_s=2.0)

    def enter(verbs):
        assert verbs.advance_tail(moved, start=tail.offset)
        return verbs.add_segment(moved, version(tail, tail.offset, end, content_hash), now_s=2.0)

    await ledger.transact(enter)
    return moved


async def run_sql(ledger: LedgerThread, sql: str) -> None:
    await ledger.transact(lambda verbs: verbs._db.execute(sql).fetchall())


async def test_a_generation_is_found_again_as_it_was_entered(ledger):
    tail = await begun(ledger)
    assert tail == Tail(1, "logs", PATH, device=4, inode=3, changed_s=1.0)
    moved = await entered(ledger, tail, 50, "a")
    assert await ledger.transact(lambda verbs: verbs.tails("logs")) == [moved]
    assert await ledger.transact(lambda verbs: verbs.tails("other")) == []
    assert await ledger.transact(lambda verbs: verbs.last_segment(moved)) == (Segment(1, 0, 50), "a")


async def test_an_offset_moves_only_from_where_the_segment_begins(ledger):
    tail = await entered(ledger, await begun(ledger), 50, "a")
    assert not await ledger.transact(lambda verbs: verbs.advance_tail(replace(tail, offset=80), start=0))
    assert await ledger.transact(lambda verbs: verbs.tails("logs")) == [tail]


async def test_an_inode_of_sixty_four_bits_comes_back_as_it_was(ledger):
    seen = replace(SEEN, inode=(1 << 64) - 2, device=(1 << 63) + 1)
    tail = await ledger.transact(lambda verbs: verbs.begin_tail("logs", PATH, seen, now_s=1.0))
    assert (tail.inode, tail.device) == (seen.inode, seen.device)


async def test_segments_wait_beside_each_other_and_keep_what_is_older(ledger, path):
    tail = await entered(ledger, await begun(ledger), 50, "a")
    await entered(ledger, tail, 80, "b")
    with views.reading(path) as db:
        rows = db.execute("SELECT state, wanted, keeps_older, size FROM files").fetchall()
        assert [tuple(row) for row in rows] == [("waiting", "load", 1, 50), ("waiting", "load", 1, 30)]
        assert views.standing(db, "logs") == []
        (standing,) = views.tails_standing(db, "logs")
    assert (standing.tail.offset, standing.waiting, standing.quarantined, standing.waiting_since_s) == (80, 2, 0, 2.0)
    assert await ledger.transact(lambda verbs: verbs.pending_files("logs", 10))


async def test_a_path_that_was_loaded_as_a_whole_is_told_from_one_that_was_always_tailed(ledger):
    tail = await entered(ledger, await begun(ledger), 50, "a")
    assert not await ledger.transact(lambda verbs: verbs.was_whole(tail))
    arrival = Arrival("logs", PATH, "whole", SEEN, "closed", 1.0, 1.0)
    await ledger.transact(lambda verbs: verbs.add_version(arrival))
    assert await ledger.transact(lambda verbs: verbs.was_whole(tail))


@pytest.mark.parametrize(
    ("made", "needed"),
    [
        ("SELECT 1", {"a": True}),
        ("UPDATE files SET state = 'quarantined', wanted = NULL", {"a": False}),
        ("UPDATE files SET state = 'replaced', wanted = NULL", {}),
        ("UPDATE files SET state = 'loaded', wanted = NULL", {"a": False}),
    ],
)
async def test_a_copy_is_needed_while_a_task_may_ask_for_it(ledger, made, needed):
    await entered(ledger, await begun(ledger), 50, "a")
    await run_sql(ledger, made)
    assert await ledger.transact(lambda verbs: verbs.segments_needed(["a", "unknown"])) == needed


async def test_a_copy_is_needed_no_more_when_every_task_holds_it(ledger):
    await entered(ledger, await begun(ledger), 50, "a")
    await run_sql(ledger, "INSERT INTO loads VALUES (1, 'bronze', 1, 1, 1, 1, 0, 0, 0, 3.0)")
    await run_sql(ledger, "UPDATE files SET state = 'loaded', wanted = NULL")
    assert await ledger.transact(lambda verbs: verbs.segments_needed(["a"])) == {}


async def test_a_generation_that_is_gone_is_found_no_more_and_its_loaded_segments_are_off_the_disk(ledger, path):
    tail = replace(await entered(ledger, await begun(ledger), 50, "a"), state=TailState.FINISHED)
    await run_sql(ledger, "UPDATE files SET state = 'loaded', wanted = NULL")
    await ledger.transact(lambda verbs: verbs.lose_tail(tail, now_s=9.0))
    assert await ledger.transact(lambda verbs: verbs.tails("logs")) == []
    with views.reading(path) as db:
        assert [row[0] for row in db.execute("SELECT presence FROM files")] == ["removed"]
        (told,) = views.tails_at(db, [PATH])
    assert (told["generation"], told["is_on_disk"], told["offset"], told["segments"]) == (1, False, 50, {"loaded": 1})


async def test_a_packed_log_is_known_by_how_it_begins_and_where_it_lies(ledger):
    tail = await begun(ledger)
    await entered(ledger, tail, 50, "a")
    head = b"n\n" + b"x" * 100
    await run_sql(ledger, "UPDATE tails SET head_bytes = 10, head = '" + hashlib.sha256(head[:10]).hexdigest() + "'")

    async def found(path: bytes, content: bytes) -> bool:
        return await ledger.transact(lambda verbs: verbs.tail_beginning("logs", path, content)) is not None

    assert await found(b"in/app.log.1.gz", head)
    assert not await found(b"elsewhere/app.log.1.gz", head)
    assert not await found(b"in/app.log.1.gz", b"n\nother content")
    assert not await found(b"in/app.log.1.gz", head[:5])
