"""Two tiny tasks, their rows, and a model that answers by rule."""

from __future__ import annotations

from collections.abc import Callable

from evalkit.models.base import ModelSettings, Reply, Request, RequestFailed

ANIMALS = ["cat", "dog", "owl", "bee", "fox", "ant", "elk", "cow", "hen", "pig", "yak", "emu"]
COLOURS = ["red", "blue", "green", "white"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if not (loop.last and continue_final_message) %}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

GENERATE = """
task: tiny_generate
dataset_path: json
dataset_kwargs:
  data_files: {test: test.jsonl, train: train.jsonl}
test_split: test
fewshot_split: train
output_type: generate_until
description: "Name the animal. "
doc_to_text: "{{question}}"
doc_to_target: "{{animal}}"
generation_kwargs:
  until: ["e"]
  max_gen_toks: 12
  do_sample: false
filter_list:
  - name: letters
    filter:
      - function: regex
        regex_pattern: "([a-z]+)"
      - function: take_first
  - name: none
    filter:
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
metadata:
  version: 1.0
"""

CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs:
  data_files: {test: test.jsonl, train: train.jsonl}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{question}} The answer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
  - metric: brier_score
metadata:
  version: 1.0
  cluster: colour
"""

LIKELIHOOD = """
task: tiny_likelihood
dataset_path: json
dataset_kwargs:
  data_files: {test: test.jsonl}
test_split: test
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: " {{animal}}"
metric_list:
  - metric: perplexity
    aggregation: perplexity
    higher_is_better: false
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""

GROUP = """
group: tiny
task: [tiny_generate, tiny_choice]
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
metadata:
  version: 1.0
"""


def rows(first: int, n: int) -> list[dict[str, object]]:
    found = []
    for i in range(first, first + n):
        animal, colour = ANIMALS[i % len(ANIMALS)], COLOURS[i % len(COLOURS)]
        found.append(
            {
                "question": f"Question {i}: which animal is {colour} and {'very ' * (i % 5)}small?",
                "animal": animal,
                "choices": [f"{c} {animal}" for c in COLOURS[:3]],
                "answer": i % 3,
                "colour": colour,
                "tags": {"colour": colour, "length": "long" if i % 5 > 2 else "short"},
            }
        )
    return found


class Scripted:
    """A model that answers by rule: generations by `say`, log-likelihoods by length, shortest best."""

    def __init__(self, say: Callable[[str], str | RequestFailed], name: str = "scripted") -> None:
        self.settings = ModelSettings("test", name)
        self.max_concurrency = 8
        self.say = say
        self.requests: list[Request] = []

    async def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.pairs:
            return Reply(text="", logprobs=[[-float(len(c)), False] for _, c in request.pairs])
        asked = request.prompt if request.prompt is not None else str(request.messages[-1]["content"])
        answer = self.say(asked)
        if isinstance(answer, RequestFailed):
            raise answer
        return Reply(text=answer, finish_reason="stop")

    async def close(self) -> None:
        self.requests.clear()
