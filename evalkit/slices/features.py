"""Features of prompts and answers as one table of words, from which slices are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evalkit.slices.answers import Answers, Record
from evalkit.slices.near import words
from evalkit.slices.prompts import YES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

About = Literal["prompts", "answers"]
"""What a feature describes: prompts, which stay as they are, or the model's own answers to them."""

PROMPT_LENGTH, ANSWER_LENGTH, CUT_OFF = "prompt length", "answer length", "cut off"
LOST, DISAGREEMENT, RATIONALE = "battles", "judge and human", "judge says"
MANY_NUMBERS = 8
MAX_TERMS = 25
COMMON = 0.5
QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Features:
    """Features of answers.

    Attributes:
        codes: The place of an answer's value among the feature's values, from 1; 0 where it has none; shape (n, p).
        names: Of the p features.
        values: Of each feature.
        about: Of each feature.
    """

    codes: NDArray[np.int32]
    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    about: tuple[About, ...]


def bins(numbers: NDArray[np.float64], train: NDArray[np.bool_], unit: str) -> list[str | None]:
    """Puts numbers into quarters of the training half: "up to 12 words", "13 to 20 words", "over 31 words".

    Args:
        numbers: Shape (n,); NaN has no bin.
        train: Which of them the quarters are learned from, shape (n,).
        unit: Follows the numbers.
    """
    import numpy as np

    known = numbers[train & np.isfinite(numbers)]
    if len(known) < 2 or np.ptp(known) == 0:
        return [None] * len(numbers)
    whole = bool((known == np.floor(known)).all())
    edges = np.unique(np.quantile(known, QUARTERS))
    edges = np.unique(np.floor(edges)) if whole else edges
    edges = edges[edges < known.max()]
    if not len(edges):
        return [None] * len(numbers)
    shown = [f"{edge:.0f}" if whole else f"{edge:.3g}" for edge in edges]
    starts = [f"{edge + 1:.0f}" if whole else f"{edge:.3g}" for edge in edges]
    names = [f"up to {shown[0]}"]
    names += [f"{start} to {end}" if start != end else end for start, end in zip(starts[:-1], shown[1:], strict=True)]
    names = [f"{name} {unit}".strip() for name in [*names, f"over {shown[-1]}"]]
    place = np.searchsorted(edges, numbers, side="left")
    return [names[k] if np.isfinite(number) else None for k, number in zip(place, numbers, strict=True)]


def prompt_columns(
    found: Sequence[Mapping[str, str]], lengths: Sequence[int], train: NDArray[np.bool_]
) -> dict[str, list[str | None]]:
    """Turns the features of prompts into columns; numbers of many values, and lengths in words, into quarters.

    Args:
        found: Of each item (see `prompts.prompt_features`).
        lengths: Words of each item.
        train: Which items belong to the training half, shape (n,).
    """
    import numpy as np

    names = dict.fromkeys(name for one in found for name in one)
    columns: dict[str, list[str | None]] = {name: [one.get(name) for one in found] for name in names}
    for name, column in columns.items():
        numbers = [_number(value) for value in column]
        if len({n for n in numbers if n is not None}) > MANY_NUMBERS and all(
            value is None or number is not None for value, number in zip(column, numbers, strict=True)
        ):
            columns[name] = bins(np.array([np.nan if n is None else n for n in numbers]), train, "")
    columns[PROMPT_LENGTH] = bins(np.asarray(lengths, dtype=np.float64), train, "words")
    return columns


def _number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def answer_columns(
    answers: Answers, train: NDArray[np.bool_], fought: Mapping[int, Record], said: Mapping[int, str], min_support: int
) -> dict[str, list[str | None]]:
    """Features of the answers: length, whether cut off, battles lost, judge against human, words of judges.

    Args:
        answers: n answers.
        train: Which belong to the training half, shape (n,).
        fought: Battles by response id.
        said: What judges said, by response id.
        min_support: Words that judges said of fewer answers are left out.
    """
    import numpy as np

    table = answers.table
    columns: dict[str, list[str | None]] = {
        ANSWER_LENGTH: bins(table["characters"].to_numpy(dtype=np.float64), train, "characters"),
        CUT_OFF: [YES if reason == "length" else None for reason in table["finish_reason"]],
    }
    ids = [int(one) for one in table["response_id"]]
    records = [fought.get(key) for key in ids]
    if answers.graders:  # else it would be what failing means
        columns[LOST] = [YES_LOST if one and one.lost > one.won else None for one in records]
    columns[DISAGREEMENT] = ["disagree" if one and one.differed else None for one in records]
    terms = {key: frozenset(words(text)) for key, text in said.items()}
    count = Counter(word for key, is_train in zip(ids, train, strict=True) if is_train for word in terms.get(key, ()))
    most = COMMON * sum(key in terms for key, is_train in zip(ids, train, strict=True) if is_train)
    frequent = [word for word, n in count.most_common() if min_support <= n <= most and len(word) > 3]
    for word in frequent[:MAX_TERMS]:
        columns[f"{RATIONALE} {word!r}"] = [YES if word in terms.get(key, ()) else None for key in ids]
    return columns


YES_LOST = "most lost"


def encode(
    columns: Mapping[str, Sequence[str | None]], about: Mapping[str, About], train: NDArray[np.bool_], min_support: int
) -> Features:
    """Turns columns into codes; values that fewer answers of the training half have, or all of them, are left out."""
    import numpy as np

    codes, names, values = [], [], []
    for name, column in columns.items():
        count = Counter(value for value, is_train in zip(column, train, strict=True) if is_train)
        rest = int(train.sum()) - min_support
        kept = sorted(value for value, n in count.items() if value is not None and min_support <= n <= rest)
        if kept:
            place = {value: k for k, value in enumerate(kept, 1)}
            codes.append([place.get(value, 0) if value is not None else 0 for value in column])
            names.append(name)
            values.append(tuple(kept))
    table = np.array(codes, dtype=np.int32).T if codes else np.zeros((len(train), 0), dtype=np.int32)
    return Features(table, tuple(names), tuple(values), tuple(about[name] for name in names))


def item_rows(table: pd.DataFrame) -> tuple[list[int], NDArray[np.int64]]:
    """Returns the distinct items of a table of answers, and each answer's place among them."""
    import pandas as pd

    place, items = pd.factorize(table["item_id"])
    return [int(item) for item in items], place


def spread(column: Sequence[Any], place: NDArray[np.int64]) -> list[Any]:
    """Repeats a value of each item for each of its answers."""
    return [column[k] for k in place]
