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
from evalkit.stats.paired import PairedDifference, compare_models, paired_difference
from evalkit.stats.ratings import Ratings, bradley_terry
from evalkit.stats.votes import OUTCOMES, Diagnosis, VoteCounts, count_votes

__all__ = [
    "OUTCOMES",
    "Agreement",
    "BoardComparison",
    "Correlation",
    "Correlations",
    "Diagnosis",
    "Estimate",
    "FirstSlotPreference",
    "Mean",
    "PairedDifference",
    "Ratings",
    "Share",
    "SwapConsistency",
    "VoteCounts",
    "agreement",
    "bootstrap",
    "bradley_terry",
    "clustered_mean",
    "compare_boards",
    "compare_models",
    "correlate",
    "correlation",
    "count_votes",
    "first_slot_preference",
    "paired_difference",
    "parse_failures",
    "share",
    "swap_consistency",
    "wilson",
]
