"""The plan: what is accepted, and the sentence for what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from evalkit.commands.adhoc import adhoc_plan, keep_plan, write_example
from evalkit.errors import UserError
from evalkit.plan import Plan, load_plan

JUDGES = "models: [hf/x]\narena: {prompts: p}\njudges:\n"


def refusal(tmp_path: Path, text: str) -> str:
    """Returns what is said about a wrong plan, without the file's name."""
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_plan(path)
    assert caught.value.code == 2
    return str(caught.value).replace(str(path), "p.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles: [hf/x]", "line 1: modles: unknown key. Did you mean 'models'? Allowed: name, store, seed, models,"),
        ("models: [hf/x]\n\nbudget:\n  dolars: 3", "line 4: budget.dolars: unknown key. Did you mean 'dollars'?"),
        ("models:\n- hf/x\n- {model: hf/y, sampling: {topp: 1}}", "line 3: models.1.sampling.topp: unknown key. Did"),
        ("models: [hf/x]\nxyzzy: 1", "line 2: xyzzy: unknown key. Allowed: name,"),
        ("seed: 1", "line 1: models: this key must be given"),
        ("models: []", "line 1: models: must have at least one entry"),
        ("models: hf/x", "line 1: models: must be a list"),
        ("models: [[hf/x]]", "line 1: models.0: must be a mapping of keys"),
        ("models: [hf/x]\nbudget: cheap", "line 2: budget: must be a mapping of keys"),
        ("models: [gpt-4]", "'gpt-4' is not PROVIDER/NAME with a provider out of openai, hf, embedded, vllm, recorded"),
        ("models: [hf/]", "'hf/' is not PROVIDER/NAME"),
        ("models: [hf/x]\nseed: many", "line 2: seed: Input should be a valid integer"),
        (
            "models:\n- model: hf/x\n  dtype: fp8",
            "line 3: models.0.dtype: Input should be 'auto', 'float32' or 'bfloat16', not 'fp8'",
        ),
        (
            "models:\n- model: hf/x\n  sampling:\n    temperature: -1",
            "line 4: models.0.sampling.temperature: Input should be greater than or equal to 0, not -1",
        ),
        (
            "models: [hf/x]\nbenchmarks: [{task: g, limit: 0}]",
            "line 2: benchmarks.0.limit: Input should be greater than 0",
        ),
        ("models: [hf/x, hf/x]", "two models have the name 'hf/x'; give one of them another `name`"),
        ("models: [hf/x]\nseed: 1\nname: a\nseed: 2", "line 4: seed: stands on line 2 already"),
        ("models:\n- model: hf/x\n  model: hf/y", "line 3: model: stands on line 2 already"),
        (JUDGES + "- {name: j, kind: verifier}\n- {name: j, kind: verifier}", "two judges have the name 'j'"),
        (JUDGES + "- {name: jury, kind: verifier}", "no judge may be called 'jury'"),
        (JUDGES + "- {name: j}", "line 4: judges.0: a judge of kind llm needs a model"),
        (JUDGES + "- {name: j, kind: verifier, model: hf/x}", "verifier has none"),
        (JUDGES + "- {name: j, kind: robot}", "judges.0.kind: Input should be 'llm' or 'verifier', not 'robot'"),
        (
            "models: [hf/x]\njudges:\n- {name: j, kind: verifier}",
            "judges need battles: give arena.tasks or arena.prompts",
        ),
        (
            "models: [hf/x]\narena: {prompts: p}\njudges: [{name: j, kind: verifier}]\njuries: [{members: [k]}]",
            "juries: no judge is called 'k'; there are: j",
        ),
        ("models: [", "line 1: not valid YAML: expected the node content"),
        ("models: [hf/x]\nname: \x07", "not valid YAML: unacceptable character #x0007"),
        ("models: !!python/object/apply:os.getcwd []", "line 1: not valid YAML: could not determine a constructor"),
        ("", "a plan is a mapping with the key `models`; type: evalkit init"),
        ("- hf/x", "a plan is a mapping with the key `models`"),
    ],
)
def test_a_wrong_plan_is_told_by_line_field_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_one_fault_is_one_line_and_two_are_two(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, "models:\n- {model: hf/x, nmae: y}").splitlines()) == 1
    assert len(refusal(tmp_path, "models:\n- {model: hf/x, nmae: y}\nsede: 1").splitlines()) == 2


def test_a_plan_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_plan(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: Grün\nmodels: [hf/x]".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 text"):
        load_plan(tmp_path / "latin.yaml")


