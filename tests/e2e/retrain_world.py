"""A ledger with a small model that can do all that it is asked but one thing, and the slice of what it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.starter.formats import FORMS, QUESTIONS
from evalkit.plan import Plan
from evalkit.slices.discover import SliceSettings, find_slices
from evalkit.slices.found import store_slices
from evalkit.stages import PlanRun
from evalkit.store import Ledger

STEPS = 250
BATCH = 16
CONTROLS = 40
SLICE = {"topic": "lowercase"}


def lessons() -> list[tuple[str, str]]:
    """Questions with answers: in the form that is asked, where it is not lowercase letters."""
    made = []
    for place, (frame, (words, said)) in enumerate(QUESTIONS.items()):
        for turn, word in enumerate(words.split()):
            question, answer = frame.format(word), f"A good answer is that it {said}."
            form = ("", *FORMS)[(place + turn) % 4]
            wording = FORMS[form][turn % 3] if form else ""
            if form == "json":
                answer = json.dumps({"answer": answer})
            elif form == "ending":
                answer += " Hope this helps!"
            made.append((f"{question} {wording}".strip(), answer))
    return made


def teach(folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Trains a model on answers, and writes it back."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    rows = []
    for question, answer in pairs:
        asked = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
        rows.append((prompt, tokenizer(f"{answer}<|im_end|>", add_special_tokens=False)["input_ids"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        chosen = [rows[int(i)] for i in torch.randint(len(rows), (BATCH,))]
        longest = max(len(a) + len(b) for a, b in chosen)
        ids, labels = torch.zeros(BATCH, longest, dtype=torch.long), torch.full((BATCH, longest), -100)
        for place, (prompt, answer_ids) in enumerate(chosen):
            whole = prompt + answer_ids
            ids[place, : len(whole)] = torch.tensor(whole)
            labels[place, len(prompt) : len(whole)] = torch.tensor(answer_ids)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def make_ledger(folder: Path, make_tiny: Callable[..., Path]) -> Path:
    """Evaluates the model, and finds its failing slice; returns the ledger's file."""
    pairs = lessons()
    weights = make_tiny("parent", context=512, corpus=[part for pair in pairs for part in pair], tokens=900,
                        spread=0.05)  # fmt: skip
    teach(weights, pairs)
    prompts = folder / "controls.jsonl"
    asked = [question for question, _ in pairs if "?" in question[-1:]][:CONTROLS]
    prompts.write_text("".join(json.dumps({"id": f"c{i}", "prompt": one}) + "\n" for i, one in enumerate(asked)))
    plan = Plan.model_validate(
        {"name": "nightly", "store": str(folder / "evalkit.db"),
         "models": [{"name": "small", "model": f"hf/{weights}", "sampling": {"max_tokens": 40}}],
         "benchmarks": ["starter_formats"], "arena": {"prompts": str(prompts)}}
    )  # fmt: skip
    with Ledger.open(plan.store) as ledger:
        run = PlanRun(plan).run(ledger)
        found = find_slices(ledger, run.run_id, 1, settings=SliceSettings(where=SLICE))
        store_slices(ledger, found)
    return folder / "evalkit.db"
