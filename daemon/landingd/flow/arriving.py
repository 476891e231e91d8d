"""What becomes of file versions: how they arrive, leave the disk, are withdrawn and come back.

As in `entries`, every function reads what it needs, asks core, and writes what follows; the transaction is its
caller's.
"""

from landingd.core import redo, versions
from landingd.edge.ledger import KnownFile, Ledger
from landingd.errors import RefusedError
from landingd.flow.telling import tell_file
from landingd.model import (
    Arrival,
    AttemptKey,
    FileAction,
    FileLoad,
    FileState,
    OnChange,
    OnDelete,
    OnDuplicate,
    Presence,
    Signature,
    Stats,
    shown,
)

# --- arriving ---------------------------------------------------------------------------------------------


def accept(ledger: Ledger, arrival: Arrival, now_s: float) -> versions.Arrived:
    """Enter a complete file: new, changed, or a duplicate of what is known."""
    known = _standing(ledger, arrival)
    came_again = known is not None and (
        known.presence is not Presence.PRESENT or _delivered_again(known.signature, arrival.signature)
    )
    decision = versions.decide(
        arrival.content_hash,
        None if known is None else _as_standing(ledger, arrival, known),
        came_again=came_again,
        on_duplicate=arrival.on_duplicate,
        on_change=arrival.on_change,
    )
    if isinstance(decision, versions.Back) and _twin(ledger, arrival) is not None:
        decision = versions.Enter(versions.Arrived.NEW)  # another file has stepped in for it meanwhile
    if isinstance(decision, versions.Enter):
        _enter(ledger, arrival, decision, now_s)
        return decision.what
    assert known is not None  # noqa: S101 -- without it a version enters
    if isinstance(decision, versions.Back):
        ledger.want_no_more(known.file_id)
    _give_way(ledger, arrival, but=known.file_id)
    ledger.note_duplicate(known.file_id, arrival.signature, came_again=came_again)
    ledger.forget_waiting(arrival.job, arrival.path)
    if came_again:
        times = ledger.file(known.file_id)["duplicates"]
        tell_file(ledger, "duplicate", known.file_id, now_s, occurrence=times)
    return versions.Arrived.DUPLICATE


def _standing(ledger: Ledger, arrival: Arrival) -> KnownFile | None:
    """The version to compare with: the newest, unless several are loaded side by side and an older one is the same."""
    newest = ledger.newest(arrival.job, arrival.path)
    if newest is None or newest.content_hash == arrival.content_hash or arrival.on_change is OnChange.REPLACE:
        return newest
    return ledger.loaded_with(arrival.job, arrival.path, arrival.content_hash) or newest


def _as_standing(ledger: Ledger, arrival: Arrival, known: KnownFile) -> versions.Standing:
    loaded = known.state is FileState.LOADED and not known.leaving
    return versions.Standing(
        known.content_hash,
        known.state,
        leaving=known.leaving,
        wanted=known.wanted,
        path_is_loaded=loaded or bool(ledger.loaded_versions(arrival.job, arrival.path)),
    )


def _delivered_again(old: Signature, new: Signature) -> bool:
    """Written or moved in anew, and not only given other permissions."""
    return (old.mtime_ns, old.inode, old.device) != (new.mtime_ns, new.inode, new.device)


def _enter(ledger: Ledger, arrival: Arrival, decision: versions.Enter, now_s: float) -> None:
    _give_way(ledger, arrival)
    file_id = ledger.add_version(arrival, keeps_older=decision.keeps_older)
    tell_file(ledger, "landed", file_id, now_s, size=arrival.signature.size, evidence=arrival.evidence)
    refused = arrival.damage
    if refused is None and decision.rejected:
        refused = "other bytes under a path that is loaded, and its trigger says on_change: reject"
    if refused is not None:
        ledger.quarantine(file_id, reason=refused)
        tell_file(ledger, "quarantined", file_id, now_s, reason=refused)
        return
    packed = ledger.tail_beginning(arrival.job, arrival.path, arrival.head) if arrival.head else None
    if packed is not None:
        log = shown(packed.path)
        ledger.be_packed_log(file_id, reason=f"{log} packed, which was read while it grew")
        tell_file(ledger, "duplicate", file_id, now_s, same_as=log)
        return
    twin = _twin(ledger, arrival)
    if twin is None:
        return
    name = ledger.file(twin)["name"]
    ledger.be_duplicate(file_id, of=twin, reason=f"the same bytes as file {twin}, {name}")
    tell_file(ledger, "duplicate", file_id, now_s, duplicate_of=twin, same_as=name)
    if not decision.keeps_older:
        for older in _in_tables(ledger, arrival.job, arrival.path):
            ledger.want(older, FileAction.RETRACT, reason=f"replaced by file {file_id}, a duplicate of file {twin}")


def _in_tables(ledger: Ledger, job: str, path: bytes) -> list[int]:
    """The versions of a path whose rows are in tables, or may be by now."""
    on_their_way = [v.file_id for v in ledger.standing_versions(job, path) if ledger.is_in_run(v.file_id)]
    return [*ledger.loaded_versions(job, path), *on_their_way]


def _twin(ledger: Ledger, arrival: Arrival) -> int | None:
    return ledger.twin(arrival) if arrival.on_duplicate is OnDuplicate.SKIP and arrival.taken_by else None


