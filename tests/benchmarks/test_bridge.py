"""Items, responses, grades and scores as they land in the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

pytest.importorskip("lm_eval")

from bench_support import ANIMALS, COLOURS, Scripted, rows

from benchmarks import bridge
from benchmarks.tasks import TaskSpec
from evalkit.engine import Engine
from evalkit.errors import UserError
from evalkit.models.base import ModelSettings, RequestFailed
from evalkit.store import Ledger
from evalkit.store.schema import Annotator, Dataset, Grade, Item, Response, Score

FAILS = "Question 3:"


def animal_of(prompt: str) -> str | RequestFailed:
    """Right for two of three questions; question 3 gets no answer."""
    if FAILS in prompt:
        return RequestFailed("content_filter", "the endpoint refuses")
    number = int(prompt.rsplit("Question ", 1)[1].split(":")[0])
    return ANIMALS[number % len(ANIMALS)] if number % 3 else "whale"


def run(ledger: Ledger, model: Scripted, folder: Path, *specs: TaskSpec) -> bridge.Report:
    run_id = ledger.start_run("test", {"specs": [str(s) for s in specs]}, seed=0, environment={})
    (model_id,) = ledger.add_models([model.settings])
    with Engine(ledger, run_id) as engine:
        return bridge.run_tasks(engine, ledger, run_id, model, model_id, specs, include=[folder])


def all_rows(ledger: Ledger, table: type, *order: object) -> list[sa.Row]:  # type: ignore[type-arg]
    with ledger.engine.connect() as connection:
        return list(connection.execute(sa.select(table.__table__).order_by(*order)))  # type: ignore[attr-defined, arg-type]


def test_a_failed_document_is_an_error_not_a_zero(ledger: Ledger, task_folder: Path) -> None:
    report = run(ledger, Scripted(animal_of), task_folder, TaskSpec("tiny_generate"))
    (score,) = [s for s in report.scores if s.metric == "exact_match,none"]
    # Of 12 questions number 3 failed; of the other 11, 0, 6 and 9 are wrong, and "hen" and "emu" end at the stop "e".
    assert (score.value, score.n, score.errors) == (pytest.approx(6 / 11), 11, 1)
    assert score.stderr == pytest.approx((6 / 11 * 5 / 11 / 10) ** 0.5)
    assert report.errors == 1 and report.failed == {"tiny_generate": 1}
    stored = {s.metric: s for s in all_rows(ledger, Score)}
    assert stored["exact_match,none"].errors == 1 and stored["exact_match,none"].n == 11
    grades = all_rows(ledger, Grade)
    assert len(grades) == 22  # two filters, eleven answers
    assert {g.criterion for g in grades} == {"exact_match,letters", "exact_match,none"}
    assert {"dog", "owl", "h"} < {g.detail["filtered"] for g in grades}
    (failed,) = [r for r in all_rows(ledger, Response) if r.error_kind]
    assert failed.error_kind == "content_filter" and failed.id not in {g.response_id for g in grades}


def test_all_failed_still_has_its_score_row(ledger: Ledger, task_folder: Path) -> None:
    model = Scripted(lambda _: RequestFailed("auth", "wrong key"))
    report = run(ledger, model, task_folder, TaskSpec("tiny_generate", limit=2))
    assert {(s.metric, s.value, s.n, s.errors) for s in report.scores} == {
        ("exact_match,letters", None, 0, 2),
        ("exact_match,none", None, 0, 2),
    }


def test_items_are_the_same_whatever_stands_around_them(ledger: Ledger, task_folder: Path) -> None:
    run(ledger, Scripted(animal_of, "a"), task_folder, TaskSpec("tiny_generate", num_fewshot=0))
    run(ledger, Scripted(animal_of, "b"), task_folder, TaskSpec("tiny_generate", num_fewshot=2, chat_template=False))
    items = all_rows(ledger, Item, Item.id)
    assert len(items) == 12 and len(all_rows(ledger, Dataset)) == 1
    first = rows(0, 1)[0]
    assert items[0].messages == [{"role": "user", "content": first["question"]}]
    assert items[0].reference["target"] == first["animal"]
    assert items[0].tags == {"colour": COLOURS[0], "length": "short", "benchmark": "tiny_generate"}


def test_chat_models_get_turns_and_raw_ones_text(ledger: Ledger, task_folder: Path) -> None:
    chat, raw = Scripted(animal_of, "chat"), Scripted(animal_of, "raw")
    run(ledger, chat, task_folder, TaskSpec("tiny_generate", num_fewshot=2, limit=1))
    run(ledger, raw, task_folder, TaskSpec("tiny_generate", num_fewshot=2, limit=1, chat_template=False))
    roles = [m["role"] for m in chat.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert raw.requests[0].prompt is not None and raw.requests[0].prompt.startswith("Name the animal. Question 10")
    assert chat.requests[0].sampling.stop == ("e",) and chat.requests[0].sampling.max_tokens == 12
    assert chat.requests[0].sampling.temperature == 0.0


def test_the_models_system_prompt_joins_the_tasks(ledger: Ledger, task_folder: Path) -> None:
    model = Scripted(animal_of)
    model.settings = ModelSettings("test", "polite", system="Be polite.")
    run(ledger, model, task_folder, TaskSpec("tiny_generate", limit=1))
    assert model.requests[0].messages[0]["content"].startswith("Be polite.\n\nName the animal.")


def test_choices_of_a_document_are_one_request(ledger: Ledger, task_folder: Path) -> None:
    model = Scripted(animal_of)
    report = run(ledger, model, task_folder, TaskSpec("tiny_choice"))
    assert len(model.requests) == 12 and {len(r.pairs) for r in model.requests} == {3}
    (acc,) = [s for s in report.scores if s.metric == "acc,none"]
    assert acc.value == pytest.approx(4 / 12)  # always the shortest, "red", which is choice 0
    chosen = {g.detail["text"] for g in all_rows(ledger, Grade)}
    assert all(text.startswith("red") for text in chosen)


def test_group_scores(ledger: Ledger, task_folder: Path) -> None:
    report = run(ledger, Scripted(animal_of), task_folder, TaskSpec("tiny"))
    (group,) = [s for s in report.scores if s.name == "tiny"]
    assert group.metric == "acc,none" and group.n == 12
    assert "group of tiny_generate, tiny_choice" in {d.source for d in all_rows(ledger, Dataset)}


def test_nothing_is_asked_twice(ledger: Ledger, task_folder: Path) -> None:
    first, second = Scripted(animal_of), Scripted(animal_of)
    before = run(ledger, first, task_folder, TaskSpec("tiny_generate"))
    after = run(ledger, second, task_folder, TaskSpec("tiny_generate"))
    assert len(first.requests) == 12 and len(second.requests) == 1  # the failure is tried again
    assert before.scores == after.scores
    assert len(all_rows(ledger, Grade)) == 22


def test_annotators_follow_the_definition(ledger: Ledger, task_folder: Path, tmp_path: Path) -> None:
    run(ledger, Scripted(animal_of), task_folder, TaskSpec("tiny_generate"))
    changed = yaml.safe_load((task_folder / "g.yaml").read_text())
    changed["filter_list"][0]["filter"][0]["regex_pattern"] = "([A-Z]+)"
    changed["dataset_kwargs"]["data_files"] = {s: str(task_folder / f"{s}.jsonl") for s in ("test", "train")}
    (tmp_path / "g.yaml").write_text(yaml.safe_dump(changed))
    run(ledger, Scripted(animal_of), tmp_path, TaskSpec("tiny_generate"))
    names = [a.name for a in all_rows(ledger, Annotator)]
    assert sorted(names) == ["tiny_generate exact_match,letters"] * 2 + ["tiny_generate exact_match,none"]


def test_a_metric_that_fails_is_an_error(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(r) for r in rows(0, 6)))
    (tmp_path / "own.py").write_text(
        "def score(doc, results):\n"
        "    if doc['answer'] == 0:\n        raise ValueError('no idea')\n"
        "    return {'mine': float('nan') if doc['answer'] == 1 else 1.0}\n"
    )
    (tmp_path / "own.yaml").write_text(
        "task: own\ndataset_path: json\ndataset_kwargs: {data_files: {test: test.jsonl}}\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{animal}}'\n"
        "generation_kwargs: {until: []}\nprocess_results: !function own.score\n"
        "metric_list: [{metric: mine, aggregation: mean, higher_is_better: true}]\n"
    )
    report = run(ledger, Scripted(lambda _: "x"), tmp_path, TaskSpec("own"))
    assert [(s.metric, s.value, s.n, s.errors) for s in report.scores] == [("mine,none", 1.0, 2, 4)]
    errors = [g.error for g in all_rows(ledger, Grade) if g.error]
    assert sorted(set(errors)) == ["scoring failed: ValueError: no idea", "the answer could not be verified"]
    assert report.errors == 4


def test_what_cannot_be_asked_says_so(ledger: Ledger, task_folder: Path) -> None:
    with pytest.raises(UserError, match="chat_template: true is not possible for multiple_choice"):
        run(ledger, Scripted(animal_of), task_folder, TaskSpec("tiny_choice", chat_template=True))
    with pytest.raises(UserError, match="tiny_choice is asked for twice, by tiny and by tiny_choice"):
        run(ledger, Scripted(animal_of), task_folder, TaskSpec("tiny"), TaskSpec("tiny_choice"))


def test_verifiers_that_draw_draw_what_they_draw_under_lm_eval(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Silent(LM):
        def generate_until(self, requests: list[object], disable_tqdm: bool = False) -> list[str]:
            return ["" for _ in requests]

        loglikelihood = loglikelihood_rolling = generate_until

    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(r) for r in rows(0, 5)))
    (tmp_path / "draws.py").write_text(
        "import random\n\ndef luck(doc, results):\n    return {'luck': random.random()}\n"
    )
    (tmp_path / "drawn.yaml").write_text(
        "task: drawn\ndataset_path: json\ndataset_kwargs: {data_files: {test: test.jsonl}}\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{animal}}'\n"
        "generation_kwargs: {until: []}\nprocess_results: !function draws.luck\n"
        "metric_list: [{metric: luck, aggregation: mean, higher_is_better: true}]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    reference = lm_eval.simple_evaluate(Silent(), tasks=["drawn"], task_manager=manager)
    run(ledger, Scripted(lambda _: "x"), tmp_path, TaskSpec("drawn"))
    ours = [g.value for g in all_rows(ledger, Grade, Grade.__table__.c.id)]
    assert reference is not None and len(set(ours)) == 5
    assert ours == [s["luck"] for s in reference["samples"]["drawn"]]
