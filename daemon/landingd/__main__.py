"""`landingd`: one clear line and an exit code for whatever goes wrong, never a bare traceback."""

import errno
import io
import os
import sys
from typing import NoReturn

from landingd.errors import LandingdError

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main() -> None:
    """The console script."""
    from landingd.cli.app import app  # noqa: PLC0415 -- so that an import that fails is reported below too

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Half a character, or a bar where the terminal knows no bars, costs its look and not the answer.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except LandingdError as error:
        print(f"landingd: {error}", file=sys.stderr)  # noqa: T201 -- this is where a person reads it
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: taking the interpreter down with an exception alive makes DuckDB's bindings print a page of
        # "leaked instance ..." under the one line that matters.
        os._exit(error.exit_code)
    except SystemExit as leaving:
        _leave(leaving)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(_explain(error))


def _leave(leaving: SystemExit) -> NoReturn:
    """Exit as is wanted, if what was printed could be written: a short answer leaves only now."""
    unsaid: BaseException | None = None
    try:
        sys.stdout.flush()
    except OSError as error:
        unsaid = error
    if isinstance(leaving.__context__, BrokenPipeError) or isinstance(unsaid, BrokenPipeError):
        # `landingd runs | head`: the reader has what it wanted. Typer and rich make an exit code of 1 of that.
        _give_up_output()
        sys.exit(141)
    if unsaid is not None:
        sys.exit(_explain(unsaid))
    raise leaving


def _explain(error: BaseException) -> int:
    """Say in a line or two what went wrong that no verb expects; the exit code."""
    if isinstance(error, PermissionError):
        lines = [f"{error.filename}: {error.strerror}", "  hint: who is in the daemon's group may ask it while it runs"]
        code = os.EX_NOPERM
    elif isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        _give_up_output()
        lines = [f"{error.filename or 'standard output'}: {error.strerror}"]
        code = os.EX_IOERR
    else:
        what = " ".join(str(error).split())
        hint = "  hint: this is a fault of landingd; `landingd --traceback ...` shows where"
        lines = [f"unexpected {type(error).__name__}: {what}", hint]
        code = os.EX_SOFTWARE
    print("landingd:", "\n".join(lines), file=sys.stderr)  # noqa: T201 -- as above
    return code


def _give_up_output() -> None:
    """Or Python tries again as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
