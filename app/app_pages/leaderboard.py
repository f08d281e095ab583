"""Ratings with intervals and rank ranges, win rates, cost and speed, boards by group."""

import pandas as pd
import streamlit as st

from app import charts, reads, tables
from evalkit.report.benchmarks import DEFINITION, benchmark_board
from evalkit.report.board import MEAN

PEOPLE, JUDGES, CORRECTED, BENCHMARKS = "People", "Judges", "Judges, corrected", "Benchmarks"
USUAL = "all that may make a board"
GROUPS = {"category": "Category of the prompt", "turn": "Turn of the conversation", "criterion": "Criterion"}
HALVES = (9, 11)  # chart and table: no column of the table is cut off on a laptop
TIES = "a tie counts as half a win, and so does both bad"

st.title("Leaderboard")
st.caption("Which model is better, by whose judgement, and how sure that is. Bars are 95% intervals.")

criteria = reads.criteria()
scores = reads.scores()
if not criteria and scores.empty:
    st.info(
        "Nobody has judged anything in this ledger, and it holds no scores. Type `evalkit run PLAN` to evaluate and "
        "judge models, or `evalkit import votes FILE` to bring votes you have.",
        icon=":material/leaderboard:",
        title="No leaderboard yet",
    )
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    criterion = "overall"
    slot = st.container(width="content")
    if len(criteria) > 1:
        criterion = st.selectbox("Criterion", criteria, key="criterion", bind="query-params", width=180)
    elif criteria:
        criterion = criteria[0]
    people = reads.people(criterion) if criteria else ()
    judged = reads.has_judges(criterion) if criteria else False
    kinds = [
        *([PEOPLE] if people else []),
        *([JUDGES] if judged else []),
        *([CORRECTED] if people and judged else []),
        *([BENCHMARKS] if not scores.empty else []),
    ]
    evidence = slot.segmented_control(
        "Evidence", kinds, default=kinds[0], required=True, key="evidence", bind="query-params"
    )
    names, styled, benchmark = people, False, MEAN
    if evidence in (JUDGES, CORRECTED):
        found = reads.voters(criterion)
        judges = [name for name, _ in found.judges]
        usual = tuple(name for name in found.usual if name in judges)
        options = [USUAL, *judges] if usual else judges
        judge = st.selectbox("Judge", options, key="judge", bind="query-params", width=260)
        names = usual if judge == USUAL else (judge,)
    if evidence == BENCHMARKS:
        options = [MEAN, *dict.fromkeys(scores["benchmark"])]
        benchmark = st.selectbox("Benchmark", options, key="benchmark", bind="query-params", width=320)
    if evidence in (PEOPLE, JUDGES):
        styled = st.toggle(
            "Style control",
            key="style",
            bind="query-params",
            help="Ratings as they would be if all answers were equally long and equally formatted.",
        )


def rated(table: pd.DataFrame, value: str, title: str, told: str, form: str) -> None:
    """Chart and table of a board, beside each other, with its download."""
    every = len(table) <= tables.SHORT or st.toggle(f"All {len(table)} models in the chart", key="every")
    shown = table if every else table.head(tables.SHORT)
    left, right = st.columns(HALVES, gap="medium")
    with left:
        cut = "" if every else f", first {len(shown)} of {len(table)}"
        charts.show(
            charts.interval_chart(
                shown, "model", value, "lower", "upper", title=title + cut, value_title=told, value_format=form
            )
        )
    with right:
        listed = tables.with_ranks(table)
        number = st.column_config.NumberColumn
        decimals = "%.0f" if form == ".0f" else "%.3f"
        st.dataframe(
            tables.with_intervals(listed, ".0f" if form == ".0f" else ".2f"),
            hide_index=True,
            height="content" if len(listed) <= tables.SHORT else 640,
            column_config={
                "rank": st.column_config.TextColumn("Rank", width=55, help="Best and worst rank it may hold"),
                "model": st.column_config.TextColumn("Model", width=145),
                value: number(told.capitalize(), format=decimals),
                "interval": st.column_config.TextColumn("95% interval", width=100),
                "raw_rating": number("Raw", format=decimals),
                "change": number("Change", format="%+.0f"),
                "votes": number("Votes", help="Battles the model took part in"),
                "n": number("n", help="Documents scored"),
                "errors": number("Errors", help="Documents without a score: in no value"),
            },
            alt=f"{title}, as a table",
        )
        tables.download(listed, f"leaderboard {evidence} {criterion}".lower().replace(",", ""), key="get-board")


