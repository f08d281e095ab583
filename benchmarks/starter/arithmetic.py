"""Arithmetic word problems in English, German and Chinese: the same templates and numbers, drawn from a seed.

For whom: a check of whether a model carries out one to four steps of school arithmetic, and whether it does so in three
languages alike. How made: templates and translations written for this project, three draws of numbers each; all draws
of a template, in all languages, are in the same split.
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

from benchmarks.starter.items import SPLITS, item
from benchmarks.starter.word_problems import TEMPLATES, Numbers

DRAWS = 3
SUFFIX = {"en": "Give only the number.", "de": "Antworte nur mit der Zahl.", "zh": "请只回答数字。"}


def written(value: int | Fraction, language: str) -> str:
    """Write a number as the language does: two decimals for amounts that are not whole, a comma in German."""
    text = str(value) if Fraction(value).denominator == 1 else f"{float(value):.2f}"
    return text.replace(".", ",") if language == "de" else text


def build(language: str, seed: int) -> list[dict[str, Any]]:
    """Return the items of one language.

    Args:
        language: en, de or zh.
        seed: Of the drawn numbers; the same in each language.
    """
    items: list[dict[str, Any]] = []
    for index, template in enumerate(TEMPLATES):
        # A generator of its own, so that a new template changes no other's numbers
        rng = random.Random(f"{seed} {template.texts['en']}")
        drawn: list[Numbers] = []
        while len(drawn) < DRAWS:
            numbers = template.draw(rng)
            if numbers not in drawn:
                drawn.append(numbers)
        for numbers in drawn:
            places = {name: written(value, language) for name, value in numbers.items()}
            answer = written(template.answer(numbers), language)
            spec: dict[str, Any] = {"verifier": "numeric", "answer": answer}
            if language == "de":
                spec["decimal_comma"] = True
            gap = "" if language == "zh" else " "
            items.append(
                item(
                    template.texts[language].format(**places) + gap + SUFFIX[language],
                    answer,
                    spec,
                    topic=template.topic,
                    difficulty=template.difficulty,
                    form="number",
                    split=SPLITS[index % 2],
                    language=language,
                )
            )
    return items
