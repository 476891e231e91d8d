"""Where in a file something was said."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a job file something was said: `file` as the user would name it, `line` from 1."""

    file: str
    line: int