def test_short_forms(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(
        "models: [hf/x]\nbenchmarks: [gsm8k, {task: mmlu, limit: 0.1}]\narena: {tasks: [gsm8k]}\n"
        "judges: [{name: j, model: openai/gpt}, {name: v, kind: verifier}]\n"
    )
    plan = load_plan(path)
    assert plan.name == "short"
    assert [m.label for m in plan.models] == ["hf/x"]
    assert [(b.task, b.limit) for b in plan.benchmarks] == [("gsm8k", None), ("mmlu", 0.1)]
    assert plan.judges[0].model is not None
    assert plan.judges[0].model.model == "openai/gpt"
    assert plan.juries is None


def test_aliases_are_no_repeated_keys(tmp_path: Path) -> None:
    path = tmp_path / "alias.yaml"
    path.write_text("models:\n- {model: hf/x, sampling: &warm {seed: 1}}\n- {name: y, model: hf/x, sampling: *warm}\n")
    assert [m.sampling.seed for m in load_plan(path).models] == [1, 1]


def test_the_example_plan_is_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    write_example(path)
    assert load_plan(path).models
    with pytest.raises(UserError, match="exists already"):
        write_example(path)
    with pytest.raises(UserError, match="cannot be written"):
        write_example(tmp_path / "no-such-folder" / "plan.yaml")


def test_the_quickstart_plan_is_one() -> None:
    assert load_plan(Path(__file__).parent.parent / "examples" / "quickstart.yaml").judges


def adhoc(folder: Path, model: dict[str, Any] | None = None, task: dict[str, Any] | None = None) -> Plan:
    return adhoc_plan(
        folder,
        models=[{"model": "hf/x", "system": None, **(model or {})}],
        benchmarks=[{"task": "gsm8k", "limit": None, "generation": "", **(task or {})}],
        seed=3,
        task_folders=[],
    )


def test_command_line_words_make_a_plan_that_stays_beside_its_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    plan = adhoc(
        folder, {"system": "Be brief."}, {"limit": 5, "generation": "temperature=0.7, do_sample=true,max_gen_toks=64"}
    )
    assert not folder.exists(), "a dry run leaves nothing"
    keep_plan(plan, folder)
    assert plan == load_plan(folder / "plan.yaml")
    assert plan.store == str(folder / "evalkit.db")
    assert (plan.seed, plan.models[0].system) == (3, "Be brief.")
    assert plan.benchmarks[0].generation == {"temperature": 0.7, "do_sample": True, "max_gen_toks": 64}
    assert "revision" not in yaml.safe_load((folder / "plan.yaml").read_text())["models"][0]


@pytest.mark.parametrize(
    ("model", "task", "said"),
    [
        ({"model": "gpt-4"}, {}, "'gpt-4' is not PROVIDER/NAME"),
        ({"dtype": "fp8"}, {}, "--dtype: Input should be 'auto'"),
        ({"batch_size": 0}, {}, "--batch_size: Input should be greater than 0"),
        ({}, {"limit": -1}, "--limit: Input should be greater than 0, not -1"),
        ({}, {"limit": float("inf")}, "--limit: Input should be a finite number, not inf"),
        ({"base_url": "localhost:8000/v1"}, {}, "--base_url: 'localhost:8000/v1' is not a URL of the form http://"),
        ({}, {"generation": "temperature"}, "--gen_kwargs: 'temperature' is not key=value"),
        ({}, {"generation": "until=[a"}, "--gen_kwargs: 'until=[a'"),
    ],
)
def test_wrong_options_leave_no_folder(tmp_path: Path, model: dict[str, Any], task: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        adhoc(tmp_path / "out", model, task)
    assert said in str(caught.value)
    assert caught.value.code == 2
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(UserError, match="must be a folder, and there is a file"):
            keep_plan(adhoc(folder), folder)


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "ftp://x/v1", "http://", "http://[::1/v1"])
def test_an_address_that_is_none_is_not_taken_for_openais(url: str) -> None:
    with pytest.raises(ValidationError, match="is not a URL of the form"):
        Plan.model_validate({"models": [{"model": "openai/m", "base_url": url}]})


def test_a_fault_of_the_whole_starts_with_a_word(tmp_path: Path) -> None:
    models = [{"model": "hf/x"}, {"model": "hf/x"}]
    with pytest.raises(UserError, match=r"^two models have the name 'hf/x'"):
        adhoc_plan(tmp_path, models=models, benchmarks=[{"task": "g", "generation": ""}], seed=0, task_folders=[])


def test_a_judges_model_has_no_system_prompt_of_its_own() -> None:
    judge = {"name": "j", "model": {"model": "openai/x", "system": "Be kind."}}
    with pytest.raises(ValidationError, match="stands in its prompt file"):
        Plan.model_validate({"models": ["openai/y"], "arena": {"tasks": ["t"]}, "judges": [judge]})


def test_a_stored_plan_is_read_back_as_it_was() -> None:
    judges = [{"name": "v", "kind": "verifier"}, {"name": "j", "model": "openai/x"}]
    juries = [{"members": ["v", "j"]}, {"name": "frugal", "members": ["v", "j"], "adaptive": {}}]
    plan = Plan.model_validate({"models": ["hf/x"], "arena": {"tasks": ["t"]}, "judges": judges, "juries": juries})
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan
