"""A judge's prompt: a versioned YAML file with a template, a parse rule and sampling parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evalkit.errors import UserError
from evalkit.models import Message
from evalkit.plan import SamplingPlan

FOLDER = Path(__file__).parent / "prompts"
Side = Literal["first", "second", "tie", "both_bad"]


class Turn(BaseModel):
    """One message of the template."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str


class JudgePrompt(BaseModel):
    """What a judge is asked, and how its answer is read.

    Attributes:
        pattern: Regular expression; its last match is the verdict, its first group the key into `verdicts`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    criterion: str = "overall"
    sampling: SamplingPlan = Field(default_factory=SamplingPlan)
    messages: list[Turn] = Field(min_length=1)
    pattern: str
    verdicts: dict[str, Side]

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError("the pattern needs exactly one group, which holds the verdict")
        return value

    def render(self, prompt: str, first: str, second: str) -> tuple[Message, ...]:
        """Returns the conversation that asks for a verdict.

        Args:
            prompt: What the contestants were asked.
            first: The answer shown first.
            second: The answer shown second.
        """
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
        values = {"prompt": _fenced(prompt), "first": _fenced(first), "second": _fenced(second)}
        return tuple(
            {"role": turn.role, "content": environment.from_string(turn.content).render(values)}
            for turn in self.messages
        )

    def read(self, text: str) -> Side | None:
        """Returns the verdict in a judge's answer; None if there is none."""
        found = re.findall(self.pattern, text)
        return self.verdicts.get(found[-1]) if found else None


def _fenced(text: str) -> str:
    """Breaks our own tags inside material under judgment, so that it cannot end its fence and speak as the prompt."""
    return re.sub(r"<(?=\s*/?\s*(?:request|answer_[12])\b)", "‹", text, flags=re.IGNORECASE)


def load_prompt(name: str) -> JudgePrompt:
    """Reads a prompt by its name in judges/prompts, or by its path.

    Raises:
        UserError: There is none, or the file is wrong; names file and field.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise UserError(f"no judge prompt {name!r}; there are: {known}, or give a path ending in .yaml", code=2)
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        prompt = JudgePrompt.model_validate(data)
        prompt.render("", "", "")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})", code=2) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}", code=2) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the prompt"
        raise UserError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}", code=2) from error
    except TemplateError as error:
        raise UserError(f"{path}: messages: {error}; a template may use prompt, first and second", code=2) from error
    return prompt


def definition(prompt: JudgePrompt) -> Mapping[str, Any]:
    """Returns what identifies the prompt in an annotator's hash."""
    return prompt.model_dump(mode="json")
