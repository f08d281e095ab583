"""Battles and what each annotator says of them: the rows of a votes frame, one for each battle and annotator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.verdicts import code_verdicts, combine, scores, three_way
from evalkit.stats.votes import TIE, FloatArray, IntArray, code_names, list_names

# What a verdict says of a battle whose two models stand in sorted order, in the order of the outcomes A_WINS, B_WINS,
# TIE; -1 is a verdict that could not be read.
LABELS = ("first", "second", "tie")
UNREADABLE = -1


@dataclass(frozen=True, eq=False)
class BattleLabels:
    """One label of each annotator for each battle.

    Attributes:
        battles: One row a battle: item_id (turn, criterion where the votes have them), first, second (model names in
            sorted order).
        annotators: Names.
        battle: Position in `battles`, shape (labels,).
        annotator: Position in `annotators`, shape (labels,).
        label: As in `LABELS`, -1 where it could not be read, shape (labels,).
        n_repeats: Rows merged into another row of the same annotator on the same battle.
        warnings: Sentences.
    """

    battles: pd.DataFrame
    annotators: tuple[str, ...]
    battle: IntArray
    annotator: IntArray
    label: IntArray
    n_repeats: int
    warnings: tuple[str, ...]

    def matrix(self, members: IntArray) -> IntArray:
        """Labels of the annotators at the positions `members`, shape (battles, members); -1 where there is none."""
        place = np.full(len(self.annotators), -1, dtype=np.int64)
        place[members] = np.arange(len(members))
        column = place[self.annotator]
        rows = column >= 0
        labels = np.full((len(self.battles), len(members)), UNREADABLE, dtype=np.int64)
        labels[self.battle[rows], column[rows]] = self.label[rows]
        return labels

    def scores(self, members: IntArray) -> FloatArray:
        """Mean score of the first model by those annotators (win 1, tie 1/2, loss 0), NaN where none is readable."""
        rows = np.isin(self.annotator, members) & (self.label != UNREADABLE)
        n = np.bincount(self.battle[rows], minlength=len(self.battles))
        total = np.bincount(self.battle[rows], scores(self.label[rows]), minlength=len(self.battles))
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def matching(
    names: tuple[str, ...], judges: str, annotators: str, kinds: Mapping[str, str] | None = None
) -> tuple[IntArray, IntArray]:
    """Positions of the names that match the glob for the judges, and the one for the humans.

    Args:
        kinds: `judge` or `human` by name: then `*` is all of that kind.

    Raises:
        UserError: A glob matches nobody, or a name matches both.
    """
    found = []
    for what, glob, kind in (("judge", judges, "judge"), ("annotators", annotators, "human")):
        places = [i for i, name in enumerate(names) if fnmatchcase(name, glob)]
        if glob == "*" and kinds is not None:
            places = [i for i in places if kinds.get(names[i]) == kind]
        if not places:
            raise UserError(
                f"no annotator matches the {what} {glob!r}; there are {list_names(names, like=glob) or 'none'}.", 2
            )
        found.append(np.array(places, dtype=np.int64))
    both = [names[i] for i in np.intersect1d(found[0], found[1])]
    if both:
        raise UserError(f"{list_names(both)} match both the judge {judges!r} and the annotators {annotators!r}.", 2)
    return found[0], found[1]


def distinct(*codes: IntArray) -> tuple[IntArray, IntArray]:
    """Codes (0 and up) of the distinct combinations in order of appearance, and the row where each is first seen."""
    key = combine(*((code - code.min(initial=0), int(np.ptp(code)) + 1 if len(code) else 1) for code in codes))
    joint = np.asarray(pd.factorize(key)[0], dtype=np.int64)
    row = np.zeros(int(joint.max(initial=-1)) + 1, dtype=np.int64)
    row[joint[::-1]] = np.arange(len(joint))[::-1]
    return joint, row


def battle_labels(votes: pd.DataFrame) -> BattleLabels:
    """Reduce a votes frame to one label of each annotator for each battle.

    A battle is an item (with its turn and criterion, where there are such columns) and an unordered pair of models.
    Several verdicts of one annotator on one battle (both orders, repeats) become one: what the readable ones all say,
    or a tie where they differ, as in the MT-bench paper (Zheng et al. 2023, section 3.4). both_bad counts as a tie.

    Args:
        votes: item_id, model_a, model_b, winner, annotator; optional turn, criterion. An empty winner is a verdict
            that could not be read.

    Raises:
        UserError: A column, an item_id or an annotator is missing, or a winner is none of the four labels.
    """
    coded = code_verdicts(votes, need=["annotator"])
    nameless = votes["annotator"].isna().to_numpy()
    if nameless.any():
        raise UserError(f"vote {int(np.flatnonzero(nameless)[0]) + 1} has no annotator; every vote needs one.")
    rows = np.flatnonzero((coded.first != coded.second) & (coded.second < len(coded.models)))
    left_out = len(votes) - len(rows)
    warnings = [f"{left_out} votes name no model, or one against itself; left out."] if left_out else []
    coded = coded.take(rows)
    battle, first_row = distinct(coded.battle)
    battles = votes[list(coded.keys)].iloc[coded.row[first_row]].reset_index(drop=True)
    names = np.array(coded.models, dtype=object)
    battles["first"], battles["second"] = names[coded.first[first_row]], names[coded.second[first_row]]
    cell, seen = distinct(battle, coded.annotator)
    label = three_way(coded.outcome)
    # An unreadable verdict takes the neutral ends, so that it decides nothing where another one can be read.
    low, high = np.full(len(seen), TIE + 1), np.full(len(seen), UNREADABLE)
    np.minimum.at(low, cell, np.where(label == UNREADABLE, TIE + 1, label))
    np.maximum.at(high, cell, label)
    merged = np.where(high == UNREADABLE, UNREADABLE, np.where(low == high, low, TIE))
    return BattleLabels(
        battles=battles,
        annotators=code_names(votes["annotator"])[0],
        battle=battle[seen],
        annotator=coded.annotator[seen],
        label=merged,
        n_repeats=len(rows) - len(seen),
        warnings=tuple(warnings),
    )
