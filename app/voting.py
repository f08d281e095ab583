"""One voter's queue of blind battles: what is shown next, what a vote means, and how a vote is taken back.

A queue is shared by all tabs of its voter, so they show the same pair; a ballot's key is made of campaign, voter,
battle and casting, so the same vote sent again (double click, reload, back button, second tab) is known as the same.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from statistics import median
from typing import Literal

from app.answers import safe
from app.voting_pool import Battle, Pairing, Pool
from evalkit.models.base import sha256
from evalkit.store import arena
from evalkit.store import voting as reads
from evalkit.store.ledger_app import BallotKind, BallotRow, People
from evalkit.store.rows import Winner
from evalkit.store.voting import CampaignRow, Place

Choice = Literal["left", "right", "tie", "both_bad", "skip"]
Order = Literal["ab", "ba"]
Turn = tuple[Literal["user", "assistant"], str]

EVERYTHING = CampaignRow(None, "Everything in the ledger")
"""Votes outside all campaigns, on all answers: so that voting needs no setting up."""
QUICK_SECONDS = 0.5
"""A press so soon after a pair appeared, or after such a press, is the second click of a double click or a held key."""
REPEAT_AFTER = 5
"""Ballots that lie at least between a pair and its repeat."""
UNREADABLE = 50
"""Battles in a row whose texts cannot be shown, after which a queue gives up."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to put side by side.

    Attributes:
        ballot_key: Of the vote on it.
        prompt: What both answer: turns of the conversation as far as both sides share it.
        left, right: What each side adds: its answer, and before it, in a conversation that each model led by itself,
            the turns since the first answer.
        order: ab: the ledger's model_a is on the left.
    """

    ballot_key: str
    battle_id: int
    battle: Battle
    prompt: tuple[Turn, ...]
    left: tuple[Turn, ...]
    right: tuple[Turn, ...]
    order: Order
    kind: BallotKind
    replicate: int

    def winner(self, choice: Choice) -> Winner | None:
        """Returns the choice in the ledger's naming; None for a skipped pair."""
        if choice in ("tie", "both_bad"):
            return choice
        if choice == "skip":
            return None
        return "model_a" if (choice == "left") == (self.order == "ab") else "model_b"

    def sides(self, names: dict[int, str]) -> tuple[str, str]:
        """Returns whose answers are on the left and on the right."""
        a, b = (names[model] for model in self.battle.models)
        return (a, b) if self.order == "ab" else (b, a)


