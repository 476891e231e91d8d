"""`landingd`: one clear line and an exit code for whatever goes wrong, never a bare traceback."""

import io
import os
import sys

from landingd.errors import LandingdError


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
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        # `landingd runs | head`: the reader has what it wanted. Typer and rich make an exit code of 1 of that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except PermissionError as error:
        print(f"landingd: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201 -- the same
        print("  hint: who is in the daemon's group may ask it while it runs", file=sys.stderr)  # noqa: T201
        sys.exit(os.EX_NOPERM)
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        what = " ".join(str(error).split())
        print(f"landingd: unexpected {type(error).__name__}: {what}", file=sys.stderr)  # noqa: T201 -- the same
        print("  hint: this is a fault of landingd; `landingd --traceback ...` shows where", file=sys.stderr)  # noqa: T201
        sys.exit(os.EX_SOFTWARE)


if __name__ == "__main__":
    main()
