"""`python -m bench`: landingd and a naive script against the limit, which is DuckDB alone.

Ends with 1 if a peer failed or has another gold table than the limit; a goal that was missed is only printed,
because one run on a busy machine proves little.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "daemon"))  # measured where it lies, installed or not

from bench import cases, dag, report
from bench.peers import PeerFailedError


def main() -> int:
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 120)
    outcomes, idle = [], []
    with tempfile.TemporaryDirectory(prefix="landingd-bench-", dir=options.dir) as folder:
        for number, case in enumerate(cases.QUICK if options.quick else cases.FULL):
            with console.status(case.label):
                outcomes += cases.measure(case, Path(folder, str(number)), options.peer)
        with console.status("idle"):
            try:
                idle = cases.idle(Path(folder, "idle"), options.peer, settle_s=3, watch_s=3 if options.quick else 15)
            except PeerFailedError as error:
                console.print(f"idle: {error}", markup=False)
        with console.status(f"a run of {dag.TASKS:,} tasks"):
            dags = dag.measure(Path(folder, "dag"))
    report.print_outcomes(outcomes, console)
    report.print_idle(idle, console)
    report.print_dags(dags, console)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(outcomes, idle, dags), indent=2) + "\n")
    return 1 if any(outcome.failure for outcome in outcomes) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller files: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to FILE")
    parser.add_argument("--dir", type=Path, help="where to work; the figures are those of its disk")
    parser.add_argument(
        "--peer",
        action="append",
        choices=list(cases.PROCESSES),
        help="only this one beside the limit; repeatable",
    )
    options = parser.parse_args()
    options.peer = options.peer or list(cases.PROCESSES)
    return options


if __name__ == "__main__":
    sys.exit(main())
