"""The scorecard: each figure is that of the statistics, what cannot be measured says why, judges are told apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import Share, alt_test, audit_judge, compare_boards, judge_agreement, krippendorff_alpha
from judges.columns import BY_KEY, COLUMNS, GROUPS, Column, written
from judges.evidence import same_model, select
from judges.probes import ProbeRates
from judges.scorecard import scorecard

MODELS = ("atlas", "birch", "cedar", "delta")
STRENGTH = dict(zip(MODELS, (1.2, 0.4, 0.0, -0.9), strict=True))


def world(n: int = 300, seed: int = 1) -> pd.DataFrame:
    """Battles that three people, a good judge (in both orders) and a coin judged."""
    rng = np.random.default_rng(seed)
    rows = []

    def add(i: int, a: str, b: str, who: str, kind: str, winner: str | None, order: str | None = None) -> None:
        rows.append(
            {
                **{"item_id": f"q{i % 50}", "turn": 1 + i // 50, "model_a": a, "model_b": b, "winner": winner},
                **{"annotator": who, "annotator_kind": kind, "criterion": "overall", "order": order},
                **{"category": ("maths", "prose")[i % 2], "probability": 0.8 if winner == "model_a" else 0.2},
            }
        )

    for i in range(n):
        a, b = sorted(rng.permutation(MODELS)[:2])
        truth = STRENGTH[a] - STRENGTH[b] + rng.normal(0, 0.7)

        def said(noise: float, truth: float = truth) -> str:
            gap = truth + rng.normal(0, noise)
            return "tie" if abs(gap) < 0.3 else "model_a" if gap > 0 else "model_b"

        for k in range(3):
            add(i, a, b, f"human_{k}", "human", said(0.5))
        winner = said(0.4)
        for order in ("ab", "ba"):
            add(i, a, b, "good", "judge", None if i % 60 == 0 else winner, order)
            add(i, a, b, "coin", "judge", ("model_a", "model_b", "tie")[int(rng.integers(3))], order)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def votes() -> pd.DataFrame:
    return world()


def test_every_column_is_there_with_limits_around_it_and_its_n(votes: pd.DataFrame) -> None:
    found = scorecard(votes)
    assert [row.judge for row in found.rows] == ["good", "coin"]
    for row in found.rows:
        assert list(row.figures) == [column.key for column in COLUMNS]
        for key, figure in row.figures.items():
            assert figure.measured or figure.note, key
            if figure.measured and figure.lower is not None:
                assert figure.value is not None and figure.upper is not None
                assert figure.lower <= figure.value <= figure.upper and figure.n > 0, key
    assert {column.group for column in COLUMNS} == set(GROUPS) and len(BY_KEY) == len(COLUMNS)
    frame = found.frame()
    assert len(frame) == 3 and frame["kind"].tolist() == ["judge", "judge", "humans"]
    assert {"kappa", "kappa_lower", "kappa_upper", "kappa_n"} <= set(frame.columns)


def test_figures_are_those_of_the_statistics(votes: pd.DataFrame) -> None:
    found = scorecard(votes, epsilon=0.15, seed=3)
    row, agreed = found.row("good"), {one.judge: one for one in judge_agreement(votes).rows}
    for key, wanted in (("agreement", "agreement"), ("agreement_no_ties", "agreement_no_ties"), ("kappa", "kappa")):
        assert row.figures[key].value == getattr(agreed["good"], wanted)
        assert found.humans.figures[key].value == getattr(agreed["humans"], wanted)
    assert row.figures["agreement"].n == agreed["good"].n - agreed["good"].n_failed
    assert row.figures["human_ceiling"] == found.humans.figures["agreement"]
    test = next(one for one in alt_test(votes, "*", "*", epsilon=0.15).tests if one.judge == "good")
    assert row.figures["alt_test"].value == test.winning_rate and row.may_stand_in is test.passes is True
    assert row.figures["alt_test_advantage"].value == pytest.approx(test.advantage_probability)
    checks = {one.check: one for one in audit_judge(votes, "good").rows}
    for key in ("swap_consistency", "first_slot", "parse_failures", "calibration_error"):
        assert row.figures[key].value == checks[key].value
    assert row.figures["parse_failures"].n == 600 and row.figures["parse_failures"].value == 10 / 600
    tables = [found.boards[who].frame()[["model", "rating", "lower", "upper"]] for who in ("good", None)]
    compared = compare_boards(*tables, seed=3)
    assert row.figures["separability"].value == compared.separability
    assert row.figures["spearman"].value == compared.spearman.value == 1.0


def test_few_models_have_the_limits_of_redrawn_boards() -> None:
    found = scorecard(world(60, seed=2)).row("good").figures["spearman"]
    assert found.value is not None and found.lower is not None and found.lower < found.value
    assert "few models" in found.note


def test_alpha_is_of_the_judge_and_the_people_on_its_battles(votes: pd.DataFrame) -> None:
    found = scorecard(votes)
    joined = votes[votes["order"] != "ba"]
    wide = joined[joined["annotator"] != "coin"].pivot(
        index=["item_id", "turn", "model_a", "model_b"], columns="annotator", values="winner"
    )
    clusters = wide.index.get_level_values("item_id")
    expected = krippendorff_alpha(wide.to_numpy(dtype=object), clusters=clusters)
    alpha = found.row("good").figures["alpha"]
    assert (alpha.value, alpha.lower, alpha.upper) == pytest.approx((expected.value, expected.lower, expected.upper))
    people = krippendorff_alpha(wide.drop(columns="good").to_numpy(dtype=object), clusters=clusters)
    assert found.humans.figures["alpha"].value == pytest.approx(people.value)


def test_a_coin_is_no_judge(votes: pd.DataFrame) -> None:
    found = scorecard(votes)
    good, coin = found.row("good").figures, found.row("coin").figures
    assert coin["kappa"].lower is not None and coin["kappa"].lower <= 0.02
    for key in ("agreement", "agreement_no_ties", "kappa", "alpha", "alt_test_advantage"):
        assert (good[key].lower or 0) > (coin[key].upper or 0), key
    assert found.row("coin").may_stand_in is False
    assert found.row("coin").verdict == "decides at random"
    once = scorecard(votes[votes["order"] != "ba"].reset_index(drop=True)).row("coin").figures
    assert once["swap_consistency"].note == "no battle was judged in both orders"


def test_costs_probes_lengths_and_juries(votes: pd.DataFrame) -> None:
    costs = pd.DataFrame(
        {
            "annotator": ["good"] * 40,
            "item_id": [f"q{i % 20}" for i in range(40)],
            "dollars": [0.002, 0.004] * 20,
            "seconds": [1.0, None] * 20,
            "requests": [2] * 40,
        }
    )
    probes = {"good": ProbeRates(Share(0.25, 0.1, 0.5, 5, 20), Share(0.1, 0.0, 0.3, 2, 20), Share(0, 0, 0.2, 0, 15), 0)}
    lengths = pd.DataFrame([(f"q{i}", m, 10 * (k + 1)) for i in range(50) for k, m in enumerate(MODELS)])
    lengths.columns = pd.Index(["item_id", "model", "length"])
    found = scorecard(votes, costs=costs, probes=probes, responses=lengths, juries=["coin"], models={"good": "atlas"})
    row, jury = found.row("good").figures, found.row("coin").figures
    assert (row["dollars_per_1000"].value, row["dollars_per_1000"].n) == (pytest.approx(3.0), 40)
    assert (row["seconds_per_1000"].value, row["seconds_per_1000"].n) == (1000.0, 20)
    assert (row["requests"].value, row["requests"].lower) == (80.0, None)
    assert (row["injection"].value, row["null_model"].n) == (0.25, 15)
    assert row["injection"].note == "without the injected text the same answers win 10.0% of 20"
    assert row["self_preference"].measured and row["verbosity"].measured
    assert found.row("coin").kind == "jury" and jury["injection"].note == "probes are of single judges"
    assert jury["self_preference"].note == "a jury sees no order and is no model"
    alone = scorecard(votes).row("good").figures
    assert "evalkit judge probe" in alone["injection"].note and "recorded elsewhere" in alone["requests"].note


def test_patterns_choose_who_is_held_against_whom(votes: pd.DataFrame) -> None:
    frame = select(votes, "co*", "*", "overall")
    assert set(frame.loc[frame["annotator_kind"] == "judge", "annotator"]) == {"coin"}
    # A judge that is held to be right is a human here, as a verifier may be.
    frame = select(votes, "*", "good", "overall")
    kinds = dict(zip(frame["annotator"], frame["annotator_kind"], strict=True))
    assert kinds == {"coin": "judge", "good": "human"}
    for judges, humans, criterion, said in (
        ("nobody", "*", "overall", "no judge fits 'nobody'"),
        ("*", "nobody", "overall", "--humans PATTERN"),
        ("*", "*", "taste", "nobody judged 'taste'"),
        ("human_*", "human_*", "overall", "no judge fits 'human_*'"),
    ):
        with pytest.raises(UserError, match=said.replace("*", r"\*")):
            select(votes, judges, humans, criterion)


def test_a_judge_is_found_among_the_models_whatever_the_signs() -> None:
    there = ["GPT 4", "claude-v1", "org/Llama-3 8B"]
    assert same_model(["gpt-4"], there) == same_model(["", "gpt4_pair"], there) == "GPT 4"
    assert same_model(["llama-3-8b"], there) == "org/Llama-3 8B"
    assert same_model(["gpt-3.5", "judge"], there) is None


def test_values_are_written_for_readers() -> None:
    def say(unit: str, value: float | None) -> str:
        return written(Column("k", "people", "t", unit, "m"), value)  # type: ignore[arg-type]

    assert [say("share", 0.659), say("points", -0.051), say("coefficient", -0.5)] == ["65.9%", "−5.1", "−0.50"]
    assert [say("dollars", 3), say("dollars", 0.001), say("seconds", 1234.4)] == ["$3.00", "$0.0010", "1,234"]
    assert say("share", None) == ""
