"""The adaptive jury: asks one member after another, until the verdict of the whole jury is settled or the budget spent.

A pure policy: it says what to ask next and is told the answers; who asks, and how, is not its affair.

    jury = AdaptiveJury(battles, [Member("large", 0.02, 0.8), Member("small", 0.001, 0.65)], budget=5000)
    while asks := jury.next_asks(64):
        for battle, member in asks:
            jury.tell(battle, member, label_of(battle, member))
    jury.verdicts().label

What is known of a battle. Behind the members' votes stands a latent label t (the first model is better, the second,
neither), and given t the members vote independently, each by its own confusion matrix (Dawid & Skene 1979, J. R. Stat.
Soc. C 28:20-28) and with its own share of answers that cannot be read, whatever t is. Before anybody is asked, t has
the probabilities that the board gives it: the first model is better by p = 1 / (1 + exp(s_j - s_i)) less half of
P(neither) = 4 tau p (1 - p). Strengths s (Bradley-Terry, a normal prior), tau and the confusions are fitted to the
answers so far by EM, the confusions with a prior that a guessed accuracy is worth 20 verdicts; every so often, not at
each answer.

What is wanted is the verdict Y that the whole jury would give by its rule. Given t, the votes not yet cast are
independent, so the distribution of Y given t and the votes cast is a sum over the votes not cast, which is made once
for every pattern of votes; P(Y) is its mean over the posterior of t. A battle is settled when a label has
P(Y) >= `settled`.

What is asked next is what tells most of the board per dollar: the expected fall of the variance of Y's score (1, 1/2,
0) from one more vote, times how far a battle's score moves the ratings, |H^-1 (e_i - e_j)|^2 with H the information of
the Bradley-Terry fit, by the member's cost. (One step ahead: MacKay 1992, Neural Computation 4:590-604.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from evalkit.errors import UserError
from evalkit.stats.bradley_terry import Fit, fit
from evalkit.stats.juries import weighted_labels
from evalkit.stats.votes import FloatArray, IntArray

A, B, TIE, UNREADABLE = 0, 1, 2, -1
Rule = Literal["majority", "weighted", "dawid-skene"]
MOST_MEMBERS = 8
"""The table of vote patterns has 5 to the power of the members."""

_CREDIT = np.array([1.0, 0.0, 0.5])  # of the first model, by label
# Symbols of a member in a battle's pattern of votes: its label 0, 1 or 2, or one of these.
_UNREAD, _UNASKED, _SYMBOLS = 3, 4, 5
_PRIOR_VERDICTS = 20.0  # what a guessed accuracy weighs, in verdicts
_PRIOR_UNREAD = (0.02, 20.0)  # share of verdicts that cannot be read, and what that guess weighs
_PRIOR_TIES = (10.0, 0.15)  # weight and share of ties among even battles, before any are seen
_PRECISION = 0.5  # of the normal prior on strengths (log-odds): deviation 1.4, 246 Elo points
_REFRESH, _FIRST = 0.05, 1000  # everything is fitted anew after this share of new answers, of this many at the least
_ROUNDS = 3  # EM steps at each refresh, from where the last one ended
_WORTHLESS = 1e-9  # fall of a variance that is rounding


@dataclass(frozen=True)
class Member:
    """A judge of the jury.

    Attributes:
        name: Its name.
        cost: Of one verdict, in dollars or seconds; the unit is the same for all members, and above 0.
        accuracy: Guess of how often it is right: above 1/3, below 1.
    """

    name: str
    cost: float = 1.0
    accuracy: float = 0.7


@dataclass(frozen=True, eq=False)
class AdaptiveVerdicts:
    """What the jury says of each battle, and how sure that is.

    Attributes:
        posterior: Probability that the whole jury says: the first model, the second, tie; shape (battles, 3).
        label: The most probable of them: 0, 1, 2; -1 where no member gave a readable verdict.
        asked: Members asked, unreadable answers included, shape (battles,).
        settled: Whether the label's probability has reached the level, shape (battles,).
        strength: Bradley-Terry strengths of the models from the expected scores, log-odds, mean 0, shape (models,);
            where requests were few a better board than that of the labels.
        accuracy: Of the members against the latent label where that is the first model, as learned, shape (members,).
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
        members: The judges, 8 at most.
        settled: A battle is asked about no more once a verdict has this probability; 1 to be certain.
        budget: Requests at most; None until every battle is settled or nothing is left to ask.
        rule: How the whole jury votes: strict majority, else a tie; `weighted` (see `weights`); `dawid-skene`: its
            verdict is the latent label itself.
        weights: For `weighted`, of the members' votes; the largest sum wins, equal sums are a tie.
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
        rule: Rule = "majority",
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        self.pairs = np.asarray(battles, dtype=np.int64).reshape(-1, 2)
        _check(self.pairs, members, settled, budget, rule, weights)
        self.members, self.level, self.budget = tuple(members), settled, budget
        self.spent = 0
        n, m = len(self.pairs), len(members)
        self._cost = np.array([member.cost for member in members])
        self._place = _SYMBOLS ** np.arange(m)  # of each member in the code of a pattern
        self._symbols = np.full((n, m), _UNASKED, dtype=np.int64)
        self._waiting = np.zeros((n, m), dtype=np.bool_)  # asked, and not yet told
        self._final = _final_verdicts(m, np.ones(m) if weights is None else np.asarray(weights, dtype=np.float64), rule)
        guess = np.array([member.accuracy for member in members])
        right, wrong = np.eye(3), (1.0 - np.eye(3)) / 2.0
        self._invented = _PRIOR_VERDICTS * (guess[:, None, None] * right + (1.0 - guess)[:, None, None] * wrong)
        self._confusion = np.zeros((m, 3, 4))
        self._set_confusion(range(m), self._invented, np.full(m, _PRIOR_UNREAD[0]))
        self._ties = _PRIOR_TIES[1]
        self._models = int(self.pairs.max(initial=-1)) + 1
        # Next to nothing between all, so that no model is without a battle; its strength is then the prior's.
        self._board = fit(np.full((self._models, self._models), 1e-9) * (1 - np.eye(self._models)), None, _PRECISION)
        self._jitter = 1.0 + 1e-6 * np.random.default_rng(seed).random(n)
        self._told = self._fitted = 0
        self._stale: set[int] = set()
        self._value, self._who = np.zeros(n), np.zeros(n, dtype=np.int64)
        self._posterior = np.zeros((n, 3))
        if n:
            self._refresh()

    def next_asks(self, limit: int) -> list[tuple[int, int]]:
        """The most useful questions, best first: (battle, member), one a battle at a time; empty when it is done."""
        left = limit if self.budget is None else min(limit, self.budget - self.spent)
        if left <= 0 or not len(self.pairs):
            return []
        if self._told - self._fitted > _REFRESH * max(self._told, _FIRST):
            self._refresh()
        elif self._stale:
            self._score(np.array(sorted(self._stale), dtype=np.int64))
        self._stale.clear()
        if left == 1:
            rows = np.array([self._value.argmax()])
        elif left < len(self._value):
            rows = np.argpartition(-self._value, left)[:left]
        else:
            rows = np.arange(len(self._value))
        rows = rows[self._value[rows] > 0]
        rows = rows[np.argsort(-self._value[rows], kind="stable")]
        asks = list(zip(rows.tolist(), self._who[rows].tolist(), strict=True))
        self._waiting[rows, self._who[rows]] = True
        self._value[rows] = 0.0  # until it is told
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
        if self._symbols[battle, member] != _UNASKED:
            raise UserError(f"{self.members[member].name} has already answered on battle {battle}.")
        self._symbols[battle, member] = _UNREAD if label == UNREADABLE else label
        self._waiting[battle, member] = False
        self._told += 1
        self._stale.add(battle)
        if label != UNREADABLE:
            likely = self._posterior[battle] * self._confusion[member, :, label]
            self._posterior[battle] = likely / likely.sum()

    def verdicts(self) -> AdaptiveVerdicts:
        """What is known now, everything fitted anew."""
        if len(self.pairs):
            self._refresh()
        chance = self._chance(np.arange(len(self.pairs)))
        readable = (self._symbols < _UNREAD).any(axis=1)
        label = np.where(readable, chance.argmax(axis=1), UNREADABLE)
        i, j = self.pairs[readable].T
        board = self._rate(i, j, chance[readable] @ _CREDIT) if readable.any() else self._board
        return AdaptiveVerdicts(
            posterior=chance,
            label=label,
            asked=(self._symbols != _UNASKED).sum(axis=1),
            settled=readable & (chance.max(axis=1, initial=0.0) >= self.level - 1e-9),
            strength=board.strength,
            accuracy=self._confusion[:, A, A] / (1.0 - self._confusion[:, A, _UNREAD]),
        )

    # -- the model ------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """EM from where it stands, then the table of patterns and the value of every question."""
        said = [(np.flatnonzero(s < _UNREAD), s[s < _UNREAD]) for s in self._symbols.T]
        for step in range(_ROUNDS + 1):
            self._expect(said)
            if step < _ROUNDS:
                self._maximise(said)
        self._outcome = _outcomes(self._final, self._confusion)
        self._expected = self._outcome @ _CREDIT
        i, j = self.pairs.T
        moved = self._board.bread[i] - self._board.bread[j]
        self._worth = (moved**2).sum(axis=1) * self._jitter
        self._fitted = self._told
        self._stale.clear()
        self._score(np.arange(len(self.pairs)))

    def _expect(self, said: list[tuple[IntArray, IntArray]]) -> None:
        """E step: the latent label of every battle."""
        i, j = self.pairs.T
        p = special.expit(self._board.strength[i] - self._board.strength[j])
        tie = 4.0 * self._ties * p * (1.0 - p)
        joint = np.log(np.maximum(np.stack([p - tie / 2.0, 1.0 - p - tie / 2.0, tie], axis=1), 1e-12))
        for (rows, labels), confusion in zip(said, np.log(self._confusion), strict=True):
            joint[rows] += confusion[:, labels].T
        likely = np.exp(joint - joint.max(axis=1, keepdims=True))
        self._posterior = likely / likely.sum(axis=1, keepdims=True)

    def _maximise(self, said: list[tuple[IntArray, IntArray]]) -> None:
        """M step: confusions, ties, strengths; from the battles that somebody was asked about."""
        seen = np.zeros(len(self.pairs), dtype=np.bool_)
        for member, (rows, labels) in enumerate(said):
            seen[rows] = True
            counts = np.stack([np.bincount(labels, self._posterior[rows, t], minlength=3) for t in range(3)])
            unread = int((self._symbols[:, member] == _UNREAD).sum())
            share, weight = _PRIOR_UNREAD
            silent = (unread + share * weight) / (len(rows) + unread + weight)
            self._set_confusion([member], (self._invented[member] + counts)[None], np.array([silent]))
        if not seen.any():
            return
        post, (i, j) = self._posterior[seen], self.pairs[seen].T
        p = special.expit(self._board.strength[i] - self._board.strength[j])
        weight, share = _PRIOR_TIES
        room = 4.0 * float((p * (1.0 - p)).sum())
        self._ties = float(min((post[:, TIE].sum() + weight * share) / (room + weight), 0.5))
        self._board = self._rate(i, j, post @ _CREDIT)

    def _set_confusion(self, members: Sequence[int], counts: FloatArray, silent: FloatArray) -> None:
        """P(said | latent) from counts of labels; what cannot be read says nothing of the latent label."""
        labels = counts / counts.sum(axis=2, keepdims=True)
        self._confusion[list(members), :, :3] = labels * (1.0 - silent)[:, None, None]
        self._confusion[list(members), :, _UNREAD] = silent[:, None]

    def _rate(self, i: IntArray, j: IntArray, score: FloatArray) -> Fit:
        m = self._models
        wins = np.bincount(i * m + j, score, minlength=m * m) + np.bincount(j * m + i, 1.0 - score, minlength=m * m)
        nearly_nothing = 1e-9 * (1 - np.eye(m))
        return fit(wins.reshape(m, m) + nearly_nothing, self._board.strength, _PRECISION)

    # -- what to ask ----------------------------------------------------------------------------------------------

    def _chance(self, rows: IntArray) -> FloatArray:
        """P(Y) of battles, shape (rows, 3)."""
        if not len(rows):
            return np.zeros((0, 3))
        pattern = self._symbols[rows] @ self._place
        return np.asarray(np.einsum("bt,bty->by", self._posterior[rows], self._outcome[pattern]), dtype=np.float64)

    def _score(self, rows: IntArray) -> None:
        """The best member to ask about each of these battles, and what that is worth."""
        post, symbols = self._posterior[rows], self._symbols[rows]
        pattern = symbols @ self._place
        mean = (post * self._expected[pattern]).sum(axis=1)
        value = np.zeros(symbols.shape)
        for member, place in enumerate(self._place.tolist()):
            free = np.flatnonzero(symbols[:, member] == _UNASKED)
            ahead = pattern[free, None] + (np.arange(4) - _UNASKED) * place  # rows, said (or not readable)
            joint = post[free, None, :] * self._confusion[member].T  # rows, said, latent
            score = (joint * self._expected[ahead]).sum(axis=2)
            fall = (score**2 / joint.sum(axis=2)).sum(axis=1) - mean[free] ** 2
            value[free, member] = np.where(fall > _WORTHLESS, fall, 0.0) / self._cost[member]
        done = self._chance(rows).max(axis=1) >= self.level - 1e-9
        done &= (symbols < _UNREAD).any(axis=1)
        done |= self._waiting[rows].any(axis=1)
        self._who[rows] = value.argmax(axis=1)
        self._value[rows] = np.where(done, 0.0, value.max(axis=1) * self._worth[rows])


