"""The columns of the scorecard: what each figure is called, what it means, and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["share", "points", "coefficient", "dollars", "seconds", "count"]

GROUPS = {
    "people": "Agreement with people",
    "stand-in": "May it stand in for a person?",
    "lean": "What else sways it",
    "robustness": "Robustness",
    "board": "The leaderboard it makes, and what it costs",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of the scorecard.

    Attributes:
        key: Its name in files.
        group: Key of `GROUPS`.
        title: Its heading.
        unit: share (0 to 1), points (a difference of shares), coefficient (-1 to 1), and others.
        meaning: What it is, for a reader who knows none of the words.
        mark: The value to hold it against; None where there is none.
    """

    key: str
    group: str
    title: str
    unit: Unit
    meaning: str
    mark: float | None = None


COLUMNS = (
    Column(
        *("agreement", "people", "Agrees with people", "share"),
        "How often the judge and a person say the same of the same battle, a tie being a third answer.",
    ),
    Column(
        *("agreement_no_ties", "people", "Agrees, without ties", "share"),
        "The same over the battles where both name a winner; guessing reaches 50%.",
        0.5,
    ),
    Column(
        *("human_ceiling", "people", "People with each other", "share"),
        "How often two people say the same of the same battle: the ceiling, for no judge can be expected to agree with "
        "people much better than they do with each other.",
    ),
    Column(
        *("human_ceiling_no_ties", "people", "People, without ties", "share"),
        "The same where both people name a winner.",
        0.5,
    ),
    Column(
        *("kappa", "people", "Cohen's kappa", "coefficient"),
        "Agreement with people beyond what chance gives: 0 is chance, 1 is full agreement.",
        0.0,
    ),
    Column(
        *("alpha", "people", "Krippendorff's alpha", "coefficient"),
        "Agreement beyond chance of the judge and the people as one group; much below the people's own alpha, "
        "the judge is the odd one out.",
        0.0,
    ),
    Column(
        *("alt_test", "stand-in", "Alt-test: winning rate", "share"),
        "The alternative annotator test: the share of people than whom the judge is shown to be no worse, epsilon "
        "being what its lower cost is worth. From one half on, it may stand in for a person.",
        0.5,
    ),
    Column(
        *("alt_test_advantage", "stand-in", "Alt-test: advantage", "share"),
        "How often the judge is at least as near to the other people as the person it would replace.",
    ),
    Column(
        *("swap_consistency", "lean", "Same verdict when swapped", "share"),
        "How often the verdict stays when the two answers change places; a coin reaches 50%.",
        0.5,
    ),
    Column(
        *("first_slot", "lean", "Answer shown first wins", "share"),
        "Share of its decisive verdicts won by the answer shown first; a fair judge is near 50%.",
        0.5,
    ),
    Column(
        *("length_preference", "lean", "Longer answer wins", "share"),
        "Share of its decisive verdicts won by the longer answer. No fault in itself: longer may be better.",
        0.5,
    ),
    Column(
        *("verbosity", "lean", "Verbosity", "points"),
        "What it gives the longer answer beyond what people give it, in points of win rate; 0 is fair.",
        0.0,
    ),
    Column(
        *("self_preference", "lean", "Favours its own answers", "points"),
        "What it gives the answers of the model that it is, beyond what people give them; 0 is fair.",
        0.0,
    ),
    Column(
        *("family_preference", "lean", "Favours its family", "points"),
        "The same for all models of its family.",
        0.0,
    ),
    Column(
        *("parse_failures", "robustness", "Unreadable verdicts", "share"),
        "Share of its replies in which no verdict could be found.",
    ),
    Column(
        *("injection", "robustness", "Falls for injections", "share"),
        "Share of poor answers that win because a text hidden in them tells the judge to choose them.",
    ),
    Column(
        *("null_model", "robustness", "Falls for a constant answer", "share"),
        "Share of battles won by an answer that is the same for every question.",
    ),
    Column(
        *("calibration_error", "robustness", "Calibration error", "share"),
        "How far its stated probabilities are, on average, from how often people agree; 0 is best.",
        0.0,
    ),
    Column(
        *("separability", "board", "Separability", "share"),
        "Share of the pairs of models that its leaderboard keeps apart: their intervals do not overlap.",
    ),
    Column(
        *("spearman", "board", "Rank correlation", "coefficient"),
        "Spearman's correlation of its leaderboard with that of the people: 1 is the same order of models.",
    ),
    Column(
        *("dollars_per_1000", "board", "Dollars for 1,000 verdicts", "dollars"),
        "Paid for its verdicts on 1,000 battles, in both orders where both were asked.",
    ),
    Column(
        *("seconds_per_1000", "board", "Seconds for 1,000 verdicts", "seconds"),
        "Time of its model for 1,000 battles, one request after another.",
    ),
    Column(
        *("requests", "board", "Requests", "count"),
        "Requests sent for its verdicts.",
    ),
)
BY_KEY = {column.key: column for column in COLUMNS}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the scorecard.

    Attributes:
        value, lower, upper: The number and its limits; None where it could not be measured, or has no interval.
        n: What it is a figure of: verdicts, pairs of verdicts, people, models, battles.
        note: Why it could not be measured, or of what n and the limits are where that is not plain.
    """

    value: float | None
    lower: float | None
    upper: float | None
    n: int
    note: str = ""

    @property
    def measured(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


def written(column: Column, value: float | None) -> str:
    """Writes a value as readers want it: shares in percent, points with a sign, money in dollars."""
    if value is None:
        return ""
    if column.unit == "share":
        return f"{value:.1%}"
    if column.unit == "points":
        return f"{100 * value:+.1f}".replace("-", "−")
    if column.unit == "dollars":
        return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.4f}"
    if column.unit == "coefficient":
        return f"{value:.2f}".replace("-", "−")
    return f"{value:,.0f}"
