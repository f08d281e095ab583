"""Names as codes: every way a table may hold text gives the same codes and counts."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from evalkit.stats import count_votes
from evalkit.stats.votes import factorize

KINDS = [
    "str",
    object,
    "category",
    pd.ArrowDtype(pa.string()),
    pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())),
    pd.StringDtype("python"),
    pd.StringDtype("pyarrow"),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("rows", [0, 1, 7, 5_000, 12_345])
def test_codes_give_the_values_back(kind, rows: int) -> None:
    # A long tail: many values are in no sample, some rows are missing, and the tail comes late.
    rank = np.sort(np.minimum(np.random.default_rng(rows).geometric(0.004, rows) - 1, 4_000))
    values = [None if k == 3 else f"name {k}" for k in rank]
    whole = pd.Series(values, dtype=kind)
    for column in (whole, whole[::-2], pd.concat([whole, whole.head(3)])):
        codes, distinct = factorize(column)
        assert codes.dtype == np.int64 and len(set(distinct)) == len(distinct)
        back = [None if code < 0 else distinct[code] for code in codes]
        assert back == [None if pd.isna(value) else value for value in column]


def test_equal_names_in_many_objects_are_one_model() -> None:
    shared, own = ["m1", "m2"] * 4_000, ["".join(["m", str(k % 2 + 1)]) for k in range(8_000)]
    for names in (shared, own, shared + own):
        _, distinct = factorize(pd.Series(names, dtype=object))
        assert sorted(distinct) == ["m1", "m2"]


def test_numbers_are_names_too() -> None:
    counts = count_votes(pd.DataFrame({"model_a": [1, 2, 1], "model_b": ["2", "1", "3"], "winner": "tie"}))
    assert counts.models == ("1", "2", "3") and counts.votes.sum() == 3


def test_counts_do_not_depend_on_the_kind_of_text() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(30, size=(2, 20_000))
    labels = np.array(["model_a", "model_b", "tie", "both_bad", "Tie?", None], dtype=object)
    votes = pd.DataFrame(
        {
            "model_a": [f"model {k}" for k in a],
            "model_b": [f"model {k}" for k in b],
            "winner": labels[rng.integers(6, size=20_000)],
        }
    )
    first = count_votes(votes.astype(object))
    for kind in KINDS[:1] + KINDS[2:]:
        other = count_votes(votes.astype(kind))
        assert other.models == first.models and other.diagnoses == first.diagnoses
        np.testing.assert_array_equal(other.votes, first.votes)


def test_a_category_without_a_row_is_no_model() -> None:
    votes = pd.DataFrame({"model_a": ["x", "y", "z"], "model_b": ["y", "x", "x"], "winner": "model_a"})
    kept = votes.astype("category").head(2)
    assert count_votes(kept).models == ("x", "y")
