r"""Mathematical answers: plain numbers compared exactly here, all else (LaTeX, sets, roots) by `math-verify`.

`math-verify` runs in a child process with a time limit, so that a response cannot hang the caller, in whichever thread
it waits. The child starts at the first answer that needs it (1 to 2 s), is kept, and ends with its parent.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.verify.exact import NUMBER, answer_segment, last_number
from evalkit.verify.spec import Check, field, only, unverified, verdict

TIME_LIMIT_S = 5.0
START_LIMIT_S = 60.0
MAX_CHARACTERS = 20_000
MAX_NUMBER_CHARACTERS = 200
FRACTION = re.compile(r"(?P<sign>[-+])?(?:(?P<whole>\d+)\s+)?(?P<top>\d+)\s*/\s*(?P<bottom>\d+)")
FRACTION_IN_TEXT = re.compile(r"(?<![\w.,/])(?:[-+]?\d+\s+)?[-+]?\d+\s*/\s*\d+(?![\w/]|[.,]\d)")
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
UNITS = "€$£¥%° \t\u00a0*_:"
LATEX = re.compile(r"\\[a-zA-Z(\[]|[\^√π]")


def parse_number(text: str, decimal_comma: bool = False) -> Fraction | None:
    """Read a plain number exactly: integer, decimal, grouped thousands, scientific, fraction or mixed number.

    Args:
        text: The number, perhaps with a currency sign or a per cent sign around it (dropped: "42 %" reads 42).
        decimal_comma: Read "1.234,5" as German and most European writing has it; the default reads "1,234.5". Where a
            text can be read in one way only ("3.5" with `decimal_comma`), it is read so.

    Returns:
        The value, or None if the text is not one plain number.
    """
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("⁄", "/").strip()
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None
    text = re.sub(r"^([-+])[€$£¥]\s*", r"\1", text).strip(UNITS).rstrip(".。" + UNITS)
    fraction = FRACTION.fullmatch(text)
    if fraction:
        if not int(fraction["bottom"]):
            return None
        value = int(fraction["whole"] or 0) + Fraction(int(fraction["top"]), int(fraction["bottom"]))
        return -value if fraction["sign"] == "-" else value
    comma, point = (".", ",") if decimal_comma else (",", ".")
    grouped = rf"\d{{1,3}}(?P<sep>[{re.escape(comma)}'’\s])\d{{3}}(?:(?P=sep)\d{{3}})*"
    readings = (rf"(?:{grouped}|\d+)?(?:{re.escape(point)}\d+)?", r"\d*\.\d+" if decimal_comma else r"\d+")
    match = re.fullmatch(r"(?P<sign>[-+]?)(?P<body>\S.*?)(?:[eE](?P<power>[-+]?\d{1,3}))?", text)
    if not match or not match["body"][-1].isdigit():
        return None
    body = match["body"]
    if re.fullmatch(readings[0], body):
        body = re.sub(rf"[{re.escape(comma)}'’\s]", "", body).replace(point, ".")
    elif not re.fullmatch(readings[1], body):
        return None
    return Fraction(f"{match['sign']}{body}e{match['power'] or 0}")


def extract_answer(text: str) -> str:
    r"""Return the part of a response that holds its final answer.

    In this order: the last `\boxed{...}`, the rest of the line after the last answer marker ("answer is", "Antwort:",
    "答案是", "####"), the whole response.
    """
    boxed = BOXED.findall(text)
    return str(boxed[-1]).strip() if boxed else answer_segment(text) or text


def _plain(text: str, decimal_comma: bool) -> Fraction | None:
    """Read the number a response ends in, or None if its answer is no plain number (LaTeX, an expression, none)."""
    segment = extract_answer(text)
    whole = parse_number(segment, decimal_comma)
    if whole is not None:
        return whole
    lines = [line for line in segment.splitlines() if re.search(r"\w", line)] or [""]
    if LATEX.search(lines[-1]) or BOXED.search(text):
        return None
    segment = unicodedata.normalize("NFKC", segment)
    fractions = list(FRACTION_IN_TEXT.finditer(segment))
    last = [match for match in NUMBER.finditer(segment)][-1:]
    if fractions and last and fractions[-1].end() >= last[0].end():
        return parse_number(fractions[-1].group(), decimal_comma)
    # After a marker the answer comes first ("answer: 8 apples, 3 fewer than 11"); in prose it comes last
    found = NUMBER.search(segment) if answer_segment(text) else None
    number = found.group() if found else last_number(segment)
    return parse_number(number, decimal_comma) if number else None


class _Worker:
    """The child process and its pipe; one request at a time, restarted after a time-out."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None

    def start(self) -> Connection:
        if self.process and self.pipe and self.process.poll() is None:
            return self.pipe
        ours, theirs = Pipe()
        script = str(Path(__file__).with_name("math_worker.py"))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", script, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.pipe = ours
        try:
            if not ours.poll(START_LIMIT_S):
                raise EOFError
            ours.recv_bytes()
        except (EOFError, OSError) as error:
            self.stop()
            raise UserError(
                "the numeric verifier could not start math-verify; install it with `pip install math-verify`"
            ) from error
        return ours

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
        if self.pipe:
            self.pipe.close()
        self.process = self.pipe = None

    def ask(self, answer: str, response: str, time_limit_s: float) -> dict[str, Any]:
        request = json.dumps({"answer": answer, "response": response}).encode()
        with self.lock:
            pipe = self.start()
            try:
                pipe.send_bytes(request)
                if not pipe.poll(time_limit_s):
                    self.stop()
                    return {"error": f"no result within {time_limit_s:g} s"}
                reply: dict[str, Any] = json.loads(pipe.recv_bytes())
            except (EOFError, OSError):
                self.stop()
                return {"error": "the comparing process died (out of memory?)"}
        return reply


