"""How a judge's answer is read: by a pattern, as JSON, or by its first token's probabilities. Nothing is guessed."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from evalkit.models import Reply
from evalkit.models.tokens import split_reasoning

Side = Literal["first", "second", "tie", "both_bad"]
RATIONALE_CHARS = 1000
# To renormalise over the words is what constrained decoding does, and small models leave them a tenth of the token.
# Below this share the judge was about to say something else altogether, a refusal for one.
MIN_TOKEN_MASS = 0.05
HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # ［［Ａ］］, as Chinese and Japanese write it
NUMBER = re.compile(r"([+-]?\d+(?:[.,]\d+)?)(?:\s*/\s*(\d+(?:[.,]\d+)?))?")


class Unreadable(ValueError):
    """The answer holds no verdict; the message says why, as a part of a sentence."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one criterion's verdict was read as.

    Attributes:
        side: Of a pairwise verdict.
        value: Of a pointwise grade.
        probability: That the answer shown first is the better one, where the judge says so.
        rationale: The judge's explanation, its beginning where it is long.
        error: Why nothing could be read; set if and only if there is neither side nor value.
        detail: Of a grade: a checklist's single answers, or the distribution over the scale.
    """

    criterion: str
    side: Side | None = None
    value: float | None = None
    probability: float | None = None
    rationale: str | None = None
    error: str | None = None
    detail: Mapping[str, Any] | None = None


class Meaning(NamedTuple):
    """What a verdict's word stands for: a side (with a probability for the answer shown first) or a value."""

    side: Side | None = None
    probability: float | None = None
    value: float | None = None


class Scale(NamedTuple):
    """The scores that count as one."""

    low: float
    high: float
    whole: bool

    def read(self, text: object) -> float:
        """Returns a score: 8, 8.5, 8,5 or 8/10.

        Raises:
            Unreadable: It is no number, not on the scale (it is never clamped), or out of another total.
        """
        if isinstance(text, bool):
            raise Unreadable(f"{text!r} is not a number")
        found = NUMBER.fullmatch(unicodedata.normalize("NFKC", str(text)).strip())
        if found is None:
            raise Unreadable(f"{str(text)[:40]!r} is not a number")
        value = float(found[1].replace(",", "."))
        if found[2] and float(found[2].replace(",", ".")) != self.high:
            raise Unreadable(f"{found[0]} is not out of {self.high:g}")
        if not self.low <= value <= self.high:
            raise Unreadable(f"{value:g} is not on the scale from {self.low:g} to {self.high:g}")
        if self.whole and value != int(value):
            raise Unreadable(f"{value:g} is not a whole number")
        return value


Words = Mapping[str, Meaning] | Scale


def own_words(reply: Reply) -> str:
    """Returns an answer without the thinking text before it; nothing if it never came out of thinking."""
    text = split_reasoning(reply.text)[1].strip()
    return "" if text.startswith("<think>") else text


def lookup(word: object, words: Words) -> Meaning:
    """Returns what a word, or a value out of JSON, means.

    Case and spaces do not count unless two words differ in nothing else (AlpacaEval's m and M).

    Raises:
        Unreadable: Nothing.
    """
    if isinstance(words, Scale):
        return Meaning(value=words.read(word))
    word = str(word).strip()
    if word in words:
        return words[word]
    plain = "".join(word.split()).casefold()
    alike = [meaning for key, meaning in words.items() if "".join(key.split()).casefold() == plain]
    if len(alike) != 1:
        raise Unreadable(f"{word[:40]!r} is none of {', '.join(words)}")
    return alike[0]


