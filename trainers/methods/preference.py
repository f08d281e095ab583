"""Preference optimisation (DPO and IPO): the chosen answer becomes likelier, the rejected one less so.

DPO: Rafailov et al. 2023, "Direct Preference Optimization". IPO: Azar et al. 2023, "A General Theoretical Paradigm to
Understand Learning from Human Preferences"; its loss is a square, so that sure pairs are not pushed without end.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from trainers.methods.common import Job, Settings, adapter_config, arguments, load_tokenizer, load_weights
from trainers.methods.data import answer_pair, encode, plain, train_and_validation
from trainers.rows import Row


class Config(Settings):
    """Settings of DPO and IPO."""

    trl_config: ClassVar[str] = "DPOConfig"
    rates: ClassVar[tuple[float, float]] = (2e-5, 1e-6)
    beta: float = Field(
        0.1, gt=0, description="how close to the reference model it stays; for IPO the tau of the paper"
    )


def trainer(job: Job) -> Any:
    """Builds TRL's DPOTrainer; the reference is the base: the model without its adapter, or a copy."""
    import trl

    tokenizer = load_tokenizer(job.base)

    def make(row: Row) -> dict[str, Any]:
        prompt = plain(row.content["prompt"])
        answers = {side: plain(row.content[side]) for side in ("chosen", "rejected")}
        tokens = max(len(encode(tokenizer, [*prompt, *answer])) for answer in answers.values())
        return {**answer_pair(tokenizer, prompt, answers), "_tokens": tokens}

    return trl.DPOTrainer(
        model=load_weights(job),
        ref_model=load_weights(job).eval() if job.adapter == "full" else None,
        args=arguments(job, loss_type=["ipo" if job.method == "ipo" else "sigmoid"]),
        processing_class=tokenizer,
        peft_config=adapter_config(job),
        **train_and_validation(job, make, lambda columns: int(columns.pop("_tokens"))),
    )
