"""Boards by group: the same as boards of the chosen votes, flags and periods, and faults with their row."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import bradley_terry, grouped_ratings


def votes(n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c", "d"])
    first = rng.integers(4, size=n)
    second = (first + rng.integers(1, 4, size=n)) % 4
    return pd.DataFrame(
        {
            "model_a": names[first],
            "model_b": names[second],
            "winner": rng.choice(["model_a", "model_b", "tie"], size=n),
            "category": rng.choice(["maths", "code", None], size=n),
            "annotator": rng.integers(40, size=n),
            "is_hard": rng.integers(2, size=n),
            "is_long": rng.choice(["true", "False", ""], size=n),
            "timestamp": pd.date_range("2026-01-30", periods=n, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


def test_each_board_is_that_of_its_votes() -> None:
    frame = votes()
    found = grouped_ratings(frame, "category", ties="davidson", cluster="annotator")
    assert list(found.boards) == ["code", "maths"]
    alone = bradley_terry(frame[frame["category"] == "maths"], ties="davidson", cluster="annotator").frame()
    pd.testing.assert_frame_equal(found.boards["maths"].frame(), alone)
    table = found.frame()
    assert table.columns[0] == "group" and len(table) == 8
    assert table[table["group"] == "maths"]["rating"].to_numpy() == pytest.approx(alone["rating"].to_numpy())
    assert found.n_ungrouped == frame["category"].isna().sum() and found.n == 600
    assert f"{found.n_ungrouped} of 600 votes are in no group by category" in found.warnings[0]


def test_flags_put_a_vote_into_several_groups() -> None:
    frame = votes()
    found = grouped_ratings(frame, ["is_hard", "is_long"])
    hard, lengthy = frame["is_hard"] == 1, frame["is_long"] == "true"
    assert (found.boards["is_hard"].n, found.boards["is_long"].n) == (hard.sum(), lengthy.sum())
    assert found.n_ungrouped == (~hard & ~lengthy).sum()
    none = grouped_ratings(frame.assign(never=0), ["is_hard", "never"])
    assert list(none.boards) == ["is_hard"] and none.warnings[0] == "No votes in never: no board."


def test_periods_of_time() -> None:
    frame = votes()
    found = grouped_ratings(frame, "timestamp", period="month")
    assert list(found.boards) == ["2026-01", "2026-02"] and found.boards["2026-01"].n == 48
    seconds = pd.date_range("2026-01-30", periods=600, freq="h", tz="UTC").as_unit("s").astype("int64")
    numbers = grouped_ratings(frame.assign(timestamp=seconds), "timestamp", period="month")
    pd.testing.assert_frame_equal(found.frame(), numbers.frame())
    assert next(iter(grouped_ratings(frame, "timestamp", period="week").boards)) == "2026-01-26/2026-02-01"
    moments = frame.assign(timestamp=pd.to_datetime(frame["timestamp"]))
    pd.testing.assert_frame_equal(found.frame(), grouped_ratings(moments, "timestamp", period="month").frame())


def test_weights_follow_their_votes() -> None:
    frame = votes()
    weights = np.random.default_rng(1).random(600)
    found = grouped_ratings(frame, "is_hard", weights=weights)
    hard = (frame["is_hard"] == 1).to_numpy()
    alone = bradley_terry(frame[hard], weights=weights[hard])
    assert found.boards["1"].rating == pytest.approx(alone.rating)


def test_warnings_name_their_group() -> None:
    frame = votes()
    frame.loc[frame["is_hard"] == 1, "winner"] = np.where(frame["model_a"] == "a", "model_a", "model_b")[
        frame.is_hard == 1
    ]
    found = grouped_ratings(frame, "is_hard")
    assert any(sentence.startswith("1: Not rated: ") for sentence in found.warnings)


def test_bad_groups_end_in_a_sentence() -> None:
    frame = votes()
    with pytest.raises(UserError, match=r"vote 1 has '0\.5' for the flag is_hard; flags are 0 or 1"):
        grouped_ratings(frame.assign(is_hard=[0.5, *[1] * 599]), ["is_hard"])
    with pytest.raises(UserError, match="vote 3 has 'maybe' for the flag is_long"):
        grouped_ratings(frame.assign(is_long=["1", "0", "maybe", *["1"] * 597]), ["is_long"])
    with pytest.raises(UserError, match="vote 2 has the timestamp 'yesterday'"):
        stamps = [frame["timestamp"][0], "yesterday", *frame["timestamp"][2:]]
        grouped_ratings(frame.assign(timestamp=stamps), "timestamp", period="day")
    with pytest.raises(UserError, match="the period is 'hour'"):
        grouped_ratings(frame, "timestamp", period="hour")
    with pytest.raises(UserError, match="periods are of one column"):
        grouped_ratings(frame, ["is_hard"], period="day")
    with pytest.raises(UserError, match="lack the column"):
        grouped_ratings(frame, "language")
    with pytest.raises(UserError, match="category, group code: the anchor model 'z'"):
        grouped_ratings(frame, "category", anchor="z")
    with pytest.raises(UserError, match="600 are needed"):
        grouped_ratings(frame, "category", weights=[1.0])
    with pytest.raises(UserError, match="no column to group by"):
        grouped_ratings(frame, [])
