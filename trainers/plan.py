"""The retrain plan: one YAML file that says how a failing slice becomes a better model (`evalkit retrain plan.yaml`).

The dashboard writes such files, the trainers read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from evalkit.plan import JudgePlan, ModelPlan, Part, Positive
from evalkit.yaml_file import read_yaml
from trainers.gate_plan import GatePlan
from trainers.rows import RowKind

if TYPE_CHECKING:
    from trainers.merging_config import MergeConfig

Method = Literal["sft", "cpt", "dpo", "ipo", "kto", "reward", "grpo", "rloo"]
Adapter = Literal["lora", "qlora", "full"]
Kind = Literal[
    "best_of_n", "teacher", "new_prompts", "preferences", "outcomes", "prompts", "domain_text", "replay", "contrast"
]
Way = Literal["values", "constraints", "evolve", "backtranslate"]
MergeMethod = Literal["linear", "slerp", "ties", "dare_linear", "dare_ties", "task_arithmetic"]
Share = Annotated[float, Field(ge=0, le=1)]
TRAINABLE = ("embedded", "hf")

METHODS: dict[Method, str] = {
    "sft": "Supervised fine-tuning (SFT)",
    "cpt": "Continued pre-training",
    "dpo": "Preference optimisation (DPO)",
    "ipo": "Preference optimisation (IPO)",
    "kto": "Preference optimisation without pairs (KTO)",
    "reward": "Reward model",
    "grpo": "Online RL with verifiable rewards (GRPO)",
    "rloo": "Online RL with verifiable rewards (RLOO)",
}
SOURCES: dict[Kind, str] = {
    "best_of_n": "The model's own answers that a check accepts, the best of several",
    "teacher": "A stronger model's answers that a check accepts",
    "new_prompts": "New prompts like those that failed, with checked answers",
    "preferences": "Pairs from the verdicts of people and judges",
    "outcomes": "Pairs of an answer that passes and one that fails",
    "prompts": "Prompts with a check that gives the reward",
    "domain_text": "Raw text of the field",
    "replay": "What the model does well already, against forgetting",
    "contrast": "Like prompts that do not ask for it, against leaking into other answers",
}


class SourcePlan(Part):
    """Where rows of the training set come from."""

    kind: Kind = Field(description="what the rows are made of")
    weight: float = Field(1.0, gt=0, description="share of the rows, in relation to the other sources")
    model: ModelPlan | None = Field(None, description="who answers: for teacher and new_prompts")
    samples: Positive = Field(8, description="for best_of_n and outcomes: answers drawn for each prompt")
    ways: tuple[Way, ...] = Field(
        ("values", "constraints"),
        min_length=1,
        description="for new_prompts, outcomes and prompts: how prompts are made; evolve and backtranslate ask `model`",
    )
    path: str | None = Field(
        None, description="for domain_text, replay of raw text and the way backtranslate: a file or folder of text"
    )

    @field_validator("model", mode="before")
    @classmethod
    def _short_model(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> SourcePlan:
        if self.kind == "teacher" and self.model is None:
            raise ValueError("model: a source of kind teacher needs the model that answers")
        if self.kind == "domain_text" and self.path is None:
            raise ValueError("path: a source of kind domain_text needs the file or folder of the text")
        if "backtranslate" in self.ways and self.path is None:
            raise ValueError("path: the way backtranslate needs a file or folder of text")
        return self


class FilterPlan(Part):
    """Which rows are kept."""

    min_words: int = Field(1, ge=0, description="words of the answer (of the prompt, where a row teaches none)")
    max_words: Positive = Field(600, description="words of prompt and answer together")
    languages: tuple[str, ...] = Field((), description="ISO codes such as en; by default any")
    without: tuple[str, ...] = Field((), description="words that no row may have")
    only_with: tuple[str, ...] = Field((), description="a row must have one of these words")
    near_duplicate: float = Field(0.85, gt=0, le=1, description="MinHash similarity of word triples to be the same row")
    judge: JudgePlan | None = Field(None, description="grades the answers that rows teach")
    min_score: Share = Field(0.7, description="grade of the judge, as a share of its scale")

    @model_validator(mode="after")
    def _judge_grades(self) -> FilterPlan:
        if self.judge is not None and self.judge.kind != "llm":
            raise ValueError("judge: every answer is verified already where its prompt has a check; give an LLM judge")
        return self


class DecontaminationPlan(Part):
    """When a row touches an item that measures."""

    long_gram: Positive = Field(13, description="words in a row that a row may not share with an item")
    short_gram: Positive = Field(8, description="words in a row of which a row may share a part with an item")
    short_share: float = Field(0.5, gt=0, le=1, description="that part: share of the item's short n-grams")
    boilerplate: Positive = Field(
        10, description="an n-gram in so many items is a prompt's frame and counts for nothing"
    )
    similarity: float = Field(0.8, gt=0, le=1, description="cosine of the embeddings from which on it is a paraphrase")


class RecipePlan(Part):
    """How the slice becomes a training set."""

    sources: tuple[SourcePlan, ...] = Field(min_length=1, description="mixed by their weights")
    rows: Positive = Field(400, description="rows of the training set, at most")
    min_margin: float = Field(0.0, ge=0, description="pairs: the chosen answer is better by at least this much")
    validation: float = Field(0.1, ge=0, lt=1, description="share of the rows that is kept to validate on")
    max_tokens: Positive = Field(64, description="of an answer that is drawn for the set")
    temperature: float = Field(0.8, ge=0, description="where several answers are drawn")
    filters: FilterPlan = Field(default_factory=FilterPlan, description="which rows are kept")
    decontamination: DecontaminationPlan = Field(
        default_factory=DecontaminationPlan, description="when a row touches an item that measures"
    )
    allow_contaminated: str | None = Field(
        None, min_length=1, description="the reason why rows that touch such items are kept; stored with the set"
    )


class TrainingBudget(Part):
    """Limits of the whole retrain."""

    minutes: float = Field(60, gt=0, description="of training, evaluation left out")
    dollars: float | None = Field(None, gt=0, description="for answers of endpoints")
    trials: Positive = Field(1, description="settings tried, judged on a validation split; 1 takes those given")


DENSITY = 0.5
"""Share of the differences that methods which thin them keep."""


class MergePlan(Part):
    """The new model is merged with its parent, to win back what it forgot."""

    method: MergeMethod = Field("linear", description="how")
    weight: float = Field(0.5, gt=0, le=1, description="of the new model; its parent has the rest")

    def config(self, child: str, parent: str) -> MergeConfig:
        """Returns the merge of a new model with its parent, in mergekit's words."""
        from trainers.merging_config import MergeConfig

        weights = {child: self.weight, **({parent: 1 - self.weight} if self.method == "linear" else {})}
        # slerp's place between the two takes the weight's part; the methods on differences have a density too.
        models = [{"model": model, "parameters": {} if self.method == "slerp" else {"weight": weight}}
                  for model, weight in weights.items()]  # fmt: skip
        given: dict[str, Any] = {"merge_method": self.method, "models": models}
        if self.method != "linear":
            given["base_model"] = parent
        if self.method == "slerp":
            given["parameters"] = {"t": self.weight}
        if self.method in ("ties", "dare_linear", "dare_ties"):
            given["parameters"] = (
                {"density": DENSITY, "normalize": False} if self.method == "ties" else {"density": DENSITY}
            )
        return MergeConfig.model_validate(given)


