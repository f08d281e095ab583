"""How benchmarks, people and judges agree on which models are better; a scatter of any two of them."""

from typing import Any, Literal, cast

import pandas as pd
import streamlit as st

from app import charts, evidence, reads, tables

METHODS = {"spearman": "Spearman (ranks)", "kendall": "Kendall (pairs)", "pearson": "Pearson (values)"}
MIN_MODELS = 8
MOST = 12
WORK = 1_500_000  # models squared times pairs: about seven seconds of bootstrap

st.title("Correlation")
st.caption("Do benchmarks, people and judges agree on which models are better? Every point behind a number is a model.")

criteria = reads.criteria()
with st.container(horizontal=True, vertical_alignment="bottom"):
    method = st.segmented_control(
        "Coefficient", list(METHODS), default="spearman", required=True, key="method", bind="query-params",
        format_func=lambda name: METHODS[name],
    )  # fmt: skip
    criterion = criteria[0] if criteria else "overall"
    if len(criteria) > 1:
        criterion = st.selectbox("Criterion", criteria, key="criterion", bind="query-params", width=180)
    where = st.container()

with st.skeleton(height=60):
    found = evidence.columns(criterion)
table = found.table
names = [name for name in table.columns if name != "model" and table[name].notna().sum() > 1]
if len(names) < 2:
    st.info(
        "It takes two kinds of evidence on the same models: benchmark scores (`evalkit run PLAN`), votes of people (a "
        "campaign, or `evalkit import votes FILE`) or verdicts of judges (`evalkit judge`). This ledger has "
        f"{'one' if names else 'none'}.",
        icon=":material/scatter_plot:",
        title="Nothing to correlate yet",
    )
    st.stop()

if len(names) > MOST:
    wanted = where.toggle(f"All {len(names)} columns", key="wide", bind="query-params")
    names = names if wanted else names[:MOST]
reference = evidence.PEOPLE if evidence.PEOPLE in names else evidence.JUDGES if evidence.JUDGES in names else None
kept = tuple(names)


def coefficient(row: Any, name: str = method) -> str:
    """A coefficient with its interval, in few letters."""
    value, lower, upper = (getattr(row, f"{name}{end}") for end in ("", "_lower", "_upper"))
    if pd.isna(value):
        return "undefined"
    return f"{value:.2f}" + ("" if pd.isna(lower) else f" [{lower:.2f}, {upper:.2f}]")


def matrix() -> tuple[pd.DataFrame, str]:
    """Both halves of the matrix, a row a cell; intervals are left to the scatter where they would take too long."""
    if len(names) * (len(names) - 1) / 2 * len(table) ** 2 <= WORK:
        half, told, _ = evidence.correlations(table, kept)
    else:
        columns = table[names]
        value, many = columns.corr(cast(Literal["spearman"], method), min_periods=3), columns.notna().astype(int)
        n = many.T @ many
        cells = [(a, b, n.loc[a, b], value.loc[a, b]) for i, b in enumerate(names) for a in names[:i]]
        half = pd.DataFrame(cells, columns=["a", "b", "n", method])
        half[[f"{method}_lower", f"{method}_upper"]] = float("nan")
        told = "of so many models, for the pair below alone"
    half = half.rename(columns={method: "value", f"{method}_lower": "from", f"{method}_upper": "to"})
    half = half[["a", "b", "n", "value", "from", "to"]]
    return pd.concat([half, half.rename(columns={"a": "b", "b": "a"})], ignore_index=True), told


