"""The arithmetic of merging, tensor by tensor; the same numbers as mergekit's, in less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PARALLEL = 0.9995
"""From this cosine on, two tensors count as parallel and are interpolated on a line."""
BLOCK = 1 << 20
"""Elements that are computed at once where a formula needs room for what it works out in between."""
SMALL = 1e-7
"""An L1 norm below is not scaled up."""


def linear(tensors: Iterable[torch.Tensor], weights: Sequence[float], *, normalize: bool) -> torch.Tensor:
    r"""Returns $\sum_i w_i x_i$, divided by $\sum_i w_i$ where `normalize` (Wortsman et al. 2022).

    Args:
        tensors: One for each weight, all of one shape and number format; read one at a time.
        weights: Not all 0.

    Returns:
        In the tensors' number format, computed in float32 at least.
    """
    import torch

    total, dtype = None, None
    for tensor, weight in zip(tensors, weights, strict=True):
        dtype = tensor.dtype
        wide = torch.promote_types(dtype, torch.float32)
        if total is None:
            total = torch.zeros_like(tensor, dtype=wide)
        total.addcmul_(tensor, torch.tensor(weight, dtype=wide))
    if total is None:
        raise ValueError("nothing to merge")
    if normalize:
        total.div_(torch.tensor(weights, dtype=total.dtype).sum())
    return total.to(dtype)


def slerp(base: torch.Tensor, other: torch.Tensor, t: float) -> torch.Tensor:
    r"""Returns the point at `t` on the arc from `base` to `other` (Shoemake 1985), each taken as one long vector.

    $\frac{\sin((1-t)\theta)}{\sin\theta} a + \frac{\sin(t\theta)}{\sin\theta} b$ with $\theta$ the angle between them;
    $(1-t) a + t b$ where they are parallel (`PARALLEL`). A vector of zeros counts as at right angles to any other.

    Returns:
        `base`, overwritten; computed in float32 at least.
    """
    import torch

    wide = torch.promote_types(base.dtype, torch.float32)
    a, b = base.view(-1), other.view(-1)
    blocks = _blocks(a.numel())
    aa, bb, ab = (
        sum(float(torch.dot(x[i].to(torch.float64), y[i].to(torch.float64))) for i in blocks)
        for x, y in ((a, a), (b, b), (a, b))
    )
    cosine = ab / (aa * bb) ** 0.5 if min(aa, bb) > 1e-16 else 0.0
    cosine = max(-1.0, min(1.0, cosine))
    if abs(cosine) > PARALLEL:
        of_a, of_b = 1 - t, t
    else:
        angle = torch.acos(torch.tensor(cosine, dtype=torch.float64))
        of_a, of_b = (float(torch.sin(share * angle) / torch.sin(angle)) for share in (1 - t, t))
    for i in blocks:
        a[i] = of_a * a[i].to(wide) + of_b * b[i].to(wide)
    return base


def keep_largest(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Returns which of a tensor's values are the largest in size: `density` of them, at least one.

    Of equal ones the first are kept. Sorting would take several times the memory and time of this partition.

    Returns:
        Booleans of the tensor's shape.
    """
    import torch

    kept = max(1, int(density * delta.numel()))
    sizes: Any = delta.abs().view(-1).to(torch.float32).numpy()
    sizes.partition(len(sizes) - kept)
    limit = float(sizes[len(sizes) - kept])
    del sizes  # before as much again is taken
    size = delta.abs().view(-1).to(torch.float32)
    mask = size > limit
    missing = kept - int(torch.count_nonzero(mask))  # a sum would make 64-bit numbers of the flags first
    if missing and limit > 0:  # zeros change nothing, kept or not
        mask[(size == limit).nonzero()[:missing]] = True
    return mask.view(delta.shape)


def keep_random(delta: torch.Tensor, density: float, generator: torch.Generator) -> torch.Tensor:
    """Returns which of a tensor's values are kept by independent draws, each with probability `density`.

    Returns:
        Booleans of the tensor's shape.
    """
    import torch

    wide = delta.dtype if delta.dtype == torch.bfloat16 else torch.float32
    mask = torch.empty(delta.numel(), dtype=torch.bool)
    for i in _blocks(delta.numel()):
        mask[i] = torch.bernoulli(torch.full_like(delta.view(-1)[i], density, dtype=wide), generator=generator).bool()
    return mask.view(delta.shape)


