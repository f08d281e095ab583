"""Decontamination: which rows of a training set touch an item that measures models.

Three rules, after GPT-3 (13-grams, frequent ones left out) and PaLM (a share of 8-grams), and one for paraphrases:

- long n-gram: the row holds 13 words in a row of the item, numbers as they are or each of them masked. Masked, a long
  text with other numbers counts; a short question does not, for there the numbers are the question.
- short n-grams: the row holds at least half of the item's 8-grams; or, where an item without its frame has fewer words,
  all of these, one after the other.
- paraphrase: the embeddings of the two prompts, without frames, are close, and the row has the item's numbers and most
  of its names; less close is enough where it has all its rare words, or the very same numbers.

Numbers are the same however they are written, as digits or in words (see `trainers.words`). An n-gram counts for
nothing if it stands in many items (a prompt's frame) or in an item of the training half, which trainers may know.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evalkit.errors import UserError
from evalkit.store import Ledger
from evalkit.store.training import EvalItem, eval_items
from trainers.plan import DecontaminationPlan
from trainers.rows import Row, prompt_of, text_of
from trainers.words import NUMBER, is_number, masked, names, numbers, tokens

if TYPE_CHECKING:
    import numpy as np

Rule = Literal["long n-gram", "short n-grams", "whole item", "paraphrase"]
Words = Sequence[str]
FRAME = 5
"""Words in a row by which frames are found and cut out before texts are embedded."""
OWN_WORDS = 4
"""So many words an n-gram must have that are of no frame."""
SHORTEST = 4
"""An item of fewer words is a leak only if a prompt is just that item."""
MASKED_NUMBERS = 3
"""So many masked numbers a long n-gram may have: with more it is a form, not a text."""
BLOCK = 2_048
BAG = 4_096
SAME_WORDS = 0.65
"""The cosine that is enough where a prompt has every rare word of an item: one that few other items have."""
SAME_NUMBERS = 0.2
"""The cosine that is enough where two prompts have the very same numbers, two or more, and little else."""
BARE_WORDS = 4


@dataclass(frozen=True, slots=True)
class Leak:
    """A row that touches an item.

    Attributes:
        row: Its place among those given.
        value: The cosine, or the share of the item's n-grams that the row holds.
        held_out: Whether the item is of the held-out half.
    """

    row: int
    item_id: int
    rule: Rule
    value: float
    held_out: bool


def find_leaks(
    rows: Sequence[Row], items: Sequence[EvalItem], settings: DecontaminationPlan | None = None
) -> list[Leak]:
    """Finds the rows that touch an item.

    Args:
        rows: Of a training set.
        items: All that measure models; those of the training half are known to trainers, and no leak.
        settings: Lengths and thresholds.

    Returns:
        One leak for each row that has any: held-out items first, then the rule as listed above.
    """
    settings = settings or DecontaminationPlan()
    if not rows or not items:
        return []
    words = [tokens(item.text) for item in items]
    asked = [tokens(prompt_of(row)) for row in rows]
    frames = _frames(items, words, settings)
    found: dict[int, Leak] = {}
    by_grams = _by_grams(rows, asked, items, words, frames, settings)
    for leak in (*by_grams, *_by_meaning(asked, items, words, frames, settings)):
        first = found.get(leak.row)
        if first is None or (leak.held_out and not first.held_out):
            found[leak.row] = leak
    return [found[place] for place in sorted(found)]


def ensure_clean(ledger: Ledger, rows: Sequence[Row], settings: DecontaminationPlan, reason: str | None) -> int:
    """Refuses to train on rows that touch an item, of the ledger as it is now, unless a reason is given.

    Returns:
        How many rows touch one; only ever above 0 with a reason.

    Raises:
        UserError: Rows touch an item.
    """
    leaks = find_leaks(rows, eval_items(ledger), settings)
    if leaks and not reason:
        one = leaks[0]
        raise UserError(
            f"{len(leaks)} of {len(rows)} rows touch items that models are evaluated on (row {one.row}: {one.rule}, "
            f"item {one.item_id}): build the training set again, or give the reason in recipe.allow_contaminated"
        )
    return len(leaks)


# -- n-grams ----------------------------------------------------------------------------------------------------------


def grams(words: Words, size: int) -> set[int]:
    """Returns the n-grams of a text, as hashes that hold within this process."""
    return {hash(tuple(words[place : place + size])) for place in range(len(words) - size + 1)}


def _frequent(texts: Iterable[Words], size: int, least: int) -> set[int]:
    """Returns the n-grams that stand in at least so many texts."""
    import numpy as np

    parts = [np.fromiter(found, np.int64, len(found)) for words in texts if (found := grams(words, size))]
    if not parts:
        return set()
    values, counts = np.unique(np.concatenate(parts), return_counts=True)
    return set(values[counts >= least].tolist())


class _Index:
    """Which rows hold an n-gram, and which n-grams count."""

    def __init__(self, texts: Sequence[Words], size: int, ignored: set[int]) -> None:
        self.size, self.ignored = size, ignored
        self.rows: defaultdict[int, list[int]] = defaultdict(list)
        for place, words in enumerate(texts):
            for gram in grams(words, size):
                self.rows[gram].append(place)

    def shares(self, words: Words, own: Sequence[bool] = ()) -> Mapping[int, float]:
        """Returns, for each row that holds any, the share of a text's counting n-grams that it holds.

        Args:
            words: Of the text.
            own: Which of them are of no frame: an n-gram must have `OWN_WORDS` of these, or as many as any has.
        """
        places = range(len(words) - self.size + 1)
        count = [sum(own[place : place + self.size]) for place in places]
        least = min(OWN_WORDS, max(count, default=0))
        counting = {hash(tuple(words[p : p + self.size])) for p in places if count[p] >= least} - self.ignored
        held = Counter(row for gram in counting for row in self.rows.get(gram, ()))
        return {row: n / len(counting) for row, n in held.items()}


def _by_grams(
    rows: Sequence[Row],
    asked: Sequence[Words],
    items: Sequence[EvalItem],
    words: Sequence[Words],
    frames: set[int],
    settings: DecontaminationPlan,
) -> list[Leak]:
    """Applies the rules of n-grams."""
    texts = [tokens(text_of(row)) for row in rows]
    known = [text for item, text in zip(items, words, strict=True) if item.half == "train"]

    def index(size: int, mask: bool = False) -> _Index:
        form = masked if mask else list
        ignored = _frequent(map(form, words), size, settings.boilerplate)
        for text in known:
            ignored |= grams(form(text), size)
        return _Index([form(text) for text in texts], size, ignored)

    long, long_masked = index(settings.long_gram), index(settings.long_gram, mask=True)
    short = index(settings.short_gram)
    long_masked.ignored |= _too_numeric(texts, settings.long_gram)
    whole = {size: _Index(texts, size, set()) for size in range(SHORTEST, settings.short_gram)}
    prompts: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, prompt in enumerate(asked):
        prompts[tuple(prompt)].append(place)
    owned = [_own(text, frames) for text in words]
    cores = [tuple(_without(text, frames)) for text in words]
    common = Counter(cores)
    of_training = {core for item, core in zip(items, cores, strict=True) if item.half == "train"}
    joined = [f" {' '.join(text)} " for text in texts]
    leaks: list[Leak] = []
    for item, text, core, own in zip(items, words, cores, owned, strict=True):
        if item.half == "train":
            continue
        found: dict[int, tuple[Rule, float]] = {}
        if len(core) in whole and core not in of_training and common[core] < settings.boilerplate:
            found = {row: ("whole item", 1.0) for row in whole[len(core)].shares(core)}
        elif not any(own):  # each of its n-grams is known or frequent, but not all of them in this order
            there = f" {' '.join(text)} "
            found = {row: ("whole item", 1.0) for row, said in enumerate(joined) if there in said}
        elif len(text) < SHORTEST:
            found = {row: ("whole item", 1.0) for row in prompts.get(tuple(text), ())}
        shares = short.shares(text, own)
        found |= {row: ("short n-grams", s) for row, s in shares.items() if s >= settings.short_share}
        for by, form in ((long_masked, masked(text)), (long, text)):
            found |= {row: ("long n-gram", share) for row, share in by.shares(form, own).items()}
        leaks += [Leak(row, item.id, *why, item.half == "held_out") for row, why in found.items()]
    return leaks


def _frames(items: Sequence[EvalItem], words: Sequence[Words], settings: DecontaminationPlan) -> set[int]:
    """Returns the n-grams that are cut out of texts: those of many items, and those of the training half."""
    frames = _frequent(words, FRAME, settings.boilerplate)
    for item, text in zip(items, words, strict=True):
        if item.half == "train":
            frames |= grams(text, FRAME)
    return frames


def _too_numeric(texts: Iterable[Words], size: int) -> set[int]:
    found = set()
    for words in map(masked, texts):
        for place in range(len(words) - size + 1):
            gram = words[place : place + size]
            if gram.count(NUMBER) > MASKED_NUMBERS:
                found.add(hash(tuple(gram)))
    return found


# -- paraphrases ------------------------------------------------------------------------------------------------------


def _by_meaning(
    asked: Sequence[Words],
    items: Sequence[EvalItem],
    words: Sequence[Words],
    frames: set[int],
    settings: DecontaminationPlan,
) -> list[Leak]:
    """Finds prompts that say what an item says in other words, frames and what trainers may know left out."""
    replayed = {tuple(text) for item, text in zip(items, words, strict=True) if item.half == "train"}
    guarded = [place for place, item in enumerate(items) if item.half != "train" and words[place]]
    if not guarded:
        return []
    common = Counter(word for text in words for word in set(text))
    facts = {place: _facts(items[place].text, _without(words[place], frames), common, settings) for place in guarded}
    bare = [" ".join(_without(text, frames)) for text in asked]
    distinct = sorted(set(bare))
    place_of = {text: place for place, text in enumerate(distinct)}
    held = [" ".join(_without(words[place], frames)) for place in guarded]
    vectors = _vectors([*distinct, *held])
    ours, theirs = vectors[: len(distinct)], vectors[len(distinct) :]
    leaks = []
    for start in range(0, len(guarded), BLOCK):
        near = _pairs(ours, theirs[start : start + BLOCK], min(settings.similarity, SAME_NUMBERS))
        by_text: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        for ours_at, theirs_at, cosine in near:
            by_text[ours_at].append((guarded[start + theirs_at], cosine))
        for row, text in enumerate(bare):
            if tuple(asked[row]) in replayed:
                continue
            for place, cosine in by_text.get(place_of[text], ()):
                if cosine >= _least(asked[row], facts[place], settings.similarity):
                    item = items[place]
                    leaks.append(Leak(row, item.id, "paraphrase", cosine, item.half == "held_out"))
    return leaks


def _vectors(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Embeds texts with MiniLM, however many; where it is not installed they are bags of words.

    TF-IDF will not do: its space depends on the texts, so that a set that was clean might not be when it is checked
    again.
    """
    import numpy as np

    from evalkit.slices.embed import MAX_TEXTS, MINILM, embed, embedder_name

    if embedder_name() != MINILM:
        return _bags(texts)
    return np.concatenate([embed(texts[start : start + MAX_TEXTS]) for start in range(0, len(texts), MAX_TEXTS)])


