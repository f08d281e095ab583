"""Who is at the page, and what that person may see.

Without a team (`evalkit app`) only this machine can reach the app, and whoever sits at it is its admin. With one
(`evalkit app --team`) a person enters by an invitation's cookie or by the sign-in service, as the member found in the
ledger; every run of a page looks there, so that a role taken away or an invitation revoked holds at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Literal

import streamlit as st

from app import cookies
from app.ballots import people
from app.cookies import team
from evalkit.errors import UserError
from evalkit.store.ledger_app import LOCAL, Member, Role, sign_in_identity

__all__ = ["ROLES", "Limits", "Visitor", "current", "limit", "people", "require", "team"]

ROLES: tuple[Role, ...] = ("voter", "analyst", "admin")
"""Each may do what those before it may."""
VOTES_PER_MINUTE = 60
PROMPTS_PER_HOUR = 60
"""Each makes two models answer."""
_LIMITS: dict[str, tuple[int, float]] = {"votes": (VOTES_PER_MINUTE, 60.0), "prompts": (PROMPTS_PER_HOUR, 3600.0)}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever is at the page.

    Attributes:
        local: At this machine, without a team.
        found: The person in the ledger; None where a ledger without that person cannot be written to.
    """

    role: Role
    local: bool
    found: Member | None

    @property
    def member(self) -> Member:
        """The person in the ledger.

        Raises:
            UserError: The ledger cannot be written to.
        """
        if self.found is None:
            raise UserError("this ledger can be read but not written to, so nobody can vote; make its file writable.")
        return self.found

    def may(self, role: Role) -> bool:
        """Whether the person may do what this role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def current() -> Visitor:
    """Returns who is at the page; whoever may not enter is told how to, and the page ends here."""
    if not team():
        return _local()
    identity = cookies.read(os.environ["EVALKIT_STORE"], st.context.cookies.get(cookies.NAME))
    claims = st.user.to_dict()
    signed_in = bool(claims.get("is_logged_in"))
    for one in ([identity_of(claims)] if signed_in else []) + [identity]:
        member = people().member_of(one) if one else None
        if member is not None and not member.revoked:
            return Visitor(member.role, False, member)
    _turn_away(claims if signed_in else None, can_sign_in="is_logged_in" in claims, was_here=identity is not None)
    raise AssertionError("st.stop returned")


def _local() -> Visitor:
    try:
        member = people().member_of(LOCAL) or people().ensure_member(LOCAL, LOCAL, "admin")
    except UserError:
        member = None  # a ledger that can only be read is shown all the same
    return Visitor("admin", True, member)


def identity_of(claims: Mapping[str, Any]) -> str:
    """Returns what a member who signs in is called in the ledger.

    An address counts only where the sign-in service says that it has verified it: some let people write what they like.

    Args:
        claims: Of the service about the person: sub, and mostly email and email_verified.
    """
    email = claims.get("email")
    verified = claims.get("email_verified") is True and isinstance(email, str) and email
    return sign_in_identity(str(email if verified else claims.get("sub", "")))


def _turn_away(claims: Mapping[str, Any] | None, *, can_sign_in: bool, was_here: bool) -> None:
    """Says why nobody enters, and what to do; ends the page."""
    _, middle, _ = st.columns([1, 2, 1])
    with middle, st.container(border=True):
        st.subheader("Compare answers of language models", icon=":material/balance:", anchor=False)
        if claims is not None:
            st.write("You are signed in, but nobody has let you in here yet. Send this name to whoever runs it:")
            st.code(identity_of(claims).removeprefix("signin:"), language=None)
            st.button("Sign out", on_click=st.logout)
        else:
            ended = "Your invitation was revoked." if was_here else "You need an invitation to come in."
            st.write(f"{ended} Ask whoever runs this for a link, and open it here.")
            if can_sign_in:
                st.button("Sign in", type="primary", on_click=st.login)
    st.stop()


def sign_out() -> None:
    """The page at which a voter, whose pages have no sidebar, signs out."""
    st.logout()
    st.stop()


def require(role: Role) -> Visitor:
    """Returns who is at the page if that person has at least this role; otherwise says so and ends the page."""
    visitor = current()
    if not visitor.may(role):
        st.error(f"This page is for {role}s; ask whoever runs this if you need it.", icon=":material/lock:")
        st.stop()
    return visitor


class Limits:
    """How often each member did something of late; safe between threads."""

    def __init__(self) -> None:
        self._times: dict[tuple[int, str], deque[float]] = {}
        self._lock = Lock()

    def take(self, member_id: int, what: Literal["votes", "prompts"], now: float) -> None:
        """Counts one more.

        Args:
            now: Seconds on any clock that only goes forward.

        Raises:
            UserError: It is one too many; it is not counted.
        """
        most, seconds = _LIMITS[what]
        with self._lock:
            times = self._times.setdefault((member_id, what), deque())
            while times and times[0] <= now - seconds:
                times.popleft()
            if len(times) >= most:
                wait = times[0] + seconds - now
                after = f"{wait:.0f} seconds" if wait < 100 else f"{wait / 60:.0f} minutes"
                span = "a minute" if seconds == 60 else "an hour"
                raise UserError(f"{most} {what} {span} are the most; go on in {after}.")
            times.append(now)


@st.cache_resource
def _limits() -> Limits:
    return Limits()


def limit(what: Literal["votes", "prompts"]) -> None:
    """Counts one vote or free prompt of the person at the page, who may still do so.

    Raises:
        UserError: It is one too many of late.
    """
    visitor = current()
    if not visitor.local:
        _limits().take(visitor.member.id, what, monotonic())
