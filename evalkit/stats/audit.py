"""What a judge prefers beside quality: the first slot, length, its own kin; and whether its words can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from evalkit.errors import UserError
from evalkit.stats.agreement import annotators_like, of_kind
from evalkit.stats.audit_findings import findings
from evalkit.stats.calibration import ReliabilityCurve, reliability_curve
from evalkit.stats.delta import clustered_se, clustered_share, t_test, wilson_interval
from evalkit.stats.intervals import Share, sign_test_p
from evalkit.stats.position import swaps
from evalkit.stats.preferences import (
    Found,
    Tallies,
    family_of,
    length_checks,
    log_length_ratio,
    own_checks,
    tally,
    weighted_mean,
)
from evalkit.stats.verdicts import FAILED, Verdicts, code_verdicts, pair_orders
from evalkit.stats.votes import A_WINS, B_WINS, FloatArray, list_names, require_columns

Flag = Literal["ok", "concern", "no test", "not measured"]

# More unreadable verdicts than this, with confidence, are a concern.
MANY_FAILURES = 0.01
DEFINITION = (
    "Every row has its own question and n: the judge's verdicts that the question is about (battles, for "
    "swap_consistency; pairs with a human vote, for the probabilities), unreadable ones (n_failed) included; those are "
    "in no value. Humans: {humans}. Where several humans voted on a battle their mean counts, a tie or both_bad as one "
    "half. Intervals at {confidence:g} %, each for itself, allow for verdicts on one item being alike. A concern is a "
    "row whose interval leaves out what a judge without that fault has. The findings are of faults that matter, beyond "
    "the margins in `evalkit.stats.audit_findings`; their intervals all hold at once at {confidence:g} %."
)


@dataclass(frozen=True)
class AuditRow:
    """One check.

    Attributes:
        check: Its name.
        value, lower, upper: The measured number with its limits; NaN where it cannot be measured.
        n: Verdicts (battles, or pairs with a human vote) that the check is about, failures included.
        n_failed: Of these, verdicts that could not be read (for the calibration: without a probability).
        flag: `ok`, `concern`, `no test` (a number to compare, without a right value) or `not measured`.
        verdict: What it says, in a sentence.
    """

    check: str
    value: float
    lower: float
    upper: float
    n: int
    n_failed: int
    flag: Flag
    verdict: str


class Probed(Protocol):
    """Shares of the good answers that lost: to poor ones with an injection, to poor ones without, to a constant one."""

    @property
    def injection(self) -> Share: ...
    @property
    def control(self) -> Share: ...
    @property
    def null(self) -> Share: ...
    @property
    def failed(self) -> int: ...


@dataclass(frozen=True)
class JudgeAudit:
    """What is known of a judge.

    Attributes:
        judge: Name.
        verdict: What it decides by, in one phrase (see `audit_findings.findings`).
        findings: Sentences with the numbers behind that, the gravest first.
        humans: Who it is compared with, in words.
        n: Its verdicts, failures included.
        n_failed: Its verdicts that could not be read.
        rows: One a check.
        calibration: Reliability of its probabilities; None without probabilities and human votes.
        definition: How to read the rows.
        warnings: Sentences.
    """

    judge: str
    verdict: str
    findings: tuple[str, ...]
    humans: str
    n: int
    n_failed: int
    rows: tuple[AuditRow, ...]
    calibration: ReliabilityCurve | None
    definition: str
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """A row for each of `rows`, columns as in `AuditRow`."""
        return pd.DataFrame([asdict(row) for row in self.rows])


def audit_judge(
    votes: pd.DataFrame,
    judge: str,
    *,
    human: str = "*",
    responses: pd.DataFrame | None = None,
    model: str | None = None,
    families: Mapping[str, str] | None = None,
    null_model: str | None = None,
    probes: Probed | None = None,
    confidence: float = 0.95,
) -> JudgeAudit:
    """Check a judge for what should not sway it.

    The rows, each with the method where it is computed:
    parse_failures; swap_consistency (`position.swap_consistency`); first_slot, the share of decisive verdicts won by
    the answer shown first, with the clustered t test against one half; length_preference, verbosity, length_slope,
    length_slope_excess (`preferences.length_checks`); self_preference, family_preference and the same where the humans
    were indifferent (`preferences.own_checks`); null_model, the win rate (ties half) of a model that gives a constant
    answer, which must not win (Zheng et al. 2025, "Cheating automatic LLM benchmarks: null models achieve high win
    rates"); calibration_error and brier of the probability of the answer that the judge prefers, against each
    human vote that names a winner (`calibration.reliability_curve`).

    Args:
        votes: Votes frame of the judge and the humans (item_id, model_a, model_b, winner, annotator; optional
            annotator_kind, turn, criterion, order, replicate, probability that model_a's answer is the better one).
        judge: Its name in `annotator`.
        human: Pattern of the humans' names; `*` is every annotator of the kind human, and none if the frame names no
            kinds.
        responses: Columns item_id, model, optionally turn, and response (text) or length (in any unit); without it,
            length is not measured. Several of one model to one item count with their mean length.
        model: The model that it is, by its name in the battles; None for the one named as the judge is.
        families: Family by model name, and of the judge by its name; a name that is not in it belongs to the family of
            its first letters (gpt-4 to gpt).
        null_model: Model that gives the same answer to every item.
        probes: What came of injections and constant answers (`evalkit judge probe`).
        confidence: Level.

    Raises:
        UserError: A column is missing, the judge has no verdicts, no human fits a pattern other than `*`, the null
            model is in no battle, or a winner, an order or a probability cannot be.
    """
    require_columns(votes, ["item_id", "model_a", "model_b", "winner", "annotator"], "votes")
    coded = code_verdicts(votes)
    if judge not in coded.annotators:
        there = list_names(coded.annotators, like=judge) or "not named"
        raise UserError(f"the judge {judge!r} has no verdicts; the annotators are {there}.")
    code = coded.annotators.index(judge)
    is_human = np.zeros(len(coded.annotators) + 1, dtype=np.bool_)
    if human != "*":
        is_human[annotators_like(coded, votes, human, "human")] = True
    elif "annotator_kind" in votes.columns:
        is_human[:-1] = of_kind(coded, votes, "human")
    is_human[code] = False
    who = ("all" if human == "*" else human) if is_human.any() else "none"
    own = coded.take(np.flatnonzero(coded.annotator == code))
    tallies = tally(own, coded.take(np.flatnonzero(is_human[coded.annotator])))
    warnings: list[str] = []
    rows = [_failures(own, confidence), _swaps(own, confidence), _first_slot(own, confidence)]
    ratio: FloatArray | None = None
    if responses is not None:
        ratio, without = log_length_ratio(own, tallies, responses)
        if without:
            warnings.append(f"Battles in no check of length, for want of a response: {without:,}.")
    family = family_of(judge if model is None or judge in (families or {}) else model, families)
    itself = model or judge
    found = [
        *length_checks(tallies, ratio, confidence),
        *own_checks(own.models, itself, family, families, tallies, confidence),
    ]
    rows += [_from(item, tallies.humans) for item in found]
    rows.append(_null(own.models, null_model, tallies, confidence))
    rows += _probed(probes)
    calibration = _calibration(votes, own, tallies, confidence)
    rows += _calibrated(calibration, "probability" in votes.columns, tallies.humans)
    said = findings(
        *(own, tallies, ratio),
        null=None if null_model is None else own.models.index(null_model),
        itself=own.models.index(itself) if itself in own.models else None,
        probed=None if probes is None else (probes.injection, probes.control, probes.null),
        confidence=confidence,
    )
    if families is None:
        warnings.append(f"Families are read from the names: {judge} is of the family {family}.")
    return JudgeAudit(
        judge=judge,
        verdict=said.verdict,
        findings=said.sentences,
        humans=who,
        n=len(own),
        n_failed=int((own.outcome == FAILED).sum()),
        rows=tuple(rows),
        calibration=calibration,
        definition=DEFINITION.format(humans=who, confidence=100 * confidence),
        warnings=tuple(warnings),
    )


def _failures(own: Verdicts, confidence: float) -> AuditRow:
    failed = (own.outcome == FAILED).astype(np.float64)
    found = clustered_share(failed, own.item, confidence)
    flag: Flag = "concern" if found.lower > MANY_FAILURES else "ok"
    sentence = f"{found.successes:,} of {found.n:,} verdicts could not be read."
    return AuditRow("parse_failures", found.value, found.lower, found.upper, found.n, found.successes, flag, sentence)


def _swaps(own: Verdicts, confidence: float) -> AuditRow:
    found = swaps(own, confidence)
    same = found.consistent
    if not same.n:
        why = "no battle was judged in both orders" if not found.n else "no battle has two readable verdicts"
        return _unmeasured("swap_consistency", f"{why}.", found.n, found.n_failed)
    sentence = (
        f"The same verdict in both orders in {same.value:.1%} of {same.n:,} battles; the first answer won twice in "
        f"{found.always_first:,}, the second in {found.always_second:,}."
    )
    flag: Flag = "ok" if same.lower > 0.5 else "concern"
    if flag == "concern":
        sentence += " That is not shown to be more than a coin's half."
    return AuditRow("swap_consistency", same.value, same.lower, same.upper, found.n, found.n_failed, flag, sentence)


def _first_slot(own: Verdicts, confidence: float) -> AuditRow:
    shown = own.shown_second >= 0
    n, failed = int(shown.sum()), int((shown & (own.outcome == FAILED)).sum())
    decided = shown & ((own.outcome == A_WINS) | (own.outcome == B_WINS))
    first = ((own.outcome == A_WINS) != (own.shown_second == 1))[decided].astype(np.float64)
    if not len(first):
        return _unmeasured("first_slot", "no verdict with a winner says which answer was shown first.", n, failed)
    left, right = pair_orders(own)
    differ = own.outcome[left] != own.outcome[right]
    if 2 * len(left) == n and differ.any() and not (decided[left] | decided[right])[differ].any():
        # As in the published MT-bench verdicts; the pairs that agree have as many wins of each slot, by construction.
        return _unmeasured("first_slot", "no battle whose two orders disagree has a winner in either.", n, failed)
    share, items = float(first.mean()), own.item[decided]
    se, g = clustered_se((first - share) / len(first), items)
    # Not at most n trials: a battle judged in both orders tells more of the slot than two of one order.
    lower, upper = wilson_interval(share, se, g, confidence)
    p = t_test(share - 0.5, se, g) if se > 0 else sign_test_p(round(share * g), g)
    sentence = f"The answer shown first wins {share:.1%} of {len(first):,} decisive verdicts ({_p(p)})."
    if len(np.unique((own.shown_second ^ own.turned)[shown])) == 1:
        return AuditRow(
            *("first_slot", share, lower, upper, n, failed, "no test"),
            sentence[:-1] + "; all have the same order, so position and quality cannot be told apart.",
        )
    flag: Flag = "ok" if lower <= 0.5 <= upper else "concern"
    return AuditRow("first_slot", share, lower, upper, n, failed, flag, sentence)


def _null(models: tuple[str, ...], name: str | None, tallies: Tallies, confidence: float) -> AuditRow:
    if name is None:
        return _unmeasured("null_model", "no model that gives a constant answer is named.")
    if name not in models:
        raise UserError(f"the null model {name!r} is in no battle; the models are {list_names(models)}.")
    code = models.index(name)
    rows = np.flatnonzero((tallies.first == code) != (tallies.second == code))
    those = tallies.take(rows)
    found = weighted_mean("null_model", those, those.score(those.first == code), confidence, rate=True)
    if not found.n - found.n_failed:
        return _unmeasured("null_model", f"{name} is in no battle with a readable verdict.", found.n, found.n_failed)
    flag: Flag = "ok" if found.upper < 0.5 else "concern"
    says = "fail: a constant answer must not win" if found.value >= 0.5 else "pass"
    if found.value < 0.5 <= found.upper:
        says = "not shown to lose, with so few battles"
    sentence = f"{name}, a constant answer, wins {found.value:.1%} (ties half): {says}."
    return AuditRow("null_model", found.value, found.lower, found.upper, found.n, found.n_failed, flag, sentence)


def _probed(probes: Probed | None) -> list[AuditRow]:
    if probes is None or not probes.injection.n:
        return [_unmeasured("injection", "the judge has not been probed (evalkit judge probe).")]
    attacked, control, null = probes.injection, probes.control, probes.null
    flag: Flag = "concern" if control.n and attacked.lower > control.upper else "ok"
    sentence = (
        f"Poor answers win {attacked.value:.1%} against good ones with an injection, {control.value:.1%} without."
    )
    rows = [
        AuditRow("injection", attacked.value, attacked.lower, attacked.upper, attacked.n, probes.failed, flag, sentence)
    ]
    if null.n:
        flag = "ok" if null.upper < 0.5 else "concern"
        sentence = f"Constant answers win {null.value:.1%} against good ones."
        rows.append(AuditRow("null_probe", null.value, null.lower, null.upper, null.n, probes.failed, flag, sentence))
    return rows


def _calibration(votes: pd.DataFrame, own: Verdicts, tallies: Tallies, confidence: float) -> ReliabilityCurve | None:
    """Probability of the side that the judge holds the likelier, against each human vote that names a winner."""
    if "probability" not in votes.columns:
        return None
    p = np.asarray(votes["probability"].to_numpy(np.float64, na_value=np.nan), dtype=np.float64)[own.row]
    bad = np.flatnonzero((p < 0) | (p > 1))
    if len(bad):
        row = int(own.row[bad[0]]) + 1
        raise UserError(f"verdict {row} has the probability {p[bad[0]]}; it must lie between 0 and 1.")
    p = np.where(own.outcome == FAILED, np.nan, np.where(own.turned, 1 - p, p))
    both = [np.repeat(np.arange(len(own)), side[own.battle]) for side in (tallies.human_first, tallies.human_second)]
    rows, first = np.concatenate(both), np.repeat([True, False], [len(side) for side in both])
    if not len(rows):
        return None
    right = ((p >= 0.5)[rows] == first).astype(np.float64)
    return reliability_curve(np.maximum(p, 1 - p)[rows], right, clusters=own.item[rows], confidence=confidence)


def _calibrated(found: ReliabilityCurve | None, stated: bool, humans: bool) -> list[AuditRow]:
    if found is None or found.n == found.n_failed:
        why = "no human vote names a winner" if humans else "no human votes to compare with"
        if not stated or found is not None:
            why = "the verdicts have no probability"
        n = 0 if found is None else found.n
        return [_unmeasured(check, f"{why}.", n, n) for check in ("calibration_error", "brier")]
    flag: Flag = "concern" if found.ece_lower > 0 else "ok"
    known = found.n - found.n_failed
    error = AuditRow(
        *("calibration_error", found.ece, found.ece_lower, found.ece_upper, found.n, found.n_failed, flag),
        f"Stated probabilities are off by {found.ece:.3f} on average, over {known:,} pairs with a human vote.",
    )
    brier = AuditRow(
        *("brier", found.brier, found.brier_lower, found.brier_upper, found.n, found.n_failed, "no test"),
        f"Mean squared error of the probabilities {found.brier:.3f}; always saying 1/2 has 0.25.",
    )
    return [error, brier]


def _from(found: Found, humans: bool) -> AuditRow:
    if found.n == found.n_failed or not np.isfinite(found.value):
        why = found.missing or ("no verdict to measure it on." if humans else "no human votes to compare with.")
        return _unmeasured(found.check, why, found.n, found.n_failed)
    flag: Flag = "no test"
    sentence = found.sentence
    if found.null is not None:
        if np.isfinite(found.lower):
            flag = "ok" if found.lower <= found.null <= found.upper else "concern"
        sentence += f" ({_p(found.p_value)})"
    return AuditRow(found.check, found.value, found.lower, found.upper, found.n, found.n_failed, flag, sentence + ".")


def _unmeasured(check: str, why: str, n: int = 0, failed: int = 0) -> AuditRow:
    nan = float("nan")
    return AuditRow(check, nan, nan, nan, n, failed, "not measured", f"Not measured: {why}")


def _p(value: float) -> str:
    if np.isnan(value):
        return "no test: too few items, or all alike"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
