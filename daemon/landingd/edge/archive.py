"""Take a version that is loaded out of its landing directory: into the archive, or away for good.

Producers go on writing there, so at any moment other bytes may stand at the path than those that were loaded. Only
what was taken out of everybody's reach can be looked at in peace: the file is first renamed to a hidden name in its
own directory, then compared with the version, and put back if it is not that one. From there it goes on by one rename,
or, where the archive is on another file system (or is mounted apart, as systemd does it), by a copy that is hashed
as it is written and was on the disk before the original goes.

Nothing in the archive is ever written over: a name is first reserved by creating it, which fails where it exists.
(A hard link would do the same, but the kernel refuses links to files of other users, and some file systems any.)

After a crash the same calls go on from whatever lies on the disk: at the path, under the hidden name, in the archive.
Everything is synchronous, and for one worker thread.
"""

# Paths of data files are bytes, which pathlib does not take:
# ruff: noqa: PTH103, PTH104, PTH106, PTH108, PTH112, PTH116, PTH120

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from landingd.errors import LandingdError
from landingd.model import FileRef, Signature, shown

HIDDEN_PREFIX = b".landingd-cleaning-"
"""Names that start with a dot are no delivery to anybody."""
COPY_PREFIX = b".landingd-copying-"
CHUNK_BYTES = 1 << 20

_APART = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""What rename says where only a copy helps."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM})


class CleanupError(LandingdError):
    """A file could not be archived or deleted; nothing is lost, and it is tried again."""


class OtherBytesError(LandingdError):
    """What stands at the path is not the version (any more), or is being written to: it stays."""


class CutShortError(LandingdError):
    """The process stops; the file stays where it is."""


