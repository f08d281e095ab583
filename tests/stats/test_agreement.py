"""Agreement, swap consistency and first-slot preference on small tables worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import agreement, first_slot_preference, judge_agreement, parse_failures, swap_consistency


def votes(annotator: str, *rows: tuple[object, ...], columns: str = "item_id model_a model_b winner") -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns.split()).assign(annotator=annotator)


JUDGE = votes(
    "judge",
    (1, "x", "y", "model_a"),
    (2, "x", "y", "tie"),
    (3, "x", "y", "model_a"),
    (4, "x", "y", None),
    (5, "x", "y", "tie"),
)
HUMAN = votes(
    "human",
    (1, "y", "x", "model_b"),  # the same verdict, sides changed
    (2, "x", "y", "both_bad"),
    (3, "y", "x", "model_a"),
    (4, "x", "y", "model_a"),
    (5, "x", "y", "model_a"),
    (6, "x", "y", "model_a"),
    (1, "x", "z", "model_a"),
)


def test_agreement_by_hand() -> None:
    result = agreement(JUDGE, HUMAN)
    assert (result.n, result.n_failed) == (5, 1)
    assert (result.ties.successes, result.ties.n) == (2, 4)
    assert (result.no_ties.successes, result.no_ties.n) == (1, 2)
    assert result.table.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert result.warnings == ("1 of 5 pairs of verdicts have no readable verdict; they are in n and in no share.",)
    assert 0 < result.ties.lower < 0.5 < result.ties.upper < 1


def test_agreement_is_symmetric_and_ignores_row_order() -> None:
    forward, backward = agreement(JUDGE, HUMAN), agreement(HUMAN.sample(frac=1, random_state=0), JUDGE)
    assert forward.ties == backward.ties and (forward.table == backward.table.T).all()


def test_annotators_among_themselves_count_each_pair_once() -> None:
    three = pd.concat(
        [votes(name, (1, "x", "y", winner)) for name, winner in zip("abc", ["model_a", "model_a", "tie"], strict=True)]
    )
    result = agreement(three)
    assert (result.ties.successes, result.ties.n) == (1, 3)
    assert (result.no_ties.successes, result.no_ties.n) == (1, 1)


def test_turn_and_criterion_separate_battles_and_types_may_differ() -> None:
    columns = "item_id model_a model_b winner turn"
    left = votes("a", (1, "x", "y", "model_a", 1), (1, "x", "y", "model_b", 2), columns=columns)
    right = votes("b", ("1", "x", "y", "model_a", 1), ("1", "x", "y", "model_b", 2), columns=columns)
    assert (agreement(left, right).ties.successes, agreement(left, right).n) == (2, 2)


def test_no_common_battle_is_said() -> None:
    result = agreement(JUDGE, votes("human", (9, "x", "y", "tie")))
    assert result.n == 0 and np.isnan(result.ties.value) and "No two verdicts" in result.warnings[0]


ORDERED = "item_id model_a model_b winner order"
SWAPS = votes(
    "judge",
    (1, "x", "y", "model_a", "ab"),
    (1, "x", "y", "model_a", "ba"),  # consistent
    (2, "x", "y", "model_a", "ab"),
    (2, "x", "y", "model_b", "ba"),  # always the first
    (3, "x", "y", "model_b", "ab"),
    (3, "y", "x", "model_b", "ab"),  # sides changed instead of the order: always the second
    (4, "x", "y", "tie", "ab"),
    (4, "x", "y", "model_a", "ba"),  # a tie in one order
    (5, "y", "x", "tie", "ab"),
    (5, "y", "x", "tie", "ba"),  # consistent
    (6, "x", "y", "model_a", "ab"),
    (6, "x", "y", None, "ba"),  # unreadable
    (7, "x", "y", "model_a", "ab"),  # one order only
    columns=ORDERED,
)


def test_swap_consistency_by_hand() -> None:
    result = swap_consistency(SWAPS)
    assert (result.n, result.n_failed, result.n_one_order) == (6, 1, 1)
    assert (result.consistent.successes, result.consistent.n) == (2, 5)
    assert (result.always_first, result.always_second, result.other) == (1, 1, 1)
    assert len(result.warnings) == 2


def test_swap_pairs_repeats_and_keeps_annotators_apart() -> None:
    twice = pd.concat([SWAPS, SWAPS, SWAPS.assign(annotator="other")])
    result = swap_consistency(twice)
    assert (result.n, result.consistent.successes, result.n_one_order) == (18, 6, 3)


def test_a_judge_that_always_says_first() -> None:
    rows = [(i, "x", "y", winner, order) for i in range(20) for order, winner in (("ab", "model_a"), ("ba", "model_b"))]
    frame = votes("judge", *rows, columns=ORDERED)
    swap, first = swap_consistency(frame), first_slot_preference(frame)
    assert (swap.consistent.value, swap.always_first) == (0.0, 20)
    assert (first.first.value, first.first.n) == (1.0, 40)
    assert first.p_value == pytest.approx(2 * 0.5**40)
    assert first.first.lower > 0.9 and first.warnings == ()


def test_first_slot_by_hand() -> None:
    result = first_slot_preference(SWAPS)
    # First-slot wins: 1ab, 2ab, 2ba, 6ab, 7ab; second-slot wins: 1ba, 3ab, 3 sides changed, 4ba.
    assert (result.first.successes, result.first.n) == (5, 9)
    assert (result.n, result.n_failed) == (13, 1)
    assert result.p_value == pytest.approx(1.0)


def test_one_order_only_is_said() -> None:
    result = first_slot_preference(SWAPS[SWAPS["order"] == "ab"])
    assert "cannot be told apart" in result.warnings[-1]


def test_parse_failures() -> None:
    result = parse_failures(SWAPS)
    assert (result.successes, result.n) == (1, 13) and result.lower > 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"winner": "A"}, "verdict 1 has the winner 'A'"),
        ({"order": "left"}, "verdict 1 has the order 'left'; it must be ab or ba"),
        ({"order": None}, "verdict 1 has the order"),
        ({"item_id": None}, "verdict 1 has no item_id"),
    ],
)
def test_bad_verdicts_end_in_a_sentence(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        swap_consistency(SWAPS.assign(**change))


def test_missing_columns_end_in_a_sentence() -> None:
    with pytest.raises(UserError, match="lack the column"):
        swap_consistency(JUDGE)
    with pytest.raises(UserError, match="annotator"):
        agreement(JUDGE.drop(columns="annotator"), HUMAN)


def judged() -> pd.DataFrame:
    """Four judged battles by two judges, and two humans; `careful` saw each in both orders."""
    columns = "item_id model_a model_b winner order turn category"
    careful = votes(
        "llm-careful",
        (1, "x", "y", "model_a", "ab", 1, "code"),
        (1, "x", "y", "model_a", "ba", 1, "code"),  # the same in both orders
        (2, "x", "y", "model_a", "ab", 1, "code"),
        (2, "x", "y", "model_b", "ba", 1, "code"),  # differs: a tie
        (3, "x", "y", "model_b", "ab", 2, "math"),
        (3, "x", "y", None, "ba", 2, "math"),  # one half unreadable: unreadable
        (4, "x", "y", "model_b", "ab", 2, "math"),  # in one order only
        columns=columns,
    )
    quick = votes(
        "llm-quick", *[(i, "x", "y", "model_a", "ab", 1 + (i > 2), "any") for i in range(1, 5)], columns=columns
    )
    first = votes(
        "expert_1",
        (1, "y", "x", "model_b", None, 1, "code"),
        (2, "x", "y", "both_bad", None, 1, "code"),
        (3, "x", "y", "model_b", None, 2, "math"),
        (4, "x", "y", "model_b", None, 2, "math"),
        columns=columns,
    )
    second = first.assign(annotator="expert_2", winner=["model_b", "model_a", "model_b", "tie"])
    kinds = pd.concat([careful, quick]).assign(annotator_kind="judge"), pd.concat([first, second])
    return pd.concat([kinds[0], kinds[1].assign(annotator_kind="human")], ignore_index=True)


def test_judges_against_humans_by_hand() -> None:
    result = judge_agreement(judged(), judges="llm-*", annotators="expert_*")
    frame = result.frame().set_index("judge")
    assert list(frame.index) == ["llm-careful", "llm-quick", "humans"]
    assert list(frame["reference"].unique()) == ["expert_*"] and list(frame["group"].unique()) == ["all"]
    # careful: x, tie, unreadable, y; the experts: x x, tie x, y y, y tie.
    assert frame.loc["llm-careful", ["n", "n_failed", "n_no_ties"]].tolist() == [8, 2, 3]
    assert frame.loc["llm-careful", ["agreement", "agreement_no_ties"]].tolist() == [4 / 6, 1.0]
    assert frame.loc["llm-quick", ["n", "n_failed", "n_no_ties"]].tolist() == [8, 0, 6]
    assert frame.loc["llm-quick", "agreement"] == 3 / 8
    assert frame.loc["humans", ["n", "agreement", "n_no_ties"]].tolist() == [4, 2 / 4, 2]
    assert (result.n, result.n_failed) == (16, 2)
    assert "2 of 16 pairs of verdicts have no readable verdict; they are in n and in no share." in result.warnings
    assert (frame["kappa_lower"] <= frame["kappa"])[["llm-careful", "humans"]].all()
    assert (frame["kappa"] <= frame["kappa_upper"])[["llm-careful", "humans"]].all()
    # quick always says the same, so its kappa is 0 whatever the humans say.
    assert frame.loc["llm-quick", "kappa"] == 0 and np.isnan(frame.loc["llm-quick", "kappa_lower"])
    assert any(text.startswith("llm-quick, all: no interval of kappa. Nothing varies") for text in result.warnings)


def test_stars_stand_for_the_kinds() -> None:
    stars, named = judge_agreement(judged()), judge_agreement(judged(), judges="llm-*", annotators="expert_*")
    assert [row.agreement for row in stars.rows] == [row.agreement for row in named.rows]


def test_groups_have_rows_of_their_own() -> None:
    by_turn = judge_agreement(judged(), judges="llm-careful", annotators="expert_*", group_by="turn").frame()
    assert by_turn[["judge", "group", "n", "n_failed"]].to_numpy().tolist() == [
        ["llm-careful", "1", 4, 0],
        ["llm-careful", "2", 4, 2],
        ["humans", "1", 2, 0],
        ["humans", "2", 2, 0],
    ]
    by_category = judge_agreement(judged(), judges="*", annotators="expert_*", group_by="category").frame()
    assert by_category["group"].tolist() == ["code", "math", "any", "code", "math"]


def test_the_order_of_sides_and_rows_changes_nothing() -> None:
    frame, rng = judged(), np.random.default_rng(0)
    expected = judge_agreement(frame).frame()
    turned = frame.copy()
    flip = rng.random(len(frame)) < 0.5
    turned.loc[flip, ["model_a", "model_b"]] = frame.loc[flip, ["model_b", "model_a"]].to_numpy()
    turned.loc[flip, "winner"] = frame.loc[flip, "winner"].replace({"model_a": "model_b", "model_b": "model_a"})
    turned.loc[flip, "order"] = frame.loc[flip, "order"].replace({"ab": "ba", "ba": "ab"})
    pd.testing.assert_frame_equal(judge_agreement(turned.sample(frac=1, random_state=0)).frame(), expected)


def test_kappa_is_that_of_the_pairs() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(1)
    sides = [votes(name, *[(i, "x", "y", rng.choice(["model_a", "tie"])) for i in range(40)]) for name in ("j", "h")]
    row = judge_agreement(pd.concat(sides), judges="j", annotators="h").rows[0]
    assert row.kappa == pytest.approx(metrics.cohen_kappa_score(sides[0]["winner"], sides[1]["winner"]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"judges": "gpt*"}, "no judge fits 'gpt\\*'; the annotators are expert_1"),
        ({"annotators": "author*"}, "no human fits 'author\\*'"),
        ({"judges": "expert_1", "annotators": "expert*"}, "no judge is left"),
        ({"group_by": "criterion"}, "lack the column"),
    ],
)
def test_patterns_that_fit_nobody_end_in_a_sentence(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge_agreement(judged(), **{"judges": "llm*", "annotators": "expert*", **change})


def test_no_shared_battle_is_a_row_and_a_warning() -> None:
    frame = judged()
    frame.loc[frame["annotator_kind"] == "human", "item_id"] += 100
    result = judge_agreement(frame, judges="llm-quick")
    assert result.rows[0].n == 0 and np.isnan(result.rows[0].agreement) and np.isnan(result.rows[0].kappa)
    assert "No verdict of llm-quick and human vote are on the same item_id, turn, pair of models." in result.warnings


def test_a_verdict_without_a_model_ends_in_a_sentence() -> None:
    with pytest.raises(UserError, match="verdict 2 names no model_b"):
        judge_agreement(judged().assign(model_b=lambda frame: frame["model_b"].where(frame.index != 1)))
