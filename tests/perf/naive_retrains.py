"""Two naive retrains that the gate must refuse, and what mends them, on the embedded SmolLM2-135M.

    python tests/perf/naive_retrains.py [folder]

Bare examples of "all lowercase" leak into answers that never asked for it; addition drills make a model forget the
rest. Then the naive model merged with its parent, the same recipe with contrast and replay rows, and that merged, go to
the same gate until it accepts one. Everything is done by the commands that a user types; about an hour, once: a second
run only prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evalkit.models import embedded
from evalkit.store import Ledger
from evalkit.store.frames_training import slices

ROOT = Path(__file__).resolve().parents[2]
BASE = {"name": "smollm2", "model": "embedded/smollm2-135m-instruct", "batch_size": 128}
CONTROLS = str(ROOT / "examples" / "controls.jsonl")
RUN = {
    "models": [BASE],
    "benchmarks": ["starter_formats", "starter_sums", "starter_reading", "starter_instructions", "starter_knowledge"],
    "arena": {"prompts": CONTROLS, "sampling": {"max_tokens": 64}},
}
GATE = {
    "margin": 0.1,
    "regression": [
        # Together: of 30 items of one task a fall by 0.1 cannot be ruled out.
        {"name": "all else", "tasks": ["starter_reading", "starter_instructions", "starter_knowledge"]}
    ],
    "controls": CONTROLS,
}
REFUSED = 100
NEW = {"kind": "new_prompts"}
GUARDED = [{"kind": "new_prompts", "weight": 2}, {"kind": "contrast", "weight": 2}, {"kind": "replay"}]
DRILLS = {"lowercase": (160, 1, 5e-4), "addition": (160, 2, 1e-3)}
"""Rows, epochs and learning rate that the naive one trains with."""


def evalkit(folder: Path, *words: object) -> int:
    """Runs a command there, without a hub and with this tree's packages; returns its exit code."""
    line = [sys.executable, "-m", "evalkit.cli", *map(str, words)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    code = subprocess.run(line, cwd=folder, env=environment, check=False).returncode
    if code not in (0, REFUSED):
        raise SystemExit(f"{' '.join(line)}: exit code {code}")
    return code


def write(folder: Path, name: str, plan: dict[str, Any]) -> str:
    """Writes a plan; returns its file's name."""
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "store": "evalkit.db", **plan}))
    return f"{name}.yaml"


def attempts(topic: str) -> dict[str, dict[str, Any]]:
    """Returns the retrain plans of a slice, by what is tried."""
    rows, epochs, rate = DRILLS[topic]
    settings = {"learning_rate": rate, "num_train_epochs": epochs, "per_device_train_batch_size": 8}
    recipe = {"sources": [NEW], "rows": rows}
    naive = {"slice": f"topic = {topic}", "base": BASE, "recipe": recipe, "settings": settings, "gate": GATE}
    guarded = {**naive, "recipe": {"sources": GUARDED, "rows": 5 * rows // 2}}  # as many new prompts as the naive one
    half = {"merge": {"weight": 0.5}}
    return {
        "naive": naive,
        "merged with its parent": {**naive, **half},
        "contrast and replay": guarded,
        "contrast and replay, merged": {**guarded, **half},
    }


def main() -> None:
    """Evaluates, makes the two slices, tries retrains until one is accepted, and prints each gate's table."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else embedded.cache_dir() / "perf" / "naive_retrains"
    folder.mkdir(parents=True, exist_ok=True)
    evalkit(folder, "run", write(folder, "base", RUN))
    told = []
    for topic in DRILLS:
        with Ledger.open(str(folder / "evalkit.db")) as ledger:
            known = f"topic = {topic}" in set(slices(ledger)["slice"])
        if not known:
            evalkit(folder, "slices", "--store", "evalkit.db", "--model", BASE["name"], "--where", f"topic={topic}")
        for what, plan in attempts(topic).items():
            sys.stdout.write(f"\n== {topic}: {what}\n")
            sys.stdout.flush()
            began = time.monotonic()
            code = evalkit(folder, "retrain", write(folder, f"{topic} {what}".replace(",", "").replace(" ", "-"), plan))
            decision = "refused" if code == REFUSED else "accepted"
            told.append(f"{topic}, {what}: {decision}, {time.monotonic() - began:.0f} s")
            if code != REFUSED:
                break
    sys.stdout.write("\n" + "\n".join(told) + "\n")


if __name__ == "__main__":
    main()
