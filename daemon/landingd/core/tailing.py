"""Decide what a look at a growing file means: more lines, a new generation, or nothing yet.

A log is read while it is written, and its path does not stay the same file: it is renamed and begun anew, or copied and
cut to nothing. What tells one file from the next is the inode, which file systems give again, and how the file begins.
Only whole lines are taken; where a CSV field in quotes runs over several lines, only whole records.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from landingd.core import csvhead, triggers
from landingd.core.csvhead import Header
from landingd.errors import Problem
from landingd.model import Cleanup, Continuous, FileArrival, Ingest, Job, OnDelete, Tail, TailState

PACKED_SUFFIXES = (b".gz", b".zst", b".bz2", b".xz", b".zip", b".lz4")

LOOK_EVERY_S = 0.1
"""While it grows."""
LOOK_IDLE_S = 0.4
IDLE_AFTER_S = 10.0
GATHER_S = 0.5
"""From one segment to the next: a busy producer gives two a second, not hundreds."""
GATHER_MAX_S = 30.0
WAITING_FREE = 4
"""So many segments may wait before the next ones are made larger instead."""
BACKLOG_BYTES_MAX = 256 << 20
"""Entered and not loaded, of one file: what is beyond that stays where it is until there is room."""
OPEN_RECORD_S = 2.0
"""A quote that is never closed holds lines up this long; then it is taken for a stray one."""
FINISHED_AFTER_S = 2.0
"""A rotated file that nobody has open for writing is at its end after this long without growth ..."""
FINISHED_UNPROVEN_S = 60.0
"""... and after this long where writers cannot be seen. As long as one is seen, it may go on there."""
VANISHED_AFTER_S = 60.0
COPYING_S = 2.0
"""A file that begins like one that was read may be a copy of it under way, as long as it was written to just now."""


class Change(Enum):
    """What became of a growing file since it was last looked at."""

    NONE = "unchanged"
    GROWN = "grown"
    TRUNCATED = "begun anew in place"
    REPLACED = "another file stands at its path"
    VANISHED = "nothing stands at its path"


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands at a path."""

    inode: int
    size: int
    begins_alike: bool = True
    """Its first `head_bytes` bytes are those of the tail."""


def change(tail: Tail, seen: Seen | None) -> Change:
    """What a look at the place of a tail means."""
    if seen is None:
        return Change.VANISHED
    if seen.inode != tail.inode:
        return Change.REPLACED
    if seen.size < tail.offset or not seen.begins_alike:
        return Change.TRUNCATED
    return Change.GROWN if seen.size > tail.offset else Change.NONE


def may_be(tail: Tail, seen: Seen) -> bool:
    """Whether a file may hold what was read of a tail, whatever its name and inode: a rotated file, or a copy of it."""
    return seen.begins_alike and seen.size >= tail.offset


# --- whose paths --------------------------------------------------------------------------------------------


def tailed_by(path: bytes, taken_by: Sequence[str], job: Job) -> Ingest | None:
    """How the job tails a path that these ingest tasks take; None: it is a file like any other.

    A packed file does not grow by lines: a compressed log that was rotated is a file like any other.
    """
    return None if path.lower().endswith(PACKED_SUFFIXES) else _tailing(taken_by, job)


def may_be_packed_log(path: bytes, taken_by: Sequence[str], job: Job) -> bool:
    """Whether a packed file may be one that was read while it grew."""
    return path.lower().endswith(PACKED_SUFFIXES) and _tailing(taken_by, job) is not None


def _tailing(taken_by: Sequence[str], job: Job) -> Ingest | None:
    ingests = (job.task(task_key).ingest for task_key in taken_by)
    return next((ingest for ingest in ingests if ingest is not None and ingest.tail), None)


def is_tailed(path: bytes, job: Job) -> bool:
    """Whether the job tails a path, if it wants it."""
    return tailed_by(path, triggers.taken_by(path, job), job) is not None


def has_tails(job: Job) -> bool:
    """Whether any of its tasks reads growing files."""
    return any(task.ingest is not None and task.ingest.tail for task in job.tasks)


def problems(job: Job) -> list[Problem]:
    """What cannot be had of files that are read while they grow."""
    tasks = [task for task in job.tasks if task.ingest is not None and task.ingest.tail]
    found = [
        Problem(
            task.place.file,
            task.place.line,
            f"task {task.task_key!r} tails files in UTF-16, of which a line's end cannot be told from half a character",
            "let their writer write UTF-8, or leave `tail` out and deliver whole files",
        )
        for task in tasks
        if task.ingest is not None and task.ingest.encoding == "utf-16"
    ]
    for trigger in job.triggers if tasks else ():
        source = trigger.on.source if isinstance(trigger.on, Continuous) else trigger.on
        for why in _never(source) if isinstance(source, FileArrival) else ():
            what = f"the job tails files (task {tasks[0].task_key!r}), {why}"
            found.append(
                Problem(trigger.place.file, trigger.place.line, what, "leave it out, or put it in another job")
            )
    return found


