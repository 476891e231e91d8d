"""Run a notebook: papermill, in a process of its own.

Parameters are text, as Databricks' widgets are: they take the place of what the cell tagged `parameters` sets. The
executed notebook, with all output up to the cell that failed, is the attempt's log.
"""

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landingd.edge.processes.exchange import Exchange

_NEEDED = ("papermill", "ipykernel")
_OUTPUT_CHARACTERS_MAX = 2000


def notebook_available() -> str | None:
    """What is missing for notebook tasks; None: nothing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    return f"notebook_task needs {' and '.join(missing)}: install landingd[notebook]" if missing else None


def command(notebook: Path, exchange: Exchange, parameters: Mapping[str, str]) -> list[str]:
    """The command that executes it; papermill runs in the daemon's Python, the kernel is the notebook's."""
    given = [word for name, value in parameters.items() for word in ("-r", name, value)]
    options = ["--no-progress-bar", "--log-level", "WARNING", "--cwd", str(notebook.parent)]
    return [sys.executable, "-m", "papermill", str(notebook), str(exchange.notebook), *options, *given]


def places(tasks_dir: Path) -> dict[str, str]:
    """Where the kernel may write: a service has no home of that kind."""
    jupyter = tasks_dir / ".jupyter"
    return {
        "IPYTHONDIR": str(jupyter / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(jupyter / "runtime"),
        "JUPYTER_CONFIG_DIR": str(jupyter / "config"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def failure(executed: Path) -> str | None:
    """Where an executed notebook failed: `cell 3: ValueError: no rows`; None where it does not say."""
    for number, cell in enumerate(_cells(executed), start=1):
        for output in cell.get("outputs", ()):
            if output.get("output_type") == "error":
                return f"cell {number}: {output.get('ename')}: {output.get('evalue')}"[:_OUTPUT_CHARACTERS_MAX]
    return None


def _cells(executed: Path) -> list[dict[str, Any]]:
    # papermill puts a cell of its own above one that failed, and one with the parameters that were given.
    try:
        cells = json.loads(executed.read_text(encoding="utf-8")).get("cells", [])
    except (OSError, ValueError):
        return []
    added = ("papermill-error-cell-tag", "injected-parameters")
    return [cell for cell in cells if not set(added) & set(cell.get("metadata", {}).get("tags", ()))]
