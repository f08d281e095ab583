"""Writes of campaigns, invitations, members, and ballots."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store.database import now, storable
from evalkit.store.rows import WINNERS, VerdictRow, Winner
from evalkit.store.rows_app import BallotResult, BallotRow, Member, Role
from evalkit.store.schema import Battle, Verdict
from evalkit.store.schema_app import Ballot, Base, Campaign, Invitation
from evalkit.store.schema_app import Member as MemberTable
from evalkit.store.write_judgments import add_verdicts, remove_verdict
from evalkit.store.write_runs import add_annotator
from evalkit.store.writing import next_id

LOCAL = "local"
"""Identity of whoever sits at the machine that the app runs on, without a team."""
TOKEN_BYTES = 32
NAME_LIMIT = 80
COMMENT_LIMIT = 10_000

_MEMBER = (
    *(MemberTable.id, MemberTable.identity, MemberTable.name, MemberTable.role, MemberTable.annotator_id),
    *(MemberTable.invitation_id, Invitation.revoked_at, MemberTable.created_at, MemberTable.set_aside_at),
    MemberTable.set_aside_reason,
)

# Built once: a vote would spend half of its time on putting these together.
_MEMBER_OF = (
    sa.select(*_MEMBER)
    .outerjoin(Invitation, Invitation.id == MemberTable.invitation_id)
    .where(MemberTable.identity == sa.bindparam("identity"))
)
_SAME = sa.select(Ballot.id, Ballot.key, Ballot.winner, Ballot.undone_at)
_SAME_KEY = _SAME.where(Ballot.key == sa.bindparam("key"))
_SAME_QUESTION = _SAME.where(
    Ballot.battle_id == sa.bindparam("battle"),
    Ballot.annotator_id == sa.bindparam("annotator"),
    Ballot.criterion == sa.bindparam("criterion"),
    Ballot.replicate == sa.bindparam("replicate"),
    sa.func.coalesce(Ballot.campaign_id, 0) == sa.func.coalesce(sa.bindparam("campaign", type_=sa.BigInteger), 0),
    Ballot.undone_at.is_(None),
)
_CAMPAIGN = sa.select(Campaign.name, Campaign.status).where(Campaign.id == sa.bindparam("campaign"))
_BATTLE = sa.select(Battle.id).where(Battle.id == sa.bindparam("battle"))
_REPLICATES = sa.select(Verdict.replicate).where(
    Verdict.battle_id == sa.bindparam("battle"),
    Verdict.annotator_id == sa.bindparam("annotator"),
    Verdict.criterion == sa.bindparam("criterion"),
)


def _add(connection: sa.Connection, table: type[Base], **values: Any) -> int:
    row_id = next_id(connection, table)
    connection.execute(sa.insert(table), {"id": row_id, "created_at": now(), **values})
    return row_id


def _set(connection: sa.Connection, table: type[Base], row_id: int, **changes: Any) -> None:
    columns = table.__table__.c
    if connection.execute(sa.update(table).where(columns.id == row_id).values(**changes)).rowcount != 1:
        raise UserError(f"there is no {table.__tablename__} {row_id} in this ledger.", code=2)


def _line(what: str, text: str, limit: int = NAME_LIMIT) -> str:
    """Returns a name on one line.

    Raises:
        UserError: It is empty or too long.
    """
    line = " ".join(storable(text).split())
    if not line or len(line) > limit:
        raise UserError(f"{what}: write 1 to {limit} characters, not {len(line)}.", code=2)
    return line


def add_campaign(
    connection: sa.Connection,
    name: str,
    mode: Literal["queue", "free"],
    criterion: str,
    instructions: str,
    settings: Mapping[str, Any],
    seed: int,
) -> int:
    """See `People.add_campaign`."""
    name = _line("name of the campaign", name)
    if connection.scalar(sa.select(Campaign.id).where(Campaign.name == name)) is not None:
        raise UserError(f"there is a campaign {name!r} already; choose another name.", code=2)
    given = {"criterion": _line("criterion", criterion), "instructions": storable(instructions)}
    values = {**given, "name": name, "mode": mode, "settings": dict(settings), "seed": seed}
    return _add(connection, Campaign, **values, status="open", closed_at=None)


def set_campaign(connection: sa.Connection, campaign_id: int, **changes: Any) -> None:
    """See `People.set_campaign`."""
    if "status" in changes:
        changes["closed_at"] = now() if changes["status"] == "closed" else None
    _set(connection, Campaign, campaign_id, **changes)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def invite(
    connection: sa.Connection,
    role: Role,
    campaign_id: int | None,
    expires_at: datetime | None,
    note: str,
    max_uses: int | None,
) -> tuple[int, str]:
    """See `People.invite`."""
    if max_uses is not None and max_uses < 1:
        raise UserError(f"uses of an invitation: write a whole number from 1 on, not {max_uses}.", code=2)
    expires = None
    if expires_at is not None:
        if expires_at.tzinfo is None:
            raise ValueError("expires_at needs a time zone")
        expires = expires_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if expires <= now():
            raise UserError(f"expiry of an invitation: {expires} has passed; choose a later time.", code=2)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    values = {"token_hash": _hash(token), "role": role, "campaign_id": campaign_id, "note": storable(note)}
    return _add(connection, Invitation, **values, expires_at=expires, revoked_at=None, uses=0, max_uses=max_uses), token


def invitation_of(connection: sa.Connection, token: str) -> int | None:
    """See `People.invitation_of`."""
    return connection.scalar(sa.select(Invitation.id).where(Invitation.token_hash == _hash(token)))


def check_invitation(connection: sa.Connection, token: str) -> sa.RowMapping:
    """See `People.check_invitation`; returns the invitation's row."""
    digest = _hash(token)
    row = connection.execute(sa.select(Invitation.__table__).where(Invitation.token_hash == digest)).mappings().first()
    fault = None
    if row is None or not hmac.compare_digest(row["token_hash"], digest):
        fault = "is not known here"
    elif row["revoked_at"] is not None:
        fault = "was revoked"
    elif row["expires_at"] is not None and row["expires_at"] <= now():
        fault = f"expired at {row['expires_at']}"
    elif row["max_uses"] is not None and row["uses"] >= row["max_uses"]:
        fault = "has been used up"
    if row is None or fault is not None:
        raise UserError(f"this invitation {fault}; ask whoever sent it for a new one.", code=2)
    return row


