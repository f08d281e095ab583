"""How soon every page of the app is seen over a large ledger, and how quickly fifty voters at once can vote.

    python tests/perf/app.py                      # all of it: needs Playwright, a Chromium, 2 GB of disk, 12 minutes
    python tests/perf/app.py --only pages         # first paints alone
    python tests/perf/app.py --only votes --minutes 1

A first paint is the time from the start of the navigation to the frame in which the page's heading and its first own
content (a table, a chart, a question) are seen; a page with its heading and a spinner is not painted. Cold: a server
process that was started for this page and has just answered its health check, and a browser with an empty cache. Warm:
the same page opened again in the same tab. A bare Streamlit page, measured first, tells what this machine allows: the
rows say how many times that each page takes. The ledger (1,000,000 responses, 200,000 verdicts, 200 models) is made
once and kept in the temporary folder; the run works on a copy.

Voters press a button `--pace` seconds after they saw a pair, more or less; some votes are sent twice at once, and some
tabs are reloaded before the answer. What every voter's page says it has counted is held against the ballots and the
verdicts in the ledger. See `app_voters` for who votes in a browser and who does not.

Exit code 1: a goal was missed, or a vote was lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import app_ledger
import app_voters
from app_paint import LOOK, PAGES, TABLE, bare, chromium, paint
from app_process import AppProcess, evalkit_app
from playwright.sync_api import Browser
from store import calibrate, show

Times = dict[str, float]
COLD_S, WARM_S, VOTE_S = 2.0, 0.7, 0.3
WARM_VISITS = 3


@dataclass(frozen=True)
class Row:
    """One measured goal.

    Attributes:
        value, goal: Seconds (of `lost` and `doubled`: votes).
        told: What else was seen.
    """

    what: str
    value: float
    goal: float
    told: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.value <= self.goal


def pages(ledger: Path, folder: Path, names: Sequence[str]) -> list[Row]:
    """Opens every page cold and warm."""
    rows = []
    with chromium() as browser:
        with bare(folder) as server:
            least_cold, least_warm, _ = _visited(browser, server, TABLE, "")
        for name, least in (("cold", least_cold), ("warm", least_warm)):
            rows.append(Row(f"a bare Streamlit page, {name}", least["first"], float("inf"), "what the others stand on"))
        for page in names:
            with evalkit_app(ledger, folder) as server:
                cold, warm, spent = _visited(browser, server, PAGES[page], page)
            name = page.partition("?")[0]
            told = f"heading {cold['heading']:.2f}, all {cold['whole']:.2f}; server up after {server.ready:.1f}, "
            ratio = f"{cold['first'] / least_cold['first']:.1f} of bare; "
            rows.append(Row(f"{name}, cold", cold["first"], COLD_S, f"{ratio}{told}CPU {spent:.1f}"))
            ratio = f"{warm['first'] / least_warm['first']:.1f} of bare; "
            told = f"heading {warm['heading']:.2f}, all {warm['whole']:.2f}"
            rows.append(Row(f"{name}, warm", warm["first"], WARM_S, f"{ratio}{told}"))
            print(f"  {name}: cold {cold['first']:.2f} s, warm {warm['first']:.2f} s", file=sys.stderr, flush=True)
    return rows


def _visited(browser: Browser, server: AppProcess, content: str, page: str) -> tuple[Times, Times, float]:
    """Returns the first visit, the median of further ones, and the server's CPU seconds of the first."""
    before = server.cpu()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.add_init_script(LOOK % content)
    cold = paint(tab, server.url, page)
    spent = server.cpu() - before
    visits = [paint(tab, server.url, page) for _ in range(WARM_VISITS)]
    context.close()
    return cold, {name: statistics.median(visit[name] for visit in visits) for name in cold}, spent


