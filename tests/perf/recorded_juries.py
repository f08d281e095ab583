"""Recorded verdicts as label matrices: LLMFAO's and MT-bench's judges, and further jurors computed from the texts.

Label codes: 0 the first model wins, 1 the second, 2 tie, -1 no verdict. Nothing here asks a model anything.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CODES = {"left": 0, "right": 1, "tie": 2, "model_a": 0, "model_b": 1, "tie (inconsistent)": 2}
NEAR = 1.1  # a ratio up to this is no difference


@dataclass(frozen=True)
class Recorded:
    """Verdicts of judges on battles.

    Attributes:
        labels: Of the judges, shape (battles, judges).
        judges: Names.
        truth: What more than half of the people say of the battle, 2 (tie) without a majority, -1 without a vote.
        pairs: Codes of the two models, shape (battles, 2).
        models: Names.
        items: Shape (battles,).
    """

    labels: NDArray[np.int64]
    judges: tuple[str, ...]
    truth: NDArray[np.int64]
    pairs: NDArray[np.int64]
    models: tuple[str, ...]
    items: NDArray[np.int64]


def llmfao(folder: Path) -> Recorded:
    """GPT-4 and GPT-3.5 as recorded (one order, the instruction in the data set), and five jurors that read the texts:

    longest (the longer answer), first-slot (always the answer shown on the left), least-repetitive (the answer that
    compresses less), on-topic (shares more of the prompt's words), answer-key (the right answer's word, where the
    prompt's note gives one; no verdict on other prompts). No threshold was tuned.
    """
    verdicts = {name: pd.read_csv(folder / f"{name}-comparisons.csv").set_index("id") for name in ("gpt4", "gpt3")}
    battles = verdicts["gpt4"]
    results = pd.read_json(folder / "results.jsonl", lines=True)
    texts = results.set_index(["prompt", "model"])["result"].fillna("").to_dict()
    prompts = pd.read_json(folder / "prompts.jsonl", lines=True).set_index("id")
    asked = [prompts.loc[item] for item in battles["prompt"]]
    left, right = (
        [texts[key] for key in zip(battles["prompt"], battles[side], strict=True)] for side in ("model_x", "model_y")
    )
    jurors: dict[str, Callable[[pd.Series, str], float]] = {
        "longest": lambda _, text: float(len(text)),
        "least-repetitive": lambda _, text: _compressed(text),
        "on-topic": lambda prompt, text: _overlap(prompt["text"], text),
        "answer-key": lambda prompt, text: _keyed(prompt["note"], text),
    }
    columns = {name: frame["winner"].map(CODES).reindex(battles.index).to_numpy() for name, frame in verdicts.items()}
    columns["first-slot"] = np.zeros(len(battles))
    for name, value in jurors.items():
        a = np.array([value(prompt, text) for prompt, text in zip(asked, left, strict=True)])
        b = np.array([value(prompt, text) for prompt, text in zip(asked, right, strict=True)])
        said = np.where(a > NEAR * b, 0, np.where(b > NEAR * a, 1, 2))
        columns[name] = np.where(np.isnan(a), -1, said)
    crowd = pd.read_csv(folder / "crowd-comparisons.csv")
    truth = _majority(crowd["id"], crowd["winner"].map(CODES)).reindex(battles.index).fillna(-1)
    models = sorted({*battles["left"], *battles["right"]})
    place = {name: i for i, name in enumerate(models)}
    return Recorded(
        labels=np.stack(list(columns.values()), axis=1).astype(np.int64),
        judges=tuple(columns),
        truth=truth.to_numpy(dtype=np.int64),
        pairs=np.stack([battles[side].map(place).to_numpy() for side in ("left", "right")], axis=1),
        models=tuple(models),
        items=battles["prompt"].to_numpy(),
    )


def mt_bench(folder: Path) -> Recorded:
    """GPT-4's 2,400 pair verdicts, both turns; one judge, so nothing to choose but battles. Truth: the experts'."""
    found = pd.read_json(folder / "gpt4_pair.jsonl", lines=True)
    people = pd.read_json(folder / "human.jsonl", lines=True)
    people = people[people["judge"].str.startswith("expert")]
    keys = ["question_id", "turn", "model_a", "model_b"]
    code = people["winner"].map(CODES)
    turned = people["model_a"] > people["model_b"]
    people = people.assign(code=code.where(~turned | (code == 2), 1 - code))
    people.loc[turned, ["model_a", "model_b"]] = people.loc[turned, ["model_b", "model_a"]].to_numpy()
    label = found["winner"].map(CODES)
    turned = found["model_a"] > found["model_b"]
    found = found.assign(code=label.where(~turned | (label == 2), 1 - label))
    found.loc[turned, ["model_a", "model_b"]] = found.loc[turned, ["model_b", "model_a"]].to_numpy()
    index = pd.MultiIndex.from_frame(found[keys])
    truth = _majority(pd.Series(list(people[keys].itertuples(index=False, name=None))), people["code"])
    truth = truth.reindex(list(index)).fillna(-1)
    models = sorted({*found["model_a"], *found["model_b"]})
    place = {name: i for i, name in enumerate(models)}
    return Recorded(
        labels=found["code"].to_numpy(dtype=np.int64)[:, None],
        judges=("gpt4",),
        truth=truth.to_numpy(dtype=np.int64),
        pairs=np.stack([found[side].map(place).to_numpy() for side in ("model_a", "model_b")], axis=1),
        models=tuple(models),
        items=found["question_id"].to_numpy(),
    )


def _majority(battle: pd.Series, code: pd.Series) -> pd.Series:
    """Label of more than half of a battle's votes, else 2; indexed by battle."""
    counts = pd.crosstab([battle.to_numpy()], code.to_numpy())
    return counts.idxmax(axis=1).where(2 * counts.max(axis=1) > counts.sum(axis=1), 2)


def _compressed(text: str) -> float:
    data = text.encode()
    return len(zlib.compress(data)) / max(len(data), 1) if len(data) > 100 else 0.8


def _overlap(prompt: str, text: str) -> float:
    wanted, said = (set(re.findall(r"[a-z]{4,}", words.lower())) for words in (prompt, text))
    return len(wanted & said) / max(len(wanted), 1)


def _keyed(note: object, text: str) -> float:
    """1 where the right answer's word stands in the text, 0 where not; NaN where the note gives no right answer."""
    found = re.search(r"[Cc]orrect answer(?: is|:) \"?(\w+)", note) if isinstance(note, str) else None
    return float("nan") if found is None else float(bool(re.search(rf"\b{found[1]}\b", text, re.IGNORECASE)))
