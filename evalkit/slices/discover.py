"""Finds the slices a model fails on: on one half of the items, confirmed on the other."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.errors import UserError
from evalkit.slices import halves
from evalkit.slices.answers import Answers, ItemFacts, battles, rationales, read_answers, read_items
from evalkit.slices.confirm import count
from evalkit.slices.features import About, Features, answer_columns, encode, item_rows, prompt_columns, spread
from evalkit.slices.found import Discovery, FoundSlice, by_evidence, in_words, store_slices
from evalkit.slices.near import words
from evalkit.slices.predicates import Definition, members
from evalkit.slices.prompts import YES, prompt_features
from evalkit.slices.tree import Namer, Tree, build_tree
from evalkit.slices.two_halves import measure, search_halves
from evalkit.store.ledger import Ledger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evalkit.engine.progress import Progress

ABOUT = "about"
_NODE = "\0node "
MIN_SUPPORT, MAX_SUPPORT, SUPPORT_SHARE = 5, 30, 0.02
EXAMPLES = 5


@dataclass(frozen=True)
class SliceSettings:
    """How to search.

    Attributes:
        min_support: Answers of the discovery half that a slice must have; None takes 2% of them, 5 to 30.
        q: Share of false discoveries allowed among the confirmed slices.
        resamples: Of the discovery half, to see what is found again; 0 leaves that out.
        min_stability: Slices found again in fewer of them are dropped before they are tested.
        namer: Names groups of the capability tree (see `tree.build_tree`).
        where: Features and their values: instead of a search, this one slice is measured, and stored whatever comes
            of it. Its q-value is its p-value, as one test was made.
    """

    min_support: int | None = None
    q: float = 0.1
    resamples: int = 20
    min_stability: float = 0.5
    namer: Namer | None = None
    where: Mapping[str, str] = field(default_factory=dict)


DEFAULTS = SliceSettings()


def discover(
    ledger: Ledger,
    run_id: int,
    model_id: int,
    *,
    settings: SliceSettings = DEFAULTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[FoundSlice]:
    """Finds, confirms and stores the slices a model fails on (see `find_slices`).

    Returns:
        The confirmed slices with their ids in the ledger, the smallest q-value first.

    Raises:
        UserError: As `find_slices`.
    """
    found = find_slices(ledger, run_id, model_id, settings=settings, seed=seed, progress=progress)
    return list(store_slices(ledger, found).confirmed)


def find_slices(
    ledger: Ledger,
    run_id: int,
    model_id: int,
    *,
    settings: SliceSettings = DEFAULTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Discovery:
    """Finds slices on the training half of a run's items and tests them on the held-out half.

    Items get their halves first (`halves.assign_halves`). Bins of lengths, clusters, names, candidates and their
    merging are learned on the training half; the held-out half is asked once, about the candidates that remain, and
    the Benjamini-Hochberg q-values are over these.

    Args:
        run_id, model_id: Whose answers.
        settings: How to search.
        seed: Of halves not yet given, resamples and permutations.
        progress: Is told of the resamples, which take longest.

    Raises:
        UserError: There is no such run, it has no graded answers of the model, or an extra is missing.
    """
    import numpy as np

    answers = read_answers(ledger, run_id, model_id)
    if answers.table.empty:
        raise UserError(
            f"run {run_id} has no answer of this model that was graded right or wrong, and none that fought a battle; "
            "nothing can be said of its failures"
        )
    ids, place = item_rows(answers.table)
    given = halves.assign_halves(ledger, ids, seed=seed)
    cluster = halves.clusters(ledger, ids)
    item_train = np.array([given[key] == halves.TRAIN for key in ids])
    train, failed = item_train[place], answers.table["failed"].to_numpy(dtype=np.bool_)
    support = settings.min_support or int(np.clip(SUPPORT_SHARE * train.sum(), MIN_SUPPORT, MAX_SUPPORT))
    facts = read_items(ledger, ids)
    tree, table = _features(ledger, run_id, model_id, answers, facts, ids, place, item_train, support, settings, seed)

    paired = [[k for k, name in enumerate(table.names) if table.about[k] == about and not name.startswith(_NODE)]
              for about in ("prompts", "answers")]  # fmt: skip
    units = np.array([cluster[key] for key in ids])[place]
    unsteady = small = 0
    if settings.where:
        own_words = _definition(settings.where, table, train, support)
        tested = [measure(own_words, table.codes, failed, train, units, seed=seed)]
    else:
        tested, unsteady, small = search_halves(
            table.codes, failed, train, units, paired=paired, min_support=support, resamples=settings.resamples,
            min_stability=settings.min_stability, seed=seed, progress=progress,
        )  # fmt: skip

    slices = []
    for one in tested:
        mask = members(table.codes, one.definition)
        where, terms, name = _describe(one.definition, table, tree)
        own = {ids[k]: given[ids[k]] for k in dict.fromkeys(place[mask].tolist())}
        datasets = set(answers.table["dataset_id"][mask].tolist())
        metrics = {answers.metrics[key] for key in datasets}
        bad = sorted({ids[k] for k in place[mask & train & failed].tolist()})
        slices.append(
            FoundSlice(
                slice_id=None,
                name=name,
                where=where,
                terms=terms,
                about="answers" if any(table.about[k] == "answers" for k, _ in one.definition) else "prompts",
                dataset_id=int(datasets.pop()) if len(datasets) == 1 else None,
                metric=metrics.pop() if len(metrics) == 1 else None,
                discovery=count(mask[train], failed[train]),
                held_out=one.confirmation,
                stability=one.stability,
                examples=tuple(random.Random(seed).sample(bad, min(EXAMPLES, len(bad)))),
                items=own,
                also=tuple(_describe(other, table, tree)[2] for other in one.also),
                confirmed=bool(settings.where) or one.confirmation.q_value <= settings.q,
            )
        )
    notes = [*answers.left_out]
    if unsteady:
        notes.append(f"{_many(unsteady)} found again in too few resamples to be tested")
    if small:
        notes.append(f"{_many(small)} left with too few held-out answers to be tested")
    return Discovery(
        run_id=run_id,
        model_id=model_id,
        slices=by_evidence(slices),
        answers=int(train.sum()),
        failed=int(failed[train].sum()),
        held_out=int((~train).sum()),
        held_out_failed=int(failed[~train].sum()),
        min_support=support,
        graders=tuple(sorted(answers.graders.values())),
        tree=tree,
        tree_rates=_rates(tree, place, train, failed),
        notes=tuple(notes),
    )


def _features(
    ledger: Ledger, run_id: int, model_id: int, answers: Answers, facts: Mapping[int, ItemFacts], ids: Sequence[int],
    place: NDArray[np.int64], item_train: NDArray[np.bool_], support: int, settings: SliceSettings, seed: int,
) -> tuple[Tree, Features]:  # fmt: skip
    """The capability tree of the prompts, and the table of features of the answers."""
    from evalkit.slices.embed import embed

    train = item_train[place]
    home = dict(zip(place.tolist(), answers.table["dataset_id"].tolist(), strict=True))
    texts = [halves.prompt_text(facts[key].messages) for key in ids]
    found = [prompt_features(facts[key], answers.datasets[home[k]]) for k, key in enumerate(ids)]
    columns = prompt_columns(found, [len(words(text)) for text in texts], item_train)
    tree = build_tree(embed(texts), texts, item_train, min_support=support, seed=seed, namer=settings.namer)
    columns[ABOUT] = [_leaf_name(tree, int(leaf)) for leaf in tree.leaf]
    for k, node in enumerate(tree.nodes):
        if node.parent is not None and len(node.leaves) > 1:
            columns[f"{_NODE}{k}"] = [YES if one else None for one in tree.members(k)]
    about: dict[str, About] = dict.fromkeys(columns, "prompts")
    spread_out = {name: spread(column, place) for name, column in columns.items()}
    said = rationales(ledger, run_id, model_id)
    fought = battles(ledger, model_id)
    for name, column in answer_columns(answers, train, fought, said, support).items():
        if name not in spread_out:
            spread_out[name], about[name] = column, "answers"
    return tree, encode(spread_out, about, train, support)


def _definition(where: Mapping[str, str], table: Features, train: NDArray[np.bool_], support: int) -> Definition:
    """A slice in the user's own words.

    Raises:
        UserError: There is no such feature or value, or too few answers have it.
    """
    known = {name: k for k, name in enumerate(table.names) if not name.startswith(_NODE)}
    definition = []
    for name, value in where.items():
        if name not in known:
            raise UserError(f"where: there is no feature {name!r} here; there are {', '.join(sorted(known))}", code=2)
        values = table.values[known[name]]
        if value not in values:
            raise UserError(
                f"where: no {support} answers of the training half have {name} = {value}; others: {', '.join(values)}",
                code=2,
            )
        definition.append((known[name], values.index(value) + 1))
    size = int(members(table.codes[train], tuple(definition)).sum())
    if size < support:
        raise UserError(
            f"where: only {size} answers of the training half are in that slice; {support} are needed", code=2
        )
    return tuple(definition)


def _leaf_name(tree: Tree, leaf: int) -> str:
    """A leaf's name, with its number where an earlier leaf is called the same."""
    name = tree.nodes[leaf].name
    first = next(k for k, node in enumerate(tree.nodes) if node.name == name and len(node.leaves) == 1)
    return name if first == leaf else f"{name} ({leaf})"


