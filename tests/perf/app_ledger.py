"""A large ledger for the app: 1,000,000 responses, 200,000 verdicts of judges and people, 200 models."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import store
from store import ITEMS, Load

from evalkit.models.base import sha256
from evalkit.store import BattleRow, Ledger, ScoreRow, VerdictRow
from evalkit.store.database import now
from evalkit.store.ledger_app import Jobs
from evalkit.store.schema import Slice

MODELS, RESPONSES, VERDICTS = 200, 1_000_000, 200_000
PEOPLE = 50


def make(path: Path, responses: int = RESPONSES, verdicts: int = VERDICTS) -> None:
    """Writes the ledger under another name first, so that one that was not finished is not taken for it."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with Ledger.open(str(part)) as ledger:
        load = Load(ledger, MODELS)
        store.write(ledger, load, responses, 5_000)
        judge(ledger, load, verdicts)
        rest(ledger, load)
    part.rename(path)


def judge(ledger: Ledger, load: Load, n: int) -> None:
    """Half of the verdicts are by a judge in both orders, a quarter by another in one, a quarter by 50 people.

    All of them follow the models' strengths, people a little less surely than judges.
    """
    draw = random.Random(1)
    strength = {model: draw.gauss(0, 1) for model in load.models}
    judges = [ledger.add_annotator("judge", f"judge-{i}", {}) for i in range(2)]
    people = [ledger.add_annotator("human", f"person-{i}", {"identity": i}) for i in range(PEOPLE)]

    def winner(a: int, b: int, noise: float) -> Any:
        lead = strength[a] - strength[b] + draw.gauss(0, noise)
        return "tie" if abs(lead) < 0.25 else "model_a" if lead > 0 else "model_b"

    wanted: dict[tuple[int, int, int], None] = {}
    while len(wanted) < n // 4:
        a, b = sorted(draw.sample(load.models, 2))
        wanted[draw.choice(load.items), a, b] = None
    pairs = list(wanted)
    for start in range(0, len(pairs), 2_500):
        part = pairs[start : start + 2_500]
        ids = ledger.add_battles([BattleRow(item, a, b) for item, a, b in part])
        rows = []
        for battle, (_, a, b) in zip(ids, part, strict=True):
            rows += [VerdictRow(battle, judges[0], order, winner(a, b, 0.8)) for order in ("ab", "ba")]
            rows.append(VerdictRow(battle, judges[1], draw.choice(("ab", "ba")), winner(a, b, 1.2)))
            person, seconds = draw.choice(people), draw.uniform(4, 40)
            rows.append(VerdictRow(battle, person, draw.choice(("ab", "ba")), winner(a, b, 1.5), seconds=seconds))
        ledger.add_verdicts(load.runs[0], rows)


def rest(ledger: Ledger, load: Load) -> None:
    """Scores of every model on every task, slices, and a job: something for every page."""
    draw = random.Random(2)
    ability = {model: draw.gauss(0.5, 0.1) for model in load.models}
    tasks = sorted(set(load.datasets))
    rows = [
        ScoreRow(model, task, "acc", min(max(draw.gauss(ability[model], 0.05), 0.0), 1.0), 0.01, ITEMS // len(tasks))
        for model in load.models
        for task in tasks
    ]
    ledger.set_scores(load.runs[0], rows)
    with ledger.write() as connection:
        for number in range(40):
            counts = {"n": 30, "failed": draw.randint(9, 25), "rest_n": 300, "rest_failed": 90}
            definition = {
                "model": load.models[number], "dataset": tasks[number % len(tasks)], "metric": "acc",
                "where": {"topic": number % 7}, "discovery": counts, "held_out": counts,
            }  # fmt: skip
            connection.execute(
                Slice.__table__.insert().values(
                    id=number + 1, hash=sha256(f"slice {number}"), run_id=1, name=f"Topic {number % 7}",
                    definition=definition, support=60, effect=0.2, q_value=draw.random() / 20, created_at=now(),
                )
            )  # fmt: skip
    Jobs(ledger).enqueue("plan", {"folder": "/", "text": "models: [embedded/smollm2-135m-instruct]\n"}, "nightly")
