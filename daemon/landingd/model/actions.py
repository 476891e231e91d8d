"""What a task does that is neither an ingest nor SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from landingd.model.states import ConditionOp

if TYPE_CHECKING:
    from landingd.model.jobs import Task


@dataclass(frozen=True, slots=True)
class Condition:
    """If/else (Databricks: `condition_task`): which of the tasks behind it run. Operands may hold references."""

    op: ConditionOp
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class ForEach:
    """A loop (Databricks: `for_each_task`): the nested task once for each input."""

    inputs: str
    """A JSON array, or a reference that gives one."""
    task: "Task"
    """Its `task_key` names the template; iterations are `<loop>[<n>]`, from 0."""
    concurrency: int = 1


def iteration_key(loop: str, number: int) -> str:
    """The task key of a loop's iteration, counted from 0."""
    return f"{loop}[{number}]"


def loop_of(task_key: str) -> str | None:
    """The loop that an iteration belongs to; None: it is the key of a plain task."""
    return task_key.rpartition("[")[0] if task_key.endswith("]") else None


@dataclass(frozen=True, slots=True)
class RunJob:
    """A run of another job, waited for (Databricks: `run_job_task`)."""

    job: str
    job_parameters: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A callable, in this process, with a context (ours: `python_task`)."""

    file: Path
    """The Python file that holds it, below the job's folder."""
    shown_file: str
    function: str = "main"


@dataclass(frozen=True, slots=True)
class Script:
    """A Python file in a process of its own (Databricks: `spark_python_task`)."""

    file: Path
    shown_file: str
    arguments: tuple[str, ...] = ()
    memory_limit_bytes: int = 0
    """0: none."""


@dataclass(frozen=True, slots=True)
class Notebook:
    """A Jupyter notebook in a process of its own (Databricks: `notebook_task`); needs the extra `notebook`."""

    file: Path
    shown_file: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """`base_parameters`."""
    memory_limit_bytes: int = 0


Action = Condition | ForEach | RunJob | PythonCall | Script | Notebook
