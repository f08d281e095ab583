"""Fifty voters at once: what each is told of its votes, how long each vote takes, and what the ledger holds after.

Two vote in a real Chromium, by keyboard. The others are sessions without a browser (`app_client.Tab`): fifty browsers
would need more processor than the server that is measured. To the server they are the same: the same invitation link
and cookie, the same web socket, the same script run by a press of a button. What they leave out is what a browser
does with the answer: drawing it (the two show how long that takes) and fetching Streamlit's own files.
"""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from app_client import Drawn, Tab
from app_paint import LOOK, PAGES, chromium
from app_process import AppProcess

from evalkit.store import Ledger
from evalkit.store.ledger_app import People

CHOICES = ("A is better", "B is better", "Tie", "Both bad")
KEYS = "abtx"
BROWSERS = 2
TWICE, RELOADED = 0.05, 0.05
"""Shares of the votes that are sent twice at once (a double click), and whose tab is reloaded before the answer."""
DOUBTFUL_S = 0.7
"""A vote sooner after its pair is no vote: so fast nobody reads."""

# From a key to the frame after the one that shows another pair.
TIMED = """
(() => {
  const told = window.__votes = [];
  const pair = () => document.querySelector('[class*="st-key-answer-scroll-A-"]')?.className;
  addEventListener('keydown', event => {
    const began = performance.now(), before = pair();
    const look = () => requestAnimationFrame(
      pair() && pair() !== before ? () => told.push(performance.now() - began) : look);
    look();
  }, true);
})();
"""


@dataclass
class Voter:
    """One voter.

    Attributes:
        voted: Votes that the page last said it has of this voter.
        seconds: From the press to the next pair, of plain votes.
        twice, reloaded: Votes that were sent twice, and that were followed by a reload at once.
        faults: What was not as it should be.
    """

    name: str
    cookie: str
    voted: int = 0
    seconds: list[float] = field(default_factory=list)
    twice: int = 0
    reloaded: int = 0
    faults: list[str] = field(default_factory=list)


def invited(ledger: Path) -> str:
    """Makes a campaign on all answers, and returns the invitation to it."""
    with Ledger.open(str(ledger)) as opened:
        people = People(opened)
        campaign = people.add_campaign(f"Fifty voters, {time.time():.0f}", settings={"votes_per_pair": 1})
        return people.invite("voter", campaign, max_uses=None)[1]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_given: object) -> None:
        return None


def join(url: str, token: str, name: str) -> Voter:
    """Enters by the invitation, as a form in a browser does."""
    sent = urllib.parse.urlencode({"name": name}).encode()
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        opener.open(urllib.request.Request(f"{url}/join/{token}", sent), timeout=60)
    except urllib.error.HTTPError as answer:
        if answer.code == 303:
            return Voter(name, answer.headers["Set-Cookie"].partition(";")[0])
        raise SystemExit(f"{name} could not join: {answer.code} {answer.read().decode()[:300]}") from None
    raise SystemExit(f"{name} could not join")


def said_voted(drawn: Drawn) -> int | None:
    """How many votes the page says this voter has cast; None where it says nothing."""
    for element in drawn.elements:
        if element.WhichOneof("type") == "progress":
            found = re.match(r"([\d,]+) voted", element.progress.text)
            if found:
                return int(found[1].replace(",", ""))
    return None


async def vote(voter: Voter, url: str, pace: float, until: float, draw: random.Random) -> None:
    """Votes until the time is up; reloads at the end and reads what the page then says."""
    await asyncio.sleep(draw.uniform(0, pace))
    async with Tab(url, "vote", voter.cookie) as tab:
        drawn = await _opened(tab, voter)
        while time.monotonic() < until:
            await asyncio.sleep(max(DOUBTFUL_S, draw.uniform(0.4 * pace, 1.6 * pace)))
            button = drawn.buttons().get(draw.choice(CHOICES))
            if button is None:
                voter.faults.append(f"no button to vote with: {drawn.faults()} {drawn.texts()}")
                return
            before, kind = voter.voted, draw.random()
            if kind < TWICE:
                voter.twice += 1
                await tab.press(button, drawn.fragment, times=2)
                drawn = await _reopened(tab, voter)
            elif kind < TWICE + RELOADED:
                voter.reloaded += 1
                await tab.leave_pressing(button, drawn.fragment)
                drawn = await _reopened(tab, voter)
                if voter.voted == before:  # what nobody was told of may be on its way still
                    await asyncio.sleep(1.0)
                    drawn = await _reopened(tab, voter)
                    if voter.voted == before:
                        continue
            else:
                drawn = await tab.press(button, drawn.fragment)
                voter.voted = said_voted(drawn) or voter.voted
                voter.seconds.append(drawn.seconds)
            if voter.voted != before + 1:
                voter.faults.append(f"{before} voted before, {voter.voted} after: {drawn.texts()[:3]} {drawn.faults()}")
        await _reopened(tab, voter)