def read_text(reply: Reply, pattern: str, words: Words, *, last: bool) -> tuple[Meaning, str | None]:
    """Reads the last (or first) match of a pattern, else an answer that is a verdict's word and nothing else.

    The last match counts because a judge may quote what an answer tries to pass off as a verdict. An answer that was
    cut off may have been cut off before its verdict: there the match must stand at the very end.

    Raises:
        Unreadable: There is no match, or it is none of the words.
    """
    text = own_words(reply).translate(HALF_WIDTH)
    matches = list(re.finditer(pattern, text))
    if not matches:
        try:
            return lookup(_bare(text), words), None
        except Unreadable as error:
            if reply.finish_reason == "length":
                raise Unreadable("the answer was cut off before its verdict: raise max_tokens") from None
            if not _short(text):
                raise Unreadable("the verdict is not in it" if text else "it is empty") from error
            raise
    found = matches[-1] if last else matches[0]
    if last and reply.finish_reason == "length" and _bare(text[found.end() :]):
        raise Unreadable("the answer was cut off before its verdict: raise max_tokens")
    return lookup(next(filter(None, found.groups()), ""), words), rationale(text[: found.start()])


def read_json(reply: Reply, needed: Sequence[str], inside: Sequence[str] = ()) -> Mapping[str, Any]:
    """Returns the last JSON object in an answer that has the needed keys.

    Of several it is the last whose first needed key is an object with the keys `inside`, if there is one.

    Code fences and prose around it do not matter. An object inside another one that is broken is not taken: it may be
    a quotation.

    Raises:
        Unreadable: There is none.
    """
    text = own_words(reply)
    objects = list(_objects(text))
    fitting = [one for one in objects if all(key in one for key in needed)]
    whole = [one for one in fitting if isinstance(one[needed[0]], Mapping) and one[needed[0]].keys() >= set(inside)]
    if fitting:
        return (whole or fitting)[-1]
    if reply.finish_reason == "length":
        raise Unreadable("the answer was cut off before its JSON ended: raise max_tokens")
    if objects:
        raise Unreadable(f"its JSON has no {' and no '.join(repr(k) for k in needed if k not in objects[-1])}")
    raise Unreadable("it has no JSON object" if text else "it is empty")


def token_distribution(reply: Reply, words: Sequence[str]) -> Mapping[str, float] | None:
    """Returns the probabilities of words by the judge's first token, renormalised over the words.

    p(w) = exp(l_w) / sum of exp(l) over the words, where l are the token's top log-probabilities. Spaces around a token
    do not count, nor do tokens of nothing but space. A word among two that is not listed gets the most that it can
    have: the least listed probability or what the list leaves over, whichever is less; so no preference is ever certain
    only because the list was short.

    Args:
        reply: With `logprobs` where the endpoint gives them.
        words: What a verdict may be; upper and lower case are different tokens.

    Returns:
        Word to probability; None without log-probabilities.

    Raises:
        Unreadable: The words together have less than 0.05 of the token's probability.
    """
    steps = [step for step in reply.logprobs or () if isinstance(step, Mapping) and isinstance(step.get("top"), list)]
    step = next((s for s in steps if _token(s.get("token"))), None)
    if step is None or not step["top"]:
        return None
    listed: dict[str, float] = {}
    for token, logprob in step["top"]:
        listed[_token(token)] = listed.get(_token(token), 0.0) + math.exp(min(0.0, float(logprob)))
    mass = {word: listed[word] for word in words if word in listed}
    if sum(mass.values()) < MIN_TOKEN_MASS:
        raise Unreadable(f"its first token is {step['token']!r}, and {', '.join(words)} are not likely")
    rest = min(min(listed.values()), max(0.0, 1.0 - sum(listed.values())))
    if len(words) == 2:
        mass = {word: mass.get(word, rest) for word in words}
    total = sum(mass.values())
    return {word: mass.get(word, 0.0) / total for word in words}


