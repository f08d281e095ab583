"""A ledger as the folder that FastChat's llm_judge has: questions, answers and judgments as JSONL (out)."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evalkit.store.formats.given import Said, answers, file_name, grades, make_folder, seconds_of, verdicts
from evalkit.store.formats.mt_bench import INCONSISTENT, NOT_PUBLISHED, SIDES, prompt_name
from evalkit.store.formats.names import item_ids
from evalkit.store.formats.tables import write_objects
from evalkit.store.ledger import Ledger
from evalkit.store.schema import Item

GAMES: dict[str | None, str] = {winner: word for word, winner in SIDES.items()} | {None: "error"}
HIGHEST = 10


def export_mt_bench(ledger: Ledger, folder: Path) -> tuple[int, Counter[str]]:
    """Writes question.jsonl, model_answer/MODEL.jsonl, model_judgment/JUDGE.jsonl and human_votes.jsonl.

    Verdicts of a judge in both orders are a row of two games; all others are votes, with `order` where it is known.

    Returns:
        The number of rows, and how many rows of the ledger were left out, by the reason.

    Raises:
        UserError: The folder or a file cannot be written.
    """
    left: Counter[str] = Counter()
    for name in ("model_answer", "model_judgment"):
        make_folder(folder / name)
    count = write_objects(folder / "question.jsonl", _questions(ledger, left))
    files = _answers(ledger, left)
    files |= _judgments(ledger, left)
    for path, rows in files.items():
        count += write_objects(folder / path, rows)
    return count, left


def _number(name: str) -> int | str:
    return int(name) if name.isdigit() else name


def _questions(ledger: Ledger, left: Counter[str]) -> list[dict[str, Any]]:
    rows = []
    with ledger.engine.connect() as connection:
        found = connection.execute(sa.select(Item.id, Item.messages, Item.reference, Item.tags).order_by(Item.id)).all()
        names = item_ids(connection, {row.id for row in found})
    for row in found:
        if not row.messages or any(message["role"] != "user" for message in row.messages):
            left["items that are not the turns of a user"] += 1
            continue
        reference = row.reference.get("turns") if isinstance(row.reference, dict) else row.reference
        if isinstance(reference, str):
            reference = [reference]
        question: dict[str, Any] = {"question_id": _number(names[row.id]), "category": row.tags.get("category")}
        question["turns"] = [message["content"] for message in row.messages]
        question["reference"] = reference if isinstance(reference, list) else None
        rows.append(question)
    return rows


def _file(folder: str, name: str) -> str:
    return f"{folder}/{file_name(name)}.jsonl"


def _answers(ledger: Ledger, left: Counter[str]) -> dict[str, list[dict[str, Any]]]:
    talks: defaultdict[tuple[str, str], dict[int, dict[int, str]]] = defaultdict(dict)
    moments: dict[tuple[str, str], str] = {}
    for one in answers(ledger):
        if not one.messages or any(message["role"] != "user" for message in one.messages):
            left["answers to items that are not the turns of a user"] += 1
            continue
        talks[one.model, one.item].setdefault(one.sample, {})[one.turn] = one.text or ""
        moments.setdefault((one.model, one.item), one.created_at)
    files: dict[str, list[dict[str, Any]]] = {}
    for (model, item), samples in talks.items():
        choices = []
        for index, turns in enumerate(samples.values()):
            if sorted(turns) != list(range(1, len(turns) + 1)):
                left["answers to a later turn without those before"] += len(turns)
                continue
            choices.append({"index": index, "turns": [turns[turn] for turn in sorted(turns)]})
        if choices:
            row = {"question_id": _number(item), "model_id": model, "choices": choices}
            files.setdefault(_file("model_answer", model), []).append(
                row | {"tstamp": seconds_of(moments[model, item])}
            )
    return files


def _judgments(ledger: Ledger, left: Counter[str]) -> dict[str, list[dict[str, Any]]]:
    files: dict[str, list[dict[str, Any]]] = {}
    games: defaultdict[tuple[int, str, int], dict[str, Said]] = defaultdict(dict)
    for one in verdicts(ledger):
        if one.criterion != "overall":
            left["verdicts on another criterion than overall"] += 1
            continue
        games[one.battle_id, f"{one.annotator_kind} {one.annotator}", one.replicate][one.order] = one
    for both in games.values():
        first = next(iter(both.values()))
        if first.annotator_kind == "judge" and both.keys() == {"ab", "ba"}:
            coded = all(one.rationale == NOT_PUBLISHED for one in both.values())
            row = _vote(first, INCONSISTENT) if coded else _pair(both)
            mode = first.annotator.removesuffix("_pair") + "_pair"
            files.setdefault(_file("model_judgment", mode), []).append(row)
            continue
        for one in both.values():
            if one.winner is None:
                left["unreadable verdicts in one order only"] += 1
                continue
            path = "human_votes.jsonl" if one.annotator_kind == "human" else _file("model_judgment", one.annotator)
            files.setdefault(path, []).append(_vote(one, one.winner) | {"order": one.order})
    for grade in grades(ledger):
        if grade.annotator_kind != "judge" or grade.criterion != "overall" or grade.sample:
            left["grades that are not a judge's of the first answer, on overall"] += 1
        elif grade.value is not None and not 0 <= grade.value <= HIGHEST:
            left[f"grades outside 0 to {HIGHEST}"] += 1
        else:
            judge = grade.annotator.removesuffix("_single")
            files.setdefault(_file("model_judgment", f"{judge}_single"), []).append(
                {
                    **{"question_id": _number(grade.item), "model": grade.model, "turn": grade.turn},
                    "judge": [judge, prompt_name("single", grade.category, grade.turn)],
                    **{"judgment": grade.rationale, "score": -1 if grade.value is None else grade.value},
                }
            )
    return files


def _pair(both: dict[str, Said]) -> dict[str, Any]:
    g1, g2 = both["ab"], both["ba"]
    return {
        **{"question_id": _number(g1.item), "model_1": g1.model_a, "model_2": g1.model_b},
        **{"g1_winner": GAMES[g1.winner], "g2_winner": GAMES[g2.winner]},
        "judge": [g1.annotator.removesuffix("_pair"), prompt_name("pair", g1.category, g1.turn)],
        **{"g1_judgment": g1.rationale, "g2_judgment": g2.rationale, "turn": g1.turn, "tstamp": g1.seconds_1970},
    }


def _vote(one: Said, winner: str) -> dict[str, Any]:
    return {
        **{"question_id": _number(one.item), "model_a": one.model_a, "model_b": one.model_b, "winner": winner},
        **{"judge": one.annotator, "turn": one.turn, "tstamp": one.seconds_1970},
    }
