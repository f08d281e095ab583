"""Win rates against a baseline at equal length of the answers (AlpacaEval 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from evalkit.stats.delta import cluster_codes, clustered_se
from evalkit.stats.glm import LogisticFit, fit_logistic
from evalkit.stats.ranks import critical_value, two_sided_p
from evalkit.stats.style_features import feature_values
from evalkit.stats.votes import BOTH_BAD, Diagnosis, FloatArray, IntArray, require_columns
from evalkit.stats.win_rates import Against, RateTable, against, interval_words, scores_of

_BINS = 5
_OVERLAP = 0.05
_FEW_CLUSTERS = 10
_HALF_VOTE = 0.5


@dataclass(frozen=True)
class LengthControlledWinRate:
    """Win rate at equal length of the two answers, beside the raw one on the same votes.

    Attributes:
        model, baseline: Names.
        win_rate, lower, upper: At length difference zero; NaN and 0 to 1 where it cannot be estimated.
        se: Its standard error.
        raw: Raw win rate on the same votes.
        change, change_se: win_rate - raw and its standard error.
        length_effect, length_effect_lower, length_effect_upper, length_p: Log-odds for one unit of tanh(length
            difference / its standard deviation), and the test that it is 0.
        difficulty_effect: Log-odds for one standard deviation of the instructions' difficulty; NaN without.
        longer: Share of the votes in which the model's answer is the longer one.
        by_length: Raw win rate in fifths of the length difference, from the shortest answers on.
        monotonic: Whether those rise (or fall) as the length effect says, up to chance.
        n, n_clusters: Votes and sampling units used.
        n_missing: Votes of this pair without a length or difficulty.
    """

    model: str
    baseline: str
    win_rate: float
    lower: float
    upper: float
    se: float
    raw: float
    change: float
    change_se: float
    length_effect: float
    length_effect_lower: float
    length_effect_upper: float
    length_p: float
    difficulty_effect: float
    longer: float
    by_length: tuple[float, ...]
    monotonic: bool
    n: int
    n_clusters: int
    n_missing: int


class LengthControlledWinRates(RateTable[LengthControlledWinRate]):
    """Win rates at equal length of the two answers."""


def length_controlled_win_rates(
    votes: pd.DataFrame,
    baseline: str,
    length: str = "length",
    *,
    difficulty: str | None = None,
    ties: str = "half",
    both_bad: str | None = None,
    cluster: str | None = None,
    confidence: float = 0.95,
) -> LengthControlledWinRates:
    """Win rate of every model against a baseline, at equal length of the two answers.

    The length-controlled win rate of AlpacaEval 2 (Dubois, Galambosi, Liang & Hashimoto 2024, "Length-controlled
    AlpacaEval", section 3): for each model

        logit P(win on x) = theta + phi tanh((len_model - len_baseline) / sd) + psi gamma_x,

    sd the standard deviation of the length difference over the model's votes, gamma_x the difficulty of the
    instruction; then the mean over x of the prediction without the length term. Maximum likelihood without the
    regularisation of the original; half wins are scores of 1/2.

    The standard error is that of the delta method with the clustered sandwich (CR1): each vote's influence on the
    mean prediction, (mu_x - mu) / n + d' H^-1 score_x, d the derivative of the mean prediction, so that both the
    coefficients' and the instructions' sampling count; sd and gamma are taken as known. Limits on the logit scale, t
    with G - 1 degrees of freedom.

    Diagnoses: the length effect cannot be told, and no number is given (`not_identifiable`: one side's answers are
    always longer, lengths never differ, or the covariates alone tell wins from losses);
    equal length lies outside the data (`extrapolated`: the model's answers are longer, or shorter, on all but 5 % of
    the votes); the win rate does not move one way with length (`not_monotonic`).

    Args:
        votes: model_a, model_b, winner, `<length>_a`, `<length>_b`; item_id where difficulties are estimated.
        baseline: A model in them.
        length: Name of the length feature (tokens or characters).
        difficulty: Column with gamma_x, such as published ones. None: estimated from the other models' votes on the
            same item against the baseline, the logit of (score + 1/2) / (votes + 1), so that no model's own outcome
            is in its covariate; left out, and said, where there are no item_id or no other models.
        ties, both_bad, cluster, confidence: As for `win_rates`; cluster None takes votes as independent.

    Raises:
        UserError: As `win_rates`; or a length is missing from the columns or negative.
    """
    require_columns(votes, [difficulty] if difficulty else [])
    battles, half = against(votes, baseline, ties, both_bad, cluster)
    require_columns(votes, [f"{length}_{side}" for side in "ab"])
    (values,), _ = feature_values(votes, [length])
    first, second = (side[battles.row].astype(np.float64) for side in values)
    gap = np.where(battles.is_a, first - second, second - first)
    score = scores_of(battles.outcome, half)
    gamma, source = _difficulty(votes, battles, score, difficulty)
    diagnoses = list(battles.diagnoses)
    if gamma is None:
        diagnoses.append(Diagnosis("no_comparison", source))
    units = None if cluster is None else cluster_codes(votes[cluster].iloc[battles.row], len(battles.row))
    rows: list[LengthControlledWinRate] = []
    n_excluded = battles.n_nameless + int((battles.outcome > BOTH_BAD).sum())
    for code, name in enumerate(battles.models):
        mine = np.flatnonzero((battles.model == code) & ~np.isnan(score))
        if name == baseline or not len(mine):
            continue
        known = ~np.isnan(gap[mine]) if gamma is None else ~np.isnan(gap[mine] + gamma[mine])
        rows_used = mine[known]
        covariates = None if gamma is None else gamma[rows_used]
        unit = np.arange(len(rows_used)) if units is None else np.unique(units[rows_used], return_inverse=True)[1]
        row, found = _controlled(name, baseline, score[rows_used], gap[rows_used], covariates, unit, confidence)
        missing = int((~known).sum())
        if missing:
            sentence = f"{missing} votes of {name} lack a length or a difficulty; not used."
            found.append(Diagnosis("missing_feature", sentence, (name,), missing))
        n_excluded += missing
        rows.append(LengthControlledWinRate(**{**row, "n_missing": missing}))
        diagnoses += found
    rows.sort(key=lambda row: (np.isnan(row.win_rate), -row.win_rate, row.model))
    return LengthControlledWinRates(
        tuple(rows),
        baseline,
        ties,
        both_bad or ties,
        interval_words(cluster, "delta method, on the logit scale", confidence),
        f"mean predicted score against {baseline} at equal {length}; logistic regression on tanh(difference / standard "
        f"deviation) and difficulty ({source}); no regularisation",
        confidence,
        sum(row.n for row in rows),
        n_excluded,
        tuple(diagnoses),
    )


def _difficulty(
    votes: pd.DataFrame, battles: Against, score: FloatArray, column: str | None
) -> tuple[FloatArray | None, str]:
    """gamma of each vote against the baseline, with its origin; None where there is none."""
    if column is not None:
        given = pd.to_numeric(votes[column].iloc[battles.row], errors="coerce")
        return given.to_numpy(dtype=np.float64, na_value=np.nan), f"the column {column}"
    if "item_id" not in votes.columns:
        return None, "No difficulty of the instructions in the model: the votes have no item_id."
    item = pd.factorize(votes["item_id"].iloc[battles.row])[0].astype(np.int64)
    known = ~np.isnan(score) & (item >= 0)
    models, items = len(battles.models), int(item.max(initial=-1)) + 1
    if len(np.unique(battles.model[known])) < 2:
        return None, "No difficulty of the instructions in the model: there is one model besides the baseline."
    cell = item[known] * models + battles.model[known]
    own_sum, own_n = (np.bincount(cell, w, minlength=items * models) for w in (score[known], None))
    total, n = (by.reshape(items, models).sum(axis=1) for by in (own_sum, own_n))
    at = item * models + battles.model
    others, count = total[item] - own_sum[at], n[item] - own_n[at]
    gamma = np.log(others + _HALF_VOTE) - np.log(count - others + _HALF_VOTE)
    return np.where(item >= 0, gamma, np.nan), "estimated from the other models' votes on the same item"


def _controlled(
    model: str,
    baseline: str,
    y: FloatArray,
    gap: FloatArray,
    gamma: FloatArray | None,
    unit: IntArray,
    confidence: float,
) -> tuple[dict[str, Any], list[Diagnosis]]:
    """The fields of a `LengthControlledWinRate`, and what the reader must know."""
    n, nan = len(y), float("nan")
    found: list[Diagnosis] = []
    groups = int(unit.max(initial=-1)) + 1
    row: dict[str, Any] = dict.fromkeys(LengthControlledWinRate.__dataclass_fields__, nan)
    longer = float((gap > 0).mean() + (gap == 0).mean() / 2.0) if n else nan
    row |= {"model": model, "baseline": baseline, "n": n, "n_clusters": groups, "lower": 0.0, "upper": 1.0}
    row |= {"raw": float(y.mean()) if n else nan, "longer": longer, "by_length": (), "monotonic": True}
    row |= {"length_effect_lower": -np.inf, "length_effect_upper": np.inf, "length_p": 1.0}
    spread = float(gap.std()) if n else 0.0
    columns = [np.ones(n), np.tanh(gap / spread) if spread > 0 else np.zeros(n)]
    if gamma is not None and n and gamma.std() > 0:
        columns.append((gamma - gamma.mean()) / gamma.std())
    z = np.column_stack(columns)
    never = n > 0 and (gap.min() > 0 or gap.max() < 0)
    fittable = n > z.shape[1] and spread > 0 and not never
    fitted: LogisticFit | None = fit_logistic(z, y) if fittable else None
    if fitted is None:
        why = "length and difficulty tell its wins from its losses, or the votes are too few"
        if never or spread == 0:
            which = "longer" if longer > 0.5 else "shorter"
            why = f"its answers are always {which}" if never else "the lengths never differ"
        sentence = f"No length-controlled win rate of {model}: {why} ({n} votes)."
        return row, [Diagnosis("not_identifiable", sentence, (model,), 1)]
    level = np.column_stack([z[:, 0], np.zeros(n), *columns[2:]])
    mu = special.expit(level @ fitted.coefficients)
    rate = float(mu.mean())
    slope = (level * (mu * (1.0 - mu))[:, None]).mean(axis=0)
    influence_of_fit = fitted.influence
    influence = (mu - rate) / n + influence_of_fit @ slope
    raw = float(y.mean())
    critical = critical_value(confidence, groups - 1.0)
    se = clustered_se(influence, unit)[0]
    change_se = clustered_se(influence - (y - raw) / n, unit)[0]
    length_se = clustered_se(influence_of_fit[:, 1], unit)[0]
    effect = float(fitted.coefficients[1])
    row |= {"win_rate": rate, "se": se, "change": rate - raw, "change_se": change_se, "length_effect": effect}
    if len(columns) > 2:
        row["difficulty_effect"] = float(fitted.coefficients[2])
    if np.isfinite(se):
        width = critical * se / (rate * (1.0 - rate))
        row["lower"], row["upper"] = (float(special.expit(special.logit(rate) + s * width)) for s in (-1, 1))
        row["length_effect_lower"], row["length_effect_upper"] = (
            effect - critical * length_se,
            effect + critical * length_se,
        )
        row["length_p"] = float(two_sided_p(np.array([effect / length_se]), groups - 1.0)[0]) if length_se > 0 else 1.0
    if groups < _FEW_CLUSTERS:
        sentence = f"Only {groups} sampling units for {model}: below {_FEW_CLUSTERS}, intervals are rough."
        found.append(Diagnosis("few_clusters", sentence, (model,), groups))
    if min(longer, 1.0 - longer) < _OVERLAP:
        which = "longer" if longer > 0.5 else "shorter"
        sentence = (
            f"{model}'s answers are {which} on {max(longer, 1 - longer):.0%} of the votes: its win rate at equal "
            "length is an extrapolation."
        )
        found.append(Diagnosis("extrapolated", sentence, (model,), n))
    row["by_length"], row["monotonic"] = _by_length(y, gap, unit, effect, critical)
    if not row["monotonic"]:
        rates = ", ".join(f"{rate:.0%}" for rate in row["by_length"])
        sentence = (
            f"{model}'s win rate does not move one way with length (by fifths: {rates}): the model of it is rough."
        )
        found.append(Diagnosis("not_monotonic", sentence, (model,), n))
    return row, found


def _by_length(
    y: FloatArray, gap: FloatArray, unit: IntArray, effect: float, critical: float
) -> tuple[tuple[float, ...], bool]:
    """Win rate in fifths of the length difference; and whether no two of them, in order, differ against the effect."""
    edges = np.quantile(gap, np.arange(1, _BINS) / _BINS)
    place = np.searchsorted(edges, gap, side="right")
    bins = [place == k for k in range(_BINS) if (place == k).any()]
    rates = [float(y[b].mean()) for b in bins]
    for i in range(len(bins)):
        for j in range(i + 1, len(bins)):
            influence = np.where(bins[j], (y - rates[j]) / bins[j].sum(), 0.0)
            influence -= np.where(bins[i], (y - rates[i]) / bins[i].sum(), 0.0)
            against = (rates[i] - rates[j]) * np.sign(effect)
            # Bonferroni over the comparisons would hide a plain peak; the usual level is enough for a warning.
            if against > 1.5 * critical * clustered_se(influence, unit)[0]:
                return tuple(rates), False
    return tuple(rates), True
