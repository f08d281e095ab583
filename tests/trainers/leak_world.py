"""Planted leaks and clean rows, with the held-out items that they are made from."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import recipe_world

from evalkit.store.training import EvalItem
from trainers.rows import Row, assistant, user

PARAPHRASES: dict[str, str] = json.loads((Path(__file__).parent / "paraphrases.json").read_text(encoding="utf-8"))
"""Our paraphrases of starter_instructions."""
FRAMES = (
    ("What is ", "Can you tell me what "),
    ("Write ", "Please write down "),
    ("How many ", "Tell me how many "),
    ("Which ", "Say which "),
    ("Turn ", "Could you turn "),
)
ENDING = re.compile(r"\s*(?:Reply with the \w+ only|Give only the number|Answer with the number only)\.$")
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
ONES = f"{_ONES} eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
TENS = _TENS.split()


@dataclass(frozen=True, slots=True)
class Planted:
    """Rows of one kind; `leak` says whether they are leaks."""

    kind: str
    leak: bool
    rows: list[Row]


def in_words(number: int) -> str:
    """Writes a number below 1000 in English words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f"-{ONES[number % 10]}" if number % 10 else "")
    return f"{ONES[number // 100]} hundred" + (f" and {in_words(number % 100)}" if number % 100 else "")


def row(prompt: str, answer: str = "Yes.") -> Row:
    """A supervised row."""
    return Row("sft", {"prompt": user(prompt), "completion": assistant(answer)}, "planted")


def items(seed: int = 0) -> list[EvalItem]:
    """The starter items as eval items: half of them held out, by the seed."""
    texts = [
        str(item.messages[0]["content"])
        for task in ("structure", "instructions", "arithmetic", "formats", "sums", "knowledge", "reading", "reasoning")
        for item in recipe_world.starter(task)
    ]
    rng = random.Random(seed)
    held = {text: rng.random() < 0.5 or text in PARAPHRASES for text in texts}
    return [EvalItem(n, text, "held_out" if held[text] else "train") for n, text in enumerate(texts, 1)]


def planted(every: list[EvalItem], seed: int = 0) -> list[Planted]:
    """Leaks made from the held-out items: copies, changed copies, numbers in words, paraphrases."""
    rng = random.Random(seed)
    held = [item.text for item in every if item.half == "held_out"]
    sums = [text for text in held if re.fullmatch(r"What is \d+ \+ \d+\?.*", text)]
    numbered = [text for text in held if re.search(r"\b\d{1,3}\b", text)]
    return [
        Planted("copy", True, [row(text) for text in held]),
        Planted("copy in other case and punctuation", True, [row(text.upper().replace("?", " ?")) for text in held]),
        Planted("copy within a longer text", True, [row(f"Hello! I have a question. {t} Thank you.") for t in held]),
        Planted("copy in the answer", True, [row("Ask me something.", text) for text in held]),
        Planted("numbers in words", True, [row(_worded(text)) for text in numbered]),
        Planted("near-duplicate (other opening, no ending)", True, [row(_reframed(text)) for text in held]),
        Planted("near-duplicate (one word dropped)", True, [row(_dropped(text, rng)) for text in held]),
        Planted("sum with its numbers swapped", True, [row(_swapped(text)) for text in sums]),
        Planted("paraphrase", True, [row(text) for text in PARAPHRASES.values()]),
    ]


def _worded(text: str) -> str:
    return re.sub(r"(?<![\d.,:])\d{1,3}(?![\d.,:]\d|\d)", lambda match: in_words(int(match.group())), text)


def _reframed(text: str) -> str:
    for old, new in FRAMES:
        if text.startswith(old):
            text = new + text.removeprefix(old)
    return ENDING.sub("", text)


def _dropped(text: str, rng: random.Random) -> str:
    """Drops one word that is neither a number nor a name."""
    words = text.split()
    places = [n for n, word in enumerate(words) if word.isalpha() and word.islower()] or [0]
    del words[rng.choice(places)]
    return " ".join(words)


def _swapped(text: str) -> str:
    a, b = re.findall(r"\d+", text)
    return f"How much is {b} + {a}? Only the number."


def other_numbers(every: list[EvalItem], seed: int = 0) -> Planted:
    """Held-out sums with other numbers, in the very same words: not leaks."""
    rng = random.Random(seed)
    taken = {tuple(sorted(re.findall(r"\d+", item.text))) for item in every}
    rows = []
    for item in every:
        if item.half == "held_out" and re.fullmatch(r"What is \d+ \+ \d+\?.*", item.text):
            a, b = rng.randint(10, 99), rng.randint(10, 99)
            while tuple(sorted((str(a), str(b)))) in taken:
                a, b = rng.randint(10, 99), rng.randint(10, 99)
            rows.append(row(re.sub(r"\d+(?= \+)", str(a), re.sub(r"(?<=\+ )\d+", str(b), item.text))))
    return Planted("other numbers in the same short question", False, rows)


def clean(every: list[EvalItem], made: Callable[[], list[Row]]) -> list[Planted]:
    """Rows that are no leaks: items of the training half, other numbers, and what the recipes make."""
    train = [row(item.text) for item in every if item.half == "train"]
    return [
        Planted("item of the training half", False, train),
        other_numbers(every),
        Planted("new prompts", False, made()),
    ]
