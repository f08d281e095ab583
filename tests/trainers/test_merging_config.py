"""The YAML of a merge: what is read, what is refused, and what each tensor gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.errors import UserError
from trainers.merging_config import MergeConfig, parameters_of, read_merge, spans, value_of

TIES = """
models:
  - model: base
  - model: math
    parameters:
      weight: [0, 1]
      density: [{filter: mlp, value: 0.25}, {value: 1e-1}]
  - model: code
parameters: {weight: 0.5, lambda: 0.9}
merge_method: ties
base_model: base
dtype: float32
"""


def read(tmp_path: Path, text: str) -> MergeConfig:
    file = tmp_path / "merge.yaml"
    file.write_text(text)
    return read_merge(file)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as refused:
        read(tmp_path, text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("setting", "t", "expected"),
    [
        (0.3, 0.7, 0.3),
        ([0, 1], 0.25, 0.25),
        ([0, 1, 0], 0.5, 1.0),
        ([0, 1, 0], 0.75, 0.5),
        ([2.0, 5.0], 1.0, 5.0),
        ([True, False], 0.9, True),
        ([{"filter": "mlp", "value": [1, 3]}, {"value": 9}], 0.5, 2.0),
        ([{"filter": "attn", "value": 1}, {"filter": "*", "value": 9}], 0.5, 9),
        ([{"filter": "attn", "value": 1}], 0.5, None),
    ],
)
def test_value_of_a_parameter_for_a_tensor(setting: object, t: float, expected: float | None) -> None:
    assert value_of(setting, "model.layers.3.mlp.up_proj.weight", t) == expected


def test_a_models_own_parameters_come_before_the_merges(tmp_path: Path) -> None:
    config = read(tmp_path, TIES)
    (span,) = spans(config, 3)
    shared, each = parameters_of(config, span, "model.layers.1.mlp.up_proj.weight", 0.5)
    assert shared == {"normalize": True, "lambda": 0.9, "int8_mask": False, "rescale": False}
    assert each == [{}, {"weight": 0.5, "density": 0.25}, {"weight": 0.5, "density": 1.0}]
    _, each = parameters_of(config, span, "model.layers.2.self_attn.q_proj.weight", 1.0)
    assert each[1] == {"weight": 1.0, "density": 0.1}


def test_a_base_that_is_not_listed_comes_last(tmp_path: Path) -> None:
    config = read(tmp_path, "{merge_method: slerp, base_model: a, models: [{model: b}], parameters: {t: 0.5}}")
    assert [m.model for m in spans(config, 2)[0].models] == ["b", "a"]
    assert config.references() == ["a", "b"]


def test_yaml_is_written_as_it_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, TIES)
    assert read(tmp_path, config.to_yaml()) == config


BOTH = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"merge_method: linear\n{BOTH}\nmodules: {{}}", "line 3: modules: unknown key"),
        (f"merge_method: linear\n{BOTH}\nchat_template: auto", "line 3: chat_template: unknown key"),
        (f"merge_method: della\n{BOTH}", "line 1: merge_method: Input should be 'linear', 'slerp'"),
        (f"merge_method: ties\n{BOTH}", "base_model: ties needs the model that the others were trained from"),
        (f"merge_method: slerp\nbase_model: c\n{BOTH}", "models: slerp needs one model besides base_model, not 2"),
        ("merge_method: ties\nbase_model: a\nmodels: [{model: a}]", "needs at least one model besides base_model"),
        ("merge_method: linear\nmodels: [{model: a}, {model: a}]", "the same model stands there twice"),
        ("merge_method: linear", "give either models or slices"),
        (f"merge_method: linear\n{BOTH}\nparameters: {{t: 1}}",
         "models.parameters.t: linear has no such parameter there; it has normalize, weight"),
        ("merge_method: linear\nmodels: [{model: a, parameters: {density: 1}}, {model: b}]",
         "models.0.parameters.density: linear has no such parameter there; it has weight"),
        (f"merge_method: linear\n{BOTH}\nparameters: {{normalize: 1}}", "normalize: must be true or false, not 1"),
        (f"merge_method: linear\n{BOTH}\nparameters: {{weight: lots}}", "line 3: parameters.weight: must be a number"),
        (f"merge_method: linear\n{BOTH}\nparameters: {{weight: .inf}}", "weight: must be a finite number"),
        (f"merge_method: linear\n{BOTH}\nparameters: {{weight: [{{pattern: mlp, value: 1}}]}}", "mapping with value"),
        ("merge_method: ties\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1, density: 30}}]",
         "density: is a share from 0 to 1, not 30"),
        (f"merge_method: linear\n{BOTH}\ntokenizer_source: union", "tokenizer_source: must be base or one of"),
        ("merge_method: linear\nmodels: [{model: a, lora: b}]", "line 2: models.0.lora: unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_not_supported_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    said = refusal(tmp_path, text)
    assert sentence in said
    assert "\n" not in said


def test_a_missing_parameter_is_named_with_its_model_and_tensor(tmp_path: Path) -> None:
    config = read(
        tmp_path, "{merge_method: linear, models: [{model: a, parameters: {weight: {filter: mlp, value: 1}}}]}"
    )
    (span,) = spans(config, 2)
    assert parameters_of(config, span, "layers.0.mlp", 0.0)[1] == [{"weight": 1.0}]
    with pytest.raises(UserError, match=r"parameters\.weight: linear needs it for a \(there is none for lm_head\)"):
        parameters_of(config, span, "lm_head", 0.0)


def test_linear_refuses_weights_that_add_up_to_nothing(tmp_path: Path) -> None:
    text = (
        "{merge_method: linear, models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: -1}}]%s}"
    )
    config = read(tmp_path, text % "")
    with pytest.raises(UserError, match="add up to 0"):
        parameters_of(config, spans(config, 1)[0], "x", 0.0)
    free = read(tmp_path, text % ", parameters: {normalize: false}")
    assert parameters_of(free, spans(free, 1)[0], "x", 0.0)[1] == [{"weight": 1.0}, {"weight": -1.0}]


SLICES = """
merge_method: slerp
base_model: a
slices:
  - sources: [{model: a, layer_range: [%s]}, {model: b, layer_range: [%s]}]
    parameters: {t: 0.1}
  - sources: [{model: a, layer_range: [%s]}, {model: b, layer_range: [%s]}]
parameters: {t: 0.9}
"""


def test_slices_cut_the_layers(tmp_path: Path) -> None:
    config = read(tmp_path, SLICES % ("0, 2", "0, 2", "2, 5", "2, 5"))
    first, last = spans(config, 5)
    assert ((first.first, first.end), (last.first, last.end)) == ((0, 2), (2, 5))
    assert [parameters_of(config, s, "x", 0.0)[0] for s in (first, last)] == [{"t": 0.1}, {"t": 0.9}]


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        (("0, 2", "1, 3", "2, 5", "2, 5"), "slices.0: layer_range must be the same in all sources"),
        (("0, 2", "0, 2", "1, 5", "1, 5"), "slices.1: layer_range must be"),
        (("0, 2", "0, 2", "2, 4", "2, 4"), "slices: they end at layer 4, but the models have 5"),
    ],
)
def test_slices_that_move_layers_are_refused(tmp_path: Path, ranges: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        spans(read(tmp_path, SLICES % ranges), 5)
