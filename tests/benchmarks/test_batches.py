"""In batches too, the rows that meet, their padding and their answers are those of lm-eval's own `hf` model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
pytest.importorskip("torch")

from benchmarks.lm import Document, EvalkitLM
from evalkit.engine import Engine
from evalkit.models.base import ModelSettings
from evalkit.models.local import LocalModel
from evalkit.store import Item, Ledger

BATCH_SIZE = 4
GENERATION = (
    {"until": ["e", "\n"], "max_gen_toks": 12, "do_sample": False},
    {"until": [], "max_gen_toks": 5, "do_sample": False},
)


def instances(kind: str, arguments: list[list[tuple[Any, ...]]]) -> list[Any]:
    """Returns lm-eval's instances: for each document one for each of its arguments."""
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=n, metadata=("mixed", document, 1))
        for document, given in enumerate(arguments)
        for n, each in enumerate(given)
    ]


def prompts() -> list[str]:
    draw = random.Random(0)
    words = ["Question", "which animal is", "very", "small", "red", "blue?"]
    return [f"{i}: " + " ".join(draw.choices(words, k=draw.randint(1, 14))) for i in range(23)]


class Calls:
    """What a model's method was called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        from transformers import LlamaForCausalLM

        self.seen: list[tuple[list[list[int]], list[list[int]] | None]] = []
        original = getattr(LlamaForCausalLM, method)

        def wrapper(model: Any, *args: Any, **kwargs: Any) -> Any:
            ids, mask = args[0] if args else kwargs["input_ids"], kwargs.get("attention_mask")
            self.seen.append((ids.tolist(), None if mask is None else mask.tolist()))
            return original(model, *args, **kwargs)

        monkeypatch.setattr(LlamaForCausalLM, method, wrapper)

    def take(self) -> list[tuple[list[list[int]], list[list[int]] | None]]:
        seen, self.seen = self.seen, []
        return seen


def both(folder: Path, ledger: Ledger, ask: str, asked: list[Any], calls: Calls) -> tuple[list[Any], list[Any], Any]:
    """Returns our answers, theirs, and both models' calls."""
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=BATCH_SIZE)
    theirs = getattr(lm, ask)(asked, disable_tqdm=True)
    their_calls = calls.take()
    model = LocalModel(ModelSettings("hf", "tiny", dtype="float32"), folder, batch_size=BATCH_SIZE)
    run_id = ledger.start_run("batches", {}, seed=0, environment={})
    (model_id,) = ledger.add_models([model.settings])
    count = max(instance.doc_id for instance in asked) + 1
    items = [Item(({"role": "user", "content": str(n)},)) for n in range(count)]
    dataset_id, ids = ledger.add_dataset("mixed", items)
    places = {("mixed", n): Document(item_id, dataset_id) for n, item_id in enumerate(ids)}
    with Engine(ledger, run_id) as engine:
        ours = getattr(EvalkitLM(engine, model, model_id, places), ask)(asked)
        our_calls = calls.take()
        engine.release(model)
    return ours, theirs, (our_calls, their_calls)


def test_generations_of_two_groups(tiny_llama: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = instances("generate_until", [[(text, GENERATION[i % 2])] for i, text in enumerate(prompts())])
    calls = Calls(monkeypatch, "generate")
    ours, theirs, (our_calls, their_calls) = both(tiny_llama, ledger, "generate_until", asked, calls)
    assert ours == theirs
    assert len(set(theirs)) > 15
    assert our_calls == their_calls
    assert [len(ids) for ids, _ in their_calls] == [4, 4, 4, 4, 4, 3]
    assert any(0 in row for _, mask in their_calls for row in mask or [])


def test_log_likelihoods(tiny_llama: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [" cat", " a small blue dog", " dog?", "", " red"]
    arguments = [[(text, choice or f" {i}") for choice in choices[: 2 + i % 4]] for i, text in enumerate(prompts())]
    calls = Calls(monkeypatch, "forward")
    asked = instances("loglikelihood", arguments)
    ours, theirs, (our_calls, their_calls) = both(tiny_llama, ledger, "loglikelihood", asked, calls)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    # Where the head's product takes other paths for fewer rows, the last bits may differ.
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], rel=1e-6)
    assert our_calls == their_calls
    assert len(their_calls) > 10
