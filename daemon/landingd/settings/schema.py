"""Say what can be set, to what, and what it means: one place for the daemon, the file and the operator.

The docstring under a field is its line of meaning in `config/landingd.toml`, and the default here is the
value there; a test holds the two together.
"""

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "LANDINGD_"


# --- what a value may look like ---------------------------------------------------------------------------


def _topic_safe(text: str) -> str:
    if re.search(r"[+#\x00-\x1f\x7f]", text) or text.startswith("$") or "" in text.split("/"):
        raise ValueError("must be a topic: no '+', '#', control characters, empty levels or leading '$'")
    return text


def _node(text: str) -> str:
    if not text:
        return re.sub(r"[^\w.-]", "-", socket.gethostname()) or "localhost"
    if "/" in text:
        raise ValueError("must be one topic level, without '/'")
    return _topic_safe(text)


def _loopback(host: str) -> str:
    """Anybody may connect to the embedded broker and command the daemon, so it is for this machine only."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ValueError("must be a loopback address, since the embedded broker lets everybody in")
    return host


def _byte_size(text: str) -> str:
    if text and not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]i?B", text, re.IGNORECASE):
        raise ValueError("must be a size with a unit: KB, MB, GB, TB, or KiB, MiB, GiB, TiB")
    return text


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)]
Interval = Annotated[float, Field(ge=0.01, le=86400, allow_inf_nan=False)]
ByteSize = Annotated[str, AfterValidator(_byte_size)]
Command = Literal["run", "repair", "cancel", "pause", "resume", "replay", "unload", "requeue", "backfill"]
Named = Annotated[str, Field(min_length=1)]


# --- the settings -----------------------------------------------------------------------------------------


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Paths(_Section):
    """Where things are; a relative path starts at `base`."""

    landing: Path = Path("landing")
    """The landing root: producers drop their files into directories below it."""
    state: Path = Path("state")
    """What the daemon owns: warehouse.duckdb, ledger.sqlite, temp/."""
    archive: Path = Path("archive")
    """Where `cleanup: archive` moves loaded files: fastest on the file system of the landing root, but not in it."""
    pipelines: Path = Path("pipelines")
    """One folder per job, each with its job.yml."""
    socket: Path = Path("state/control.sock")
    """The socket through which the command line talks to the running daemon."""


class Landing(_Section):
    """How files are noticed."""

    scan_interval_seconds: Interval = 30.0
    """Every directory is listed this often, whatever the kernel has reported."""
    poll_interval_seconds: Interval = 1.0
    """Where no events come (NFS, SMB, FUSE, ...) a directory is listed this often; a large one less often."""
    quiet_seconds: Seconds = 2.0
    """Where the file system cannot tell whether a writer is left, a file must have rested this long."""
    cleanup_interval_seconds: Interval = 5.0
    """Loaded files are archived or deleted, and archived ones deleted for good, as soon as a run has ended, and
    this often."""
    census_interval_seconds: Interval = 60.0
    """Every file on disk is counted against the ledger this often; what does not add up is said."""


class Engine(_Section):
    """DuckDB."""

    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads of one query; 0: one per core."""
    memory_limit: ByteSize = ""
    """Memory that queries may use before they spill to disk ("4GB"); empty: DuckDB's own choice, 80 %."""
    checkpoint_threshold: Annotated[str, Field(min_length=1), AfterValidator(_byte_size)] = "1GB"
    """A write-ahead log of this size is folded into the warehouse at once, even if runs have to wait."""
    idle_checkpoint_seconds: Seconds = 2.0
    """The log is also folded in after this long without a write, when nobody waits."""


class Runs(_Section):
    """How runs are started and stopped."""

    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 8
    """Runs at a time, over all jobs."""
    drain_seconds: Seconds = 20.0
    """At a stop, attempts get this long to finish; the rest is rolled back, and done at the next start."""


class Mqtt(_Section):
    """Where the daemon says what it is doing."""

    enabled: bool = True
    """false: no events are kept or published."""
    host: Named = "127.0.0.1"
    """The broker's name or address."""
    port: Port = 1883
    """The broker's port; 8883 is usual with TLS."""
    root: Annotated[str, AfterValidator(_topic_safe)] = "landingd"
    """Topics are <root>/<node>/..."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """The version of MQTT: "5", "3.1.1", or "auto": 5, and 3.1.1 where the broker refuses that."""
    username: str = ""
    """Who to log in as; empty: nobody."""
    password: SecretStr = SecretStr("")
    """Better kept out of this file: in a systemd credential mqtt__password, or in LANDINGD_MQTT__PASSWORD."""
    tls: bool = False
    """true: encrypt, and check that the broker's certificate is for `host`."""
    ca_file: str = ""
    """The authorities (PEM) that the broker's certificate is checked against; empty: those of the system."""
    cert_file: str = ""
    """Our own certificate (PEM), for a broker that asks for one."""
    key_file: str = ""
    """The private key of `cert_file`."""
    keepalive_seconds: Annotated[int, Field(ge=5, le=65535)] = 30
    """A broker that hangs is noticed after one and a half times this long."""
    reconnect_min_seconds: Interval = 0.5
    """The first pause before connecting again; it doubles with each failure."""
    reconnect_max_seconds: Interval = 30.0
    """The longest pause."""
    commands: tuple[Command, ...] = ()
    """Verbs that may be asked for on <root>/<node>/command/<verb>, by whoever the broker lets publish there: run,
    repair, cancel, pause, resume, replay, unload, requeue, backfill. None: nobody can command the daemon over MQTT."""
    outbox_max_events: Annotated[int, Field(ge=1000)] = 1_000_000
    """Events kept for a broker that is away; beyond it the oldest are given up, and counted."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse what would be ignored without a word."""
        files = [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, name)]
        if files and not self.tls:
            raise ValueError(f"{files[0]} is set while tls = false")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file need each other")
        if self.password.get_secret_value() and not self.username:
            raise ValueError("password is set without a username")
        if self.reconnect_max_seconds < self.reconnect_min_seconds:
            raise ValueError("reconnect_max_seconds is less than reconnect_min_seconds")
        return self


