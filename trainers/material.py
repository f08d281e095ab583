"""What the sources of a recipe draw from: the slice's training half, other items that may be used, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from evalkit.engine import Engine
from evalkit.errors import UserError
from evalkit.models.load import load_model
from evalkit.plan import ModelPlan
from evalkit.store import Ledger, training
from evalkit.store.training import FoundSlice, Given, TrainItem
from trainers.asking import Asker
from trainers.plan import RetrainPlan, SourcePlan

if TYPE_CHECKING:
    from evalkit.engine.progress import Progress
    from trainers.sources.made import Made

Grader = Callable[[Sequence[int]], Mapping[int, float]]
"""From the ids of stored answers to grades, 0 to 1; an answer that got none is left out."""


class Material:
    """A slice and what there is to make rows of.

    Args:
        ledger: With the slice.
        plan: Says what is made.
        engine: Of the run that answers are filed under.
        progress: Who is told.
        grader: Grades answers where the recipe has a judge.

    Raises:
        UserError: There is no such slice, or it has no item of the training half.
    """

    def __init__(
        self, ledger: Ledger, plan: RetrainPlan, engine: Engine, progress: Progress | None, grader: Grader | None
    ) -> None:
        self.ledger, self.plan, self.engine, self.progress, self.grader = ledger, plan, engine, progress, grader
        self.seed = plan.seed
        self.slice: FoundSlice = training.find_slice(ledger, plan.slice)
        self.items: list[TrainItem] = training.train_items(ledger, self.slice.id)
        if not self.items:
            raise UserError(
                f"slice: {self.slice.name!r} has no item of the training half, so there is nothing to train on; "
                "find slices again: evalkit slices",
                code=2,
            )
        self.avoid = training.held_out_values(ledger, self.slice.id)
        self.said: list[str] = []
        """Sentences for the data card."""
        self.made: dict[str, list[Made]] = {}
        """New prompts that one source has made and another takes up, by what was asked for."""
        self._askers: dict[str, Asker] = {}

    def say(self, sentence: str) -> None:
        """Tells a sentence once, and keeps it for the data card."""
        if sentence not in self.said:
            self.said.append(sentence)
            if self.progress:
                self.progress.say(sentence)

    def asker(self, plan: ModelPlan) -> Asker:
        """Returns who asks a model; one for each model, so that its weights are loaded once."""
        key = plan.model_dump_json()
        if key not in self._askers:
            recipe = self.plan.recipe
            self._askers[key] = Asker(self.engine, load_model(plan), max_tokens=recipe.max_tokens, seed=self.seed)
        return self._askers[key]

    @property
    def base(self) -> Asker:
        """The model that is to be trained."""
        return self.asker(self.plan.base)

    def answerer(self, source: SourcePlan) -> Asker:
        """The model that answers for a source: its own, else the one to be trained."""
        return self.asker(source.model) if source.model is not None else self.base

    def release(self) -> None:
        """Frees the models."""
        for asker in self._askers.values():
            self.engine.release(asker.model)
        self._askers.clear()

    @cached_property
    def given(self) -> list[Given]:
        """Stored answers to the slice's items, with their grades on the slice's metric."""
        return training.given_answers(self.ledger, [item.id for item in self.items], self.slice.metric)

    @cached_property
    def others(self) -> list[TrainItem]:
        """Items of the training half of the same run that are not of the slice; they are given halves first."""
        from evalkit.slices.halves import assign_halves

        ids = training.evaluated_items(self.ledger, self.slice.run_id)
        assign_halves(self.ledger, ids, seed=self.seed)
        return training.other_items(self.ledger, ids, self.slice.id)
