"""Instruction constraints that can be checked exactly: a declarative set, one small function for each kind.

A constraint is plain JSON: `{"kind": "max_words", "value": 50}`. Counting kinds are made of `min_`, `max_` or `exact_`
and a unit (`words`, `sentences`, `lines`, `paragraphs`, `bullets`, `numbered`, `sections`, `highlights`,
`placeholders`, `capital_words`, `characters`) and take `value`; all others are in `KINDS`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from evalkit.errors import UserError
from evalkit.verify.exact import CJK, contains, normalise
from evalkit.verify.spec import Check, field, only, strings, verdict

# How the Unicode names of a script's letters start
SCRIPTS: dict[str, str | tuple[str, ...]] = {
    "latin": "LATIN",
    "han": "CJK",
    "kana": ("HIRAGANA", "KATAKANA"),
    "hangul": "HANGUL",
    "cyrillic": "CYRILLIC",
    "greek": "GREEK",
    "arabic": "ARABIC",
    "hebrew": "HEBREW",
    "devanagari": "DEVANAGARI",
}
ABBREVIATIONS = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|z\. ?B|d\. ?h|Nr|bzw|usw)\.", re.IGNORECASE)
WORD = re.compile(rf"{CJK.pattern}|[^\W_]+(?:['’\-][^\W_]+)*")


def words(text: str) -> int:
    """Count words: runs of letters and digits, inner hyphens and apostrophes included; each CJK character is one."""
    return len(WORD.findall(re.sub(f"({CJK.pattern})", r" \1 ", text)))


def sentences(text: str) -> int:
    """Count sentences: parts that end in . ! ? or 。！？ before white space or the end, or at the end of a line.

    Common abbreviations and decimal points end none.
    """
    text = ABBREVIATIONS.sub(lambda match: match.group().replace(".", ""), text)
    parts = re.split(r"(?<=[.!?…])[\"'”’)\]*]*\s+|[。！？]+[”」』]?|\n+", text)
    return sum(bool(WORD.search(part)) for part in parts)


def lines(text: str) -> int:
    """Count lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def paragraphs(text: str) -> int:
    """Count blocks separated by blank lines (or by a line of *** or ---)."""
    blocks = re.split(r"\n\s*\n", re.sub(r"^\s*(?:\*{3,}|-{3,})\s*$", "\n", text, flags=re.MULTILINE))
    return sum(bool(block.strip()) for block in blocks)


def bullets(text: str) -> int:
    """Count lines that start with -, *, + or •."""
    return len(re.findall(r"^[ \t]*(?:[-+•]|\*(?!\*))[ \t]+\S", text, re.MULTILINE))


def numbered(text: str) -> int:
    """Count lines that start with a number and a point or bracket: "1." or "1)"."""
    return len(re.findall(r"^[ \t]*\d+[.)、][ \t]*\S", text, re.MULTILINE))


def sections(text: str) -> int:
    """Count Markdown headings and lines that read "Section 1", "Abschnitt 1" or "第1节"."""
    return len(
        re.findall(r"^[ \t]*(?:#{1,6}[ \t]+\S|\**(?:Section|Abschnitt)[ \t]+\w+|第.{1,3}节)", text, re.MULTILINE)
    )


def highlights(text: str) -> int:
    """Count *highlighted* and **highlighted** parts."""
    bold = re.findall(r"\*\*[^*\n]*[^*\s][^*\n]*\*\*", text)
    rest = re.sub(r"\*\*[^*\n]+\*\*", "", text)
    return len(bold) + len(re.findall(r"\*[^*\s](?:[^*\n]*[^*\s])?\*", rest))


def placeholders(text: str) -> int:
    """Count [placeholders] in square brackets."""
    return len(re.findall(r"\[[^\[\]\n]+\]", text))


def capital_words(text: str) -> int:
    """Count words of two or more letters, all of them capital."""
    return sum(word.isupper() and len(word) > 1 for word in WORD.findall(text))


