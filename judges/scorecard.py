"""The scorecard: what is known of each judge and each jury, every figure with its interval and n."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from judges.columns import BY_KEY, Figure
from judges.evidence import board_votes, select

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import AltTest, JudgeAudit, Mean, Ratings, ReliabilityCurve, Share
    from evalkit.stats.agreement import AgreementRow
    from evalkit.stats.battles import BattleLabels
    from evalkit.stats.votes import FloatArray, IntArray
    from judges.probes import ProbeRates

Kind = Literal["judge", "jury", "humans"]
HUMANS = "humans"  # of `stats.judge_agreement`
PEOPLE = "people among themselves"
EPSILON = 0.2
MIN_INSTANCES = 30
DRAWS = 400
OF_A_MODEL = ("swap_consistency", "first_slot", "self_preference", "family_preference")
DEFINITION = (
    "Every figure stands with its {confidence:.0%} interval and the number n of what it is a figure of. A battle is an "
    "item with two models' answers to it; a judge's verdicts on both orders of a battle are one, a tie where they "
    "differ; both_bad counts as a tie. Verdicts that could not be read are counted and are in no other figure. "
    "Intervals allow for verdicts on one item being alike."
)


@dataclass(frozen=True, slots=True)
class ScorecardRow:
    """One judge, one jury, or the humans among themselves.

    Attributes:
        n: Verdicts, unreadable ones included.
        figures: By the keys of `judges.columns.COLUMNS`.
        verdict: What it decides by, in one phrase (`stats.audit_findings`).
        findings: Sentences with the numbers behind that, the gravest first.
        may_stand_in: Whether the alternative annotator test lets it stand in for a person; None where it could not be
            made.
        curve: Reliability of its stated probabilities.
    """

    judge: str
    kind: Kind
    n: int
    figures: Mapping[str, Figure]
    verdict: str = ""
    findings: tuple[str, ...] = ()
    may_stand_in: bool | None = None
    curve: ReliabilityCurve | None = None


@dataclass(frozen=True, slots=True)
class Scorecard:
    """All judges and juries.

    Attributes:
        rows: Best agreement with people first.
        humans: The humans among themselves.
        epsilon: Of the alternative annotator test.
        boards: Ratings by each judge and jury, and by the humans (None) together.
        alt_tests: The alternative annotator test of each judge and jury.
    """

    rows: tuple[ScorecardRow, ...]
    humans: ScorecardRow
    epsilon: float
    definition: str
    warnings: tuple[str, ...]
    boards: Mapping[str | None, Ratings]
    alt_tests: Mapping[str, AltTest]

    def row(self, judge: str) -> ScorecardRow:
        """Returns a judge's row."""
        return next(row for row in self.rows if row.judge == judge)

    def frame(self) -> pd.DataFrame:
        """One row for each of `rows` and the humans: judge, kind, verdicts, and each figure with its limits and n."""
        import pandas as pd

        table = []
        for row in (*self.rows, self.humans):
            cells: dict[str, Any] = {"judge": row.judge, "kind": row.kind, "verdicts": row.n}
            for key, figure in row.figures.items():
                cells |= {key: figure.value, f"{key}_lower": figure.lower, f"{key}_upper": figure.upper}
                cells |= {f"{key}_n": figure.n}
            table.append(cells)
        return pd.DataFrame(table)


