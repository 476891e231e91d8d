"""Read a job's parameters: a name, a default, and what a value may be."""

from landingd.edge.jobfiles.fields import Fields, Word
from landingd.edge.jobfiles.tables import IDENTIFIER
from landingd.edge.jobfiles.tree import Listed, Node, Scalar, Source
from landingd.model import Parameter, ValueType, Widget

NUMBER_MAX = 10**18


def read_parameters(job: Fields) -> tuple[Parameter, ...]:
    """`parameters`, each once; what SQL takes for one name is one."""
    parameters: dict[str, Parameter] = {}
    for node in job.items("parameters"):
        parameter = _parameter(node, job.source)
        other = parameters.setdefault(parameter.name.lower(), parameter)
        if other is not parameter and parameter.name:
            hint = f"it is the same as {other.name!r} to SQL" if other.name != parameter.name else None
            job.source.wrong(node.line, f"parameter {parameter.name!r} is declared twice", hint)
    return tuple(parameter for parameter in parameters.values() if parameter.name)


def _parameter(node: Node, source: Source) -> Parameter:
    """Whether its default is what it may be is a question for the whole job (`core.parameters`)."""
    fields = Fields(node, source, called="a parameter")
    name = fields.text("name")
    if fields.lacks("name"):
        fields.wrong("name", "a parameter needs a 'name'")
    elif name is not None and not IDENTIFIER.fullmatch(name):
        hint = "SQL reads it as $name: letters, digits and _"
        fields.wrong("name", f"{name!r} cannot be the name of a parameter", hint)
    choices = tuple(dict.fromkeys(word.text for word in fields.texts("choices") or ()))
    widget = fields.member("widget", Widget)
    if choices and not fields.has("widget"):
        widget = Widget.DROPDOWN
    elif choices and widget is Widget.TEXT:
        fields.wrong("widget", "a text has no 'choices'", "widget: dropdown, combobox or multiselect")
    required = fields.flag("required", default=False)
    default = _default(fields, required=required)
    parameter = Parameter(
        name=name or "",
        default=default.text if default else "",
        choices=choices,
        widget=widget,
        type=fields.member("type", ValueType),
        required=required,
        pattern=fields.text("pattern"),
        min=_limit(fields, "min"),
        max=_limit(fields, "max"),
        place=source.place(node.line),
    )
    fields.done()
    return parameter


def _limit(fields: Fields, key: str) -> float | None:
    return fields.number(key, default=0.0, least=-NUMBER_MAX, most=NUMBER_MAX) if fields.has(key) else None


def _default(fields: Fields, *, required: bool) -> Word | None:
    entry = fields.entry("default")
    if fields.lacks("default") and not required:
        hint = 'for an empty one write: default: "", or, if each run has to give it a value, required: true'
        fields.wrong("default", "a parameter needs a 'default'", hint)
    if entry is None:
        return None
    if isinstance(entry.node, Scalar):
        return fields.word(entry.node, "'default'", references=True)
    how = "with commas between the values, as in a run's: default: Oct,Nov" if isinstance(entry.node, Listed) else None
    fields.wrong("default", f"'default' must be text, found {entry.node}", how)
    return None
