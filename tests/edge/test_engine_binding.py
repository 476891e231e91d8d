"""Binding in a DuckDB in memory: what many statements at once may not change."""

import pytest

from landingd.edge.engine.binding import Binding
from landingd.errors import EngineError

TEXTS = [
    "SELECT 1 AS n",
    "  SELECT n, 'ü😀;' AS s FROM bronze.a -- the end",
    "WITH a AS (SELECT 1) FROM a;",
    "",
    "SELECT 1; SELECT 2",
    "SELECT n\n, FROM\n WHERE",
    "UPDATE a SET n = 1",
    "SELECT \x00",
    "SELECT " + "(" * 2000 + "1" + ")" * 2000,
]


@pytest.fixture
def binding():
    with Binding({}) as binding:
        yield binding


def said_of(binding, sql):
    try:
        return binding.parse(sql)
    except EngineError as error:
        return error.what, error.hint, error.permanent


def test_what_was_read_ahead_is_parsed_as_if_it_was_not(binding):
    one_by_one = [said_of(binding, sql) for sql in TEXTS]
    binding.read_ahead(TEXTS)
    assert [said_of(binding, sql) for sql in TEXTS] == one_by_one
    assert said_of(binding, "SELECT another") != one_by_one[0]


def test_nothing_to_read_ahead_is_no_error(binding):
    binding.read_ahead([])
    assert said_of(binding, "SELECT 1")["node"]["type"] == "SELECT_NODE"


@pytest.mark.parametrize(
    ("select", "shape"),
    [
        ("SELECT $day AS day, 1 AS n", {"day": "INTEGER", "n": "INTEGER"}),
        ("SELECT CAST($day AS DATE) AS day; -- the end", {"day": "DATE"}),
        ("FROM silver.above", {"n": "BIGINT"}),
    ],
)
def test_a_table_has_the_columns_that_its_select_gives(binding, select, shape):
    binding.bind_table("silver.above", "SELECT 1::BIGINT AS n", (), tracked=False)
    assert binding.bind_table("gold.t", select, ("day",), tracked=False).error is None
    found = {name: binding.bind_expression("gold.t", name).error for name in shape}
    assert found == {name: f"is {sql_type}, not true or false" for name, sql_type in shape.items()}


def test_what_is_wrong_with_the_select_of_a_table_is_said_with_its_line(binding):
    bound = binding.bind_table("gold.t", "SELECT 1 AS a,\n  nope\nFROM range(3)", (), tracked=False)
    assert ("nope" in bound.error, bound.line) == (True, 2)
    bound = binding.bind_table("gold.t", "SELECT $day AS a", ("month",), tracked=False)
    assert bound.error == "binds $day, which no parameter of the job or the task is called"
