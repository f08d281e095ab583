"""vLLM's offline engine: the same weights as `hf`, many times faster on a GPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed
from evalkit.models.batching import Batch, BatchedModel
from evalkit.models.tokens import Tokens, split_reasoning


class VllmModel(BatchedModel):
    """Answers through `vllm.LLM`, which schedules a batch's rows itself.

    Args:
        settings: `name` is a hub id or folder.
        source: What vLLM loads.
        batch_size: Requests handed to vLLM at once.
    """

    def __init__(self, settings: ModelSettings, source: str, *, batch_size: int = 256) -> None:
        super().__init__(settings, batch_size)
        self.source = source
        self._llm: Any = None
        self._tokens: Tokens | None = None

    @property
    def tokens(self) -> Tokens:
        """The tokenizer; loads no weights."""
        if self._tokens is None:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(self.source)
            self._tokens = Tokens(tokenizer, self.settings.extra.get("chat_template_kwargs", {}))
        return self._tokens

    def unload(self) -> None:
        """Frees the weights."""
        self._llm = None

    def load(self) -> Any:
        """Starts the engine once.

        Raises:
            UserError: vLLM is not installed, or cannot load the model.
        """
        if self._llm is None:
            try:
                from vllm import LLM
            except ImportError as error:
                raise UserError(
                    'the provider vllm needs the extra of that name; type: pip install "evalkit[vllm]"'
                ) from error
            extra = self.settings.extra
            try:
                self._llm = LLM(
                    model=self.source,
                    dtype=self.settings.dtype or "auto",
                    max_model_len=extra.get("context_length"),
                    enforce_eager=bool(extra.get("enforce_eager", False)),
                )
            except (OSError, ValueError, RuntimeError) as error:
                reason = str(error).strip().split("\n")[0]
                raise UserError(f"{self.source}: vLLM cannot load this: {reason}") from error
        return self._llm

    def compute(self, batch: Batch) -> None:
        """Hands a batch to vLLM as token ids, one prompt for a generation and one for each scored continuation."""
        from vllm import SamplingParams

        llm = self.load()
        limit = llm.llm_engine.model_config.max_model_len
        prompts: list[dict[str, list[int]]] = []
        parameters: list[Any] = []
        spans: list[tuple[int, list[int]]] = []  # for each request of the batch: first prompt, continuation lengths
        for pending in batch.asked:
            request = pending.request
            if request.pairs:
                encoded = [self.tokens.encode_pair(*pair) for pair in request.pairs]
                inputs = [context + continuation for context, continuation in encoded]
                wanted = [SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1)] * len(inputs)
            else:
                try:
                    inputs = [self.tokens.encode(self.tokens.render(request))]
                except RequestFailed as failure:
                    pending.answer(failure)
                    spans.append((-1, []))
                    continue
                wanted = [SamplingParams(**_parameters(request))]
            if max(map(len, inputs)) >= limit:
                who = self.settings.label or self.settings.name
                message = f"the prompt has {max(map(len, inputs))} tokens, {who} takes {limit - 1} at most"
                pending.answer(RequestFailed("context_length", message))
                spans.append((-1, []))
                continue
            spans.append((len(prompts), [len(c) for _, c in encoded] if request.pairs else []))
            prompts += [{"prompt_token_ids": ids} for ids in inputs]
            parameters += wanted
        if not prompts:
            return
        started = time.perf_counter()
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
        seconds = (time.perf_counter() - started) / len(prompts)
        for pending, (first, lengths) in zip(batch.asked, spans, strict=True):
            if first >= 0:
                mine = outputs[first : first + max(1, len(lengths))]
                request = pending.request
                reply = _scored(request, mine, lengths) if lengths else _generated(request, mine[0])
                pending.answer(reply(seconds * len(mine)))


def _parameters(request: Request) -> dict[str, Any]:
    """Returns vLLM's names for our sampling parameters; greedy where no temperature is given."""
    parameters = {"temperature": 0.0, "max_tokens": 512, **request.sampling.to_dict()}
    parameters.update(parameters.pop("extra", {}))
    if "seed" in parameters:
        parameters["seed"] += request.sample
    if request.logprobs is not None:
        parameters["logprobs"] = request.logprobs
    if request.response_schema is not None:
        from vllm.sampling_params import StructuredOutputsParams

        parameters["structured_outputs"] = StructuredOutputsParams(json=dict(request.response_schema))
    return parameters


def _generated(request: Request, output: Any) -> Any:
    best = output.outputs[0]
    reasoning, text = split_reasoning(best.text)
    logprobs = None
    if request.logprobs is not None:
        logprobs = []
        for token, step in zip(best.token_ids, best.logprobs, strict=True):
            top = sorted(step.values(), key=lambda entry: entry.rank)[: request.logprobs]
            chosen = step[token]
            alternatives = [[entry.decoded_token, entry.logprob] for entry in top]
            logprobs.append({"token": chosen.decoded_token, "logprob": chosen.logprob, "top": alternatives})
    return lambda seconds: Reply(
        text=text,
        reasoning=reasoning,
        finish_reason=best.finish_reason,
        logprobs=logprobs,
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(best.token_ids),
        cached_tokens=output.num_cached_tokens,
        seconds=seconds,
    )


def _scored(request: Request, outputs: Sequence[Any], lengths: Sequence[int]) -> Any:
    values: list[list[Any]] = []
    for output, length in zip(outputs, lengths, strict=True):
        tail = list(zip(output.prompt_token_ids, output.prompt_logprobs, strict=True))[-length:]
        value = sum(step[token].logprob for token, step in tail)
        values.append([float(value), all(step[token].rank == 1 for token, step in tail)])
    best = max(range(len(values)), key=lambda i: values[i][0])
    return lambda seconds: Reply(
        text=request.pairs[best][1],
        finish_reason="stop",
        logprobs=values,
        prompt_tokens=sum(len(o.prompt_token_ids) for o in outputs),
        completion_tokens=0,
        seconds=seconds,
    )
