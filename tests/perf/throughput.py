"""How close evalkit comes to what a server and one core allow, with scoring and storing included.

    python tests/perf/throughput.py                      # fixed latency at concurrency 64, 256, 1,024, and the peers
    python tests/perf/throughput.py --scenarios all      # also faults, a long tail, a server capped at half
    python tests/perf/throughput.py --quick              # a tenth of the prompts, no peers

The mock server runs pinned to one core, each client in a process of its own pinned to another. Efficiency is
ceil(N/C) x latency / (first request to last reply), both taken at the server. CPU is the client's whole process from
the first request to the last reply stored. Exit code 1 if a sample was lost or paid twice without need; timings never
fail, for they depend on the machine: compare them with the goals printed beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOALS = {64: 0.96, 256: 0.90, 1024: 0.60}
PEERS = ("bare", "aiohttp", "openai", "lm_eval", "inspect_ai")
MODULES = {"aiohttp": "aiohttp", "openai": "openai", "lm_eval": "lm_eval", "inspect_ai": "inspect_ai"}


def question(i: int) -> str:
    return f"Question {i}: what do you get if you multiply six by seven? Answer with a number."


class Server:
    """The mock server as a process on its own core."""

    def __init__(self, *options: str) -> None:
        core = ["--core", str(max(os.sched_getaffinity(0)))]
        command = [sys.executable, str(HERE / "mock_server.py"), *core, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path) as reply:
            return dict(json.load(reply))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


# Clients. Each runs in a process of its own: `throughput.py --client NAME`, and prints one JSON line.


def client_evalkit(url: str, n: int, concurrency: int, folder: str) -> dict[str, Any]:
    """The whole way: items and ledger, requests, stored responses, a verifier's grade for each."""
    import gc

    gc.set_threshold(100_000, 10, 10)  # as the command line does it

    from evalkit.engine import Budget, Engine, Job
    from evalkit.models import ModelSettings, Request, Sampling
    from evalkit.models.endpoint import EndpointModel
    from evalkit.store import Ledger
    from evalkit.store.rows import GradeRow, Item

    ledger = Ledger.open(f"{folder}/ledger.db")
    items = [Item(({"role": "user", "content": question(i)},), reference="42") for i in range(n)]
    settings = ModelSettings("openai", "mock", endpoint=f"{url}/v1", sampling=Sampling(temperature=0.0))
    model = EndpointModel(settings, max_concurrency=concurrency)
    (model_id,) = ledger.add_models([settings])
    dataset_id, item_ids = ledger.add_dataset("multiply", items)
    run_id = ledger.start_run("throughput", {}, seed=0, environment={})
    jobs = [
        Job(model_id, item_id, dataset_id, Request(messages=item.messages, sampling=Sampling(max_tokens=32)))
        for item_id, item in zip(item_ids, items, strict=True)
    ]
    cpu = time.process_time()
    with Engine(ledger, run_id, budget=Budget(max_concurrency=concurrency)) as engine:
        outcomes = engine.run(model, jobs)
        engine.release(model)
    annotator = ledger.add_annotator("metric", "exact", {"metric": "contains the reference"})
    ledger.add_grades(
        [
            GradeRow(o.response_id, annotator, "exact", float("42" in o.reply.text))
            for o in outcomes
            if o.response_id is not None and o.reply is not None
        ]
    )
    cpu = time.process_time() - cpu
    with ledger.engine.connect() as connection:
        count = connection.exec_driver_sql
        rows = count("SELECT count(*) FROM response").scalar()
        answered = count("SELECT count(*) FROM response WHERE error_kind IS NULL").scalar()
        graded = count("SELECT count(*) FROM grade").scalar()
    return {"cpu": cpu, "rows": rows, "answered": answered, "graded": graded, "outcomes": len(outcomes)}


def client_bare(url: str, n: int, concurrency: int, folder: str) -> dict[str, Any]:
    """Nothing but asyncio sockets: the limit of what one core can do."""
    host, port = url.removeprefix("http://").split(":")
    bodies = iter([json.dumps({"model": "mock", "messages": question(i)}).encode() for i in range(n)])

    async def worker() -> int:
        done = 0
        reader, writer = await asyncio.open_connection(host, int(port))
        for body in bodies:
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            json.loads(await reader.readexactly(length))
            done += 1
        writer.close()
        return done

    return _timed(worker, concurrency, uvloop=True)


def client_aiohttp(url: str, n: int, concurrency: int, folder: str) -> dict[str, Any]:
    import aiohttp

    questions = iter([question(i) for i in range(n)])
    session: Any = None

    async def worker() -> int:
        nonlocal session
        session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        done = 0
        for text in questions:
            payload = {"model": "mock", "messages": [{"role": "user", "content": text}]}
            async with session.post(f"{url}/v1/chat/completions", json=payload) as reply:
                await reply.json()
            done += 1
        return done

    return _timed(worker, concurrency, uvloop=True)


def client_openai(url: str, n: int, concurrency: int, folder: str) -> dict[str, Any]:
    import openai

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=600, max_retries=2)
    questions = iter([question(i) for i in range(n)])

    async def worker() -> int:
        done = 0
        for text in questions:
            await client.chat.completions.create(model="mock", messages=[{"role": "user", "content": text}])
            done += 1
        return done

    return _timed(worker, concurrency)


