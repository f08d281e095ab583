"""What all methods share: settings, a job's parts, weights, and the arguments of TRL's trainers."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalkit.errors import UserError
from evalkit.plan import Positive
from trainers.checkpoint import work_folder
from trainers.recorder import Recorder
from trainers.rows import Row

Adapter = Literal["lora", "qlora", "full"]
Messages = list[dict[str, Any]]
Reward = Callable[[list[Messages], list[str]], "list[float | None]"]
"""Prompts and answers to rewards; None where an answer could not be judged, which then teaches nothing."""

# What we decide ourselves, or what would send or run something.
OURS = {
    *("output_dir", "seed", "use_cpu", "disable_tqdm", "trust_remote_code", "resume_from_checkpoint", "do_train"),
    *("save_strategy", "eval_strategy", "logging_strategy", "save_total_limit", "load_best_model_at_end"),
    *("metric_for_best_model", "greater_is_better", "save_only_model", "logging_nan_inf_filter", "push_to_hub"),
    *("model_init_kwargs", "dataset_kwargs", "chat_template_path", "do_eval", "do_predict", "truncation_mode"),
    *("remove_unused_columns", "data_seed", "completion_only_loss"),
}
PARTS_OF_A_RUN = 5


class Settings(BaseModel):
    """Settings of a training, by TRL's names; those of TRL's that do not stand here are taken too, at TRL's defaults.

    `lora_` settings are those of PEFT's LoraConfig.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    trl_config: ClassVar[str] = ""
    rates: ClassVar[tuple[float, float]] = (2e-4, 2e-5)  # with an adapter, of all weights

    learning_rate: float | None = Field(None, gt=0, description="highest rate; by default by method and adapter")
    num_train_epochs: float = Field(1.0, gt=0, description="passes over the rows")
    max_steps: int = Field(-1, ge=-1, description="steps of the optimizer; -1 leaves it to the epochs")
    per_device_train_batch_size: Positive = Field(8, description="rows computed at once")
    per_device_eval_batch_size: Positive = Field(8, description="rows computed at once in evaluation")
    gradient_accumulation_steps: Positive = Field(1, description="batches for one step")
    max_length: Positive = Field(1024, description="tokens of a row; longer rows are left out and counted")
    lr_scheduler_type: str = Field("cosine", description="how the rate falls")
    warmup_steps: float = Field(0.05, ge=0, description="steps while the rate rises; below 1 a share of all steps")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay")
    max_grad_norm: float = Field(1.0, gt=0, description="a longer gradient is cut to this length")
    logging_steps: Positive = Field(1, description="steps between points of the curves")
    eval_steps: float = Field(
        1 / PARTS_OF_A_RUN, gt=0, description="steps between evaluations and checkpoints; below 1 a share of all"
    )
    early_stopping_patience: Positive | None = Field(
        None, description="evaluations without a better score until it stops"
    )
    bf16: bool | None = Field(None, description="bfloat16 autocast; by default where the machine has it")
    gradient_checkpointing: bool = Field(False, description="less memory for a fifth more time")
    full_determinism: bool = Field(False, description="bit-equal on a GPU too, slower; a CPU always is")
    report_to: tuple[str, ...] = Field((), description="tensorboard, trackio: get the curves too")
    lora_r: Positive = Field(16, description="rank of the adapter")
    lora_alpha: Positive = Field(32, description="scale of the adapter, over its rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapter")
    lora_target_modules: str | tuple[str, ...] = Field("all-linear", description="layers that get an adapter")

    def rate(self, adapter: Adapter) -> float:
        """Returns the learning rate."""
        return self.learning_rate if self.learning_rate is not None else self.rates[adapter == "full"]

    @property
    def more(self) -> dict[str, Any]:
        """Settings that are TRL's alone."""
        return dict(self.model_extra or {})


