"""One training in several processes: a process for each GPU, started with torchrun, as `accelerate launch` does it.

The processes talk to us in lines of JSON on their standard output; curves and status stay with the one recorder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from trainers.checkpoint import work_folder, write_atomically
from trainers.recorder import Recorder, kept_of
from trainers.rows import Row

MARK = "evalkit:"
ROOT = Path(__file__).resolve().parent.parent


class _Piped(Recorder):
    """Passes everything on to the process that launched this one."""

    def record(self, step: int, metrics: Mapping[str, Any], *, total: int = 0, left_s: float | None = None) -> None:
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        # For the model's card; the process that launched this one says them.
        self.warnings += self._watch.read(step, kept_of(numbers))
        _send(record=[step, numbers, total, left_s])

    def report_to(self, trackers: Sequence[str], folder: Path) -> None:
        _send(report_to=[list(trackers), str(folder)])

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
        _send(warn=sentence)

    def tell(self, sentence: str) -> None:
        _send(tell=sentence)


def _send(**message: Any) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(message)}\n")
    sys.stdout.flush()


def launch(arguments: Mapping[str, Any], rows: Sequence[Row], validation: Sequence[Row], *, processes: int,
           recorder: Recorder) -> None:  # fmt: skip
    """Trains with several processes on this machine; the result lies in the folder afterwards.

    Args:
        arguments: Those of `train` that are plain data.
        processes: How many; each takes a GPU where there are some.

    Raises:
        UserError: As `train`, or the processes died; with the last line they said.
    """
    out = Path(arguments["out"])
    work = work_folder(out)
    work.mkdir(parents=True, exist_ok=True)
    job = {"arguments": dict(arguments), "rows": list(map(asdict, rows)), "validation": list(map(asdict, validation))}
    write_atomically(work / "launch.json", json.dumps(job))
    line = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"),
        *("-m", "trainers.launch", str(work / "launch.json")),
    ]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    said: deque[str] = deque(maxlen=20)
    failed = ""
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables) as process:
        try:
            assert process.stdout is not None
            for text in process.stdout:
                start = text.find(MARK)
                if start < 0:
                    said.append(text.strip())
                    continue
                failed = _take(json.loads(text[start + len(MARK) :]), recorder) or failed
        except BaseException:
            process.terminate()
            raise
    if failed:
        raise UserError(failed)
    if process.returncode != 0:
        last = next((text for text in reversed(said) if "Error" in text), "no message")
        raise UserError(f"{out}: a training process died ({last}); start again to go on from the last checkpoint")


def _take(message: Mapping[str, Any], recorder: Recorder) -> str:
    if "record" in message:
        step, metrics, total, left = message["record"]
        recorder.record(step, metrics, total=total, left_s=left)
    elif "report_to" in message:
        trackers, folder = message["report_to"]
        recorder.report_to(trackers, Path(folder))
    elif "warn" in message:
        recorder.warn(message["warn"])
    elif "tell" in message:
        recorder.tell(message["tell"])
    return str(message.get("error", ""))


def main(file: str) -> int:
    """Runs one of the processes; returns its exit code."""
    from trainers.methods.run import train

    job = json.loads(Path(file).read_text(encoding="utf-8"))
    first = os.environ.get("RANK", "0") == "0"
    arguments = job["arguments"]
    rows, validation = ([Row(**row) for row in job[name]] for name in ("rows", "validation"))
    try:
        train(
            arguments["method"],
            rows,
            validation,
            Path(arguments["base"]),
            Path(arguments["out"]),
            arguments["settings"],
            adapter=arguments["adapter"],
            seed=arguments["seed"],
            minutes=arguments["minutes"],
            recorder=_Piped() if first else Recorder(),
        )
    except UserError as error:
        if first:
            _send(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
