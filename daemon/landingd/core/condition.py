"""Decide an if/else: whether a condition task's comparison holds.

Operands are text by the time they come here, whatever they were before. Equality is between texts, so "12.0" is not
"12"; the order of two operands is that of the numbers they show, so "12.0" is at least "12" and "9" is less than "10".
"""

from decimal import Decimal, InvalidOperation
from operator import ge, gt, le, lt

from landingd.errors import LandingdError
from landingd.model import ConditionOp

_ORDER = {
    ConditionOp.GREATER_THAN: (gt, ">"),
    ConditionOp.GREATER_THAN_OR_EQUAL: (ge, ">="),
    ConditionOp.LESS_THAN: (lt, "<"),
    ConditionOp.LESS_THAN_OR_EQUAL: (le, "<="),
}
DIGITS_MAX = 1000
"""Of an operand; a longer one is no number that anybody meant."""

COMPARES_TEXT = "EQUAL_TO and NOT_EQUAL compare text"


class NotANumberError(LandingdError):
    """An operand of a comparison by size is no number. Trying again cannot help. Exit code 65."""

    exit_code = 65


def evaluate(op: ConditionOp, left: str, right: str) -> bool:
    """Whether the comparison holds (Databricks: `condition_task`). Raises NotANumberError."""
    if op is ConditionOp.EQUAL_TO:
        return left == right
    if op is ConditionOp.NOT_EQUAL:
        return left != right
    compare, sign = _ORDER[op]
    numbers = [_number(operand) for operand in (left, right)]
    if numbers[0] is not None and numbers[1] is not None:
        return bool(compare(numbers[0], numbers[1]))
    strange = right if numbers[0] is not None else left
    raise NotANumberError(
        f"the condition {left!r} {sign} {right!r} compares numbers, and {strange!r} is none",
        hint=COMPARES_TEXT,
    )


def is_number(text: str) -> bool:
    """Whether an operand can be compared by size."""
    return _number(text) is not None


def _number(text: str) -> Decimal | None:
    # Decimal, and not float: 9007199254740993 is more than 9007199254740992.
    if len(text) > DIGITS_MAX or "_" in text:
        return None
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
