"""Published Bradley-Terry and Elo scores: LLMFAO's golden file, the public arena's order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evalkit.stats import bradley_terry, online_elo
from evalkit.stats.ratings import ELO


def test_llmfao_golden_scores(shared_file: Callable[[str], Path]) -> None:
    crowd = pd.read_csv(shared_file("llmfao/crowd-comparisons.csv"))
    golden = pd.read_csv(shared_file("llmfao/llmfao-golden.csv"))
    golden = golden[golden["algorithm"] == "bradley_terry"].set_index("item")["score"]
    winner = crowd["winner"].map({"left": "model_a", "right": "model_b", "tie": "tie"})
    votes = pd.DataFrame({"model_a": crowd["left"], "model_b": crowd["right"], "winner": winner})
    board = bradley_terry(votes, ties="half")
    score = np.exp((board.rating - 1000) / ELO)
    assert (board.n, len(board.models), board.warnings) == (8931, 59, ())
    # The published scores are strengths that sum to 1.
    np.testing.assert_allclose(score / score.sum(), golden[list(board.models)], atol=1e-9, rtol=0)


def test_llmfao_golden_elo(shared_file: Callable[[str], Path]) -> None:
    crowd = pd.read_csv(shared_file("llmfao/crowd-comparisons.csv"))
    golden = pd.read_csv(shared_file("llmfao/llmfao-golden.csv"))
    golden = golden[golden["algorithm"] == "elo"].set_index("item")["score"]
    winner = crowd["winner"].map({"left": "model_a", "right": "model_b", "tie": "tie"})
    votes = pd.DataFrame({"model_a": crowd["left"], "model_b": crowd["right"], "winner": winner})
    found = online_elo(votes, k=4.0, initial=1000.0, scale=400.0)
    assert (found.n, len(found.models), found.order) == (8931, 59, "of the rows")
    np.testing.assert_allclose(found.rating, golden[list(found.models)], atol=1e-9, rtol=0)


def test_arena_140k_order(shared_file: Callable[[str], Path]) -> None:
    votes = pd.read_csv(shared_file("arena_140k/arena_votes_140k.csv.gz"), usecols=["model_a", "model_b", "winner"])
    board = bradley_terry(votes, min_votes=50)
    assert board.models[:5] == (
        "gemini-2.5-pro",
        "gemini-2.5-pro-preview-03-25",
        "grok-4-0709",
        "o3-2025-04-16",
        "chatgpt-4o-latest-20250326",
    )
    assert board.converged and board.gradient < 1e-12
    assert {d.kind: d.count for d in board.diagnoses} == {"self_battle": 10, "few_votes": 1}
    assert board.n + board.n_excluded == len(votes)
    assert np.isfinite(board.rating).all() and (board.votes >= 50).all()
    assert (board.rank_low[0], board.rank_high[-1]) == (1, len(board.models))


def test_arena_140k_equals_arena_rank(shared_file: Callable[[str], Path]) -> None:
    reason = "arena-rank (with jax, jaxtyping, optax) is not installed"
    bradley_terry_module = pytest.importorskip("arena_rank.models.bradley_terry", reason=reason)
    data_utils = pytest.importorskip("arena_rank.utils.data_utils", reason=reason)
    votes = pd.read_csv(shared_file("arena_140k/arena_votes_140k.csv.gz"), usecols=["model_a", "model_b", "winner"])
    board = bradley_terry(votes, min_votes=50)
    kept = votes["model_a"].isin(board.models) & votes["model_b"].isin(board.models)
    data = data_utils.PairDataset.from_pandas(votes[kept & (votes["model_a"] != votes["model_b"])])

    # Left to itself it stops up to 0.07 points before the maximum, so its tolerances are tightened here.
    model = bradley_terry_module.BradleyTerry(len(data.competitors), ftol=1e-16, gtol=1e-13)

    def peer(ridge: float) -> pd.DataFrame:
        model.hessian_reg = ridge
        found = model.compute_ratings_and_cis(data)
        columns = {key: np.asarray(found[key]) for key in ("ratings", "rating_lower", "rating_upper")}
        return pd.DataFrame(columns, index=found["competitors"]).loc[list(board.models)]

    narrow, exact = peer(model.hessian_reg), peer(1e-8)
    np.testing.assert_allclose(board.rating, exact["ratings"] - exact["ratings"].mean() + 1000, atol=0.01)
    # Its sandwich lacks the factor n / (n - models + 1), here 1.0004.
    width = (exact["rating_upper"] - exact["rating_lower"]) * np.sqrt(board.n / (board.n - len(board.models) + 1))
    np.testing.assert_allclose(board.upper - board.lower, width, rtol=1e-4)
    # The ridge that it adds to its Hessian by default makes each interval narrower; ours has none.
    assert (narrow["rating_upper"] - narrow["rating_lower"] < 0.9995 * (board.upper - board.lower)).all()
