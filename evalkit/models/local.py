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
from evalkit.models.batching import BatchedModel, Pending
from evalkit.models.tokens import Tokens, split_reasoning

_Row = tuple[Request, "Future[Reply]", list[int]]  # with the prompt's token ids


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


DEFAULT_MAX_TOKENS = 512


class LocalModel(BatchedModel):
    """Answers from weights on this machine.

    Requests that wait at the same time are put into one batch, sorted by length. Each row draws from its own
    random generator, seeded by the request, so that batch size and order change no answer.

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

    def choose(self, pending: Sequence[Pending]) -> list[Pending]:
        """Takes the longest-waiting request and those most like it in length among those with the same parameters."""
        first = pending[0]
        kind = _batch_kind(first[0])
        alike = [p for p in pending if _batch_kind(p[0]) == kind]
        alike.sort(key=lambda p: (_max_tokens(p[0]), _length(p[0])))
        at = next(i for i, p in enumerate(alike) if p is first)
        start = max(0, min(at - self.batch_size // 2, len(alike) - self.batch_size))
        return alike[start : start + self.batch_size]

    def compute(self, batch: Sequence[Pending]) -> None:
        """Generates, or scores continuations, for a batch of one kind."""
        if batch[0][0].pairs:
            self._likelihoods(batch)
        else:
            self._generate(batch)

    def _context_length(self, model: Any) -> int:
        stated = self.settings.extra.get("context_length")
        return int(stated or getattr(model.config, "max_position_embeddings", 0) or 1 << 30)

    def _generate(self, batch: Sequence[Pending]) -> None:
        limit = self._context_length(self.load())
        rows: list[_Row] = []
        for request, future in batch:
            try:
                ids = self.tokens.encode(self.tokens.render(request))
            except RequestFailed as failure:
                future.set_exception(failure)
                continue
            if len(ids) >= limit:
                future.set_exception(_too_long(self.settings, len(ids), limit))
            else:
                rows.append((request, future, ids))
        # A row that the context cuts short runs alone: its neighbours may write on.
        most = max((_max_tokens(request) for request, _, _ in rows), default=0)
        fitting = [row for row in rows if len(row[2]) + most <= limit]
        for group in [fitting, *([row] for row in rows if len(row[2]) + most > limit)]:
            if group:
                room = limit - max(len(ids) for _, _, ids in group)
                self._generate_rows(group, [min(_max_tokens(request), room) for request, _, _ in group])

    def _generate_rows(self, rows: Sequence[_Row], limits: Sequence[int]) -> None:
        import torch

        from evalkit.models.local_sampling import GenerationHooks, generation_logprobs

        model, tokenizer = self.load(), self.tokens.tokenizer
        longest = max(len(ids) for _, _, ids in rows)
        pad, device = tokenizer.pad_token_id, model.device
        input_ids = torch.tensor([[pad] * (longest - len(ids)) + ids for _, _, ids in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for _, _, ids in rows], device=device)
        wants_logprobs = any(r.logprobs is not None for r, _, _ in rows)
        hooks = GenerationHooks(
            tokenizer,
            model.generation_config,
            [request.sampling for request, _, _ in rows],
            [len(ids) for _, _, ids in rows],
            limits,
            [_draw_seed(r) for r, _, _ in rows],
        )
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                max_new_tokens=max(limits),
                do_sample=False,  # the draw, where there is one, is in the hooks: one generator for each row
                pad_token_id=pad,
                use_cache=True,
                return_dict_in_generate=True,
                output_logits=wants_logprobs,
                **hooks.arguments(),
            )
        seconds = time.perf_counter() - started
        for row, (request, future, ids) in enumerate(rows):
            tokens = out.sequences[row, longest:].tolist()
            text, used, finish = hooks.cut(row, tokens)
            reasoning, text = split_reasoning(text)
            logprobs = None
            if request.logprobs is not None:
                logprobs = generation_logprobs(tokenizer, out.logits, row, tokens[:used], request.logprobs)
            future.set_result(
                Reply(
                    text=text,
                    reasoning=reasoning,
                    finish_reason=finish,
                    logprobs=logprobs,
                    prompt_tokens=len(ids),
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

    def _likelihoods(self, batch: Sequence[Pending]) -> None:
        import torch

        model = self.load()
        limit = self._context_length(model)
        jobs: list[tuple[int, int, list[int], int]] = []  # request, pair, input ids, continuation length
        targets: dict[tuple[int, int], list[int]] = {}
        for i, (request, future) in enumerate(batch):
            encoded = [self.tokens.encode_pair(context, continuation) for context, continuation in request.pairs]
            total = max(len(c) + len(t) for c, t in encoded)
            if total > limit + 1:
                future.set_exception(_too_long(self.settings, total, limit))
                continue
            for j, (context, continuation) in enumerate(encoded):
                jobs.append((i, j, (context + continuation)[:-1], len(continuation)))
                targets[i, j] = continuation
        # Choices of one token share their input: each distinct input is computed once.
        distinct = sorted({tuple(ids) for _, _, ids, _ in jobs}, key=len, reverse=True)
        spans = {key: max(n for _, _, ids, n in jobs if len(ids) == len(key) and tuple(ids) == key) for key in distinct}
        results: dict[tuple[int, int], list[Any]] = {}
        seconds = dict.fromkeys(range(len(batch)), 0.0)
        for at in range(0, len(distinct), self.batch_size):
            started = time.perf_counter()
            chunk = distinct[at : at + self.batch_size]
            longest = len(chunk[0])
            first = min(len(key) - spans[key] for key in chunk)
            padded = torch.tensor([list(key) + [0] * (longest - len(key)) for key in chunk], device=model.device)
            # The head over all positions is slower, but one row at a time it gives lm-eval's numbers to the last bit.
            first = 0 if self.batch_size == 1 else first
            with torch.inference_mode():
                logits = model(padded, logits_to_keep=longest - first).logits
            rows = {key: logits[row].float().log_softmax(-1) for row, key in enumerate(chunk)}
            members = [job for job in jobs if tuple(job[2]) in rows]
            for i, j, ids, n in members:
                part = rows[tuple(ids)][len(ids) - n - first : len(ids) - first]
                target = torch.tensor(targets[i, j], device=part.device)
                value = float(part.gather(1, target[:, None]).sum())
                results[i, j] = [value, bool((part.argmax(-1) == target).all())]
                seconds[i] += (time.perf_counter() - started) / max(1, len(members))
        for i, (request, future) in enumerate(batch):
            if future.done():
                continue
            values = [results[i, j] for j in range(len(request.pairs))]
            best = max(range(len(values)), key=lambda j: values[j][0])
            future.set_result(
                Reply(
                    text=request.pairs[best][1],
                    finish_reason="stop",
                    logprobs=values,
                    prompt_tokens=sum(len(ids) + 1 for k, _, ids, _ in jobs if k == i),
                    completion_tokens=0,
                    seconds=seconds[i],
                )
            )


def _batch_kind(request: Request) -> str:
    """Returns what the rows of a batch share; stop strings, seed and limit are each row's own."""
    sampling = {k: v for k, v in request.sampling.to_dict().items() if k not in ("seed", "stop", "max_tokens")}
    return canonical_json([bool(request.pairs), sampling])


def _max_tokens(request: Request) -> int:
    return request.sampling.max_tokens or DEFAULT_MAX_TOKENS


def _length(request: Request) -> int:
    if request.pairs:
        return max(len(context) + len(continuation) for context, continuation in request.pairs)
    return len(request.prompt or "") + sum(len(str(m.get("content", ""))) for m in request.messages)


def _draw_seed(request: Request) -> int:
    """Returns the seed of one row's draw: its stated seed, prompt and sample index decide, nothing else."""
    what = [request.sampling.seed, request.sample, request.prompt, [dict(m) for m in request.messages]]
    return int.from_bytes(hashlib.sha256(canonical_json(what).encode()).digest()[:7], "big")


def _too_long(settings: ModelSettings, tokens: int, limit: int) -> RequestFailed:
    return RequestFailed(
        "context_length", f"the prompt has {tokens} tokens, {settings.label or settings.name} takes {limit} at most"
    )
