"""Merges are mergekit's, tensor by tensor: the same YAML through both programs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch", reason="the extra local is not installed")
pytest.importorskip("mergekit", reason="mergekit, the peer that merges are checked against, is not installed")

from merging_world import make_base, make_tuned  # noqa: E402

from trainers.merging import merge  # noqa: E402
from trainers.merging_config import METHODS, read_merge  # noqa: E402
from trainers.merging_math import merge_tensor  # noqa: E402


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, str]:
    root = tmp_path_factory.mktemp("merging")
    base = make_base(root / "base", tiny)
    found = {"base": base, "a": make_tuned(root / "a", base, 1), "b": make_tuned(root / "b", base, 2)}
    found |= {"c": make_tuned(root / "c", base, 3), "d": make_tuned(root / "d", base, 4)}
    half = make_base(root / "half", tiny, dtype="bfloat16")
    found |= {
        "half": half,
        "half_a": make_tuned(root / "half_a", half, 1),
        "half_b": make_tuned(root / "half_b", half, 2),
    }
    found["wide_b"] = make_tuned(root / "wide_b", half, 2, dtype="float32")
    tied = make_base(root / "tied", tiny, tied=True)
    found |= {"tied": tied, "tied_a": make_tuned(root / "tied_a", tied, 1)}
    return {name: str(folder) for name, folder in found.items()}


def one(name: str, **parameters: object) -> str:
    return f"{{model: %({name})s, parameters: {yaml.safe_dump(parameters, default_flow_style=True).strip()}}}"


AB = f"[{one('a', weight=0.7)}, {one('b', weight=0.4)}]"
THIN = f"[{one('a', weight=0.7, density=0.5)}, {one('b', weight=0.4, density=0.3)}]"
HALF = f"[{one('half_a', weight=0.7, density=0.5)}, {one('half_b', weight=0.4, density=0.3)}]"
HALF_AB = f"[{one('half_a', weight=0.7)}, {one('half_b', weight=0.4)}]"
FOUR = f"[{one('a', weight=1, density=0.6)}, {one('b', weight=0.4)}, {one('c', weight=-0.3)}, {one('d', weight=0.2)}]"
MERGES = {
    "linear": f"merge_method: linear\nmodels: {AB}",
    "linear, not normalized": f"merge_method: linear\nmodels: {AB}\nparameters: {{normalize: false}}",
    "linear, by filters": "merge_method: linear\nmodels: [{model: %(a)s}, {model: %(b)s, parameters: {weight: "
    "[{filter: mlp, value: [0.2, 0.9]}, {value: 0.5}]}}]\nparameters: {weight: 1}",
    "linear, with a base": f"merge_method: linear\nbase_model: %(base)s\nmodels: {AB}\nparameters: {{weight: 2}}",
    "linear in bfloat16": f"merge_method: linear\nmodels: {HALF_AB}",
    "slerp": "merge_method: slerp\nbase_model: %(base)s\nmodels: [{model: %(a)s}]\nparameters: {t: 0.3}",
    "slerp, by slices": "merge_method: slerp\nbase_model: %(base)s\nslices: [{sources: [{model: %(base)s, "
    "layer_range: [0, 5]}, {model: %(a)s, layer_range: [0, 5]}]}]\nparameters: {t: [{filter: self_attn, value: "
    "[0, 0.5, 0.3, 0.7, 1]}, {filter: mlp, value: [1, 0.5, 0]}, {value: 0.5}]}",
    "slerp, two slices": "merge_method: slerp\nbase_model: %(a)s\nslices: [{sources: [{model: %(base)s, layer_range: "
    "[0, 3]}, {model: %(a)s, layer_range: [0, 3]}], parameters: {t: [0.1, 0.8]}}, {sources: [{model: %(base)s, "
    "layer_range: [3, 5]}, {model: %(a)s, layer_range: [3, 5]}]}]\nparameters: {t: [0.9, 0.3]}",
    "slerp in bfloat16": "merge_method: slerp\nbase_model: %(half)s\nmodels: [{model: %(half_a)s}]\n"
    "parameters: {t: 0.6}",
    "task arithmetic": f"merge_method: task_arithmetic\nbase_model: %(base)s\nmodels: {AB}",
    "task arithmetic, normalized": f"merge_method: task_arithmetic\nbase_model: %(base)s\nmodels: {AB}\n"
    "parameters: {normalize: true, lambda: 0.6}",
    "ties": f"merge_method: ties\nbase_model: %(base)s\nmodels: {THIN}",
    "ties of four": f"merge_method: ties\nbase_model: %(base)s\nmodels: {FOUR}\nparameters: {{density: 0.4}}",
    "ties, rescaled": f"merge_method: ties\nbase_model: %(base)s\nmodels: {THIN}\n"
    "parameters: {normalize: false, rescale: true, lambda: 1.2, int8_mask: true}",
    "ties over layers": "merge_method: ties\nbase_model: %(base)s\nmodels: [{model: %(base)s}, {model: %(a)s, "
    "parameters: {density: [1, 0.7, 0.1], weight: 1}}, {model: %(b)s, parameters: "
    "{density: [0, 0.4], weight: [0, 1]}}]",
    "ties in bfloat16": f"merge_method: ties\nbase_model: %(half)s\nmodels: {HALF}",
    "ties in float32, written in bfloat16": f"merge_method: ties\nbase_model: %(half)s\nmodels: {HALF}\n"
    "dtype: float32\nout_dtype: bfloat16",
    "task arithmetic of mixed formats": "merge_method: task_arithmetic\nbase_model: %(half)s\nmodels: [{model: "
    "%(half_a)s}, {model: %(wide_b)s}]\nparameters: {weight: 0.5}",
    "task arithmetic in float16": f"merge_method: task_arithmetic\nbase_model: %(base)s\nmodels: {AB}\ndtype: float16",
    "tied embeddings": "merge_method: ties\nbase_model: %(tied)s\nmodels: [{model: %(tied_a)s}]\n"
    "parameters: {weight: 0.5, density: 0.5}",
    "dare_linear that keeps all": f"merge_method: dare_linear\nbase_model: %(base)s\nmodels: {AB}",
    "dare_ties that keeps all": f"merge_method: dare_ties\nbase_model: %(base)s\nmodels: {AB}\n"
    "parameters: {normalize: true}",
}  # fmt: skip


@pytest.mark.parametrize("name", MERGES)
def test_the_same_yaml_gives_the_same_model(
    name: str, world: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from safetensors.torch import load_file

    logging.getLogger("mergekit").setLevel(logging.ERROR)
    # Which of equal values TIES keeps is left to chance by its sort, and half precision has many; we keep the first.
    monkeypatch.setattr(torch, "argsort", partial(torch.argsort, stable=True))
    text = MERGES[name] % world
    file = tmp_path / "merge.yaml"
    file.write_text(text)
    config = read_merge(file)
    merge(config, tmp_path / "ours")
    written = yaml.safe_load((tmp_path / "ours" / "mergekit_config.yml").read_text())
    for source in (yaml.safe_load(text), written):  # what we write means the same to mergekit
        run_merge(MergeConfiguration.model_validate(source), str(tmp_path / "theirs"), MergeOptions(quiet=True))
        ours, theirs = (load_file(tmp_path / who / "model.safetensors") for who in ("ours", "theirs"))
        assert ours.keys() == theirs.keys()
        for tensor in ours:
            assert ours[tensor].dtype == theirs[tensor].dtype
            if config.merge_method == "slerp":  # the angle is summed up in another order
                torch.testing.assert_close(ours[tensor], theirs[tensor], msg=lambda m, t=tensor: f"{t}: {m}")
            else:
                assert torch.equal(ours[tensor], theirs[tensor]), tensor


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_is_the_same_where_the_draws_are(method: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mergekit import merge_methods
    from mergekit.merge_methods.base import TensorGroup

    draw = torch.Generator().manual_seed(11)
    base = torch.randn(61, 43, generator=draw).to(getattr(torch, dtype))
    others = [(base + 0.1 * torch.randn(61, 43, generator=draw)).to(base.dtype) for _ in range(3)]
    weights, densities = [0.6, 0.5, -0.3], [0.4, 0.7, 1.0]
    shared = {"normalize": False, "lambda": 0.8, "int8_mask": False, "rescale": True}
    each: list[dict[str, float]] = [{}]
    each += [{"weight": w, "density": d} for w, d in zip(weights, densities, strict=True)]

    def generator(number: int) -> torch.Generator:
        return torch.Generator().manual_seed(number)

    reads: list[Callable[[], torch.Tensor]] = [lambda t=t: t.clone() for t in (base, *others)]
    ours = merge_tensor(method, reads, 0, shared, each, generator)

    queue, drawn = iter([generator(1), generator(2)]), torch.bernoulli
    monkeypatch.setattr(torch, "bernoulli", lambda p: drawn(p, generator=next(queue)))
    (theirs,) = merge_methods.get(method)(
        [TensorGroup.from_tensors([base, *others], base_index=0)],
        parameters={**shared, "weight": weights, "density": densities},
    )
    assert torch.equal(ours, theirs)


def test_the_parameters_are_mergekits() -> None:
    from mergekit import merge_methods
    from mergekit.merge_methods.base import MISSING

    unused = {"task_arithmetic": {"density", "rescale"}}  # it reads them and does nothing with them
    for name, method in METHODS.items():
        theirs = {p.name: None if p.default is MISSING else p.default for p in merge_methods.get(name).spec.parameters}
        ours = {**method.shared, **method.of_model}
        assert ours == {key: default for key, default in theirs.items() if key not in unused.get(name, set())}
