"""Style of answers: length and Markdown counted from texts, and the difference between the two answers of a battle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.errors import UserError
from evalkit.stats.votes import FloatArray, IntArray, require_columns

STYLE = ("tokens", "headers", "bold", "lists")
"""The features of `style_features` that the public arena controls for, with our way of counting."""

NORMALISATION = "(a - b) / (a + b), 0 where both are 0, divided by its root mean square over the votes; not centred"

_BLOCK = 1 << 15
_TINY = float(np.finfo(np.float64).tiny)
# Scripts written without spaces count a token for each character.
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u3040-\u9fff\uac00-\ud7af]+|[^\w\s]")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`)[^\n]*?(?<!`)\1(?!`)")
_HEADER = re.compile(r"^ {0,3}#{1,6}(?:[ \t]+\S|[ \t]*$)", re.MULTILINE)
_LIST = re.compile(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"(?<!\*)\*\*(?=[^\s*])[^\n]*?[^\s*]?\*\*(?!\*)|(?<![\w_])__(?=[^\s_])[^\n]*?[^\s_]?__(?![\w_])")


def style_features(texts: Iterable[object]) -> pd.DataFrame:
    """Length and Markdown of each text.

    Headers, bold and list items inside code blocks or code spans are code, not style, and are not counted.

    Args:
        texts: Answers; what is no text (None, NaN) gives a row of NaN.

    Returns:
        One row a text, in order: characters, tokens (words, punctuation marks, and characters of scripts without
        spaces; no model's tokenizer), headers (`#` to `######`), bold (`**` or `__` spans), lists (items, bulleted
        or numbered).
    """
    rows = []
    for text in texts:
        if not isinstance(text, str):
            rows.append([np.nan] * 5)
            continue
        prose = _CODE.sub("", _FENCE.sub("", text))
        found = (len(pattern.findall(prose)) for pattern in (_HEADER, _BOLD, _LIST))
        rows.append([float(len(text)), float(len(_TOKEN.findall(text))), *map(float, found)])
    return pd.DataFrame(rows, columns=["characters", *STYLE], dtype=np.float64)


def battle_features(votes: pd.DataFrame, responses: pd.DataFrame) -> pd.DataFrame:
    """Style of both answers of each vote, looked up by item and model.

    Args:
        votes: item_id, model_a, model_b.
        responses: item_id, model, response; one row for each item and model.

    Returns:
        One row a vote with `<feature>_a` and `<feature>_b` for each feature of `style_features`; NaN where there is no
        response.

    Raises:
        UserError: A column is missing, or an item has several responses of one model.
    """
    require_columns(votes, ("item_id", "model_a", "model_b"))
    require_columns(responses, ("item_id", "model", "response"), "responses")
    key = pd.MultiIndex.from_arrays([responses["item_id"].astype(str), responses["model"].astype(str)])
    repeated = key.duplicated()
    if repeated.any():
        item, model = key[repeated][0]
        raise UserError(f"the responses have several answers of {model} to item {item}; one for each is needed.")
    style = style_features(responses["response"])
    table = np.vstack([style.to_numpy(), np.full((1, style.shape[1]), np.nan)])
    sides = []
    for side in ("a", "b"):
        wanted = pd.MultiIndex.from_arrays([votes["item_id"].astype(str), votes[f"model_{side}"].astype(str)])
        columns = [f"{name}_{side}" for name in style.columns]
        # The place -1 of an answer not found is the row of NaN.
        sides.append(pd.DataFrame(table[key.get_indexer(wanted)], columns=columns, index=votes.index))
    return pd.concat(sides, axis=1)


def feature_columns(votes: pd.DataFrame, features: pd.DataFrame | Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The frame that holds `<name>_a` and `<name>_b`, and the names.

    Raises:
        UserError: No feature is named, or a column is missing, or a frame of features has another number of rows.
    """
    if isinstance(features, pd.DataFrame):
        if len(features) != len(votes):
            raise UserError(f"the features have {len(features)} rows and the votes {len(votes)}; one a vote is needed.")
        frame = features
        names = [str(name)[:-2] for name in frame.columns if str(name).endswith("_a")]
    else:
        frame, names = votes, [features] if isinstance(features, str) else list(features)
    if not names:
        raise UserError("no style feature is named; a feature has two columns, such as length_a and length_b.", code=2)
    require_columns(frame, [f"{name}_{side}" for name in dict.fromkeys(names) for side in "ab"], "features")
    return frame, list(dict.fromkeys(names))


Pairs = list[tuple[NDArray[Any], NDArray[Any]]]
"""Of each feature, its values for a and for b, shape (rows,) each."""


def feature_values(frame: pd.DataFrame, names: Sequence[str]) -> tuple[Pairs, NDArray[np.bool_] | None]:
    """The values of each feature, and in which rows all are known; None where that is all rows.

    Raises:
        UserError: A value is negative, infinite or no number.
    """
    pairs = [(_numbers(frame[f"{name}_a"]), _numbers(frame[f"{name}_b"])) for name in names]
    known = None
    for values in (side for pair in pairs for side in pair):
        if len(values) and np.isnan(values.min()):
            known = ~np.isnan(values) if known is None else known & ~np.isnan(values)
    return pairs, known


def fill_differences(pairs: Pairs, rows: IntArray | None) -> tuple[FloatArray, FloatArray]:
    """Normalised differences of the features at some rows, and their scales (see `NORMALISATION`).

    Args:
        pairs: Values.
        rows: Which rows, shape (n,); None for all.

    Returns:
        x, shape (features, n); the root mean squares it was divided by, shape (features,), 0 where all are 0.
    """
    n = len(pairs[0][0]) if rows is None else len(rows)
    x, scale = np.empty((len(pairs), n)), np.zeros(len(pairs))
    for f, (left, right) in enumerate(pairs):
        for start in range(0, n, _BLOCK):  # so that little more than the result is held
            those = slice(start, start + _BLOCK) if rows is None else rows[start : start + _BLOCK]
            a, b = left[those].astype(np.float64), right[those].astype(np.float64)
            total = np.maximum(a + b, _TINY)  # where both are 0 the difference is, too
            np.divide(np.subtract(a, b, out=a), total, out=x[f, start : start + _BLOCK])
        scale[f] = np.sqrt(x[f] @ x[f] / max(n, 1))
        if scale[f] > 0:
            x[f] /= scale[f]
    return x, scale


def _numbers(column: pd.Series[Any]) -> NDArray[Any]:
    """The column's own array where it is one of numbers, to save a copy."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        values: NDArray[Any] = column.to_numpy()
    else:
        number = pd.to_numeric(column, errors="coerce")
        wrong = number.isna() & column.notna()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(f"vote {row + 1} has {str(column.iloc[row])!r} in {column.name}; a number is needed.")
        values = number.to_numpy(dtype=np.float64, na_value=np.nan)
    # The least and the largest value show faults without a mask over all of them.
    if len(values) and not (values.min() >= 0 and values.max() < np.inf):
        wrong_values = np.flatnonzero((values < 0) | np.isinf(values))
        if len(wrong_values):
            row = int(wrong_values[0])
            raise UserError(f"vote {row + 1} has {values[row]:g} in {column.name}; a count from 0 up is needed.")
    return values
