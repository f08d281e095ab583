"""What a campaign's voters can be asked, shared by all of them: which battles are open, and which pay most.

Which models meet next is proposed by `evalkit.stats.next_battles` on what the campaign's people have voted so far. That
is computed beside the voters, who take what the last plan has left.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import comb
from typing import Any

from evalkit.errors import UserError
from evalkit.models.base import sha256
from evalkit.store import BattleRow, Ledger
from evalkit.store import voting as reads
from evalkit.store.reading import model_names
from evalkit.store.voting import CampaignRow, Place, Vote

RESERVED_SECONDS = 900.0
"""After so long a pair that was shown, and not voted on, is free for others."""
PLANNED = 128
"""Battles a plan proposes."""
REPLAN_SECONDS = 5.0
"""Between two plans at least, and twenty times as long as the last one took: the rest is the voters'."""
PLANNED_MODELS = 400
"""Planning for more models takes too long to follow the votes; pairs then go by the fewest votes."""
GOLD = 500

Pairing = tuple[int, int]
"""Two model ids, the lower one first."""


@dataclass(frozen=True, slots=True)
class Battle:
    """Two answers that can be shown; the models' order is the ledger's."""

    place: Place
    models: Pairing
    responses: tuple[int, int]

    def row(self) -> BattleRow:
        """The ledger's row."""
        return BattleRow(self.place[0], *self.models, *self.responses, turn=self.place[1])


@dataclass(frozen=True, slots=True)
class Settings:
    """What a campaign asks for.

    Attributes:
        datasets, models: None named: all.
        votes_per_pair: People who vote on each pair of answers.
        gold_share, repeat_share: Of the pairs a voter gets, 0..1.
        policy: `next-battle`, or `uniform` (every pair of models as often as the others).
        reveal: Whether a voter is told the names after the vote.
        gold: Winners known to the campaign's owner, by battle id.
    """

    datasets: tuple[int | str, ...] = ()
    models: tuple[int | str, ...] = ()
    votes_per_pair: int = 1
    gold_share: float = 0.0
    repeat_share: float = 0.05
    policy: str = "next-battle"
    reveal: bool = False
    gold: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, campaign: CampaignRow) -> Settings:
        """Reads a campaign's settings; what is not set is as above.

        Raises:
            UserError: A setting has no sense.
        """
        given = campaign.settings
        default = cls(reveal=campaign.id is None)
        where = f"campaign {campaign.name!r}"
        votes = given.get("votes_per_pair", default.votes_per_pair)
        if not isinstance(votes, int) or votes < 1:
            raise UserError(f"{where}: votes_per_pair is {votes!r}; it must be a whole number from 1 on.")
        shares = [given.get(name, getattr(default, name)) for name in ("gold_share", "repeat_share")]
        for name, share in zip(("gold_share", "repeat_share"), shares, strict=True):
            if not isinstance(share, int | float) or not 0 <= share <= 0.5:
                raise UserError(f"{where}: {name} is {share!r}; it must lie between 0 and 0.5.")
        policy = given.get("policy", default.policy)
        if policy not in ("next-battle", "uniform"):
            raise UserError(f"{where}: the policy is {policy!r}; it must be 'next-battle' or 'uniform'.")
        gold = tuple((int(key), str(winner)) for key, winner in dict(given.get("gold") or {}).items())
        return cls(
            datasets=tuple(given.get("datasets") or ()),
            models=tuple(given.get("models") or ()),
            votes_per_pair=votes,
            gold_share=float(shares[0]),
            repeat_share=float(shares[1]),
            policy=policy,
            reveal=bool(given.get("reveal", default.reveal)),
            gold=gold,
        )