_worker = _Worker()
atexit.register(_worker.stop)


def check_numeric(spec: Mapping[str, Any], text: str) -> Check:
    r"""Check a mathematical answer.

    Plain numbers are compared as exact fractions; a response whose answer is LaTeX or an expression goes to
    `math-verify`. A comparison that runs out of time or memory is not verified, rather than wrong.

    Args:
        spec: `answer`: a number or an expression ("42", "1/3", "\\frac{\\sqrt{3}}{2}"). `decimal_comma`: numbers in the
            answer and the response are written the German way. `tolerance`: largest absolute difference of plain
            numbers (default 0). `time_limit_s`: for `math-verify` (default 5).
        text: The response.

    Raises:
        UserError: If the spec is malformed or `math-verify` is not installed.
    """
    only(spec, ("verifier", "answer", "decimal_comma", "tolerance", "time_limit_s"))
    answer = field(spec, "answer", str)
    decimal_comma = field(spec, "decimal_comma", bool, False)
    tolerance = field(spec, "tolerance", float, 0.0)
    time_limit_s = field(spec, "time_limit_s", float, TIME_LIMIT_S)
    gold = parse_number(answer, decimal_comma)
    value = _plain(text, decimal_comma)
    if gold is not None and value is not None:
        return verdict(abs(value - gold) <= Fraction(tolerance), f"read {str(value)[:40]}, expected {answer}")
    if gold is not None and not re.search(r"\d|\\", text):
        return verdict(False, "no number in the response")
    # The end of a long response holds its answer, and the parser's time grows with the length
    expression = answer if gold is None else str(gold)
    result = _worker.ask(rf"\boxed{{{expression}}}", _as_latex(text[-MAX_CHARACTERS:]), time_limit_s)
    if result.get("error") == "unreadable answer":
        raise UserError(
            f"verify spec: field 'answer' of verifier 'numeric' is not a mathematical expression: {answer!r}"
        )
    if "error" in result:
        return unverified(f"math-verify: {result['error']}")
    return verdict(bool(result["equal"]), f"expected {answer}")


def _as_latex(text: str) -> str:
    """Mark the answer's last line as LaTeX (where the parser looks) in a response that marks nothing itself."""
    if re.search(r"\$|\\\(|\\\[|\\boxed", text):
        return text
    lines = extract_answer(text).strip().splitlines()
    return rf"\boxed{{{lines[-1].strip(' .。*')}}}" if lines else ""
