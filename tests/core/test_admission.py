"""Whether a run may wait, start, or is skipped, and in which words."""

from dataclasses import replace

import pytest

from landingd.core.admission import never_refused, refusal
from landingd.model import Job, Place, Queue, Result, RunRequest, TriggerType

JOB = Job("shop", Place("job.yml", 1), (), max_concurrent_runs=2)
UNQUEUED = replace(JOB, queue=Queue(enabled=False))
SHORT = replace(JOB, queue=Queue(max_length=1))
ASKED = RunRequest(TriggerType.ONE_TIME, "k")


@pytest.mark.parametrize(
    ("job", "queue", "active", "queued", "reason"),
    [
        (JOB, None, 2, 5, None),
        (UNQUEUED, None, 1, 0, None),
        (UNQUEUED, True, 2, 0, None),
        (UNQUEUED, None, 2, 0, "2 of 2 runs are active, and queue.enabled is false"),
        (UNQUEUED, None, 1, 1, "1 of 2 runs are active and 1 queued, and queue.enabled is false"),
        (JOB, False, 2, 1, "2 of 2 runs are active and 1 queued, and the request was not to wait"),
        (SHORT, None, 2, 1, "1 runs wait already (queue.max_length)"),
        (replace(JOB, max_concurrent_runs=0), True, 0, 0, "max_concurrent_runs is 0: no run of this job starts"),
    ],
)
def test_a_run_without_room_is_skipped_for_the_reason_that_holds(job, queue, active, queued, reason):
    found = refusal(job, replace(ASKED, queue=queue), active=active, queued=queued)
    assert (None if found is None else found.reason) == reason


def test_what_is_bounded_by_itself_waits_however_many_others_do():
    backfill = RunRequest(TriggerType.BACKFILL, "k")
    assert refusal(SHORT, backfill, active=2, queued=1) is None
    assert refusal(SHORT, ASKED, active=2, queued=1).result is Result.MAX_JOB_QUEUE_SIZE_EXCEEDED
    assert never_refused(SHORT, replace(backfill, queue=True))
    assert not never_refused(SHORT, replace(ASKED, queue=True))
