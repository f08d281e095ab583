"""Near-duplicates and paraphrases among texts.

Benchmarks are full of frames: "What is 8 + 5? Give only the number." shares most of its words with eighty others that
ask something else. Words of a frame do not tell two texts apart, so they are taken away before texts are compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalkit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JACCARD = 0.7
COSINE = 0.9
FRAME_FROM, FRAME_SHARE = 4, 0.01
"""A run of three words in so many different texts, and this share of them, belongs to a frame."""
GRAM = 3
PERMUTATIONS = 64
_BLOCK = 2048
# A number, a word, or of scripts without spaces a single sign.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\d+(?:[.,]\d+)*|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_NUMBER = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}

Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Returns a text's words in lower case; number words up to twelve as digits, single Chinese signs as words."""
    return [_NUMBER.get(word, word) for word in _WORD.findall(text.lower())]


def near_duplicates(
    texts: Sequence[str], *, jaccard: float = JACCARD, cosine: float = COSINE, paraphrases: bool = True
) -> NDArray[np.int64]:
    """Groups texts that ask the same.

    Two texts are near when, frames taken away, their sets of word 3-grams have a Jaccard similarity of at least
    `jaccard` (candidates by MinHash, Broder 1997, then compared exactly) or their embeddings a cosine of at least
    `cosine`, and they name the same numbers. Groups are what nearness connects. Texts that are nothing but frame are
    compared whole. Paraphrases are looked for with MiniLM only: cosines of TF-IDF mean something else.

    Args:
        texts: n texts.
        jaccard, cosine: Thresholds, 0 to 1.
        paraphrases: Whether embeddings are compared at all.

    Returns:
        For each text the place of the first text of its group, shape (n,).

    Raises:
        UserError: A package of the extra `train` is missing.
    """
    import numpy as np

    # Copies first: they would make a frame of their own words.
    split = [words(text) for text in texts]
    first: dict[Gram, int] = {}
    copy_of = np.array([first.setdefault(tuple(one), i) for i, one in enumerate(split)], dtype=np.int64)
    unique = sorted(first.values())
    kept = _without_frames([split[i] for i in unique])
    numbers = [tuple(sorted(word for word in one if word[0].isdigit())) for one in kept]
    root = list(range(len(unique)))
    for i, j in _alike(kept, jaccard):
        if numbers[i] == numbers[j]:
            _join(root, i, j)
    if paraphrases:
        for i, j in _similar(kept, cosine):
            if numbers[i] == numbers[j]:
                _join(root, i, j)
    place = {i: unique[_find(root, k)] for k, i in enumerate(unique)}
    return np.array([place[int(i)] for i in copy_of], dtype=np.int64)


def _without_frames(texts: Sequence[list[str]]) -> list[list[str]]:
    """Takes away words all of whose 3-grams are found in many texts; a text without any other word stays whole."""
    count: Counter[Gram] = Counter()
    for text in texts:
        count.update(_grams(text))
    many = max(FRAME_FROM, FRAME_SHARE * len(texts))
    kept = []
    for text in texts:
        own = [True] * len(text)
        for start in range(max(1, len(text) - GRAM + 1)):
            if count[tuple(text[start : start + GRAM])] >= many:
                own[start : start + GRAM] = [False] * len(own[start : start + GRAM])
        kept.append([word for word, is_own in zip(text, own, strict=True) if is_own] or text)
    return kept


def _grams(text: Sequence[str]) -> set[Gram]:
    return {tuple(text[start : start + GRAM]) for start in range(max(1, len(text) - GRAM + 1))}


def _alike(texts: Sequence[list[str]], threshold: float) -> list[tuple[int, int]]:
    """Pairs of texts by Jaccard similarity of their 3-grams."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise UserError('near-duplicates need the extra train; type: pip install "evalkit[train]"') from error
    sets = [_grams(text) for text in texts]
    # Looser than asked for: what is found is compared exactly, what is not found is lost.
    index = MinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=PERMUTATIONS)
    pairs = []
    hashes = MinHash.generator([["\x1f".join(gram).encode() for gram in one] for one in sets], num_perm=PERMUTATIONS)
    for i, hashed in enumerate(hashes):
        for j in index.query(hashed):
            if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]):
                pairs.append((j, i))
        index.insert(i, hashed, check_duplication=False)
    return pairs


def _similar(texts: Sequence[list[str]], threshold: float) -> list[tuple[int, int]]:
    """Pairs of texts by cosine; a text of one word is left to `_alike`, which compares it letter by letter."""
    import numpy as np

    from evalkit.slices.embed import MINILM, embed, embedder_name

    if embedder_name(len(texts)) != MINILM:
        return []
    long = [i for i, text in enumerate(texts) if len(text) > 1]
    vectors = embed([" ".join(texts[i]) for i in long])
    pairs = []
    for start in range(0, len(long), _BLOCK):
        near = vectors[start : start + _BLOCK] @ vectors.T >= threshold
        for i, j in np.argwhere(near):
            if j < i + start:
                pairs.append((long[j], long[i + start]))
    return pairs


def _find(root: list[int], i: int) -> int:
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


def _join(root: list[int], i: int, j: int) -> None:
    a, b = _find(root, i), _find(root, j)
    root[max(a, b)] = min(a, b)
