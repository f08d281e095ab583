"""Dawid-Skene against crowd-kit and against the truth of a simulation, in the time asked for."""

import time

import numpy as np
import pytest

from evalkit.stats.dawid_skene import apply_dawid_skene, dawid_skene
from evalkit.stats.juries import majority


def simulate(seed: int, n: int, judges: int, missing: float = 0.1):
    """Three labels, the last a tie; judges of different skill, the last of whom hardly ever says tie."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=[0.45, 0.4, 0.15])
    confusion = np.array([np.eye(3) * a + (1 - a) / 3 for a in rng.uniform(0.3, 0.8, judges)])
    confusion[-1, 2] = [0.5, 0.45, 0.05]
    labels = np.stack([(rng.random(n)[:, None] > c[truth].cumsum(axis=1)[:, :2]).sum(axis=1) for c in confusion], 1)
    labels[rng.random((n, judges)) < missing] = -1
    return labels, truth, confusion


# Four judges on fourteen items, and what crowd-kit 1.4.2's DawidSkene(n_iter=2, tol=0) makes of them.
SAID = ["0001", "0010", "1111", "101-", "2212", "0222", "1101", "00-0", "2122", "1121", "0100", "222-", "0120", "1-10"]
CROWD_KIT = [
    [0.926166, 0.073834, 0.0], [0.980104, 0.019896, 0.0], [0.015893, 0.9841, 7e-06], [0.248379, 0.751621, 0.0],
    [0.0, 1e-06, 0.999999], [2e-06, 4e-06, 0.999994], [0.039685, 0.960315, 0.0], [0.985537, 0.014463, 0.0],
    [0.0, 5e-05, 0.99995], [0.016339, 0.983617, 4.4e-05], [0.95501, 0.04499, 0.0], [0.0, 1.3e-05, 0.999987],
    [0.870662, 0.10204, 0.027298], [0.256286, 0.743489, 0.000225],
]  # fmt: skip


def test_equals_crowd_kit_step_for_step() -> None:
    labels = [[-1 if said == "-" else int(said) for said in row] for row in SAID]
    ours = dawid_skene(labels, smoothing=0, tolerance=0, max_iterations=2)
    assert ours.posterior == pytest.approx(np.array(CROWD_KIT), abs=1e-6)


def test_finds_the_confusion_and_beats_the_majority() -> None:
    labels, truth, confusion = simulate(2, 30_000, 6)
    found = dawid_skene(labels)
    assert found.converged and found.n == 30_000
    assert found.confusion == pytest.approx(confusion, abs=0.03)
    assert found.prior == pytest.approx([0.45, 0.4, 0.15], abs=0.02)
    assert (found.verdict.label == truth).mean() > (majority(labels, n_labels=3).label == truth).mean() + 0.03
    # The posterior means what it says.
    sure = found.posterior.max(axis=1)
    right = found.verdict.label == truth
    for low in (0.5, 0.7, 0.9):
        part = (sure >= low) & (sure < low + 0.1)
        assert right[part].mean() == pytest.approx(sure[part].mean(), abs=0.03)
    assert found.frame()["accuracy"].tolist() == pytest.approx(
        (np.diagonal(confusion, 0, 1, 2) @ [0.45, 0.4, 0.15]), abs=0.02
    )


def test_likelihood_rises_to_a_maximum() -> None:
    labels, _, _ = simulate(3, 500, 4)
    steps = [dawid_skene(labels, smoothing=0, max_iterations=i).log_likelihood for i in (1, 2, 5, 20, 100)]
    assert (np.diff(steps) > 0).all()
    short = dawid_skene(labels, max_iterations=2)
    assert not short.converged and "did not converge in 2 steps" in short.warnings[-1]


def test_many_judges_and_few_take_the_same_way() -> None:
    labels, _, _ = simulate(4, 300, 5)
    padded = np.concatenate([labels, np.full((300, 40), -1)], axis=1)  # too many for one integer key a row
    few, many = dawid_skene(labels), dawid_skene(padded)
    assert many.posterior == pytest.approx(few.posterior, abs=1e-9)
    assert "No readable verdict at all by judge 6" in many.warnings[-1]


def test_items_without_a_verdict_stay_and_have_none() -> None:
    labels, _, _ = simulate(5, 200, 4)
    labels[:7] = -1
    found = dawid_skene(labels)
    empty = (labels < 0).all(axis=1)
    assert found.n_failed == empty.sum() >= 7 and (found.verdict.label[empty] == -1).all()
    assert found.posterior[0] == pytest.approx(found.prior)
    assert found.posterior.sum(axis=1) == pytest.approx(np.ones(200))
    nothing = dawid_skene(np.full((3, 2), -1), n_labels=2)
    assert nothing.n_failed == 3 and nothing.posterior == pytest.approx(np.full((3, 2), 0.5))


def test_applies_to_other_items() -> None:
    labels, _, _ = simulate(6, 4000, 5)
    model = dawid_skene(labels)
    again = apply_dawid_skene(labels, model)
    assert (again.label == model.verdict.label).mean() > 0.999
    answered = model.verdict.label >= 0
    assert again.support[answered] == pytest.approx(model.verdict.support[answered], abs=1e-3)


def test_a_hundred_thousand_items_by_five_judges_in_half_a_second() -> None:
    labels, _, _ = simulate(7, 100_000, 5)
    start = time.process_time()
    found = dawid_skene(labels)
    assert found.converged and time.process_time() - start < 0.5
