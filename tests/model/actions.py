"""What producers do to files, each thing both to the model and to a real folder.

An action is made once, from a seed, with its names and contents, and can then be done again anywhere: alone, or with
others left out.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.contents import EMPTY, Content
from model.world import TEMPORARY_SUFFIX, DoesNotApplyError, Inode, World


@dataclass
class Hands:
    """A real folder below the landing root, a place beside it, and the files that are held open."""

    folder: Path
    aside: Path
    unfinished: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """By writer: the descriptor, and what is still to be written."""

    def path(self, name: str) -> Path:
        return self.folder / name

    def prepared(self, content: Content) -> Path:
        """A file beside the landing directory."""
        path = self.aside / "prepared"
        path.write_bytes(content.raw)
        return path

    def let_go(self) -> None:
        for fd, _ in self.unfinished.values():
            os.close(fd)


@dataclass(frozen=True)
class Action:
    """`suppose` raises DoesNotApplyError, and has changed nothing, where `do` cannot be done."""

    name: str

    def suppose(self, world: World) -> None:
        raise NotImplementedError

    def do(self, hands: Hands) -> None:
        raise NotImplementedError

    def __str__(self) -> str:
        said: list[Any] = [value for key, value in vars(self).items() if key != "rest"]
        return " ".join([type(self).__name__, *map(str, said)])


# --- whole files ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Create(Action):
    """Written under its own name, and closed."""

    content: Content

    def suppose(self, world: World) -> None:
        world.must_be_free(self.name)
        world.put(self.name, self.content)

    def do(self, hands: Hands) -> None:
        with hands.path(self.name).open("xb") as file:
            file.write(self.content.raw)


@dataclass(frozen=True)
class MoveIn(Action):
    """Renamed into place, over whatever stands there."""

    content: Content

    def suppose(self, world: World) -> None:
        world.put(self.name, self.content)

    def do(self, hands: Hands) -> None:
        hands.prepared(self.content).rename(hands.path(self.name))


@dataclass(frozen=True)
class WriteTemporary(Action):
    """Written under a temporary name, where it stays for now."""

    content: Content

    def suppose(self, world: World) -> None:
        world.must_be_free(self.name + TEMPORARY_SUFFIX)
        world.put(self.name + TEMPORARY_SUFFIX, self.content)

    def do(self, hands: Hands) -> None:
        hands.path(self.name + TEMPORARY_SUFFIX).write_bytes(self.content.raw)


@dataclass(frozen=True)
class RenameTemporary(Action):
    """A temporary name becomes the final one, over whatever stands there."""

    def suppose(self, world: World) -> None:
        world.put(self.name, world.take(self.name + TEMPORARY_SUFFIX))

    def do(self, hands: Hands) -> None:
        hands.path(self.name + TEMPORARY_SUFFIX).rename(hands.path(self.name))


@dataclass(frozen=True)
class Delete(Action):
    """Also of a file that is still open."""

    def suppose(self, world: World) -> None:
        world.take(self.name)

    def do(self, hands: Hands) -> None:
        hands.path(self.name).unlink()


@dataclass(frozen=True)
class DeleteAndCreate(Action):
    """The new file gets the old one's time, and its inode where the file system hands it out again."""

    content: Content

    def suppose(self, world: World) -> None:
        world.take(self.name)
        world.put(self.name, self.content)

    def do(self, hands: Hands) -> None:
        path = hands.path(self.name)
        old = path.stat()
        path.unlink()
        path.write_bytes(self.content.raw)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


# --- in place ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Append(Action):
    """`content` is what it holds then, `rest` what is added."""

    content: Content
    rest: bytes

    def suppose(self, world: World) -> None:
        file = world.closed_file(self.name)
        if file.content.raw + self.rest != self.content.raw:
            raise DoesNotApplyError(self.name)
        world.write(file, self.content)

    def do(self, hands: Hands) -> None:
        with hands.path(self.name).open("ab") as file:
            file.write(self.rest)


