"""Table 5 of Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and Chatbot Arena", to the vote."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from evalkit.stats import agreement


def read(path: Path) -> pd.DataFrame:
    votes = pd.read_json(path, lines=True).rename(columns={"question_id": "item_id", "judge": "annotator"})
    votes["winner"] = votes["winner"].replace("tie (inconsistent)", "tie")
    return votes


# turn, (agree, n) with ties, (agree, n) without ties
JUDGE_HUMAN = [(1, (886, 1343), (727, 859)), (2, (871, 1325), (731, 864))]
HUMAN_HUMAN = [(1, (454, 721), (388, 479)), (2, (471, 707), (388, 474))]


@pytest.mark.parametrize("turn, ties, no_ties", JUDGE_HUMAN)
def test_gpt4_against_experts(shared_file: Callable[[str], Path], turn, ties, no_ties) -> None:
    judge, human = read(shared_file("mt_bench/gpt4_pair.jsonl")), read(shared_file("mt_bench/human.jsonl"))
    experts = human[human["annotator"].str.startswith("expert_") & (human["turn"] == turn)]
    result = agreement(judge, experts)
    assert (result.ties.successes, result.ties.n) == ties
    assert (result.no_ties.successes, result.no_ties.n) == no_ties
    assert result.n_failed == 0


@pytest.mark.parametrize("turn, ties, no_ties", HUMAN_HUMAN)
def test_experts_against_each_other(shared_file: Callable[[str], Path], turn, ties, no_ties) -> None:
    human = read(shared_file("mt_bench/human.jsonl"))
    result = agreement(human[human["annotator"].str.startswith("expert_") & (human["turn"] == turn)])
    assert (result.ties.successes, result.ties.n) == ties
    assert (result.no_ties.successes, result.no_ties.n) == no_ties
