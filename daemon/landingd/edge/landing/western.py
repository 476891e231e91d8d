# ruff: noqa: RUF001 -- letters and signs that look alike are what this is about
"""Tell Western European text from other text of one byte a character, where UTF-8 is out of the question.

Any bytes can be decoded as Windows-1252, so that it can be says nothing. What tells is whether the letters come out
where Western languages have them: an accented letter stands among plain ones, not in a row of accented letters only
(that is Cyrillic or Greek), no sign cuts a word in two (that is a Mac or DOS file), and no letter in the middle of a
small word is a capital. Czech passes all of that as Windows-1252, with wrong letters: so other readings compete by how
much of the text is made of the letters of one language. A text too short for certainty is taken as Western.
"""

import re
from collections.abc import Collection

_LANGUAGES = {
    "windows-1252": (
        "äöüß",  # German
        "àâçéèêëîïôœùûüæ",  # French
        "áéíñóúü",  # Spanish
        "áâãàçéêíóôõúü",  # Portuguese
        "àèéìíîòóùúáç",  # Italian, Catalan
        "åäöæøéüà",  # Danish, Norwegian, Swedish, Finnish
        "áéíóúýþæöð",  # Icelandic
        "éëïöüèêóáäçûú",  # Dutch
        "äöõüšž",  # Estonian
    ),
    "windows-1250": (
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "ąćęłńóśźż",  # Polish
        "áéíóöőúüű",  # Hungarian
        "čćđšž",  # Croatian, Slovenian
        "ăâîşţșț",  # Romanian
    ),
    "windows-1254": ("çğıöşüâîİ",),
    "windows-1257": ("ąčęėįšųūž", "āčēģīķļņšūž"),
    # The letters that make up most of a text: wrong readings give rare ones.
    "Cyrillic": ("оеаинтсрвлкмдпуяыьгзбчй",),
    "Greek": ("αοιετσνηυρπκμλωάέήίόύώδγθ",),
}
_READINGS = {
    # Those that share their letters come with them, the likelier one first.
    "windows-1250": ("cp1250", "windows-1250"),
    "ISO-8859-2 (Latin-2)": ("iso8859_2", "windows-1250"),
    "windows-1254 (Turkish)": ("cp1254", "windows-1254"),
    "windows-1257 (Baltic)": ("cp1257", "windows-1257"),
    "Mac Roman": ("mac_roman", "windows-1252"),
    "DOS code page 850": ("cp850", "windows-1252"),
    "windows-1251 (Cyrillic)": ("cp1251", "Cyrillic"),
    "KOI8-R (Cyrillic)": ("koi8_r", "Cyrillic"),
    "DOS code page 866 (Cyrillic)": ("cp866", "Cyrillic"),
    "ISO-8859-5 (Cyrillic)": ("iso8859_5", "Cyrillic"),
    "windows-1253 (Greek)": ("cp1253", "Greek"),
}
_LATIN = tuple(name for name, (_, letters_of) in _READINGS.items() if letters_of not in {"Cyrillic", "Greek"})
"""Whose letters, misread as Windows-1252, stand where Western letters could."""

_IN_PLACE_MIN = 0.8
_RIVAL_LETTERS_MIN = 3
"""Letters that are others than in Windows-1252; twice as many where it is always the same one."""
_RIVAL_SHARE_MIN = {"Cyrillic": 0.85, "Greek": 0.85}
_RIVAL_SHARE_MIN_ELSE = 0.97
_RIVAL_LEAD_MIN = 0.05
_ALONE = frozenset("àáâéèêëîíïóòôöøåäæœùúüÀÁÂÉÈÓÒÖØÅÄÆÜÚ")
"""Letters that are a word, an initial or a unit by themselves."""
_GERMANIC = frozenset("äöüßåæøÄÖÜÅÆØ")
"""What people try an encoding with stands in a row; as Cyrillic these are letters that make no words."""
_WITHIN_WORDS = frozenset("’´·\xad—ªº°")
"""Signs that may stand between two letters."""


def is_western(sample: bytes) -> bool:
    """Whether these lines, which are not UTF-8, read as Western European text."""
    return _in_place_share(_as_windows_1252(sample)) >= _IN_PLACE_MIN and rival(sample, _LATIN) is None


