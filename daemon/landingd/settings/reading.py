"""Find every mistake in the configuration before the daemon starts, not one an hour.

A setting comes from one of four places, the later wins: the TOML file, systemd's credentials
(`$CREDENTIALS_DIRECTORY/mqtt__password`), the environment (`LANDINGD_MQTT__PORT`), the caller. Whatever is
wrong in any of them ends in one `ConfigError` with a line per fault.

Four faults would otherwise pass in silence and leave a daemon that runs with other settings than its operator
believes: a misspelt variable, a misspelt credential, a file or a credentials directory that is not there.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
    TomlConfigSettingsSource,
)

from landingd.errors import ConfigError, Problem
from landingd.settings.schema import PREFIX, Settings

CONFIG_VARIABLE = "LANDINGD_CONFIG"
CONFIG_PLACES = (Path("config/landingd.toml"), Path("/etc/landingd/landingd.toml"))
SOCKET_PATH_BYTES_MAX = 107
"""What fits into sun_path; a longer path is refused by bind(), after everything else has been started."""


def load(config: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings from all four places, or raise one ConfigError that lists every fault.

    `overrides` are nested like the file: `load(path, mqtt={"port": 1884})`.
    """
    environ = os.environ if environ is None else environ
    sources = _Sources(config or _find(environ), environ, _credentials_dir(environ), overrides)
    problems = [sources.misspelt(name) for name in sources.unknown]
    problems += [sources.no_json(name) for name in sources.unparsable]
    try:
        settings = _rooted(sources.read(), sources.file)
    except ValidationError as error:
        problems += [sources.problem(details) for details in error.errors(include_url=False)]
    else:
        problems += _misplaced(settings, sources.file)
    if problems:
        # Raised out here and not in the `except`: the library's error holds what was given, a password
        # perhaps, and a traceback would show it as the context of ours.
        raise ConfigError("\n".join(map(str, problems)))
    return settings


def _find(environ: Mapping[str, str]) -> Path:
    named = environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    for place in CONFIG_PLACES:
        if os.access(place, os.F_OK):
            return place
    raise ConfigError(
        f"no configuration file: neither {' nor '.join(map(str, CONFIG_PLACES))} is there",
        hint=f"name one with --config or {CONFIG_VARIABLE}",
    )


def _credentials_dir(environ: Mapping[str, str]) -> Path | None:
    """The folder in which systemd hands over what `LoadCredential=` names."""
    named = environ.get("CREDENTIALS_DIRECTORY")
    if named and not Path(named).is_dir():
        raise ConfigError(f"{named}: CREDENTIALS_DIRECTORY names it, and there is no such directory")
    return Path(named) if named else None


def _rooted(settings: Settings, file: Path) -> Settings:
    rooted = settings.model_copy(update={"base": (file.resolve().parent / settings.base).resolve()})
    rooted._config_file = file.resolve()  # noqa: SLF001 -- known here and nowhere else
    return rooted


def _misplaced(settings: Settings, file: Path) -> Iterator[Problem]:
    """Faults that show only once the paths are absolute."""
    if len(os.fsencode(settings.socket_path)) > SOCKET_PATH_BYTES_MAX:
        yield Problem(
            str(file),
            0,
            f"paths.socket: is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a socket's path may have"
            f" (got {str(settings.socket_path)!r})",
            hint="name a shorter one, in /run for example",
        )
    if settings.state_dir.is_relative_to(settings.landing_dir):
        yield Problem(
            str(file),
            0,
            f"paths.state: lies in the landing root {str(settings.landing_dir)!r}, where the daemon"
            f" would take its own files for arrivals (got {str(settings.state_dir)!r})",
        )
    if settings.archive_dir.is_relative_to(settings.landing_dir):
        yield Problem(
            str(file),
            0,
            f"paths.archive: lies in the landing root {str(settings.landing_dir)!r}, where archived files would"
            f" arrive again (got {str(settings.archive_dir)!r})",
        )


GIVEN_TO_TASKS = re.compile(r"LANDINGD_(PARAM_.*|RUN_ID|TASK_KEY|ATTEMPT|JOB|FILES|VALUES|SOCKET)")
"""What a task's process finds in its environment, and hands on to a `landingd query` of its own: no settings."""


