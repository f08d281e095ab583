"""Memory and time of merging two SmolLM2-135M models, and of mergekit doing the same where it is installed.

    evalkit models pull smollm2-135m-instruct
    python tests/perf/merge_memory.py                       # all methods, shards of 100 MB
    python tests/perf/merge_memory.py --methods ties --shard-mb 2000

Each merge runs in a process of its own, the two programs in turn. Peak memory is shown less what the process held after
its imports: all pages (as the system counts them, mapped files included), and those that no file backs. CPU seconds are
of the merge alone. Mergekit's process maps the models' files; their pages can be given back under pressure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties")
TURN_SECONDS = 0.005

OURS = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import torch, safetensors.torch, numpy
from trainers.merging import merge
from trainers.merging_config import read_merge
config = read_merge(Path({yaml!r}))
print("ready", flush=True); sys.stdin.readline()
began = time.process_time()
merge(config, Path({out!r}), shard_bytes={shard})
print(time.process_time() - began, flush=True)
"""
THEIRS = """
import json, sys, time, yaml, logging
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
import mergekit.merge_methods
logging.disable(logging.CRITICAL)
config = MergeConfiguration.model_validate(yaml.safe_load(open({yaml!r})))
options = MergeOptions(quiet=True, out_shard_size={shard}, random_seed=0)
print("ready", flush=True); sys.stdin.readline()
began = time.process_time()
run_merge(config, {out!r}, options)
print(time.process_time() - began, flush=True)
"""


def tuned(base: Path, folder: Path) -> Path:
    """Makes a second model: the first, moved at random."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    draw = torch.Generator().manual_seed(0)
    tensors = load_file(base / "model.safetensors")
    for name in tensors:
        tensors[name] = tensors[name] + 0.02 * tensors[name].std() * torch.randn(tensors[name].shape, generator=draw)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def config_of(method: str, base: Path, other: Path) -> str:
    """Returns the YAML of a merge of the two."""
    weight = {"linear": {"weight": 0.5}, "slerp": {"t": 0.5}, "task_arithmetic": {"weight": 0.5}}
    parameters = weight.get(method, {"weight": 0.5, "density": 0.5})
    models = [str(base), str(other)]
    return json.dumps(
        {
            "merge_method": method,
            "models": [{"model": m} for m in models],
            "parameters": parameters,
            **({} if method == "linear" else {"base_model": str(base)}),
        }
    )


def memory(pid: int) -> tuple[int, int]:
    """Returns a process's memory in bytes: all pages, and those that no file backs."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {key: value for key, _, value in (line.partition(":") for line in lines)}
    return tuple(int(found[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon"))  # type: ignore[return-value]


def measure(program: str) -> tuple[float, int, int]:
    """Runs a merge.

    Returns:
        CPU seconds, and the peaks of `memory` above what was there before it began.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit("the merge did not start")
    before = memory(process.pid)
    peak = before
    process.stdin.write("\n")
    process.stdin.flush()
    while not select.select([process.stdout], [], [], TURN_SECONDS)[0]:
        now = memory(process.pid)
        peak = (max(peak[0], now[0]), max(peak[1], now[1]))
    said = process.stdout.readline()
    if process.wait():
        raise SystemExit("the merge failed")
    return float(said), peak[0] - before[0], peak[1] - before[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--shard-mb", type=int, default=100)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from evalkit.models import embedded
    from trainers.merging_files import Checkpoint, size_of

    embedded.revision("smollm2-135m-instruct")
    base = embedded.folder("smollm2-135m-instruct")
    sizes = [size_of(entry) for entry in Checkpoint(base, "base").tensors.values()]
    print(
        f"model {sum(sizes) / 1e6:.0f} MB in float32, largest tensor {max(sizes) / 1e6:.0f} MB, "
        f"shards of {options.shard_mb} MB"
    )
    peer = importlib.util.find_spec("mergekit") is not None
    if not peer:
        print("mergekit is not installed: no comparison")
    print(f"{'method':16} {'program':9} {'CPU s':>7} {'peak MB':>8} {'without files MB':>17}")
    with tempfile.TemporaryDirectory() as work:
        other = tuned(base, Path(work) / "tuned")
        for method in options.methods:
            file = Path(work) / "merge.yaml"
            file.write_text(config_of(method, base, other))
            for who, program in (("evalkit", OURS), ("mergekit", THEIRS))[: 1 + peer]:
                out = Path(work) / "out"
                values: dict[str, Any] = {"root": str(ROOT), "yaml": str(file), "out": str(out)}
                seconds, pages, own = measure(program.format(**values, shard=options.shard_mb * 10**6))
                print(f"{method:16} {who:9} {seconds:7.1f} {pages / 1e6:8.0f} {own / 1e6:17.0f}", flush=True)
                shutil.rmtree(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
