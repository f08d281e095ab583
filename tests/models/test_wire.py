"""OpenAI's wire format: the quick way to encode a chat says what the thorough way says."""

from __future__ import annotations

import itertools
import json
from typing import Any

from evalkit.models import Request, Sampling
from evalkit.models.wire import chat_payload, plain_chat

USER = {"role": "user", "content": 'Grüße \u2028 "quoted"\n\x00 \ud800'}
MESSAGES: list[tuple[dict[str, Any], ...]] = [
    (USER,),
    ({"content": "Be brief.", "role": "system"}, USER),
    (USER, {"role": "assistant", "content": "Well"}),
    ({"role": "user", "content": [{"type": "text", "text": "a"}]},),
    ({"role": "user", "content": "a", "name": "Ann"},),
]
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=0.0, max_tokens=32, stop=("\n",), seed=3),
    Sampling(extra={"model": "another"}),
]
MORE: list[dict[str, Any]] = [
    {},
    {"sample": 2},
    {"logprobs": 0},
    {"tools": ({"b": 1, "a": 2},)},
    {"response_schema": {}},
]


def test_the_quick_way_is_the_thorough_way() -> None:
    quick = 0
    for messages, sampling, more in itertools.product(MESSAGES, SAMPLINGS, MORE):
        request = Request(messages=messages, sampling=sampling, **more)
        encoded = plain_chat("mö", request)
        if encoded is not None:
            quick += 1
            assert json.dumps(json.loads(encoded), sort_keys=True) == json.dumps(
                chat_payload("mö", request), sort_keys=True
            )
    assert quick == 2 * 3  # the first two conversations, sampled in the first three ways, with nothing more
