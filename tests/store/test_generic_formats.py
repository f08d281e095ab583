"""Votes, grades, scores and responses: in, out, and what is wrong with a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from store_world import World, check_cells, check_tally

from evalkit.errors import UserError
from evalkit.models.base import Reply
from evalkit.store import BattleRow, GradeRow, Item, Ledger, ScoreRow, VerdictRow, frames
from evalkit.store.formats import generic
from evalkit.store.formats.tables import read_table

VOTES = """item_id,model_a,model_b,winner,annotator,annotator_kind,order,probability,timestamp,turn
1,gpt,llama,model_a,ann,human,ab,,2026-01-31T13:00:00+01:00,
1,llama,gpt,model_a,bob,human,ba,0.75,1700000000,1
1,gpt,llama,tie,ann,human,ab,,,2
2,zephyr,gpt,both_bad,jury,judge,,,,
2,zephyr,gpt,tie,jury,judge,,,,
"""


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def count(ledger: Ledger, table: str) -> int:
    with ledger.engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0)


def fill(ledger: Ledger) -> None:
    """A ledger with something of everything, awkward texts and failures included."""
    world = World(ledger)
    talk = ({"role": "system", "content": "be brief"}, {"role": "user", "content": 'a "b", c\n\u2028d 你好'})
    _, (item,) = ledger.add_dataset("talk", [Item(talk, reference=[1], tags={"topic": "x"}, name="t1")])
    rows = [world.row(0), world.row(0, 1), world.row(1, error="server"), world.row(1, 1, cost=None)]
    rows += [world.row(2, body=f"s{i}", sample=i, outcome=Reply(f'line\r\n"{i}", é\t')) for i in range(2)]
    ids = ledger.add_responses(world.run, rows)
    a, b = world.models
    battles = ledger.add_battles([BattleRow(world.items[0], a, b, ids[0], ids[1]), BattleRow(item, a, b, turn=2)])
    judges = [ledger.add_annotator("judge", "jury", {"version": i}) for i in range(2)]
    ledger.add_verdicts(
        world.run,
        [
            VerdictRow(battles[0], judges[0], "ab", "model_a", probability=0.9, created_at="2026-01-01T00:00:00.000Z"),
            VerdictRow(battles[0], judges[0], "ba", None, error="no verdict in the answer"),
            VerdictRow(battles[0], judges[1], "ab", "tie", criterion="style"),
            VerdictRow(battles[1], judges[1], "", "both_bad", replicate=1),
        ],
    )
    metric = ledger.add_annotator("metric", "exact_match", {})
    ledger.add_grades([GradeRow(ids[0], metric, "c", 1 / 3), GradeRow(ids[5], metric, "c", None, "timed out")])
    ledger.set_scores(
        world.run,
        [
            ScoreRow(a, world.dataset, "exact_match,none", 0.1 + 0.2, 0.1, 10),
            ScoreRow(b, world.dataset, "score", 2.0, None, 3),
        ],
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", ["responses", "grades", "votes", "scores"])
def test_export_then_import_gives_the_same_rows(
    kind: str, suffix: str, new_url: Callable[[], str], tmp_path: Path
) -> None:
    out, back = tmp_path / f"out{suffix}", tmp_path / f"back{suffix}"
    export, read = getattr(generic, f"export_{kind}"), getattr(generic, f"import_{kind}")
    with Ledger.open(new_url()) as ledger, Ledger.open(new_url()) as fresh:
        fill(ledger)
        n = export(ledger, out)
        assert n == {"responses": 6, "grades": 2, "votes": 4, "scores": 2}[kind]
        assert read(fresh, out) == n
        assert export(fresh, back) == n
        first, second = ([row.values for row in read_table(path, ())] for path in (out, back))
        assert second == first
        # Importing again, and importing into the ledger it came from, adds nothing.
        sizes = [count(one, table) for one in (fresh, ledger) for table in ("response", "grade", "verdict", "battle")]
        assert read(fresh, out) == read(ledger, out) == n
        again = [count(one, table) for one in (fresh, ledger) for table in ("response", "grade", "verdict", "battle")]
        assert again == sizes
        check_cells(fresh)
        check_tally(fresh)


def test_votes_become_battles_and_tallies(ledger: Ledger, tmp_path: Path) -> None:
    assert generic.import_votes(ledger, write(tmp_path / "votes.csv", VOTES)) == 5
    votes = frames.verdicts(ledger)
    assert list(votes["item"]) == ["1", "1", "1", "2", "2"]
    assert set(zip(votes.model_a, votes.model_b, strict=True)) == {("gpt", "llama"), ("gpt", "zephyr")}
    swapped = votes[votes.annotator == "bob"].iloc[0]
    assert (swapped.winner, swapped.order, swapped.probability) == ("model_b", "ab", 0.25)
    assert votes.timestamp[0] == "2026-01-31T12:00:00.000Z"
    assert swapped.timestamp == "2023-11-14T22:13:20.000Z"
    tally = frames.tally(ledger, kind="judge")
    assert tally[["wins_a", "wins_b", "ties", "both_bad"]].sum().to_list() == [0, 0, 1, 1]
    assert list(frames.models(ledger)["provider"]) == ["recorded"] * 3
    assert frames.runs(ledger).loc[0, ["name", "status"]].to_list() == ["import votes votes.csv", "done"]
    check_tally(ledger)


def test_files_about_the_same_items_meet_in_any_order(ledger: Ledger, tmp_path: Path) -> None:
    votes = write(tmp_path / "votes.csv", VOTES)
    grades = write(
        tmp_path / "grades.csv",
        "item_id,annotator,annotator_kind,criterion,value,model\n1,ann,human,help,4,gpt\n2,ann,human,help,5,\n",
    )
    answers = write(
        tmp_path / "answers.jsonl",
        "".join(
            json.dumps({"item_id": i, "model": m, "prompt": f"prompt {i}", "response": f"{m} says", "tags": {"t": 1}})
            + "\n"
            for i in (1, 2)
            for m in ("gpt", "llama")
        ),
    )
    for _ in range(2):
        generic.import_votes(ledger, votes)
        generic.import_grades(ledger, grades)
        generic.import_responses(ledger, answers)
        assert [count(ledger, t) for t in ("item", "verdict", "grade", "model")] == [2, 5, 2, 4]
    found = frames.grades(ledger)
    sample = frames.sample(ledger, int(found.response_id[0]))
    assert (sample["text"], sample["error_kind"]) == ("gpt says", None)
    assert sample["messages"] == [{"role": "user", "content": "prompt 1"}]
    assert sample["tags"] == {"t": 1}
    unanswered = frames.sample(ledger, int(found.response_id[1]))
    assert (unanswered["model"], unanswered["error_kind"]) == ("(no model)", "missing")
    check_cells(ledger)


def test_imported_failures_and_samples_stay_what_they_are(ledger: Ledger, tmp_path: Path) -> None:
    text = (
        "item_id,model,prompt,response,sample,error_kind,error\n1,m,p,yes,0,,\n1,m,p,,1,,\n1,m,p,,2,timeout,too slow\n"
    )
    path = write(tmp_path / "r.csv", text)
    assert generic.import_responses(ledger, path) == 3
    page = frames.responses(ledger, 1, texts=True)
    assert list(page.error_kind.fillna("")) == ["", "empty", "timeout"]
    assert list(page["sample"]) == [0, 1, 2]
    assert frames.run_cells(ledger, 1).loc[0, ["n", "errors"]].to_list() == [3, 2]
    frame = generic.read_responses(path)
    assert list(frame.response) == ["yes", "", ""]
    assert list(frame.error_kind) == ["", "empty", "timeout"]


def test_scores_allow_empty_cells(ledger: Ledger, tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "model,gsm8k,mmlu:acc\nm1,0.5,\nm2,,0.25\n")
    assert generic.import_scores(ledger, path) == 2
    table = frames.scores(ledger, wide=True).set_index("model")
    assert table.loc["m1", "gsm8k"] == 0.5 and pd.isna(table.loc["m2", "gsm8k"])
    assert table.loc["m2", "mmlu:acc"] == 0.25
    assert frames.scores(ledger).n.isna().all()


HEAD = "item_id,model_a,model_b,winner,annotator,annotator_kind"
BAD_VOTES: list[tuple[str, str | bytes, str]] = [
    ("v.csv", f"{HEAD}\n1,a,b,model_a,x,human\n1,a,b,A,x,human\n", "line 3, column 'winner': 'A' is not allowed"),
    ("v.csv", f"{HEAD}\n1,a,b,,x,human\n", "line 2, column 'winner': it is empty"),
    ("v.csv", f"{HEAD}\n1,a,b,tie,x,robot\n", "column 'annotator_kind': 'robot' is not allowed; allowed are 'human'"),
    ("v.csv", f"{HEAD}\n1,a,a,tie,x,human\n", "line 2, column 'model_b': 'a' against itself"),
    ("v.csv", f"{HEAD}\n1,,b,tie,x,human\n", "line 2, column 'model_a': it is empty"),
    ("v.csv", f"{HEAD}\n,a,b,tie,x,human\n", "line 2, column 'item_id': it is empty"),
    ("v.csv", f"id,{HEAD}\n7,1,a,b,tie,x,human\n7,2,a,b,tie,x,human\n", "line 3, column 'id': '7' is there already"),
    ("v.csv", HEAD.replace(",winner", "") + "\n1,a,b,x,human\n", "the column 'winner' is missing; needed are"),
    ("v.csv", "", "line 1: the file is empty; needed are the columns item_id, model_a"),
    (
        "v.csv",
        HEAD.encode() + b"\n1,a,b,tie,x,human\n2,a,\xff,tie,x,human\n",
        "line 3, column 'model_b': byte 0xff is not UTF-8",
    ),
    ("v.csv", f"{HEAD}\n1,a,b,tie,x\n", "line 2, column 'annotator_kind': the line has 5 cells, the header 6"),
    ("v.csv", f'{HEAD}\n1,a,"b,tie,x,human\n', "not CSV"),
    ("v.csv", f"{HEAD},probability\n1,a,b,tie,x,human,1.5\n", "'1.5' is not a finite number between 0 and 1"),
    ("v.csv", f"{HEAD},probability\n1,a,b,tie,x,human,nan\n", "'nan' is not a finite number"),
    ("v.csv", f"{HEAD},turn\n1,a,b,tie,x,human,zwei\n", "column 'turn': 'zwei' is not a number"),
    ("v.csv", f"{HEAD},order\n1,a,b,tie,x,human,AB\n", "column 'order': 'AB' is not allowed; allowed are 'ab', 'ba'"),
    ("v.csv", f"{HEAD},timestamp\n1,a,b,tie,x,human,noon\n", "column 'timestamp': 'noon' is no time"),
    ("v.jsonl", '{"item_id": 1}\n', "line 1: the column 'model_a' is missing"),
    ("v.jsonl", "{}\n[1]\n", "line 1: the column 'item_id' is missing"),
    ("v.jsonl", "{\n", "line 1, column 2: not JSON"),
    ("v.jsonl", "[1]\n", "line 1: not an object"),
    ("v.parquet", "no parquet", "is not a Parquet file"),
    ("v.xlsx", "", "unknown kind of file '.xlsx'; allowed are .csv, .jsonl, .parquet"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD_VOTES)
def test_bad_votes_end_in_one_sentence_and_nothing_is_written(
    sqlite: Ledger, tmp_path: Path, name: str, text: str | bytes, said: str
) -> None:
    with pytest.raises(UserError) as error:
        generic.import_votes(sqlite, write(tmp_path / name, text))
    assert said in str(error.value) and name in str(error.value)
    assert "\n" not in str(error.value)
    assert sum(count(sqlite, table) for table in ("model", "item", "dataset", "run", "battle", "verdict")) == 0


BAD_OTHERS: list[tuple[str, str, str]] = [
    (
        "responses",
        "item_id,model,prompt,response\n1,m,p,a\n1,m,p,b\n",
        "line 3, column 'item_id': '1' is there already",
    ),
    ("responses", "item_id,model,prompt,response\n1,m,p,a\n1,n,q,b\n", "line 3, column 'prompt': it differs"),
    ("responses", "item_id,model,prompt,response,tags\n1,m,p,a,{\n", "line 2, column 'tags': not JSON"),
    ("responses", "item_id,model,prompt,response,tags\n1,m,p,a,[]\n", "line 2, column 'tags': [] is not an object"),
    (
        "responses",
        "item_id,model,prompt,response,error_kind\n1,m,p,a,bad\n",
        "column 'error_kind': 'bad' is not allowed",
    ),
    ("responses", "item_id,model,prompt,response\n1,,p,a\n", "line 2, column 'model': it is empty"),
    ("grades", "item_id,annotator,annotator_kind,criterion,value\n1,x,human,c,\n", "column 'value': it is empty"),
    ("grades", "item_id,annotator,annotator_kind,criterion,value\n1,x,human,c,A\n", "'A' is not a number"),
    ("grades", "item_id,annotator,annotator_kind,criterion,value\n1,x,people,c,1\n", "'people' is not allowed"),
    ("scores", "model,gsm8k\nm,0.5\nm,0.6\n", "line 3, column 'model': 'm' is there already, in line 2"),
    ("scores", "model,gsm8k\nm,high\n", "line 2, column 'gsm8k': 'high' is not a number"),
    ("scores", "model\nm\n", "a score table needs a column for each benchmark"),
]


@pytest.mark.parametrize(("kind", "text", "said"), BAD_OTHERS)
def test_other_bad_files(sqlite: Ledger, tmp_path: Path, kind: str, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        getattr(generic, f"import_{kind}")(sqlite, write(tmp_path / "f.csv", text))
    assert said in str(error.value)
    assert sum(count(sqlite, table) for table in ("model", "item", "dataset", "run", "response", "score")) == 0


def test_same_id_for_different_prompts_is_refused_only_where_it_matters(sqlite: Ledger, tmp_path: Path) -> None:
    for name in ("one", "two"):
        text = f"item_id,model,prompt,response\n1,m,prompt of {name},a\n"
        generic.import_responses(sqlite, write(tmp_path / f"{name}.csv", text))
    with pytest.raises(UserError, match="'1' means 2 different prompts"):
        generic.import_votes(sqlite, write(tmp_path / "v.csv", f"{HEAD}\n1,a,b,tie,x,human\n"))
    hashes = list(frames.items(sqlite, 1).item_id)
    assert len(hashes) == 1 and count(sqlite, "item") == 2


def test_missing_and_unwritable_files(sqlite: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv cannot be read: No such file"):
        generic.import_votes(sqlite, tmp_path / "absent.csv")
    with pytest.raises(UserError, match=r"cannot be written: No such file"):
        generic.export_votes(sqlite, tmp_path / "absent" / "v.csv")
    with pytest.raises(UserError, match="allowed are"):
        generic.export_votes(sqlite, tmp_path / "v.txt")
    assert list(tmp_path.glob(".*part")) == []


def test_awkward_texts_survive_every_kind(tmp_path: Path) -> None:
    from evalkit.store.formats.tables import write_table

    texts: list[Any] = ['a,"b"\r\nc', "\u2028 x \x85 \x0b", "你好 🎉", "'=1+1", " lead and trail "]
    for suffix in (".csv", ".jsonl", ".parquet"):
        path = tmp_path / f"t{suffix}"
        write_table(path, {"t": str, "n": int}, [[(text, 1) for text in texts[:2]], [(text, 2) for text in texts[2:]]])
        assert [row.text("t") for row in read_table(path, ("t",))] == texts
