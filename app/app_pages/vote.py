"""Blind pairwise voting: two answers side by side, one key a vote."""

from __future__ import annotations

import streamlit as st

from app import access, answers, ballots, voting
from app.scripts import SCROLL_UP
from evalkit.errors import UserError

KEYS: tuple[tuple[voting.Choice, str, str], ...] = (
    ("left", "A is better", "A"),
    ("right", "B is better", "B"),
    ("tie", "Tie", "T"),
    ("both_bad", "Both bad", "X"),
)
CHOSEN = {"left": "A", "right": "B", "tie": "a tie", "both_bad": "both bad"}
HELP = """
Read the question, then both answers. You are not told who wrote them: judge what is on the screen.

| Key | Means |
| :-: | :-- |
| **A** / **B** | this answer is better |
| **T** | a tie: equally good |
| **X** | both are bad |
| **S** | skip, if you cannot tell (nothing is counted) |
| **U** | undo your last vote |

A vote is stored as you cast it; you can close the page at any time and go on later. Some pairs come twice, on purpose.
"""


def cast(queue: voting.Queue, ballot_key: str, choice: voting.Choice) -> None:
    """Stores a vote; what came of it is said on the next pair."""
    comment = str(st.session_state.get(f"comment-{ballot_key}") or "")
    try:
        access.limit("votes")
        st.session_state["vote-last"] = queue.cast(ballot_key, choice, comment)
    except UserError as error:
        st.session_state["vote-fault"] = str(error)


def undo(queue: voting.Queue, ballot_key: str) -> None:
    """Takes the last vote back."""
    st.session_state.pop("vote-last", None)
    st.session_state["vote-undone"] = queue.undo(ballot_key) is not None


def said(queue: voting.Queue) -> str:
    """What there is to say of the press before: quiet, on one line."""
    last: voting.Cast | None = st.session_state.get("vote-last")
    if (undone := st.session_state.pop("vote-undone", None)) is not None:
        return "Your last vote is taken back: vote again." if undone else "That vote was taken back already."
    if last is None:
        return ""
    if last.status == "early":
        return "That came too soon after the pair appeared, and was not counted: a second click, or a key held down."
    if last.status == "repeated" or last.pair is None:
        return "That vote was stored already."
    if last.choice == "skip":
        return "Skipped."
    words = f"You chose {CHOSEN[last.choice]}."
    if queue.pool.settings.reveal:
        left, right = last.pair.sides(queue.pool.names)
        words += f" A was {answers.one_line(left)}, B was {answers.one_line(right)}."
    return words


def small(text: str) -> None:
    """Writes quiet text in the colour of all text: a caption's grey is too pale for some eyes."""
    st.markdown(f":small[{text}]")


def show_turns(turns: tuple[voting.Turn, ...], first: str, key: str) -> None:
    """Writes the turns of a conversation, each under what it is."""
    for number, (role, text) in enumerate(turns):
        small(f"**{first if number == 0 else 'Then asked' if role == 'user' else 'Answered'}**")
        answers.show(text, f"{key}-{number}")


@st.fragment
def ballot(queue: voting.Queue) -> None:
    """One pair and its buttons; a vote draws only this anew."""
    pair, progress = queue.next(), queue.progress()
    fault = st.session_state.pop("vote-fault", None)
    with st.container(key="vote-progress", gap="xsmall"):
        share = progress.done / max(progress.done + progress.left, 1)
        words = f"{progress.done:,} voted, {progress.left:,} to go"
        pace = f" · about {progress.pace:.0f} s a vote" if progress.pace else ""
        st.progress(share, f"{words}{pace}")
        small(said(queue) or "Names stay hidden while you vote.")
    if fault:
        st.error(fault, icon=":material/error:")
    if pair is None:
        thank(progress)
    else:
        show_pair(pair)
    with st.bottom, st.container(key="vote-bar", gap="xsmall"):
        bar(queue, pair)
    turn = (progress.done + progress.skipped) % 2
    st.html(f"<script>{SCROLL_UP[turn]}</script>", unsafe_allow_javascript=True)


