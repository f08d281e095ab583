"""The calibration as one HTML page that opens without a network, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.report.html import UNIT, Axis, axis, environment, write_page
from evalkit.report.reads import clip, finite
from judges.calibration import Calibration
from judges.columns import COLUMNS, GROUPS, Column, Figure, written
from judges.recommendation import Recommendation, called
from judges.scorecard import MIN_INSTANCES, ScorecardRow
from judges.stand_in import ALPHA, POWER, StandIn
from judges.stand_in import DEFINITION as STAND_IN

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = Path(__file__).with_name("calibration.html.j2")
LONGEST = 4000  # characters of a text on the page
ON_PEOPLE_ROW = ("human_ceiling", "human_ceiling_no_ties")  # the page shows these as a row of their own
SURE = Axis(0.47, 1.03, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
RIGHT = Axis(-0.04, 1.06, UNIT.ticks)
SIGNED = Axis(-1.0, 1.0, (-1.0, -0.5, 0.0, 0.5, 1.0))


def write_calibration(found: Calibration, recommendation: Recommendation, path: Path) -> None:
    """Writes the page.

    Raises:
        UserError: The file cannot be written.
    """
    write_page(path, render(found, recommendation))


def render(found: Calibration, recommendation: Recommendation) -> str:
    """Returns the page; all texts are escaped."""
    made = environment()
    made.filters.update(
        written=lambda column, value: written(column, value),
        clip=lambda text: clip(text, LONGEST),
        change=lambda value: f"{value:+.0f}".replace("-", "−"),
    )
    card = found.scorecard
    rows = board_rows(found)
    limits = [row[key] for row in rows for key in ("rating", "lower", "upper", "raw")]
    held_out = [] if found.held_out is None else found.held_out.table.to_dict("records")
    for row in held_out:
        row["figure"] = Figure(finite(row["accuracy"]), finite(row["lower"]), finite(row["upper"]), int(row["n"]))
    return made.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        found=found,
        facts=found.facts,
        card=card,
        recommendation=recommendation,
        groups=GROUPS,
        shown={key: [c for c in COLUMNS if c.group == key and c.key not in ON_PEOPLE_ROW] for key in GROUPS},
        all_columns=COLUMNS,
        axes=_axes(found),
        marks={column.key: _mark(found, column) for column in COLUMNS if column.key not in ON_PEOPLE_ROW},
        judge=called(found, found.judge),
        notes={key: _notes(found, key) for key in GROUPS},
        categories=_by_category(found),
        held_out=[row for row in held_out if row["figure"].measured],
        curves=[row for row in card.rows if row.curve is not None],
        sure=SURE,
        right=RIGHT,
        ratings=axis(limits),
        board=rows,
        power=POWER,
        min_instances=MIN_INSTANCES,
        stand_in_definition=STAND_IN.format(epsilon=found.facts.epsilon, alpha=ALPHA, power=POWER),
    )


def _axes(found: Calibration) -> dict[str, Axis]:
    """The scale of each figure, alike for all judges; none for money, time and counts."""
    axes = {}
    for column in COLUMNS:
        if column.unit == "share":
            axes[column.key] = UNIT
        elif column.unit == "points":
            cells = [row.figures[column.key] for row in found.scorecard.rows]
            reach = max([0.1, *(abs(x) for f in cells for x in (f.lower, f.upper) if x is not None)])
            axes[column.key] = Axis(-1.1 * reach, 1.1 * reach, (0.0,))
        elif column.unit == "coefficient":
            cells = [row.figures[column.key] for row in found.scorecard.rows]
            below = min([0.0, *(x for f in cells for x in (f.lower,) if x is not None)])
            axes[column.key] = SIGNED if below < -0.2 else Axis(min(below, -0.02), 1.0, (0.0, 0.5, 1.0))
    return axes


def _mark(found: Calibration, column: Column) -> float | None:
    """What a figure is held against: what people reach, or what a judge without the fault has."""
    if column.group == "people":
        return found.scorecard.humans.figures[column.key].value
    return column.mark


def _notes(found: Calibration, group: str) -> list[str]:
    """Why figures are not measured, and what their n and limits are of, each said once."""
    told: dict[tuple[str, str], list[str]] = {}
    for column in COLUMNS:
        if column.group != group:
            continue
        for row in found.scorecard.rows:
            figure = row.figures[column.key]
            if figure.note:
                word = "" if figure.measured else "not measured"
                titles = told.setdefault((figure.note, word), [])
                if column.title not in titles:
                    titles.append(column.title)
    return [f"{', '.join(titles)}: {f'{word}, for ' if word else ''}{note}." for (note, word), titles in told.items()]


def _by_category(found: Calibration) -> list[tuple[str, list[StandIn]]]:
    """The rows of the table of categories, the judges in the order of the scorecard."""
    by_judge: dict[str, dict[str, StandIn]] = {}
    for one in found.stand_in:
        by_judge.setdefault(one.judge, {})[one.category] = one
    order = [row.judge for row in found.scorecard.rows]
    return [(category, [by_judge[judge][category] for judge in order]) for category in by_judge[order[0]]]


def board_rows(found: Calibration) -> list[dict[str, Any]]:
    """The corrected board beside the raw one, best first."""
    frame = found.corrected.frame()
    place_raw, place = (_places(column) for column in (frame["judge"], frame["rating"]))
    rows = []
    for index, one in enumerate(frame.to_dict("records")):
        cells = {key: finite(one[key]) for key in ("rating", "lower", "upper")}
        cells |= {"raw": finite(one["judge"]), "human": finite(one["human"])}
        both = cells["raw"] is not None and cells["rating"] is not None
        change = one["rating"] - one["judge"] if both else None
        rows.append(
            {
                "model": one["model"],
                **cells,
                "change": change,
                "raw_place": place_raw[index],
                "place": place[index],
                "votes": int(one["votes"]),
            }
        )
    return rows


def _places(ratings: pd.Series[float]) -> list[int | None]:
    ranks = ratings.rank(ascending=False, method="first")
    return [None if rank != rank else int(rank) for rank in ranks.tolist()]


def as_json(found: Calibration, recommendation: Recommendation) -> Mapping[str, Any]:
    """The calibration as data; docs/schemas/calibrate.json describes it."""
    card = found.scorecard

    def told(row: ScorecardRow) -> dict[str, Any]:
        facts = {"judge": row.judge, "kind": row.kind, "verdicts": row.n, "verdict": row.verdict}
        return facts | {"findings": row.findings, "may_stand_in": row.may_stand_in, "figures": row.figures}

    juries = None
    if found.held_out is not None:
        juries = {
            "rows": found.held_out.table.to_dict("records"),
            "smallest": found.held_out.selected.judges,
            "weights": found.weights,
            "n": found.held_out.n,
            "n_learned": found.held_out.n_learned,
            "method": found.held_out.method,
        }
    board = found.corrected
    return {
        "rows": [told(row) for row in card.rows],
        "people": told(card.humans),
        "facts": found.facts,
        "by_turn": found.by_turn,
        "stand_in": found.stand_in,
        "paired": found.paired,
        "juries": juries,
        "no_juries": found.no_juries,
        "board": {
            "judge": found.judge,
            "rows": board_rows(found),
            "power": board.power,
            "n": board.n,
            "n_labelled": board.n_labelled,
            "method": board.method,
        },
        "curves": {row.judge: row.curve.frame().to_dict("records") for row in card.rows if row.curve is not None},
        "disagreements": [
            {
                "item_id": one.place[0],
                "first": one.place[1],
                "second": one.place[2],
                "turn": one.place[3],
                "category": one.category,
                "people": one.people,
                "said": one.said,
            }
            for one in found.disagreements
        ],
        "recommendation": recommendation,
        "definition": card.definition,
        "warnings": found.warnings,
    }
