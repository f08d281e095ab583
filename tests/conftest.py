"""What tests share: tiny random models, the command `evalkit` in a process, and a cache of the tests' own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if not (loop.last and continue_final_message) %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [f"Question {i}: how much is {i} plus {i + 3}? The answer is {2 * i + 3}. Ünïcode 好 {i}." for i in range(60)]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Done:
    """What a command left that ran in this process."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Returns a function that runs the command in this process: quicker than one of its own."""
    from evalkit import cli

    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "EVALKIT_DATA", "EVALKIT_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["evalkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return Done(int(left.value.code or 0), said.out, said.err)

    return command


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Returns a function that makes the folder of a random two-layer Llama with a byte-level BPE tokenizer.

    By default its weights are spread so wide that no two tokens tie, however the rows are batched; one that is to learn
    needs them close together, and words of what it reads (`corpus`) among its tokens.
    """

    def make(
        name: str = "tiny",
        *,
        seed: int = 0,
        eos: str = "<|im_end|>",
        context: int = 256,
        pad: bool = True,
        corpus: Sequence[str] = CORPUS,
        tokens: int = 360,
        spread: float = 0.4,
    ) -> Path:
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        folder = tmp_path_factory.mktemp("models") / name
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=tokens,
            special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(corpus, trainer)
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token=eos, pad_token="<pad>" if pad else None
        )
        fast.chat_template = CHATML
        fast.save_pretrained(folder)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            initializer_range=spread,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[..., Path]) -> Path:
    """Returns the folder of a tiny model."""
    return make_tiny()


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Returns an environment without the user's keys, endpoints and caches, and without a network to look for.

    Its source is a copy: runs are told apart by the digest of the code, which an edit during the tests would change.
    """
    source = tmp_path_factory.mktemp("source")
    for room in ("evalkit", "benchmarks", "judges", "trainers", "app"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "EVALKIT_", "HF_"))}
    return {
        **kept,
        "PYTHONPATH": str(source),
        "EVALKIT_CACHE": str(tmp_path_factory.mktemp("cache")),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "NO_PROXY": "*",
    }


@pytest.fixture
def evalkit(tmp_path: Path, environment: dict[str, str]) -> Command:
    """Returns a function that runs `evalkit ARGUMENTS` in the test's folder."""

    def command(*arguments: object, cwd: Path = tmp_path, **more: Any) -> subprocess.CompletedProcess[str]:
        variables = {**environment, **more.pop("env", {})}
        line = [sys.executable, "-m", "evalkit.cli", *map(str, arguments)]
        return subprocess.run(line, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300, **more)

    return command
