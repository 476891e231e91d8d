"""Directories: every file below one, and a new one that producers can write to."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from landingd.edge.landing.look import signature
from landingd.edge.landing.probing import OUR_PREFIX
from landingd.model import Signature


def scan(directory: Path, *, recursive: bool, unreadable: list[bytes]) -> Iterator[tuple[bytes, Signature]]:
    """Every regular file in `directory` with its signature; paths are relative to it. Links are not followed.

    A subdirectory that vanishes meanwhile is not an error: its files are gone. One that cannot be read is
    added to `unreadable`, and so is `directory` itself, as b"", even if it is missing: whether its files are
    gone is then not known (think of a share that is not mounted), and nothing may be concluded from their
    absence.
    """
    prefix = os.fsencode(directory).rstrip(b"/") + b"/"
    pending = [prefix]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.extend([entry.path] if recursive else [])
                    elif entry.name.startswith(OUR_PREFIX):
                        continue
                    elif isinstance(seen := signature(entry.path), Signature):
                        yield entry.path.removeprefix(prefix), seen
        except OSError as error:
            if folder == prefix or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                unreadable.append(folder.removeprefix(prefix))


def make_directory(root: Path, below: str) -> None:
    """Create a directory below the landing root, with the root's permissions on every level that is new.

    The process's umask would leave out the group, and with it the producers for whom the directory is made.
    """
    mode = stat.S_IMODE(root.stat().st_mode)
    directory = root
    for name in Path(below).parts:
        directory /= name
        with suppress(FileExistsError):
            directory.mkdir()
            directory.chmod(mode)
