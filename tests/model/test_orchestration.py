"""Many runs of jobs of every shape, with failures, deaths of the daemon, cancels and repairs, drawn from a seed.

The ledger keeps its laws all the while, nothing is stuck, and what a repair should mend is mended.
`RANDOM_LISTS_SEED=n` plays other runs.
"""

import os
from pathlib import Path

import pytest

from model.orchestration.jobs import LONG, SHORT
from model.orchestration.stage import Stage

SEED = int(os.environ.get("RANDOM_LISTS_SEED", "1"))


@pytest.mark.timeout(300)
def test_sixty_runs_of_ten_jobs_with_deaths_and_repairs_keep_the_ledgers_laws_and_all_end(tmp_path: Path) -> None:
    Stage(tmp_path / "base", SHORT, SEED).play(runs=60, kills=3, stops=1)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("nth", range(4))
def test_two_hundred_runs_of_twenty_jobs_with_deaths_and_repairs_keep_the_ledgers_laws_and_all_end(
    tmp_path: Path, nth: int
) -> None:
    Stage(tmp_path / "base", LONG, SEED * 1_000 + nth).play(runs=200, kills=9, stops=3)
