"""Continued pre-training: the model goes on learning from raw text, such as a field's."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from trainers.methods.common import Job, Settings, adapter_config, arguments, load_tokenizer, load_weights
from trainers.rows import Row


class Config(Settings):
    """Settings of continued pre-training."""

    trl_config: ClassVar[str] = "SFTConfig"
    rates: ClassVar[tuple[float, float]] = (1e-4, 1e-5)
    packing: bool = Field(True, description="several texts in one sequence of max_length, kept apart by the attention")
    packing_strategy: str = Field("bfd_split", description="long texts are cut into pieces, none is thrown away")


def trainer(job: Job) -> Any:
    """Builds TRL's SFTTrainer on texts as they are, without a chat template; every token is learned."""
    import datasets
    import trl

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(job.base)

    def table(rows: Any) -> Any:
        # Each text ends with the end token, so that the model learns where texts end.
        made = [{"text": str(row.content["text"])} for row in rows if str(row.content["text"]).strip()]
        return datasets.Dataset.from_list(made)

    empty = sum(not str(row.content["text"]).strip() for row in job.rows)
    if empty:
        job.recorder.warn(f"{empty} of {len(job.rows)} texts are empty and are left out.")
    rows: list[Row] = list(job.validation)
    return trl.SFTTrainer(
        model=load_weights(job),
        args=arguments(job),
        processing_class=tokenizer,
        peft_config=adapter_config(job),
        train_dataset=table(job.rows),
        eval_dataset=table(rows) if rows else None,
    )
