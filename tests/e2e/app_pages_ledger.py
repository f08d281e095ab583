"""A ledger like the quickstart's, with people's votes, slices, a retrained model, campaigns and jobs besides."""

from __future__ import annotations

import random
from pathlib import Path

import sample_ledger
import sqlalchemy as sa
import training_world

from evalkit.store import Ledger, VerdictRow
from evalkit.store.ledger_app import Jobs, People
from evalkit.store.schema import Annotator, Verdict

CAMPAIGN = "Which answers are right?"
VOTES = 150
"""Of each of three people: enough for the judges to be measured against."""


def make_ledger(path: Path) -> None:
    """Writes the ledger, closed at the end so that its file alone can be copied."""
    ledger, run_id = sample_ledger.make(path, items=20)
    training_world.fill(ledger, run_id, status="running")
    with ledger.engine.connect() as connection:
        query = sa.select(Verdict.battle_id, Verdict.winner).join(Annotator, Annotator.id == Verdict.annotator_id)
        truth = connection.execute(query.where(Annotator.name == "rules").order_by(Verdict.battle_id)).all()
    draw = random.Random(1)
    for name in ("Anna", "Ben", "Chiara"):
        annotator = ledger.add_annotator("human", name, {"identity": name})
        votes = []
        for battle_id, right in draw.sample(truth, min(VOTES, len(truth))):
            winner = right if draw.random() < 0.8 else draw.choice(("model_a", "model_b", "tie"))
            votes.append(
                VerdictRow(battle_id, annotator, draw.choice(("ab", "ba")), winner, seconds=draw.uniform(4, 40))
            )
        ledger.add_verdicts(None, votes)
    people = People(ledger)
    people.add_campaign(CAMPAIGN, instructions="Prefer the answer that is **right**.", settings={"votes_per_pair": 3})
    people.invite("voter", 1, note="the team's link", max_uses=None)
    jobs = Jobs(ledger)
    jobs.enqueue(
        "plan", {"folder": "/", "text": "models: [embedded/smollm2-135m-instruct]\nbenchmarks: [starter]\n"}, "nightly"
    )
    jobs.add_schedule("nightly", "0 3 * * *", "plan", {"folder": "/", "path": "/plan.yaml"}, None)
    ledger.close()


def empty_ledger(path: Path) -> Path:
    """Writes a ledger without a row."""
    Ledger.open(str(path)).close()
    return path
