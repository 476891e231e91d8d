"""Read where files come from: the keys of `file_arrival`, which a continuous trigger has too."""

from landingd.edge.jobfiles.fields import Fields, is_outside
from landingd.model import Cleanup, FileArrival, OnChange, OnDelete, OnDuplicate

FILES_PER_TRIGGER_MAX = 1_000_000
KEYS = (
    *("pattern", "exclude", "recursive", "wait_after_last_change_seconds", "min_time_between_triggers_seconds"),
    *("max_files_per_trigger", "max_bytes_per_trigger", "marker", "manifest", "incomplete_after_seconds"),
    *("on_duplicate", "on_change", "on_delete", "cleanup", "cleanup_after_seconds", "archive_retention_days"),
)
"""All but `path`."""


def read_source(fields: Fields) -> FileArrival | None:
    """The source of a continuous trigger; None where it has no `path`."""
    if fields.has("path"):
        return read_file_arrival(fields)
    hint = "path: a folder below the landing root"
    for key in KEYS:
        if fields.entry(key) is not None:
            fields.wrong(key, f"{key!r} means nothing without 'path'", hint)
    return None


def read_file_arrival(fields: Fields) -> FileArrival:
    """A file arrival trigger."""
    usual = FileArrival(path="")
    arrival = FileArrival(
        path=_path(fields),
        pattern=fields.pattern("pattern") or usual.pattern,
        exclude=tuple(word.text for word in fields.texts("exclude") or ()),
        recursive=fields.flag("recursive", default=usual.recursive),
        wait_after_last_change_s=fields.number("wait_after_last_change_seconds", default=0.0),
        min_time_between_triggers_s=fields.number("min_time_between_triggers_seconds", default=0.0),
        max_files_per_trigger=fields.whole(
            "max_files_per_trigger",
            default=usual.max_files_per_trigger,
            least=1,
            most=FILES_PER_TRIGGER_MAX,
        ),
        max_bytes_per_trigger=fields.size("max_bytes_per_trigger"),
        marker=_beside(fields, "marker"),
        manifest=_beside(fields, "manifest"),
        incomplete_after_s=fields.number("incomplete_after_seconds", default=usual.incomplete_after_s),
        on_duplicate=fields.member("on_duplicate", OnDuplicate),
        on_change=fields.member("on_change", OnChange),
        on_delete=fields.member("on_delete", OnDelete),
        cleanup=fields.member("cleanup", Cleanup),
        cleanup_after_s=fields.number("cleanup_after_seconds", default=usual.cleanup_after_s),
        archive_retention_s=fields.number("archive_retention_days", default=0.0) * 86400,
    )
    _check(fields, arrival)
    return arrival


def _beside(fields: Fields, key: str) -> str | None:
    """The name of a file in the same directory as the data files."""
    name = fields.pattern(key)
    if name and "/" in name:
        fields.wrong(key, f"{key!r} names a file beside the data files, found text {name!r}", "leave the folder out")
        return None
    return name


def _check(fields: Fields, arrival: FileArrival) -> None:
    """Refuse what would be ignored without a word, and what could never be."""
    if arrival.marker == "{name}":
        fields.wrong("marker", "every file would be its own marker", 'for example: marker: "{name}.done"')
    if arrival.manifest and arrival.manifest.strip("*") == "":
        fields.wrong("manifest", "every file would be a manifest", 'for example: manifest: "*.manifest"')
    if arrival.marker and arrival.manifest:
        fields.wrong("manifest", "'manifest' stands beside 'marker'", "leave one of them out")
    if arrival.cleanup is Cleanup.KEEP:
        fields.means_nothing(("cleanup_after_seconds",), "without 'cleanup: archive' or 'cleanup: delete'")
    if arrival.cleanup is not Cleanup.ARCHIVE:
        fields.means_nothing(("archive_retention_days",), "without 'cleanup: archive'")


def _path(fields: Fields) -> str:
    path = fields.text("path")
    if fields.lacks("path") and not fields.has("url"):
        fields.wrong("path", "'file_arrival' needs a 'path'", "a folder below the landing root")
    if path is None:
        return ""
    if not path or is_outside(path):
        what = f"'path' must be a folder below the landing root, found text {path!r}"
        fields.wrong("path", what, "for example: path: ecommerce")
    elif "*" in path or "?" in path:
        fields.wrong("path", f"'path' names one folder, found text {path!r}", "put wildcards into 'pattern'")
    return "/".join(part for part in path.split("/") if part not in ("", ".")) or "."
