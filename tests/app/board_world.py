"""A small ledger with all three kinds of evidence: nine models, people, two judges, two benchmarks, prices."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from evalkit.models.base import ModelSettings, Reply, RequestFailed
from evalkit.store import BattleRow, Item, Ledger, ResponseRow, ScoreRow, VerdictRow

NAMES = [f"model-{i}" for i in range(9)]  # the later the better


def fill(path: Path) -> None:
    """Writes it: model-0 fails once, model-8 is best by people, judges and benchmarks."""
    rng = random.Random(0)
    with Ledger.open(str(path)) as ledger:
        models = ledger.add_models([ModelSettings("openai", name, label=name) for name in NAMES])
        prompts = [
            Item(
                ({"role": "user", "content": f"Question {i}"},),
                tags={"category": ("code", "maths")[i % 2]},
                name=str(i),
            )
            for i in range(12)
        ]
        dataset, items = ledger.add_dataset("prompts", prompts, "test")
        run = ledger.start_run("made", {}, seed=0, environment={})
        rows = []
        for place, model in enumerate(models):
            for i, item in enumerate(items):
                outcome: Reply | RequestFailed = RequestFailed("server", "500: overloaded")
                if place or i:
                    text = "word " * (4 + place + i % 5) + "\n- item" * (i % 3)
                    outcome = Reply(text, None, (), "stop", None, 20, 10 + place, 0, 0.5 + 0.1 * place, "m")
                rows.append(
                    ResponseRow(model, item, dataset, f"{place:032d}{i:032d}", "{}", outcome, 0, 0.001 * (place + 1))
                )
        answers = ledger.add_responses(run, rows)
        people = [ledger.add_annotator("human", f"person {i}", {}) for i in range(4)]
        fair, blind = (ledger.add_annotator("judge", name, {}) for name in ("fair", "blind"))
        verdicts: list[Any] = []
        for i, item in enumerate(items):
            for _ in range(18):
                a, b = sorted(rng.sample(range(len(models)), 2))
                n = len(items)
                battle = BattleRow(item, models[a], models[b], answers[a * n + i], answers[b * n + i])
                [key] = ledger.add_battles([battle])
                better = rng.random() < 1 / (1 + 2.718 ** ((a - b) / 2))
                winner: Any = "tie" if rng.random() < 0.1 else "model_b" if better else "model_a"
                verdicts.append(VerdictRow(key, rng.choice(people), "ab", winner))
                judged: Any = "model_b" if rng.random() < 1 / (1 + 2.718 ** ((a - b) / 1.5)) else "model_a"
                verdicts += [VerdictRow(key, fair, order, judged) for order in ("ab", "ba")]
                verdicts += [VerdictRow(key, blind, "ab", "model_a"), VerdictRow(key, blind, "ba", "model_b")]
        unread = ledger.add_battles([BattleRow(items[0], models[0], models[8], turn=2)])
        verdicts.append(VerdictRow(unread[0], fair, "ab", None, error="no verdict in the text"))
        ledger.add_verdicts(run, list({(v.battle_id, v.annotator_id, v.order): v for v in verdicts}.values()))
        scores = []
        for name, noise in (("sums", 0.02), ("facts", 0.2)):
            task, _ = ledger.add_dataset(name, prompts[:10], f"{name}.yaml")
            for place, model in enumerate(models):
                value = min(0.98, max(0.02, 0.1 + 0.09 * place + rng.gauss(0, noise)))
                scores.append(ScoreRow(model, task, "acc", value, (value * (1 - value) / 100) ** 0.5, 100))
        ledger.set_scores(run, scores)
        ledger.finish_run(run, "done")
