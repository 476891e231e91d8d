"""Answers about files as a person reads them: the list, the story of one, the census, and what was taken back."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from landingd.cli import printing
from landingd.cli.printing import Answer

DISCREPANCIES_SHOWN_MAX = 50
_STATES = ("loaded", "waiting", "duplicate", "quarantined", "ignored")


def _elsewhere(one: Answer) -> str:
    """Where its bytes are, if they do not lie at the path any more."""
    presence = one.get("presence") or "present"
    return "" if presence == "present" or one["state"] == "replaced" else presence


_Column = tuple[str, Callable[[Answer], str | Text], bool]
"""Its name, what stands in it, and whether it is shown where nothing stands in it."""
_COLUMNS: tuple[_Column, ...] = (
    ("id>", lambda one: str(one.get("file_id", "")), True),
    ("job", lambda one: one.get("job", ""), True),
    ("file", lambda one: Text(one["file"]), True),
    ("state", lambda one: printing.word(one["state"]), True),
    ("file is", _elsewhere, False),
    ("waiting for>", lambda one: printing.since(one["seen_at"]) if one["state"] == "waiting" else "", False),
    ("rows in>", lambda one: printing.number(one.get("rows_in")), True),
    ("loaded>", lambda one: printing.number(one.get("rows_loaded")), True),
    ("rejected>", lambda one: printing.number(one.get("rows_rejected")), True),
    ("dropped>", lambda one: printing.number(one.get("rows_dropped") or None), False),
    ("rescued>", lambda one: printing.number(one.get("rows_rescued") or None), False),
    ("run>", lambda one: str(one.get("run_id") or ""), True),
    ("reason", lambda one: Text(one["reason"]), True),
)


def files(answer: Sequence[Answer]) -> None:
    """One line per file version; columns that would stay empty are left out."""
    shown = [column for column in _COLUMNS if column[2] or any(str(column[1](one)) for one in answer)]
    table = printing.table(*(name for name, _, _ in shown))
    for one in answer:
        table.add_row(*(cell(one) for _, cell, _ in shown))
    printing.console().print(table)


# --- one file -------------------------------------------------------------------------------------------------


def why(answer: Answer) -> None:
    """A file's story, version by version."""
    out = printing.console()
    where = f"on disk, {answer['size']:,} bytes" if answer["on_disk"] else "not on disk"
    out.print(Text(answer["file"], style="bold"), f"({where})")
    if answer["ignored"]:
        out.print(f"  ignored: {escape(answer['ignored'])}")
    elif not answer["versions"]:
        out.print(f"  wanted by {', '.join(answer['jobs'])}; not taken in yet")
    for version in answer["versions"]:
        _version(version, out)
    for tail in answer["tails"]:
        _generation(tail, out)


def _generation(tail: Answer, out: Console) -> None:
    """A growing file, from its beginning until another one stands at its path."""
    gone = "" if tail["is_on_disk"] else ", not on disk any more"
    states = ", ".join(f"{count:,} {state}" for state, count in tail["segments"].items()) or "none"
    out.print(
        f"  generation {tail['generation']} for job {tail['job']}: {tail['state']}, read to byte {tail['offset']:,}"
        f" (segments: {states}; {tail['rows_loaded']:,} rows loaded), since {printing.at(tail['began_at'])}{gone}"
    )


def _version(version: Answer, out: Console) -> None:
    head = Text(f"  version {version['file_id']} for job {version['job']}: ") + printing.word(version["state"])
    out.print(head + (f", {version['presence']}" if version["presence"] != "present" else ""))
    if version["reason"]:
        out.print(f"    {escape(version['reason'])}")
    waits = f", waiting for {printing.since(version['seen_at'])}" if version["state"] == "waiting" else ""
    out.print(f"    seen {printing.at(version['seen_at'])}, {version['size']:,} bytes{waits}")
    if version["complete_at"]:
        digest = (version["content_hash"] or "")[:12]
        proof = escape(version["evidence"])
        out.print(f"    complete {printing.at(version['complete_at'])}: {proof} (sha256 {digest}…)")
    if version["duplicates"]:
        out.print(f"    the same bytes came again {version['duplicates']} times; skipped")
    if version["duplicate_of"]:
        out.print(f"    a duplicate of version {version['duplicate_of']}, and loaded if that one leaves")
    if version["wanted"]:
        out.print(f"    the next run is to {version['wanted']} it")
    if version["run_id"]:
        out.print(f"    taken by run {version['run_id']}")
    if version["failures"]:
        out.print(f"    it has broken {version['failures']} attempts in which it was alone")
    for load in version["loads"]:
        _load(load, out)
    _rejects(version, out)
    _after_loading(version, out)


