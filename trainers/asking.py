"""Answers for training sets: asked through the engine, so that the ledger keeps them and none is paid for twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.engine import Engine, Job
from evalkit.models.base import ChatModel, Request, Sampling
from evalkit.store import Item
from evalkit.store.arena import TRAINING_PROMPTS
from evalkit.verify import Check, verify
from trainers.rows import whole


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked to make a row.

    Attributes:
        messages: Up to the model's turn.
        verify: The check that its answer must pass; None if it has none.
        item_id: The item that it is, or was made from; None for a new prompt.
        stored: Whether it is that item word for word.
        told: Provenance for its row.
    """

    messages: tuple[Mapping[str, Any], ...]
    verify: Mapping[str, Any] | None = None
    item_id: int | None = None
    stored: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drawn:
    """An answer.

    Attributes:
        text: Cut back to whole sentences where the limit of tokens cut it off.
        check: What the prompt's check says of it; None if it has none.
        cut: Whether the limit of tokens cut it off.
    """

    response_id: int
    text: str
    check: Check | None
    cut: bool = False

    @property
    def passed(self) -> bool | None:
        """What the check says; None where there is none, or where it cannot say."""
        return self.check.passed if self.check else None


class Asker:
    """Asks one model.

    Args:
        engine: Of a run; its ledger keeps the answers.
        model: Who answers.
        max_tokens: Of an answer.
        seed: Of draws.
    """

    def __init__(self, engine: Engine, model: ChatModel, *, max_tokens: int, seed: int) -> None:
        self.engine, self.model = engine, model
        self.max_tokens, self.seed = max_tokens, seed
        [self.model_id] = engine.ledger.add_models([model.settings])
        self.failed = 0
        """Requests that got no answer."""

    @property
    def name(self) -> str:
        """The model's, for provenance."""
        return self.model.settings.label or self.model.settings.name

    def ask(
        self, prompts: Sequence[Prompt], label: str, *, samples: int = 1, temperature: float = 0.0
    ) -> list[list[Drawn]]:
        """Gets answers to prompts.

        Args:
            prompts: Items, and new ones, which the ledger gets as items of the dataset of training prompts.
            label: Of the progress bar.
            samples: Answers to each prompt.
            temperature: 0 is greedy.

        Returns:
            For each prompt its answers; failed requests and answers without a whole sentence are left out.
        """
        if not prompts:
            return []
        sampling = Sampling(temperature=temperature, max_tokens=self.max_tokens, seed=self.seed)
        new = [
            Item(p.messages, None if p.verify is None else {"verify": dict(p.verify)}) for p in prompts if not p.stored
        ]
        dataset_id, ids = self.engine.ledger.add_dataset(TRAINING_PROMPTS, new, "made for training sets")
        of_new = iter(ids)
        jobs = []
        for prompt in prompts:
            item_id = prompt.item_id if prompt.stored and prompt.item_id is not None else next(of_new)
            for sample in range(samples):
                jobs.append(
                    Job(self.model_id, item_id, dataset_id, Request(prompt.messages, sampling=sampling, sample=sample))
                )
        outcomes = iter(self.engine.run(self.model, jobs, label=label))
        found: list[list[Drawn]] = []
        for prompt in prompts:
            answers = []
            for _ in range(samples):
                outcome = next(outcomes)
                if outcome.reply is None or outcome.response_id is None:
                    self.failed += 1
                    continue
                cut = outcome.reply.finish_reason == "length"
                answers.append(drawn(prompt, outcome.response_id, outcome.reply.text, cut))
            found.append([answer for answer in answers if answer is not None])
        return found


def drawn(prompt: Prompt, response_id: int, text: str, cut: bool) -> Drawn | None:
    """Returns an answer, checked as it stands; cut back to whole sentences where it has no check. None if nothing is
    left of it."""
    if prompt.verify is not None:
        return Drawn(response_id, text.strip(), verify(prompt.verify, text), cut) if text.strip() else None
    kept = whole(text, cut=cut)
    return Drawn(response_id, kept, None, cut) if kept else None
