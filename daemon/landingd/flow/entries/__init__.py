"""What is decided and written in one ledger transaction: the entries of the books.

Every function here reads what it needs, asks core, and writes what follows. The transaction is its caller's.
"""

from landingd.flow.entries.admitting import admit
from landingd.flow.entries.concluding import Concluded, conclude
from landingd.flow.entries.ending import break_off, break_off_some, cancel, repair, time_out_loop
from landingd.flow.entries.following import begin_ready
from landingd.flow.entries.parts import part
from landingd.flow.entries.starting import Later, Started, next_run

__all__ = [
    "Concluded",
    "Later",
    "Started",
    "admit",
    "begin_ready",
    "break_off",
    "break_off_some",
    "cancel",
    "conclude",
    "next_run",
    "part",
    "repair",
    "time_out_loop",
]