class Archive:
    """The way out of the landing root. `is_written` says whether somebody has a file open for writing."""

    def __init__(
        self,
        landing_root: Path,
        archive_root: Path,
        *,
        is_written: Callable[[bytes], bool] = lambda _: False,
        stops: Callable[[], bool] = lambda: False,
    ) -> None:
        self._landing = os.fsencode(landing_root)
        self._root = os.fsencode(archive_root)
        self._is_written = is_written
        self._stops = stops
        self._apart: set[int] = set()
        """Devices from which nothing can be renamed into the archive."""
        self._changed: set[bytes] = set()
        """Folders whose entries are not on the disk yet."""

    def stands(self, file: FileRef) -> bool:
        """Whether the version lies at its path, as it was hashed, and nobody is writing to it."""
        path = self._at(file)
        try:
            return _signature(path) == file.signature and not self._is_written(path)
        except OSError:
            return False

    def bring(self, file: FileRef, names: Sequence[bytes]) -> bytes:
        """Bring a version into the archive, under the first of these names that is free; returns which.

        Call `sync` and then `drop`: until then the original may still lie under its hidden name. Raises
        CleanupError, OtherBytesError, CutShortError; the file is then where it was, unless `is_back` denies it.
        """
        hidden = self._hidden(file)
        if not os.path.lexists(hidden):
            standing = self._standing(file)
            if standing is not None:
                _need_to_write(os.path.dirname(hidden))
            kept = self._found(file, names)
            if standing != file.signature:
                if kept is None:
                    raise OtherBytesError("the version does not stand at its path any more")
                return kept
            if kept is None and self._is_apart(file):
                kept = self._copied(file, self._at(file), names)
            self._hide(file)
        else:
            self._check(file)
            kept = self._found(file, names)
        return kept or self._brought(file, names)

    def hide(self, file: FileRef) -> None:
        """Make a version that is to be deleted invisible; `drop` deletes it. Raises as `bring` does."""
        if os.path.lexists(self._hidden(file)):
            self._check(file)
        elif (standing := self._standing(file)) is not None:
            if standing != file.signature:
                raise OtherBytesError("the version does not stand at its path any more")
            self._hide(file)

    def sync(self) -> None:
        """What was brought or dropped so far is on the disk when this returns. Raises CleanupError."""
        for folder in sorted(self._changed):
            with _doing("write to", folder):
                _fsync(folder)
        self._changed.clear()

    def drop(self, file: FileRef) -> None:
        """Remove what is left of a version in its landing directory. Raises CleanupError."""
        hidden = self._hidden(file)
        with _doing("delete from", os.path.dirname(hidden)), suppress(FileNotFoundError):
            os.unlink(hidden)
            self._changed.add(os.path.dirname(hidden))

    def is_back(self, file: FileRef) -> bool:
        """After an error: whether the version lies at its path and nothing under its hidden name."""
        try:
            found = _signature(self._at(file))
        except OSError:
            return False
        return found is not None and _is_version(found, file.signature) and not os.path.lexists(self._hidden(file))

    def lies(self, file: FileRef, name: bytes) -> bool:
        """Whether a copy of the version lies in the archive under this name (by its size; readers check the hash)."""
        try:
            return _size(os.path.join(self._root, name)) == file.signature.size
        except OSError:
            return False

    def expire(self, name: bytes) -> None:
        """Delete a copy from the archive, and the folders that it leaves empty. Raises CleanupError."""
        path = os.path.join(self._root, name)
        with _doing("delete from", os.path.dirname(path)), suppress(FileNotFoundError):
            os.unlink(path)
        folder = os.path.dirname(name)
        with suppress(OSError):
            while folder:
                os.rmdir(os.path.join(self._root, folder))
                folder = os.path.dirname(folder)

    # -- in the landing directory --

    def _at(self, file: FileRef) -> bytes:
        return os.path.join(self._landing, file.path)

    def _standing(self, file: FileRef) -> Signature | None:
        path = self._at(file)
        with _doing("look at", path):
            return _signature(path)

    def _hidden(self, file: FileRef) -> bytes:
        return os.path.join(os.path.dirname(self._at(file)), HIDDEN_PREFIX + b"%d" % file.file_id)

    def _hide(self, file: FileRef) -> None:
        path, hidden = self._at(file), self._hidden(file)
        folder = os.path.dirname(path)
        with _doing("take files out of", folder):
            try:
                os.rename(path, hidden)
            except FileNotFoundError:
                raise OtherBytesError("the file went away") from None
        self._changed.add(folder)
        self._check(file)

    def _check(self, file: FileRef) -> None:
        """Look at what was taken, now that nobody can replace it or open it anew."""
        hidden = self._hidden(file)
        with _doing("look at", hidden):
            found = _signature(hidden)
            is_it = found is not None and (_is_version(found, file.signature) or self._is_same(hidden, found, file))
        if not is_it:
            self._put_back(file)
            raise OtherBytesError("other bytes came while it was taken out")
        if self._is_written(hidden):
            self._put_back(file)
            raise OtherBytesError("somebody has opened it for writing")

    def _put_back(self, file: FileRef) -> None:
        path, hidden = self._at(file), self._hidden(file)
        with _doing("put a file back into", os.path.dirname(path)):
            try:
                os.link(hidden, path, follow_symlinks=False)
            except FileExistsError:
                raise CleanupError(
                    f"{shown(file.path)}: other bytes came twice while it was taken out",
                    hint=f"the first ones are kept as {shown(hidden)} until the path is free",
                ) from None
            except OSError:
                # No links here, or not to files of others: then the look and the rename are two steps.
                if os.path.lexists(path):
                    raise
                os.rename(hidden, path)
            else:
                os.unlink(hidden)

    # -- in the archive --

    def _found(self, file: FileRef, names: Sequence[bytes]) -> bytes | None:
        """The name under which the version lies in the archive already: from before a crash, or since it came again."""
        for name in names:
            path = os.path.join(self._root, name)
            with _doing("read", path):
                found = _signature(path)
                if found is None:
                    return None
                if self._is_same(path, found, file):
                    return name
        return None

    def _is_same(self, path: bytes, found: Signature, file: FileRef) -> bool:
        if found.size != file.signature.size:
            return False
        digest = hashlib.sha256()
        with _opened(path) as fd:
            for chunk in self._chunks(fd):
                digest.update(chunk)
        return digest.hexdigest() == file.content_hash

    def _is_apart(self, file: FileRef) -> bool:
        """Whether a rename into the archive is known to be in vain: then the file stays visible while it is copied."""
        with _doing("create", self._root):
            os.makedirs(self._root, exist_ok=True)
            device = os.stat(self._root).st_dev
        return file.signature.device != device or file.signature.device in self._apart

    def _brought(self, file: FileRef, names: Sequence[bytes]) -> bytes:
        """From the hidden name into the archive."""
        hidden = self._hidden(file)
        try:
            name = self._reserved(file, names)
            try:
                with _doing("write to", os.path.dirname(os.path.join(self._root, name))):
                    os.rename(hidden, os.path.join(self._root, name))
            except BaseException:
                self._give_up(name)
                raise
        except CleanupError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _APART:
                self._apart.add(file.signature.device)
                return self._copied_or_back(file, names)
            self._put_back(file)
            raise
        return name

    def _copied_or_back(self, file: FileRef, names: Sequence[bytes]) -> bytes:
        try:
            return self._copied(file, self._hidden(file), names)
        except LandingdError:
            self._put_back(file)
            raise

    def _reserved(self, file: FileRef, names: Sequence[bytes]) -> bytes:
        """Create an empty file under the first free name: from here on it is nobody else's."""
        folder = os.path.dirname(os.path.join(self._root, names[0]))
        self._make(folder)
        for name in names:
            path = os.path.join(self._root, name)
            with _doing("write to", folder):
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
                except FileExistsError:
                    # Empty: reserved by us before a crash; the name is of this version alone.
                    if file.signature.size == 0 or _size(path) != 0:
                        continue
            return name
        raise CleanupError(
            f"{shown(file.path)}: every name that it could have in the archive is taken",
            hint=f"see {shown(os.path.join(self._root, names[0]))}: somebody else writes there",
        )

    def _give_up(self, name: bytes) -> None:
        """Take a reservation back."""
        path = os.path.join(self._root, name)
        with suppress(OSError):
            if _size(path) == 0:
                os.unlink(path)

    def _copied(self, file: FileRef, source: bytes, names: Sequence[bytes]) -> bytes:
        """Copy to a name that nobody knows, compare, sync; then into place by one rename."""
        folder = os.path.dirname(os.path.join(self._root, names[0]))
        self._make(folder)
        copy = os.path.join(folder, COPY_PREFIX + b"%d" % file.file_id)
        try:
            with _doing(f"copy {file.signature.size:,} bytes to", folder):
                if not os.path.lexists(source):
                    raise OtherBytesError("the file went away")
                digest = self._copy(source, copy)
            if digest != file.content_hash:
                raise OtherBytesError("other bytes came while it was copied")
            name = self._reserved(file, names)
            with _doing("write to", folder):
                os.rename(copy, os.path.join(self._root, name))
        finally:
            with suppress(OSError):
                os.unlink(copy)
        return name

    def _copy(self, source: bytes, copy: bytes) -> str:
        digest = hashlib.sha256()
        with _opened(source) as fd:
            status = os.fstat(fd)
            to = os.open(copy, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            with os.fdopen(to, "wb", buffering=0) as out:
                for chunk in self._chunks(fd):
                    digest.update(chunk)
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[out.write(rest) or 0 :]
                os.utime(to, ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fsync(to)
        return digest.hexdigest()

    def _chunks(self, fd: int) -> Iterator[bytes]:
        while chunk := os.read(fd, CHUNK_BYTES):
            if self._stops():
                raise CutShortError("the process stops")
            yield chunk

    def _make(self, folder: bytes) -> None:
        missing = folder
        while not os.path.isdir(missing):
            self._changed.add(missing)
            missing = os.path.dirname(missing)
        self._changed |= {folder, missing}
        with _doing("create", folder):
            os.makedirs(folder, exist_ok=True)


def _signature(path: bytes) -> Signature | None:
    """What stat says of the regular file at `path`; None: there is none."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _is_version(found: Signature, version: Signature) -> bool:
    """Renaming has changed its ctime; all else has to be as it was."""
    was = (version.size, version.mtime_ns, version.inode)
    return (found.size, found.mtime_ns, found.inode) == was


def _need_to_write(folder: bytes) -> None:
    """Find out before anything is copied, or a large file would be copied anew at each try."""
    with _doing("take files out of", folder):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _size(path: bytes) -> int | None:
    found = _signature(path)
    return None if found is None else found.size


def _fsync(folder: bytes) -> None:
    try:
        with _opened(folder) as fd:
            os.fsync(fd)
    except OSError as error:
        # A folder that has gone since has nothing to keep; some file systems do not sync folders at all.
        if error.errno not in {errno.ENOENT, errno.EINVAL, errno.EACCES}:
            raise


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _doing(what: str, where: bytes) -> Iterator[None]:
    """An error of the system as a person can use it."""
    try:
        yield
    except OSError as error:
        raise CleanupError(
            f"cannot {what} {shown(where)}: {error.strerror or error}", hint=_hint(error.errno)
        ) from error


def _hint(number: int | None) -> str | None:
    if number in _FULL:
        return "free some space, keep archived files for a shorter time, or put paths.archive on a larger disk"
    if number == errno.EROFS:
        return "mount it for writing, or say `cleanup: keep`"
    if number in _DENIED:
        return "the daemon's user needs to be allowed to write to this directory; or say `cleanup: keep`"
    return None
