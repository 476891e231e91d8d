"""What the tables of the ecommerce job must contain, worked out without a database.

The rules:

* An empty field is NULL. A row is well-formed if it has exactly nine fields and what is not NULL can be read:
  an event time, integers in `product_id`, `category_id` and `user_id`, a decimal number in `price`.
  Bronze is every well-formed row of every file, repeats included; the other rows are rejected.
* Silver is the distinct rows of bronze, over all files together, whose `user_id` is not NULL.
* Gold has one row per brand, from the rows of silver that are purchases and have a brand: how many there are,
  and the sum and the average of the prices that are not NULL (the sample has a price in every row).
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

Event = tuple[
    datetime | None,
    str | None,
    int | None,
    int | None,
    str | None,
    str | None,
    Decimal | None,
    int | None,
    str | None,
]


@dataclass(frozen=True)
class Revenue:
    purchases: int
    revenue: Decimal | None
    avg_price: float | None


@dataclass(frozen=True)
class Expected:
    bronze_rows: int
    rejected_rows: int
    silver: frozenset[Event]
    gold: dict[str, Revenue]


def expected(paths: Iterable[Path]) -> Expected:
    """The tables after these files were loaded, in whatever order and in however many runs."""
    events, rejected_rows = [], 0
    for path in paths:
        for fields in _rows(path):
            try:
                events.append(_event(fields))
            except ValueError:
                rejected_rows += 1
    silver = frozenset(event for event in events if event[7] is not None)
    return Expected(len(events), rejected_rows, silver, _gold(silver))


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from reader


def _event(fields: list[str]) -> Event:
    """Raises ValueError if the row is not well-formed."""
    if len(fields) != 9:
        raise ValueError(fields)
    time, event_type, product_id, category_id, category_code, brand, price, user_id, user_session = fields
    return (
        _time(time) if time else None,
        event_type or None,
        int(product_id) if product_id else None,
        int(category_id) if category_id else None,
        category_code or None,
        brand or None,
        _price(price) if price else None,
        int(user_id) if user_id else None,
        user_session or None,
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix(" UTC"))


def _price(text: str) -> Decimal:
    try:
        return Decimal(text).quantize(Decimal("0.01"))
    except InvalidOperation:
        raise ValueError(text) from None


def _gold(silver: Iterable[Event]) -> dict[str, Revenue]:
    prices = defaultdict[str, list[Decimal | None]](list)
    for _, event_type, _, _, _, brand, price, _, _ in silver:
        if event_type == "purchase" and brand is not None:
            prices[brand].append(price)
    return {brand: _revenue(sold) for brand, sold in prices.items()}


def _revenue(sold: list[Decimal | None]) -> Revenue:
    prices = [price for price in sold if price is not None]
    if not prices:
        return Revenue(len(sold), None, None)
    return Revenue(len(sold), sum(prices, Decimal(0)), float(sum(prices)) / len(prices))
