"""The way out of a landing directory, on real file systems: what stops in the middle, what stands in the way."""

import errno
import hashlib
import os
import shutil
import stat
import subprocess

import pytest

from landingd.edge import archive as module
from landingd.edge import landing
from landingd.edge.archive import Archive, CleanupError, CutShortError, OtherBytesError
from landingd.model import FileRef

NAMES = (b"shop/in/a.v1.csv", b"shop/in/a.v1-2.csv", b"shop/in/a.v1-3.csv")


class Place:
    """A landing root and an archive, with one file whose version is known."""

    def __init__(self, folder, **more):
        self.landing, self.root = folder / "landing", folder / "archive"
        (self.landing / "in").mkdir(parents=True, exist_ok=True)
        self.path = self.landing / "in/a.csv"
        self.more = more
        self.again()

    def again(self):
        """Like a new process."""
        self.archive = Archive(self.landing, self.root, **self.more)

    def write(self, content=b"id\n1\n", path=b"in/a.csv"):
        absolute = self.landing / os.fsdecode(path)
        absolute.write_bytes(content)
        return FileRef(1, path, hashlib.sha256(content).hexdigest(), landing.signature(os.fsencode(absolute)))

    def all_of(self, file, names=NAMES):
        brought = self.archive.bring(file, names)
        self.archive.sync()
        self.archive.drop(file)
        self.archive.sync()
        return brought

    def files(self):
        """Everything that lies anywhere: `{name below landing or archive: content}`."""
        return {
            os.fsencode(path.relative_to(root)): path.read_bytes()
            for root in (self.landing, self.root)
            for path in root.rglob("*")
            if path.is_file()
        }


class Mounting:
    def __init__(self):
        self.points = []

    def __call__(self, *how):
        made = subprocess.run(["mount", *map(str, how)], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"not permitted here: mount {' '.join(map(str, how))}: {made.stderr.strip()}")
        self.points.append(how[-1])

    def remount(self, point, options):
        subprocess.run(["mount", "-o", f"remount,{options}", point], check=True, capture_output=True)


@pytest.fixture
def mount():
    mounting = Mounting()
    yield mounting
    for point in reversed(mounting.points):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


@pytest.fixture
def elsewhere(tmp_path, mount):
    """The archive is on a file system of its own, and a small one."""
    root = tmp_path / "archive"
    root.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k", "landingd-test", root)
    return Place(tmp_path)


@pytest.fixture
def bound(tmp_path, mount):
    """On the same file system, but mounted apart, as systemd's ReadWritePaths= does it: rename says EXDEV."""
    root = tmp_path / "archive"
    root.mkdir()
    mount("--bind", root, root)
    return Place(tmp_path)


@pytest.fixture
def here(tmp_path):
    return Place(tmp_path)


@pytest.fixture(params=["here", "elsewhere", "bound"])
def place(request):
    return request.getfixturevalue(request.param)


# --- the way ------------------------------------------------------------------------------------------------


def test_a_file_lies_in_the_archive_afterwards_and_nowhere_else(place):
    file = place.write()
    mtime_ns = file.signature.mtime_ns
    assert place.all_of(file) == NAMES[0]
    assert place.files() == {NAMES[0]: b"id\n1\n"}
    assert (place.root / os.fsdecode(NAMES[0])).stat().st_mtime_ns == mtime_ns


def test_a_second_file_goes_the_way_that_the_first_one_found(bound):
    bound.all_of(bound.write())
    second = FileRef(2, b"in/a.csv", hashlib.sha256(b"2").hexdigest(), bound.write(b"2").signature)
    copy, seen = bound.root / "shop/in/b.csv", []
    bound.archive._is_written = lambda hidden: seen.append((hidden.rpartition(b"/")[2], copy.exists()))
    bound.all_of(second, [b"shop/in/b.csv"])
    assert seen == [(b".landingd-cleaning-2", True)], "it was out of sight while it was copied"


def test_a_name_that_is_no_text_stays_what_it_is(place):
    path = b"in/gr\xfc\xdfe\n.csv"
    file = place.write(path=path)
    assert place.all_of(file, [b"shop/" + path]) == b"shop/" + path
    assert place.files() == {b"shop/" + path: b"id\n1\n"}


