"""`evalkit judge list` and `judge run`: on imported arenas, with prices, dry runs, kills and bad options."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_server import JudgeServer, MockServer

from evalkit.models import ModelSettings, Reply
from evalkit.models.base import request_key
from evalkit.store import BattleRow, Ledger, VerdictRow
from evalkit.store.rows import Item, ResponseRow

Command = Callable[..., Any]
BATTLES = 6


@pytest.fixture
def server() -> JudgeServer:
    return JudgeServer()


@pytest.fixture
def url(server: JudgeServer) -> Iterator[str]:
    with MockServer(server) as running:
        yield running.url


@pytest.fixture
def evalkit(tmp_path: Path, in_process: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Returns a function that runs the command in this process, on an arena whose answers and votes were imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_STORE", "arena.db")
    with Ledger.open("arena.db") as ledger:
        arena(ledger)
    return in_process


def arena(ledger: Ledger) -> None:
    """Two models' conversations of two turns, human votes on some, and a vote whose answers nobody has."""
    run_id = ledger.start_run("import", {}, seed=0, environment={})
    models = ledger.add_models([ModelSettings("recorded", "weak", label="weak"), ModelSettings("recorded", "strong")])
    turns = ("Tell me a joke.", "Another one.")
    items = [
        Item(
            tuple({"role": "user", "content": f"{n}. {turn}"} for turn in turns),
            {"turns": ["Ha.", "Haha."]},
            {},
            str(n),
        )
        for n in range(BATTLES // 2)
    ]
    dataset, ids = ledger.add_dataset("jokes", items)
    battles = []
    for item_id in ids:
        for turn in (1, 2):
            rows = []
            for model, kind in zip(models, ("poor", "good"), strict=True):
                before = {
                    "messages": [{"role": "user", "content": turns[0]}, {"role": "assistant", "content": "Earlier."}]
                }
                key = request_key(f"{model} {item_id} {turn}")
                reply = Reply(f"A {kind} answer in turn {turn}.")
                rows.append(ResponseRow(model, item_id, dataset, key, json.dumps(before), reply, turn=turn))
            answers = ledger.add_responses(run_id, rows)
            battles.append(BattleRow(item_id, models[0], models[1], answers[0], answers[1], turn))
    battles.append(BattleRow(ids[0], models[0], models[1]))
    numbers = ledger.add_battles(battles)
    human = ledger.add_annotator("human", "ann", {})
    ledger.add_verdicts(None, [VerdictRow(number, human, "", "model_b") for number in (numbers[0], numbers[-1])])


def test_list_names_prompts_with_their_protocol_and_criteria(in_process: Command) -> None:
    found = in_process("judge", "list", "--json").json
    prompts = {row["name"]: row for row in found["prompts"]}
    assert {"pairwise-v1", "mt-bench-pair-v1", "alpaca-eval-v1", "arena-hard-v1", "checklist-v1"} <= prompts.keys()
    assert all(row["protocol"] and row["source"] and row["criteria"] for row in prompts.values())
    assert {"overall", "helpfulness", "safety"} <= {row["name"] for row in found["criteria"]}
    shown = in_process("judge", "list").out
    assert "Five-step" in shown or "five verdicts" in shown
    assert "helpfulness" in shown


def test_battles_in_a_ledger_are_judged_once(evalkit: Command, server: JudgeServer, url: str) -> None:
    judge = ("judge", "run", "--model", "openai/judge", "--base-url", url)
    dry = evalkit(*judge, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    (row,) = dry.json["rows"]
    assert (row["role"], row["requests"], row["cached"]) == ("judge openai/judge pairwise-v1", 2 * BATTLES, 0)
    assert server.asked == []
    done = evalkit(*judge, "--name", "j")
    assert done.code == 0, done.err
    assert len(server.asked) == 2 * BATTLES
    assert "1 battles were left out: the ledger has not both answers." in done.out
    assert "12 requests, 0 of them answered by the ledger, 0 failed" in done.out
    again = evalkit(*judge, "--name", "j", "--json")
    assert (again.code, len(server.asked)) == (0, 2 * BATTLES)
    overall = again.json["verdicts"]["overall"]
    assert (overall["n"], overall["errors"], overall["consistency"]["value"]) == (12, 0, 1.0)
    assert again.json["run"]["battles"] == BATTLES
    shown = [str(p["messages"]) for p in server.asked if "Another one." in str(p["messages"])]
    assert len(shown) == BATTLES
    assert all("Earlier." in one for one in shown), "the first turn's answer is shown with the second"
    board = evalkit("leaderboard", "--judge", "j", "--json").json
    assert [r["model"] for r in board["rows"]] == ["recorded/strong", "weak"]


def test_what_is_judged_can_be_chosen(evalkit: Command, server: JudgeServer, url: str) -> None:
    judge = ("judge", "run", "-m", "openai/judge", "--base-url", url, "--json")
    assert evalkit(*judge, "--voted").json["run"]["battles"] == 1
    assert len(server.asked) == 2
    assert evalkit(*judge, "--battles", 3, "--orders", "random", "--dataset", "jokes", "--replicates", 2).code == 0
    assert len(server.asked) == 2 + 6 - len([p for p in server.asked[2:] if p in server.asked[:2]])
    several = evalkit(*judge, "-p", "pairwise-json-v1", "-c", "helpfulness,relevance", "-c", "fluency", "--name", "c")
    assert set(several.json["verdicts"]) == {"helpfulness", "relevance", "fluency"}


def test_judges_of_several_prompts_are_told_apart(evalkit: Command, url: str) -> None:
    for prompt in ("pairwise-v1", "pairwise-json-v1", "score-v1"):
        done = evalkit("judge", "run", "-m", "openai/judge", "--base-url", url, "-p", prompt, "--json")
        assert done.code == 0, done.err
        assert done.json["judge"] == f"openai/judge {prompt}"
        assert bool(done.json["verdicts"]) == (prompt != "score-v1")
        assert bool(done.json["grades"]) == (prompt == "score-v1")
    assert evalkit("leaderboard", "--judge", "openai/judge pairwise-v1", "--json").json["n"] == BATTLES


def test_answers_in_a_ledger_are_graded(evalkit: Command, server: JudgeServer, url: str) -> None:
    done = evalkit("judge", "run", "-m", "openai/judge", "--base-url", url, "-p", "score-v1", "--name", "g")
    assert done.code == 0, done.err
    assert len(server.asked) == 2 * BATTLES
    assert "Grades" in done.out
    found = evalkit("judge", "run", "-m", "openai/judge", "--base-url", url, "-p", "score-v1", "--name", "g", "--json")
    assert [(row["model"], row["mean"], row["n"], row["errors"]) for row in found.json["grades"]] == [
        ("weak", 3.0, BATTLES, 0),
        ("recorded/strong", 9.0, BATTLES, 0),
    ]
    assert len(server.asked) == 2 * BATTLES
    exported = evalkit("export", "responses", "r.jsonl")
    assert exported.code == 0
    texts = [json.loads(line)["response"] for line in Path("r.jsonl").read_text().splitlines()]
    assert len(texts) == 2 * BATTLES, "what a judge said is no contestant's answer"


def test_failures_are_told_and_tried_again(evalkit: Command, server: JudgeServer, url: str) -> None:
    done = evalkit("judge", "run", "-m", "openai/judge-fails", "--base-url", url, "--battles", 2)
    assert done.code == 1
    assert "4 x bad_request:" in done.out
    assert "Run the same command again" in done.out
    (row,) = evalkit("runs", "--limit", 1, "--json").json["rows"]
    assert (row["status"], row["errors"]) == ("failed", 4)
    silent = evalkit("judge", "run", "-m", "openai/judge-silent", "--base-url", url, "--battles", 1, "--json")
    assert silent.code == 0
    assert silent.json["verdicts"]["overall"]["errors"] == 2
    assert silent.json["totals"]["n"] == 4, "both were asked for once more"


def test_a_dollar_limit_is_kept(evalkit: Command, server: JudgeServer, url: str, tmp_path: Path) -> None:
    judge = ("judge", "run", "-m", "openai/judge", "--base-url", url)
    unpriced = evalkit(*judge, "--dollars", 1)
    assert (unpriced.code, server.asked) == (2, [])
    assert "the price of judge is unknown" in unpriced.err
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump({"prices": [{"model": "judge", "input": 0, "output": 1000}]}))
    dry = evalkit(*judge, "--prices", "prices.yaml", "--dry-run", "--json").json
    assert dry["dollars"] == pytest.approx(2 * BATTLES * 768 * 1000 / 1e6)
    done = evalkit(*judge, "--prices", "prices.yaml", "--dollars", 0.775)
    assert done.code == 1
    assert "requests were not sent: the dollar budget is used up." in done.out
    assert 0 < len(server.asked) < 2 * BATTLES


def test_a_verifier_judges_without_a_request(evalkit: Command, server: JudgeServer) -> None:
    none = evalkit("judge", "run", "--verifier", "--json")
    assert none.code == 0
    assert none.json["verdicts"] == {}, "these items have no checks"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give either --model PROVIDER/NAME or --verifier"),
        (("--verifier", "--model", "openai/x"), "give either --model PROVIDER/NAME or --verifier"),
        (("-m", "gpt-4"), "--model: 'gpt-4' is not PROVIDER/NAME"),
        (("-m", "openai/x", "-p", "none"), "no judge prompt 'none'"),
        (("-m", "openai/x", "-c", "helpfulnes"), "Did you mean 'helpfulness'"),
        (("-m", "openai/x", "--base-url", "nowhere"), "--base-url: 'nowhere' is not a URL"),
        (("-m", "openai/x", "--answers", "3"), "answers: its prompt pairwise-v1 compares two answers"),
        (("-m", "openai/x", "--dataset", "chess"), "there is no dataset 'chess' in this ledger; there are: jokes"),
        (("-m", "openai/x", "--orders", "once"), "'once' is not one of 'both', 'random'"),
        (("-m", "openai/x", "--replicates", "0"), "should be greater than or equal to 1"),
        (("-m", "embedded/x", "--batch"), "only models at an endpoint (openai/NAME) have a batch API"),
        (("--verifier", "-p", "score-v1"), "a verifier asks nobody, so it has none"),
        (("-m", "openai/x", "--store", "none.db"), "there is no ledger none.db"),
    ],
)
def test_a_wrong_option_is_one_sentence(evalkit: Command, options: tuple[str, ...], said: str) -> None:
    done = evalkit("judge", "run", *options)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""


