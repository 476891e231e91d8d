"""Which encoding a file is in: what is read, and what is refused by which name."""
# ruff: noqa: RUF001 -- letters that look alike are what this is about

import gzip
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.edge.landing import Encoding, Foreign, NotInEncodingError, by_its_bytes, by_its_head, convert, encodings
from landingd.edge.landing.western import is_western

WESTERN = """
id,name,ort,bemerkung
1,Müller,Köln,Straße gesperrt; Öffnung ab 8 Uhr
1,Jäger,Görlitz,„Größe“ – fünf Stück à 3 €
2,François,Orléans,L’été à Noël: où êtes-vous, garçon ?
2,Lefèvre,Besançon,cœur et œuvre, 20 °C, n° 5, naïve
3,Muñoz,A Coruña,¿Dónde está el señor? ¡Aquí! 1ª planta
3,Núñez,Málaga,pingüino, corazón, año 2026
4,João,São Paulo,não há ligação; coração, 2º andar, às três
4,Conceição,Évora,«Informações» só amanhã
5,Ørsted,Århus,på øen; blåbær og rødgrød
5,Åsa,Malmö,får får får? Ja, på Öland
6,Sjöström,Jyväskylä,yötä päivää, äiti
7,Niccolò,Forlì,perché è così? più città
8,Þórður,Reykjavík,það er gaman; ær og kýr
9,Núria,Vallès,col·lecció, això és bo
10,Seán,Dún Laoghaire,tá sé fuar
11,Zoë,België,ideeën, één café
12,Tõnu,Pärnu,jõgi ja öö
13,x,y,5½ m² · 10 µm ± 2 §3 ©
""".strip()

OTHERS = {
    "windows-1250": ("cp1250", "jméno,město\nJiří,Příbram\nŽofie,Třebíč\nPříliš žluťoučký kůň\n"),
    "ISO-8859-2 (Latin-2)": ("iso8859_2", "jméno,město\nJiří,Příbram\nŽofie,Třebíč\nPříliš žluťoučký kůň\n"),
    "windows-1254 (Turkish)": ("cp1254", "isim,şehir\nAyşe,İstanbul\nÇağla,Muğla, ağaç ve ışık\n"),
    "windows-1251 (Cyrillic)": ("cp1251", "имя,город\nМосква,Привет мир это текст на русском языке\n"),
    "KOI8-R (Cyrillic)": ("koi8_r", "имя,город\nМосква,Привет мир это текст на русском языке\n"),
    "DOS code page 866 (Cyrillic)": ("cp866", "имя,город\nМосква,Привет мир это текст на русском языке\n"),
    "ISO-8859-5 (Cyrillic)": ("iso8859_5", "имя,город\nМосква,Привет мир это текст на русском языке\n"),
    "windows-1253 (Greek)": ("cp1253", "όνομα,πόλη\nΑθήνα,αυτό είναι ένα κείμενο\n"),
    "Mac Roman": ("mac_roman", "name,ort\nMüller,Köln\nSchäfer,Größe\nWeiß,fünf\n"),
    "DOS code page 850": ("cp850", "name,ort\nMüller,Köln\nSchäfer,Größe\nWeiß,fünf\n"),
    "Shift-JIS": ("shift_jis", "名前,都市\n東京,これはテストです。日本語の文章\n"),
    "EUC-JP": ("euc_jp", "名前,都市\n東京,これはテストです。日本語の文章\n"),
    "GB18030 (Chinese)": ("gb18030", "名称,城市\n北京,这是一个测试文本 中文\n"),
    "Big5 (Chinese)": ("big5", "名稱,城市\n臺北,這是一個測試文本 中文\n"),
    "EUC-KR (Korean)": ("euc_kr", "이름,도시\n서울,이것은 한국어 텍스트입니다\n"),
    "EBCDIC": ("cp500", "ID,NAME,PRICE\x851,ACME,2.50\x852,ZETA,3.75\x85"),
}


@pytest.fixture
def told(tmp_path):
    def told(content, compression="none"):
        (tmp_path / "f").write_bytes(content)
        return by_its_bytes(os.fsencode(tmp_path / "f"), compression)

    return told


# --- Western ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", WESTERN.splitlines()[1:])
def test_every_single_line_of_western_text_is_read(told, line):
    assert told(line.encode("cp1252")).codec in {"latin-1", "cp1252"}


@pytest.mark.parametrize("word", [w for w in WESTERN.replace(",", " ").split() if not w.isascii() and len(w) > 1])
def test_one_word_with_one_umlaut_is_enough_for_a_file(told, word):
    assert isinstance(told(b"a,b\n1," + word.encode("cp1252") + b"\n"), Encoding)


def test_languages_may_be_mixed_in_any_proportion(told):
    lines = WESTERN.splitlines()[1:]
    for seed in range(300):
        some = random.Random(seed).choices(lines, k=1 + seed % 12)  # noqa: S311 -- so that it is the same each time
        assert is_western("\n".join(some).encode("cp1252")), some


def test_signs_between_0x80_and_0x9f_tell_windows_from_latin(told):
    assert told(b"a\nK\xf6ln\n") == Encoding("latin-1", "latin-1")
    assert told(b"a\nK\xf6ln 5 \x80\n") == Encoding("windows-1252", "cp1252")


