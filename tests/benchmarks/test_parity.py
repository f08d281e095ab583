"""Scores of the same weights through evalkit and through lm-eval's own `hf` model: equal to the last digit."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
pytest.importorskip("torch")

from benchmarks import bridge
from benchmarks.tasks import TaskSpec
from evalkit.engine import Engine
from evalkit.models.base import ModelSettings
from evalkit.models.local import LocalModel
from evalkit.store import Ledger
from evalkit.store.schema import Response

TASKS = ("tiny", "tiny_likelihood")


def lm_eval_scores(model: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch, shots: int, chat: bool) -> Any:
    import lm_eval
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    monkeypatch.chdir(tasks)  # lm-eval reads the data files' relative names from where it stands
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model), "dtype": "float32"},
            tasks=list(TASKS),
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            device="cpu",
            batch_size=1,
            num_fewshot=shots,
            apply_chat_template=chat,
            bootstrap_iters=1000,
            gen_kwargs={"max_gen_toks": 6},
        )


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("shots", [0, 2])
def test_scores_equal_lm_evals_own(
    tiny_llama: Path, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shots: int, chat: bool
) -> None:
    reference = lm_eval_scores(tiny_llama, task_folder, monkeypatch, shots, chat)
    model = LocalModel(ModelSettings("hf", "tiny", dtype="float32"), tiny_llama, batch_size=1)
    specs = [TaskSpec(t, shots, chat_template=chat, generation={"max_gen_toks": 6}) for t in TASKS]
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        run_id = ledger.start_run("parity", {}, seed=0, environment={})
        (model_id,) = ledger.add_models([model.settings])
        with Engine(ledger, run_id) as engine:
            report = bridge.run_tasks(engine, ledger, run_id, model, model_id, specs, include=[task_folder])
        with ledger.engine.connect() as connection:
            texts = set(connection.scalars(Response.__table__.select().with_only_columns(Response.text)))
    assert report.errors == 0
    assert {"tiny", "tiny_generate", "tiny_choice", "tiny_likelihood"} == {s.name for s in report.scores}
    for score in report.scores:
        base, filter_name = score.metric.split(",")
        theirs = reference["results"][score.name]
        assert score.value == theirs[score.metric], (score.name, score.metric)
        stderr = theirs[f"{base}_stderr,{filter_name}"]
        if score.name == "tiny_choice" and base.startswith("acc"):
            assert score.stderr != stderr  # this task names its clusters, which lm-eval does not know
        else:
            assert score.stderr == (None if stderr == "N/A" else stderr)
        assert score.n == (theirs["sample_len"] if score.name != "tiny" else 12)
    generated = {s["resps"][0][0] for s in reference["samples"]["tiny_generate"]}
    assert generated <= texts and len(generated) > 3
    assert reference["results"]["tiny_choice"]["acc,none"] > 0
