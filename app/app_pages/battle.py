"""Free-prompt battles: ask anything, read two unnamed answers as they are written, and vote."""

from __future__ import annotations

import streamlit as st

from app import access, answers, ballots
from app.live import PROMPT_CHARS, TURNS, Desk
from app.live_talk import Arena, Choice, Side, Talk
from app.scripts import SCROLL_TO_ANSWERS
from evalkit.errors import UserError
from evalkit.store import live as store
from evalkit.store import voting as reads
from evalkit.store.ledger_app import Member
from evalkit.store.voting import CampaignRow

REFRESH_SECONDS = 0.4
KEYS: tuple[tuple[Choice, str, str], ...] = (
    ("left", "A is better", "A"),
    ("tie", "Tie", "T"),
    ("both_bad", "Both bad", "X"),
    ("right", "B is better", "B"),
)
CHOSEN = {"left": "A is better", "right": "B is better", "tie": "a tie", "both_bad": "both bad"}
SUGGESTIONS = (
    "Explain to a child why the sky is blue.",
    "Write a limerick about a lost sock.",
    "How much is 17 times 24? Show the steps.",
)
OWN = CampaignRow(None, "Free prompts", "free")  # outside all campaigns, with the models that the admin names


@st.cache_resource
def desk() -> Desk:
    """Returns the one desk of this process."""
    return Desk(ballots.people())


@st.cache_data(ttl="5s", show_spinner=False)
def campaigns() -> list[CampaignRow]:
    """Lists the campaigns that are open for free prompts, the newest first."""
    return [one for one in reads.open_campaigns(ballots.people().ledger) if one.mode == "free"]


@st.cache_data(ttl="60s", show_spinner=False)
def contestants(models: tuple[int | str, ...]) -> list[store.Contestant]:
    """Lists the models that can be asked."""
    return store.contestants(ballots.people().ledger, models)


def open_to(member: Member) -> list[CampaignRow]:
    """Lists the campaigns that a person may take part in; an admin always may, with models of the admin's choice."""
    found = campaigns()
    if member.role == "voter":
        invited = reads.invited_to(ballots.people().ledger, member.invitation_id)
        return found if invited is None else [one for one in found if one.id == invited]
    return found if found or member.role != "admin" else [OWN]


def choose(found: list[store.Contestant]) -> list[store.Contestant]:
    """Lets the admin name who may meet."""
    names = [one.name for one in found]
    with st.popover("Contestants", icon=":material/groups:", type="tertiary"):
        st.caption("Two of these are drawn for each battle. Recorded answers cannot be asked anything.")
        chosen = st.multiselect("Models", names, default=names, key="contestants", bind="query-params")
    return [one for one in found if one.name in chosen]


def send(arena: Arena, member: Member, turn: int, key: str) -> None:
    """Asks what was typed; what stands against it is said on the page."""
    prompt = str(st.session_state.get(key) or "")
    try:
        access.limit("prompts")
        desk().ask(arena, member.annotator_id, prompt, turn)
    except UserError as error:
        st.session_state["battle-fault"] = str(error)


def vote(talk: Talk, choice: Choice) -> None:
    """Stores the vote."""
    try:
        desk().cast(talk, choice)
    except UserError as error:
        st.session_state["battle-fault"] = str(error)


def show_prompt(prompt: str, key: str) -> None:
    """What the person asked."""
    with st.container(border=True, key=f"answer-prompt-{key}", gap="xsmall"):
        st.caption("**You asked**")
        answers.show(prompt, f"{key}-p")


def show_earlier(talk: Talk, number: int) -> None:
    """A turn that both have answered."""
    key = f"{talk.key[:12]}-{number}"
    show_prompt(talk.prompts[number], key)
    for column, name, side in zip(st.columns(2), "AB", talk.sides, strict=True):
        with column, st.container(border=True, height="stretch", gap="xsmall"):
            st.caption(f"**Answer {name}**")
            answers.show(side.turns[number].reply.text, f"{key}-{name}")


def show_last(talk: Talk) -> None:
    """The turn that is being answered, drawn again and again until it is."""
    talk.look()
    was_busy = talk.busy
    key = f"{talk.key[:12]}-{len(talk.prompts)}"
    for column, name, side in zip(st.columns(2), "AB", talk.sides, strict=True):
        with column, st.container(border=True, height="stretch", gap="xsmall"):
            st.caption(f"**Answer {name}**")
            show_answer(talk, side, f"{key}-{name}")
    if st.session_state.get("battle-watched") == key and not was_busy:
        del st.session_state["battle-watched"]
        st.rerun()
    if was_busy:
        st.session_state["battle-watched"] = key


def show_answer(talk: Talk, side: Side, key: str) -> None:
    """One answer as far as it goes, and what it waits for."""
    if side.said:
        answers.show(side.said, key)
    if side.state == "waiting":
        before = desk().before(talk) if side.is_local else 0
        people = "1 person is" if before == 1 else f"{before} people are"
        st.caption(f"{people} before you." if before else ":shimmer[Waiting for the model]")
    elif side.state == "loading":
        step, share = side.step
        st.progress(share, f"{step}: once, then the model stays loaded")
    elif side.state == "answering":
        st.caption(":shimmer[Writing]")
    elif side.state == "failed":
        st.warning(side.failure, icon=":material/error:")
    elif side.state == "stopped":
        st.caption("Stopped, as nobody was looking.")
    elif not side.said:
        st.caption("*The answer is empty.*")


