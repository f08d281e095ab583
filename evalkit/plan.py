"""The plan: one YAML file that says what to evaluate, validated with errors that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evalkit.yaml_file import read_yaml

PROVIDERS = ("openai", "hf", "embedded", "vllm", "recorded")
Positive = Annotated[int, Field(gt=0)]


class Part(BaseModel):
    """A part of the plan: unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False, defer_build=True
    )


def _given(part: Part, key: str) -> bool:
    """Whether a key has another value than its default: a plan that was stored has them all."""
    return bool(getattr(part, key) != type(part).model_fields[key].default)


class SamplingPlan(Part):
    """Sampling parameters; what is not given is left to the task, then to the provider (greedy for local models)."""

    temperature: float | None = Field(None, ge=0, description="0 is greedy")
    top_p: float | None = Field(
        None, gt=0, le=1, description="draws from the most likely tokens that together have this probability"
    )
    top_k: int | None = Field(None, ge=1, description="draws from this many most likely tokens")
    min_p: float | None = Field(
        None, ge=0, le=1, description="leaves out tokens less likely than this times the likeliest"
    )
    max_tokens: Positive | None = Field(None, description="upper limit of generated tokens")
    stop: tuple[str, ...] = Field((), description="strings at which generation ends")
    seed: int | None = Field(None, description="seed of the draw")
    presence_penalty: float | None = Field(None, ge=-2, le=2, description="endpoints only")
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="endpoints only")
    repetition_penalty: float | None = Field(None, gt=0, description="above 1 repeats less")
    extra: dict[str, Any] = Field(default_factory=dict, description="provider-specific parameters, sent as they are")


class ModelPlan(Part):
    """A contestant: a model with its settings. Other settings are another contestant."""

    model: str = Field(
        description="PROVIDER/NAME: openai/NAME, hf/HUB_ID_OR_FOLDER, embedded/NAME, vllm/..., recorded/FILE#MODEL"
    )
    name: str = Field("", description="what boards call it; by default the model's own name")
    system: str | None = Field(None, description="system prompt")
    sampling: SamplingPlan = Field(default_factory=SamplingPlan, description="parameters that win over the task's")
    revision: str | None = Field(None, description="hub revision, or the version you state for an endpoint")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="number format of local weights")
    batch_size: Positive = Field(32, description="rows that a local model computes at once")
    base_url: str | None = Field(None, description="endpoint; by default OPENAI_BASE_URL, then OpenAI's own")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    max_concurrency: Positive = Field(256, description="open requests at an endpoint, at most")
    timeout_seconds: float = Field(600, gt=0, description="limit for one request to an endpoint")
    batch: bool = Field(
        False, description="endpoints only: asks by the endpoint's batch API, for less and within a day"
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="settings that change answers: chat_template_kwargs, context_length"
    )

    @field_validator("model")
    @classmethod
    def _known_provider(cls, value: str) -> str:
        provider, _, name = value.partition("/")
        if provider not in PROVIDERS or not name:
            raise ValueError(f"{value!r} is not PROVIDER/NAME with a provider out of {', '.join(PROVIDERS)}")
        return value

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        try:
            parts = urlsplit(value or "")
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:  # brackets that do not hold an IPv6 address
            good = False
        if value is not None and not good:
            raise ValueError(f"{value!r} is not a URL of the form http://host:port/v1")
        return value

    @model_validator(mode="after")
    def _batch_at_an_endpoint(self) -> ModelPlan:
        if self.batch and not self.model.startswith("openai/"):
            raise ValueError("batch: only models at an endpoint (openai/NAME) have a batch API")
        return self

    @property
    def label(self) -> str:
        """What boards call it; for recorded answers the name behind the file's."""
        return self.name or self.model.partition("#")[2] or self.model


class BenchmarkPlan(Part):
    """A benchmark: any lm-eval task, group or tag, or a task file of your own."""

    task: str = Field(description="name, or path of a task's YAML file")
    limit: float | None = Field(None, gt=0, description="documents of each task; below 1 a fraction")
    num_fewshot: int | None = Field(None, ge=0, description="examples before the question; by default the task's")
    chat_template: bool | Literal["auto"] = Field("auto", description="auto: where the model has one")
    fewshot_as_multiturn: bool = Field(True, description="examples as turns of a conversation")
    generation: dict[str, Any] = Field(
        default_factory=dict, description="overrides generation_kwargs, in lm-eval's words"
    )