def thin(delta: torch.Tensor, keep: torch.Tensor, *, rescale: bool) -> torch.Tensor:
    """Sets the values that are not kept to 0, in place, and, with `rescale`, restores the sum of absolute values.

    The paper on DARE divides by the density; mergekit, like this, by the share of the L1 norm that is left.

    Returns:
        The tensor.
    """
    import torch

    wide = delta.to(torch.float32) if delta.dtype == torch.float16 else delta
    before = wide.abs().sum() if rescale else None
    wide.masked_fill_(~keep, 0)
    if before is not None:
        after = wide.abs().sum()
        if before >= SMALL and after >= SMALL:
            wide.mul_(before / after)
    return wide.to(delta.dtype)


def task_arithmetic(
    base: torch.Tensor,
    tensors: Iterable[torch.Tensor],
    weights: Sequence[float],
    *,
    sparsify: Callable[[int, torch.Tensor], torch.Tensor] | None = None,
    elect: bool = False,
    normalize: bool = False,
    scale: float = 1.0,
) -> torch.Tensor:
    r"""Returns $b + \lambda \sum_i w_i \tau_i$ with the task vectors $\tau_i = x_i - b$ (Ilharco et al. 2022).

    Args:
        base: $b$.
        tensors: $x_i$, read one at a time and overwritten.
        weights: $w_i$.
        sparsify: Thins out the i-th task vector: TIES (Yadav et al. 2023), DARE (Yu et al. 2023).
        elect: Of each element only those $w_i \tau_i$ count that have the sign of their sum (TIES); + if that is 0.
        normalize: Divides by the sum of the weights that count.
        scale: $\lambda$.

    Returns:
        `base`, overwritten; computed in its number format.
    """
    import torch

    factors = torch.tensor(weights, dtype=base.dtype)
    deltas = []
    for number, tensor in enumerate(tensors):
        delta = tensor.sub_(base)
        delta = sparsify(number, delta) if sparsify else delta
        deltas.append(delta.mul_(factors[number]).view(-1))
    merged = base.view(-1)
    for i in _blocks(merged.numel()):
        parts = [delta[i] for delta in deltas]
        agree = _agreement(parts) if elect else None
        if agree:
            parts = [part.masked_fill(~those, 0) for part, those in zip(parts, agree, strict=True)]
        mixed = _sum(parts)
        if normalize:
            counted = _sum([those * factor for those, factor in zip(agree, factors, strict=True)] if agree else factors)
            mixed /= counted.masked_fill(counted == 0 if agree else counted.abs() < 1e-8, 1)
        if scale != 1:
            mixed *= scale
        merged[i] += mixed
    return base


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def _agreement(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Returns where each has the sign of the sum; 0 has none."""
    import torch

    positive = _sum(parts) >= 0
    return [torch.where(positive, part > 0, part < 0) for part in parts]


def _sum(tensors: Sequence[torch.Tensor] | torch.Tensor) -> torch.Tensor:
    """Adds up in float32 at least and rounds once."""
    import torch

    dtype = tensors[0].dtype
    total = tensors[0].to(torch.promote_types(dtype, torch.float32), copy=True)
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total.to(dtype)


def merge_tensor(
    method: str,
    reads: Sequence[Callable[[], torch.Tensor]],
    base: int | None,
    shared: Mapping[str, Any],
    each: Sequence[Mapping[str, float]],
    generator: Callable[[int], torch.Generator],
) -> torch.Tensor:
    """Merges the tensors of one name.

    Args:
        method: As in `merging_config.METHODS`.
        reads: Read a tensor of each model, into memory of its own, in one number format.
        base: Which of them is the base.
        shared: The method's parameters.
        each: The models' parameters; those of the base are not read.
        generator: Makes the random generator of a model's draw.

    Returns:
        The merged tensor, in the models' number format.
    """
    if method == "linear" or base is None:
        return linear((read() for read in reads), [e["weight"] for e in each], normalize=shared["normalize"])
    others = [i for i in range(len(reads)) if i != base]
    if method == "slerp":
        return slerp(reads[base](), reads[others[0]](), shared["t"])

    def sparsify(number: int, delta: torch.Tensor) -> torch.Tensor:
        density = each[others[number]]["density"]
        if density >= 1:
            return delta
        if method != "ties":
            keep = keep_random(delta, density, generator(others[number]))
        elif density > 0:
            keep = keep_largest(delta, density)
        else:
            return delta.zero_()
        return thin(delta, keep, rescale=shared["rescale"])

    return task_arithmetic(
        reads[base](),
        (reads[i]() for i in others),
        [each[i]["weight"] for i in others],
        sparsify=None if method == "task_arithmetic" else sparsify,
        elect=method in ("ties", "dare_ties"),
        normalize=shared["normalize"],
        scale=shared["lambda"],
    )
