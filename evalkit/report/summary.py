"""A run in one object, and in a few plain sentences."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evalkit.report.board import (
    MEAN,
    BenchmarkCorrelations,
    Board,
    benchmark_arena_correlation,
    leaderboard,
    not_used,
)
from evalkit.report.corrected import CorrectedTable, corrected_board
from evalkit.report.facts import RunFacts, run_facts
from evalkit.report.failures import Failures, failures
from evalkit.report.judges import JudgeTable, judge_table
from evalkit.report.reads import judges, run_models
from evalkit.report.scores import ScoreTable, score_table
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Verdict

NAMED = 5  # of many models, in a sentence


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run's report says.

    Attributes:
        summary: Plain sentences, the most important first.
        board: None where no battle of these models was judged.
        corrected: The board corrected with human votes; None where there are none, or they alone make the board.
    """

    summary: tuple[str, ...]
    facts: RunFacts
    board: Board | None
    corrected: CorrectedTable | None
    scores: ScoreTable
    correlations: BenchmarkCorrelations
    judges: JudgeTable
    failures: Failures


def build_report(ledger: Ledger, run_id: int, *, examples: int = 3) -> Report:
    """Reads all parts of a run's report.

    The board is over the run's models, by the first jury that the plan names; if it names none, by the usable judges
    (see `judge_table`). Verdicts are those on the criterion that most of the run's are on.

    Args:
        examples: Failures shown for each model.

    Raises:
        UserError: There is no such run.
    """
    facts = run_facts(ledger, run_id)
    scores = score_table(ledger, run_id)
    with ledger.engine.connect() as connection:
        models = list(run_models(connection, run_id))
        criterion = _criterion(connection, run_id)
    judged = judge_table(ledger, run_id, criterion=criterion)
    board = _board(ledger, facts, judged, models)
    corrected = corrected_board(ledger, board, models) if board else None
    correlations = (
        benchmark_arena_correlation(scores, board) if board else BenchmarkCorrelations((), "", ("There is no board.",))
    )
    failed = failures(ledger, run_id, examples, scores=scores)
    summary = (
        *_leader(board),
        *_best_scores(scores),
        *(board.left_out if board else ()),
        *_correlated(correlations),
        *_worst_slice(failed),
        *_errors(facts),
    )
    return Report(summary, facts, board, corrected, scores, correlations, judged, failed)


def _criterion(connection: sa.Connection, run_id: int) -> str:
    count = sa.func.count()
    query = sa.select(Verdict.criterion).where(Verdict.run_id == run_id).group_by(Verdict.criterion)
    return connection.scalar(query.order_by(count.desc(), Verdict.criterion).limit(1)) or "overall"


def _board(ledger: Ledger, facts: RunFacts, judged: JudgeTable, models: list[int]) -> Board | None:
    first: dict[str, Any] = next(iter(facts.plan.get("juries") or ()), {})
    members = list(first.get("members") or ())
    single = [row for row in judged.rows if row.kind != "jury"]
    juries = [row.judge for row in judged.rows if row.kind == "jury"]
    faults = [row for row in single if not row.usable and row.judge not in members]
    wrong = [row for row in single if not row.usable and row.judge in members]
    if members:
        named = [name for name in juries if name == first.get("name", "jury")]
        used = named or [row.judge for row in single if row.judge in members]
    else:
        asked = [row for row in single if row.kind != "human"]  # people make a board where no judge does
        used = [row.judge for row in asked if row.usable]
        used = juries[-1:] if juries and len(used) == len(asked) else used
    if not used and any(row.kind == "human" for row in single):
        with ledger.engine.connect() as connection:
            used = [one.name for one in judges(connection, judged.criterion) if one.kind == "human"]
    if not used and judged.rows:
        return None
    board = leaderboard(ledger, judges=used or None, criterion=judged.criterion, models=models)
    if not board.rows:
        return None
    doubts = [f"The jury has a member that should not be in it. {not_used(r.judge, r.sentence)}" for r in wrong]
    left_out = [not_used(row.judge, row.sentence) for row in faults]
    return dataclasses.replace(board, left_out=(*board.left_out, *left_out), warnings=(*doubts, *board.warnings))


def _join(names: list[str]) -> str:
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _leader(board: Board | None) -> list[str]:
    if board is None:
        return []
    top = board.rows[0]
    if top.rating is None or top.lower is None or top.upper is None or len(board.rows) < 2:
        return [" ".join(["The votes do not order the models.", *board.warnings])]
    score = f"{top.rating:.0f} points [{top.lower:.0f}, {top.upper:.0f}]"
    if top.rank_high == 1:
        return [f"{top.model} leads the board with {score}, ahead of every other model."]
    rivals = [row.model for row in board.rows[1:] if row.rank_low == 1] or [board.rows[1].model]
    return [f"{top.model} has the highest rating, {score}, but the votes do not separate it from {_join(rivals)}."]


def _best_scores(scores: ScoreTable) -> list[str]:
    tasks = [task for task in scores.tasks if task.group is None and task.higher_is_better]
    means = {}
    for model in scores.models:
        cells = [scores.cell(model, task.name) for task in tasks]
        values = [cell.value for cell in cells if cell is not None and cell.value is not None]
        if values and len(values) == len(tasks) and all(0 <= value <= 1 for value in values):
            means[model] = sum(values) / len(values)
    if not means:
        return []
    best = max(means, key=lambda model: means[model])
    where = f"on average over {len(tasks)} benchmarks" if len(tasks) > 1 else f"on {tasks[0].name}"
    if len(means) == 1:
        return [f"{best} scores {means[best]:.1%} {where}."]
    worst = min(means, key=lambda model: means[model])
    return [f"{best} scores highest {where}, {means[best]:.1%}; {worst} lowest, {means[worst]:.1%}."]


def _correlated(correlations: BenchmarkCorrelations) -> list[str]:
    row = correlations.rows[0] if correlations.rows else None
    if row is None or row.spearman is None:
        return []
    what = "the mean of the benchmarks" if row.benchmark == MEAN else row.benchmark
    limits = row.note
    if row.spearman_lower is not None and row.spearman_upper is not None:
        limits = f"95% interval {row.spearman_lower:.2f} to {row.spearman_upper:.2f}"
    return [f"Rank correlation of {what} with the board: {row.spearman:.2f} over {row.n} models ({limits})."]


def _worst_slice(failed: Failures) -> list[str]:
    clear = [(s.difference, m.model, s) for m in failed.models for s in m.slices if s.clear]
    if not clear:
        return []
    _, model, worst = max(clear, key=lambda found: found[0])
    return [
        f"The largest weakness: {model} fails {worst.rate.value:.0%} of {worst.rate.n} answers with {worst.tag} = "
        f"{worst.value}, against {worst.rest:.0%} elsewhere."
    ]


def _errors(facts: RunFacts) -> list[str]:
    if not facts.failed:
        return []
    kinds: Counter[str] = Counter()
    for error in facts.errors:
        kinds[error.kind] += error.n
    listed = ", ".join(f"{kind} {n:,}" for kind, n in kinds.most_common())
    return [f"{facts.failed:,} of {facts.responses:,} requests have no answer ({listed}): they are in no score."]