def _give_way(ledger: Ledger, arrival: Arrival, but: int | None = None) -> None:
    """Other bytes stand at the path now: what was not loaded is over, what was loaded stays until it is replaced."""
    over = {
        FileState.WAITING: "a newer version came before it was loaded",
        FileState.DUPLICATE: "a newer version came",
        FileState.QUARANTINED: "delivered again; it was quarantined: ",
    }
    for version in ledger.standing_versions(arrival.job, arrival.path):
        if version.file_id == but or ledger.is_in_run(version.file_id):
            continue  # a run may have committed its rows by now: its end says what it is
        if version.state in over:
            why = over[version.state] + (version.reason if version.state is FileState.QUARANTINED else "")
            ledger.replace(version.file_id, reason=why)
            ledger.promote_duplicate(version.file_id)
    ledger.overwrite(arrival.job, arrival.path, but=but)


# --- leaving ----------------------------------------------------------------------------------------------


def remove(ledger: Ledger, job: str, path: bytes, on_delete: OnDelete, now_s: float) -> None:
    """A file was taken from the disk by somebody else."""
    present = [v for v in ledger.standing_versions(job, path) if v.presence is Presence.PRESENT and not v.cleaning]
    rows = _in_tables(ledger, job, path)
    for version in present:
        ledger.remove(version.file_id)
        if version.state is not FileState.LOADED and version.file_id not in rows:
            ledger.promote_duplicate(version.file_id)
    if not present:
        return
    leaving = on_delete is OnDelete.RETRACT
    if leaving:
        for file_id in rows:
            ledger.want(file_id, FileAction.RETRACT, reason="removed from disk; its rows leave with the next run")
    newest = max(v.file_id for v in present)
    tell_file(ledger, "removed", newest, now_s, on_delete=on_delete.value, occurrence=ledger.file(newest)["turns"])


def want_again(ledger: Ledger, file_id: int) -> None:
    """Ask for a version to be loaded anew (a replay). Raises RefusedError with the reason where that cannot be."""
    file = ledger.file(file_id)
    version = redo.Version(
        file_id,
        file["job"],
        file["path"],
        file["name"],
        FileState(file["state"]),
        Presence(file["presence"]),
        file["reason"],
        is_complete=file["content_hash"] is not None,
        duplicate_of=file["duplicate_of"],
    )
    # It was chosen from what could be read then; what stands now decides, by the same rules.
    choice = redo.choose(redo.Verb.REPLAY, version)
    if choice.action is None:
        raise RefusedError(f"{file['name']}: {choice.refused}")
    if file["cleaning"] is not None:
        raise RefusedError(f"{file['name']}: its file is being moved just now", hint="ask again in a moment")
    reason = "to be loaded again on request" if choice.action is FileAction.RELOAD else file["reason"]
    ledger.want(file_id, choice.action, reason=reason)


def want_out(ledger: Ledger, file_id: int) -> None:
    """Ask for a version's rows to be taken out (an unload). Raises RefusedError where there are none."""
    file = ledger.file(file_id)
    if file["state"] != FileState.LOADED.value:
        raise RefusedError(f"{file['name']} is not loaded: it is {file['state']} ({file['reason'] or 'no reason'})")
    ledger.want(file_id, FileAction.RETRACT, reason="unloaded on request")


# --- what an ingest did -----------------------------------------------------------------------------------


def record(ledger: Ledger, key: AttemptKey, stats: Stats, now_s: float) -> None:
    """What came of each file in an ingest that is committed."""
    for load in stats.files:
        if load.quarantined is not None:
            quarantine(ledger, key, load.file_id, load.quarantined, now_s)
        elif load.gone is not None:
            if ledger.lose(key.run_id, load.file_id, reason=load.gone):
                ledger.promote_duplicate(load.file_id)
        elif load.retracted:
            if ledger.retract(key.task_key, load.file_id):
                turns = ledger.file(load.file_id)["turns"]
                tell_file(ledger, "retracted", load.file_id, now_s, run_id=key.run_id, occurrence=turns)
                ledger.promote_duplicate(load.file_id)
        else:
            _record_load(ledger, key, load, now_s)


def quarantine(ledger: Ledger, key: AttemptKey, file_id: int, reason: str, now_s: float) -> None:
    """A version of a run cannot be loaded."""
    ledger.quarantine(file_id, reason=reason)
    ledger.give_up_reload(key.run_id, file_id)
    turns = ledger.file(file_id)["turns"]
    tell_file(ledger, "quarantined", file_id, now_s, run_id=key.run_id, reason=reason, occurrence=turns - 1)
    ledger.promote_duplicate(file_id)


def _record_load(ledger: Ledger, key: AttemptKey, load: FileLoad, now_s: float) -> None:
    gone = ledger.load(key, load, now_s=now_s)
    counts = {
        "rows_in": load.rows_in,
        "rows_loaded": load.rows_loaded,
        "rows_rejected": load.rows_rejected,
        "rows_dropped": load.rows_dropped,
        "rows_rescued": load.rows_rescued,
    }
    turns = ledger.file(load.file_id)["turns"]
    told = {"run_id": key.run_id, "task_key": key.task_key}
    tell_file(ledger, "loaded", load.file_id, now_s, **told, **counts, occurrence=turns - 1)
    for old in gone:
        tell_file(ledger, "replaced", old, now_s, **told, by=load.file_id)
        ledger.promote_duplicate(old)
