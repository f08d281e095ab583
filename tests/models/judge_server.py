"""An OpenAI-compatible server whose models answer as contestants and as judges, for tests of judging.

Models whose name begins with `judge` judge: they prefer the answer that says `good`. What else they do is in the
name: `judge-first` takes the first answer, `judge-mumbles` gives no verdict until asked again, `judge-silent` never
gives one, `judge-fails` gets an error from the server. All others are contestants: `weak` gives poor answers, the rest
good ones.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from typing import Any

from endpoint_server import Answer, MockServer, chat

__all__ = ["JudgeServer", "MockServer"]


class JudgeServer:
    """The answer function of a `MockServer`; keeps what it was asked.

    Args:
        delay: Seconds that a judge takes.
        schemas: Whether the server takes `response_format`; otherwise it refuses it with a 400.
        logprobs: Whether answers come with log-probabilities.
    """

    def __init__(self, *, delay: float = 0.0, schemas: bool = True, logprobs: bool = True) -> None:
        self.delay, self.schemas, self.logprobs = delay, schemas, logprobs
        self.asked: list[dict[str, Any]] = []
        self.answered: Counter[str] = Counter()
        self.half = threading.Event()
        self.half_at = 0

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        payload = json.loads(body)
        name = str(payload["model"])
        if "response_format" in payload and not self.schemas:
            return Answer({"error": {"message": "response_format is not supported", "param": "response_format"}}, 400)
        self.asked.append(payload)
        if name == "judge-fails":
            return Answer({"error": {"message": "no such luck"}}, 400)
        if not name.startswith("judge"):
            return Answer(chat(contestant(name, payload["messages"])))
        self.answered[json.dumps(payload, sort_keys=True)] += 1
        if self.half_at and sum(self.answered.values()) >= self.half_at:
            self.half.set()
        text, shares = judged(name, payload["messages"])
        more: dict[str, Any] = {}
        if payload.get("logprobs") and self.logprobs and shares:
            top = [{"token": token, "logprob": value} for token, value in shares.items()]
            more["logprobs"] = {"content": [{"token": text, "logprob": top[0]["logprob"], "top_logprobs": top}]}
        return Answer(chat(text, **more), delay=self.delay)

    def of(self, *names: str) -> list[dict[str, Any]]:
        """Returns what some models were asked."""
        return [payload for payload in self.asked if payload["model"] in names]


def contestant(name: str, messages: list[dict[str, Any]]) -> str:
    """Returns a contestant's answer, which tells its turn."""
    turn = sum(message["role"] == "user" for message in messages)
    return f"A {'poor' if name == 'weak' else 'good'} answer in turn {turn}."


def judged(name: str, messages: list[dict[str, Any]]) -> tuple[str, dict[str, float]]:
    """Returns a judge's answer, and log-probabilities of its first token."""
    repair = sum(message["role"] == "assistant" for message in messages) > 0
    if name == "judge-silent" or (name == "judge-mumbles" and not repair):
        return "Hard to say.", {}
    text = "\n".join(str(message["content"]) for message in messages if message["content"] != "Hard to say.")
    shown = text.rpartition("<instruction>")[2] if "<instruction>" in text else text.rpartition("<request>")[2]
    good, poor = shown.find(" good answer in"), shown.find(" poor answer in")
    first = name == "judge-first" or poor < 0 or 0 <= good < poor
    if "checklists" in text and "<questions>" not in text:
        return json.dumps({"questions": ["Is there an answer?", "Is it good?"]}), {}
    if "<questions>" in text:
        met = [True, good >= 0]
        rows = [{"question": n, "reason": "seen", "met": one} for n, one in enumerate(met, 1)]
        return json.dumps({"answers": rows}), {}
    if "verdicts" in text:
        names = re.findall(r"^- (\w+): ", text, re.MULTILINE)
        side = "first" if first else "second"
        return json.dumps({"explanation": "I compared them.", "verdicts": dict.fromkeys(names, side)}), {}
    if "<output_m>" in text:
        return ("m", {"m": -0.1, "M": -2.4}) if first else ("M", {"M": -0.1, "m": -2.4})
    if "(one digit)" in text:
        return ("4", {"4": -0.7, "5": -0.7}) if good >= 0 else ("2", {"2": -0.1, "1": -2.4})
    if "[[tie]]" in text:
        return f"I compared them. [[{'1' if first else '2'}]]", {}
    return f"It is what it is. [[{'9' if good >= 0 else '3'}]]", {}