def _load(load: Answer, out: Console) -> None:
    parts = [f"{load['rows_loaded']:,} loaded", f"{load['rows_rejected']:,} rejected"]
    parts += [f"{load['rows_dropped']:,} dropped"] if load["rows_dropped"] else []
    rescued = f"; {load['rows_rescued']:,} with rescued cells" if load["rows_rescued"] else ""
    out.print(
        f"    {load['task_key']} {printing.at(load['loaded_at'])}: {load['rows_in']:,} rows in = "
        f"{' + '.join(parts)} (run {load['run_id']}){rescued}"
    )


def _rejects(version: Answer, out: Console) -> None:
    if version["rows_rejected"]:
        out.print(
            f"    [dim]rejected and quarantined rows, with line, rule and text: landingd query "
            f'"from meta.rejected_rows where file_id = {version["file_id"]}"[/]'
        )
    if version["rows_dropped"] and version["run_id"]:
        out.print(f"    [dim]dropped by which expectation: landingd show {version['run_id']}[/]")


def _after_loading(version: Answer, out: Console) -> None:
    if version["archived_as"]:
        out.print(f"    archived {printing.at(version['cleaned_at'])} as {escape(version['archived_as'])}")
    elif version["cleaned_at"]:
        out.print(f"    deleted {printing.at(version['cleaned_at'])}, as its trigger says")
    if version["cleanup_error"]:
        again = version["cleanup_retry_at"]
        when = f"; tried again at {printing.at(again)}" if again else ""
        failures = version["cleanup_failures"]
        out.print(f"    [yellow]not cleaned up ({failures} times): {escape(version['cleanup_error'])}{when}[/]")


# --- all files ------------------------------------------------------------------------------------------------


def census(answer: Answer) -> None:
    """Each directory as an equation, and what does not fit."""
    out = printing.console()
    table = printing.table(
        "job",
        "directory",
        "on disk>",
        *(f"{s}>" for s in _STATES),
        "unaccounted>",
        "missing>",
        "adds up",
        "waiting for>",
    )
    for root in answer["roots"]:
        unknown = root["adds_up"] is None
        verdict = "unavailable" if unknown else "yes" if root["adds_up"] else "NO"
        counts = (root[key] for key in ("on_disk", *_STATES, "unaccounted", "missing"))
        table.add_row(
            root["job"],
            Text(root["directory"]),
            *("" if unknown else printing.number(count) for count in counts),
            Text(verdict, style={"yes": "green", "NO": "bold red"}.get(verdict, "yellow")),
            printing.since(root["oldest_waiting_since"]),
        )
    out.print(table)
    for root in answer["roots"]:
        if root["unavailable"] is not None:
            why = f"unavailable: {root['unavailable']}" if root["unavailable"] else "unavailable"
            out.print(Text(f"{root['directory']}: {why}", style="yellow"), _out_of_sight(root))
        elif root["out_of_sight"]:
            out.print(Text(root["directory"], style="yellow"), _out_of_sight(root))
    _discrepancies(answer, out)


def _out_of_sight(root: Answer) -> str:
    return f"({printing.files(root['out_of_sight'])} on the books, out of sight)" if root["out_of_sight"] else ""


def _discrepancies(answer: Answer, out: Console) -> None:
    for one in answer["discrepancies"][:DISCREPANCIES_SHOWN_MAX]:
        version = f" (version {one['file_id']}, job {one['job']})" if one["file_id"] else f" (job {one['job']})"
        out.print(Text(f"{one['what']}: ", style="red") + Text(f"{one['file']}{version}: {one['why']}", style=""))
        out.print(Text(f"  hint: {one['hint']}", style="dim"))
    left = answer["discrepancy_count"] - min(len(answer["discrepancies"]), DISCREPANCIES_SHOWN_MAX)
    if left > 0:
        out.print(f"… and {left:,} more")


# --- taking back ----------------------------------------------------------------------------------------------


def redone(answer: Answer) -> None:
    """What an unload, a replay or a requeue does, file by file."""
    out = printing.console()
    if answer["files"]:
        table = printing.table("id>", "job", "file", "state", "would" if answer["dry_run"] else "will", "why not")
        for one in answer["files"]:
            table.add_row(
                str(one["file_id"] or ""),
                one["job"] or "",
                Text(one["file"]),
                printing.word(one["state"]),
                one["action"] or "",
                Text(one["refused"] or "", style="yellow"),
            )
        out.print(table)
    else:
        out.print(f"nothing to {answer['verb']}")
    if answer["left_out"]:
        out.print(
            f"{printing.files(answer['left_out'])} left out: the bytes are not kept, or it is another one's duplicate"
        )
    for run in answer["runs"]:
        out.print(f"run {run['run_id']} of {run['job']}")