def scorecard(
    votes: pd.DataFrame,
    *,
    judges: str = "*",
    humans: str = "*",
    responses: pd.DataFrame | None = None,
    costs: pd.DataFrame | None = None,
    probes: Mapping[str, ProbeRates] | None = None,
    criterion: str = "overall",
    juries: Collection[str] = (),
    models: Mapping[str, str] | None = None,
    epsilon: float = EPSILON,
    confidence: float = 0.95,
    seed: int = 0,
) -> Scorecard:
    """Measures each judge and jury against the people who voted on the same battles.

    Agreement, kappa and ceiling as `stats.judge_agreement`; alpha as `stats.krippendorff_alpha` over each battle's
    votes of the judge and the people; the alternative annotator test as `stats.alt_test`, its intervals over the people
    (Wilson's for the winning rate, t for the advantage); position, length, kin and calibration as `stats.audit_judge`.
    Boards are `stats.bradley_terry`, ties half, clustered by item; separability is that of `stats.compare_boards` with
    the spread of 400 boards redrawn from the ratings' covariance as its standard error; Spearman's limits are by a
    bootstrap over the models, or by redrawing both boards where there are fewer than eight.

    Args:
        votes: As `formats.ledger_votes` or `formats.read_votes` give them.
        judges, humans: Patterns of names; `*` is every annotator of the kind.
        responses: Lengths (or texts) of the answers, see `stats.audit_judge`.
        costs: One row a battle and judge: annotator, item_id, dollars, seconds (of its verdicts), requests.
        probes: What the probes found, by judge.
        criterion: What was judged.
        juries: Which of the judges are juries.
        models: The model that a judge is, by the judge's name, as it is called in the battles.
        epsilon: Of the alternative annotator test: 0.2 where people are experts, 0.15 skilled, 0.1 crowd workers.
        confidence: Level of the intervals.
        seed: Of bootstrap and redrawing.

    Raises:
        UserError: There are no judges or no humans on this criterion, or as the statistics named above.
    """
    from evalkit.stats import alt_test, audit_judge, bradley_terry, judge_agreement
    from evalkit.stats.battles import battle_labels

    frame = select(votes, judges, humans, criterion)
    labels = battle_labels(frame)
    of_judges = frame["annotator_kind"] == "judge"
    names = sorted(frame.loc[of_judges, "annotator"].unique())
    place = {name: i for i, name in enumerate(labels.annotators)}
    tested = set(names)
    people = [i for name, i in place.items() if name not in tested]
    agreed = {row.judge: row for row in judge_agreement(frame, confidence=confidence).rows}
    tests = alt_test(frame, "*", "*", epsilon=epsilon, min_instances=MIN_INSTANCES)
    stands_in = {test.judge: test for test in tests.tests}
    boards: dict[str | None, Ratings] = {
        name: bradley_terry(board_votes(labels, [place[name]]), cluster="item_id", confidence=confidence)
        for name in names
    }
    boards[None] = bradley_terry(frame[~of_judges], cluster="item_id", confidence=confidence)
    ceiling = _agreements(agreed[HUMANS])
    rows, warnings = [], [*labels.warnings, *tests.warnings]
    for name in names:
        found = audit_judge(frame, name, responses=responses, model=(models or {}).get(name), confidence=confidence)
        figures = {
            **_agreements(agreed[name]),
            "human_ceiling": ceiling["agreement"],
            "human_ceiling_no_ties": ceiling["agreement_no_ties"],
            "alpha": _alpha(labels, [*people, place[name]], place[name], confidence),
            **_stands_in(stands_in[name], confidence),
            **_audited(found, name in juries),
            **_probed(name in juries, (probes or {}).get(name)),
            **_board(boards[name], boards[None], confidence, seed),
            **_costs(name, costs, confidence),
        }
        rows.append(
            ScorecardRow(
                judge=name,
                kind="jury" if name in juries else "judge",
                n=int((frame["annotator"] == name).sum()),
                figures={key: figures[key] for key in BY_KEY},
                verdict=found.verdict,
                findings=found.findings,
                may_stand_in=stands_in[name].passes if stands_in[name].annotators else None,
                curve=found.calibration if figures["calibration_error"].measured else None,
            )
        )
        warnings += [f"{name}: {sentence}" for sentence in found.warnings if name not in juries]
    alone = {**ceiling, "alpha": _alpha(labels, people, None, confidence)}
    alone["separability"] = _separability(boards[None], confidence, seed)
    rows.sort(key=lambda row: -(row.figures["agreement"].value or 0.0))
    return Scorecard(
        rows=tuple(rows),
        humans=ScorecardRow(PEOPLE, "humans", int((~of_judges).sum()), alone),
        epsilon=epsilon,
        definition=DEFINITION.format(confidence=confidence),
        warnings=tuple(dict.fromkeys(warnings)),
        boards=boards,
        alt_tests=stands_in,
    )


def _agreements(row: AgreementRow) -> dict[str, Figure]:
    counts = {"agreement": row.n - row.n_failed, "agreement_no_ties": row.n_no_ties, "kappa": row.n - row.n_failed}
    return {
        key: _figure(getattr(row, key), getattr(row, f"{key}_lower"), getattr(row, f"{key}_upper"), n)
        for key, n in counts.items()
    }


