"""Where the variance of two models' values comes from: items, clusters of items, and samples of one item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.intervals import clustered_mean
from evalkit.stats.paired import grades_by_item


@dataclass(frozen=True)
class VarianceComponents:
    """Where the variance of two models' values on the same items comes from (Miller 2024, sections 3 and 5).

    Attributes:
        var_a, var_b: Variance over items of a model's expected value on the item.
        covariance: Of the two models' expected values, over items.
        sigma2_a, sigma2_b: Mean over items of the variance of single samples of one item; None where it is not known,
            with one sample an item, and then part of `var_a` or `var_b`.
        design_effect, design_effect_unpaired: Factor by which clusters of like items inflate the variance of the
            paired difference, and of the difference of two unpaired means.
        n: Items behind the estimates; 0 for assumed values.
        n_missing: Items without a value of one of the models: failures, not used.
        warnings: Sentences.
    """

    var_a: float
    var_b: float
    covariance: float = 0.0
    sigma2_a: float | None = 0.0
    sigma2_b: float | None = 0.0
    design_effect: float = 1.0
    design_effect_unpaired: float = 1.0
    n: int = 0
    n_missing: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def omega2(self) -> float:
        """Variance over items of the difference of the expected values, var_a + var_b - 2 covariance."""
        return max(self.var_a + self.var_b - 2.0 * self.covariance, 0.0)

    def sampling(self, samples_a: int, samples_b: int) -> float:
        """sigma_a^2 / K_a + sigma_b^2 / K_b for K samples of each item.

        Raises:
            UserError: K is below 1, or above 1 where the variance of single samples is not known.
        """
        total = 0.0
        for name, sigma2, samples in (("a", self.sigma2_a, samples_a), ("b", self.sigma2_b, samples_b)):
            if samples < 1:
                raise UserError(f"{samples} samples of each item make no value; use 1 or more.", code=2)
            if sigma2 is None and samples > 1:
                raise UserError(
                    f"the grades of model {name} have one sample an item, so the gain from {samples} samples cannot "
                    "be told; plan with 1, or grade some items more than once.",
                    code=2,
                )
            total += (sigma2 or 0.0) / samples
        return total


def variance_components(
    grades: pd.DataFrame, model_a: str, model_b: str, *, cluster: str | None = None
) -> VarianceComponents:
    """Estimate the variance components of two models from grades in hand, for planning with them.

    sigma^2 is the mean over items of the variance of an item's samples (items with two or more); Var(x) the variance
    over items of the item means less sigma^2 times the mean of 1 / K_i; the covariance that of the item means (Miller
    2024, sections 3 and 5; the classical one-way components). Design effects are the squared ratios of the clustered
    to the plain standard error.

    Args:
        grades: Columns item_id, model, value (NaN for a failure), and `cluster` if given; one criterion only.
        model_a, model_b: Names in the column `model`.
        cluster: Column with the group an item belongs to.

    Raises:
        UserError: As `paired.compare_models`; or fewer than two items have values of both models.
    """
    table = grades_by_item(grades, model_a, model_b, cluster)
    both = ~(np.isnan(table.mean_a) | np.isnan(table.mean_b))
    n = int(both.sum())
    if n < 2:
        raise UserError(f"{n} items have values of both models; variance components need two or more.")
    x, y = table.mean_a[both], table.mean_b[both]
    covariance = np.cov(x, y)
    warnings = []
    sigma2: list[float | None] = []
    between: list[float] = []
    for name, samples, variance, total in (
        (model_a, table.samples_a[both], table.variance_a[both], covariance[0, 0]),
        (model_b, table.samples_b[both], table.variance_b[both], covariance[1, 1]),
    ):
        if not (samples > 1).any():
            sigma2.append(None)
            between.append(float(total))
            warnings.append(f"One sample an item of {name}: its sampling variance is part of that between items.")
            continue
        within = float(variance[samples > 1].mean())
        sigma2.append(within)
        between.append(max(float(total - within * (1.0 / samples).mean()), 0.0))
    labels = None if table.clusters is None else table.clusters[both]
    effects = [1.0, 1.0]
    if labels is not None:
        plain, grouped = ([clustered_mean(v, c).se ** 2 for v in (x - y, x, y)] for c in (None, labels))
        for k, part in enumerate((slice(0, 1), slice(1, 3))):
            if sum(plain[part]) > 0 and np.isfinite(grouped[part]).all():
                effects[k] = sum(grouped[part]) / sum(plain[part])
    missing = int((~both).sum())
    if missing:
        warnings.append(f"{missing} of {len(both)} items lack a value of one of the models and are not used.")
    return VarianceComponents(
        between[0],
        between[1],
        float(covariance[0, 1]),
        sigma2[0],
        sigma2[1],
        design_effect=effects[0],
        design_effect_unpaired=effects[1],
        n=n,
        n_missing=missing,
        warnings=tuple(warnings),
    )
