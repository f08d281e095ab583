"""Battles and single answers with their texts, as judges get them: blind, without the models' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from evalkit.models.base import sha256
from evalkit.store import BattleRow, Ledger, arena
from judges.material import Material, reference_turns

Order = Literal["ab", "ba"]


@dataclass(frozen=True, slots=True)
class Fight:
    """A battle's prompt and answers.

    Attributes:
        turns: The user's turns, up to the judged one.
        reference: The item's, with its verifier spec if it has one.
        category: The item's tag `category`.
        a, b: What each model answered to each turn.
        key: What draws go by: equal for the same item, turn and models in every ledger.
    """

    battle_id: int
    item_id: int
    turns: tuple[str, ...]
    reference: Any
    category: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    key: str = ""

    @property
    def draw_key(self) -> str:
        """The key, or without one the id."""
        return self.key or str(self.battle_id)

    def material(self, order: Order) -> Material:
        """Returns what a judge is shown; order `ba` shows model_b's answer first."""
        answers = (self.a, self.b) if order == "ab" else (self.b, self.a)
        return Material(self.turns, answers, _references(self), self.category, checklist_of(self.reference))


@dataclass(frozen=True, slots=True)
class Case:
    """One answer to be graded; attributes as those of a `Fight`."""

    response_id: int
    item_id: int
    turns: tuple[str, ...]
    reference: Any
    category: str
    answer: tuple[str, ...]
    key: str = ""

    @property
    def draw_key(self) -> str:
        """The key, or without one the id."""
        return self.key or str(self.response_id)

    def material(self, checklist: Sequence[str] = ()) -> Material:
        """Returns what a judge is shown; by default with the item's own checklist, if it has one."""
        questions = tuple(checklist) or checklist_of(self.reference)
        return Material(self.turns, (self.answer,), _references(self), self.category, questions)


_Shown = TypeVar("_Shown", Fight, Case)


def checklist_of(reference: Any) -> tuple[str, ...]:
    """Returns the yes/no questions that an item brings along; none if it has none."""
    questions = reference.get("checklist") if isinstance(reference, Mapping) else None
    return tuple(map(str, questions)) if isinstance(questions, list) else ()


def _references(shown: Fight | Case) -> tuple[str, ...]:
    return reference_turns(shown.reference)[: len(shown.turns)]


def load_fights(ledger: Ledger, battles: Mapping[int, BattleRow]) -> list[Fight]:
    """Reads the texts of battles.

    Args:
        ledger: Where they are.
        battles: By id.

    Returns:
        Fights in the order given; a battle without both answers (a vote that was imported without texts, or a failed
        request) is left out.
    """
    sides = [side for b in battles.values() for side in (b.response_a_id, b.response_b_id) if side is not None]
    said = arena.conversations(ledger, sides)
    items = arena.items(ledger, [b.item_id for b in battles.values()])
    models = arena.model_hashes(ledger)
    fights = []
    for battle_id, battle in battles.items():
        a, b = said.get(battle.response_a_id or 0), said.get(battle.response_b_id or 0)
        if a is None or b is None:
            continue
        item = items[battle.item_id]
        key = sha256([item.hash, battle.turn, *sorted(models[m] for m in (battle.model_a_id, battle.model_b_id))])
        fights.append(
            Fight(battle_id, battle.item_id, a.turns, item.reference, item.category, a.answers, b.answers, key)
        )
    return fights


def load_cases(ledger: Ledger, response_ids: Sequence[int]) -> list[Case]:
    """Reads single answers, in the order given; failed requests are left out."""
    said = arena.conversations(ledger, response_ids)
    items = arena.items(ledger, [one.item_id for one in said.values()])
    models = arena.model_hashes(ledger)
    cases = []
    for response_id in response_ids:
        one = said.get(response_id)
        if one is None:
            continue
        item = items[one.item_id]
        key = sha256([item.hash, one.turn, models[one.model_id], one.sample])
        cases.append(Case(response_id, one.item_id, one.turns, item.reference, item.category, one.answers, key))
    return cases


def draw(among: Sequence[_Shown], limit: int | None, seed: int) -> list[_Shown]:
    """Draws the battles or answers that a judge is shown, in the order given; all of them without a limit."""
    if limit is None or limit >= len(among):
        return list(among)
    places = sorted(range(len(among)), key=lambda i: drawn(seed, among[i].draw_key))
    return [among[i] for i in sorted(places[:limit])]


def drawn(seed: int, key: str) -> str:
    """Returns the place of a battle or answer in a draw: the first n of any set are a draw of n.

    A larger draw holds the smaller one, and what else is in the set changes nothing, so that nothing bought is lost.
    """
    return sha256([seed, key])
