"""Store events to try the daemon on, without a download.

The rows have the shape of the public "eCommerce behavior data" set and its weak spots: brands and users that
are missing, exact duplicates, rows that two deliveries share at midnight, and a few rows that cannot be read.
The same seed gives the same bytes on every machine: nothing here depends on the clock, the locale or the hash
seed.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from uuid import UUID

COLUMNS = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
HEADER = ",".join(COLUMNS) + "\n"

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = 7
_CHUNK_ROWS = 2_000

_PRODUCTS = 2_000
_OPEN_SESSIONS = 40
_DUPLICATE_SHARE = 0.01
_ROWS_PER_MALFORMED = 2_500
_SHARED_ROWS_MAX = 3

_BLOCK_BYTES = 1_000_000
_BLOCK_DAY = "2019-10-01"
_BLOCK_TAG = b"********"  # stands where the number of the block goes; no generated field contains it

_BRANDS = (
    *("aurelio", "brisk", "calder", "dunmore", "elvane", "fjordly", "gantry", "halcyon", "ibex", "juniper"),
    *("kestrel", "lumen", "marlow", "nimbus", "orrin", "pascal", "quill", "rowan", "sable", "tarn"),
    *("umbra", "vesper", "wicker", "xanth", "yarrow", "zephyr", "böhler", '"oak, ash & co"'),
)
_CATEGORIES = (
    *("electronics.smartphone", "electronics.audio.headphone", "electronics.video.tv", "electronics.clocks"),
    *("appliances.kitchen.washer", "appliances.kitchen.kettle", "appliances.environment.vacuum"),
    *(
        "computers.notebook",
        "computers.peripherals.mouse",
        "furniture.bedroom.bed",
        "apparel.shoes",
        "kids.toys",
    ),
    *("construction.tools.drill", "sport.bicycle", "auto.accessories.player", "", "", "", ""),
)


class Product(NamedTuple):
    """What stays the same about a product from event to event; `brand` and `category_code` may be empty."""

    product_id: int
    category_id: int
    category_code: str
    brand: str
    cents: int


class Visit(NamedTuple):
    """One session of one user; `user_id` may be empty."""

    user_id: str
    user_session: str
    product: Product


def write_sample(folder: Path, *, seed: int = 7, scale: float = 1.0) -> list[Path]:
    """Write two months and a week of days into `folder`, each file renamed into place when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, rows in plan(seed, scale):
        unfinished = folder / f".{name}.tmp"
        with unfinished.open("wb") as file:
            file.writelines(generate(name, seed=seed, rows=rows))
        written.append(unfinished.rename(folder / name))
    return written


def plan(seed: int = 7, scale: float = 1.0) -> list[tuple[str, int]]:
    """The names and row counts of a sample, in the order in which they would arrive."""
    rng = _rng("plan", seed)
    months = [("2019-Oct.csv", 20_000), ("2019-Nov.csv", 24_000)]
    days = [(f"2019-12-{day:02d}.csv", 650 + _below(rng, 100)) for day in range(1, _DAYS + 1)]
    return [(name, max(1, round(rows * scale))) for name, rows in months + days]


def generate(name: str, *, seed: int = 7, rows: int) -> Iterator[bytes]:
    """The bytes of one file, header first, in pieces; `name` says the period, as in `plan`.

    `write_sample` renames whole files into place. Whoever wants to play a producer that writes in place,
    slowly, or not to the end, takes the pieces from here.
    """
    start, end = _period(name)
    lines = _lines(start, end, seed=seed, rows=rows)
    for index in _malformed_rows(name, seed, rows):
        lines[index] = _malformed(lines[index], kind=index)

    yield HEADER.encode()
    for first in range(0, len(lines), _CHUNK_ROWS):
        yield "".join(lines[first : first + _CHUNK_ROWS]).encode()


def rows_of_size(seed: int, n_bytes: int) -> bytes:
    """A clean CSV of at most `n_bytes` and nearly as many: no malformed row, no row twice.

    One block of about a megabyte is generated and then repeated with another date and other sessions, so that
    100 MB take a second and not a minute.
    """
    block = _block(seed, min(n_bytes, _BLOCK_BYTES))
    pieces = [HEADER.encode()]
    left = n_bytes - len(pieces[0])
    number = 0
    while left > 0:
        day = datetime(2019, 10, 1, tzinfo=UTC) + timedelta(days=number % 61)
        piece = block.replace(_BLOCK_TAG, b"%08x" % number).replace(_BLOCK_DAY.encode(), f"{day:%Y-%m-%d}".encode())
        if len(piece) > left:
            piece = piece[: piece.rfind(b"\n", 0, left) + 1]
            left = len(piece)
        pieces.append(piece)
        left -= len(piece)
        number += 1
    return b"".join(pieces)


# --- rows -------------------------------------------------------------------------------------------------


