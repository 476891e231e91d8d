"""One class per thing that can be done about it; each error tells its reader what to do.

An error that a person reads is one line (what, where, why) and a hint. `str(error)` is that text.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class LandingdError(Exception):
    """Base of everything that landingd raises on purpose.

    `exit_code` is what the CLI leaves with (sysexits.h where one fits).
    """

    exit_code = 1

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what}\n  hint: {self.hint}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a file that a person wrote: where it stands, what is wrong, what to do.

    `file` is as the user would name it, `line` counts from 1 (0: the file as a whole).
    """

    file: str
    line: int
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{where}: {self.what}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The hint for a word that is not among the known ones but nearly is, or is written in another case."""
    listed = list(known)
    near = difflib.get_close_matches(word, listed, n=1) or [one for one in listed if one.casefold() == word.casefold()]
    return f"did you mean {near[0]!r}?" if near else None


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file and line."""
    return sorted(problems, key=lambda p: (p.file, p.line, p.what))


class JobFileError(LandingdError):
    """One or more job files cannot be used; `problems` lists every fault, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ConfigError(LandingdError):
    """A setting is wrong: the process must not start. Exit code 78 (EX_CONFIG)."""

    exit_code = 78


class NotRunningError(LandingdError):
    """The daemon does not answer on its control socket. Exit code 69 (EX_UNAVAILABLE)."""

    exit_code = 69


class AlreadyRunningError(LandingdError):
    """Another process holds the warehouse. Exit code 75 (EX_TEMPFAIL)."""

    exit_code = 75


class NotFoundError(LandingdError):
    """A job, run or file that was asked for is not known. Exit code 66 (EX_NOINPUT)."""

    exit_code = 66


class RefusedError(LandingdError):
    """A request is understood and not allowed (a write in `query`, a repair of an active run). Exit code 65."""

    exit_code = 65


class EngineError(LandingdError):
    """A statement failed in the engine.

    `permanent` says that trying the same again cannot help (SQL that does not bind, a missing table).
    """

    def __init__(self, what: str, *, permanent: bool, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.permanent = permanent
