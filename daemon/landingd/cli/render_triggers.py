"""What starts runs, as a person reads it: triggers and what came of them, backfills; and alerts that wait."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from landingd.cli import printing
from landingd.cli.printing import Answer
from landingd.model import utc

VALUES_SHOWN = 20


def triggers(answer: Answer) -> None:
    """What starts a job; then what came of it, newest first."""
    out = printing.console()
    if answer["paused"]:
        out.print(Text(f"{answer['job']}: {answer['paused_because']}", style="yellow"))
    if not answer["triggers"]:
        out.print(f"{escape(answer['job'])} has no triggers: it runs when somebody asks, or another job does")
        return
    table = printing.table("trigger", "starts a run", "", "last fired (UTC)", "next (UTC)")
    for one in answer["triggers"]:
        fired = one["last_triggered"]
        table.add_row(
            one["trigger"],
            Text(one["says"]),
            printing.word("paused" if one["paused"] else "active"),
            printing.at_s(fired["timestamp"]) if fired else "",
            _next(one),
        )
    out.print(table)
    for one in answer["triggers"]:
        if one["paused_because"] and one["paused_because"] != answer["paused_because"]:
            out.print(Text(f"{one['trigger']}: {one['paused_because']}", style="yellow"))
        if one["failures"]:
            count = printing.counted(one["failures"], "failed run")
            out.print(Text(f"{one['trigger']}: {count} in a row", style="yellow"))
    _history(answer, out)
    if answer["files"]:
        _files(answer["files"], out)


def _files(files: Answer, out: Console) -> None:
    """Files that start no run, and why: a trigger that has nothing to take has nothing to say."""
    oldest, last = files["oldest_incomplete"], files["last_not_taken"]
    if oldest:
        count = printing.counted(files["incomplete"], "file is", "files are")
        since = printing.since(oldest["seen_at"])
        out.print(Text(f"{count} not complete yet; for {since} {oldest['file']}: {oldest['reason']}"))
    if last:
        at = printing.at_s(last["seen_at"])
        out.print(Text(f"last file that started no run, {at}: {last['file']}: {last['state']}: {last['reason']}"))
    if oldest or last:
        out.print("one file's story: landingd why FILE", style="dim")


def _history(answer: Answer, out: Console) -> None:
    entries = [(entry, one["trigger"]) for one in answer["triggers"] for entry in one["history"]]
    if not entries:
        out.print("nothing has come of them yet")
        return
    out.print()
    table = printing.table("last (UTC)", "trigger", "outcome", "times>", "run>", "why")
    for entry, trigger in sorted(entries, key=lambda one: one[0]["last_at"], reverse=True):
        table.add_row(
            printing.at_s(entry["last_at"]),
            trigger,
            printing.word(entry["outcome"]),
            printing.number(entry["times"]) if entry["times"] > 1 else "",
            str(entry["run_id"] or ""),
            Text(entry["description"].partition("\n")[0]),
        )
    out.print(table)


def _next(one: Answer) -> str:
    if one["next_fire_time"]:
        return printing.at_s(one["next_fire_time"])
    if one["retry_at"] and one["failures"] and one["retry_at"] > str(utc(time.time())):
        return f"not before {printing.at_s(one['retry_at'])}"
    return "never again" if one["is_over"] else ""


def tested(answer: Answer) -> None:
    """What came of a message that was sent to try a destination."""
    if answer["delivered"]:
        print(f"{answer['destination']} took it, after {printing.took(answer['took_ms'])}")
    else:
        print(f"{answer['destination']} did not take it: {answer['error']}")


def alerts(answer: Sequence[Answer]) -> None:
    """One line per message that is still to be sent."""
    out = printing.console()
    if not answer:
        out.print("nothing waits to be sent")
        return
    table = printing.table("event", "about", "to", "for>", "tries>", "next try (UTC)", "why not yet")
    first: dict[tuple[str, str], int] = {}
    for one in answer:
        before = first.setdefault((one["channel"], one["destination"]), one["seq"]) != one["seq"]
        about = [one["job"], f"run {one['run_id']}" if one["run_id"] else None, one["task_key"]]
        table.add_row(
            one["event_type"] or "",
            Text(" ".join(part for part in about if part)),
            Text(one["destination"]),
            printing.since(one["created_at"]),
            str(one["tries"]),
            printing.at_s(one["next_try_at"]),
            Text(one["error"] or ("comes after those before it" if before else "")),
        )
    out.print(table)


def backfill(answer: Answer) -> None:
    """What a backfill asks for: each value with its run."""
    out = printing.console()
    runs = answer["runs"]
    known = sum(run["known"] for run in runs)
    would = "would be " if answer["dry_run"] else ""
    out.print(
        f"backfill {escape(answer['backfill_id'])} of {escape(answer['job'])}: {escape(answer['parameter'])} {would}"
        f"{len(runs):,} runs" + (f", {known:,} of them asked for before" if known else "")
    )
    shown = runs if len(runs) <= VALUES_SHOWN else [*runs[: VALUES_SHOWN - 1], None, runs[-1]]
    table = printing.table("value", "run>", "state")
    for run in shown:
        if run is None:
            table.add_row(f"… {len(runs) - VALUES_SHOWN:,} more", "", "")
        else:
            table.add_row(Text(run["value"]), str(run["run_id"] or ""), printing.word(run["result"] or run["state"]))
    out.print(table)
    if answer["repaired"]:
        out.print(f"repaired: {', '.join(map(str, answer['repaired']))}")


def backfill_state(answer: Answer) -> None:
    """How the runs of a backfill stand."""
    out = printing.console()
    head = Text.assemble(f"backfill {answer['backfill_id']} of {answer['job']}: ")
    for number, (word, count) in enumerate(answer["runs"].items()):
        head.append(", " if number else "").append(f"{count:,} ").append_text(printing.word(word))
    out.print(head)
    for run in answer["failed"]:
        out.print(Text(f"  {run['value']} (run {run['run_id']}): "), printing.word(run["result"]), _first(run["error"]))
    if answer["failed"]:
        out.print(f"after the cause is mended: [bold]{escape(_same(answer))} --rerun-failed[/]", soft_wrap=True)


def _same(answer: Answer) -> str:
    """The command that asks for the same backfill again."""
    words = ["landingd backfill", answer["job"], "--param", answer["parameter"]]
    words += ["--from", answer["from"], "--to", answer["to"]]
    words += ["--every", answer["step"]] if answer["step"] else []
    words += [f"-p {name}={value}" for name, value in answer["parameters"].items()]
    return " ".join([*words, "--id", answer["backfill_id"]])


def _first(error: str | None) -> Text:
    lines = (error or "").splitlines()
    return Text(lines[0] if lines else "", style="dim")
