"""The formulas of merging on worked examples."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra local is not installed")

from trainers import merging_math as m  # noqa: E402


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_linear_is_the_weighted_mean() -> None:
    a, b = tensor(1, 2, 3), tensor(5, -2, 3)
    assert torch.allclose(m.linear([a, b], [3, 1], normalize=True), tensor(2, 1, 3))
    assert torch.allclose(m.linear([a, b], [3, 1], normalize=False), tensor(8, 4, 12))


def test_linear_computes_half_precision_in_single() -> None:
    values = [torch.tensor([1 + i / 128], dtype=torch.bfloat16) for i in (0, 1, 1)]
    assert float(m.linear(values, [1, 1, 1], normalize=True)) == 1 + 1 / 128  # 1.0052, rounded once


def test_slerp_goes_along_the_arc() -> None:
    a, b = tensor(1, 0), tensor(0, 1)
    third = m.slerp(a.clone(), b, 1 / 3)
    assert torch.allclose(third, tensor(math.cos(math.pi / 6), math.sin(math.pi / 6)))
    assert torch.allclose(m.slerp(a.clone(), b, 0), a)
    assert torch.allclose(m.slerp(a.clone(), b, 1), b)


def test_slerp_of_parallel_tensors_is_a_straight_line() -> None:
    a = tensor(1, 2, 3)
    assert torch.allclose(m.slerp(a.clone(), 3 * a, 0.25), 1.5 * a)
    assert torch.allclose(m.slerp(a.clone(), -a, 0.5), tensor(0, 0, 0))


def test_task_vectors_are_added_to_the_base() -> None:
    base, a, b = tensor(1, 1, 1), tensor(2, 1, 0), tensor(1, 3, 1)
    merged = m.task_arithmetic(base.clone(), [a.clone(), b.clone()], [0.5, 2])
    assert torch.allclose(merged, tensor(1.5, 5, 0.5))
    half = m.task_arithmetic(base.clone(), [a.clone(), b.clone()], [0.5, 2], scale=0.5)
    assert torch.allclose(half, tensor(1.25, 3, 0.75))
    mean = m.task_arithmetic(base.clone(), [a.clone(), b.clone()], [1, 3], normalize=True)
    assert torch.allclose(mean, tensor(1.25, 2.5, 0.75))


def test_a_task_vector_taken_away_forgets_the_task() -> None:
    base, a = tensor(1, 1), tensor(3, 0)
    assert torch.allclose(m.task_arithmetic(base.clone(), [a.clone()], [-1]), tensor(-1, 2))


def test_ties_trims_elects_and_averages_what_agrees() -> None:
    """Task vectors (2, -1, 0.1, 4) and (-3, -2, 0.2, 0.3), the larger half of each kept.

    Left: (2, 0, 0, 4) and (-3, -2, 0, 0); signs elected: -, -, +, +; means of those that agree: -3, -2, 0, 4.
    """
    base = tensor(10, 10, 10, 10)
    a, b = base + tensor(2, -1, 0.1, 4), base + tensor(-3, -2, 0.2, 0.3)

    def sparsify(_number: int, delta: torch.Tensor) -> torch.Tensor:
        return m.thin(delta, m.keep_largest(delta, 0.5), rescale=False)

    merged = m.task_arithmetic(base.clone(), [a, b], [1, 1], sparsify=sparsify, elect=True, normalize=True)
    assert torch.allclose(merged, tensor(7, 8, 10, 14))


@pytest.mark.parametrize("density", [0.001, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_largest_are_those_that_sorting_finds(density: float, dtype: torch.dtype) -> None:
    delta = torch.randn(37, 53, generator=torch.Generator().manual_seed(0)).round(decimals=1).to(dtype)  # many equal
    kept = max(1, int(density * delta.numel()))
    order = torch.argsort(delta.abs().reshape(-1).float(), descending=True, stable=True)[:kept]
    expected = torch.zeros(delta.numel(), dtype=torch.bool)
    expected[order] = True
    found = m.keep_largest(delta, density).reshape(-1)
    values = delta.reshape(-1)
    assert torch.equal(values * found, values * expected)  # zeros may be kept or not


def test_of_a_task_vector_of_zeros_nothing_is_kept_or_lost() -> None:
    zeros = torch.zeros(4, 4)
    assert torch.equal(m.thin(zeros.clone(), m.keep_largest(zeros, 0.5), rescale=True), zeros)


def test_random_thinning_keeps_its_share_and_the_norm() -> None:
    delta = torch.randn(400, 500, generator=torch.Generator().manual_seed(1))
    keep = m.keep_random(delta, 0.3, torch.Generator().manual_seed(2))
    n = delta.numel()
    assert abs(int(keep.sum()) - 0.3 * n) < 5 * math.sqrt(0.3 * 0.7 * n)
    thinned = m.thin(delta.clone(), keep, rescale=True)
    assert torch.equal(thinned != 0, keep)
    assert float(thinned.abs().sum()) == pytest.approx(float(delta.abs().sum()), rel=1e-5)
    assert abs(float((thinned - delta).mean())) < 5 * float((thinned - delta).std()) / math.sqrt(n)  # no bias
    assert torch.equal(m.keep_random(delta, 0.3, torch.Generator().manual_seed(2)), keep)
    assert not torch.equal(m.keep_random(delta, 0.3, torch.Generator().manual_seed(3)), keep)
