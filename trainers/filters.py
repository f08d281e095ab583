"""Which rows of a training set are kept: duplicates, length, language, words, margin, the judge's grade."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from evalkit.errors import UserError
from evalkit.verify.constraints import words
from trainers.material import Grader
from trainers.plan import RecipePlan
from trainers.rows import Row, answer_of, prompt_of, text_of
from trainers.words import tokens

GRAM = 3
PERMUTATIONS = 128
Test = tuple[str, Callable[[Row], bool]]


def keep_rows(rows: Sequence[Row], recipe: RecipePlan, grader: Grader | None = None) -> tuple[list[Row], Counter[str]]:
    """Keeps the rows that pass every filter.

    Args:
        rows: In order: of duplicates the first is kept.
        recipe: Says which filters.
        grader: Grades stored answers, where the recipe has a judge.

    Returns:
        The rows kept, and how many were dropped, by the reason.

    Raises:
        UserError: Languages are asked for and langdetect is not installed.
    """
    dropped: Counter[str] = Counter()
    kept = list(rows)
    for reason, good in _tests(recipe):
        kept = _kept(kept, good, reason, dropped)
    kept = _exact(kept, dropped)
    kept = _near(kept, recipe.filters.near_duplicate, dropped)
    if grader is not None:
        kept = _graded(kept, grader, recipe.filters.min_score, dropped)
    return kept, dropped


def _tests(recipe: RecipePlan) -> list[Test]:
    filters = recipe.filters

    def long_enough(row: Row) -> bool:
        return words(prompt_of(row) if row.kind in ("grpo", "text") else answer_of(row)) >= filters.min_words

    tests: list[Test] = [
        (f"fewer than {filters.min_words} words in the answer", long_enough),
        (f"more than {filters.max_words} words", lambda row: words(text_of(row)) <= filters.max_words),
        (f"margin below {recipe.min_margin:g}", lambda row: row.content.get("margin", 1.0) >= recipe.min_margin),
    ]
    if filters.languages:
        wanted = set(filters.languages)
        tests.append((f"another language than {', '.join(filters.languages)}", lambda row: _language(row) in wanted))
    if filters.without:
        tests.append(("a word that no row may have", lambda row: not _has(row, filters.without)))
    if filters.only_with:
        tests.append(("none of the words that rows must have", lambda row: _has(row, filters.only_with)))
    return tests


def _kept(rows: Iterable[Row], good: Callable[[Row], bool], reason: str, dropped: Counter[str]) -> list[Row]:
    kept = []
    for row in rows:
        if good(row):
            kept.append(row)
        else:
            dropped[reason] += 1
    return kept


def _has(row: Row, wanted: Iterable[str]) -> bool:
    text = text_of(row).casefold()
    return any(re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", text) for word in wanted)


def _language(row: Row) -> str:
    """Returns the ISO code of a row's language; "" where it has too little text to tell."""
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError as error:
        raise UserError("recipe.filters.languages needs langdetect; type: pip install langdetect") from error
    DetectorFactory.seed = 0
    try:
        return str(detect(text_of(row))).partition("-")[0]
    except LangDetectException:
        return ""


def _exact(rows: Sequence[Row], dropped: Counter[str]) -> list[Row]:
    """Drops rows with the words of an earlier one, case, punctuation and spaces aside."""
    seen = set[tuple[object, ...]]()
    kept = []
    for row in rows:
        # Of preference rows the two sides count; a constraint may be all about case, which is why it is not folded.
        key = (row.kind, row.content.get("label"), " ".join(text_of(row).split()))
        if key in seen:
            dropped["exact duplicates"] += 1
        else:
            seen.add(key)
            kept.append(row)
    return kept


def _near(rows: Sequence[Row], threshold: float, dropped: Counter[str]) -> list[Row]:
    """Drops near-duplicates of an earlier row: Jaccard similarity of word triples by MinHash (Broder 1997)."""
    if threshold >= 1 or len(rows) < 2:
        return list(rows)
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise UserError('near-duplicates need the extra train; type: pip install "evalkit[train]"') from error
    sets = [_triples(row) for row in rows]
    index = MinHashLSH(threshold=max(0.1, threshold - 0.1), num_perm=PERMUTATIONS)
    hashes = MinHash.generator([[gram.encode() for gram in one] for one in sets], num_perm=PERMUTATIONS)
    kept = []
    for place, (row, hashed) in enumerate(zip(rows, hashes, strict=True)):
        # What MinHash finds is compared exactly: an estimate alone would drop some that are below the threshold.
        twins = (int(other) for other in index.query(hashed))
        if any(len(sets[place] & sets[other]) >= threshold * len(sets[place] | sets[other]) for other in twins):
            dropped["near-duplicates"] += 1
        else:
            index.insert(place, hashed, check_duplication=False)
            kept.append(row)
    return kept


def _triples(row: Row) -> set[str]:
    found = tokens(text_of(row))
    label = str(row.content.get("label", ""))  # the same answer as a good and as a bad one is not the same row
    return {label + "\x1f".join(found[place : place + GRAM]) for place in range(max(1, len(found) - GRAM + 1))}


def _graded(rows: Sequence[Row], grader: Grader, least: float, dropped: Counter[str]) -> list[Row]:
    """Drops rows whose answer a judge grades too low; what was computed or changed has a check, and is not graded."""
    judged = {
        row.hash: int(row.provenance["response"])
        for row in rows
        if row.kind == "sft" and "response" in row.provenance and row.provenance.get("answer") != "changed answer"
    }
    grades = grader(sorted(set(judged.values())))
    kept = []
    for row in rows:
        if row.hash not in judged:
            kept.append(row)
        elif judged[row.hash] not in grades:
            dropped["the judge gave no grade"] += 1
        elif grades[judged[row.hash]] < least:
            dropped[f"graded below {least:g} by the judge"] += 1
        else:
            kept.append(row.told(grade=grades[judged[row.hash]]))
    return kept
