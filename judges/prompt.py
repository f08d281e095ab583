"""A judge's prompt: a versioned YAML file with templates, criteria, and how the answer is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from evalkit.errors import UserError
from evalkit.models import Message, Reply, Request
from evalkit.models.load import sampling
from evalkit.plan import SamplingPlan
from judges.answer import AnswerForm, strict_object
from judges.criteria import Criterion, load_criteria
from judges.material import Material
from judges.parse import Reading, Scale, Side, Unreadable, Words, own_words, question_lines, read_json
from judges.render import Turn, prompt_values, render

__all__ = ["FOLDER", "JudgePrompt", "Reading", "Side", "definition", "list_prompts", "load_prompt"]

FOLDER = Path(__file__).parent / "prompts"
# Of the code that renders and reads: raised when it changes verdicts, so that judges of before are other judges.
VERSION = 1


class ChecklistForm(BaseModel):
    """How a checklist is made for an item that has none.

    Attributes:
        messages: May use `prompt`, `reference`, `turns` and `limit`; never an answer, for all answers share the list.
        limit: Questions at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    messages: tuple[Turn, ...] = Field(min_length=1)
    limit: int = Field(8, ge=1, le=50)


class JudgePrompt(BaseModel):
    """What a judge is asked, and how its answer is read.

    Attributes:
        name: With a version, which a changed prompt raises.
        kind: pairwise compares two answers, pointwise grades one.
        source: What the protocol is taken from.
        protocol: The protocol in a sentence: scale, order, aggregation, baseline.
        criteria: What is judged unless told otherwise.
        together: All criteria in one request; otherwise one request each.
        orders: Unless told otherwise: each battle twice with the answers swapped, or once in a drawn order.
        reference_for: Categories in which a reference answer is shown; None: wherever there is one.
        levels: Of a rubric, for criteria that name none.
        messages: Templates; docs/prompts.md says what they may use.
        answer: Its form, and how it is read.
        checklist: How a checklist is made, for the answer form `checklist`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    kind: Literal["pairwise", "pointwise"]
    source: str = ""
    protocol: str = ""
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    together: bool = False
    orders: Literal["both", "random"] = "both"
    reference_for: tuple[str, ...] | None = None
    levels: dict[int, str] = Field(default_factory=dict)
    sampling: SamplingPlan = Field(default_factory=SamplingPlan)
    messages: tuple[Turn, ...] = Field(min_length=1)
    answer: AnswerForm
    checklist: ChecklistForm | None = None

    @field_validator("criteria", mode="before")
    @classmethod
    def _named_criteria(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list | tuple) or not all(isinstance(one, str | Mapping | Criterion) for one in value):
            raise ValueError("must be a list of names, files, or mappings with name and description")
        folder: Path = (info.context or {}).get("folder", Path())
        paths = [
            str(folder / one) if isinstance(one, str) and one.endswith((".yaml", ".yml")) else one for one in value
        ]
        try:
            return load_criteria(paths)
        except UserError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _fits_together(self) -> JudgePrompt:
        self.answer.check(self.kind, rubric=bool(self.levels))
        if len(self.levels) == 1:
            raise ValueError("levels: must have at least two")
        if self.together and self.answer.form != "json":
            raise ValueError("together: several criteria in one request need answer.form json")
        if (self.answer.form == "checklist") != (self.checklist is not None):
            raise ValueError("checklist: must be given with answer.form checklist, and only then")
        return self

    @property
    def needs_checklist(self) -> bool:
        """Whether a material must come with a checklist."""
        return self.checklist is not None

    def groups(self, criteria: Sequence[Criterion]) -> list[tuple[Criterion, ...]]:
        """Returns the criteria as they go into requests: all in one, or each in its own.

        Raises:
            UserError: A criterion's scale does not fit the prompt.
        """
        for criterion in criteria:
            if self.answer.form == "token" and criterion.scale and criterion.scale[1] > 9:
                raise UserError(
                    f"{self.name} reads a score off one token: the scale of {criterion.name!r} may go up to 9, not to "
                    f"{criterion.scale[1]:g}",
                    code=2,
                )
        return [tuple(criteria)] if self.together else [(criterion,) for criterion in criteria]

    def request(self, material: Material, criteria: Sequence[Criterion], replicate: int = 0) -> Request:
        """Returns what a judge is asked.

        Args:
            material: With two answers if the prompt is pairwise, else one; with a checklist if the prompt needs one.
            criteria: One of `groups`.
            replicate: Which of several draws.

        Raises:
            ValueError: The material is not of that kind.
            UserError: A template cannot be rendered.
        """
        wanted = 2 if self.kind == "pairwise" else 1
        if len(material.answers) != wanted:
            raise ValueError(f"{self.name} is {self.kind} and shows {wanted}, not {len(material.answers)} answers")
        if self.needs_checklist and not material.checklist:
            raise ValueError(f"{self.name} needs a checklist: ask for one with checklist_request")
        low, high, _ = self._scale(criteria[0])
        asked, questions = self._asked(criteria), len(material.checklist)
        values = prompt_values(self._templates(), material, self._reference(material)) | {
            "criteria": criteria,
            "criterion": criteria[0],
            "levels": self._levels(criteria[0]),
            "low": f"{low:g}",
            "high": f"{high:g}",
            "form": self.answer.in_words(asked, questions),
        }
        return Request(
            messages=render(self.messages, values),
            sampling=sampling(self.sampling),
            response_schema=self.answer.response_schema(asked, questions),
            logprobs=self.answer.alternatives if self.answer.form == "token" else None,
            sample=replicate,
        )

    def read(self, reply: Reply, criteria: Sequence[Criterion], checklist: Sequence[str] = ()) -> list[Reading]:
        """Reads a judge's answer.

        Args:
            reply: To a `request`, or to its `repair`.
            criteria: That were asked for.
            checklist: The material's, for a prompt that needs one.

        Returns:
            A reading for each criterion, in order; what cannot be read is an error, never a guess.
        """
        return self.answer.read(reply, self._asked(criteria), checklist)

    def repair(self, request: Request, reply: Reply, criteria: Sequence[Criterion]) -> Request:
        """Returns the one request that follows an answer that cannot be read.

        Args:
            request: Which got that answer.
            reply: The answer; it stands in the conversation.
            criteria: Those to be read from the next answer: all of the group, or what was unreadable.
        """
        answers = (request.response_schema or {}).get("properties", {}).get("answers", {})
        questions, asked = int(answers.get("minItems", 0)), self._asked(criteria)
        readings = self.answer.read(reply, asked, [""] * questions)
        problem = next((reading.error for reading in readings if reading.error), "unreadable: a verdict is missing")
        before, said = request.messages, own_words(reply) or "(no answer)"
        if before[-1]["role"] == "assistant":  # the answer continued a beginning that the prompt made
            before, said = before[:-1], f"{before[-1]['content'].rstrip()} {said}"
        messages: tuple[Message, ...] = (
            *before,
            {"role": "assistant", "content": said},
            {
                "role": "user",
                "content": f"Your answer is {problem}. Answer once more with nothing but "
                f"{self.answer.in_words(asked, questions)}",
            },
        )
        schema = self.answer.response_schema(asked, questions)
        return Request(
            messages=messages,
            sampling=request.sampling,
            response_schema=schema,
            logprobs=request.logprobs,
            sample=request.sample,
        )

    def checklist_request(self, material: Material) -> Request:
        """Returns the request that has yes/no questions made for an item; no answer is in it.

        Raises:
            UserError: The prompt uses no checklist.
        """
        form = self._checklist_form()
        values = prompt_values(self._templates(), material, self._reference(material), answers=False)
        return Request(
            messages=render(form.messages, values | {"limit": form.limit}, "checklist.messages"),
            sampling=sampling(self.sampling),
            response_schema=strict_object(questions={"type": "array", "items": {"type": "string"}}),
        )

    def read_checklist(self, reply: Reply) -> tuple[str, ...] | None:
        """Returns the questions in the answer to a `checklist_request`; None if there are none.

        Questions are a JSON object's `questions`, else the numbered or bulleted lines that end in a question mark.

        Raises:
            UserError: The prompt uses no checklist.
        """
        form = self._checklist_form()
        try:
            found = read_json(reply, ["questions"])["questions"]
        except Unreadable:
            found = question_lines(own_words(reply))
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            return None
        questions = dict.fromkeys(" ".join(one.split()) for one in found if one.strip())
        return tuple(questions)[: form.limit] or None

    def _templates(self) -> tuple[Turn, ...]:
        return (*self.messages, *(self.checklist.messages if self.checklist else ()))

    def _checklist_form(self) -> ChecklistForm:
        if self.checklist is None:
            raise UserError(f"{self.name} uses no checklist", code=2)
        return self.checklist

    def _reference(self, material: Material) -> tuple[str, ...]:
        named = self.reference_for
        shown = named is None or material.category.casefold() in [name.casefold() for name in named]
        return material.reference if shown else ()

    def _levels(self, criterion: Criterion) -> tuple[tuple[int, str], ...]:
        return (criterion.levels or tuple(sorted(self.levels.items()))) if self.levels else ()

    def _scale(self, criterion: Criterion) -> Scale:
        if self.levels:
            numbers = [number for number, _ in self._levels(criterion)]
            return Scale(min(numbers), max(numbers), True)
        low, high = criterion.scale or self.answer.scale or (0.0, 1.0)
        return Scale(low, high, self.answer.whole)

    def _asked(self, criteria: Sequence[Criterion]) -> dict[str, Words]:
        scored = bool(self.answer.scale or self.levels)
        return {c.name: self._scale(c) if scored else self.answer.meanings() for c in criteria}


def definition(prompt: JudgePrompt, criteria: Sequence[Criterion]) -> Mapping[str, Any]:
    """Returns what identifies a prompt with its criteria in an annotator's hash: all that can change a verdict.

    Source and protocol only describe, and the order shown stands in every verdict: they are left out.
    """
    rest = prompt.model_dump(mode="json", exclude={"criteria", "source", "protocol", "orders"})
    return rest | {"criteria": list(map(asdict, criteria)), "version": VERSION}


def load_prompt(name: str) -> JudgePrompt:
    """Reads a prompt by its name in judges/prompts, or by its path.

    Raises:
        UserError: There is none, or the file is wrong; names file, line and field.
    """
    from judges.prompt_file import read_prompt

    return read_prompt(name)


def list_prompts() -> list[JudgePrompt]:
    """Returns the prompts in judges/prompts, by name."""
    return [load_prompt(path.stem) for path in sorted(FOLDER.glob("*.yaml"))]
