"""What a task in a process of its own is told, and what it leaves: all through its environment and three files.

The files lie below `tasks/` in paths.state, a folder for each run: the log (or the executed notebook) stays there as
long as the run's history, the other two go when the attempt has ended.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landingd.errors import LandingdError
from landingd.model import OUTPUT_BYTES_MAX, AttemptKey

_OURS = re.compile(r"LANDINGD_|CREDENTIALS_DIRECTORY$|NOTIFY_SOCKET$|WATCHDOG_|LISTEN_")
"""Of the daemon's environment what is nobody else's business: settings, passwords among them, and systemd's wires."""


class TaskValuesError(LandingdError):
    """A task's process has left something that is no task values. Exit code 65."""

    exit_code = 65


@dataclass(frozen=True, slots=True)
class Exchange:
    """The files of one attempt."""

    folder: Path
    stem: str

    @property
    def log_file(self) -> Path:
        """What it prints."""
        return self.folder / f"{self.stem}.log"

    @property
    def notebook(self) -> Path:
        """The executed notebook, with its output."""
        return self.folder / f"{self.stem}.ipynb"

    @property
    def files_file(self) -> Path:
        """The run's files: a JSON array of absolute paths."""
        return self.folder / f".{self.stem}.files.json"

    @property
    def values_file(self) -> Path:
        """Where it may write a JSON object: the task's values."""
        return self.folder / f".{self.stem}.values.json"

    def read_values(self) -> dict[str, Any]:
        """What it has left; raises TaskValuesError. None at all are no error."""
        try:
            with self.values_file.open("rb") as file:
                text = file.read(OUTPUT_BYTES_MAX + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise TaskValuesError(f"the file in LANDINGD_VALUES cannot be read: {error.strerror}") from error
        if len(text) > OUTPUT_BYTES_MAX:
            raise TaskValuesError(
                f"what it wrote to LANDINGD_VALUES is larger than {OUTPUT_BYTES_MAX:,} bytes",
                hint="task values are for small things: a number of rows, the name of a file",
            )
        try:
            values = json.loads(text, parse_constant=_refuse) if text.strip() else {}
        except ValueError as error:
            raise TaskValuesError(f"what it wrote to LANDINGD_VALUES is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise TaskValuesError(
                f"what it wrote to LANDINGD_VALUES is no JSON object, but a {type(values).__name__}",
                hint='write {"name": value, ...}',
            )
        return values

    def clear(self) -> None:
        """Take away what was only for the attempt."""
        for file in (self.files_file, self.values_file):
            if file.is_dir() and not file.is_symlink():  # whatever a task has made of it
                shutil.rmtree(file, ignore_errors=True)
            file.unlink(missing_ok=True)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def open_exchange(tasks_dir: Path, key: AttemptKey, files: Sequence[str]) -> Exchange:
    """Make the attempt's folder and say its files; raises OSError."""
    exchange = Exchange(tasks_dir / str(key.run_id), f"{key.task_key}-{key.attempt}")
    exchange.folder.mkdir(parents=True, exist_ok=True)
    exchange.clear()
    exchange.files_file.write_text(json.dumps(list(files)), encoding="utf-8")
    return exchange


def environment(
    exchange: Exchange, key: AttemptKey, job: str, parameters: Mapping[str, str], socket: Path
) -> dict[str, str]:
    """The environment of a task's process: the daemon's without its own affairs, and what the task is told."""
    inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    told = {f"LANDINGD_PARAM_{_variable(name)}": value for name, value in parameters.items()}
    return {
        **inherited,
        **told,
        "LANDINGD_RUN_ID": str(key.run_id),
        "LANDINGD_TASK_KEY": key.task_key,
        "LANDINGD_ATTEMPT": str(key.attempt),
        "LANDINGD_JOB": job,
        "LANDINGD_FILES": str(exchange.files_file.absolute()),
        "LANDINGD_VALUES": str(exchange.values_file.absolute()),
        "LANDINGD_SOCKET": str(socket),
        "PYTHONUNBUFFERED": "1",  # what a task has printed before it is killed is in its log
    }


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII).upper()


def tail_of(log_file: Path, n_bytes: int) -> str:
    """The end of a log, from a line's start on where there is one."""
    try:
        with log_file.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - n_bytes))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return text.partition("\n")[2] if size > n_bytes and "\n" in text else text


def forget_logs(tasks_dir: Path, before_run_id: int, keep: Collection[int] = ()) -> int:
    """Delete the folders of runs before this one, but those to be kept; how many."""
    forgotten = 0
    with suppress(FileNotFoundError):
        for folder in tasks_dir.iterdir():
            if folder.name.isdecimal() and int(folder.name) < before_run_id and int(folder.name) not in keep:
                shutil.rmtree(folder, ignore_errors=True)
                forgotten += 1
    return forgotten