def read_token(reply: Reply, words: Mapping[str, Meaning]) -> tuple[Meaning, Mapping[str, float] | None]:
    """Reads the first token: the likelier side with its probability, or the expected value over a scale.

    Without log-probabilities the word that the answer begins with is read, and there is no distribution.

    Raises:
        Unreadable: The answer does not begin with one of the words.
    """
    shares = token_distribution(reply, list(words))
    if shares is None:
        start = re.match(r"[^\w+-]*([^\W_]+)(?=[\s*\"'`.,:;!)]*(?:\s|$))", own_words(reply))
        if start is None or start[1] not in words:
            raise Unreadable(f"it begins with {own_words(reply)[:40]!r} and not with one of {', '.join(words)}")
        return words[start[1]]._replace(probability=None), None
    if all(meaning.side is None for meaning in words.values()):
        return Meaning(value=sum(share * (words[word].value or 0.0) for word, share in shares.items())), shares
    sides: dict[Side, float] = {}
    for word, share in shares.items():
        side = words[word].side
        if side is not None:
            sides[side] = sides.get(side, 0.0) + share
    best = max(sides, key=lambda side: sides[side])
    first, second = sides.get("first", 0.0), sides.get("second", 0.0)
    if best in ("first", "second") and first == second:
        best = "tie"
    # What is left to a tie is half a win for each.
    return Meaning(side=best, probability=first + (1.0 - first - second) / 2), shares


def read_answers(reply: Reply, checklist: Sequence[str]) -> tuple[float, Mapping[str, Any]]:
    """Reads the answers to a checklist.

    Returns:
        The share of questions met, and the single answers: {"checklist": [{question, met, reason}, ...]}.

    Raises:
        Unreadable: A question has no answer, or two that differ, or there is one to none.
    """
    found = read_json(reply, ["answers"])["answers"]
    if not isinstance(found, list):
        raise Unreadable("`answers` in its JSON is not a list")
    answers: dict[int, tuple[bool, str]] = {}
    for one in found:
        number, met = (one.get("question"), one.get("met")) if isinstance(one, Mapping) else (None, None)
        if isinstance(met, str) and met.strip().casefold() in ("yes", "no"):
            met = met.strip().casefold() == "yes"
        if type(number) is not int or not isinstance(met, bool):
            raise Unreadable(f"an answer has no number of a question, or is neither true nor false: {str(one)[:60]}")
        if not 1 <= number <= len(checklist) or answers.get(number, (met,))[0] != met:
            raise Unreadable(f"question {number} is not on the checklist, or has two answers")
        answers[number] = (met, str(one.get("reason") or ""))
    missing = [number for number in range(1, len(checklist) + 1) if number not in answers]
    if missing or not answers:
        raise Unreadable(f"it answers no question {', '.join(map(str, missing))}".rstrip())
    rows = [
        {"question": question, "met": answers[number][0], "reason": answers[number][1]}
        for number, question in enumerate(checklist, 1)
    ]
    return sum(met for met, _ in answers.values()) / len(answers), {"checklist": rows}


def question_lines(text: str) -> list[str]:
    """Returns the numbered or bulleted lines of a text that end in a question mark."""
    return [found[1] for found in re.finditer(r"(?m)^[ \t]*(?:\d+[.):、]|[-*•])[ \t]*(\S.*[?？])\**[ \t]*$", text)]


def rationale(text: object) -> str | None:
    """Returns an explanation as it is kept: its beginning where it is long, None where there is none."""
    said = str(text or "").strip()
    if len(said) > RATIONALE_CHARS:
        return said[:RATIONALE_CHARS] + "…"
    return said or None


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Top-level JSON objects of a text, in order."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    depth = 0  # of braces before `at` that nothing closes
    seen = 0
    while at >= 0:
        depth = max(0, depth + text.count("{", seen, at) - text.count("}", seen, at))
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            value, end = None, at + 1
            depth += 1
        if isinstance(value, dict) and depth == 0:
            yield value
        seen = end
        at = text.find("{", end)


def _token(token: object) -> str:
    return str(token or "").replace("▁", " ").replace("Ġ", " ").strip()


def _bare(text: str) -> str:
    return text.strip(" \t\r\n*_`'\".,;:!。！．“”‘’「」«»")


def _short(text: str) -> bool:
    return 0 < len(_bare(text)) <= 40 and "\n" not in _bare(text)