class RetrainSettings(Part):
    """How a slice is retrained on, whichever slice it is."""

    recipe: RecipePlan = Field(description="what it trains on")
    method: Method = Field("sft", description="how it trains")
    adapter: Adapter = Field("lora", description="which weights: low-rank ones beside the model's, or all")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="in TRL's words: learning_rate, num_train_epochs, max_length ..."
    )
    merge: MergePlan | None = Field(None, description="merge the new model with its parent; {} for the defaults")
    budget: TrainingBudget = Field(default_factory=TrainingBudget, description="limits")
    gate: GatePlan = Field(default_factory=GatePlan, description="what the new model must prove")
    seed: int = Field(0, description="of every draw")

    @model_validator(mode="after")
    def _trains_on_its_sources(self) -> Self:
        kinds = {source.kind for source in self.recipe.sources}
        wrong = sorted(kinds - FITS[self.method])
        if wrong:
            allowed = ", ".join(sorted(FITS[self.method]))
            raise ValueError(f"recipe: the method {self.method} cannot train on {wrong[0]!r}; it takes {allowed}")
        return self


class RetrainPlan(RetrainSettings):
    """From a failing slice to a model that must pass the gate."""

    name: str = Field(description="what runs, training sets and the new model are called")
    store: str = Field("evalkit.db", description="ledger: a file, or a database URL")
    slice: int | str = Field(description="the slice's name, or its id where two have the same name")
    base: ModelPlan = Field(description="the model to train: embedded/NAME or hf/HUB_ID_OR_FOLDER")
    output: Path | None = Field(None, description="folder of the new model; by default models/NAME beside the ledger")

    @field_validator("base", mode="before")
    @classmethod
    def _short_base(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @field_validator("base")
    @classmethod
    def _trainable(cls, value: ModelPlan) -> ModelPlan:
        if value.model.partition("/")[0] not in TRAINABLE:
            raise ValueError(f"only local models can be trained (embedded/NAME, hf/NAME), not {value.model!r}")
        return value


_SHOWN: frozenset[Kind] = frozenset(("best_of_n", "teacher", "new_prompts", "replay", "contrast"))
_COMPARED: frozenset[Kind] = frozenset(("preferences", "outcomes"))
FITS: dict[Method, frozenset[Kind]] = {
    "sft": _SHOWN,
    "cpt": frozenset(("domain_text", "replay")),
    "dpo": _COMPARED,
    "ipo": _COMPARED,
    "kto": _COMPARED,
    "reward": _COMPARED,
    "grpo": frozenset(("prompts",)),
    "rloo": frozenset(("prompts",)),
}
"""Which rows each method can train on."""
ROWS_OF: dict[Method, RowKind] = {
    "sft": "sft",
    "cpt": "text",
    "dpo": "preference",
    "ipo": "preference",
    "kto": "kto",
    "reward": "preference",
    "grpo": "grpo",
    "rloo": "grpo",
}
"""The form of the rows that each method trains on."""
GUARDS: frozenset[Kind] = frozenset(("replay", "contrast"))
"""Sources against forgetting and leaking: they keep their share where the others give fewer rows than asked for."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A mixture to start from.

    Attributes:
        said: What it does, in a sentence.
        sources: With their weights.
        methods: That can train on it, the usual one first.
    """

    title: str
    said: str
    sources: tuple[tuple[Kind, float], ...]
    methods: tuple[Method, ...]


RECIPES: dict[str, Recipe] = {
    "new_prompts": Recipe(
        "New prompts, checked answers",
        "New prompts of the kind that failed, each with an answer that its check accepts. Contrast and replay rows "
        "keep the rest.",
        (("new_prompts", 0.5), ("contrast", 0.25), ("replay", 0.25)),
        ("sft",),
    ),
    "best_of_n": Recipe(
        "Own answers, checked",
        "The model answers several times and learns what the check accepts. Contrast and replay rows keep the rest.",
        (("best_of_n", 0.5), ("contrast", 0.25), ("replay", 0.25)),
        ("sft",),
    ),
    "teacher": Recipe(
        "A teacher's answers",
        "A stronger model answers; only what the check accepts is learned.",
        (("teacher", 0.5), ("contrast", 0.25), ("replay", 0.25)),
        ("sft",),
    ),
    "preferences": Recipe(
        "Preferences",
        "Pairs of a better and a worse answer, from verdicts and from answers that pass or fail.",
        (("preferences", 0.5), ("outcomes", 0.5)),
        ("dpo", "ipo", "kto", "reward"),
    ),
    "rewards": Recipe(
        "Rewards",
        "The model answers while it trains, and the check rewards what passes.",
        (("prompts", 1.0),),
        ("grpo", "rloo"),
    ),
    "domain_text": Recipe(
        "Text of the field",
        "Raw text first; one part of it to five of general text.",
        (("domain_text", 1.0), ("replay", 5.0)),
        ("cpt",),
    ),
}


def load_retrain_plan(path: Path) -> RetrainPlan:
    """Reads and checks a plan.

    Raises:
        UserError: The file cannot be read, is not YAML, or a field is unknown or wrong; names file, line and field.
    """
    return read_yaml(path, RetrainPlan, "the retrain plan", empty="it is a mapping with slice, base and recipe")


SPARE = 1.25
"""So many more rows are made than wanted, as filters and decontamination take some."""


def wanted_of(plan: RetrainPlan, source: SourcePlan) -> int:
    """Returns how many rows a source is asked for: a quarter more than its share."""
    rows = plan.recipe.rows / (2 if ROWS_OF[plan.method] == "kto" else 1)  # a pair is two of its rows
    whole = sum(one.weight for one in plan.recipe.sources)
    return max(1, int(SPARE * rows * source.weight / whole))


def to_yaml(plan: RetrainPlan) -> str:
    """Writes a plan as `evalkit retrain` reads it, what is left at its default left out."""
    import yaml

    told = plan.model_dump(mode="json", exclude_defaults=True)
    first: dict[str, Any] = {key: told[key] for key in ("name", "store", "slice", "base") if key in told}
    return yaml.safe_dump({**first, **told, "method": plan.method}, sort_keys=False, allow_unicode=True)
