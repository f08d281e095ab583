"""Text to token ids for models in this process, by lm-eval's rules, so that scores compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError

from evalkit.models.base import Request, RequestFailed


class Tokens:
    """A tokenizer with its chat template.

    Args:
        tokenizer: A transformers tokenizer.
        template_arguments: Further variables for the chat template (enable_thinking and the like).
    """

    def __init__(self, tokenizer: Any, template_arguments: Mapping[str, Any]) -> None:
        self.tokenizer = tokenizer
        self.template_arguments = template_arguments
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def render(self, request: Request) -> str:
        """Returns what the model sees: the raw prompt, or the chat through its template.

        Without a template it is the messages' contents, a blank line between.

        Raises:
            RequestFailed: The template refuses this conversation, as some do with a system prompt.
        """
        if request.prompt is not None:
            return request.prompt
        if not self.has_chat_template:
            return "\n\n".join(str(m["content"]) for m in request.messages)
        goes_on = request.messages[-1].get("role") == "assistant"
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(m) for m in request.messages],
                tools=[dict(t) for t in request.tools] or None,
                tokenize=False,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                **self.template_arguments,
            )
        except TemplateError as error:
            raise RequestFailed("bad_request", f"the chat template refuses this conversation: {error}") from error
        return text

    def encode(self, text: str) -> list[int]:
        """Returns token ids: special tokens as the tokenizer adds them, but never a second BOS."""
        bos = self.tokenizer.bos_token
        if bos and text.startswith(bos):
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        return list(self.tokenizer.encode(text))

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Returns token ids of context and continuation.

        Spaces at the context's end move to the continuation; both are encoded together, then split. What is left of
        an empty context is the BOS (or EOS) token alone.
        """
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        if not stripped:
            tokenizer = self.tokenizer
            prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
            ids = list(tokenizer.encode(continuation, add_special_tokens=False))
            return ([ids[0]], ids[1:]) if ids and ids[0] == prefix else ([prefix], ids)
        head = self.encode(stripped)
        return head, self.encode(stripped + continuation)[len(head) :]


def split_reasoning(text: str) -> tuple[str | None, str]:
    """Splits `<think>...</think>` from the answer behind it; None where there is no such block."""
    if "</think>" not in text:
        return None, text
    reasoning, _, answer = text.rpartition("</think>")
    return reasoning.removeprefix("<think>").strip(), answer.lstrip()