def whose() -> str:
    """Whose votes are counted, in words."""
    if evidence == PEOPLE:
        return f"{len(names):,} people" if len(names) != 1 else names[0]
    return names[0] if len(names) == 1 else f"{len(names)} judges ({', '.join(names[:3])}{', …' * (len(names) > 3)})"


def show_votes() -> None:
    """The board of people or judges."""
    board = reads.tried(lambda: reads.board(names, criterion))
    if board is None:
        return
    rated(tables.board_frame(board), "rating", f"Ratings by {whose()}", "rating", ".0f")
    st.caption(
        tables.plain(
            f"{board.n:,} votes of {whose()} on {criterion}; {board.errors:,} verdicts could not be read and are in no "
            f"rating. Both orders of one battle are one vote; {TIES}. {board.method}; {board.reference}. "
            f"Intervals {board.confidence:.0%}: {board.interval}. Ranks: {board.ranks}."
        )
    )
    left_out = reads.voters(criterion).left_out if evidence == JUDGES and judge == USUAL else ()
    tables.warn([*left_out, *board.warnings])


def show_styled() -> None:
    """The board at equal style, beside the raw one."""
    found = reads.tried(lambda: reads.styled(names, criterion))
    if found is None:
        return
    kept = ["model", "rating", "lower", "upper", "rank_low", "rank_high", "raw_rating", "change", "votes"]
    rated(found.board[kept], "rating", f"Ratings by {whose()}, at equal style", "rating", ".0f")
    worth = found.coefficients.dropna(subset=["elo"])
    told = [f"{row.feature} {row.elo:+.0f}{' (p < 0.05)' if row.p_value < 0.05 else ''}" for row in tables.rows(worth)]
    st.caption(
        tables.plain(
            f"What style is worth in these votes, rating points for one standard difference: {', '.join(told)}. "
            f"{found.n:,} votes, {found.n_missing:,} left out since an answer is missing; {TIES}. Intervals 95%: "
            f"{found.interval}. Ranks: {found.ranks}."
        )
    )
    tables.warn(found.warnings)


def show_corrected() -> None:
    """The judges' board, raw and corrected with the human votes."""
    found = reads.tried(lambda: reads.corrected(names, criterion))
    if found is None:
        return
    table = pd.DataFrame([{name: getattr(row, name) for name in row.__slots__} for row in found.rows])
    every = len(table) <= tables.SHORT or st.toggle(f"All {len(table)} models in the chart", key="every")
    head = table if every else table.head(tables.SHORT)
    fixed = head[["model", "rating", "lower", "upper"]].assign(board="corrected")
    raw = head[["model", "raw_rating", "raw_lower", "raw_upper"]].set_axis(
        ["model", "rating", "lower", "upper"], axis=1
    )
    both = pd.concat([fixed, raw.assign(board="judges alone")], ignore_index=True)
    both[["rating", "lower", "upper"]] = both[["rating", "lower", "upper"]].astype(float)
    left, right = st.columns(HALVES, gap="medium")
    with left:
        charts.show(
            charts.interval_chart(
                both, "model", "rating", "lower", "upper", series="board", value_title="rating",
                title=f"Ratings by {whose()}, alone and corrected with human votes",
            )
        )  # fmt: skip
    with right:
        number = st.column_config.NumberColumn
        st.dataframe(
            tables.with_intervals(table),
            hide_index=True,
            height="content" if len(table) <= tables.SHORT else 640,
            column_order=["model", "rating", "interval", "raw_rating", "shift", "human_votes"],
            column_config={
                "model": st.column_config.TextColumn("Model", width=145),
                "rating": number("Corrected", format="%.0f"),
                "interval": st.column_config.TextColumn("95% interval", width=100),
                "raw_rating": number("Alone", format="%.0f"),
                "shift": number("Change", format="%+.0f"),
                "human_votes": number("Human votes"),
            },
            alt="Ratings by the judges, alone and corrected, as a table",
        )
        tables.download(table, f"leaderboard corrected {criterion}", key="get-corrected")
    st.caption(
        tables.plain(
            f"{found.n:,} battles, {found.n_labelled:,} with a vote of {found.humans} people, {found.n_failed:,} "
            f"without a readable verdict. The judges' verdicts weigh {found.power:.2f} (0 would be the people alone). "
            f"{found.definition}"
        )
    )
    tables.warn(found.warnings)


