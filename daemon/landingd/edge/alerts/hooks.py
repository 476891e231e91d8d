"""Web hooks: Slack, Teams, any HTTP server, and whatever else Apprise can reach.

Apprise answers with yes or no, and tells the reason to its log alone. So its log is caught here, call by call, for the
reason; it goes nowhere else, because with debugging on it holds whole addresses.
"""

import importlib
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from landingd.edge.alerts.delivery import Alert, DeliveryError, without_secrets

if TYPE_CHECKING:
    from apprise import Apprise, AppriseAsset, NotifyBase

REFUSED = {400, 413, 422}
"""HTTP answers that are about this alert, and not about the address or the server: another try meets the same."""

_CHEAP = {
    "json": "custom_json:NotifyJSON",
    "jsons": "custom_json:NotifyJSON",
    "slack": "slack:NotifySlack",
    "workflow": "workflows:NotifyWorkflows",
    "workflows": "workflows:NotifyWorkflows",
    "discord": "discord:NotifyDiscord",
    "ntfy": "ntfy:NotifyNtfy",
    "ntfys": "ntfy:NotifyNtfy",
}
"""Where the usual ones are. Asked for any other, Apprise imports all its plugins: 0.4 s and 23 MB more."""

_WRAPPER = ("version", "title", "message", "attachments", "type")
"""What Apprise puts into the JSON of a generic web hook; a field that is mapped to nothing is left out."""

_CAUSE = re.compile(
    r"\[Errno -?\d+\] [^'\")\]]+|timed out|Remote end closed connection without response|"
    r"certificate verify failed[^'\")\]]*|\[SSL[^\]]*\][^'\")]*|Connection aborted",
)


class Hooks:
    """The destinations; each is used by one thread at a time."""

    def __init__(self, destinations: Mapping[str, str], timeout_s: float) -> None:
        self._destinations = dict(destinations)
        self._timeout_s = timeout_s
        self._made: dict[str, Apprise] = {}
        self._making = threading.Lock()

    def send(self, alert: Alert) -> None:
        """Call the destination. Raises DeliveryError."""
        url = self._destinations.get(alert.destination)
        if url is None:
            raise DeliveryError("there is no such id in [alerts.destinations]", retry=True)
        with _overheard() as said:
            try:
                taken = self._notify(alert, url)
            except Exception as error:  # noqa: BLE001 -- whatever a plugin raises may hold its address
                why = without_secrets(f"{type(error).__name__}: {error}", *_secrets(url))
                raise DeliveryError(why, retry=True) from None
        if not taken:
            status = _status(said)
            raise DeliveryError(_reason(said, url) or "it was not taken", retry=status not in REFUSED)

    def _notify(self, alert: Alert, url: str) -> bool:
        apprise = self._made_for(alert.destination, url)
        if apprise is None:
            return False
        _fill(apprise[0], alert)
        return bool(
            apprise.notify(alert.text, title=alert.subject, notify_type=_notify_type(alert), body_format=_text_format())
        )

    def _made_for(self, destination: str, url: str) -> "Apprise | None":
        # Made once: a plugin that may call its server only so often remembers when it last did.
        with self._making:
            if destination not in self._made:
                apprise = _made(url, self._timeout_s)
                if apprise is None:
                    return None
                self._made[destination] = apprise
            return self._made[destination]


def unreadable(destinations: Mapping[str, str]) -> dict[str, str]:
    """Which destinations have a URL that Apprise cannot read, by id, and why; for `validate` and the start.

    Imports Apprise, which takes a fifth of a second, if there are any destinations.
    """
    faults: dict[str, str] = {}
    for destination, url in destinations.items():
        with _overheard() as said:
            if _made(url, 1.0) is None:
                faults[destination] = _reason(said, url) or f"{_scheme(url)}:// is not a URL that Apprise can read"
    return faults


# --- Apprise --------------------------------------------------------------------------------------------------


def _made(url: str, timeout_s: float) -> "Apprise | None":
    """What calls this URL; None: it cannot be read."""
    import apprise  # noqa: PLC0415 -- 0.2 s and 24 MB, which only those pay who have web hooks

    asset = apprise.AppriseAsset(app_id="landingd", app_desc="landingd", app_url="", async_mode=False)
    plugin = _plugin(url, asset)
    if plugin is None:
        return None
    if "rto=" not in url:
        plugin.socket_read_timeout = timeout_s
    if "cto=" not in url:
        plugin.socket_connect_timeout = timeout_s
    if "image=" not in url and hasattr(plugin, "include_image"):
        plugin.include_image = False  # it would be fetched from somebody else's server
    carrier = apprise.Apprise(asset=asset)
    carrier.add(plugin)
    return carrier


