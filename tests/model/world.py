"""The small model: what a folder holds, and which contents have ever stood there complete.

It knows nothing of the daemon. A file is an inode with names; what its writer has not finished stands nowhere.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from model.contents import Content

TEMPORARY_SUFFIX = ".part"


class DoesNotApplyError(Exception):
    """A file is not there, or a name is taken. In a list that was shortened such an action is left out."""


@dataclass(eq=False)
class Inode:
    """A file, under all of its names."""

    content: Content
    writer: int | None = None
    """Who has it open for writing."""


@dataclass
class World:
    """One list's folder."""

    names: dict[str, Inode] = field(default_factory=dict)
    aside: dict[str, Inode] = field(default_factory=dict)
    """Renamed out of the landing directory."""
    folders: set[str] = field(default_factory=set)
    symlinks: set[str] = field(default_factory=set)
    unfinished: dict[int, tuple[Inode, Content]] = field(default_factory=dict)
    """By writer: the file, and what it will hold."""
    stood: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By name the hashes of the contents that it had at a moment when nobody was writing: only these may be loaded."""
    contents: dict[str, Content] = field(default_factory=dict)
    """By hash, every content that ever stood."""
    untouched: set[str] = field(default_factory=set)
    """Names where nothing was written since the last rest; files may have been taken away from them."""

    # -- how it looks --

    def data(self) -> dict[str, Content]:
        """What the daemon has to account for, by name."""
        return {name: inode.content for name, inode in self.names.items() if not name.endswith(TEMPORARY_SUFFIX)}

    def closed(self) -> list[str]:
        """Names of data files that nobody is writing."""
        return [name for name in self.data() if not self.is_open(name)]

    def is_open(self, name: str) -> bool:
        """Whether somebody is writing it."""
        return name in self.names and self.names[name].writer is not None

    def closed_file(self, name: str) -> Inode:
        file = self.file(name)
        if file.writer is not None:
            raise DoesNotApplyError(name)
        return file

    def file(self, name: str) -> Inode:
        if name not in self.names:
            raise DoesNotApplyError(name)
        return self.names[name]

    def must_be_free(self, name: str) -> None:
        if name in self.names or not self.has_room(name):
            raise DoesNotApplyError(name)

    def has_room(self, name: str) -> bool:
        """Whether the name's folder is there."""
        folder = name.rpartition("/")[0]
        return not folder or folder in self.folders

    # -- what happens to it --

    def put(self, name: str, file: Content | Inode) -> None:
        """A name leads to this file now; where it led before is forgotten."""
        if not self.has_room(name):
            raise DoesNotApplyError(name)
        self.names[name] = file if isinstance(file, Inode) else Inode(file)
        self._stands(name)

    def take(self, name: str) -> Inode:
        """A name is gone."""
        file = self.file(name)
        del self.names[name]
        return file

    def write(self, file: Inode, content: Content) -> None:
        """Written in place by somebody who has closed it."""
        file.content, file.writer = content, None
        for name, inode in self.names.items():
            if inode is file:
                self._stands(name)

    def touch(self, file: Inode) -> None:
        """Somebody says that it is new."""
        self.untouched -= {name for name, inode in self.names.items() if inode is file}

    def begin(self, writer: int, file: Inode, content: Content) -> None:
        """Somebody has opened it for writing: until it is closed nothing stands there."""
        file.writer = writer
        self.unfinished[writer] = file, content
        self.touch(file)

    def must_be_writing(self, writer: int) -> None:
        if writer not in self.unfinished:
            raise DoesNotApplyError(str(writer))

    def finish(self, writer: int) -> None:
        self.must_be_writing(writer)
        self.write(*self.unfinished.pop(writer))

    def rest(self) -> None:
        """The daemon has come to rest."""
        self.untouched = set(self.stood)

    def _stands(self, name: str) -> None:
        file = self.names[name]
        self.untouched.discard(name)
        if file.writer is None:
            self.stood[name].add(file.content.hash)
            self.contents[file.content.hash] = file.content