def _lines(start: datetime, end: datetime, *, seed: int, rows: int) -> list[str]:
    """The rows of a period. Deliveries overlap: a few at both ends also stand in the neighbours' files."""
    shared = min(_SHARED_ROWS_MAX, rows // 10)
    lines = _around(start, seed)[:shared]
    rng = _rng("rows", seed, start.isoformat(), end.isoformat())
    events = _events(rng, start, end, catalog=_catalog(seed), rows=rows)
    while len(lines) < rows - shared:
        again = lines and rng.random() < _DUPLICATE_SHARE
        lines.append(lines[-1 - _below(rng, min(50, len(lines)))] if again else next(events))
    return lines + _around(end, seed)[:shared]


def _around(midnight: datetime, seed: int) -> list[str]:
    """The rows that the files on both sides of a midnight contain."""
    rng = _rng("around", seed, midnight.isoformat())
    last_minute = midnight - timedelta(minutes=1)
    return list(_events(rng, last_minute, midnight, catalog=_catalog(seed), rows=_SHARED_ROWS_MAX))


def _events(rng: Random, start: datetime, end: datetime, *, catalog: Sequence[Product], rows: int) -> Iterator[str]:
    """Well-formed rows in the order of time, from users who look at a few things and sometimes buy one."""
    step_us = int((end - start).total_seconds() * 1_000_000) // rows
    visits = [_visit(rng, catalog) for _ in range(_OPEN_SESSIONS)]
    for number in range(rows):
        slot = _below(rng, _OPEN_SESSIONS)
        if rng.random() < 0.2:
            visits[slot] = _visit(rng, catalog)
        elif rng.random() < 0.4:
            visits[slot] = visits[slot]._replace(product=_popular(rng, catalog))
        time = start + timedelta(microseconds=number * step_us + _below(rng, step_us))
        yield _line(time, _event_type(rng), visits[slot])


def _line(time: datetime, event_type: str, visit: Visit) -> str:
    product = visit.product
    cents = product.cents * (1_000 + (time.toordinal() * 7 + product.product_id) % 21 - 10) // 1_000
    return (
        f"{time:%Y-%m-%d %H:%M:%S} UTC,{event_type},{product.product_id},{product.category_id},"
        f"{product.category_code},{product.brand},{cents // 100}.{cents % 100:02d},"
        f"{visit.user_id},{visit.user_session}\n"
    )


def _event_type(rng: Random) -> str:
    share = rng.random()
    if share < 0.90:
        return "view"
    if share < 0.955:
        return "cart"
    return "purchase" if share < 0.99 else "remove_from_cart"


def _visit(rng: Random, catalog: Sequence[Product]) -> Visit:
    user_id = "" if rng.random() < 0.02 else str(512_000_000 + _below(rng, 9_000) * 37)
    return Visit(user_id, str(UUID(int=rng.getrandbits(128), version=4)), _popular(rng, catalog))


def _popular(rng: Random, catalog: Sequence[Product]) -> Product:
    """A few products get most of the attention."""
    share = rng.random()
    return catalog[int(len(catalog) * share * share * share)]


@lru_cache(maxsize=4)
def _catalog(seed: int) -> tuple[Product, ...]:
    """The products of a store: ids, categories, brands and prices are the same in all files of a seed."""
    rng = _rng("catalog", seed)
    categories = [(2_053_013_550_000_000_000 + rng.getrandbits(32), code) for code in _CATEGORIES * 3]
    return tuple(_product(rng, number, categories) for number in range(_PRODUCTS))


def _product(rng: Random, number: int, categories: Sequence[tuple[int, str]]) -> Product:
    category_id, category_code = categories[_below(rng, len(categories))]
    brand = "" if rng.random() < 0.15 else _BRANDS[_below(rng, len(_BRANDS))]
    share = rng.random()
    return Product(
        1_000_000 + number * 517, category_id, category_code, brand, 99 + int(250_000 * share * share * share)
    )


@lru_cache(maxsize=4)
def _block(seed: int, n_bytes: int) -> bytes:
    """Distinct rows of one day, at least `n_bytes`, each session with a mark where a number can go."""
    start = datetime.fromisoformat(_BLOCK_DAY).replace(tzinfo=UTC)
    rows = max(1, n_bytes // 100)
    lines = _events(_rng("block", seed), start, start + timedelta(days=1), catalog=_catalog(0), rows=rows)
    marked = (f"{line[:-37]}{_BLOCK_TAG.decode()}{line[-29:]}" for line in lines)
    return "".join(dict.fromkeys(marked)).encode()


# --- malformed rows ---------------------------------------------------------------------------------------


def _malformed_rows(name: str, seed: int, rows: int) -> list[int]:
    """Which rows of a file are spoilt: one in 2,500, at least one in a file that has a hundred."""
    if rows < 100:
        return []
    rng = _rng("malformed", seed, name)
    part = rows // max(1, rows // _ROWS_PER_MALFORMED)
    kind = _below(rng, 4)
    return [first + 10 + (kind + nth - first - 10) % 4 for nth, first in enumerate(range(0, rows - part + 1, part))]


def _malformed(line: str, *, kind: int) -> str:
    """Spoil a row in one of four ways that producers know."""
    fields = line.rstrip("\n").split(",")
    match kind % 4:
        case 0:
            fields[-3] = "n/a"  # the price
        case 1:
            del fields[4]  # the category code
        case 2:
            fields.append("surprise")
        case _:
            fields[0] = "yesterday"
    return ",".join(fields) + "\n"


# --- small things -----------------------------------------------------------------------------------------


def _period(name: str) -> tuple[datetime, datetime]:
    year, _, rest = name.removesuffix(".csv").partition("-")
    if rest in _MONTHS:
        month = _MONTHS.index(rest)
        start = datetime(int(year), month + 1, 1, tzinfo=UTC)
        return start, datetime(int(year) + (month + 1) // 12, (month + 1) % 12 + 1, 1, tzinfo=UTC)
    start = datetime.fromisoformat(f"{year}-{rest}").replace(tzinfo=UTC)
    return start, start + timedelta(days=1)


def _rng(*words: object) -> Random:
    # A text seeds through SHA-512 and not through hash(), so PYTHONHASHSEED has no say.
    return Random(":".join(map(str, words)))  # noqa: S311 - sample data, no secret


def _below(rng: Random, limit: int) -> int:
    return int(rng.random() * limit)
