"""Read the name of a table: its layer and its own name, and nothing that wants quotes."""

import re

from landingd.edge.jobfiles.tree import Source
from landingd.errors import did_you_mean

LAYERS = ("bronze", "silver", "gold")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_table_name(text: str, line: int, source: Source, *, whole: bool = False) -> str | None:
    """`schema.name`; None, and a problem, where it is none. `whole`: a catalog may stand before it, which is dropped,
    as there is only one.
    """
    parts = text.split(".")
    if whole and len(parts) == 3 and IDENTIFIER.fullmatch(parts[0]):  # catalog.schema.name
        parts = parts[1:]
    schema, name = (parts[0], ".".join(parts[1:]))
    if not IDENTIFIER.fullmatch(name):
        source.wrong(line, f"{text!r} cannot be the name of a table", "for example: table: silver.events")
    elif schema.lower() == "meta":
        source.wrong(line, "schema 'meta' is landingd's own", f"use {_layers()}")
    elif schema not in LAYERS:
        hint = did_you_mean(schema.lower(), LAYERS) or f"use {_layers()}"
        source.wrong(line, f"there is no schema {schema!r}", hint)
    else:
        return f"{schema}.{name}"
    return None


def _layers() -> str:
    return f"{', '.join(LAYERS[:-1])} or {LAYERS[-1]}"