class ArenaPlan(Part):
    """Which answers meet in battles."""

    tasks: tuple[str, ...] = Field((), description="benchmarks of this plan whose generated answers do battle")
    prompts: Path | None = Field(
        None,
        description="own prompts: JSONL or CSV with prompt or messages; optional id, verify, reference, tags",
    )
    limit: Positive | None = Field(None, description="prompts of the file, at most")
    sampling: SamplingPlan = Field(default_factory=SamplingPlan, description="for the answers to own prompts")
    battles: Positive | None = Field(None, description="number of battles, drawn with the seed; by default all pairs")
    baseline: str | None = Field(None, description="contestant that all others meet; by default all meet each other")


class JudgePlan(Part):
    """Who judges: an LLM compares battles or grades answers, as its prompt says; a verifier does both."""

    name: str = Field(description="what tables call it")
    kind: Literal["llm", "verifier"] = Field("llm", description="verifier: says what the prompts' own checks say")
    model: ModelPlan | None = Field(None, description="for kind llm")
    prompt: str = Field(
        "pairwise-v1", description="for kind llm: name (`evalkit judge list`), or path of a prompt's YAML file"
    )
    criteria: tuple[str | dict[str, Any], ...] = Field(
        (), description="names, paths of YAML files, or {name, description}; by default the prompt's"
    )
    orders: Literal["both", "random"] | None = Field(
        None, description="both: each battle twice, answers swapped; random: once; by default the prompt's"
    )
    replicates: Positive = Field(1, description="how often each question is asked")
    battles: Positive | None = Field(None, description="battles this judge sees, drawn with the seed; by default all")
    answers: Positive | None = Field(None, description="answers this judge grades, drawn with the seed; by default all")

    @field_validator("model", mode="before")
    @classmethod
    def _short_model(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _model_for_llm(self) -> JudgePlan:
        if (self.kind == "llm") != (self.model is not None):
            raise ValueError("a judge of kind llm needs a model, one of kind verifier has none")
        if self.model is not None and self.model.system:
            raise ValueError("a judge's system prompt stands in its prompt file, not in its model")
        asked = [key for key in ("criteria", "orders", "prompt", "replicates") if _given(self, key)]
        if self.kind == "verifier" and asked:
            raise ValueError(f"{asked[0]}: a verifier asks nobody, so it has none")
        return self


class AdaptivePlan(Part):
    """A jury that asks one member after another, and only as long as a verdict is open."""

    settled: float = Field(0.95, gt=1 / 3, le=1, description="probability from which on a verdict stands")
    budget: Positive | None = Field(
        None, description="members' verdicts (each in all its orders) at most; by default until all are settled"
    )


class JuryPlan(Part):
    """Judges who vote together; each criterion that two of them judge gets verdicts (or grades) of the jury."""

    name: str = Field("jury", description="what tables call it")
    members: tuple[str, ...] = Field(min_length=1, description="names of judges; one alone makes the board by itself")
    aggregation: Literal["majority", "weighted", "dawid-skene", "mean"] = Field(
        "majority", description="mean: of grades, or of stated probabilities; the others: of verdicts"
    )
    weights: Path | dict[str, float] | None = Field(
        None, description="for weighted: by member, or a YAML or JSON file of them; by default learned from `truth`"
    )
    truth: str = Field(
        "*", description="whose verdicts weights are learned from: * for people, or a name such as verifier"
    )
    adaptive: AdaptivePlan | None = Field(None, description="ask members one after another; {} for the defaults")

    @model_validator(mode="after")
    def _fits_together(self) -> JuryPlan:
        twice = sorted({n for n in self.members if self.members.count(n) > 1})
        if twice:
            raise ValueError(f"members: {twice[0]!r} stands there twice")
        if self.weights is not None and self.aggregation not in ("weighted", "mean"):
            raise ValueError(f"weights: the aggregation {self.aggregation} has none; weighted and mean have")
        if isinstance(self.weights, dict):
            off = sorted(set(self.members) ^ set(self.weights))
            if off:
                raise ValueError(f"weights: {off[0]!r} must be among both the members and the weights")
        if _given(self, "truth") and (self.aggregation != "weighted" or self.weights is not None):
            raise ValueError("truth: only for the aggregation weighted without weights, which learns them from it")
        if self.adaptive is not None:
            if self.aggregation == "mean":
                raise ValueError("adaptive: such a jury has verdicts: aggregation majority, weighted or dawid-skene")
            if len(self.members) < 2:
                raise ValueError("adaptive: needs two members or more to choose from")
        return self


class BudgetPlan(Part):
    """Limits for the whole run, at each endpoint."""

    requests_per_minute: Positive | None = Field(None, description="requests sent to an endpoint")
    tokens_per_minute: Positive | None = Field(None, description="tokens in and out")
    dollars: float | None = Field(None, gt=0, description="no request is sent that could go over it")
    max_concurrency: Positive | None = Field(None, description="open requests over all")


class Plan(Part):
    """What to evaluate, with what, judged by whom, at which cost."""

    name: str = Field("", description="what `evalkit runs` shows; by default the file's name")
    store: str = Field("evalkit.db", description="ledger: a file, or a database URL")
    seed: int = Field(0, description="of every draw that this plan makes")
    models: tuple[ModelPlan, ...] = Field(min_length=1, description="contestants")
    benchmarks: tuple[BenchmarkPlan, ...] = Field((), description="tasks; a name alone is enough")
    task_folders: tuple[Path, ...] = Field((), description="folders with your own lm-eval task files")
    arena: ArenaPlan = Field(default_factory=ArenaPlan, description="which answers meet in battles")
    judges: tuple[JudgePlan, ...] = Field((), description="who judges the battles")
    juries: tuple[JuryPlan, ...] | None = Field(
        None,
        description="the first makes the board; by default the majority of all judges of battles, called jury",
    )
    budget: BudgetPlan = Field(default_factory=BudgetPlan, description="limits of the whole run")
    prices: Path | None = Field(None, description="your own price table (YAML)")
    report: Path | None = Field(None, description="HTML report, written at the end")

    @field_validator("models", mode="before")
    @classmethod
    def _short_models(cls, value: Any) -> Any:
        return [{"model": v} if isinstance(v, str) else v for v in value] if isinstance(value, list) else value

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _short_tasks(cls, value: Any) -> Any:
        return [{"task": v} if isinstance(v, str) else v for v in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Plan:
        for what, names in (("models", [m.label for m in self.models]), ("judges", [j.name for j in self.judges])):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"two {what} have the name {twice[0]!r}; give one of them another `name`")
        labels = [m.label for m in self.models]
        if self.arena.baseline is not None and self.arena.baseline not in labels:
            raise ValueError(
                f"arena.baseline: no model is called {self.arena.baseline!r}; there are: {', '.join(labels)}"
            )
        judges = [j.name for j in self.judges]
        if self.juries is None and "jury" in judges:
            raise ValueError("no judge may be called 'jury': that is the name of all of them together")
        for jury in self.juries or ():
            if jury.name in judges or [j.name for j in self.juries or ()].count(jury.name) > 1:
                raise ValueError(f"juries: {jury.name!r} is the name of two; give one of them another")
            unknown = [n for n in jury.members if n not in judges]
            if unknown:
                raise ValueError(f"juries: no judge is called {unknown[0]!r}; there are: {', '.join(judges) or 'none'}")
        if self.judges and not (self.arena.tasks or self.arena.prompts):
            raise ValueError("judges need battles: give arena.tasks or arena.prompts")
        return self


def load_plan(path: Path) -> Plan:
    """Reads and checks a plan.

    Raises:
        UserError: The file cannot be read, is not YAML, or a field is unknown or wrong; names file, line and field.
    """
    plan = read_yaml(path, Plan, "the plan", empty="a plan is a mapping with the key `models`; type: evalkit init")
    return plan if plan.name else plan.model_copy(update={"name": path.stem})
