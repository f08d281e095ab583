"""What a calibration rests on: the votes of judges and people on one criterion, and what a ledger knows beside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.store import Ledger
from evalkit.store.formats.generic import ledger_lengths, ledger_votes
from evalkit.store.formats.names import annotator_names, item_ids
from evalkit.store.reading import model_names
from evalkit.store.schema import Annotator, Battle, Item, Response, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats.battles import BattleLabels
    from judges.probes import ProbeRates

Place = tuple[str, str, str, int]
"""A battle as votes name it: item, the two models in sorted order, turn."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What was judged: the user's turns, the two models' answers to the last of them, and what the judge said."""

    prompt: str
    first: str
    second: str
    rationale: str


@dataclass(frozen=True)
class Evidence:
    """Votes, and what is known of those who gave them.

    Attributes:
        votes: As `formats.ledger_votes` or `formats.read_votes` give them; all criteria.
        responses: Lengths (or texts) of the answers; None unknown.
        costs: One row a battle and judge, see `scorecard`; None unknown.
        probes: What the probes found, by judge.
        models: The model that a judge is, by the judge's name, as it is called in the battles.
        juries: Which judges are juries.
        texts: Reads the texts of battles, for a judge; None without a ledger.
    """

    votes: pd.DataFrame
    responses: pd.DataFrame | None = None
    costs: pd.DataFrame | None = None
    probes: Mapping[str, ProbeRates] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    juries: tuple[str, ...] = ()
    texts: Callable[[str, Sequence[Place]], Mapping[Place, Texts]] | None = None

    @property
    def known(self) -> dict[str, Any]:
        """All but votes and texts, as `scorecard` takes it."""
        names = ("responses", "costs", "probes", "models", "juries")
        return {name: getattr(self, name) for name in names}


def of_ledger(ledger: Ledger, criterion: str) -> Evidence:
    """Reads all that a ledger holds on a criterion.

    Raises:
        UserError: Nobody has voted.
    """
    from judges.probes import probe_rates

    votes = ledger_votes(ledger)
    if votes.empty:
        raise UserError("nobody has voted in this ledger; judge battles, or import votes (evalkit import --help)")
    contestants = sorted({*votes["model_a"], *votes["model_b"]})
    juries, models, probes = [], {}, {}
    with ledger.engine.connect() as connection:
        names = annotator_names(connection)
        rows = connection.execute(sa.select(Annotator.id, Annotator.definition).where(Annotator.kind == "judge")).all()
    voted = set(votes["annotator"].unique())
    for annotator_id, definition in rows:
        name = names[annotator_id][1]
        if name not in voted:
            continue
        if definition.get("kind") == "jury":
            juries.append(name)
            continue
        rates = probe_rates(ledger, annotator_id)
        if rates.injection.n or rates.null.n:
            probes[name] = rates
        told = definition.get("model", "")
        model = same_model([told.get("name", "") if isinstance(told, dict) else str(told), name], contestants)
        if model:
            models[name] = model
    return Evidence(
        votes=votes,
        responses=ledger_lengths(ledger),
        costs=_costs(ledger, criterion),
        probes=probes,
        models=models,
        juries=tuple(juries),
        texts=lambda judge, places: _texts(ledger, judge, criterion, places),
    )


def same_model(names: Iterable[str], contestants: Iterable[str]) -> str | None:
    """The contestant that goes by one of these names, whatever the signs between its letters.

    A judge's own name counts up to its first underscore, as in gpt4_pair.
    """
    known = {_letters(one.rsplit("/", 1)[-1]): one for one in contestants}
    for name in names:
        found = known.get(_letters(name.rsplit("/", 1)[-1])) or known.get(_letters(name.partition("_")[0]))
        if name and found:
            return found
    return None


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def select(votes: pd.DataFrame, judges: str, humans: str, criterion: str) -> pd.DataFrame:
    """The votes of the chosen judges and people on one criterion; annotator_kind then says which each one is.

    Args:
        votes: Of any annotators and criteria.
        judges, humans: Patterns of names; `*` is every annotator of the kind. Who fits both is a human.

    Raises:
        UserError: There are none.
    """
    from evalkit.stats.votes import list_names, require_columns

    require_columns(votes, ["item_id", "model_a", "model_b", "winner", "annotator", "annotator_kind"])
    frame = votes
    if "criterion" in votes.columns:
        frame = votes[votes["criterion"] == criterion]
        if frame.empty:
            there = list_names(sorted(map(str, votes["criterion"].unique())), like=criterion)
            raise UserError(f"nobody judged {criterion!r}; the criteria with verdicts are: {there}", code=2)
    one = frame.drop_duplicates("annotator")
    kinds = dict(zip(one["annotator"].astype(str), one["annotator_kind"].astype(str), strict=True))
    chosen: dict[str, str] = {}
    for kind, pattern in (("human", humans), ("judge", judges)):
        fits = [
            name
            for name, own in kinds.items()
            if name not in chosen and (own == kind if pattern == "*" else fnmatchcase(name, pattern))
        ]
        if not fits:
            there = list_names(sorted(kinds), like=pattern)
            option = "--humans" if kind == "human" else "--judges"
            what = f"no {kind} has voted" if pattern == "*" else f"no {kind} fits {pattern!r}"
            raise UserError(f"{what} on {criterion!r} (there are {there}); name them with {option} PATTERN", code=2)
        chosen.update(dict.fromkeys(fits, kind))
    frame = frame[frame["annotator"].isin(list(chosen))].reset_index(drop=True)
    return frame.assign(annotator_kind=frame["annotator"].map(chosen).astype(object))


