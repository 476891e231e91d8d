"""SQL text that has to be put together: names are quoted, values are bound, nothing else goes in."""

from collections.abc import Mapping


def ident(name: str) -> str:
    """A column name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def table_ident(table: str) -> str:
    """`schema.name`, quoted."""
    schema, _, name = table.partition(".")
    return f"{ident(schema)}.{ident(name)}"


def literal(text: str) -> str:
    """A string literal, for the places where DuckDB takes no parameter (the reader's options)."""
    return "'" + text.replace("'", "''") + "'"


def struct(items: Mapping[str, str]) -> str:
    """`{'a': 'BIGINT'}`, as read_csv wants its columns."""
    return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in items.items()) + "}"


def strings(items: tuple[str, ...]) -> str:
    """`['a', 'b']`."""
    return "[" + ", ".join(map(literal, items)) + "]"
