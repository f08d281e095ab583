"""Calibration: who is kept and dropped, where judges may stand in, juries, the page, the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.models import ModelSettings, Reply
from evalkit.stats import alt_test
from evalkit.stats.battles import battle_labels
from evalkit.store import BattleRow, Ledger, VerdictRow
from evalkit.store.rows import Item, ResponseRow
from judges.calibration import calibrate
from judges.calibration_report import as_json, render
from judges.evidence import Evidence, of_ledger
from judges.jury_rows import MAJORITY, WEIGHTED
from judges.recommendation import recommend
from judges.stand_in import instances_needed, more_votes, stand_ins

MODELS = ("atlas", "birch", "cedar", "delta", "elm")
WORDS = ("model_a", "model_b", "tie")


def world(judges: dict[str, Any], n: int = 500, items: int = 100, people: int = 3, seed: int = 1) -> pd.DataFrame:
    """Battles with a true winner, people who name it in 80 %, and judges: an accuracy, or one by category."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        a, b = sorted(rng.permutation(MODELS)[:2])
        truth = int(rng.integers(3)) if a != "atlas" else 0
        item = i % items
        category = ("maths", "prose", "code")[item % 3]

        def said(right: float, truth: int = truth) -> str:
            return WORDS[truth if rng.random() < right else int(rng.integers(3))]

        voices = [(f"human_{k}", "human", said(0.8)) for k in range(people)]
        voices += [(name, "judge", said(q[category] if isinstance(q, dict) else q)) for name, q in judges.items()]
        for who, kind, winner in voices:
            battle = {"item_id": f"q{item}", "turn": 1 + i // items, "model_a": a, "model_b": b, "category": category}
            rows.append({**battle, "winner": winner, "annotator": who, "annotator_kind": kind, "order": "ab"})
    frame = pd.DataFrame(rows)
    return frame.assign(criterion="overall")


@pytest.fixture(scope="module")
def found() -> Any:
    return calibrate(Evidence(world({"good": 0.9, "fair": 0.75, "wild": 0.0})), epsilon=0.1, seed=4)


def test_a_good_judge_is_kept_and_a_wild_one_dropped(found: Any) -> None:
    told = recommend(found)
    advice = {one.judge: one for one in told.advice}
    assert {name: one.decision for name, one in advice.items()} | {"fair": "drop"} == {
        "good": "keep",
        "fair": "drop",
        "wild": "drop",
    }
    said = found.scorecard.row("wild").verdict
    assert advice["wild"].reason.startswith(f"It {said}") and advice["wild"].reason.lower().count(said) == 1
    assert found.scorecard.rows[0].judge in ("good", WEIGHTED, MAJORITY)
    assert {row.judge for row in found.scorecard.rows} == {"good", "fair", "wild", MAJORITY, WEIGHTED}
    assert {row.judge: row.kind for row in found.scorecard.rows}[WEIGHTED] == "jury"
    assert found.held_out is not None and found.held_out.n + found.held_out.n_learned == 500
    table = found.held_out.table.set_index("jury")["accuracy"]
    assert table["weighted"] >= table["best judge"] - 0.03 > table["wild"]
    assert list(found.weights) == ["fair", "good", "wild"] and max(found.weights, key=found.weights.get) == "good"
    assert told.headline.startswith("Yes.") and "good" in told.juries


def test_the_weighted_jury_votes_on_each_half_as_learned_on_the_other(found: Any) -> None:
    pair = next(one for one in found.paired if one.first == WEIGHTED)
    assert pair.second == "good" and pair.difference > -0.05
    worse = next(one for one in found.paired if one.second == "wild")
    assert worse.first == "good" and worse.p_value < 0.001 and worse.more is None and worse.lower > 0
    curve = found.scorecard.row(WEIGHTED).curve
    assert curve is not None and found.scorecard.row("good").curve is None


def test_an_inverted_judge_weighs_against_its_word_and_majority_suffers() -> None:
    votes = world({"good": 0.9, "other": 0.5})
    swapped = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
    for name in ("inverse_1", "inverse_2"):
        copy = votes[votes["annotator"] == "good"].assign(annotator=name)
        votes = pd.concat([votes, copy.assign(winner=copy["winner"].map(swapped))], ignore_index=True)
    result = calibrate(Evidence(votes), epsilon=0.1)
    told = recommend(result)
    assert {one.judge: one.decision for one in told.advice}["inverse_1"] == "drop"
    table = result.held_out.table.set_index("jury")["accuracy"]  # type: ignore[union-attr]
    assert table["weighted"] > table["majority"] + 0.2
    assert "majority jury is worse than good" in told.juries


def test_categories_are_answered_each_for_itself() -> None:
    votes = world({"judge": {"maths": 0.95, "prose": 0.0, "code": 0.95}}, n=900, items=150)
    # Few battles of one category alone.
    rare = votes["category"].eq("code") & ~votes["item_id"].isin(["q2", "q5", "q8"])
    votes = votes[~rare].reset_index(drop=True)
    result = calibrate(Evidence(votes), epsilon=0.1)
    answers = {one.category: one for one in result.stand_in}
    assert {name: one.answer for name, one in answers.items() if name != "all"} == {
        "code": "too few votes",
        "maths": "yes",
        "prose": "no",
    }
    few = answers["code"]
    assert few.items == 3 and few.more is not None and few.more.votes > 0
    told = recommend(result)
    assert "for code there are too few votes to say" in told.headline and "it may not in prose" in told.headline
    assert told.juries == "No jury was tried: one judge alone makes no jury."
    questions = [one for one in told.questions if "in code" in one.question]
    assert questions and questions[0].votes == few.more.votes


def test_the_gap_is_that_of_leaving_one_person_out() -> None:
    votes = world({"judge": 0.7}, n=60, items=20, people=4)
    labels = battle_labels(votes)
    people = np.array([i for i, name in enumerate(labels.annotators) if name != "judge"])
    place = labels.annotators.index("judge")
    row = stand_ins(labels, people, {"judge": place}, None, epsilon=0.2)[0]
    matrix, judge = labels.matrix(people), labels.matrix(np.array([place]))[:, 0]
    gaps = []
    for said, f in zip(matrix, judge, strict=True):
        left_out = [np.delete(said, j) for j in range(len(said))]
        human = np.mean([np.mean(others == said[j]) for j, others in enumerate(left_out)])
        gaps.append(human - np.mean([np.mean(others == f) for others in left_out]))
    assert row.gap == pytest.approx(np.mean(gaps)) and (row.n, row.category, row.votes) == (60, "all", 240)
    assert row.gap == pytest.approx(row.people_agreement - row.judge_agreement)


def test_the_votes_asked_for_would_settle_it() -> None:
    # n = ((z_.95 + z_.8) / 0.5)^2 = 24.7 items of deviation 1; 10 are there with 4 votes each.
    more = more_votes(1.0, 0.5, 10, 40, 0.05)
    assert more is not None and (more.items, more.votes) == (15, 60)
    assert more_votes(1.0, 1e-6, 10, 40, 0.05) is None and more_votes(1.0, 0.0, 10, 40, 0.05) is None
    votes = world({"judge": 0.8}, n=130, items=60)
    test = alt_test(votes, "judge", "human_*", epsilon=0.1).tests[0]
    needed = instances_needed(test)
    assert needed is not None and needed[1] == 130 and needed[0] > 30


def test_two_people_and_no_shared_votes_are_said_not_guessed() -> None:
    votes = world({"judge": 0.8}, n=40, items=20, people=1)
    result = calibrate(Evidence(votes))
    assert result.stand_in[0].answer == "too few votes" and result.stand_in[0].n == 0
    told = recommend(result)
    assert "no battle has two human votes" in told.headline
    assert "could not be made" in told.stand_in[0] and result.disagreements == ()
    render(result, told)
    with pytest.raises(UserError, match="no judge has voted"):
        calibrate(Evidence(votes[votes["annotator"] != "judge"]))


def test_the_page_and_the_json_hold_the_same_and_run_nothing(found: Any) -> None:
    told = recommend(found)
    page, data = render(found, told), as_json(found, told)
    assert "<script" not in page and "src=" not in page and "http" not in page.replace("http-equiv", "")
    for part in (
        "Recommendation",
        "Scorecard",
        "Juries",
        "Open questions",
        "How it was computed",
        told.advice[0].reason,
    ):
        assert part in page
    assert [row["judge"] for row in data["rows"]] == [row.judge for row in found.scorecard.rows]
    assert "prefers-color-scheme: dark" in page
    assert render(found, told) == page


@pytest.fixture
def judged(tmp_path: Path) -> Ledger:
    """A ledger where the people and the judge disagree on answers that try to break the page."""
    ledger = Ledger.open(str(tmp_path / "ledger.db"))
    run = ledger.start_run("test", {}, seed=0, environment={})
    models = ledger.add_models([ModelSettings("hf", name, label=name) for name in ("org/one", "two", "three")])
    items = [
        Item(({"role": "user", "content": f"Question {i}<b>"},), None, {"category": "x"}, name=f"q{i}")
        for i in range(6)
    ]
    dataset, ids = ledger.add_dataset("questions", items)
    judge_model = ledger.add_models([ModelSettings("openai", "one")])[0]
    own, _ = ledger.add_dataset("judge", [])
    people = [ledger.add_annotator("human", f"h{k}", {}) for k in range(2)]
    judge = ledger.add_annotator("judge", "j", {"kind": "llm", "model": {"name": "one"}, "prompt": {}})
    jury = ledger.add_annotator("judge", "panel", {"kind": "jury", "aggregation": "majority", "members": [judge]})
    for i, item in enumerate(ids):
        rows = [
            ResponseRow(m, item, dataset, f"{m:032x}{item:032x}", "{}", Reply(f"<script>alert({m})</script>" * (1 + m)))
            for m in models
        ]
        answers = ledger.add_responses(run, rows)
        pairs = [(0, 1), (0, 2), (1, 2)]
        battles = ledger.add_battles([BattleRow(item, models[a], models[b], answers[a], answers[b]) for a, b in pairs])
        for k, battle in enumerate(battles):
            body = ResponseRow(
                judge_model, item, own, f"{battle:012x}{0:052x}", "{}", Reply("[[2]]", seconds=0.5), cost=0.001
            )
            asked = ledger.add_responses(run, [body])[0]
            winner = "model_b" if (i + k) % 2 else "model_a"
            human = "model_a" if i == 0 else winner
            said = [VerdictRow(battle, who, "", human, criterion="overall") for who in people]  # type: ignore[arg-type]
            said.append(
                VerdictRow(battle, judge, "ab", winner, criterion="overall", response_id=asked, rationale="<i>so</i>")  # type: ignore[arg-type]
            )
            said.append(VerdictRow(battle, jury, "", winner, criterion="overall"))  # type: ignore[arg-type]
            ledger.add_verdicts(run, said)
    return ledger


def test_a_ledger_gives_costs_lengths_texts_and_the_model_that_a_judge_is(judged: Ledger) -> None:
    evidence = of_ledger(judged, "overall")
    assert evidence.models == {"j": "org/one"} and evidence.juries == ("panel",) and evidence.probes == {}
    result = calibrate(evidence)
    figures = result.scorecard.row("j").figures
    assert figures["dollars_per_1000"].value == pytest.approx(1.0) and figures["requests"].value == 18
    assert figures["seconds_per_1000"].value == pytest.approx(500.0)
    panel = result.scorecard.row("panel")
    assert panel.kind == "jury" and panel.figures["dollars_per_1000"] == figures["dollars_per_1000"]
    assert figures["length_preference"].measured and figures["self_preference"].measured
    texts = [one.texts for one in result.disagreements]
    assert len(texts) == 1 and texts[0] is not None
    assert (texts[0].prompt, texts[0].rationale) == ("Question 0<b>", "<i>so</i>")
    page = render(result, recommend(result))
    assert "<script>" not in page and "&lt;script&gt;alert(" in page and "&lt;i&gt;so" in page
    judged.close()


def test_the_command_writes_page_and_weights(
    tmp_path: Path, in_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world({"good": 0.9, "fair": 0.6}, n=200).to_csv("votes.csv", index=False)
    done = in_process("judge", "calibrate", "--votes", "votes.csv", "--report", "page.html", "--weights-out", "w.json")
    assert done.code == 0, done.err
    assert json.loads(Path("w.json").read_text(encoding="utf-8")).keys() == {"good", "fair"}
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "KEEP good" in done.out or "UNSETTLED good" in done.out
    shown = [line for line in done.out.splitlines() if not line.startswith(("Note", "Page", "Weights"))]
    assert max(map(len, (line.rstrip() for line in shown))) <= 100
    again = in_process("judge", "calibrate", "--votes", "votes.csv", "--json", "--seed", "0")
    assert again.json == in_process("judge", "calibrate", "--votes", "votes.csv", "--json").json
