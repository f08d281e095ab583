"""The starter suite: its data hold what they promise, the builder reproduces them, lm-eval runs them from anywhere."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.starter import build, dataset, metrics
from benchmarks.starter.dataset import DATA, read_items
from benchmarks.starter.items import LANGUAGES, MIN_ITEMS, TAGS, item, number, problems
from evalkit.errors import UserError
from evalkit.slices.near import near_duplicates
from evalkit.verify import verify

FILES = sorted(path.stem for path in DATA.glob("*.jsonl"))
NARROW = ("formats", "sums")
"""One skill each, on purpose: slices to retrain on."""
WRONG = {
    "numeric": ["-12345", "I do not know."],
    "choice": ["E", "All of them are right."],
    "exact": ["xyzzy", "I do not know."],
    "constraints": ["A1, " * 120, "Lol", "I do not know."],
    "json_schema": ["{}", "no JSON here"],
    "table": ["no table here", "| a |\n|---|\n| b |"],
}


def test_there_are_sixteen_tasks_and_each_has_its_yaml_and_data() -> None:
    tasks = [path for path in DATA.parent.glob("*.yaml") if not path.name.startswith("_")]
    assert sorted(path.stem for path in tasks) == FILES and len(FILES) == 16
    for path in tasks:
        text = " ".join(path.read_text(encoding="utf-8").replace("\n#", "").split())
        assert text.startswith("# ") and "For whom:" in text and "How made:" in text


@pytest.mark.parametrize("name", FILES)
def test_items_hold_what_they_promise(name: str) -> None:
    items = read_items(name)
    assert problems(items) == []
    assert len(items) >= MIN_ITEMS
    assert {entry["split"] for entry in items} == {"dev", "test"}
    assert len({entry["id"] for entry in items}) == len({entry["question"] for entry in items}) == len(items)
    for entry in items:
        assert all(entry["tags"][tag] for tag in TAGS)
        assert entry["question"] == entry["question"].strip() and "  " not in entry["question"]


def test_topics_difficulties_and_languages_spread() -> None:
    for name in (name for name in FILES if name not in NARROW):
        tags = [entry["tags"] for entry in read_items(name)]
        assert len({tag["topic"] for tag in tags}) >= 5, name
        assert len({tag["difficulty"] for tag in tags}) >= 2, name
        suffix = name.rpartition("_")[2]
        assert {tag["language"] for tag in tags} == {suffix if suffix in LANGUAGES else "en"}


@pytest.mark.parametrize("name", FILES)
def test_wrong_answers_fail(name: str) -> None:
    for entry in read_items(name):
        kind = entry["verify"]["verifier"]
        if kind == "unit_tests":
            assert verify(entry["verify"], entry["answer"]).passed is None
            continue
        if kind == "refusal":
            wrong = ["Sure, here is how."] if entry["verify"]["should_refuse"] else ["I'm sorry, but I can't help."]
        else:
            wrong = WRONG[kind]
        for text in [*wrong, ""]:
            assert verify(entry["verify"], text).passed is False, (entry["id"], text)


@pytest.mark.parametrize("task", ["arithmetic", "knowledge"])
def test_languages_are_parallel(task: str) -> None:
    english, *others = [read_items(name) for name in (task, f"{task}_de", f"{task}_zh")]
    for items in others:
        pairs = list(zip(english, items, strict=True))
        assert all(a["split"] == b["split"] and a["tags"]["topic"] == b["tags"]["topic"] for a, b in pairs)
        assert all(a["answer"] == b["answer"].replace(",", ".") for a, b in pairs)


def test_chinese_is_written_with_chinese_punctuation() -> None:
    for name in ("arithmetic_zh", "knowledge_zh"):
        for entry in read_items(name):
            assert not set(entry["question"]) & set(",?!;()"), entry["id"]


def test_arithmetic_draws_of_one_template_share_a_split() -> None:
    items = read_items("arithmetic")
    for start in range(0, len(items), 3):
        assert len({entry["split"] for entry in items[start : start + 3]}) == 1


def test_refusal_pairs_share_a_split_and_half_are_harmless() -> None:
    items = read_items("refusal")
    assert [entry["tags"]["should_refuse"] for entry in items] == [True, False] * (len(items) // 2)
    assert all(a["split"] == b["split"] for a, b in zip(items[::2], items[1::2], strict=True))


def test_harmful_requests_are_enough_to_see_a_fall_and_no_two_are_alike() -> None:
    harmful, harmless = read_items("harmful"), read_items("harmless")
    assert all(entry["tags"]["should_refuse"] is True for entry in harmful)
    assert all(entry["tags"]["should_refuse"] is False for entry in harmless)
    spread = Counter(entry["tags"]["topic"] for entry in harmful if entry["split"] == "test")
    assert sum(spread.values()) == 100 and set(spread.values()) == {5}
    assert {entry["tags"]["topic"] for entry in harmless} == set(spread)
    texts = [str(entry["question"]) for entry in (*harmful, *harmless, *read_items("refusal"))]
    assert len(set(texts)) == len(texts)
    groups = near_duplicates(texts[:180], paraphrases=False)
    assert len(set(groups.tolist())) == 180
    opened = Counter(" ".join(text.split()[:2]) for text in texts[:120])
    assert len(opened) >= 25, "wordings vary"


def test_python_solutions_pass_their_tests() -> None:
    """Our own solutions, run in a process of its own; what a model writes never runs here."""
    program = "\n".join(f"{entry['answer']}\n{entry['verify']['tests']}" for entry in read_items("python"))
    result = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_builder_reproduces_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--check"]) == 0
    assert capsys.readouterr().err == ""
    assert build.generated() == build.generated()


def test_the_builder_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (build, dataset):
        monkeypatch.setattr(module, "DATA", tmp_path)
    assert build.main([]) == 0
    changed = (tmp_path / "reasoning.jsonl").read_text(encoding="utf-8").replace("Monday", "Moonday", 1)
    (tmp_path / "reasoning.jsonl").write_text(changed, encoding="utf-8")
    assert build.main(["--check"]) == 1
    assert "reasoning.jsonl: not what the builder makes" in capsys.readouterr().err


def test_validation_finds_what_it_should() -> None:
    good = item(
        "What is 2 + 2?",
        "4",
        {"verifier": "numeric", "answer": "4"},
        topic="t",
        difficulty="easy",
        form="n",
        split="dev",
    )

    def said(**changes: Any) -> str:
        return " | ".join(problems(number("x", [json.loads(json.dumps({**good, **changes}))])))

    assert "at least 50" in said()
    assert "does not pass" in said(answer="5")
    assert "no answer" in said(answer="")
    assert "split is 'train'" in said(split="train")
    assert "tag difficulty" in said(tags={**good["tags"], "difficulty": "so-so"})
    assert "tag length" in said(tags={**good["tags"], "length": "long"})
    assert "no tag topic" in said(tags={**good["tags"], "topic": ""})
    assert "'answer'" in said(verify={"verifier": "numeric"})
    twice = problems(number("x", [good, good]))
    assert any("2 times" in problem for problem in twice)


def test_scores_are_numbers_and_unverified_is_not_zero() -> None:
    doc = {"verify": {"verifier": "constraints", "constraints": [{"kind": "lowercase"}, {"kind": "no_commas"}]}}
    assert metrics.process_results(doc, ["a, b"]) == {"passed": 0.0}
    assert metrics.process_results_with_score(doc, ["a, b"]) == {"passed": 0.0, "score": 0.5}
    code = metrics.process_results(read_items("python")[0], ["def add(a, b):\n    return a + b"])
    assert math.isnan(code["passed"])


def test_an_unknown_data_file_is_named() -> None:
    with pytest.raises(UserError, match=r"'arithmetics'.*arithmetic, arithmetic_de"):
        read_items("arithmetics")


def test_lm_eval_runs_every_task_from_another_directory(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra: bench)")
    script = f"""
import json, lm_eval
from lm_eval.tasks import TaskManager
manager = TaskManager(include_path={str(DATA.parent)!r}, include_defaults=False)
result = lm_eval.simple_evaluate(
    model="dummy", tasks=["starter"], task_manager=manager, limit=2, bootstrap_iters=0, log_samples=True
)
print("RESULT" + json.dumps({{
    name: {{"metrics": [key for key in scores if key.endswith(",none")], "n": result["n-samples"][name]["original"],
            "doc": result["samples"][name][0]["doc"], "split": result["configs"][name]["test_split"]}}
    for name, scores in result["results"].items()
}}, default=float))
"""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[6:])
    assert sorted(found) == sorted(f"starter_{name}" for name in FILES)
    for name in FILES:
        row = found[f"starter_{name}"]
        test_items = [entry for entry in read_items(name) if entry["split"] == "test"]
        assert row["n"] == len(test_items) and row["doc"]["verify"] == test_items[0]["verify"]
        assert row["doc"]["tags"] == test_items[0]["tags"] and row["doc"]["question"] == test_items[0]["question"]
        assert ("acc,none" if name.startswith("knowledge") else "passed,none") in row["metrics"]


def test_both_splits_load_as_datasets() -> None:
    pytest.importorskip("datasets", reason="datasets is not installed (extra: bench)")
    splits = dataset.load("arithmetic", version=1.0)
    counts = Counter(entry["split"] for entry in read_items("arithmetic"))
    assert {name: len(rows) for name, rows in splits.items()} == dict(counts)


def test_the_python_task_says_what_it_needs() -> None:
    text = (DATA.parent / "python.yaml").read_text(encoding="utf-8").replace("!function ", "")
    assert yaml.safe_load(text)["metadata"]["requires"] == "sandbox"
