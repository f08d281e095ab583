"""Whatever goes wrong ends in one clear sentence and exit code 1 or 2, and nothing that was answered is lost."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mock_server import Answer, MockServer, chat

Command = Callable[..., "subprocess.CompletedProcess[str]"]
KEY = {"OPENAI_API_KEY": "sk-good-key-1234567890"}


class Server:
    """An endpoint that counts how often each prompt was asked; `answer` may be changed between runs."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.changed = threading.Condition()

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        if method == "GET":
            return Answer({"data": [{"id": "mock"}]})
        prompt = str(json.loads(body)["messages"][-1]["content"])
        with self.changed:
            self.asked[prompt] += 1
            self.changed.notify_all()
        return self.answer(prompt)

    def wait_for(self, n: int) -> None:
        """Waits until so many requests have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.asked.total() >= n, 60)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        with MockServer(self) as server:
            yield server.url


def good(prompt: str) -> Answer:
    return Answer(chat(f"Answer to {prompt}"))


def error(status: int, message: str, **more: Any) -> Answer:
    return Answer({"error": {"message": message, **more}}, status)


def write_plan(folder: Path, url: str, *, n: int = 3, **model: Any) -> Path:
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": f"Question {i}"}) for i in range(n)))
    plan = {
        "name": "bad",
        "store": "bad.db",
        "models": [{"model": "openai/mock", "base_url": url, **model}],
        "arena": {"prompts": "prompts.jsonl"},
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def rows(folder: Path, query: str, store: str = "bad.db") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(folder / store)) as connection:
        return connection.execute(query).fetchall()


def whole(folder: Path, store: str = "bad.db") -> bool:
    return rows(folder, "PRAGMA integrity_check", store) == [("ok",)]


def plainly(done: subprocess.CompletedProcess[str], *said: str, code: int | None = None) -> None:
    """Checks that a command failed with its sentence and no traceback."""
    both = done.stdout + done.stderr
    assert done.returncode in ((1, 2) if code is None else (code,)), both
    assert "Traceback" not in both
    assert "--debug" not in both, "that is said of what nobody foresaw"
    for words in said:
        assert words in both


# -- endpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (error(404, "The model `mock` does not exist"), "not_found", "404 for mock: no such model or address"),
        (error(401, "Incorrect API key"), "auth", "401: the key in OPENAI_API_KEY is wrong or may not use mock"),
        (Answer(b"<!DOCTYPE html><html>Welcome</html>", headers={"content-type": "text/html"}), "malformed",
         "answered with an HTML page, not JSON: check that the base URL is the API's"),
        (Answer(chat("")), "empty", "3 x empty: "),
        (error(400, "This model's maximum context length is 10 tokens", code="context_length_exceeded"),
         "context_length", "The prompt is longer than mock takes"),
    ],
    ids=["no such model", "wrong key", "HTML", "empty answers", "context"],
)  # fmt: skip
def test_an_endpoint_that_fails(evalkit: Command, tmp_path: Path, answer: Answer, kind: str, said: str) -> None:
    server = Server(lambda _: answer)
    with server.running() as url:
        plan = write_plan(tmp_path, url)
        done = evalkit("run", plan, env=KEY)
        plainly(done, said, "3 failed", "Run the same command again to retry what failed.", code=1)
        assert KEY["OPENAI_API_KEY"] not in done.stdout + done.stderr + (tmp_path / "bad.db").read_bytes().decode(
            "latin-1"
        )
        assert rows(tmp_path, "SELECT error_kind FROM response") == [(kind,)] * 3, "a failure is a row"
        server.answer = good
        again = evalkit("run", plan, env=KEY)
        assert again.returncode == 0, again.stderr
        assert rows(tmp_path, "SELECT text FROM response ORDER BY text") == [
            (f"Answer to Question {i}",) for i in range(3)
        ]


def test_only_what_failed_is_asked_again(evalkit: Command, tmp_path: Path) -> None:
    server = Server(lambda prompt: error(400, "no") if prompt == "Question 1" else good(prompt))
    with server.running() as url:
        plan = write_plan(tmp_path, url)
        plainly(evalkit("run", plan, env=KEY), "1 failed", "1 x bad_request", code=1)
        server.answer = good
        assert evalkit("run", plan, env=KEY).returncode == 0
        assert server.asked == {"Question 0": 1, "Question 1": 2, "Question 2": 1}
        assert evalkit("run", plan, env=KEY).returncode == 0
        assert server.asked.total() == 4, "a third run has nothing to do"
    assert rows(tmp_path, "SELECT status FROM run") == [("done",)]


def test_no_key_is_told_by_the_variables_name(evalkit: Command, tmp_path: Path) -> None:
    with Server(lambda _: error(401, "You didn't provide an API key")).running() as url:
        done = evalkit("run", write_plan(tmp_path, url, api_key_env="MY_KEY"))
    plainly(done, "it wants a key and MY_KEY is not set", code=1)


def test_an_endpoint_that_is_down(evalkit: Command, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        plan = write_plan(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}/v1", n=20)
        started = time.monotonic()
        done = evalkit("run", plan)
        assert time.monotonic() - started < 60
    plainly(done, "is the server running, and is the address right?", "20 failed", code=1)
    assert len(rows(tmp_path, "SELECT id FROM response")) == 20


# -- models and plans -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hf/./no-such-folder", "no such folder"),
        ("hf/owner/no-such-model", "the hub cannot be reached"),
        ("embedded/gpt-4", "no embedded model 'gpt-4'; there are: smollm2-135m-instruct"),
        ("recorded/none.jsonl#m", "none.jsonl"),
        ("gpt-4", "'gpt-4' is not PROVIDER/NAME"),
    ],
)
def test_a_model_that_is_not_there(evalkit: Command, tmp_path: Path, model: str, said: str) -> None:
    plan = write_plan(tmp_path, "")
    plan.write_text(yaml.safe_dump({"store": "bad.db", "models": [model], "arena": {"prompts": "prompts.jsonl"}}))
    done = evalkit("run", plan)
    plainly(done, said)
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_plan_with_a_misspelt_key_or_a_missing_file(evalkit: Command, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, "http://127.0.0.1:9/v1")
    text = plan.read_text()
    plan.write_text(text.replace("arena:", "arean:"))
    plainly(evalkit("run", plan), "arean: unknown key. Did you mean 'arena'?", code=2)
    plan.write_text(text.replace("prompts.jsonl", "promts.jsonl"))
    plainly(evalkit("run", plan), "promts.jsonl: the prompts cannot be read: No such file", code=2)
    plan.write_text(text + "benchmarks: []\nprices: none.yaml\n")
    plainly(evalkit("run", plan), "none.yaml")
    plan.write_text(text)
    plainly(evalkit("run", plan, "--stage", "jugde"), "there is no stage 'jugde'; stages are: benchmark,", code=2)
    plan.write_text(text + "budget: {dollars: 1}\n")
    plainly(evalkit("run", plan), "budget.dollars: the limit cannot be kept, for the price of mock at http:", code=2)
    assert not list(tmp_path.glob("bad.db*")), "what fails before its first request leaves no ledger behind"


def test_a_ledger_that_holds_something_stays(evalkit: Command, tmp_path: Path) -> None:
    with Server(good).running() as url:
        plan = write_plan(tmp_path, url)
        assert evalkit("run", plan).returncode == 0
        plan.write_text(plan.read_text() + "budget: {dollars: 1}\n")
        plainly(evalkit("run", plan), "budget.dollars", code=2)
    assert len(rows(tmp_path, "SELECT id FROM run")) == 1
    assert len(rows(tmp_path, "SELECT id FROM response")) == 3


def test_an_empty_ledger_that_another_process_holds_stays(tmp_path: Path) -> None:
    from evalkit.commands.store import started

    store = tmp_path / "bad.db"
    with contextlib.ExitStack() as stack:
        with pytest.raises(ZeroDivisionError), started(str(store)):
            other = stack.enter_context(contextlib.closing(sqlite3.connect(store)))
            assert other.execute("SELECT count(*) FROM run").fetchall() == [(0,)]
            raise ZeroDivisionError
        assert store.exists()
        assert other.execute("SELECT count(*) FROM run").fetchall() == [(0,)]
    with pytest.raises(ZeroDivisionError), started(f"sqlite:///{tmp_path}/new.db"):
        assert (tmp_path / "new.db").exists()
        raise ZeroDivisionError
    assert not list(tmp_path.glob("new.db*"))


def test_a_prompt_longer_than_a_local_models_context(evalkit: Command, tmp_path: Path, tiny: Path) -> None:
    plan = write_plan(tmp_path, "")
    (tmp_path / "prompts.jsonl").write_text(
        json.dumps({"prompt": "long " * 600}) + "\n" + json.dumps({"prompt": "short"})
    )
    model = {"model": f"hf/{tiny}", "dtype": "float32", "sampling": {"max_tokens": 4}}
    plan.write_text(yaml.safe_dump({"store": "bad.db", "models": [model], "arena": {"prompts": "prompts.jsonl"}}))
    plainly(evalkit("run", plan), "1 x context_length: the prompt has ", "takes 256 at most", "1 failed", code=1)
    assert rows(tmp_path, "SELECT error_kind, text IS NOT NULL FROM response ORDER BY 2") == [
        ("context_length", 0),
        (None, 1),
    ]


# -- files of votes -------------------------------------------------------------------------------

VOTE = "q1,a,b,model_a,ann,human"
HEADER = "item_id,model_a,model_b,winner,annotator,annotator_kind"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [HEADER, VOTE, "q2,a,b,left,ann,human"],
            ("line 3", "'winner'", "'left'", "'model_a', 'model_b', 'tie', 'both_bad'"),
        ),
        (
            [f"id,{HEADER}", f"7,{VOTE}", "7,q2,a,b,tie,ann,human"],
            ("line 3", "'id'", "'7' is there already, in line 2"),
        ),
        ([HEADER, VOTE, "q2,a,b,model_a,Gr\udcfcn,human"], ("line 3", "0xfc", "UTF-8")),
        ([HEADER, VOTE, "q2,a,b,model_a"], ("line 3", "4 cells, the header 6")),
        ([HEADER.replace("winner", "wins"), VOTE], ("line 1", "'winner' is missing")),
        ([HEADER, VOTE, 'q2,a,b,model_a,"ann,human'], ("line 3", "not CSV")),
        ([HEADER, VOTE, "q2,a,a,model_a,ann,human"], ("line 3", "model_b")),
    ],
    ids=["winner", "duplicate ids", "UTF-8", "cells", "column", "quote", "against itself"],
)
def test_a_broken_votes_file_adds_nothing(
    evalkit: Command, tmp_path: Path, lines: list[str], said: tuple[str, ...]
) -> None:
    (tmp_path / "good.csv").write_text(f"{HEADER}\nq0,a,b,tie,ann,human\n")
    assert evalkit("import", "votes", "good.csv", "--store", "bad.db").returncode == 0
    before = rows(tmp_path, "SELECT * FROM verdict") + rows(tmp_path, "SELECT * FROM item")
    (tmp_path / "votes.csv").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    done = evalkit("import", "votes", "votes.csv", "--store", "bad.db")
    plainly(done, "votes.csv", *said)
    assert len(done.stderr.strip().splitlines()) == 1
    assert rows(tmp_path, "SELECT * FROM verdict") + rows(tmp_path, "SELECT * FROM item") == before
    plainly(evalkit("import", "votes", "votes.csv", "--store", "new.db"), *said)
    assert not list(tmp_path.glob("new.db*"))


# -- disks and ledgers -------------------------------------------------------------------------------


def no_superpowers() -> None:
    """Lets file modes count for root too, by dropping what overrides them."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_folder_that_cannot_be_written(evalkit: Command, tmp_path: Path) -> None:
    with Server(good).running() as url:
        plan = write_plan(tmp_path, url)
        tmp_path.chmod(0o555)
        try:
            done = evalkit("run", plan, preexec_fn=no_superpowers)
        finally:
            tmp_path.chmod(0o755)
    plainly(done, "store: ", "bad.db")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_ledger_that_cannot_be_written(evalkit: Command, tmp_path: Path) -> None:
    server = Server(good)
    with server.running() as url:
        plan = write_plan(tmp_path, url)
        assert evalkit("run", plan).returncode == 0
        write_plan(tmp_path, url, n=6)
        (tmp_path / "bad.db").chmod(0o444)
        done = evalkit("run", plan, preexec_fn=no_superpowers)
        looked = evalkit("runs", "--store", "bad.db", preexec_fn=no_superpowers)
        (tmp_path / "bad.db").chmod(0o644)
    plainly(done, "'bad.db' is read-only; nothing was written")
    assert server.asked.total() == 3, "nothing is paid for that cannot be stored"
    assert looked.returncode == 0, looked.stderr
    assert len(rows(tmp_path, "SELECT id FROM response")) == 3


