"""lm-eval's model interface on top of evalkit's models, engine and ledger.

`EvalkitLM` is made when it is first asked for, because its base class pulls in lm-eval.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.engine import Engine, Job
from evalkit.errors import UserError
from evalkit.models.base import ChatModel, Message, Request, RequestFailed, Sampling, canonical_json

MAX_NEW_TOKENS = 256  # lm-eval's default where a task states none
SAMPLING_NAMES = ("top_p", "top_k", "min_p", "seed", "repetition_penalty", "presence_penalty", "frequency_penalty")


class Chat(tuple[Message, ...]):
    """A conversation in the place where lm-eval expects the rendered prompt: the provider renders it."""

    def encode(self, encoding: str = "utf-8") -> bytes:
        """Returns the bytes that lm-eval hashes as the prompt."""
        return canonical_json([dict(m) for m in self]).encode(encoding, "surrogatepass")


@dataclass(frozen=True, slots=True)
class Document:
    """Where a document lies in the ledger."""

    item_id: int
    dataset_id: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one lm-eval instance.

    Attributes:
        response_id: The ledger's row; None if nothing was sent (budget spent).
        value: A text, or (sum of log-probabilities in nats, is greedy); the failure if there is none.
    """

    response_id: int | None
    value: str | tuple[float, bool] | RequestFailed


def takes_chat(model: ChatModel, output_type: str, wish: bool | str) -> bool:
    """Decides whether a task's prompts go through the model's chat template.

    Args:
        model: Models in this process have `tokens` with or without a template; endpoints have one for generation
            only, because a log-likelihood needs the rendered text on our side.
        output_type: The task's.
        wish: True, False or "auto".

    Raises:
        UserError: A template is demanded where there is none.
    """
    tokens = getattr(model, "tokens", None)
    able = output_type == "generate_until" if tokens is None else bool(tokens.has_chat_template)
    if wish is True and not able:
        name = model.settings.label or model.settings.name
        why = "its tokenizer has none" if tokens else "the server renders it, and only for generation"
        raise UserError(f"chat_template: true is not possible for {output_type} tasks with {name}: {why}", code=2)
    return able if wish == "auto" else bool(wish)


