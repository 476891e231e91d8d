"""The landing directory as a real file system shows it."""
# ruff: noqa: PTH102, PTH105, PTH116, PTH123, PTH211 -- the paths under test are bytes, and pathlib takes none

import contextlib
import csv
import errno
import fcntl
import gzip
import hashlib
import io
import mmap
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from landingd.edge import landing
from landingd.edge.landing import (
    ChangedWhileReadingError,
    NotAFile,
    count_records,
    fingerprint,
    lease,
    scan,
    signature,
)
from landingd.edge.landing import content as content_module
from landingd.edge.landing import records as records_module
from landingd.model import Lease, Signature


@pytest.fixture(autouse=True)
def _lease_signal_ignored():
    before = signal.getsignal(signal.SIGIO)
    landing.ignore_lease_signal()
    yield
    signal.signal(signal.SIGIO, before)


def written(path: Path, content: bytes = b"a,b\n1,2\n") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return os.fsencode(path)


# --- one look ---------------------------------------------------------------------------------------------


def test_a_signature_is_what_stat_says(tmp_path):
    path = written(tmp_path / "a.csv")
    status = os.stat(path)
    assert signature(path) == Signature(
        size=8,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        device=status.st_dev,
    )


def test_a_signature_changes_when_a_file_is_replaced_by_one_of_the_same_size_and_age(tmp_path):
    path, other = written(tmp_path / "a.csv"), written(tmp_path / "b.csv")
    before = signature(path)
    os.utime(other, ns=(before.mtime_ns, before.mtime_ns))
    os.replace(other, path)
    assert signature(path) != before


def test_what_is_no_regular_file_is_named(tmp_path):
    root = os.fsencode(tmp_path)
    written(tmp_path / "a.csv")
    os.symlink("a.csv", root + b"/link")
    os.mkdir(root + b"/dir")
    os.mkfifo(root + b"/pipe")
    seen = {name: signature(root + b"/" + name) for name in (b"link", b"dir", b"pipe", b"none", b"a.csv/x")}
    assert seen == {
        b"link": NotAFile.SYMLINK,
        b"dir": NotAFile.DIRECTORY,
        b"pipe": NotAFile.SPECIAL,
        b"none": None,
        b"a.csv/x": None,
    }
    assert str(NotAFile.SYMLINK) == "symbolic link"


# --- leases -----------------------------------------------------------------------------------------------


def test_a_file_is_held_exactly_while_someone_may_write_to_it(tmp_path):
    path = written(tmp_path / "a.csv")
    assert lease(path) is Lease.FREE
    with open(path, "ab"):
        assert lease(path) is Lease.HELD
    with open(path, "rb"):
        assert lease(path) is Lease.FREE


def test_another_process_that_writes_is_seen(tmp_path):
    path = written(tmp_path / "a.csv")
    writer = "import sys; f = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", writer, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"open\n"
        assert lease(path) is Lease.HELD
        process.communicate()
    assert lease(path) is Lease.FREE


