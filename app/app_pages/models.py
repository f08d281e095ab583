"""Every model of the ledger, and the tree of which was made from which."""

import pandas as pd
import streamlit as st

from app import reads, tables
from app import reads_training as training

MANY = 40  # models in one picture of the tree
UNBROKEN = '%%{init: {"flowchart": {"wrappingWidth": 340}}}%%'  # pixels: a name has up to 40 letters
VERBS = {"trained_from": "trained", "merged_from": "merged"}

st.title("Models")
st.caption("Every model that was evaluated, and which was made from which.")


def label(text: str) -> str:
    """A text inside a Mermaid label: nothing of it may be read as the diagram's own signs."""
    kept = "".join(sign if sign.isalnum() or sign in " -._/" else f"#{ord(sign)};" for sign in text)
    return kept if len(text) <= 40 else label(text[:39] + "…")


def tree(edges: pd.DataFrame, table: pd.DataFrame) -> str:
    """Returns the family tree as a Mermaid flowchart, parents to the left."""
    rows = table.set_index("model_id")
    lines = [UNBROKEN, "flowchart LR"]
    for key in dict.fromkeys([*edges["parent_id"], *edges["model_id"]]):
        row = rows.loc[key]
        facts = [] if pd.isna(row["rating"]) else [f"rating {row['rating']:.0f}"]
        facts += [] if pd.isna(row["score"]) else [f"score {row['score']:.2f}"]
        facts += [f"gate {row['gate']}"] if row["gate"] else []
        lines.append(f'  m{key}["{"<br/>".join([label(row["model"]), *map(label, facts)])}"]')
    for edge in edges.to_dict("records"):
        verb = label(VERBS.get(edge["relation"], edge["relation"]))
        lines.append(f'  m{edge["parent_id"]} -->|"{verb}"| m{edge["model_id"]}')
    return "\n".join(lines)


table = training.model_table()
if table.empty:
    st.info(
        "Models come with a run (`evalkit run PLAN`) or with imported votes and scores (`evalkit import`).",
        icon=":material/account_tree:",
        title="No models yet",
    )
    st.stop()

edges = training.family()
if edges.empty:
    st.info(
        "None of these models was trained or merged from another; a retrained model appears here beside its parent.",
        icon=":material/account_tree:",
    )
else:
    st.subheader("Family tree", anchor=False)
    families = dict.fromkeys([*edges["parent_id"], *edges["model_id"]])
    if len(families) > MANY:
        # The whole would be unreadable: one model with its parents and children.
        names = dict(zip(table["model_id"], table["model"], strict=True))
        chosen = st.selectbox(
            "Around", list(families), format_func=lambda key: names[key], key="model", bind="query-params"
        )
        near = {chosen, *edges.loc[edges["model_id"] == chosen, "parent_id"]}
        near |= set(edges.loc[edges["parent_id"].isin(near), "model_id"])
        edges = edges[edges["model_id"].isin(near) & edges["parent_id"].isin(near)]
    made = table[table["model_id"].isin(edges["model_id"])]
    said = [
        f"{row['model']} {row['made']}" + (f", gate {row['gate']}" * bool(row["gate"])) for _, row in made.iterrows()
    ]
    st.mermaid_chart(tree(edges, table), alt="; ".join(said))

st.subheader("All models", anchor=False)
number = st.column_config.NumberColumn
listed = table.sort_values(["rating", "score"], ascending=False)
order = ["model", "made", "gate", "rating", "lower", "upper", "votes", "score", "score_lower", "score_upper",
         "benchmarks", "provider", "created_at"]  # fmt: skip
order = [name for name in order if name not in ("made", "gate") or listed[name].ne("").any()]
if listed["rating"].isna().all():
    order = [name for name in order if name not in ("rating", "lower", "upper", "votes")]
st.dataframe(
    listed,
    hide_index=True,
    column_order=order,
    column_config={
        "model": st.column_config.TextColumn("Model", width=170),
        "made": st.column_config.TextColumn("Made from", width=240),
        "rating": number("Rating", format="%.0f"),
        "lower": number("From", format="%.0f", help="Lower limit of the rating"),
        "upper": number("To", format="%.0f", help="Upper limit of the rating"),
        "votes": number("Votes", format="%d"),
        "score": number("Score", format="%.3f", help="Mean of the benchmarks, for models that have all of them"),
        "score_lower": number("From", format="%.3f", help="Lower limit of the score"),
        "score_upper": number("To", format="%.3f", help="Upper limit of the score"),
        "benchmarks": number("Benchmarks", format="%d"),
        "gate": "Gate",
        "provider": "Provider",
        "created_at": st.column_config.DatetimeColumn("Added", format="D MMM YYYY, HH:mm"),
    },
    placeholder="",
    alt="All models with rating and score",
)
tables.download(listed[order], "models", key="get-models")
usual = reads.voters().usual if reads.criteria() else ()
votes = f"Ratings are from the votes of {', '.join(usual[:3])}{', …' * (len(usual) > 3)}. " if usual else ""
st.caption(tables.plain(f"{votes}Intervals are 95%. The Leaderboard page has the details."))
