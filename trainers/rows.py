"""A row of a training set, in the words of TRL."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalkit.models.base import sha256

RowKind = Literal["sft", "preference", "kto", "grpo", "text"]
LARGEST = 0.25
"""Rows of one prompt are validated on alone only if they are no larger share of all than this."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a model is shown once.

    Attributes:
        kind: Says what `content` holds. Messages are [{role, content}].
            sft: prompt, completion (messages). preference: prompt, chosen, rejected (messages), margin (0 to 1).
            kto: prompt, completion (messages), label (true for a good one). grpo: prompt (messages), verify (a
            verifier's spec, which gives the reward). text: text.
        source: The recipe's source that made it.
        item_id: The item it was made from; None for a new prompt.
        provenance: How it was made: way, model, response (ids), check (why its answer was accepted), and so on.
    """

    kind: RowKind
    content: dict[str, Any]
    source: str
    item_id: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Content hash, 64 hex digits: rows of the same content are the same row, wherever they came from."""
        return sha256({"kind": self.kind, "content": self.content})

    def told(self, **more: Any) -> Row:
        """Returns the row with more provenance."""
        return replace(self, provenance={**self.provenance, **more})


def user(text: str) -> list[dict[str, Any]]:
    """Returns a conversation of one user message."""
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, Any]]:
    """Returns an answer as messages."""
    return [{"role": "assistant", "content": text}]


def said(messages: Sequence[Mapping[str, Any]]) -> str:
    """Returns the texts of messages, parted by blank lines."""
    return "\n\n".join(str(message.get("content") or "") for message in messages)


def prompt_of(row: Row) -> str:
    """Returns what a row asks; for raw text the text."""
    return row.content["text"] if row.kind == "text" else said(row.content["prompt"])


def answer_of(row: Row) -> str:
    """Returns what a row teaches to answer; "" where it teaches none (grpo, text)."""
    for name in ("completion", "chosen"):
        if name in row.content:
            return said(row.content[name])
    return ""


def text_of(row: Row) -> str:
    """Returns all texts of a row: the prompt and every answer, those it teaches to avoid too."""
    if row.kind == "text":
        return str(row.content["text"])
    parts = (row.content.get(name) or [] for name in ("prompt", "completion", "chosen", "rejected"))
    return "\n\n".join(filter(None, map(said, parts)))


def whole(text: str, *, cut: bool) -> str | None:
    """Returns an answer that ends where a sentence ends.

    Args:
        text: The answer.
        cut: Whether generation stopped at its limit of tokens: then what follows the last whole sentence is dropped, as
            a model would learn to stop anywhere.

    Returns:
        None if no sentence is whole.
    """
    text = text.strip()
    if not cut:
        return text or None
    ends = [match.end() for match in re.finditer(r"[.!?…。！？][\"'”’)\]*]*(?=\s|$)|[。！？]", text)]
    # "1." at the start of a line ends no sentence
    ends = [end for end in ends if not re.search(r"(?:^|\n)\s*\d{1,3}\.$", text[:end])]
    return text[: ends[-1]].strip() if ends else None


def split_rows(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Splits rows into those to train on and those to validate on.

    Rows of one prompt, or of prompts that share most of their words (see `evalkit.slices.near.near_duplicates`), stay
    on one side: what is validated on must not have been seen. Such groups come in the order of their content's hash,
    and one is validated on where that brings the sources' counts nearer to their shares. The rows alone decide.

    Args:
        rows: In any order, which both parts keep.
        share: Of each source's rows to validate on, 0 to 1, as nearly as whole groups allow; where every group is too
            large for that, the smallest one is taken if it holds at most a quarter of the rows.

    Raises:
        UserError: A package of the extra `train` is missing.
    """
    from evalkit.slices.near import near_duplicates

    wanted = {source: round(share * n) for source, n in Counter(row.source for row in rows).items()}
    if not any(wanted.values()):
        return list(rows), []
    prompts = [prompt_of(row) for row in rows]
    # By words alone: embeddings would take longer than a small training.
    labels = near_duplicates(prompts, paraphrases=False).tolist()
    groups: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        groups.setdefault(label, []).append(place)
    order = sorted(groups, key=lambda label: min(sha256(prompts[place]) for place in groups[label]))
    counts = {label: Counter(rows[place].source for place in groups[label]) for label in order}
    chosen, held = set[int](), Counter[str]()
    for label in order:
        before = sum(abs(wanted[source] - held[source]) for source in counts[label])
        after = sum(abs(wanted[source] - held[source] - n) for source, n in counts[label].items())
        if after < before:
            chosen.add(label)
            held += counts[label]
    if not chosen:
        smallest = min(order, key=lambda label: len(groups[label]))
        chosen = {smallest} if len(groups[smallest]) <= LARGEST * len(rows) else set()
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row, label in zip(rows, labels, strict=True):
        parts[label in chosen].append(row)
    return parts
