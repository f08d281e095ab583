"""Statistics: pure functions from arrays or DataFrames to typed results; no database, no files."""

from evalkit.stats.agreement import Agreement, AgreementRow, JudgeAgreement, agreement, judge_agreement
from evalkit.stats.audit import AuditRow, JudgeAudit, audit_judge
from evalkit.stats.boards import BoardComparison, compare_boards
from evalkit.stats.calibration import (
    Recalibration,
    ReliabilityCurve,
    fit_isotonic,
    fit_platt,
    recalibrate,
    reliability_curve,
)
from evalkit.stats.chance import Coefficient, cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from evalkit.stats.correlation import Correlation, CorrelationMatrix, Correlations, Estimate, correlate, correlation
from evalkit.stats.flips import FirstPlaceFlip, first_place_flip
from evalkit.stats.grouped import GroupedRatings, grouped_ratings
from evalkit.stats.intervals import Mean, Share, bootstrap, clustered_mean, share, wilson
from evalkit.stats.paired import (
    ModelComparison,
    PairedDifference,
    compare_criteria,
    compare_models,
    paired_difference,
)
from evalkit.stats.pass_at_k import PassRate, PassRates, pass_at_k, pass_hat_k, pass_rates
from evalkit.stats.position import (
    FirstSlotPreference,
    SwapConsistency,
    first_slot_preference,
    parse_failures,
    swap_consistency,
)
from evalkit.stats.power import (
    EloTest,
    MeanTest,
    PowerAnalysis,
    ShareTest,
    WinRateTest,
    achieved_power,
    minimum_detectable_effect,
    sample_size,
)
from evalkit.stats.predictions import Predictions, Skill, held_out_predictions
from evalkit.stats.ratings import Ratings, bradley_terry
from evalkit.stats.reliability import Disattenuation, SplitHalf, disattenuate, split_half
from evalkit.stats.variances import VarianceComponents, variance_components
from evalkit.stats.votes import OUTCOMES, Diagnosis, VoteCounts, count_votes

__all__ = [
    "OUTCOMES",
    "Agreement",
    "AgreementRow",
    "AuditRow",
    "BoardComparison",
    "Coefficient",
    "Correlation",
    "CorrelationMatrix",
    "Correlations",
    "Diagnosis",
    "Disattenuation",
    "EloTest",
    "Estimate",
    "FirstPlaceFlip",
    "FirstSlotPreference",
    "GroupedRatings",
    "JudgeAgreement",
    "JudgeAudit",
    "Mean",
    "MeanTest",
    "ModelComparison",
    "PairedDifference",
    "PassRate",
    "PassRates",
    "PowerAnalysis",
    "Predictions",
    "Ratings",
    "Recalibration",
    "ReliabilityCurve",
    "Share",
    "ShareTest",
    "Skill",
    "SplitHalf",
    "SwapConsistency",
    "VarianceComponents",
    "VoteCounts",
    "WinRateTest",
    "achieved_power",
    "agreement",
    "audit_judge",
    "bootstrap",
    "bradley_terry",
    "clustered_mean",
    "cohen_kappa",
    "compare_boards",
    "compare_criteria",
    "compare_models",
    "correlate",
    "correlation",
    "count_votes",
    "disattenuate",
    "first_place_flip",
    "first_slot_preference",
    "fit_isotonic",
    "fit_platt",
    "fleiss_kappa",
    "grouped_ratings",
    "gwet_ac1",
    "held_out_predictions",
    "judge_agreement",
    "krippendorff_alpha",
    "minimum_detectable_effect",
    "paired_difference",
    "parse_failures",
    "pass_at_k",
    "pass_hat_k",
    "pass_rates",
    "recalibrate",
    "reliability_curve",
    "sample_size",
    "share",
    "split_half",
    "swap_consistency",
    "variance_components",
    "wilson",
]
