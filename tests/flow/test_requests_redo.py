"""Unload, replay and requeue on a real ledger: what one request becomes, and what it leaves alone."""

from pathlib import Path

import pytest

from bookkeeping import Clock, arrival, job, looked_up
from landingd.core.redo import Asked, Verb
from landingd.edge.ledger import LedgerThread, SegmentVersion
from landingd.errors import NotFoundError, RefusedError
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.redo import Redo, asked_of, time_of
from landingd.model import Committed, Facts, FileLoad, Segment, Signature, Stats

SHOP, OTHER = job(), job(name="other")


class Desk:
    """Two jobs, a ledger, and runs that do as they are told."""

    def __init__(self, path):
        self.path = path
        self.clock = Clock(10_000.0)
        self.ledger = LedgerThread(path)
        self.books = Books(self.ledger, self.clock)
        self.jobs = [SHOP, OTHER]
        self.woken = []
        self.redo = self.desk(self.books)

    def desk(self, books):
        return Redo(
            books=books,
            ledger_file=self.path,
            landing_root=Path("/landing"),
            catalog=lambda: Catalog(tuple(self.jobs)),
            wake=self.woken.append,
            clock=self.clock,
        )

    async def land(self, *paths, name="shop"):
        await self.books.accept([arrival(path, content=f"{path!r} {name}", name=name) for path in paths])

    async def grow(self, path, *lengths):
        """A growing file of which stretches of so many bytes are entered; returns its generation."""

        def enter(ledger):
            tail = ledger.begin_tail("shop", path, Signature(100, 1, 2, 3, 4), now_s=1000.0)
            start = 0
            for length in lengths:
                segment = Segment(tail.tail_id, start, start + length)
                facts, seen = Facts(records=2, segment=segment), Signature(length, 1, 2, 3, 4)
                version = SegmentVersion(segment, f"{path!r} {start}", seen, facts, "whole lines", ("bronze",))
                ledger.add_segment(tail, version, now_s=1000.0)
                start += length
            return tail

        return await self.ledger.transact(enter)

    async def run(self, *, quarantined=(), rejected=()):
        for each in (SHOP, OTHER):
            while (started := await self.books.next_run(each)) is not None:
                (key,) = started.begun
                batch = await self.books.batch(each, key)
                loads = [self.came_of(one.file.file_id, quarantined, rejected) for one in batch.load]
                loads += [FileLoad(file_id, retracted=True) for file_id in batch.retract]
                await self.books.conclude(each, key, Committed(Stats(files=tuple(loads))), go_on=True)

    def came_of(self, file_id, quarantined, rejected):
        if file_id in quarantined:
            return FileLoad(file_id, quarantined="broken")
        return FileLoad(file_id, 2, 1, 1) if file_id in rejected else FileLoad(file_id, 2, 2)

    async def ask(self, verb, *files, **more):
        return await self.redo.ask(Asked(verb, files, **more))

    def rows(self, sql):
        return looked_up(self.path, sql)

    def close(self):
        self.ledger.close()


@pytest.fixture
async def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.sqlite")
    yield desk
    desk.close()


def chosen(answer):
    return [(one["file_id"], one["action"]) for one in answer["files"]]


async def test_one_request_is_one_run_for_each_job(desk):
    await desk.land(b"in/a.csv", b"in/b.csv")
    await desk.land(b"in/a.csv", name="other")
    await desk.run()
    answer = await desk.ask(Verb.REPLAY, "in/a.csv", "in/b.csv")
    assert chosen(answer) == [(1, "reload"), (3, "reload"), (2, "reload")]
    assert [run["job"] for run in answer["runs"]] == ["shop", "other"]
    assert desk.woken == ["shop", "other"]
    ids = [run["run_id"] for run in answer["runs"]]
    assert desk.rows(f"SELECT run_id, file_id, action FROM run_files WHERE run_id >= {ids[0]}") == [
        (ids[0], 1, "reload"),
        (ids[0], 2, "reload"),
        (ids[1], 3, "reload"),
    ]


async def test_the_path_of_a_file_that_grows_means_all_that_is_left_of_it(desk):
    gone = await desk.grow(b"in/app.log", 10, 20)
    await desk.run()
    await desk.ledger.transact(lambda ledger: ledger.lose_tail(gone, now_s=1000.0))
    await desk.grow(b"in/app.log", 5, 5, 5)
    await desk.run(rejected={4})
    assert chosen(await desk.ask(Verb.REQUEUE, "app.log", dry_run=True)) == [(4, "reload")]
    assert [one for one, _ in chosen(await desk.ask(Verb.UNLOAD, "app.log", dry_run=True))] == [1, 2, 3, 4, 5]
    answer = await desk.ask(Verb.REPLAY, "app.log")
    assert chosen(answer) == [(3, "reload"), (4, "reload"), (5, "reload")]
    assert (answer["refused"], answer["left_out"], len(answer["runs"])) == (0, 2, 1)
    await desk.run()
    run_id = answer["runs"][0]["run_id"]
    assert desk.rows(f"SELECT file_id FROM loads WHERE run_id = {run_id}") == [(3,), (4,), (5,)]
    assert chosen(await desk.ask(Verb.REPLAY, "#5", dry_run=True)) == [(5, "reload")]


async def test_a_job_that_is_named_keeps_the_others_out(desk):
    await desk.land(b"in/a.csv")
    await desk.land(b"in/a.csv", name="other")
    await desk.run()
    assert chosen(await desk.ask(Verb.UNLOAD, "in/a.csv", job="other")) == [(2, "retract")]
    with pytest.raises(NotFoundError, match="no job 'nobody'"):
        await desk.ask(Verb.UNLOAD, "in/a.csv", job="nobody")


