"""Each method on the real SmolLM2-135M, on prompts it was not trained on: DPO, reward model, best-of-n, GRPO.

    evalkit models pull smollm2-135m-instruct
    python tests/perf/methods.py [dpo] [reward] [rejection] [grpo]

Some CPU minutes each. Prints a row of a table for each measure: before, after, and the 95 % interval of the change (t
over held-out prompts, paired). Pairs and models lie in a folder of the user's cache; pairs are made once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evalkit.engine.progress import RichProgress
from evalkit.models import embedded
from evalkit.models.base import ModelSettings, Request, Sampling
from evalkit.stats.paired import paired_difference
from evalkit.verify import verify
from trainers.methods import Trained, train
from trainers.methods.common import load_tokenizer
from trainers.methods.data import IGNORED, encode_turns
from trainers.recorder import Recorder
from trainers.rows import Row, assistant, user

NAME = "smollm2-135m-instruct"
PLACE = embedded.cache_dir() / "perf" / "methods"
TOPICS = (
    "rain", "bread", "trains", "the moon", "coffee", "bees", "rivers", "snow", "bicycles", "gold", "tea", "forests",
    "music", "salt", "wolves", "paper", "glass", "maps", "clocks", "honey", "bridges", "deserts", "whales", "chess",
    "volcanoes", "roses", "ships", "iron", "owls", "wool", "islands", "pianos", "windmills", "apples", "lakes", "stars",
    "cheese", "horses", "storms", "books", "ants", "sand", "castles", "corn", "silk", "foxes", "canals", "ice",
    "olives", "candles", "lizards", "markets", "kites", "pepper", "gardens", "tunnels", "pearls", "drums", "ferns",
    "ladders", "mirrors", "oats", "parrots", "quartz", "spiders", "towers", "violins", "wheat", "bamboo", "cotton",
    "dolphins", "eagles", "fog", "grapes", "harbours", "ink", "jackets", "kettles", "lemons", "moss",
)  # fmt: skip
HELD_OUT = 32
BETA = 0.1


@dataclass(frozen=True)
class Measure:
    """A measure of each held-out prompt, before and after.

    Attributes:
        before: A float stands for all prompts, such as a coin's 0.5.
    """

    what: str
    before: Sequence[float] | float
    after: Sequence[float]

    def row(self) -> str:
        before = self.before if isinstance(self.before, Sequence) else [self.before] * len(self.after)
        found = paired_difference(self.after, before)
        change = f"{found.difference:+.2f} ({found.lower:+.2f} to {found.upper:+.2f})"
        return f"{self.what} | {found.n} | {found.mean_b:.2f} | {found.mean_a:.2f} | {change}"


def prompts(frame: str) -> tuple[list[str], list[str]]:
    """Returns prompts to train on, and those held out: other topics."""
    made = [frame.format(topic) for topic in TOPICS]
    return made[:-HELD_OUT], made[-HELD_OUT:]


def answers(folder: Path, asked: Sequence[str], *, samples: int = 1, tokens: int = 32, system: str | None = None,
            temperature: float = 1.0) -> list[list[str]]:  # fmt: skip
    """Draws answers of a model: for each prompt a list of `samples`."""
    from evalkit.models.local import LocalModel

    drawn = Sampling(temperature=temperature, max_tokens=tokens, seed=1)
    model = LocalModel(ModelSettings("hf", folder.name, dtype="float32", system=system), folder, batch_size=32)

    async def all_of_them() -> list[list[str]]:
        requests = [
            Request(tuple(user(text)), sampling=drawn, sample=n).effective(model.settings)
            for text in asked
            for n in range(samples)
        ]
        replies = [str(reply.text) for reply in await asyncio.gather(*map(model.reply, requests))]
        return [replies[start : start + samples] for start in range(0, len(replies), samples)]

    return asyncio.run(all_of_them())


def words(texts: Sequence[str]) -> list[float]:
    return [float(len(text.split())) for text in texts]


def pairs() -> tuple[list[Row], list[Row]]:
    """Returns pairs as verdicts give them: two contestants answer, a judge of brevity says who wins."""
    both = [text for part in prompts("What is {0}?") for text in part]
    file = PLACE / f"pairs-{hashlib.sha256(repr(both).encode()).hexdigest()[:8]}.json"
    if not file.exists():
        base = embedded.folder(NAME)
        short = answers(base, both, system="Answer in one sentence of at most ten words.")
        long = answers(base, both, tokens=40)
        made = []
        for text, (one,), (other,) in zip(both, short, long, strict=True):
            a, b = len(one.split()), len(other.split())
            if a != b:  # a tie is no pair
                made.append([text, *((one, other) if a < b else (other, one))])
        PLACE.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made))
    held = set(prompts("What is {0}?")[1])
    found: tuple[list[Row], list[Row]] = ([], [])
    for text, chosen, rejected in json.loads(file.read_text()):
        content = {"prompt": user(text), "chosen": assistant(chosen), "rejected": assistant(rejected)}
        found[text in held].append(Row("preference", content, "verdicts"))
    return found


def run(method: Any, name: str, rows: list[Row], settings: dict[str, Any]) -> tuple[Trained, Recorder]:
    """Trains anew, without validation rows: what is measured afterwards has chosen nothing."""
    out = PLACE / name
    for old in (out, out.with_name(out.name + ".partial")):
        shutil.rmtree(old, ignore_errors=True)
    recorder = Recorder(shown=RichProgress())
    return train(method, rows, [], embedded.folder(NAME), out, settings, recorder=recorder), recorder


def log_probabilities(folder: Path, rows: Sequence[Row], side: str) -> list[float]:
    """Returns the natural log-probability of each row's answer, summed over its tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    found = []
    for row in rows:
        ids, labels = encode_turns(tokenizer, row.content["prompt"], row.content[side], all_turns=False)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        told = [(place, label) for place, label in enumerate(labels[1:]) if label != IGNORED]
        found.append(sum(float(logits[place, label]) for place, label in told))
    return found


