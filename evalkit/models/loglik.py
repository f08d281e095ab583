"""Log-likelihoods from a completions endpoint: the prompt echoed with its tokens' log-probabilities.

The request is the one lm-eval's `local-completions` makes (echo, logprobs=1, max_tokens=1, temperature 0; the one
generated token is dropped), but with texts instead of token ids, so that no tokenizer is needed on this side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.models.base import RequestFailed

NO_LOGPROBS = "the server returns no log-probabilities of the prompt (echo): it cannot do log-likelihood tasks"


def echo_payload(name: str, prompts: Sequence[str]) -> dict[str, Any]:
    """Builds the body for one or several prompts."""
    prompt: Any = prompts[0] if len(prompts) == 1 else list(prompts)
    return {"model": name, "prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}


def echo_choices(document: Any, count: int) -> list[Mapping[str, Any]] | None:
    """Returns the choices' logprobs in prompt order; None if the server did not answer each prompt of a list.

    Raises:
        RequestFailed: `unsupported` if there are no log-probabilities of the prompt, `malformed` if no choices.
    """
    try:
        choices = sorted(document["choices"], key=lambda c: c.get("index") or 0)
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestFailed("malformed", "the reply is JSON without `choices`", retryable=True, paid=True) from error
    if len(choices) != count:
        return None
    found = []
    for choice in choices:
        logprobs = choice.get("logprobs")
        if not isinstance(logprobs, Mapping) or not logprobs.get("token_logprobs") or not logprobs.get("tokens"):
            raise RequestFailed("unsupported", NO_LOGPROBS, paid=True)
        if len(logprobs["tokens"]) < 2:  # only the generated token: `echo` was ignored
            raise RequestFailed("unsupported", NO_LOGPROBS, paid=True)
        found.append(logprobs)
    return found


def continuation_start(logprobs: Mapping[str, Any], context: str, continuation: str) -> int | None:
    """Returns the index of the first token that holds a character of the continuation.

    Counted in characters from the end of the prompt, since servers put special tokens (BOS) before it. None if the
    tokens do not spell the prompt: a character split over several tokens has no text of its own in any of them.
    """
    tokens = logprobs["tokens"][:-1]
    text = "".join(tokens)
    if not text.endswith(context + continuation):
        return None
    left = len(continuation)
    start = len(tokens)
    while left > 0:
        start -= 1
        left -= len(tokens[start])
    return start


def score(logprobs: Mapping[str, Any], start: int) -> list[Any]:
    """Sums the log-probabilities of the tokens from `start` to the end of the prompt.

    Returns:
        [sum in nats, is_greedy], is_greedy being whether each token was its position's most probable.

    Raises:
        RequestFailed: `unsupported` if a token has no log-probability, as the first of a text.
    """
    values = logprobs["token_logprobs"][start:-1]
    if any(not isinstance(v, int | float) for v in values):
        raise RequestFailed(
            "unsupported", "the server gives no log-probability for the first token of a text: give a context"
        )
    tops = (logprobs.get("top_logprobs") or [])[start:-1]
    greedy = len(tops) == len(values) and all(
        v >= max(top.values()) if top else False for v, top in zip(values, tops, strict=True)
    )
    return [float(sum(values)), greedy]
