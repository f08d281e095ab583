"""Charts that all pages share: every value with its interval, a plain title, and a sentence for screen readers.

Colours come from the theme (`theme.toml`), light or dark as the reader's; `PALETTE` is for what is no chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import altair as alt
import streamlit as st

from app.name_places import name_places

if TYPE_CHECKING:
    import pandas as pd

Chart = alt.LayerChart

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every kind of colour vision."""

ROW = 22  # pixels for a row of a chart: what a 12-pixel label needs
AROUND = 92  # pixels for title, axis and its name: a chart's height is that of all it shows
LABELS = 210  # pixels for a row's name; the rest is cut off and stands in the tooltip
BAR = 3
TICKS = 6
ON_CELLS = "#1c2330"  # the theme's diverging colours are all light enough for it
INK = alt.Color("one_series:N", scale=alt.Scale(range="category"), legend=None)
"""The theme's first colour: rules and marks of a chart with one series have none of their own."""


def show(chart: Chart, *, key: str | None = None, on_select: Any = "ignore") -> Any:
    """Puts a chart on the page, with its description as the name that screen readers say.

    Returns:
        What was selected, if `on_select` asks for it.
    """
    said = chart.description if isinstance(chart.description, str) else None
    bare = chart.copy(deep=False)
    bare.description = alt.Undefined  # said once: both here and there would be two names
    return st.altair_chart(bare, alt=said, key=key, on_select=on_select)


def interval_chart(
    frame: pd.DataFrame,
    label: str,
    value: str,
    lower: str,
    upper: str,
    *,
    title: str,
    value_title: str = "",
    value_format: str = ".0f",
    series: str | None = None,
    reference: float | None = None,
    domain: tuple[float, float] | None = None,
    tooltip: Sequence[str] = (),
    description: str | None = None,
) -> Chart:
    """Draws a dot with its interval for each row, the first row on top.

    Args:
        frame: One row a dot, in the order to be shown; rows without a value have a name and no dot, rows without
            limits no bar.
        label, value, lower, upper: Its columns.
        title: What is seen.
        value_title, value_format: Of the axis; the format is d3's.
        series: Column that gives the colour; dots of one label then stand beside each other.
        reference: A value to draw a line at.
        domain: Ends of the axis; by default those of what is drawn.
        tooltip: Further columns to show under the pointer.
        description: For screen readers; by default the title and who is first.
    """
    order = list(dict.fromkeys(frame[label].astype(str)))
    known = frame.dropna(subset=[value]).assign(one_series="")
    barred = known.dropna(subset=[value, lower, upper])
    y = alt.Y(
        f"{_field(label)}:N",
        sort=order,
        title=None,
        axis=alt.Axis(labelLimit=LABELS, ticks=False, labelOverlap=False, labelFlush=False),
    )
    x = alt.X(
        f"{_field(value)}:Q",
        title=value_title or None,
        scale=alt.Scale(zero=False) if domain is None else alt.Scale(domain=list(domain)),
        axis=alt.Axis(format=value_format, tickCount=TICKS, labelFlush=False),
    )
    told = [
        alt.Tooltip(f"{_field(label)}:N", title="Name"),
        alt.Tooltip(f"{_field(value)}:Q", title=value_title or "Value", format=value_format),
        alt.Tooltip(f"{_field(lower)}:Q", title="From", format=value_format),
        alt.Tooltip(f"{_field(upper)}:Q", title="To", format=value_format),
        *_tooltips(frame, tooltip),
    ]
    extra: dict[str, Any] = {"color": INK}
    if series is not None:
        names = list(dict.fromkeys(frame[series].astype(str)))
        extra = {
            "color": alt.Color(f"{_field(series)}:N", sort=names, title=None, legend=alt.Legend(orient="top")),
            "yOffset": alt.YOffset(f"{_field(series)}:N", sort=names),
        }
    base = alt.Chart(known).encode(y=y, tooltip=told, **extra)
    bars = alt.Chart(barred).mark_rule(strokeWidth=BAR, opacity=0.45, strokeCap="round")
    limits = alt.X(f"{_field(lower)}:Q", title=value_title or None)
    layers = [bars.encode(y=y, x=limits, x2=f"{_field(upper)}:Q", tooltip=told, **extra)]
    layers.append(base.mark_point(filled=True, size=70, opacity=1).encode(x=x))
    if reference is not None:
        layers.insert(0, _line(reference, "x"))
    rows = ROW * max(len(order), 1) * (1 if series is None else max(1, frame[series].nunique() * 0.6))
    first = f"; first is {order[0]}" if order else ""
    return _titled(alt.layer(*layers), title, description or f"{title}{first}").properties(
        height=rows + AROUND + 25 * (series is not None)
    )


