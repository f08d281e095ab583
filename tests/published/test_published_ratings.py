"""Published Bradley-Terry scores: LLMFAO's golden file, the public arena's order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from evalkit.stats import bradley_terry
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