def _plugin(url: str, asset: "AppriseAsset") -> "NotifyBase | None":
    import apprise  # noqa: PLC0415 -- imported already

    scheme = _scheme(url)
    if scheme in _CHEAP:
        # Another version of Apprise may keep it elsewhere; then it is found like any other.
        with suppress(ImportError, AttributeError):
            return _instance(_CHEAP[scheme], url, asset)
    found = apprise.Apprise.instantiate(url, asset=asset)
    if found is None and scheme in {"http", "https"}:
        return _instance(_CHEAP["json"], url.replace("http", "json", 1), asset)
    return found


def _instance(where: str, url: str, asset: "AppriseAsset") -> "NotifyBase | None":
    module, name = where.split(":")
    made: Any = getattr(importlib.import_module(f"apprise.plugins.{module}"), name)
    parts = made.parse_url(url)
    if not parts:
        return None
    try:
        return cast("NotifyBase", made(**parts, asset=asset))
    except (TypeError, ValueError) as error:
        logging.getLogger("apprise").warning("%s", error)
        return None


def _fill(plugin: Any, alert: Alert) -> None:
    """A generic web hook gets our JSON as the whole body; what its URL adds to it (`:key=value`) stays."""
    if plugin.__class__.__name__ != "NotifyJSON":
        return
    if not hasattr(plugin, "landingd_extras"):
        plugin.landingd_extras = dict(plugin.payload_extras)
    plugin.payload_extras = {**dict.fromkeys(_WRAPPER, ""), **alert.payload, **plugin.landingd_extras}
    plugin.headers = {**plugin.headers, "Idempotency-Key": alert.payload["event_id"]}


def _notify_type(alert: Alert) -> Any:
    """The colour that a chat gives it."""
    import apprise  # noqa: PLC0415 -- imported already

    kinds = {
        "jobs.on_start": apprise.NotifyType.INFO,
        "jobs.on_success": apprise.NotifyType.SUCCESS,
        "jobs.on_failure": apprise.NotifyType.FAILURE,
        "test": apprise.NotifyType.INFO,
    }
    return kinds.get(str(alert.payload["event_type"]), apprise.NotifyType.WARNING)


def _text_format() -> Any:
    import apprise  # noqa: PLC0415 -- imported already

    return apprise.NotifyFormat.TEXT


# --- what Apprise says ----------------------------------------------------------------------------------------


class _Ear(logging.Handler):
    """Keeps what is logged on the thread that listens."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        said: list[logging.LogRecord] | None = getattr(self.said, "records", None)
        if said is not None and len(said) < 1000:
            said.append(record)


_EAR = _Ear()


@contextmanager
def _overheard() -> Iterator[list[logging.LogRecord]]:
    """What Apprise says on this thread."""
    _shut_in()
    _EAR.said.records = []
    try:
        yield _EAR.said.records
    finally:
        _EAR.said.records = None


def _shut_in() -> None:
    """Nothing that knows an address logs to anybody but us."""
    for name, level in (("apprise", logging.DEBUG), ("urllib3", logging.CRITICAL), ("requests", logging.CRITICAL)):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(level)
        if _EAR not in logger.handlers:
            logger.addHandler(_EAR)


def _status(said: list[logging.LogRecord]) -> int | None:
    codes = [re.search(r"error[=:]? ?(\d{3})\b", r.getMessage()) for r in said if r.levelno >= logging.WARNING]
    return next((int(found[1]) for found in codes if found), None)


def _reason(said: list[logging.LogRecord], url: str) -> str:
    """The warnings, the cause of a failed connection, and the server's answer; without anything of the address."""
    warnings = [r.getMessage() for r in said if r.levelno >= logging.WARNING]
    debug = [r.getMessage() for r in said if r.levelno < logging.WARNING]
    causes = [
        found[0] for text in debug if text.startswith("Socket Exception") for found in [_CAUSE.search(text)] if found
    ]
    answers = [text.partition("\n")[2][:200] for text in debug if text.startswith("Response Details")]
    kept = [text for text in answers if text not in {"b''", ""}]
    return without_secrets("; ".join(dict.fromkeys([*warnings, *causes, *kept])), *_secrets(url))


def _secrets(url: str) -> list[str]:
    """Of a generic web hook the host may be named; elsewhere it may be a token."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in {"json", "jsons", "http", "https", "form", "forms", "xml", "xmls"}:
        return [url]
    where, slash, path = re.match(r"([^/?#]*)(/|\?|#|)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    credentials, _, _host = where.rpartition("@")
    return [secret for secret in (credentials, slash + path) if secret]


def _scheme(url: str) -> str:
    return url.partition("://")[0].strip().lower()
