"""Between a complete file and the reader: what a file is prepared to be, or why it is refused."""

import gzip
import json
import os
from pathlib import Path

import pytest
import zstandard

from landingd.edge import landing
from landingd.flow.filebooks import ToLoad
from landingd.flow.preparing import NoRoomForCopyError, Preparer
from landingd.model import Facts, FileAction, FileLoad, FileRef, Ingest, SourceFile

SPECTRUM = Path(__file__).parents[3] / "shared" / "data" / "csv_spectrum"
PACK = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


class Desk:
    """A landing directory and a preparer; every file is new and complete."""

    def __init__(self, folder):
        self.root, self.archive, self.scratch = folder / "landing", folder / "archive", folder / "scratch"
        for each in (self.root, self.archive, self.scratch):
            each.mkdir()
        self.preparer = Preparer(self.root, self.archive, self.scratch)
        self._ids = iter(range(1, 1000))

    def file(self, content, name="a.csv", format_="csv", **more):
        (self.root / name).write_bytes(content)
        seen = landing.fingerprint(os.fsencode(self.root / name), formats=frozenset({format_}))
        return FileRef(next(self._ids), os.fsencode(name), seen.content_hash, seen.signature, seen.facts, **more)

    def prepare(self, content, of_table=(), **ingest):
        how = Ingest(**ingest)
        ref = content if isinstance(content, FileRef) else self.file(content, format_=how.format)
        return self.preparer.prepare([ToLoad(ref, ())], how, of_table, table="bronze.t")[0]

    def good(self, content, of_table=(), **ingest):
        source = self.prepare(content, of_table, **ingest)
        assert isinstance(source, SourceFile), source
        return source

    def refused(self, content, of_table=(), **ingest):
        load = self.prepare(content, of_table, **ingest)
        assert isinstance(load, FileLoad), load
        assert load.quarantined
        return load.quarantined

    def copies(self):
        return sorted((self.scratch / "converted").glob("*"))


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


# --- plain CSV --------------------------------------------------------------------------------------------


def test_a_plain_file_is_read_where_it_lies(desk):
    ref = desk.file(b"id;brand\n1;acme\n2;zeta\n", "a.csv")
    source = desk.preparer.prepare([ToLoad(ref, (7,))], Ingest(), (), table="bronze.t")[0]
    assert source == SourceFile(
        file_id=ref.file_id,
        path=os.fsencode(desk.root / "a.csv"),
        name="a.csv",
        content_hash=ref.content_hash,
        columns=("id", "brand"),
        delimiter=";",
        compression="none",
        signature=ref.signature,
        rows_in=2,
        replaces=(7,),
    )
    assert desk.copies() == []


def test_a_replay_says_so_and_finds_the_file_in_the_archive(desk):
    ref = desk.file(b"id\n1\n", "a.csv", archive_path=b"2026/a.csv", action=FileAction.RELOAD)
    (desk.archive / "2026").mkdir()
    (desk.root / "a.csv").rename(desk.archive / "2026" / "a.csv")
    source = desk.good(ref)
    assert source.path == os.fsencode(desk.archive / "2026" / "a.csv")
    assert source.reload
    assert not desk.preparer.checks.changed(source)


def test_a_version_that_was_written_over_or_removed_is_gone_and_not_bad(desk):
    ref = desk.file(b"id\n1\n", "a.csv")
    (desk.root / "a.csv").write_bytes(b"id\n1\n2\n")
    load = desk.prepare(ref)
    assert (load.quarantined, load.gone) == (None, "its content changed before it could be loaded")
    (desk.root / "a.csv").unlink()
    load = desk.prepare(ref)
    assert (load.quarantined, load.gone) == (None, "it went away before it could be loaded")


def test_a_file_that_was_touched_is_the_same_version(desk):
    ref = desk.file(b"id\n1\n", "a.csv")
    os.utime(desk.root / "a.csv", (1, 1))
    source = desk.good(ref)
    assert source.signature == landing.signature(source.path) != ref.signature


def test_a_file_known_from_before_facts_were_kept_is_looked_at_again(desk):
    ref = desk.file("id;stadt\n1;Köln\n".encode("latin-1"), "a.csv")
    old = FileRef(ref.file_id, ref.path, ref.content_hash, ref.signature, Facts(records=2))
    assert desk.good(old).readable is not None


