"""The adaptive jury: asks one member after another, until a battle's verdict is settled or the budget is spent.

A pure policy: it says what to ask next and is told the answers; who asks, and how, is not its affair.

    jury = AdaptiveJury(battles, [Member("gpt-4", 0.02, 0.8), Member("small", 0.001, 0.65)], budget=5000)
    while asks := jury.next_asks(64):
        for battle, member in asks:
            jury.tell(battle, member, label_of(battle, member))
    jury.verdicts().label
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.bradley_terry import fit
from evalkit.stats.elo_scale import ELO
from evalkit.stats.votes import FloatArray, IntArray

A, B, TIE, UNREADABLE = 0, 1, 2, -1
_NOT_ASKED, _ASKED = -3, -2

_PRIOR_VERDICTS = 20.0  # what a guessed accuracy weighs, in verdicts
_PRIOR_TIES = (10.0, 0.15)  # weight and share of ties among even battles, before any are seen
_PRECISION = 0.5  # of the normal prior on strengths (log-odds): deviation 1.4, 246 Elo points
_REFRESH = 0.02  # share of the verdicts that are new when everything is fitted again
_ROUNDS = 3  # EM steps at each refresh, from where the last one ended


@dataclass(frozen=True)
class Member:
    """A judge of the jury.

    Attributes:
        name: Its name.
        cost: Of one verdict, in dollars or seconds; the unit is the same for all members, and above 0.
        accuracy: Guess of how often it says what the jury would: above 1/3, below 1.
    """

    name: str
    cost: float = 1.0
    accuracy: float = 0.7


@dataclass(frozen=True, eq=False)
class AdaptiveVerdicts:
    """What the jury says of each battle, and how sure it is.

    Attributes:
        posterior: Probability that the first model wins, the second, neither; shape (battles, 3).
        label: The most probable of them: 0, 1, 2; -1 where no member gave a readable verdict.
        asked: Members asked, unreadable answers included, shape (battles,).
        settled: Whether `posterior` of the label has reached the level, shape (battles,).
        strength: Of the models, log-odds, mean 0, shape (models,); 0 for one without battles.
        accuracy: Of the members as learned: how often each says what the jury does, shape (members,).
    """

    posterior: FloatArray
    label: IntArray
    asked: IntArray
    settled: np.ndarray[tuple[int], np.dtype[np.bool_]]
    strength: FloatArray
    accuracy: FloatArray


class AdaptiveJury:
    """See the module; one object for one board.

    Args:
        battles: The two models of each battle as codes 0, 1, ..., shape (battles, 2).
        members: The judges.
        settled: A battle is asked about no more once a label has this posterior probability.
        budget: Requests at most; None until every battle is settled or every member was asked.
        seed: Of the order of what is equally useful.

    Raises:
        UserError: An argument is out of range.
    """

    def __init__(
        self,
        battles: ArrayLike,
        members: Sequence[Member],
        *,
        settled: float = 0.95,
        budget: int | None = None,
        seed: int = 0,
    ) -> None:
        self.pairs = np.asarray(battles, dtype=np.int64)
        _check(self.pairs, members, settled, budget)
        self.members, self.level, self.budget = tuple(members), settled, budget
        n, m = len(self.pairs), len(members)
        self.labels = np.full((n, m), _NOT_ASKED, dtype=np.int64)
        self.cost = np.array([member.cost for member in members])
        self.models = int(self.pairs.max(initial=-1)) + 1
        self.strength = np.zeros(self.models)
        # No model is without any battle in the fit: its strength is then the prior's.
        self._nearly_nothing = np.full((self.models, self.models), 1e-9) - 1e-9 * np.eye(self.models)
        self.spent = 0
        self._noise = np.random.default_rng(seed).random(n) * 1e-6
        guess = np.array([member.accuracy for member in members])
        # Of a battle with a winner: right, wrong, tie; of one without: tie, not tie.
        self._decisive_prior = _PRIOR_VERDICTS * np.stack([guess, (1 - guess) / 2, (1 - guess) / 2], axis=1)
        self._tie_prior = _PRIOR_VERDICTS * np.stack([guess, 1 - guess], axis=1)
        self.confusion = _confusion(self._decisive_prior, self._tie_prior)
        self.ties = _PRIOR_TIES[1]
        self.worth = np.ones(n)
        self._told = self._fitted = 0
        self._prior = self._board_prior()
        self.posterior = self._prior.copy()
        self._value = np.zeros((n, m))
        self._score(np.arange(n))

    def next_asks(self, limit: int) -> list[tuple[int, int]]:
        """The most useful questions: (battle, member), at most one a battle at a time; empty when it is done."""
        left = limit if self.budget is None else min(limit, self.budget - self.spent)
        if left <= 0:
            return []
        if self._told - self._fitted > _REFRESH * max(self._told, 500):
            self._refresh()
        member = self._value.argmax(axis=1)
        value = self._value[np.arange(len(self.pairs)), member]
        order = np.argpartition(-value, left)[:left] if left < len(value) else np.arange(len(value))
        order = order[value[order] > 0]
        order = order[np.argsort(-value[order], kind="stable")]
        asks = [(int(b), int(member[b])) for b in order]
        for battle, who in asks:
            self.labels[battle, who] = _ASKED
            self._value[battle] = 0.0  # until it is told
        self.spent += len(asks)
        return asks

    def tell(self, battle: int, member: int, label: int) -> None:
        """Takes an answer: 0 the first model, 1 the second, 2 tie, -1 not readable.

        Answers that were not asked for (known from earlier) are taken too, and are no part of the budget.

        Raises:
            UserError: The label is none of these, or the member has already answered.
        """
        if label not in (A, B, TIE, UNREADABLE):
            raise UserError(f"the label is {label}; it must be 0, 1, 2, or -1 where it could not be read.")
        if self.labels[battle, member] > _ASKED:
            raise UserError(f"{self.members[member].name} has already answered on battle {battle}.")
        self.labels[battle, member] = label
        self._told += 1
        if label != UNREADABLE:
            likely = self.posterior[battle] * self.confusion[member, :, label]
            self.posterior[battle] = likely / likely.sum()
        self._score(np.array([battle]))

    def verdicts(self) -> AdaptiveVerdicts:
        """What is known now, everything fitted anew."""
        for _ in range(_ROUNDS):
            self._refresh()
        given = self.labels > UNREADABLE
        label = np.where(given.any(axis=1), self.posterior.argmax(axis=1), UNREADABLE)
        return AdaptiveVerdicts(
            posterior=self.posterior.copy(),
            label=label,
            asked=(self.labels > _ASKED).sum(axis=1),
            settled=(self.posterior.max(axis=1) >= self.level) & (label != UNREADABLE),
            strength=self.strength.copy(),
            accuracy=self.confusion[:, A, A],
        )

    # -- the model ------------------------------------------------------------------------------------------------

    def _board_prior(self) -> FloatArray:
        """Probability of each label by the board alone, shape (battles, 3)."""
        p = special.expit(self.strength[self.pairs[:, 0]] - self.strength[self.pairs[:, 1]])
        tie = 4.0 * self.ties * p * (1.0 - p)
        return np.stack([p - tie / 2.0, 1.0 - p - tie / 2.0, tie], axis=1)

    def _refresh(self) -> None:
        for _ in range(_ROUNDS):
            self._expect()
            self._maximise()
        self._expect()
        self._weigh()
        self._fitted = self._told
        self._score(np.arange(len(self.pairs)))

    def _expect(self) -> None:
        """E step: the posterior of every battle."""
        self._prior = self._board_prior()
        joint = np.log(np.maximum(self._prior, 1e-12))
        for j, confusion in enumerate(np.log(self.confusion)):
            given = np.flatnonzero(self.labels[:, j] > UNREADABLE)
            joint[given] += confusion[:, self.labels[given, j]].T
        likely = np.exp(joint - joint.max(axis=1, keepdims=True))
        self.posterior = likely / likely.sum(axis=1, keepdims=True)

    def _maximise(self) -> None:
        """M step: confusions, share of ties, strengths; from the battles that somebody was asked about."""
        given = self.labels > UNREADABLE
        seen = given.any(axis=1)
        for j in range(len(self.members)):
            rows = np.flatnonzero(given[:, j])
            said, post = self.labels[rows, j], self.posterior[rows]
            right = post[said == A, A].sum() + post[said == B, B].sum()
            wrong = post[said == A, B].sum() + post[said == B, A].sum()
            drawn = post[said == TIE, A].sum() + post[said == TIE, B].sum()
            decisive = self._decisive_prior[j] + np.array([right, wrong, drawn])
            even = self._tie_prior[j] + np.array([post[said == TIE, TIE].sum(), post[said != TIE, TIE].sum()])
            self.confusion[j] = _confusion(decisive[None], even[None])[0]
        post = self.posterior[seen]
        i, j = self.pairs[seen].T
        p = special.expit(self.strength[i] - self.strength[j])
        room = 4.0 * (p * (1.0 - p)).sum()
        weight, share = _PRIOR_TIES
        self.ties = float(min((post[:, TIE].sum() + weight * share) / (room + weight), 0.5))
        wins = self._nearly_nothing.copy()
        np.add.at(wins, (i, j), post[:, A] + post[:, TIE] / 2.0)
        np.add.at(wins, (j, i), post[:, B] + post[:, TIE] / 2.0)
        self._board = fit(wins, self.strength, _PRECISION)
        self.strength = self._board.strength

    def _weigh(self) -> None:
        """How much a battle's score moves the board: the squared norm of H^-1 (e_i - e_j)."""
        i, j = self.pairs.T
        moved = self._board.bread[i] - self._board.bread[j]
        worth = (moved**2).sum(axis=1)
        self.worth = worth / worth.mean()

    # -- what to ask ----------------------------------------------------------------------------------------------

    def _score(self, rows: IntArray) -> None:
        """Value of asking each member about each battle: expected fall of the score's variance, by its cost."""
        post, labels = self.posterior[rows], self.labels[rows]
        credit = np.array([1.0, 0.0, 0.5])
        mean = post @ credit
        before = post @ credit**2 - mean**2
        open_ = (labels == _NOT_ASKED) & ~(labels == _ASKED).any(axis=1)[:, None]
        unsettled = (post.max(axis=1) < self.level) | ~(labels > UNREADABLE).any(axis=1)
        joint = post[:, None, :, None] * self.confusion[None]  # battles, members, truth, said
        said = joint.sum(axis=2)
        after = np.einsum("bjts,t->bjs", joint, credit) / said
        fall = (said * after**2).sum(axis=2) - mean[:, None] ** 2
        value = np.maximum(np.minimum(fall, before[:, None]), 1e-12) * (self.worth[rows] + self._noise[rows])[:, None]
        self._value[rows] = np.where(open_ & unsettled[:, None], value / self.cost, 0.0)


