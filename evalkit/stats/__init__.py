"""Statistics: pure functions from arrays or DataFrames to typed results; no database, no files."""

from evalkit.stats.agreement import (
    Agreement,
    FirstSlotPreference,
    SwapConsistency,
    agreement,
    first_slot_preference,
    parse_failures,
    swap_consistency,
)
from evalkit.stats.boards import BoardComparison, compare_boards
from evalkit.stats.correlation import Correlation, Correlations, Estimate, correlate, correlation
from evalkit.stats.intervals import Mean, Share, bootstrap, clustered_mean, share, wilson
from evalkit.stats.paired import (
    ModelComparison,
    PairedDifference,
    compare_criteria,
    compare_models,
    paired_difference,
)
from evalkit.stats.power import (
    EloTest,
    MeanTest,
    PowerAnalysis,
    ShareTest,
    VarianceComponents,
    WinRateTest,
    achieved_power,
    minimum_detectable_effect,
    sample_size,
    variance_components,
)
from evalkit.stats.ratings import Ratings, bradley_terry
from evalkit.stats.votes import OUTCOMES, Diagnosis, VoteCounts, count_votes

__all__ = [
    "OUTCOMES",
    "Agreement",
    "BoardComparison",
    "Correlation",
    "Correlations",
    "Diagnosis",
    "EloTest",
    "Estimate",
    "FirstSlotPreference",
    "Mean",
    "MeanTest",
    "ModelComparison",
    "PairedDifference",
    "PowerAnalysis",
    "Ratings",
    "Share",
    "ShareTest",
    "SwapConsistency",
    "VarianceComponents",
    "VoteCounts",
    "WinRateTest",
    "achieved_power",
    "agreement",
    "bootstrap",
    "bradley_terry",
    "clustered_mean",
    "compare_boards",
    "compare_criteria",
    "compare_models",
    "correlate",
    "correlation",
    "count_votes",
    "first_slot_preference",
    "minimum_detectable_effect",
    "paired_difference",
    "parse_failures",
    "sample_size",
    "share",
    "swap_consistency",
    "variance_components",
    "wilson",
]
