"""What a merge is to do: mergekit's YAML, read, checked and written, and its settings worked out for each tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from evalkit.errors import UserError
from evalkit.plan import Part
from evalkit.yaml_file import read_yaml

FLAGS = ("normalize", "rescale", "int8_mask")
SHARES = ("density",)


@dataclass(frozen=True)
class Method:
    """What a merge method reads from the YAML; None stands for a value that must be given.

    Attributes:
        shared: Parameters of the whole merge, with their defaults.
        of_model: Parameters of each model, with their defaults; those of a base are read where `base` is False.
        base: Whether `base_model` must be given; the others are then taken relative to it.
        formula: In words, for the model card.
        source: Where it was published.
    """

    shared: Mapping[str, float | bool | None]
    of_model: Mapping[str, float | None]
    base: bool
    formula: str
    source: str


_TASK: dict[str, float | bool | None] = {"normalize": False, "lambda": 1.0, "int8_mask": False}
METHODS = {
    "linear": Method({"normalize": True}, {"weight": None}, False,
                     "the weighted mean of the models", "Wortsman et al. 2022, arXiv:2203.05482"),
    "slerp": Method({"t": None}, {}, True,
                    "the point t of the way along the arc from the base to the other model", "Shoemake 1985"),
    "task_arithmetic": Method(_TASK, {"weight": None}, True,
                              "the base plus the weighted differences from it",
                              "Ilharco et al. 2022, arXiv:2212.04089"),
    "ties": Method({**_TASK, "normalize": True, "rescale": False}, {"weight": None, "density": 1.0}, True,
                   "the base plus the differences from it, each trimmed to its largest, and only those of the sign "
                   "that outweighs the other", "Yadav et al. 2023, arXiv:2306.01708"),
    "dare_linear": Method({**_TASK, "rescale": True}, {"weight": None, "density": 1.0}, True,
                          "the base plus the differences from it, each thinned at random and scaled up again",
                          "Yu et al. 2023, arXiv:2311.03099"),
    "dare_ties": Method({**_TASK, "rescale": True}, {"weight": None, "density": 1.0}, True,
                        "the base plus the differences from it, each thinned at random and scaled up again, and only "
                        "those of the sign that outweighs the other", "Yu et al. 2023, arXiv:2311.03099"),
}  # fmt: skip
RANDOM = ("dare_linear", "dare_ties")
MethodName = Literal["linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties"]
Dtype = Literal["float16", "bfloat16", "float32", "float64"]


def _checked(value: Any) -> Any:
    """Checks the shape of a parameter: a number, a flag, a list over the layers, or values with filters."""
    if isinstance(value, Mapping):
        return [_conditional(value)]
    if not isinstance(value, list):
        return _scalar(value)
    if not value:
        raise ValueError("must have at least one value")
    return [_conditional(v) for v in value] if isinstance(value[0], Mapping) else [_scalar(v) for v in value]


def _conditional(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not set(value) <= {"filter", "value"} or "value" not in value:
        raise ValueError("each entry must be a mapping with value and, if it is for some tensors only, filter")
    checked = _checked(value["value"])
    if isinstance(checked, list) and isinstance(checked[0], Mapping):
        raise ValueError("value must be a number or a list of numbers over the layers")
    where = value.get("filter")
    if where is not None and not isinstance(where, str):
        raise ValueError(f"filter must be a part of tensors' names, not {where!r}")
    return {**({"filter": where} if where else {}), "value": checked}


def _scalar(value: Any) -> float | bool:
    if isinstance(value, bool):
        return value
    try:
        number = float(value)  # YAML reads 1e-3 as text
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"must be a number, a list of numbers over the layers, or values with filters, not {value!r}"
        ) from error
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, not {value!r}")
    return number


Setting = Annotated[Any, BeforeValidator(_checked)]


class MergeModel(Part):
    """A model that goes in."""

    model: str = Field(description="folder, embedded/NAME, a model's label in the ledger, or a hub id")
    parameters: dict[str, Setting] = Field(default_factory=dict, description="weight, density")


class MergeSource(MergeModel):
    """A model's layers in a slice."""

    layer_range: tuple[int, int] = Field(description="first layer, and the one after the last")