def show_benchmarks() -> None:
    """One benchmark's scores, or the mean of all."""
    table = benchmark_board(scores, benchmark)
    if table.empty:
        st.info("No model has all benchmarks, so there is no mean; choose one benchmark.", icon=":material/info:")
        return
    metric = "" if benchmark == MEAN else scores.loc[scores["benchmark"] == benchmark, "metric"].iloc[0]
    title = "Mean of the benchmarks" if benchmark == MEAN else f"{benchmark}: {metric}"
    rated(table, "value", title, "score", ".3~f")
    st.caption(DEFINITION)


def show_wins() -> None:
    """Each model against each other."""
    found = reads.wins(names, criterion)
    board = reads.tried(lambda: reads.board(names, criterion))
    if board is None or found.empty:
        st.info("No two models have met in a battle with a readable verdict.", icon=":material/info:")
        return
    order = [row.model for row in board.rows]
    most = 14 if len(order) <= 14 else st.select_slider("Models, from the top", [14, 20, 30, 40], 20, key="top")
    head = order[:most]
    shown = found[found["model"].isin(head) & found["against"].isin(head)]
    charts.show(
        charts.heatmap(
            shown, "against", "model", "win_rate", title="How often the row's model beats the column's",
            value_title="Win rate", value_format=".0%", domain=(0.0, 1.0), order=head, tooltip=["lower", "upper", "n"],
        )
    )  # fmt: skip
    st.caption(
        tables.plain(
            f"Votes of {whose()} on {criterion}; best model on top and left. {TIES.capitalize()}. n and Wilson's 95% "
            "interval stand under the pointer and in the table; empty cells are pairs that never met."
        )
    )
    with st.expander("As a table"):
        st.dataframe(found, hide_index=True, alt="Win rate of each pair of models with interval and number of votes")
        tables.download(found, f"win rates {criterion}", key="get-wins")


def show_cost() -> None:
    """Quality against dollars, seconds or tokens, the Pareto front marked."""
    usage = reads.usage()
    prices = {
        "Dollars": ("dollars_per_1000", "dollars for 1,000 answers"),
        "Seconds": ("seconds", "seconds of model time an answer"),
        "Tokens": ("tokens", "tokens written an answer"),
    }
    known = {name: at for name, at in prices.items() if (usage[at[0]] > 0).any()}
    if not known:
        st.info(
            "The answers in this ledger carry no cost, time or tokens: they were imported, or none was paid for.",
            icon=":material/payments:",
        )
        return
    what = st.segmented_control(
        "Against", list(known), default=next(iter(known)), required=True, key="price", bind="query-params"
    )
    column, told = known[what]
    if evidence == BENCHMARKS:
        quality, value = benchmark_board(scores, benchmark), "value"
    else:
        board = reads.tried(lambda: reads.board(names, criterion))
        if board is None:
            return
        quality, value = tables.board_frame(board), "rating"
    table = quality.merge(usage, on="model", suffixes=("", "_requests")).dropna(subset=[value, column])
    if table.empty:
        st.info("No model has both a place on this board and a known price.", icon=":material/info:")
        return
    ordered = table.sort_values([column, value], ascending=[True, False])
    table["front"] = ordered[value].gt(ordered[value].cummax().shift(fill_value=float("-inf")))
    spread = table[column].max() / max(table[column].min(), 1e-12)
    charts.show(
        charts.scatter(
            table, column, value, label="model", front="front", log=bool(spread > 20 and table[column].min() > 0),
            title=f"Quality against {told}", x_title=told, y_title=value if value == "rating" else "score",
            y_limits=("lower", "upper"), tooltip=["answers"], x_format="~r",
        )
    )  # fmt: skip
    best = table[table["front"]].sort_values(column)["model"]
    st.caption(
        tables.plain(
            f"Filled and joined: the Pareto front, models that no cheaper one beats ({', '.join(best)}); intervals of "
            f"the quality may overlap. {len(quality) - len(table)} models on the board have no known "
            f"{told.partition(' ')[0]}. Answers taken from the cache are not counted twice; failed requests are in no "
            "mean."
        )
    )
    with st.expander("As a table"):
        st.dataframe(table, hide_index=True, alt=f"Quality and {told} of each model")
        tables.download(table, "cost and quality", key="get-cost")


