"""Juries of the judges at hand: on held-out items, and as further rows of the scorecard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from judges.stand_in import people_counts

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import JuryComparison
    from evalkit.stats.battles import BattleLabels
    from evalkit.stats.votes import FloatArray, IntArray

TIE = 2
MAJORITY, WEIGHTED = "majority jury", "weighted jury"
FEWEST = 50
"""Battles with a human majority below which nothing is learned of juries."""


def try_juries(
    labels: BattleLabels, people: IntArray, judges: Sequence[str], seed: int
) -> tuple[JuryComparison | None, str, dict[str, tuple[FloatArray, FloatArray]] | None]:
    """Tries the juries that the judges could make.

    Args:
        labels: Of judges and people.
        people: Places of the people in `labels.annotators`.
        judges: Names of the single judges.
        seed: Of the halves.

    Returns:
        What each way of voting is worth on held-out items (`stats.compare_juries`), or None and why there is nothing to
        compare; and by jury its labels (-1 unreadable) and probabilities of the first model, shape (battles,), those
        of the weighted jury on each half of the items with the weights learned on the other.
    """
    import numpy as np

    from evalkit.stats import compare_juries
    from evalkit.stats.stacking import stacked_weights
    from evalkit.stats.votes import factorize
    from judges.jury import Jury, jury_verdicts

    if len(judges) < 2:
        return None, "one judge alone makes no jury", None
    places = np.array([labels.annotators.index(name) for name in judges])
    codes = labels.matrix(places)
    counts = people_counts(labels, people)
    cast, top = counts.sum(axis=1), counts.argmax(axis=1)
    truth = np.where(cast == 0, -1, np.where(2 * counts.max(axis=1) > cast, top, TIE))
    usable = (truth >= 0) & (codes >= 0).any(axis=1)
    items = factorize(labels.battles["item_id"])[0]
    units = np.unique(items[usable])
    if usable.sum() < FEWEST or len(units) < 4:
        why = f"{int(usable.sum())} battles on {len(units)} items have verdicts of judges and of people"
        return None, f"{why}; {FEWEST} on 4 items are needed", None
    seen = np.unique(labels.battle[np.isin(labels.annotator, places)])
    compared = compare_juries(
        codes[seen], truth[seen], judges=judges, clusters=items[seen], tie=TIE, n_labels=3, seed=seed
    )
    first = np.isin(items, np.random.default_rng(seed).permutation(units)[: len(units) // 2])
    made: dict[str, tuple[FloatArray, FloatArray]] = {}
    everything = np.ones(len(items), dtype=np.bool_)
    for name, aggregation, parts in (
        (MAJORITY, "majority", [everything]),
        (WEIGHTED, "weighted", [first, ~first]),
    ):
        said, likely = np.full(len(items), -1.0), np.full(len(items), np.nan)
        for part in parts:
            learn = usable & ~part
            weights = None
            if aggregation == "weighted":
                found = stacked_weights(
                    codes[learn], truth[learn], judges=judges, clusters=items[learn], n_labels=3, seed=seed
                )
                weights = dict(zip(judges, found.weight.tolist(), strict=True))
            jury = Jury(name, tuple(judges), aggregation, weights)  # type: ignore[arg-type]
            at = np.flatnonzero(part & (codes >= 0).any(axis=1))
            if weights is not None:
                likely[at] = _first_likelier(codes[at], np.array([weights[name] for name in judges]))
            for row in jury_verdicts(codes[at], at.tolist(), jury, 0, ""):
                said[row.battle_id] = -1 if row.winner is None else ("model_a", "model_b", "tie").index(row.winner)
        made[name] = (said, likely)
    return compared, "", made


def _first_likelier(codes: IntArray, weight: FloatArray) -> FloatArray:
    """P(first model wins | one of them wins) under the weights, shape (battles,); rounded, so that equals are equal."""
    import numpy as np
    from scipy import special

    lead = ((codes == 0) * weight).sum(axis=1) - ((codes == 1) * weight).sum(axis=1)
    return np.asarray(special.expit(lead).round(6), dtype=np.float64)


def with_juries(
    frame: pd.DataFrame, labels: BattleLabels, made: Mapping[str, tuple[FloatArray, FloatArray]]
) -> pd.DataFrame:
    """The votes with those of juries."""
    import numpy as np
    import pandas as pd

    words = np.array(["model_a", "model_b", "tie", None], dtype=object)
    parts = [frame]
    for name, (said, likely) in made.items():
        at = np.flatnonzero(said >= 0)
        battles = labels.battles.iloc[at].reset_index(drop=True)
        battles = battles.rename(columns={"first": "model_a", "second": "model_b"})
        known = {"annotator": name, "annotator_kind": "judge", "winner": words[said[at].astype(int)]}
        parts.append(battles.assign(**known, probability=likely[at]))
    return pd.concat([part.dropna(axis=1, how="all") for part in parts], ignore_index=True).reindex(
        columns=list(dict.fromkeys([*frame.columns, "probability"]))
    )
