"""Read what must be true of the rows of a table."""

from landingd.edge.jobfiles.fields import Fields
from landingd.model import Expectation, OnViolation

EXPECTATIONS_MAX = 63
"""Their outcomes for one row are bits of one number."""


def read_expectations(task: Fields) -> tuple[Expectation, ...]:
    """`expectations: [{name, expect, on_violation}]`; the default is `warn`, as in declarative pipelines."""
    found: dict[str, Expectation] = {}
    items = task.items("expectations")
    if len(items) > EXPECTATIONS_MAX:
        task.wrong("expectations", f"a table has at most {EXPECTATIONS_MAX} expectations, found {len(items)}")
    for node in items:
        fields = Fields(node, task.source, called="an expectation")
        name, expect = fields.text("name"), fields.text("expect")
        on_violation = fields.member("on_violation", OnViolation)
        if fields.lacks("name"):
            fields.wrong("name", "an expectation needs a 'name'")
        if fields.lacks("expect"):
            fields.wrong("expect", "an expectation needs 'expect'", 'for example: expect: "user_id IS NOT NULL"')
        fields.done()
        if not name or not expect:
            continue
        if name.casefold() in found:
            fields.wrong("name", f"expectation {name!r} is declared twice")
        found.setdefault(name.casefold(), Expectation(name, expect.strip(), on_violation, task.source.place(node.line)))
    return tuple(found.values())
