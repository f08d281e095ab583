"""The capability tree: prompts clustered by what they are about, small groups within large ones, each with a name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from evalkit.slices.near import words
from evalkit.slices.prompts import COMMON_WORDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Namer = Callable[[Sequence[str], Sequence[str]], str]
"""Names a group from its distinctive terms and some of its texts."""

MAX_DEPTH = 5
DIRECT = 1_500
"""From more texts on, they are first put into this many groups by k-means, and the groups into a tree."""
TERMS = 3
SHOWN = 8
_STOP = frozenset(word for common in COMMON_WORDS.values() for word in common)


@dataclass(frozen=True)
class Node:
    """A group of prompts.

    Attributes:
        parent: Place of the larger group; None for the whole.
        depth: 0 for the whole.
        name: Its distinctive terms, or what the namer called it.
        terms: The terms.
        leaves: Places of the smallest groups in it.
    """

    parent: int | None
    depth: int
    name: str
    terms: tuple[str, ...]
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """Nodes, the whole first, each before those within it; and the leaf (a node's place) of each text, shape (n,)."""

    nodes: tuple[Node, ...]
    leaf: NDArray[np.int64]

    def members(self, place: int) -> NDArray[np.bool_]:
        """Marks the texts in a node, shape (n,)."""
        import numpy as np

        return np.isin(self.leaf, self.nodes[place].leaves)


@dataclass
class _Branch:
    rows: NDArray[np.int64]
    parent: int | None
    depth: int
    children: list[int]


def build_tree(
    vectors: NDArray[np.float32],
    texts: Sequence[str],
    train: NDArray[np.bool_],
    *,
    min_support: int,
    seed: int,
    namer: Namer | None = None,
) -> Tree:
    """Clusters texts into a tree (Ward 1963, JASA 58:236-244), and names its groups, from the training half alone.

    A group is split where both parts have `min_support` texts or more; smaller parts are put with their neighbours.
    Every text, of either half, then belongs to the leaf with the nearest centre.

    Args:
        vectors: Rows of length 1, shape (n, d).
        texts: n texts.
        train: Which of them may be read, shape (n,).
        min_support: Texts of the training half.
        seed: Of k-means, where there are many texts.
        namer: Names groups instead of their terms; is shown texts of the training half only.
    """
    import numpy as np

    rows = np.flatnonzero(train)
    branches = [_Branch(rows, None, 0, [])]
    if len(rows) >= 2 * min_support:
        _grow(branches, 0, _linked(vectors[rows], seed), rows, min_support)
    leaves = [i for i, branch in enumerate(branches) if not branch.children]
    centres = np.stack(
        [vectors[branches[i].rows].mean(axis=0) if len(rows) else np.zeros(vectors.shape[1]) for i in leaves]
    )
    length = np.linalg.norm(centres, axis=1, keepdims=True)
    leaf = np.asarray(leaves, dtype=np.int64)[(vectors @ (centres / np.maximum(length, 1e-9)).T).argmax(axis=1)]
    below: list[tuple[int, ...]] = [() for _ in branches]
    for i in range(len(branches) - 1, -1, -1):
        below[i] = (
            (i,) if not branches[i].children else tuple(k for child in branches[i].children for k in below[child])
        )
    said = {int(i): frozenset(_named_by(texts[int(i)])) for i in rows}
    everywhere = Counter(word for one in said.values() for word in one)
    nodes = []
    for i, branch in enumerate(branches):
        own = rows[np.isin(leaf[rows], below[i])]
        terms = _terms([said[int(k)] for k in own], everywhere, len(rows)) if branch.parent is not None else ()
        name = ", ".join(terms) or "everything"
        if namer is not None and branch.parent is not None:
            name = namer(terms, [texts[int(k)] for k in own[:: max(1, len(own) // SHOWN)][:SHOWN]]) or name
        nodes.append(Node(branch.parent, branch.depth, name, terms, below[i]))
    return Tree(tuple(nodes), leaf)


def _linked(vectors: NDArray[np.float32], seed: int) -> tuple[Any, list[NDArray[np.int64]]]:
    """The root of the binary tree, and the rows that each of its leaves stands for."""
    import numpy as np
    from scipy.cluster.hierarchy import linkage, to_tree

    points, groups = vectors, [np.array([i]) for i in range(len(vectors))]
    if len(vectors) > DIRECT:
        from sklearn.cluster import MiniBatchKMeans

        found = MiniBatchKMeans(DIRECT // 5, random_state=seed, n_init=1, batch_size=4096).fit(vectors)
        groups = [np.flatnonzero(found.labels_ == k) for k in range(DIRECT // 5)]
        groups = [group for group in groups if len(group)]
        points = np.stack([vectors[group].mean(axis=0) for group in groups])
    return to_tree(linkage(points, "ward")), groups


def _grow(
    branches: list[_Branch],
    place: int,
    linked: tuple[Any, list[NDArray[np.int64]]],
    rows: NDArray[np.int64],
    min_support: int,
) -> None:
    import numpy as np

    root, groups = linked
    waiting = [(place, root)]
    while waiting:
        place, node = waiting.pop()
        if branches[place].depth >= MAX_DEPTH:
            continue
        while not node.is_leaf():
            parts = [np.concatenate([groups[k] for k in side.pre_order()]) for side in (node.left, node.right)]
            small = [len(part) < min_support for part in parts]
            if not any(small):
                for part, side in zip(parts, (node.left, node.right), strict=True):
                    branches.append(_Branch(rows[part], place, branches[place].depth + 1, []))
                    branches[place].children.append(len(branches) - 1)
                    waiting.append((len(branches) - 1, side))
                break
            if all(small):
                break
            node = node.right if small[0] else node.left  # a few that stand apart


def _named_by(text: str) -> list[str]:
    """A text's words of three letters or more; of scripts without spaces its pairs of signs."""
    said = words(text)
    pairs = [a + b for a, b in pairwise(said) if len(a) == len(b) == 1 and min(a, b) >= "\u3040"]
    return pairs + [word for word in said if len(word) > 2 and not word[0].isdigit()]


def _terms(said: Sequence[frozenset[str]], everywhere: Counter[str], n: int) -> tuple[str, ...]:
    """Words that many texts of a group have and few others: share here x log(share here / share elsewhere)."""
    here = Counter(word for one in said for word in one)
    score = {}
    for word, k in here.items():
        if word in _STOP:
            continue
        inside, outside = k / len(said), (everywhere[word] - k + 0.5) / (n - len(said) + 1)
        score[word] = inside * math.log(inside / outside)
    best = sorted(score, key=lambda word: (-score[word], word))[:TERMS]
    return tuple(word for word in best if score[word] > 0)