def board_elo(strength: FloatArray, center: float = 1000.0) -> FloatArray:
    """Strengths on the Elo scale."""
    return np.asarray(center + ELO * strength, dtype=np.float64)


def _confusion(decisive: FloatArray, even: FloatArray) -> FloatArray:
    """P(said | truth), shape (members, truth, said), from counts; alike for both sides, as no model is always first."""
    right, wrong, drawn = (decisive / decisive.sum(axis=1, keepdims=True)).T
    tie, other = (even / even.sum(axis=1, keepdims=True)).T
    rows = [[right, wrong, drawn], [wrong, right, drawn], [other / 2, other / 2, tie]]
    return np.moveaxis(np.array(rows), 2, 0)


def _check(pairs: IntArray, members: Sequence[Member], settled: float, budget: int | None) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs < 0).any() or (pairs[:, 0] == pairs[:, 1]).any():
        raise UserError("battles must be pairs of two different model codes (0, 1, ...), shape (battles, 2).")
    if not members:
        raise UserError("an adaptive jury needs a member.", code=2)
    for member in members:
        if not member.cost > 0:
            raise UserError(f"the cost of {member.name} is {member.cost}; it must be above 0.", code=2)
        if not 1 / 3 < member.accuracy < 1:
            raise UserError(f"the accuracy of {member.name} is {member.accuracy}; it must lie in (1/3, 1).", code=2)
    if not 1 / 3 < settled <= 1:
        raise UserError(f"settled is {settled}; it must lie above 1/3 and at most at 1, such as 0.95.", code=2)
    if budget is not None and budget < 0:
        raise UserError(f"the budget is {budget} requests; it must be 0 or more.", code=2)