@pytest.mark.parametrize("name", ["comma_in_quotes", "empty", "escaped_quotes", "json", "newlines", "utf8"])
def test_the_classic_traps_of_csv_are_prepared_with_the_right_count(desk, name):
    if not SPECTRUM.is_dir():
        pytest.skip(f"{SPECTRUM} is not here")
    says = json.loads((SPECTRUM / f"{name}.json").read_text())
    source = desk.good((SPECTRUM / f"{name}.csv").read_bytes())
    assert (source.rows_in, set(source.columns)) == (len(says), set(says[0]))
    assert desk.preparer.checks.recount(source) == len(says)


# --- names ------------------------------------------------------------------------------------------------


def test_columns_get_the_names_that_the_table_has(desk):
    source = desk.good(b"Datum,betrag,id\n2026-01-01,2,3\n", ("day", "id"), rename={"datum": "day"})
    assert source.columns == ("day", "betrag", "id")


def test_an_old_and_a_new_name_in_one_file_are_one_too_many(desk):
    reason = desk.refused(b"datum,day\n1,2\n", rename={"datum": "day"})
    assert reason == "the header names both 'datum' and 'day', and 'datum' is to be renamed to 'day'"


@pytest.mark.parametrize("name", ["_file_id", "_ROW", "_rescued_data"])
def test_names_that_landingd_adds_are_not_for_files(desk, name):
    assert desk.refused(f"a,{name}\n1,2\n".encode()) == f"the header uses the name '{name}', which landingd adds itself"


def test_without_a_header_the_schema_names_the_columns(desk):
    schema = {"id": "BIGINT", "brand": "VARCHAR"}
    source = desk.good(b"1;acme\n2;zeta", header=False, schema_hints=schema, schema_is_whole=True)
    assert (source.columns, source.delimiter, source.rows_in) == (("id", "brand"), ";", 2)
    assert desk.preparer.checks.recount(source) == 2
    reason = desk.refused(b"1;acme;x\n", header=False, schema_hints=schema, schema_is_whole=True)
    assert reason == "the first line has 3 fields, and the schema names 2 columns"


def test_other_quotes_are_counted_by_their_own_rules(desk):
    content = b"id,note\n1,'two\nlines'\n2,5\" pipe\n"
    source = desk.good(content, read_options={"quote": "'"})
    assert (source.columns, source.rows_in) == (("id", "note"), 2)
    assert desk.preparer.checks.recount(source) == 2
    content = b'id,note\n1,"say \\"a,\nb\\""\n'
    source = desk.good(content, read_options={"escape": "\\"})
    assert (source.rows_in, desk.preparer.checks.recount(source)) == (1, 1)


# --- copies -----------------------------------------------------------------------------------------------

# ruff: noqa: RUF001 -- signs that only Windows-1252 has
TEXT = "id;straße;preis\n1;Königsallee 5;3 €\n2;Fußweg – „Ost“;4 €\n"


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be", "utf-16-le", "cp1252"])
def test_what_is_not_utf8_is_read_from_a_copy_that_is(desk, codec, compression):
    source = desk.good(PACK[compression](TEXT.encode(codec)))
    assert Path(os.fsdecode(source.readable)).read_text("utf-8") == TEXT
    assert (source.columns, source.rows_in, source.compression) == (("id", "straße", "preis"), 2, "none")
    assert desk.preparer.checks.recount(source) == 2
    desk.preparer.discard([source])
    assert desk.copies() == []


def test_utf8_with_a_mark_and_packed_utf8_need_no_copy(desk):
    assert desk.good(TEXT.encode("utf-8-sig")).columns == ("id", "straße", "preis")
    assert desk.good(gzip.compress(TEXT.encode())).compression == "gzip"
    assert desk.copies() == []


def test_two_tasks_that_take_one_file_have_a_copy_each(desk):
    ref = desk.file(TEXT.encode("cp1252"))
    one, other = desk.good(ref), desk.good(ref)
    desk.preparer.discard([one])
    assert [os.fsencode(copy) for copy in desk.copies()] == [other.readable]


def test_a_refused_file_leaves_no_copy(desk):
    assert "torn" in desk.refused("id;größe\n1;2\n3".encode("cp1252"))
    assert desk.copies() == []