def _figure(value: float, lower: float, upper: float, n: int, note: str = "") -> Figure:
    import math

    known = [float(x) if math.isfinite(x) else None for x in (value, lower, upper)]
    if known[0] is None:
        return Figure(None, None, None, n, note or "nothing to measure it on")
    return Figure(known[0], known[1], known[2], n, note)


def _alpha(labels: BattleLabels, who: list[int], judge: int | None, confidence: float) -> Figure:
    import numpy as np

    from evalkit.stats import krippendorff_alpha
    from evalkit.stats.votes import factorize

    rows = np.isin(labels.annotator, who) & (labels.label >= 0)
    if judge is not None:
        judged = np.unique(labels.battle[labels.annotator == judge])
        rows &= np.isin(labels.battle, judged)
    battle, label = labels.battle[rows], labels.label[rows]
    order = np.argsort(battle, kind="stable")
    battle, label = battle[order], label[order]
    battles, start, count = np.unique(battle, return_index=True, return_counts=True)
    if not len(battles):
        return Figure(None, None, None, 0, "no battle to measure it on")
    # Who gave a rating does not matter to alpha: the ratings of a battle stand side by side.
    ratings = np.full((len(battles), int(count.max())), np.nan)
    place = np.repeat(np.arange(len(battles)), count)
    ratings[place, np.arange(len(battle)) - np.repeat(start, count)] = label
    items = factorize(labels.battles["item_id"])[0][battles]
    found = krippendorff_alpha(ratings, clusters=items, confidence=confidence)
    return _figure(found.value, found.lower, found.upper, int((count > 1).sum()), "n counts battles")


def _stands_in(test: AltTest, confidence: float) -> dict[str, Figure]:
    from evalkit.stats import clustered_mean, share

    if not test.annotators:
        why = f"no person shares {MIN_INSTANCES} battles with the judge and another person"
        return dict.fromkeys(("alt_test", "alt_test_advantage"), Figure(None, None, None, 0, why))
    table = test.by_annotator
    rate = share(table["judge_wins"].to_numpy(), None, confidence)
    mean = clustered_mean(table["judge_advantage"].to_numpy(), confidence=confidence)
    note = f"n counts people with {MIN_INSTANCES} shared battles or more; epsilon {test.epsilon:g}"
    return {
        "alt_test": _share(rate, note),
        "alt_test_advantage": _mean(mean, 1.0, note),
    }


def _share(found: Share, note: str = "") -> Figure:
    return _figure(found.value, found.lower, found.upper, found.n, note)


def _mean(found: Mean, scale: float, note: str = "") -> Figure:
    lower, upper = max(scale * found.lower, 0.0), scale * found.upper
    return _figure(scale * found.value, lower, min(upper, 1.0) if scale == 1.0 else upper, found.n, note)


def _audited(found: JudgeAudit, jury: bool) -> dict[str, Figure]:
    rows = {row.check: row for row in found.rows}
    wanted = ("swap_consistency", "first_slot", "length_preference", "verbosity", "self_preference")
    figures = {}
    for key in (*wanted, "family_preference", "parse_failures", "calibration_error"):
        row = rows[key]
        note = row.verdict.removeprefix("Not measured: ").removesuffix(".") if row.flag == "not measured" else ""
        if key == "self_preference" and note.startswith("no model is named"):
            note = "no model in the battles goes by its name: tell with --self JUDGE=MODEL"
        if jury and key in OF_A_MODEL:
            note = "a jury sees no order and is no model"
        failed = 0 if key == "parse_failures" else row.n_failed
        figures[key] = _figure(row.value, row.lower, row.upper, row.n - failed, note)
    return figures


def _probed(jury: bool, rates: ProbeRates | None) -> dict[str, Figure]:
    if rates is None:
        why = "probes are of single judges" if jury else "no probes yet: evalkit judge probe --model MODEL --name JUDGE"
        return dict.fromkeys(("injection", "null_model"), Figure(None, None, None, 0, why))
    control = rates.control
    note = f"without the injected text the same answers win {control.value:.1%} of {control.n}" if control.n else ""
    return {"injection": _share(rates.injection, note), "null_model": _share(rates.null)}


