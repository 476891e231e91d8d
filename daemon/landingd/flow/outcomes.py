"""Say in the log how an attempt ended."""

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
