"""Documents of a task as ledger items: the same item for every model, whatever its chat template or examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.errors import UserError
from evalkit.models.base import canonical_json
from evalkit.store.rows import Item

MAX_DOC_CHARACTERS = 8_000


def number_of_documents(task: Any, limit: int | float | None) -> int | None:
    """Returns how many documents a limit means (a fraction is rounded up, as lm-eval does); None for all."""
    from lm_eval.evaluator_utils import get_sample_size

    size = get_sample_size(task, limit)
    return None if size is None else int(size)


def items(task: Any, limit: int | None) -> list[Item]:
    """Returns a task's documents as items, in order; an item's name is the document's own id, or its number.

    The messages hold the document's own prompt, without examples, description or template; the reference holds the
    target and, if it is small, the document; the tags are the document's, with `benchmark` added.

    Raises:
        UserError: The task shows images or plays sound.
    """
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"the task {task.config.task} shows images or plays sound, which evalkit does not send")
    split = str(task.config.test_split or task.config.validation_split or "")
    return [_item(task, doc, number, split) for number, doc in task.doc_iterator(limit=limit)]


def _item(task: Any, doc: Any, number: int, split: str) -> Item:
    text = "" if task.OUTPUT_TYPE == "loglikelihood_rolling" else task.doc_to_text(doc)
    if isinstance(text, int):  # the choices are whole texts to choose from
        text = "\n".join(task.doc_to_choice(doc))
    tags = doc.get("tags") if isinstance(doc, Mapping) else None
    known = {k: v for k, v in tags.items() if v is not None} if isinstance(tags, Mapping) else {}
    return Item(
        messages=({"role": "user", "content": str(text)},),
        reference=_reference(task.doc_to_target(doc), doc),
        tags={**known, "benchmark": str(task.config.task)},
        name=str(doc.get("id", number) if isinstance(doc, Mapping) else number),
        split=split,
    )


def _reference(target: Any, doc: Any) -> dict[str, Any]:
    reference: dict[str, Any] = {"target": target if _json(target) is not None else str(target)}
    text = _json(doc)
    if text is not None and len(text) <= MAX_DOC_CHARACTERS:
        reference["doc"] = doc
    return reference


def _json(value: Any) -> str | None:
    try:
        return canonical_json(value)
    except (TypeError, ValueError):  # dates, images, NaN
        return None
