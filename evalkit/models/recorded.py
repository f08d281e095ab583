"""Answers from a file: models that cannot be run here take part with what they once said."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Literal

from evalkit.errors import UserError
from evalkit.models.base import FailureKind, ModelSettings, Reply, Request, RequestFailed
from evalkit.store.formats.generic import read_responses


class RecordedModel:
    """Answers out of a `responses` file (item_id, model, prompt, response).

    A request is matched by its last user message or raw prompt: the recorded prompt must be the same text, or stand
    in it; where several stand in it (worked examples before the question), the last one counts. Several answers to
    one prompt are its samples, in the file's order.

    Args:
        path: CSV, JSONL or Parquet.
        model: Which model of the file; "" if it holds one only.
        label: What boards call it.

    Raises:
        UserError: The file is broken or has no such model.
    """

    def __init__(self, path: Path, model: str, *, label: str = "") -> None:
        frame = read_responses(path)
        names = list(dict.fromkeys(frame["model"].astype(str)))
        if not model and len(names) == 1:
            model = names[0]
        if model not in names:
            known = ", ".join(names[:10])
            raise UserError(f"{path}: give one of its models as recorded/{path}#MODEL: {known}", code=2)
        mine = frame[frame["model"].astype(str) == model].sort_values("sample", kind="stable")
        self._answers: dict[str, list[tuple[str, FailureKind | Literal[""]]]] = defaultdict(list)
        for prompt, response, failure in zip(mine["prompt"], mine["response"], mine["error_kind"], strict=True):
            # A failure keeps its place, or another sample's answer would stand in for it.
            self._answers[str(prompt)].append((str(response), failure))
        self._path = path
        revision = hashlib.sha256(path.read_bytes()).hexdigest()
        self._settings = ModelSettings("recorded", model, revision, label=label or model)

    @property
    def settings(self) -> ModelSettings:
        """Who answered then."""
        return self._settings

    @property
    def max_concurrency(self) -> int:
        """Look-ups take no time worth sharing."""
        return 64

    async def reply(self, request: Request) -> Reply:
        """Looks an answer up.

        Raises:
            RequestFailed: None is recorded, a failure is, or log-likelihoods are asked for.
        """
        if request.pairs:
            raise RequestFailed("unsupported", f"{self._path}: recorded answers have no log-likelihoods")
        asked = request.prompt
        if asked is None:
            asked = next((str(m["content"]) for m in reversed(request.messages) if m["role"] == "user"), "")
        answers = self._answers.get(asked) or self._contained(asked)
        start = " ".join(asked.split())[:60]
        if request.sample >= len(answers):
            raise RequestFailed("missing", f"{self._path}: no recorded answer {request.sample + 1} to {start!r}")
        text, failure = answers[request.sample]
        if failure:
            raise RequestFailed(failure, f"{self._path}: the recorded answer to {start!r} is a failure ({failure})")
        return Reply(text=text, finish_reason="stop")

    async def close(self) -> None:
        """Forgets the answers."""
        self._answers.clear()

    def _contained(self, asked: str) -> list[tuple[str, FailureKind | Literal[""]]]:
        ends = {p: asked.rfind(p) + len(p) for p in self._answers if p and p in asked}
        return self._answers[max(ends, key=lambda p: (ends[p], len(p)))] if ends else []
