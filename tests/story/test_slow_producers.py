"""Producers that take their time: what they have not finished is never in a table, however well it would read.

The pauses are real, since they are what this is about. More than half of all truncations of a CSV file read without
an error, so nothing but the proof that a file is complete can keep a part of one out.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from daemons import LandingdProcess

PAUSE_MAX_S = 2.0
PIECES = 5
FILES_OF_EACH_KIND = 6
JOB = """
    name: {name}
    trigger: {{file_arrival: {{path: {name}, pattern: "*.csv"{more}}}}}
    tasks:
      - task_key: bronze
        ingest: {{schema_hints: {{id: BIGINT, customer: VARCHAR, amount: DOUBLE}}}}
        table: bronze.{name}
    """
KINDS = {
    "held": "",
    "quiet": ", wait_after_last_change_seconds: 4",
    "marked": ', marker: "{name}.done"',
    "again": "",
}
Producer = Callable[[Path, bytes, random.Random], None]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LandingdProcess]:
    """A job for each kind of producer."""
    jobs = {f"{name}/job.yml": JOB.format(name=name, more=more) for name, more in KINDS.items()}
    with LandingdProcess(tmp_path / "base", jobs) as process:
        yield process


def rows(chance: random.Random) -> bytes:
    """A CSV file of some hundred bytes, of which no two are alike."""
    lines = ["id,customer,amount"]
    for _ in range(chance.randrange(10, 40)):
        customer = "".join(chance.choice("abcé x") for _ in range(chance.randrange(8)))
        lines.append(f"{chance.randrange(10**9)},{customer},{chance.random():.3f}")
    return ("\n".join(lines) + "\n").encode()


def pieces(content: bytes, chance: random.Random) -> list[bytes]:
    """Cut anywhere: within a line, a number, a letter."""
    cuts = sorted(chance.sample(range(1, len(content)), PIECES - 1))
    return [content[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def in_one_open(file: Path, content: bytes, chance: random.Random) -> None:
    with file.open("wb", buffering=0) as writer:
        for piece in pieces(content, chance):
            time.sleep(chance.uniform(0, PAUSE_MAX_S))
            writer.write(piece)


def in_several_opens(file: Path, content: bytes, chance: random.Random) -> None:
    for piece in pieces(content, chance):
        with file.open("ab") as writer:
            writer.write(piece)
        time.sleep(chance.uniform(0, PAUSE_MAX_S))


def in_several_opens_with_a_marker(file: Path, content: bytes, chance: random.Random) -> None:
    in_several_opens(file, content, chance)
    file.with_name(f"{file.name}.done").touch()


def produce(
    daemon: LandingdProcess, kind: str, producer: Producer, *, first: int = 0
) -> Callable[[], dict[str, bytes]]:
    """Let producers write files of one kind side by side; what they wrote, once they are done."""
    numbers = range(first, first + FILES_OF_EACH_KIND)
    contents = {f"{kind}/{n}.csv": rows(random.Random(f"{kind}{n}")) for n in numbers}  # noqa: S311
    folder = daemon.landing / kind
    beside = ThreadPoolExecutor(FILES_OF_EACH_KIND)
    writing = [
        beside.submit(producer, folder / Path(name).name, content, random.Random(name))  # noqa: S311
        for name, content in contents.items()
    ]

    def written() -> dict[str, bytes]:
        wait(writing)
        for one in writing:
            one.result()
        beside.shutdown()
        return contents

    return written


def until_all_are_loaded(daemon: LandingdProcess, contents: dict[str, bytes]) -> None:
    whole = {(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()}
    daemon.until(lambda: whole <= versions(daemon, "state = 'loaded'") and not daemon.open_runs())


def versions(daemon: LandingdProcess, where: str = "content_hash IS NOT NULL") -> set[tuple[str, str]]:
    """Every version that was ever taken to be complete, also those that gave way to another."""
    return {(row["name"], row["content_hash"]) for row in daemon.ledger(f"SELECT * FROM files WHERE {where}")}


def ids_of(contents: dict[str, bytes]) -> list[int]:
    return sorted(int(line.split(b",")[0]) for content in contents.values() for line in content.splitlines()[1:])


def ids_in(daemon: LandingdProcess, kind: str) -> list[int]:
    return [row["id"] for row in daemon.query(f"SELECT id FROM bronze.{kind} ORDER BY id")]


def test_no_part_of_a_file_is_ever_taken_for_the_whole(daemon: LandingdProcess) -> None:
    producers = {"held": in_one_open, "quiet": in_several_opens, "marked": in_several_opens_with_a_marker}
    writing = [produce(daemon, kind, producer) for kind, producer in producers.items()]
    reason = "SELECT 1 FROM files WHERE name LIKE ? AND state = 'waiting' AND reason LIKE ?"
    daemon.until(lambda: daemon.ledger(reason, ("held/%", "a process has it open%")))
    daemon.until(lambda: daemon.ledger(reason, ("marked/%", "waiting for its marker%")))
    contents = {name: content for written in writing for name, content in written().items()}
    until_all_are_loaded(daemon, contents)
    assert versions(daemon) == {(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()}
    for kind in producers:
        assert ids_in(daemon, kind) == ids_of({n: c for n, c in contents.items() if n.startswith(kind)})
    evidence = {
        kind: daemon.cli("why", f"{kind}/0.csv")["versions"][0]["evidence"].partition("; unchanged")[0]
        for kind in producers
    }
    assert evidence == {
        "held": "closed, and no process has it open for writing",
        "quiet": "closed, and no process has it open for writing",
        "marked": "marker 0.csv.done, and no process has it open for writing",
    }


def test_where_nothing_tells_the_last_close_from_the_others_the_parts_leave_again_and_the_daemon_learns(
    daemon: LandingdProcess,
) -> None:
    first = produce(daemon, "again", in_several_opens)()
    until_all_are_loaded(daemon, first)
    assert ids_in(daemon, "again") == ids_of(first)
    assert daemon.logged("file_reopened"), "no part was ever taken: this shows nothing"

    later = produce(daemon, "again", in_several_opens, first=FILES_OF_EACH_KIND)()
    until_all_are_loaded(daemon, later)
    assert ids_in(daemon, "again") == ids_of(first | later)
    taken = {(name, content_hash) for name, content_hash in versions(daemon) if name in later}
    assert taken == {(name, hashlib.sha256(content).hexdigest()) for name, content in later.items()}
    (version,) = daemon.cli("why", f"again/{FILES_OF_EACH_KIND}.csv")["versions"]
    assert version["evidence"].endswith("since files here were opened again after they were closed")
