"""Statistics: pure functions from arrays or DataFrames to typed results; no database, no files."""

from evalkit.stats.agreement import Agreement, AgreementRow, JudgeAgreement, agreement, judge_agreement
from evalkit.stats.alt_test import AltTest, AltTests, alt_test
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
from evalkit.stats.corrected_board import CorrectedBoard, CorrectedStrengths, ppi_bradley_terry, ppi_strengths
from evalkit.stats.corrected_win_rates import CorrectedWinRates, ppi_win_rate
from evalkit.stats.correction import CorrectedMean, RoganGladen, ppi_mean, rogan_gladen
from evalkit.stats.correlation import Correlation, CorrelationMatrix, Correlations, Estimate, correlate, correlation
from evalkit.stats.dawid_skene import DawidSkene, apply_dawid_skene, dawid_skene
from evalkit.stats.elo import OnlineElo, online_elo
from evalkit.stats.flips import FirstPlaceFlip, first_place_flip
from evalkit.stats.grouped import GroupedRatings, grouped_ratings
from evalkit.stats.intervals import Mean, Share, bootstrap, clustered_mean, share, wilson
from evalkit.stats.juries import JuryLabels, JuryMean, JuryVerdict, JuryWeights, jury_labels, log_odds_weights
from evalkit.stats.jury_errors import ErrorCorrelation, error_correlation
from evalkit.stats.jury_selection import JuryComparison, SubJury, compare_juries, select_jury
from evalkit.stats.length_control import (
    LengthControlledWinRate,
    LengthControlledWinRates,
    length_controlled_win_rates,
)
from evalkit.stats.live import LiveBoard
from evalkit.stats.next_battle import NextBattles, next_battles
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
from evalkit.stats.ratings import Difference, Ratings, bradley_terry
from evalkit.stats.reliability import Disattenuation, SplitHalf, disattenuate, split_half
from evalkit.stats.stacking import stacked_weights
from evalkit.stats.style import StyleCoefficient, StyleRatings, style_control
from evalkit.stats.style_features import battle_features, style_features
from evalkit.stats.ties import TieParameter
from evalkit.stats.variances import VarianceComponents, variance_components
from evalkit.stats.voter_checks import VoterCheck, VoterTest, voter_checks, voter_tests
from evalkit.stats.votes import OUTCOMES, Diagnosis, VoteCounts, count_votes
from evalkit.stats.win_rates import WinRate, WinRates, win_rates

__all__ = [
    "OUTCOMES",
    "Agreement",
    "AgreementRow",
    "AltTest",
    "AltTests",
    "AuditRow",
    "BoardComparison",
    "Coefficient",
    "CorrectedBoard",
    "CorrectedMean",
    "CorrectedStrengths",
    "CorrectedWinRates",
    "Correlation",
    "CorrelationMatrix",
    "Correlations",
    "DawidSkene",
    "Diagnosis",
    "Difference",
    "Disattenuation",
    "EloTest",
    "ErrorCorrelation",
    "Estimate",
    "FirstPlaceFlip",
    "FirstSlotPreference",
    "GroupedRatings",
    "JudgeAgreement",
    "JudgeAudit",
    "JuryComparison",
    "JuryLabels",
    "JuryMean",
    "JuryVerdict",
    "JuryWeights",
    "LengthControlledWinRate",
    "LengthControlledWinRates",
    "LiveBoard",
    "Mean",
    "MeanTest",
    "ModelComparison",
    "NextBattles",
    "OnlineElo",
    "PairedDifference",
    "PassRate",
    "PassRates",
    "PowerAnalysis",
    "Predictions",
    "Ratings",
    "Recalibration",
    "ReliabilityCurve",
    "RoganGladen",
    "Share",
    "ShareTest",
    "Skill",
    "SplitHalf",
    "StyleCoefficient",
    "StyleRatings",
    "SubJury",
    "SwapConsistency",
    "TieParameter",
    "VarianceComponents",
    "VoteCounts",
    "VoterCheck",
    "VoterTest",
    "WinRate",
    "WinRateTest",
    "WinRates",
    "achieved_power",
    "agreement",
    "alt_test",
    "apply_dawid_skene",
    "audit_judge",
    "battle_features",
    "bootstrap",
    "bradley_terry",
    "clustered_mean",
    "cohen_kappa",
    "compare_boards",
    "compare_criteria",
    "compare_juries",
    "compare_models",
    "correlate",
    "correlation",
    "count_votes",
    "dawid_skene",
    "disattenuate",
    "error_correlation",
    "first_place_flip",
    "first_slot_preference",
    "fit_isotonic",
    "fit_platt",
    "fleiss_kappa",
    "grouped_ratings",
    "gwet_ac1",
    "held_out_predictions",
    "judge_agreement",
    "jury_labels",
    "krippendorff_alpha",
    "length_controlled_win_rates",
    "log_odds_weights",
    "minimum_detectable_effect",
    "next_battles",
    "online_elo",
    "paired_difference",
    "parse_failures",
    "pass_at_k",
    "pass_hat_k",
    "pass_rates",
    "ppi_bradley_terry",
    "ppi_mean",
    "ppi_strengths",
    "ppi_win_rate",
    "recalibrate",
    "reliability_curve",
    "rogan_gladen",
    "sample_size",
    "select_jury",
    "share",
    "split_half",
    "stacked_weights",
    "style_control",
    "style_features",
    "swap_consistency",
    "variance_components",
    "voter_checks",
    "voter_tests",
    "wilson",
    "win_rates",
]
