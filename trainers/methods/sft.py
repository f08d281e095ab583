"""Supervised fine-tuning (SFT): the model learns to give the answers of the rows."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from trainers.methods.common import Job, Settings, adapter_config, arguments, load_tokenizer, load_weights
from trainers.methods.data import encode_turns, plain, train_and_validation
from trainers.rows import Row

FLAT_TOKENS = 1024
"""Up to so many tokens a batch is one sequence without padding, in which the attention keeps rows apart: a third less
work, as measured. For longer ones the attention over the whole costs more than the padding."""


class Config(Settings):
    """Settings of SFT."""

    trl_config: ClassVar[str] = "SFTConfig"
    packing: bool = Field(False, description="several rows in one sequence of max_length, kept apart by the attention")
    assistant_only_loss: bool = Field(False, description="learn the assistant's turns of the prompts too")


def trainer(job: Job) -> Any:
    """Builds TRL's SFTTrainer on tokens and labels of our own, so that any chat template can be masked."""
    import trl

    settings = job.settings
    assert isinstance(settings, Config)
    tokenizer = load_tokenizer(job.base)

    def make(row: Row) -> dict[str, Any]:
        prompt, completion = plain(row.content["prompt"]), plain(row.content["completion"])
        ids, labels = encode_turns(tokenizer, prompt, completion, all_turns=settings.assistant_only_loss)
        return {"input_ids": ids, "labels": labels}

    tables = train_and_validation(job, make, lambda columns: len(columns["input_ids"]))
    lengths = [len(ids) for ids in tables["train_dataset"]["input_ids"]]
    batch = settings.per_device_train_batch_size * sum(lengths) / len(lengths)
    # Rows are within max_length already, which TRL asks to leave out here.
    flat: dict[str, Any] = {} if settings.packing or batch > FLAT_TOKENS else {"padding_free": True, "max_length": None}
    return trl.SFTTrainer(
        model=load_weights(job),
        # The labels are made; TRL's own mask would ask for a template with its marks.
        args=arguments(job, assistant_only_loss=False, **flat),
        processing_class=tokenizer,
        peft_config=adapter_config(job),
        **tables,
    )
