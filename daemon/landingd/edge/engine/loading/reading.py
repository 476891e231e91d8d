r"""Files as relations: how each format's reader is asked.

Files are read through symbolic links named by file id, in a directory of our own: a file's name is bytes, DuckDB
takes text and treats `*`, `?` and `[` as a pattern, and the link's name tells which file a row came from.

JSON is read record by record, not by DuckDB's JSON reader, which knows only all or nothing: it stops at the first bad
line, and told to go on it drops lines unsaid. A file with an object a line is read as a CSV file of one column, parted
by a character that JSON allows nowhere.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landingd.edge.engine.loading.cells import is_nested, strict_type
from landingd.edge.engine.loading.progress import SMALL_BYTES, Loading
from landingd.edge.engine.sqltext import ident, literal, strings, struct
from landingd.model import Ingest, SourceFile

LONGEST_OBJECT_BYTES = 16 << 20
_SOURCE = "_landingd_source"


@dataclass(frozen=True, slots=True)
class Cells:
    """A batch as a relation: a column `c0`, `c1`, ... for each of its columns, and `source` where files are several.

    Of a format with records of its own: `raw`, a record's text, `fault`, why it is none (NULL: it is fine), and with
    `numbered` its `line`.
    """

    relation: str
    columns: tuple[str, ...]
    """Their names in the table."""
    kinds: tuple[str, ...]
    """The types in which the cells come."""
    has_faults: bool = False


def batches(loading: Loading, files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Files that one statement can read: of one dialect and header, and only small ones together."""
    groups: dict[object, list[SourceFile]] = {}
    for file in files:
        shape = loading.shapes[file.file_id]
        alone = file.file_id if file.signature.size >= SMALL_BYTES else 0
        match loading.plan.ingest.format:
            case "csv":
                like: object = (file.columns, file.delimiter, file.compression)
            case "json":
                like = (file.is_array, file.compression)
            case _:
                like = (tuple(shape.sources.items()), tuple(shape.types.items()))
        groups.setdefault((like, alone), []).append(file)
    return list(groups.values())


def cells(loading: Loading, batch: Sequence[SourceFile], *, careful: bool, numbered: bool = False) -> Cells:
    """How to read the batch. `careful`: a cell that does not fit its column ends no statement."""
    columns = names(loading, batch)
    match loading.plan.ingest.format:
        case "csv":
            return _csv(loading, batch, columns, careful=careful)
        case "json":
            return _json(loading, batch, columns, numbered=numbered)
        case _:
            return _parquet(loading, batch, columns)


def names(loading: Loading, batch: Sequence[SourceFile]) -> tuple[str, ...]:
    """The batch's columns: those of any of its files, each once."""
    found: dict[str, str] = {}
    for file in batch:
        for name in loading.shapes[file.file_id].sources:
            found.setdefault(name.casefold(), name)
    return tuple(found.values())


def paths(loading: Loading, batch: Sequence[SourceFile]) -> str:
    """A list of links, for a reader."""
    return strings(tuple(_link(loading, file) for file in batch))


def _link(loading: Loading, file: SourceFile) -> str:
    link = loading.reading / str(file.file_id)
    if not os.path.lexists(link):
        os.symlink(file.readable or file.path, os.fsencode(link))  # noqa: PTH211 -- its target is bytes
    return str(link)


def _aliases(count: int, batch: Sequence[SourceFile]) -> str:
    return ", ".join([*(f"c{n}" for n in range(count)), *(["source"] if len(batch) > 1 else [])])


def _filename(batch: Sequence[SourceFile]) -> str:
    return f"filename={literal(_SOURCE)}" if len(batch) > 1 else "filename=false"


# --- CSV --------------------------------------------------------------------------------------------------


def csv_options(file: SourceFile, ingest: Ingest) -> str:
    """The dialect; what the task says goes before what is usual."""
    quote = ingest.read_options.get("quote", '"')
    options = {"quote": quote, "escape": quote} | dict(ingest.read_options)
    said = ", ".join(f"{name}={_said(option)}" for name, option in options.items())
    return (
        f"header={_said(ingest.header)}, delim={literal(file.delimiter)}, {said}, nullstr={strings(ingest.nulls)}, "
        f"compression={literal(file.compression)}, hive_partitioning=false"
    )


def _said(option: str | bool | int) -> str:  # noqa: FBT001 -- the kinds that a read option has
    return literal(option) if isinstance(option, str) else str(option).lower()


def csv_relation(loading: Loading, batch: Sequence[SourceFile], types: Mapping[str, str], more: str) -> str:
    """The files read with these columns, by position: the header's names were checked by whoever read it."""
    options = csv_options(batch[0], loading.plan.ingest)
    return f"read_csv({paths(loading, batch)}, {options}, auto_detect=false, columns={struct(types)}, {more})"


def _csv(loading: Loading, batch: Sequence[SourceFile], columns: tuple[str, ...], *, careful: bool) -> Cells:
    by_fold = {name.casefold(): sql_type for name, sql_type in loading.columns.items()}
    known = {name: by_fold.get(name.casefold(), "VARCHAR") for name in columns}
    types = {name: "VARCHAR" if careful else strict_type(sql_type) for name, sql_type in known.items()}
    rejects = "store_rejects=true" if careful else "store_rejects=false"
    source = csv_relation(loading, batch, types, f"{_filename(batch)}, {rejects}")
    return Cells(f"{source} AS r({_aliases(len(columns), batch)})", columns, tuple(types.values()))


