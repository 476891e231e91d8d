"""The comparisons of a condition task, as Databricks defines them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.condition import NotANumberError, evaluate
from landingd.model import ConditionOp as Op

SIZES = (Op.GREATER_THAN, Op.GREATER_THAN_OR_EQUAL, Op.LESS_THAN, Op.LESS_THAN_OR_EQUAL)


@pytest.mark.parametrize(
    ("left", "op", "right", "holds"),
    [
        ("12.0", Op.EQUAL_TO, "12", False),
        ("12.0", Op.NOT_EQUAL, "12", True),
        ("12", Op.EQUAL_TO, "12", True),
        ("true", Op.EQUAL_TO, "true", True),
        ("true", Op.EQUAL_TO, "True", False),
        ("", Op.EQUAL_TO, "", True),
        ("12.0", Op.GREATER_THAN_OR_EQUAL, "12", True),
        ("10.0", Op.GREATER_THAN_OR_EQUAL, "12", False),
        ("12.0", Op.GREATER_THAN, "12", False),
        ("9", Op.LESS_THAN, "10", True),
        ("-1", Op.LESS_THAN, "0", True),
        ("1e3", Op.LESS_THAN_OR_EQUAL, "1000", True),
        (" 7 ", Op.LESS_THAN_OR_EQUAL, "7.0", True),
        ("9007199254740993", Op.GREATER_THAN, "9007199254740992", True),
        ("0.1", Op.LESS_THAN_OR_EQUAL, "0.1000000000000000000000001", True),
    ],
)
def test_equality_is_of_texts_and_order_is_of_numbers(left, op, right, holds):
    assert evaluate(op, left, right) is holds


@pytest.mark.parametrize("op", SIZES)
@pytest.mark.parametrize("strange", ["", "x", "nan", "inf", "1,5", "1_000", "0x10", "true", "null", "9" * 1001])
def test_what_is_no_number_has_no_size(op, strange):
    for operands in ((strange, "1"), ("1", strange)):
        with pytest.raises(NotANumberError) as error:
            evaluate(op, *operands)
        assert error.value.what.endswith(f"compares numbers, and {strange!r} is none")
        assert error.value.hint == "EQUAL_TO and NOT_EQUAL compare text"


@given(st.text(), st.text())
def test_texts_are_equal_or_not(left, right):
    assert evaluate(Op.EQUAL_TO, left, right) is (left == right)
    assert evaluate(Op.NOT_EQUAL, left, right) is (left != right)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_of_two_numbers_exactly_one_of_less_equal_and_greater_holds(left, right):
    less, greater = (evaluate(op, str(left), str(right)) for op in (Op.LESS_THAN, Op.GREATER_THAN))
    assert (less, greater) == (Decimal(left) < Decimal(right), Decimal(left) > Decimal(right))
    assert evaluate(Op.LESS_THAN_OR_EQUAL, str(left), str(right)) is not greater
    assert evaluate(Op.GREATER_THAN_OR_EQUAL, str(left), str(right)) is not less
