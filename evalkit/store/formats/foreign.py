"""What a published arena holds, in one form for all foreign formats, and its way into the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evalkit.models.base import Reply, RequestFailed
from evalkit.store.formats.names import IMPORTED, annotators_by_name, import_run, join_items, models_by_name, recorded
from evalkit.store.formats.names import imported_items as items_of
from evalkit.store.formats.votes import Vote, add_votes
from evalkit.store.ledger import Ledger
from evalkit.store.rows import AnnotatorKind, BattleRow, GradeRow, Item, Winner
from evalkit.store.schema import Base, Battle, Dataset, DatasetItem, Grade, Model, Response, Verdict
from evalkit.store.schema import Item as ItemTable
from evalkit.store.write_responses import add_placeholders
from evalkit.store.writing import chunks

PAGE = 5_000
WINNERS: dict[str, Winner] = {
    **{"model_a": "model_a", "model_b": "model_b", "tie": "tie", "both_bad": "both_bad"},
    **{"tie (bothbad)": "both_bad", "bothbad": "both_bad"},
}
"""The words of public arenas for how a battle ended."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A model's answers in one conversation, from the first turn; an empty one is a failure of kind `empty`."""

    item: str
    model: str
    texts: tuple[str, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A judge's or human's grade of one answer."""

    item: str
    model: str
    turn: int
    annotator: tuple[AnnotatorKind, str]
    criterion: str
    value: float | None
    error: str | None = None
    rationale: str | None = None
    texts: tuple[str, ...] | None = None


@dataclass(slots=True)
class Arena:
    """What was read.

    Attributes:
        kind: The format, which is also the dataset's name: files read one after another meet there.
        items: By the file's own id. A vote on one that is not here makes an item without a prompt.
        judges: Definitions of judges, by name.
        skipped: How many rows were left out, by the reason.
        notes: Sentences about what was read as what.
    """

    kind: str
    items: dict[str, Item] = field(default_factory=dict)
    talks: list[Talk] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    judges: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """How many of something were read, how many of them are new in the ledger, and how many are failures."""

    what: str
    read: int
    new: int
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    lines: tuple[Line, ...]
    skipped: Mapping[str, int]
    notes: tuple[str, ...]


def add_arena(ledger: Ledger, arena: Arena, paths: Sequence[Path]) -> Imported:
    """Writes what was read, a run of its own; what the ledger has is not added again.

    Args:
        paths: The files, which name the run.
    """
    before = _last_ids(ledger)
    names = [talk.model for talk in arena.talks] + [mark.model for mark in arena.marks]
    names += [name for vote in arena.votes for name in (vote.model_a, vote.model_b)]
    models = models_by_name(ledger, sorted(set(names)))  # in one order, whichever row comes first
    who = [vote.annotator for vote in arena.votes] + [mark.annotator for mark in arena.marks]
    annotators = annotators_by_name(ledger, who, arena.judges)
    dataset_id, items, contents = _items(ledger, arena)
    with import_run(ledger, arena.kind, *paths) as run_id:
        places = _add_talks(ledger, run_id, dataset_id, arena.talks, models, items, contents)
        _tie_battles(ledger, [items[talk.item] for talk in arena.talks])
        battles = []
        for vote in arena.votes:
            answers: tuple[int | None, int | None] = (None, None)
            if vote.answers is not None:
                sides = zip((vote.model_a, vote.model_b), vote.answers, strict=True)
                a, b = (places[vote.item, model, texts][vote.turn - 1] for model, texts in sides)
                answers = (a, b)
            pair = (models[vote.model_a], models[vote.model_b])
            battles.append(BattleRow(items[vote.item], *pair, *answers, turn=vote.turn))
        add_votes(ledger, run_id, arena.votes, battles, annotators)
        _add_marks(ledger, arena.marks, models, items, annotators, places)
    return Imported(_lines(ledger, arena, battles, before), dict(arena.skipped), tuple(arena.notes))


def _items(ledger: Ledger, arena: Arena) -> tuple[int, dict[str, int], dict[str, Item]]:
    """Returns the dataset, the ids of the items, and the items, by the file's ids."""
    wanted = dict(arena.items)
    named = [(vote.item, vote.category) for vote in arena.votes] + [(mark.item, "") for mark in arena.marks]
    named += [(talk.item, "") for talk in arena.talks]
    for name, category in named:
        if name not in wanted:
            tags = {"item_id": name, **({"category": category} if category else {})}
            wanted[name] = Item((), tags=tags, name=name)
    with ledger.engine.connect() as connection:
        known = items_of(connection, arena.kind)
        stored: dict[str, Item] = {}
        for name in [name for name, item in wanted.items() if not item.messages and len(known.get(name, ())) == 1]:
            query = sa.select(ItemTable.messages, ItemTable.reference, ItemTable.tags)
            row = connection.execute(query.where(ItemTable.id.in_(known[name]))).one()
            stored[name] = Item(tuple(row[0]), row[1], row[2], name=name)
    wanted |= stored
    contents = dict(zip(wanted, join_items(ledger, list(wanted.values()), arena.kind), strict=True))
    hashes = {item.hash: name for name, item in contents.items()}
    # A part of an arena that is there already is no dataset of its own.
    with ledger.engine.connect() as connection:
        query = sa.select(Dataset.id, ItemTable.id, ItemTable.hash)
        query = query.join(DatasetItem, DatasetItem.dataset_id == Dataset.id)
        query = query.join(ItemTable, ItemTable.id == DatasetItem.item_id)
        query = query.where(Dataset.name == arena.kind, Dataset.source == IMPORTED)
        found: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for dataset_id, item_id, digest in connection.execute(query):
            found[dataset_id][digest] = item_id
    for dataset_id, ids in found.items():
        if hashes.keys() <= ids.keys():
            return dataset_id, {name: ids[item.hash] for name, item in contents.items()}, contents
    dataset_id, added = ledger.add_dataset(arena.kind, list(contents.values()), IMPORTED)
    return dataset_id, dict(zip(contents, added, strict=True)), contents


Told = tuple[str, str, tuple[str, ...]]
"""Item and model as the file calls them, and the texts of a conversation."""


def _add_talks(
    ledger: Ledger,
    run_id: int,
    dataset_id: int,
    talks: Sequence[Talk],
    models: Mapping[str, int],
    items: Mapping[str, int],
    contents: Mapping[str, Item],
) -> dict[Told, list[int]]:
    """Adds answers; returns the response ids of each conversation, turn by turn."""
    stored = _stored_talks(ledger, sorted({items[talk.item] for talk in talks}))
    places: dict[Told, list[int]] = {}
    links = []
    rows = []
    waiting: list[Told] = []
    for talk in talks:
        told = (talk.item, talk.model, talk.texts)
        if told in places:
            continue
        model_id, item_id = models[talk.model], items[talk.item]
        there = stored[model_id, item_id]
        sample = next((s for s, turns in there.items() if _fits(turns, talk.texts)), None)
        if sample is None:
            sample = max(there, default=-1) + 1
        turns = there.setdefault(sample, {})
        places[told] = []
        for turn, text in enumerate(talk.texts, 1):
            response_id, is_text = turns.get(turn, (0, None))
            if response_id and is_text is not None:
                places[told].append(response_id)
                links.append((response_id, model_id, dataset_id))
                continue
            outcome: Reply | RequestFailed = RequestFailed("empty", "the recorded answer is empty")
            if text.strip():
                outcome = Reply(text, seconds=talk.seconds or 0.0)
            place = (model_id, item_id, sample, turn)
            before = talk.texts[: turn - 1]
            rows.append(recorded(place, dataset_id, outcome, contents[talk.item].messages, before))
            places[told].append(0)
            turns[turn] = (0, text)
            waiting.append(told)
    ids = [one for chunk in chunks(rows, PAGE) for one in ledger.add_responses(run_id, chunk)]
    for told, response_id in zip(waiting, ids, strict=True):
        places[told][places[told].index(0)] = response_id
    ledger.link_responses(run_id, links)
    return places


def _fits(turns: Mapping[int, tuple[int, str | None]], texts: Sequence[str]) -> bool:
    """Whether a stored conversation is this one, as far as it goes; of a placeholder (None) the text is not known."""
    said = ((turns.get(turn, (0, None))[1], text) for turn, text in enumerate(texts, 1))
    return all(stored is None or stored == (text if text.strip() else "") for stored, text in said)


def _stored_talks(
    ledger: Ledger, items: Sequence[int]
) -> defaultdict[tuple[int, int], dict[int, dict[int, tuple[int, str | None]]]]:
    """Returns {(model, item): {sample: {turn: (response id, text)}}}; "" is an empty answer, None a missing one."""
    found: defaultdict[tuple[int, int], dict[int, dict[int, tuple[int, str | None]]]] = defaultdict(dict)
    columns = (Response.model_id, Response.item_id, Response.sample, Response.turn, Response.id, Response.text)
    with ledger.engine.connect() as connection:
        for chunk in chunks(items):
            query = sa.select(*columns, Response.error_kind).where(Response.item_id.in_(chunk)).order_by(Response.id)
            for row in connection.execute(query):
                text = "" if row.error_kind == "empty" else row.text
                turns = found[row.model_id, row.item_id].setdefault(row.sample, {})
                turns.setdefault(row.turn, (row.id, text))
    return found


def _tie_battles(ledger: Ledger, items: Sequence[int]) -> None:
    """Gives battles that came without texts the models' answers, where each has exactly one."""
    sides = (Battle.response_a_id, Battle.response_b_id)
    with ledger.write() as connection:
        for chunk in chunks(sorted(set(items))):
            answers: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
            query = sa.select(Response.model_id, Response.item_id, Response.turn, Response.id)
            for one in connection.execute(query.where(Response.item_id.in_(chunk), Response.error_kind.is_(None))):
                answers[one[0], one[1], one[2]].append(one[3])
            columns = (Battle.id, Battle.item_id, Battle.model_a_id, Battle.model_b_id, Battle.turn, *sides)
            battles = connection.execute(sa.select(*columns).where(Battle.item_id.in_(chunk))).all()
            told = {row[1:5] for row in battles if row[5] is not None}
            for row in battles:
                a, b = (answers[model, row[1], row[4]] for model in row[2:4])
                if row[5] is None and row[1:5] not in told and len(a) == len(b) == 1:
                    tied = sa.update(Battle).where(Battle.id == row[0])
                    connection.execute(tied.values(response_a_id=a[0], response_b_id=b[0]))


def _add_marks(
    ledger: Ledger,
    marks: Sequence[Mark],
    models: Mapping[str, int],
    items: Mapping[str, int],
    annotators: Mapping[tuple[AnnotatorKind, str], int],
    places: Mapping[Told, Sequence[int]],
) -> None:
    stored = _stored_talks(ledger, sorted({items[mark.item] for mark in marks}))
    responses: list[int | None] = []
    missing: dict[tuple[int, int, int, int], list[int]] = {}
    for index, mark in enumerate(marks):
        place = (models[mark.model], items[mark.item], 0, mark.turn)
        found: int | None = None
        if mark.texts is not None:
            found = places[mark.item, mark.model, mark.texts][mark.turn - 1]
        elif mark.turn in stored[place[0], place[1]].get(0, {}):
            found = stored[place[0], place[1]][0][mark.turn][0]
        else:
            missing.setdefault(place, []).append(index)
        responses.append(found)
    with ledger.write() as connection:
        for place_, made in zip(missing, add_placeholders(connection, list(missing)), strict=True):
            for index in missing[place_]:
                responses[index] = made
    seen: Counter[tuple[Any, ...]] = Counter()
    grades = []
    for response_id, mark in zip(responses, marks, strict=True):
        assert response_id is not None  # each was found or made above
        unit = (response_id, annotators[mark.annotator], mark.criterion)
        detail = {"rationale": mark.rationale} if mark.rationale else None
        grades.append(GradeRow(*unit, mark.value, mark.error, seen[unit], detail))
        seen[unit] += 1
    for chunk in chunks(grades, PAGE):
        ledger.add_grades(chunk)


# -- what was done ------------------------------------------------------------------------------------------------

TABLES: tuple[type[Base], ...] = (ItemTable, Model, Response, Battle, Verdict, Grade)


def _last_ids(ledger: Ledger) -> dict[str, int]:
    """Returns the highest id of each table: ids are given out in order, so what is above later is new."""
    with ledger.engine.connect() as connection:
        return {
            table.__tablename__: connection.scalar(sa.select(sa.func.max(table.__table__.c.id))) or 0
            for table in TABLES
        }


def _lines(ledger: Ledger, arena: Arena, battles: Sequence[BattleRow], before: Mapping[str, int]) -> tuple[Line, ...]:
    after = _last_ids(ledger)
    new = {table: after[table] - before[table] for table in after}
    talks = {(talk.item, talk.model, talk.texts) for talk in arena.talks}
    texts = [text for *_, texts in talks for text in texts]
    names = {talk.model for talk in arena.talks} | {mark.model for mark in arena.marks}
    names |= {name for vote in arena.votes for name in (vote.model_a, vote.model_b)}
    items = {vote.item for vote in arena.votes} | {talk.item for talk in arena.talks} | set(arena.items)
    pairs = {(b.item_id, *sorted((b.model_a_id, b.model_b_id)), b.turn, b.response_a_id) for b in battles}
    lines = [
        Line("items", len(items | {mark.item for mark in arena.marks}), new["item"]),
        Line("models", len(names), new["model"]),
        Line("responses", len(texts), new["response"], sum(not text.strip() for text in texts)),
        Line("battles", len(pairs), new["battle"]),
    ]
    votes = [(vote.annotator, vote.error) for vote in arena.votes]
    marks = [(mark.annotator, mark.error) for mark in arena.marks]
    with ledger.engine.connect() as connection:
        for what, table, read in (("verdicts", Verdict, votes), ("grades", Grade, marks)):
            columns = table.__table__.c
            added = sa.select(columns.annotator_id, sa.func.count()).where(columns.id > before[what[:-1]])
            fresh = {row[0]: row[1] for row in connection.execute(added.group_by(columns.annotator_id))}
            lines += _of_annotators(what, read, annotators_by_name(ledger, [who for who, _ in read]), fresh)
    return tuple(line for line in lines if line.read)


def _of_annotators(
    what: str,
    read: Sequence[tuple[tuple[AnnotatorKind, str], str | None]],
    ids: Mapping[tuple[AnnotatorKind, str], int],
    new: Mapping[int, int],
) -> list[Line]:
    """One line for all humans, and one for each judge."""
    groups: defaultdict[str, list[tuple[AnnotatorKind, str]]] = defaultdict(list)
    humans = {who for who, _ in read if who[0] == "human"}
    people = f"{len(humans)} humans" if len(humans) > 1 else "".join(name for _, name in humans)
    for who in dict.fromkeys(who for who, _ in read):
        groups[f"{what} of {people if who in humans else who[1]}"].append(who)
    count = Counter(who for who, _ in read)
    failed = Counter(who for who, error in read if error is not None)
    return [
        Line(name, sum(count[w] for w in group), sum(new.get(ids[w], 0) for w in group), sum(failed[w] for w in group))
        for name, group in groups.items()
    ]
