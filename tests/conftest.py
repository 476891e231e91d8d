"""For all tests: what a test leaves behind on its event loop fails it.

A task that nobody awaits, and an exception that ends such a task, are as good as invisible: the test passes, and
what should have gone wrong in it goes wrong in production.
"""

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import hypothesis
import pytest

# A busy machine is no fault of the code: how long an example takes says nothing.
hypothesis.settings.register_profile("landingd", deadline=None)
hypothesis.settings.load_profile("landingd")


@pytest.fixture(autouse=True)
def nothing_is_left_on_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up first and so torn down last: whatever other fixtures stop has stopped by then."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("_loop_left_clean")
    yield  # noqa: PT022 -- a generator, so that it is torn down before the loop is looked at


@pytest.fixture
async def _loop_left_clean() -> AsyncIterator[None]:
    swallowed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: swallowed.append(context))
    before = asyncio.all_tasks()
    yield
    gc.collect()  # the loop is told of an exception that nobody retrieved when its task is freed
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, "tasks still run"
    assert not swallowed, "exceptions that nobody saw"