def test_a_writable_mapping_holds_a_file_after_its_descriptor_is_closed(tmp_path):
    path = written(tmp_path / "a.csv")
    with open(path, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    with mapped:
        assert lease(path) is Lease.HELD
    assert lease(path) is Lease.FREE


def test_a_lease_is_given_back_at_once(tmp_path):
    path = written(tmp_path / "a.csv")
    lease(path)
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # EAGAIN, were the lease still there


BREAKS_A_LEASE = textwrap.dedent("""
    import fcntl, os, signal, sys
    from landingd.edge.landing import ignore_lease_signal
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # a parent's SIG_IGN is inherited
    if sys.argv[2] == "ignored":
        ignore_lease_signal()
    reader = os.open(sys.argv[1], os.O_RDONLY)
    fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    try:
        os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
    except BlockingIOError:
        sys.exit(0)
""")


@pytest.mark.parametrize(("signal_is", "exit_code"), [("ignored", 0), ("default", -signal.SIGIO)])
def test_a_writer_that_meets_the_lease_kills_whoever_does_not_ignore_the_signal(tmp_path, signal_is, exit_code):
    path = written(tmp_path / "a.csv")
    environment = os.environ | {"PYTHONPATH": str(Path(landing.__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", BREAKS_A_LEASE, path, signal_is],
        check=False,
        env=environment,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (exit_code, b"")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_refused_lease_says_nothing_about_writers(tmp_path, monkeypatch, code):
    def refused(*_):
        raise OSError(code, os.strerror(code))

    path = written(tmp_path / "a.csv")
    monkeypatch.setattr(fcntl, "fcntl", refused)
    assert lease(path) is Lease.UNKNOWN


def test_what_cannot_be_opened_says_nothing_about_writers(tmp_path):
    os.symlink(written(tmp_path / "a.csv"), os.fsencode(tmp_path / "link"))
    assert lease(os.fsencode(tmp_path / "link")) is Lease.UNKNOWN
    assert lease(os.fsencode(tmp_path / "none")) is Lease.UNKNOWN


def test_on_layers_a_lease_is_believed_of_a_writer_that_was_heard(tmp_path, monkeypatch):
    path = written(tmp_path / "a.csv")
    monkeypatch.setattr("landingd.edge.landing.mounts._kinds", {os.stat(path).st_dev: "overlay"})
    assert lease(path, heard=True) is Lease.FREE
    assert lease(path, heard=False) is Lease.UNKNOWN
    with open(path, "ab"):
        assert lease(path, heard=True) is lease(path, heard=False) is Lease.HELD


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "virtiofs", "fuse.sshfs", "fuseblk"])
def test_a_lease_is_not_believed_where_others_can_write_unseen(tmp_path, monkeypatch, kind):
    path = written(tmp_path / "a.csv")
    monkeypatch.setattr("landingd.edge.landing.mounts._kinds", {os.stat(path).st_dev: kind})
    assert lease(path) is Lease.UNKNOWN


# --- scans ------------------------------------------------------------------------------------------------


def scanned(directory: Path, *, recursive: bool = True) -> tuple[set[bytes], list[bytes]]:
    unreadable: list[bytes] = []
    found = dict(scan(directory, recursive=recursive, unreadable=unreadable))
    assert all(signature(os.fsencode(directory) + b"/" + path) == seen for path, seen in found.items())
    return set(found), unreadable


def test_a_scan_finds_every_file_whatever_its_name(tmp_path):
    names = {b"a.csv", b"caf\xe9.csv", b"two\nlines.csv", b"2019/10/b.csv", b".hidden/c.csv", b"2019/d.csv"}
    for name in names:
        written(tmp_path / os.fsdecode(name))
    assert scanned(tmp_path) == (names, [])
    assert scanned(tmp_path, recursive=False) == ({name for name in names if b"/" not in name}, [])


def test_a_scan_follows_no_links_and_takes_no_pipes(tmp_path):
    written(tmp_path / "outside" / "a.csv")
    (tmp_path / "in").mkdir()
    os.symlink(tmp_path / "outside", tmp_path / "in" / "dir")
    os.symlink(tmp_path / "outside" / "a.csv", tmp_path / "in" / "file")
    os.mkfifo(tmp_path / "in" / "pipe")
    with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(tmp_path / "in"):
        sock.bind("socket")
        assert scanned(tmp_path / "in") == (set(), [])


def test_a_directory_that_vanishes_during_a_scan_is_no_error(tmp_path):
    written(tmp_path / "a.csv")
    (tmp_path / "sub").mkdir()
    unreadable: list[bytes] = []
    found = scan(tmp_path, recursive=True, unreadable=unreadable)
    assert next(found)[0] == b"a.csv"
    (tmp_path / "sub").rmdir()
    assert list(found) == []
    assert unreadable == []


def test_a_root_that_is_missing_is_unreadable_and_not_empty(tmp_path):
    assert scanned(tmp_path / "none") == (set(), [b""])


def test_a_directory_that_cannot_be_read_is_reported_and_the_others_are_scanned(tmp_path, monkeypatch):
    written(tmp_path / "shut" / "a.csv")
    written(tmp_path / "open" / "b.csv")

    def scandir(path, real=os.scandir):
        if path.endswith(b"shut"):  # root may read everything, so permissions prove nothing here
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert scanned(tmp_path) == ({b"open/b.csv"}, [b"shut"])


# --- fingerprints -----------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_bytes_on_disk_and_says_when(tmp_path):
    content = b"a,b\n" + b"1,2\n" * 200_000
    path = written(tmp_path / "a.csv", content)
    taken = fingerprint(path)
    assert taken.content_hash == hashlib.sha256(content).hexdigest()
    assert taken.signature == signature(path)
    assert taken.head == content[: 64 << 10]
    assert (taken.compression, taken.damage, taken.records) == ("none", None, 200_001)


def test_an_empty_file_has_a_fingerprint(tmp_path):
    taken = fingerprint(written(tmp_path / "a.csv", b""))
    assert (taken.head, taken.compression, taken.damage, taken.records) == (b"", "none", None, 0)


def test_a_file_that_changes_while_it_is_read_has_no_fingerprint(tmp_path, monkeypatch):
    path = written(tmp_path / "a.csv")

    def read(fd, size, offset, real=os.pread):
        monkeypatch.undo()
        with open(path, "ab") as file:
            file.write(b"3,4\n")
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", read)
    with pytest.raises(ChangedWhileReadingError, match=r"a\.csv: changed while it was read"):
        fingerprint(path)


def test_a_large_file_is_told_the_same_by_two_threads_as_by_one(tmp_path, monkeypatch):
    path = written(tmp_path / "a.csv", b"a,b\n" + b"1,2\n" * 3_000_000)
    by_two = fingerprint(path)
    monkeypatch.setattr(content_module, "LARGE_BYTES", 1 << 40)
    assert by_two == fingerprint(path)


def test_a_file_whose_path_now_is_a_pipe_has_no_fingerprint(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ChangedWhileReadingError, match="is now a device, pipe or socket"):
        fingerprint(os.fsencode(tmp_path / "pipe"))


def test_bytes_that_are_no_text_have_no_records(tmp_path):
    assert fingerprint(written(tmp_path / "a.parquet", b"PAR1\x00\x01\n\n")).records is None


ROWS = b"".join(b"%d,%d\n" % (number, hash((number, number))) for number in range(20_000))
HALF = ROWS.index(b"\n", len(ROWS) // 2) + 1
PACK = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor(write_checksum=True).compress}


@pytest.mark.parametrize("compression", PACK)
def test_compression_is_seen_in_the_bytes_and_not_in_the_name(tmp_path, compression):
    path = written(tmp_path / "a.csv", PACK[compression](ROWS))
    taken = fingerprint(path)
    assert (taken.compression, taken.damage, taken.records) == (compression, None, 20_000)
    assert taken.head == ROWS[: 64 << 10]
    assert count_records(path, compression, ",") == 20_000


@pytest.mark.parametrize("compression", PACK)
def test_compressed_parts_in_a_row_are_one_file(tmp_path, compression):
    pack = PACK[compression]
    path = written(tmp_path / "a.csv", pack(ROWS[:HALF]) + pack(b"") + pack(ROWS[HALF:]))
    taken = fingerprint(path)
    assert (taken.damage, taken.records) == (None, 20_000)
    assert count_records(path, compression, ",") == 20_000


def test_zeros_after_a_gzip_member_are_padding(tmp_path):
    assert fingerprint(written(tmp_path / "a.gz", gzip.compress(ROWS) + bytes(10_000))).damage is None


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("kept", [5, 0.3, -1])
def test_a_compressed_file_that_is_cut_off_may_still_get_its_end(tmp_path, compression, kept):
    packed = PACK[compression](ROWS)
    cut = packed[: int(len(packed) * kept) if isinstance(kept, float) else kept]
    taken = fingerprint(written(tmp_path / "a.csv.gz", cut))
    assert (taken.damage, taken.cut, taken.records) == (None, f"the {compression} stream ends early", None)


@pytest.mark.parametrize("compression", PACK)
def test_a_second_part_that_is_cut_off_is_missing_its_end(tmp_path, compression):
    pack = PACK[compression]
    taken = fingerprint(written(tmp_path / "a", pack(ROWS) + pack(ROWS)[:-1]))
    assert (taken.damage, taken.cut) == (None, f"the {compression} stream ends early")


@pytest.mark.parametrize("compression", PACK)
def test_a_flipped_bit_in_a_compressed_file_is_damage(tmp_path, compression):
    packed = bytearray(PACK[compression](ROWS))
    packed[len(packed) // 2] ^= 1
    taken = fingerprint(written(tmp_path / "a.csv.gz", bytes(packed)))
    assert taken.damage.startswith(f"{compression} stream is damaged: ")
    assert taken.cut is None  # it can never be read: nothing to wait for
    assert taken.content_hash == hashlib.sha256(packed).hexdigest()


def test_what_follows_a_gzip_stream_is_damage(tmp_path):
    damage = fingerprint(written(tmp_path / "a.gz", gzip.compress(ROWS) + b"more")).damage
    assert damage.startswith("gzip stream is damaged")


# --- counting ---------------------------------------------------------------------------------------------


def counted(content: bytes, cuts: list[int] | None = None) -> int:
    records, start = records_module.Records(), 0
    for cut in [*sorted(cuts or []), len(content)]:
        records.feed(content[start:cut])
        start = max(start, cut)
    return records.total()


def by_csv_reader(content: bytes) -> int:
    return sum(1 for row in csv.reader(io.StringIO(content.decode(), newline="")) if row)


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"", 0),
        (b"a", 1),
        (b"a\n", 1),
        (b"a\nb", 2),
        (b"\n\n\na\n\n\n\nb\n\n", 2),
        (b"a\r\n\r\nb\r\n", 2),
        (b"a\rb\r\rc", 3),
        (b"a\rb\n", 1),
        (b'"a\nb",c\n', 1),
        (b'a,"x\n\ny"\n\nb,"z"\n', 2),
        (b'""\n""\n', 2),
        (b'"a""\n""b"\nc', 2),
        (b'"open\n\n', 1),
        (b'"a\rb"\rc\r', 2),
    ],
)
def test_records_are_lines_that_are_not_blank_outside_of_quotes(content, records):
    assert counted(content) == records


