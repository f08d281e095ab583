"""Rows to the datasets that TRL's trainers take, through the model's own chat template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from evalkit.errors import UserError
from trainers.methods.common import Job, Messages
from trainers.rows import Row

IGNORED = -100
"""The label of a token that is read but not learned."""


def plain(messages: Sequence[Mapping[str, Any]]) -> Messages:
    """Returns messages with role and text alone, as a table's columns need one form."""
    return [{"role": str(m["role"]), "content": str(m.get("content") or "")} for m in messages]


def encode(tokenizer: Any, messages: Messages, *, answer_follows: bool = False) -> list[int]:
    """Returns a conversation's tokens as the model sees them when it answers.

    Without a chat template it is the messages' texts, a blank line between, as `evalkit.models.tokens` has it.

    Raises:
        UserError: The chat template refuses this conversation.
    """
    if not tokenizer.chat_template:
        text = "\n\n".join(m["content"] for m in messages)
        ids = tokenizer(text)["input_ids"]
        return list(ids) if answer_follows else [*ids, tokenizer.eos_token_id]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer_follows)
    except TemplateError as error:
        raise UserError(f"the model's chat template refuses a training row: {error}") from error
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_turns(
    tokenizer: Any, prompt: Messages, completion: Messages, *, all_turns: bool
) -> tuple[list[int], list[int]]:
    """Returns a row's tokens and labels: learned are the assistant's turns alone, each with its end.

    Where a turn begins is found with any chat template: at the end of what it writes when it asks for that turn.

    Args:
        all_turns: Learn the assistant's turns of the prompt too, not only those of the completion.

    Returns:
        Tokens, and as many labels: the token, or -100 where nothing is learned.
    """
    messages = [*prompt, *completion]
    ids = encode(tokenizer, messages)
    labels = [IGNORED] * len(ids)
    for place in range(0 if all_turns else len(prompt), len(messages)):
        if messages[place]["role"] != "assistant":
            continue
        start = _common(encode(tokenizer, messages[:place], answer_follows=True), ids) if place else 0
        last = place == len(messages) - 1
        end = len(ids) if last else _common(encode(tokenizer, messages[: place + 1]), ids)
        labels[start:end] = ids[start:end]
    return ids, labels


def _common(first: list[int], second: list[int]) -> int:
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length


def answer_pair(tokenizer: Any, prompt: Messages, answers: Mapping[str, Messages]) -> dict[str, Any]:
    """Returns a prompt with its answers in the form that TRL tokenizes as `encode` does.

    Messages where there is a chat template; else texts, which TRL ends with the end token itself.
    """
    if tokenizer.chat_template:
        return {"prompt": prompt, **answers}
    joined = {name: "\n\n" + "\n\n".join(m["content"] for m in answer) for name, answer in answers.items()}
    return {"prompt": "\n\n".join(m["content"] for m in prompt), **joined}


def table(
    job: Job,
    rows: Sequence[Row],
    make: Callable[[Row], dict[str, Any]],
    length: Callable[[dict[str, Any]], int],
    called: str = "rows",
) -> Any:
    """Makes a dataset; rows longer than `max_length` are left out and counted, never cut or dropped in silence.

    Args:
        make: A row's columns.
        length: Tokens of the longest sequence that a row's columns hold.
        called: What the warning calls them.

    Raises:
        UserError: No row is left.
    """
    import datasets

    datasets.disable_progress_bars()
    limit = job.settings.max_length
    made = [make(row) for row in rows]
    lengths = [length(columns) for columns in made]
    kept = [columns for columns, n in zip(made, lengths, strict=True) if n <= limit]
    dropped = len(made) - len(kept)
    if made and not kept:
        raise UserError(
            f"all {len(made)} {called} are longer than max_length={limit} tokens (the shortest has {min(lengths)}); "
            "raise max_length"
        )
    if dropped:
        job.recorder.warn(
            f"{dropped} of {len(made)} {called} are longer than max_length={limit} tokens and are left out; raise "
            "max_length to keep them."
        )
    return datasets.Dataset.from_list(kept)


def train_and_validation(
    job: Job, make: Callable[[Row], dict[str, Any]], length: Callable[[dict[str, Any]], int]
) -> dict[str, Any]:
    """Returns `train_dataset` and `eval_dataset` (None without validation rows)."""
    held = job.validation
    return {
        "train_dataset": table(job, job.rows, make, length),
        "eval_dataset": table(job, held, make, length, "validation rows") if held else None,
    }