def heatmap(
    frame: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    *,
    title: str,
    value_title: str = "",
    value_format: str = ".2f",
    domain: tuple[float, float] = (-1.0, 1.0),
    tooltip: Sequence[str] = (),
    order: Sequence[str] | None = None,
    across: Sequence[str] | None = None,
    select: str | None = None,
    description: str | None = None,
) -> Chart:
    """Draws a table of coloured cells with their values; colours diverge from the middle of the domain.

    Args:
        frame: One row a cell; cells without a value stay empty.
        x, y, value: Its columns.
        domain: Values with the full colours.
        order, across: The order of the rows and of the columns (that of the rows, if only these are given).
        select: Name of a selection of one cell, for `show(on_select=...)`.
    """
    rows = list(order or dict.fromkeys(frame[y].astype(str)))
    columns = list(across or (rows if order is not None else dict.fromkeys(frame[x].astype(str))))
    scale = alt.Scale(domain=list(domain), range="diverging", clamp=True)
    told = [
        alt.Tooltip(f"{_field(y)}:N", title="Row"),
        alt.Tooltip(f"{_field(x)}:N", title="Column"),
        alt.Tooltip(f"{_field(value)}:Q", title=value_title or "Value", format=value_format),
        *_tooltips(frame, tooltip),
    ]
    base = alt.Chart(frame.dropna(subset=[value])).encode(
        x=alt.X(
            f"{_field(x)}:N",
            sort=columns,
            title=None,
            scale=alt.Scale(domain=columns),
            axis=alt.Axis(
                orient="top", labelAngle=-45, labelLimit=150, labelOverlap=False, ticks=False, domain=False, grid=False
            ),
        ),
        y=alt.Y(
            f"{_field(y)}:N",
            sort=rows,
            title=None,
            scale=alt.Scale(domain=rows),
            axis=alt.Axis(
                labelLimit=LABELS, labelOverlap=False, labelFlush=False, ticks=False, domain=False, grid=False
            ),
        ),
        tooltip=told,
    )
    cells = base.mark_rect(cornerRadius=2).encode(
        color=alt.Color(f"{_field(value)}:Q", scale=scale, legend=None), opacity=alt.value(1)
    )
    if select is not None:
        point = alt.selection_point(name=select, fields=[x, y], on="click", empty=False)
        cells = cells.encode(
            stroke=alt.condition(point, alt.value("#E69F00"), alt.value("transparent")),
            strokeWidth=alt.condition(point, alt.value(3), alt.value(0)),
        ).add_params(point)
    layers: list[Any] = [cells]
    if len(columns) <= 14:
        layers.append(
            base.mark_text(fontSize=12 if len(columns) <= 8 else 10, color=ON_CELLS).encode(
                text=alt.Text(f"{_field(value)}:Q", format=value_format)
            )
        )
    size = 34 if len(columns) <= 14 else ROW
    return _titled(alt.layer(*layers), title, description or title).properties(height=size * max(len(rows), 1) + 170)


def scatter(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    label: str,
    title: str,
    x_title: str,
    y_title: str,
    x_limits: tuple[str, str] | None = None,
    y_limits: tuple[str, str] | None = None,
    front: str | None = None,
    log: bool = False,
    x_format: str = "~g",
    y_format: str = ",~r",
    tooltip: Sequence[str] = (),
    description: str | None = None,
) -> Chart:
    """Draws named points with their intervals.

    Args:
        label: Column with the points' names, written beside them where there are up to 30.
        x_limits, y_limits: Columns with the limits of the intervals.
        front: Column that is True for the points of the Pareto front: these are joined, filled and named.
        log: Of the x axis.
    """
    across = alt.X(
        f"{_field(x)}:Q",
        title=x_title,
        axis=alt.Axis(format=x_format, tickCount=TICKS, labelFlush=False),
        scale=alt.Scale(type="log") if log else alt.Scale(zero=False, padding=12),
    )
    up = alt.Y(f"{_field(y)}:Q", title=y_title, axis=alt.Axis(format=y_format), scale=alt.Scale(zero=False, padding=12))
    told = [
        alt.Tooltip(f"{_field(label)}:N", title="Name"),
        alt.Tooltip(f"{_field(x)}:Q", title=x_title, format=x_format),
        alt.Tooltip(f"{_field(y)}:Q", title=y_title, format=y_format),
        *_tooltips(frame, tooltip),
    ]
    known = frame.dropna(subset=[x, y]).assign(one_series="")
    layers: list[Any] = []
    thin: dict[str, Any] = {"strokeWidth": 1.5, "opacity": 0.4}
    if x_limits is not None:
        bars = alt.Chart(known.dropna(subset=list(x_limits))).mark_rule(**thin).encode(color=INK)
        layers.append(bars.encode(y=up, x=alt.X(f"{_field(x_limits[0])}:Q", title=x_title), x2=_field(x_limits[1])))
    if y_limits is not None:
        bars = alt.Chart(known.dropna(subset=list(y_limits))).mark_rule(**thin).encode(color=INK)
        layers.append(bars.encode(x=across, y=alt.Y(f"{_field(y_limits[0])}:Q", title=y_title), y2=_field(y_limits[1])))
    named = known
    if front is not None:
        named = known[known[front].astype(bool)].sort_values(x)
        line = alt.Chart(named).mark_line(interpolate="step-after", strokeDash=[4, 3], strokeWidth=1.5, opacity=0.8)
        layers.append(line.encode(x=across, y=up))
        points = alt.Chart(known).mark_point(size=75, opacity=1, strokeWidth=2)
        fill = alt.Fill(f"{_field(front)}:N", scale=alt.Scale(domain=[True], range="category"), legend=None)
        layers.append(points.encode(x=across, y=up, tooltip=told))
        layers.append(
            alt.Chart(named)
            .mark_point(size=75, opacity=1, strokeWidth=2, filled=False)
            .encode(x=across, y=up, fill=fill, tooltip=told)
        )
    else:
        points = alt.Chart(known).mark_point(filled=True, size=75, opacity=1)
        layers.append(points.encode(x=across, y=up, tooltip=told))
    if len(named) <= 30:
        places = name_places(known, label, [x, *(x_limits or ())], [y, *(y_limits or ())], log=log)[named.index]
        for right, down in sorted(set(places.dropna())):
            here = named[places == (right, down)]
            names = alt.Chart(here).mark_text(
                align="left" if right > 0 else "right" if right < 0 else "center",
                dx=right,
                dy=down,
                fontSize=11,
                limit=180,
            )
            layers.append(names.encode(color=INK, x=across, y=up, text=f"{_field(label)}:N"))
    return _titled(alt.layer(*layers), title, description or f"{title}; {len(known)} points").properties(height=420)


