"""Two models on the same items: paired difference with clustered errors, McNemar's exact test."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from evalkit.errors import UserError
from evalkit.stats.intervals import clustered_mean, sign_test_p
from evalkit.stats.votes import require_columns


@dataclass(frozen=True)
class PairedDifference:
    """Model a minus model b on the items both have.

    Attributes:
        n: Items with both values.
        n_missing: Items where one or both values are missing: failures, left out of every mean.
        mean_a, mean_b, difference: In the units of the values.
        se, lower, upper, p_value: Of the difference; NaN, infinite and NaN where the items cannot tell.
        mcnemar_p: Exact; None unless every value is 0 or 1.
        only_a, only_b: Items that only a, or only b, got right; None unless every value is 0 or 1.
        n_clusters: Clusters of items (n without clusters).
        confidence: Level of the limits.
        warnings: Sentences.
    """

    n: int
    n_missing: int
    mean_a: float
    mean_b: float
    difference: float
    se: float
    lower: float
    upper: float
    p_value: float
    mcnemar_p: float | None
    only_a: int | None
    only_b: int | None
    n_clusters: int
    confidence: float
    warnings: tuple[str, ...]


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> PairedDifference:
    """Mean difference of two models' values on the same items.

    d_i = a_i - b_i; mean, clustered standard error and t test of d (Miller 2024, "Adding error bars to evals",
    section 4.2: pairing takes the items' difficulty out). For values 0 and 1, McNemar's exact test: with k items only a
    got right and l only b, the two-sided binomial p-value of k in k + l against 1/2 (McNemar 1947, Psychometrika
    12:153-157).

    Args:
        a, b: Values by item, shape (items,); NaN where there is none.
        clusters: Labels of groups of like items, shape (items,).
        confidence: Level.

    Raises:
        UserError: The lengths differ, a value is infinite, or a label is missing.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise UserError(f"values of the shapes {left.shape} and {right.shape} cannot be paired item by item.")
    both = ~(np.isnan(left) | np.isnan(right))
    left, right = left[both], right[both]
    labels = None if clusters is None else np.asarray(clusters)[both]
    mean = clustered_mean(left - right, labels, confidence)
    n_missing = int((~both).sum())
    warnings = []
    if n_missing:
        warnings.append(f"{n_missing} of {len(both)} items lack a value of one of the models and are not compared.")
    lower, upper = mean.lower, mean.upper
    if mean.n_clusters < 2:
        warnings.append(f"No interval: {mean.n_clusters} independent items or clusters; two or more are needed.")
    elif mean.se == 0:
        lower, upper = -np.inf, np.inf
        warnings.append(f"No interval: the difference is the same on all {mean.n} items, which shows no variation.")
    only_a = only_b = mcnemar_p = None
    if mean.n and np.isin(left, (0.0, 1.0)).all() and np.isin(right, (0.0, 1.0)).all():
        only_a, only_b = int((left > right).sum()), int((left < right).sum())
        mcnemar_p = sign_test_p(only_a, only_a + only_b)
    return PairedDifference(
        n=mean.n,
        n_missing=n_missing,
        mean_a=float(left.mean()) if mean.n else float("nan"),
        mean_b=float(right.mean()) if mean.n else float("nan"),
        difference=mean.value,
        se=mean.se,
        lower=lower,
        upper=upper,
        p_value=mean.p_value(),
        mcnemar_p=mcnemar_p,
        only_a=only_a,
        only_b=only_b,
        n_clusters=mean.n_clusters,
        confidence=confidence,
        warnings=tuple(warnings),
    )


def compare_models(
    grades: pd.DataFrame, model_a: str, model_b: str, *, cluster: str | None = None, confidence: float = 0.95
) -> PairedDifference:
    """Paired difference of two models' grades on one criterion.

    Several grades of one model on one item (samples, replicates) are averaged first, those without a value left out of
    that average; an item where a model has no value at all is missing.

    Args:
        grades: Columns item_id, model, value (NaN for a failure), and `cluster` if given; one criterion only.
        model_a, model_b: Names in the column `model`.
        cluster: Column with the group an item belongs to.
        confidence: Level.

    Raises:
        UserError: A column is missing, a model has no grade or is compared with itself, or the grades mix criteria.
    """
    if model_a == model_b:
        raise UserError(f"the model {model_a!r} is compared with itself; name two models.")
    require_columns(grades, ["item_id", "model", "value", *([cluster] if cluster else [])], "grades")
    if "criterion" in grades.columns and grades["criterion"].nunique() > 1:
        names = ", ".join(sorted(map(str, grades["criterion"].unique())))
        raise UserError(f"the grades mix the criteria {names}; choose one.")
    for name in (model_a, model_b):
        if not (grades["model"] == name).any():
            known = ", ".join(sorted(map(str, grades["model"].unique())))
            raise UserError(f"there is no grade of the model {name!r}; there are grades of {known}.")
    chosen = grades[grades["model"].isin([model_a, model_b])]
    table = chosen.pivot_table(index="item_id", columns="model", values="value", aggfunc="mean", dropna=False)
    clusters = chosen.groupby("item_id")[cluster].first().reindex(table.index).to_numpy() if cluster else None
    result = paired_difference(
        table[model_a].to_numpy(), table[model_b].to_numpy(), clusters=clusters, confidence=confidence
    )
    failures = int(chosen["value"].isna().sum())
    if not failures:
        return result
    sentence = f"{failures} of {len(chosen)} grades have no value (failures); they are in no mean."
    return replace(result, warnings=(*result.warnings, sentence))
