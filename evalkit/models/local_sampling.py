"""Hooks into transformers' generate: stop strings row by row, and draws that do not depend on the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.models.base import Sampling
from evalkit.models.batching import Pending
from evalkit.models.tokens import split_reasoning


class GenerationHooks:
    """Logits processor and stopping criterion for one batch.

    A draw adds Gumbel noise to the warped logits and takes the largest (the Gumbel-max trick: the argmax of
    log p + g, g ~ Gumbel(0, 1), is a sample from p). The noise of each row comes from its own generator, so that
    an answer does not depend on its neighbours, as torch.multinomial over a batch would make it.

    Args:
        tokenizer: Of the model.
        config: The model's generation config: it may name more end tokens than the tokenizer does.
        sampling: Of all rows.
        lengths: Of each row's prompt in tokens, without the padding on its left.
        seeds: One for each row.
    """

    def __init__(
        self,
        tokenizer: Any,
        config: Any,
        sampling: Sampling,
        lengths: Sequence[int],
        seeds: Sequence[int],
    ) -> None:
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.lengths = lengths
        self.prompt_length = max(lengths)
        self.seeds = seeds
        ends = config.eos_token_id
        self.ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        eos = tokenizer.decode([tokenizer.eos_token_id]) if tokenizer.eos_token_id is not None else ""
        self.wanted = [s for s in sampling.stop if s]
        self.stops = list(dict.fromkeys([*self.wanted, *([eos] if eos else [])]))

    def arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments for `generate`."""
        import torch
        from transformers import (
            LogitsProcessor,
            LogitsProcessorList,
            MinPLogitsWarper,
            StoppingCriteria,
            StoppingCriteriaList,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        s, hooks = self.sampling, self
        arguments: dict[str, Any] = {}
        processors: list[Any] = []
        if s.repetition_penalty is not None:
            penalty = float(s.repetition_penalty)

            class Penalty(LogitsProcessor):  # type: ignore[misc]
                """transformers' own would take a row's padding for text, and the padding is often an end token."""

                def __call__(self, input_ids: Any, scores: Any) -> Any:
                    scores = scores.clone()
                    for row, length in enumerate(hooks.lengths):
                        seen = input_ids[row, hooks.prompt_length - length :].unique()
                        said = scores[row, seen]
                        scores[row, seen] = torch.where(said < 0, said * penalty, said / penalty)
                    return scores

            processors.append(Penalty())

        if s.temperature:
            warpers: list[Any] = [TemperatureLogitsWarper(float(s.temperature))]
            warpers += [TopKLogitsWarper(s.top_k)] if s.top_k else []
            warpers += [TopPLogitsWarper(s.top_p)] if s.top_p is not None and s.top_p < 1 else []
            warpers += [MinPLogitsWarper(s.min_p)] if s.min_p else []
            generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

            class Draw(LogitsProcessor):  # type: ignore[misc]
                def __call__(self, input_ids: Any, scores: Any) -> Any:
                    scores = scores.float()
                    for warper in warpers:
                        scores = warper(input_ids, scores)
                    uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in generators])
                    return scores - torch.log(-torch.log(uniform.clamp_min(1e-20))).to(scores.device)

            processors.append(Draw())

        arguments["logits_processor"] = LogitsProcessorList(processors)
        if self.wanted:
            tail = max(len(self.tokenizer.encode(text, add_special_tokens=False)) for text in self.wanted) + 2

            class Stop(StoppingCriteria):  # type: ignore[misc]
                def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                    texts = hooks.tokenizer.batch_decode(input_ids[:, hooks.prompt_length :][:, -tail:])
                    done = [any(stop in text for stop in hooks.wanted) for text in texts]
                    return torch.tensor(done, device=input_ids.device)

            arguments["stopping_criteria"] = StoppingCriteriaList([Stop()])
        return arguments

    def cut(self, tokens: Sequence[int]) -> tuple[str, int, str]:
        """Ends a row at its first stop string or end token.

        Args:
            tokens: The row's generated ids, padding included.

        Returns:
            The text without the stop string, the number of tokens really generated, and the finish reason.
        """
        end = next((i for i, token in enumerate(tokens) if token in self.ends), len(tokens))
        before = self.tokenizer.decode(list(tokens[:end]))
        if any(stop in before for stop in self.wanted):
            used = end  # what follows a stop string is padding, until the last row of the batch has ended
            while used and tokens[used - 1] == self.tokenizer.pad_token_id:
                used -= 1
        else:
            used = min(end + 1, len(tokens))
        ended = end < len(tokens)
        # All of them, as lm-eval does: what follows an end token is padding, which decodes to nothing.
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        whole = text
        for stop in self.stops:
            text = text.split(stop)[0]
        return text, used, "stop" if ended or text != whole else "length"


def listening(hooks: GenerationHooks, rows: Sequence[Pending], criteria: Sequence[Any]) -> Any:
    """Returns stopping criteria that tell rows' text so far to who listens, and end the rows whose asker has gone.

    Args:
        hooks: Of the batch.
        rows: Of the batch; only those with `heard` are decoded at each step.
        criteria: Those that there are already.
    """
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Listen(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            gone = [row.future.cancelled() for row in rows]
            for number, row in enumerate(rows):
                if row.heard is not None and not gone[number]:
                    text = hooks.cut(input_ids[number, hooks.prompt_length :].tolist())[0]
                    if "<think>" in text:
                        text = split_reasoning(text)[1] if "</think>" in text else ""
                    row.heard(text.rstrip("\ufffd"))  # a character of several tokens, not all here yet
            return torch.tensor(gone, device=input_ids.device)

    return StoppingCriteriaList([*criteria, Listen()])


def generation_logprobs(tokenizer: Any, logits: Any, row: int, tokens: Sequence[int], top: int) -> list[dict[str, Any]]:
    """Returns log-probabilities (nats) of generated tokens with the `top` most likely alternatives of each step.

    Args:
        tokenizer: Of the model.
        logits: A tensor (rows, vocabulary) for each step, before any warping.
        row: Which row of the batch.
        tokens: The row's generated ids.
        top: Number of alternatives.
    """
    result = []
    for step, token in enumerate(tokens):
        logprobs = logits[step][row].float().log_softmax(-1)
        best = logprobs.topk(top) if top else None
        alternatives = [] if best is None else zip(best.indices.tolist(), best.values.tolist(), strict=True)
        result.append(
            {
                "token": tokenizer.decode([token]),
                "logprob": float(logprobs[token]),
                "top": [[tokenizer.decode([t]), value] for t, value in alternatives],
            }
        )
    return result
