from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from evalkit import doctor
from evalkit.doctor import Endpoint, Finding, examine, examine_all
from evalkit.errors import UserError
from evalkit.store import Ledger

SECRET = "sk-nobody-may-see-this"
Serve = Callable[[int, str, str], str]


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "EVALKIT_DATA", "EVALKIT_STORE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that answer every GET with one body."""
    servers: list[HTTPServer] = []

    def start(status: int, kind: str, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/v1/models" else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                return

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _by_name(findings: list[Finding]) -> dict[str, Finding]:
    found = {finding.name: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def test_a_bare_machine() -> None:
    found = _by_name(examine())
    assert found["Python"].status == found["evalkit"].status == "ok"
    assert found["embedded/smollm2-135m-instruct"].remedy == "evalkit models pull smollm2-135m-instruct"
    assert found["cache"].status == "ok" and "free" in found["cache"].sentence
    assert found["ledger"].sentence == "no evalkit.db yet: the first run makes it"
    assert "CPU" in found["GPU"].sentence
    assert "hub" not in found and not [name for name in found if name.startswith("endpoint")]
    for finding in found.values():
        assert finding.remedy or finding.status == "ok", finding


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"local": ("sqlalchemy", "no_such_package"), "bench": ("sqlalchemy",)})
    found = _by_name(examine())
    assert found["extra local"] == Finding(
        "extra local", "warn", "lacks no_such_package", "pip install 'evalkit[local]'"
    )
    assert found["extra bench"].sentence.startswith("sqlalchemy 2.")


def test_waiting_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_has", lambda module: True)
    monkeypatch.setattr(doctor, "EXTRAS", {})
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert _by_name(examine())["OMP_WAIT_POLICY"].remedy == "export OMP_WAIT_POLICY=passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert _by_name(examine())["OMP_WAIT_POLICY"].status == "ok"


def test_hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _by_name(examine())["hub"].remedy == "unset HF_HUB_OFFLINE"


def test_a_gpu_as_nvidia_smi_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA Test, 81559 MiB, 80000 MiB'\n")
    tool.chmod(0o755)
    assert _by_name(examine())["GPU 0"].sentence == "NVIDIA Test, 81559 MiB, 80000 MiB free"
    tool.write_text("#!/bin/sh\necho 'driver mismatch' >&2; exit 9\n")
    assert _by_name(examine())["GPU"].sentence == "nvidia-smi fails: driver mismatch"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "file"))
    found = _by_name(examine())["cache"]
    assert (found.status, found.remedy) == ("missing", "export EVALKIT_CACHE=FOLDER")
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    assert _by_name(examine())["cache"].status == "warn"


def test_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "evalkit.db"
    Ledger.open(str(store)).close()
    before = store.read_bytes()
    found = _by_name(examine(store=str(store)))["ledger"]
    assert found.status == "ok" and found.sentence.endswith("without damage")
    assert store.read_bytes() == before
    monkeypatch.setattr(doctor, "CHECKED_MB", 0)
    assert _by_name(examine(store=str(store)))["ledger"].remedy == "evalkit doctor --deep"
    (tmp_path / "text.db").write_text("this is no database, it only has the name of one" * 50)
    assert "not even a SQLite database" in _by_name(examine(store=str(tmp_path / "text.db")))["ledger"].sentence
    newer = tmp_path / "newer.db"
    with Ledger.open(str(newer)) as ledger, ledger.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    found = _by_name(examine(store=str(newer)))["ledger"]
    assert (found.status, found.remedy) == ("missing", "pip install -U evalkit")
    assert _by_name(examine(store="mysql://host/x"))["ledger"].status == "missing"


def test_a_damaged_ledger(tmp_path: Path) -> None:
    store = tmp_path / "evalkit.db"
    with Ledger.open(str(store)) as ledger:
        ledger.start_run("r", {"text": "x" * 200_000}, seed=0, environment={})
    data = bytearray(store.read_bytes())
    data[-60_000:-20_000] = b"\xff" * 40_000
    store.write_bytes(data)
    found = _by_name(examine(store=str(store)))["ledger"]
    assert found.status == "missing" and "damaged" in found.sentence


@pytest.mark.parametrize(("inside", "status"), [("gsm8k", "ok"), ("other", "missing"), (None, "missing")])
def test_mirror(inside: str | None, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if inside:
        (tmp_path / "data" / inside).mkdir(parents=True)
    monkeypatch.setenv("EVALKIT_DATA", str(tmp_path / "data"))
    assert _by_name(examine())["EVALKIT_DATA"].status == status


def test_endpoints(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    models = json.dumps({"data": [{"id": "small"}, {"id": "large"}]})
    good, page = serve(200, "application/json", models), serve(200, "text/html", "<!doctype html><p>hello")
    refused = serve(401, "application/json", json.dumps({"error": {"message": f"bad key {SECRET}"}}))
    asked = [Endpoint(good), Endpoint(good, "small"), Endpoint(good, "huge"), Endpoint(page), Endpoint(refused)]
    asked += [Endpoint("http://127.0.0.1:9/v1"), Endpoint("not a url"), Endpoint(good, "small", "OTHER_KEY")]
    findings = examine(asked)
    by_name = {finding.name: finding for finding in findings}
    assert by_name[f"endpoint {good}"].status == "ok"
    assert by_name["endpoint small"].status == "ok" and "serves small" in by_name["endpoint small"].sentence
    assert by_name["endpoint huge"].status == "missing" and "it has large, small" in by_name["endpoint huge"].sentence
    for url in (page, refused, "http://127.0.0.1:9/v1", "not a url"):
        assert by_name[f"endpoint {url}"].status == "missing", url
        assert by_name[f"endpoint {url}"].remedy
    assert by_name["OPENAI_API_KEY"].status == "ok" and by_name["OTHER_KEY"].status == "warn"
    assert SECRET not in repr(findings)


def test_a_plan_and_the_environment(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = serve(200, "application/json", json.dumps({"data": [{"id": "small"}]}))
    monkeypatch.setenv("OPENAI_BASE_URL", url + "/")
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "store: mine.db\nmodels: [openai/small, embedded/smollm2-135m-instruct]\n"
        "arena: {tasks: [t]}\njudges: [{name: j, model: {model: openai/judge, api_key_env: JUDGE_KEY}}]\n"
    )
    found = {finding.name: finding for finding in examine_all(plan)}
    assert found[f"endpoint {url}"].status == found["endpoint small"].status == "ok"
    assert found["endpoint judge"].status == "missing"
    assert found["JUDGE_KEY"].remedy == "export JUDGE_KEY=YOUR_KEY"
    assert "mine.db" in found["ledger"].sentence
    with pytest.raises(UserError, match="cannot be read"):
        examine_all(tmp_path / "none.yaml")
    assert {"endpoint small"}.isdisjoint(finding.name for finding in examine_all())


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom evalkit.doctor import examine\nexamine()\n"
        "print([m for m in ('torch', 'transformers', 'pandas', 'lm_eval', 'datasets') if m in sys.modules])"
    )
    root = Path(doctor.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