def predicts() -> str:
    """What predicts human preference best here, in a sentence with its interval."""
    if reference != evidence.PEOPLE:
        return "No person has voted on these models, so nothing here says what people prefer."
    pairs, _, _ = evidence.correlations(table, kept, reference)
    pairs = pairs.dropna(subset=[method]).sort_values(method, ascending=False)
    if pairs.empty:
        return "No other kind of evidence is known for two of the models that people have voted on."
    best = next(tables.rows(pairs))
    if best.n < MIN_MODELS:
        return (
            f"Nobody can tell yet: only {best.n} models have both votes of people and another score, and over fewer "
            f"than {MIN_MODELS} a correlation has no interval. Highest here is {best.a} with {coefficient(best)}, a "
            "hint at most."
        )
    rivals = [
        row
        for row in tables.rows(pairs)
        if row.a != best.a and getattr(row, f"{method}_upper") >= getattr(best, method)
    ]
    told = f"Nearest to people's ratings here: {best.a}, {coefficient(best)} over {best.n} models"
    if len(pairs) == 1:
        return f"{told}; it is the only other evidence."
    if not rivals:
        return f"{told}; the interval of no other reaches that."
    more = f"{rivals[0].a} ({coefficient(rivals[0])})" + (f" and {len(rivals) - 1} more" if len(rivals) > 1 else "")
    return f"{told}; but the intervals of {more} reach that, so the order among them is open."


def chosen() -> None:
    """Takes over the cell that was clicked."""
    cells = st.session_state["matrix"]["selection"].get("cell") or []
    if cells:
        st.session_state["across"], st.session_state["up"] = cells[0]["b"], cells[0]["a"]


sentence = st.skeleton(height=60)  # its intervals take longest: last of all

with st.skeleton(height=380):
    cells, interval = matrix()
left, right = st.columns([6, 5], gap="medium")
with left:
    charts.show(
        charts.heatmap(
            cells, "b", "a", "value", title=f"{method.capitalize()} correlation: click a cell", order=names,
            value_title="Correlation", tooltip=["from", "to", "n"], select="cell",
            description=f"{METHODS[method]} correlation of {', '.join(names[:4])} and others with each other",
        ),
        key="matrix",
        on_select=chosen,
    )  # fmt: skip

with right:
    first, second = st.columns(2)
    turned = [names[1], names[0], *names[2:]]  # its first is what is shown first; an index would fight with a click
    across = first.selectbox("Across", turned, key="across", bind="query-params")
    up = second.selectbox("Up", names, key="up", bind="query-params")
    if across == up:
        st.caption("Choose two different kinds of evidence.")
    else:
        points = table[["model", across, up]].dropna()
        for name, ends in ((across, "x"), (up, "y")):
            drawn = found.limits[name].rename(columns={"lower": f"{ends} from", "upper": f"{ends} to"})
            points = points.merge(drawn, on="model", how="left")
        charts.show(
            charts.scatter(
                points, across, up, label="model", title=f"{up} against {across}", x_title=across, y_title=up,
                x_limits=("x from", "x to"), y_limits=("y from", "y to"), x_format="~r",
                description=f"{up} against {across}, one point for each of {len(points)} models",
            )
        )  # fmt: skip
        one, made, warnings = evidence.correlations(table, (across, up))
        pair = next(tables.rows(one))
        told = ", ".join(f"{name.capitalize()} {coefficient(pair, name)}" for name in METHODS)
        st.caption(tables.plain(f"{told} over {pair.n} models. Limits: {made}."))
        for warning in warnings:
            st.markdown(f":small[:orange[{tables.plain(warning)}]]")

counted = ", ".join(f"{name} {int(table[name].notna().sum())}" for name in names)
st.caption(
    tables.plain(
        f"Models with a score: {counted}. n and limits of each cell stand under the pointer and in the table; limits: "
        f"{interval}. Ratings are those of the leaderboard on {criterion}. {' '.join(found.notes)}"
    )
)
sentence.markdown(f"**{tables.plain(predicts())}**")
with st.expander("As tables"):
    half = cells.iloc[: len(cells) // 2]
    st.dataframe(half, hide_index=True, alt="Correlation of each pair with its interval and number of models")
    tables.download(half, f"correlation {method}", key="get-matrix")
    st.dataframe(table, hide_index=True, alt="Every model's rating and scores")
    tables.download(table, "scores and ratings", key="get-columns")
