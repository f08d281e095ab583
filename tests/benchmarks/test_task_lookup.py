"""From a task's name to its definition and data; the mirror; what is said when something is missing."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import tasks
from benchmarks.tasks import TaskSpec, list_tasks, load, read_yaml
from evalkit.errors import UserError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a mirror with a few rows of ours in the shape of the real files."""
    root = tmp_path / "data"
    for folder in ("gsm8k", "mmlu/dev", "mmlu/test", "math"):
        (root / folder).mkdir(parents=True)
    problem = {"question": "How many legs have two cats?", "answer": "2*4=8\n#### 8"}
    (root / "gsm8k/test.jsonl").write_text(json.dumps(problem) + "\n")
    with gzip.open(root / "gsm8k/train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({**problem, "question": f"{i} cats?"}) + "\n" for i in range(6))
    for split, n in (("dev", 5), ("test", 2)):
        with (root / f"mmlu/{split}/anatomy_{split}.csv").open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["question", "choice0", "choice1", "choice2", "choice3", "answer"])
            writer.writerows([f'A "quoted, {i}"?', "one", "two", "three", "four", i % 4] for i in range(n))
    competition = {"problem": "What is 1+1?" + tasks.mirror.INSTRUCTION, "answer": "2"}
    for name in ("math500", "aime24", "aime25"):
        (root / f"math/{name}.jsonl").write_text(json.dumps(competition) + "\n")
    monkeypatch.setenv("EVALKIT_DATA", str(root))
    monkeypatch.setattr(tasks, "_hub_answers", lambda: False)
    return root


def prompt(name: str, task: str) -> str:
    loaded = load(TaskSpec(name)).tasks[task]
    return str(loaded.doc_to_text(loaded.eval_docs[0]))


def test_lm_evals_definitions_read_the_mirror(data: Path) -> None:
    pytest.importorskip("lm_eval")
    loaded = load(TaskSpec("gsm8k"))
    gsm8k = loaded.tasks["gsm8k"]
    assert len(gsm8k.eval_docs) == 1 and len(list(gsm8k.fewshot_docs())) == 6
    assert gsm8k.config.num_fewshot == 5 and [f["name"] for f in gsm8k.config.filter_list] == [
        "strict-match",
        "flexible-extract",
    ]
    assert loaded.sources["gsm8k"].startswith("mirror gsm8k/train.jsonl.gz sha256:")
    assert str(data) not in loaded.sources["gsm8k"]
    assert prompt("aime24", "aime24") == "Question: What is 1+1?\nAnswer:"
    assert prompt("aime25", "aime25") == "Question: What is 1+1?\nAnswer:"
    mmlu = load(TaskSpec("mmlu_anatomy")).tasks["mmlu_anatomy"]
    assert mmlu.doc_to_text(mmlu.eval_docs[1]) == 'A "quoted, 1"?\nA. one\nB. two\nC. three\nD. four\nAnswer:'
    assert mmlu.doc_to_target(mmlu.eval_docs[1]) == 1


def test_math500_compares_expressions(data: Path) -> None:
    pytest.importorskip("lm_eval")
    task = load(TaskSpec("math500")).tasks["math500"]
    doc = {"answer": "\\frac{1}{2}"}
    assert task.process_results(doc, ["So it is \\boxed{0.5}."]) == {"exact_match": 1.0}
    assert task.process_results(doc, ["So it is \\boxed{\\frac{2}{3}}."]) == {"exact_match": 0.0}
    assert "final answer in \\boxed{}" in prompt("math500", "math500")


def test_a_file_missing_from_the_mirror_is_named(data: Path) -> None:
    pytest.importorskip("lm_eval")
    loaded = load(TaskSpec("mmlu"))
    assert list(loaded.tasks) == ["mmlu_anatomy"] and len(loaded.skipped) == 56
    (data / "gsm8k/test.jsonl").unlink()
    assert "EVALKIT_DATA has no gsm8k/train.jsonl or gsm8k/test.jsonl" in load(TaskSpec("gsm8k")).skipped["gsm8k"]


