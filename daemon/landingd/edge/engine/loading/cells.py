r"""When a cell fits a type, as SQL.

DuckDB's casts are obliging: '1.7' becomes the integer 2, '2025-01-01 10:00:00' a date without its time, '1_000' and
'0x10' numbers. A price that turns from 5 to 5.50 would lose its cents without a word. So a cell fits only a type that
keeps what it says.
"""

from collections.abc import Mapping

from landingd.edge.engine.sqltext import literal

SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGERS = frozenset({*SIGNED, "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "INT", "LONG", "SHORT"})
TEXTS = frozenset({"VARCHAR", "TEXT", "STRING", "CHAR", "BPCHAR"})
_FRACTIONS = ("DOUBLE", "FLOAT", "REAL", "DECIMAL", "NUMERIC")
_NESTED = ("STRUCT", "MAP", "UNION")
EXACT_INTEGERS_BELOW = 1 << 53
"""From here on a DOUBLE cannot tell neighbouring integers apart."""
_WHOLE = r"'\s*[-+]?[0-9]+\s*'"

Options = Mapping[str, str | bool | int]


def value(cell: str, kind: str, sql_type: str, options: Options) -> str:
    """The cell, of the type `kind`, as `sql_type`; NULL where it does not fit."""
    wanted = sql_type.upper()
    if kind == wanted:
        return cell
    if kind == "JSON":
        return _of_json(cell, wanted, options)
    if kind == "VARCHAR":
        return _of_text(cell, wanted, options)
    cast = f"TRY_CAST({cell} AS {wanted})"
    # There and back again: what comes back altered did not fit.
    return cast if wanted in TEXTS else f"CASE WHEN TRY_CAST({cast} AS {kind}) = {cell} THEN {cast} END"


def text(cell: str, kind: str) -> str:
    """What the cell says, as the file has it."""
    if kind == "JSON":
        return f"({cell} ->> '$')"
    return cell if kind == "VARCHAR" else f"CAST({cell} AS VARCHAR)"


def is_null(cell: str, kind: str) -> str:
    """Whether there is nothing in it: JSON has a null of its own."""
    return f"({text(cell, kind)} IS NULL)" if kind == "JSON" else f"({cell} IS NULL)"


def unfit(cell: str, kind: str, sql_type: str, options: Options) -> str | None:
    """Whether the cell says something that `sql_type` cannot keep; None: it can keep everything."""
    if kind == sql_type.upper() or sql_type.upper() in TEXTS or (kind == "JSON" == sql_type.upper()):
        return None
    return f"(NOT {is_null(cell, kind)} AND {value(cell, kind, sql_type, options)} IS NULL)"


def strict_type(sql_type: str) -> str:
    """The type in which the CSV reader has to deliver a column that `strict_value` makes."""
    return "VARCHAR" if sql_type.upper() in INTEGERS or sql_type.upper() == "DATE" else sql_type


def strict_value(cell: str, sql_type: str, options: Options, *, few_rows: bool) -> str:
    """The cell as that type, without asking twice: any that does not fit, or may not, ends the statement."""
    wanted = sql_type.upper()
    if wanted in INTEGERS and few_rows:
        # Slower by the row than what follows, and faster to plan: for a file of 1 KB that is 0.25 ms of 5.
        return f"CAST(translate({cell}, '._eExXbB', '????????') AS {wanted})"
    if wanted in INTEGERS:
        cast = f"CAST({cell} AS {wanted})"
        return f"CASE WHEN CAST({cast} AS VARCHAR) <> {cell} THEN error('no plain integer') ELSE {cast} END"
    if wanted == "DATE" and "dateformat" in options:
        return f"CAST(strptime({cell}, {literal(str(options['dateformat']))}) AS DATE)"
    if wanted == "DATE":
        return f"CASE WHEN length({cell}) > 10 THEN error('no plain date') ELSE CAST({cell} AS DATE) END"
    return cell


def is_nested(sql_type: str) -> bool:
    """Whether JSON goes into it as it is, and not by way of text."""
    return sql_type == "JSON" or sql_type.startswith(_NESTED) or sql_type.endswith("]")


def _of_json(cell: str, wanted: str, options: Options) -> str:
    if is_nested(wanted):
        return f"TRY_CAST({cell} AS {wanted})"
    return _of_text(text(cell, "JSON"), wanted, options)


def _of_text(cell: str, wanted: str, options: Options) -> str:
    if wanted in TEXTS:
        return cell
    if wanted in INTEGERS or wanted.startswith(_FRACTIONS):
        return _number(cell, wanted, options)
    if wanted in {"DATE", "TIMESTAMP", "DATETIME"}:
        return _time(cell, wanted, options)
    return f"TRY_CAST({cell} AS {wanted})"


def _number(cell: str, wanted: str, options: Options) -> str:
    thousands, decimal = str(options.get("thousands", "")), str(options.get("decimal_separator", "."))
    number = f"replace({cell}, {literal(thousands)}, '')" if thousands else cell
    if wanted in INTEGERS:
        return f"CASE WHEN regexp_full_match({number}, {_WHOLE}) THEN TRY_CAST({number} AS {wanted}) END"
    if decimal != ".":
        number = f"replace({number}, {literal(decimal)}, '.')"
    return f"CASE WHEN NOT contains({number}, '_') THEN TRY_CAST({number} AS {wanted}) END"


def _time(cell: str, wanted: str, options: Options) -> str:
    said = options.get("dateformat" if wanted == "DATE" else "timestampformat")
    if said is not None:
        return f"CAST(try_strptime({cell}, {literal(str(said))}) AS {wanted})"
    cast = f"TRY_CAST({cell} AS {wanted})"
    return f"CASE WHEN {cast} = TRY_CAST({cell} AS TIMESTAMP) THEN {cast} END" if wanted == "DATE" else cast


def keeps_integers(cell: str) -> str:
    """Whether a text that is a whole number is small enough for a DOUBLE to keep it."""
    whole = f"regexp_full_match({cell}, {_WHOLE})"
    return f"(NOT {whole} OR abs(TRY_CAST({cell} AS DOUBLE)) < {EXACT_INTEGERS_BELOW})"