class Broker(_Section):
    """A broker inside the daemon, for a demo or a developer's machine; needs the extra `landingd[broker]`."""

    embedded: bool = False
    """true: start it. It keeps nothing over a restart and asks nobody for a password."""
    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    """A loopback address."""
    port: Port = 1883
    """Its port; [mqtt] has to name the same one."""


class HomeAssistant(_Section):
    """Home Assistant finds the daemon by itself: per job a problem sensor, last-run sensors, a button, a switch."""

    enabled: bool = False
    """true: publish the discovery message. Button and switch work where [mqtt] commands allow run, pause and resume."""
    discovery_prefix: Annotated[str, AfterValidator(_topic_safe)] = "homeassistant"
    """As in Home Assistant's MQTT integration."""


class Alerts(_Section):
    """Mail and web hooks: what a job's email_notifications and webhook_notifications are sent with."""

    smtp_host: str = ""
    """The mail server; empty: no mail is sent, and a job that wants some is refused."""
    smtp_port: Port = 25
    """Its port: 25, 587 with starttls, 465 with tls."""
    smtp_encryption: Literal["none", "starttls", "tls"] = "none"
    """How the connection to it is encrypted."""
    smtp_username: str = ""
    """Who to log in as; empty: nobody."""
    smtp_password: SecretStr = SecretStr("")
    """Better kept out of this file: in a systemd credential alerts__smtp_password."""
    sender: str = ""
    """The address that mail comes from; empty: landingd@<node>."""
    destinations: dict[str, SecretStr] = {}
    """Web hooks by the id that jobs name them by, as Apprise URLs: slack://..., workflows://... (Teams), json://host/path,
    or https://host/path."""
    timeout_seconds: Interval = 20.0
    """A destination that does not answer for so long is tried again later."""
    give_up_after_hours: Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)] = 72.0
    """An alert that could not be delivered for so long is given up, and the log says so."""


class Tasks(_Section):
    """Tasks that run in processes of their own: scripts and notebooks."""

    python: str = ""
    """The Python that runs scripts; empty: the daemon's own."""
    max_processes: Annotated[int, Field(ge=1, le=1000)] = 4
    """So many run at a time; others wait."""


class History(_Section):
    """What is kept of what was."""

    retention_days: Annotated[float, Field(ge=0, le=36500, allow_inf_nan=False)] = 60.0
    """Ended runs, with their tasks and attempts, are kept this long; 0: for ever. What is known of files stays."""


class Log(_Section):
    """The daemon's log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """"json", "console", or "auto": console on a terminal, JSON anywhere else."""


class Settings(BaseSettings):
    """Everything that can be set. Made by `load`; values that it hands out are checked and absolute."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    base: Path = Path("..")
    """Where every other relative path starts; itself relative to the folder of this file."""
    node: Annotated[str, AfterValidator(_node)] = ""
    """This daemon's name in topics; empty: the host's name."""
    paths: Paths = Paths()
    landing: Landing = Landing()
    engine: Engine = Engine()
    runs: Runs = Runs()
    mqtt: Mqtt = Mqtt()
    broker: Broker = Broker()
    homeassistant: HomeAssistant = HomeAssistant()
    alerts: Alerts = Alerts()
    tasks: Tasks = Tasks()
    history: History = History()
    log: Log = Log()

    _config_file: Path | None = PrivateAttr(default=None)

    @property
    def config_file(self) -> Path | None:
        """The file that this was read from."""
        return self._config_file

    @property
    def landing_dir(self) -> Path:
        return self.absolute(self.paths.landing)

    @property
    def state_dir(self) -> Path:
        return self.absolute(self.paths.state)

    @property
    def archive_dir(self) -> Path:
        return self.absolute(self.paths.archive)

    @property
    def pipelines_dir(self) -> Path:
        return self.absolute(self.paths.pipelines)

    @property
    def socket_path(self) -> Path:
        return self.absolute(self.paths.socket)

    @property
    def warehouse_file(self) -> Path:
        return self.state_dir / "warehouse.duckdb"

    @property
    def ledger_file(self) -> Path:
        return self.state_dir / "ledger.sqlite"

    @property
    def temp_dir(self) -> Path:
        return self.state_dir / "temp"

    @property
    def topic_root(self) -> str:
        return f"{self.mqtt.root}/{self.node}"

    def absolute(self, path: Path | str) -> Path:
        """A path of the configuration as the kernel sees it: from `base` on, links followed.

        A watch on a landing root that is a link would see nothing of what goes on behind it.
        """
        return (self.base / path).resolve()