async def _opened(tab: Tab, voter: Voter) -> Drawn:
    drawn = await tab.load()
    told = said_voted(drawn)
    if told is None:
        voter.faults.append(f"the page says nothing of votes: {drawn.texts()} {drawn.faults()}")
    voter.voted = told or 0
    return drawn


async def _reopened(tab: Tab, voter: Voter) -> Drawn:
    await tab.close()
    await tab.open()
    return await _opened(tab, voter)


def vote_in_browser(voters: Sequence[Voter], url: str, pace: float, until: float) -> None:
    """Votes in Chromium, one tab a voter, each by keyboard."""
    draw = random.Random(7)
    with chromium() as browser:
        tabs = []
        for voter in voters:
            name, _, value = voter.cookie.partition("=")
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            context.add_cookies([{"name": name, "value": value, "url": url}])
            tab = context.new_page()
            tab.add_init_script(TIMED + LOOK % PAGES["vote"])
            tab.goto(f"{url}/vote")
            tab.wait_for_function("window.__paint.whole", timeout=120_000)
            tabs.append(tab)
        due = [time.monotonic() + draw.uniform(0, pace) for _ in voters]
        sent = [0] * len(voters)
        while time.monotonic() < until:
            number = min(range(len(due)), key=due.__getitem__)
            time.sleep(max(0.0, due[number] - time.monotonic()))
            tabs[number].keyboard.press(draw.choice(KEYS))
            sent[number] += 1
            try:
                tabs[number].wait_for_function(f"window.__votes.length >= {sent[number]}", timeout=60_000)
            except Exception as error:
                voters[number].faults.append(f"no other pair after vote {sent[number]}: {error}")
                break
            due[number] = time.monotonic() + max(DOUBTFUL_S, draw.uniform(0.4 * pace, 1.6 * pace))
        for voter, tab, n in zip(voters, tabs, sent, strict=True):
            voter.seconds += [one / 1000 for one in tab.evaluate("window.__votes")]
            tab.reload()
            tab.wait_for_function("window.__paint.whole", timeout=120_000)
            found = re.search(r"([\d,]+) voted", tab.inner_text("body"))
            voter.voted = int(found[1].replace(",", "")) if found else -1
            if voter.voted != n:
                voter.faults.append(f"{n} votes by key, and the page says {voter.voted}")


@dataclass(frozen=True)
class Held:
    """What the ledger holds of these voters: ballots and verdicts by name, and how many of them are doubled."""

    ballots: dict[str, int]
    verdicts: dict[str, int]
    doubled: int


def held(ledger: Path, voters: Sequence[Voter]) -> Held:
    """Counts in the ledger itself."""
    names = ",".join("?" * len(voters))
    given = [voter.name for voter in voters]
    who = f"SELECT annotator_id FROM member WHERE name IN ({names})"
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:

        def count(table: str, where: str) -> dict[str, int]:
            query = (
                f"SELECT m.name, count(*) FROM {table} t JOIN member m USING (annotator_id) WHERE {where} GROUP BY 1"
            )
            return dict(connection.execute(query, given))

        standing = f"annotator_id IN ({who}) AND winner IS NOT NULL"
        ballots = count("ballot", f"{standing} AND undone_at IS NULL")
        verdicts = count("verdict", standing)
        same = "battle_id, annotator_id, criterion, replicate"
        query = f"SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) n FROM ballot WHERE {standing} GROUP BY {same})"
        return Held(ballots, verdicts, int(connection.execute(query, given).fetchone()[0]))


def run(server: AppProcess, ledger: Path, token: str, n: int, pace: float, minutes: float) -> list[Voter]:
    """Lets them all vote at once."""
    voters = [join(server.url, token, f"voter {number} of {time.time():.0f}") for number in range(n)]
    until = time.monotonic() + 60 * minutes
    real, others = voters[:BROWSERS], voters[BROWSERS:]
    beside = Thread(target=vote_in_browser, args=(real, server.url, pace, until))
    beside.start()

    async def everyone() -> None:
        draws = [random.Random(number) for number in range(len(others))]
        work = (vote(voter, server.url, pace, until, draw) for voter, draw in zip(others, draws, strict=True))
        for voter, result in zip(others, await asyncio.gather(*work, return_exceptions=True), strict=True):
            if result is not None:
                voter.faults.append(repr(result))

    asyncio.run(everyone())
    beside.join()
    return voters
