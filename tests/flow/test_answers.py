"""Answers about what goes on meanwhile."""

from functools import partial

import pytest

from bookkeeping import arrival, job
from landingd.edge.ledger import LedgerThread, views
from landingd.flow import answers, entries
from landingd.flow.books import Books
from landingd.flow.catalog import Catalog
from landingd.flow.viewing import View
from landingd.model import Committed, FileLoad, Stats

SHOP = job()


class Desk:
    """A ledger that is written to and read from."""

    def __init__(self, folder):
        self.path, self.root = folder / "ledger.sqlite", folder
        self.ledger = LedgerThread(self.path)
        self.books = Books(self.ledger)
        self.view = View(self.path)

    def close(self):
        self.ledger.close()


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


async def test_an_answer_is_of_one_moment_whatever_is_written_while_it_is_put_together(desk):
    await desk.books.accept([arrival(b"in/a.csv")])
    started = await desk.books.next_run(SHOP)

    def load_meanwhile():
        """What the ledger's thread does between two reads of an answer."""
        done = Committed(Stats(files=(FileLoad(1, 3, 3),)))
        verbs = partial(entries.conclude, job=SHOP, key=started.begun[0], outcome=done, now_s=2000.0, go_on=True)
        desk.ledger._thread.submit(desk.ledger._transact, verbs, False).result()

    def read(db):
        before = answers.story(db, "in/a.csv", Catalog((SHOP,)), desk.root)["versions"]
        load_meanwhile()
        return before, answers.story(db, "in/a.csv", Catalog((SHOP,)), desk.root)["versions"]

    before, after = await desk.view(read)
    assert before == after
    assert before[0]["state"] == "waiting"
    with views.reading(desk.path) as db:
        assert answers.story(db, "in/a.csv", Catalog((SHOP,)), desk.root)["versions"][0]["state"] == "loaded"
