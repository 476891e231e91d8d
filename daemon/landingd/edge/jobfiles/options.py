"""`read_options`: options of DuckDB's readers that a job may set, by name and kind.

Not every option can be passed on: those by which landingd itself reads the file's shape (columns, names, types,
rejects) would pull the rug from under the count that each load is checked against.
"""

from landingd.edge.jobfiles.fields import Fields
from landingd.edge.jobfiles.tree import Keyed, Scalar
from landingd.errors import did_you_mean

ENCODINGS = ("utf-8", "utf-16", "latin-1", "windows-1252")
OPTIONS: dict[str, dict[str, type]] = {
    "csv": {
        "encoding": str,
        "header": bool,
        "quote": str,
        "escape": str,
        "dateformat": str,
        "timestampformat": str,
        "decimal_separator": str,
        "thousands": str,
        "max_line_size": int,
        "allow_quoted_nulls": bool,
    },
    "json": {
        "dateformat": str,
        "timestampformat": str,
        "maximum_object_size": int,
    },
    "parquet": {
        "binary_as_string": bool,
    },
}
"""By format: DuckDB's name of the option, and its kind. `encoding` and `header` are read by landingd itself."""

_KINDS = {str: "text", bool: "true or false", int: "a whole number"}
_ONE_CHARACTER = ("quote", "escape", "decimal_separator", "thousands")


def read_options(ingest: Fields, format_: str) -> dict[str, str | bool | int]:
    """The options that are right; the others are problems."""
    entry = ingest.entry("read_options")
    if entry is None:
        return {}
    if not isinstance(entry.node, Keyed):
        ingest.wrong("read_options", f"'read_options' must be a mapping, found {entry.node}")
        return {}
    known = OPTIONS[format_]
    found: dict[str, str | bool | int] = {}
    for name, value in entry.node.entries.items():
        if name not in known:
            hint = did_you_mean(name, known) or f"for {format_}: {', '.join(sorted(known))}"
            ingest.source.wrong(value.line, f"there is no read option {name!r} for {format_}", hint)
            continue
        node = value.node
        given = node.value if isinstance(node, Scalar) else None
        # Exactly the kind: true is an int to Python, and an option that is on is no number.
        if type(given) is not known[name] or not isinstance(given, str | bool | int):
            ingest.source.wrong(value.line, f"{name!r} must be {_KINDS[known[name]]}, found {node}")
        elif name == "encoding" and given not in ENCODINGS:
            hint = did_you_mean(str(given), ENCODINGS) or f"one of {', '.join(ENCODINGS)}"
            ingest.source.wrong(value.line, f"encoding {given!r} is not read", hint)
        elif name in _ONE_CHARACTER and len(str(given)) != 1:
            ingest.source.wrong(value.line, f"{name!r} must be one character, found {node}")
        else:
            found[name] = given
    return found
