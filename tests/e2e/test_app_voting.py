"""Voting in a browser: by keyboard, through reloads, double presses and a killed app, two at once, free prompts."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright", reason="no Playwright: pip install playwright")

from app_browser import SECONDS, App, settle
from playwright.sync_api import expect
from sample_ledger import MODELS

from evalkit.models import embedded
from evalkit.models.base import ModelSettings, Sampling
from evalkit.models.local import auto_dtype
from evalkit.store import Ledger, frames, frames_app
from evalkit.store.ledger_app import People

if TYPE_CHECKING:
    import pandas as pd
    from playwright.sync_api import Page

LOADING_SECONDS = 600
"""The libraries and the weights take 15 seconds of one processor, which may be far from free."""
SMALL = "smollm2-135m-instruct"
KEYS = ("a", "b", "t", "x")
PAUSE_MS = 600
"""Between votes: what comes sooner is taken for a double click."""


@pytest.fixture(scope="module")
def alone(serve: Callable[..., App], filled: Callable[[str], Path]) -> App:
    return serve(filled("alone"))


def done(page: Page) -> int:
    """Returns how many votes the page counts."""
    words = page.get_by_text(re.compile(r"\d+ voted, ")).first.inner_text()
    return int(words.split()[0].replace(",", ""))


def shown(page: Page) -> str:
    """Returns the question and the answers on the screen."""
    return "\n".join(page.locator('[class*="st-key-answer-"]').all_inner_texts())


def press(page: Page, key: str, *, voted: int) -> None:
    """Votes by a key, when the pair has been there for as long as a person needs, and waits for the next one."""
    page.wait_for_timeout(PAUSE_MS)
    page.keyboard.press(key)
    page.get_by_text(re.compile(rf"^{voted} voted, ")).first.wait_for()


def ballots(path: Path) -> pd.DataFrame:
    with Ledger.open(str(path), create=False, readonly=True) as ledger:
        found = frames_app.ballots(ledger, limit=None)
        found["standing"] = found["undone_at"].isna()
        return found


def test_twenty_votes_by_keyboard_with_one_undone_a_reload_and_double_presses(alone: App) -> None:
    page = alone.open("vote")
    text = page.locator('[data-testid="stMain"]').inner_text()
    assert not [model.label for model in MODELS if model.label in text], (
        "whose answers they are is told before the vote"
    )
    assert "Prefer the answer that is right" in text, "the campaign's instructions"
    for number in range(10):
        press(page, KEYS[number % 4], voted=number + 1)

    page.keyboard.press("u")
    page.get_by_text("Your last vote is taken back").wait_for()
    assert done(page) == 9
    before = shown(page)
    page.reload()
    settle(page)
    page.get_by_text(re.compile(r"^9 voted, ")).first.wait_for()
    assert shown(page) == before, "a reload shows the same pair"

    other = page.context.new_page()
    other.goto(page.url)
    settle(other)
    assert shown(other) == before, "a second tab shows the same pair"
    press(page, "b", voted=10)
    other.wait_for_timeout(PAUSE_MS)
    other.keyboard.press("a")
    other.get_by_text("That vote was stored already").wait_for()
    assert done(other) == 10
    other.close()

    page.wait_for_timeout(PAUSE_MS)
    for _ in range(3):
        page.keyboard.press("a")
    page.get_by_text(re.compile(r"^11 voted, ")).first.wait_for()
    page.wait_for_timeout(PAUSE_MS)
    assert done(page) == 11, "a key held down is one vote"
    for number in range(11, 20):
        press(page, KEYS[number % 4], voted=number + 1)

    found = ballots(alone.ledger)
    assert found["standing"].sum() == 20
    assert len(found) == 21
    assert found.loc[found["standing"], "seconds"].ge(0.5).all()
    assert not found[found["standing"]].duplicated(["annotator_id", "battle_id", "criterion", "replicate"]).any()
    assert not alone.said
    page.context.close()


@pytest.fixture(scope="module")
def team(serve: Callable[..., App], filled: Callable[[str], Path]) -> tuple[App, list[str]]:
    """An app for a team, and three links into it, the last of them revoked."""
    path = filled("team")
    with Ledger.open(str(path)) as ledger:
        invitations = [People(ledger).invite("voter", 1) for _ in range(3)]
        People(ledger).revoke(invitations[2][0])
    return serve(path, "--team"), [token for _, token in invitations]


def join(app: App, token: str, name: str) -> Page:
    page = app.context().new_page()
    page.goto(f"{app.url}/join/{token}")
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Start").click()
    settle(page)
    return page


def test_two_voters_at_once_see_nothing_of_each_other_and_lose_nothing(team: tuple[App, list[str]]) -> None:
    app, (first, second, revoked) = team
    pages = [join(app, first, "Mia"), join(app, second, "Noah")]
    for number in range(6):
        for page in pages:
            page.wait_for_timeout(PAUSE_MS // 2)
        for page in pages:
            page.keyboard.press(KEYS[number % 3])
        for page in pages:
            page.get_by_text(re.compile(rf"^{number + 1} voted, ")).first.wait_for()
    for page in pages:
        assert "Leaderboard" not in page.locator("body").inner_text()
        page.goto(f"{app.url}/leaderboard")
        settle(page)
        assert "Which answer is better" in page.locator("h1").inner_text(), "boards are not for voters"
    found = ballots(app.ledger)
    assert found.groupby("annotator_id")["standing"].sum().tolist() == [6, 6]
    late = app.context().new_page()
    late.goto(f"{app.url}/join/{revoked}")
    assert "revoked" in late.locator("body").inner_text()
    for page in (*pages, late):
        page.context.close()


@pytest.fixture(scope="module")
def free(serve: Callable[..., App], filled: Callable[[str], Path]) -> App:
    """An app with a campaign of free prompts between two contestants: the embedded model, told to be two people."""
    if not embedded.is_ready(SMALL):
        pytest.skip(f"the embedded model is not on this machine yet; type: evalkit models pull {SMALL}")
    path = filled("free")
    named = {"Secret alpha": "You are a poet.", "Secret beta": "You are a cook."}
    revision, dtype = embedded.revision(SMALL), auto_dtype()
    brief = Sampling(max_tokens=4)
    with Ledger.open(str(path)) as ledger:
        ledger.add_models(
            ModelSettings("embedded", SMALL, revision, None, dtype, system, sampling=brief, label=label)
            for label, system in named.items()
        )
        People(ledger).add_campaign("Ask anything", mode="free", settings={"models": list(named)})
    return serve(path, EVALKIT_CACHE=str(embedded.cache_dir()), OMP_WAIT_POLICY="passive")


def test_a_free_prompt_battle_of_two_turns_with_the_embedded_model(free: App, screenshots: Path) -> None:
    page = free.open("battle")
    page.get_by_placeholder("Ask anything").fill("What is a hedgehog?")
    page.keyboard.press("Enter")
    better = page.get_by_role("button", name="B is better")
    expect(better).to_be_enabled(timeout=LOADING_SECONDS * 1000)
    page.get_by_placeholder("Go on asking, or vote").fill("And what does it eat?")
    page.keyboard.press("Enter")
    page.get_by_text("And what does it eat?").first.wait_for()
    expect(better).to_be_enabled(timeout=SECONDS * 1000)
    assert "Secret" not in page.locator("body").inner_text(), "names are told before the vote"
    page.screenshot(path=screenshots / "battle-answers-light.png")
    better.click()
    page.get_by_text("You said: B is better").wait_for()
    told = page.locator("body").inner_text()
    assert "Secret alpha" in told
    assert "Secret beta" in told
    found = ballots(free.ledger)
    assert found["kind"].tolist() == ["free"]
    right = "model_b" if found["order"].iloc[0] == "ab" else "model_a"
    assert found["winner"].tolist() == [right]
    with Ledger.open(str(free.ledger), create=False, readonly=True) as ledger:
        said = frames.responses(ledger, int(frames.runs(ledger)["run_id"].max()), texts=True)
    assert said["error"].isna().all()
    assert set(said["model"]) == {"Secret alpha", "Secret beta"}
    assert said["text"].str.strip().ne("").all()
    assert not free.said
    page.context.close()


def test_votes_outlive_kills_of_the_app(serve: Callable[..., App], filled: Callable[[str], Path]) -> None:
    """Kills the app while a vote is on its way, and starts it again: that vote counts whole or not at all."""
    app = serve(filled("killed"))
    port = int(app.url.rpartition(":")[2])
    page = app.open("vote")
    process, voted = app.process, 0
    for wait_ms in (0, 60):
        for key in KEYS[:2]:
            voted += 1
            press(page, key, voted=voted)
        page.wait_for_timeout(PAUSE_MS)
        page.keyboard.press("a")
        page.wait_for_timeout(wait_ms)
        assert process is not None
        process.kill()
        process.wait()
        kept = ballots(app.ledger)
        assert len(kept) in (voted, voted + 1)
        voted = len(kept)
        with closing(sqlite3.connect(app.ledger)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            votes = "SELECT count(*) FROM ballot JOIN verdict ON verdict.id = ballot.verdict_id"
            assert connection.execute(votes).fetchone() == (voted,), "no vote without its verdict"
        process = serve(app.ledger, port=port).process
        page.reload()
        settle(page)
        assert done(page) == voted, "what was voted is there again"
    press(page, "b", voted=voted + 1)
    found = ballots(app.ledger)
    assert len(found) == voted + 1
    assert not found.duplicated(["annotator_id", "battle_id", "criterion", "replicate"]).any()
    page.context.close()