# --- JSON -------------------------------------------------------------------------------------------------


def records(loading: Loading, batch: Sequence[SourceFile]) -> str:
    """Every record as text: `raw`, and `source` where files are several; blank lines are NULL."""
    options = loading.plan.ingest.read_options
    size = int(options.get("maximum_object_size", LONGEST_OBJECT_BYTES))
    compression = f"compression={literal(batch[0].compression)}"
    source = ", source" if len(batch) > 1 else ""
    if batch[0].is_array:
        reader = (
            f"read_json_objects({paths(loading, batch)}, format='array', {compression}, maximum_object_size={size}, "
            f"{_filename(batch)}, hive_partitioning=false)"
        )
        return f"(SELECT coalesce(CAST(raw AS VARCHAR), 'null') AS raw{source} FROM {reader} AS r(raw{source}))"
    rejects = "store_rejects=true" if loading.keep_rejects else "store_rejects=false"
    reader = (
        f"read_csv({paths(loading, batch)}, auto_detect=false, header=false, delim='\x01', quote='', escape='', "
        f"columns={{'raw': 'VARCHAR'}}, nullstr='', strict_mode=false, max_line_size={size}, {compression}, "
        f"{_filename(batch)}, hive_partitioning=false, {rejects})"
    )
    return f"{reader} AS r(raw{source})"


def pointer(key: str) -> str:
    """A member of an object, whatever its name, as a JSON pointer."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _json(loading: Loading, batch: Sequence[SourceFile], columns: tuple[str, ...], *, numbered: bool) -> Cells:
    types = {name.casefold(): sql_type.upper() for name, sql_type in loading.columns.items()}
    kinds = tuple("JSON" if is_nested(types.get(name.casefold(), "")) else "VARCHAR" for name in columns)
    members: dict[str, list[str]] = {"VARCHAR": [], "JSON": []}
    extracted: list[str] = []
    twice: list[str] = []
    for name, kind in zip(columns, kinds, strict=True):
        group = sorted({key for file in batch for key in _keys(loading, file, name)})
        found = [f"{'x' if kind == 'VARCHAR' else 'y'}[{len(members[kind]) + n}]" for n in range(1, len(group) + 1)]
        members[kind] += [pointer(key) for key in group]
        extracted.append(f"coalesce({', '.join(found)})" if len(found) > 1 else found[0])
        if len(found) > 1:
            twice.append(f"({' + '.join(f'({one} IS NOT NULL)::INT' for one in found)} > 1)")
    fault = "CASE WHEN NOT json_valid(raw) THEN 'not valid JSON' WHEN json_type(raw) <> 'OBJECT' THEN 'not an object'"
    fault += f" WHEN {' OR '.join(twice)} THEN 'it names a column twice'" if twice else ""
    out = ["raw", f"{fault} END AS fault", *(["line"] if numbered else []), *(["source"] if len(batch) > 1 else [])]
    out += [f"{one} AS c{n}" for n, one in enumerate(extracted)]
    line = ", row_number() OVER () AS line" if numbered and len(batch) == 1 else ""
    if numbered and len(batch) > 1:
        line = ", row_number() OVER (PARTITION BY source ORDER BY n) AS line"
    inner = records(loading, batch)
    if numbered and len(batch) > 1:
        inner = f"(SELECT *, row_number() OVER () AS n FROM {inner})"
    inner = f"(SELECT *{line} FROM {inner})"
    # Most cells are wanted as text, and taking them out as such is twice as fast.
    readers = {"x": ("json_extract_string", members["VARCHAR"]), "y": ("json_extract", members["JSON"])}
    extract = "".join(
        f", CASE WHEN json_valid(raw) THEN {reader}(raw, {strings(tuple(pointers))}) END AS {name}"
        for name, (reader, pointers) in readers.items()
        if pointers
    )
    relation = (
        f"(SELECT {', '.join(out)} FROM (SELECT *{extract} FROM {inner} "
        r"WHERE raw IS NOT NULL AND NOT regexp_full_match(raw, '\s*'))) AS r"
    )
    return Cells(relation, columns, kinds, has_faults=True)


def _keys(loading: Loading, file: SourceFile, name: str) -> tuple[str, ...]:
    sources = loading.shapes[file.file_id].sources
    by_fold = {n.casefold(): keys for n, keys in sources.items()}
    return by_fold.get(name.casefold(), ())


# --- Parquet ----------------------------------------------------------------------------------------------


def parquet_options(ingest: Ingest) -> str:
    """What the task says, after a comma."""
    said = "".join(f", {name}={_said(option)}" for name, option in ingest.read_options.items())
    return f"hive_partitioning=false{said}"


def _parquet(loading: Loading, batch: Sequence[SourceFile], columns: tuple[str, ...]) -> Cells:
    shape = loading.shapes[batch[0].file_id]
    picked = [f"{ident(keys[0])} AS c{n}" for n, keys in enumerate(shape.sources.values())]
    picked += [f"{ident(_SOURCE)} AS source"] if len(batch) > 1 else []
    options = f"{_filename(batch)}, {parquet_options(loading.plan.ingest)}"
    relation = f"(SELECT {', '.join(picked)} FROM read_parquet({paths(loading, batch)}, {options})) AS r"
    return Cells(relation, columns, tuple(shape.types[name].upper() for name in columns))