def redeem(connection: sa.Connection, token: str, name: str) -> Member:
    """See `People.redeem`."""
    row = check_invitation(connection, token)
    uses = row["uses"] + 1
    member = _add_member(connection, f"invitation:{row['id']}:{uses}", name, row["role"], row["id"])
    _set(connection, Invitation, row["id"], uses=uses)
    return member


def revoke(connection: sa.Connection, invitation_id: int) -> None:
    """See `People.revoke`."""
    _set(connection, Invitation, invitation_id, revoked_at=now())


def member_of(connection: sa.Connection, identity: str) -> Member | None:
    """See `People.member_of`."""
    row = connection.execute(_MEMBER_OF, {"identity": identity}).first()
    if row is None:
        return None
    values: tuple[Any, ...] = (*row[:6], row[6] is not None, *row[7:])
    return Member(*values)


def ensure_member(connection: sa.Connection, identity: str, name: str, role: Role) -> Member:
    """See `People.ensure_member`."""
    return member_of(connection, identity) or _add_member(connection, identity, name, role, None)


def _add_member(connection: sa.Connection, identity: str, name: str, role: Role, invitation_id: int | None) -> Member:
    name = _line("name", name)
    member_id = next_id(connection, MemberTable)
    # The identity stays out of the annotator, which goes into exports.
    annotator_id = add_annotator(connection, "human", name, {"member": member_id})
    identity = storable(identity)
    values = {"identity": identity, "name": name, "role": role, "annotator_id": annotator_id}
    more = {"invitation_id": invitation_id, "set_aside_at": None, "set_aside_reason": None}
    _add(connection, MemberTable, **values, **more)
    return cast(Member, member_of(connection, identity))


def sign_in_identity(name: str) -> str:
    """Returns the identity of a person whom the sign-in service calls by this address or subject.

    Raises:
        UserError: It is empty, or has spaces in it.
    """
    name = name.strip()
    if not name or name.split() != [name] or len(name) > 200:
        raise UserError(f"{name!r}: write one person's address, or the service's own name, without spaces.", code=2)
    return "signin:" + (name.lower() if "@" in name else name)