def characters(text: str) -> int:
    """Count characters, white space at both ends aside."""
    return len(text.strip())


UNITS: dict[str, Callable[[str], int]] = {
    "words": words,
    "sentences": sentences,
    "lines": lines,
    "paragraphs": paragraphs,
    "bullets": bullets,
    "numbered": numbered,
    "sections": sections,
    "highlights": highlights,
    "placeholders": placeholders,
    "capital_words": capital_words,
    "characters": characters,
}
RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "min": lambda count, value: count >= value,
    "max": lambda count, value: count <= value,
    "exact": lambda count, value: count == value,
}


def occurrences(text: str, keyword: str) -> int:
    """Count a keyword in a text: whole words, case ignored; CJK keywords anywhere."""
    keyword, text = keyword.casefold(), text.casefold()
    edge = ("", "") if CJK.search(keyword) else (r"(?<!\w)", r"(?!\w)")
    return len(re.findall(edge[0] + re.escape(keyword) + edge[1], text))


def must_include(text: str, spec: Mapping[str, Any]) -> bool:
    """`keyword` occurs at least `times` times (default 1)."""
    return occurrences(text, field(spec, "keyword", str)) >= field(spec, "times", int, 1)


def must_not_include(text: str, spec: Mapping[str, Any]) -> bool:
    """None of the `keywords` occurs."""
    return not any(occurrences(text, keyword) for keyword in strings(spec, "keywords"))


def keyword_count(text: str, spec: Mapping[str, Any]) -> bool:
    """`keyword` occurs exactly `times` times."""
    return occurrences(text, field(spec, "keyword", str)) == field(spec, "times", int)


def lowercase(text: str, spec: Mapping[str, Any]) -> bool:
    """There are letters and none is a capital."""
    return text.islower()


def uppercase(text: str, spec: Mapping[str, Any]) -> bool:
    """There are letters and all are capitals."""
    return text.isupper()


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split())


def starts_with(text: str, spec: Mapping[str, Any]) -> bool:
    """The response starts with `phrase` (case ignored)."""
    return _plain(text).startswith(_plain(field(spec, "phrase", str)))


def ends_with(text: str, spec: Mapping[str, Any]) -> bool:
    """The response ends with `phrase` (case ignored); nothing comes after it."""
    return _plain(text).endswith(_plain(field(spec, "phrase", str)))


def no_commas(text: str, spec: Mapping[str, Any]) -> bool:
    """There is no comma, of whatever script."""
    return not re.search(r"[,，、،]", text)


def no_digits(text: str, spec: Mapping[str, Any]) -> bool:
    """There is no digit."""
    return not re.search(r"\d", text)


def json_object(text: str, spec: Mapping[str, Any]) -> bool:
    """The whole response, a code fence aside, is a JSON object that has the `keys` (default: any)."""
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text.strip(), re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except ValueError:
        return False
    return isinstance(value, dict) and all(key in value for key in strings(spec, "keys", []))


def title(text: str, spec: Mapping[str, Any]) -> bool:
    """There is a title in double angle brackets: <<title>>."""
    return re.search(r"<<[^<>\n]*[^<>\s][^<>\n]*>>", text) is not None


def script(text: str, spec: Mapping[str, Any]) -> bool:
    """Every letter is of the script `name` (latin, han, cyrillic...); there is at least one."""
    prefix = SCRIPTS.get(field(spec, "name", str))
    if prefix is None:
        raise UserError(f"verify spec: field 'name' of constraint 'script' must be one of {', '.join(sorted(SCRIPTS))}")
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and all(unicodedata.name(letter, "").startswith(prefix) for letter in letters)


def repeats_prompt(text: str, spec: Mapping[str, Any]) -> bool:
    """The response starts with `prompt` word for word and goes on after it."""
    prompt, said = _plain(field(spec, "prompt", str)), _plain(text)
    return said.startswith(prompt) and len(said) > len(prompt)


