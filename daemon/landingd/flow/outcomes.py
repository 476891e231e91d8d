"""Say how an attempt ended: in a word in the ledger, and in the log; and what of it a power cut must not take."""

import structlog

from landingd.model import Canceled, Committed, Expanded, Failed, Interrupted, Outcome, TimedOut

log = structlog.get_logger("landingd.runner")


def log_outcome(outcome: Outcome) -> None:
    """One event, and one for each file that was quarantined."""
    match outcome:
        case Committed(stats=stats):
            log.info(
                "task_committed",
                rows_in=stats.rows_in,
                rows_out=stats.rows_out,
                rows_rejected=stats.rows_rejected,
                how=stats.how,
            )
            for load in stats.files:
                if load.quarantined is not None:
                    log.warning("file_quarantined", file_id=load.file_id, reason=load.quarantined)
        case Failed(error=error):
            log.error("task_failed", error=error)
        case TimedOut(after_s=after_s):
            log.error("task_timed_out", after_s=after_s)
        case Interrupted(why=why):
            log.warning("task_interrupted", why=why)
        case Canceled(why=why):
            log.warning("task_canceled", why=why)
        case Expanded(inputs=inputs):
            log.info("loop_began", iterations=len(inputs))


def outcome_word(outcome: Outcome) -> str:
    """As `attempts.outcome` has it."""
    match outcome:
        case Committed():
            return "committed"
        case Failed():
            return "failed"
        case TimedOut():
            return "timed out"
        case Interrupted(crashed=crashed):
            return "died" if crashed else "interrupted"
        case Canceled():
            return "canceled"
        case Expanded():
            return "expanded"


def only_the_ledger_knows(outcome: Outcome) -> bool:
    """Whether what follows from it changes what later commits stand for.

    Those are on the disk, so this has to be too. Otherwise, after a power cut, the warehouse speaks of iterations that
    the ledger has never begun, or of one part of a batch that it has never split.
    """
    return isinstance(outcome, Expanded | TimedOut) or (isinstance(outcome, Failed) and outcome.isolate)