def _never(arrival: FileArrival) -> Iterable[str]:
    """What a trigger asks for that never comes, or would be wrong, of a file that goes on growing."""
    if arrival.marker is not None or arrival.manifest is not None:
        yield "and nobody marks a file that is never complete"
    if arrival.cleanup is not Cleanup.KEEP:
        yield f"and `cleanup: {arrival.cleanup.value}` would take away what is still written"
    if arrival.on_delete is OnDelete.RETRACT:
        yield "and `on_delete: retract` would take out the rows of every log that is rotated away"
    if arrival.wait_after_last_change_s > 0:
        yield "and `wait_after_last_change_seconds` waits for a silence that may never come"


# --- lines --------------------------------------------------------------------------------------------------


def quote_of(ingest: Ingest) -> tuple[bytes, bytes]:
    """The character within whose pairs a newline ends no record, and what takes that meaning from it; b"": none."""
    if ingest.format != "csv":
        return b"", b""
    quote = str(ingest.read_options.get("quote", '"'))
    escape = str(ingest.read_options.get("escape", quote))
    return quote.encode(), b"" if escape == quote else escape.encode()


def whole_records(data: bytes, quote: bytes = b"", escape: bytes = b"") -> int:
    """How many of these bytes are whole lines, with no quote left open at their end; they begin with a record."""
    end = data.rfind(b"\n") + 1
    if not quote or quote not in data:
        return end
    quotes = _quotes(data[:end], quote, escape)
    while quotes % 2 and end > 0:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= _quotes(data[before:end], quote, escape)
        end = before
    return end


def first_record(data: bytes, quote: bytes = b"", escape: bytes = b"") -> int:
    """The length of the first record with its line end; 0: it has not ended."""
    end = quotes = 0
    while (newline := data.find(b"\n", end)) >= 0:
        quotes += _quotes(data[end : newline + 1], quote, escape) if quote else 0
        end = newline + 1
        if quotes % 2 == 0:
            return end
    return 0


def _quotes(data: bytes, quote: bytes, escape: bytes) -> int:
    return data.count(quote) - (data.count(escape + quote) if escape else 0)


@dataclass(frozen=True, slots=True)
class Cut:
    """What to take of the bytes behind the offset: `skip`, which are no rows, and the lines up to `end`."""

    skip: int
    end: int
    header: bytes | None
    """The header line for these lines and all that come."""


def cut(tail: Tail, data: bytes, ingest: Ingest, *, is_last: bool = False, takes_stray_quotes: bool = False) -> Cut:
    """What to take of the bytes that stand behind a tail's offset.

    `is_last`: nothing more will come, so that a line without an end is one too. `takes_stray_quotes`: a quote that is
    left open is none.
    """
    # Who writes on at an old place after the file was cut to nothing leaves a hole before it.
    skip = len(data) - len(data.lstrip(b"\0")) if tail.offset == 0 else 0
    quote, escape = quote_of(ingest)
    header = tail.header
    if tail.offset == 0 and ingest.format == "csv" and ingest.header:
        first = first_record(data[skip:], quote, escape) or (len(data) - skip if is_last else 0)
        if first == 0:
            return Cut(0, 0, header)
        header, is_here = header_of(data[skip : skip + first], header, ingest)
        skip += first if is_here else 0
    lines = data[skip:]
    end = whole_records(lines, quote, escape)
    if end == 0 and (takes_stray_quotes or is_last):
        end = lines.rfind(b"\n") + 1
    return Cut(skip, skip + (len(lines) if is_last else end), header)


def header_of(first: bytes, before: bytes | None, ingest: Ingest) -> tuple[bytes, bool]:
    """The header line of a generation that begins with this line, and whether the line is it.

    Whoever writes on into a file that was cut to nothing writes no header: then the one before goes on to hold.
    """
    if before is None:
        return first, True
    here = csvhead.read(first, delimiter=ingest.delimiter, known=ingest.schema_hints)
    old = csvhead.read(before, delimiter=ingest.delimiter, known=ingest.schema_hints)
    if not isinstance(here, Header):
        return before, False
    if not isinstance(old, Header):
        return first, True
    names = {name.casefold() for name in old.columns}
    is_header = any(name.casefold() in names for name in here.columns) or len(here.columns) != len(old.columns)
    return (first, True) if is_header else (before, False)


# --- when ---------------------------------------------------------------------------------------------------


def look_again_s(*, now_s: float, grew_s: float) -> float:
    """How long to leave a file alone that was just looked at."""
    return LOOK_EVERY_S if now_s - grew_s < IDLE_AFTER_S else LOOK_IDLE_S


def gather_s(waiting: int) -> float:
    """How long to gather lines before the next segment, while so many of the file's wait to be loaded."""
    return min(GATHER_S * max(1, waiting - WAITING_FREE), GATHER_MAX_S)


def is_over(state: TailState, *, rested_s: float, has_writer: bool | None) -> bool:
    """Whether a file that has not grown for so long is at its end. `has_writer` None: that cannot be seen."""
    if state is TailState.GROWING or has_writer:
        return False
    return rested_s >= (FINISHED_AFTER_S if has_writer is False else FINISHED_UNPROVEN_S)