def test_an_empty_file_is_archived_too(place):
    place.all_of(place.write(b""))
    assert place.files() == {NAMES[0]: b""}


def test_a_deleted_file_is_gone(here):
    file = here.write()
    here.archive.hide(file)
    here.archive.drop(file)
    assert here.files() == {}
    here.archive.hide(file)  # after a crash: nothing is left to be done, and that is no error
    here.archive.drop(file)


def test_an_archived_file_goes_with_the_folders_that_it_leaves_empty(here):
    here.all_of(here.write())
    other = here.root / "shop/other"
    other.write_bytes(b"")
    here.archive.expire(NAMES[0])
    assert here.files() == {b"shop/other": b""}
    assert not (here.root / "shop/in").exists()
    here.archive.expire(NAMES[0])
    here.archive.expire(b"shop/other")
    assert list(here.root.iterdir()) == []


# --- stopped in the middle ----------------------------------------------------------------------------------

CALLS = ("rename", "open", "fsync", "unlink", "makedirs", "link", "utime", "close")


class Died(BaseException):
    """Like a kill: nothing of ours catches it, and what was done is done."""


class Deadly:
    """`os` for the module under test; it dies at the n-th call that changes anything."""

    def __init__(self, monkeypatch, at, *, after):
        self.calls = 0
        for name in CALLS:
            real = getattr(os, name)
            monkeypatch.setattr(module.os, name, lambda *a, _real=real, **k: self.call(_real, at, after, *a, **k))

    def call(self, real, at, after, *arguments, **more):
        self.calls += 1
        if self.calls >= at:
            if after and self.calls == at:
                real(*arguments, **more)
            raise Died
        return real(*arguments, **more)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", ["archive", "delete"])
def test_whatever_was_begun_is_brought_to_its_end_by_the_next_process(place, monkeypatch, how, after):
    """At every call into the system that changes something, from then on none succeeds: not even cleaning up."""
    for at in range(1, 100):
        file = place.write()
        with monkeypatch.context() as patched:
            deadly = Deadly(patched, at, after=after)
            try:
                steps(place, file, how)
            except Died:
                died = True
            else:
                died = False
            del deadly
        standing = list(place.files().values())
        assert how == "delete" or b"id\n1\n" in standing, f"lost at call {at}"
        place.again()
        try:
            steps(place, file, how)
        except OtherBytesError:
            # Put back under another ctime: it is looked at anew, and then its turn comes.
            file = FileRef(1, file.path, file.content_hash, landing.signature(os.fsencode(place.path)))
            steps(place, file, how)
        left = {content for content in place.files().values() if content}
        assert left == (set() if how == "delete" else {b"id\n1\n"})
        assert not [name for name in place.files() if b"landingd-" in name], f"left behind at call {at}"
        assert list((place.landing / "in").iterdir()) == []
        wipe(place.root)
        if not died:
            assert at > 2
            return
    pytest.fail("never came to its end")


def steps(place, file, how):
    if how == "archive":
        place.all_of(file)
    else:
        place.archive.hide(file)
        place.archive.drop(file)
        place.archive.sync()


def wipe(root):
    for path in root.iterdir() if root.exists() else ():
        shutil.rmtree(path)


def test_a_stop_gives_up_a_copy_and_leaves_the_file(elsewhere):
    file = elsewhere.write()
    elsewhere.more = {"stops": lambda: True}
    elsewhere.again()
    with pytest.raises(CutShortError):
        elsewhere.archive.bring(file, NAMES)
    assert elsewhere.files() == {b"in/a.csv": b"id\n1\n"}
    assert elsewhere.archive.is_back(file)


# --- other bytes --------------------------------------------------------------------------------------------


def replaced_while(place, monkeypatch, content, *, times=1):
    """A producer moves a new version in just before ours is taken out, and another one just after."""
    rename, coming = os.rename, iter(content)

    def renamed(source, to):
        if module.HIDDEN_PREFIX in os.fsencode(to):
            place.write(next(coming))
            rename(source, to)
            for later in coming:
                place.write(later)
        else:
            rename(source, to)

    monkeypatch.setattr(module.os, "rename", renamed)