class _Sources:
    """The four places: reads them, and knows which of them a value came from."""

    def __init__(
        self, file: Path, environ: Mapping[str, str], credentials: Path | None, overrides: dict[str, Any]
    ) -> None:
        self.file = file
        self.overrides = overrides
        self.variables = {
            name: value
            for name, value in environ.items()
            if name.upper().startswith(PREFIX)
            and name.upper() != CONFIG_VARIABLE
            and not GIVEN_TO_TASKS.fullmatch(name.upper())
        }
        self.credentials = credentials
        self.secrets = [path.name for path in sorted(credentials.iterdir())] if credentials else []
        self.unknown = [name for name in (*sorted(self.variables), *self.secrets) if _dotted(name) not in _leaves()]
        structured = [name for name in (*sorted(self.variables), *self.secrets) if _dotted(name) in _structured()]
        self.unparsable = [name for name in structured if not _is_json(self._text(name))]

    def read(self) -> Settings:
        """Stack the places; names that nothing is called are left out here, since `misspelt` tells them."""
        file, credentials = self.file, self.credentials
        known = set(_leaves()) - set(map(_dotted, self.unparsable))
        variables = {name.lower(): value for name, value in self.variables.items() if _dotted(name) in known}

        class Environment(EnvSettingsSource):
            def _load_env_vars(self) -> Mapping[str, str | None]:
                return variables

        class Credentials(NestedSecretsSettingsSource):
            def _load_env_vars(self) -> Mapping[str, str | None]:
                return {name: text for name, text in super()._load_env_vars().items() if _dotted(name) in known}

        class Layered(Settings):
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                del env_settings, dotenv_settings  # the process's own, not those passed in
                return (
                    init_settings,
                    Environment(settings_cls),
                    Credentials(
                        file_secret_settings,
                        secrets_dir=credentials,
                        secrets_prefix="",
                        secrets_nested_delimiter="__",
                    ),
                    TomlConfigSettingsSource(settings_cls, toml_file=file),
                )

        try:
            if not file.is_file():  # which the library would take for an empty one
                raise ConfigError(f"{file}: no such configuration file")
            return Layered(**self.overrides)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(_syntax_error(file, error)) from None
        except (OSError, UnicodeDecodeError, SettingsError) as error:
            raise ConfigError(f"{file}: the configuration cannot be read: {error}") from None

    def _text(self, name: str) -> str:
        """What a variable or a credential says."""
        if name in self.variables or self.credentials is None:
            return self.variables[name]
        return (self.credentials / name).read_text(encoding="utf-8", errors="replace")

    def no_json(self, name: str) -> Problem:
        """A variable or a credential for a list or a table, which is read as JSON."""
        where = str(self.credentials) if name in self.secrets else "environment"
        return Problem(where, 0, f"{name}: is no JSON", f"for example {_structured()[_dotted(name)]}")

    def misspelt(self, name: str) -> Problem:
        """A variable or a credential that sets nothing."""
        near = _nearest(_dotted(name), _leaves())
        if name in self.secrets:
            where, spelt = str(self.credentials), near and near.replace(".", "__")
        else:
            where, spelt = "environment", near and _variable(near)
        return Problem(where, 0, f"{name}: no setting is called that", spelt and f"did you mean '{spelt}'?")

    def problem(self, details: ErrorDetails) -> Problem:
        """One fault that validation found, with the place that the value came from."""
        dotted = ".".join(map(str, details["loc"]))
        leaves = _leaves()
        where, line, key = self._origin(dotted)
        if details["type"] == "extra_forbidden":
            # The value is not shown: under a misspelt name it may be a password.
            near = _nearest(dotted, leaves)
            hint = f"did you mean '{near}'?" if near else None
            return Problem(where, line, f"{key}: no setting is called that", hint)
        if details["type"] in {"model_type", "model_attributes_type"}:
            return Problem(where, line, f"{key}: is a section, not a value")
        shown = f" (got {_shown(dotted, details['input'])})" if dotted in leaves else ""
        return Problem(where, line, f"{key}: {details['msg'].removeprefix('Value error, ')}{shown}")

    def _origin(self, dotted: str) -> tuple[str, int, str]:
        section, _, leaf = dotted.rpartition(".")
        if leaf in (self.overrides.get(section, {}) if section else self.overrides):
            return "command line", 0, dotted
        for name in self.variables:
            if _is_in(dotted, _dotted(name)):
                return "environment", 0, name
        for name in self.secrets:
            if _is_in(dotted, _dotted(name)):
                return str(self.credentials), 0, name
        setting = next((name for name in _structured() if _is_in(dotted, name)), dotted)
        return str(self.file), _line_of(setting, self.file.read_text(encoding="utf-8")), dotted


def _leaves() -> dict[str, bool]:
    """Every setting's dotted name, and whether it is secret."""
    leaves: dict[str, bool] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner = field.annotation.model_fields.items()
            leaves |= {
                f"{name}.{leaf}": SecretStr in (each.annotation, *get_args(each.annotation)) for leaf, each in inner
            }
        else:
            leaves[name] = False
    return leaves


def _structured() -> dict[str, str]:
    """The settings that are a list or a table, each with an example in JSON."""
    return {"mqtt.commands": '["run", "pause"]', "alerts.destinations": '{"oncall": "json://host/path"}'}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _is_in(dotted: str, setting: str) -> bool:
    """Whether a name is that setting, or a part of it: `mqtt.commands.0`."""
    return dotted == setting or dotted.startswith(f"{setting}.")


def _dotted(name: str) -> str:
    """`LANDINGD_MQTT__PORT`, or the credential `mqtt__port`, as the file would say it: `mqtt.port`."""
    return name.lower().removeprefix(PREFIX.lower()).replace("__", ".")


def _variable(dotted: str) -> str:
    return PREFIX + dotted.upper().replace(".", "__")


def _nearest(dotted: str, known: Iterable[str]) -> str | None:
    """The setting that was probably meant: one spelt nearly so, or one of that name in another section."""
    for name in known:
        if name.rpartition(".")[2] == dotted.rpartition(".")[2]:
            return name
    near = difflib.get_close_matches(dotted, known, n=5, cutoff=0.7)
    swapped = (name for name in near if sorted(name) == sorted(dotted))  # `prot` is `port` rather than `root`
    return next(swapped, next(iter(near), None))


def _shown(dotted: str, given: object) -> str:
    return "**********" if _leaves()[dotted] else repr(given)[:60]


def _line_of(dotted: str, toml: str) -> int:
    """The line on which a setting or a section stands, 0 where it is in no plain form."""
    section = ""
    for number, line in enumerate(toml.splitlines(), start=1):
        header = re.match(r"\s*\[\s*([\w.-]+)\s*\]", line)
        key = re.match(r"\s*([\w.-]+)\s*=", line)
        if header:
            section = header[1] + "."
        if dotted == (section[:-1] if header else section + key[1] if key else None):
            return number
    return 0


def _syntax_error(file: Path, error: tomllib.TOMLDecodeError) -> str:
    """The parser's message has the line at its end, and no file."""
    at = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", str(error), re.DOTALL)
    what, line = (at[1], int(at[2])) if at else (str(error), 0)
    return str(Problem(str(file), line, f"is no valid TOML: {what}"))