def votes(ledger: Path, folder: Path, voters: int, pace: float, minutes: float) -> list[Row]:
    """Lets many vote at once, and holds what they were told against the ledger."""
    token = app_voters.invited(ledger)
    with evalkit_app(ledger, folder, "--team") as server:
        before, began = server.cpu(), time.monotonic()
        found = app_voters.run(server, ledger, token, voters, pace, minutes)
        spent, took = server.cpu() - before, time.monotonic() - began
    held = app_voters.held(ledger, found)
    cast = sum(voter.voted for voter in found)
    lost = sum(
        max(0, voter.voted - min(held.ballots.get(voter.name, 0), held.verdicts.get(voter.name, 0))) for voter in found
    )
    more = sum(
        max(0, max(held.ballots.get(voter.name, 0), held.verdicts.get(voter.name, 0)) - voter.voted) for voter in found
    )
    for voter in found:
        for fault in voter.faults[:3]:
            print(f"  {voter.name}: {fault}", file=sys.stderr)
    real, others = found[: app_voters.BROWSERS], found[app_voters.BROWSERS :]
    twice, reloaded = (sum(getattr(voter, name) for voter in found) for name in ("twice", "reloaded"))
    told = (
        f"{cast:,} votes, {cast / took:.1f} a second; {twice} sent twice, {reloaded} tabs reloaded; "
        f"server CPU a vote {1000 * spent / max(cast, 1):.0f} ms"
    )
    ballots, verdicts = sum(held.ballots.values()), sum(held.verdicts.values())
    rows = [
        Row("votes lost", lost, 0, told),
        Row("votes doubled", more + held.doubled, 0, f"{ballots:,} ballots, {verdicts:,} verdicts"),
        Row("faults", sum(len(voter.faults) for voter in found), 0, "pages that did not say what they should"),
    ]  # fmt: skip
    for name, some in (("median vote, session", others), ("median vote, Chromium", real)):
        seconds = sorted(one for voter in some for one in voter.seconds)
        if not seconds:
            rows.append(Row(name, float("inf"), VOTE_S, "nobody voted"))
            continue
        late = seconds[int(0.95 * (len(seconds) - 1))]
        rows.append(
            Row(
                name,
                statistics.median(seconds),
                VOTE_S,
                f"{len(some)} voters, 95% under {late:.2f}, worst {seconds[-1]:.2f}",
            )
        )
    return rows


def main() -> int:
    """Runs it all; exit code 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ledger", type=Path, help="a ledger made by this script before")
    parser.add_argument("--only", choices=("pages", "votes"))
    parser.add_argument("--pages", help="names of pages, with commas between; all if left out")
    parser.add_argument("--voters", type=int, default=50)
    parser.add_argument("--pace", type=float, default=5.0, help="seconds that a voter reads, on average")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kept = given.ledger or Path(tempfile.gettempdir()) / "evalkit-perf-app" / "ledger.db"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        print(f"Making the ledger {kept}, once: two minutes", file=sys.stderr)
        app_ledger.make(kept)
    wanted = [page for page in PAGES if not given.pages or page.partition("?")[0] in given.pages.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="evalkit-perf-app-"))
    try:
        ledger = folder / "ledger.db"
        shutil.copyfile(kept, ledger)
        speed = f"ten million additions in Python take {calibrate():.2f} s"
        machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the start; {speed}"
        rows = [] if given.only == "votes" else pages(ledger, folder, wanted)
        if given.only != "pages":
            rows += votes(ledger, folder, given.voters, given.pace, given.minutes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        print(json.dumps({"machine": machine, "rows": [{**asdict(row), "met": row.met} for row in rows]}, indent=1))
    else:
        print(f"{machine}\n")
        show(
            [
                {
                    "what": row.what,
                    "measured": f"{row.value:.2f}" if row.goal else f"{row.value:.0f}",
                    "goal": f"{row.goal:g}" if row.goal < float("inf") else "",
                    "of the goal": f"{row.value / row.goal:.0%}" if 0 < row.goal < float("inf") else "",
                    "": "" if row.met else "MISSED",
                    "besides": row.told,
                }
                for row in rows
            ]
        )
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