class MergeSlice(Part):
    """Layers that are merged with settings of their own."""

    sources: list[MergeSource] = Field(min_length=1, description="models, each with the same layers")
    parameters: dict[str, Setting] = Field(default_factory=dict, description="as those of the whole merge")


class MergeConfig(Part):
    """A merge, in the words of mergekit's YAML."""

    merge_method: MethodName = Field(description="how")
    base_model: str | None = Field(None, description="what the other models were trained from; all methods but linear")
    models: list[MergeModel] = Field(default_factory=list, description="what goes in; or `slices`")
    slices: list[MergeSlice] = Field(
        default_factory=list, description="the same by layers, each of them once, in order"
    )
    parameters: dict[str, Setting] = Field(default_factory=dict, description="of the method; also defaults of models'")
    dtype: Dtype | None = Field(None, description="number format to compute in; by default the models' own")
    out_dtype: Dtype | None = Field(None, description="number format to write; by default that computed in")
    tokenizer_source: str | None = Field(None, description="base, or a model of the merge: all have the same one")

    @model_validator(mode="after")
    def _fits_the_method(self) -> MergeConfig:
        method = METHODS[self.merge_method]
        if bool(self.models) == bool(self.slices):
            raise ValueError("models: give either models or slices")
        if method.base and self.base_model is None:
            raise ValueError(f"base_model: {self.merge_method} needs the model that the others were trained from")
        for where, models, parameters in self._parts():
            names = [m.model for m in models]
            if len(set(names)) < len(names):
                raise ValueError(f"{where}: the same model stands there twice")
            others = len(set(names) - {self.base_model})
            if method.base and (others != 1 if self.merge_method == "slerp" else others == 0):
                need = "one model" if self.merge_method == "slerp" else "at least one model"
                raise ValueError(f"{where}: {self.merge_method} needs {need} besides base_model, not {others}")
            _check_names(parameters, {**method.shared, **method.of_model}, f"{where}.parameters", self.merge_method)
            for number, model in enumerate(models):
                _check_names(model.parameters, method.of_model, f"{where}.{number}.parameters", self.merge_method)
        if self.tokenizer_source not in (None, "base", *self.references()):
            raise ValueError("tokenizer_source: must be base or one of the models: all must have the same tokenizer")
        return self

    def _parts(self) -> Iterator[tuple[str, list[MergeModel], dict[str, Any]]]:
        if self.models:
            yield "models", self.models, self.parameters
        for number, part in enumerate(self.slices):
            yield f"slices.{number}.sources", list(part.sources), self.parameters | part.parameters

    def references(self) -> list[str]:
        """Returns the models' names in the YAML, the base first, each once."""
        named = [m.model for _, models, _ in self._parts() for m in models]
        return list(dict.fromkeys(([self.base_model] if self.base_model else []) + named))

    def to_yaml(self) -> str:
        """Returns the YAML, which mergekit reads too where models are named by folder or hub id."""
        import yaml

        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)


def read_merge(path: Path) -> MergeConfig:
    """Reads a merge's YAML file.

    Raises:
        UserError: It cannot be read, or a key is unknown, missing or wrong; names file, line and key.
    """
    return read_yaml(
        path, MergeConfig, "the merge configuration", empty="must be a mapping of keys: merge_method, models"
    )


def _check_names(given: Mapping[str, Any], known: Mapping[str, Any], where: str, method: str) -> None:
    for name, setting in given.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none there"
            raise ValueError(f"{where}.{name}: {method} has no such parameter there; {has}")
        for value in _scalars(setting):
            if isinstance(value, bool) != (name in FLAGS):
                raise ValueError(
                    f"{where}.{name}: must be {'true or false' if name in FLAGS else 'a number'}, not {value}"
                )
            if name in SHARES and not 0 <= value <= 1:
                raise ValueError(f"{where}.{name}: is a share from 0 to 1, not {value:g}")


def _scalars(setting: Any) -> Iterator[float | bool]:
    for part in setting if isinstance(setting, list) else [setting]:
        yield from _scalars(part["value"]) if isinstance(part, Mapping) else [part]


