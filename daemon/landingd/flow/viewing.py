"""Read the ledger for an answer: on a connection that cannot write, beside the event loop, all of it at one moment."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from landingd.edge.ledger import views

T = TypeVar("T")


class View:
    """What is to be read is called with the connection."""

    def __init__(self, ledger_file: Path) -> None:
        self._ledger_file = ledger_file

    async def __call__(self, read: Callable[[views.Connection], T]) -> T:
        """What it reads."""
        return await asyncio.to_thread(self._read, read)

    def _read(self, read: Callable[[views.Connection], T]) -> T:
        with views.one_moment(self._ledger_file) as db:
            return read(db)
