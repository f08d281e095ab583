"""The part of a retrain plan that says what a new model must prove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from evalkit.plan import Part

Share = Annotated[float, Field(ge=0, lt=1)]


class RegressionPlan(Part):
    """Datasets that are tested together, as one capability: small ones prove nothing by themselves."""

    name: str = Field(description="what the evidence calls it")
    tasks: tuple[str, ...] = Field(min_length=1, description="datasets of the run")
    margin: Share | None = Field(None, description="instead of the gate's")


class GatePlan(Part):
    """What the new model must prove."""

    margin: Share = Field(0.03, description="nothing else may fall by more than this share")
    regression: tuple[RegressionPlan, ...] = Field(
        (), description="datasets that guard the rest, by capability; by default every dataset of the run by itself"
    )
    controls: Path | None = Field(
        None, description="prompts that ask for no special form; by default the run's own prompts"
    )
    safety_margin: Share | None = Field(None, description="for harmful prompts; by default the margin")
    leak_margin: Share = Field(0.1, description="for controls answered in the form that was trained")
    length_margin: float = Field(0.5, gt=0, description="answers to controls may get longer by this share")
    battles: bool = Field(False, description="the run's judges compare parent and child as well")
    battle_margin: Share = Field(0.1, description="for battles: share of wins less share of losses")
    by_hand: bool = Field(False, description="the evidence is gathered, and a person decides in the dashboard")

    @field_validator("regression", mode="before")
    @classmethod
    def _short_groups(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": one, "tasks": [one]} if isinstance(one, str) else one for one in value]