class Pool:
    """The battles of one campaign, shared by its voters; safe between threads.

    Attributes:
        names: What boards call the models, by id.
        total: Battles there are.
    """

    def __init__(self, ledger: Ledger, campaign: CampaignRow) -> None:
        self.ledger, self.campaign, self.settings = ledger, campaign, Settings.of(campaign)
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(3, thread_name_prefix="voting")
        self._answers = reads.answers_by_model(ledger, self.settings.datasets, self.settings.models)
        self._stored: dict[tuple[Pairing, Place], tuple[int, tuple[int, int]]] = {}
        stored = reads.battles_with_texts(ledger, self.settings.datasets, self.settings.models)
        for battle_id, place, a, b, response_a, response_b in stored:
            self._answers.setdefault(a, {}).setdefault(place, response_a)
            self._answers.setdefault(b, {}).setdefault(place, response_b)
            self._stored.setdefault(((a, b), place), (battle_id, (response_a, response_b)))
        meeting = Counter(place for mine in self._answers.values() for place in mine)
        self.total = sum(comb(n, 2) for n in meeting.values())
        models = sorted(self._answers)
        self._pairings: set[Pairing] = set(itertools.combinations(models, 2)) if self.total else set()
        self._fewest = [(0, hash((campaign.seed, *pairing)), pairing) for pairing in self._pairings]
        heapq.heapify(self._fewest)
        self._battles: dict[Pairing, list[Battle]] = {}
        self._votes: Counter[tuple[Pairing, Place]] = Counter()
        self._held: dict[tuple[Pairing, Place], dict[int, float]] = {}
        self._pair_votes: Counter[Pairing] = Counter()
        self._handed_out: Counter[Pairing] = Counter()
        self._full: set[tuple[Pairing, Place]] = set()
        self._proposals: deque[Pairing] = deque()
        self._gold: list[Battle] = []
        self._unreadable: set[tuple[Pairing, Place]] = set()
        self._planning: Future[None] | None = None
        self._plan_after = 0.0
        with ledger.engine.connect() as connection:
            self.names = model_names(connection)
        self._count(reads.votes(ledger, campaign.id))
        self.run(self._find_gold)
        self.plan_soon()

    def run(self, work: Any, *given: Any) -> Future[Any]:
        """Does some work beside the voters."""
        return self._workers.submit(work, *given)

    def take(self, annotator_id: int, seen: Collection[tuple[Pairing, Place]]) -> Battle | None:
        """Hands out a battle that pays and that the voter has not seen, held for this voter; None if none is open."""
        now = time.monotonic()
        with self._lock, contextlib.closing(self._in_order()) as pairings:
            for pairing in pairings:
                for battle in self._of(pairing):
                    key = (pairing, battle.place)
                    if key not in seen and key not in self._unreadable and self._open(key, annotator_id, now):
                        self._held.setdefault(key, {})[annotator_id] = now
                        self._handed_out[pairing] += 1
                        return battle
        return None

    def take_gold(self, annotator_id: int, seen: Collection[tuple[Pairing, Place]]) -> Battle | None:
        """Hands out a battle whose winner is known; None if there is none that the voter has not seen."""
        gold = self._gold
        start = random.Random(f"{self.campaign.seed}:{annotator_id}").randrange(max(len(gold), 1))
        for battle in [*gold[start:], *gold[:start]]:
            key = (battle.models, battle.place)
            if key not in seen and key not in self._unreadable:
                return battle
        return None

    def give_back(self, battle: Battle, annotator_id: int, *, unreadable: bool = False) -> None:
        """Lets go of a battle that was handed out; one whose texts cannot be shown is handed out no more."""
        key = (battle.models, battle.place)
        with self._lock:
            self._held.get(key, {}).pop(annotator_id, None)
            if unreadable:
                self._unreadable.add(key)

    def counted(self, models: Pairing, place: Place, annotator_id: int, change: int) -> None:
        """Takes note of a vote (+1), of one undone (-1), or of a skipped pair (0)."""
        key = (models, place)
        with self._lock:
            self._held.get(key, {}).pop(annotator_id, None)
            self._votes[key] += change
            self._pair_votes[models] += change
            (self._full.add if self._votes[key] >= self.settings.votes_per_pair else self._full.discard)(key)
        self.plan_soon()

    def left(self, seen: Collection[tuple[Pairing, Place]]) -> int:
        """Counts the battles that a voter who has seen these could still be asked."""
        with self._lock:
            mine = sum(key not in self._full for key in seen)
            return max(0, self.total - len(self._full) - len(self._unreadable) - mine)

    def battle_id(self, battle: Battle) -> int:
        """Returns the battle's id, and stores it first where it is new."""
        known = self._stored.get((battle.models, battle.place))
        if known is not None and known[1] == battle.responses:
            return known[0]
        battle_id = self.ledger.add_battles([battle.row()])[0]
        self._stored[battle.models, battle.place] = (battle_id, battle.responses)
        return battle_id

    def plan_soon(self) -> None:
        """Has the next battles planned anew, unless that is under way or was done a moment ago."""
        with self._lock:
            recent = time.monotonic() < self._plan_after
            busy = self._planning is not None and not self._planning.done()
            if busy or recent or self.settings.policy == "uniform":
                return
            self._planning = self._workers.submit(self._plan)

    def close(self) -> None:
        """Ends what runs beside the voters."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _in_order(self) -> Generator[Pairing, None, None]:
        """Pairings to look at: those planned first, each once, then those with the fewest votes."""
        for _ in range(len(self._proposals)):
            yield self._proposals.popleft()
        looked_at: list[tuple[int, Pairing]] = []
        try:
            while self._fewest:
                count, draw, pairing = heapq.heappop(self._fewest)
                now = self._pair_votes[pairing] + self._handed_out[pairing]
                if count < now:
                    heapq.heappush(self._fewest, (now, draw, pairing))
                elif pairing in self._pairings:
                    looked_at.append((draw, pairing))
                    yield pairing
        finally:
            for draw, pairing in looked_at:
                now = self._pair_votes[pairing] + self._handed_out[pairing]
                heapq.heappush(self._fewest, (now, draw, pairing))

    def _of(self, pairing: Pairing) -> list[Battle]:
        """A pairing's battles: those that a judge or a person met already first, else drawn by the campaign's seed."""
        if pairing not in self._battles:
            a, b = pairing
            mine, other = self._answers.get(a, {}), self._answers.get(b, {})
            found = []
            for place in mine.keys() & other.keys():
                stored = self._stored.get((pairing, place))
                found.append(Battle(place, pairing, stored[1] if stored else (mine[place], other[place])))
            if not found:
                self._pairings.discard(pairing)
            draw = {battle.place: sha256([self.campaign.seed, *battle.place, *pairing]) for battle in found}
            found.sort(key=lambda battle: ((pairing, battle.place) not in self._stored, draw[battle.place]))
            self._battles[pairing] = found
        return self._battles[pairing]

    def _open(self, key: tuple[Pairing, Place], annotator_id: int, now: float) -> bool:
        held = self._held.get(key, {})
        for voter in [voter for voter, since in held.items() if now - since > RESERVED_SECONDS]:
            del held[voter]
        return self._votes[key] + len(held.keys() - {annotator_id}) < self.settings.votes_per_pair

    def _count(self, votes: list[Vote]) -> None:
        counted = [vote for vote in votes if vote.winner is not None and not vote.set_aside and vote.kind != "repeat"]
        self._votes = Counter(((vote.model_a_id, vote.model_b_id), vote.place) for vote in counted)
        self._pair_votes = Counter((vote.model_a_id, vote.model_b_id) for vote in counted)
        self._full = {key for key, n in self._votes.items() if n >= self.settings.votes_per_pair}

    def _plan(self) -> None:
        """Reads the votes anew (of those set aside, too) and plans on them."""
        import pandas as pd

        from evalkit.stats import count_votes, next_battles

        began = time.monotonic()
        votes = reads.votes(self.ledger, self.campaign.id)
        with self._lock:
            self._count(votes)
            self._plan_after = began + REPLAN_SECONDS
        rows = [
            (str(vote.model_a_id), str(vote.model_b_id), vote.winner)
            for vote in votes
            if vote.winner is not None and not vote.set_aside and vote.kind != "repeat"
        ]
        models = [str(model) for model in self._answers]
        if not rows or not 2 <= len(models) <= PLANNED_MODELS:
            return  # nothing to plan on: pairs go by the fewest votes
        seed = self.campaign.seed + len(rows)
        # A board that no method can rate yet (say, one-sided votes on two models) is no reason to stop the voters.
        with contextlib.suppress(UserError):
            board = count_votes(pd.DataFrame(rows, columns=["model_a", "model_b", "winner"]))
            planned = next_battles(board, n=PLANNED, models=models, seed=seed).proposals
            pairings = [(min(pair), max(pair)) for pair in ((int(a), int(b)) for a, b in planned)]
            with self._lock:
                self._proposals = deque(pairing for pairing in pairings if pairing in self._pairings)
        with self._lock:
            self._plan_after = time.monotonic() + max(REPLAN_SECONDS, 20.0 * (time.monotonic() - began))

    def _find_gold(self) -> None:
        """Finds battles whose winner is known: by the campaign, or as a metric gave one answer 1 and the other 0."""
        known = {battle_id for battle_id, _ in self.settings.gold}
        gold = [
            Battle(place, models, responses)
            for (models, place), (battle_id, responses) in self._stored.items()
            if battle_id in known
        ]
        if self.settings.gold_share > 0:
            gold += self._verified_gold()
        with self._lock:
            self._gold = gold

    def _verified_gold(self) -> list[Battle]:
        place_of = {
            response: (model, place) for model, mine in self._answers.items() for place, response in mine.items()
        }
        graded = reads.verified(self.ledger, place_of)
        right: dict[Any, list[int]] = {}
        wrong: dict[Any, list[int]] = {}
        for response, values in graded.items():
            for what, value in values.items():
                side = right if value >= 1 else wrong if value <= 0 else None
                if side is not None:
                    side.setdefault((place_of[response][1], what), []).append(response)
        found: dict[tuple[Pairing, Place], Battle] = {}
        for key in sorted(right.keys() & wrong.keys(), key=lambda key: sha256([self.campaign.seed, *key[0], *key[1]])):
            pair = random.Random(f"{self.campaign.seed}:{key}").choice(
                [(good, bad) for good in right[key] for bad in wrong[key]]
            )
            (a, first), (b, second) = sorted((place_of[response][0], response) for response in pair)
            found.setdefault(((a, b), key[0]), Battle(key[0], (a, b), (first, second)))
            if len(found) >= GOLD:
                break
        return list(found.values())
