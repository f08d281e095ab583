"""Two models on the same items: paired difference with clustered errors, McNemar's test, sign-flip permutation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import UserError
from evalkit.stats.intervals import cluster_codes, clustered_mean, sign_flip_p, sign_test_p
from evalkit.stats.votes import FloatArray, require_columns


@dataclass(frozen=True)
class PairedDifference:
    """Model a minus model b on the items both have.

    Attributes:
        n: Items with both values.
        n_missing: Items where one or both values are missing: failures, left out of every mean.
        mean_a, mean_b, difference: In the units of the values.
        se, lower, upper, p_value: Of the difference; NaN, infinite and NaN where the items cannot tell.
        permutation_p: Of the sign-flip test, clusters flipped whole; NaN without items.
        permutation: How it was computed.
        mcnemar_p: Exact; None unless every value is 0 or 1. Takes the items as independent, whatever the clusters.
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
    permutation_p: float
    permutation: str
    mcnemar_p: float | None
    only_a: int | None
    only_b: int | None
    n_clusters: int
    confidence: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ModelComparison:
    """Two models compared on each criterion.

    Attributes:
        model_a, model_b: Names.
        metrics: Criteria, in sorted order.
        differences: One for each criterion.
        one_sided: Criteria of which only one of the models has grades: not compared.
        definition: What the numbers are.
    """

    model_a: str
    model_b: str
    metrics: tuple[str, ...]
    differences: tuple[PairedDifference, ...]
    one_sided: tuple[str, ...]
    definition: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of all criteria, each with its criterion."""
        pairs = zip(self.metrics, self.differences, strict=True)
        lone = [f"{metric}: only one of the two models has grades of it; not compared." for metric in self.one_sided]
        return (*(f"{metric}: {sentence}" for metric, found in pairs for sentence in found.warnings), *lone)

    def frame(self) -> pd.DataFrame:
        """A row for each criterion: metric, n, means, difference, lower, upper, p_value, mcnemar_p and more."""
        names = ["n", "mean_a", "mean_b", "difference", "lower", "upper", "p_value", "mcnemar_p", "permutation_p"]
        names += ["n_missing", "n_clusters"]
        rows = [
            {"metric": metric, **{name: getattr(found, name) for name in names}}
            for metric, found in zip(self.metrics, self.differences, strict=True)
        ]
        return pd.DataFrame(rows, columns=["metric", *names])


@dataclass(frozen=True, eq=False)
class ItemGrades:
    """Two models' grades by item; every array has the shape (items,).

    Attributes:
        mean_a, mean_b: Mean over an item's graded samples; NaN where there is none.
        samples_a, samples_b: Number of them.
        variance_a, variance_b: Their variance (n - 1); NaN below two.
        clusters: Labels; None if none were asked for.
        n_grades, n_failures: Grades of the two models, and those of them without a value.
    """

    mean_a: FloatArray
    mean_b: FloatArray
    samples_a: FloatArray
    samples_b: FloatArray
    variance_a: FloatArray
    variance_b: FloatArray
    clusters: NDArray[Any] | None
    n_grades: int
    n_failures: int


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    rounds: int = 9999,
    seed: int = 0,
) -> PairedDifference:
    """Mean difference of two models' values on the same items.

    d_i = a_i - b_i; mean, clustered standard error and t test of d (Miller 2024, "Adding error bars to evals",
    section 4.2: pairing takes the items' difficulty out). Permutation test: if the models are alike, the sign of each
    cluster's sum of d is a coin's (`intervals.sign_flip_p`). For values 0 and 1, McNemar's exact test: with k items
    only a got right and l only b, the two-sided binomial p-value of k in k + l against 1/2 (McNemar 1947,
    Psychometrika 12:153-157).

    Args:
        a, b: Values by item, shape (items,); NaN where there is none.
        clusters: Labels of groups of like items, shape (items,).
        confidence: Level.
        rounds, seed: Of the permutation test where its null distribution has to be sampled.

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
    sums = left - right if labels is None else np.bincount(cluster_codes(labels, mean.n), left - right)
    permutation_p, permutation = sign_flip_p(sums, rounds=rounds, seed=seed)
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
        permutation_p=permutation_p,
        permutation=permutation,
        mcnemar_p=mcnemar_p,
        only_a=only_a,
        only_b=only_b,
        n_clusters=mean.n_clusters,
        confidence=confidence,
        warnings=tuple(warnings),
    )


