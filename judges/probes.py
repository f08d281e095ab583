"""Probes of a judge: poor answers with an injection, and constant answers, against good ones. They must not win.

Verdicts and grades stand in the ledger under criteria of their own, so that they enter no board; their items are in the
dataset `evalkit.store.arena.PROBES`, which no other judging reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.engine import Engine
from evalkit.models import ChatModel, Reply, Request, Sampling
from evalkit.models.base import ModelSettings, request_key, sha256
from evalkit.store import BattleRow, Ledger, ResponseRow
from evalkit.store.arena import PROBE, PROBES
from evalkit.store.rows import Item
from evalkit.store.schema import Battle, Grade, Model, Response, Verdict
from evalkit.store.schema import Item as ItemTable
from judges import pairwise, pointwise
from judges.asking import Asked, Hearing, ask
from judges.checklist import Checklist, Topic, checklists
from judges.criteria import Criterion
from judges.fight import load_cases, load_fights
from judges.probe_texts import ATTACK, CONSTANT, CONTROL, HONEST, INJECTION, NULL, POOR, Probe, probes
from judges.prompt import JudgePrompt

if TYPE_CHECKING:
    from evalkit.stats import Share

LABELS = (HONEST, POOR, ATTACK, CONSTANT)
__all__ = ["CONTROL", "INJECTION", "NULL", "ProbeRates", "ProbeRow", "probe", "probe_rates", "probe_rows"]


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """What came of one attack, of the control, or of one constant answer.

    Attributes:
        criterion: INJECTION or NULL.
        attack: Its name; CONTROL for poor answers as they are.
        wins: Share of the readable verdicts that it won against the good answer (a tie is no win); of grades, those
            that were no lower than the good answer's. The interval allows for verdicts on one question being alike.
        failed: Verdicts or grades that could not be read, beside those in `wins`.
    """

    criterion: str
    attack: str
    wins: Share
    failed: int


@dataclass(frozen=True, slots=True)
class ProbeRates:
    """All attacks together, the control, and all constant answers; shares as in `ProbeRow`.

    Attributes:
        failed: Verdicts or grades that could not be read: in no share.
    """

    injection: Share
    control: Share
    null: Share
    failed: int


def probe(
    ledger: Ledger,
    engine: Engine,
    run_id: int,
    model: ChatModel,
    prompt: JudgePrompt,
    criteria: Sequence[Criterion],
    name: str,
    *,
    questions: int | None = None,
    record: bool = True,
) -> int:
    """Shows a judge the probes; what it has said before is in the ledger and is not asked for again.

    Pairs are shown in both orders. A judge of several criteria is measured on `overall`, else on its first.

    Args:
        ledger: Gets the probes' answers, and the verdicts or grades.
        engine: Of the run; asks.
        run_id: The run.
        model, prompt, criteria, name: The judge.
        questions: The first so many; all without.
        record: False only asks (a dry run).

    Returns:
        Requests that a budget kept back.
    """
    main = next((one for one in criteria if one.name == "overall"), criteria[0])
    group = next(group for group in prompt.groups(criteria) if main in group)
    annotator = ledger.add_annotator("judge", name, pairwise.annotator_definition(model, prompt, criteria))
    (model_id,) = ledger.add_models([model.settings])
    said_by, _ = ledger.add_dataset(f"probing of {name}", [], "verdicts and grades; the items are the probes")
    judge = _Judge(ledger, engine, run_id, model, model_id, said_by, prompt, group, main, annotator, f"{name}: probes")
    shown = list(probes(prompt, main, questions))
    filed = _file(ledger, run_id, shown)
    return judge.grade(shown, filed, record) if prompt.kind == "pointwise" else judge.compare(shown, filed, record)


@dataclass(frozen=True, slots=True)
class _Filed:
    """Rows of a probe: its item, the good answer on it, and its own answer."""

    item: int
    good: int
    answer: int


@dataclass(frozen=True, slots=True)
class _Judge:
    """A judge under probe; `group` is what it is asked about in one request, `main` what of it counts."""

    ledger: Ledger
    engine: Engine
    run_id: int
    model: ChatModel
    model_id: int
    dataset_id: int
    prompt: JudgePrompt
    group: tuple[Criterion, ...]
    main: Criterion
    annotator: int
    label: str

    def ask(self, asked: Sequence[Asked], label: str) -> Hearing:
        return ask(self.engine, self.model, self.model_id, self.dataset_id, self.prompt, asked, label=label)

    def compare(self, shown: Sequence[Probe], filed: Sequence[_Filed], record: bool) -> int:
        ids = dict(zip(LABELS, self.ledger.add_models(_models()), strict=True))
        # A battle's answer a is that of the lower model id.
        is_a = {label: ids[label] < ids[HONEST] for label in LABELS}
        rows = []
        for one, row in zip(shown, filed, strict=True):
            sides = [(ids[HONEST], row.good), (ids[one.model], row.answer)]
            (a, text_a), (b, text_b) = sorted(sides)
            rows.append(BattleRow(row.item, a, b, text_a, text_b))
        battles = self.ledger.add_battles(rows)
        fights = load_fights(self.ledger, dict(zip(battles, rows, strict=True)))
        asked: dict[str, list[pairwise.Question]] = {INJECTION: [], NULL: []}
        for one, fight in zip(shown, fights, strict=True):
            for order in one.orders(is_a[one.model]):
                question = Asked(fight.item_id, fight.material(order), self.group)
                asked[one.criterion].append(pairwise.Question(fight, order, question))
        not_sent = 0
        for criterion, those in asked.items():
            label = f"{self.label}, {criterion.removeprefix(PROBE)}"
            hearing = self.ask([one.asked for one in those], label)
            not_sent += hearing.not_sent
            if record:
                verdicts = pairwise.verdicts(those, hearing, self.annotator)
                kept = [replace(row, criterion=criterion) for row in verdicts if row.criterion == self.main.name]
                self.ledger.add_verdicts(self.run_id, kept)
        return not_sent

    def grade(self, shown: Sequence[Probe], filed: Sequence[_Filed], record: bool) -> int:
        cases = load_cases(self.ledger, [row.answer for row in filed])
        lists: dict[Topic, Checklist] = {}
        not_sent = 0
        if self.prompt.needs_checklist:
            places = (self.engine, self.model, self.model_id, self.dataset_id, self.prompt)
            lists, not_sent = checklists(*places, cases, label=f"{self.label}, checklists")
        asked = list(pointwise.questions(cases, self.prompt, self.group, checklists=lists))
        hearing = self.ask([one.asked for one in asked], self.label)
        if record:
            criterion = {row.answer: one.criterion for one, row in zip(shown, filed, strict=True)}
            grades = pointwise.grades(asked, hearing, self.annotator)
            grades += pointwise.without_checklist(cases, self.group, lists, self.annotator, 1) if lists else []
            kept = [
                replace(row, criterion=criterion[row.response_id]) for row in grades if row.criterion == self.main.name
            ]
            self.ledger.add_grades(kept)
        return not_sent + hearing.not_sent


def _models() -> list[ModelSettings]:
    return [ModelSettings("recorded", label, label=label) for label in LABELS]


def _file(ledger: Ledger, run_id: int, shown: Sequence[Probe]) -> list[_Filed]:
    """Files the probes' items and answers."""
    items = []
    for one in shown:
        tags = {"probe": one.criterion.removeprefix(PROBE), "attack": one.attack}
        message = {"role": "user", "content": one.question.question}
        items.append(Item((message,), None, tags, f"{one.question.name}/{one.attack}", "probe"))
    distinct = {item.hash: item for item in items}
    dataset, ids = ledger.add_dataset(PROBES, list(distinct.values()), "judges/probes")
    place = dict(zip(distinct, ids, strict=True))
    models = _models()
    by_label = dict(zip(LABELS, zip(models, ledger.add_models(models), strict=True), strict=True))

    def row(label: str, item: Item, text: str) -> ResponseRow:
        settings, model_id = by_label[label]
        # Another judge is shown other texts in the same place: the text is part of the request.
        request = Request(item.messages, sampling=Sampling(extra={"answer": sha256(text)}))
        body = request.body(settings)
        return ResponseRow(model_id, place[item.hash], dataset, request_key(body), body, Reply(text))

    pairs = list(zip(shown, items, strict=True))
    good = ledger.add_responses(run_id, [row(HONEST, item, one.question.good) for one, item in pairs])
    answers = ledger.add_responses(run_id, [row(one.model, item, one.text) for one, item in pairs])
    return [_Filed(place[item.hash], *rest) for item, *rest in zip(items, good, answers, strict=True)]


