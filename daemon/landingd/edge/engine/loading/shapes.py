"""What columns the files have: a CSV's header was read before, the other formats are asked here."""

import json
from collections.abc import Iterable, Sequence

from landingd.edge.engine.loading.cells import Options, value
from landingd.edge.engine.loading.progress import LINEAGE, RESCUED, SMALL_BYTES, Loading, Shape
from landingd.edge.engine.loading.reading import parquet_options, paths, pointer, records
from landingd.edge.engine.sqltext import literal
from landingd.model import FileLoad, SourceFile

_RESERVED = frozenset({*LINEAGE, RESCUED})
_OF_JSON = {"BOOLEAN": "BOOLEAN", "BIGINT": "BIGINT", "UBIGINT": "BIGINT", "HUGEINT": "HUGEINT", "DOUBLE": "DOUBLE"}
"""DuckDB's names of JSON's types to a column's; text and mixtures are text."""


def read_shapes(loading: Loading, files: Sequence[SourceFile]) -> None:
    """Find the shape of every file; one that uses a name of ours is not loaded."""
    match loading.plan.ingest.format:
        case "csv":
            found = {f.file_id: Shape({name: (name,) for name in f.columns}) for f in files}
        case "json":
            found = _of_json_files(loading, files)
        case _:
            found = {f.file_id: _of_parquet(loading, f) for f in files}
    loading.shapes.update(found)
    for file_id, shape in found.items():
        ours = sorted(name for name in shape.sources if name.casefold() in _RESERVED)
        if ours:
            reason = f"it has a column '{ours[0]}', a name that landingd gives itself"
            loading.loads[file_id] = FileLoad(file_id, quarantined=reason)


def _renamed(loading: Loading, keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """A column's name in the table to its names in the file. Names that differ only in case are one column."""
    renames = {old.casefold(): new for old, new in loading.plan.ingest.rename.items()}
    sources: dict[str, tuple[str, ...]] = {}
    spelling: dict[str, str] = {}
    for key in keys:
        wanted = renames.get(key.casefold(), key)
        name = spelling.setdefault(wanted.casefold(), wanted)
        sources[name] = (*sources.get(name, ()), key)
    return sources


def _of_parquet(loading: Loading, file: SourceFile) -> Shape:
    reader = f"read_parquet({paths(loading, [file])}, {parquet_options(loading.plan.ingest)})"
    rows = loading.cursor.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()
    types = {row[0]: row[1] for row in rows}
    sources = _renamed(loading, types)
    return Shape(sources, {name: types[keys[0]] for name, keys in sources.items()})


def _of_json_files(loading: Loading, files: Sequence[SourceFile]) -> dict[int, Shape]:
    """Look at every record: a name that stands in the last one only is a column too."""
    found: dict[int, dict[str, str]] = {}
    groups: dict[object, list[SourceFile]] = {}
    for file in files:
        alone = file.file_id if file.signature.size >= SMALL_BYTES else 0
        groups.setdefault((file.is_array, file.compression, alone), []).append(file)
    for batch in groups.values():
        several = len(batch) > 1
        source = "CAST(parse_filename(source) AS BIGINT)" if several else str(batch[0].file_id)
        rows = loading.cursor.execute(
            f"SELECT DISTINCT {source}, json_structure(TRY_CAST(raw AS JSON)) FROM {records(loading, batch)}"
        ).fetchall()
        for file in batch:
            found[file.file_id] = _members(json.loads(row[1]) for row in rows if row[0] == file.file_id and row[1])
    shapes = {}
    for file_id, types in found.items():
        sources = _renamed(loading, types)
        merged = {name: _common([types[key] for key in keys]) for name, keys in sources.items()}
        shapes[file_id] = Shape(sources, merged)
    return shapes


def _members(structures: Iterable[object]) -> dict[str, str]:
    kinds: dict[str, list[str]] = {}
    for structure in structures:
        if isinstance(structure, dict):
            for key, kind in structure.items():
                kinds.setdefault(key, []).append("JSON" if isinstance(kind, dict | list) else str(kind))
    return {key: _common([_OF_JSON.get(k, k) for k in found if k != "NULL"]) for key, found in kinds.items()}


def _common(kinds: Sequence[str]) -> str:
    """One type for what a member holds in all records: numbers widen, what is mixed is text."""
    if set(kinds) <= {"BIGINT", "HUGEINT", "DOUBLE"} and kinds:
        return max(kinds, key=("BIGINT", "HUGEINT", "DOUBLE").index)
    return kinds[0] if len(set(kinds)) == 1 else "VARCHAR"


def json_columns(loading: Loading, file: SourceFile, names: Sequence[str]) -> dict[str, str]:
    """The types of these columns: as JSON has them, where text that only holds dates or times is those."""
    shape = loading.shapes[file.file_id]
    types = {name: shape.types[name] for name in names}
    texts = [name for name, kind in types.items() if kind == "VARCHAR"]
    if not texts:
        return types
    checks = ", ".join(_time_checks(shape.sources[name], loading.plan.ingest.read_options) for name in texts)
    row = loading.cursor.execute(
        f"SELECT {checks} FROM (SELECT TRY_CAST(raw AS JSON) AS raw FROM {records(loading, [file])})"
    ).fetchone()
    answers = iter(row or ())
    for name in texts:
        is_date, is_time = next(answers), next(answers)
        types[name] = "DATE" if is_date else "TIMESTAMP" if is_time else "VARCHAR"
    return types


def _time_checks(keys: Sequence[str], options: Options) -> str:
    """As SQL: whether all that is said is a date, and whether it is a time."""
    cell = f"coalesce({', '.join(f'json_extract_string(raw, {literal(pointer(key))})' for key in keys)})"
    shape = r"'\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?'"
    # What '10:15' or 'today' would be cast to is no reason to take a column for one of times.
    usual = f"regexp_full_match({cell}, {shape})"
    date = f"{value(cell, 'VARCHAR', 'DATE', options)} IS NOT NULL" + (
        "" if "dateformat" in options else f" AND {usual}"
    )
    time = f"{value(cell, 'VARCHAR', 'TIMESTAMP', options)} IS NOT NULL"
    time += "" if "timestampformat" in options else f" AND {usual}"
    said = f"FILTER ({cell} IS NOT NULL)"
    return f"bool_and({date}) {said}, bool_and({time}) {said}"


def parquet_rows(loading: Loading, files: Sequence[SourceFile]) -> dict[int, int]:
    """How many rows the files' own footers speak of."""
    rows = loading.cursor.execute(
        "SELECT CAST(parse_filename(file_name) AS BIGINT), num_rows "
        f"FROM parquet_file_metadata({paths(loading, files)})"
    ).fetchall()
    return dict(rows)