def show_groups() -> None:
    """A board for each category, turn or criterion."""
    by = st.segmented_control(
        "Group by", list(GROUPS), default="category", required=True, format_func=lambda name: GROUPS[name], key="by",
        bind="query-params",
    )  # fmt: skip
    found = reads.tried(lambda: reads.grouped(by, names, criterion))
    if found is None:
        return
    table, warnings, votes = found
    if table.empty:
        st.info(
            "The prompts of these battles carry no tag `category`." if by == "category" else "There is one group only.",
            icon=":material/info:",
        )
        return
    board = reads.tried(lambda: reads.board(names, criterion))
    order = [row.model for row in board.rows][: tables.SHORT] if board else list(table["model"])[: tables.SHORT]
    shown = table[table["model"].isin(order)].assign(votes_of_group=table["group"].map(votes))
    shown["against mean"] = shown["rating"] - 1000
    width = float(shown["against mean"].abs().quantile(0.95) or 1)
    charts.show(
        charts.heatmap(
            shown, "group", "model", "against mean", title="Rating on each group, points above or below its mean",
            value_title="Points", value_format="+.0f", domain=(-width, width), order=order,
            across=sorted(shown["group"].astype(str).unique()),
            tooltip=["lower", "upper", "rank_low", "rank_high", "votes"],
        )
    )  # fmt: skip
    listed = ", ".join(f"{group} {n:,}" for group, n in votes.items())
    st.caption(
        tables.plain(
            f"Votes of {whose()}: {listed}. Each group is a board of its own; compare ratings within a column. 95% "
            "intervals stand under the pointer and in the table."
        )
    )
    tables.warn(warnings)
    with st.expander("As a table"):
        ranked = tables.with_ranks(table)
        st.dataframe(ranked, hide_index=True, alt="Ratings by group with intervals and rank ranges")
        tables.download(ranked, f"leaderboard by {by}", key="get-groups")


def show_table() -> None:
    """All benchmarks of all models."""
    wide = scores.pivot_table(index="model", columns="benchmark", values="value", observed=True)
    average = wide.mean(axis=1).sort_values(ascending=False).index
    st.dataframe(wide.loc[average], alt="Scores of every model on every benchmark")
    tables.download(scores, "benchmark scores", key="get-scores")
    st.caption("The main metric of each benchmark; intervals, n and errors of every cell are in the download.")


views = (
    {"Scores": show_benchmarks, "Cost and speed": show_cost, "All benchmarks": show_table}
    if evidence == BENCHMARKS
    else {
        "Ratings": show_corrected if evidence == CORRECTED else show_styled if styled else show_votes,
        "Win rates": show_wins,
        "Cost and speed": show_cost,
        "By group": show_groups,
    }
)
for tab, view in zip(
    st.tabs(list(views), key="view", on_change="rerun", bind="query-params"), views.values(), strict=True
):
    if tab.open:
        with tab:
            view()
