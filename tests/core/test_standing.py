"""What is said of triggers: what the job file says, and what has been asked for since."""

from dataclasses import dataclass

import pytest

from landingd.core import standing
from landingd.model import CronSyntax, FileArrival, Job, Place, Schedule, Task, Trigger


@dataclass(frozen=True)
class Row:
    paused: bool | None = None
    last_fired_s: float | None = None
    next_fire_s: float | None = None
    failures: int = 0
    retry_at_s: float | None = None


PLACE = Place("job.yml", 1)
NIGHTLY = Trigger(Schedule("0 2 * * *", CronSyntax.UNIX), "schedule")
FILES = Trigger(FileArrival("in"), "file_arrival", paused=True)


def job(*triggers: Trigger, paused: bool = False) -> Job:
    return Job("shop", PLACE, (Task("t", PLACE, sql="SELECT 1"),), triggers=triggers, paused=paused)


def test_a_trigger_is_said_with_its_kind_and_when_it_fires():
    rows = {"schedule": Row(last_fired_s=0.0, next_fire_s=86_400.0)}
    assert standing.triggers(job(NIGHTLY, FILES), rows) == {
        "job": "shop",
        "paused": False,
        "triggers": [
            {
                "trigger": "schedule",
                "kind": "schedule",
                "paused": False,
                "next_fire_time": "1970-01-02T00:00:00.000Z",
                "last_fired_at": "1970-01-01T00:00:00.000Z",
                "failures": 0,
                "retry_at": None,
            },
            {
                "trigger": "file_arrival",
                "kind": "file_arrival",
                "paused": True,
                "next_fire_time": None,
                "last_fired_at": None,
                "failures": 0,
                "retry_at": None,
            },
        ],
    }


@pytest.mark.parametrize(
    ("said", "asked", "paused"),
    [(False, None, False), (True, None, True), (True, False, False), (False, True, True)],
)
def test_a_pause_on_request_stands_above_the_job_file(said, asked, paused):
    trigger = Trigger(NIGHTLY.on, "schedule", paused=said)
    found = standing.triggers(job(trigger), {"schedule": Row(asked, next_fire_s=1.0)})
    assert found["triggers"][0]["paused"] is paused
    assert (found["triggers"][0]["next_fire_time"] is None) is paused
    whole = standing.triggers(job(NIGHTLY, paused=said), {"": Row(asked)})
    assert (whole["paused"], whole["triggers"][0]["paused"]) == (paused, paused)


def test_a_job_without_triggers_has_none():
    assert standing.triggers(job(), {}) == {"job": "shop", "paused": False, "triggers": []}