def read_settings(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Checks a plan's settings.

    Raises:
        UserError: A name is unknown or not the user's to set, or a value is wrong; names what is close.
    """
    try:
        settings = kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        told = ": ".join([*map(str, first["loc"]), said[:1].lower() + said[1:]])
        raise UserError(f"settings: {told}", code=2) from error
    for name in settings.more:
        if name in OURS:
            raise UserError(f"settings: {name} is set by evalkit itself and cannot be changed", code=2)
    return settings


class LossBroke(UserError):
    """The loss became no number: these settings cannot be trained with."""


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        folder: Model that transformers, vLLM and lm-eval load as it is; the adapter is in `folder/adapter`.
        steps: Of the optimizer.
        losses: (step, training loss).
        seconds: Trained, in all pieces.
        stopped: done, minutes (the budget was over) or early_stop.
        metrics: The last value of each metric of the validation rows, at the weights that were kept.
        warnings: Sentences on jumps of the loss, overfitting, rows left out.
    """

    folder: Path
    steps: int
    losses: tuple[tuple[int, float], ...]
    seconds: float
    stopped: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A training as its method gets it.

    Attributes:
        rewards: For online RL, beside the rows' own verifiers.
        work: Folder of checkpoints.
    """

    method: str
    rows: Sequence[Row]
    validation: Sequence[Row]
    base: Path
    out: Path
    settings: Settings
    adapter: Adapter
    seed: int
    minutes: float | None
    recorder: Recorder
    rewards: tuple[Reward, ...] = ()

    @property
    def work(self) -> Path:
        return work_folder(self.out)


def load_tokenizer(base: Path) -> Any:
    """Loads a base model's tokenizer, with a padding token.

    Raises:
        UserError: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(base), trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception for a broken file
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{base}: transformers cannot load its tokenizer: {reason}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_weights(job: Job, *, classifier: bool = False) -> Any:
    """Loads the weights that are trained: in float32, or in 4 bits for QLoRA.

    Args:
        classifier: With a head that gives one number, for a reward model.

    Raises:
        UserError: transformers cannot load them, or QLoRA's package is missing.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, set_seed
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    set_seed(job.seed)  # a new head is drawn at random
    kind: Any = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    more: dict[str, Any] = {"num_labels": 1} if classifier else {}
    dtype = torch.float32
    if job.adapter == "qlora":
        more |= _four_bits()
        dtype = torch.bfloat16
    elif job.adapter == "lora" and torch.cuda.is_available() and autocasts(job.settings):
        dtype = torch.bfloat16  # frozen weights need no more; the adapter itself stays in float32
    try:
        return kind.from_pretrained(str(job.base), dtype=dtype, use_safetensors=True, trust_remote_code=False, **more)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{job.base}: transformers cannot load this as a model to train: {reason}") from error


def _four_bits() -> dict[str, Any]:
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "adapter: qlora needs bitsandbytes, which is not installed; type: pip install bitsandbytes, or take lora"
        )
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": 0 if torch.cuda.is_available() else "cpu"}}


def adapter_config(job: Job, *, classifier: bool = False) -> Any:
    """Returns PEFT's config of the adapter; None for training all weights."""
    if job.adapter == "full":
        return None
    from peft import LoraConfig

    settings = job.settings
    target = settings.lora_target_modules
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=target if isinstance(target, str) else list(target),
        task_type="SEQ_CLS" if classifier else "CAUSAL_LM",
        modules_to_save=["score"] if classifier else None,  # the new head is trained as a whole
    )


@functools.cache
def _machine_has_bf16() -> bool:
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    from evalkit.models.local import auto_dtype

    return auto_dtype() == "bfloat16"


def autocasts(settings: Settings) -> bool:
    """Whether the training computes in bfloat16 (weights and optimizer stay in float32)."""
    if settings.more.get("fp16"):
        return False
    return settings.bf16 if settings.bf16 is not None else _machine_has_bf16()


def arguments(job: Job, *, best: str = "eval_loss", higher: bool = False, **more: Any) -> Any:
    """Builds the config of the method's TRL trainer.

    Args:
        best: Metric of the validation rows by which the best checkpoint is chosen.
        higher: Whether more of it is better.
        **more: The method's own arguments; the user's settings win over them.

    Raises:
        UserError: A setting is not one of TRL's, or TRL refuses a value.
    """
    import torch
    import trl

    settings = job.settings
    kind = getattr(trl, settings.trl_config)
    names = {entry.name for entry in dataclasses.fields(kind)}
    for name in settings.more:
        if name not in names:
            close = difflib.get_close_matches(name, sorted((names | set(type(settings).model_fields)) - OURS), 3)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise UserError(f"settings: {name} is neither ours nor one of TRL's {settings.trl_config}{hint}", code=2)
    given = {name: getattr(settings, name) for name in type(settings).model_fields if name in names}
    given |= {"learning_rate": settings.rate(job.adapter), "bf16": autocasts(settings)}
    validated = bool(job.validation)
    given |= {
        "output_dir": str(job.work),
        "seed": job.seed,
        "use_cpu": not torch.accelerator.is_available(),
        "ddp_backend": "gloo" if "WORLD_SIZE" in os.environ and not torch.accelerator.is_available() else None,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": settings.eval_steps,
        # Beside the newest, which is not sealed yet, there is always another: the best or the one before.
        "save_total_limit": 2,
        "eval_strategy": "steps" if validated else "no",
        "eval_steps": settings.eval_steps if validated else None,
        "load_best_model_at_end": validated,
        "metric_for_best_model": best if validated else None,
        "greater_is_better": higher if validated else None,
        # A loss that is no number is told, not replaced by the mean of the others.
        "logging_nan_inf_filter": False,
    }
    try:
        return kind(**{**given, **more, **settings.more})
    except (ValueError, TypeError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"settings: TRL's {settings.trl_config} refuses them: {reason}", code=2) from error
