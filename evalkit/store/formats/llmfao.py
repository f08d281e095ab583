"""LLMFAO: a folder with models, prompts, answers, and comparisons by crowd workers and two GPT models (in)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import UserError
from evalkit.store.formats.foreign import Arena, Imported, Talk, add_arena
from evalkit.store.formats.tables import Row, read_table, unique
from evalkit.store.formats.votes import Vote
from evalkit.store.ledger import Ledger
from evalkit.store.rows import AnnotatorKind, Item, Winner

KIND = "llmfao"
PROMPTS, RESULTS, CROWD = "prompts.jsonl", "results.jsonl", "crowd-comparisons.csv"
JUDGES = {"gpt3-comparisons.csv": ("gpt-3.5_llmfao", "gpt-3.5"), "gpt4-comparisons.csv": ("gpt-4_llmfao", "gpt-4")}
WINNERS: dict[str, Winner] = {"left": "model_a", "right": "model_b", "tie": "tie"}


def import_llmfao(ledger: Ledger, paths: Sequence[Path]) -> Imported:
    """Reads LLMFAO's folder.

    Items go by their slugs, crowd workers as `worker_ID`; a prompt's note on the right answer is its reference.

    Raises:
        UserError: Something is wrong in a file; nothing was written.
    """
    if len(paths) != 1 or not paths[0].is_dir():
        raise UserError(f"llmfao is one folder, with {PROMPTS}, {RESULTS} and {CROWD}; give its path", code=2)
    folder = paths[0]
    used = [folder / PROMPTS, folder / RESULTS, folder / CROWD]
    for path in used:
        if not path.exists():
            raise UserError(f"{folder}: there is no {path.name}; llmfao needs {PROMPTS}, {RESULTS} and {CROWD}", code=2)
    arena = Arena(KIND)
    slugs = _read_items(arena, folder / PROMPTS)
    _read_answers(arena, folder / RESULTS, slugs)
    _read_votes(arena, folder / CROWD, slugs)
    for name, (judge, model) in JUDGES.items():
        if (folder / name).exists():
            used.append(folder / name)
            arena.judges[judge] = {"published": "LLMFAO", "kind": "llm", "model": model, "orders": "one"}
            _read_votes(arena, folder / name, slugs, judge)
    return add_arena(ledger, arena, used)


def _read_items(arena: Arena, path: Path) -> dict[str, str]:
    rows = read_table(path, ("id", "text", "slug"))
    unique(rows, "id", lambda row: row.text("id"), "every prompt has an id of its own")
    unique(rows, "slug", lambda row: row.text("slug"), "every prompt has a slug of its own")
    for row in rows:
        slug, category = row.text("slug"), row.text("type", "")
        messages = ({"role": "user", "content": row.text("text")},)
        tags = {"category": category} if category else {}
        arena.items[slug] = Item(messages, row.text("note", "") or None, tags, name=slug)
    return {row.text("id"): row.text("slug") for row in rows}


def _slug(row: Row, slugs: dict[str, str]) -> str:
    prompt = row.text("prompt")
    if prompt not in slugs:
        raise row.fault("prompt", f"{prompt!r} is no id of {PROMPTS}")
    return slugs[prompt]


def _read_answers(arena: Arena, path: Path, slugs: dict[str, str]) -> None:
    rows = read_table(path, ("name", "prompt", "result"))
    unique(rows, "name", lambda row: (row.text("name"), row.text("prompt")), "a model has one answer to a prompt")
    for row in rows:
        milliseconds = row.number("duration", 0)
        seconds = None if milliseconds is None else milliseconds / 1000
        arena.talks.append(Talk(_slug(row, slugs), row.text("name"), (row.text("result", ""),), seconds))


def _read_votes(arena: Arena, path: Path, slugs: dict[str, str], judge: str = "") -> None:
    need = ("prompt", "left", "right", "winner", *(() if judge else ("worker",)))
    for row in read_table(path, need):
        left, right = row.text("left"), row.text("right")
        if left == right:
            arena.skipped["a model against itself"] += 1
            continue
        winner = WINNERS[row.choice("winner", list(WINNERS))]
        who: tuple[AnnotatorKind, str] = ("judge", judge) if judge else ("human", f"worker_{row.text('worker')}")
        item = _slug(row, slugs)
        # Left was shown as A.
        arena.votes.append(Vote(item, left, right, winner, who, order="ab"))
