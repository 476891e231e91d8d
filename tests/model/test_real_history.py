"""Eight years of a real data set's corrections, delivered again: 465 files in 292 batches, each the whole file anew.

The data lies outside of the repository (`REAL_FILES`, or `../shared/data` beside it); where it is missing,
these tests are skipped. What the tables have to hold after certain batches comes with the data.
"""

import csv
import hashlib
import os
import random
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemons import REPOSITORY, LandingdProcess

DATA = Path(os.environ.get("REAL_FILES", REPOSITORY.parent / "shared/data")) / "international_results"
SHORT = 51
"""Batches of the short form: up to the third of those for which the answer is known."""
KILL_WITHIN_S = 0.4
"""A batch is loaded in about half of this."""

NAMES = ("results", "goalscorers", "shootouts", "former_names")
TASKS = "".join(
    f"""
          - task_key: bronze_{name}
            ingest: {{pattern: {name}.csv, nulls: ["", "NA"]}}
            table: bronze.{name}"""
    for name in NAMES
)
FOOTBALL = {
    "football/job.yml": f"""
        name: football
        triggers:
          - file_arrival: {{path: football, pattern: "*.csv"}}
        tasks:{TASKS}
          - task_key: silver
            depends_on: [{{task_key: bronze_results}}]
            sql: silver.sql
            table: silver.results
          - task_key: gold
            depends_on: [{{task_key: silver}}]
            sql: gold.sql
            table: gold.summary
        """,
    "football/silver.sql": """
        SELECT home_team, away_team, home_score AS home, away_score AS away
        FROM bronze.results
        """,
    "football/gold.sql": """
        SELECT sum(home) + sum(away) AS goals,
            (SELECT count(DISTINCT team) FROM (SELECT unnest([home_team, away_team]) AS team FROM silver.results))
                AS teams,
            count(*) FILTER (home_team = 'Brazil' AND home > away OR away_team = 'Brazil' AND away > home)
                AS brazil_wins
        FROM silver.results
        """,
}


@dataclass(frozen=True)
class History:
    folder: Path
    batches: Mapping[int, Sequence[str]]
    """By number the names of the files in it."""
    expected: Mapping[int, Mapping[str, str]]
    """By number what the tables hold after this batch."""

    def content(self, batch: int, name: str) -> bytes:
        return (self.folder / f"{name}.{batch:04}").read_bytes()


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    if not (DATA / "deliveries.tar.xz").exists():
        pytest.skip(f"{DATA} is not there")
    folder = tmp_path_factory.mktemp("history")
    subprocess.run(["tar", "-xJf", DATA / "deliveries.tar.xz", "-C", folder], check=True)
    batches: dict[int, list[str]] = defaultdict(list)
    for event in _table(DATA / "events.tsv"):
        batches[int(event["seq"])].append(event["file"])
    expected = {int(row["seq"]): row for row in _table(DATA / "expected.tsv")}
    yield History(folder / "deliveries", batches, expected)
    shutil.rmtree(folder)


def _table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


class Replay:
    """A daemon, and what was delivered to it last under each name."""

    def __init__(self, daemon: LandingdProcess, history: History) -> None:
        self.daemon = daemon
        self._history = history
        self._newest: dict[str, str] = {}

    def deliver(self, batch: int) -> None:
        """By turns written in place and moved in."""
        for name in self._history.batches[batch]:
            content = self._history.content(batch, name)
            (self.daemon.drop if batch % 2 else self.daemon.move_in)(f"football/{name}", content)
            self._newest[f"football/{name}"] = hashlib.sha256(content).hexdigest()

    def rest(self) -> None:
        """Wait until the newest version of each file is loaded, and check the answer where it is known."""
        self.daemon.until(lambda: self._loaded() == self._newest and not self.daemon.open_runs())

    def _loaded(self) -> dict[str, str]:
        rows = self.daemon.ledger("SELECT name, content_hash FROM files WHERE state = 'loaded'")
        return {row["name"]: row["content_hash"] for row in rows}

    def check(self, batch: int) -> None:
        if batch in self._history.expected:
            told = self._history.expected[batch].items()
            assert self._answer() == {key: int(n or 0) for key, n in told if key != "seq"}

    def _answer(self) -> dict[str, Any]:
        (summary,) = self.daemon.query("SELECT goals::BIGINT AS goals, teams, brazil_wins FROM gold.summary")
        tables = self.daemon.get("/v1/columns")
        return summary | {
            name: self.daemon.value(f"SELECT count(*) FROM bronze.{name}") if f"bronze.{name}" in tables else 0
            for name in NAMES
        }


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_real_history_delivered_as_fast_as_it_goes_gives_its_tables(tmp_path: Path, history: History) -> None:
    with LandingdProcess(tmp_path / "base", FOOTBALL) as daemon:
        replay = Replay(daemon, history)
        for batch in history.batches:
            replay.deliver(batch)
            if batch in history.expected:
                replay.rest()
                replay.check(batch)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "batches", [pytest.param(SHORT, id="short"), pytest.param(None, id="whole", marks=pytest.mark.long)]
)
def test_a_real_history_gives_its_tables_though_the_daemon_is_killed_again_and_again(
    tmp_path: Path, history: History, batches: int | None
) -> None:
    rng = random.Random(1)  # noqa: S311 -- the same moments every time
    with LandingdProcess(tmp_path / "base", FOOTBALL) as daemon:
        replay = Replay(daemon, history)
        for batch in list(history.batches)[:batches]:
            replay.deliver(batch)
            if rng.random() < (0.5 if batches is None else 0.25):
                time.sleep(rng.random() * KILL_WITHIN_S)  # a random moment is what is asked for
                daemon.kill()
                daemon.start()
            replay.rest()
            replay.check(batch)