def show_pair(pair: voting.Pair) -> None:
    """The question, and under it the two answers."""
    key = pair.ballot_key[:12]
    with st.container(border=True, key=f"answer-prompt-{key}", gap="xsmall"):
        show_turns(pair.prompt, "Question", f"{key}-p")
    for column, name, turns in zip(st.columns(2), "AB", (pair.left, pair.right), strict=True):
        box = column.container(border=True, height="stretch")
        with box.container(key=f"answer-scroll-{name}-{key}", gap="xsmall"):
            show_turns(turns, f"Answer {name}", f"{key}-{name}")


def bar(queue: voting.Queue, pair: voting.Pair | None) -> None:
    """The buttons, which stay in sight; their keys are the pair's, so a late click on an old one is none."""
    last = queue.last()
    if pair is not None:
        key = pair.ballot_key
        with st.grid(4, gap="xsmall", min_column_width=130):
            for choice, label, letter in KEYS:
                given = (queue, key, choice)
                st.button(label, key=f"{choice}-{key}", shortcut=letter, on_click=cast, args=given, width="stretch")
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="vote-more"):
        if pair is not None:
            st.button(
                "Skip",
                key=f"skip-{pair.ballot_key}",
                shortcut="S",
                on_click=cast,
                type="tertiary",
                args=(queue, pair.ballot_key, "skip"),
                icon=":material/skip_next:",
            )
        st.button(
            "Undo",
            key=f"undo-{pair.ballot_key if pair else 'end'}",
            shortcut="U",
            on_click=undo,
            args=(queue, last),
            type="tertiary",
            icon=":material/undo:",
            disabled=last is None,
        )
        if pair is not None:
            st.text_input(
                "Comment",
                key=f"comment-{pair.ballot_key}",
                label_visibility="collapsed",
                max_chars=1000,
                placeholder="Comment (optional)",
                on_change="ignore",
            )


def thank(progress: voting.Progress) -> None:
    """The end of the queue."""
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.space("small")
        st.header("Thank you", icon=":material/done_all:", anchor=False)
        if not progress.done:
            st.write("There is nothing for you to vote on just now.")
        elif progress.left:
            others = f"The {progress.left:,} others are with other voters just now."
            st.write(f"You have voted on {progress.done:,} pairs. {others}")
        else:
            st.write(f"You have voted on {progress.done:,} pairs, and there is none left for you.")
        st.space("small")


member = access.current().member
answers.style()
campaigns = ballots.open_to(member)
names = {"everything" if campaign.id is None else str(campaign.id): campaign for campaign in campaigns}
chosen = next(iter(names), "")
head = st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute")
if len(names) > 1:
    chosen = st.selectbox(
        "Campaign",
        list(names),
        format_func=lambda key: names[key].name,
        key="campaign",
        bind="query-params",
        label_visibility="collapsed",
        width=400,
    )
campaign = names.get(chosen)
about = "" if campaign is None or campaign.criterion == "overall" else f": {answers.one_line(campaign.criterion)}"
head.title(f"Which answer is better{about}?", anchor=False, width="content")
with head.popover("Help", type="tertiary"):
    st.markdown(HELP)
if campaign is None:
    st.info(
        "No campaign is open, so there is nothing to vote on. Ask whoever invited you, or come back later.",
        icon=":material/hourglass_empty:",
    )
    st.stop()
if campaign.instructions.strip():
    st.caption(answers.safe(campaign.instructions))
queue = ballots.queue(campaign, member.annotator_id)
if queue.pool.total:
    ballot(queue)
else:
    st.info(
        "There are no two answers to the same question here yet. Answers come from a run (`evalkit run plan.yaml`) or "
        "from a file (`evalkit import`); votes alone, without texts, cannot be shown.",
        icon=":material/inbox:",
        title="Nothing to compare yet",
    )
