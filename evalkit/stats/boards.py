"""One leaderboard against another: separability, agreement with confidence, pair-rank Brier score, rank correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.correlation import Estimate, correlation
from evalkit.stats.ranks import critical_value
from evalkit.stats.votes import FloatArray, list_names, require_columns

_COLUMNS = ("model", "rating", "lower", "upper")


@dataclass(frozen=True)
class BoardComparison:
    """How well a benchmark's board tells models apart, and how well it agrees with a reference board.

    Attributes:
        separability: Share of model pairs that the benchmark's intervals keep apart.
        reference_separability: The same for the reference.
        agreement_with_confidence: -1 to 1, mean over the pairs.
        pair_rank_brier: 0 to 1, lower is better; always saying 1/2 has 0.25. Over `n_brier` pairs.
        spearman, kendall: Rank correlations of the ratings, intervals by a bootstrap over models.
        n_models: Models rated on both boards; everything is over these.
        n_pairs: Pairs of them.
        n_brier: Pairs with different reference ratings.
        definition: The formulas in words.
        warnings: Sentences; they name the models that are on one board only.
    """

    separability: float
    reference_separability: float
    agreement_with_confidence: float
    pair_rank_brier: float
    spearman: Estimate
    kendall: Estimate
    n_models: int
    n_pairs: int
    n_brier: int
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row: separability, agreement_with_confidence, pair_rank_brier, spearman, kendall, n_models and more."""
        row = {
            "separability": self.separability,
            "agreement_with_confidence": self.agreement_with_confidence,
            "pair_rank_brier": self.pair_rank_brier,
            "spearman": self.spearman.value,
            "spearman_lower": self.spearman.lower,
            "spearman_upper": self.spearman.upper,
            "kendall": self.kendall.value,
            "kendall_lower": self.kendall.lower,
            "kendall_upper": self.kendall.upper,
            "n_models": self.n_models,
            "reference_separability": self.reference_separability,
        }
        return pd.DataFrame([row])


