"""What is installed, what answers, and what to type to mend what is missing."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evalkit import __version__
from evalkit.errors import UserError

Status = Literal["ok", "warn", "missing"]

EXTRAS = {
    "local": ("torch", "transformers", "accelerate", "gguf"),
    "bench": ("lm_eval", "datasets", "tenacity"),
    "train": ("trl", "peft", "datasets"),
    "app": ("streamlit", "altair"),
    "postgres": ("psycopg",),
    "vllm": ("vllm",),
    "ray": ("ray",),
}
FREE_GB = 2.0
CHECK_TIMEOUT_S = 5.0
CHECKED_MB = 200
"""Larger ledgers are searched for damage only with `deep`: it reads the whole file."""
MIRROR_SIGNS = ("gsm8k", "ifeval", "mmlu", "math", "truthfulqa")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        status: ok, warn (works, but look at it) or missing (what needs it will fail).
        sentence: What was found.
        remedy: What to type; empty if there is nothing to do.
    """

    name: str
    status: Status
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to ask; `model` is empty where only the server is known."""

    url: str
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"


def examine_all(plan: Path | None = None, *, deep: bool = False) -> list[Finding]:
    """Examines this machine, OPENAI_BASE_URL if it is set, and a plan's ledger and endpoints.

    Raises:
        UserError: The plan cannot be read.
    """
    from evalkit.models.endpoint import default_endpoint

    endpoints = [Endpoint(default_endpoint())] if os.environ.get("OPENAI_BASE_URL") else []
    store = os.environ.get("EVALKIT_STORE", "evalkit.db")
    if plan is not None:
        from evalkit.plan import load_plan

        read = load_plan(plan)
        store = read.store
        for model in [*read.models, *(judge.model for judge in read.judges if judge.model is not None)]:
            provider, _, name = model.model.partition("/")
            if provider == "openai":
                url = (model.base_url or default_endpoint()).rstrip("/")
                endpoints.append(Endpoint(url, name, model.api_key_env))
    return examine(endpoints, store=store, deep=deep)


def examine(endpoints: Sequence[Endpoint] = (), *, store: str = "evalkit.db", deep: bool = False) -> list[Finding]:
    """Looks at everything evalkit needs; takes under two seconds without endpoints.

    Args:
        endpoints: Servers to ask for their models.
        store: Ledger, as a path or URL; its absence is no fault.
        deep: Also import torch to see its threads, number format and GPUs, and search a large ledger for damage.
    """
    found = [_python(), Finding("evalkit", "ok", f"version {__version__}"), *_extras()]
    found += [*(_torch() if deep else ()), *_gpus(), *_embedded(), _cache(), *_threads(), *_hub()]
    found += [_ledger(store, deep), _mirror()]
    for key in dict.fromkeys(endpoint.api_key_env for endpoint in endpoints):
        found.append(_key(key))
    if endpoints:
        found += asyncio.run(_ask_all(list(dict.fromkeys(endpoints))))
    return found


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", "ok", f"{version} in {sys.prefix}")


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if not _has(module)]
        if absent:
            # Nobody needs all of them, so none is worth more than a warning.
            yield Finding(f"extra {extra}", "warn", f"lacks {', '.join(absent)}", f"pip install 'evalkit[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(f"{m} {_version(m)}" for m in modules))


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(module: str) -> str:
    for name in (module, module.replace("_", "-")):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "(version unknown)"


def _torch() -> Iterator[Finding]:
    if not _has("torch"):
        return
    import torch

    from evalkit.models.local import auto_dtype

    chosen = auto_dtype()
    fast = "the hardware has it" if chosen == "bfloat16" else "no bfloat16 in hardware"
    yield Finding("torch", "ok", f"{torch.get_num_threads()} threads; weights in {chosen} by default: {fast}")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.cuda.get_device_properties(index)
        yield Finding(f"GPU {index}", "ok", f"torch sees {device.name} with {device.total_memory / 2**30:.0f} GiB")


def _gpus() -> Iterator[Finding]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield Finding("GPU", "ok", "no NVIDIA driver here: local models run on the CPU")
        return
    query = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("GPU", "warn", f"nvidia-smi does not answer: {error}", "nvidia-smi")
        return
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        yield Finding("GPU", "warn", f"nvidia-smi fails: {said[-1]}", "nvidia-smi")
        return
    for index, line in enumerate(done.stdout.strip().splitlines()):
        name, total, free = (part.strip() for part in line.split(","))
        yield Finding(f"GPU {index}", "ok", f"{name}, {total}, {free} free")


def _embedded() -> Iterator[Finding]:
    from evalkit.models import embedded

    for name in embedded.EMBEDDED:
        if embedded.is_ready(name):
            yield Finding(f"embedded/{name}", "ok", f"in {embedded.folder(name)}")
        else:
            yield Finding(f"embedded/{name}", "warn", "not on this machine yet", f"evalkit models pull {name}")


def _cache() -> Finding:
    from evalkit.models.embedded import cache_dir

    folder = cache_dir()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    remedy = "export EVALKIT_CACHE=FOLDER"
    try:
        with tempfile.TemporaryFile(dir=there):  # a look at the mode says nothing about quotas or read-only mounts
            free = shutil.disk_usage(there).free / 1e9
    except OSError as error:
        return Finding("cache", "missing", f"{folder} cannot be written: {error.strerror}", remedy)
    if free < FREE_GB:
        return Finding("cache", "warn", f"{folder} has {free:.1f} GB free, less than {FREE_GB:g}", remedy)
    return Finding("cache", "ok", f"{folder} is writable, {free:.0f} GB free")


def _threads() -> Iterator[Finding]:
    if not _has("torch") or shutil.which("nvidia-smi"):
        return
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if policy.lower() == "passive":
        yield Finding("OMP_WAIT_POLICY", "ok", "passive: waiting threads leave the CPU to others")
    else:
        yield Finding(
            "OMP_WAIT_POLICY",
            "warn",
            f"{policy or 'not set'}: torch's waiting threads burn CPU that other processes need",
            "export OMP_WAIT_POLICY=passive",
        )


def _hub() -> Iterator[Finding]:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        sentence = "HF_HUB_OFFLINE is set: hub models and data come from the local cache alone"
        yield Finding("hub", "warn", sentence, "unset HF_HUB_OFFLINE")


def _ledger(store: str, deep: bool) -> Finding:
    from evalkit.store import Ledger, database, schema

    try:
        url = database.parse_url(store)
        file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        shown = str(file) if file else url.render_as_string()
        if file and not file.exists():
            return Finding("ledger", "ok", f"no {shown} yet: the first run makes it")
        with Ledger.open(store, create=False, readonly=True) as ledger:
            said = f"{shown} opens, version {schema.VERSION}"
            if file is None:
                return Finding("ledger", "ok", said)
            size = file.stat().st_size / 1e6
            if size > CHECKED_MB and not deep:
                return Finding(
                    "ledger", "ok", f"{said}; {size:,.0f} MB, not searched for damage", "evalkit doctor --deep"
                )
            with database.said_plainly(repr(shown)), ledger.engine.connect() as connection:
                checked = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    except UserError as error:
        sentence, _, remedy = str(error).rstrip(".").partition("; type: ")
        return Finding("ledger", "missing", sentence, remedy)
    if checked != "ok":
        return Finding("ledger", "missing", f"{shown} is damaged: {checked}", f"sqlite3 {shown} .recover")
    return Finding("ledger", "ok", f"{said}, without damage")


def _mirror() -> Finding:
    value = os.environ.get("EVALKIT_DATA")
    if not value:
        return Finding("EVALKIT_DATA", "ok", "not set: well-known benchmarks come from the hub")
    folder = Path(value).expanduser()
    if not folder.is_dir():
        return Finding("EVALKIT_DATA", "missing", f"{value} is not a folder", "export EVALKIT_DATA=FOLDER")
    there = [name for name in MIRROR_SIGNS if (folder / name).is_dir()]
    if not there:
        sentence = f"{value} holds none of {', '.join(MIRROR_SIGNS)}"
        return Finding("EVALKIT_DATA", "missing", sentence, "export EVALKIT_DATA=FOLDER")
    return Finding("EVALKIT_DATA", "ok", f"{value} mirrors {', '.join(there)}")


def _key(name: str) -> Finding:
    if os.environ.get(name, "").strip():
        return Finding(name, "ok", "is set")  # its value is nobody's business
    return Finding(name, "warn", "is not set: endpoints that want a key will refuse", f"export {name}=YOUR_KEY")


async def _ask_all(endpoints: Sequence[Endpoint]) -> list[Finding]:
    return list(await asyncio.gather(*(_ask(endpoint) for endpoint in endpoints)))


async def _ask(endpoint: Endpoint) -> Finding:
    name = f"endpoint {endpoint.model or endpoint.url}"
    remedy = "" if endpoint.model else "export OPENAI_BASE_URL=http://HOST:PORT/v1"
    try:
        answers, sentence = await (_check_model(endpoint) if endpoint.model else _check_server(endpoint))
    except UserError as error:
        answers, sentence = False, str(error)
    return Finding(name, "ok" if answers else "missing", sentence, "" if answers else remedy)


async def _check_model(endpoint: Endpoint) -> tuple[bool, str]:
    from evalkit.models.base import ModelSettings
    from evalkit.models.endpoint import EndpointModel

    settings = ModelSettings("openai", endpoint.model, endpoint=endpoint.url)
    return await EndpointModel(settings, endpoint.api_key_env, CHECK_TIMEOUT_S, max_concurrency=1).check()


async def _check_server(endpoint: Endpoint) -> tuple[bool, str]:
    """Asks a server of which no model is named."""
    from evalkit.models.endpoint_errors import html_failure, is_html, status_failure, transport_failure
    from evalkit.models.httpclient import HTTPClient, TransportError

    key, url = os.environ.get(endpoint.api_key_env, "").strip(), f"{endpoint.url}/models"
    client = HTTPClient(endpoint.url, {"Authorization": f"Bearer {key}"} if key else {}, CHECK_TIMEOUT_S)
    try:
        reply = await client.request("GET", "/models")
    except TransportError as error:
        return False, transport_failure(error, url).message
    finally:
        client.close()
    if reply.status != 200:
        return False, status_failure(reply, url, "", key or None, endpoint.api_key_env).message
    return (False, html_failure(url).message) if is_html(reply.body) else (True, f"{url} answers")
