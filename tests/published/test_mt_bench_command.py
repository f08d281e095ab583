"""Table 5 of Zheng et al. 2023 through the command `evalkit agreement`, from each kind of file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from evalkit import cli

# judge, turn: (agree, n) with ties, (agree, n) without ties
TABLE_5 = {
    ("gpt4_pair", "1"): ((886, 1343), (727, 859)),
    ("gpt4_pair", "2"): ((871, 1325), (731, 864)),
    ("humans", "1"): ((454, 721), (388, 479)),
    ("humans", "2"): ((471, 707), (388, 474)),
}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_table_5(
    shared_file: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    parts = [
        pd.read_json(shared_file(f"mt_bench/{name}.jsonl"), lines=True).assign(annotator_kind=kind)
        for name, kind in (("human", "human"), ("gpt4_pair", "judge"))
    ]
    votes = pd.concat(parts, ignore_index=True).rename(columns={"question_id": "item_id", "judge": "annotator"})
    votes["winner"] = votes["winner"].replace("tie (inconsistent)", "tie")
    path = tmp_path / f"votes.{ending}"
    if ending == "csv":
        votes.to_csv(path, index=False)
    elif ending == "jsonl":
        votes.to_json(path, orient="records", lines=True)
    else:
        votes.to_parquet(path)
    asked = ["agreement", "--votes", str(path), "--judge", "gpt4_*", "--annotators", "expert_*", "--group-by", "turn"]
    monkeypatch.setattr(sys, "argv", ["evalkit", *asked, "--json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = {
        (row["judge"], row["group"]): (
            (round(row["agreement"] * row["n"]), row["n"]),
            (round(row["agreement_no_ties"] * row["n_no_ties"]), row["n_no_ties"]),
        )
        for row in rows
    }
    assert found == TABLE_5
    assert {row["reference"] for row in rows} == {"expert_*"}
