"""Reading a file by column gives what reading it by row gives, and leaves to the rows what it does not understand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evalkit.store.formats import columns
from evalkit.store.formats.generic import read_grades, read_votes

HEAD = "item_id,model_a,model_b,winner,annotator,annotator_kind"
FULL = f"{HEAD},criterion,turn,order,replicate,probability,timestamp,category,error,extra"
ROWS = [
    "1,a,b,model_a,x,human,,,,,,,,,9",
    '"two, 2","a ""q""",b,both_bad,x,judge,style,2,ba,1,0.25,2026-01-31T12:00:00Z,maths,,',
    '"3\n3",ü,b,,y,judge,overall,1,ab,0,1,1769860800,,no verdict,-1.5',
    "4,a,a,tie,y,human,overall,,,,,2026-01-31 12:00:00+02:00,,,0",
]
FILES = {
    "plain": f"{HEAD}\n1,a,b,tie,x,human\n2,a,b,model_b,x,human\n",
    "crlf": f"{HEAD}\r\n1,a,b,tie,x,human\r\n\r\n2,a,b,model_b,x,human\r\n",
    "mark": f"\ufeff{HEAD}\n1,a,b,tie,x,human\n",
    "full": "\n".join([FULL, *ROWS]) + "\n",
    "no line end": f"{HEAD}\n1,NA,null,tie,x,human",
}


def both(path: Path, **options: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The file read by column, which must not have asked the rows, and read by row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_by_row", None)
        fast = read_votes(path, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_by_column", refuse)
        slow = read_votes(path, **options)
    return fast, slow


def refuse(*_: object) -> pd.DataFrame:
    raise columns.Doubt


@pytest.mark.parametrize("name", FILES)
def test_by_column_is_by_row(tmp_path: Path, name: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_bytes(FILES[name].encode())
    fast, slow = both(path, **({"numeric": ["extra"]} if name == "full" else {}))
    pd.testing.assert_frame_equal(fast, slow, check_dtype=False)
    assert list(fast.dtypes.astype(str)) == list(slow.dtypes.astype(str))


def test_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_bytes(FILES["full"].encode())
    fast, _ = both(path, numeric=["extra"])
    assert fast["criterion"].tolist() == ["overall", "style", "overall", "overall"]
    assert fast["turn"].tolist() == [1, 2, 1, 1]
    assert fast["winner"].isna().tolist() == [False, False, True, False]
    assert fast["item_id"].tolist() == ["1", "two, 2", "3\n3", "4"]
    noon = pd.Timestamp("2026-01-31T12:00:00Z")
    assert fast["timestamp"].tolist()[1:] == [noon, noon, noon - pd.Timedelta(hours=2)]
    assert fast["extra"].tolist()[2:] == [-1.5, 0.0]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_other_kinds_of_file(tmp_path: Path, ending: str) -> None:
    plain = tmp_path / "votes.csv"
    plain.write_text(f"{HEAD},turn,probability\n1,a,b,tie,x,human,1,\n2,a,b,model_b,x,human,2,0.5\n")
    path = tmp_path / f"votes.{ending}"
    frame = pd.read_csv(plain)
    frame.to_parquet(path) if ending == "parquet" else frame.to_json(path, orient="records", lines=True)
    fast, slow = both(path)
    pd.testing.assert_frame_equal(fast, read_votes(plain))
    pd.testing.assert_frame_equal(fast, slow)


ODD = [
    f"{HEAD},probability\n1,a,b,tie,x,human, 0.5\n",  # Python reads this number, Arrow does not
    f"{HEAD}\n1,  a,b,tie,x,human\n",
    f"{HEAD},timestamp\n1,a,b,tie,x,human,20260131T120000Z\n",
]


@pytest.mark.parametrize("text", ODD)
def test_what_only_rows_understand_is_read_all_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text)
    assert len(read_votes(path)) == 1


def test_failed_grades_have_no_value(tmp_path: Path) -> None:
    path = tmp_path / "grades.csv"
    path.write_text(
        "item_id,annotator,annotator_kind,criterion,value,error\n1,x,human,acc,0.5,\n2,x,judge,acc,,no number\n"
    )
    frame = read_grades(path)
    assert frame["value"].isna().tolist() == [False, True]
    assert "model" not in frame.columns
