"""Facts of a run: what was asked, what it cost, what failed, on which data and versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from evalkit.report.reads import clip, run_row
from evalkit.store.ledger import Ledger
from evalkit.store.reading import model_names
from evalkit.store.schema import Dataset, Model, Response, RunCell, RunResponse

_SECRET = re.compile(r"(api_?key|secret|password|authorization|(auth|access|bearer)_?token)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run asked of one model, cached answers included in `responses` alone.

    Attributes:
        role: contestant or judge.
        seconds: Of model time, summed over requests; more than the clock's where they ran side by side.
        cost: US dollars paid by this run.
        unpriced: Answers whose price is not known: in no cost.
    """

    model: str
    role: str
    settings: str
    responses: int
    errors: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    cost: float
    unpriced: int


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Requests of one model without an answer, by kind, with one of the messages."""

    kind: str
    model: str
    n: int
    example: str


@dataclass(frozen=True, slots=True)
class Data:
    """A dataset that the run used; `hash` is that of its items."""

    name: str
    items: int
    source: str
    hash: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run.

    Attributes:
        seconds: By the clock, from its first start to its end, pauses included; None while it runs.
        plan: What the user set, without anything that looks like a secret.
        environment: Versions and machine, by name.
    """

    run_id: int
    name: str
    status: str
    message: str
    seed: int
    started_at: str
    finished_at: str | None
    seconds: float | None
    plan: Any
    environment: Mapping[str, str]
    usage: tuple[Usage, ...]
    errors: tuple[ErrorKind, ...]
    data: tuple[Data, ...]

    @property
    def responses(self) -> int:
        """Answers and failures of all models."""
        return sum(row.responses for row in self.usage)

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return sum(row.errors for row in self.usage)


def run_facts(ledger: Ledger, run_id: int) -> RunFacts:
    """Reads a run's facts from its roll-ups.

    Raises:
        UserError: There is no such run.
    """
    with ledger.engine.connect() as connection:
        run = run_row(connection, run_id)
        usage = _usage(connection, run_id)
        errors = _errors(connection, run_id)
        used = sa.select(RunCell.dataset_id).where(RunCell.run_id == run_id)
        query = sa.select(Dataset.name, Dataset.n, Dataset.source, Dataset.hash)
        query = query.where(Dataset.id.in_(used), Dataset.n > 0)
        data = tuple(Data(*row) for row in connection.execute(query.order_by(Dataset.id)))
    plan = dict(run["plan"])
    code = plan.pop("resolved", {}).get("code")
    environment = {"evalkit": code} if code else {}
    seconds = None
    if run["finished_at"]:
        seconds = (_time(run["finished_at"]) - _time(run["started_at"])).total_seconds()
    return RunFacts(
        run_id=run_id,
        name=run["name"],
        status=run["status"],
        message=run["message"],
        seed=run["seed"],
        started_at=run["started_at"],
        finished_at=run["finished_at"],
        seconds=seconds,
        plan=_set(without_secrets(plan)),
        environment=environment | _flat(without_secrets(run["environment"])),
        usage=usage,
        errors=errors,
        data=data,
    )


def without_secrets(value: Any) -> Any:
    """Returns plain JSON data with passwords in URLs, and values of keys that name a secret, replaced by dots."""
    if isinstance(value, Mapping):
        return {k: "…" if v and _SECRET.search(str(k)) else without_secrets(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(v) for v in value]
    return _CREDENTIALS.sub(r"\1…@", value) if isinstance(value, str) else value


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _set(value: Any) -> Any:
    """Drops what a plan leaves empty."""
    if isinstance(value, Mapping):
        return {k: _set(v) for k, v in value.items() if v is not None and v not in ("", [], {})}
    return [_set(v) for v in value] if isinstance(value, list) else value


def _flat(environment: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in environment.items():
        found |= _flat(value) if isinstance(value, Mapping) else {str(name): str(value)}
    return found


# A dataset without items holds what a judge said of battles.
_ROLE = sa.case((Dataset.n > 0, "contestant"), else_="judge").label("role")


def _usage(connection: sa.Connection, run_id: int) -> tuple[Usage, ...]:
    columns = ("n", "errors", "cached", "prompt_tokens", "completion_tokens", "seconds", "cost", "unpriced")
    sums = [sa.func.sum(getattr(RunCell, name)) for name in columns]
    query = (
        sa.select(RunCell.model_id, _ROLE, *sums)
        .join(Dataset, Dataset.id == RunCell.dataset_id)
        .where(RunCell.run_id == run_id)
        .group_by(RunCell.model_id, "role")  # by name: PostgreSQL takes two bound parameters for two expressions
        .order_by("role", RunCell.model_id)
    )
    rows = connection.execute(query).fetchall()
    names = model_names(connection)
    models = sa.select(Model.__table__).where(Model.id.in_({row[0] for row in rows}))
    settings = {row["id"]: _settings(row) for row in connection.execute(models).mappings()}
    found = []
    for model_id, role, *values in rows:
        n, errors, cached, prompt, completion = (int(value) for value in values[:5])
        seconds, cost, unpriced = float(values[5]), float(values[6]), int(values[7])
        asked = (n, errors, cached, prompt, completion, seconds, cost, unpriced)
        found.append(Usage(names[model_id], role, settings[model_id], *asked))
    return tuple(found)


def _settings(row: sa.RowMapping) -> str:
    """A contestant's settings on one line."""
    parts = [f"{row['provider']}/{row['name']}"]
    parts += [f"{name} {row[name]}" for name in ("endpoint", "dtype") if row[name]]
    if row["revision"]:
        parts.append(f"revision {row['revision'][:12]}")
    parts += [f"{k} {v}" for k, v in {**row["sampling"], **without_secrets(row["extra"])}.items()]
    if row["system"]:
        parts.append(f"system prompt “{clip(row['system'], 120)}”")
    return _CREDENTIALS.sub(r"\1…@", ", ".join(parts))


def _errors(connection: sa.Connection, run_id: int) -> tuple[ErrorKind, ...]:
    count = sa.func.count()
    query = (
        sa.select(RunResponse.model_id, Response.error_kind, count, sa.func.min(Response.error))
        .join(Response, Response.id == RunResponse.response_id)
        .where(RunResponse.run_id == run_id, sa.literal_column("run_response.failed"))
        .group_by(RunResponse.model_id, Response.error_kind)
        .order_by(count.desc(), RunResponse.model_id, Response.error_kind)
    )
    rows = connection.execute(query).fetchall()
    names = model_names(connection)
    return tuple(ErrorKind(str(kind), names[key], n, clip(said or "", 300)) for key, kind, n, said in rows)