async def test_a_repeated_request_takes_up_where_the_first_one_died(desk):
    """Between its two runs the process died: the job that has its run keeps it, the other one gets one."""
    await desk.land(b"in/a.csv")
    await desk.land(b"in/a.csv", name="other")
    await desk.run()
    first = await desk.ask(Verb.UNLOAD, "in/a.csv", job="shop", request_id="r")
    await desk.run()
    second = await desk.ask(Verb.UNLOAD, "in/a.csv", request_id="r")
    assert second["runs"][0] == first["runs"][0]
    assert chosen(second) == [(2, "retract"), (1, None)]
    assert second["refused"] == 0
    third = await desk.ask(Verb.UNLOAD, "in/a.csv", request_id="r")
    assert third["runs"] == second["runs"]
    assert len(desk.rows("SELECT 1 FROM runs")) == 4


async def test_a_number_is_an_id_only_where_no_file_is_called_so(desk):
    await desk.land(b"in/a.csv", b"in/1")
    await desk.run()
    assert chosen(await desk.ask(Verb.REPLAY, "1", dry_run=True)) == [(2, "reload")]
    assert chosen(await desk.ask(Verb.REPLAY, "#1", dry_run=True)) == [(1, "reload")]
    assert (await desk.ask(Verb.REPLAY, "#77", dry_run=True))["files"][0]["refused"].startswith("not in the ledger")


async def test_a_name_that_is_no_text_is_named_as_it_is_shown(desk):
    await desk.land(b"in/caf\xe9.csv")
    await desk.run()
    answer = await desk.ask(Verb.UNLOAD, r"in/caf\xe9.csv", dry_run=True)
    assert chosen(answer) == [(1, "retract")]
    assert answer["files"][0]["file"] == r"in/caf\xe9.csv"


async def test_since_counts_what_was_loaded_or_seen_since_then(desk):
    await desk.land(b"in/a.csv")
    await desk.run()
    desk.clock.pass_s(7200)
    await desk.land(b"in/b.csv")
    await desk.run()
    assert chosen(await desk.ask(Verb.REPLAY, since="1h", dry_run=True)) == [(2, "reload")]
    assert chosen(await desk.ask(Verb.REPLAY, since="1970-01-01T00:00", dry_run=True)) == [(1, "reload"), (2, "reload")]


async def test_requeue_means_what_was_quarantined_and_what_lost_rows(desk):
    await desk.land(b"in/a.csv", b"in/b.csv", b"in/c.csv", b"in/gone.csv")
    await desk.run(quarantined={1, 4}, rejected={2})
    await desk.books.removed([("shop", b"in/gone.csv")])
    answer = await desk.ask(Verb.REQUEUE)
    assert (chosen(answer), answer["left_out"]) == ([(1, "reload"), (2, "reload")], 1)
    await desk.run()
    assert desk.rows("SELECT file_id, state FROM files WHERE state <> 'quarantined'") == [
        (1, "loaded"), (2, "loaded"), (3, "loaded"),
    ]  # fmt: skip
    assert chosen(await desk.ask(Verb.REQUEUE)) == []


async def test_the_files_of_a_job_that_is_gone_are_refused(desk):
    await desk.land(b"in/a.csv", name="other")
    await desk.run()
    desk.jobs = [SHOP]
    (one,) = (await desk.ask(Verb.REPLAY, "in/a.csv"))["files"]
    assert one["refused"] == "there is no job 'other' any more"
    assert desk.woken == []


async def test_what_changed_after_it_was_chosen_is_chosen_anew(desk):
    """The file is withdrawn by its producer between the look and the transaction."""
    await desk.land(b"in/a.csv", b"in/b.csv")
    await desk.run()
    books = desk.books

    class Slow:
        """The books, with something that happens first, once."""

        def __init__(self):
            self.first = True

        async def request_run(self, *about, **more):
            if self.first:
                self.first = False
                await books.removed([("shop", b"in/a.csv")])
            return await books.request_run(*about, **more)

    answer = await desk.desk(Slow()).ask(Asked(Verb.REPLAY, ("in/a.csv", "in/b.csv")))
    assert [(one["action"], one["refused"]) for one in answer["files"]] == [
        (None, "its bytes are not kept, the file was removed"),
        ("reload", None),
    ]
    assert len(answer["runs"]) == 1


async def test_a_dry_run_asks_nothing_of_the_books(desk):
    await desk.land(b"in/a.csv")
    await desk.run()
    before = desk.rows("SELECT * FROM files")
    answer = await desk.desk(None).ask(Asked(Verb.UNLOAD, ("in/a.csv",), dry_run=True))
    assert (chosen(answer), answer["runs"], desk.rows("SELECT * FROM files")) == ([(1, "retract")], [], before)


@pytest.mark.parametrize(
    ("text", "at_s"),
    [("90s", 910.0), ("2m", 880.0), ("1970-01-01T00:01", 60.0), ("1970-01-01T01:00+01:00", 0.0), ("soon", None)],
)
def test_a_time_is_a_date_or_how_long_ago(text, at_s):
    assert time_of(text, now_s=1000.0) == at_s


def test_a_request_over_the_socket_names_files_as_a_list_of_texts():
    assert asked_of(Verb.REPLAY, {"files": ["a"], "failed": True}) == Asked(Verb.REPLAY, ("a",), failed=True)
    for files in ("a.csv", [1], {"a": 1}):
        with pytest.raises(RefusedError, match="list of names"):
            asked_of(Verb.REPLAY, {"files": files})
