"""Bradley-Terry: known answers, invariances, coverage, and a diagnosis for each thing that can be wrong."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import VoteCounts, bradley_terry, count_votes
from evalkit.stats.ratings import ELO


def votes_of(*battles: tuple[str, str, str, int]) -> pd.DataFrame:
    rows = [(a, b, winner) for a, b, winner, times in battles for _ in range(times)]
    return pd.DataFrame(rows, columns=["model_a", "model_b", "winner"])


def simulate(rng: np.random.Generator, strength: np.ndarray, n: int, tie_share: float = 0.0) -> pd.DataFrame:
    m = len(strength)
    i = rng.integers(m, size=n)
    j = (i + rng.integers(1, m, size=n)) % m
    a_wins = rng.random(n) < 1 / (1 + np.exp(strength[j] - strength[i]))
    winner = np.where(a_wins, "model_a", "model_b").astype(object)
    winner[rng.random(n) < tie_share] = "tie"
    names = np.array([f"m{k:02d}" for k in range(m)])
    return pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": winner, "item_id": np.arange(n)})


CYCLE = [("a", "b", "model_a", 6), ("a", "b", "model_b", 4), ("b", "c", "model_a", 7), ("c", "a", "model_a", 3)]


def kinds(board) -> list[str]:
    return [d.kind for d in board.diagnoses]


def test_two_models_have_the_closed_form() -> None:
    board = bradley_terry(votes_of(("x", "y", "model_a", 30), ("x", "y", "model_b", 10)), anchor="y", center=0)
    assert board.models == ("x", "y")
    assert board.rating[0] == pytest.approx(ELO * np.log(3), abs=1e-9)
    # Saturated: the sandwich is the binomial variance of the log-odds, 1 / (n p q), times n / (n - 1).
    se = ELO * np.sqrt(1 / (40 * 0.75 * 0.25) * 40 / 39)
    assert board.upper[0] - board.rating[0] == pytest.approx(1.959964 * se, rel=1e-6)
    assert board.lower[1] == board.upper[1] == 0.0
    assert board.reference == "y = 0"
    assert (board.rank_low.tolist(), board.rank_high.tolist()) == ([1, 2], [1, 2])


def test_score_equations_hold() -> None:
    votes = simulate(np.random.default_rng(3), np.linspace(-1, 1, 7), 900, tie_share=0.2)
    board = bradley_terry(votes)
    rating = dict(zip(board.models, board.rating, strict=True))
    expected, won = dict.fromkeys(rating, 0.0), dict.fromkeys(rating, 0.0)
    for a, b, winner in votes[["model_a", "model_b", "winner"]].itertuples(index=False):
        p = 1 / (1 + 10 ** ((rating[b] - rating[a]) / 400))
        y = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}[winner]
        expected[a], expected[b] = expected[a] + p, expected[b] + 1 - p
        won[a], won[b] = won[a] + y, won[b] + 1 - y
    for model in rating:
        assert expected[model] == pytest.approx(won[model], abs=1e-8)
    assert board.converged and board.gradient < 1e-12
    assert board.rating.mean() == pytest.approx(1000)


def test_sandwich_equals_the_sum_over_votes() -> None:
    votes = simulate(np.random.default_rng(4), np.linspace(-1, 1, 5), 400, tie_share=0.3)
    independent = bradley_terry(votes)
    clustered = bradley_terry(votes, cluster="item_id")  # one vote an item
    # CR1 with singleton clusters differs from the counts' factor only.
    factor = (400 / 396) / (400 / 399)
    np.testing.assert_allclose(independent.covariance, clustered.covariance * factor, rtol=1e-9)
    assert clustered.df == 399


@pytest.mark.parametrize("change", ["rows", "sides", "names", "categorical", "object"])
def test_invariances(change: str) -> None:
    votes = simulate(np.random.default_rng(5), np.linspace(-1, 1, 6), 500, tie_share=0.2)
    board = bradley_terry(votes).frame()
    names = {f"m{k:02d}": f"m{k:02d}" for k in range(6)}
    if change == "rows":
        votes = votes.sample(frac=1, random_state=1)
    elif change == "sides":
        swap = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
        votes = votes.rename(columns=swap).assign(winner=votes["winner"].map(swap))
    elif change == "names":
        names = {f"m{k:02d}": f"x{(k * 5 + 2) % 6}" for k in range(6)}
        votes = votes.replace({"model_a": names, "model_b": names})
    else:
        kind = "category" if change == "categorical" else object
        votes = votes.astype({"model_a": kind, "model_b": kind, "winner": kind})
    other = bradley_terry(votes).frame().set_index("model").loc[[names[name] for name in board["model"]]].reset_index()
    pd.testing.assert_frame_equal(board.drop(columns="model"), other.drop(columns="model"), rtol=1e-9)


def test_tie_policies() -> None:
    votes = votes_of(
        ("x", "y", "model_a", 30), ("x", "y", "model_b", 10), ("x", "y", "tie", 20), ("y", "x", "both_bad", 40)
    )
    half, drop = bradley_terry(votes), bradley_terry(votes, ties="drop")
    apart = bradley_terry(votes, ties="half", both_bad="drop")
    gap = {
        name: board.rating[0] - board.rating[1] for name, board in (("half", half), ("drop", drop), ("apart", apart))
    }
    assert gap["half"] == pytest.approx(ELO * np.log(60 / 40))
    assert gap["drop"] == pytest.approx(ELO * np.log(3))
    assert gap["apart"] == pytest.approx(ELO * np.log(40 / 20))
    assert (half.n, drop.n, apart.n) == (100, 40, 60)
    assert (half.n_dropped, drop.n_dropped, apart.n_dropped) == (0, 60, 40)
    assert (apart.ties, apart.both_bad, drop.both_bad) == ("half", "drop", "drop")
    assert drop.votes.tolist() == [40, 40]


def test_weights_repeat_votes() -> None:
    votes = simulate(np.random.default_rng(6), np.linspace(-1, 1, 4), 200)
    weights = np.random.default_rng(7).integers(1, 4, size=200)
    weighted = bradley_terry(votes, weights=weights)
    repeated = bradley_terry(votes.loc[votes.index.repeat(weights)])
    assert weighted.models == repeated.models
    np.testing.assert_allclose(weighted.rating, repeated.rating, rtol=1e-10)
    assert weighted.n == 200
    # Repeats pretend to more votes than there were; and the scale of the weights says nothing.
    assert (weighted.upper - weighted.lower > repeated.upper - repeated.lower).all()
    np.testing.assert_allclose(bradley_terry(votes, weights=weights * 10).upper, weighted.upper, rtol=1e-9)


def test_clusters_with_weights_match_row_sums() -> None:
    votes = simulate(np.random.default_rng(8), np.linspace(-1, 1, 4), 300)
    votes["item_id"] = votes["item_id"] % 30
    weights = np.random.default_rng(9).uniform(0.5, 2, size=300)
    board = bradley_terry(votes, weights=weights, cluster="item_id")
    assert board.df == 29
    place = {name: i for i, name in enumerate(board.models)}
    scores, information = np.zeros((30, 4)), np.zeros((4, 4))
    for row, (a, b, winner, item) in enumerate(votes.itertuples(index=False)):
        direction = np.zeros(4)
        direction[place[a]], direction[place[b]] = 1, -1
        p = 1 / (1 + 10 ** (-(direction @ board.rating) / 400))
        scores[item] += weights[row] * ((winner == "model_a") - p) * direction
        information += weights[row] * p * (1 - p) * np.outer(direction, direction)
    bread = np.linalg.pinv(information)
    np.testing.assert_allclose(
        board.covariance, ELO**2 * bread @ scores.T @ scores @ bread * 30 / 29, rtol=1e-6, atol=1e-6
    )


def test_intervals_cover_at_the_stated_rate() -> None:
    rng = np.random.default_rng(10)
    strength = np.linspace(-1, 1, 6)
    truth, rank = 1000 + ELO * strength, np.arange(6, 0, -1)
    covered, ranked = [], []
    for _ in range(200):
        board = bradley_terry(simulate(rng, strength, 500)).frame().sort_values("model")
        covered.append(((board["lower"] <= truth) & (truth <= board["upper"])).to_numpy())
        ranked.append(((board["rank_low"] <= rank) & (rank <= board["rank_high"])).all())
    assert 0.93 <= np.mean(covered) <= 0.97
    assert np.mean(ranked) >= 0.95


def test_clustered_intervals_cover_where_independent_ones_do_not() -> None:
    rng = np.random.default_rng(11)
    hits: dict[str | None, list[bool]] = {None: [], "item_id": []}
    for _ in range(100):
        # Four equal models; on each of 40 items the models differ by a taste shared by all 20 votes there.
        taste, item = rng.normal(scale=1.5, size=(40, 4)), np.repeat(np.arange(40), 20)
        i = rng.integers(4, size=800)
        j = (i + rng.integers(1, 4, size=800)) % 4
        a_wins = rng.random(800) < 1 / (1 + np.exp(taste[item, j] - taste[item, i]))
        names = np.array(list("abcd"))
        columns = {"model_a": names[i], "model_b": names[j], "winner": np.where(a_wins, "model_a", "model_b")}
        votes = pd.DataFrame({**columns, "item_id": item})
        for cluster, found in hits.items():
            board = bradley_terry(votes, cluster=cluster)
            found += ((board.lower <= 1000) & (board.upper >= 1000)).tolist()
    assert np.mean(hits["item_id"]) >= 0.92
    assert np.mean(hits[None]) < 0.85


def test_undefeated_model_does_not_distort_the_others() -> None:
    alone = bradley_terry(votes_of(*CYCLE))
    board = bradley_terry(votes_of(*CYCLE, ("king", "a", "model_a", 9), ("b", "king", "model_b", 2)))
    assert kinds(board) == ["undefeated"] and "king" in board.warnings[0]
    assert board.models == (*alone.models, "king")
    np.testing.assert_allclose(board.rating[:3], alone.rating, rtol=1e-10)
    np.testing.assert_allclose(board.upper[:3], alone.upper, rtol=1e-10)
    assert np.isnan(board.rating[3]) and (board.lower[3], board.upper[3]) == (-np.inf, np.inf)
    assert (board.rank_low[3], board.rank_high[3]) == (1, 4)
    assert (board.rank_high[:3] - alone.rank_high == 1).all()
    assert board.votes[3] == 11


def test_winless_and_separated_models() -> None:
    board = bradley_terry(
        votes_of(
            *CYCLE,
            ("a", "last", "model_a", 5),
            ("p", "q", "model_a", 2),
            ("q", "p", "model_a", 2),
            ("p", "a", "model_a", 2),
        )
    )
    found = {d.kind: d.models for d in board.diagnoses}
    assert found == {"winless": ("last",), "separated": ("p", "q")}
    assert np.isnan(board.rating[3:]).all() and np.isfinite(board.rating[:3]).all()


def test_one_sided_pair_has_no_rating() -> None:
    board = bradley_terry(votes_of(("x", "y", "model_a", 12)))
    assert kinds(board) == ["no_comparison", "undefeated", "winless"]
    assert np.isnan(board.rating).all() and np.isinf(board.lower).all()
    assert (board.rank_low.tolist(), board.rank_high.tolist()) == ([1, 1], [2, 2])
    assert board.frame()["votes"].tolist() == [12, 12]


def test_islands_are_not_ranked_across() -> None:
    board = bradley_terry(votes_of(*CYCLE, ("p", "q", "model_a", 50), ("q", "p", "model_a", 5)))
    found = {d.kind: d.models for d in board.diagnoses}
    assert found == {"disconnected": ("p", "q")}
    assert board.islands == (("a", "b", "c"), ("p", "q"))
    far = np.isin(board.models, ["p", "q"])
    assert np.isnan(board.rating[far]).all() and (board.rank_low[far] == 1).all() and (board.rank_high[far] == 5).all()
    # Two more models of unknown place could stand above or below each rated one.
    assert (board.rank_high[~far] >= 3).all() and (board.rank_low[~far] <= 3).all()


def test_faulty_rows_are_counted_not_read_as_ties() -> None:
    clean = votes_of(*CYCLE)
    faults = pd.DataFrame(
        [
            ("a", "b", "Tie!"),
            ("a", "b", None),
            ("b", "c", ""),
            ("a", "a", "model_a"),
            (None, "b", "model_a"),
            ("a", " ", "tie"),
        ],
        columns=clean.columns,
    )
    board = bradley_terry(pd.concat([faults, clean], ignore_index=True))
    found = {d.kind: d.count for d in board.diagnoses}
    assert found == {"missing_model": 2, "unknown_label": 1, "missing_winner": 2, "self_battle": 1}
    assert any("Tie!" in sentence and "row 1" in sentence for sentence in board.warnings)
    assert (board.n, board.n_excluded) == (20, 6)
    pd.testing.assert_frame_equal(board.frame(), bradley_terry(clean).frame())


def test_ties_only_show_no_variation() -> None:
    board = bradley_terry(votes_of(("x", "y", "tie", 5)))
    assert kinds(board) == ["no_variation"]
    assert board.rating.tolist() == [1000, 1000] and np.isinf(board.upper).all()
    assert board.rank_high.tolist() == [2, 2]


def test_a_model_whose_votes_do_not_count_is_no_island() -> None:
    board = bradley_terry(votes_of(*CYCLE, ("a", "shy", "tie", 4)), ties="drop")
    assert {d.kind: d.models for d in board.diagnoses} == {"no_votes": ("shy",)}
    assert board.islands == (("a", "b", "c"),) and np.isnan(board.rating[3]) and board.votes[3] == 0


def test_models_without_an_interval_have_no_rank() -> None:
    votes = votes_of(("a", "b", "model_a", 1), ("b", "a", "model_a", 1), ("a", "c", "tie", 1), ("c", "a", "model_b", 1))
    board = bradley_terry(votes.assign(item_id=[1, 1, 2, 2]), cluster="item_id")
    # Within each item the scores cancel, so the clustered covariance is zero.
    assert kinds(board) == ["few_clusters", "no_variation"]
    assert (board.rank_low == 1).all() and (board.rank_high == 3).all()


def test_vote_floor_holds_for_those_that_remain() -> None:
    votes = votes_of(*CYCLE, ("a", "rare", "model_a", 1), ("rare", "b", "model_a", 1))
    board = bradley_terry(votes, min_votes=5)
    assert set(board.models) == {"a", "b", "c"} and kinds(board) == ["few_votes"]
    assert (board.votes >= 5).all() and board.n + board.n_excluded == len(votes)
    chain = votes_of(("a", "b", "model_a", 3), ("b", "c", "model_a", 3))
    empty = bradley_terry(chain, min_votes=4)
    assert empty.models == () and empty.frame().empty and kinds(empty) == ["few_votes", "no_comparison"]


def test_one_cluster_gives_no_interval() -> None:
    board = bradley_terry(votes_of(*CYCLE).assign(item_id="only"), cluster="item_id")
    assert kinds(board) == ["few_clusters"]
    assert np.isinf(board.upper).all() and (board.rank_high == 3).all()


def test_counts_give_the_same_board() -> None:
    votes = simulate(np.random.default_rng(12), np.linspace(-1, 1, 5), 300, tie_share=0.2)
    pd.testing.assert_frame_equal(bradley_terry(votes).frame(), bradley_terry(count_votes(votes)).frame())


def test_steep_and_sparse_boards_converge() -> None:
    chain = [
        (f"m{i}", f"m{i + 1}", winner, times) for i in range(9) for winner, times in (("model_a", 999), ("model_b", 1))
    ]
    board = bradley_terry(votes_of(*chain))
    assert board.converged and board.models[0] == "m0"
    np.testing.assert_allclose(-np.diff(board.rating), ELO * np.log(999), rtol=1e-9)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"anchor": "z"}, "anchor model 'z' is not among the rated models"),
        ({"ties": "win"}, "must be one of half, davidson, rao-kupper, drop"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"cluster": "voter"}, "lack the column"),
        ({"weights": [1.0]}, "shape"),
        ({"weights": [-1.0] * 20}, "weight of vote 1"),
    ],
)
def test_bad_options_end_in_a_sentence(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bradley_terry(votes_of(*CYCLE), **options)


def test_bad_frames_end_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"lack the column.*winner"):
        bradley_terry(pd.DataFrame({"model_a": ["x"], "model_b": ["y"]}))
    with pytest.raises(UserError, match="vote 2 has no item_id"):
        bradley_terry(votes_of(*CYCLE).assign(item_id=["q", None] + ["q"] * 18), cluster="item_id")
    with pytest.raises(UserError, match="need the votes themselves"):
        bradley_terry(count_votes(votes_of(*CYCLE)), cluster="item_id")


def test_no_votes_is_an_empty_board() -> None:
    board = bradley_terry(votes_of())
    assert board.frame().empty and board.n == 0 and kinds(board) == ["no_comparison"]


def test_no_jitter_narrows_the_intervals() -> None:
    # A chain is saturated: the variance of each step is 1 / (n p q), and those of a longer way add up. A ridge on the
    # Hessian, as peers add, shrinks the long ways most.
    shares = np.linspace(0.3, 0.8, 11)
    battles = [
        (f"m{i:02d}", f"m{i + 1:02d}", winner, round(40 * share))
        for i, p in enumerate(shares)
        for winner, share in (("model_a", p), ("model_b", 1 - p))
    ]
    board = bradley_terry(votes_of(*battles))
    won = np.array([times for *_, winner, times in battles if winner == "model_a"])
    lost = np.array([times for *_, winner, times in battles if winner == "model_b"])
    n = (won + lost).sum()
    variance = (1 / won + 1 / lost).cumsum() * n / (n - 11)
    for steps in (1, 5, 11):
        gap = board.difference("m00", f"m{steps:02d}")
        assert gap.difference == pytest.approx(ELO * np.log(won / lost)[:steps].sum(), abs=1e-8)
        assert gap.upper - gap.difference == pytest.approx(1.959964 * ELO * np.sqrt(variance[steps - 1]), rel=1e-6)


def test_differences_have_their_own_intervals() -> None:
    votes = simulate(np.random.default_rng(13), np.linspace(-1, 1, 5), 600, tie_share=0.2)
    board = bradley_terry(votes)
    best, last = board.models[0], board.models[-1]
    gap, back = board.difference(best, last), board.difference(last, best)
    assert gap.difference == pytest.approx(board.rating[0] - board.rating[-1])
    assert (back.difference, back.lower, back.upper) == (-gap.difference, -gap.upper, -gap.lower)
    assert gap.win_probability == pytest.approx(1 / (1 + 10 ** (-gap.difference / 400)))
    # Whatever the reference, a difference is the same; and anchored there, it is the rating's own interval.
    anchored = bradley_terry(votes, anchor=last, center=0)
    assert anchored.difference(best, last).upper == pytest.approx(gap.upper, rel=1e-9)
    assert anchored.upper[0] == pytest.approx(gap.upper, rel=1e-9)
    assert board.difference(best, best).upper == 0.0
    assert (gap.p_value < 0.05) == (gap.lower > 0)
    with pytest.raises(UserError, match="'nobody' is not on the board"):
        board.difference("nobody", best)


def test_no_difference_across_islands() -> None:
    gap = bradley_terry(votes_of(*CYCLE, ("p", "q", "model_a", 50), ("q", "p", "model_a", 5))).difference("p", "a")
    assert np.isnan(gap.difference) and (gap.lower, gap.upper, gap.p_value) == (-np.inf, np.inf, 1.0)


def test_missing_winners_move_nothing_under_any_policy() -> None:
    votes = simulate(np.random.default_rng(14), np.linspace(-1, 1, 4), 300, tie_share=0.2)
    gone = votes.head(60).assign(winner=None)
    for ties in ("half", "davidson", "rao-kupper", "drop"):
        board = bradley_terry(pd.concat([gone, votes], ignore_index=True), ties=ties)
        pd.testing.assert_frame_equal(board.frame(), bradley_terry(votes, ties=ties).frame())
        assert board.n_excluded == 60 and kinds(board) == ["missing_winner"]


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_extreme_counts_end_in_numbers_or_a_diagnosis(ties: str) -> None:
    for a_wins, b_wins, tied in ((1e9, 1, 0), (1e12, 1, 1), (1, 1, 1e9), (1e-9, 1e-5, 1e-9)):
        plane = np.zeros((2, 2, 4))
        plane[0, 1] = a_wins, b_wins, tied, 0
        board = bradley_terry(VoteCounts(("x", "y"), plane, plane, plane, 0, ()), ties=ties)
        assert np.isfinite(board.rating).all() and board.converged != ("not_converged" in kinds(board))


def test_it_does_not_stop_before_the_maximum() -> None:
    # Lopsided and sparse: far from where Newton's method starts.
    rng = np.random.default_rng(15)
    for _ in range(20):
        board = bradley_terry(simulate(rng, np.linspace(-4, 4, 12), 400))
        assert board.converged and board.gradient < 1e-11
