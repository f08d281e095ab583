"""A run's report as one HTML file that opens without a network."""

from __future__ import annotations

import math
import os
import re
import tempfile
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.report.board import MEAN, BenchmarkCorrelation, BoardRow
from evalkit.report.summary import Report, build_report
from evalkit.store.ledger import Ledger

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLE = Path(__file__).with_name("page.css")
SLICES_SHOWN = 6
CHARTS_SHOWN = 12
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis, in percent of its length.

    Attributes:
        ticks: Round values on it.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> str:
        """Returns a value's place; what lies outside is put on the edge."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(share, 0.0), 1.0):.2f}%"

    def up(self, value: float) -> str:
        """Returns a value's place on an axis that runs upwards, where screens count from the top."""
        return self.at(self.low + self.high - value)

    def span(self, low: float, high: float) -> str:
        """Returns the length between two values."""
        return f"{max(float(self.at(high)[:-1]) - float(self.at(low)[:-1]), 0):.2f}%"


UNIT = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
SHARES = Axis(-0.07, 1.07, UNIT.ticks)  # with room for dots on its ends


def axis(values: Iterable[float | None], ticks: int = 5) -> Axis:
    """Returns an axis that holds all values with some air, with about so many round ticks."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    air = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    low, high = low - air, high + air
    rough = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step)
    places = [round(step * k, 10) for k in range(first, math.floor(high / step) + 1)]
    return Axis(low, high, tuple(places))


def write_report(ledger: Ledger, run_id: int, path: str | Path) -> None:
    """Writes a run's report, see `write_page`.

    Raises:
        UserError: There is no such run, or the file cannot be written.
    """
    write_page(path, render(build_report(ledger, run_id), ledger.url))


def write_page(path: str | Path, page: str) -> None:
    """Writes a page; the file appears whole or not at all, and missing folders are made.

    Raises:
        UserError: The file cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise UserError(f"report: {str(target)!r} is a folder; write the path of a file, such as report.html.")
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(page.encode("utf-8", "replace"))
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise UserError(
            f"report: {str(target)!r} cannot be written ({error.strerror}); give a path in a folder you may write to."
        ) from error


def environment() -> SandboxedEnvironment:
    """Returns what pages are rendered in: all is escaped, so that what models said is shown as text, never as HTML."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment
    from markupsafe import Markup

    from evalkit import __version__
    from evalkit.stats.votes import list_names

    made = SandboxedEnvironment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_visible
    )
    made.globals.update(version=__version__, style=Markup(STYLE.read_text(encoding="utf-8")), unit=UNIT)
    made.filters.update(
        percent=lambda value: f"{value:.0%}",
        score=lambda value: f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}",
        tick=lambda value: f"{value:g}",
        number=lambda value: f"{value:,}",
        names=list_names,
        signed=lambda value: f"{value:+.2f}".replace("-", "−"),
        dollars=_dollars,
        duration=_duration,
        metric=lambda name: name.removesuffix(",none"),  # lm-eval's word for "no filter"
        breaks=_breaks,
        opening=lambda text: textwrap.shorten(text, 110, placeholder=" …"),
        moment=_moment,
        probability=lambda value: "p < 0.001" if value < 0.001 else f"p = {value:.3f}",
        yaml=_yaml,
    )
    return made


def render(report: Report, ledger_url: str = "") -> str:
    """Returns the page of a run."""
    board, scores = report.board, report.scores
    places = {row.model: place for place, row in enumerate(board.rows, 1)} if board else {}
    models = sorted(scores.models, key=lambda model: places.get(model, len(places) + 1))
    failed = sorted(report.failures.models, key=lambda found: places.get(found.model, len(places) + 1))
    cells = {(cell.model, cell.task): cell for cell in scores.cells if cell.main}
    limits = [limit for row in board.rows for limit in (row.rating, row.lower, row.upper)] if board else []
    return (
        environment()
        .from_string(TEMPLATE.read_text(encoding="utf-8"))
        .render(
            report=report,
            ledger=ledger_url,
            facts=report.facts,
            board=board,
            corrected=report.corrected,
            places=places,
            ratings=axis(limits),
            models=models,
            top_tasks=[task for task in scores.tasks if task.group is None],
            member_tasks=[task for task in scores.tasks if task.group is not None],
            cells=cells,
            best=_best(report),
            failed=failed,
            scatters=_scatters(report),
            matrix=_matrix(report),
            slices_shown=SLICES_SHOWN,
            mean=MEAN,
            show_duration=report.facts.seconds is not None,
        )
    )


def _best(report: Report) -> dict[str, float]:
    """The best value of each task's main metric."""
    best = {}
    for task in report.scores.tasks:
        values = [c.value for c in report.scores.cells if c.main and c.task == task.name and c.value is not None]
        if len(set(values)) > 1:
            best[task.name] = max(values) if task.higher_is_better else min(values)
    return best


@dataclass(frozen=True, slots=True)
class Point:
    """A model on a chart: its score with standard error, its row and place on the board."""

    place: int
    x: float
    error: float | None
    row: BoardRow


@dataclass(frozen=True, slots=True)
class Scatter:
    """A benchmark's scores against the ratings."""

    row: BenchmarkCorrelation
    points: tuple[Point, ...]
    x: Axis


def _scatters(report: Report) -> list[Scatter]:
    if report.board is None:
        return []
    charts = []
    for row in report.correlations.rows[:CHARTS_SHOWN]:
        points = []
        for place, rated in enumerate(report.board.rows, 1):
            score, error = _score(report, rated.model, row.benchmark)
            if score is not None and rated.rating is not None:
                points.append(Point(place, score, error, rated))
        if points:
            shares = all(0 <= point.x <= 1 for point in points)
            charts.append(Scatter(row, tuple(points), SHARES if shares else axis(point.x for point in points)))
    return charts


def _matrix(report: Report) -> Any:
    """The picture of the correlations, whose texts are escaped there; None without them."""
    from markupsafe import Markup

    from evalkit.report.correlation_plot import correlation_svg

    matrix = report.correlations.matrix
    return None if matrix is None else Markup(correlation_svg(matrix))


def _score(report: Report, model: str, benchmark: str) -> tuple[float | None, float | None]:
    if benchmark != MEAN:
        cell = report.scores.cell(model, benchmark)
        return (cell.value, cell.stderr) if cell else (None, None)
    names = [row.benchmark for row in report.correlations.rows if row.benchmark != MEAN]
    tasks = [task.name for task in report.scores.tasks if task.name in names and task.higher_is_better]
    cells = [report.scores.cell(model, task) for task in tasks]
    values = [cell.value for cell in cells if cell is not None and cell.value is not None and 0 <= cell.value <= 1]
    return (sum(values) / len(values), None) if values and len(values) == len(tasks) else (None, None)


def _visible(value: Any) -> Any:
    """Makes control characters in texts visible, where HTML would drop or obey them."""
    return _CONTROL.sub("\ufffd", value) if type(value) is str else value


def _breaks(name: str) -> Any:
    """Lets a browser break a name after each underscore."""
    from markupsafe import Markup, escape

    return escape(_visible(name)).replace("_", Markup("_<wbr>"))


def _dollars(value: float) -> str:
    return "$0" if value == 0 else f"${value:,.2f}" if value >= 0.01 else f"${value:.4f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100))