def test_a_ledger_without_anything_to_judge_says_what_is_missing(evalkit: Command) -> None:
    with Ledger.open("votes.db") as ledger:
        models = ledger.add_models([ModelSettings("recorded", "a"), ModelSettings("recorded", "b")])
        _, (item,) = ledger.add_dataset("d", [Item(({"role": "user", "content": "q"},))])
        ledger.add_battles([BattleRow(item, models[0], models[1])])
    Ledger.open("empty.db").close()
    for store, prompt, said in (
        ("votes.db", "pairwise-v1", "the ledger has 1 battles, but not the answers: import the responses"),
        ("empty.db", "pairwise-v1", "there is no battle to judge"),
        ("empty.db", "score-v1", "there is no answer to grade"),
    ):
        done = evalkit("judge", "run", "-m", "openai/x", "-p", prompt, "--store", store)
        assert done.code == 2
        assert said in done.err


def test_nothing_is_paid_twice_after_kill_9(tmp_path: Path, environment: dict[str, str]) -> None:
    """Killed halfway through the verdicts; what was answered, but not stored, is in flight at most once."""
    server = JudgeServer(delay=0.02)
    server.half_at = 120
    window = 8
    with MockServer(server) as running:
        model = {"base_url": running.url, "max_concurrency": window}
        plan = {
            "store": "e.db",
            "models": [{"model": f"openai/{name}", **model} for name in ("weak", "strong")],
            "arena": {"prompts": "p.jsonl"},
            "judges": [{"name": "j", "model": {"model": "openai/judge", **model}}],
        }
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
        (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": f"Question {n}?"}) for n in range(160)))
        line = [sys.executable, "-m", "evalkit.cli", "run", "plan.yaml", "--json"]
        first = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert server.half.wait(60), "the judge was never asked"
        first.send_signal(signal.SIGKILL)
        first.communicate()
        time.sleep(0.1)  # what was in flight is answered to nobody
        paid = sum(server.answered.values())
        assert 120 <= paid < 320
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["run"]["status"] == "done"
        twice = sum(count - 1 for count in server.answered.values())
        assert len(server.answered) == 320
        # In flight, and one batch of the writer's, which may be as large as the window or 64 rows.
        assert twice <= 2 * window + 64
        with Ledger.open(str(tmp_path / "e.db")) as ledger, ledger.engine.connect() as connection:
            (counts,) = connection.exec_driver_sql("SELECT count(*), count(winner), count(response_id) FROM verdict")
            assert tuple(counts) == (320, 320, 320)
        before = sum(server.answered.values())
        assert subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, timeout=120).returncode == 0
        assert sum(server.answered.values()) == before