def rival(sample: bytes, among: Collection[str] = ()) -> str | None:
    """The encoding that makes words of one language of nearly all of it, where Windows-1252 does not."""
    as_windows_1252 = _as_windows_1252(sample)
    as_western = _language_share(as_windows_1252, "windows-1252")
    best, best_share = None, as_western + _RIVAL_LEAD_MIN
    for name in among or _READINGS:
        codec, letters_of = _READINGS[name]
        reading = sample.decode(codec, "replace")
        if not _differs_enough(reading, as_windows_1252):
            continue
        share = _language_share(reading, letters_of)
        is_enough = share >= _RIVAL_SHARE_MIN.get(letters_of, _RIVAL_SHARE_MIN_ELSE)
        if is_enough and share > best_share:
            best, best_share = name, share
    return best


def _differs_enough(reading: str, western: str) -> bool:
    """Whether it is another text at all: of letters that both readings share nothing can be learnt."""
    other = [ours for ours, theirs in zip(reading, western, strict=True) if ours != theirs and _is_letter(ours)]
    return len(other) >= _RIVAL_LETTERS_MIN and (len(set(other)) > 1 or len(other) >= 2 * _RIVAL_LETTERS_MIN)


def _as_windows_1252(sample: bytes) -> str:
    return sample.decode("cp1252", "replace")


def _in_place_share(text: str) -> float:
    """Of the characters above ASCII, the share that stands where Western writing could have it."""
    right = wrong = 0
    for found in _ABOVE_ASCII.finditer(text):
        before, run, after = text[found.start() - 1 : found.start()], found[0], text[found.end() : found.end() + 1]
        misplaced = _misplaced(before, run, after)
        wrong += misplaced
        right += len(run) - misplaced
    return right / (right + wrong) if right + wrong else 1.0


_ABOVE_ASCII = re.compile(r"[^\x00-\x7f]+")


def _misplaced(before: str, run: str, after: str) -> int:
    """How many characters of a run above ASCII cannot stand there."""
    letters = sum(map(_is_letter, run))
    if _GERMANIC.issuperset(run):
        return 0
    if letters == len(run) and not before.isalpha() and not after.isalpha():
        return 0 if len(run) == 1 and run in _ALONE else len(run)
    is_among_letters = before.isalpha() and after.isalpha()
    if len(run) > 3 or (letters > 2 and not is_among_letters):
        return len(run)
    whole = before + run + after
    offset = len(before)
    return sum(_is_misplaced(whole, offset + place) for place in range(len(run)))


def _is_misplaced(text: str, place: int) -> bool:
    character, before, after = text[place], text[:place][-1:], text[place + 1 :][:1]
    if character == "\ufffd":
        return True
    if character == "–":
        return before.islower() and after.islower()
    if not _is_letter(character):
        return before.isalpha() and after.isalpha() and character not in _WITHIN_WORDS
    # A capital within a word of small letters.
    return character.isupper() and before.islower()


def _is_letter(character: str) -> bool:
    return character.isalpha() and character not in "ªºƒ"


def _language_share(text: str, letters_of: str) -> float:
    """How much of the text above ASCII is made of the letters of the one language that fits best."""
    letters = [c for c in text if c > "\x7f" and _is_letter(c)]
    # A sign within a word is no letter of any language; elsewhere it is punctuation, which they share.
    strange = len(_SIGN_IN_WORD.findall(text)) + text.count("\ufffd") + len(_CAPITAL_IN_WORD.findall(text))
    if not letters:
        return 0.0 if strange else 1.0
    best = max(sum(c in language or c.lower() in language for c in letters) for language in _LANGUAGES[letters_of])
    return max(0.0, best - strange) / (len(letters) + strange)


_SIGN_IN_WORD = re.compile(r"(?<=[^\W\d_])(?:[^\w\x00-\x7f’´·\xad–—°]|ƒ)(?=[^\W\d_])|(?<=[a-z])–(?=[a-z])")
_CAPITAL_IN_WORD = re.compile(r"(?<=[a-zß-öø-ÿ])[À-ÖØ-ÞŒŠŽŸ]")