@dataclass(frozen=True, slots=True)
class Cast:
    """What became of a vote.

    Attributes:
        status: stored; repeated, if it (or this voter's vote from another tab) stands already; early, if it came too
            soon to be meant for what was on the screen.
        pair: That was voted on.
    """

    status: Literal["stored", "repeated", "early"]
    pair: Pair | None
    choice: Choice


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a voter is.

    Attributes:
        done: Votes that stand.
        skipped: Pairs passed over.
        left: Pairs that could still be asked.
        pace: Median seconds a vote, of the last 20; None before the first.
    """

    done: int
    skipped: int
    left: int
    pace: float | None


@dataclass(slots=True)
class _Done:
    """A ballot of this voter that stands."""

    key: str
    battle: Battle
    battle_id: int
    order: Order
    voted: bool
    replicate: int
    kind: BallotKind
    seconds: float | None


class Queue:
    """What one voter of a campaign is asked; safe between the threads of several tabs."""

    def __init__(self, pool: Pool, people: People, annotator_id: int) -> None:
        self.pool, self.people, self.annotator_id = pool, people, annotator_id
        self._lock = threading.RLock()
        campaign_id = pool.campaign.id
        self._castings = reads.castings(pool.ledger, campaign_id, annotator_id)
        self._done: list[_Done] = []
        # Where the answers came from is not needed of what is done: a battle is known by its place and its models.
        for vote in reads.votes(pool.ledger, campaign_id, annotator_id):
            battle = Battle(vote.place, (vote.model_a_id, vote.model_b_id), (0, 0))
            order: Order = "ab" if vote.order == "ab" else "ba"
            kind: BallotKind = "repeat" if vote.kind == "repeat" else "gold" if vote.kind == "gold" else "queue"
            done = _Done(vote.key, battle, vote.battle_id, order, vote.winner is not None, vote.replicate, kind, None)
            done.seconds = vote.seconds
            self._done.append(done)
        self._ahead: list[Pair] = []
        self._coming: Future[Pair | None] | None = None
        self._shown_at: float | None = None
        self._pressed_at = 0.0
        self._current: Pair | None = None

    def next(self) -> Pair | None:
        """Returns the pair to vote on, the same until it is voted on; None if there is none."""
        with self._lock:
            if self._current is None:
                self._current = self._upcoming()
                self._shown_at = None
                self._look_ahead()
            if self._shown_at is None:
                self._shown_at = time.monotonic()
            return self._current

    def cast(self, ballot_key: str, choice: Choice, comment: str = "", *, seconds: float | None = None) -> Cast:
        """Stores a vote on the pair that was shown, and moves on.

        Args:
            seconds: From showing to voting; None: as measured here.

        Raises:
            UserError: The campaign was closed meanwhile.
        """
        with self._lock:
            pair, now = self._current, time.monotonic()
            shown, pressed = self._shown_at or now, self._pressed_at
            self._pressed_at = now
            if pair is None or pair.ballot_key != ballot_key:
                return Cast("repeated", None, choice)
            if seconds is None:
                if now - max(shown, pressed) < QUICK_SECONDS:
                    return Cast("early", pair, choice)
                seconds = now - shown
            winner = pair.winner(choice)
            row = BallotRow(
                *(pair.ballot_key, self.pool.campaign.id, self.annotator_id, pair.battle_id, pair.order, winner),
                *(self.pool.campaign.criterion, pair.replicate, round(seconds, 2), comment.strip() or None, pair.kind),
            )
            result = self.people.vote(row)
            casting = (pair.battle_id, pair.replicate)
            self._castings[casting] = self._castings.get(casting, 0) + 1
            voted = result.winner is not None
            done = _Done(result.key, pair.battle, pair.battle_id, pair.order, voted, pair.replicate, pair.kind, seconds)
            self._done.append(done)
            if pair.kind != "repeat":
                change = int(voted and result.status == "stored")
                self.pool.counted(pair.battle.models, pair.battle.place, self.annotator_id, change)
            self._current, self._shown_at = self._upcoming(), None
            self._look_ahead()
            return Cast(result.status, pair, choice)

    def undo(self, ballot_key: str) -> Pair | None:
        """Takes the last vote (or skip) back and shows its pair again.

        Args:
            ballot_key: Of the ballot that is the last one as far as the voter knows (see `last`).

        Returns:
            The pair to vote on; None, and nothing is taken back, if that ballot is not the last one any more: a key
            held down, or another tab.
        """
        with self._lock:
            if self.last() != ballot_key:
                return None
            last = self._done.pop()
            self.people.undo(last.key)
            if last.kind != "repeat":
                change = -int(last.voted)
                self.pool.counted(last.battle.models, last.battle.place, self.annotator_id, change)
            again = self._again(last)
            if again is not None:
                if self._current is not None:
                    self._ahead.insert(0, self._current)
                self._current, self._shown_at = again, None
            return self._current

    def last(self) -> str | None:
        """Returns the key of the ballot that an undo takes back; None if none of this voter's stands."""
        return self._done[-1].key if self._done else None

    def progress(self) -> Progress:
        """Returns how far the voter is."""
        with self._lock:
            seconds = [done.seconds for done in self._done if done.voted and done.seconds is not None][-20:]
            voted = sum(done.voted for done in self._done)
            left = self.pool.left(self._seen(with_shown=False))
            return Progress(voted, len(self._done) - voted, left, median(seconds) if seconds else None)

    def _seen(self, *, with_shown: bool = True) -> set[tuple[Pairing, Place]]:
        seen = {(done.battle.models, done.battle.place) for done in self._done}
        if with_shown:
            shown = [*self._ahead, *([self._current] if self._current else [])]
            seen |= {(pair.battle.models, pair.battle.place) for pair in shown}
        return seen

    def _upcoming(self) -> Pair | None:
        if self._ahead:
            return self._ahead.pop(0)
        coming, self._coming = self._coming, None
        return (coming.result() if coming is not None else None) or self._prepare()

    def _look_ahead(self) -> None:
        """Has the pair after this one made ready, beside the voter."""
        if self._current is not None and not self._ahead and self._coming is None:
            self._coming = self.pool.run(self._make, *self._wanted(len(self._done) + 1))

    def _prepare(self) -> Pair | None:
        return self._make(*self._wanted(len(self._done)))

    def _wanted(self, ballots: int) -> tuple[set[tuple[Pairing, Place]], bool, _Done | None]:
        """What comes after so many ballots: nothing seen, perhaps a gold pair, perhaps one of those done once more."""
        settings = self.pool.settings
        draw = random.Random(f"{self.pool.campaign.seed}:{self.annotator_id}:{ballots}")
        place = draw.random()
        repeat = None
        if place < settings.repeat_share:
            shown = [*self._ahead, *([self._current] if self._current else [])]
            asked = {(done.battle.models, done.battle.place) for done in self._done if done.replicate}
            asked |= {(pair.battle.models, pair.battle.place) for pair in shown if pair.replicate}
            old = [done for done in self._done[: max(0, ballots - REPEAT_AFTER)] if done.voted and not done.replicate]
            old = [done for done in old if (done.battle.models, done.battle.place) not in asked]
            repeat = draw.choice(old) if old else None
        return self._seen(), place >= 1.0 - settings.gold_share, repeat

    def _make(self, seen: set[tuple[Pairing, Place]], gold: bool, repeat: _Done | None) -> Pair | None:
        """Makes a pair ready; takes no lock of the queue, as this runs while another thread waits for it."""
        pair = self._again(repeat, repeated=True) if repeat is not None else None
        if pair is not None:
            return pair
        for _ in range(UNREADABLE):
            battle = self.pool.take_gold(self.annotator_id, seen) if gold else None
            kind: BallotKind = "gold" if battle is not None else "queue"
            battle = battle or self.pool.take(self.annotator_id, seen)
            if battle is None:
                return None
            pair = self._pair(battle, self.pool.battle_id(battle), kind)
            if pair is not None:
                return pair
            self.pool.give_back(battle, self.annotator_id, unreadable=True)
        return None

    def _again(self, done: _Done, *, repeated: bool = False) -> Pair | None:
        """A pair that was voted on: as it was, or as a repeat, its sides swapped."""
        battle = self._found(done)
        if battle is None:
            return None
        if repeated:
            swapped: Order = "ba" if done.order == "ab" else "ab"
            return self._pair(battle, done.battle_id, "repeat", replicate=1, order=swapped)
        return self._pair(battle, done.battle_id, done.kind, replicate=done.replicate, order=done.order)

    def _found(self, done: _Done) -> Battle | None:
        """The battle with the answers that were shown, which a queue read from the ledger does not know."""
        if done.battle.responses != (0, 0):
            return done.battle
        rows = reads.responses_of(self.pool.ledger, done.battle_id)
        return Battle(done.battle.place, done.battle.models, rows) if rows else None

    def _pair(
        self, battle: Battle, battle_id: int, kind: BallotKind, *, replicate: int = 0, order: Order | None = None
    ) -> Pair | None:
        texts = arena.conversations(self.pool.ledger, battle.responses)
        if len(texts) < 2:
            return None
        campaign = self.pool.campaign
        casting = self._castings.get((battle_id, replicate), 0)
        parts = [campaign.id, campaign.criterion, self.annotator_id, battle_id, replicate, casting]
        if order is None:
            order = (
                "ab"
                if int(sha256([campaign.seed, self.annotator_id, *battle.place, *battle.models])[:8], 16) % 2
                else "ba"
            )
        both = [_turns(texts[response]) for response in battle.responses]
        prompt, a, b = _shared(both[0], both[1])
        for _, text in (*prompt, *a, *b):
            safe(text)  # so that it is ready when it is drawn
        left, right = (a, b) if order == "ab" else (b, a)
        return Pair(sha256(parts), battle_id, battle, prompt, left, right, order, kind, replicate)


def _turns(text: arena.Conversation) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for number, said in enumerate(text.turns):
        turns.append(("user", said))
        turns += [("assistant", answer) for answer in text.answers[number : number + 1]]
    return tuple(turns)


def _shared(a: tuple[Turn, ...], b: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], tuple[Turn, ...], tuple[Turn, ...]]:
    """Parts two conversations into what both share and what each adds; an answer to judge is never shared."""
    n = 0
    while n < min(len(a), len(b)) - 1 and a[n] == b[n]:
        n += 1
    return a[:n], a[n:], b[n:]
