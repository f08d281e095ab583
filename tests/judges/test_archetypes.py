"""Judges that decide in a known way, behind a real endpoint, through the real pipeline: the audit says what each is."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import Answer, MockServer, chat

from evalkit.models import ModelSettings, Reply, Request
from evalkit.models.base import request_key
from evalkit.stats import audit_findings as say
from evalkit.store import BattleRow, Ledger, ResponseRow, VerdictRow
from evalkit.store.rows import Item

ITEMS, BATTLES, VOTERS = 100, 300, 3
SKILL = {"atlas": 0.8, "birch": 0.3, "cedar": 0.0, "delta": -0.5}
CONSTANT = "Thank you for the question. There is much to be said on it, and every view has its merits."
Prefers = Callable[[str], float]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with the answers of five models, one of them constant, battles, and the votes of three people."""
    path = tmp_path_factory.mktemp("archetypes")
    draw = random.Random(11)
    with Ledger.open(str(path / "evalkit.db")) as ledger:
        run_id = ledger.start_run("answers", {}, seed=0, environment={})
        settings = [ModelSettings("hf", name, label=name) for name in (*SKILL, "null")]
        models = ledger.add_models(settings)
        items = [Item(({"role": "user", "content": f"Question {i}?"},), name=str(i)) for i in range(ITEMS)]
        dataset, item_ids = ledger.add_dataset("questions", items)
        rows, quality = [], {}
        for item, item_id in zip(items, item_ids, strict=True):
            for one, model in zip(settings, models, strict=True):
                worth = SKILL[one.name] + draw.gauss(0, 1) if one.name in SKILL else -4.0
                words = max(1, round(math.exp(3 + 0.3 * worth + 0.5 * draw.gauss(0, 1))))
                text = f"worth {worth:.3f}: " + "word " * words if one.name in SKILL else CONSTANT
                body = Request(item.messages).body(one)
                rows.append(ResponseRow(model, item_id, dataset, request_key(body), body, Reply(text)))
                quality[item_id, model] = worth
        ids = ledger.add_responses(run_id, rows)
        answer = {(row.item_id, row.model_id): key for row, key in zip(rows, ids, strict=True)}
        pairs = draw.sample([(i, a, b) for i in item_ids for a, b in itertools.combinations(models, 2)], BATTLES)
        battles = ledger.add_battles([BattleRow(i, a, b, answer[i, a], answer[i, b]) for i, a, b in pairs])
        people = [ledger.add_annotator("human", f"person {k}", {}) for k in range(VOTERS)]
        votes = []
        for battle, (i, a, b) in zip(battles, pairs, strict=True):
            likely = 1 / (1 + math.exp(-1.5 * (quality[i, a] - quality[i, b])))
            for who in people:
                winner: Any = "tie" if draw.random() < 0.1 else "model_a" if draw.random() < likely else "model_b"
                votes.append(VerdictRow(battle, who, "", winner))
        ledger.add_verdicts(run_id, votes)
    return path


def worth(text: str) -> float:
    found = re.search(r"worth (-?[\d.]+):", text)
    return float(found[1]) if found else -4.0


ARCHETYPES: dict[str, tuple[Prefers | None, str]] = {
    "random": (None, say.RANDOM),
    "always-first": (lambda text: 0.0, say.FIRST),
    "longest-wins": (len, say.LONGER),
    "null-friendly": (lambda text: math.inf if text == CONSTANT else worth(text), say.NULL),
    "oracle": (worth, say.AS_HUMANS),
}


@pytest.mark.parametrize("name", ARCHETYPES)
def test_the_audit_says_what_a_judge_is(
    name: str, folder: Path, in_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefers, phrase = ARCHETYPES[name]

    def judge(method: str, path: str, body: bytes) -> Answer:
        shown = str(json.loads(body)["messages"][-1]["content"])
        first, second = (text.strip() for text in re.findall(r"<answer_[12]>\n(.*?)\n</answer_[12]>", shown, re.DOTALL))
        if prefers is None:
            chosen = 1 + hashlib.sha256(shown.encode()).digest()[0] % 2
        else:
            chosen = 1 if prefers(first) >= prefers(second) else 2
        return Answer(chat(f"I have read both. [[{chosen}]]"))

    monkeypatch.chdir(folder)
    with MockServer(judge) as server:
        line = ("--model", "openai/scripted", "--base-url", server.url, "--prompt", "pairwise-v1", "--name", name)
        judged = in_process("judge", "run", *line, "--json")
    assert judged.code == 0, judged.err
    found = in_process("audit", name, "--null-model", "null", "--json").json
    assert (found["n"], found["n_failed"]) == (2 * BATTLES, 0)
    assert found["verdict"] == phrase, found["findings"]
    others = {one for one in say.FAULTS if any(f.lower().startswith(one.lower()) for f in found["findings"])}
    assert others <= {phrase}, found["findings"]
    printed = in_process("audit", name, "--null-model", "null").out
    assert printed.startswith(f"{name}: {phrase}: ")
