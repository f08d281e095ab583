"""The loop's plan: what is asked in every round, and how its slices are retrained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from evalkit.plan import ArenaPlan, BenchmarkPlan, ModelPlan, Part, Positive
from evalkit.yaml_file import read_yaml
from trainers.plan import RetrainSettings


class SliceSearchPlan(Part):
    """Which slices a round may choose from."""

    min_support: Positive = Field(20, description="items of a slice, both halves together")
    q_value: float = Field(0.05, gt=0, lt=1, description="false discoveries among them, at most this share")
    include: tuple[str, ...] = Field((), description="only slices of these datasets; by default of all")


class LoopPlan(Part):
    """Rounds of: evaluate, find slices, choose, build, train, gate; the best model goes into the next."""

    name: str = Field("", description="what its runs and models are called; by default the file's name")
    store: str = Field("evalkit.db", description="ledger: a file, or a database URL")
    seed: int = Field(0, description="of every draw")
    model: ModelPlan = Field(description="where it starts: embedded/NAME or hf/HUB_ID_OR_FOLDER")
    benchmarks: tuple[BenchmarkPlan, ...] = Field(min_length=1, description="tasks; a name alone is enough")
    task_folders: tuple[Path, ...] = Field((), description="folders with your own lm-eval task files")
    arena: ArenaPlan = Field(default_factory=ArenaPlan, description="own prompts, as in a plan: the gate's controls")
    slices: SliceSearchPlan = Field(default_factory=SliceSearchPlan, description="what a round may choose from")
    retrain: RetrainSettings = Field(description="recipe, method, settings and gate of every round")
    rounds: Positive = Field(3, description="at most")
    patience: Positive = Field(2, description="rounds in a row that gain less than min_gain, then it stops")
    min_gain: float = Field(0.01, ge=0, lt=1, description="of the mean score over the benchmarks")
    remedy: float | None = Field(
        0.5, gt=0, lt=1, description="after a refusal because something fell: the new model's weight in a merge"
    )
    minutes: float | None = Field(None, gt=0, description="no round is begun after so long")
    report: Path | None = Field(None, description="report of the rounds, Markdown")

    @field_validator("model", mode="before")
    @classmethod
    def _short_model(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _short_tasks(cls, value: Any) -> Any:
        return [{"task": v} if isinstance(v, str) else v for v in value] if isinstance(value, list) else value


def load_loop_plan(path: Path) -> LoopPlan:
    """Reads and checks a loop's plan.

    Raises:
        UserError: The file cannot be read, is not YAML, or a field is unknown or wrong; names file, line and field.
    """
    plan = read_yaml(path, LoopPlan, "the loop's plan", empty="it is a mapping with model, benchmarks and retrain")
    return plan if plan.name else plan.model_copy(update={"name": path.stem})
