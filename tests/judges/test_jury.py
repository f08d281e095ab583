"""Juries: the rules on small tables, what is said in the row, weights from the ledger, and what they promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings
from evalkit.stats.juries import log_odds_weights
from evalkit.stats.stacking import expected_hits, stacked_weights
from evalkit.store import BattleRow, Item, Ledger, VerdictRow
from evalkit.store.labels import labels_of
from evalkit.store.rows import WINNERS
from judges.jury import Jury, jury_grades, jury_verdicts, learn_weights, learned_weights

A, B, TIE, BAD = range(4)
NAN = float("nan")
Labels = NDArray[np.int64]


def one(votes: list[int], jury: Jury, probabilities: list[float] | None = None) -> Any:
    given = None if probabilities is None else [probabilities]
    (found,) = jury_verdicts([votes], [5], jury, 9, "overall", probabilities=given)
    return found


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([A, A, B], "model_a"),
        ([A, B], "tie"),
        ([A, B, TIE], "tie"),
        ([BAD, BAD, TIE], "both_bad"),
        ([B, -1, -1], "model_b"),
        ([A, A, B, B], "tie"),
        ([-1, -1], None),
    ],
)
def test_the_strict_majority_of_readable_votes_wins(votes: list[int], winner: str | None) -> None:
    found = one(votes, Jury("jury", tuple(f"m{i}" for i in range(len(votes)))))
    assert (found.battle_id, found.annotator_id, found.winner, found.criterion) == (5, 9, winner, "overall")
    assert (found.error is None) == (winner is not None) == (found.probability is not None)


def test_the_row_tells_the_tally_and_the_share() -> None:
    found = one([A, A, B, TIE, -1], Jury("jury", tuple("abcde")))
    assert (found.winner, found.order) == ("tie", "")
    assert found.rationale == "majority: 2 model_a, 1 model_b, 1 tie, 1 without a readable verdict"
    assert found.probability == pytest.approx(2.5 / 4)


def test_weights_outvote_and_turn_votes_around() -> None:
    weights = {"good": 2.0, "bad": 0.5, "worse": 0.5, "wrong": -3.0, "idle": 0.0}
    jury = Jury("jury", tuple(weights), "weighted", weights)
    found = one([A, B, B, -1, B], jury)
    assert found.winner == "model_a"
    odds = np.exp([2.0, 1.0, 0.0])
    assert found.probability == pytest.approx((odds[0] + odds[2] / 2) / odds.sum())
    assert one([-1, A, -1, A, -1], jury).winner == "tie"  # b and tie gain as much from what the inverted judge says
    assert one([-1, BAD, BAD, -1, -1], jury).winner == "both_bad"
    silent = one([-1, -1, -1, -1, A], jury)
    assert (silent.winner, silent.error) == (None, "no member gave a readable verdict")


def test_the_mean_takes_probabilities_where_there_are_any() -> None:
    jury = Jury("jury", ("a", "b", "c"), "mean")
    assert one([A, A, B], jury).probability == pytest.approx(2 / 3)
    found = one([A, A, B], jury, [0.55, 0.6, 0.1])
    assert (found.winner, found.probability) == ("model_b", pytest.approx(1.25 / 3))
    assert one([A, A, -1], jury, [0.75, NAN, 0.1]).probability == pytest.approx(1.75 / 2)
    assert one([A, B, TIE], jury).winner == "tie"


def test_dawid_skene_finds_the_good_members_without_a_truth() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=2000)
    right = rng.random((2000, 4)) < [0.95, 0.9, 0.55, 0.52]
    labels = np.where(right, truth[:, None], 1 - truth[:, None])
    accuracy = {}
    for aggregation in ("majority", "dawid-skene"):
        rows = jury_verdicts(labels, range(2000), Jury("j", tuple("abcd"), aggregation), 1, "overall")  # type: ignore[arg-type]
        accuracy[aggregation] = np.mean([row.winner == WINNERS[t] for row, t in zip(rows, truth, strict=True)])
    assert accuracy["dawid-skene"] > 0.94 > accuracy["majority"] + 0.05


def test_grades_are_averaged_and_failures_stay_rows() -> None:
    values = [[8, 6, NAN], [NAN, NAN, NAN], [2, 4, 9]]
    rows = jury_grades(values, [1, 2, 3], Jury("j", tuple("abc"), "mean"), 7, "helpfulness")
    assert [row.value for row in rows] == [7, None, 5]
    assert rows[1].error == "no member gave a readable grade"
    assert rows[0].detail == {"members": {"a": 8.0, "b": 6.0}, "spread": pytest.approx(2**0.5)}
    weighted = Jury("j", tuple("abc"), "weighted", {"a": 3, "b": 1, "c": -1})
    assert [row.value for row in jury_grades(values, [1, 2, 3], weighted, 7, "x")] == [7.5, None, 2.5]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Jury("j", ()), "no members"),
        (lambda: Jury("j", ("a",), "median"), "there are majority, weighted"),  # type: ignore[arg-type]
        (lambda: Jury("j", ("a",), "weighted"), "give the weights"),
        (lambda: Jury("j", ("a", "b"), "weighted", {"a": 1}), "no weight for its member 'b'"),
        (lambda: one([A], Jury("j", ("a", "b"))), r"shape \(1, 1\); \(1, 2\) is needed"),
        (lambda: one([4], Jury("j", ("a",))), "the label of item 1 by judge 1 is 4"),
        (lambda: jury_grades([[1]], [1], Jury("j", ("a",)), 1, "x"), "aggregation must be mean"),
        (lambda: jury_grades([[1]], [1], Jury("j", ("a", "b"), "mean"), 1, "x"), "is needed"),
    ],
)
def test_wrong_input_is_a_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()


# -- what the weights promise ---------------------------------------------------------------------------------------

# Members: accuracy, the group that errs alike (0 for none), and on which share of the items it does.
SETTINGS: dict[str, list[tuple[float, int, float]]] = {
    "copies": [(0.8, 0, 0.0)] + [(0.65, 1, 0.95)] * 4,
    "correlated": [(0.75, 0, 0.0)] + [(0.72, 1, 0.7)] * 3 + [(0.6, 0, 0.0)] * 2,
    "one bad": [(0.75, 0, 0.0)] * 3 + [(0.4, 0, 0.0)],
    "inverted": [(0.75, 0, 0.0)] * 2 + [(0.15, 0, 0.0)],
    "one good": [(0.9, 0, 0.0)] + [(0.5, 0, 0.0)] * 4,
    "equals": [(0.7, 0, 0.0)] * 5,
}


def simulate(
    rng: np.random.Generator, n: int, members: list[tuple[float, int, float]], k: int
) -> tuple[Labels, Labels]:
    """Labels, shape (n, members), and the truth; errors fall evenly on the wrong labels."""
    truth = rng.integers(k, size=n)
    common = {group: (rng.random(n), rng.integers(1, k, n)) for group in sorted({group for _, group, _ in members})}
    columns = []
    for accuracy, group, share in members:
        alike = rng.random(n) < (share if group else 0.0)
        draw = np.where(alike, common[group][0], rng.random(n))
        shift = np.where(alike, common[group][1], rng.integers(1, k, n))
        columns.append(np.where(draw < accuracy, truth, (truth + shift) % k))
    return np.stack(columns, axis=1), truth


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_weighted_jury_is_not_worse_than_its_best_member(name: str, k: int) -> None:
    """On items nothing was learned from; 400 to learn from, 12 seeds, one-sided 2.5 % shared by the members."""
    members = SETTINGS[name]
    gains, majority, independent = [], [], []
    for seed in range(12):
        rng = np.random.default_rng([seed, k, len(members)])
        learn, known = simulate(rng, 400, members, k)
        held, truth = simulate(rng, 1000, members, k)
        weights = stacked_weights(learn, known, n_labels=k, seed=seed)
        hits = expected_hits(held, truth, k, weights.weight)
        alone = np.stack([expected_hits(held, truth, k, one) for one in np.eye(len(members))], axis=1)
        loss = alone - hits[:, None]
        z = loss.mean(axis=0) / np.maximum(loss.std(axis=0, ddof=1) / np.sqrt(len(held)), 1e-12)
        assert z.max() < 2.9, weights.method
        best = alone.mean(axis=0).max()
        gains.append(hits.mean() - best)
        majority.append(expected_hits(held, truth, k, np.ones(len(members))).mean() - best)
        independent.append(
            expected_hits(held, truth, k, log_odds_weights(learn, known, n_labels=k).weight).mean() - best
        )
    assert np.mean(gains) > -0.003
    if name in ("copies", "one good") or (name, k) == ("inverted", 2):
        assert np.mean(majority) < -0.03  # the plain majority loses to the best member
    if name == "copies":
        assert np.mean(independent) < -0.1  # and so do weights that take the copies for witnesses
    if name in ("equals", "inverted", "one bad"):
        assert np.mean(gains) > 0.03


def test_too_little_to_tell_leaves_the_best_judge() -> None:
    labels, truth = simulate(np.random.default_rng(1), 60, [(0.9, 0, 0.0), (0.75, 0, 0.0), (0.75, 0, 0.0)], 2)
    found = stacked_weights(labels, truth, judges=["x", "y", "z"], n_labels=2)
    assert found.method.startswith("the best judge decides; no jury was reliably better")
    assert found.weight[0] > 1 > 100 * abs(found.weight[1:]).max()
    # Where the best judge is silent the others speak.
    assert expected_hits(np.array([[-1, 0, 0]]), np.array([0]), 2, found.weight).tolist() == [1.0]
    with pytest.raises(UserError, match="known for 1 groups"):
        stacked_weights(labels, truth, clusters=np.zeros(60))


# -- in a ledger ----------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[tuple[Ledger, list[int], Labels]]:
    """300 battles: a good judge (in both orders), a poor and an inverted one, and two of three people on each."""
    rng = np.random.default_rng(3)
    labels, truth = simulate(rng, 300, [(0.8, 0, 0.0), (0.5, 0, 0.0), (0.1, 0, 0.0)], 2)
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        models = ledger.add_models([ModelSettings("openai", "a"), ModelSettings("openai", "b")])
        items = [Item(({"role": "user", "content": f"q{i}"},)) for i in range(300)]
        _, ids = ledger.add_dataset("d", items)
        battles = ledger.add_battles([BattleRow(item, models[0], models[1]) for item in ids])
        members = [ledger.add_annotator("judge", name, {"name": name}) for name in ("good", "poor", "inverted")]
        people = [ledger.add_annotator("human", f"h{i}", {}) for i in range(3)]
        rows = []
        for i, battle in enumerate(battles):
            for member, label in zip(members, labels[i], strict=True):
                rows.append(VerdictRow(battle, member, "ab", WINNERS[label], probability=0.9 if label == A else 0.1))
            second = WINNERS[1 - labels[i, 0]] if i < 30 else WINNERS[labels[i, 0]]
            rows.append(VerdictRow(battle, members[0], "ba", second, probability=0.5))
            for person in (people[i % 3], people[(i + 1) % 3]):
                rows.append(VerdictRow(battle, person, "", WINNERS[truth[i]]))
        ledger.add_verdicts(None, rows)
        yield ledger, members, labels


def test_labels_are_read_as_a_matrix(judged: tuple[Ledger, list[int], Labels]) -> None:
    ledger, members, labels = judged
    found, likely = labels_of(ledger, [members[1], members[0]], "overall", [31, 1, 999])
    assert found.tolist() == [[labels[30, 1], labels[30, 0]], [labels[0, 1], TIE], [-1, -1]]
    assert likely[0, 1] == pytest.approx((0.5 + (0.9 if labels[30, 0] == A else 0.1)) / 2)
    assert np.isnan(likely[2]).all()


def test_weights_are_learned_from_people(judged: tuple[Ledger, list[int], Labels]) -> None:
    ledger, members, _ = judged
    found = learned_weights(ledger, members, "overall")
    assert (found.judges, found.n, found.n_failed) == (("good", "poor", "inverted"), 900, 0)
    assert found.weight[0] > 1.5 > 1 > found.weight[1] and found.weight[2] < -1
    assert learn_weights(ledger, members, "overall") == dict(zip(found.judges, found.weight.tolist(), strict=True))
    # Held against a judge of the ledger, such as a verifier.
    assert learned_weights(ledger, members[1:], "overall", humans="good").answered[0] == 300


@pytest.mark.parametrize(
    ("criterion", "humans", "sentence"),
    [
        ("safety", "*", "need 100 battles that people voted on too; on 'safety' there are 0 of the 0"),
        ("overall", "expert_*", "has no votes of 'expert_\\*'"),
        ("overall", "good", "has no votes of 'good'"),
    ],
)
def test_too_few_votes_to_learn_from(
    judged: tuple[Ledger, list[int], Labels], criterion: str, humans: str, sentence: str
) -> None:
    ledger, members, _ = judged
    with pytest.raises(UserError, match=sentence):
        learned_weights(ledger, members, criterion, humans)