def test_bytes_that_came_a_moment_ago_are_put_back(place, monkeypatch):
    file = place.write()
    replaced_while(place, monkeypatch, [b"newer"])
    with pytest.raises(OtherBytesError):
        place.archive.bring(file, NAMES)
    left = place.files()
    assert left.pop(b"in/a.csv") == b"newer"
    assert left in ({}, {NAMES[0]: b"id\n1\n"})


def test_putting_back_never_writes_over_what_has_come_since(here, monkeypatch):
    file = here.write()
    replaced_while(here, monkeypatch, [b"newer", b"newest"])
    with pytest.raises(CleanupError, match="other bytes came twice"):
        here.archive.bring(file, NAMES)
    assert here.files() == {b"in/a.csv": b"newest", b"in/.landingd-cleaning-1": b"newer"}
    assert not here.archive.is_back(file)
    monkeypatch.undo()
    here.path.unlink()
    with pytest.raises(OtherBytesError):
        here.archive.bring(file, NAMES)
    assert here.files() == {b"in/a.csv": b"newer"}


def test_a_file_that_changed_or_went_since_it_was_hashed_is_left_alone(place):
    file = place.write()
    place.write(b"other")
    assert not place.archive.stands(file)
    for call in (lambda: place.archive.bring(file, NAMES), lambda: place.archive.hide(file)):
        with pytest.raises(OtherBytesError):
            call()
    assert place.files() == {b"in/a.csv": b"other"}
    place.path.unlink()
    with pytest.raises(OtherBytesError):
        place.archive.bring(file, NAMES)
    assert place.files() == {}


def test_bytes_that_change_while_they_are_copied_do_not_come_into_the_archive(elsewhere):
    file, copy = elsewhere.write(), elsewhere.archive._copy

    def changed(source, to):
        elsewhere.write(b"id\n2\n")
        return copy(source, to)

    elsewhere.archive._copy = changed
    with pytest.raises(OtherBytesError, match="copied"):
        elsewhere.archive.bring(file, NAMES)
    assert elsewhere.files() == {b"in/a.csv": b"id\n2\n"}


def test_a_same_size_rewrite_with_the_same_mtime_is_noticed(here):
    file = here.write(b"id\n1\n")
    with here.path.open("r+b") as opened:
        opened.write(b"id\n2\n")
    os.utime(here.path, ns=(0, file.signature.mtime_ns))
    with pytest.raises(OtherBytesError):
        here.archive.bring(file, NAMES)
    assert here.files() == {b"in/a.csv": b"id\n2\n"}


def test_a_file_that_somebody_opened_for_writing_is_put_back(here):
    landing.ignore_lease_signal()
    here.more = {"is_written": lambda path: landing.lease(path) is landing.look.Lease.HELD}
    here.again()
    file = here.write()
    with here.path.open("r+b"):
        assert not here.archive.stands(file)
        with pytest.raises(OtherBytesError, match="opened"):
            here.archive.bring(file, NAMES)
    assert here.files() == {b"in/a.csv": b"id\n1\n"}


def test_a_link_that_took_the_files_place_is_left_alone(here):
    file = here.write()
    here.path.unlink()
    here.path.symlink_to("/etc/hostname")
    with pytest.raises(OtherBytesError):
        here.archive.bring(file, NAMES)
    assert here.path.is_symlink()


# --- what stands in the way ---------------------------------------------------------------------------------


def test_nothing_in_the_archive_is_written_over(place):
    (place.root / "shop/in").mkdir(parents=True)
    (place.root / os.fsdecode(NAMES[0])).write_bytes(b"else")
    (place.root / os.fsdecode(NAMES[1])).write_bytes(b"same!")
    assert place.all_of(place.write()) == NAMES[2]
    assert place.files() == {NAMES[0]: b"else", NAMES[1]: b"same!", NAMES[2]: b"id\n1\n"}


