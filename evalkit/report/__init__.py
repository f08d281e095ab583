"""Results from the ledger: leaderboard, scores, judges, correlation, failures; as data and as an HTML page."""

from evalkit.report.board import Board, benchmark_arena_correlation, leaderboard
from evalkit.report.facts import RunFacts, run_facts
from evalkit.report.failures import Failures, failures
from evalkit.report.html import write_report
from evalkit.report.judges import JudgeTable, judge_table
from evalkit.report.scores import ScoreTable, score_table
from evalkit.report.summary import Report, build_report

__all__ = [
    "Board",
    "Failures",
    "JudgeTable",
    "Report",
    "RunFacts",
    "ScoreTable",
    "benchmark_arena_correlation",
    "build_report",
    "failures",
    "judge_table",
    "leaderboard",
    "run_facts",
    "score_table",
    "write_report",
]
