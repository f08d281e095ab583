"""How diverse rows are: distinct n-grams, and how many kinds of prompts of a pool they cover."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trainers.rows import Row, prompt_of, text_of
from trainers.words import tokens

CLUSTERS = 32
LEAST = 2
"""Rows below which there is nothing to cluster."""


def distinct(rows: Sequence[Row], n: int) -> float:
    """Returns distinct-n (Li et al. 2016, NAACL): different n-grams of all texts over the number of their n-grams.

    Returns:
        0 to 1; 0 where no text has n words.
    """
    grams = [tuple(words[place : place + n]) for words in map(_words, rows) for place in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _words(row: Row) -> list[str]:
    return tokens(text_of(row))


def diversity(before: Sequence[Row], after: Sequence[Row], *, seed: int) -> dict[str, Any]:
    """Compares rows before and after filtering and mixing.

    Clusters are those of the prompts before (k-means on their embeddings, k the square root of their number, 32 at
    most). The effective number of clusters is exp(H), H the entropy in nats of the rows' distribution over them.

    Args:
        before: All rows that were made.
        after: Those in the set, which are among them.
        seed: Of the clustering.

    Returns:
        For before and after: rows, distinct_1, distinct_2, distinct_3, mean_words, clusters, effective_clusters; and
        coverage, the share of the clusters before that are still there.
    """
    labels = _clusters(before, seed)
    place = {row.hash: labels[i] for i, row in enumerate(before)}
    found: dict[str, Any] = {}
    for name, rows in (("before", before), ("after", after)):
        sizes = Counter(place[row.hash] for row in rows if row.hash in place)
        lengths = [len(_words(row)) for row in rows]
        found[name] = {
            "rows": len(rows),
            **{f"distinct_{n}": round(distinct(rows, n), 4) for n in (1, 2, 3)},
            "mean_words": round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
            "clusters": len(sizes),
            "effective_clusters": round(_effective(sizes), 2),
        }
    had = found["before"]["clusters"]
    found["coverage"] = round(found["after"]["clusters"] / had, 4) if had else 0.0
    return found


def _effective(sizes: Counter[int]) -> float:
    total = sizes.total()
    return math.exp(-sum(n / total * math.log(n / total) for n in sizes.values())) if total else 0.0


def _clusters(rows: Sequence[Row], seed: int) -> list[int]:
    """Returns the cluster of each row's prompt."""
    if len(rows) < LEAST:
        return [0] * len(rows)
    import numpy as np
    from scipy.cluster.vq import kmeans2

    from evalkit.slices.embed import embed

    texts = [prompt_of(row) for row in rows]
    unique = sorted(set(texts))
    vectors = np.asarray(embed(unique), dtype=np.float64)
    k = min(CLUSTERS, max(1, math.isqrt(len(unique))))
    _, labels = kmeans2(vectors, k, minit="++", rng=seed)
    of = dict(zip(unique, labels.tolist(), strict=True))
    return [int(of[text]) for text in texts]
