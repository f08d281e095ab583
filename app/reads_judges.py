"""Cached reads of what judges are worth: their calibration against people, and where they disagree with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import streamlit as st

from app import reads
from app.stale_reads import State
from evalkit.store.schema import Item
from evalkit.store.schema_app import set_aside

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.report.judges import JudgeTable
    from judges.calibration import Calibration
    from judges.recommendation import Recommendation

DIRECTIONS = {
    "winner": "Another winner",
    "decides": "Judge decides, people tie",
    "ties": "Judge ties, people decide",
}
"""How a judge may differ from what most people say of a battle."""

COLUMNS = [
    *("judge", "battle_id", "item_id", "category", "direction", "model_a", "model_b", "said", "people"),
    *("for_a", "for_b", "ties", "votes"),
]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What `evalkit judge calibrate` finds on a criterion, and its advice."""

    found: Calibration
    advice: Recommendation


@st.cache_resource(max_entries=4, show_spinner=False)
def _calibration(at: State, criterion: str) -> Calibrated:
    from judges.calibration import calibrate
    from judges.evidence import of_ledger
    from judges.recommendation import recommend

    found = calibrate(of_ledger(reads.ledger(), criterion), criterion=criterion)
    return Calibrated(found, recommend(found))


def calibration(criterion: str) -> Calibrated:
    """Holds all judges against all people; see `stale_while_revalidate`.

    Raises:
        UserError: There are no judges or no people on this criterion, or they share no battle.
    """
    return reads.stale_while_revalidate(_calibration, criterion)


def is_calibrated(criterion: str) -> bool:
    """Whether `calibration` is there at once."""
    return reads.cached(_calibration, criterion)


@st.cache_data(max_entries=4, show_spinner=False)
def _table(at: State, criterion: str) -> JudgeTable:
    from evalkit.report.judges import judge_table

    return judge_table(reads.ledger(), criterion=criterion)


def table(criterion: str) -> JudgeTable:
    """Measures judges without people (`evalkit.report.judges.judge_table`); see `stale_while_revalidate`."""
    return reads.stale_while_revalidate(_table, criterion)


@st.cache_data(max_entries=4, show_spinner=False)
def _disagreements(at: State, criterion: str) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    from evalkit.report.judges import verdicts
    from evalkit.report.reads import judges
    from evalkit.stats.battles import battle_labels
    from judges.stand_in import people_counts

    with reads.ledger().engine.connect() as connection:
        out = set(connection.scalars(set_aside()))
        who = {str(one.id): one for one in judges(connection, criterion) if one.id not in out}
        frame = verdicts(connection, [one.id for one in who.values()], criterion, None)
    if frame.empty or not any(one.kind == "human" for one in who.values()):
        return pd.DataFrame(columns=COLUMNS)
    labels = battle_labels(frame.astype({"item_id": str, "turn": str}))
    kinds = [who[name].kind for name in labels.annotators]
    counts = people_counts(labels, np.flatnonzero([kind == "human" for kind in kinds]))
    most = counts.argmax(axis=1)
    clear = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1  # no two answers level
    parts = []
    for place, name in enumerate(labels.annotators):
        if kinds[place] == "human":
            continue
        said = labels.matrix(np.array([place]))[:, 0]
        at_ = np.flatnonzero((said >= 0) & clear & (said != most))
        battles = labels.battles.iloc[at_]
        direction = np.where(said[at_] == 2, "ties", np.where(most[at_] == 2, "decides", "winner"))
        part = pd.DataFrame(
            {
                "judge": who[name].name,
                "battle_id": battles["turn"].astype("int64"),
                "item_id": battles["item_id"].astype("int64"),
                "direction": direction,
                "first": battles["first"].astype("int64"),
                "second": battles["second"].astype("int64"),
                "said": said[at_],
                "people": most[at_],
                "for_first": counts[at_, 0].astype("int64"),
                "for_second": counts[at_, 1].astype("int64"),
                "ties": counts[at_, 2].astype("int64"),
            }
        )
        parts.append(part)
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return _named(pd.concat(parts, ignore_index=True))


def _named(found: pd.DataFrame) -> pd.DataFrame:
    """Puts names for ids, the models as the battle has them (lower id first), and sorts: those people are surest of."""
    import numpy as np

    from evalkit.store.reading import model_names

    with reads.ledger().engine.connect() as connection:
        names = model_names(connection)
        tags: dict[int, Any] = {row[0]: row[1] for row in connection.execute(sa.select(Item.id, Item.tags))}
    turned = (found["first"] > found["second"]).to_numpy()  # ids were sorted as text
    label = np.array(["model_a", "model_b", "tie"], dtype=object)
    other = np.array(["model_b", "model_a", "tie"], dtype=object)
    for column in ("said", "people"):
        codes = found[column].to_numpy()
        found[column] = np.where(turned, other[codes], label[codes])
    found["model_a"] = np.where(turned, found["second"], found["first"])
    found["model_b"] = np.where(turned, found["first"], found["second"])
    found[["model_a", "model_b"]] = found[["model_a", "model_b"]].apply(lambda column: column.map(names))
    found["for_a"] = np.where(turned, found["for_second"], found["for_first"])
    found["for_b"] = np.where(turned, found["for_first"], found["for_second"])
    found["category"] = [str((tags.get(item) or {}).get("category") or "") for item in found["item_id"]]
    votes = found[["for_a", "for_b", "ties"]]
    found = found.assign(votes=votes.sum(axis=1), lead=2 * votes.max(axis=1) - votes.sum(axis=1))
    found = found.sort_values(["judge", "lead", "battle_id"], ascending=[True, False, True], kind="stable")
    return found[COLUMNS].reset_index(drop=True)


def disagreements(criterion: str) -> pd.DataFrame:
    """Lists battles where a judge says another thing than most people do; see `stale_while_revalidate`.

    A judge's orders and replicates of a battle are one verdict, a tie where they differ; both_bad counts as a tie.
    Battles where people are split evenly are not in it.

    Returns:
        judge, battle_id, item_id, category (empty where the item has no such tag), direction (key of `DIRECTIONS`),
        model_a, model_b, said (by the judge: model_a, model_b or tie), people (what most of them say), for_a, for_b,
        ties (people's votes), votes; by judge, those with the greatest majority first.
    """
    return reads.stale_while_revalidate(_disagreements, criterion)
