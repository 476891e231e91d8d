"""Choose how a table is kept equal to its SELECT.

A table is always what its SELECT gives over the files that are loaded now. Recomputing it is always right; adding
only the new files' rows is right where each row of the result comes from one row of one upstream table, whatever
the other rows are, and says the same whenever it is computed. This module tells the two apart, from the SELECT's
tree as DuckDB's parser gives it (`json_serialize_sql`). What it does not know, it recomputes.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landingd.model import Expectation, OnViolation, RefreshMode

Tree = Mapping[str, Any]

VOLATILE = frozenset({
    "random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "setseed", "nextval", "currval", "now", "current_date",
    "current_time", "current_timestamp", "current_localtime", "current_localtimestamp", "get_current_time",
    "get_current_timestamp", "transaction_timestamp", "today", "txid_current", "getvariable", "current_setting", "ago",
})  # fmt: skip
"""Functions whose answer depends on more than their arguments."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """The way and, in words for `landingd plan`, why."""

    mode: RefreshMode
    reason: str
    upstream: str | None = None


def choose(statement: Tree, *, declared: str, tracked: Collection[str], functions: Collection[str]) -> Refresh:
    """Choose for one SELECT.

    `declared` is the job file's `refresh:` (auto, append, full); `tracked` are the tables that know which file each
    of their rows came from; `functions` those that look at one row and say the same for the same arguments.
    """
    if declared == "full":
        return Refresh(RefreshMode.FULL, "declared")
    obstacle = why_not_append(statement, tracked=tracked, functions=functions)
    if obstacle is not None:
        return Refresh(RefreshMode.FULL, obstacle)
    upstream = table_name(statement["node"]["from_table"])
    return Refresh(RefreshMode.APPEND, f"maps the rows of {upstream} one by one", upstream)


def why_not_append(statement: Tree, *, tracked: Collection[str], functions: Collection[str]) -> str | None:
    """What keeps this SELECT from being computed file by file; None if nothing does."""
    node = statement["node"]
    if node["type"] != "SELECT_NODE":
        return "combines several SELECTs"
    if node["cte_map"]["map"]:
        return "has a WITH clause"
    return (
        _shape_obstacle(node)
        or _source_obstacle(node["from_table"], tracked)
        or _content_obstacle(node, functions)
        or _lineage_obstacle(node)
    )


def _shape_obstacle(node: Tree) -> str | None:
    clauses = {
        "GROUP BY": node["group_expressions"] or node["group_sets"],
        "HAVING": node["having"],
        "QUALIFY": node["qualify"],
        "a sample": node["sample"],
    }
    for name, present in clauses.items():
        if present:
            return f"has {name}"
    modifiers = {
        "DISTINCT_MODIFIER": "DISTINCT",
        "LIMIT_MODIFIER": "LIMIT",
        "LIMIT_PERCENT_MODIFIER": "LIMIT",
        "ORDER_MODIFIER": "ORDER BY",
    }
    for modifier in node["modifiers"]:
        return f"has {modifiers.get(modifier['type'], modifier['type'])}"
    if node["aggregate_handling"] != "STANDARD_HANDLING":
        return "has GROUP BY"
    return None


def _source_obstacle(source: Tree, tracked: Collection[str]) -> str | None:
    if source["type"] != "BASE_TABLE":
        kind = {"JOIN": "a join", "SUBQUERY": "a subquery", "EMPTY": "no table"}
        return f"reads from {kind.get(source['type'], source['type'].lower().replace('_', ' '))}"
    if source["sample"] or source["at_clause"]:
        return "reads a sample or a version of its table"
    if source["column_name_alias"]:
        return "renames the columns of its table"
    if table_name(source) not in tracked:
        return f"{table_name(source)} does not know which file each row came from"
    return None


def _content_obstacle(node: Tree, functions: Collection[str]) -> str | None:
    return next(filter(None, (_part_obstacle(part, functions) for part in _walk(node))), None)


def _lineage_obstacle(node: Tree) -> str | None:
    """By `_file_id` rows are taken out again: it has to be the table's own, or left out so that it can be added."""
    source = node["from_table"]
    table = {str(source["alias"] or source["table_name"]).casefold()}
    for item in node["select_list"]:
        if item["class"] == "STAR":
            replaced = {str(r["key"]).casefold() for r in item["replace_list"]}
            odd = item["columns"] or item["rename_list"] or item["qualified_exclude_list"] or "_file_id" in replaced
            if odd or not {str(item["relation_name"]).casefold()} <= table | {""}:
                return "takes its columns by more than * and EXCLUDE"
            continue
        if any(part.get("class") == "STAR" for part in _walk(item)):
            return "takes its columns by more than * and EXCLUDE"
        names = [str(name).casefold() for name in item.get("column_names", ())]
        named = str(item["alias"]).casefold() or "".join(names[-1:])
        own = names[-1:] == ["_file_id"] and set(names[-2:-1]) <= table
        if named == "_file_id" and not own:
            return "makes a _file_id of its own"
    return None


