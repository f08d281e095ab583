"""Makes a small, realistic ledger: four models, six tasks, a verifier, two LLM judges, some failed requests.

python tests/report/sample_ledger.py FOLDER    # writes FOLDER/sample.db and FOLDER/report.html
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed, Sampling, request_key
from evalkit.store import BattleRow, GradeRow, Item, Ledger, ResponseRow, ScoreRow, VerdictRow

HOSTILE = "<script>alert('answer')</script><img src=x onerror=alert(1)> {{ 7*7 }} \u202egnirts"
MODELS = (
    ModelSettings("embedded", "smollm2-135m-instruct", label="smollm2"),
    ModelSettings("embedded", "smollm2-135m-instruct", sampling=Sampling(temperature=1.0), label="smollm2-hot"),
    ModelSettings("embedded", "smollm2-135m-instruct", system="Answer in one word.", label="smollm2-brief"),
    ModelSettings("recorded", "answers.jsonl#gpt-4", label="gpt-4-recorded"),
)
SKILL = {"smollm2": 0.42, "smollm2-hot": 0.30, "smollm2-brief": 0.38, "gpt-4-recorded": 0.86}
TASKS = ("arithmetic", "arithmetic_de", "instructions", "json_output", "knowledge", "reading")
ARENA = ("arithmetic", "instructions", "json_output")
METRICS = {"knowledge": ("acc,none", "acc_norm,none"), "reading": ("exact_match,strict", "exact_match,flexible")}
TOPICS = {
    "arithmetic": ("addition", "fractions", "percentages", "money"),
    "arithmetic_de": ("addition", "fractions", "percentages", "money"),
    "instructions": ("lower case", "word count", "ending"),
    "json_output": ("one object", "nested", "list"),
    "knowledge": ("geography", "history", "nature"),
    "reading": ("who", "why", "how many"),
}
HARD = {"fractions", "word count", "nested", "why"}


def make(path: Path, *, items: int = 40, seed: int = 7) -> tuple[Ledger, int]:
    """Writes the ledger; returns it with the id of its run."""
    draw = random.Random(seed)
    ledger = Ledger.open(str(path))
    plan = {
        "name": "sample",
        "seed": seed,
        "models": [{"model": f"{m.provider}/{m.name}", "name": m.label} for m in MODELS],
        "benchmarks": [{"task": task} for task in TASKS],
        "arena": {"tasks": list(ARENA)},
        "judges": [{"name": "rules", "kind": "verifier"}, {"name": "smollm2-judge"}, {"name": "careful-judge"}],
    }
    environment = {"evalkit": "0.1.0", "python": "3.11.9", "lm_eval": "0.4.13", "torch": "2.13.0"}
    run_id = ledger.start_run("sample", plan, seed=seed, environment=environment)
    model_ids = ledger.add_models(MODELS)
    correct: dict[tuple[int, int], float] = {}
    answers: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for task in TASKS:
        rows = [_item(draw, task, number) for number in range(items)]
        dataset_id, item_ids = ledger.add_dataset(task, rows, f"made for tests: {task}.jsonl")
        for model, model_id in zip(MODELS, model_ids, strict=True):
            responses, goods = [], []
            for item, item_id in zip(rows, item_ids, strict=True):
                good = draw.random() < _chance(model.label, item)
                responses.append(_response(draw, model, model_id, item, item_id, dataset_id, good))
                goods.append(good)
            ids = ledger.add_responses(run_id, responses)
            graded = []
            for response_id, row, good in zip(ids, responses, goods, strict=True):
                if isinstance(row.outcome, Reply):
                    correct[response_id, row.item_id] = float(good)
                    graded.append((response_id, good, row.outcome.text))
                    if task in ARENA:
                        answers[row.item_id].append((model_id, response_id))
            _grade(ledger, run_id, task, model_id, dataset_id, graded, errors=items - len(graded))
    _judge(ledger, run_id, draw, answers, {key[0]: value for key, value in correct.items()})
    ledger.update_run(run_id, stage="judge", done=len(correct), total=items * len(TASKS) * len(MODELS))
    ledger.finish_run(run_id, "failed", "some requests have no answer")
    return ledger, run_id


def _item(draw: random.Random, task: str, number: int) -> Item:
    topic = TOPICS[task][number % len(TOPICS[task])]
    a, b = draw.randint(2, 90), draw.randint(2, 90)
    question = {
        "arithmetic": f"Anna has {a} marbles and Ben has {b} more than she has. How many has Ben? ({topic})",
        "arithmetic_de": f"Anna hat {a} Murmeln, Ben {b} mehr als sie. Wie viele hat Ben? ({topic})",
        "instructions": f"Describe the number {a} in one sentence, keeping to this rule: {topic}.",
        "json_output": f'Give {a} and {b} as JSON with the keys "first" and "second". ({topic})',
        "knowledge": f"Question {number} about {topic}: which of A, B, C, D is right?",
        "reading": f"Clara gave {a} books to David because she was moving. {topic.capitalize()}?",
    }[task]
    tags = {
        "topic": topic,
        "difficulty": "hard" if topic in HARD or draw.random() < 0.2 else "easy",
        "format": {"knowledge": "letter", "json_output": "json"}.get(task, "text"),
        "language": "de" if task.endswith("_de") else "en",
        "benchmark": task,
    }
    message = {"role": "user", "content": question}
    return Item((message,), {"target": str(a + b), "doc": {"id": number}}, tags, str(number), "test")


def _chance(label: str, item: Item) -> float:
    chance = SKILL[label] - (0.25 if item.tags["difficulty"] == "hard" else 0.0)
    if item.tags["format"] == "json" and label != "gpt-4-recorded":
        chance -= 0.2
    return chance + (0.3 if item.tags["benchmark"] == "knowledge" and label == "smollm2-brief" else 0.0)


def _response(
    draw: random.Random, model: ModelSettings, model_id: int, item: Item, item_id: int, dataset_id: int, good: bool
) -> ResponseRow:
    body = Request(item.messages).body(model)
    right = item.reference["target"]
    text = f"The answer is {right}." if good else f"I think it is {int(right) + draw.choice((-10, -1, 1, 7))}."
    if draw.random() < 0.03:
        text, good = HOSTILE, False
    outcome: Reply | RequestFailed = Reply(
        text, finish_reason="stop", prompt_tokens=42, completion_tokens=len(text) // 4, seconds=draw.uniform(0.2, 0.9)
    )
    if draw.random() < 0.02:
        kind, said = draw.choice((("timeout", "no answer within 600 s"), ("context_length", "2,100 tokens of 2,048")))
        outcome = RequestFailed(kind, said)  # type: ignore[arg-type]
    cost = 0.0004 if model.provider == "recorded" else 0.0
    return ResponseRow(model_id, item_id, dataset_id, request_key(body), body, outcome, cost=cost)


def _grade(
    ledger: Ledger,
    run_id: int,
    task: str,
    model_id: int,
    dataset_id: int,
    graded: list[tuple[int, bool, str]],
    errors: int,
) -> None:
    for metric in METRICS.get(task, ("passed,none",)):
        annotator = ledger.add_annotator("metric", f"{task} {metric}", {"task": task, "metric": metric})
        ledger.add_grades(
            [
                GradeRow(response_id, annotator, metric, float(good), detail={"filtered": text.split()[-1]})
                for response_id, good, text in graded
            ]
        )
        n, mean = len(graded), sum(good for _, good, _ in graded) / len(graded)
        stderr = (mean * (1 - mean) / (n - 1)) ** 0.5
        ledger.set_scores(run_id, [ScoreRow(model_id, dataset_id, metric, mean, stderr, n, errors)])


def _judge(
    ledger: Ledger,
    run_id: int,
    draw: random.Random,
    answers: dict[int, list[tuple[int, int]]],
    correct: dict[int, float],
) -> None:
    rows = [
        BattleRow(item_id, a[0], b[0], a[1], b[1])
        for item_id, given in answers.items()
        for a, b in combinations(sorted(given), 2)
    ]
    battles = list(zip(ledger.add_battles(rows), rows, strict=True))

    def truth(row: BattleRow) -> str:
        a, b = correct[row.response_a_id or 0], correct[row.response_b_id or 0]
        return "model_a" if a > b else "model_b" if b > a else "tie" if a else "both_bad"

    def first(_: BattleRow, order: str) -> str:
        return "model_a" if order == "ab" else "model_b"

    def careful(row: BattleRow, order: str) -> str:
        right = truth(row)
        if draw.random() < 0.8:
            return right if right != "both_bad" else "tie"
        return first(row, order) if draw.random() < 0.6 else draw.choice(("model_a", "model_b"))

    judges: tuple[tuple[str, dict[str, object], tuple[str, ...], Callable[[BattleRow, str], str]], ...] = (
        ("rules", {"kind": "verifier", "version": 1}, ("",), lambda row, _: truth(row)),
        ("smollm2-judge", {"kind": "llm", "prompt": "pairwise-v1"}, ("ab", "ba"), first),
        ("careful-judge", {"kind": "llm", "prompt": "pairwise-v1"}, ("ab", "ba"), careful),
    )
    for name, definition, orders, decide in judges:
        annotator = ledger.add_annotator("judge", name, definition)
        verdicts = []
        for battle_id, row in battles:
            for order in orders:
                lost = name == "careful-judge" and draw.random() < 0.03
                winner = None if lost else decide(row, order)
                error = "no verdict in the reply" if lost else None
                verdicts.append(VerdictRow(battle_id, annotator, order, winner, error=error))  # type: ignore[arg-type]
        ledger.add_verdicts(run_id, verdicts)


if __name__ == "__main__":
    from evalkit.report.html import write_report

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made, run = make(folder / "sample.db")
    write_report(made, run, folder / "report.html")
    print(folder / "report.html")
