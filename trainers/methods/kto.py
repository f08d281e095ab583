"""Preference optimisation without pairs (KTO): answers that are good or bad by themselves.

Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization".
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from trainers.methods.common import Job, Settings, adapter_config, arguments, load_tokenizer, load_weights
from trainers.methods.data import answer_pair, encode, plain, train_and_validation
from trainers.rows import Row


class Config(Settings):
    """Settings of KTO."""

    trl_config: ClassVar[str] = "KTOConfig"
    rates: ClassVar[tuple[float, float]] = (2e-5, 1e-6)
    per_device_train_batch_size: int = Field(
        8, ge=2, description="rows at once; 2 at least: others' answers set the bar"
    )
    beta: float = Field(0.1, gt=0, description="how close to the reference model it stays")
    desirable_weight: float | None = Field(
        None, gt=0, description="of good rows; by default good and bad weigh the same"
    )
    undesirable_weight: float | None = Field(None, gt=0, description="of bad rows; by default 1")


def trainer(job: Job) -> Any:
    """Builds TRL's KTOTrainer."""
    import trl

    settings = job.settings
    assert isinstance(settings, Config)
    tokenizer = load_tokenizer(job.base)

    def make(row: Row) -> dict[str, Any]:
        prompt, completion = plain(row.content["prompt"]), plain(row.content["completion"])
        tokens = len(encode(tokenizer, [*prompt, *completion]))
        columns = answer_pair(tokenizer, prompt, {"completion": completion})
        return {**columns, "label": bool(row.content["label"]), "_tokens": tokens}

    good = sum(bool(row.content["label"]) for row in job.rows)
    bad = len(job.rows) - good
    balance = settings.desirable_weight or (bad / good if good and bad else 1.0)
    return trl.KTOTrainer(
        model=load_weights(job),
        ref_model=load_weights(job).eval() if job.adapter == "full" else None,
        args=arguments(job, desirable_weight=balance, undesirable_weight=settings.undesirable_weight or 1.0),
        processing_class=tokenizer,
        peft_config=adapter_config(job),
        **train_and_validation(job, make, lambda columns: int(columns.pop("_tokens"))),
    )
