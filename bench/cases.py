"""What is measured, and how the noise of a shared machine is kept out of the comparison.

Within a case all peers live side by side, each with a fresh warehouse, and take turns file by file; the limit
has two warehouses and goes first and last in each turn, so that a slow moment meets everyone. In a burst they go
one after another, the limit before and after. Only ratios within a run mean anything. Every answer is compared: a
peer whose gold table differs from the limit's has not been faster.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import duckdb
from bench.peers import Landingd, Limit, Naive, Peer, PeerFailedError, Process

from landingd.cli.sample import rows_of_size

KB, MB = 1_000, 1_000_000
WARM_UP = "00000-warm-up.csv"
PROCESSES: dict[str, Callable[[Path], Process]] = {"naive": Naive, "landingd": Landingd}

Make = Callable[[Path], Peer]
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """`files` of `n_bytes` each, one after another or all at once."""

    label: str
    files: int
    n_bytes: int
    at_once: bool = False
    goal: float | None = None
    """For landingd, as a multiple of the limit: at most, in time; at least, in files per second."""

    def contents(self) -> Iterator[tuple[str, bytes]]:
        for number in range(1, self.files + 1):
            yield f"{number:05d}.csv", rows_of_size(number, self.n_bytes)


FULL = (
    Case("1 KB", 60, KB, goal=2.0),
    Case("100 KB", 20, 100 * KB),
    Case("10 MB", 5, 10 * MB),
    Case("100 MB", 2, 100 * MB, goal=1.15),
    Case("burst of 1,000 x 1 KB", 1_000, KB, at_once=True, goal=3.0),
)
QUICK = (
    Case("1 KB", 20, KB, goal=2.0),
    Case("10 MB", 2, 10 * MB),
    Case("burst of 200 x 1 KB", 200, KB, at_once=True, goal=3.0),
)


@dataclass
class Outcome:
    """What came of one peer in one case: seconds per file, or files per second, as often as it was measured."""

    case: Case
    peer: str
    samples: list[float] = field(default_factory=list)
    limit: float = 0.0
    """The limit's median in the same case."""
    failure: str = ""

    @property
    def value(self) -> float:
        return median(self.samples)

    @property
    def ratio(self) -> float:
        return self.value / self.limit

    @property
    def goal_met(self) -> bool | None:
        if self.peer != "landingd" or self.case.goal is None:
            return None
        if self.failure:
            return False
        return self.ratio >= self.case.goal if self.case.at_once else self.ratio <= self.case.goal


@dataclass(frozen=True)
class Idle:
    peer: str
    cpu_percent: float
    rss_mb: float


def measure(case: Case, base: Path, names: Sequence[str]) -> list[Outcome]:
    """All peers on one case; one that fails is reported and does not stop the others."""
    outcomes = (burst if case.at_once else one_by_one)(case, base, names)
    for outcome in outcomes:
        outcome.limit = outcomes[0].value
    return outcomes


def one_by_one(case: Case, base: Path, names: Sequence[str]) -> list[Outcome]:
    outcomes = {name: Outcome(case, name) for name in ["limit", *names]}
    with living(base) as start:
        first, last = start("limit-first", Limit), start("limit-last", Limit)
        started = [attempt(outcomes[name], partial(start, name, PROCESSES[name])) for name in names]
        others = [peer for peer in started if peer]
        for turn, (name, content) in enumerate(case.contents()):
            middle = others if turn % 2 else others[::-1]
            for peer in [first, *middle, last]:
                took_s = attempt(outcomes[peer.name], partial(peer.deliver, name, content))
                if took_s is not None:
                    outcomes[peer.name].samples.append(took_s)
        compare(outcomes, {first: "limit", last: "limit"} | {peer: peer.name for peer in others})
    return list(outcomes.values())


def burst(case: Case, base: Path, names: Sequence[str]) -> list[Outcome]:
    """One peer after another, the limit before and after; all files in one transaction are told apart."""
    together = "limit, one commit"
    outcomes = {name: Outcome(case, name) for name in ["limit", together, *names]}
    order: list[tuple[str, Make]] = [
        ("limit", Limit),
        *((name, PROCESSES[name]) for name in names),
        (together, partial(Limit, all_at_once=True)),
        ("limit", Limit),
    ]
    contents = dict(case.contents())
    with living(base) as start:
        peers = {}
        for number, (name, make) in enumerate(order):
            peer = attempt(outcomes[name], partial(start, f"{number}-{name}", make))
            if peer is None:
                continue
            took_s = attempt(outcomes[name], partial(peer.burst, contents))
            peer.stop()
            if took_s is not None:
                outcomes[name].samples.append(case.files / took_s)
            peers[peer] = name
        compare(outcomes, peers)
    return list(outcomes.values())


def idle(base: Path, names: Sequence[str], *, settle_s: float, watch_s: float) -> list[Idle]:
    """What the processes cost while nothing lands, after they have loaded one file."""
    with living(base) as start:
        peers = [start(name, PROCESSES[name]) for name in names]
        processes = [peer for peer in peers if isinstance(peer, Process)]
        time.sleep(settle_s)
        before = [peer.cpu_s() for peer in processes]
        time.sleep(watch_s)
        return [
            Idle(peer.name, 100 * (peer.cpu_s() - cpu_s) / watch_s, peer.rss_mb())
            for peer, cpu_s in zip(processes, before, strict=True)
        ]


def compare(outcomes: Mapping[str, Outcome], peers: Mapping[Peer, str]) -> None:
    """Stop everyone, and hold their gold tables against the first one's, which is the limit's."""
    expected = None
    for peer, name in peers.items():
        peer.stop()
        if outcomes[name].failure:
            continue
        try:
            gold = peer.gold()
        except duckdb.Error as error:
            outcomes[name].failure = f"its gold table cannot be read: {error}"
            continue
        expected = gold if expected is None else expected
        if gold != expected:
            outcomes[name].failure = f"its gold table differs: {len(gold)} brands, expected {len(expected)}"


def attempt(outcome: Outcome, step: Callable[[], T]) -> T | None:
    """The step's result; None, and the reason kept, if the peer fails in it or has failed before."""
    if outcome.failure:
        return None
    try:
        return step()
    except PeerFailedError as error:
        outcome.failure = str(error)
        return None


@contextmanager
def living(base: Path) -> Iterator[Callable[[str, Make], Peer]]:
    """Start peers in folders of their own, warmed up; in the end stop them and remove what they wrote."""
    peers: list[Peer] = []

    def start(folder: str, make: Make) -> Peer:
        (base / folder).mkdir(parents=True)
        peer = make(base / folder)
        peers.append(peer)
        peer.deliver(WARM_UP, rows_of_size(0, KB))
        return peer

    try:
        yield start
    finally:
        for peer in peers:
            peer.stop()
        shutil.rmtree(base)