@dataclass(frozen=True)
class Span:
    """Consecutive layers with the models and settings that go into them.

    Attributes:
        first: First layer.
        end: The layer after the last.
        models: What goes in, in the order of the YAML; a base that is not listed comes last.
    """

    first: int
    end: int
    models: tuple[MergeModel, ...]
    settings: tuple[Mapping[str, Any], ...]


def spans(config: MergeConfig, n_layers: int) -> list[Span]:
    """Returns the layers in order, cut where settings change.

    Args:
        n_layers: Of the models.

    Raises:
        UserError: The slices do not give each layer once and in order, from the same place in each source.
    """
    base = MergeModel(model=config.base_model) if config.base_model else None
    if config.models:
        listed = base is None or any(m.model == base.model for m in config.models)
        return [Span(0, n_layers, (*config.models, *([] if listed or base is None else [base])), (config.parameters,))]
    found: list[Span] = []
    for number, part in enumerate(config.slices):
        first, end = part.sources[0].layer_range
        if (
            any(s.layer_range != (first, end) for s in part.sources)
            or first != (found[-1].end if found else 0)
            or end <= first
        ):
            raise UserError(
                f"slices.{number}: layer_range must be the same in all sources and go on where the slice before ended; "
                "layers can be merged, not stacked, moved or left out",
                code=2,
            )
        if METHODS[config.merge_method].base and all(s.model != config.base_model for s in part.sources):
            raise UserError(f"slices.{number}.sources: base_model {config.base_model} must be among them", code=2)
        found.append(Span(first, end, tuple(part.sources), (part.parameters, config.parameters)))
    if found[-1].end != n_layers:
        raise UserError(f"slices: they end at layer {found[-1].end}, but the models have {n_layers}", code=2)
    return found


def value_of(setting: Any, tensor: str, t: float) -> float | bool | None:
    """Returns a parameter's value for a tensor.

    Args:
        setting: As checked: a number or flag, a list over the layers (numbers in between are interpolated), or values
            with filters, of which the first that is part of the tensor's name counts.
        t: Place of the tensor's layer, 0 the first and 1 the last.

    Returns:
        None if no filter fits.
    """
    if not isinstance(setting, list):
        scalar: float | bool = setting
        return scalar
    if isinstance(setting[0], Mapping):
        fits = (part["value"] for part in setting if part.get("filter") in (None, "*") or part["filter"] in tensor)
        found = next(fits, None)
        return None if found is None else value_of(found, tensor, t)
    place = t * (len(setting) - 1)
    low = int(place)
    if isinstance(setting[low], bool):
        return bool(setting[low])
    high = min(low + 1, len(setting) - 1)
    return float((1 - (place - low)) * setting[low] + (place - low) * setting[high])


def parameters_of(
    config: MergeConfig, span: Span, tensor: str, t: float
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Works out the parameters of one tensor.

    Returns:
        Those of the whole merge, and those of each model of the span (empty for a base that others are relative to).

    Raises:
        UserError: One is not given for this tensor.
    """
    method = METHODS[config.merge_method]

    def find(name: str, default: Any, scopes: tuple[Mapping[str, Any], ...], of: str) -> Any:
        for scope in scopes:
            if name in scope and (value := value_of(scope[name], tensor, t)) is not None:
                return value
        if default is None:
            raise UserError(
                f"parameters.{name}: {config.merge_method} needs it{of} (there is none for {tensor})", code=2
            )
        return default

    shared = {name: find(name, default, span.settings, "") for name, default in method.shared.items()}
    each = [
        {}
        if method.base and model.model == config.base_model
        else {
            n: find(n, d, (model.parameters, *span.settings), f" for {model.model}") for n, d in method.of_model.items()
        }
        for model in span.models
    ]
    if config.merge_method == "linear" and shared["normalize"] and abs(sum(e["weight"] for e in each)) < 1e-8:
        raise UserError(f"parameters.weight: the weights of {tensor} add up to 0; linear divides by their sum", code=2)
    return shared, each
