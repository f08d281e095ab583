"""What the audit says of judges made in a known way, over many draws: each for what it is; of fair ones no fault."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from evalkit.stats import Share, audit_judge, share
from evalkit.stats import audit_findings as say
from evalkit.stats.preferences import log_length_ratio, tally
from evalkit.stats.verdicts import code_verdicts

MODELS = np.array(["atlas", "birch", "cedar", "delta", "null"])
STRENGTH = np.array([0.8, 0.3, 0.0, -0.5, -4.0])
N = 300


def arena(
    kind: str, seed: int, n: int = N, *, voters: int = 3, noise: float = 1.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A judge's verdicts in both orders, and human votes, on n battles over n / 3 items.

    Answers have a quality of their own, and longer ones are a little better. A human errs as a logistic with scale 1,
    a judge of the kind `good` as one with scale `noise`.
    """
    rng = np.random.default_rng(seed)
    items = n // 3
    pairs = np.array(list(itertools.combinations(range(len(MODELS)), 2)))
    drawn_battles = rng.choice(items * len(pairs), size=n, replace=False)
    item, (a, b) = drawn_battles // len(pairs), pairs[drawn_battles % len(pairs)].T
    quality = STRENGTH + rng.normal(size=(items, len(MODELS)))
    chars = np.exp(6 + 0.3 * quality + 0.6 * rng.normal(size=quality.shape)).astype(int) + 1
    better = 1.5 * (quality[item, a] - quality[item, b])
    longer = np.sign(chars[item, a] - chars[item, b])
    null = (MODELS[a] == "null").astype(float) - (MODELS[b] == "null")

    def drawn(eta: np.ndarray, ties: float = 0.1) -> np.ndarray:
        likely = 1 / (1 + np.exp(-np.clip(eta, -500, 500)))
        return np.where(rng.random(n) < ties, "tie", np.where(rng.random(n) < likely, "model_a", "model_b"))

    def judged(slot: float) -> np.ndarray:
        eta = {
            "random": 0 * better,
            "first": np.full(n, 1e6 * slot),
            "second": np.full(n, -1e6 * slot),
            "longest": 1e6 * longer,
            "shortest": -1e6 * longer,
            "null": np.where(null != 0, 1e6 * null, 1e6 * better),
            "oracle": 1e6 * better,
            "inverted": -better,
            "good": better / noise,
            "slot": better + 1.5 * slot,
            "verbose": better + 1.5 * np.log(chars[item, a] / chars[item, b]),
        }[kind]
        return drawn(eta, 0.0 if kind not in ("good", "slot", "verbose") else 0.1)

    def frame(winner: np.ndarray, annotator: str, order: str | None) -> pd.DataFrame:
        named = {"item_id": item, "model_a": MODELS[a], "model_b": MODELS[b], "winner": winner}
        return pd.DataFrame(
            {
                **named,
                "annotator": annotator,
                "annotator_kind": "judge" if annotator == "judge" else "human",
                "order": order,
            }
        )

    votes = [frame(judged(1.0), "judge", "ab"), frame(judged(-1.0), "judge", "ba")]
    votes += [frame(drawn(better), f"human-{k}", None) for k in range(voters)]
    lengths = pd.DataFrame(
        {"item_id": np.repeat(np.arange(items), len(MODELS)), "model": np.tile(MODELS, items), "length": chars.ravel()}
    )
    return pd.concat(votes, ignore_index=True), lengths


@dataclass(frozen=True)
class Probed:
    """As `judges.probes.ProbeRates`."""

    injection: Share
    control: Share
    null: Share
    failed: int


def verdicts(kind: str, seeds: int, **more: float) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(seeds):
        votes, lengths = arena(kind, seed, **more)  # type: ignore[arg-type]
        coded = code_verdicts(votes)
        human = coded.annotator != coded.annotators.index("judge")
        own = coded.take(np.flatnonzero(~human))
        tallies = tally(own, coded.take(np.flatnonzero(human)))
        ratio, _ = log_length_ratio(own, tallies, lengths)
        found[say.findings(own, tallies, ratio, null=own.models.index("null")).verdict] += 1
    return found


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        ("random", say.RANDOM),
        ("first", say.FIRST),
        ("second", say.SECOND),
        ("longest", say.LONGER),
        ("shortest", say.SHORTER),
        ("null", say.NULL),
        ("oracle", say.AS_HUMANS),
        ("inverted", say.OPPOSITE),
        ("slot", say.LEANS_SLOT),
    ],
)
def test_a_judge_is_recognised_at_300_battles_in_95_of_100_draws(kind: str, phrase: str) -> None:
    assert verdicts(kind, 40)[phrase] >= 38


