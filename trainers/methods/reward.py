"""Reward model: learns from pairs to give a number to an answer; used to choose, to filter and to train with.

Bradley-Terry: the loss of a pair is -log sigmoid(reward of the chosen answer - reward of the rejected one). Only
differences between answers to one prompt mean something; the scale has no zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from evalkit.errors import UserError
from trainers.methods.common import Job, Settings, adapter_config, arguments, load_tokenizer, load_weights
from trainers.methods.data import encode, plain, train_and_validation
from trainers.rows import Row, assistant

HEAD = "ForSequenceClassification"


class Config(Settings):
    """Settings of a reward model."""

    trl_config: ClassVar[str] = "RewardConfig"
    rates: ClassVar[tuple[float, float]] = (1e-4, 1e-5)
    center_rewards_coefficient: float | None = Field(None, ge=0, description="pulls rewards towards a mean of zero")


def trainer(job: Job) -> Any:
    """Builds TRL's RewardTrainer on tokens of our own."""
    import trl

    tokenizer = load_tokenizer(job.base)

    def make(row: Row) -> dict[str, Any]:
        prompt = plain(row.content["prompt"])
        return {f"{s}_ids": encode(tokenizer, [*prompt, *plain(row.content[s])]) for s in ("chosen", "rejected")}

    model = load_weights(job, classifier=True)
    model.config.pad_token_id = tokenizer.pad_token_id  # by which it finds a row's last token
    return trl.RewardTrainer(
        model=model,
        args=arguments(job),
        processing_class=tokenizer,
        peft_config=adapter_config(job, classifier=True),
        **train_and_validation(job, make, lambda columns: max(map(len, columns.values()))),
    )


class RewardModel:
    """A reward model that is loaded once and asked often.

    Args:
        folder: Result of the method `reward`, or another sequence classifier with one output.
        batch_size: Answers computed at once.

    Raises:
        UserError: The folder holds no such model.

    Example:
        >>> RewardModel(Path("runs/rm")).score([[{"role": "user", "content": "Hi"}]], ["Hello!"])
        [0.83]
    """

    def __init__(self, folder: Path, *, batch_size: int = 16) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        file = folder / "config.json"
        kinds = json.loads(file.read_text()).get("architectures") or [] if file.exists() else []
        if not any(str(kind).endswith(HEAD) for kind in kinds):
            raise UserError(f"{folder}: this is no reward model (a {HEAD[3:]} model with one output)", code=2)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                str(folder), use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{folder}: transformers cannot load this as a reward model: {reason}") from error
        if model.config.num_labels != 1:
            raise UserError(f"{folder}: a reward model gives one number, this one gives {model.config.num_labels}")
        self._tokenizer = load_tokenizer(folder)
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self._batch = batch_size

    def score(self, prompts: Sequence[Sequence[Mapping[str, Any]]], answers: Sequence[str]) -> list[float]:
        """Scores answers.

        Args:
            prompts: Conversations, one for each answer.
            answers: Texts.

        Returns:
            A reward for each, in the order given; a higher one is a better answer to its prompt.
        """
        import torch

        texts = [
            encode(self._tokenizer, [*plain(prompt), *plain(assistant(answer))])
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        # Alike lengths together, so that little is padding.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        rewards = [0.0] * len(texts)
        for start in range(0, len(order), self._batch):
            places = order[start : start + self._batch]
            padded = self._tokenizer.pad(
                {"input_ids": [texts[place] for place in places]}, padding_side="right", return_tensors="pt"
            ).to(self._model.device)
            with torch.inference_mode():
                logits = self._model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits
            for place, reward in zip(places, logits[:, 0].float().tolist(), strict=True):
                rewards[place] = reward
        return rewards


def score(folder: Path, prompts: Sequence[Sequence[Mapping[str, Any]]], answers: Sequence[str]) -> list[float]:
    """Scores answers with a reward model that is loaded for this once (see `RewardModel.score`)."""
    return RewardModel(folder).score(prompts, answers)
