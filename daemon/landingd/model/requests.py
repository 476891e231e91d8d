"""What is asked of the running daemon, and how it answers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landingd.model.states import Result, RunState, TriggerType


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An answer that lies in a file; the file is deleted once it is sent."""

    path: Path
    media_type: str


Parameters = dict[str, Any]
Handler = Callable[[Parameters], Awaitable[Any]]
"""Takes path, query and body parameters together; returns JSON-ready data or a FileAnswer; raises LandingdError."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A trigger has fired, or somebody asks for a run (Databricks: `run-now`)."""

    trigger_type: TriggerType
    key: str
    """Accepted once for each job: the same key is the same run."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values given; they are laid over the job's defaults."""
    trigger: str | None = None
    """Which of the job's triggers; None: somebody asked."""
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What `{{job.trigger...}}` stands for."""
    only: tuple[str, ...] = ()
    """Selectors of a partial run: "t", "+t", "t+", "+t+"."""
    queue: bool | None = None
    """Whether it may wait for room; None: as the job says."""
    priority: int | None = None
    """None: the job's."""
    file_ids: Sequence[int] | None = ()
    """For these versions; None: for those that wait."""
    parent: tuple[int, str] | None = None
    """Of a run_job task: its run and its key."""
    depth: int = 0
    """How many run_job tasks are above it."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a request."""

    run_id: int
    state: RunState
    result: Result | None = None
    """Of a skipped run: why; of one that was asked for before and has ended: how."""
    known: bool = False
    """The key was accepted before, and this is its run."""


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """Which tasks of a finished run are to run again (Databricks: `runs/repair`)."""

    rerun_tasks: tuple[str, ...] = ()
    rerun_all_failed_tasks: bool = False
    rerun_dependent_tasks: bool = False
    latest_repair_id: int | None = None
    """The newest repair that its sender knows of; with another one the request is refused."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values that take the place of the run's own."""