def _describe(definition: Definition, table: Features, tree: Tree) -> tuple[dict[str, str], tuple[str, ...], str]:
    """Features and values of a definition, or the terms of its node of the tree; and its name."""
    where = {table.names[column]: table.values[column][code - 1] for column, code in definition}
    if len(where) == 1:
        name, value = next(iter(where.items()))
        if name.startswith(_NODE):
            node = tree.nodes[int(name.removeprefix(_NODE))]
            return {}, node.terms or (node.name,), f"{ABOUT} {node.name}"
        if name == ABOUT:
            leaf = next(
                node for k, node in enumerate(tree.nodes) if len(node.leaves) == 1 and _leaf_name(tree, k) == value
            )
            return {}, leaf.terms or (leaf.name,), f"{ABOUT} {value}"
    return where, (), in_words(where)


def _many(n: int) -> str:
    return "1 candidate was" if n == 1 else f"{n} candidates were"


def _rates(
    tree: Tree, place: NDArray[np.int64], train: NDArray[np.bool_], failed: NDArray[np.bool_]
) -> tuple[tuple[int, int], ...]:
    """Answers and failures of the training half in each node."""
    rates = []
    for k in range(len(tree.nodes)):
        mask = tree.members(k)[place] & train
        rates.append((int(mask.sum()), int(failed[mask].sum())))
    return tuple(rates)
