"""The user's function: read from its file for each attempt, and told by line where it fails.

The module is nobody else's: it stands in `sys.modules` under a name of its own, for as long as the call runs
(dataclasses look for it there), so a changed file counts at once and nothing of an earlier attempt is left. What it
imports is imported as everywhere, once.
"""

import itertools
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from landingd.edge.engine.faults import PERMANENT
from landingd.errors import EngineError, did_you_mean
from landingd.model import PythonCall

_HEALS_NOT = (SyntaxError, ImportError, NameError, *PERMANENT)
"""What the same file would raise again."""
_FRAMES_MAX = 3
_CHARACTERS_MAX = 2000
_numbers = itertools.count(1)


@contextmanager
def loaded(call: PythonCall) -> Iterator[Callable[..., Any]]:
    """The function, while the block runs.

    Raises EngineError (permanent) where there is none, and whatever the file raises as it is read.
    """
    try:
        source = call.file.read_bytes()
    except OSError as error:
        raise EngineError(f"{call.shown_file}: cannot be read: {error.strerror}", permanent=True) from error
    module = types.ModuleType(f"{call.file.stem} (call {next(_numbers)} of a Python task)")
    module.__file__ = str(call.file)
    sys.modules[module.__name__] = module
    try:
        code = compile(source, str(call.file), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 -- the user's own code is what is asked for
        yield _function(call, module)
    finally:
        del sys.modules[module.__name__]


def _function(call: PythonCall, module: types.ModuleType) -> Callable[..., Any]:
    function: Callable[..., Any] | None = module.__dict__.get(call.function)
    if not callable(function):
        known = [name for name, value in module.__dict__.items() if isinstance(value, types.FunctionType)]
        raise EngineError(
            f"{call.shown_file}: has no function {call.function!r}",
            permanent=True,
            hint=did_you_mean(call.function, known) or f"its functions are {', '.join(known) or 'none'}",
        )
    return function


def explained(call: PythonCall, error: BaseException) -> EngineError:
    """What went wrong, first where in the user's file: `tasks.py:12: KeyError: 'month'`."""
    said = error.what if isinstance(error, EngineError) else str(error).strip()
    what = said if isinstance(error, EngineError) else f"{type(error).__name__}: {said}".removesuffix(": ")
    if isinstance(error, SyntaxError) and error.filename == str(call.file):
        what = f"{call.shown_file}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(call.file)][-_FRAMES_MAX:]
    lines = [what[:_CHARACTERS_MAX]]
    if frames:
        lines[0] = f"{call.shown_file}:{frames[-1].lineno}: {lines[0]}"
        lines += [f"  {call.shown_file}:{f.lineno} in {f.name}: {f.line}" for f in frames]
    permanent = isinstance(error, _HEALS_NOT) or (isinstance(error, EngineError) and error.permanent)
    return EngineError("\n".join(lines), permanent=permanent, hint=getattr(error, "hint", None))