def test_code_tasks_wait_for_a_sandbox(data: Path) -> None:
    pytest.importorskip("lm_eval")
    for name in ("humaneval", "mbpp", "starter_python"):
        loaded = load(TaskSpec(name))
        assert not loaded.tasks and "needs a sandbox" in loaded.skipped[name]


def test_broken_mirror_lines_and_folders_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    (data / "gsm8k/test.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question"\n')
    with pytest.raises(UserError, match=r"test\.jsonl, line 2: not a JSON object"):
        load(TaskSpec("gsm8k"))
    monkeypatch.setenv("EVALKIT_DATA", str(data / "nowhere"))
    with pytest.raises(UserError, match=r"EVALKIT_DATA is .*nowhere', which is not a folder"):
        load(TaskSpec("gsm8k"))


def test_own_task_files(task_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    loaded = load(TaskSpec(str(task_folder / "g.yaml"), num_fewshot=1, generation={"max_gen_toks": 3}))
    (task,) = loaded.tasks.values()
    assert task.config.num_fewshot == 1 and task.config.generation_kwargs["max_gen_toks"] == 3
    assert loaded.sources["tiny_generate"].startswith("test.jsonl sha256:")
    broken = tmp_path / "broken.yaml"
    broken.write_text("task: [unclosed\n")
    with pytest.raises(UserError, match=r"broken\.yaml: not a YAML file: .*line"):
        read_yaml(broken)
    missing = tmp_path / "missing.yaml"
    missing.write_text(
        "task: m\ndataset_path: json\ndataset_kwargs: {data_files: {test: no.jsonl}}\ntest_split: test\n"
    )
    with pytest.raises(UserError, match=r"missing\.yaml: field dataset_kwargs\.data_files: there is no file no\.jsonl"):
        load(TaskSpec(str(missing)))
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read"):
        load(TaskSpec(str(tmp_path / "nowhere.yaml")))


def test_the_list_is_quick_and_imports_nothing_heavy(data: Path, task_folder: Path) -> None:
    names = {info.name: info for info in list_tasks([task_folder])}
    assert {"gsm8k", "mmlu", "math500", "starter_arithmetic", "tiny", "tiny_choice"} <= names.keys()
    assert names["starter"].kind == "tag" and "_base" not in names
    assert names["humaneval"].obstacle == "needs a sandbox"
    assert names["truthfulqa_mc1"].obstacle and not names["gsm8k"].obstacle
    assert names["tiny_choice"].output_type == "multiple_choice" and names["mmlu"].kind == "group"
    code = (
        "import sys, benchmarks.bridge, benchmarks.rescore; from benchmarks.tasks import list_tasks; list_tasks();"
        "print([m for m in ('lm_eval', 'torch', 'transformers', 'datasets', 'pandas') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_group_runs_without_its_members_that_cannot(data: Path, task_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    (tmp_path / "mixed.yaml").write_text("group: mixed\ntask: [tiny_choice, humaneval]\n")
    loaded = load(TaskSpec("mixed"), [task_folder, tmp_path])
    assert list(loaded.tasks) == ["tiny_choice"] and list(loaded.skipped) == ["humaneval"]


def test_an_unknown_task_names_near_ones(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm_eval = pytest.importorskip("lm_eval.tasks")
    manager = lm_eval.TaskManager

    def without_defaults(**arguments: object) -> object:  # all of lm-eval's files take 13 s to read
        return manager(**{**arguments, "include_path": tasks.lm_eval_tasks() / "gsm8k", "include_defaults": False})

    monkeypatch.setattr(lm_eval, "TaskManager", without_defaults)
    with pytest.raises(UserError, match="there is no task 'gsm8kk'; did you mean gsm8k"):
        load(TaskSpec("gsm8kk"))