def test_what_the_job_declares_goes_before_what_the_bytes_look_like(desk):
    both = "name\nÃ¤rger\n".encode("latin-1")
    assert desk.good(both).readable is None  # it is UTF-8 too
    source = desk.good(both, encoding="latin-1")
    assert Path(os.fsdecode(source.readable)).read_text("utf-8") == "name\nÃ¤rger\n"


@pytest.mark.parametrize(
    ("content", "encoding", "reason"),
    [
        (b"a,b\n1,caf\xe9\n", "utf-8", "declared as utf-8, but its bytes are not: they read as latin-1"),
        (b"a,b\n1,2\n", "utf-16", "declared as utf-16, but it has neither the byte order mark nor the zeros of UTF-16"),
        ("a,b\n1,2\n".encode("utf-16"), "latin-1", "declared as latin-1, but it is UTF-16"),
        (b"a,b\n1,2\n3,\x81\n", "windows-1252", "it should be windows-1252, but byte 0x81 in line 3 stands for no"),
    ],
)
def test_a_declaration_that_cannot_be_true_is_a_reason(desk, content, encoding, reason):
    assert desk.refused(content, encoding=encoding).startswith(reason)


@pytest.mark.parametrize("full", ["the folder", "the disk"])
def test_a_copy_that_cannot_be_written_is_no_fault_of_the_file(desk, full):
    if full == "the folder":
        (desk.scratch / "converted").write_bytes(b"")
    else:
        (desk.scratch / "converted").mkdir()
        (desk.scratch / "converted" / "1.0").symlink_to("/dev/full")
    with pytest.raises(NoRoomForCopyError, match=r"cannot copy to .*1\.0: "):
        desk.prepare(TEXT.encode("cp1252"))


def test_of_a_batch_that_found_no_room_nothing_is_left(desk):
    (desk.scratch / "converted").mkdir()
    (desk.scratch / "converted" / "2.1").symlink_to("/dev/full")
    refs = [desk.file(TEXT.encode("cp1252"), f"{n}.csv") for n in range(3)]
    with pytest.raises(NoRoomForCopyError):
        desk.preparer.prepare([ToLoad(ref, ()) for ref in refs], Ingest(), (), table="bronze.t")
    assert desk.copies() == []


def test_who_is_done_with_a_file_takes_nothing_from_who_is_not(desk):
    ref = desk.file(b'id,note\n1,5" pipe\n')
    one, other = desk.good(ref), desk.good(ref)
    assert one == other
    desk.preparer.discard([one])
    assert desk.preparer.checks.recount(other) == 1


# --- JSON and Parquet -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize(
    ("text", "is_array", "rows"),
    [
        ('{"a": "x\\n\\"y"}\n\n{"a": 2}\n', False, 2),
        ('{"a": 1}\r\n{"a": "ö"}', False, 2),
        ('[{"a": "],["}, {"a": [1, 2]}]\n', True, 2),
        ("[]", True, 0),
    ],
)
def test_json_is_lines_or_an_array_by_its_first_character(desk, text, is_array, rows, compression):
    source = desk.good(PACK[compression](text.encode()), format="json")
    assert (source.is_array, source.rows_in, source.columns) == (is_array, rows, ())
    assert desk.preparer.checks.recount(source) == rows


def test_json_in_another_encoding_or_with_a_mark_is_read_from_a_copy(desk):
    for codec in ("utf-8-sig", "utf-16", "cp1252"):
        source = desk.good('[{"stadt": "Köln"}]'.encode(codec), format="json")
        assert Path(os.fsdecode(source.readable)).read_bytes() == '[{"stadt": "Köln"}]'.encode()
        assert (source.is_array, source.rows_in) == (True, 1)


def test_json_that_was_hashed_for_csv_is_counted_right_when_asked_again(desk):
    ref = desk.file(b'{"a": "5\\" pipe"}\n{"a": 2}\n', format_="csv")
    source = desk.good(ref, format="json")
    assert desk.preparer.checks.recount(source) == 2


@pytest.mark.parametrize("compression", PACK)
def test_parquet_is_counted_by_its_reader_and_unpacked_for_it(desk, compression):
    content = b"PAR1" + bytes(100) + (50).to_bytes(4, "little") + b"PAR1"
    source = desk.good(PACK[compression](content), format="parquet")
    assert (source.rows_in, source.compression) == (None, "none")
    assert Path(os.fsdecode(source.readable or source.path)).read_bytes() == content
    assert (source.readable is None) == (compression == "none")
