"""What is asked of the running daemon, and how it answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An answer that lies in a file; the file is deleted once it is sent."""

    path: Path
    media_type: str


Parameters = dict[str, Any]
Handler = Callable[[Parameters], Awaitable[Any]]
"""Takes path, query and body parameters together; returns JSON-ready data or a FileAnswer; raises LandingdError."""