def sampling(generation: Mapping[str, Any]) -> Sampling:
    """Translates lm-eval's generation_kwargs, with lm-eval's defaults: greedy, at most 256 new tokens."""
    rest = dict(generation)
    until = rest.pop("until", None) or []
    limits = [rest.pop(k, None) for k in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")]
    draws, temperature = rest.pop("do_sample", None), float(rest.pop("temperature", 0.0) or 0.0)
    if draws and not temperature:
        temperature = 1.0  # asked to draw without saying how
    named = {k: rest.pop(k) for k in SAMPLING_NAMES if k in rest}
    return Sampling(
        temperature=0.0 if draws is False else temperature,
        max_tokens=next((int(x) for x in limits if x is not None), MAX_NEW_TOKENS),
        stop=(until,) if isinstance(until, str) else tuple(until),
        extra=rest,
        **named,
    )


def cut(text: str, stops: Sequence[str]) -> str:
    """Ends a text before its first stop string, for servers that took only some of them."""
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text


Asked = tuple[Any, int]
"""An lm-eval Instance and which of its repeats."""


def _requests(model: ChatModel, asked: Sequence[Asked]) -> list[tuple[Request, list[int]]]:
    """Makes one request of all log-likelihoods of a document and one of each generation.

    Returns:
        Requests, each with the positions in `asked` that it answers.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position, (instance, sample) in enumerate(asked):
        alone = instance.idx if instance.request_type == "generate_until" else -1
        key = (instance.task_name, instance.doc_id, instance.request_type, sample, alone)
        groups.setdefault(key, []).append(position)
    requests = []
    for (_, _, kind, sample, _), positions in groups.items():
        arguments = [asked[p][0].args for p in positions]
        if kind == "loglikelihood":
            request = Request(pairs=tuple((_text(model, a[0]), a[1]) for a in arguments), sample=sample)
        else:
            context, generation = arguments[0][:2]
            given = {"messages": tuple(context)} if isinstance(context, Chat) else {"prompt": context}
            request = Request(**given, sampling=sampling(generation), sample=sample)
        requests.append((request, positions))
    return requests


def _text(model: ChatModel, context: str | Chat) -> str:
    if isinstance(context, str):
        return context
    tokens = getattr(model, "tokens", None)
    if tokens is None:
        raise UserError(f"{model.settings.name}: a chat's log-likelihood needs a model with a template on this machine")
    return str(tokens.render(Request(messages=tuple(context))))


def _pick(instance: Any, position: int, value: Any) -> str | tuple[float, bool]:
    if instance.request_type == "loglikelihood":
        total, greedy = value.logprobs[position]
        return float(total), bool(greedy)
    return cut(value.text, sampling(instance.args[1]).stop)


@functools.cache
def _define() -> type:
    from lm_eval.api.model import LM

    class EvalkitLM(LM):  # type: ignore[misc]
        """An lm-eval model whose answers come through the engine and lie in the ledger.

        Args:
            engine: Of the run.
            model: Who answers.
            model_id: Its row in the ledger.
            documents: Item and dataset of each (task name, document number).
        """

        def __init__(
            self, engine: Engine, model: ChatModel, model_id: int, documents: Mapping[tuple[str, int], Document]
        ) -> None:
            super().__init__()
            self.engine, self.model, self.model_id, self.documents = engine, model, model_id, documents

        def ask(self, asked: Sequence[Asked], label: str = "benchmarks") -> list[Answer]:
            """Answers instances of any kind in one go.

            Args:
                asked: Instances with the number of the repeat.
                label: Of the progress bar.

            Returns:
                One answer each, in order.
            """
            requests = _requests(self.model, asked)
            jobs = []
            for request, positions in requests:
                instance = asked[positions[0]][0]
                where = self.documents[instance.task_name, instance.doc_id]
                jobs.append(Job(self.model_id, where.item_id, where.dataset_id, request))
            answers: dict[int, Answer] = {}
            outcomes = self.engine.run(self.model, jobs, label=label)
            for (_, positions), outcome in zip(requests, outcomes, strict=True):
                for n, position in enumerate(positions):
                    result = outcome.result
                    value = result if isinstance(result, RequestFailed) else _pick(asked[position][0], n, result)
                    answers[position] = Answer(outcome.response_id, value)
            return [answers[i] for i in range(len(asked))]

        def _answer_all(self, requests: Sequence[Any]) -> list[Any]:
            repeats: dict[int, int] = {}
            asked = []
            for instance in requests:  # lm-eval repeats the instance for each sample
                repeats[id(instance)] = sample = repeats.get(id(instance), -1) + 1
                asked.append((instance, sample))
            values = [answer.value for answer in self.ask(asked)]
            for value in values:
                if isinstance(value, RequestFailed):
                    raise value
            return values

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """Returns (sum of log-probabilities in nats, is greedy) for each instance."""
            return self._answer_all(requests)

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            """Returns the text for each instance."""
            return self._answer_all(requests)

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            """Refuses: perplexity needs windows of tokens, and endpoints do not tell where tokens end."""
            raise UserError(_no_perplexity(requests[0].task_name if requests else "this"))

        def apply_chat_template(
            self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
        ) -> Chat:
            """Returns the conversation itself; a last message of the assistant's means: go on from there."""
            return Chat(chat_history)

        @property
        def tokenizer_name(self) -> str:
            """Name under which lm-eval would cache rendered prompts."""
            return str(self.model.settings.hash)

    return EvalkitLM


def _no_perplexity(task: str) -> str:
    return f"the task {task} measures perplexity (loglikelihood_rolling), which evalkit does not run"


def refuse_perplexity(tasks: Mapping[str, Any]) -> None:
    """Says at once that perplexity tasks are not run.

    Raises:
        UserError: There is one among `tasks`.
    """
    for name, task in tasks.items():
        if task.OUTPUT_TYPE == "loglikelihood_rolling":
            raise UserError(_no_perplexity(name))


def __getattr__(name: str) -> Any:
    if name == "EvalkitLM":
        return _define()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
