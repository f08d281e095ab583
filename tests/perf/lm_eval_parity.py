"""Embedded model through evalkit and through lm-eval's own `hf`, same items, same number format: scores and time.

    EVALKIT_DATA=../shared/data/benchmarks python tests/perf/lm_eval_parity.py --limit 200

Prints one line for each metric; exits 1 if a score differs. The 200 items take an hour or two on two cores: generated
tokens are the cost, and `--max-gen-toks` lowers them for both sides alike. MMLU takes its items from all 57 subjects.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from benchmarks import bridge
from benchmarks.tasks import Loaded, TaskSpec
from evalkit.engine import Engine
from evalkit.models import embedded
from evalkit.models.base import ModelSettings
from evalkit.models.local import LocalModel
from evalkit.store import Ledger

MODEL = "smollm2-135m-instruct"


def ours(loaded: Loaded, batch_size: int) -> tuple[dict[tuple[str, str], Any], float]:
    """Returns our scores by (task, metric), and seconds from asking to scores in the ledger, weights read before."""
    settings = ModelSettings("embedded", MODEL, embedded.revision(MODEL), dtype="float32")
    model = LocalModel(settings, embedded.folder(MODEL), batch_size=batch_size)
    model.load()
    with tempfile.TemporaryDirectory() as folder, Ledger.open(f"{folder}/ledger.db") as ledger:
        run_id = ledger.start_run("parity", {}, seed=0, environment={})
        (model_id,) = ledger.add_models([settings])
        started = time.perf_counter()
        with Engine(ledger, run_id) as engine:
            report = bridge.run_tasks(engine, ledger, run_id, model, model_id, [loaded])
        seconds = time.perf_counter() - started
    return {(s.name, s.metric): (s.value, s.errors) for s in report.scores}, seconds


def theirs(loaded: Loaded, batch_size: int, limit: int, chat: bool) -> tuple[dict[str, Any], float]:
    """Returns lm-eval's results by task, and its seconds, weights read before."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    objects = list(loaded.groups.values())[:1] or list(loaded.tasks.values())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lm = HFLM(pretrained=str(embedded.folder(MODEL)), dtype="float32", device="cpu", batch_size=batch_size)
        started = time.perf_counter()
        results = lm_eval.simple_evaluate(
            lm,
            tasks=objects,
            task_manager=TaskManager(include_defaults=False),
            limit=limit,
            apply_chat_template=chat,
            bootstrap_iters=1000,
        )
        return results["results"], time.perf_counter() - started


def main() -> int:
    """Runs the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="mmlu,ifeval,gsm8k")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-gen-toks", type=int, default=128)
    parser.add_argument("--shots", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    rows = []
    for name in args.tasks.split(","):
        limit = math.ceil(args.limit / 57) if name == "mmlu" else args.limit
        chat = name == "ifeval"
        cap = {} if name == "mmlu" else {"max_gen_toks": args.max_gen_toks}
        (loaded,) = bridge.load_tasks([TaskSpec(name, args.shots, limit, chat_template=chat, generation=cap)])
        our_scores, our_seconds = ours(loaded, args.batch_size)
        their_scores, their_seconds = theirs(loaded, args.batch_size, limit, chat)
        print(f"{name}: ours {our_seconds:.0f} s, lm-eval {their_seconds:.0f} s", flush=True)
        for (task, metric), (value, errors) in our_scores.items():
            reference = their_scores[task][metric]
            same = value == reference and not errors
            rows.append({"task": task, "metric": metric, "ours": value, "lm_eval": reference, "identical": same,
                         "our_seconds": our_seconds, "lm_eval_seconds": their_seconds})  # fmt: skip
            if task in (name, *loaded.groups) or not same:
                print(
                    f"  {task} {metric}: ours {value}, lm-eval {reference}{'' if same else '  DIFFERENT'}", flush=True
                )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    different = [r for r in rows if not r["identical"]]
    print(f"{len(rows) - len(different)} of {len(rows)} scores identical")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