def test_a_folder_that_is_not_there(evalkit: Command, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, "http://127.0.0.1:9/v1")
    plainly(evalkit("run", plan, "--store", "no/such/bad.db"), "store: the folder 'no/such' does not exist")


def test_a_full_disk_loses_nothing_that_was_stored(evalkit: Command, tmp_path: Path) -> None:
    long = "x" * 20_000
    server = Server(lambda prompt: Answer(chat(long + prompt), delay=0.05))  # several batches
    with server.running() as url:
        plan = write_plan(tmp_path, url, n=100, max_concurrency=2)

        def little_room() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

        done = evalkit("run", plan, preexec_fn=little_room)
        plainly(done, "store: the disk that holds", "what was committed is safe", code=1)
        stored = rows(tmp_path, "SELECT text FROM response WHERE error_kind IS NULL")
        assert 0 < len(stored) < 100
        assert whole(tmp_path)
        before = Counter(server.asked)
        again = evalkit("run", plan)
        assert again.returncode == 0, again.stderr
        resent = server.asked - before
        assert not resent.keys() & {text[len(long) :] for (text,) in stored}
    assert len(rows(tmp_path, "SELECT id FROM response")) == 100
    assert rows(tmp_path, "SELECT status FROM run") == [("done",)]


WRONG = ("text", "other database", "newer", "older", "damaged", "folder", "empty")