def _bags(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Counts words, hashed to 4,096 places; rows of length 1."""
    import zlib

    import numpy as np

    vectors = np.zeros((len(texts), BAG), dtype=np.float32)
    for place, text in enumerate(texts):
        for word in text.split():
            vectors[place, zlib.crc32(word.encode()) % BAG] += 1
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def _pairs(
    ours: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    theirs: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    least: float,
) -> list[tuple[int, int, float]]:
    import numpy as np

    cosines = ours @ theirs.T
    return [(int(a), int(b), float(cosines[a, b])) for a, b in zip(*np.nonzero(cosines >= least), strict=True)]


def _without(words: Words, frames: set[int]) -> Words:
    """Cuts the frames out of a text; a text that is nothing else stays whole."""
    left = [word for word, own in zip(words, _own(words, frames), strict=True) if own]
    return left if len(left) > 1 else words


def _own(words: Words, frames: set[int]) -> list[bool]:
    """Returns which words are of no frame."""
    own = [True] * len(words)
    for place in range(len(words) - FRAME + 1):
        if hash(tuple(words[place : place + FRAME])) in frames:
            own[place : place + FRAME] = [False] * FRAME
    return own


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a paraphrase of an item must have: its numbers in digits, the names in it, and the words that are rare."""

    numbers: list[str]
    names: set[str]
    rare: set[str]
    bare: bool  # it has little but its numbers


def _facts(text: str, core: Words, common: Counter[str], settings: DecontaminationPlan) -> _Facts:
    # Numbers in words count for little: a sentence is as good as one sentence.
    digits = numbers(tokens(" ; ".join(re.findall(r"\d+(?:[.,]\d+)*", text))))
    called = {name for name in names(text) if common[name] < settings.boilerplate}
    rare = {word for word in core if common[word] < settings.boilerplate and len(word) > 2 and not is_number(word)}
    return _Facts(digits, called, rare, len(core) <= 2 * len(digits) + BARE_WORDS)


def _least(asked: Words, facts: _Facts, similarity: float) -> float:
    """Returns the cosine from which on a prompt is a paraphrase of an item; above 1 where it lacks the item's facts."""
    said = numbers(asked)
    if Counter(facts.numbers) - Counter(said) or 2 * sum(name in asked for name in facts.names) < len(facts.names):
        return 2.0
    if facts.bare and len(facts.numbers) > 1 and facts.numbers == said and len(asked) <= 2 * (len(said) + BARE_WORDS):
        return SAME_NUMBERS
    return SAME_WORDS if facts.rare and facts.rare <= set(asked) else similarity