def _board(own: Ratings, people: Ratings, confidence: float, seed: int) -> dict[str, Figure]:
    import numpy as np

    from evalkit.stats import compare_boards
    from evalkit.stats.correlation import MIN_MODELS

    rated = set(np.array(people.models)[np.isfinite(people.rating)]) & set(
        np.array(own.models)[np.isfinite(own.rating)]
    )
    found = _separability(own, confidence, seed)
    if len(rated) < 3:
        none = Figure(None, None, None, len(rated), f"{len(rated)} models are rated by the judge and by people")
        return {"separability": found, "spearman": none}
    tables = [board.frame()[["model", "rating", "lower", "upper"]] for board in (own, people)]
    compared = compare_boards(*tables, confidence=confidence, seed=seed).spearman
    lower, upper, note = compared.lower, compared.upper, "n counts models"
    if len(rated) < MIN_MODELS:
        lower, upper = _redrawn_correlation(own, people, sorted(rated), compared.value, confidence, seed)
        note = "n counts models; limits from redrawing both boards, as there are few models"
    return {"separability": found, "spearman": _figure(compared.value, lower, upper, len(rated), note)}


def _draws(board: Ratings, at: IntArray, seed: int) -> FloatArray:
    """Ratings redrawn from their estimated error, shape (DRAWS, models)."""
    import numpy as np

    values, vectors = np.linalg.eigh(board.covariance[np.ix_(at, at)])
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    noise = np.random.default_rng(seed).standard_normal((DRAWS, len(at)))
    return np.asarray(board.rating[at] + noise @ root.T)


def _separability(board: Ratings, confidence: float, seed: int) -> Figure:
    """Share of pairs whose intervals do not overlap; its standard error is that over redrawn boards."""
    import numpy as np

    from evalkit.stats.ranks import critical_value

    at = np.flatnonzero(np.isfinite(board.rating) & np.isfinite(board.upper - board.lower))
    if len(at) < 2:
        return Figure(None, None, None, 0, "fewer than two models are rated with an interval")
    i, j = np.triu_indices(len(at), 1)
    half = (board.upper - board.lower)[at] / 2
    reach = half[i] + half[j]

    def apart(ratings: FloatArray) -> FloatArray:
        return np.asarray((np.abs(ratings[..., i] - ratings[..., j]) > reach).mean(axis=-1), dtype=np.float64)

    value = float(apart(board.rating[at]))
    step = max(1, 8_000_000 // len(i))
    draws = _draws(board, at, seed)
    spread = np.concatenate([apart(draws[k : k + step]) for k in range(0, DRAWS, step)])
    width = critical_value(confidence, float("inf")) * float(spread.std(ddof=1))
    return _figure(value, max(0.0, value - width), min(1.0, value + width), len(i), "n counts pairs of models")


def _redrawn_correlation(
    own: Ratings, people: Ratings, models: Sequence[str], value: float, confidence: float, seed: int
) -> tuple[float, float]:
    import numpy as np

    drawn = []
    for board, offset in ((own, 0), (people, 1)):
        at = np.array([board.models.index(name) for name in models], dtype=np.int64)
        ranks = _draws(board, at, seed + offset).argsort(axis=1).argsort(axis=1).astype(np.float64)
        drawn.append(ranks - ranks.mean(axis=1, keepdims=True))
    x, y = drawn
    found = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return min(float(low), value), max(float(high), value)


def _costs(judge: str, costs: pd.DataFrame | None, confidence: float) -> dict[str, Figure]:
    from evalkit.stats import clustered_mean

    keys = {"dollars_per_1000": "dollars", "seconds_per_1000": "seconds"}
    mine = None if costs is None else costs[costs["annotator"] == judge]
    if mine is None or mine.empty:
        why = "its verdicts were recorded elsewhere: no request of theirs is in the ledger"
        return dict.fromkeys((*keys, "requests"), Figure(None, None, None, 0, why))
    figures = {}
    for key, column in keys.items():
        known = mine[mine[column].notna()]
        if known.empty:
            figures[key] = Figure(None, None, None, 0, "not known of any request")
        else:
            mean = clustered_mean(known[column].to_numpy(), known["item_id"].to_numpy(), confidence=confidence)
            figures[key] = _mean(mean, 1000.0, "n counts battles")
    requests = int(mine["requests"].sum())
    return figures | {"requests": Figure(float(requests), None, None, requests, "counted, so without an interval")}
