"""A tiny random Llama with a trained tokenizer, and two tasks with examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with task files and data that they name relative to themselves."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "test.jsonl").write_text("\n".join(json.dumps(r) for r in rows(0, 12)))
    (folder / "train.jsonl").write_text("\n".join(json.dumps(r) for r in rows(100, 10)))
    for name, text in [("g", GENERATE), ("c", CHOICE), ("l", LIKELIHOOD), ("group", GROUP)]:
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a random three-layer Llama, wide enough spread that no two tokens tie."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([json.dumps(r) for r in rows(0, 60)], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