def dpo() -> tuple[str, list[Measure]]:
    rows, held = pairs()
    settings = {"learning_rate": 1e-4, "per_device_train_batch_size": 4, "warmup_steps": 1, "beta": BETA}
    trained, _ = run("dpo", "dpo", rows, settings)
    base = embedded.folder(NAME)
    gap = {
        folder: [
            c - r for c, r in zip(*(log_probabilities(folder, held, s) for s in ("chosen", "rejected")), strict=True)
        ]
        for folder in (base, trained.folder)
    }
    margin = [BETA * (after - before) for before, after in zip(gap[base], gap[trained.folder], strict=True)]
    asked = [row.content["prompt"][0]["content"] for row in held]
    length = {folder: words([one for (one,) in answers(folder, asked, tokens=40)]) for folder in (base, trained.folder)}
    return f"{len(rows)} pairs, {trained.steps} steps", [
        Measure("implicit reward margin, chosen over rejected", 0.0, margin),
        Measure("share of pairs with a positive margin (before: a coin)", 0.5, [float(one > 0) for one in margin]),
        Measure("words of its answers (the judge prefers fewer)", length[base], length[trained.folder]),
    ]


def reward() -> tuple[str, list[Measure]]:
    from trainers.methods.reward import RewardModel

    rows, held = pairs()
    trained, _ = run("reward", "reward", rows, {"learning_rate": 2e-4, "per_device_train_batch_size": 4})
    model = RewardModel(trained.folder)
    asked = [row.content["prompt"] for row in held]
    good, bad = (model.score(asked, [row.content[s][0]["content"] for row in held]) for s in ("chosen", "rejected"))
    right = [float(one > other) for one, other in zip(good, bad, strict=True)]
    texts = [row.content["prompt"][0]["content"] for row in held]
    drawn = answers(embedded.folder(NAME), texts, samples=4, tokens=40)
    best = []
    for text, four in zip(texts, drawn, strict=True):
        scores = model.score([user(text)] * len(four), four)
        best.append(four[scores.index(max(scores))])
    return f"{len(rows)} pairs, {trained.steps} steps", [
        Measure("pairs ranked right (before: a coin)", 0.5, right),
        Measure("words of the best of 4 by it (before: of any of the 4)", [sum(words(four)) / 4 for four in drawn],
                words(best)),
    ]  # fmt: skip


def rejection() -> tuple[str, list[Measure]]:
    """Best-of-n rejection sampling: what a verifier accepts of the model's own answers is learned."""
    spec = {"verifier": "constraints", "constraints": [{"kind": "max_words", "value": 15}]}
    asked, held = prompts("Write one short sentence about {0}.")
    base = embedded.folder(NAME)
    drawn = answers(base, asked, samples=3, tokens=40, temperature=0.7)
    rows = [
        Row("sft", {"prompt": user(text), "completion": assistant(accepted[0])}, "best_of_n")
        for text, three in zip(asked, drawn, strict=True)
        if (accepted := [one for one in three if verify(spec, one).passed])
    ]
    settings = {"learning_rate": 5e-4, "num_train_epochs": 2, "per_device_train_batch_size": 8}
    trained, _ = run("sft", "rejection", rows, settings)
    before, after = (accepted_shares(folder, held, spec, tokens=40) for folder in (base, trained.folder))
    about = f"{len(rows)} of {len(asked)} prompts had an accepted answer among 3, {trained.steps} steps"
    return about, [Measure("share of 2 answers that the verifier accepts", before, after)]


def accepted_shares(folder: Path, asked: Sequence[str], spec: dict[str, Any], *, tokens: int) -> list[float]:
    """Returns the verifier's mean score of two answers to each prompt."""
    drawn = answers(folder, asked, samples=2, tokens=tokens, temperature=0.7)
    return [sum(float(verify(spec, one).score or 0) for one in two) / 2 for two in drawn]


def grpo() -> tuple[str, list[Measure]]:
    spec = {"verifier": "constraints", "constraints": [{"kind": "max_words", "value": 8}]}
    asked, held = prompts("Say something about {0}.")
    rows = [Row("grpo", {"prompt": user(text), "verify": spec}, "prompts") for text in asked]
    settings = {
        "learning_rate": 2e-4, "max_steps": 10, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 16,
        "num_generations": 8, "max_completion_length": 24, "beta": 0.0, "lr_scheduler_type": "constant",
    }  # fmt: skip
    trained, recorder = run("grpo", "grpo", rows, settings)
    rewards = " ".join(f"{value:.2f}" for name, _, value in recorder.points if name == "reward" and value is not None)
    print(f"  reward while training: {rewards}")
    before, after = (
        accepted_shares(folder, held, spec, tokens=24) for folder in (embedded.folder(NAME), trained.folder)
    )
    return f"{trained.steps} steps of 32 answers", [
        Measure("reward of 2 answers (the verifier's mean score)", before, after)
    ]


PARTS: dict[str, Callable[[], tuple[str, list[Measure]]]] = {
    "dpo": dpo, "reward": reward, "rejection": rejection, "grpo": grpo
}  # fmt: skip


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        spent, began = time.process_time(), time.monotonic()
        about, measures = PARTS[name]()
        cost = f"{(time.process_time() - spent) / 60:.1f} CPU min ({(time.monotonic() - began) / 60:.1f} min)"
        for measure in measures:
            print(f"| {name} | {about} | {measure.row()} | {cost} |", flush=True)


if __name__ == "__main__":
    main()
