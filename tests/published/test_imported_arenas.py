"""Published arenas imported into a ledger: every command gives the published figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evalkit.report.board import leaderboard
from evalkit.stats import audit_judge, judge_agreement
from evalkit.stats.ratings import ELO
from evalkit.store import Ledger
from evalkit.store.formats.generic import ledger_lengths, ledger_votes
from evalkit.store.formats.llmfao import import_llmfao
from evalkit.store.formats.mt_bench import import_mt_bench
from evalkit.store.formats.mt_bench_out import export_mt_bench

# judge, turn: (agree, n) with ties, (agree, n) without ties
TABLE_5 = {
    ("gpt4_pair", "1"): ((886, 1343), (727, 859)),
    ("gpt4_pair", "2"): ((871, 1325), (731, 864)),
    ("humans", "1"): ((454, 721), (388, 479)),
    ("humans", "2"): ((471, 707), (388, 474)),
}
Shared = Callable[[str], Path]


def read(found: Any) -> dict[str, tuple[int, int]]:
    return {line.what: (line.read, line.errors) for line in found.lines}


def table_5(ledger: Ledger) -> dict[tuple[str, str], tuple[tuple[int, int], tuple[int, int]]]:
    found = judge_agreement(ledger_votes(ledger), judges="gpt4_*", annotators="expert_*", group_by="turn")
    return {
        (row.judge, row.group): (
            (round(row.agreement * row.n), row.n),
            (round(row.agreement_no_ties * row.n_no_ties), row.n_no_ties),
        )
        for row in found.rows
    }


def test_mt_bench(shared_file: Shared, tmp_path: Path) -> None:
    folder = shared_file("mt_bench")
    with Ledger.open(str(tmp_path / "mt.db")) as ledger:
        assert read(import_mt_bench(ledger, [folder])) == {
            "items": (80, 0),
            "models": (6, 0),
            "battles": (2400, 0),
            "verdicts of gpt4_pair": (4800, 0),
            "verdicts of 65 humans": (3355, 0),
        }
        assert table_5(ledger) == TABLE_5
        audit = audit_judge(ledger_votes(ledger), "gpt4_pair", human="expert_*").frame().set_index("check")
        assert audit.loc["swap_consistency", ["value", "n"]].tolist() == [2020 / 2400, 2400]
        assert audit.loc["first_slot", "flag"] == "not measured"  # the file does not say it
        board = leaderboard(ledger, judges=["gpt4_pair"])
        assert (board.rows[0].model, board.n) == ("gpt-4", 2400)
        assert not any(line.new for line in import_mt_bench(ledger, [folder]).lines)
        export_mt_bench(ledger, tmp_path / "out")
    with Ledger.open(str(tmp_path / "again.db")) as ledger:
        import_mt_bench(ledger, [tmp_path / "out"])
        assert table_5(ledger) == TABLE_5


def test_llmfao(shared_file: Shared, tmp_path: Path) -> None:
    folder = shared_file("llmfao")
    with Ledger.open(str(tmp_path / "fao.db")) as ledger:
        assert read(import_llmfao(ledger, [folder])) == {
            "items": (19, 0),
            "models": (70, 0),
            "responses": (1133, 69),
            "battles": (3236, 0),
            "verdicts of 124 humans": (8931, 0),
            "verdicts of gpt-3.5_llmfao": (3236, 0),
            "verdicts of gpt-4_llmfao": (3236, 0),
        }
        votes, lengths = ledger_votes(ledger), ledger_lengths(ledger)
        humans = sorted(votes.loc[votes["annotator_kind"] == "human", "annotator"].unique())
        board = leaderboard(ledger, judges=humans)
    rating = pd.Series({row.model: row.rating for row in board.rows}, dtype=float).dropna()
    strength = np.exp((rating - 1000) / ELO)
    scores = pd.read_csv(folder / "llmfao-golden.csv")
    golden = scores[scores["algorithm"] == "bradley_terry"].set_index("item")["score"]
    assert (board.n, len(rating)) == (8931, 59)
    np.testing.assert_allclose(strength / strength.sum(), golden[list(rating.index)], atol=1e-9, rtol=0)
    audit = audit_judge(votes, "gpt-3.5_llmfao", responses=lengths).frame().set_index("check")
    # GPT-3.5 chose the answer shown first 1,965 times, the other 958 times.
    assert audit.loc["first_slot", "value"] == pytest.approx(1965 / 2923)
    assert audit.loc["length_preference", "n"] == 3236 - 436
