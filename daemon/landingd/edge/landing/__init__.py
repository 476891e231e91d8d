"""A landing directory belongs to its producers: anything in it may change, grow or vanish under our eyes.

So every answer here is about one moment: a file's hash comes with the signature that it had before and
after, read from the same open descriptor, or not at all; a scan lists what it could not read, because a file
that was not seen is not a file that is gone. Paths are bytes, since a file's name is bytes. Nothing
of the producers' is changed here; `probing` and `growing` alone write, and only files of our own.

Everything is synchronous and meant for worker threads.
"""

from landingd.edge.landing.content import ChangedWhileReadingError, Fingerprint, Peek, fingerprint, peek
from landingd.edge.landing.encodings import (
    CODECS,
    Encoding,
    Foreign,
    NotInEncodingError,
    by_its_bytes,
    by_its_head,
    convert,
    unpack,
)
from landingd.edge.landing.folders import make_directory, scan
from landingd.edge.landing.lines import lines_of
from landingd.edge.landing.look import NotAFile, ignore_lease_signal, lease, signature, writers_unseen
from landingd.edge.landing.mounts import Mount, Mounts, filesystem_type, mount_table
from landingd.edge.landing.probing import is_ours, leave_probe, probe_path, remove_old_probes, remove_probe
from landingd.edge.landing.rows import (
    Cell,
    Dialect,
    LastRecord,
    count_objects,
    count_records,
    first_cell_like,
    last_record,
    tail,
)
from landingd.edge.landing.unpacking import UNPACKING_ERRORS

__all__ = [
    "CODECS",
    "UNPACKING_ERRORS",
    "Cell",
    "ChangedWhileReadingError",
    "Dialect",
    "Encoding",
    "Fingerprint",
    "Foreign",
    "LastRecord",
    "Mount",
    "Mounts",
    "NotAFile",
    "NotInEncodingError",
    "Peek",
    "by_its_bytes",
    "by_its_head",
    "convert",
    "count_objects",
    "count_records",
    "filesystem_type",
    "fingerprint",
    "first_cell_like",
    "ignore_lease_signal",
    "is_ours",
    "last_record",
    "lease",
    "leave_probe",
    "lines_of",
    "make_directory",
    "mount_table",
    "peek",
    "probe_path",
    "remove_old_probes",
    "remove_probe",
    "scan",
    "signature",
    "tail",
    "unpack",
    "writers_unseen",
]
