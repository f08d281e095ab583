"""From a plan's model to a ChatModel: settings that make the identity, and those that do not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.models import Request
from evalkit.models.base import request_key
from evalkit.models.load import load_model
from evalkit.plan import ModelPlan


def settings(**keys: Any) -> Any:
    return load_model(ModelPlan.model_validate(keys)).settings


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def test_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ModelPlan(model="openai/org/name", base_url="http://localhost:8000/v1/", max_concurrency=7)
    model = load_model(plan)
    assert (model.settings.name, model.settings.endpoint) == ("org/name", "http://localhost:8000/v1")
    assert model.settings.label == "openai/org/name"
    assert model.max_concurrency == 7
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert settings(model="openai/org/name").endpoint == "http://elsewhere/v1"


def test_a_local_folder_is_its_content_whatever_the_path(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = settings(model=f"hf/{tiny}", dtype="float32")
    monkeypatch.chdir(tiny.parent)
    relative = settings(model=f"hf/./{tiny.name}", dtype="float32", name="mine", batch_size=1)
    assert absolute.hash == relative.hash
    assert relative.label == "mine"
    assert len(str(relative.revision)) == 64
    assert settings(model=f"hf/{tiny}", dtype="bfloat16").hash != absolute.hash


def test_other_settings_are_other_models_and_other_requests(tiny: Path) -> None:
    variants = [
        {},
        {"system": "Be brief."},
        {"sampling": {"temperature": 0.7}},
        {"sampling": {"temperature": 0.7, "seed": 1}},
        {"extra": {"context_length": 128}},
        {"dtype": "bfloat16"},
    ]
    found = [settings(model=f"hf/{tiny}", **({"dtype": "float32"} | v)) for v in variants]
    assert len({s.hash for s in found}) == len(variants)
    request = Request(messages=({"role": "user", "content": "q"},))
    keys = {request_key(request.effective(s).body(s)) for s in found}
    assert len(keys) == len(variants)


def test_recorded_answers_keep_the_name_that_boards_and_plans_use(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"item_id": "1", "model": "gpt-4", "prompt": "p", "response": "r"}))
    plan = ModelPlan(model=f"recorded/{file}#gpt-4")
    assert load_model(plan).settings.label == plan.label == "gpt-4"
    assert settings(model=f"recorded/{file}#gpt-4", name="GPT-4").label == "GPT-4"
    assert settings(model=f"recorded/{file}").name == "gpt-4"


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no embedded model 'gpt-4'"):
        settings(model="embedded/gpt-4")
    with pytest.raises(UserError, match="evalkit models pull smollm2-135m-instruct"):
        settings(model="embedded/smollm2-135m-instruct")
    with pytest.raises(UserError, match="no such folder"):
        settings(model=f"hf/{tmp_path}/none/at/all")
    with pytest.raises(UserError, match="cannot be read"):
        settings(model=f"recorded/{tmp_path}/none.jsonl#m")


def test_vllm_is_asked_for_only_at_the_first_request(tiny: Path) -> None:
    model = load_model(ModelPlan(model=f"vllm/{tiny}", batch_size=9))
    assert model.settings.provider == "vllm"
    assert model.batch_size == 9
    assert "vllm" not in sys.modules


def test_loading_imports_no_torch(tiny: Path) -> None:
    import os
    import subprocess

    root = Path(__file__).resolve().parent.parent.parent
    code = (
        "import sys; from evalkit.models.load import load_model; from evalkit.plan import ModelPlan\n"
        f"load_model(ModelPlan(model={'hf/' + str(tiny)!r})); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == 0
