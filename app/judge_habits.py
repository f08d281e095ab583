"""What the page Judges shows of judges by themselves: where no person's votes can be held against them, or not yet."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app import charts, reads_judges, tables
from evalkit.report.reads import Rate

number = st.column_config.NumberColumn
text = st.column_config.TextColumn


def without_people(criterion: str, why: str) -> None:
    """What is known of judges that no person's votes can be held against."""
    st.info(
        f"{tables.plain(why[:1].upper() + why[1:])}. Until people have voted on what judges judged, judges are "
        "measured by their own habits alone. Let people vote on the page Vote, or bring their votes: "
        "`evalkit import votes FILE`.",
        icon=":material/how_to_vote:",
        title="Not held against people yet",
    )
    habits(criterion)


def habits(criterion: str) -> None:
    """How steady each judge is by itself: chart, table and what the numbers mean."""
    found = reads_judges.table(criterion)
    if not found.rows:
        return
    table = pd.DataFrame(
        [
            {
                "judge": row.judge, "kind": row.kind, "verdicts": row.n, "errors": row.errors,
                **rates("consistency", row.consistency), **rates("first_slot", row.first_slot),
                **rates("agreement", row.agreement), "sentence": row.sentence,
            }
            for row in found.rows
        ]
    )  # fmt: skip
    shown = table[table["consistency"].notna()]
    if len(shown):
        charts.show(
            charts.interval_chart(
                shown, "judge", "consistency", "consistency_lower", "consistency_upper", reference=0.5,
                title="How often a verdict stays when the answers change places", value_title="same verdict",
                value_format=".0%", tooltip=["consistency_n"],
            )
        )  # fmt: skip
        st.caption("Bars are 95% intervals; a coin reaches the dashed line.")
    config: dict[str, Any] = {
        "judge": text("Judge", width="medium"),
        "kind": text("Kind", width=80),
        "verdicts": number("Verdicts", format="localized"),
        "errors": number("Unreadable", format="localized"),
        "sentence": text("In words", width="large"),
    }
    for key, title in (
        ("consistency", "Same when swapped"),
        ("first_slot", "First wins"),
        ("agreement", "Agrees with verifier"),
    ):
        config |= {
            key: number(title, format="percent"),
            f"{key}_lower": number("From", format="percent"),
            f"{key}_upper": number("To", format="percent"),
            f"{key}_n": number("n", format="localized"),
        }
    st.dataframe(table, hide_index=True, height="content", column_config=config, alt="Judges by their own habits")
    tables.download(table, "judges", key="get-judges")
    st.caption(tables.plain(found.definition))


def rates(key: str, rate: Rate) -> dict[str, float | None]:
    """A share with its interval as columns."""
    return {
        key: rate.value, f"{key}_lower": rate.lower, f"{key}_upper": rate.upper, f"{key}_n": rate.n,
    }  # fmt: skip
