"""Which tasks a run's length hangs on: making any other one faster would not have ended it sooner."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A task that ran: from the begin of its first attempt to the end of its last one."""

    task_key: str
    depends_on: tuple[str, ...]
    began_s: float
    ended_s: float


def critical(spans: Sequence[Span]) -> tuple[str, ...]:
    """The chain that ends with the task that ended last, first task first: of those before a task always the latest.

    A task that did not run is no link: the chain ends there.
    """
    by_key = {span.task_key: span for span in spans}
    link = max(spans, key=lambda span: span.ended_s, default=None)
    chain: list[str] = []
    while link is not None and link.task_key not in chain:
        chain.append(link.task_key)
        before = [by_key[key] for key in link.depends_on if key in by_key]
        link = max(before, key=lambda span: span.ended_s, default=None)
    return tuple(reversed(chain))
