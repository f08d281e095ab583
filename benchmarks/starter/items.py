"""What an item of the starter suite is made of, and what must hold for a whole data file."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from evalkit.errors import UserError
from evalkit.verify import verify
from evalkit.verify.constraints import words

TAGS = ("topic", "difficulty", "length", "format", "language")
DIFFICULTIES = ("easy", "medium", "hard")
LANGUAGES = ("en", "de", "zh")
SPLITS = ("dev", "test")
MIN_ITEMS = 50
MIN_SHARE = {"dev": 0.16, "test": 0.35}  # dev only feeds examples
# A prompt's length in words; a Chinese character stands for about 0.6 of a word
SHORT_WORDS, MEDIUM_WORDS, WORDS_PER_CHARACTER = 30, 80, 0.6


def length_of(question: str, language: str) -> str:
    """Return the length tag of a prompt: short (up to 30 words), medium (up to 80) or long."""
    size = words(question) * (WORDS_PER_CHARACTER if language == "zh" else 1)
    return "short" if size <= SHORT_WORDS else "medium" if size <= MEDIUM_WORDS else "long"


def item(
    question: str,
    answer: str,
    spec: dict[str, Any],
    *,
    topic: str,
    difficulty: str,
    form: str,
    split: str,
    language: str = "en",
) -> dict[str, Any]:
    """Return an item without its id (`number` gives it one).

    Args:
        question: The whole user prompt.
        answer: A response that is right.
        spec: The verifier's spec.
        topic: Slice tag.
        difficulty: easy, medium or hard.
        form: The format of the answer: number, word, json, ...
        split: dev or test; items that resemble each other belong in the same one.
        language: en, de or zh.
    """
    tags: dict[str, Any] = {"topic": topic, "difficulty": difficulty, "length": length_of(question, language)}
    tags |= {"format": form, "language": language}
    return {"question": question, "answer": answer, "verify": spec, "tags": tags, "split": split}


def number(task: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return items with their ids: "arithmetic-en-0001", counted in order."""
    return [
        {"id": f"{task.split('_')[0]}-{entry['tags']['language']}-{index:04d}", **entry}
        for index, entry in enumerate(items, 1)
    ]


def problems(items: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the items of one data file, a sentence each; nothing if all is well."""
    found: list[str] = []
    splits = Counter(entry.get("split") for entry in items)
    if len(items) < MIN_ITEMS:
        found.append(f"{len(items)} items, at least {MIN_ITEMS} wanted")
    found += [
        f"split {split!r} holds {splits[split]} of {len(items)} items"
        for split in SPLITS
        if splits[split] < MIN_SHARE[split] * len(items)
    ]
    for key in ("id", "question"):
        repeated = Counter(" ".join(str(entry.get(key)).casefold().split()) for entry in items)
        found += [f"{key} {value[:60]!r} stands there {count} times" for value, count in repeated.items() if count > 1]
    for entry in items:
        found += [f"{entry.get('id')}: {problem}" for problem in _item_problems(entry)]
    return found


def _item_problems(entry: dict[str, Any]) -> list[str]:
    missing = [key for key in ("id", "question", "answer", "verify", "tags", "split") if not entry.get(key)]
    if missing:
        return [f"no {key}" for key in missing]
    found: list[str] = []
    tags = entry["tags"]
    found += [f"no tag {tag}" for tag in TAGS if not tags.get(tag)]
    for tag, allowed in (("difficulty", DIFFICULTIES), ("language", LANGUAGES)):
        if tags.get(tag) not in allowed:
            found.append(f"tag {tag} is {tags.get(tag)!r}, not one of {', '.join(allowed)}")
    if not re.fullmatch(rf"[a-z]+-{tags.get('language')}-\d{{4}}", entry["id"]):
        found.append("the id is not task-language-number")
    if entry["split"] not in SPLITS:
        found.append(f"split is {entry['split']!r}")
    length = length_of(entry["question"], str(tags.get("language")))
    if tags.get("length") != length:
        found.append(f"tag length is {tags.get('length')!r}, by its words the prompt is {length}")
    spec = entry["verify"]
    if spec.get("verifier") == "constraints" and tags.get("constraints") != len(spec["constraints"]):
        found.append("tag constraints is not the number of constraints")
    try:
        gold = verify(spec, entry["answer"])
    except UserError as error:
        return [*found, str(error)]
    if gold.passed is not True and spec["verifier"] != "unit_tests":
        found.append(f"its own answer does not pass: {gold.reason}")
    return found
