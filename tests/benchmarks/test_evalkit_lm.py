"""The lm-eval model class itself, and what it makes of generation arguments and templates."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lm_eval")

from bench_support import Scripted

from benchmarks import documents, ifeval_data, lm
from benchmarks.lm import Chat, Document, cut, sampling, takes_chat
from benchmarks.tasks import TaskSpec, load
from evalkit.engine import Engine
from evalkit.errors import UserError
from evalkit.models.base import RequestFailed, Sampling
from evalkit.store import Ledger


def test_generation_arguments() -> None:
    assert sampling({}) == Sampling(temperature=0.0, max_tokens=256)
    assert sampling({"until": "\n", "do_sample": False, "temperature": 0.7, "max_gen_toks": 5}) == Sampling(
        temperature=0.0, max_tokens=5, stop=("\n",)
    )
    drawn = sampling({"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 9, "num_beams": 2})
    assert drawn == Sampling(temperature=0.7, top_p=0.9, max_tokens=9, extra={"num_beams": 2})
    assert sampling({"do_sample": True}).temperature == 1.0


def test_cut_takes_the_first_stop() -> None:
    assert cut("one. two; three", (";", ".", "")) == "one"


def test_when_a_template_applies() -> None:
    endpoint = Scripted(lambda _: "")
    assert takes_chat(endpoint, "generate_until", "auto") and not takes_chat(endpoint, "multiple_choice", "auto")
    assert not takes_chat(endpoint, "generate_until", False)
    local = Scripted(lambda _: "")
    local.tokens = SimpleNamespace(has_chat_template=True)  # type: ignore[attr-defined]
    assert takes_chat(local, "multiple_choice", "auto")
    local.tokens = SimpleNamespace(has_chat_template=False)  # type: ignore[attr-defined]
    assert not takes_chat(local, "generate_until", "auto")
    with pytest.raises(UserError, match="its tokenizer has none"):
        takes_chat(local, "generate_until", True)


def evaluate(model: Scripted, ledger: Ledger, folder: Path) -> dict[str, float]:
    """Runs lm-eval's own evaluate on our class."""
    import lm_eval

    loaded = load(TaskSpec("tiny"), [folder])
    run_id = ledger.start_run("test", {}, seed=0, environment={})
    (model_id,) = ledger.add_models([model.settings])
    places: dict[tuple[str, int], Document] = {}
    for name, task in loaded.tasks.items():
        dataset_id, ids = ledger.add_dataset(name, documents.items(task, None))
        places.update({(name, n): Document(item_id, dataset_id) for n, item_id in enumerate(ids)})
    with Engine(ledger, run_id) as engine, contextlib.redirect_stderr(io.StringIO()):
        results = lm_eval.evaluate(
            lm=lm.EvalkitLM(engine, model, model_id, places),
            task_dict={"tasks": loaded.tasks, "groups": loaded.groups},
            bootstrap_iters=0,
        )
    return {name: r.get("acc,none", r.get("exact_match,none")) for name, r in results["results"].items()}


def test_lm_eval_can_drive_it(ledger: Ledger, task_folder: Path) -> None:
    scores = evaluate(Scripted(lambda _: "dog"), ledger, task_folder)
    assert scores == {"tiny_generate": 1 / 12, "tiny_choice": 4 / 12, "tiny": 4 / 12}


def test_a_failure_stops_lm_evals_own_loop(ledger: Ledger, task_folder: Path) -> None:
    with pytest.raises(RequestFailed, match="wrong key"):
        evaluate(Scripted(lambda _: RequestFailed("auth", "wrong key")), ledger, task_folder)


def test_perplexity_tasks_are_refused() -> None:
    with pytest.raises(UserError, match="wikitext measures perplexity"):
        lm.refuse_perplexity({"wikitext": SimpleNamespace(OUTPUT_TYPE="loglikelihood_rolling")})


def test_a_chat_is_hashed_by_content() -> None:
    assert Chat(({"role": "user", "content": "ä"},)).encode() == '[{"content":"ä","role":"user"}]'.encode()


def test_ifevals_sentence_model_comes_from_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk")
    pytest.importorskip("punkt")
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", [])
    ifeval_data.ensure()
    ifeval_data.ensure()
    folder = tmp_path / "nltk_data" / "tokenizers" / "punkt_tab" / "english"
    assert sorted(f.name for f in folder.iterdir()) == sorted(ifeval_data.FILES)
    tokenizer = nltk.tokenize.PunktTokenizer("english")
    assert len(tokenizer.tokenize("Dr. Smith left at 5 p.m. on Monday. He met Mr. Jones! Why?")) == 3
