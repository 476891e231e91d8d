"""Files as they go wrong in practice, twelve of each kind, and what becomes of each: line by line.

Every file goes the whole way: hashed, prepared, loaded by the real engine into a table of its own. What is written here
is the promise: how many rows are loaded and how many rejected, or a piece of the reason for which none is.
"""
# ruff: noqa: RUF001 -- a table is read by lines; encodings are about letters that look alike

import bz2
import gzip
import io
import lzma
import os
import tempfile
import zipfile
from itertools import count
from pathlib import Path

import duckdb
import pytest

from landingd.edge import landing
from landingd.edge.engine import EngineOptions, open_engine
from landingd.flow.filebooks import ToLoad
from landingd.flow.preparing import Preparer
from landingd.model import AttemptKey, Committed, FileLoad, FileRef, Ingest, IngestPlan, SourceFile

GOOD = b"id,brand,price\n1,acme,2.50\n2,zeta,3.75\n"
ROWS = b"".join(b"%d,brand %d,%d.25\n" % (n, n, n) for n in range(40))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def office(name):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, "<x/>" * 50)
    return packed.getvalue()


def parquet():
    """A small Parquet file of 100 rows."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        duckdb.sql(f"COPY (SELECT range AS id, 'x' || range AS s FROM range(100)) TO '{file.name}' (FORMAT parquet)")
        return Path(file.name).read_bytes()


PARQUET_FILE = parquet()


class Works:
    """A landing directory, a preparer and a warehouse."""

    def __init__(self, folder):
        self.landing, self.scratch = folder / "landing", folder / "scratch"
        self.landing.mkdir()
        self.engine = open_engine(EngineOptions(folder / "w.duckdb", self.scratch, self.landing, threads=2))
        self.preparer = Preparer(self.landing, None, self.scratch)
        self._numbers = count(1)

    async def load(self, content, ingest, table):
        """What came of this content as the next file for the table: its FileLoad, `cut` and `damage` included."""
        number = next(self._numbers)
        name = b"%d.csv" % number
        (self.landing / os.fsdecode(name)).write_bytes(content)
        seen = landing.fingerprint(os.fsencode(self.landing) + b"/" + name, formats=frozenset({ingest.format}))
        if seen.damage or seen.cut:
            return FileLoad(number, quarantined=seen.damage or seen.cut)
        ref = FileRef(number, name, seen.content_hash, seen.signature, seen.facts)
        prepared = self.preparer.prepare([ToLoad(ref, ())], ingest, self.engine.columns_of(table), table=table)
        files = tuple(p for p in prepared if isinstance(p, SourceFile))
        unusable = tuple(p for p in prepared if isinstance(p, FileLoad))
        plan = IngestPlan(AttemptKey(1, "bronze", number), "shop", table, ingest, files, unusable)
        outcome = await self.engine.execute(plan, checks=self.preparer.checks)
        self.preparer.discard(files)
        assert isinstance(outcome, Committed), outcome
        return outcome.stats.files[0]


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    works = Works(tmp_path_factory.mktemp("works"))
    yield works
    works.engine.close()


def loaded(rows, rejected=0):
    return (rows, rejected, None)


def refused(reason):
    return (0, 0, reason)


TORN = {
    "a row that lost its last field": (b"a,b,c\n1,2,3\n4,5", refused("torn: its last line, line 3, has 2 of 3 fields")),
    "a row that lost all but a digit": (b"a,b,c\n1,2,3\n4", refused("line 3, has 1 of 3 fields and no line end")),
    "a quote that was cut off": (b'a,b\n1,"x"\n2,"half', refused("torn: the quotes that open in the record at line 3")),
    "a quoted text of two lines, cut in the second": (b'a,b\n1,"x\ny"\n2,"p\nq', refused("at line 4 are never closed")),
    "the last line whole, without its end": (b"a,b\n1,2\n3,4", loaded(2)),
    "the last field empty, without a line end": (b"a,b\n1,2\n3,", loaded(2)),
    "a single column without a line end": (b"a\n1\n2", loaded(2)),
    "a header alone": (b"a,b\n", loaded(0)),
    "a header alone, without its end": (b"a,b", loaded(0)),
    "an inch in the last field, without a line end": (b'a,b\n1,2\n3,5"', loaded(2)),
    "a quoted text of two lines at the end": (b'a,b,c\n1,2,3\n4,5,"x\ny"', loaded(2)),
    "nothing at all": (b"", refused("the file is empty")),
}
DELIMITER = {
    "semicolons": (b"a;b\n1;2\n", loaded(1)),
    "carets, undeclared": (b"a^b\n1^2\n3^4\n", refused("wrong delimiter: no usual delimiter parts its lines, but '^'")),
    "tildes, undeclared": (b"a~b\n1~2\n", refused("but '~' parts every one into 2 fields. Declare it")),
    "colons, undeclared": (b"a:b:c\n1:2:3\n", refused("but ':' parts every one into 3 fields")),
    "carets, declared": (b"a^b\n1^2\n3^4\n", loaded(2), {"delimiter": "^"}),
    "semicolons declared, commas there": (
        b"a,b\n1,2\n",
        refused("the delimiter ';', as declared, parts"),
        {"delimiter": ";"},
    ),
    "commas declared, tabs there": (b"a\tb\n1\t2\n", refused("but a tab parts every one"), {"delimiter": ","}),
    "a header by commas, rows by semicolons": (
        b"a,b\n1;2\n3;4\n",
        refused("header is parted by ',' and the rows are parted by ';'"),
    ),
    "one text column with commas in it": (b"note\nhello, world\nbye\n", loaded(2), {"delimiter": ";"}),
    "one column": (b"id\n1\n2\n", loaded(2)),
    "one short row among many": (b"id,brand,price\n" + ROWS + b"41,short\n", loaded(40, 1)),
    "one long row among many": (b"id,brand,price\n" + ROWS + b"41,x,1.5,more\n", loaded(40, 1)),
}
NOT_CSV = {
    "a login page": (
        b"<!DOCTYPE html>\n<html><head><title>Please log in</title></head>\n</html>",
        refused("not CSV: it is an HTML page titled 'Please log in'"),
    ),
    "a page with blanks and a comment first": (b"\n <!-- x -->\n<HTML>\n</HTML>", refused("it is an HTML page")),
    "a table saved as a spreadsheet": (b"<table><tr><td>1</td></tr></table>", refused("it is an HTML page")),
    "XML": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>\n', refused("not CSV: it is XML")),
    "a Git-LFS pointer": (LFS, refused("it is a Git-LFS pointer: the file itself was not fetched (git lfs pull)")),
    "an Excel workbook": (office("xl/workbook.xml"), refused("it is an Excel workbook (.xlsx): save it as CSV")),
    "a Word document": (office("word/document.xml"), refused("it is a Word document (.docx)")),
    "an old Excel file": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        refused("it is an old Excel or Word document"),
    ),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\n1 0 obj\n", refused("it is a PDF document")),
    "an RTF": (rb"{\rtf1\ansi a,b\par 1,2}", refused("it is an RTF document")),
    "a page in UTF-16": ("<html><body>x</body></html>".encode("utf-16"), refused("it is an HTML page")),
    "columns in angle brackets": (b"<DATE>,<OPEN>\n20260101,1.5\n", loaded(1)),
}
MANGLED = {
    "a long id": (
        b"id,n\n4.4E+18,1\n",
        refused("column 'id' holds 4.4E+18 in line 2: a spreadsheet has rounded a long number"),
    ),
    "far down": (b"id,n\n" + b"44123456789012,1\n" * 500 + b"4.41235E+13,1\n", refused("4.41235E+13 in line 502")),
    "with a decimal comma": (b"id;n\n4,40012E+17;1\n", refused("holds 4,40012E+17")),
    "in quotes": (b'id,n\n"4.4E+18",1\n', refused("column 'id' holds 4.4E+18")),
    "a barcode without a fraction": (b"n,ean\n1,4E+12\n", refused("column 'ean' holds 4E+12 in line 2")),
    "negative": (b"n,id\n1,-4.4E+18\n", refused("holds -4.4E+18")),
    "behind a text of two lines": (b'a,id\n"x\ny",4.4E+18\n', refused("in line 2")),
    "packed": (gzip.compress(b"id,n\n4.4E+18,1\n"), refused("column 'id' holds 4.4E+18")),
    "declared as DOUBLE": (b"id,n\n4.4E+18,1\n", loaded(1), {"schema_hints": {"ID": "DOUBLE"}}),
    "a measurement": (b"id,n\n1.5E+02,1\n2.25E-07,2\n", loaded(2)),
    "all digits kept": (b"id,n\n4.412345678901E+18,1\n", loaded(1)),
    "a part number": (b"id,n\nX4.4E+18,1\n4.4E+18Y,2\n", loaded(2)),
}
STADT = "id;straße;preis\n1;Königsallee 5;3 €\n2;Fußweg – „Ost“;4 €\n"
ENCODINGS = {
    "UTF-8 with a mark": (STADT.encode("utf-8-sig"), loaded(2)),
    "UTF-16 with a mark": (STADT.encode("utf-16"), loaded(2)),
    "UTF-16 without one": (STADT.encode("utf-16-be"), loaded(2)),
    "Windows-1252": (STADT.encode("cp1252"), loaded(2)),
    "Latin-1, one letter": (b"id,name\n1,M\xfcller\n", loaded(1)),
    "half of it pasted from elsewhere": (
        b"id,name\n1,M\xc3\xbcller\n2,K\xf6hler\n",
        refused("a mixture of encodings: UTF-8 in line 2, not UTF-8 in line 3"),
    ),
    "UTF-32": (STADT.encode("utf-32"), refused("it is in UTF-32-LE, which is not read")),
    "Cyrillic": ("имя,город\nИван,Москва\nПётр,Казань\n".encode("koi8-r"), refused("it looks like KOI8-R")),
    "Japanese": (
        "名前,都市\n東京,これはテストです。日本語の文章\n".encode("shift_jis"),
        refused("it looks like Shift-JIS"),
    ),
    "Czech": (
        "jméno,město\nJiří,Příbram\nŽofie,Třebíč\nkůň,česnek\n".encode("cp1250"),
        refused("it looks like windows-1250"),
    ),
    "from a Mac": ("id,name\n1,Müller\n2,Größer\n3,Schäfer\n".encode("mac_roman"), refused("it looks like Mac Roman")),
    "a hole of zeros": (
        b"a,b\n" + b"1,2\n" * 20_000 + bytes(100) + b"\n3,4\n",
        refused("not a text file: there are NUL bytes in line 20002"),
    ),
}
HEADER = {
    "numbers for a header": (b"1,2.5\n3,4\n", refused("no header: the first line looks like data (1, 2.5)")),
    "dates for a header": (b"2026-01-01,5\n2026-01-02,6\n", refused("no header: the first line looks like data")),
    "a row for a header, for a table that is known": (
        b"7,acme,2.50\n8,zeta,1.50\n",
        refused("no header: the first line looks like data (7, acme, 2.50), and bronze."),
        {},
        GOOD,
    ),
    "every column renamed": (
        b"nr,marke,preis\n1,acme,2.5\n",
        refused("none of its columns is known to bronze."),
        {},
        GOOD,
    ),
    "every column renamed, and declared": (
        b"nr,marke,preis\n1,acme,2.5\n",
        loaded(1),
        {"rename": {"nr": "id", "marke": "brand", "preis": "price"}},
        GOOD,
    ),
    "two columns swapped": (b"brand,id,price\nacme,3,2.5\n", loaded(1), {}, GOOD),
    "another delimiter than before": (b"id;brand;price\n3;acme;2.5\n", loaded(1), {}, GOOD),
    "a name twice": (b"id,id\n1,2\n", refused("the header names column 'id' twice")),
    "a name missing": (b"id,,n\n1,2,3\n", refused("the header has no name for column 2")),
    "one of our names": (b"id,_row\n1,2\n", refused("the header uses the name '_row', which landingd adds itself")),
    "blank lines before it": (b"\n\nid,n\n1,2\n", loaded(1)),
    "the old name and the new one": (
        b"nr,id\n1,2\n",
        refused("the header names both 'nr' and 'id'"),
        {"rename": {"nr": "id"}},
    ),
}
QUOTES = {
    "delimiters in quotes": (b'a,b\n"1,5",x\n', loaded(1)),
    "lines in quotes": (b'a,b\n1,"x\n\ny"\n2,z\n', loaded(2)),
    "quotes in quotes": (b'a,b\n1,"say ""hi"""\n', loaded(1)),
    "an inch": (b'a,b\n1,5" pipe\n2,x\n3,7" pipe\n', loaded(3)),
    "an inch, once": (b'a,b\n1,5" pipe\n2,x\n', loaded(2)),
    "opened in the middle, never closed": (
        b'a,b\n1,x\n2,"oops\n3,y\n4,z\n',
        refused("torn: the quotes that open in the record at line 3 are never closed"),
    ),
    "text behind a closing quote": (
        b"a,b\n" + b"1,x\n" * 40 + b'2,"x"y\n',
        loaded(40, 1),
        {"schema_hints": {"a": "BIGINT", "b": "VARCHAR"}},
    ),
    "only quotes": (b'a,b\n"",""\n', loaded(1)),
    "quotes with blanks around": (b'a,b\n1, "x"\n', loaded(1)),
    "single quotes, declared": (b"a,b\n1,'x,y'\n2,'p\nq'\n", loaded(2), {"read_options": {"quote": "'"}}),
    "escaped by a backslash, declared": (b'a,b\n1,"x \\" y"\n', loaded(1), {"read_options": {"escape": "\\"}}),
    "a header of two lines": (b'"a\nx",b\n1,2\n', loaded(1)),
}
JSON = {
    "an object a line": (b'{"a": 1}\n{"a": 2}\n', loaded(2)),
    "an array": (b'[{"a": "x]"}, {"a": "\\"["}]', loaded(2)),
    "an array with a mark before it": (b'\xef\xbb\xbf[{"a": 1}]', loaded(1)),
    "an empty array": (b"[]", loaded(0)),
    "an array without its bracket": (
        b'[{"a": 1}, {"a": 2}',
        refused("the JSON array is cut: 1 brackets are still open"),
    ),
    "an array cut within a text": (b'[{"a": "hal', refused("the JSON array is cut: it ends within a string")),
    "a line cut in the middle": (
        b'{"a": 1}\n{"a": 2',
        refused("torn: its last line is no whole JSON object, and has no line end"),
    ),
    "one object over several lines": (
        b'{\n "a": 1\n}\n',
        refused("one object over several lines: write an object a line"),
    ),
    "an array of numbers": (b"[1, 2, 3]", refused("the JSON array does not hold objects")),
    "lines that are no objects": (b'"a"\n"b"\n', refused("not JSON: it begins with neither { nor [")),
    "a page that says why not": (
        b"<html><title>502 Bad Gateway</title></html>",
        refused("not JSON: it is an HTML page titled '502 Bad Gateway'"),
    ),
    "CSV": (GOOD, refused("not JSON: it begins with neither { nor [")),
}
PARQUET = {
    "as it should be": (PARQUET_FILE, loaded(100)),
    "packed once more": (gzip.compress(PARQUET_FILE), loaded(100)),
    "without its last byte": (PARQUET_FILE[:-1], refused("the Parquet file has no end: its footer is missing")),
    "without its last half": (PARQUET_FILE[:700], refused("the Parquet file has no end: its footer is missing")),
    "its mark alone": (b"PAR1", refused("the Parquet file has no end: its footer is missing")),
    "both marks and nothing between": (b"PAR1PAR1", refused("not Parquet: it is text")),
    "a footer longer than the file": (
        b"PAR1" + bytes(8) + b"\xff\xff\x00\x00PAR1",
        refused("the Parquet file has no whole footer"),
    ),
    "a footer of no length": (b"PAR1" + bytes(12) + b"PAR1", refused("the Parquet file has no whole footer")),
    "packed once more, cut before it was packed": (
        gzip.compress(PARQUET_FILE[:-1]),
        refused("the Parquet file has no end"),
    ),
    "packed once more, then cut": (gzip.compress(PARQUET_FILE)[:-9], refused("the gzip stream ends early")),
    "encrypted": (b"PARE" + PARQUET_FILE[4:-4] + b"PARE", refused("it is a Parquet file with an encrypted footer")),
    "CSV": (GOOD, refused("not Parquet: it is text")),
}
CROSSED = {
    "Parquet for a CSV task": (PARQUET_FILE, refused("not CSV: it is a Parquet file (`format: parquet` reads it)")),
    "JSON lines for a CSV task": (b'{"a": 1, "b": 2}\n', refused("not CSV: it is JSON (`format: json` reads it)")),
    "a JSON array for a CSV task": (b'[{"a": 1, "b": 2}]\n', refused("not CSV: it is JSON")),
    "an SQL dump for a CSV task": (
        b"-- dump\nINSERT INTO t VALUES (1, 2);\n",
        refused("not CSV: it is a file of SQL statements"),
    ),
    "a ZIP archive": (office("data.csv")[:20] + b"data.csv", refused("it is a ZIP archive: unpack it")),
    "a gzip stream that is cut": (gzip.compress(ROWS)[:-9], refused("the gzip stream ends early")),
    "a gzip stream with a flipped bit": (
        gzip.compress(ROWS)[:60] + b"\xff" + gzip.compress(ROWS)[61:],
        refused("gzip stream is damaged"),
    ),
    "bzip2": (bz2.compress(ROWS), refused("it is compressed with bzip2: gzip and zstd are read")),
    "xz": (lzma.compress(ROWS), refused("it is compressed with xz: gzip and zstd are read")),
    "an SQLite database": (b"SQLite format 3\0" + bytes(100), refused("it is an SQLite database")),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), refused("it is a PNG image")),
    "bytes of no kind": (bytes(range(256)) * 4, refused("not a text file: it holds NUL bytes")),
}
KINDS = {
    "torn": TORN,
    "delimiter": DELIMITER,
    "not csv": NOT_CSV,
    "mangled": MANGLED,
    "encoding": ENCODINGS,
    "header": HEADER,
    "quotes": QUOTES,
    "json": {name: (*case, {"format": "json"}) for name, case in JSON.items()},
    "parquet": {name: (*case, {"format": "parquet"}) for name, case in PARQUET.items()},
    "crossed": CROSSED,
}


def outcome(load):
    return (load.rows_loaded, load.rows_rejected) if load.loaded else load.quarantined


TABLES = count(1)


async def through(works, content, expected, ingest=None, before=None):
    """Load `content` into a table of its own (which took `before` first), and compare."""
    table, how = f"bronze.t{next(TABLES)}", Ingest(**(ingest or {}))
    if before is not None:
        assert (await works.load(before, how if how.format != "csv" else Ingest(), table)).loaded
    load = await works.load(content, how, table)
    rows, rejected, reason = expected
    if reason is None:
        assert outcome(load) == (rows, rejected)
    else:
        assert reason in (load.quarantined or f"loaded: {load}")


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, cases in KINDS.items() for name in cases])
async def test_a_file_that_goes_wrong_is_told_for_what_it_is(works, kind, name):
    await through(works, *KINDS[kind][name])


def test_there_are_twelve_of_each_kind():
    assert {len(cases) for cases in KINDS.values()} == {12}
