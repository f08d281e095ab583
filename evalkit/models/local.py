"""A local transformers model: batched generation and log-likelihoods with lm-eval's tokenization rules."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed, canonical_json
from evalkit.models.batching import Batch, BatchedModel, Pending
from evalkit.models.local_batches import (
    Ids,
    Input,
    Prompt,
    Scoring,
    generation_batches,
    kind,
    likelihood_batches,
    max_tokens,
    token_ids,
)
from evalkit.models.streaming import Heard
from evalkit.models.tokens import Tokens, split_reasoning

HEAD_ROWS = 64  # from 16 rows on a product's rows are bit-identical to those of any longer one, as measured


def auto_dtype() -> str:
    """Returns bfloat16 where the hardware multiplies it (a GPU, AMX, AVX-512 BF16), else float32.

    Reads device files and CPU flags, not torch: the number format is part of a model's identity, which must be
    known without the seconds that importing torch takes.
    """
    if Path("/dev/nvidia0").exists():
        return "bfloat16"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "bfloat16" if "amx_bf16" in flags or "avx512_bf16" in flags else "float32"


class LocalModel(BatchedModel):
    """Answers from weights on this machine.

    Requests that wait at the same time are sorted and batched as lm-eval does. Each row draws from its own random
    generator, seeded by the request, so that batch size and order change no answer.

    Args:
        settings: `name` is what boards show; `dtype` float32 or bfloat16.
        path: Folder with safetensors and tokenizer, or a GGUF file.
        batch_size: Rows computed at once.
    """

    def __init__(self, settings: ModelSettings, path: Path, *, batch_size: int = 32) -> None:
        super().__init__(settings, batch_size)
        self.path = path
        self._loading = threading.Lock()
        self._tokens: Tokens | None = None
        self._model: Any = None

    def unload(self) -> None:
        """Frees the weights."""
        self._model = None

    def twin(self) -> LocalModel:
        """Returns the same model with the same loaded weights, to answer beside this one: with a queue of its own."""
        twin = LocalModel(self.settings, self.path, batch_size=self.batch_size)
        twin._model = self.load()  # the tokenizer is not shared: it may not be used by two threads at once
        return twin

    async def stream(self, request: Request, heard: Heard) -> Reply:
        """Answers as `reply` does, heard token by token; cancelled, it stops at the next token.

        Raises:
            RequestFailed, UserError: As `reply`.
        """
        return await self._queue(Pending(request, Future(), heard=heard))

    @property
    def tokens(self) -> Tokens:
        """The tokenizer; loads no weights."""
        if self._tokens is None:
            from transformers import AutoTokenizer

            try:
                tokenizer = AutoTokenizer.from_pretrained(**self._where(), trust_remote_code=False)
            except Exception as error:
                reason = str(error).strip().split("\n")[0]
                raise UserError(f"{self.path}: transformers cannot load its tokenizer: {reason}") from error
            self._tokens = Tokens(tokenizer, self.settings.extra.get("chat_template_kwargs", {}))
        return self._tokens

    # -- weights --------------------------------------------------------------------------------------------

    def _where(self) -> dict[str, Any]:
        if self.path.suffix == ".gguf":
            return {"pretrained_model_name_or_path": str(self.path.parent), "gguf_file": self.path.name}
        return {"pretrained_model_name_or_path": str(self.path)}

    def load(self) -> Any:
        """Loads the weights once.

        Returns:
            The transformers model.

        Raises:
            UserError: The folder holds no model that transformers can load without running foreign code.
        """
        with self._loading:
            if self._model is None:
                import torch
                from safetensors import SafetensorError
                from transformers import AutoModelForCausalLM
                from transformers.utils import logging

                logging.set_verbosity_error()
                logging.disable_progress_bar()
                dtype = torch.bfloat16 if self.settings.dtype == "bfloat16" else torch.float32
                where = self._where() | {"trust_remote_code": False}
                if self.path.suffix != ".gguf":
                    where["use_safetensors"] = True  # other formats are pickles, which run code when opened
                try:
                    model = AutoModelForCausalLM.from_pretrained(**where, dtype=dtype)
                except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                    reason = str(error).strip().split("\n")[0]
                    raise UserError(
                        f"{self.path}: transformers cannot load this as a language model: {reason}"
                    ) from error
                model.eval()
                self._model = model.to("cuda" if torch.cuda.is_available() else "cpu")
            return self._model

    def plan(self, pending: Sequence[Pending]) -> list[Batch]:
        """Cuts what waits into batches as lm-eval does; answers at once what is longer than the context."""
        limit = self._context_length(self.load())
        kinds: dict[str, list[Pending]] = {}
        for one in pending:
            if one.work is None:
                try:
                    one.work = self._prepare(one.request, limit)
                except RequestFailed as failure:
                    one.answer(failure)
                    continue
            kinds.setdefault(kind(one.request), []).append(one)
        batches = []
        for alike in kinds.values():
            if alike[0].request.pairs:
                batches += likelihood_batches(alike, self.batch_size)
            else:
                batches += generation_batches(alike, self.batch_size, limit)
        return batches

    def _prepare(self, request: Request, limit: int) -> Prompt | Scoring:
        if not request.pairs:
            text = self.tokens.render(request)
            ids = token_ids(self.tokens.encode(text))
            if len(ids) >= limit:
                raise _too_long(self.settings, len(ids), limit)
            return Prompt(text, ids)
        encoded = [self.tokens.encode_pair(context, continuation) for context, continuation in request.pairs]
        longest = max(len(context) + len(continuation) for context, continuation in encoded)
        if longest > limit + 1:
            raise _too_long(self.settings, longest, limit)
        return Scoring([(token_ids(c), token_ids(t)) for c, t in encoded], [None] * len(encoded))

    def _context_length(self, model: Any) -> int:
        stated = self.settings.extra.get("context_length")
        return int(stated or getattr(model.config, "max_position_embeddings", 0) or 1 << 30)

    def compute(self, batch: Batch) -> None:
        """Generates, or scores continuations, for a batch of one kind."""
        if batch.inputs:
            self._score(batch.inputs)
        else:
            self._generate(batch.asked)

    def _generate(self, rows: Sequence[Pending]) -> None:
        import torch

        from evalkit.models.kv_cache import growing_cache
        from evalkit.models.local_sampling import GenerationHooks, generation_logprobs

        model, tokenizer = self.load(), self.tokens.tokenizer
        prompts: list[Ids] = [row.work.ids for row in rows]
        longest = max(map(len, prompts))
        pad, device = tokenizer.pad_token_id, model.device
        input_ids = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        first = rows[0].request
        limit = min(max_tokens(first), self._context_length(model) - longest)
        hooks = GenerationHooks(
            tokenizer,
            model.generation_config,
            first.sampling,
            [len(ids) for ids in prompts],
            [_draw_seed(row.request) for row in rows],
        )
        arguments = hooks.arguments()
        if any(row.heard for row in rows):
            from evalkit.models.local_sampling import listening

            arguments["stopping_criteria"] = listening(hooks, rows, arguments.get("stopping_criteria", ()))
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                max_new_tokens=limit,
                do_sample=False,  # the draw, where there is one, is in the hooks: one generator for each row
                pad_token_id=pad,
                use_cache=True,
                past_key_values=growing_cache(model),
                return_dict_in_generate=True,
                output_logits=first.logprobs is not None,
                **arguments,
            )
        seconds = time.perf_counter() - started
        for number, row in enumerate(rows):
            request, tokens = row.request, out.sequences[number, longest:].tolist()
            text, used, finish = hooks.cut(tokens)
            reasoning, text = split_reasoning(text)
            logprobs = None
            if request.logprobs is not None:
                logprobs = generation_logprobs(tokenizer, out.logits, number, tokens[:used], request.logprobs)
            row.answer(
                Reply(
                    text=text,
                    reasoning=reasoning,
                    finish_reason=finish,
                    logprobs=logprobs,
                    prompt_tokens=len(prompts[number]),
                    completion_tokens=used,
                    seconds=seconds / len(rows),
                    warnings=self._warnings(request),
                )
            )

    def _warnings(self, request: Request) -> tuple[str, ...]:
        said = []
        if request.response_schema is not None:
            said.append("local transformers models do not enforce a response schema")
        if request.sampling.presence_penalty or request.sampling.frequency_penalty:
            said.append("local transformers models ignore presence and frequency penalties")
        if request.messages and not self.tokens.has_chat_template:
            said.append("the tokenizer has no chat template: messages were joined with blank lines")
        return tuple(said)

    def _score(self, inputs: Sequence[Input]) -> None:
        import torch

        model = self.load()
        started = time.perf_counter()
        longest = max(len(row.ids) for row in inputs) - 1
        padded = [list(row.ids[:-1]) + [0] * (longest + 1 - len(row.ids)) for row in inputs]
        at = _positions(inputs, longest)
        with torch.inference_mode():
            kept = torch.tensor(at, device=model.device)
            logits = model(torch.tensor(padded, device=model.device), logits_to_keep=kept).logits
            seconds = (time.perf_counter() - started) / sum(len(row.wanted) for row in inputs)
            place = {position: n for n, position in enumerate(at)}
            for number, row in enumerate(inputs):
                last = len(row.ids) - 1
                part = logits[number, [place[i] for i in range(last - row.span, last)]].float().log_softmax(-1)
                for pending, pair, continuation in row.wanted:
                    target = torch.tensor(continuation.tolist(), device=part.device)
                    tail = part[-len(target) :]
                    value = float(tail.gather(1, target[:, None]).squeeze(-1).sum())
                    scoring: Scoring = pending.work
                    scoring.values[pair] = [value, bool((tail.argmax(-1) == target).all())]
                    scoring.seconds += seconds
        for pending in {id(p): p for row in inputs for p, _, _ in row.wanted}.values():
            values = [value for value in pending.work.values if value is not None]
            if len(values) == len(pending.request.pairs) and not pending.answered:
                pending.answer(_scored(pending.request, pending.work, values))


def _positions(inputs: Sequence[Input], longest: int) -> list[int]:
    """Returns the positions whose logits are needed, and so many more that the head's product has `HEAD_ROWS` rows.

    The head over all positions costs half as much as the whole model again; with fewer rows than that it rounds
    differently.
    """
    needed = {i for row in inputs for i in range(len(row.ids) - 1 - row.span, len(row.ids) - 1)}
    more = (i for i in range(longest) if i not in needed)
    while len(needed) * len(inputs) < HEAD_ROWS and len(needed) < longest:
        needed.add(next(more))
    return sorted(needed)


def _scored(request: Request, scoring: Scoring, values: list[list[float | bool]]) -> Reply:
    best = max(range(len(values)), key=lambda n: values[n][0])
    return Reply(
        text=request.pairs[best][1],
        finish_reason="stop",
        logprobs=values,
        prompt_tokens=sum(len(context) + len(continuation) for context, continuation in scoring.pairs),
        completion_tokens=0,
        seconds=scoring.seconds,
    )


def _draw_seed(request: Request) -> int:
    """Returns the seed of one row's draw: its stated seed, prompt and sample index decide, nothing else."""
    what = [request.sampling.seed, request.sample, request.prompt, [dict(m) for m in request.messages]]
    return int.from_bytes(hashlib.sha256(canonical_json(what).encode()).digest()[:7], "big")


def _too_long(settings: ModelSettings, tokens: int, limit: int) -> RequestFailed:
    return RequestFailed(
        "context_length", f"the prompt has {tokens} tokens, {settings.label or settings.name} takes {limit} at most"
    )