def curve(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    title: str,
    x_title: str,
    y_title: str,
    series: str | None = None,
    limits: tuple[str, str] | None = None,
    diagonal: bool = False,
    points: bool = False,
    log: bool = False,
    x_format: str = ",~f",
    y_format: str = ",~f",
    tooltip: Sequence[str] = (),
    description: str | None = None,
) -> Chart:
    """Draws lines, with a band of their intervals.

    Args:
        series: Column that gives each line its colour.
        limits: Columns with the limits of the band.
        diagonal: Draw y = x from 0 to 1, where a calibrated judge's curve lies; both axes are then 0 to 1.
        points: Mark each point.
        log: Of the y axis.
    """
    unit = alt.Scale(domain=[0, 1]) if diagonal else alt.Scale(zero=False)
    across = alt.X(f"{_field(x)}:Q", title=x_title, axis=alt.Axis(format=x_format), scale=unit)
    scale = alt.Scale(type="log") if log else unit
    up = alt.Y(f"{_field(y)}:Q", title=y_title, axis=alt.Axis(format=y_format), scale=scale)
    told = [
        alt.Tooltip(f"{_field(x)}:Q", title=x_title, format=x_format),
        alt.Tooltip(f"{_field(y)}:Q", title=y_title, format=y_format),
        *_tooltips(frame, tooltip),
    ]
    colour: dict[str, Any] = {}
    if series is not None:
        names = list(dict.fromkeys(frame[series].astype(str)))
        colour = {"color": alt.Color(f"{_field(series)}:N", sort=names, title=None, legend=alt.Legend(orient="top"))}
        told.insert(0, alt.Tooltip(f"{_field(series)}:N", title="Line"))
    layers: list[Any] = []
    if diagonal:
        import pandas as pd

        ends = alt.Chart(pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0]}))
        layers.append(ends.mark_line(strokeDash=[4, 3], strokeWidth=1, opacity=0.6, color="gray").encode(x="x", y="y"))
    known = frame.dropna(subset=[x, y])
    if limits is not None:
        low, high = (_field(limit) for limit in limits)
        band = alt.Chart(known.dropna(subset=list(limits))).mark_area(opacity=0.18)
        layers.append(band.encode(x=across, y=alt.Y(f"{low}:Q", title=y_title), y2=high, **colour))
    line = alt.Chart(known).mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=45) if points else False)
    layers.append(line.encode(x=across, y=up, tooltip=told, **colour))
    return _titled(alt.layer(*layers), title, description or title).properties(height=320)


def _titled(chart: Any, title: str, description: str) -> alt.LayerChart:
    titled: alt.LayerChart = chart.properties(
        title=alt.TitleParams(title, anchor="start", fontSize=15, fontWeight=600, offset=12), description=description
    )
    return titled


def _line(at: float, axis: Literal["x", "y"]) -> alt.Chart:
    import pandas as pd

    where: Mapping[str, Any] = {axis: alt.X("at:Q") if axis == "x" else alt.Y("at:Q")}
    ruled: alt.Chart = alt.Chart(pd.DataFrame({"at": [at]})).mark_rule(strokeDash=[4, 3], color="gray").encode(**where)
    return ruled


def _tooltips(frame: pd.DataFrame, columns: Sequence[str]) -> list[alt.Tooltip]:
    import pandas as pd

    found = []
    for column in columns:
        kind = "Q" if pd.api.types.is_numeric_dtype(frame[column]) else "N"
        found.append(alt.Tooltip(f"{_field(column)}:{kind}", title=column.replace("_", " ").capitalize()))
    return found


def _field(name: str) -> str:
    """A column's name as Vega-Lite reads it: dots, brackets and colons are part of the name."""
    escaped = name
    for sign in ("\\", ".", "[", "]", ":"):
        escaped = escaped.replace(sign, "\\" + sign)
    return escaped
