"""Calibration of judges against people: scorecard, juries on held-out items, who may stand in, corrected board."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from judges.columns import Figure
from judges.evidence import Evidence, Place, Texts, select
from judges.jury_rows import TIE, try_juries, with_juries
from judges.scorecard import EPSILON, HUMANS, Scorecard, scorecard
from judges.stand_in import ALPHA, MoreVotes, StandIn, more_votes, people_counts, stand_ins

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import CorrectedBoard, JuryComparison, NextBattles
    from evalkit.stats.battles import BattleLabels
    from evalkit.stats.votes import FloatArray, IntArray

EXAMPLES = 6


@dataclass(frozen=True, slots=True)
class Facts:
    """What there was to calibrate with: judges, juries, people, their votes, battles both judged, items, models."""

    judges: tuple[str, ...]
    juries: tuple[str, ...]
    people: int
    votes: int
    battles: int
    shared_battles: int
    items: int
    models: int
    categories: tuple[str, ...]
    criterion: str
    humans: str
    epsilon: float
    confidence: float
    seed: int


@dataclass(frozen=True, slots=True)
class TurnRow:
    """Agreement on one turn of the conversations, of a judge or of the people among themselves."""

    judge: str
    turn: str
    agreement: Figure
    agreement_no_ties: Figure


@dataclass(frozen=True, slots=True)
class Paired:
    """How much better one judge agrees with people than another, on the same battles.

    Attributes:
        difference, lower, upper: Of the shares of people who say what the judge says, first less second.
        p_value: Two-sided.
        more: What would tell the two apart; None where they are told apart or cannot be.
    """

    first: str
    second: str
    difference: float
    lower: float
    upper: float
    p_value: float
    n: int
    more: MoreVotes | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A battle where people are of one mind and the judge of the other.

    Attributes:
        people: How many people prefer the first model, the second, neither.
        said: The model that the judge prefers.
    """

    place: Place
    category: str
    people: tuple[int, int, int]
    said: str
    texts: Texts | None


@dataclass(frozen=True, eq=False)
class Calibration:
    """All that `judge calibrate` finds out.

    Attributes:
        held_out: Judges and juries on the half of the items that nothing was learned from; None with one judge, or
            where there are too few battles (`no_juries` says why).
        weights: Of the members' votes, learned on the other half; empty without.
        paired: The single judge that agrees most with people against each other one, and each jury against it.
        judge: Whose board is shown corrected: the judge or jury that agrees most with people.
        corrected: Its board, raw and corrected by the human votes.
        next: What the board of the people leaves open.
        disagreements: Of that judge with people.
    """

    facts: Facts
    scorecard: Scorecard
    by_turn: tuple[TurnRow, ...]
    held_out: JuryComparison | None
    no_juries: str
    weights: Mapping[str, float]
    stand_in: tuple[StandIn, ...]
    paired: tuple[Paired, ...]
    judge: str
    corrected: CorrectedBoard
    next: NextBattles
    disagreements: tuple[Disagreement, ...]
    warnings: tuple[str, ...]