def quoted(text: str, spec: Mapping[str, Any]) -> bool:
    """The whole response is wrapped in quotation marks."""
    return re.fullmatch(r"\"[^\"].*\"|“.+”|„.+[“”]|«.+»|».+«|「.+」", text.strip(), re.DOTALL) is not None


def postscript(text: str, spec: Mapping[str, Any]) -> bool:
    """The last paragraph or line starts with `marker` (default "P.S.") and says something."""
    marker = re.escape(field(spec, "marker", str, "P.S."))
    return re.search(rf"^\s*{marker}[ \t]*\S[^\n]*\s*\Z", text, re.MULTILINE | re.IGNORECASE) is not None


def one_of(text: str, spec: Mapping[str, Any]) -> bool:
    """The response is one of the `options` and nothing else (case and a final point ignored)."""
    return normalise(text) in {normalise(option) for option in strings(spec, "options")}


def includes_any(text: str, spec: Mapping[str, Any]) -> bool:
    """At least one of the `keywords` occurs."""
    return any(contains(text, keyword) for keyword in strings(spec, "keywords"))


# kind -> the check and the fields it takes
KINDS: dict[str, tuple[Callable[[str, Mapping[str, Any]], bool], tuple[str, ...]]] = {
    "must_include": (must_include, ("keyword", "times")),
    "must_not_include": (must_not_include, ("keywords",)),
    "includes_any": (includes_any, ("keywords",)),
    "keyword_count": (keyword_count, ("keyword", "times")),
    "lowercase": (lowercase, ()),
    "uppercase": (uppercase, ()),
    "starts_with": (starts_with, ("phrase",)),
    "ends_with": (ends_with, ("phrase",)),
    "no_commas": (no_commas, ()),
    "no_digits": (no_digits, ()),
    "json_object": (json_object, ("keys",)),
    "title": (title, ()),
    "script": (script, ("name",)),
    "repeats_prompt": (repeats_prompt, ("prompt",)),
    "quoted": (quoted, ()),
    "postscript": (postscript, ("marker",)),
    "one_of": (one_of, ("options",)),
}


def satisfied(constraint: Mapping[str, Any], text: str) -> bool:
    """Return whether a response keeps one constraint.

    Args:
        constraint: Its `kind` and the kind's own fields.
        text: The response.

    Raises:
        UserError: If the kind is unknown or a field is missing, unknown or of the wrong type.
    """
    kind = field(constraint, "kind", str)
    if kind in KINDS:
        check, fields = KINDS[kind]
        only(constraint, ("kind", *fields))
        return check(text.strip(), constraint)
    relation, _, unit = kind.partition("_")
    if relation not in RELATIONS or unit not in UNITS:
        counting = f"min_, max_ or exact_ with {', '.join(UNITS)}"
        raise UserError(f"verify spec: constraint kind {kind!r} is unknown; allowed: {', '.join(KINDS)}; {counting}")
    only(constraint, ("kind", "value"))
    return RELATIONS[relation](UNITS[unit](text), field(constraint, "value", int))


def check_constraints(spec: Mapping[str, Any], text: str) -> Check:
    """Check all constraints of an item.

    Args:
        spec: `constraints`: a list of constraints.
        text: The response.

    Returns:
        passed = all are kept; score = the share that is kept; an empty response keeps none.

    Raises:
        UserError: If the spec is malformed.
    """
    only(spec, ("verifier", "constraints"))
    constraints: list[Any] = field(spec, "constraints", list)
    if not constraints or not all(isinstance(constraint, dict) for constraint in constraints):
        raise UserError("verify spec: field 'constraints' must be a list of one or more objects with a 'kind'")
    failed = [constraint["kind"] for constraint in constraints if not satisfied(constraint, text)]
    if not failed:
        return verdict(True, f"all {len(constraints)} constraints kept")
    return Check(False, 1 - len(failed) / len(constraints), f"not kept: {', '.join(failed)}")
