"""The verbs of `landingd`. Each is a few lines: ask, then print; `--json` prints the answer as it is."""

from landingd.cli import verbs_daemon, verbs_files, verbs_jobs, verbs_runs
from landingd.cli.common import app

__all__ = ["app", "verbs_daemon", "verbs_files", "verbs_jobs", "verbs_runs"]