def probe_rates(ledger: Ledger, annotator_id: int) -> ProbeRates:
    """Returns what the probes in a ledger say of a judge; shares of n 0 where there are none."""
    told = _told(ledger, annotator_id)
    parts = {
        "injection": [one for one in told if one.criterion == INJECTION and one.attack != CONTROL],
        "control": [one for one in told if one.criterion == INJECTION and one.attack == CONTROL],
        "null": [one for one in told if one.criterion == NULL],
    }
    shares = {name: _share(part) for name, part in parts.items()}
    return ProbeRates(**shares, failed=sum(one.won is None for one in told))


def probe_rows(ledger: Ledger, annotator_id: int) -> list[ProbeRow]:
    """Returns what the probes in a ledger say of a judge: the control, each attack, each constant answer."""
    found: dict[tuple[str, str], list[_Told]] = {}
    for one in _told(ledger, annotator_id):
        found.setdefault((one.criterion, one.attack), []).append(one)
    order = {INJECTION: 0, NULL: 1}
    keys = sorted(found, key=lambda key: (order[key[0]], key[1] != CONTROL))
    return [ProbeRow(*key, _share(found[key]), sum(one.won is None for one in found[key])) for key in keys]


@dataclass(frozen=True, slots=True)
class _Told:
    """One verdict or grade; `won` is None where it could not be read."""

    criterion: str
    attack: str
    question: str
    won: bool | None