def _final_verdicts(members: int, weights: FloatArray, rule: Rule) -> FloatArray:
    """The jury's verdict Y by pattern of votes, as P(Y | t), shape (patterns, latent, Y); patterns with gaps too.

    A jury nobody of whom could be read has no verdict; its pattern counts as a tie, which `verdicts` does not report.
    """
    size = int(_SYMBOLS**members)
    if rule == "dawid-skene":
        return np.broadcast_to(np.eye(3), (size, 3, 3))
    symbols = np.arange(size)[:, None] // _SYMBOLS ** np.arange(members) % _SYMBOLS
    votes = np.where(symbols < _UNREAD, symbols, -1)
    if rule == "weighted":
        label = weighted_labels(votes, 3, weights)[0]
    else:
        counts = np.stack([(votes == label).sum(axis=1) for label in range(3)], axis=1)
        label = np.where(2 * counts.max(axis=1) > counts.sum(axis=1), counts.argmax(axis=1), TIE)
    return np.repeat(np.eye(3)[np.where(label < 0, TIE, label)][:, None, :], 3, axis=1)


def _outcomes(final: FloatArray, confusion: FloatArray) -> FloatArray:
    """P(Y | t, votes cast) by pattern: each gap filled by its member's votes given t, one member after another."""
    m = len(confusion)
    # Member 0 is the fastest axis of the codes, so the last one here.
    table = np.array(final).reshape(*[_SYMBOLS] * m, 3, 3)
    for member in range(m):
        by_symbol = np.moveaxis(table, m - 1 - member, 0)  # a view: symbol, ..., latent, Y
        by_symbol[_UNASKED] = sum(by_symbol[said] * confusion[member, :, said, None] for said in range(4))
    return table.reshape(-1, 3, 3)


