"""Table 5 of Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and Chatbot Arena", to the vote."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evalkit.stats import agreement, audit_judge, judge_agreement, swap_consistency

INCONSISTENT = "tie (inconsistent)"
# turn, (agree, n) with ties, (agree, n) without ties
JUDGE_HUMAN = {"1": [(886, 1343), (727, 859)], "2": [(871, 1325), (731, 864)]}
HUMAN_HUMAN = {"1": [(454, 721), (388, 479)], "2": [(471, 707), (388, 474)]}


def read(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True).rename(columns={"question_id": "item_id", "judge": "annotator"})


@pytest.fixture
def judge(shared_file: Callable[[str], Path]) -> pd.DataFrame:
    """GPT-4's verdicts in both orders. The file has one row for both: an inconsistent pair won by one slot twice."""
    rows = read(shared_file("mt_bench/gpt4_pair.jsonl")).assign(annotator_kind="judge")
    said = rows["winner"]
    orders = [
        rows.assign(order=order, winner=said.where(said != INCONSISTENT, slot))
        for order, slot in (("ab", "model_a"), ("ba", "model_b"))
    ]
    return pd.concat(orders, ignore_index=True)


@pytest.fixture
def human(shared_file: Callable[[str], Path]) -> pd.DataFrame:
    return read(shared_file("mt_bench/human.jsonl")).assign(annotator_kind="human")


def test_table_5_by_turn(judge: pd.DataFrame, human: pd.DataFrame) -> None:
    votes = pd.concat([judge, human], ignore_index=True)
    result = judge_agreement(votes, judges="gpt4_*", annotators="expert_*", group_by="turn")
    expected = [("gpt4_pair", JUDGE_HUMAN), ("humans", HUMAN_HUMAN)]
    cells = [(name, turn, *table[turn]) for name, table in expected for turn in ("1", "2")]
    for row, (name, turn, ties, no_ties) in zip(result.rows, cells, strict=True):
        assert (row.judge, row.group, row.reference) == (name, turn, "expert_*")
        assert (round(row.agreement * row.n), row.n, row.n_failed) == (*ties, 0)
        assert (round(row.agreement_no_ties * row.n_no_ties), row.n_no_ties) == no_ties
        assert 0.3 < row.kappa_lower < row.kappa < row.kappa_upper < 0.6
    assert result.n == 2668


def test_one_row_a_battle_and_frames_apart_give_the_same(judge: pd.DataFrame, human: pd.DataFrame) -> None:
    merged = judge[judge["order"] == "ab"].reset_index(drop=True)
    other = judge[judge["order"] == "ba"]["winner"].to_numpy()
    merged["winner"] = np.where(merged["winner"] == other, merged["winner"], "tie")
    experts = human[human["annotator"].str.startswith("expert_")]
    for turn, (ties, no_ties) in JUDGE_HUMAN.items():
        result = agreement(merged[merged["turn"] == int(turn)], experts)
        assert (result.ties.successes, result.ties.n) == ties
        assert (result.no_ties.successes, result.no_ties.n) == no_ties
    for turn, (ties, no_ties) in HUMAN_HUMAN.items():
        result = agreement(experts[experts["turn"] == int(turn)])
        assert (result.ties.successes, result.ties.n) == ties
        assert (result.no_ties.successes, result.no_ties.n) == no_ties


def test_gpt4_contradicts_itself_in_380_of_2400(judge: pd.DataFrame, human: pd.DataFrame) -> None:
    found = swap_consistency(judge)
    assert (found.n, found.n - found.consistent.successes, found.n_failed) == (2400, 380, 0)
    audit = audit_judge(pd.concat([judge, human], ignore_index=True), "gpt4_pair", human="expert_*")
    rows = audit.frame().set_index("check")
    assert rows.loc["swap_consistency", "value"] == 2020 / 2400
    assert rows.loc["parse_failures", ["value", "n"]].tolist() == [0, 4800]
    # The paper: GPT-4 favours itself by about 10 % of its win rate against the humans'; this is one question of many.
    assert rows.loc["family_preference", "n"] > 500