@pytest.mark.parametrize(
    ("command", "kind"),
    # An empty file is where a run may begin a ledger.
    [(command, kind) for command in ("run", "runs") for kind in WRONG if (command, kind) != ("run", "empty")],
)
def test_what_is_no_ledger_of_today(evalkit: Command, tmp_path: Path, command: str, kind: str) -> None:
    write_plan(tmp_path, "http://127.0.0.1:9/v1")
    store = tmp_path / "bad.db"
    said = make_wrong(store, kind)
    content = store.read_bytes() if store.is_file() else b""
    done = evalkit(command, *(["plan.yaml"] if command == "run" else []), "--store", "bad.db")
    plainly(done, said)
    assert len(done.stderr.strip().splitlines()) == 1
    assert (store.read_bytes() if store.is_file() else b"") == content, "what is not ours is not touched"


def make_wrong(store: Path, kind: str) -> str:
    """Makes a file that is not a ledger of this version; returns what must be said of it."""
    if kind == "text":
        store.write_text("item_id,model\n" * 100)
        return "is not a ledger: it is not even a SQLite database"
    if kind == "folder":
        store.mkdir()
        return "is a folder; write the path of a file"
    if kind == "empty":
        store.touch()
        return "is empty; start a ledger with `evalkit run`"
    if kind == "other database":
        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute("CREATE TABLE customers (id INTEGER)")
            connection.commit()
        return "is a database, but not an evalkit ledger"
    from evalkit.store import Ledger

    Ledger.open(str(store)).close()
    if kind == "damaged":
        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        data = bytearray(store.read_bytes())
        data[100:4096] = b"\x07" * 3996
        store.write_bytes(bytes(data))
        return "is damaged"
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("UPDATE alembic_version SET version_num = ?", ("9999" if kind == "newer" else "0000",))
        connection.commit()
    return "newer version 9999, this evalkit knows" if kind == "newer" else "type: evalkit db upgrade"