@dataclass(frozen=True)
class Overwrite(Action):
    """Truncated and written anew through one descriptor."""

    content: Content

    def suppose(self, world: World) -> None:
        world.write(world.closed_file(self.name), self.content)

    def do(self, hands: Hands) -> None:
        hands.path(self.name).write_bytes(self.content.raw)


@dataclass(frozen=True)
class OverwriteSecretly(Action):
    """As many bytes, and the modification time of before."""

    content: Content

    def suppose(self, world: World) -> None:
        file = world.closed_file(self.name)
        if len(file.content.raw) != len(self.content.raw):
            raise DoesNotApplyError(self.name)
        world.write(file, self.content)

    def do(self, hands: Hands) -> None:
        path = hands.path(self.name)
        before = path.stat()
        with path.open("r+b") as file:
            file.write(self.content.raw)
            file.flush()
            os.utime(file.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))


@dataclass(frozen=True)
class Truncate(Action):
    """Emptied by its name, and left so."""

    def suppose(self, world: World) -> None:
        world.write(world.closed_file(self.name), EMPTY)

    def do(self, hands: Hands) -> None:
        os.truncate(hands.path(self.name), 0)


@dataclass(frozen=True)
class OpenAndWrite(Action):
    """Begun, in a new file or in place of an old content, and held open."""

    content: Content
    writer: int
    quarters: int
    """How much of it is written at once."""

    def suppose(self, world: World) -> None:
        if self.name not in world.names:
            world.must_be_free(self.name)
            world.names[self.name] = Inode(EMPTY)
        world.begin(self.writer, world.closed_file(self.name), self.content)

    def do(self, hands: Hands) -> None:
        fd = os.open(hands.path(self.name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        hands.unfinished[self.writer] = fd, _write(fd, self.content.raw, self.quarters)


@dataclass(frozen=True)
class OpenAndAppend(Action):
    """`content` is what it will hold, `rest` what is added; of that a half is written at once."""

    content: Content
    rest: bytes
    writer: int

    def suppose(self, world: World) -> None:
        file = world.closed_file(self.name)
        if file.content.raw + self.rest != self.content.raw:
            raise DoesNotApplyError(self.name)
        world.begin(self.writer, file, self.content)

    def do(self, hands: Hands) -> None:
        fd = os.open(hands.path(self.name), os.O_WRONLY | os.O_APPEND)
        hands.unfinished[self.writer] = fd, _write(fd, self.rest, 2)


@dataclass(frozen=True)
class WriteMore(Action):
    """Half of the rest. `name` is where the file was opened; it may have another one by now."""

    writer: int

    def suppose(self, world: World) -> None:
        world.must_be_writing(self.writer)

    def do(self, hands: Hands) -> None:
        fd, rest = hands.unfinished[self.writer]
        hands.unfinished[self.writer] = fd, _write(fd, rest, 2)


@dataclass(frozen=True)
class Close(Action):
    """The rest is written, and the file closed."""

    writer: int

    def suppose(self, world: World) -> None:
        world.finish(self.writer)

    def do(self, hands: Hands) -> None:
        fd, rest = hands.unfinished.pop(self.writer)
        _write(fd, rest, 4)
        os.close(fd)


def _write(fd: int, content: bytes, quarters: int) -> bytes:
    """Write so much of it; returns the rest."""
    end = len(content) * quarters // 4
    os.write(fd, content[:end])
    return content[end:]


# --- names ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rename(Action):
    """To another name in the landing directory, over whatever stands there."""

    to: str

    def suppose(self, world: World) -> None:
        if not world.has_room(self.to) or world.names.get(self.to) is world.file(self.name):
            raise DoesNotApplyError(self.to)  # rename(2) of a file onto itself does nothing
        world.put(self.to, world.take(self.name))

    def do(self, hands: Hands) -> None:
        hands.path(self.name).rename(hands.path(self.to))


@dataclass(frozen=True)
class Swap(Action):
    """Two files exchange their names, by way of a third place."""

    other: str

    def suppose(self, world: World) -> None:
        first, second = world.file(self.name), world.file(self.other)
        if first is second:
            raise DoesNotApplyError(self.other)
        world.put(self.name, second)
        world.put(self.other, first)

    def do(self, hands: Hands) -> None:
        hands.path(self.name).rename(hands.aside / "swapped")
        hands.path(self.other).rename(hands.path(self.name))
        (hands.aside / "swapped").rename(hands.path(self.other))


@dataclass(frozen=True)
class Link(Action):
    """A second name for the same file."""

    to: str

    def suppose(self, world: World) -> None:
        world.must_be_free(self.to)
        world.put(self.to, world.file(self.name))

    def do(self, hands: Hands) -> None:
        os.link(hands.path(self.name), hands.path(self.to))


@dataclass(frozen=True)
class RenameOut(Action):
    def suppose(self, world: World) -> None:
        if self.name in world.aside:
            raise DoesNotApplyError(self.name)
        world.aside[self.name] = world.take(self.name)

    def do(self, hands: Hands) -> None:
        hands.path(self.name).rename(_aside(hands, self.name))


@dataclass(frozen=True)
class RenameBack(Action):
    """Over whatever stands there by now."""

    def suppose(self, world: World) -> None:
        if self.name not in world.aside or world.names.get(self.name) is world.aside[self.name]:
            raise DoesNotApplyError(self.name)
        world.put(self.name, world.aside[self.name])
        del world.aside[self.name]

    def do(self, hands: Hands) -> None:
        _aside(hands, self.name).rename(hands.path(self.name))


def _aside(hands: Hands, name: str) -> Path:
    return hands.aside / ("out-" + name.replace("/", "-"))


@dataclass(frozen=True)
class MoveFolderIn(Action):
    """A whole directory with files in it."""

    files: tuple[tuple[str, Content], ...]

    def suppose(self, world: World) -> None:
        if self.name in world.folders:
            raise DoesNotApplyError(self.name)
        world.folders.add(self.name)
        for name, content in self.files:
            world.put(f"{self.name}/{name}", content)

    def do(self, hands: Hands) -> None:
        prepared = hands.aside / self.name
        prepared.mkdir()
        for name, content in self.files:
            (prepared / name).write_bytes(content.raw)
        prepared.rename(hands.path(self.name))

    def __str__(self) -> str:
        return f"MoveFolderIn {self.name} " + ", ".join(f"{name} {content}" for name, content in self.files)


@dataclass(frozen=True)
class MoveFolderOut(Action):
    """And away with it."""

    def suppose(self, world: World) -> None:
        if self.name not in world.folders:
            raise DoesNotApplyError(self.name)
        world.folders.discard(self.name)
        for name in [name for name in world.names if name.startswith(self.name + "/")]:
            world.take(name)

    def do(self, hands: Hands) -> None:
        hands.path(self.name).rename(hands.aside / self.name)
        shutil.rmtree(hands.aside / self.name)


# --- what is no delivery ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Touch(Action):
    def suppose(self, world: World) -> None:
        world.touch(world.closed_file(self.name))

    def do(self, hands: Hands) -> None:
        hands.path(self.name).touch()


@dataclass(frozen=True)
class Chmod(Action):
    mode: int

    def suppose(self, world: World) -> None:
        world.file(self.name)

    def do(self, hands: Hands) -> None:
        hands.path(self.name).chmod(self.mode)


@dataclass(frozen=True)
class Symlink(Action):
    """Links are not followed."""

    to: str

    def suppose(self, world: World) -> None:
        if self.name in world.symlinks:
            raise DoesNotApplyError(self.name)
        world.symlinks.add(self.name)

    def do(self, hands: Hands) -> None:
        hands.path(self.name).symlink_to(self.to)
