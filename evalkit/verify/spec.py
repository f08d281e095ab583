"""What every verifier shares: its result (`Check`) and the reading of its spec (plain JSON)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from evalkit.errors import UserError

T = TypeVar("T")

NAMES: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Check:
    """What a verifier found.

    Attributes:
        passed: Whether the response is right; None where that could not be verified (never to be read as a failure).
        score: From 0.0 to 1.0 (a fraction where the verifier has parts, else 0.0 or 1.0); None with `passed`.
        reason: One line on why, for people.
    """

    passed: bool | None
    score: float | None
    reason: str


def spec_of(reference: Any, turn: int = 1) -> Mapping[str, Any] | None:
    """Returns an item's verifier spec: its reference's `verify`, or its benchmark document's; None if it has none.

    Args:
        reference: An item's.
        turn: Of a conversation, from 1, where `verify` is a list with a spec (or null) for each turn.
    """
    if not isinstance(reference, Mapping):
        return None
    doc = reference.get("doc")
    spec = reference.get("verify") or (doc.get("verify") if isinstance(doc, Mapping) else None)
    if isinstance(spec, list):
        spec = spec[turn - 1] if turn <= len(spec) else None
    return spec if isinstance(spec, Mapping) else None


def verdict(passed: bool, reason: str) -> Check:
    """Return the Check of a verifier that knows only right and wrong."""
    return Check(passed, float(passed), reason)


def unverified(reason: str) -> Check:
    """Return the Check of a response that could not be verified."""
    return Check(None, None, reason)


def one_of(spec: Mapping[str, Any], name: str, allowed: Collection[str], default: str | None = None) -> str:
    """Return the text field `name` of a spec, which must be one of `allowed`.

    Raises:
        UserError: If it is missing (and has no default) or not allowed.
    """
    value = spec.get(name, default)
    if not isinstance(value, str) or value not in allowed:
        found = "is missing" if value is None else f"is {value!r}"
        raise UserError(f"verify spec: field '{name}' {found}; allowed: {', '.join(sorted(allowed))}")
    return value


def field(spec: Mapping[str, Any], name: str, kind: type[T], default: T | None = None) -> T:
    """Return the field `name` of a spec, checked for its type.

    Args:
        spec: The spec.
        name: The field.
        kind: str, bool, int, float (which admits whole numbers), list or dict.
        default: Value of an absent field; None makes the field required.

    Raises:
        UserError: If the field is missing and required, or of another type.
    """
    value = spec.get(name)
    if value is None:
        if default is None:
            raise UserError(f"verify spec: field '{name}' is missing from {_named(spec)}; it must be {NAMES[kind]}")
        return default
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    # bool is a subclass of int, yet `true` words is a mistake
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"verify spec: field '{name}' of {_named(spec)} is {value!r}; it must be {NAMES[kind]}")
    return value  # type: ignore[return-value]  # an int is welcome where a float is asked for


def strings(spec: Mapping[str, Any], name: str, default: list[str] | None = None) -> list[str]:
    """Return the field `name` as a list of non-empty strings.

    Raises:
        UserError: If it is missing without a default, is no list, is empty or holds anything but texts.
    """
    values: list[Any] = field(spec, name, list, default)
    if name in spec and (not values or not all(isinstance(value, str) and value.strip() for value in values)):
        raise UserError(
            f"verify spec: field '{name}' of {_named(spec)} must be a list of one or more non-empty strings"
        )
    return values


def only(spec: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Refuse fields that the verifier or constraint does not know (a misspelt option must not pass in silence).

    Raises:
        UserError: If the spec has another field.
    """
    for name in spec:
        if name not in allowed:
            raise UserError(
                f"verify spec: {_named(spec)} has no field '{name}'; allowed: {', '.join(sorted(allowed)) or 'none'}"
            )


def _named(spec: Mapping[str, Any]) -> str:
    for key, word in (("kind", "constraint"), ("verifier", "verifier")):
        if key in spec:
            return f"{word} {spec[key]!r}"
    return "the spec"
