"""Online Elo by hand, in order of time, with its policies; compiled or not, the same to the last bit."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import online_elo

VOTES = pd.DataFrame(
    [("x", "y", "model_a"), ("y", "z", "tie"), ("z", "x", "model_b"), ("x", "z", "both_bad")],
    columns=["model_a", "model_b", "winner"],
)


def by_hand(battles: list[tuple[str, str, float]], k: float) -> dict[str, float]:
    rating = dict.fromkeys("xyz", 1000.0)
    for a, b, score in battles:
        gain = k * (score - 1 / (1 + 10 ** ((rating[b] - rating[a]) / 400)))
        rating[a], rating[b] = rating[a] + gain, rating[b] - gain
    return rating


def ratings_of(found) -> dict[str, float]:
    return dict(zip(found.models, found.rating.tolist(), strict=True))


def test_by_hand() -> None:
    found = online_elo(VOTES, k=32)
    assert ratings_of(found) == pytest.approx(
        by_hand([("x", "y", 1), ("y", "z", 0.5), ("z", "x", 0), ("x", "z", 0.5)], 32)
    )
    assert (found.n, found.n_dropped, found.order) == (4, 0, "of the rows")
    assert found.frame()["votes"].sum() == 8 and (np.diff(found.rating) <= 0).all()
    dropped = online_elo(VOTES, k=32, both_bad="drop")
    assert ratings_of(dropped) == pytest.approx(by_hand([("x", "y", 1), ("y", "z", 0.5), ("z", "x", 0)], 32))
    assert (dropped.n, dropped.n_dropped) == (3, 1)
    assert online_elo(VOTES, k=32, initial=0).rating == pytest.approx(found.rating - 1000)


@pytest.mark.parametrize(
    "times",
    [
        [4.0, 3.0, 2.0, 1.0],
        ["2026-01-04", "2026-01-03T00:00:00Z", "2026-01-02T23:59:59+02:00", "2026-01-01"],
        pd.date_range("2026-01-01", periods=4)[::-1],
    ],
)
def test_order_of_time(times) -> None:
    found = online_elo(VOTES.assign(timestamp=times), k=32)
    backwards = by_hand([("x", "z", 0.5), ("z", "x", 0), ("y", "z", 0.5), ("x", "y", 1)], 32)
    assert ratings_of(found) == pytest.approx(backwards)
    assert "timestamp" in found.order
    rows = online_elo(VOTES, k=32)
    assert ratings_of(online_elo(VOTES.assign(timestamp=1), k=32)) == ratings_of(rows)


def test_faulty_rows_are_said_and_move_nothing() -> None:
    faulty = pd.DataFrame([("x", "x", "model_a"), ("x", "y", None), ("x", None, "tie")], columns=VOTES.columns)
    found = online_elo(pd.concat([faulty, VOTES]), k=32)
    assert ratings_of(found) == ratings_of(online_elo(VOTES, k=32))
    assert (found.n, found.n_excluded) == (4, 3) and len(found.warnings) == 3


def test_a_large_k_does_not_overflow() -> None:
    many = pd.concat([VOTES] * 50)
    assert np.isfinite(online_elo(many, k=1e9).rating).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0; it must be a positive number"),
        ({"k": 32, "scale": float("inf")}, "scale is inf"),
        ({"k": 32, "both_bad": "lose"}, "one of half, drop"),
    ],
)
def test_bad_options_end_in_a_sentence(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        online_elo(VOTES, **options)


def test_bad_timestamps_end_in_a_sentence() -> None:
    with pytest.raises(UserError, match="vote 2 has the timestamp 'noon'"):
        online_elo(VOTES.assign(timestamp=["2026-01-01", "noon", "2026-01-01", "2026-01-01"]), k=32)


def test_compiled_gives_the_same() -> None:
    pytest.importorskip("numba", reason="numba (the extra `fast`) is not installed")
    rng = np.random.default_rng(0)
    i = rng.integers(9, size=5000)
    j = (i + rng.integers(1, 9, size=5000)) % 9
    names, labels = np.array([f"m{k}" for k in range(9)]), np.array(["model_a", "model_b", "tie"])
    votes = pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": labels[rng.integers(3, size=5000)]})
    plain, compiled = online_elo(votes, k=16), online_elo(votes, k=16, compiled=True)
    pd.testing.assert_frame_equal(plain.frame(), compiled.frame(), check_exact=True)


def test_compiled_without_numba_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit.stats import elo

    elo._compiled.cache_clear()
    monkeypatch.setattr(elo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs numba: pip install 'evalkit\[fast\]'"):
        online_elo(VOTES, k=32, compiled=True)