def board_votes(labels: BattleLabels, annotators: Sequence[int]) -> pd.DataFrame:
    """One vote for each battle and annotator, its orders and repeats joined: what a judge's board is made of."""
    import numpy as np

    rows = np.flatnonzero(np.isin(labels.annotator, annotators) & (labels.label >= 0))
    battles = labels.battles.iloc[labels.battle[rows]].reset_index(drop=True)
    battles = battles.rename(columns={"first": "model_a", "second": "model_b"})
    return battles.assign(winner=np.array(["model_a", "model_b", "tie"], dtype=object)[labels.label[rows]])


def _costs(ledger: Ledger, criterion: str) -> pd.DataFrame:
    """What each judge's requests for each battle cost; verdicts recorded elsewhere have none.

    A request that was answered for several criteria at once counts in full for each.
    """
    import pandas as pd

    columns = (Verdict.annotator_id, Verdict.battle_id, Battle.item_id, Response.id, Response.cost, Response.seconds)
    query = sa.select(*columns).join(Battle, Battle.id == Verdict.battle_id)
    query = query.join(Response, Response.id == Verdict.response_id).where(Verdict.criterion == criterion).distinct()
    with ledger.engine.connect() as connection:
        names = annotator_names(connection)
        rows = connection.execute(query).all()
        jury = sa.select(Annotator.id, Annotator.definition).where(Annotator.kind == "judge")
        members = {row[0]: row[1].get("members") or () for row in connection.execute(jury)}
    found = pd.DataFrame(
        [tuple(row) for row in rows], columns=["annotator", "battle", "item_id", "response", "dollars", "seconds"]
    )
    parts = [found]
    # A jury pays for its members.
    for annotator_id, ids in members.items():
        if ids:
            parts.append(found[found["annotator"].isin(list(ids))].assign(annotator=annotator_id))
    every = pd.concat(parts, ignore_index=True).astype({"dollars": "float64", "seconds": "float64"})
    summed = every.groupby(["annotator", "battle", "item_id"], as_index=False).agg(
        dollars=("dollars", _all_known), seconds=("seconds", _all_known), requests=("response", "size")
    )
    return summed.assign(annotator=summed["annotator"].map({key: name for key, (_, name) in names.items()}))


def _all_known(values: pd.Series[float]) -> float:
    return float(values.sum(skipna=False))


def _texts(ledger: Ledger, judge: str, criterion: str, places: Sequence[Place]) -> dict[Place, Texts]:
    """The texts of battles whose questions the ledger has; an answer that it does not have is empty."""
    answer_a, answer_b = sa.orm.aliased(Response), sa.orm.aliased(Response)
    columns = (Battle.id, Battle.item_id, Battle.model_a_id, Battle.model_b_id, Battle.turn)
    query = sa.select(*columns, Item.messages, answer_a.text, answer_b.text).join(Item, Item.id == Battle.item_id)
    query = query.join(answer_a, answer_a.id == Battle.response_a_id).join(
        answer_b, answer_b.id == Battle.response_b_id
    )
    with ledger.engine.connect() as connection:
        models, annotators = model_names(connection), annotator_names(connection)
        wanted_models = {key for key, name in models.items() if any(name in place[1:3] for place in places)}
        query = query.where(Battle.model_a_id.in_(wanted_models), Battle.model_b_id.in_(wanted_models))
        rows = connection.execute(query).all()
        items = item_ids(connection, {row[1] for row in rows})
        found: dict[Place, tuple[int, str, str, str]] = {}
        for row in rows:
            sides = sorted(((models[row[2]], row[6] or ""), (models[row[3]], row[7] or "")))
            place = (items[row[1]], sides[0][0], sides[1][0], row[4])
            if place in places and row[5]:
                found[place] = (row[0], _prompt(row[5], row[4]), sides[0][1], sides[1][1])
        me = [key for key, one in annotators.items() if one == ("judge", judge)]
        said = sa.select(Verdict.battle_id, Verdict.rationale).where(
            Verdict.annotator_id.in_(me),
            Verdict.criterion == criterion,
            Verdict.battle_id.in_([one[0] for one in found.values()]),
        )
        reasons = {battle_id: text or "" for battle_id, text in connection.execute(said)}
    return {place: Texts(*one[1:], reasons.get(one[0], "")) for place, one in found.items()}


def _prompt(messages: Sequence[Mapping[str, Any]], turn: int) -> str:
    """The user's turns up to the judged one."""
    asked = [str(message.get("content", "")) for message in messages if message.get("role") == "user"][:turn]
    return (
        "\n\n".join(asked) if len(asked) == 1 else "\n\n".join(f"Turn {i}: {text}" for i, text in enumerate(asked, 1))
    )
