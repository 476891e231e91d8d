"""Wait for something to end, and show on a terminal how far it is."""

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from landingd.cli.asking import Asker

POLL_S = 0.1
ENDED = frozenset({"TERMINATED", "SKIPPED"})
OPEN = frozenset({"QUEUED", "RUNNING", "TERMINATING"})


def for_run(asker: "Asker", run_id: int, *, quiet: bool) -> dict[str, Any]:
    """Ask until the run has ended; on a terminal with a spinner that names the tasks at work."""
    with _terminal(quiet=quiet).status(f"run {run_id}") as spinner:
        while True:
            asked_s = time.monotonic()
            answer = asker.run(run_id)
            if answer["state"] in ENDED:
                return answer
            if answer["state"] == "QUEUED":
                spinner.update(f"run {run_id} waits for room; landingd queue says for what")
            else:
                tasks = [task for task in answer["tasks"] if task["parent"] is None]
                busy = [task["task_key"] for task in tasks if task["state"] == "RUNNING"]
                done = sum(task["state"] == "TERMINATED" for task in tasks)
                spinner.update(f"run {run_id}: {done}/{len(tasks)} tasks {', '.join(busy[:5])}")
            # A run of a thousand tasks takes a while to tell; the daemon has other things to do.
            time.sleep(max(POLL_S, 5 * (time.monotonic() - asked_s)))


def for_backfill(asker: "Asker", backfill_id: str, *, quiet: bool) -> dict[str, Any]:
    """Ask until all its runs have ended; on a terminal with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_terminal(quiet=quiet)) as progress:
        bar = progress.add_task(f"backfill {backfill_id}", total=None)
        while True:
            answer = asker.backfill(backfill_id)
            done = sum(count for word, count in answer["runs"].items() if word not in OPEN)
            progress.update(bar, total=answer["values"], completed=done)
            if answer["done"]:
                return answer
            time.sleep(5 * POLL_S)


def _terminal(*, quiet: bool) -> Console:
    return Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
