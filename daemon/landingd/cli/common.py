"""What all verbs share: the application, its configuration, options that mean the same everywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landingd import __version__
from landingd.errors import RefusedError

if TYPE_CHECKING:
    from landingd.cli.asking import Asker
    from landingd.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Files dropped into landing directories become bronze, silver and gold tables, exactly once.",
)

_config: Path | None = None

DAEMON, JOBS, RUNS, FILES = "Daemon", "Jobs", "Runs", "Files"
"""What verbs are grouped under in the help."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Wait = Annotated[bool, typer.Option(help="Wait for the end; the exit code tells the result.")]
RequestId = Annotated[str | None, typer.Option(help="The same request id gives the same run (an idempotency token).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; writes nothing.")]
JobOption = Annotated[str | None, typer.Option("--job", help="Only for this job.")]
RunId = Annotated[int, typer.Argument(min=0, max=(1 << 63) - 1)]
OptionalJob = Annotated[str | None, typer.Argument()]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]
Parameter = Annotated[list[str] | None, typer.Option("--param", "-p", help="name=value; may be repeated.")]

FINE = frozenset({"SUCCESS", "SUCCESS_WITH_FAILURES"})


def _version(wanted: bool) -> None:
    if wanted:
        print(f"landingd {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="landingd.toml; else $LANDINGD_CONFIG, config/, /etc/landingd/."),
    ] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an unexpected fault came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version, traceback  # read where they act
    global _config  # noqa: PLW0603 -- typer hands the option to the callback, the verbs need it
    _config = config


def settings(config: Path | None = None) -> "Settings":
    """The settings of this call; ConfigError where they are wrong."""
    from landingd.settings import load

    return load(config or _config)


def asker() -> "Asker":
    """Who answers: the daemon, or the files that it left."""
    from landingd.cli.asking import Asker

    return Asker(settings())


def pairs(given: list[str] | None, option: str = "-p") -> dict[str, str]:
    """`name=value`, several times."""
    found: dict[str, str] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise RefusedError(f"{option} {pair}: must be name=value")
        if found.get(name, value) != value:
            raise RefusedError(f"{option} {name}: has two values, {found[name]!r} and {value!r}", hint="leave one out")
        found[name] = value
    return found


def print_run(answer: dict[str, Any], *, json: bool) -> None:
    """A run, or what became of a request for one; exit code 1 if it did not go well."""
    from landingd.cli import printing, render_runs

    if json:
        printing.as_json(answer)
    elif "queued_at" in answer:
        render_runs.run(answer)
    else:
        render_runs.admitted(answer)
    if answer.get("result") not in {None, *FINE}:
        raise typer.Exit(1)
