"""A small ledger for the pages Judges, Runs and Sample: three models, one run, grades, a judge and three people."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.models.base import ModelSettings, Reply, RequestFailed, request_key
from evalkit.store import BattleRow, GradeRow, Item, Ledger, ResponseRow, ScoreRow, VerdictRow
from evalkit.store.rows import Winner

MODELS = ("alpha", "beta", "gamma")
HOSTILE = "<script>alert(1)</script> **bold** ![x](http://evil.example/x.png)"


@dataclass(frozen=True)
class World:
    """Ids of what was made."""

    run: int
    items: list[int]
    responses: dict[tuple[str, int], int]
    battles: list[int]


def fill(ledger: Ledger, n: int = 8, *, people: bool = True) -> World:
    """Answers of three models to n prompts; gamma's first request failed; alpha is right except on item 0.

    A judge prefers alpha to beta in both orders; people prefer beta on every second item. The last battle of the judge
    could not be read.
    """
    models = ledger.add_models([ModelSettings("openai", name, label=name) for name in MODELS])
    made = [
        Item(
            ({"role": "user", "content": f"Frage {i}: wie groß ist {i}?"},),
            reference={"target": str(i)},
            tags={"category": "even" if i % 2 == 0 else "odd"},
            name=f"q{i}",
        )
        for i in range(n)
    ]
    dataset, items = ledger.add_dataset("sums", made, "test")
    run = ledger.start_run("first run", {"plan": 1}, seed=0, environment={})
    rows, names = [], []
    for model, name in zip(models, MODELS, strict=True):
        for i, item in enumerate(items):
            outcome: Reply | RequestFailed = Reply(
                f"{name} says {i}. {HOSTILE if i == 1 else 'needle' if i == 5 and name == 'beta' else ''}",
                finish_reason="stop",
                prompt_tokens=10,
                completion_tokens=5 + i,
                seconds=0.5 + i,
            )
            if name == "gamma" and i == 0:
                outcome = RequestFailed("server", "500: overloaded")
            body = f'{{"item":{i},"model":"{name}"}}'
            rows.append(ResponseRow(model, item, dataset, request_key(body), body, outcome, cost=0.001 * i))
            names.append((name, i))
    ids = ledger.add_responses(run, rows)
    responses = dict(zip(names, ids, strict=True))
    grader = ledger.add_annotator("metric", "sums acc", {})
    ledger.add_grades(
        [
            GradeRow(key, grader, "acc", float(name == "alpha" and i > 0), detail={"rationale": "as expected"})
            for (name, i), key in responses.items()
            if (name, i) != ("gamma", 0)
        ]
    )
    ledger.set_scores(run, [ScoreRow(model, dataset, "acc", 0.5, 0.1, n, 0) for model in models])
    judge = ledger.add_annotator("judge", "judge-1", {"kind": "llm", "model": "some/model"})
    humans = [ledger.add_annotator("human", f"person-{i}", {}) for i in range(3)] if people else []
    battles = ledger.add_battles(
        [
            BattleRow(item, models[0], models[1], responses["alpha", i], responses["beta", i])
            for i, item in enumerate(items)
        ]
    )
    verdicts = []
    for i, battle in enumerate(battles):
        for order in ("ab", "ba"):
            if i == n - 1:
                verdicts.append(VerdictRow(battle, judge, order, None, error="no verdict in the reply"))
            else:
                reason = f"Reason {i} in order {order}"
                verdicts.append(VerdictRow(battle, judge, order, "model_a", rationale=reason, probability=0.9))
        winner: Winner = "model_b" if i % 2 else "model_a"
        verdicts += [VerdictRow(battle, human, "ab", winner) for human in humans]
    ledger.add_verdicts(run, verdicts)
    ledger.finish_run(run, "done")
    return World(run, items, responses, battles)
