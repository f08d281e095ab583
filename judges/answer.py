"""The form of a judge's answer: what is asked for, and how it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evalkit.models import Reply
from judges.parse import (
    Meaning,
    Reading,
    Scale,
    Side,
    Unreadable,
    Words,
    lookup,
    rationale,
    read_answers,
    read_json,
    read_text,
    read_token,
)

Asked = Mapping[str, Words]
"""Criterion name to what its verdict may be."""


class Verdict(BaseModel):
    """A side, or a side with the probability that the answer shown first is the better one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    side: Side
    probability: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _side_alone(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping) else {"side": value}


class AnswerForm(BaseModel):
    """How a judge answers.

    Attributes:
        form: text: a pattern finds the verdict. json: an object with `explanation` and `verdicts`, by criterion. token:
            the first token's probabilities. checklist: an object with an answer to each question.
        pattern: Regular expression; its group is the verdict.
        position: Which match counts.
        wanted: The forms of a verdict, in words for the judge that is asked once more.
        verdicts: Pairwise: word to side, or to side and probability.
        values: Pointwise: word to value.
        scale: Pointwise: lowest and highest score, where the words are numbers.
        whole: Only whole numbers are scores.
        alternatives: Log-probabilities asked for at the first token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    form: Literal["text", "json", "token", "checklist"] = "text"
    pattern: str = ""
    position: Literal["last", "first"] = "last"
    wanted: str = ""
    verdicts: dict[str, Verdict] = Field(default_factory=dict)
    values: dict[str, float] = Field(default_factory=dict)
    scale: tuple[float, float] | None = None
    whole: bool = False
    alternatives: int = Field(20, ge=1, le=20)

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if value and groups != 1:
            raise ValueError("the pattern needs exactly one group, which holds the verdict")
        return value

    @field_validator("verdicts", "values", mode="before")
    @classmethod
    def _words_are_text(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if any(isinstance(word, bool) for word in value):
            raise ValueError("write the words yes, no, on and off in quotes: YAML reads them as true and false")
        return {str(word): meaning for word, meaning in value.items()}

    def check(self, kind: str, *, rubric: bool) -> None:
        """Checks the form against the rest of the prompt.

        Raises:
            ValueError: Something is missing, or does not go together; names the field.
        """
        if (self.form == "text") != bool(self.pattern):
            raise ValueError("answer.pattern: must be given with form text, and only then")
        if self.form == "checklist":
            if kind != "pointwise" or self.verdicts or self.values or self.scale or rubric:
                raise ValueError("answer: a checklist is pointwise, and its value the share of yes: it has no words")
            return
        if kind == "pairwise":
            sides = {verdict.side for verdict in self.verdicts.values()}
            if not {"first", "second"} <= sides or self.values or self.scale or rubric:
                raise ValueError(
                    "answer.verdicts: a pairwise prompt has words for first and second, and neither values nor scale"
                )
            return
        if self.verdicts or [bool(self.values), self.scale is not None, rubric].count(True) != 1:
            raise ValueError("answer: a pointwise prompt has either scale (like [1, 10]), values or levels")
        if self.values and len(self.values) < 2:
            raise ValueError("answer.values: must have at least two words")
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError("answer.scale: must be the lowest and the highest score, like [1, 10]")
        if self.form == "token" and self.scale is not None and not 0 <= self.scale[0] < self.scale[1] <= 9:
            raise ValueError("answer.scale: a score of one token goes from 0 to 9 at most")

    def meanings(self) -> Mapping[str, Meaning]:
        """Returns what the words mean, where the verdict is not a number."""
        if self.values:
            return {word: Meaning(value=value) for word, value in self.values.items()}
        return {word: Meaning(verdict.side, verdict.probability) for word, verdict in self.verdicts.items()}

    def response_schema(self, asked: Asked, questions: int) -> Mapping[str, Any] | None:
        """Returns the JSON schema of an answer; None for answers that are not JSON."""
        if self.form == "checklist":
            each = strict_object(question={"type": "integer"}, reason={"type": "string"}, met={"type": "boolean"})
            answers = {"type": "array", "items": each, "minItems": questions, "maxItems": questions}
            return strict_object(answers=answers)
        if self.form != "json":
            return None
        verdicts = strict_object(**{name: _schema_of(words) for name, words in asked.items()})
        return strict_object(explanation={"type": "string"}, verdicts=verdicts)

    def in_words(self, asked: Asked, questions: int) -> str:
        """Returns what an answer must be, in words for the judge."""
        if self.form == "checklist":
            each = '{"question": <number>, "reason": "...", "met": <true or false>}'
            return f'one JSON object of this form, with all {questions} questions: {{"answers": [{each}, ...]}}'
        if self.form == "json":
            given = [(json.dumps(name), _choices(words, quote='"')) for name, words in asked.items()]
            verdicts = ", ".join(f"{name}: <{choices}>" for name, choices in given)
            return f'one JSON object of this form: {{"explanation": "...", "verdicts": {{{verdicts}}}}}'
        return f"your verdict: {self.wanted or _choices(next(iter(asked.values())))}"

    def read(self, reply: Reply, asked: Asked, checklist: Sequence[str]) -> list[Reading]:
        """Reads an answer.

        Args:
            reply: The judge's.
            asked: In the order of the readings; one criterion except for JSON.
            checklist: The questions that were asked, for the form checklist.
        """
        if self.form == "json":
            return self._read_json(reply, asked)
        ((name, words),) = asked.items()
        try:
            if self.form == "checklist":
                share, answers = read_answers(reply, checklist)
                return [Reading(name, value=share, detail=answers)]
            if self.form == "text":
                meaning, why = read_text(reply, self.pattern, words, last=self.position == "last")
                return [Reading(name, meaning.side, meaning.value, meaning.probability, why)]
            meaning, shares = read_token(reply, _digits(words) if isinstance(words, Scale) else words)
        except Unreadable as error:
            return [Reading(name, error=f"unreadable: {error}")]
        detail = {"distribution": dict(shares)} if shares and meaning.side is None else None
        return [Reading(name, meaning.side, meaning.value, meaning.probability, detail=detail)]

    def _read_json(self, reply: Reply, asked: Asked) -> list[Reading]:
        try:
            found = read_json(reply, ["verdicts"], list(asked))
            verdicts = found["verdicts"]
            if not isinstance(verdicts, Mapping):
                raise Unreadable("`verdicts` in its JSON is not an object")
        except Unreadable as error:
            return [Reading(name, error=f"unreadable: {error}") for name in asked]
        why, readings = rationale(found.get("explanation")), []
        for name, words in asked.items():
            try:
                if name not in verdicts:
                    raise Unreadable(f"its JSON has no verdict on {name!r}")
                meaning = lookup(verdicts[name], words)
            except Unreadable as error:
                readings.append(Reading(name, rationale=why, error=f"unreadable: {error}"))
            else:
                readings.append(Reading(name, meaning.side, meaning.value, meaning.probability, why))
        return readings


def strict_object(**properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the schema of an object as the strict mode of endpoints wants it: all keys required, no others."""
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schema_of(words: Words) -> Mapping[str, Any]:
    if not isinstance(words, Scale):
        return {"type": "string", "enum": list(words)}
    if words.whole and words.high - words.low <= 20:
        return {"type": "integer", "enum": list(range(int(words.low), int(words.high) + 1))}
    return {"type": "number", "minimum": words.low, "maximum": words.high}


def _choices(words: Words, quote: str = "") -> str:
    if isinstance(words, Scale):
        return f"a {'whole ' if words.whole else ''}number from {words.low:g} to {words.high:g}"
    *others, last = [f"{quote}{word}{quote}" for word in words]
    return f"{', '.join(others)} or {last}"


def _digits(scale: Scale) -> Mapping[str, Meaning]:
    return {str(number): Meaning(value=float(number)) for number in range(int(scale.low), int(scale.high) + 1)}