def compare_models(
    grades: pd.DataFrame,
    model_a: str,
    model_b: str,
    *,
    cluster: str | None = None,
    confidence: float = 0.95,
    rounds: int = 9999,
    seed: int = 0,
) -> PairedDifference:
    """Paired difference of two models' grades on one criterion.

    Several grades of one model on one item (samples, replicates) are averaged first, those without a value left out of
    that average; an item where a model has no value at all is missing.

    Args:
        grades: Columns item_id, model, value (NaN for a failure), and `cluster` if given; one criterion only.
        model_a, model_b: Names in the column `model`.
        cluster: Column with the group an item belongs to.
        confidence: Level.
        rounds, seed: Of the permutation test.

    Raises:
        UserError: A column is missing, a value is no number, a model has no grade or is compared with itself, or the
            grades mix criteria.
    """
    table = grades_by_item(grades, model_a, model_b, cluster)
    result = paired_difference(
        table.mean_a, table.mean_b, clusters=table.clusters, confidence=confidence, rounds=rounds, seed=seed
    )
    if not table.n_failures:
        return result
    sentence = f"{table.n_failures} of {table.n_grades} grades have no value (failures); they are in no mean."
    return replace(result, warnings=(*result.warnings, sentence))


def compare_criteria(
    grades: pd.DataFrame,
    model_a: str,
    model_b: str,
    *,
    cluster: str | None = None,
    confidence: float = 0.95,
    rounds: int = 9999,
    seed: int = 0,
) -> ModelComparison:
    """`compare_models` on each criterion of the grades that both models have.

    The p-values are of one criterion each, not adjusted for the number of criteria.

    Args:
        grades: As for `compare_models`, with a column criterion; without one there is one metric, "value".
        model_a, model_b, cluster, confidence, rounds, seed: As for `compare_models`.

    Raises:
        UserError: As `compare_models`; or the models share no criterion.
    """
    require_columns(grades, ["item_id", "model", "value"], "grades")
    _check_models(grades, model_a, model_b)
    options: dict[str, Any] = {"cluster": cluster, "confidence": confidence, "rounds": rounds, "seed": seed}
    parts, one_sided = {"value": grades}, []
    if "criterion" in grades.columns:
        unnamed = grades["criterion"].isna()
        if unnamed.any():
            row = int(np.flatnonzero(unnamed)[0]) + 1
            raise UserError(f"grade {row} names no criterion; name one, or leave the column out.")
        graded = grades[grades["model"].isin([model_a, model_b])]
        both = graded.groupby("criterion", observed=True)["model"].nunique() == 2
        parts = {str(name): grades[grades["criterion"] == name] for name in sorted(both.index[both], key=str)}
        one_sided = sorted(map(str, both.index[~both]))
        if not parts:
            raise UserError(f"{model_a!r} and {model_b!r} have no criterion in common; nothing can be compared.")
    clusters = f"clustered by {cluster} (CR1)" if cluster else "items independent"
    return ModelComparison(
        model_a,
        model_b,
        tuple(parts),
        tuple(compare_models(part, model_a, model_b, **options) for part in parts.values()),
        tuple(one_sided),
        f"mean of {model_a} minus mean of {model_b} on the same items, {confidence:.0%} t interval, {clusters}; "
        "p-values of one criterion each, not adjusted for their number",
    )


def grades_by_item(grades: pd.DataFrame, model_a: str, model_b: str, cluster: str | None = None) -> ItemGrades:
    """Mean, number and variance of two models' grades on each item.

    Args:
        grades, model_a, model_b, cluster: As for `compare_models`.

    Raises:
        UserError: As `compare_models`.
    """
    require_columns(grades, ["item_id", "model", "value", *([cluster] if cluster else [])], "grades")
    _check_models(grades, model_a, model_b)
    if "criterion" in grades.columns and grades["criterion"].nunique() > 1:
        names = ", ".join(sorted(map(str, grades["criterion"].unique())))
        raise UserError(f"the grades mix the criteria {names}; choose one.")
    chosen = grades[grades["model"].isin([model_a, model_b])]
    value = pd.to_numeric(chosen["value"], errors="coerce").astype(np.float64)
    bad = np.isinf(value) | (value.isna() & chosen["value"].notna())
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        at = chosen.iloc[row]
        raise UserError(
            f"the grade {str(at['value'])!r} of {at['model']} on item {at['item_id']} is not a finite number; leave a "
            "failure empty."
        )
    groups = value.groupby([chosen["item_id"], chosen["model"]], observed=True).agg(["mean", "count", "var"])
    items = groups.index.unique(level=0)
    side = {name: groups.xs(name, level=1).reindex(items) for name in (model_a, model_b)}
    labels = None
    if cluster:
        labels = chosen.groupby("item_id", observed=True)[cluster].first().reindex(items).to_numpy()
    a, b = ({name: side[model][name].to_numpy(np.float64) for name in groups.columns} for model in (model_a, model_b))
    return ItemGrades(
        a["mean"],
        b["mean"],
        np.nan_to_num(a["count"]),
        np.nan_to_num(b["count"]),
        a["var"],
        b["var"],
        labels,
        len(chosen),
        int(value.isna().sum()),
    )


def _check_models(grades: pd.DataFrame, model_a: str, model_b: str) -> None:
    if model_a == model_b:
        raise UserError(f"the model {model_a!r} is compared with itself; name two models.")
    for name in (model_a, model_b):
        if not (grades["model"] == name).any():
            known = ", ".join(sorted(map(str, grades["model"].unique())))
            raise UserError(f"there is no grade of the model {name!r}; there are grades of {known}.")
