"""The commands that look, on a ledger made for tests: tables for people, JSON for programs, exit codes."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_ledger import MODELS, TASKS, make

from evalkit.store import Ledger, frames
from evalkit.store.rows import Item, ResponseRow

Command = Callable[..., Any]  # `in_process` of conftest.py


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "sample.db"
    ledger, _ = make(path, items=12)
    ledger.close()
    return path


@pytest.fixture
def evalkit(store: Path, tmp_path: Path, in_process: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Returns a function that runs the command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EVALKIT_STORE", str(store))
    return in_process


def test_runs(evalkit: Command) -> None:
    done = evalkit("runs")
    assert done.code == 0
    assert "sample" in done.out and "failed" in done.out
    (row,) = evalkit("runs", "--json").json["rows"]
    assert (row["run_id"], row["name"], row["status"]) == (1, "sample", "failed")
    assert row["n"] == len(MODELS) * len(TASKS) * 12
    assert 0 < row["errors"] < row["n"]


def test_show(evalkit: Command, store: Path) -> None:
    done = evalkit("show")
    assert done.code == 0
    for task in TASKS:
        assert task in done.out
    assert "Where each model fails" in done.out
    found = evalkit("show", 1, "--json").json
    assert {row["dataset"] for row in found["rows"]} == set(TASKS)
    assert {cell["model"] for cell in found["scores"]} == {m.label for m in MODELS}
    with Ledger.open(str(store), readonly=True) as ledger:
        n, errors = (int(frames.run_cells(ledger, 1)[key].sum()) for key in ("n", "errors"))
    assert (sum(row["n"] for row in found["rows"]), sum(row["errors"] for row in found["rows"])) == (n, errors)


def test_leaderboard(evalkit: Command) -> None:
    done = evalkit("leaderboard")
    assert done.code == 0
    assert "Bradley-Terry" in done.out
    board = evalkit("leaderboard", "--judge", "rules", "--json").json
    assert board["judges"] == ["rules"]
    assert board["rows"][0]["model"] == "gpt-4-recorded"
    assert all(row["lower"] <= row["rating"] <= row["upper"] for row in board["rows"])
    assert evalkit("leaderboard", "--min-votes", 10**6, "--json").json["rows"] == []
    wrong = evalkit("leaderboard", "--judge", "nobody")
    assert wrong.code == 2
    assert "'nobody'" in wrong.err


@pytest.mark.parametrize("command", ["runs", "show", "leaderboard", "samples", "models list", "tasks", "doctor"])
@pytest.mark.parametrize("width", [80, 120])
def test_no_table_is_wider_than_the_terminal(
    evalkit: Command, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    wide = evalkit(*command.split())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = evalkit(*command.split())
    assert narrow.code == wide.code
    table = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", narrow.out).splitlines() if "  " in line or "│" in line]
    assert max(map(len, table)) <= width


def test_no_runs_or_samples_are_said_to_be_none(evalkit: Command, tmp_path: Path) -> None:
    with Ledger.open(str(tmp_path / "new.db")) as ledger:
        assert evalkit("runs", "--store", "new.db").out == "Nothing found.\n"
        ledger.start_run("r", {}, seed=0, environment={})
    assert evalkit("samples", "--store", "new.db").out == "Nothing found.\n"
    assert evalkit("show", "--store", "new.db").out == "Requests: none.\n"
    assert "Leaderboard (overall, by nobody): none.\nNote: " in evalkit("leaderboard", "--store", "new.db").out


def test_samples_page_by_page(evalkit: Command) -> None:
    seen: list[int] = []
    after = 0
    while rows := evalkit("samples", "--limit", 50, "--after", after, "--json").json["rows"]:
        seen += [row["id"] for row in rows]
        after = rows[-1]["id"]
    assert len(seen) == len(set(seen)) == len(MODELS) * len(TASKS) * 12
    assert "--after" in evalkit("samples", "--limit", 5).out


def test_samples_by_model_task_and_failure(evalkit: Command) -> None:
    rows = evalkit("samples", "--model", "smollm2", "--task", "arithmetic", "--json").json["rows"]
    assert len(rows) == 12
    assert {(row["model"], row["task"]) for row in rows} == {("smollm2", "arithmetic")}
    failed = evalkit("samples", "--failed", "--limit", 1000, "--json").json["rows"]
    assert all(" 0" in row["grades"] or row["answer"].startswith(("timeout:", "context_length:")) for row in failed)
    mine = evalkit("samples", "--failed", "--model", "smollm2", "--task", "arithmetic", "--json").json["rows"]
    expected = [r["id"] for r in failed if (r["model"], r["task"]) == ("smollm2", "arithmetic")]
    assert [row["id"] for row in mine] == expected
    one = evalkit("samples", "--id", mine[0]["id"])
    assert "messages:" in one.out
    assert evalkit("samples", "--id", mine[0]["id"], "--json").json["model"] == "smollm2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("samples", "--id", 10**6), "there is no response 1000000"),
        (("samples", "--model", "gpt-9"), "there is no model 'gpt-9'"),
        (("samples", "--task", "chess"), "'chess'"),
        (("samples", "--failed", "--task", "chess"), "'chess'"),
        (("samples", "7"), "there is no run 7; type: evalkit runs"),
        (("show", "0"), "there is no run 0; type: evalkit runs"),
        (("report", "7"), "there is no run 7"),
        (("rescore", "7"), "there is no run 7"),
        (("runs", "--store", "none.db"), "there is no ledger none.db; name it with --store FILE or set EVALKIT_STORE"),
        (("export", "answers", "x.csv"), "there is no kind 'answers' to export; kinds are: responses, grades"),
        (("export", "votes", "x.xls"), "unknown kind of file '.xls'; allowed are .csv, .jsonl, .parquet"),
        (("export", "votes", "no/such/x.csv"), "cannot be written"),
        (("import", "votes", "none.csv"), "there is no file or folder"),
        (("report", "-o", "/proc/none/report.html"), "'/proc/none/report.html' cannot be written"),
        (("leaderboards",), "leaderboards"),
        (("run",), "Missing argument 'plan'"),
        (("run", "none.yaml"), "none.yaml: the plan cannot be read"),
        (("runs", "--jsn"), "--jsn"),
        (("runs", "--limit", "many"), "'--limit'"),
        (("runs", "--limit", 0), "should be greater than or equal to 1"),
        (("samples", "--limit", -1), "should be greater than or equal to 1"),
        (("samples", "--after", -1), "should be greater than or equal to 0"),
        (("report", 10**20), "should be less than or equal to 9223372036854775807"),
        (("tasks", "--include_path", "none"), "'none' does not exist"),
        (("run", "."), ".: the plan cannot be read: Is a directory"),
        (("models", "pull", "gpt-4"), "no embedded model 'gpt-4'"),
        (("db", "upgrade", "--store", "none.db"), "none.db"),
        (("doctor", "--plan", "none.yaml"), "none.yaml: the plan cannot be read"),
    ],
)
def test_a_wrong_command_is_one_sentence(evalkit: Command, arguments: tuple[object, ...], said: str) -> None:
    done = evalkit(*arguments)
    assert done.code in (1, 2)
    assert done.err.startswith("Error: ")
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "unexpected" not in done.err
    assert done.out == ""


ANSWER = "answer: {form: text, pattern: '(x)', verdicts: {x: first}}\n"
ASKS = "models: [{model: openai/m, base_url: 'http://127.0.0.1:9/v1'}]\nstore: new.db\narena: {prompts: p.jsonl%s}\n"


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (ASKS % "" + "report: .\n", "report: '.' cannot be written: give the path of a file in a folder"),
        (ASKS % "" + "report: plan.yaml/r.html\n", "report: 'plan.yaml/r.html' cannot be written"),
        ((ASKS % "").replace("prompts: p.jsonl", "limit: 3"), "asks nothing of its models: give it benchmarks or"),
        (
            ASKS % "" + "judges: [{name: j, model: openai/x, prompt: none}]\n",
            "no judge prompt 'none'; there are: alpaca-eval-v1",
        ),
        (
            ASKS % "" + "judges: [{name: j, model: openai/x, prompt: bad.yaml}]\n",
            "bad.yaml line 4: messages: must have at least one entry",
        ),
        (ASKS % "" + "benchmarks: [none.yaml]\n", "none.yaml: cannot be read: No such file"),
        (ASKS % ", tasks: [x]", "arena.tasks: 'x' is not among the plan's benchmarks: there are none"),
        (ASKS % "" + "budget: {dollars: 1}\n", "budget.dollars: the limit cannot be kept, for the price of m at http"),
        (ASKS % ", limit: 0", "plan.yaml line 3: arena.limit: Input should be greater than 0"),
    ],
)
def test_what_fails_before_its_first_request_leaves_no_ledger(
    evalkit: Command, tmp_path: Path, plan: str, said: str
) -> None:
    (tmp_path / "plan.yaml").write_text(plan)
    (tmp_path / "p.jsonl").write_text('{"prompt": "Question"}\n')
    (tmp_path / "bad.yaml").write_text("name: j\nkind: pairwise\ncriteria: [overall]\nmessages: []\n" + ANSWER)
    done = evalkit("run", "plan.yaml")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("new.db*"))


def test_looking_makes_no_ledger(evalkit: Command, tmp_path: Path) -> None:
    for command in ("runs", "show", "leaderboard", "samples", "report", "rescore"):
        assert evalkit(command, "--store", "none.db").code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_export_and_import_are_each_others_inverse(evalkit: Command, tmp_path: Path, ending: str) -> None:
    for kind in ("responses", "grades", "votes", "scores"):
        done = evalkit("export", kind, f"{kind}.{ending}")
        assert done.code == 0, done.err
        n = int(done.out.split()[1])
        assert n > 0
        once = evalkit("import", kind, f"{kind}.{ending}", "--store", "copy.db")
        assert once.code == 0, once.err
        assert once.out.startswith(f"Read {n} {kind}")
        before = snapshot(tmp_path / "copy.db")
        assert evalkit("import", kind, f"{kind}.{ending}", "--store", "copy.db").code == 0
        assert snapshot(tmp_path / "copy.db") == before, "importing twice must add nothing"
    ours, theirs = evalkit("leaderboard", "--json").json, evalkit("leaderboard", "--json", "--store", "copy.db").json
    assert [row["model"] for row in ours["rows"]] == [row["model"] for row in theirs["rows"]]
    assert [row["rating"] for row in ours["rows"]] == pytest.approx([row["rating"] for row in theirs["rows"]])


def snapshot(path: Path) -> dict[str, int]:
    with Ledger.open(str(path), readonly=True) as ledger, ledger.engine.connect() as connection:
        tables = ("model", "item", "response", "annotator", "grade", "battle", "verdict", "score", "tally")
        return {t: int(connection.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar() or 0) for t in tables}


def test_a_wide_score_table_of_anothers_is_read(evalkit: Command, tmp_path: Path) -> None:
    (tmp_path / "board.csv").write_text("model,gsm8k,mmlu\nx,0.5,\ny,0.25,0.75\n")
    assert evalkit("import", "scores", "board.csv", "--store", "new.db").code == 0
    assert evalkit("export", "scores", "back.csv", "--store", "new.db").code == 0
    with (tmp_path / "back.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert (float(rows["x"]["gsm8k"]), rows["x"]["mmlu"], float(rows["y"]["mmlu"])) == (0.5, "", 0.75)


def test_report(evalkit: Command, tmp_path: Path) -> None:
    done = evalkit("report", "-o", "r.html")
    assert done.code == 0
    assert str(tmp_path / "r.html") in done.out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>alert(" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_tasks(evalkit: Command) -> None:
    assert "starter_arithmetic" in evalkit("tasks").out
    rows = {row["name"]: row for row in evalkit("tasks", "--json").json["rows"]}
    assert rows["starter_arithmetic"]["obstacle"] in (None, "")
    assert "gsm8k" in rows


def test_models_list(evalkit: Command) -> None:
    (row,) = evalkit("models", "list", "--json").json["rows"]
    assert (row["model"], row["ready"]) == ("embedded/smollm2-135m-instruct", False)
    assert "Apache-2.0" in evalkit("models", "list").out


def test_doctor(evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = evalkit("doctor", "--json")
    rows = {row["name"]: row for row in done.json["rows"]}
    assert rows["ledger"]["status"] == "ok"
    assert done.code == 0
    assert "Python" in evalkit("doctor").out
    monkeypatch.setenv("EVALKIT_DATA", "/no/such/folder")
    broken = evalkit("doctor", "--json")
    assert broken.code == 1
    assert {r["name"]: r for r in broken.json["rows"]}["EVALKIT_DATA"]["remedy"]


def test_doctor_never_shows_a_key(evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    done = evalkit("doctor")
    assert done.code == 1
    assert "very-secret" not in done.out + done.err


def test_init_then_dry_run(evalkit: Command, tmp_path: Path) -> None:
    assert evalkit("init").code == 0
    assert (tmp_path / "plan.yaml").exists()
    again = evalkit("init")
    assert again.code == 2
    assert "exists already" in again.err
    missing = evalkit("run", "plan.yaml", "--dry-run")
    assert missing.code == 1
    assert "type: evalkit models pull smollm2-135m-instruct" in missing.err
    assert not (tmp_path / "evalkit.db").exists()


def test_db_upgrade_leaves_a_ledger_of_today_as_it_is(evalkit: Command, store: Path) -> None:
    before = snapshot(store)
    assert evalkit("db", "upgrade", "--store", store).code == 0
    assert snapshot(store) == before


def test_version_help_and_debug(evalkit: Command) -> None:
    from evalkit import __version__

    assert evalkit("--version").out.strip() == __version__
    assert "leaderboard" in evalkit("--help").out
    assert "--failed" in evalkit("samples", "-h").out


def test_debug_shows_the_traceback(environment: dict[str, str], tmp_path: Path) -> None:
    line = [sys.executable, "-m", "evalkit.cli", "run", "none.yaml", "--debug"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "UserError" in done.stderr


def test_a_reader_that_goes_away_is_no_error(environment: dict[str, str], store: Path) -> None:
    shell = f"{sys.executable} -m evalkit.cli samples --limit 500 --json --store {store} | head -n 1"
    done = subprocess.run(["bash", "-c", shell], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "{"
    assert done.stderr == ""


def test_what_a_model_said_does_not_steer_the_terminal(evalkit: Command, tmp_path: Path) -> None:
    from evalkit.models import ModelSettings, Reply, RequestFailed

    said = "red \x1b[31m title \x1b]0;owned\x07 \x9b31m [bold]markup[/bold] [link=x]y[/link]"
    with Ledger.open(str(tmp_path / "own.db")) as ledger:
        run = ledger.start_run("r", {}, seed=0, environment={})
        (model,) = ledger.add_models([ModelSettings("hf", "m", label="m")])
        dataset, (first, second) = ledger.add_dataset(
            "d", [Item(({"role": "user", "content": f"{q} \x1b[2J"},), name=q) for q in ("one", "two")]
        )
        ledger.add_responses(
            run,
            [
                ResponseRow(model, first, dataset, "0" * 64, "{}", Reply(said)),
                ResponseRow(model, second, dataset, "1" * 64, "{}", RequestFailed("server", said)),
            ],
        )
    for arguments in (("samples",), ("samples", "--failed"), ("samples", "--id", 1), ("samples", "--id", 2)):
        done = evalkit(*arguments, "--store", "own.db")
        assert done.code == 0
        assert not set(done.out) & {"\x1b", "\x07", "\x9b"}
    assert "[bold]markup[/bold]" in evalkit("samples", "--id", 1, "--store", "own.db").out
