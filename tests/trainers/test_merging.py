"""Merges from folder to folder: what is written, what is refused, what the ledger learns, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra local is not installed")

import sqlalchemy as sa  # noqa: E402
from merging_world import make_base, make_tuned  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from evalkit.errors import UserError  # noqa: E402
from evalkit.store import Ledger  # noqa: E402
from evalkit.store.schema import Model, ModelParent, TrainingRun  # noqa: E402
from trainers.merging import Merged, merge  # noqa: E402
from trainers.merging_config import MergeConfig, read_merge  # noqa: E402
from trainers.merging_models import register_merge  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Returns a folder with a base and two models trained from it."""
    root = tmp_path_factory.mktemp("merging")
    base = make_base(root / "base", tiny)
    make_tuned(root / "a", base, 1)
    make_tuned(root / "b", base, 2)
    return root


def linear(*folders: Path | str, **more: Any) -> MergeConfig:
    models = [{"model": str(folder), "parameters": {"weight": 1}} for folder in folders]
    return MergeConfig.model_validate({"merge_method": "linear", "models": models, **more})


def dare(world: Path, density: float = 0.5) -> MergeConfig:
    return MergeConfig.model_validate(
        {
            "merge_method": "dare_ties",
            "base_model": str(world / "base"),
            "models": [{"model": str(world / "a")}, {"model": str(world / "b")}],
            "parameters": {"weight": 0.5, "density": density},
        }
    )


