"""What tells the members of a team: the cookie of an invitation, signed with a key that is kept beside the ledger."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import UserError
from evalkit.models.base import sha256
from evalkit.models.embedded import cache_dir

if TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer

NAME = "evalkit_member"
DAYS = 180
"""So long a cookie lasts; a revoked invitation ends it at once."""
KEY_BYTES = 32


def team() -> bool:
    """Whether visitors have to say who they are (`evalkit app --team`)."""
    return os.environ.get("EVALKIT_TEAM") == "1"


def key_file(store: str) -> Path:
    """Returns where a ledger's key is: beside its file; that of a database server in the user's cache."""
    name = store.removeprefix("sqlite:///")
    if "://" in name:
        from sqlalchemy import make_url

        place = make_url(name).set(password=None).render_as_string()
        return cache_dir() / f"app-{sha256(place)[:16]}.key"
    return Path(name + ".key")


def key(store: str) -> str:
    """Returns the key of a ledger's cookies, and makes it the first time, readable by its owner alone.

    Raises:
        UserError: It cannot be made or read, or others may read it.
    """
    path = key_file(store)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(KEY_BYTES))
        except FileExistsError:
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise UserError(f"others can read {path}, which signs the cookies; type: chmod 600 {path}") from None
        found = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"key of the cookies, {path}: {error}; make it readable and writable") from error
    if len(found) < 2 * KEY_BYTES:
        raise UserError(f"{path} holds no key; delete it, and a new one is made (everyone then needs a new invitation)")
    return found


def sign(store: str, identity: str) -> str:
    """Returns a member's cookie.

    Raises:
        UserError: See `key`.
    """
    return str(_signer(store).dumps(identity))


def read(store: str, cookie: str | None) -> str | None:
    """Returns whose cookie this is; None if it was forged, has expired, or there is none.

    Raises:
        UserError: See `key`.
    """
    from itsdangerous import BadSignature

    if not cookie:
        return None
    try:
        identity = _signer(store).loads(cookie, max_age=DAYS * 24 * 3600)
    except BadSignature:
        return None
    return identity if isinstance(identity, str) else None


def _signer(store: str) -> URLSafeTimedSerializer:
    from itsdangerous import URLSafeTimedSerializer

    return URLSafeTimedSerializer(key(store), salt="evalkit member")
