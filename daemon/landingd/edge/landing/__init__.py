"""A landing directory belongs to its producers: anything in it may change, grow or vanish under our eyes.

So every answer here is about one moment: a file's hash comes with the signature that it had before and
after, read from the same open descriptor, or not at all; a scan lists what it could not read, because a file
that was not seen is not a file that is gone. Paths are bytes, since a file's name is bytes. Nothing is
written here.

Everything is synchronous and meant for worker threads.
"""

from landingd.edge.landing.content import ChangedWhileReadingError, Fingerprint, Peek, fingerprint, peek
from landingd.edge.landing.folders import make_directory, scan
from landingd.edge.landing.look import NotAFile, filesystem_type, ignore_lease_signal, lease, signature
from landingd.edge.landing.records import count_records

__all__ = [
    "ChangedWhileReadingError",
    "Fingerprint",
    "NotAFile",
    "Peek",
    "count_records",
    "filesystem_type",
    "fingerprint",
    "ignore_lease_signal",
    "lease",
    "make_directory",
    "peek",
    "scan",
    "signature",
]
