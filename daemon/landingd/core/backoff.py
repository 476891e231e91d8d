"""Decide how long to pause after so many failures in a row: of a task, a continuous job, an alert, a clean-up."""

import hashlib
import math

from landingd.model import Backoff


def pause_s(backoff: Backoff | None, failures: int, seed: str = "") -> float:
    """The pause in seconds after `failures` (from 1) in a row; without a backoff there is none.

    The jitter is drawn from `seed`, so that the same thing waits the same time however often it is asked.
    """
    if backoff is None:
        return 0.0
    pause = min(backoff.initial_s, backoff.max_s)
    if backoff.factor > 1 and 0 < backoff.initial_s < backoff.max_s:
        steps_to_longest = math.log(backoff.max_s / backoff.initial_s, backoff.factor)
        # Asked before the power is taken: what has failed for a year would leave the range of a float.
        grown = failures - 1 < steps_to_longest
        pause = backoff.initial_s * math.pow(backoff.factor, failures - 1) if grown else backoff.max_s
    if not backoff.jitter:
        return pause
    share = int.from_bytes(hashlib.sha256(f"{seed}/{failures}".encode()).digest()[:4]) / 2**32
    return pause * (1 + backoff.jitter * share)