def refusal(config: MergeConfig, folder: Path, **more: Any) -> str:
    with pytest.raises(UserError) as refused:
        merge(config, folder, **more)
    assert not folder.exists()
    assert not folder.with_name(f"{folder.name}.partial").exists()
    return str(refused.value)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def test_what_is_written_is_a_model_that_transformers_loads(world: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = merge(linear(world / "a", world / "b"), tmp_path / "merged")
    assert (merged.files, merged.tensors, merged.n_bytes) == (
        1,
        48,
        sum(t.nbytes for t in weights(merged.folder).values()),
    )
    model = AutoModelForCausalLM.from_pretrained(merged.folder)
    for name, tensor in model.state_dict().items():
        mean = (weights(world / "a")[name] + weights(world / "b")[name]) / 2
        torch.testing.assert_close(tensor, mean)
    tokens = AutoTokenizer.from_pretrained(merged.folder)
    assert tokens.chat_template
    ids = tokens("Question 3: how much is 3 plus 6?", return_tensors="pt").input_ids
    assert torch.isfinite(model(ids).logits).all()
    card = (merged.folder / "README.md").read_text()
    assert card.startswith("---\nbase_model:")
    assert str(world / "a") in card
    assert merged.sources[0].revision in card
    assert read_merge(merged.folder / "mergekit_config.yml") == merged.config


def test_shards_are_cut_and_say_the_same(world: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    whole = merge(dare(world), tmp_path / "whole")
    parts = merge(dare(world), tmp_path / "parts", shard_bytes=40_000)
    files = sorted(f.name for f in parts.folder.glob("*.safetensors"))
    assert len(files) == parts.files > 3
    assert files[0] == f"model-00001-of-{parts.files:05d}.safetensors"
    for file in files:
        tensors = load_file(parts.folder / file)
        assert len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= 40_000
    index = json.loads((parts.folder / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == whole.n_bytes
    one, many = (AutoModelForCausalLM.from_pretrained(m.folder).state_dict() for m in (whole, parts))
    assert all(torch.equal(one[name], many[name]) for name in one)
    again = merge(linear(parts.folder, world / "a"), tmp_path / "again")  # shards are read as well
    assert weights(again.folder).keys() == weights(world / "a").keys()


def test_draws_depend_on_the_seed_alone(world: Path, tmp_path: Path) -> None:
    first, same, other = (
        weights(merge(dare(world), tmp_path / name, seed=seed).folder)
        for name, seed in (("one", 7), ("two", 7), ("three", 8))
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert "--seed 7" in (tmp_path / "one" / "README.md").read_text()


def test_dare_keeps_its_share(world: Path, tmp_path: Path) -> None:
    config = MergeConfig.model_validate(
        {"merge_method": "dare_linear", "base_model": str(world / "base"),
         "models": [{"model": str(world / "a"), "parameters": {"weight": 1, "density": 0.3}}]}
    )  # fmt: skip
    merged = weights(merge(config, tmp_path / "merged").folder)
    base, tuned = weights(world / "base"), weights(world / "a")
    moved = sum(int((tuned[n] != base[n]).sum()) for n in base)
    kept = sum(int((merged[n] != base[n]).sum()) for n in base)
    assert abs(kept - 0.3 * moved) < 5 * (0.3 * 0.7 * moved) ** 0.5


@pytest.mark.parametrize(("given", "stored", "config"), [
    ({"dtype": "bfloat16"}, torch.bfloat16, "bfloat16"),
    ({"dtype": "float32", "out_dtype": "float16"}, torch.float16, "float16"),
    ({}, torch.float32, "float32"),
])  # fmt: skip
def test_number_formats(world: Path, tmp_path: Path, given: dict[str, str], stored: torch.dtype, config: str) -> None:
    merged = merge(linear(world / "a", world / "b", **given), tmp_path / "merged")
    assert {t.dtype for t in weights(merged.folder).values()} == {stored}
    assert json.loads((merged.folder / "config.json").read_text())["dtype"] == config


def test_models_that_do_not_fit_are_refused(world: Path, tmp_path: Path, tiny: Path) -> None:
    def broken(name: str, change: Callable[[Path], object]) -> str:
        folder = tmp_path / name
        shutil.copytree(world / "a", folder)
        change(folder)
        return refusal(linear(world / "base", folder), tmp_path / "out")

    def edit(file: str, **values: Any) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            data = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**data, **values}))

        return change

    def retoken(folder: Path) -> None:
        data = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = data["model"]["vocab"]
        one, two = list(vocabulary)[-2:]
        vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
        (folder / "tokenizer.json").write_text(json.dumps(data))

    def drop(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors["model.norm.weight"]
        save_file(tensors, folder / "model.safetensors")

    assert "num_attention_heads is 4 and 8" in broken("heads", edit("config.json", num_attention_heads=8))
    assert "architectures is LlamaForCausalLM and Qwen2ForCausalLM" in broken(
        "kind", edit("config.json", architectures=["Qwen2ForCausalLM"])
    )
    assert "different tokenizers, so their embeddings" in broken("tokens", retoken)
    assert "has no model.norm.weight" in broken("short", drop)
    assert "its weights are quantized" in broken("small", edit("config.json", quantization_config={"bits": 4}))
    assert "this is a LoRA adapter; merge it into its base" in broken(
        "lora", lambda folder: (folder / "adapter_config.json").write_text("{}")
    )
    assert "has no tokenizer" in broken("dumb", lambda folder: (folder / "tokenizer.json").unlink())
    assert "missing or damaged" in broken("torn", lambda folder: os.truncate(folder / "model.safetensors", 50_000))
    assert "no *.safetensors" in broken(
        "pickle", lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    )
    said = refusal(linear(world / "base", tiny), tmp_path / "out")
    assert "different architectures: " in said
    assert "is no folder, no label of a model in the ledger and no hub id" in refusal(
        linear(world / "base", "nowhere"), tmp_path / "out"
    )


def test_a_folder_that_is_there_is_never_written_over(world: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        merge(linear(world / "a", world / "b"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_is_too_small_is_found_before_the_start(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    assert "GB are free" in refusal(linear(world / "a", world / "b"), tmp_path / "out")


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from trainers import merging, merging_files
from trainers.merging_config import read_merge
make = merging._Work.make
def slow(self, name):
    time.sleep(0.02)
    return make(self, name)
merging._Work.make = slow
merging.merge(read_merge(Path("merge.yaml")), Path("out"), shard_bytes=30_000)
"""


def test_kill_leaves_nothing_that_loads_and_the_next_merge_is_whole(world: Path, tmp_path: Path) -> None:
    from evalkit.models.weights import find_weights

    (tmp_path / "merge.yaml").write_text(dare(world).to_yaml())
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(root=str(ROOT))], cwd=tmp_path)
    partial = tmp_path / "out.partial"
    end = time.monotonic() + 120
    while len(list(partial.glob("*.safetensors"))) < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.is_dir()
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"no config\.json"):
        find_weights(str(partial), None)
    merged = merge(dare(world), tmp_path / "out", shard_bytes=30_000)
    assert not partial.exists()
    assert all(
        torch.equal(t, weights(merged.folder)[n])
        for n, t in weights(merge(dare(world), tmp_path / "again").folder).items()
    )


def test_the_ledger_learns_the_parents_and_finds_merges_by_label(world: Path, tmp_path: Path) -> None:
    with Ledger.open(str(tmp_path / "m.db")) as ledger:
        first = merge(linear(world / "a", world / "b"), tmp_path / "first", ledger=ledger)
        one = register_merge(ledger, first, "soup")
        assert register_merge(ledger, first, "soup") == one  # again is the same
        second = merge(linear("soup", world / "base"), tmp_path / "second", ledger=ledger)
        two = register_merge(ledger, second)
        with ledger.engine.connect() as connection:
            labels = {i: label for i, label in connection.execute(sa.select(Model.id, Model.label))}
            edges = connection.execute(
                sa.select(ModelParent.model_id, ModelParent.parent_id, ModelParent.relation)
            ).all()
            runs = connection.execute(sa.select(TrainingRun.model_id, TrainingRun.method, TrainingRun.checkpoint)).all()
        assert {(labels[m], labels[p]) for m, p, _ in edges} == {
            ("soup", str(world / "a")), ("soup", str(world / "b")), ("second", "soup"), ("second", str(world / "base")),
        }  # fmt: skip
        assert {relation for *_, relation in edges} == {"merged_from"}
        assert [tuple(r) for r in runs] == [
            (one, "merge", str(tmp_path / "first")),
            (two, "merge", str(tmp_path / "second")),
        ]
        (tmp_path / "first" / "config.json").write_text((tmp_path / "first" / "config.json").read_text() + "\n")
        assert "have changed since" in refusal(linear("soup", world / "base"), tmp_path / "third", ledger=ledger)
        shutil.rmtree(tmp_path / "first")
        assert "is not there any more" in refusal(linear("soup", world / "base"), tmp_path / "third", ledger=ledger)


def test_the_model_of_the_ledger_is_the_one_that_a_plan_evaluates(world: Path, tmp_path: Path) -> None:
    from evalkit.models.load import load_model
    from evalkit.plan import ModelPlan

    with Ledger.open(str(tmp_path / "m.db")) as ledger:
        merged: Merged = merge(linear(world / "a", world / "b"), tmp_path / "merged")
        model_id = register_merge(ledger, merged)
        evaluated = load_model(ModelPlan(model=f"hf/{tmp_path / 'merged'}", name="my merge"))
        assert ledger.add_models([evaluated.settings]) == [model_id]


def test_the_command(
    world: Path, tmp_path: Path, in_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("merge.yaml").write_text(dare(world).to_yaml())
    done = in_process("merge", "merge.yaml", "out", "--seed", 3)
    assert done.code == 0, done.err
    assert "into out (dare_ties, 48 tensors, 0.2 MB in 1 file" in done.out
    again = in_process("merge", "merge.yaml", "out")
    assert (again.code, again.err) == (2, "Error: out: is there already; name a new folder\n")
    named = in_process("merge", "merge.yaml", "two", "--name", "second", "--json")
    row = named.json["rows"][0]
    assert (row["method"], row["tensors"], row["parents"][0]) == ("dare_ties", 48, str(world / "base"))
    Path("wrong.yaml").write_text("merge_method: linear\nmodels: []\nmodules: {}\n")
    wrong = in_process("merge", "wrong.yaml", "three", "--store", "other.db")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert not Path("other.db").exists()
