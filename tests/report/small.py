"""Hand-made ledgers for single questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed, request_key
from evalkit.store import BattleRow, GradeRow, Item, Ledger, ResponseRow, ScoreRow, VerdictRow

Said = tuple[str, str | None]  # order, winner (None: unreadable)


def settings(name: str) -> ModelSettings:
    return ModelSettings("recorded", name, label=name)


def items(n: int, tags: Sequence[Mapping[str, Any]] | None = None) -> list[Item]:
    return [
        Item(({"role": "user", "content": f"question {i}"},), {"target": str(i)}, (tags or [{}] * n)[i], str(i))
        for i in range(n)
    ]


def judge(
    ledger: Ledger,
    name: str,
    battles: Sequence[Sequence[Said]],
    *,
    kind: str = "llm",
    criterion: str = "overall",
    models: tuple[str, str] = ("a", "b"),
    run_id: int | None = None,
) -> int:
    """Adds a judge and its verdicts on battles between two models, one battle an item; model_a is models[0]."""
    ids = ledger.add_models([settings(m) for m in models])
    turned = ids[0] > ids[1]  # the ledger stores the lower id as model_a
    swap = {"ab": "ba", "ba": "ab", "model_a": "model_b", "model_b": "model_a"} if turned else {}
    _, item_ids = ledger.add_dataset("battles", items(len(battles)))
    battle_ids = ledger.add_battles([BattleRow(item, ids[0], ids[1]) for item in item_ids])
    who = ("human", {}) if kind == "human" else ("judge", {"kind": kind})
    annotator = ledger.add_annotator(who[0], name, who[1])  # type: ignore[arg-type]
    rows = [
        VerdictRow(
            battle,
            annotator,
            swap.get(order, order),  # type: ignore[arg-type]
            swap.get(winner, winner) if winner else None,  # type: ignore[arg-type]
            criterion=criterion,
            error=None if winner else "unreadable",
        )
        for battle, said in zip(battle_ids, battles, strict=True)
        for order, winner in said
    ]
    ledger.add_verdicts(run_id, rows)
    return annotator


def answers(
    ledger: Ledger,
    run_id: int,
    task: str,
    values: Mapping[str, Sequence[float | str | None]],
    *,
    metric: str = "acc,none",
    tags: Sequence[Mapping[str, Any]] | None = None,
    score: bool = True,
    higher_is_better: bool = True,
) -> int:
    """Adds a task: each model's grades; None is a failed request, a text an answer that could not be graded."""
    n = len(next(iter(values.values())))
    rows = items(n, tags)
    dataset, item_ids = ledger.add_dataset(task, rows)
    grader = ledger.add_annotator("metric", f"{task} {metric}", {"task": task, "metric": metric})
    for model, given in values.items():
        (model_id,) = ledger.add_models([settings(model)])
        responses = []
        for item, item_id, value in zip(rows, item_ids, given, strict=True):
            body = Request(item.messages).body(settings(model)) + task
            outcome = RequestFailed("timeout", "too slow") if value is None else Reply(f"{model} says {value}")
            responses.append(ResponseRow(model_id, item_id, dataset, request_key(body), body, outcome))
        ids = ledger.add_responses(run_id, responses)
        graded = [(i, v) for i, v in zip(ids, given, strict=True) if v is not None]
        ledger.add_grades(
            [
                GradeRow(i, grader, metric, None, v) if isinstance(v, str) else GradeRow(i, grader, metric, v)
                for i, v in graded
            ]
        )
        numbers = [v for _, v in graded if not isinstance(v, str)]
        if score:
            mean = sum(numbers) / len(numbers) if numbers else None
            ledger.set_scores(
                run_id,
                [ScoreRow(model_id, dataset, metric, mean, 0.1, len(numbers), n - len(numbers), higher_is_better)],
            )
    return dataset


def run(ledger: Ledger, plan: Mapping[str, Any] | None = None, seed: int = 0) -> int:
    return ledger.start_run("test", plan or {}, seed=seed, environment={"python": "3.11"})
