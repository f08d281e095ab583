"""Online RL (GRPO and RLOO): the model answers while it trains, and answers better than their siblings become likelier.

GRPO: Shao et al. 2024, "DeepSeekMath". RLOO: Ahmadian et al. 2024, "Back to Basics". PPO is not in TRL 1.x any more;
both do without its value model. The reward of an answer is the sum of: its row's verifier, a reward model, and what the
caller passes in (a judge).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from evalkit.errors import UserError
from evalkit.plan import Positive
from evalkit.verify import verify
from trainers.methods.common import (
    Job,
    Messages,
    Reward,
    Settings,
    adapter_config,
    arguments,
    load_tokenizer,
    load_weights,
)
from trainers.methods.data import encode, plain, train_and_validation
from trainers.rows import Row


class Config(Settings):
    """Settings of GRPO and RLOO."""

    trl_config: ClassVar[str] = "GRPOConfig"
    rates: ClassVar[tuple[float, float]] = (2e-5, 1e-6)
    num_generations: int = Field(8, ge=2, description="answers to one prompt, compared with each other")
    max_completion_length: Positive = Field(256, description="tokens of an answer at most")
    temperature: float = Field(1.0, gt=0, description="of the answers: without difference there is nothing to learn")
    beta: float = Field(0.02, ge=0, description="how close to the reference model it stays")
    reward_model: str | None = Field(None, description="folder of a reward model")

    @model_validator(mode="after")
    def _whole_groups(self) -> Config:
        rows = self.per_device_train_batch_size * self.gradient_accumulation_steps
        for name, size in (
            ("per_device_train_batch_size times gradient_accumulation_steps", rows),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
        ):
            if size % self.num_generations:
                raise ValueError(
                    f"{name} is {size} and must be a multiple of num_generations={self.num_generations}: a step takes "
                    "whole groups of answers"
                )
        return self


class ConfigRLOO(Config):
    """Settings of RLOO."""

    trl_config: ClassVar[str] = "RLOOConfig"


def trainer(job: Job) -> Any:
    """Builds TRL's GRPOTrainer or RLOOTrainer."""
    import trl

    settings = job.settings
    assert isinstance(settings, Config)
    tokenizer = load_tokenizer(job.base)
    tokenizer.padding_side = "left"
    if not tokenizer.chat_template:
        raise UserError(f"{job.base}: online RL needs a model with a chat template")
    verified = _check_specs(job)
    rewards: list[Any] = [_verifier] if verified else []
    if settings.reward_model:
        rewards.append(_of_model(Path(settings.reward_model)))
    rewards += [_of_callable(place, reward) for place, reward in enumerate(job.rewards)]
    if not rewards:
        raise UserError(
            f"method {job.method}: nothing gives rewards: the rows need a verifier (verify), or the settings a "
            "reward_model, or a judge must be passed in"
        )

    def make(row: Row) -> dict[str, Any]:
        # As text: a table's column has one form, specs have many.
        return {"prompt": plain(row.content["prompt"]), "spec": json.dumps(row.content.get("verify"))}

    def length(columns: dict[str, Any]) -> int:
        return len(encode(tokenizer, columns["prompt"], answer_follows=True))

    kind = trl.RLOOTrainer if job.method == "rloo" else trl.GRPOTrainer
    return kind(
        model=load_weights(job),
        reward_funcs=rewards,
        args=arguments(job, best="eval_reward", higher=True),
        processing_class=tokenizer,
        peft_config=adapter_config(job),
        **train_and_validation(job, make, length),
    )


def _check_specs(job: Job) -> bool:
    """Checks the rows' verifiers before any answer is drawn; returns whether there are any.

    Raises:
        UserError: A spec is malformed, or cannot be verified here.
    """
    specs = [row.content.get("verify") for row in [*job.rows, *job.validation]]
    for spec in specs:
        if spec is not None:
            check = verify(spec, "-")
            if check.passed is None:
                raise UserError(f"method {job.method}: a row's verifier gives no reward here: {check.reason}")
    return any(spec is not None for spec in specs)


def _texts(completions: list[Any]) -> list[str]:
    return [str(completion[-1]["content"]) for completion in completions]


def _verifier(completions: list[Any], spec: list[str], **_: Any) -> list[float | None]:
    """Rewards by each row's own verifier; None where it has none or could not verify: TRL leaves that answer out."""
    found: list[float | None] = []
    for text, one in zip(_texts(completions), spec, strict=True):
        read = json.loads(one)
        found.append(None if read is None else verify(read, text).score)
    return found


def _of_model(folder: Path) -> Any:
    from trainers.methods.reward import RewardModel

    model = RewardModel(folder)

    def reward_model(prompts: list[Messages], completions: list[Any], **_: Any) -> list[float]:
        return model.score(prompts, _texts(completions))

    return reward_model


def _of_callable(place: int, reward: Reward) -> Any:
    def passed_in(prompts: list[Messages], completions: list[Any], **_: Any) -> list[float | None]:
        return list(reward(prompts, _texts(completions)))

    passed_in.__name__ = f"reward_{place + 1}"  # TRL's name of its curve
    return passed_in
