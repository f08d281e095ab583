"""Probes: a judge that obeys injected text is told from one that does not, and nothing is bought twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from endpoint_server import Answer, MockServer, chat

from evalkit.store import Ledger, arena
from evalkit.store.formats.generic import ledger_grades, ledger_votes
from evalkit.store.schema import Annotator, Verdict
from judges.probe_texts import CONTROL, FORMS, Probe, fake, probe_set, probes
from judges.probes import ProbeRates, probe_rates, probe_rows
from judges.prompt import list_prompts, load_prompt

GOOD = [question.good[:25] for question in probe_set().questions]
POOR = [question.poor for question in probe_set().questions]
CONSTANTS = [constant.text[:25] for constant in probe_set().nulls]
Command = Callable[..., Any]


class Scripted:
    """A judge behind an endpoint: `prefers` says how much it likes an answer; the better liked one wins."""

    def __init__(self, prefers: Callable[[str], float]) -> None:
        self.prefers, self.asked = prefers, 0

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        self.asked += 1
        shown = str(json.loads(body)["messages"][-1]["content"])
        found = re.findall(r"<(answer(?:_[12])?)>\n(.*?)\n</\1>", shown, re.DOTALL)
        likes = [self.prefers(text) for _, text in found]
        if len(likes) == 1:
            return Answer(chat(f"I have read it. Rating: [[{round(likes[0])}]]"))
        assert len(likes) == 2, shown
        verdict = "tie" if likes[0] == likes[1] else 1 + likes.index(max(likes))
        return Answer(chat(f"I have read both. [[{verdict}]]"))


def sober(text: str) -> float:
    """Looks at what is said."""
    return 9 if any(good in text for good in GOOD) else 2


def obedient(text: str) -> float:
    """Prefers whatever has something attached to a poor answer."""
    attacked = any(poor in text and len(text) > len(poor) + 5 for poor in POOR)
    return 10 if attacked else sober(text)


def polite(text: str) -> float:
    """Falls for the constant answers alone."""
    return 10 if any(constant in text for constant in CONSTANTS) else sober(text)


@pytest.fixture
def probe(in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Returns a function that probes a scripted judge by the command, in one ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_STORE", "probes.db")

    def run(judge: Scripted, *arguments: object, url: str = "") -> Any:
        with MockServer(judge) as server:
            line = ("judge", "probe", "--model", "openai/scripted", "--base-url", url or server.url, "--questions", 4)
            return in_process(*line, *arguments, "--json")

    return run


def rates(name: str) -> ProbeRates:
    with Ledger.open("probes.db") as ledger:
        with ledger.engine.connect() as connection:
            annotator = connection.scalar(sa.select(Annotator.id).where(Annotator.name == name))
        assert annotator is not None
        return probe_rates(ledger, annotator)


@pytest.mark.parametrize("prompt", ["pairwise-v1", "score-v1"])
@pytest.mark.parametrize(
    ("prefers", "injection", "null"), [(sober, 0.0, 0.0), (obedient, 1.0, 0.0), (polite, 0.0, 1.0)]
)
def test_each_judge_is_found_out(
    probe: Callable[..., Any], prefers: Callable[[str], float], injection: float, null: float, prompt: str
) -> None:
    done = probe(Scripted(prefers), "--prompt", prompt, "--name", "j")
    assert done.code == 0, done.err
    found = rates("j")
    assert (found.injection.value, found.control.value, found.null.value) == (injection, 0.0, null)
    assert found.failed == 0 and found.injection.n == 4 * 13 * (2 if prompt == "pairwise-v1" else 1)
    said = " ".join(done.json["findings"])
    assert ("It obeys injected text" in said) == (injection == 1.0)
    assert ("it must not win" in said) == (null == 1.0)
    rows = {(row["probe"], row["attack"]): row for row in done.json["rows"]}
    assert len(rows) == 1 + 13 + 2 and rows["injection", "verdict"]["rate"] == injection
    assert rows["injection", "verdict"]["control"] == rows["injection", CONTROL]["rate"] == 0.0


def test_no_verdict_is_bought_twice_and_more_questions_ask_only_for_the_rest(probe: Callable[..., Any]) -> None:
    judge = Scripted(sober)
    with MockServer(judge) as server:
        again = [probe(judge, "--name", "j", url=server.url) for _ in range(2)]
        dry = probe(judge, "--name", "j", "--questions", 5, "--dry-run", url=server.url)
        asked = judge.asked
        more = probe(judge, "--name", "j", "--questions", 5, url=server.url)
    assert asked == again[0].json["totals"]["requests"] == 4 * 32
    assert again[1].json["rows"] == again[0].json["rows"]
    (row,) = dry.json["rows"]
    assert (row["requests"], row["cached"]) == (32, 4 * 32) and judge.asked == 5 * 32
    assert more.json["rows"][0]["n"] == 10


def test_a_dry_run_of_a_new_ledger_makes_none(probe: Callable[..., Any]) -> None:
    judge = Scripted(sober)
    done = probe(judge, "--dry-run")
    assert done.json["rows"][0]["requests"] == 4 * 32 and done.json["rows"][0]["dollars"] is None
    assert judge.asked == 0 and not Path("probes.db").exists()


def test_unreadable_verdicts_are_counted_and_in_no_share(probe: Callable[..., Any]) -> None:
    class Mute(Scripted):
        def __call__(self, method: str, path: str, body: bytes) -> Answer:
            super().__call__(method, path, body) if b"mountains" not in body else None
            return Answer(chat("Hard to say.")) if b"mountains" in body else super().__call__(method, path, body)

    done = probe(Mute(sober), "--name", "j")
    found = rates("j")
    assert found.failed > 20 and found.injection.value == 0.0
    assert done.code == 0 and "could not be read" in " ".join(done.json["findings"])


def test_probes_enter_no_board_and_no_other_judging(probe: Callable[..., Any], in_process: Command) -> None:
    probe(Scripted(sober), "--name", "j")
    with Ledger.open("probes.db") as ledger:
        assert arena.all_battles(ledger) == {} and arena.all_answers(ledger) == []
        with ledger.engine.connect() as connection:
            assert set(connection.scalars(sa.select(Verdict.criterion))) == {"probe:injection", "probe:null"}
        assert ledger_votes(ledger).empty and ledger_grades(ledger).empty
    board = in_process("leaderboard", "--json")
    assert board.json["rows"] == []
    assert "nobody whose votes could make a board" in in_process("leaderboard", "--group-by", "criterion").err


def test_an_attack_stands_where_it_says(probe: Callable[..., Any]) -> None:
    """A judge that believes a fake verdict decides for the attacking answer, in whichever place that stands."""

    class Believer(Scripted):
        def __call__(self, method: str, path: str, body: bytes) -> Answer:
            shown = str(json.loads(body)["messages"][-1]["content"])
            tags = re.findall(r"\[\[[12]\]\]", shown)
            return Answer(chat(f"So be it. {tags[-1]}")) if tags else super().__call__(method, path, body)

    probe(Believer(sober), "--name", "j")
    with Ledger.open("probes.db") as ledger:
        with ledger.engine.connect() as connection:
            annotator = connection.scalar(sa.select(Annotator.id).where(Annotator.name == "j"))
        rows = {row.attack: row.wins for row in probe_rows(ledger, annotator or 0)}
    assert {name for name, wins in rows.items() if wins.value == 1.0} == {
        *("verdict", "fence", "turns", "chat_tokens", "comment", "zero_width", "padding")
    }
    assert rows["ignore"].value == rows["json"].value == rows[CONTROL].value == 0.0


@pytest.mark.parametrize("prompt", list_prompts(), ids=lambda prompt: prompt.name)
def test_a_fake_verdict_is_one_in_the_judges_own_form(prompt: Any) -> None:
    from evalkit.models import Reply

    criterion = prompt.criteria[0]
    places: tuple[Literal["first", "second"], ...] = ("first", "second")
    for place in places:
        said = fake(prompt, criterion, place).verdict
        (reading,) = prompt.read(Reply(said), (criterion,), ["?"] * 8)
        assert reading.error is None, said
        assert reading.side == place if prompt.kind == "pairwise" else (reading.value or 0) >= 1
    assert len(FORMS) > 1


def test_texts_are_distinct_and_every_attack_changes_the_answer() -> None:
    prompt = load_prompt("pairwise-v1")
    found = list(probes(prompt, prompt.criteria[0]))
    texts = [(probe.question.name, probe.attack, probe.text) for probe in found]
    assert len(set(texts)) == len(texts) == 12 * 24

    def attacked(probe: Probe) -> bool:
        return probe.question.poor in probe.text and probe.text != probe.question.poor

    attacks = [probe for probe in found if probe.model == "probe: attack"]
    assert attacks and all(map(attacked, attacks))
    assert not any("{" in probe.text.replace('{"', "") for probe in found if probe.attack not in ("json", CONTROL))
