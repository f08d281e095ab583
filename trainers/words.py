"""Texts as words, for comparison: a number is the same however it is written (34, thirty-four, vierunddreißig)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

NUMBER = "#"
"""Stands for every number in a masked text."""
_TOKEN = re.compile(
    r"\d+(?:[.,]\d+)*|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\d_]+(?:['’][^\W\d_]+)*|[+*/=<>%×÷−-]"
)
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ONES = {word: value for value, word in enumerate(f"{_ONES} eighteen nineteen".split())}
TENS = {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_EINER = (
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn"
)
_ZEHNER = "zwanzig dreissig vierzig fünfzig sechzig siebzig achtzig neunzig"  # ß is ss once its case is folded
EINER = {word: value for value, word in enumerate(f"{_EINER} achtzehn neunzehn".split())} | {"eins": 1}
ZEHNER = {word: 10 * value for value, word in enumerate(_ZEHNER.split(), 2)}
_UNDER_20 = "|".join(sorted(EINER, key=len, reverse=True))
_GERMAN = re.compile(
    rf"(?:(?P<thousands>{_UNDER_20})?(?P<tausend>tausend))?(?:(?P<hundreds>{_UNDER_20})?(?P<hundert>hundert))?"
    rf"(?:(?:(?P<ones>{_UNDER_20})und)?(?P<tens>{'|'.join(ZEHNER)})|(?P<small>{_UNDER_20}))?"
)
_ZIFFERN = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_STELLEN = {"十": 10, "百": 100, "千": 1_000, "万": 10_000}


def tokens(text: str) -> list[str]:
    """Returns a text's words, numbers and arithmetic signs, case and punctuation dropped, numbers as digits.

    A word of a number ("thirty-four", "two hundred and five") is its digits; a CJK character is a word.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"(?<=[^\W\d_])[-‐‑](?=[^\W\d_])", " ", text)  # thirty-four, but not 10-3
    found = [match.group() for match in _TOKEN.finditer(text)]
    return list(_english(list(_chinese([_german(_digits(token)) for token in found]))))


def masked(words: Sequence[str]) -> list[str]:
    """Returns words with `NUMBER` for each number."""
    return [NUMBER if is_number(word) else word for word in words]


def numbers(words: Sequence[str]) -> list[str]:
    """Returns the numbers among words, sorted."""
    return sorted(word for word in words if is_number(word))


def is_number(word: str) -> bool:
    """Whether a word of `tokens` is a number."""
    return word[0].isdigit()


def names(text: str) -> set[str]:
    """Returns the words that start with a capital within a sentence, and those in quotation marks, case folded.

    They say what a text is about, where a cosine hardly tells two persons or places apart.
    """
    inside = re.findall(r"(?<![.!?:\n] )(?<!^)(?<=[\w,;] )[A-ZÄÖÜ][\w'’-]+", text, re.MULTILINE)
    quoted = [word for part in re.findall(r"[\"“„«]([^\"“”„«»\n]{1,60})[\"”“»]", text) for word in part.split()]
    return {word.casefold().strip(".,;:!?") for word in [*inside, *quoted]} - {""}


def _digits(token: str) -> str:
    if not token[0].isdigit():
        return token
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", token):
        token = token.replace(",", "")
    whole, _, part = token.replace(",", ".").partition(".")
    part = part.rstrip("0") if "." not in part else part
    return (whole.lstrip("0") or "0") + (f".{part}" if part else "")


def _german(token: str) -> str:
    """Reads a German number below a million, which is one word; `ein` alone is the article."""
    if len(token) < 4 or token in ONES or not (match := _GERMAN.fullmatch(token)):
        return token
    part = match.groupdict()
    value = (EINER[part["thousands"] or "ein"] * 1_000) if part["tausend"] else 0
    value += (EINER[part["hundreds"] or "ein"] * 100) if part["hundert"] else 0
    value += ZEHNER[part["tens"]] if part["tens"] else 0
    return str(value + EINER.get(part["ones"] or "", 0) + EINER.get(part["small"] or "", 0))


def _chinese(words: Sequence[str]) -> Iterator[str]:
    """Joins Chinese numerals; a single one is a part of words, and stays one."""
    place = 0
    while place < len(words):
        end = place
        while end < len(words) and (words[end] in _ZIFFERN or words[end] in _STELLEN):
            end += 1
        if end - place > 1:
            yield str(_chinese_value(words[place:end]))
            place = end
        else:
            yield words[place]
            place += 1


def _chinese_value(signs: Sequence[str]) -> int:
    if not any(sign in _STELLEN for sign in signs):
        return int("".join(str(_ZIFFERN[sign]) for sign in signs))
    total = section = digit = 0
    for sign in signs:
        if sign in _ZIFFERN:
            digit = _ZIFFERN[sign]
        elif sign == "万":
            total, section, digit = total + (section + digit) * 10_000, 0, 0
        else:
            section, digit = section + (digit or 1) * _STELLEN[sign], 0
    return total + section + digit


def _english(words: Sequence[str]) -> Iterator[str]:
    place = 0
    while place < len(words):
        end, total, part = place, 0, 0
        while end < len(words):
            word = words[end]
            if word in ONES and (end == place or words[end - 1] not in ONES):
                part += ONES[word]
            elif word in TENS and (end == place or words[end - 1] not in ONES | TENS):
                part += TENS[word]
            elif word in SCALES and end > place:
                scale = SCALES[word]
                total, part = (total, part * 100) if scale == 100 else (total + part * scale, 0)
            elif not (word == "and" and end > place and words[end - 1] in SCALES and _goes_on(words, end + 1)):
                break
            end += 1
        if end > place:
            yield str(total + part)
            place = end
        else:
            yield words[place]
            place += 1


def _goes_on(words: Sequence[str], place: int) -> bool:
    return place < len(words) and (words[place] in ONES or words[place] in TENS)
