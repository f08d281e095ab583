"""The commands of the statistics: JSON as its schemas say, tables for people, one sentence for each fault in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from sample_ledger import make

from evalkit.stats import bradley_terry
from evalkit.store import Ledger
from evalkit.store.formats.generic import import_votes

ROOT = Path(__file__).parents[2]
SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "docs/schemas").glob("*.json")}
PAGE = "\n".join((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("statistics", "calibration"))
MODELS = ("atlas", "birch", "cedar", "delta")
Command = Callable[..., Any]  # `in_process` of conftest.py


def make_votes(n: int = 600, seed: int = 3) -> pd.DataFrame:
    """Votes of four humans and two judges, with every optional column."""
    rng = np.random.default_rng(seed)
    strength = dict(zip(MODELS, (0.9, 0.4, 0.0, -0.6), strict=True))
    rows = []
    for i in range(n):
        a, b = rng.permutation(MODELS)[:2]
        for who in (f"expert_{i % 4}", f"expert_{(i + 1) % 4}", "judge_good", "judge_coin"):
            gap = 0.0 if who == "judge_coin" else strength[a] - strength[b]
            p = 1 / (1 + np.exp(-gap))
            winner = "tie" if rng.random() < 0.2 else "model_a" if rng.random() < p else "model_b"
            rows.append(
                {
                    "item_id": f"q{i % 60}",
                    "model_a": a,
                    "model_b": b,
                    "winner": winner,
                    "annotator": who,
                    "annotator_kind": "judge" if who.startswith("judge") else "human",
                    "criterion": "overall",
                    "turn": 1 + i % 2,
                    "category": ("maths", "prose")[i % 3 == 0],
                    "probability": round(p, 3),
                    "tokens_a": int(rng.integers(20, 400)),
                    "tokens_b": int(rng.integers(20, 400)),
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each format and a ledger."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(5)
    make_votes().to_csv(folder / "votes.csv", index=False)
    grades = [
        {"item_id": f"q{i}", "model": m, "criterion": c, "annotator": who, "annotator_kind": kind, "value": value}
        for i in range(80)
        for m, skill in (("atlas", 0.7), ("birch", 0.5))
        for c, who, kind, value in (
            ("acc", "exact", "metric", float(rng.random() < skill)),
            ("quality", "judge_good", "judge", round(rng.normal(skill * 5, 1), 2)),
            *(("quality", f"expert_{k}", "human", round(rng.normal(skill * 5, 1), 2)) for k in range(3)),
        )
    ]
    pd.DataFrame(grades).to_csv(folder / "grades.csv", index=False)
    ability = rng.normal(size=12)
    scores = {"model": [f"m{i}" for i in range(12)]}
    scores |= {
        name: (ability + noise * rng.normal(size=12)).round(3) for name, noise in (("mmlu", 0.3), ("gsm8k", 1.0))
    }
    table = pd.DataFrame(scores | {"arena": (1000 + 60 * ability).round(1)})
    table.loc[2, "gsm8k"] = None
    table.to_csv(folder / "scores.csv", index=False)
    for name, noise in (("bench", 15.0), ("board", 0.0)):
        rating = table["arena"] + noise * rng.normal(size=12)
        board = pd.DataFrame({"model": table["model"], "rating": rating, "lower": rating - 25, "upper": rating + 25})
        board.to_csv(folder / f"{name}.csv", index=False)
    texts = [
        {"item_id": f"q{i}", "model": m, "prompt": "p", "response": "word " * int(rng.integers(5, 60)) + "**bold**"}
        for i in range(60)
        for m in MODELS
    ]
    pd.DataFrame(texts).to_csv(folder / "responses.csv", index=False)
    make(folder / "ledger.db", items=12)[0].close()
    with Ledger.open(str(folder / "voted.db")) as ledger:
        import_votes(ledger, folder / "votes.csv")
    return folder


@pytest.fixture
def evalkit(files: Path, in_process: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Returns a function that runs the command in this process, in the folder of the files."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("EVALKIT_STORE", "ledger.db")
    return in_process


FULL = "--cluster item_id --min-votes 5 --ranks false-discovery --anchor cedar --seed 4"
CASES = [
    ("leaderboard", "leaderboard --votes votes.csv"),
    ("leaderboard", f"leaderboard --votes votes.csv --judge expert_* --ties davidson {FULL}"),
    ("leaderboard", "leaderboard --votes votes.csv --ties rao-kupper --prior empirical-bayes"),
    ("leaderboard", "leaderboard --votes votes.csv --ties drop --both-bad half --interval bootstrap --ranks overlap"),
    ("leaderboard", "leaderboard --votes votes.csv --group-by turn --cluster annotator"),
    ("leaderboard", "leaderboard --votes votes.csv --group-by category"),
    ("leaderboard", "leaderboard --votes votes.csv --style tokens --cluster item_id"),
    ("leaderboard", "leaderboard --votes votes.csv --style tokens,bold --responses responses.csv"),
    ("leaderboard", "leaderboard --votes votes.csv --online-elo 16"),
    ("leaderboard", "leaderboard"),
    ("leaderboard", "leaderboard --ties davidson --ranks false-discovery --judge rules --seed 1"),
    ("leaderboard", "leaderboard --interval bootstrap"),
    ("leaderboard", "leaderboard --group-by turn"),
    ("leaderboard", "leaderboard --group-by criterion --judge rules"),
    ("leaderboard-corrected", "leaderboard --votes votes.csv --judge judge_good --humans expert_* --corrected"),
    ("leaderboard-corrected", "leaderboard --votes votes.csv --corrected --anchor cedar"),
    ("leaderboard-corrected", "leaderboard --store voted.db --judge judge_good --corrected"),
    ("agreement", "agreement --votes votes.csv --judge judge_* --annotators expert_* --group-by turn"),
    ("agreement", "agreement --votes votes.csv --min-votes 10"),
    ("agreement", "agreement --annotators rules"),
    ("alt-test", "agreement --alt-test --votes votes.csv --judge judge_* --annotators expert_*"),
    ("alt-test", "agreement --alt-test --grades grades.csv --metric neg_rmse --epsilon 0.1"),
    ("audit", "audit judge_good --votes votes.csv --responses responses.csv --null-model delta"),
    ("audit", "audit judge_good --votes votes.csv --family atlas=tree --family judge_good=tree --model atlas"),
    ("audit", "audit careful-judge"),
    ("calibrate", "judge calibrate --votes votes.csv --epsilon 0.1 --self judge_good=atlas --seed 1"),
    ("calibrate", "judge calibrate --votes votes.csv --judges judge_coin --humans expert_[01]"),
    ("calibrate", "judge calibrate --humans rules"),
    ("correlate", "correlate --scores scores.csv --reference arena --seed 2"),
    ("correlate", "correlate --scores scores.csv"),
    ("correlate", "correlate"),
    ("compare-boards", "compare-boards bench.csv board.csv --seed 1"),
    ("compare", "compare atlas birch --grades grades.csv --seed 1"),
    ("compare", "compare smollm2 gpt-4-recorded"),
    ("power", "power --test elo --effect 20"),
    ("power", "power --test elo-board --n 5000 --tie-rate 0.3"),
    ("power", "power --test share --base 0.6 --n 1000 --effect 0.05"),
    ("power", "power atlas birch --grades grades.csv --annotators exact --effect 0.05"),
    ("power", "power smollm2 gpt-4-recorded"),
]


@pytest.mark.parametrize(("schema", "arguments"), CASES)
def test_what_a_command_prints_is_what_its_schema_says(evalkit: Command, schema: str, arguments: str) -> None:
    done = evalkit(*arguments.split(), "--json")
    assert (done.code, done.err) == (0, "")
    assert "NaN" not in done.out and "Infinity" not in done.out
    validator = jsonschema.Draft202012Validator(SCHEMAS[schema])
    assert [error.message for error in validator.iter_errors(done.json)] == []
    assert done.json["rows"]
    described = SCHEMAS[schema]["properties"]["rows"]["items"]["properties"]
    assert {key for row in done.json["rows"] for key in row} <= set(described)
    assert set(done.json) <= set(SCHEMAS[schema]["properties"])


@pytest.mark.parametrize("arguments", [arguments for _, arguments in CASES])
def test_tables_fit_a_terminal_of_80_columns(evalkit: Command, monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    done = evalkit(*arguments.split())
    assert done.code == 0, done.err
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.out).splitlines()
    table = [line for line in lines if "│" in line or line.count("   ") > 1]
    assert table and max(map(len, table)) <= 80


@pytest.mark.parametrize("schema", sorted(SCHEMAS))
def test_schemas_are_schemas_and_documented(schema: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[schema])
    assert SCHEMAS[schema]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert f"(schemas/{schema}.json)" in PAGE
    required = SCHEMAS[schema]["properties"]["rows"]["items"]["required"]
    for key in required:
        assert f"`{key}`" in PAGE, f"{key} of {schema} is not explained"


def test_every_command_has_a_section_with_an_example() -> None:
    for command in ("leaderboard", "agreement", "audit", "correlate", "compare-boards", "compare", "power"):
        section = PAGE.partition(f"## evalkit {command}\n")[2].partition("\n## ")[0]
        assert f"$ evalkit {command}" in section, command
        assert "schemas/" in section


def test_a_board_from_a_file_is_that_of_the_statistics(evalkit: Command, files: Path) -> None:
    board = evalkit("leaderboard", "--votes", "votes.csv", "--judge", "expert_*", "--cluster", "annotator", "--json")
    votes = pd.read_csv(files / "votes.csv")
    votes = votes[votes["annotator"].str.startswith("expert")]
    expected = bradley_terry(votes, cluster="annotator", min_votes=1)
    assert [row["model"] for row in board.json["rows"]] == list(expected.models)
    assert [row["rating"] for row in board.json["rows"]] == pytest.approx(expected.rating.tolist(), abs=1e-9)
    assert [row["lower"] for row in board.json["rows"]] == pytest.approx(expected.lower.tolist(), abs=1e-9)
    assert (board.json["n"], board.json["ties"]) == (len(votes), "half")


def test_an_exported_ledger_gives_the_same_answers(evalkit: Command) -> None:
    for kind in ("votes", "grades"):
        assert evalkit("export", kind, f"exported-{kind}.parquet").code == 0
    for arguments in ("agreement --annotators rules", "audit careful-judge"):
        direct = evalkit(*arguments.split(), "--json").json
        from_file = evalkit(*arguments.split(), "--votes", "exported-votes.parquet", "--json").json
        checks = {"parse_failures", "swap_consistency", "first_slot"}
        keep = [[row for row in found["rows"] if row.get("check") in checks | {None}] for found in (direct, from_file)]
        assert keep[0] == keep[1] and keep[0]


def test_groups_are_fields_of_the_rows(evalkit: Command) -> None:
    rows = evalkit("leaderboard", "--votes", "votes.csv", "--group-by", "category", "--json").json["rows"]
    assert {row["group"] for row in rows} == {"maths", "prose"}
    assert len(rows) == 2 * len(MODELS)


def test_what_cannot_be_rated_is_null_and_said(evalkit: Command, files: Path) -> None:
    head = "item_id,model_a,model_b,winner,annotator,annotator_kind\n"
    rows = [f"q{i},a,b,{w},x,human\n" for i, w in enumerate(["model_a", "model_b"] * 5)]
    (files / "won.csv").write_text(head + "".join(rows) + "q,c,a,model_a,x,human\nq,a,a,tie,x,human\n")
    board = evalkit("leaderboard", "--votes", "won.csv", "--json").json
    last = board["rows"][-1]
    assert last["model"] == "c" and last["rating"] is None and last["lower"] is None
    assert any("against itself" in warning for warning in board["warnings"])
    assert any(warning.startswith("c ") or "c:" in warning or "c " in warning for warning in board["warnings"])


def test_the_picture_of_a_correlation(evalkit: Command, files: Path) -> None:
    done = evalkit("correlate", "--scores", "scores.csv", "--plot", "matrix.svg", "--method", "kendall")
    assert done.code == 0 and "matrix.svg" in done.out
    assert "Kendall correlation" in (files / "matrix.svg").read_text(encoding="utf-8")
    assert evalkit("correlate", "--scores", "scores.csv", "--plot", "matrix.png").code == 2


WRONG = [
    ("leaderboard --votes nothing.csv", 1, "nothing.csv cannot be read"),
    ("leaderboard --votes votes.csv --judge nobody", 2, "no annotator fits 'nobody'"),
    ("leaderboard --votes votes.csv --criterion taste", 2, "nothing was judged on 'taste'"),
    ("leaderboard --votes votes.csv --ties sometimes", 2, "'sometimes' is not one of"),
    ("leaderboard --votes votes.csv --anchor nobody", 2, "'nobody'"),
    ("leaderboard --votes votes.csv --style tokens --group-by turn", 2, "give one"),
    ("leaderboard --votes votes.csv --style smell", 1, "the column 'smell_a' is missing"),
    ("leaderboard --votes votes.csv --style smell --responses responses.csv", 2, "no style feature 'smell'"),
    ("leaderboard --votes votes.csv --responses responses.csv", 2, "--style"),
    ("leaderboard --votes votes.csv --style tokens --interval bootstrap", 2, "--style has --interval sandwich only"),
    ("leaderboard --corrected --votes votes.csv --judge nobody", 2, "no annotator fits 'nobody'"),
    ("leaderboard --corrected --votes votes.csv --humans nobody", 2, "no annotator fits 'nobody'"),
    ("leaderboard --corrected --votes votes.csv --criterion taste", 2, "nothing was judged on 'taste'"),
    ("leaderboard --corrected --votes votes.csv --humans judge_good --anchor x", 2, "anchor model 'x'"),
    ("leaderboard --corrected --votes votes.csv --judge judge_* --humans *_good", 2, "judge_good fit both"),
    ("leaderboard --corrected", 2, "no human vote"),
    ("leaderboard --corrected --ties davidson", 2, "--corrected has --ties half only"),
    ("leaderboard --corrected --group-by turn", 2, "leave --group-by out"),
    ("leaderboard --humans expert_*", 2, "give --corrected"),
    ("leaderboard --style tokens", 2, "--style needs a votes file"),
    ("leaderboard --store nothing.db", 2, "there is no ledger nothing.db"),
    ("agreement --votes votes.csv --grades grades.csv", 2, "give one"),
    ("agreement --grades grades.csv", 2, "--alt-test"),
    ("agreement --votes votes.csv --judge nobody", 1, "no judge fits 'nobody'"),
    ("agreement --alt-test --votes votes.csv --metric neg_rmse", 2, "neg_rmse needs numeric grades"),
    ("agreement --alt-test --votes votes.csv --group-by turn", 2, "has no groups"),
    ("agreement", 1, "name the reference with --annotators"),
    ("audit judge_good --votes votes.csv --family tree", 2, "--family 'tree' is not NAME=FAMILY"),
    ("audit nobody --votes votes.csv", 1, "the judge 'nobody' has no verdicts"),
    ("judge calibrate --votes votes.csv --judges nobody", 2, "no judge fits 'nobody' on 'overall'"),
    ("judge calibrate --votes votes.csv --humans nobody", 2, "name them with --humans PATTERN"),
    ("judge calibrate --votes votes.csv --criterion taste", 2, "nobody judged 'taste'"),
    ("judge calibrate --votes votes.csv --self judge_good", 2, "--self 'judge_good' is not JUDGE=MODEL"),
    ("judge calibrate --votes votes.csv --report page.pdf", 2, "a name that ends in .html"),
    ("judge calibrate --votes votes.csv --judges judge_coin --weights-out w.json", 1, "one judge alone makes no jury"),
    ("judge calibrate --votes votes.csv --weights-out nowhere/w.json", 1, "nowhere/w.json cannot be written"),
    ("judge calibrate", 2, "no human has voted on 'overall'"),
    ("correlate --scores scores.csv --reference taste", 2, "'taste' is no score column"),
    ("compare atlas nobody --grades grades.csv", 1, "no grade of the model 'nobody'"),
    ("compare atlas birch --cluster annotator", 2, "give --grades FILE"),
    ("compare atlas birch --grades grades.csv --cluster annotator", 1, "is in several groups"),
    ("compare atlas birch --grades grades.csv --annotators nobody", 2, "no annotator fits 'nobody'"),
    ("power", 2, "name two models"),
    ("power atlas", 2, "name two models"),
    ("power --test elo", 2, "give --effect"),
    ("power --test share --base 0.9 --effect 0.5", 2, "at most 0.1"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG)
def test_wrong_usage_is_one_sentence(evalkit: Command, arguments: str, code: int, said: str) -> None:
    done = evalkit(*arguments.split(), "--json")
    assert (done.code, done.out) == (code, "")
    assert said in done.err and done.err.startswith("Error: ") and done.err.count("\n") == 1


HEAD = "item_id,model_a,model_b,winner,annotator,annotator_kind"
GOOD = "1,a,b,model_a,x,human"
VOTES: list[tuple[str, str | bytes, str]] = [
    ("v.csv", f"{HEAD}\n{GOOD}\n2,a,b,left,x,human\n", "line 3, column 'winner': 'left' is not allowed"),
    ("v.csv", f"{HEAD}\n{GOOD}\n2,a,b,,x,human\n", "line 3, column 'winner': it is empty"),
    ("v.csv", f"{HEAD}\n{GOOD}\n2,,b,tie,x,human\n", "line 3, column 'model_a': it is empty"),
    ("v.csv", f"{HEAD}\n{GOOD}\n2,a,  ,tie,x,human\n", "line 3, column 'model_b': it is empty"),
    ("v.csv", f"{HEAD}\n{GOOD}\n,a,b,tie,x,human\n", "line 3, column 'item_id': it is empty"),
    ("v.csv", f"{HEAD}\n{GOOD}\n2,a,b,tie,,human\n", "line 3, column 'annotator': it is empty"),
    ("v.csv", f"{HEAD}\n{GOOD}\n2,a,b,tie,x,robot\n", "line 3, column 'annotator_kind': 'robot' is not allowed"),
    (
        "v.csv",
        "item_id,model_a,model_b,annotator,annotator_kind\n1,a,b,x,human\n",
        "line 1: the column 'winner' is miss",
    ),
    ("v.csv", f"{HEAD},model_a\n{GOOD},a\n", "line 1, column 'model_a': the header names it twice"),
    ("v.csv", f"id,{HEAD}\n7,{GOOD}\n8,{GOOD}\n7,{GOOD}\n", "line 4, column 'id': '7' is there already, in line 2"),
    ("v.csv", f"{HEAD}\n{GOOD}\n2,a,b,tie,x\n", "line 3, column 'annotator_kind': the line has 5 cells, the header 6"),
    ("v.csv", f"{HEAD}\n{GOOD}\n2,a,b,tie,x,human,1,2\n", "line 3, column 'annotator_kind' and more: the line has 8"),
    ("v.csv", f'{HEAD}\n"1\n2",a,b,tie,x,human\n3,a,b,nobody,x,human\n', "line 4, column 'winner': 'nobody'"),
    ("v.csv", HEAD.encode() + b"\n1,a,b,tie,x,human\n2,\xe9,b,tie,x,human\n", "line 3, column 'model_a': byte 0xe9"),
    ("v.csv", b"", "line 1: the file is empty"),
    ("v.csv", f"{HEAD}\n", "line 2: there are no rows"),
    ("v.csv", f"{HEAD},order\n{GOOD},AB\n", "line 2, column 'order': 'AB' is not allowed"),
    ("v.csv", f"{HEAD},turn\n{GOOD},1\n{GOOD},0\n", "line 3, column 'turn': '0' is not a finite number"),
    ("v.csv", f"{HEAD},turn\n{GOOD},1.5\n", "line 2, column 'turn': 1.5 is not a whole number"),
    ("v.csv", f"{HEAD},turn\n{GOOD},1e31\n", "line 2, column 'turn': 1e+31 is not a whole number up to"),
    ("v.csv", f'{HEAD}\n"1"2,a,b,tie,x,human\n', "line 2: not CSV"),
    ("v.csv", f'{HEAD}\n{GOOD}\n2,a,b,tie,x,"human\n', "line 3: not CSV"),
    ("v.csv", f"{HEAD},turn\n{GOOD},first\n", "line 2, column 'turn': 'first' is not a number"),
    (
        "v.csv",
        f"{HEAD},probability\n{GOOD},1.2\n",
        "line 2, column 'probability': '1.2' is not a finite number between",
    ),
    ("v.csv", f"{HEAD},probability\n{GOOD},inf\n", "line 2, column 'probability': 'inf' is not a finite number"),
    ("v.csv", f"{HEAD},timestamp\n{GOOD},noon\n", "line 2, column 'timestamp': 'noon' is no time"),
    ("v.jsonl", '{"item_id": 1, "model_a": "a"}\n', "line 1: the column 'model_b' is missing"),
    ("v.jsonl", '{"item_id": 1,\n', "line 1, column 15: not JSON"),
    ("v.jsonl", "[1]\n", "line 1: not an object"),
    ("v.jsonl", "", "line 1: there are no rows"),
    ("v.parquet", "no", "is not a Parquet file"),
    ("v.txt", "", "unknown kind of file '.txt'"),
]
GRADE = "item_id,model,annotator,annotator_kind,criterion,value"
GRADES = [
    ("g.csv", f"{GRADE}\n1,a,x,human,acc,good\n", "line 2, column 'value': 'good' is not a number"),
    ("g.csv", f"{GRADE}\n1,a,x,human,acc,nan\n", "line 2, column 'value': 'nan' is not a finite number"),
    ("g.csv", f"{GRADE}\n1,a,x,human,acc,\n", "line 2, column 'value': it is empty"),
    ("g.csv", f"{GRADE}\n1,a,x,human,,1\n", "line 2, column 'criterion': it is empty"),
    ("g.csv", f"{GRADE}\n1,a,x,voter,acc,1\n", "line 2, column 'annotator_kind': 'voter' is not allowed"),
    ("g.csv", GRADE.replace(",value", "") + "\n1,a,x,human,acc\n", "line 1: the column 'value' is missing"),
    ("g.csv", GRADE.replace("model,", "") + "\n1,x,human,acc,1\n", "line 1: the column 'model' is missing"),
    ("g.csv", f"id,{GRADE}\n1,1,a,x,human,acc,1\n1,2,a,x,human,acc,1\n", "line 3, column 'id': '1' is there already"),
]
SCORES = [
    ("s.csv", "model,mmlu\na,good\n", "line 2, column 'mmlu': 'good' is not a number"),
    ("s.csv", "model,mmlu\na,inf\n", "line 2, column 'mmlu': 'inf' is not a finite number"),
    ("s.csv", "model,mmlu\na,1\nb,1\na,2\n", "line 4, column 'model': 'a' is there already, in line 2"),
    ("s.csv", "model,mmlu\n,1\n", "line 2, column 'model': it is empty"),
    ("s.csv", "name,mmlu\na,1\n", "line 1: the column 'model' is missing"),
    ("s.csv", "model\na\n", "line 1: a score table needs a column for each benchmark"),
    ("s.csv", "model,mmlu\n", "line 2: there are no rows"),
]
BOARDS = [
    ("b.csv", "model,rating,lower,upper\na,high,1,2\n", "line 2, column 'rating': 'high' is not a number"),
    ("b.csv", "model,rating,lower,upper\na,1000,1010,1020\n", "line 2, column 'lower': 1010 puts the rating 1000"),
    ("b.csv", "model,rating,lower,upper\na,1,0,2\na,1,0,2\n", "line 3, column 'model': 'a' is there already"),
    ("b.csv", "model,rating,lower\na,1,0\n", "line 1: the column 'upper' is missing"),
]
FAULTS = [
    *((f"{command} --votes {{}}", *fault) for fault in VOTES for command in ("leaderboard", "agreement")),
    *(("compare a b --grades {}", *fault) for fault in GRADES),
    *(("correlate --scores {}", *fault) for fault in SCORES),
    *(("compare-boards {} {}", *fault) for fault in BOARDS),
]


@pytest.mark.parametrize(("arguments", "name", "content", "said"), FAULTS)
def test_a_fault_in_a_file_is_one_sentence_with_its_place(
    evalkit: Command, tmp_path: Path, arguments: str, name: str, content: str | bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = evalkit(*arguments.replace("{}", str(path)).split())
    assert (done.code, done.out) == (1, "")
    assert said in done.err and str(path) in done.err
    assert done.err.startswith("Error: ") and done.err.count("\n") == 1
