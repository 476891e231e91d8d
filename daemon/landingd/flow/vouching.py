"""What producers say of their files by markers and manifests beside them: read it, and let core judge.

Runs on worker threads, one look at a time. What is remembered here only spares reading a manifest again.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

import structlog

from landingd.core import manifest, settle, triggers
from landingd.edge import landing
from landingd.edge.landing import beside
from landingd.model import FileArrival, Lease, Signature, shown

log = structlog.get_logger("landingd.intake")
T = TypeVar("T")

MANIFESTS_MAX = 10_000
"""Remembered ones; the oldest is read again when it is asked for."""
MISSING_SHOWN_MAX = 20


class Vouching:
    """Asks for the producers' word. Paths are below the landing root."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._manifests: dict[bytes, manifest.Beside] = {}
        self._listed: dict[tuple[bytes, str], list[manifest.Beside]] = {}
        self._told: dict[bytes, Signature] = {}

    def begin(self) -> None:
        """A batch of looks begins: a directory is listed once for all of it."""
        self._listed = {}

    def words(
        self, path: bytes, signature: Signature, matches: Sequence[triggers.Matched]
    ) -> tuple[settle.Word, ...] | settle.Wait:
        """The word for each trigger that asks for one, or what is waited for."""
        found: list[settle.Word] = []
        for match in matches:
            word = self._word(path, signature, match.trigger)
            if isinstance(word, settle.Wait):
                return word
            if word is not None:
                found.append(word)
        return tuple(found)

    def _word(self, path: bytes, signature: Signature, trigger: FileArrival) -> settle.Word | settle.Wait | None:
        directory, slash, name = path.rpartition(b"/")
        if trigger.marker is not None:
            marker = settle.marker_of(trigger.marker, name)
            stands = landing.signature(os.path.join(self._root, directory + slash + marker))
            return settle.word_of_marker(shown(marker), stands if isinstance(stands, Signature) else None, signature)
        if trigger.manifest is not None:
            return manifest.judge(name, signature, self._beside(directory, trigger.manifest))
        return None

    # -- manifests --

    def _beside(self, directory: bytes, glob: str) -> list[manifest.Beside]:
        key = (directory, glob)
        if key not in self._listed:
            folder = os.path.join(self._root, directory)
            read = [self._read(os.path.join(folder, name)) for name in beside.names_like(folder, glob)]
            self._listed[key] = [one for one in read if one is not None]
        return self._listed[key]

    def _read(self, absolute: bytes) -> manifest.Beside | None:
        """A manifest as it stands; None: it is gone, or has a name that says "not yet"."""
        stands = landing.signature(absolute)
        if not isinstance(stands, Signature) or settle.temporary_name(os.path.basename(absolute)):
            return None
        known = self._manifests.get(absolute)
        return known if known is not None and known.signature == stands else self._read_anew(absolute, stands)

    def _read_anew(self, absolute: bytes, stands: Signature) -> manifest.Beside | None:
        name = shown(os.path.basename(absolute))
        unfinished = manifest.Beside(name, stands, manifest.Unreadable("is still being written"))
        try:
            signature, content = beside.whole(absolute)
            # Asked after reading: a writer that had it open meanwhile has it open now, or has changed it.
            if landing.lease(absolute) is Lease.HELD or landing.signature(absolute) != signature:
                return unfinished
        except FileNotFoundError:
            return None
        except landing.ChangedWhileReadingError:
            return unfinished
        except OSError as error:
            return manifest.Beside(name, stands, manifest.Unreadable(f"cannot be read: {error.strerror}"))
        read = manifest.Beside(name, signature, manifest.parse(content))
        _keep(self._manifests, absolute, read)
        return read

    def tell_missing(self, path: bytes, names: Sequence[bytes]) -> None:
        """Say once of a manifest which of the files that it lists are not among these names."""
        read = self._read(os.path.join(self._root, path))
        if read is None or not isinstance(read.content, manifest.Manifest):
            return
        missing = sorted(read.content.files.keys() - set(names))
        if missing and self._told.get(path) != read.signature:
            _keep(self._told, path, read.signature)
            some = [shown(name) for name in missing[:MISSING_SHOWN_MAX]]
            log.warning("manifest_incomplete", manifest=shown(path), missing=some, count=len(missing))


def _keep(memory: dict[bytes, T], key: bytes, value: T) -> None:
    memory.pop(key, None)
    memory[key] = value
    while len(memory) > MANIFESTS_MAX:
        memory.pop(next(iter(memory)))
