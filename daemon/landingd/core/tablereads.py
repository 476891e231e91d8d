"""Which tables of other jobs a job reads: a change of one of them is work for a job that is always on.

Of a table's SELECT the parser says it. A script may hold any statements, in any order, and the parser gives no tree of
most of them; there a table counts as read if its name stands in the text. That may be in a comment, and then the job
runs once more than it has to. What Python reads nobody knows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from landingd.core.jobcheck import with_nested
from landingd.model import Job, Task


def by_job(jobs: Sequence[Job], of_tables: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """By job the tables that it reads and other jobs make, in lower case.

    `of_tables`: by lower-case table the tables that its SELECT reads.
    """
    made = {job.name: {task.table.casefold() for task in job.tasks if task.table} for job in jobs}
    everywhere = {table for tables in made.values() for table in tables}
    found: dict[str, frozenset[str]] = {}
    for job in jobs:
        others = everywhere - made[job.name]
        read = {table for task in with_nested(job) for table in _read(task, of_tables, others)}
        found[job.name] = frozenset(read & others)
    return found


def _read(task: Task, of_tables: Mapping[str, frozenset[str]], others: Iterable[str]) -> Iterable[str]:
    if task.sql is None:
        return ()
    if task.table is not None:
        return of_tables.get(task.table.casefold(), frozenset())
    words = set(_NAME.findall(task.sql.casefold().replace('"', "")))
    return (table for table in others if table in words)


def created(text: str) -> frozenset[str]:
    """The tables that a script, or Python, creates as it goes, in lower case: as its text names them."""
    return frozenset(_CREATED.findall(text.casefold().replace('"', "")))


_NAME = re.compile(r"\w+\.\w+")
_CREATED = re.compile(r"\bcreate\s+(?:or\s+replace\s+)?(?:table|view)\s+(?:if\s+not\s+exists\s+)?(\w+\.\w+)")