def calibrate(
    evidence: Evidence,
    *,
    judges: str = "*",
    humans: str = "*",
    criterion: str = "overall",
    epsilon: float = EPSILON,
    confidence: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Holds judges, and juries made of them, against the people who voted on the same battles.

    Where there are two judges or more, two juries join them on the scorecard: the majority of all, and the weighted
    jury, whose votes on each half of the items are weighed as learned on the other half (`stats.stacked_weights`). What
    each way of voting is worth on items that nothing was learned from is `stats.compare_juries`.

    Args:
        evidence: Votes, and what is known of those who gave them.
        judges, humans: Patterns of names; `*` is every annotator of the kind.
        criterion: What was judged.
        epsilon: What a judge's lower cost is worth, in agreement with people.
        confidence: Level of the intervals.
        seed: Of the halves and of what is drawn.

    Raises:
        UserError: There are no judges or no people on this criterion, or they share no battle.
    """
    import numpy as np

    from evalkit.stats import next_battles
    from evalkit.stats.battles import battle_labels

    frame = select(evidence.votes, judges, humans, criterion)
    labels = battle_labels(frame)
    of_judges = sorted(frame.loc[frame["annotator_kind"] == "judge", "annotator"].unique())
    single = [name for name in of_judges if name not in evidence.juries]
    people = _people(labels, of_judges)
    held_out, no_juries, made = try_juries(labels, people, single, seed)
    juries = tuple(name for name in of_judges if name in evidence.juries)
    if made is not None:
        frame = with_juries(frame, labels, made)
        labels = battle_labels(frame)
        people = _people(labels, of_judges, made)
        juries += tuple(made)
    known = evidence.known | {"juries": juries}
    card = scorecard(frame, criterion=criterion, epsilon=epsilon, confidence=confidence, seed=seed, **known)
    counts = people_counts(labels, people)
    places = {row.judge: labels.annotators.index(row.judge) for row in card.rows}
    categories = _categories(frame, labels)
    best = card.rows[0].judge
    corrected = _corrected(frame, best, confidence)
    ranked = [row.judge for row in card.rows if row.judge in single]
    pairs = [(ranked[0], name) for name in ranked[1:]] + [(name, ranked[0]) for name in juries] if ranked else []
    board = card.boards[None]
    shared = (labels.matrix(np.array(list(places.values()))) >= 0).any(axis=1) & (counts.sum(axis=1) > 0)
    facts = Facts(
        judges=tuple(single),
        juries=juries,
        people=len(people),
        votes=int(counts.sum()),
        battles=len(labels.battles),
        shared_battles=int(shared.sum()),
        items=labels.battles["item_id"].nunique(),
        models=len({*labels.battles["first"], *labels.battles["second"]}),
        categories=tuple(sorted({str(name) for name in categories.dropna()})) if categories is not None else (),
        criterion=criterion,
        humans=humans,
        epsilon=epsilon,
        confidence=confidence,
        seed=seed,
    )
    return Calibration(
        facts=facts,
        scorecard=card,
        by_turn=tuple(_by_turn(frame, confidence)),
        held_out=held_out,
        no_juries=no_juries,
        weights={}
        if held_out is None
        else dict(zip(held_out.weights.judges, held_out.weights.weight.tolist(), strict=True)),
        stand_in=tuple(stand_ins(labels, people, places, categories, epsilon=epsilon, confidence=confidence)),
        paired=tuple(_paired(labels, counts, places, pairs, confidence)),
        judge=best,
        corrected=corrected,
        next=next_battles(board, n=3, seed=seed),
        disagreements=tuple(_disagreements(labels, counts, places[best], categories, best, evidence)),
        warnings=tuple(dict.fromkeys([*card.warnings, *corrected.warnings, *_sample(labels, counts, places[best])])),
    )


def _people(labels: BattleLabels, *judges: Collection[str]) -> IntArray:
    """Places of all who are none of these."""
    import numpy as np

    known = {name for names in judges for name in names}
    return np.array([i for i, name in enumerate(labels.annotators) if name not in known], dtype=np.int64)


def _categories(frame: pd.DataFrame, labels: BattleLabels) -> pd.Series[str] | None:
    """The category of each battle's item."""
    if "category" not in frame.columns or not frame["category"].notna().any():
        return None
    of_item = frame[frame["category"].notna() & (frame["category"] != "")].drop_duplicates("item_id")
    return labels.battles["item_id"].map(of_item.set_index("item_id")["category"])


def _by_turn(frame: pd.DataFrame, confidence: float) -> list[TurnRow]:
    from evalkit.stats import judge_agreement

    if "turn" not in frame.columns or frame["turn"].nunique() < 2:
        return []
    found = judge_agreement(frame, group_by="turn", confidence=confidence).rows
    return [
        TurnRow(
            "" if row.judge == HUMANS else row.judge,
            row.group,
            Figure(row.agreement, row.agreement_lower, row.agreement_upper, row.n - row.n_failed),
            Figure(row.agreement_no_ties, row.agreement_no_ties_lower, row.agreement_no_ties_upper, row.n_no_ties),
        )
        for row in found
    ]


def _paired(
    labels: BattleLabels,
    counts: FloatArray,
    places: Mapping[str, int],
    pairs: Sequence[tuple[str, str]],
    confidence: float,
) -> list[Paired]:
    import math

    import numpy as np
    from scipy import special

    from evalkit.stats import clustered_mean
    from evalkit.stats.votes import factorize

    cast = counts.sum(axis=1)
    item = factorize(labels.battles["item_id"])[0]
    found = []
    for one, other in pairs:
        both = np.column_stack([labels.matrix(np.array([places[name]]))[:, 0] for name in (one, other)])
        at = np.flatnonzero((both >= 0).all(axis=1) & (cast > 0))
        if len(np.unique(item[at])) < 2:
            continue
        agreed = counts[at[:, None], both[at]] / cast[at][:, None]
        mean = clustered_mean(agreed[:, 0] - agreed[:, 1], item[at], confidence)
        p = float(2 * special.stdtr(mean.df, -abs(mean.value) / mean.se)) if mean.se > 0 else float("nan")
        more = None
        if p >= ALPHA:
            deviation = mean.se * math.sqrt(mean.n_clusters)
            more = more_votes(deviation, abs(mean.value), mean.n_clusters, int(cast[at].sum()), ALPHA / 2)
        found.append(Paired(one, other, mean.value, mean.lower, mean.upper, p, len(at), more))
    return found


def _corrected(frame: pd.DataFrame, judge: str, confidence: float) -> CorrectedBoard:
    from evalkit.stats import ppi_bradley_terry

    # Names of its own, for the board takes patterns.
    human = frame["annotator_kind"] == "human"
    two = frame[human | (frame["annotator"] == judge)].reset_index(drop=True)
    who = two["annotator"].where(two["annotator_kind"] == "human", "")
    two = two.assign(annotator=who.map(lambda name: f"human {name}" if name else "judge"))
    return ppi_bradley_terry(two, "judge", "human *", cluster="item_id", confidence=confidence)


def _sample(labels: BattleLabels, counts: FloatArray, place: int) -> list[str]:
    """Says where the battles that people saw are no sample of the judge's, as the correction takes them to be."""
    import numpy as np

    judged = labels.matrix(np.array([place]))[:, 0] >= 0
    items = labels.battles["item_id"].to_numpy(dtype=object)
    seen, all_ = set(items[judged & (counts.sum(axis=1) > 0)]), set(items[judged])
    if len(seen) == len(all_):
        return []
    return [
        f"People voted on {len(seen)} of the {len(all_)} items that the judge saw; the corrected board takes the "
        "battles that people saw for a random sample of all."
    ]


def _disagreements(
    labels: BattleLabels,
    counts: FloatArray,
    place: int,
    categories: pd.Series[str] | None,
    judge: str,
    evidence: Evidence,
) -> list[Disagreement]:
    """Battles where all people with an opinion prefer one model and the judge the other, of all categories in turn."""
    import numpy as np

    said = labels.matrix(np.array([place]))[:, 0]
    other = np.where(said == 0, counts[:, 1], counts[:, 0])
    own = np.where(said == 0, counts[:, 0], counts[:, 1])
    wrong = np.flatnonzero(((said == 0) | (said == 1)) & (own == 0) & (counts[:, TIE] == 0) & (other >= 2))
    wrong = wrong[np.argsort(-other[wrong], kind="stable")]
    names = ["" if categories is None else str(categories.iloc[i]) for i in wrong.tolist()]
    seen: dict[str, int] = {}
    ranked = []
    for index, name in zip(wrong.tolist(), names, strict=True):
        seen[name] = seen.get(name, 0) + 1
        ranked.append((seen[name], -int(other[index]), index, name))
    found = []
    for _, _, index, name in sorted(ranked)[:EXAMPLES]:
        battle = labels.battles.iloc[index]
        turn = int(battle["turn"]) if "turn" in labels.battles.columns else 1
        sides = (str(battle["first"]), str(battle["second"]))
        where: Place = (str(battle["item_id"]), *sides, turn)
        votes = (int(counts[index, 0]), int(counts[index, 1]), int(counts[index, 2]))
        found.append(Disagreement(where, name, votes, sides[int(said[index])], None))
    if evidence.texts is None or not found:
        return found
    from dataclasses import replace

    texts = evidence.texts(judge, [one.place for one in found])
    return [replace(one, texts=texts.get(one.place)) for one in found]
