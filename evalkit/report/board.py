"""The leaderboard, and how benchmarks agree with it: from the ledger's rows through `evalkit.stats`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.report.judges import unusable, verdicts
from evalkit.report.reads import Judge, finite, judges
from evalkit.report.scores import ScoreTable
from evalkit.store import frames
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.schema import Model

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import CorrelationMatrix, Ratings, VoteCounts

CLUSTERED_LIMIT = 20_000
"""Up to so many votes the intervals allow for votes on the same item being alike; above, the roll-up alone is read."""
MEAN = "mean of the benchmarks"
RATING = "arena rating"
MATRIX_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One model on a leaderboard.

    Attributes:
        rating: Elo points; None for a model that cannot be placed (the warnings say why).
        lower, upper: Confidence limits; None where there is none.
        rank_low, rank_high: Best and worst rank it may hold, 1 is best.
        votes: Battles it took part in.
    """

    model: str
    rating: float | None
    lower: float | None
    upper: float | None
    rank_low: int
    rank_high: int
    votes: int


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard, best first, with what was done to get it.

    Attributes:
        judges: Whose votes were counted; `left_out` says who was not, and why.
        n: Votes counted: outcomes of battles, both orders of one judge taken together.
        errors: Verdicts of these judges that could not be read: in no rating.
    """

    rows: tuple[BoardRow, ...]
    judges: tuple[str, ...]
    left_out: tuple[str, ...]
    criterion: str
    method: str
    ties: str
    reference: str
    interval: str
    ranks: str
    confidence: float
    n: int
    errors: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BenchmarkCorrelation:
    """How one benchmark's scores order the models, against the board.

    Attributes:
        n: Models with both a score and a rating.
        spearman, kendall: Rank correlations, -1..1; None where undefined. Limits are None below eight models.
        note: Why there is no value or no interval.
    """

    benchmark: str
    n: int
    spearman: float | None
    spearman_lower: float | None
    spearman_upper: float | None
    kendall: float | None
    kendall_lower: float | None
    kendall_upper: float | None
    note: str


@dataclass(frozen=True, slots=True)
class BenchmarkCorrelations:
    """All benchmarks of a score table, their mean first if there are several.

    Attributes:
        matrix: Spearman's correlation of the first benchmarks and the rating with each other; None with one benchmark,
            or with so few models that no correlation has an interval.
    """

    rows: tuple[BenchmarkCorrelation, ...]
    interval: str
    warnings: tuple[str, ...]
    matrix: CorrelationMatrix | None = None


def leaderboard(
    ledger: Ledger,
    *,
    judges: Sequence[str] | None = None,
    criterion: str = "overall",
    models: Collection[int | str] | None = None,
    min_votes: int = 1,
    include_set_aside: bool = False,
    **options: Any,
) -> Board:
    """Rates the models from the ledger's verdicts (`evalkit.stats.bradley_terry`).

    Args:
        judges: Whose votes count, pooled with equal weight. By default the newest jury if all its members are usable
            (see `judge_table`); else every usable judge (Board.left_out names the others); without any the humans.
        models: Ids, names or labels, for a board of these alone; battles against others do not count.
        min_votes: A model with fewer votes is left out, with a warning.
        include_set_aside: Also the votes of members who were set aside.
        options: Further options of `bradley_terry`: ties, interval, ranks and the others.

    Raises:
        UserError: A judge or model that is not in the ledger; or as `bradley_terry`.
    """
    with ledger.engine.connect() as connection:
        names = model_names(connection)
        wanted = _wanted(connection, models, names)
        chosen, left_out = jurors(connection, judges, criterion, include_set_aside=include_set_aside)
    ids = [judge.id for judge in chosen]
    among: dict[str, Any] = {"models": models and wanted, "include_set_aside": include_set_aside}
    tallied = frames.tally(ledger, annotators=ids, criterion=criterion, pooled=True, **among)
    # Only what has a name: another process may have added models since the names were read.
    tallied = tallied[tallied["model_a_id"].isin(wanted) & tallied["model_b_id"].isin(wanted)]
    ratings = _rate(ledger, tallied, ids, criterion, wanted, names, {**options, "min_votes": min_votes})
    rows = [
        BoardRow(
            model=model,
            rating=finite(ratings.rating[i]),
            lower=finite(ratings.lower[i]),
            upper=finite(ratings.upper[i]),
            rank_low=int(ratings.rank_low[i]),
            rank_high=int(ratings.rank_high[i]),
            votes=int(ratings.votes[i]),
        )
        for i, model in enumerate(ratings.models)
    ]
    warnings = list(ratings.warnings)
    if not chosen:
        warnings.insert(0, f"No judge whose votes could make a board has given verdicts on {criterion!r}.")
    return Board(
        rows=tuple(rows),
        judges=tuple(dict.fromkeys(judge.name for judge in chosen)),
        left_out=tuple(left_out),
        criterion=criterion,
        method=ratings.method,
        ties=ratings.ties,
        reference=ratings.reference,
        interval=ratings.interval,
        ranks=ratings.ranks,
        confidence=ratings.confidence,
        n=ratings.n,
        errors=int(tallied["errors"].sum()),
        warnings=tuple(warnings),
    )


def _wanted(connection: sa.Connection, models: Collection[int | str] | None, names: Mapping[int, str]) -> list[int]:
    if models is None:
        return list(names)
    labels = {row.id: row.label for row in connection.execute(sa.select(Model.id, Model.label))}
    found = {model: [key for key in names if model in (key, names[key], labels[key])] for model in models}
    for model, ids in found.items():
        if not ids:
            there = ", ".join(list(names.values())[:10]) or "none"
            raise UserError(f"no model {model!r} in this ledger; there are: {there}", code=2)
    return sorted({key for ids in found.values() for key in ids})


def jurors(
    connection: sa.Connection, names: Sequence[str] | None, criterion: str, *, include_set_aside: bool = False
) -> tuple[list[Judge], list[str]]:
    """Returns whose votes make a board (see `leaderboard`), and why others are left out."""
    found = judges(connection, criterion, names, include_set_aside=include_set_aside)
    if names is not None:
        return found, []
    single = [judge for judge in found if judge.kind in ("llm", "verifier")]
    faults = unusable(connection, single, criterion)
    juries = [judge for judge in found if judge.kind == "jury" and not set(judge.members) & set(faults)]
    if juries:
        return juries[-1:], []
    left_out = [not_used(judge.name, faults[judge.id]) for judge in single if judge.id in faults]
    humans = [judge for judge in found if judge.kind == "human"]
    return [judge for judge in single if judge.id not in faults] or humans, left_out


def not_used(judge: str, sentence: str) -> str:
    """Puts a judge's name before the sentence that says why it is not used."""
    return f"Judge {judge}: {sentence[:1].lower()}{sentence[1:]}"


