"""A free-prompt battle as it stands, and who meets whom."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from evalkit.errors import UserError
from evalkit.models import Message, Reply, Request, Sampling
from evalkit.store import live as store
from evalkit.store.ledger_app import People
from evalkit.store.live import Contestant
from evalkit.store.voting import CampaignRow

LOCAL_ANSWER_TOKENS = 512
"""Of each answer where one of the two models runs on this machine; both get the same."""
ANSWER_TOKENS = 2_048
PLANNED = 8
"""Battles planned at once; the plan is made anew when they are used up."""

Choice = Literal["left", "right", "tie", "both_bad"]
State = Literal["waiting", "loading", "answering", "done", "failed", "stopped"]


@dataclass(slots=True)
class Turn:
    """One answer of one model, as stored."""

    key: str
    body: str
    reply: Reply
    cost: float | None


@dataclass(slots=True)
class Side:
    """One of the two models of a battle.

    Attributes:
        turns: Its answers so far.
        state: Of the answer to the last prompt.
        said: That answer as far as it goes.
        step: While loading: what is being done, and the share of it done before (0..1).
        failure: One sentence for the person, without names.
        response_id: Of its last answer.
    """

    contestant: Contestant
    turns: list[Turn] = field(default_factory=list)
    state: State = "done"
    said: str = ""
    step: tuple[str, float] = ("", 0.0)
    failure: str = ""
    response_id: int = 0

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine."""
        return self.contestant.settings.provider != "openai"


@dataclass(slots=True, eq=False)
class Talk:
    """One battle from its first prompt to the vote.

    Attributes:
        key: Of its ballot.
        left, right: In the order shown.
        prompts: What the person has asked.
        place: Dataset and item of the prompts.
        seen_at: When a page looked at it last, by the monotonic clock.
        answered_at: When the last answer was complete.
        choice: The vote; None before it.
    """

    key: str
    campaign: CampaignRow
    annotator_id: int
    left: Side
    right: Side
    prompts: list[str] = field(default_factory=list)
    place: tuple[int, int] = (0, 0)
    run_id: int = 0
    seen_at: float = field(default_factory=time.monotonic)
    answered_at: float = 0.0
    choice: Choice | None = None
    undone: bool = False
    busy: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right

    @property
    def can_vote(self) -> bool:
        """Whether both have answered all that was asked, and no vote was cast."""
        return (
            self.choice is None
            and not self.busy
            and bool(self.prompts)
            and all(len(side.turns) == len(self.prompts) for side in self.sides)
        )

    def look(self) -> None:
        """Says that somebody is at the page."""
        self.seen_at = time.monotonic()

    def request(self, side: Side) -> Request:
        """What a side is asked: the person's turns, and its own answers between them."""
        messages: list[Message] = []
        for number, prompt in enumerate(self.prompts):
            messages.append({"role": "user", "content": prompt})
            if number < len(side.turns):
                messages.append({"role": "assistant", "content": side.turns[number].reply.text})
        limit = LOCAL_ANSWER_TOKENS if any(one.is_local for one in self.sides) else ANSWER_TOKENS
        last = 2 * (len(self.prompts) - 1) + 1
        return Request(messages=tuple(messages[:last]), sampling=Sampling(max_tokens=limit))


class Arena:
    """Who meets whom in a campaign: contestants, and the pairs of the next battles."""

    def __init__(self, people: People, campaign: CampaignRow, contestants: Sequence[Contestant]) -> None:
        self.people, self.campaign = people, campaign
        self.contestants = {one.model_id: one for one in contestants}
        self._lock = threading.Lock()
        self._proposals: deque[tuple[int, int]] = deque()
        self._met: Counter[tuple[int, int]] = Counter()
        self._begun = 0

    def draw(self, annotator_id: int) -> tuple[Contestant, Contestant]:
        """Draws the two models of the next battle, the first for the left side; both by the campaign's seed."""
        with self._lock:
            if not self._proposals:
                self._plan()
            pair = self._proposals.popleft()
            self._met[pair] += 1
            self._begun += 1
            swap = random.Random(f"{self.campaign.seed}:{annotator_id}:{self._begun}:{pair}").random() < 0.5
        a, b = (self.contestants[model] for model in pair)
        return (b, a) if swap else (a, b)

    def _plan(self) -> None:
        votes = [
            vote
            for vote in store.free_votes(self.people.ledger, self.campaign.id)
            if vote[0] in self.contestants and vote[1] in self.contestants
        ]
        if votes and self.campaign.settings.get("policy", "next-battle") == "next-battle":
            import pandas as pd

            from evalkit.stats import count_votes, next_battles

            rows = [(str(a), str(b), winner) for a, b, winner in votes]
            models = [str(model) for model in self.contestants]
            # A board that no method can rate yet (say, one-sided votes on two models) is no reason to stop.
            with suppress(UserError):
                board = count_votes(pd.DataFrame(rows, columns=["model_a", "model_b", "winner"]))
                found = next_battles(board, n=PLANNED, models=models, seed=self.campaign.seed + len(rows)).proposals
                self._proposals.extend((min(int(a), int(b)), max(int(a), int(b))) for a, b in found)
        if not self._proposals:  # nothing to plan on, or nothing left to tell apart: whoever met least
            met = self._met + Counter((a, b) for a, b, _ in votes)
            pairs = list(itertools.combinations(sorted(self.contestants), 2))
            random.Random(f"{self.campaign.seed}:{self._begun}").shuffle(pairs)
            self._proposals.extend(sorted(pairs, key=lambda pair: met[pair])[:PLANNED])