@pytest.mark.parametrize(("kind", "noise"), [("oracle", 1.0), ("good", 2.0)])
def test_no_fault_is_found_in_a_good_judge_over_200_draws(kind: str, noise: float) -> None:
    found = verdicts(kind, 200, n=200, noise=noise)
    assert not set(found) & set(say.FAULTS), found


def test_few_verdicts_are_never_called_a_fault_of_a_fair_judge_nor_a_virtue_of_a_coin() -> None:
    assert not set(verdicts("good", 60, n=30)) & set(say.FAULTS)
    assert set(verdicts("random", 60, n=30)) <= {say.UNDECIDED, say.RANDOM}


def test_a_length_lean_is_told_from_looking_at_nothing_else() -> None:
    assert verdicts("verbose", 5, n=1500)[say.LEANS_LONGER] == 5


def test_without_humans_only_what_needs_none_is_said() -> None:
    said = {}
    for kind in ("random", "first", "good"):
        votes, lengths = arena(kind, 1)
        alone = votes[votes["annotator"] == "judge"].reset_index(drop=True)
        said[kind] = audit_judge(alone, "judge", responses=lengths, null_model="null").verdict
    assert said == {"random": say.RANDOM, "first": say.FIRST, "good": say.CONSISTENT}


def test_unreadable_and_tied_verdicts() -> None:
    votes, lengths = arena("good", 2)
    own = votes["annotator"] == "judge"
    lost = votes.assign(winner=votes["winner"].mask(own & (votes.index % 4 > 0)))
    tied = votes.assign(winner=votes["winner"].mask(own, "tie"))
    assert audit_judge(lost, "judge", responses=lengths).verdict == say.UNREADABLE
    assert audit_judge(tied, "judge", responses=lengths).verdict == say.TIES


def test_one_human_a_battle_gives_no_yardstick() -> None:
    votes, lengths = arena("oracle", 3, voters=1)
    found = audit_judge(votes, "judge", responses=lengths)
    assert found.verdict == say.NO_YARDSTICK
    assert len(found.findings) == 1 and found.findings[0].startswith("Agrees with humans, who cannot be compared")
    assert found.n == 2 * N


def test_its_own_answers_are_told_apart_from_good_ones() -> None:
    votes, lengths = arena("good", 4, n=900)
    own = (votes["annotator"] == "judge") & ((votes["model_a"] == "delta") | (votes["model_b"] == "delta"))
    bribed = votes.assign(
        winner=votes["winner"].mask(own, votes["model_a"].eq("delta").map({True: "model_a", False: "model_b"}))
    )
    assert audit_judge(votes, "judge", responses=lengths, model="delta").verdict not in say.FAULTS
    found = audit_judge(bribed, "judge", responses=lengths, model="delta")
    assert found.verdict == say.LEANS_OWN and len(found.findings) == 2


def test_probes_that_succeed_are_a_fault() -> None:
    votes, lengths = arena("oracle", 5)
    holds = Probed(share([0] * 100), share([0] * 30), share([0] * 30), 0)
    obeys = Probed(share([1, 0] * 50), share([1] + [0] * 29), share([1] * 29 + [0]), 3)
    assert audit_judge(votes, "judge", responses=lengths, probes=holds).verdict == say.AS_HUMANS
    found = audit_judge(votes, "judge", responses=lengths, probes=obeys)
    assert found.verdict == say.NULL and found.findings[1].startswith("Obeys injected text: poor answers win 50.0%")
    rows = found.frame().set_index("check")
    assert rows.loc[["injection", "null_probe"], "flag"].tolist() == ["concern", "concern"]
    assert rows.loc["injection", "n_failed"] == 3
