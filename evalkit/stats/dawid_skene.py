"""Dawid-Skene: the labels behind several judges' verdicts, and each judge's confusion matrix, without a truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from evalkit.stats.juries import NO_LABEL, JuryVerdict, as_labels, names_of, tally, verdict
from evalkit.stats.votes import FloatArray, IntArray

# Below the smallest probability that a count of 1e9 can give; keeps the logarithm finite.
_TINY = 1e-10
_DENSE_CELLS = 20_000_000


@dataclass(frozen=True, eq=False)
class DawidSkene:
    """A fitted Dawid-Skene model.

    Attributes:
        posterior: Probability of each label, shape (items, K); the prior where no judge gave a readable verdict.
        verdict: The most probable label of each item; -1 where no judge gave a readable verdict.
        confusion: Probability that a judge says l where t is true, shape (judges, K true, K said).
        prior: Share of each label, shape (K,).
        judges: Names.
        iterations: EM steps.
        converged: Whether the log-likelihood per item changed by less than the tolerance at the last step.
        log_likelihood: Of the readable verdicts (with `smoothing`, the last step's, without the prior's part).
        n, n_failed: Items, and those without a readable verdict.
        method: In words.
        warnings: Sentences.
    """

    posterior: FloatArray
    verdict: JuryVerdict
    confusion: FloatArray
    prior: FloatArray
    judges: tuple[str, ...]
    iterations: int
    converged: bool
    log_likelihood: float
    n: int
    n_failed: int
    method: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Columns judge, accuracy (mean over labels by their share), and one for the hit rate of each label."""
        hits = np.diagonal(self.confusion, axis1=1, axis2=2)
        columns = {f"label_{label}": hits[:, label] for label in range(len(self.prior))}
        return pd.DataFrame({"judge": list(self.judges), "accuracy": hits @ self.prior, **columns})


def dawid_skene(
    labels: ArrayLike,
    *,
    judges: Sequence[str] | None = None,
    n_labels: int | None = None,
    smoothing: float = 0.01,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
) -> DawidSkene:
    """Fit Dawid & Skene's model by EM (1979, J. R. Stat. Soc. C 28:20-28).

    P(labels of item i, truth t) = prior_t prod_j confusion_j[t, y_ij] over the judges with a readable verdict. E step:
    posterior of t. M step: prior = mean posterior, confusion_j[t, l] in proportion to the posterior mass of t on items
    where j said l, plus `smoothing`. Started from the shares of votes, so that label t is what a majority calls t. A
    tie is a label like the others. Equal rows are fitted once, with their number as weight.

    Args:
        labels: Shape (items, judges); -1 or NaN where there is no readable verdict.
        judges: Names.
        n_labels: K; from the labels if None.
        smoothing: Invented verdicts in each cell of each confusion matrix; 0 is maximum likelihood.
        tolerance: Change of the log-likelihood per item at which EM stops.
        max_iterations: EM steps at most; reaching it is a warning.

    Raises:
        UserError: As `juries.as_labels`.
    """
    codes, k = as_labels(labels, n_labels)
    n_judges = codes.shape[1]
    rows, pattern, weight = _distinct(codes, k)
    said = _indicators(rows, k)
    votes = tally(rows, k)
    cast = votes.sum(axis=1, keepdims=True)
    answered = cast[:, 0] > 0
    posterior = np.where(cast > 0, votes / np.maximum(cast, 1), 1.0 / k)
    total = float(weight[answered].sum())
    prior, confusion = np.full(k, 1.0 / k), np.full((n_judges, k, k), 1.0 / k)
    likelihood, iterations, converged = -np.inf, 0, total == 0
    while not converged and iterations < max_iterations:
        mass = posterior * (weight * answered)[:, None]
        prior = mass.sum(axis=0) / total
        counts = np.asarray(said.T @ mass).reshape(n_judges, k, k).transpose(0, 2, 1) + smoothing
        sums = counts.sum(axis=2, keepdims=True)
        confusion = np.where(sums > 0, counts / np.where(sums > 0, sums, 1.0), 1.0 / k)
        joint = np.asarray(said @ np.log(np.maximum(confusion, _TINY)).transpose(0, 2, 1).reshape(-1, k))
        joint += np.log(np.maximum(prior, _TINY))
        top = joint.max(axis=1, keepdims=True)
        posterior = np.exp(joint - top)
        sums = posterior.sum(axis=1, keepdims=True)
        posterior /= sums
        previous = likelihood
        likelihood = float((weight * answered) @ (top + np.log(sums))[:, 0])
        iterations += 1
        converged = abs(likelihood - previous) <= tolerance * total
    posterior = np.where(answered[:, None], posterior, prior)[pattern]
    jury = verdict(codes, posterior.argmax(axis=1), posterior, None, "most probable label under Dawid-Skene")
    warnings = list(jury.warnings)
    if not converged:
        warnings.append(f"EM did not converge in {iterations} steps.")
    silent = [name for name, j in zip(names_of(judges, n_judges), codes.T, strict=True) if (j == NO_LABEL).all()]
    if silent:
        warnings.append(f"No readable verdict at all by {', '.join(silent)}.")
    return DawidSkene(
        posterior=posterior,
        verdict=jury,
        confusion=confusion,
        prior=prior,
        judges=names_of(judges, n_judges),
        iterations=iterations,
        converged=converged,
        log_likelihood=likelihood if total else 0.0,
        n=len(codes),
        n_failed=jury.n_failed,
        method=f"Dawid-Skene by EM from the shares of votes, {smoothing:g} invented verdicts a cell",
        warnings=tuple(warnings),
    )


def apply_dawid_skene(labels: ArrayLike, model: DawidSkene) -> JuryVerdict:
    """Most probable labels of other items under a fitted model (one E step).

    Args:
        labels: Shape (items, judges), judges as in `model`.
        model: From `dawid_skene`.

    Raises:
        UserError: As `juries.as_labels`.
    """
    k = len(model.prior)
    codes, _ = as_labels(labels, k)
    logs = np.log(np.maximum(model.confusion, _TINY)).transpose(0, 2, 1).reshape(-1, k)
    joint = np.asarray(_indicators(codes, k) @ logs) + np.log(np.maximum(model.prior, _TINY))
    posterior = np.exp(joint - joint.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    return verdict(codes, posterior.argmax(axis=1), posterior, None, "most probable label under a Dawid-Skene model")


def _distinct(codes: IntArray, k: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Distinct rows, the position of each item's row among them, and how often each occurs."""
    if (k + 1) ** codes.shape[1] < 2**62:
        key = (codes + 1) @ (k + 1) ** np.arange(codes.shape[1])
        pattern, keys = pd.factorize(key)
        first = np.zeros(len(keys), dtype=np.int64)
        first[pattern[::-1]] = np.arange(len(codes))[::-1]
        return codes[first], np.asarray(pattern, dtype=np.int64), np.bincount(pattern).astype(np.float64)
    rows, pattern, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return rows, pattern.ravel(), counts.astype(np.float64)


def _indicators(codes: IntArray, k: int) -> FloatArray | sparse.csr_array:
    """Who said what: shape (rows, judges * K), 1 at judge * K + label; sparse where dense would be large."""
    row, judge = np.nonzero(codes != NO_LABEL)
    column = judge * k + codes[row, judge]
    shape = (len(codes), codes.shape[1] * k)
    if shape[0] * shape[1] > _DENSE_CELLS:
        return sparse.csr_array((np.ones(len(row)), (row, column)), shape=shape)
    dense = np.zeros(shape)
    dense[row, column] = 1.0
    return dense