def has_admin(connection: sa.Connection) -> bool:
    """See `People.has_admin`."""
    joined = sa.select(MemberTable.id).outerjoin(Invitation, Invitation.id == MemberTable.invitation_id)
    admins = joined.where(MemberTable.role == "admin", MemberTable.identity != LOCAL, Invitation.revoked_at.is_(None))
    return connection.execute(admins.limit(1)).first() is not None


def set_role(connection: sa.Connection, member_id: int, role: Role) -> None:
    """See `People.set_role`."""
    _set(connection, MemberTable, member_id, role=role)


def set_aside(connection: sa.Connection, member_id: int, reason: str) -> None:
    """See `People.set_aside`."""
    reason = _line("reason", reason, COMMENT_LIMIT)
    _set(connection, MemberTable, member_id, set_aside_at=now(), set_aside_reason=reason)


def take_back(connection: sa.Connection, member_id: int) -> None:
    """See `People.take_back`."""
    _set(connection, MemberTable, member_id, set_aside_at=None, set_aside_reason=None)


def vote(connection: sa.Connection, row: BallotRow) -> BallotResult:
    """See `People.vote`."""
    if row.winner is not None and row.winner not in WINNERS:
        raise ValueError(f"the winner of a ballot is one of {', '.join(WINNERS)}: {row}")
    place = {"battle": row.battle_id, "annotator": row.annotator_id, "criterion": row.criterion}
    asked = {**place, "replicate": row.replicate, "campaign": row.campaign_id}
    known = connection.execute(_SAME_KEY, {"key": row.key}).first() or connection.execute(_SAME_QUESTION, asked).first()
    if known is not None:
        return BallotResult("repeated", known[0], known[1], cast(Winner | None, known[2]), known[3] is not None)
    if row.campaign_id is not None:
        campaign = connection.execute(_CAMPAIGN, {"campaign": row.campaign_id}).first()
        if campaign is None:
            raise UserError(f"there is no campaign {row.campaign_id} in this ledger.", code=2)
        if campaign.status != "open":
            raise UserError(f"the campaign {campaign.name!r} is closed; your vote was not stored.", code=2)
    if connection.scalar(_BATTLE, {"battle": row.battle_id}) is None:
        raise UserError(f"there is no battle {row.battle_id} in this ledger.", code=2)
    seconds = row.seconds if row.seconds is not None and math.isfinite(row.seconds) and row.seconds >= 0 else None
    comment = storable(row.comment.strip())[:COMMENT_LIMIT] if row.comment and row.comment.strip() else None
    created = now()
    verdict_id = None
    if row.winner is not None:
        # Another campaign may have asked the same question, or an imported file: then this is one more replicate.
        taken = set(connection.scalars(_REPLICATES, place))
        replicate = next(number for number in range(row.replicate, 2**31) if number not in taken)
        verdict = VerdictRow(
            *(row.battle_id, row.annotator_id, row.order, row.winner, row.criterion, replicate),
            seconds=seconds,
            rationale=comment,
            created_at=created,
        )
        verdict_id = next_id(connection, Verdict)
        add_verdicts(connection, None, [verdict], replace=False)
    values = {
        **{name: getattr(row, name) for name in ("key", "campaign_id", "annotator_id", "battle_id", "criterion")},
        **{name: getattr(row, name) for name in ("replicate", "winner", "kind")},
        **{"order_shown": row.order, "seconds": seconds, "comment": comment, "verdict_id": verdict_id},
    }
    ballot_id = _add(connection, Ballot, **values, undone_at=None)
    return BallotResult("stored", ballot_id, row.key, row.winner)


def undo(connection: sa.Connection, key: str) -> BallotResult:
    """See `People.undo`."""
    columns = (Ballot.id, Ballot.winner, Ballot.undone_at, Ballot.verdict_id)
    row = connection.execute(sa.select(*columns).where(Ballot.key == key)).first()
    if row is None:
        raise UserError("there is no such vote to undo.", code=2)
    winner = cast(Winner | None, row.winner)
    if row.undone_at is not None:
        return BallotResult("repeated", row.id, key, winner, undone=True)
    if row.verdict_id is not None:
        remove_verdict(connection, row.verdict_id)
    _set(connection, Ballot, row.id, undone_at=now(), verdict_id=None)
    return BallotResult("stored", row.id, key, winner, undone=True)
