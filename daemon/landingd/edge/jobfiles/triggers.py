"""Read what starts a run: a list of triggers, or the single fields that Databricks had before it had the list."""

from collections.abc import Callable
from dataclasses import replace
from zoneinfo import ZoneInfo, available_timezones

from landingd.edge.jobfiles import refused
from landingd.edge.jobfiles.arrivals import read_file_arrival, read_source
from landingd.edge.jobfiles.fields import SECONDS_MAX, Fields
from landingd.edge.jobfiles.files import read_query
from landingd.edge.jobfiles.tables import read_table_name
from landingd.edge.jobfiles.tree import Entry, Keyed, Node, Source
from landingd.errors import did_you_mean
from landingd.model import (
    Backoff,
    CompletionStatus,
    ConditionMode,
    Continuous,
    CronSyntax,
    JobCompletion,
    Misfire,
    Periodic,
    Schedule,
    SqlCondition,
    TableUpdate,
    Trigger,
)
from landingd.model.triggers import On

PAUSE = ("UNPAUSED", "PAUSED")
UNITS_S = {"SECONDS": 1, "MINUTES": 60, "HOURS": 3600, "DAYS": 86400, "WEEKS": 604800}

_SINGLE = ("trigger", "schedule", "continuous")


def read_triggers(job: Fields) -> tuple[Trigger, ...]:
    """`triggers`, or any of `trigger`, `schedule` and `continuous`, with the keys that they have within the job."""
    found = [_trigger(node, job.source) for node in job.items("triggers")]
    for key in _SINGLE:
        entry = job.entry(key)
        if entry is None:
            continue
        if job.has("triggers"):
            job.wrong(key, f"a job has either {key!r} or 'triggers', not both", "put it into the list")
        found.append(_trigger(entry.node if key == "trigger" else _wrapped(key, entry), job.source))
    return _with_keys([trigger for trigger in found if trigger is not None])


def read_paused(fields: Fields) -> bool:
    """`pause_status`."""
    return fields.choice("pause_status", PAUSE) == "PAUSED"


def read_backoff(fields: Fields) -> Backoff | None:
    """`backoff: {initial_seconds, factor, max_seconds, jitter}`; what is left out is as usual."""
    backoff = fields.fields("backoff")
    if backoff is None:
        return None
    usual = Backoff()
    read = Backoff(
        initial_s=backoff.number("initial_seconds", default=usual.initial_s),
        factor=backoff.number("factor", default=usual.factor, least=1, most=100),
        max_s=backoff.number("max_seconds", default=usual.max_s),
        jitter=backoff.number("jitter", default=usual.jitter, most=1),
    )
    if read.max_s < read.initial_s:
        what = f"the first pause of {read.initial_s:g} s is longer than the longest, {read.max_s:g} s"
        backoff.wrong("max_seconds", what)
    backoff.done()
    return read


def _wrapped(kind: str, entry: Entry) -> Node:
    """`schedule: {...}` of the job as the trigger `{schedule: {...}}`."""
    return Keyed({kind: entry}, entry.line)


def _with_keys(triggers: list[Trigger]) -> tuple[Trigger, ...]:
    seen: dict[str, int] = {}
    named: list[Trigger] = []
    for trigger in triggers:
        number = seen[trigger.kind] = seen.get(trigger.kind, 0) + 1
        named.append(replace(trigger, key=trigger.kind.value if number == 1 else f"{trigger.kind.value}-{number}"))
    return tuple(named)


def _trigger(node: Node, source: Source) -> Trigger | None:
    fields = Fields(node, source, called="a trigger")
    paused = read_paused(fields)
    condition = _condition(fields)
    given: dict[str, Fields] = {key: found for key in _KINDS if (found := fields.fields(key))}
    if len(given) > 1:
        first, second, *_ = given
        fields.wrong(second, f"{second!r} stands beside {first!r}", "give each its own item in 'triggers'")
    fields.done(refused=refused.TRIGGER, elsewhere=refused.ELSEWHERE["trigger"])
    if not given:
        if isinstance(node, Keyed) and not set(fields.keys()) & refused.TRIGGER.keys():
            hint = "file_arrival, schedule, periodic, continuous, table_update or job_completion"
            source.wrong(node.line, "a trigger needs its kind", hint)
        return None
    kind, inner = next(iter(given.items()))
    return _of_kind(
        kind, inner, Trigger(Periodic(0), paused=paused, condition=condition, place=source.place(node.line))
    )


def _of_kind(kind: str, inner: Fields, frame: Trigger) -> Trigger | None:
    """Within a schedule or a continuous trigger Databricks has some of the keys that stand beside the others."""
    if kind in ("schedule", "continuous"):
        frame = replace(
            frame, paused=read_paused(inner) or frame.paused, condition=_condition(inner) or frame.condition
        )
    on = _KINDS[kind](inner)
    inner.done(refused=_REFUSED.get(kind, {}))
    return None if on is None else replace(frame, on=on)