def show_names(talk: Talk) -> None:
    """Whose answers they were, once the vote is cast."""
    left, right = (answers.one_line(side.contestant.name) for side in talk.sides)
    with st.container(border=True, key="battle-names", gap="small"):
        st.markdown(f"**A** was **{left}**, **B** was **{right}**.")
        told = (
            "You took your vote back: it does not count."
            if talk.undone
            else f"You said: {CHOSEN[talk.choice or 'tie']}."
        )
        st.caption(told)


def bar(arena: Arena, member: Member, talk: Talk | None) -> None:
    """What can be done now, always in sight."""
    fault = st.session_state.pop("battle-fault", None)
    if fault:
        st.error(fault, icon=":material/error:")
    if talk is not None and talk.choice is not None:
        with st.container(horizontal=True, gap="xsmall"):
            st.button(
                "New battle", type="primary", shortcut="N", on_click=desk().leave, args=(talk,), key=f"new-{talk.key}"
            )
            if not talk.undone:
                st.button("Take the vote back", type="tertiary", on_click=desk().undo, args=(talk,))
        return
    if talk is not None:
        with st.grid(4, gap="xsmall", min_column_width=130):
            for choice, label, letter in KEYS:
                st.button(
                    label,
                    key=f"{choice}-{talk.key}-{len(talk.prompts)}",
                    shortcut=letter,
                    on_click=vote,
                    args=(talk, choice),
                    width="stretch",
                    disabled=not talk.can_vote,
                )
    turn = len(talk.prompts) + 1 if talk else 1
    missing = talk is not None and not talk.busy and not talk.can_vote
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="battle-more"):
        if talk is not None and missing:
            st.button(
                "Try again", icon=":material/refresh:", type="primary", on_click=desk().retry, args=(talk,), key="retry"
            )
        if turn <= TURNS:
            key = f"prompt-{talk.key if talk else 'first'}-{turn}"
            st.chat_input(
                "Ask anything" if talk is None else "Go on asking, or vote",
                key=key,
                max_chars=PROMPT_CHARS,
                disabled=talk is not None and not talk.can_vote,
                on_submit=send,
                args=(arena, member, turn, key),
            )
        else:
            st.caption(f"A battle has {TURNS} turns at most: vote now.", width="stretch")
        if talk is not None:
            st.button(
                "New",
                icon=":material/add:",
                type="tertiary",
                on_click=desk().leave,
                args=(talk,),
                key=f"leave-{talk.key}",
                help="Leave this battle without a vote and begin another",
            )


def page(arena: Arena, member: Member) -> None:
    """The battle that the person is in."""
    talk = desk().talk(arena.campaign, member.annotator_id)
    if talk is None:
        with st.container(key="battle-suggestions", gap="small"):
            st.space("small")
            st.caption("For example:")
            for number, suggestion in enumerate(SUGGESTIONS):
                key = f"suggestion-{number}"
                st.session_state[f"{key}-text"] = suggestion
                st.button(suggestion, key=key, on_click=send, args=(arena, member, 1, f"{key}-text"))
    else:
        for number in range(len(talk.prompts) - 1):
            show_earlier(talk, number)
        with st.container(key="battle-last"):
            show_prompt(talk.prompts[-1], f"{talk.key[:12]}-{len(talk.prompts)}")
            st.fragment(show_last, run_every=REFRESH_SECONDS if talk.busy else None)(talk)
        if talk.choice is not None:
            show_names(talk)
        if len(talk.prompts) > 1:
            turn = (len(talk.prompts) + (talk.choice is not None)) % 2
            st.html(f"<script>{SCROLL_TO_ANSWERS[turn]}</script>", unsafe_allow_javascript=True)
    with st.bottom, st.container(key="battle-bar", gap="xsmall"):
        bar(arena, member, talk)


member = access.current().member
answers.style()
found = open_to(member)
with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
    st.title("Ask two models", anchor=False)
    head = st.container(width="content")
st.caption(
    "Two models answer without their names. Go on asking, or vote: then you are told who they were. "
    "What you type is stored with the answers."
)
if not found:
    st.info(
        "No campaign with free prompts is open. Ask whoever invited you, or come back later.",
        icon=":material/hourglass_empty:",
    )
    st.stop()
names = {str(one.id): one for one in found}
chosen = next(iter(names))
if len(names) > 1:
    with st.sidebar:
        chosen = st.selectbox(
            "Campaign", list(names), format_func=lambda key: names[key].name, key="campaign", bind="query-params"
        )
campaign = names[chosen]
if campaign.instructions.strip():
    st.caption(answers.safe(campaign.instructions))
try:
    asked = contestants(tuple(campaign.settings.get("models") or ()))
    if campaign.id is None and asked:
        with head:
            asked = choose(asked)
    arena = desk().arena(campaign, asked)
except UserError as error:
    said = answers.one_line(str(error))
    st.info(
        f"{said[:1].upper()}{said[1:]} Models at an endpoint, embedded ones and local weights can be asked, once a "
        "run (`evalkit run plan.yaml`) has put them into the ledger.",
        icon=":material/inbox:",
        title="Nobody to ask yet",
    )
    st.stop()
page(arena, member)
