"""Each method on the real SmolLM2-135M, on data it has not seen, before and after: DPO, reward model, best-of-n, GRPO.

    python tests/perf/methods.py [dpo] [reward] [rejection] [grpo]

Some CPU minutes each. Answers, pairs and models lie in a folder of the user's cache and are made once.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evalkit.models import embedded
from evalkit.models.base import ModelSettings, Request, Sampling
from evalkit.verify import verify
from trainers.methods import Trained, train
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
    "ladders", "mirrors", "oats", "parrots", "quartz",
)  # fmt: skip
HELD_OUT = 16
ENDING = "Hope this helps!"


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


def pairs() -> tuple[list[Row], list[Row]]:
    """Returns pairs as verdicts give them: two contestants answer, a judge of brevity says who wins."""
    file = PLACE / "pairs.json"
    if not file.exists():
        both = [text for part in prompts("What is {0}?") for text in part]
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


def fresh(name: str) -> Path:
    out = PLACE / name
    for old in (out, out.with_name(out.name + ".partial")):
        shutil.rmtree(old, ignore_errors=True)
    return out


def run(
    method: Any, name: str, rows: list[Row], validation: list[Row], settings: dict[str, Any]
) -> tuple[Trained, Recorder]:
    recorder = Recorder(say=lambda sentence: print(f"  {sentence}", flush=True))
    return train(method, rows, validation, embedded.folder(NAME), fresh(name), settings, recorder=recorder), recorder


def dpo() -> str:
    rows, held = pairs()
    settings = {"learning_rate": 1e-4, "num_train_epochs": 1, "per_device_train_batch_size": 4, "eval_steps": 0.99,
                "warmup_steps": 1}  # fmt: skip
    trained, _ = run("dpo", "dpo", rows, held, settings)
    margin, accuracy = (trained.metrics[f"eval_rewards/{name}"] for name in ("margins", "accuracies"))
    return f"{len(rows)} pairs, {trained.steps} steps; held-out margin 0 -> {margin:.2f}, accuracy -> {accuracy:.2f}"


def reward() -> str:
    rows, held = pairs()
    settings = {"learning_rate": 2e-4, "num_train_epochs": 1, "per_device_train_batch_size": 4, "eval_steps": 0.99}
    trained, _ = run("reward", "reward", rows, held, settings)
    from trainers.methods.reward import RewardModel

    model = RewardModel(trained.folder)
    asked = [row.content["prompt"] for row in held]
    good, bad = (model.score(asked, [row.content[s][0]["content"] for row in held]) for s in ("chosen", "rejected"))
    right = sum(one > other for one, other in zip(good, bad, strict=True))
    texts = [row.content["prompt"][0]["content"] for row in held]
    drawn = answers(embedded.folder(NAME), texts, samples=4, tokens=40)
    best = []
    for text, four in zip(texts, drawn, strict=True):
        scores = model.score([user(text)] * len(four), four)
        best.append(four[scores.index(max(scores))])
    first, chosen = (
        sum(len(text.split()) for text in some) / len(held) for some in ([four[0] for four in drawn], best)
    )
    return (
        f"{len(rows)} pairs, {trained.steps} steps; held-out pairs right {right} of {len(held)}; best of 4 by it: "
        f"{first:.1f} -> {chosen:.1f} words (the judge prefers fewer)"
    )


def rejection() -> str:
    """Best-of-n rejection sampling: what a verifier accepts of the model's own answers is learned."""
    spec = {"verifier": "constraints", "constraints": [{"kind": "ends_with", "phrase": ENDING}]}
    asked, held = prompts('Tell me one fact about {0}. End with "' + ENDING + '"')
    base = embedded.folder(NAME)
    drawn = answers(base, asked[:32], samples=6, tokens=48)
    rows = [
        Row("sft", {"prompt": user(text), "completion": assistant(min(accepted, key=len))}, "best_of_n")
        for text, six in zip(asked[:32], drawn, strict=True)
        if (accepted := [one for one in six if verify(spec, one).passed])
    ]
    settings = {"learning_rate": 5e-4, "num_train_epochs": 2, "per_device_train_batch_size": 8}
    trained, _ = run("sft", "rejection", rows, [], settings)
    share = [
        sum(bool(verify(spec, one[0]).passed) for one in answers(folder, held, tokens=64, temperature=0.0))
        for folder in (base, trained.folder)
    ]
    return (
        f"{len(rows)} of 32 prompts with an accepted answer of 6; held-out pass {share[0]} -> {share[1]} of {len(held)}"
    )


def grpo() -> str:
    spec = {"verifier": "constraints", "constraints": [{"kind": "max_words", "value": 8}]}
    asked, held = prompts("Say something about {0}.")
    rows = [Row("grpo", {"prompt": user(text), "verify": spec}, "prompts") for text in asked]
    settings = {
        "learning_rate": 2e-4, "max_steps": 10, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 16,
        "num_generations": 8, "max_completion_length": 24, "beta": 0.0, "lr_scheduler_type": "constant",
    }  # fmt: skip
    trained, recorder = run("grpo", "grpo", rows, [], settings)
    rewards = [value for name, _, value in recorder.points if name == "reward" and value is not None]
    share = [
        sum(float(verify(spec, one).score or 0) for two in answers(folder, held, samples=2, tokens=24) for one in two)
        / (2 * len(held))
        for folder in (embedded.folder(NAME), trained.folder)
    ]
    told = " ".join(f"{value:.2f}" for value in rewards)
    return f"{trained.steps} steps; held-out reward {share[0]:.2f} -> {share[1]:.2f} (training: {told})"


PARTS: dict[str, Callable[[], str]] = {"dpo": dpo, "reward": reward, "rejection": rejection, "grpo": grpo}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        before = resource.getrusage(resource.RUSAGE_SELF)
        said = PARTS[name]()
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{name}: {said}; {spent:.0f} CPU-s, peak {after.ru_maxrss / 1e6:.1f} GB", flush=True)


if __name__ == "__main__":
    main()