def client_lm_eval(url: str, n: int, concurrency: int, folder: str) -> dict[str, Any]:
    """lm-eval's own endpoint model, given ready requests: no task, no scoring, nothing stored."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalChatCompletion

    model = LocalChatCompletion(
        model="mock", base_url=f"{url}/v1/chat/completions", num_concurrent=concurrency, max_retries=3
    )
    requests = []
    for i in range(n):
        chat = model.apply_chat_template([{"role": "user", "content": question(i)}])
        arguments = (chat, {"until": [], "max_gen_toks": 32})
        requests.append(Instance("generate_until", {}, arguments, i))
    cpu = time.process_time()
    answers = model.generate_until(requests, disable_tqdm=True)
    return {"cpu": time.process_time() - cpu, "answered": len(answers)}


def client_inspect_ai(url: str, n: int, concurrency: int, folder: str) -> dict[str, Any]:
    import inspect_ai
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    os.environ["OPENAI_API_KEY"] = "none"
    task = inspect_ai.Task(dataset=[Sample(input=question(i), target="42") for i in range(n)], scorer=includes())
    cpu = time.process_time()
    logs = inspect_ai.eval(
        task, model="openai/mock", model_base_url=f"{url}/v1", max_connections=concurrency, max_samples=concurrency,
        log_dir=folder, display="none", fail_on_error=False,
    )  # fmt: skip
    return {"cpu": time.process_time() - cpu, "answered": logs[0].results.completed_samples if logs[0].results else 0}


def _timed(worker: Any, concurrency: int, uvloop: bool = False) -> dict[str, Any]:
    async def main() -> int:
        return sum(await asyncio.gather(*(worker() for _ in range(concurrency))))

    cpu = time.process_time()
    if uvloop:
        import uvloop as fast

        answered = fast.run(main())
    else:
        answered = asyncio.run(main())
    return {"cpu": time.process_time() - cpu, "answered": answered}


# The measurement


def measure(name: str, server: Server, n: int, concurrency: int, latency: float) -> dict[str, Any]:
    """Runs one client in its own pinned process; returns what it and the server saw."""
    server.ask("/reset")
    core = min(os.sched_getaffinity(0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "throughput.py"), "--client", name, "--url", server.url]
        command += ["-n", str(n), "--concurrency", str(concurrency), "--folder", folder]
        launched = time.time()
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            check=False,
        )
        wall = time.time() - launched
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:] or ["no message"]}
    result = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    stats = server.ask("/stats")
    seconds = stats["last"] - stats["first"]
    result.update(stats=stats, seconds=seconds, wall=wall, launch=stats["first"] - launched)
    result["efficiency"] = -(-n // concurrency) * latency / seconds
    result["cpu_ms"] = result["cpu"] / n * 1000
    return result


def lost(result: dict[str, Any], n: int) -> list[str]:
    """What is wrong with evalkit's result: lost rows, or answers paid twice without need."""
    problems = [str(p) for p in result.get("failed", [])]
    if problems:
        return problems
    for name in ("rows", "outcomes", "answered", "graded"):
        if result[name] != n:
            problems.append(f"{name}: {result[name]} instead of {n}")
    if result["stats"]["unforced"]:
        problems.append(f"{result['stats']['unforced']} answers paid for twice without need")
    return problems


def show(name: str, concurrency: int, result: dict[str, Any], goal: str = "") -> None:
    if "failed" in result:
        print(f"{name:<28}{concurrency:>6}  failed: {result['failed'][0][:90]}", flush=True)
        return
    print(
        f"{name:<28}{concurrency:>6}{result['efficiency']:>12.3f}{goal:>6}{result['cpu_ms']:>10.3f}"
        f"{result['launch']:>9.2f}{result['wall']:>8.2f}{result['stats']['requests']:>10}"
        f"{result['stats']['duplicates']:>7}{result['stats']['most_in_flight']:>8}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=5000)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--scenarios", choices=("fixed", "all"), default="fixed")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--quick", action="store_true", help="500 prompts, no peers")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        client = globals()[f"client_{arguments.client}"]
        print(json.dumps(client(arguments.url, arguments.n, arguments.concurrency[0], arguments.folder)))
        return 0
    n, peers = (500, []) if arguments.quick else (arguments.n, arguments.peers)
    if len(os.sched_getaffinity(0)) < 2:
        print("Only one core: client and server share it, so the figures say nothing about the client.")
    left_out = [p for p in peers if p in MODULES and importlib.util.find_spec(MODULES[p]) is None]
    print(f"{n} prompts, latency {arguments.latency} s, load average {os.getloadavg()[0]:.1f} before the start")
    if left_out:
        print(f"Left out, not installed: {', '.join(left_out)}")
    print(
        f"{'client':<28}{'C':>6}{'efficiency':>12}{'goal':>6}{'CPU ms':>10}{'launch':>9}{'wall':>8}{'requests':>10}"
        f"{'twice':>7}{'most':>8}"
    )
    bad: list[str] = []
    figures: list[dict[str, Any]] = []

    def run(label: str, client: str, server: Server, concurrency: int, goal: str = "") -> None:
        result = measure(client, server, n, concurrency, arguments.latency)
        show(label, concurrency, result, goal)
        figures.append({"client": label, "concurrency": concurrency, **result})
        if client == "evalkit":
            bad.extend(f"{label} at {concurrency}: {problem}" for problem in lost(result, n))

    with Server("--latency", str(arguments.latency)) as server:
        for concurrency in arguments.concurrency:
            run("evalkit", "evalkit", server, concurrency, str(GOALS.get(concurrency, "")))
        for peer in peers:
            if peer not in left_out:
                for concurrency in arguments.concurrency:
                    run(peer, peer, server, concurrency)
    if arguments.scenarios == "all" or arguments.quick:
        for label, options in (
            ("evalkit, faults", ["--faults"]),
            ("evalkit, long tail", ["--sigma", "1.0"]),
            ("evalkit, capped at half", ["--cap", "128"]),
        ):
            with Server("--latency", str(arguments.latency), *options) as server:
                run(label, "evalkit", server, 256)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    for problem in bad:
        print(f"LOST: {problem}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