def compare_boards(
    benchmark: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    confidence: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> BoardComparison:
    """Compare a benchmark's board with a reference board over the models on both (Li et al. 2024, section 3).

    A board separates two models where their intervals do not overlap; an interval of no width (an anchor's) or a
    missing one counts as overlapping. Separability: share of the pairs that the benchmark separates. Agreement with
    confidence: mean over the pairs of +1 where both boards separate the two and order them alike, -1 where both
    separate them and disagree, 0 otherwise. Pair-rank Brier score: mean over the pairs of (p - o)^2, p = Phi((r_i -
    r_j) / sqrt(s_i^2 + s_j^2)) the probability that i stands above j on the benchmark, s = (upper - lower) / (2 z)
    from the intervals taken as normal and independent (1/2 where neither has a width or one is missing), o = 1 if i
    stands above j on the reference, else 0; pairs tied there are left out (Li et al. 2024, "From crowdsourced data to
    high-quality benchmarks: Arena-Hard and BenchBuilder pipeline", arXiv:2406.11939; Brier 1950).

    Args:
        benchmark: Columns model, rating, lower, upper; any units. An empty rating is a model not rated, empty or
            infinite limits are no interval.
        reference: The same.
        confidence: Level of the intervals on the benchmark's board; also of the intervals of the correlations.
        rounds, seed: Of the bootstrap over models behind the intervals of the correlations.

    Raises:
        UserError: A column is missing, a model is named twice or not at all, a value is no number, a rating is
            infinite or outside its limits, the message naming board, row and column; or fewer than two models are
            rated on both boards.
    """
    if not 0.0 < confidence < 1.0:
        raise UserError(f"the confidence is {confidence}; it must lie between 0 and 1, such as 0.95.", code=2)
    left, right = _read(benchmark, "benchmark board"), _read(reference, "reference board")
    warnings = []
    for board, other, title, opposite in (
        (left, right, "benchmark", "reference"),
        (right, left, "reference", "benchmark"),
    ):
        if names := sorted(board.index[board["rating"].isna()]):
            warnings.append(f"Not rated on the {title} board ({len(names)}): {', '.join(names)}.")
        if names := sorted(set(board.index) - set(other.index)):
            warnings.append(f"On the {title} board but not on the {opposite} ({len(names)}): {', '.join(names)}.")
    left, right = left.dropna(subset="rating"), right.dropna(subset="rating")
    shared = sorted(set(left.index) & set(right.index))
    if len(shared) < 2:
        raise UserError(f"{len(shared)} models are rated on both boards; comparing them needs two or more.")
    left, right = left.loc[shared], right.loc[shared]
    for board, title in ((left, "benchmark"), (right, "reference")):
        width = (board["upper"] - board["lower"]).to_numpy()
        for flag, what in ((~np.isfinite(width), "no interval"), (width == 0, "an interval of no width")):
            if flag.any():
                names = [name for name, chosen in zip(shared, flag, strict=True) if chosen]
                warnings.append(
                    f"On the {title} board {list_names(names)} {'have' if len(names) > 1 else 'has'} {what}, "
                    "which counts as overlapping every other."
                )
    i, j = np.triu_indices(len(shared), 1)
    order, order_reference = _separated(left, i, j), _separated(right, i, j)
    predicted = _above(left, i, j, critical_value(confidence, float("inf")))
    rating = right["rating"].to_numpy()
    outcome = np.sign(rating[i] - rating[j])
    decided = outcome != 0
    if not decided.all():
        warnings.append(f"{int((~decided).sum())} pairs are tied on the reference board; the Brier score is without.")
    squared = (predicted[decided] - (outcome[decided] + 1) / 2) ** 2
    ranks = correlation(
        left["rating"], rating, names=("benchmark", "reference"), rounds=rounds, confidence=confidence, seed=seed
    )
    return BoardComparison(
        separability=float((order != 0).mean()),
        reference_separability=float((order_reference != 0).mean()),
        agreement_with_confidence=float((order * order_reference).mean()),
        pair_rank_brier=float(squared.mean()) if len(squared) else float("nan"),
        spearman=ranks.spearman,
        kendall=ranks.kendall,
        n_models=len(shared),
        n_pairs=len(i),
        n_brier=len(squared),
        definition=(
            "separability: share of model pairs whose intervals do not overlap; agreement with confidence: +1 both "
            "boards separate and agree, -1 both separate and disagree, 0 otherwise, mean over pairs; pair-rank Brier: "
            f"squared error of the normal probability of the order, from the {confidence:.0%} intervals"
        ),
        warnings=(*warnings, *(sentence for sentence in ranks.warnings if "pearson" not in sentence)),
    )


def _read(board: pd.DataFrame, title: str) -> pd.DataFrame:
    """The board's numbers, one row for each model; a fault ends in a sentence with its row and column."""
    require_columns(board, _COLUMNS, f"rows of the {title}")
    table = board.reset_index(drop=True)
    names = table["model"].astype("string").str.strip()
    for fault, what in ((names.isna() | (names == ""), "is empty"), (names.duplicated(), "is there twice")):
        if fault.any():
            row = int(np.flatnonzero(fault)[0])
            named = "" if what == "is empty" else f" {names[row]!r}"
            raise UserError(f"the {title}, row {row + 1}, column model: the name{named} {what}; one row a model.")
    numbers = {}
    for column in _COLUMNS[1:]:
        text = table[column]
        values = pd.to_numeric(text, errors="coerce")
        bad = values.isna() & text.notna() & (text.astype("string").str.strip() != "")
        bad |= np.isinf(values) if column == "rating" else False
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise UserError(f"the {title}, row {row + 1}, column {column}: {str(text[row])!r} is not a finite number.")
        numbers[column] = values.astype(np.float64)
    for column, beyond in (
        ("lower", numbers["lower"] > numbers["rating"]),
        ("upper", numbers["upper"] < numbers["rating"]),
    ):
        if beyond.any():
            row = int(np.flatnonzero(beyond)[0])
            raise UserError(
                f"the {title}, row {row + 1}, column {column}: {numbers[column][row]:g} puts the rating "
                f"{numbers['rating'][row]:g} outside its limits."
            )
    return pd.DataFrame(numbers).set_axis(names.astype(object), axis=0)


def _separated(board: pd.DataFrame, i: np.ndarray, j: np.ndarray) -> FloatArray:
    """1 where i stands clearly above j, -1 below, 0 where the intervals overlap, have no width or are missing."""
    lower, upper = board["lower"].to_numpy(), board["upper"].to_numpy()
    usable = np.isfinite(lower) & np.isfinite(upper) & (upper > lower)
    both = usable[i] & usable[j]
    return np.asarray(both * ((lower[i] > upper[j]) * 1.0 - (lower[j] > upper[i])), dtype=np.float64)


def _above(board: pd.DataFrame, i: np.ndarray, j: np.ndarray, critical: float) -> FloatArray:
    rating = board["rating"].to_numpy()
    error = ((board["upper"] - board["lower"]) / (2 * critical)).to_numpy()
    spread = np.sqrt(error[i] ** 2 + error[j] ** 2)
    known = np.isfinite(spread) & (spread > 0)
    probability = np.full(len(i), 0.5)
    probability[known] = special.ndtr((rating[i] - rating[j])[known] / spread[known])
    return probability