def _rate(
    ledger: Ledger,
    tallied: pd.DataFrame,
    ids: Sequence[int],
    criterion: str,
    models: Collection[int],
    names: Mapping[int, str],
    options: Mapping[str, Any],
) -> Ratings:
    from evalkit.stats import bradley_terry

    counts = _counts(tallied, names)
    cluster = options.get("cluster")
    if cluster is None and 0 < counts.votes.sum() <= CLUSTERED_LIMIT and options.get("interval") != "bootstrap":
        cluster = "item_id"
    if cluster is None:
        return bradley_terry(counts, **options)
    votes = named_votes(ledger, ids, criterion, models, names)
    return bradley_terry(votes, **{**options, "cluster": cluster})


def named_votes(
    ledger: Ledger, ids: Sequence[int], criterion: str, models: Collection[int], names: Mapping[int, str]
) -> pd.DataFrame:
    """Reads the outcomes of battles as votes, one for both orders of a battle; `turn` is the battle."""
    with ledger.engine.connect() as connection:
        votes = outcomes(verdicts(connection, ids, criterion, models))
    for side in ("model_a", "model_b"):
        votes[side] = votes[side].astype(int).map(names)
    return votes


def outcomes(verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row for each battle, judge and replicate, as the roll-up `tally` counts them: a tie if the orders disagree.

    Args:
        verdicts: As `evalkit.report.judges.verdicts` gives them; those without a winner are left out.
    """
    readable = verdicts[verdicts["winner"].notna()]
    keys = ["item_id", "turn", "model_a", "model_b", "annotator", "replicate"]
    grouped = readable.groupby(keys, sort=False)["winner"].agg(["first", "nunique"]).reset_index()
    return grouped.assign(winner=grouped["first"].where(grouped["nunique"] == 1, "tie"))[[*keys, "winner"]]


def _counts(tallied: pd.DataFrame, names: Mapping[int, str]) -> VoteCounts:
    import numpy as np

    from evalkit.stats import VoteCounts

    counted = tallied[["wins_a", "wins_b", "ties", "both_bad"]].to_numpy()
    voted = counted.any(axis=1)
    a, b = (tallied[side].to_numpy()[voted] for side in ("model_a_id", "model_b_id"))
    ids = sorted(np.unique([a, b]).tolist(), key=lambda key: names[key])
    place = np.zeros(max(ids, default=0) + 1, dtype=np.intp)
    place[ids] = range(len(ids))
    votes = np.zeros((len(ids), len(ids), counted.shape[1]))
    votes[place[a], place[b]] = counted[voted]
    return VoteCounts(tuple(names[key] for key in ids), votes, votes, votes, 0, ())


def benchmark_arena_correlation(scores: ScoreTable, board: Board) -> BenchmarkCorrelations:
    """Correlates each benchmark's main metric, and the mean of those that lie in 0..1, with the board over models.

    The mean takes models that have all of them. Members of a group count through their group only. The sign of a
    metric for which lower is better is turned.
    """
    import pandas as pd

    from evalkit.stats import correlate
    from evalkit.stats.correlation import MIN_MODELS

    rated = {row.model: row.rating for row in board.rows if row.rating is not None}
    tasks = [task for task in scores.tasks if task.group is None]
    table = pd.DataFrame({"model": sorted(rated)})
    table[RATING] = table["model"].map(rated).astype(float)
    for task in tasks:
        sign = 1.0 if task.higher_is_better else -1.0
        cells = {m: c.value for m in rated if (c := scores.cell(m, task.name)) is not None and c.value is not None}
        table[task.name] = table["model"].map({m: sign * v for m, v in cells.items()}).astype(float)
    shares = [task.name for task in tasks if task.higher_is_better and table[task.name].dropna().between(0, 1).all()]
    if not tasks or not rated:
        missing = "benchmark scores" if not tasks else "ratings"
        return BenchmarkCorrelations((), "", (f"No correlation of benchmarks with the arena: there are no {missing}.",))
    if len(shares) > 1:
        table.insert(1, MEAN, table[shares].mean(axis=1, skipna=False))
    warnings: tuple[str, ...] = ()
    if len(rated) < MIN_MODELS:
        warnings = (
            f"Only {len(rated)} models are rated: over so few, a rank correlation says next to nothing and has no "
            "interval.",
        )
    found = correlate(table, reference=RATING)
    rows = [
        BenchmarkCorrelation(
            benchmark=pair.a,
            n=pair.n,
            spearman=finite(pair.spearman.value),
            spearman_lower=finite(pair.spearman.lower),
            spearman_upper=finite(pair.spearman.upper),
            kendall=finite(pair.kendall.value),
            kendall_lower=finite(pair.kendall.lower),
            kendall_upper=finite(pair.kendall.upper),
            note=_note(pair.n, finite(pair.spearman.value), finite(pair.spearman.lower)),
        )
        for pair in found.pairs
    ]
    matrix = None
    if len(tasks) > 1 and len(rated) >= MIN_MODELS:
        columns = [task.name for task in tasks[: MATRIX_COLUMNS - 1]]
        matrix = correlate(table[["model", *columns, RATING]]).matrix("spearman")
    return BenchmarkCorrelations(tuple(rows), found.interval, warnings, matrix)


def _note(n: int, value: float | None, lower: float | None) -> str:
    if value is None:
        return f"undefined: scores or ratings do not vary over the {n} models that have both"
    if lower is not None:
        return ""
    from evalkit.stats.correlation import MIN_MODELS

    return (
        f"no interval: {n} models are too few"
        if n < MIN_MODELS
        else "no interval: no resample of the models changes the order"
    )
