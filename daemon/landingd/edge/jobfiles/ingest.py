"""Read how an ingest task is to take files into its table."""

import re
from dataclasses import replace
from itertools import accumulate

from landingd.edge.jobfiles import refused
from landingd.edge.jobfiles.fields import Fields, Word
from landingd.edge.jobfiles.options import read_options
from landingd.edge.jobfiles.tree import Keyed
from landingd.model import Ingest, SchemaEvolution

FORMATS = ("csv", "json", "parquet")

_HINT = re.compile(r"""\s*("[^"]*"|`[^`]*`|\S*)(.*)""", re.DOTALL)
_SQL_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_ ,()\[\]]*")


def read_ingest(task: Fields) -> Ingest | None:
    entry = task.entry("ingest")
    if entry is None:
        return None
    fields = Fields(entry.node, task.source, called="'ingest'")
    usual = Ingest()
    nulls = fields.texts("nulls")
    if fields.entry("schema") is not None and fields.entry("schema_hints") is not None:
        fields.wrong("schema_hints", "stands beside 'schema', which gives all the columns", "leave one of them out")
    ingest = Ingest(
        format=fields.choice("format", FORMATS, later=refused.FORMATS_LATER),
        pattern=fields.pattern("pattern") or usual.pattern,
        delimiter=_delimiter(fields),
        schema_hints=_columns(fields, "schema") or _columns(fields, "schema_hints"),
        schema_is_whole=fields.entry("schema") is not None,
        schema_evolution=fields.member("schema_evolution", SchemaEvolution, later=refused.SCHEMA_EVOLUTIONS_LATER),
        rename=_renames(fields),
        max_rejected_percent=fields.number("max_rejected_percent", default=usual.max_rejected_percent, most=100),
        nulls=usual.nulls if nulls is None else tuple(word.text for word in nulls),
        tail=fields.flag("tail", default=False),
    )
    ingest = _with_read_options(fields, ingest)
    if ingest.tail and ingest.format == "parquet":
        fields.wrong("tail", "a parquet file does not grow by whole lines", "'tail' is for csv and json (NDJSON)")
    fields.done(refused=refused.INGEST, elsewhere=refused.ELSEWHERE["ingest"])
    return ingest


def _with_read_options(fields: Fields, ingest: Ingest) -> Ingest:
    """Reader options are checked by name and kind; the two that landingd itself has to know get a field."""
    options = read_options(fields, ingest.format)
    encoding, header = options.pop("encoding", None), options.pop("header", True)
    if not header and not ingest.schema_is_whole:
        fields.wrong("read_options", "without a header the columns have no names", "give all of them as `schema`")
    return replace(
        ingest, read_options=options, header=bool(header), encoding=None if encoding is None else str(encoding)
    )


def _renames(fields: Fields) -> dict[str, str]:
    """`rename: {name in the file: name in the table}`."""
    renames: dict[str, str] = {}
    targets: set[str] = set()
    for old, word in fields.texts_by_key("rename").items():
        if not old or not word.text or word.text.startswith("_"):
            fields.source.wrong(word.line, f"column {old!r} cannot be renamed to {word.text!r}")
        elif word.text.casefold() in targets:
            fields.source.wrong(word.line, f"'rename' gives the name {word.text!r} twice")
        else:
            renames[old] = word.text
            targets.add(word.text.casefold())
    return renames


def _delimiter(fields: Fields) -> str | None:
    text = fields.text("delimiter")
    if text is None:
        return None
    delimiter = "\t" if text == r"\t" else text
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        hint = r'one character that is no quote and no line end; a tab is "\t"'
        fields.wrong("delimiter", f"{text!r} cannot be the delimiter", hint)
        return None
    return delimiter


def _columns(fields: Fields, key: str) -> dict[str, str]:
    """`schema` (all the columns) or `schema_hints` (some of them), as a mapping or in Auto Loader's one string."""
    entry = fields.entry(key)
    if entry is None:
        return {}
    if isinstance(entry.node, Keyed):
        words = [(column, word) for column, word in fields.texts_by_key(key).items()]
    else:
        text = fields.text(key) or ""
        words = [(column, Word(kind, entry.line)) for column, kind in _split_hints(text)]
    hints: dict[str, str] = {}
    seen: set[str] = set()
    for column, word in words:
        if column.lower() in seen:
            fields.source.wrong(word.line, f"'{key}' names column {column!r} twice")
        elif not column or not _is_type(word.text):
            hint = "for example: {price: 'DECIMAL(10,2)'} or \"price DECIMAL(10,2), user_id BIGINT\""
            fields.source.wrong(word.line, f"column {column!r} cannot have the type {word.text!r}", hint)
        else:
            hints[column] = word.text
        seen.add(column.lower())
    return hints


def _is_type(text: str) -> bool:
    # The type is written into a statement, where it cannot be bound: what could end it stays out.
    depths = list(accumulate({"(": 1, ")": -1}.get(character, 0) for character in text))
    return bool(_SQL_TYPE.fullmatch(text)) and min(depths) >= 0 and depths[-1] == 0


def _split_hints(text: str) -> list[tuple[str, str]]:
    """Auto Loader's form: `a BIGINT, b DECIMAL(10,2)`; a comma within brackets separates no columns."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [(hint[1].strip('"`'), hint[2].strip()) for part in parts if (hint := _HINT.match(part))]
