"""A SELECT as DuckDB's own parser sees it: its tree as plain data, and the same SELECT over some files only."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import duckdb

from landingd.edge.engine.sqltext import ident
from landingd.errors import EngineError

Tree = dict[str, Any]

_NO_SELECT = "Only SELECT statements"
"""How DuckDB begins to say that a statement is another one."""


def parse(cursor: duckdb.DuckDBPyConnection, sql: str) -> list[Tree]:
    """The statements' trees (`json_serialize_sql`).

    Raises EngineError (permanent) where the text is no SQL or holds anything but SELECTs; `hint` says which.
    """
    row = cursor.execute("SELECT json_serialize_sql(CAST($sql AS VARCHAR))", {"sql": sql}).fetchone()
    assert row is not None  # noqa: S101 -- one row in, one row out
    return trees(sql, row[0])


def serialized(cursor: duckdb.DuckDBPyConnection, texts: Collection[str]) -> dict[str, str]:
    """The parser's answer about each text, for `trees`: of a thousand at once each costs a tenth."""
    rows = cursor.execute(
        "SELECT sql, json_serialize_sql(sql) FROM unnest(CAST($texts AS VARCHAR[])) AS given (sql)",
        {"texts": list(texts)},
    ).fetchall()
    return dict(rows)


def trees(sql: str, answer: str) -> list[Tree]:
    """What the parser's answer about a text says; raises EngineError as `parse` does."""
    found: Tree = json.loads(answer)
    if found.get("error"):
        what = str(found.get("error_message"))
        what = "must be a SELECT, and nothing else" if what.startswith(_NO_SELECT) else what
        raise EngineError(what, permanent=True, hint=_where(sql, found))
    return list(found["statements"])


def _where(sql: str, answer: Tree) -> str | None:
    if "position" not in answer:
        return None
    offset = int(answer["position"])
    line = sql.encode()[:offset].count(b"\n") + 1
    return f"at line {line} of the SQL file"


def up_to_its_end(select: str) -> str:
    """Without the semicolon, and the comments after it, that a SELECT in brackets may not have."""
    text = select.encode()
    ends = [offset for offset, _ in duckdb.tokenize(select) if text[offset : offset + 1] == b";"]
    return text[: ends[0]].decode() if ends else select


def filtered_by_file(cursor: duckdb.DuckDBPyConnection, select: str, *, file_ids: Sequence[int] | None) -> str:
    """The same SELECT with the lineage column `_file_id`, over the rows of these file versions (None: of all).

    Only for a SELECT that `core.refresh` has found to map the rows of one table one by one.
    """
    statement = parse(cursor, select)[0]
    node = statement["node"]
    source = node["from_table"]
    column = f"{ident(source['alias'] or source['table_name'])}._file_id"
    template = parse(cursor, f"SELECT {column} FROM x WHERE {column} IN ({_list(file_ids)})")[0]["node"]
    if not any(_yields_file_id(item) for item in node["select_list"]):
        node["select_list"] += template["select_list"]
    if file_ids is not None:
        wanted = template["where_clause"]
        node["where_clause"] = wanted if node["where_clause"] is None else _both(node["where_clause"], wanted)
    row = cursor.execute(
        "SELECT json_deserialize_sql(CAST($tree AS JSON))",
        {"tree": json.dumps({"error": False, "statements": [statement]})},
    ).fetchone()
    assert row is not None  # noqa: S101 -- one row in, one row out
    return str(row[0])


def _list(file_ids: Sequence[int] | None) -> str:
    return ", ".join(map(str, file_ids)) if file_ids else "0"


def _yields_file_id(item: Tree) -> bool:
    if item["class"] == "STAR":
        return "_file_id" not in {str(e).casefold() for e in item["exclude_list"]}
    name = item["alias"] or (item.get("column_names") or [""])[-1]
    return str(name).casefold() == "_file_id"


def _both(one: Tree, other: Tree) -> Tree:
    return {
        "class": "CONJUNCTION",
        "type": "CONJUNCTION_AND",
        "alias": "",
        "query_location": 18446744073709551615,
        "query_location_length": 0,
        "children": [one, other],
    }