def _condition(fields: Fields) -> SqlCondition | None:
    inner = fields.fields("sql_condition")
    if inner is None:
        return None
    mode = inner.member("trigger_mode", ConditionMode)
    hint = "sql: gate.sql, or the SELECT itself"
    if inner.lacks("sql") and not (inner.has("sql_query_id") or inner.has("warehouse_id")):
        inner.wrong("sql", "'sql_condition' needs 'sql'", hint)
    sql, sql_file = read_query(inner, "sql")
    inner.done(refused=refused.SQL_CONDITION)
    return None if sql is None else SqlCondition(sql, mode, inner.source.place(inner.line), sql_file)


# --- the kinds --------------------------------------------------------------------------------------------


def _schedule(fields: Fields) -> On | None:
    quartz, unix = fields.text("quartz_cron_expression"), fields.text("cron")
    if quartz is not None and unix is not None:
        fields.wrong("cron", "'cron' stands beside 'quartz_cron_expression'", "leave one of them out")
    elif fields.lacks("quartz_cron_expression") and fields.lacks("cron"):
        hint = 'cron: "0 2 * * *", or quartz_cron_expression: "0 0 2 * * ?"'
        fields.wrong("cron", "a schedule needs 'quartz_cron_expression' or 'cron'", hint)
    timezone, misfire = _timezone(fields), fields.member("misfire", Misfire)
    expression = quartz if quartz is not None else unix
    if expression is None:
        return None
    syntax = CronSyntax.UNIX if quartz is None else CronSyntax.QUARTZ
    return Schedule(" ".join(expression.split()), syntax, timezone, misfire)


def _timezone(fields: Fields) -> str:
    name = fields.text("timezone_id")
    if name is None:
        return "UTC"
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # KeyError: ZoneInfoNotFoundError
        hint = did_you_mean(name, available_timezones()) or "an IANA name, for example: Europe/Berlin"
        fields.wrong("timezone_id", f"there is no time zone {name!r}", hint)
        return "UTC"
    return name


def _periodic(fields: Fields) -> On:
    unit = fields.choice("unit", list(UNITS_S))
    interval = fields.whole("interval", default=1, least=1, most=SECONDS_MAX // UNITS_S[unit])
    if fields.lacks("interval"):
        fields.wrong("interval", "'periodic' needs an 'interval'", "for example: {interval: 6, unit: HOURS}")
    if fields.lacks("unit"):
        fields.wrong("unit", "'periodic' needs a 'unit'", ", ".join(UNITS_S))
    return Periodic(float(interval * UNITS_S[unit]))


def _continuous(fields: Fields) -> On:
    usual = Continuous()
    return Continuous(
        source=read_source(fields),
        retry=fields.choice("task_retry_mode", ("ON_FAILURE", "NEVER")) == "ON_FAILURE",
        backoff=read_backoff(fields) or usual.backoff,
        reset_after_s=fields.number("reset_after_seconds", default=usual.reset_after_s),
        min_interval_s=fields.number("min_interval_seconds", default=usual.min_interval_s),
    )


def _table_update(fields: Fields) -> On | None:
    words = fields.texts("table_names") or ()
    if not words and (fields.lacks("table_names") or fields.is_list("table_names")):
        fields.wrong("table_names", "'table_update' needs 'table_names'", "for example: [silver.events]")
    tables = [name for word in words if (name := read_table_name(word.text, word.line, fields.source, whole=True))]
    on = TableUpdate(
        tables=tuple(dict.fromkeys(tables)),
        all_of=fields.choice("condition", ("ANY_UPDATED", "ALL_UPDATED")) == "ALL_UPDATED",
        wait_after_last_change_s=fields.number("wait_after_last_change_seconds", default=0.0),
        min_time_between_triggers_s=fields.number("min_time_between_triggers_seconds", default=0.0, most=SECONDS_MAX),
    )
    return on if tables else None


def _job_completion(fields: Fields) -> On | None:
    names: list[str] = []
    for item in fields.items("jobs"):
        if isinstance(item, Keyed):
            inner = Fields(item, fields.source, called="a job")
            key = "job" if inner.has("job") else "job_name"
            if not inner.has("job_id"):
                names.append(inner.needed(key, "name the job whose end counts", "job_name: the name of the job"))
            inner.done(refused=refused.JOB_COMPLETION)
        elif word := fields.word(item, "a job"):
            names.append(word.text)
    if fields.lacks("jobs") or (fields.is_list("jobs") and not fields.items("jobs")):
        fields.wrong("jobs", "'job_completion' needs 'jobs'", "for example: [ecommerce]")
    status = fields.member("if_status", CompletionStatus)
    names = [name for name in names if name]
    return JobCompletion(tuple(dict.fromkeys(names)), status) if names else None


_KINDS: dict[str, Callable[[Fields], On | None]] = {
    "file_arrival": read_file_arrival,
    "schedule": _schedule,
    "periodic": _periodic,
    "continuous": _continuous,
    "table_update": _table_update,
    "table": _table_update,
    "job_completion": _job_completion,
}
"""`table` is what Databricks called `table_update` at first."""

_REFUSED = {
    "file_arrival": refused.FILE_ARRIVAL,
    "continuous": refused.CONTINUOUS,
    "job_completion": refused.JOB_COMPLETION,
}
