"""`evalkit leaderboard --protocol`: the table, the JSON, and each thing one may get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Command = Callable[..., Any]  # `in_process` of conftest.py


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    rows = [
        (
            f"q{i}",
            model,
            "base",
            "model_a" if i % 3 < good else "model_b",
            "gpt",
            "judge",
            1.0 if i % 3 < good else 0.25,
        )
        for model, good in (("x", 2), ("y", 1))
        for i in range(60)
    ]
    columns = ["item_id", "model_a", "model_b", "winner", "annotator", "annotator_kind", "probability"]
    path = tmp_path / "votes.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def test_both_protocols_from_a_file_and_a_ledger(in_process: Command, votes: Path, tmp_path: Path) -> None:
    store = ("--store", f"sqlite:///{tmp_path}/ledger.db")
    assert in_process("import", "votes", str(votes), *store).code == 0
    expected = {"alpaca-eval": (2 / 3 + 1 / 12, 120), "arena-hard": (2 * 3 / (2 * 3 + 1), 120)}
    for protocol, (rate, n) in expected.items():
        for source in (("--votes", str(votes)), store):
            done = in_process("leaderboard", *source, "--protocol", protocol, "--baseline", "base", "--json")
            assert done.code == 0, done.out + done.err
            found = done.json
            assert [row["model"] for row in found["rows"]] == ["x", "y"]
            assert found["rows"][0]["win_rate"] == pytest.approx(rate)
            assert (found["n"], found["protocol"], found["baseline"]) == (n, protocol, "base")
    shown = in_process("leaderboard", "--votes", str(votes), "--protocol", "arena-hard", "--baseline", "base")
    assert "Win rates against base" in shown.out and "60 strong verdicts" in " ".join(shown.out.split())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--protocol", "arena-hard"], "--baseline MODEL"),
        (["--baseline", "x"], "give --protocol with it"),
        (["--protocol", "arena-hard", "--baseline", "z"], "the baseline 'z' is in no vote"),
        (["--protocol", "alpaca-eval", "--baseline", "x", "--judge", "claude*"], "no annotator fits 'claude*'"),
        (["--protocol", "alpaca-eval", "--baseline", "x", "--criterion", "safety"], "no votes on 'safety'"),
        (["--protocol", "alpaca-eval", "--baseline", "x", "--anchor", "y"], "leave --anchor out"),
    ],
)
def test_what_is_wrong_is_said(in_process: Command, votes: Path, options: list[str], sentence: str) -> None:
    done = in_process("leaderboard", "--votes", str(votes), *options)
    assert done.code != 0 and sentence in " ".join((done.out + done.err).split())