tables = st.lists(st.lists(st.text(st.sampled_from('ab,"\n é'), max_size=5), min_size=1, max_size=4), max_size=8)


@given(
    tables,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.lists(st.integers(0, 200), max_size=6),
    st.lists(st.integers(0, 8), max_size=3),
)
@example([["a"], ["\n\n"], ["b"]], "\n", csv.QUOTE_ALL, [3, 4, 5, 6, 7], [1])
def test_what_a_csv_writer_writes_is_counted_as_a_csv_reader_does_however_it_is_cut(
    table, newline, quoting, cuts, blanks
):
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=newline, quoting=quoting)
    for number, row in enumerate(table):
        text.write(newline * blanks.count(number))
        writer.writerow(row)
    content = text.getvalue().encode()
    assert counted(content, cuts) == by_csv_reader(content)


@given(st.text(st.sampled_from("ab\n\r"), max_size=20), st.lists(st.integers(0, 20), max_size=4))
def test_where_chunks_end_makes_no_difference(text, cuts):
    content = text.encode()
    assert counted(content, cuts) == counted(content)


def test_a_chunk_border_in_a_file_may_fall_anywhere(tmp_path, monkeypatch):
    content = b"id,note\r\n" + b'1,"two\r\n\r\nlines"\r\n\r\n2,plain\r\n' * 5
    path = written(tmp_path / "a.csv", content)
    for size in range(1, 40):
        monkeypatch.setattr(content_module, "CHUNK_BYTES", size)
        assert fingerprint(path).records == 11


def test_the_exact_count_knows_a_stray_quote_from_an_opening_one(tmp_path):
    path = written(tmp_path / "a.csv", b'size;note\n5" pipe;x\n6;y\n\n7;"a\nb"\n')
    assert count_records(path, "none", ";") == 4
    assert fingerprint(path).records != 4  # which is why there is an exact count


def test_the_exact_count_takes_any_bytes_and_any_length(tmp_path):
    path = written(tmp_path / "a.csv", b'\xef\xbb\xbf"id\n",b\n\xff\xfe,' + b"x" * 300_000 + b"\n")
    assert count_records(path, "none", ",") == 2
