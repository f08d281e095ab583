"""The audit finds planted faults, finds none in a fair judge, and says what it cannot measure."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import JudgeAudit, audit_judge

MODELS = np.array(["judge-xl", "judge-s", "mild", "sharp", "keen", "null"])


def battles(
    n: int, seed: int, *, slot: float = 0.0, length: float = 0.0, kin: float = 0.0, null: float = -4.0, voters: int = 2
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A judge's verdicts in both orders and human votes; the judge's log-odds have the given faults added."""
    rng = np.random.default_rng(seed)
    item, a = rng.integers(n // 4, size=n), rng.integers(len(MODELS), size=n)
    b = (a + rng.integers(1, len(MODELS), size=n)) % len(MODELS)
    chars = rng.integers(50, 2000, size=(n // 4, len(MODELS)))
    longer = np.log(chars[item, a] / chars[item, b])
    better = np.array([0.2, 0.0, -0.5, 0.5, 0.1, 0.0])[a] - np.array([0.2, 0.0, -0.5, 0.5, 0.1, 0.0])[b]
    better = better + 0.3 * longer + null * ((MODELS[a] == "null").astype(float) - (MODELS[b] == "null"))
    is_kin = np.array([True, True, False, False, False, False])

    def frame(eta: np.ndarray, annotator: str, kind: str, order: str) -> pd.DataFrame:
        likely = 1 / (1 + np.exp(-eta))
        winner = np.where(rng.random(n) < 0.2, "tie", np.where(rng.random(n) < likely, "model_a", "model_b"))
        names = {"item_id": item, "model_a": MODELS[a], "model_b": MODELS[b], "winner": winner}
        return pd.DataFrame(
            {**names, "annotator": annotator, "annotator_kind": kind, "order": order, "probability": likely}
        )

    eta = better + length * longer + kin * (is_kin[a].astype(float) - is_kin[b])
    judge = [frame(eta + slot, "judge-xl", "judge", "ab"), frame(eta - slot, "judge-xl", "judge", "ba")]
    humans = [frame(better, f"human-{k}", "human", "ab").assign(probability=np.nan) for k in range(voters)]
    responses = pd.DataFrame(
        {
            "item_id": np.repeat(np.arange(n // 4), len(MODELS)),
            "model": np.tile(MODELS, n // 4),
            "length": chars.ravel(),
        }
    )
    return pd.concat([*judge, *humans], ignore_index=True), responses


def rows(audit: JudgeAudit) -> pd.DataFrame:
    return audit.frame().set_index("check")


def test_a_fair_judge_is_of_no_concern() -> None:
    votes, responses = battles(3000, 1)
    table = rows(audit_judge(votes, "judge-xl", responses=responses, null_model="null"))
    # Swap consistency is chance here by construction: each order is a draw of its own.
    others = table.drop(index="swap_consistency")
    assert others.loc[others["flag"] == "concern"].empty, others
    assert table.index[table["flag"] == "not measured"].tolist() == ["injection"]  # nobody has probed it
    table = table.drop(index="injection")
    assert (table["lower"] <= table["value"]).all() and (table["value"] <= table["upper"]).all()


@pytest.mark.parametrize(
    "fault, checks",
    [
        ({"slot": 0.5}, {"first_slot"}),
        ({"length": 0.4}, {"verbosity", "length_slope_excess"}),
        ({"kin": 0.8}, {"self_preference", "family_preference"}),
        ({"null": 3.0}, {"null_model"}),
    ],
)
def test_planted_faults_are_found_and_no_others(fault: dict, checks: set[str]) -> None:
    votes, responses = battles(4000, 2, **fault)
    table = rows(audit_judge(votes, "judge-xl", responses=responses, null_model="null"))
    concerns = set(table.index[table["flag"] == "concern"]) - {"swap_consistency"}
    assert checks <= concerns <= checks | {"calibration_error"}


def test_size_of_what_was_planted() -> None:
    row = rows(_audited(20_000, 3, length=0.25, null=0.0)).loc["length_slope_excess"]
    # A fifth of the verdicts are ties whatever the lengths, so a fifth of the slope is not seen.
    assert row["lower"] < 0.8 * 0.25 < row["upper"] and row["upper"] - row["lower"] < 0.1
    assert "odds of winning" in row["verdict"]


def test_by_hand() -> None:
    columns = ["item_id", "model_a", "model_b", "winner", "annotator", "annotator_kind", "order"]
    said = [
        (1, "model_a", "tie"),
        (2, "model_a", "tie"),
        (3, "model_b", "model_b"),
        (4, "model_a", "model_b"),
        (5, None, "model_a"),
    ]
    votes = pd.DataFrame(
        [(i, "j", "other", judge, "j", "judge", "ab") for i, judge, _ in said]
        + [
            (i, "other", "j", {"model_a": "model_b", "model_b": "model_a"}.get(human, human), "h", "human", None)
            for i, _, human in said
        ],
        columns=columns,
    )
    table = rows(audit_judge(votes, "j"))
    assert table.loc["parse_failures", ["value", "n", "n_failed"]].tolist() == [1 / 5, 5, 1]
    # The judge: 1 1 0 1; the humans on the same four: 1/2 1/2 0 0.
    assert table.loc["self_preference", ["value", "n", "n_failed"]].tolist() == [0.5, 5, 1]
    assert table.loc["self_preference_indifferent", ["value", "n", "n_failed"]].tolist() == [1.0, 2, 0]
    assert table.loc["first_slot", ["value", "flag"]].tolist() == [3 / 4, "no test"]
    assert "cannot be told apart" in table.loc["first_slot", "verdict"]
    assert table.loc["swap_consistency", "flag"] == "not measured"


def test_slope_against_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    votes, responses = battles(1500, 4, length=0.3)
    mine = votes[votes["annotator"] == "judge-xl"]
    chars = responses.set_index(["item_id", "model"])["length"]
    sides = [
        np.log(chars.loc[list(zip(mine["item_id"], mine[s], strict=True))].to_numpy()) for s in ("model_a", "model_b")
    ]
    y = mine["winner"].map({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}).to_numpy()
    model = api.GLM(y, (sides[0] - sides[1])[:, None], family=api.families.Binomial())
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": mine["item_id"].to_numpy()})
    row = rows(audit_judge(votes, "judge-xl", responses=responses)).loc["length_slope"]
    assert row["value"] == pytest.approx(fitted.params[0], rel=1e-6)
    assert (row["upper"] - row["lower"]) / 3.92 == pytest.approx(fitted.bse[0], rel=0.01)


def _audited(n: int, seed: int, **faults: float) -> JudgeAudit:
    votes, responses = battles(n, seed, **faults)
    return audit_judge(votes, "judge-xl", responses=responses)


def test_coverage_of_the_comparisons_with_humans() -> None:
    truth = rows(_audited(60_000, 5, length=0.3, kin=0.4))["value"]
    checks = ["verbosity", "length_slope_excess", "self_preference", "family_preference_indifferent", "first_slot"]
    rounds, hits = 100, pd.Series(0, index=checks)
    for seed in range(rounds):
        table = rows(_audited(600, 100 + seed, length=0.3, kin=0.4))
        hits += (table["lower"] <= truth)[checks] & (truth <= table["upper"])[checks]
    assert (hits >= 0.89 * rounds).all(), hits


def test_unreadable_verdicts_stay_in_n_and_change_no_share() -> None:
    votes, responses = battles(800, 6)
    broken = votes.copy()
    lost = broken.index[broken["annotator"] == "judge-xl"][::5]
    broken.loc[lost, "winner"] = None
    table = rows(audit_judge(broken, "judge-xl", responses=responses, null_model="null"))
    fewer = rows(audit_judge(votes.drop(index=lost), "judge-xl", responses=responses, null_model="null"))
    assert table.loc["parse_failures", ["n", "n_failed", "flag"]].tolist() == [1600, 320, "concern"]
    same = ["first_slot", "verbosity", "length_slope", "self_preference", "null_model"]
    np.testing.assert_allclose(table.loc[same, "value"], fewer.loc[same, "value"], rtol=1e-9)
    assert (table.loc[same, "n"] - table.loc[same, "n_failed"] == fewer.loc[same, "n"]).all()
    assert (table.loc[same, "n_failed"] > 0).all()


def test_what_cannot_be_measured_is_said() -> None:
    votes, _ = battles(200, 7, voters=0)
    table = rows(audit_judge(votes.drop(columns=["probability", "order"]), "judge-xl"))
    missing = table[table["flag"] == "not measured"]
    assert set(missing.index) == set(table.index) - {"parse_failures"}
    assert missing["value"].isna().all() and missing["verdict"].str.startswith("Not measured: ").all()
    assert "no human votes" in missing.loc["self_preference", "verdict"]
    assert "no responses" in missing.loc["verbosity", "verdict"]
    assert "no probability" in missing.loc["brier", "verdict"]


def test_few_and_alike_verdicts_have_wide_limits_and_no_false_alarm() -> None:
    columns = ["item_id", "model_a", "model_b", "winner", "annotator", "annotator_kind", "order", "probability"]
    alike = [
        (i, "j", "y", "model_a", who, kind, "ab", 0.9)
        for i in range(6)
        for who, kind in (("j", "judge"), ("h", "human"))
    ]
    table = rows(audit_judge(pd.DataFrame(alike, columns=columns), "j", null_model="y"))
    assert table.loc["self_preference", ["value", "flag"]].tolist() == [0, "ok"]
    assert table.loc["self_preference", "lower"] < -0.3 and table.loc["self_preference", "upper"] > 0.3
    assert table.loc["null_model", ["value", "flag"]].tolist() == [0, "ok"]
    assert 0.3 < table.loc["null_model", "upper"] < 0.5
    assert table.loc["brier", "lower"] < 0.01 < table.loc["brier", "upper"]
    one = rows(audit_judge(pd.DataFrame(alike[:2], columns=columns), "j", null_model="y"))
    assert one.loc["self_preference", "flag"] == "no test"
    assert "not shown to lose" in one.loc["null_model", "verdict"]


def test_families_and_the_model_behind_the_judge_can_be_given() -> None:
    votes, _ = battles(800, 8)
    audit = audit_judge(votes, "judge-xl", model="keen", families={"keen": "z", "sharp": "z", "judge-xl": "z"})
    assert audit.warnings == ()
    assert "(judge-xl, keen, sharp)" in rows(audit).loc["family_preference", "verdict"]
    absent = rows(audit_judge(votes, "judge-xl", model="gone")).loc["self_preference", "verdict"]
    assert absent == "Not measured: no model is named gone."


def test_lengths_come_from_texts_and_missing_ones_are_counted() -> None:
    votes, responses = battles(400, 9)
    texts = responses.assign(response=responses["length"].map(lambda n: "x" * n)).drop(columns="length")
    expected = rows(audit_judge(votes, "judge-xl", responses=responses))
    pd.testing.assert_frame_equal(rows(audit_judge(votes, "judge-xl", responses=texts)), expected)
    as_text = texts.astype({"item_id": str})
    pd.testing.assert_frame_equal(rows(audit_judge(votes, "judge-xl", responses=as_text)), expected)
    audit = audit_judge(votes, "judge-xl", responses=texts[texts["model"] != "mild"])
    assert audit.warnings[0].startswith("Battles in no check of length, for want of a response: ")
    assert rows(audit).loc["verbosity", "n"] < expected.loc["verbosity", "n"]
    strangers = rows(audit_judge(votes, "judge-xl", responses=texts.assign(model="someone")))
    assert strangers.loc["verbosity", "verdict"] == "Not measured: no battle has a response on both sides."


@pytest.mark.parametrize(
    "options, change, message",
    [
        ({"judge": "nobody"}, {}, "the judge 'nobody' has no verdicts; the annotators are human-0"),
        ({"human": "expert_*"}, {}, "no human fits 'expert_\\*'"),
        ({"null_model": "silence"}, {}, "null model 'silence' is in no battle"),
        ({}, {"winner": "left"}, "winner 'left'"),
        ({}, {"order": "up"}, "order 'up'"),
        ({}, {"probability": 1.5}, "verdict 1 has the probability 1.5"),
    ],
)
def test_bad_input_ends_in_a_sentence(options: dict, change: dict, message: str) -> None:
    votes, _ = battles(100, 10)
    with pytest.raises(UserError, match=message):
        audit_judge(votes.assign(**change), **{"judge": "judge-xl", **options})
