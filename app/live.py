"""Free-prompt battles: two unnamed models answer what a person types, turn by turn, until the person votes.

One desk a process does the asking, in a thread with an event loop of its own, so that a page only looks at what has
been said so far: a reload finds the battle again, and where nobody looks any more the models are stopped. Servers are
asked at once; models on this machine answer one battle after the other, for the machine is one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from app.live_models import Models, weights_of
from app.live_talk import Arena, Choice, Side, Talk, Turn
from evalkit.errors import UserError
from evalkit.models import ChatModel, Reply, RequestFailed, request_key
from evalkit.models.base import canonical_json
from evalkit.models.load import load_model
from evalkit.models.prices import Prices
from evalkit.plan import ModelPlan
from evalkit.provenance import environment
from evalkit.store import BattleRow, ResponseRow
from evalkit.store import live as store
from evalkit.store.ledger_app import BallotResult, BallotRow, People
from evalkit.store.live import Contestant
from evalkit.store.rows import Winner
from evalkit.store.voting import CampaignRow

PROMPT_CHARS = 4_000
TURNS = 8
AWAY_SECONDS = 15.0
"""So long after the last look of a page at a battle its models are stopped; a busy machine may look late."""
WAITING_PEOPLE = 20
KEPT_TALKS = 2_000

_log = logging.getLogger(__name__)
_SENTENCES = {
    "timeout": "This model did not answer in time.",
    "connection": "This model cannot be reached just now.",
    "server": "This model's server failed.",
    "rate_limit": "This model is asked too much just now; wait a minute.",
    "context_length": "The conversation has become longer than this model can read; begin a new battle.",
    "content_filter": "This model's provider withheld the answer.",
    "empty": "This model gave no answer.",
    "malformed": "This model's server gave an answer that cannot be read.",
}
"""By kind of failure, without what would tell the model: that stands in the ledger."""
_REFUSED = "This model refused the request; the ledger says why."


class Desk:
    """Asks the models of all battles of this process. Its methods may be called in any thread.

    Args:
        people: The ledger's writes.
        load: Makes a model ready to be asked.
    """

    def __init__(self, people: People, load: Callable[[ModelPlan], ChatModel] = load_model) -> None:
        self.people = people
        self._lock = threading.Lock()
        self._talks: OrderedDict[tuple[int | None, int], Talk] = OrderedDict()
        self._arenas: dict[str, Arena] = {}
        self._line: list[Talk] = []  # the first one's models are at work
        self._models = Models(load)
        self._turn = asyncio.Lock()
        self._prices = Prices.load()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="evalkit live", daemon=True)
        self._thread.start()

    # -- what pages call ------------------------------------------------------------------------------------

    def arena(self, campaign: CampaignRow, contestants: Sequence[Contestant]) -> Arena:
        """Returns the arena of a campaign with these contestants.

        Raises:
            UserError: There are fewer than two.
        """
        if len(contestants) < 2:
            said = f"a free-prompt battle needs two models that can be asked; there is {len(contestants)}."
            raise UserError(said if contestants else said.replace("is 0", "is none"))
        key = canonical_json([campaign.id, campaign.seed, campaign.settings, [one.model_id for one in contestants]])
        with self._lock:
            return self._arenas.setdefault(key, Arena(self.people, campaign, contestants))

    def talk(self, campaign: CampaignRow, annotator_id: int) -> Talk | None:
        """Returns the battle that a person is in, in whichever tab it began."""
        return self._talks.get((campaign.id, annotator_id))

    def ask(self, arena: Arena, annotator_id: int, prompt: str, turn: int) -> Talk:
        """Asks both models of a person's battle, and begins one where there is none.

        Args:
            arena: Who may meet.
            annotator_id: The person's.
            prompt: What the person typed.
            turn: Which it is, from 1: the same turn from a second tab is asked once.

        Raises:
            UserError: The prompt is empty or too long, the conversation is, or too many people wait.
        """
        prompt = prompt.strip()
        if not prompt or len(prompt) > PROMPT_CHARS:
            raise UserError(f"write 1 to {PROMPT_CHARS:,} characters, not {len(prompt):,}.")
        if turn > TURNS:
            raise UserError(f"a battle has {TURNS} turns at most; vote, and begin a new one.")
        if len(self._line) >= WAITING_PEOPLE:
            raise UserError(f"{len(self._line)} people wait for these models; come back in a few minutes.")
        key = (arena.campaign.id, annotator_id)
        with self._lock:
            talk = self._talks.get(key)
            if talk is None:
                left, right = (Side(one) for one in arena.draw(annotator_id))
                talk = Talk(secrets.token_hex(16), arena.campaign, annotator_id, left, right)
                self._talks[key] = talk
                if len(self._talks) > KEPT_TALKS:
                    self._talks.popitem(last=False)
        with talk.lock:
            if talk.busy or talk.choice is not None or len(talk.prompts) != turn - 1:
                return talk
            if turn > 1 and not all(len(side.turns) == turn - 1 for side in talk.sides):
                raise UserError("one of the two has not answered yet: try that answer again first.")
            talk.prompts.append(prompt)
            self._start(talk, talk.sides)
        return talk

    def retry(self, talk: Talk) -> None:
        """Asks those again that have not answered the last prompt."""
        with talk.lock:
            missing = [side for side in talk.sides if len(side.turns) < len(talk.prompts)]
            if missing and not talk.busy and talk.choice is None:
                self._start(talk, missing)

    def leave(self, talk: Talk) -> None:
        """Ends a battle, voted or not; the next prompt begins another."""
        with self._lock:
            key = (talk.campaign.id, talk.annotator_id)
            if self._talks.get(key) is talk:
                del self._talks[key]
        talk.seen_at = float("-inf")

    def before(self, talk: Talk) -> int:
        """Counts the people whose answers are made before this one's."""
        with suppress(ValueError):
            return self._line.index(talk)
        return 0

    def cast(self, talk: Talk, choice: Choice, comment: str = "") -> BallotResult | None:
        """Stores a vote; the names may be shown from then on.

        Returns:
            None where there is nothing to vote on yet, or the vote was cast before.

        Raises:
            UserError: The campaign was closed meanwhile.
        """
        with talk.lock:
            if not talk.can_vote:
                return None
            a, b = sorted(talk.sides, key=lambda side: side.contestant.model_id)
            winner: Winner
            if choice in ("tie", "both_bad"):
                winner = choice
            else:
                winner = "model_a" if (talk.left if choice == "left" else talk.right) is a else "model_b"
            ids = (a.contestant.model_id, b.contestant.model_id, a.response_id, b.response_id)
            row = BattleRow(talk.place[1], *ids, turn=len(talk.prompts))
            battle_id = self.people.ledger.add_battles([row])[0]
            campaign, voter = talk.campaign, talk.annotator_id
            result = self.people.vote(
                BallotRow(
                    key=talk.key,
                    campaign_id=campaign.id,
                    annotator_id=voter,
                    battle_id=battle_id,
                    order="ab" if talk.left is a else "ba",
                    winner=winner,
                    criterion=campaign.criterion,
                    replicate=store.next_replicate(self.people.ledger, campaign.id, voter, battle_id),
                    seconds=round(time.monotonic() - talk.answered_at, 2),
                    comment=comment.strip() or None,
                    kind="free",
                )
            )
            talk.choice = choice
            return result

    def undo(self, talk: Talk) -> None:
        """Takes the vote of a battle back. The names were seen, so that no other vote can take its place."""
        with talk.lock:
            if talk.choice is not None and not talk.undone:
                self.people.undo(talk.key)
                talk.undone = True

    def close(self) -> None:
        """Stops all models and ends the thread."""
        self._run(self._close()).result(timeout=60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._models.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # -- in the desk's own thread ---------------------------------------------------------------------------

    def _start(self, talk: Talk, sides: Sequence[Side]) -> None:
        talk.busy = True
        talk.look()
        for side in sides:
            side.state, side.said, side.failure = "waiting", "", ""
        self._run(self._begin(talk, sides))

    async def _begin(self, talk: Talk, sides: Sequence[Side]) -> None:
        task = asyncio.create_task(self._ask_all(talk, sides))
        self._tasks.add(task)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=0.5)
                if time.monotonic() - talk.seen_at > AWAY_SECONDS:
                    task.cancel()
                    await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                _log.error("a free-prompt battle could not be stored", exc_info=task.exception())
        finally:
            self._tasks.discard(task)
            for side in sides:
                if side.state not in ("done", "failed"):
                    failed = task.done() and not task.cancelled() and task.exception() is not None
                    side.state = "failed" if failed else "stopped"
                    side.failure = "The answer could not be stored." if failed else ""
            talk.answered_at = time.monotonic()
            talk.busy = False

    async def _ask_all(self, talk: Talk, sides: Sequence[Side]) -> None:
        await asyncio.to_thread(self._file, talk)
        local = [side for side in sides if side.is_local]
        async with asyncio.TaskGroup() as group:
            for side in sides:
                if not side.is_local:
                    group.create_task(self._answer(talk, side))
            if local:
                group.create_task(self._ask_here(talk, local))

    def _file(self, talk: Talk) -> None:
        ledger = self.people.ledger
        name = talk.campaign.name if talk.campaign.id is not None else ""
        talk.run_id = talk.run_id or store.run_of(ledger, name, environment())
        talk.place = store.add_prompt(ledger, [{"role": "user", "content": prompt} for prompt in talk.prompts])

    async def _ask_here(self, talk: Talk, sides: Sequence[Side]) -> None:
        """Asks models on this machine when it is this battle's turn, both at the same time."""
        self._line.append(talk)
        try:
            async with self._turn:
                taken: Counter[str] = Counter()
                async with asyncio.TaskGroup() as group:
                    for side in sides:
                        weights = weights_of(side.contestant.settings)
                        group.create_task(self._answer(talk, side, taken[weights]))
                        taken[weights] += 1
        finally:
            self._line.remove(talk)

    async def _answer(self, talk: Talk, side: Side, number: int = 0) -> None:
        """Has a side answer the last prompt, and stores the answer, or why there is none."""
        settings = side.contestant.settings
        request = talk.request(side)
        body = request.body(settings)
        key = request_key(body)
        known = (await asyncio.to_thread(self.people.ledger.find_responses, [key])).get(key)
        if known is not None:
            outcome: Reply | RequestFailed = known.reply  # asked before: nothing is bought twice
        else:
            outcome = await self._models.answer(side, request.effective(settings), number)
        cost = self._prices.cost(settings, outcome) if known is None and isinstance(outcome, Reply) else None
        turn = [] if isinstance(outcome, RequestFailed) else [Turn(key, body, outcome, cost)]
        # Each number of turns is an item of its own: with the answers before the last one, copied, it is whole.
        where = (side.contestant.model_id, talk.place[1], talk.place[0])
        rows = [
            ResponseRow(*where, one.key, one.body, one.reply, cost=one.cost, attempts=0, turn=number)
            for number, one in enumerate(side.turns, 1)
        ]
        asked = 1 if known is None else 0
        rows.append(ResponseRow(*where, key, body, outcome, cost=cost, attempts=asked, turn=len(talk.prompts)))
        ids = await asyncio.to_thread(self.people.ledger.add_responses, talk.run_id, rows)
        side.turns += turn
        if isinstance(outcome, RequestFailed):
            side.failure = _SENTENCES.get(outcome.kind, _REFUSED)
            side.state = "failed"
        else:
            side.said, side.response_id, side.state = outcome.text, ids[-1], "done"