def _check(
    pairs: IntArray,
    members: Sequence[Member],
    settled: float,
    budget: int | None,
    rule: Rule,
    weights: Sequence[float] | None,
) -> None:
    if (pairs < 0).any() or (pairs[:, 0] == pairs[:, 1]).any():
        raise UserError("battles must be pairs of two different model codes (0, 1, ...), shape (battles, 2).")
    if not 1 <= len(members) <= MOST_MEMBERS:
        raise UserError(f"an adaptive jury has 1 to {MOST_MEMBERS} members, not {len(members)}.", code=2)
    for member in members:
        if not member.cost > 0:
            raise UserError(f"the cost of {member.name} is {member.cost}; it must be above 0.", code=2)
        if not 1 / 3 < member.accuracy < 1:
            raise UserError(f"the accuracy of {member.name} is {member.accuracy}; it lies between 1/3 and 1.", code=2)
    if not 1 / 3 < settled <= 1:
        raise UserError(f"settled is {settled}; it must lie above 1/3 and at most at 1, such as 0.95.", code=2)
    if budget is not None and budget < 0:
        raise UserError(f"the budget is {budget} requests; it must be 0 or more.", code=2)
    if rule not in get_args(Rule):
        raise UserError(f"no rule {rule!r} of an adaptive jury; there are {', '.join(get_args(Rule))}.", code=2)
    if (rule == "weighted") != (weights is not None) or (weights is not None and len(weights) != len(members)):
        raise UserError("the rule weighted needs a weight for each member, and no other rule takes any.", code=2)