def test_where_every_name_is_taken_the_file_stays(place):
    (place.root / "shop/in").mkdir(parents=True)
    for name in NAMES:
        (place.root / os.fsdecode(name)).write_bytes(b"else")
    file = place.write()
    with pytest.raises(CleanupError, match="taken"):
        place.archive.bring(file, NAMES)
    assert place.files() == dict.fromkeys(NAMES, b"else") | {b"in/a.csv": b"id\n1\n"}
    assert place.archive.is_back(file)


def test_bytes_that_the_archive_has_already_are_not_stored_twice(place):
    place.all_of(place.write())
    before = (place.root / os.fsdecode(NAMES[0])).stat().st_ino
    assert place.all_of(place.write()) == NAMES[0]
    assert place.files() == {NAMES[0]: b"id\n1\n"}
    assert (place.root / os.fsdecode(NAMES[0])).stat().st_ino == before


def test_a_full_disk_loses_nothing_and_says_so(elsewhere, mount):
    content = os.urandom(200_000)
    file = elsewhere.write(content)
    with pytest.raises(CleanupError, match=r"200,000 bytes.*No space left") as caught:
        elsewhere.archive.bring(file, NAMES)
    assert "free some space" in str(caught.value)
    assert elsewhere.files() == {b"in/a.csv": content}
    assert landing.signature(os.fsencode(elsewhere.path)) == file.signature
    mount.remount(elsewhere.root, "size=1m")
    elsewhere.all_of(file)
    assert elsewhere.files() == {NAMES[0]: content}


def test_a_read_only_archive_loses_nothing_and_says_so(elsewhere, mount):
    file = elsewhere.write()
    mount.remount(elsewhere.root, "ro")
    with pytest.raises(CleanupError, match="Read-only") as caught:
        elsewhere.archive.bring(file, NAMES)
    assert "mount it for writing" in str(caught.value)
    assert landing.signature(os.fsencode(elsewhere.path)) == file.signature
    mount.remount(elsewhere.root, "rw")
    elsewhere.all_of(file)
    assert elsewhere.files() == {NAMES[0]: b"id\n1\n"}


def test_a_read_only_landing_directory_is_noticed_before_anything_is_copied(tmp_path, mount):
    place = Place(tmp_path)
    file = place.write()
    mount("--bind", place.landing, place.landing)
    mount.remount(place.landing, "bind,ro")
    with pytest.raises(CleanupError, match=r"take files out of .* Read-only"):
        place.archive.bring(file, NAMES)
    assert place.files() == {b"in/a.csv": b"id\n1\n"}
    with pytest.raises(CleanupError, match="Read-only"):
        place.archive.hide(file)
    assert landing.signature(os.fsencode(place.path)) == file.signature


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO])
def test_a_folder_that_lets_nothing_go_keeps_the_file_where_it_is(here, monkeypatch, number):
    """What root is never told: here the system says it by order."""
    file, rename = here.write(), os.rename

    def refuse(source, to):
        if module.HIDDEN_PREFIX in os.fsencode(to):
            raise OSError(number, os.strerror(number))
        rename(source, to)

    monkeypatch.setattr(module.os, "rename", refuse)
    with pytest.raises(CleanupError, match="take files out of"):
        here.archive.bring(file, NAMES)
    assert here.files() == {b"in/a.csv": b"id\n1\n"}
    assert here.archive.is_back(file)


def test_where_renaming_is_refused_and_links_are_too_it_goes_by_copying(here, monkeypatch):
    """Files of other users: fs.protected_hardlinks; a file system without links."""
    rename = os.rename

    def refuse(source, to, **_):
        if module.HIDDEN_PREFIX in source:
            raise PermissionError(errno.EPERM, "not permitted")
        rename(source, to)

    monkeypatch.setattr(module.os, "rename", refuse)
    monkeypatch.setattr(module.os, "link", refuse)
    assert here.all_of(here.write()) == NAMES[0]
    assert here.files() == {NAMES[0]: b"id\n1\n"}
    copied = (here.root / os.fsdecode(NAMES[0])).stat()
    assert stat.S_IMODE(copied.st_mode) & 0o007 == 0
