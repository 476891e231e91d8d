"""A manifest says what a producer delivers, in whatever form; one that is not whole says nothing."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.manifest import Beside, Listed, Manifest, Unreadable, judge, parse
from landingd.core.settle import ON_AN_EVENT, Wait, Word
from landingd.model import Signature

MD5, SHA1, SHA256, SHA512 = (hashlib.new(name, b"1").hexdigest() for name in ("md5", "sha1", "sha256", "sha512"))
NAMES = st.text(st.characters(exclude_characters="/\n\r\\\0", codec="utf-8"), min_size=1).filter(str.strip)


def listed(content):
    """The one entry for each name."""
    found = parse(content)
    assert isinstance(found, Manifest), found
    return {name: entries[0] for name, entries in found.files.items() if len(entries) == 1}


# --- its forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{SHA256}  a.csv\n{SHA256} *b c.csv\n", {b"a.csv": ("sha256", SHA256), b"b c.csv": ("sha256", SHA256)}),
        (f"{MD5}  a.csv", {b"a.csv": ("md5", MD5)}),
        (f"{SHA1}\ta.csv\r\n\r\n", {b"a.csv": ("sha1", SHA1)}),
        (f"# of today\n{SHA512.upper()}  ./out/a.csv\n", {b"a.csv": ("sha512", SHA512)}),
        (f"\\{MD5}  two\\nlines\\\\.csv\n", {b"two\nlines\\.csv": ("md5", MD5)}),
        (f"SHA256 (a (1).csv) = {SHA256}\n", {b"a (1).csv": ("sha256", SHA256)}),
    ],
)
def test_checksum_lines_are_read_as_the_tools_write_them(content, expected):
    assert listed(content.encode()) == {name: Listed(None, *sum_) for name, sum_ in expected.items()}


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "a.csv", "size": 12, "sha256": SHA256}],
        {"files": [{"file": "a.csv", "bytes": "12", "checksum": SHA256}], "generated": "today"},
        {"entries": [{"url": "s3://bucket/out/a.csv", "length": 12, "checksum": f"sha256:{SHA256}"}]},
        {"path": "out/a.csv", "Size": 12, "SHA256": SHA256.upper()},
    ],
)
def test_json_is_read_in_its_usual_shapes(value):
    assert listed(json.dumps(value).encode()) == {b"a.csv": Listed(12, "sha256", SHA256)}


@pytest.mark.parametrize(
    "content",
    [
        b"name,size,md5\r\na.csv,12,%s\r\n",
        b"\xef\xbb\xbffile\tbytes\tmd5\n# today\na.csv\t12\t%s\n",
        b'"Name";"Size";"rows";"checksum"\n"a.csv";12;9;md5:%s\n',
    ],
)
def test_a_table_is_read_by_its_header(content):
    assert listed(content % MD5.encode()) == {b"a.csv": Listed(12, "md5", MD5)}


def test_a_table_may_leave_fields_empty():
    assert listed(b"name,size,sha256\na.csv,,\nb.csv,7,\n") == {b"a.csv": Listed(), b"b.csv": Listed(7)}


@pytest.mark.parametrize("content", [b"a.csv\nb c.csv\n", b"# today\r\na.csv\r\n\r\n b c.csv", b'["a.csv", "b c.csv"]'])
def test_bare_names_are_a_manifest_too(content):
    assert listed(content) == {b"a.csv": Listed(), b"b c.csv": Listed()}


def test_a_name_need_not_be_text():
    assert listed(b"%s  caf\xe9.csv\n" % MD5.encode()) == {b"caf\xe9.csv": Listed(None, "md5", MD5)}


@given(st.dictionaries(NAMES, st.tuples(st.integers(0, 10**15), st.binary()), min_size=1))
def test_what_is_written_is_what_is_read(files):
    value = [{"name": n, "size": s, "sha256": hashlib.sha256(c).hexdigest()} for n, (s, c) in files.items()]
    found = parse(json.dumps({"files": value}).encode())
    assert isinstance(found, Manifest)
    read = [one for entries in found.files.values() for one in entries]
    assert sorted(one.size for one in read) == sorted(size for size, _ in files.values())


# --- what is none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"# nothing", "cannot be read: there is nothing but comments in it"),
        (f"{MD5}  a.csv\n{MD5[:-1]}  b.csv".encode(), "cannot be read: line 2 is no checksum with a name"),
        (b"name,size\na.csv,1\nb.csv", "cannot be read: line 3 has 1 fields, the header has 2"),
        (b"name,size\na.csv,many", "cannot be read: line 2 gives 'many' as a size"),
        (b"name,size\n,5", "cannot be read: line 2 names no file"),
        (b'[{"name": "a.csv", "size": true}]', "cannot be read: entry 1 gives 'True' as a size"),
        (b'[{"name": "a.csv", "sha256": "abc"}]', "cannot be read: entry 1 gives 'abc' as a sha256"),
        (b'[{"size": 1}]', "cannot be read: entry 1 names no file"),
        (b'{"files": 7}', "cannot be read: it holds no list of files"),
        (b"[7]", "cannot be read: entry 1 is neither a name nor an object"),
        (b'["/"]', "cannot be read: it lists '/', which is no name of a file"),
    ],
)
def test_a_manifest_that_is_wrong_somewhere_says_what_and_where(content, why):
    assert parse(content) == Unreadable(why)


def test_a_manifest_cut_anywhere_lists_nothing_that_the_whole_one_does_not():
    whole = json.dumps({"files": [{"name": f"{n}.csv", "size": n, "md5": MD5} for n in range(3)]}).encode()
    assert all(isinstance(parse(whole[:length]), Unreadable) for length in range(len(whole)))


@given(st.binary())
def test_any_bytes_get_an_answer(content):
    assert isinstance(parse(content), Manifest | Unreadable)


# --- what it says of a file -------------------------------------------------------------------------------


def stat(size=800, *, at_ns=5):
    return Signature(size, at_ns, at_ns, 1, 1)


def beside(content, name="m.json", at_ns=5):
    return Beside(name, stat(at_ns=at_ns), parse(content))


def test_a_file_that_no_manifest_lists_waits():
    assert judge(b"a.csv", stat(), []) == Wait("no manifest lists it", ON_AN_EVENT)
    assert judge(b"a.csv", stat(), [beside(b"b.csv")]) == Wait("no manifest lists it", ON_AN_EVENT)


def test_a_file_of_another_size_waits_and_says_so():
    wait = judge(b"a.csv", stat(800), [beside(b"name,size\na.csv,1234")])
    assert wait == Wait("the manifest says 1,234 bytes, there are 800", ON_AN_EVENT)


def test_a_file_waits_for_a_manifest_that_cannot_be_read():
    wait = judge(b"a.csv", stat(), [beside(b"b.csv"), beside(b"[")])
    assert isinstance(wait, Wait)
    assert wait.reason.startswith("manifest m.json cannot be read: ")


def test_a_manifest_that_cannot_be_read_is_no_matter_where_another_one_fits():
    assert judge(b"a.csv", stat(), [beside(b"["), beside(b"name,size\na.csv,800")]) == Word(
        "listed in m.json with its size"
    )


def test_size_and_checksum_are_the_producers_word_whenever_it_was_written():
    content = f'[{{"name": "a.csv", "size": 800, "md5": "{MD5}"}}]'.encode()
    word = judge(b"a.csv", stat(), [beside(content, at_ns=1)])
    assert word == Word("listed in m.json with its size and md5", algorithm="md5", checksum=MD5)


def test_a_bare_name_speaks_of_what_was_there_when_it_was_written():
    assert judge(b"a.csv", stat(at_ns=5), [beside(b"a.csv", at_ns=5)]) == Word("listed in m.json")
    assert judge(b"a.csv", stat(at_ns=5), [beside(b"a.csv", at_ns=4)]) == Word("listed in m.json", is_final=False)


def test_of_several_manifests_the_newest_that_fits_counts():
    old, new = beside(b"name,size\na.csv,800", "old", 1), beside(b"name,size\na.csv,900", "new", 2)
    assert judge(b"a.csv", stat(900), [old, new]) == Word("listed in new with its size")
    assert judge(b"a.csv", stat(800), [old, new]) == Word("listed in old with its size")
    assert judge(b"a.csv", stat(850), [old, new]) == Wait("the manifest says 900 bytes, there are 850", ON_AN_EVENT)


def test_two_paths_with_one_name_leave_two_ways_to_fit():
    both = beside(b"name,size\neast/a.csv,1\nwest/a.csv,2")
    assert all(isinstance(judge(b"a.csv", stat(size), [both]), Word) for size in (1, 2))
    assert isinstance(judge(b"a.csv", stat(3), [both]), Wait)