# -- being stopped -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_run_that_is_stopped_goes_on(
    evalkit: Command, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    n = 40
    server = Server(lambda prompt: Answer(chat(f"Answer to {prompt}"), delay=0.3))
    with server.running() as url:
        plan = write_plan(tmp_path, url, n=n, max_concurrency=4)
        line = [sys.executable, "-m", "evalkit.cli", "run", str(plan)]
        with subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as child:
            server.wait_for(14)
            child.send_signal(number)
            _, said = child.communicate(timeout=60)
        stored = {text.removeprefix("Answer to ") for (text,) in rows(tmp_path, "SELECT text FROM response")}
        assert 0 < len(stored) < n
        assert whole(tmp_path)
        before = Counter(server.asked)
        if number == signal.SIGINT:
            assert child.returncode == 130
            assert "Traceback" not in said
            assert "the same command goes on from here" in said
            assert rows(tmp_path, "SELECT status, message LIKE '%Ctrl-C%' FROM run") == [("stopped", 1)]
            assert stored == set(before), "what was in flight is waited for"
        else:
            assert child.returncode == -9
            assert len(set(before) - stored) <= 4 + 4, "what was in flight, and what was not yet written"
        done = evalkit("run", plan)
        assert done.returncode == 0, done.stderr
        assert set(server.asked - before) == {f"Question {i}" for i in range(n)} - stored
    assert rows(tmp_path, "SELECT status FROM run") == [("done",)]
    assert len(rows(tmp_path, "SELECT id FROM response WHERE error_kind IS NULL")) == n
    assert rows(tmp_path, "SELECT n, errors FROM run_cell") == [(n, 0)]
