"""Create the bronze table, or let it take on what new files bring, as far as the task allows."""

from collections.abc import Mapping, Sequence

from landingd.edge.engine.loading.progress import LINEAGE, RESCUED, Loading, folded
from landingd.edge.engine.loading.reading import batches, csv_options, csv_relation, paths
from landingd.edge.engine.loading.shapes import json_columns
from landingd.edge.engine.sqltext import ident
from landingd.model import FileLoad, SchemaEvolution, SourceFile

TYPE_SAMPLE_FILES = 50
TYPE_SAMPLE_ROWS = 100_000
_NUMBERS = frozenset({"BIGINT", "DOUBLE", "INTEGER", "HUGEINT"})


def prepare(loading: Loading) -> None:
    """Make the table able to hold the files' rows; a file that it may not grow for is not loaded."""
    if loading.columns:
        _evolve(loading)
    elif loading.to_load or loading.plan.ingest.schema_hints:
        _create(loading)


def _create(loading: Loading) -> None:
    ingest = loading.plan.ingest
    wanted = new_columns(loading, _shaping(loading), {})
    wanted |= {n: t for n, t in ingest.schema_hints.items() if n.casefold() not in folded(wanted)}
    wanted = {name: loading.widened.get(name.casefold(), sql_type) for name, sql_type in wanted.items()}
    loading.added = dict(wanted)
    if ingest.schema_evolution is SchemaEvolution.RESCUE:
        wanted[RESCUED] = "JSON"
    columns = ", ".join(f"{ident(n)} {t}" for n, t in (wanted | LINEAGE).items())
    loading.cursor.execute(f"CREATE TABLE {loading.table} ({columns})").fetchall()
    loading.columns = wanted | LINEAGE
    _refuse_new_columns(loading)


def _evolve(loading: Loading) -> None:
    evolution, types = loading.plan.ingest.schema_evolution, loading.columns
    added = new_columns(loading, _shaping(loading), types)
    added = {name: loading.widened.get(name.casefold(), sql_type) for name, sql_type in added.items()}
    loading.added = dict(added)
    if evolution is SchemaEvolution.RESCUE and RESCUED not in types:
        added[RESCUED] = "JSON"
    for name, sql_type in added.items():
        loading.cursor.execute(f"ALTER TABLE {loading.table} ADD COLUMN {ident(name)} {sql_type}").fetchall()
    widened = {name: loading.widened[name.casefold()] for name in types if name.casefold() in loading.widened}
    for name, sql_type in widened.items():
        loading.cursor.execute(f"ALTER TABLE {loading.table} ALTER COLUMN {ident(name)} TYPE {sql_type}").fetchall()
    if added or widened:
        loading.columns = types | widened | added
    _refuse_new_columns(loading)


def _shaping(loading: Loading) -> list[SourceFile]:
    """The files whose columns may join the table: all, or the first that has any, for which it is made."""
    if loading.plan.ingest.schema_evolution is SchemaEvolution.ADD_NEW_COLUMNS:
        return loading.to_load
    if loading.columns.keys() - {*LINEAGE, RESCUED}:
        return []
    return [f for f in loading.to_load if loading.shapes[f.file_id].sources][:1]


def _refuse_new_columns(loading: Loading) -> None:
    if loading.plan.ingest.schema_evolution is not SchemaEvolution.FAIL:
        return
    known = folded(loading.columns)
    for file in loading.to_load:
        new = [name for name in loading.shapes[file.file_id].sources if name.casefold() not in known]
        if new:
            named = ", ".join(f"'{name}'" for name in new)
            reason = f"the table has no column {named}, and schema_evolution is fail"
            loading.loads[file.file_id] = FileLoad(file.file_id, quarantined=reason)


def new_columns(loading: Loading, files: Sequence[SourceFile], types: Mapping[str, str]) -> dict[str, str]:
    """The columns that `types` lacks, with their types: as hinted, else as the first files that have them say."""
    found: dict[str, str] = {}
    for batch in batches(loading, files):
        # A JSON file has columns of its own, also in a batch.
        for alike in [[file] for file in batch] if loading.plan.ingest.format == "json" else [batch]:
            for name, sql_type in _types_of_new(loading, alike, {**types, **found}).items():
                found.setdefault(name, sql_type)
    return found


def _types_of_new(loading: Loading, batch: Sequence[SourceFile], types: Mapping[str, str]) -> dict[str, str]:
    known = folded(types)
    shape = loading.shapes[batch[0].file_id]
    new = [name for name in shape.sources if name.casefold() not in known]
    hints = {name.casefold(): sql_type for name, sql_type in loading.plan.ingest.schema_hints.items()}
    unknown = [name for name in new if name.casefold() not in hints]
    if not new:
        return {}
    match loading.plan.ingest.format:
        case "csv":
            detected = _detect_csv(loading, batch, unknown)
        case "json":
            detected = json_columns(loading, batch[0], unknown)
        case _:
            detected = dict(shape.types)
    return {name: hints.get(name.casefold()) or detected[name] for name in new}


def _detect_csv(loading: Loading, batch: Sequence[SourceFile], new: Sequence[str]) -> dict[str, str]:
    """Ask DuckDB for the types of these columns, then take back the numbers that would lose digits."""
    if not new:
        return {}
    sample = batch[:TYPE_SAMPLE_FILES]
    options = csv_options(batch[0], loading.plan.ingest)
    rows = loading.cursor.execute(
        f"DESCRIBE SELECT * FROM read_csv({paths(loading, sample)}, {options}, union_by_name=true, "
        f"sample_size={TYPE_SAMPLE_ROWS}, ignore_errors=true)"
    ).fetchall()
    # By position: the reader may clean a name (or find none) where the header's own text is what we go by.
    found = {n: "VARCHAR" if row[1] == "BIGNUM" else row[1] for n, row in zip(batch[0].columns, rows, strict=False)}
    types = {name: found.get(name, "VARCHAR") for name in new}
    numbers = [n for n, t in types.items() if t in _NUMBERS]
    return types | dict.fromkeys(_identifiers(loading, sample, numbers, types), "VARCHAR")


def _identifiers(
    loading: Loading, sample: Sequence[SourceFile], numbers: Sequence[str], types: Mapping[str, str]
) -> list[str]:
    """Columns of digits that no number keeps: 08123 would come back as 8123, and a DOUBLE holds 15 digits of any."""
    if not numbers:
        return []
    rejects = "store_rejects=true" if loading.keep_rejects else "store_rejects=false"
    text = csv_relation(loading, sample, dict.fromkeys(sample[0].columns, "VARCHAR"), rejects)
    padded, long = "^[+-]?0[0-9]", "^[+-]?[0-9]{16,}$"
    patterns = {name: f"{padded}|{long}" if types[name] == "DOUBLE" else padded for name in numbers}
    checks = ", ".join(f"coalesce(bool_or(regexp_matches({ident(n)}, '{p}')), false)" for n, p in patterns.items())
    row = loading.cursor.execute(f"SELECT {checks} FROM (SELECT * FROM {text} LIMIT {TYPE_SAMPLE_ROWS})").fetchone()
    if loading.keep_rejects:
        drop_rejects(loading)
    return [name for name, is_identifier in zip(numbers, row or (), strict=True) if is_identifier]


def drop_rejects(loading: Loading) -> None:
    """Forget what the reader rejected."""
    loading.cursor.execute("DROP TABLE IF EXISTS reject_errors").fetchall()
    loading.cursor.execute("DROP TABLE IF EXISTS reject_scans").fetchall()