def _share(told: Sequence[_Told]) -> Share:
    from evalkit.stats import share

    known = [one for one in told if one.won is not None]
    return share([bool(one.won) for one in known], [one.question for one in known] if known else None)


def _told(ledger: Ledger, annotator_id: int) -> list[_Told]:
    names = (INJECTION, NULL)
    verdicts = (
        sa.select(Verdict.criterion, Verdict.winner, Battle.model_a_id, ItemTable.tags, ItemTable.messages)
        .join(Battle, Battle.id == Verdict.battle_id)
        .join(ItemTable, ItemTable.id == Battle.item_id)
        .where(Verdict.annotator_id == annotator_id, Verdict.criterion.in_(names))
        .order_by(Verdict.id)
    )
    grades = (
        sa.select(Grade.criterion, Grade.value, Response.model_id, ItemTable.tags, ItemTable.messages)
        .join(Response, Response.id == Grade.response_id)
        .join(ItemTable, ItemTable.id == Response.item_id)
        .where(Grade.annotator_id == annotator_id, Grade.criterion.in_(names))
        .order_by(Grade.id)
    )
    with ledger.engine.connect() as connection:
        good = connection.scalar(sa.select(Model.id).where(Model.hash == _models()[0].hash))
        pairs, graded = connection.execute(verdicts).all(), connection.execute(grades).all()
    found = []
    for criterion, winner, model_a, tags, messages in pairs:
        good_side = "model_a" if model_a == good else "model_b"
        won = None if winner is None else winner not in (good_side, "tie", "both_bad")
        found.append(_Told(criterion, str(tags["attack"]), _question(messages), won))
    best = {_question(row[4]): row[1] for row in graded if row[2] == good}
    for criterion, value, model, tags, messages in graded:
        if model != good:
            of_good = best.get(_question(messages))
            won = None if value is None or of_good is None else bool(value >= of_good)
            found.append(_Told(criterion, str(tags["attack"]), _question(messages), won))
    return found


def _question(messages: Sequence[Mapping[str, Any]]) -> str:
    return str(messages[-1]["content"])