def test_what_people_try_an_encoding_with_is_read(told):
    for text in ("äöüß", "ÄÖÜ", "åäö", "æøå", "é", "5 €", "°C", "²"):
        assert isinstance(told(b"a\n" + text.encode("cp1252") + b"\n"), Encoding), text


# --- others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("times", [1, 200])
def test_others_are_refused_by_name(told, name, times):
    codec, text = OTHERS[name]
    answer = told((text * times).encode(codec))
    assert isinstance(answer, Foreign)
    assert f"it looks like {name}. Write it as UTF-8" in answer.reason


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "EBCDIC"])
def test_a_few_such_lines_far_down_are_seen(told, name):
    codec, text = OTHERS[name]
    answer = told(b"id,name\n" + b"1,plain\n" * 200_000 + text.encode(codec))
    assert isinstance(answer, Foreign)
    assert "line 20000" in answer.reason


# --- mixtures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [line for line in WESTERN.splitlines() if not line.isascii()])
def test_utf8_among_western_lines_is_a_mixture_and_both_lines_are_told(told, line):
    answer = told(b"a\nb\nM\xc3\xbcller\n" + line.encode("cp1252") + b"\n")
    assert answer == Foreign("a mixture of encodings: UTF-8 in line 3, not UTF-8 in line 4")


def test_a_mixture_within_each_line_is_one_too(told):
    answer = told(b"name;note\n" + b"M\xc3\xbcller;Stra\xdfe\n" * 3)
    assert answer == Foreign("a mixture of encodings: UTF-8 in line 2, not UTF-8 in line 2")


@pytest.mark.parametrize("text", ["»Fuß« weiß", "„MENÜ“ für", "»DIÄ« für", "CAFÉ– für", "É… été"])
def test_western_text_that_happens_to_be_utf8_in_places_is_no_mixture(told, text):
    assert isinstance(told(b"a\n" + text.encode("cp1252") + b"\nStra\xdfe\n"), Encoding)


def test_pure_utf8_is_utf8_wherever_blocks_end(told, monkeypatch):
    monkeypatch.setattr(encodings, "_BLOCK_BYTES", 7)
    monkeypatch.setattr(encodings, "_LINE_BYTES_MAX", 64)
    assert told("größe,цена,価格\n1,2,3\n".encode() * 20) == Encoding("utf-8", "utf-8")


# --- heads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"a,b\n", None),
        (b"", None),
        ("a,b\n".encode("utf-8-sig"), Encoding("utf-8", "utf-8")),
        ("a,b\n".encode("utf-16"), Encoding("utf-16", "utf-16-le")),
        (b"\xfe\xff" + "a,b\n".encode("utf-16-be"), Encoding("utf-16", "utf-16-be")),
        ("id,名前\n1,東京\n".encode("utf-16-le"), Encoding("utf-16", "utf-16-le")),
        ("id,имя\n1,Иван\n".encode("utf-16-be"), Encoding("utf-16", "utf-16-be")),
        ("a,b\n".encode("utf-32"), Foreign("it is in UTF-32-LE, which is not read: write it as UTF-8")),
        ("a,b\n".encode("utf-32-be"), Foreign("it is in UTF-32-BE, which is not read: write it as UTF-8")),
        (b"a,b\n1,\0\0\0\0\0\0\n", Foreign("not a text file: it holds NUL bytes")),
    ],
)
def test_the_head_tells_what_is_wider_than_a_byte(head, answer):
    assert by_its_head(head) == answer


# --- copies -----------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=60), st.booleans())
def test_a_copy_says_what_the_file_says(tmp_path_factory, text, packed):
    folder = tmp_path_factory.mktemp("copy")
    for codec in ("utf-16-le", "utf-16-be", "utf-8"):
        content = ("\ufeff" + text).encode(codec)
        (folder / "f").write_bytes(gzip.compress(content) if packed else content)
        convert(os.fsencode(folder / "f"), "gzip" if packed else "none", codec, os.fsencode(folder / "c"))
        assert (folder / "c").read_bytes() == text.encode()


def test_a_large_file_is_copied_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "_BLOCK_BYTES", 1001)  # every other block ends within a character
    text = "größe,цена\n" * 5000
    (tmp_path / "f").write_bytes(text.encode("utf-16"))
    convert(os.fsencode(tmp_path / "f"), "none", "utf-16-le", os.fsencode(tmp_path / "c"))
    assert (tmp_path / "c").read_text() == text


@pytest.mark.parametrize(
    ("content", "codec", "reason"),
    [
        ("a\nb\n".encode("utf-16-le") + b"c", "utf-16-le", "its last character, in line 3, is cut in two"),
        (b"a\nb\n1,\x81,2\n", "cp1252", "byte 0x81 in line 3 stands for no character there"),
        (b"a\n\xfcber\n", "utf-8", "byte 0xfc in line 2 stands for no character there"),
    ],
)
def test_what_cannot_be_decoded_is_told_by_its_line(tmp_path, content, codec, reason):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(NotInEncodingError, match=f"^{reason}$"):
        convert(os.fsencode(tmp_path / "f"), "none", codec, os.fsencode(tmp_path / "c"))
