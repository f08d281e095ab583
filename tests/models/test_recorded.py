"""Recorded answers: matching a request to what was once said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.models import Request, RequestFailed
from evalkit.models.recorded import RecordedModel


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    rows = [
        ("gpt-4", "How much is 3 + 4?", "7"),
        ("gpt-4", "How much is 3 + 4?", "Seven."),
        ("gpt-4", "Capital of France?", "Paris"),
        ("gpt-4", "France?", "A country."),
        ("other", "How much is 3 + 4?", "eight"),
    ]
    lines = [
        json.dumps({"item_id": str(i), "model": m, "prompt": p, "response": r}) for i, (m, p, r) in enumerate(rows)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def user(text: str, sample: int = 0) -> Request:
    return Request(messages=({"role": "user", "content": text},), sample=sample)


def ask(model: RecordedModel, request: Request) -> str:
    return asyncio.run(model.reply(request)).text


def test_the_same_prompt_gives_the_models_own_answers_in_order(file: Path) -> None:
    model = RecordedModel(file, "gpt-4")
    assert ask(model, user("How much is 3 + 4?")) == "7"
    assert ask(model, user("How much is 3 + 4?", sample=1)) == "Seven."
    assert ask(RecordedModel(file, "other"), user("How much is 3 + 4?")) == "eight"
    assert ask(model, Request(prompt="Capital of France?")) == "Paris"


def test_a_frame_around_the_prompt_does_not_hide_it(file: Path) -> None:
    model = RecordedModel(file, "gpt-4")
    assert ask(model, user("Question: How much is 3 + 4?\nAnswer:")) == "7"
    shots = "Question: Capital of France?\nAnswer: Paris\n\nQuestion: How much is 3 + 4?\nAnswer:"
    assert ask(model, user(shots)) == "7", "the last prompt counts, not a worked example"
    assert ask(model, user("Q: Capital of France? A:")) == "Paris", "the longer of two that end together"


def test_what_was_not_recorded_is_missing_and_never_retried(file: Path) -> None:
    model = RecordedModel(file, "gpt-4")
    for request in (user("Who?"), user("How much is 3 + 4?", sample=2), user("")):
        with pytest.raises(RequestFailed) as caught:
            ask(model, request)
        assert caught.value.kind == "missing"
        assert not caught.value.retryable
    with pytest.raises(RequestFailed, match="no log-likelihoods"):
        ask(model, Request(pairs=(("a", "b"),)))


def test_a_recorded_failure_is_one_again_and_keeps_its_place_among_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "item_id,model,prompt,response,sample,error_kind\n1,m,q,third,2,\n1,m,q,,0,timeout\n1,m,q,,1,\n",
        encoding="utf-8",
    )
    model = RecordedModel(path, "m")
    for sample, kind in ((0, "timeout"), (1, "empty"), (3, "missing")):
        with pytest.raises(RequestFailed) as caught:
            ask(model, user("q", sample))
        assert caught.value.kind == kind
    assert ask(model, user("q", 2)) == "third"


def test_the_model_must_be_named_where_there_are_several(file: Path, tmp_path: Path) -> None:
    for name in ("", "gpt-5"):
        with pytest.raises(UserError, match=r"recorded/.*#MODEL: gpt-4, other"):
            RecordedModel(file, name)
    single = tmp_path / "one.jsonl"
    single.write_text(file.read_text().splitlines()[0])
    assert RecordedModel(single, "").settings.name == "gpt-4"


def test_the_files_content_is_part_of_who_it_is(file: Path) -> None:
    before = RecordedModel(file, "gpt-4", label="GPT-4").settings
    assert (before.provider, before.label) == ("recorded", "GPT-4")
    file.write_text(file.read_text().replace("Seven", "seven"))
    assert RecordedModel(file, "gpt-4").settings.hash != before.hash


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "line 1"), ('{"item_id": "1", "model": "m", "prompt": "p"}', "response"), ("", "answers")],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        RecordedModel(path, "m")
    with pytest.raises(UserError, match="cannot be read"):
        RecordedModel(tmp_path / "none.jsonl", "m")
