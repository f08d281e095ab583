"""Models to merge: one random base of five layers, and others that were moved away from it."""

from __future__ import annotations

import shutil
from pathlib import Path

CARRIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LAYERS = 5


def make_base(folder: Path, tokenizer_of: Path, *, dtype: str = "float32", tied: bool = False) -> Path:
    """Makes a random Llama with the tokenizer of another model."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(tokenizer_of)), hidden_size=32, intermediate_size=48,
        num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        initializer_range=0.4, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    for name in CARRIED:
        if (tokenizer_of / name).exists():
            shutil.copy(tokenizer_of / name, folder / name)
    return folder


def make_tuned(folder: Path, base: Path, seed: int, *, dtype: str | None = None) -> Path:
    """Makes a model whose weights were moved at random, some of them not at all, as training does."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in sorted(load_file(base / "model.safetensors").items()):
        step = 0.2 * torch.randn(tensor.shape, generator=draw) * (torch.rand(tensor.shape, generator=draw) < 0.8)
        tensors[name] = (tensor + step).to(getattr(torch, dtype) if dtype else tensor.dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