def _part_obstacle(part: Tree, functions: Collection[str]) -> str | None:
    match part.get("class"):
        case "WINDOW":
            return "has a window function"
        case "SUBQUERY":
            return "has a subquery"
        case "PARAMETER":
            return f"depends on the parameter ${part.get('identifier')}"
        case "FUNCTION":
            return _function_obstacle(part, functions)
        case "COLUMN_REF" if str(part["column_names"][-1]).casefold() in _TIME_WORDS | {"rowid"}:
            return f"{part['column_names'][-1]} gives another answer each time"
        case _:
            return None


def _function_obstacle(part: Tree, functions: Collection[str]) -> str | None:
    name = str(part["function_name"]).casefold()
    # DuckDB calls age(then) consistent, but it counts from today.
    if name in VOLATILE or (name == "age" and len(part["arguments"]) == 1):
        return f"{name}() gives another answer each time"
    if not part["is_operator"] and name not in functions:
        return f"{name}() is not known to look at one row only"
    return None


_TIME_WORDS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "today"}


def _walk(tree: Any) -> Iterator[Tree]:
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def table_name(source: Tree) -> str:
    """`schema.name`, lower case, of a BASE_TABLE."""
    return f"{source['schema_name']}.{source['table_name']}".casefold()


def tables_read(statement: Tree) -> frozenset[str]:
    """Every table with a schema that the statement names anywhere."""
    return frozenset(table_name(p) for p in _walk(statement) if p.get("type") == "BASE_TABLE" and p["schema_name"])


def why_not_of_one_row(expression: Tree, *, fickle: Collection[str]) -> str | None:
    """What keeps an expectation from being a statement about one row for ever; None if nothing does.

    `fickle` are DuckDB's functions that need not answer the same for the same arguments. That an expression has no
    aggregates is left to the binder, which refuses them in a WHERE clause.
    """
    return next(filter(None, (_obstacle_in_expression(part, fickle) for part in _walk(expression))), None)


def _obstacle_in_expression(part: Tree, fickle: Collection[str]) -> str | None:
    match part.get("class"):
        case "STAR":
            return "names columns by *"
        case "POSITIONAL_REFERENCE":
            return "names a column by its number"
        case "FUNCTION":
            name = str(part["function_name"]).casefold()
            return _function_obstacle(part, {name}) or (
                f"{name}() gives another answer each time" if name in fickle else None
            )
        case _:
            return _part_obstacle(part, ())


def definition(
    select: str, refresh: Refresh, above: Mapping[str, str], expectations: Sequence[Expectation] = ()
) -> str:
    """A hash of what a table is made from: its SELECT, how it is refreshed, and the definitions above it.

    `above` maps each table that it reads to that table's definition (raw tables have none). What is expected of its
    rows is part of it, but for mere warnings, whatever they say the rows are the same.
    """
    parts = [select, refresh.mode.value, *(f"{table}={above[table]}" for table in sorted(above))]
    decisive = [e for e in expectations if e.on_violation is not OnViolation.WARN]
    parts += [part for e in decisive for part in (e.on_violation.value, e.name, e.expect)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
