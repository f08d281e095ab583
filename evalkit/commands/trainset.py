"""The commands `trainset build`, `show` and `export`: training sets from failing slices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evalkit.commands import printing
from evalkit.commands.look import STORE, Json, Store
from evalkit.commands.store import opened, started

if TYPE_CHECKING:
    from evalkit.store import Ledger
    from trainers.training_set import TrainingSet

SOURCES = {"source": "source", "made": "made", "used": "used"}
SETS = {
    "training_set_id": "id", "training_set": "name", "slice": "slice", "n": "rows", "method": "method",
    "leaks": "leaks found", "created_at": "made (UTC)",
}  # fmt: skip
Number = Annotated[int | None, typer.Argument(help="Id of a training set; without, all are listed.", min=1)]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    sets = typer.Typer(help="Training sets made from failing slices.", no_args_is_help=True)
    sets.command()(build)
    sets.command()(show)
    sets.command()(export)
    app.add_typer(sets, name="trainset")


def build(
    plan: Annotated[Path, typer.Argument(help="The retrain plan, a YAML file.")],
    store: Annotated[str | None, typer.Option("--store", help="Ledger instead of the plan's.")] = None,
    json: Json = False,
) -> None:
    """Build the training set of a retrain plan, without training. A second build does only what is missing."""
    from evalkit.engine.progress import RichProgress
    from evalkit.trainsets import build_training_set
    from trainers.plan import load_retrain_plan

    loaded = load_retrain_plan(plan)
    if store:
        loaded = loaded.model_copy(update={"store": store})
    with started(loaded.store) as ledger:
        made = build_training_set(ledger, loaded, RichProgress())
        _print_set(ledger, made, json)


def show(
    number: Number = None,
    rows: Annotated[int, typer.Option(min=0, help="The first so many rows.")] = 5,
    card: Annotated[bool, typer.Option("--card", help="Print the data card (Markdown).")] = False,
    store: Store = STORE,
    json: Json = False,
) -> None:
    """List training sets, or show one: its sources, what was dropped, and its first rows."""
    from trainers.rows import answer_of, prompt_of
    from trainers.training_set import load_training_set

    with opened(store) as ledger:
        if number is None:
            _list(ledger, json)
            return
        found = load_training_set(ledger, number)
        if card:
            from trainers.card import card as written

            printing.say(written(found, _slice_name(ledger, found)))
            return
        shown = [
            {"source": row.source, "item": row.item_id, "prompt": prompt_of(row), "answer": answer_of(row)}
            for row in found.rows[:rows]
        ]
        _print_set(ledger, found, json, shown)


def export(
    number: Annotated[int, typer.Argument(help="Id of a training set.", min=1)],
    path: Annotated[
        Path, typer.Argument(help="A file (.jsonl, .json, .parquet) in TRL's columns; for axolotl a folder.")
    ],
    form: Annotated[Literal["trl", "axolotl"], typer.Option(help="Whose columns.")] = "trl",
    store: Store = STORE,
    json: Json = False,
) -> None:
    """Write a training set for another trainer, with its data card beside it."""
    from trainers.card import card as written
    from trainers.formats import export as write
    from trainers.training_set import load_training_set

    with opened(store) as ledger:
        found = load_training_set(ledger, number)
        n = write(found, path, form)
        beside = (path / "README.md") if form == "axolotl" else path.with_suffix(".card.md")
        beside.write_text(written(found, _slice_name(ledger, found)), encoding="utf-8")
    if json:
        printing.print_json(
            {"rows": [{"training_set_id": number, "written": n, "path": str(path), "card": str(beside)}]}
        )
        return
    printing.say(f"Wrote {n} rows to {path}, and the data card to {beside}.")


def _list(ledger: Ledger, json: bool) -> None:
    from evalkit.store import frames_training

    names = _names(ledger)
    rows = []
    for row in frames_training.training_sets(ledger).to_dict("records"):
        recipe = row.pop("recipe") or {}
        slice_id = row["slice_id"]
        more = {"slice": names.get(slice_id, ""), "method": recipe.get("method", ""), "leaks": recipe.get("leaks")}
        rows.append(printing.plain({**{str(k): v for k, v in row.items()}, **more}))
    if json:
        printing.print_json({"rows": rows})
        return
    for row in rows:
        row["created_at"] = row["created_at"][:16].replace("T", " ")
    printing.print_table(rows, SETS)


def _names(ledger: Ledger) -> dict[Any, str]:
    from evalkit.store import frames_training

    found = frames_training.slices(ledger)
    return dict(zip(found["slice_id"].tolist(), found["slice"].tolist(), strict=True))


def _slice_name(ledger: Ledger, found: TrainingSet) -> str:
    return _names(ledger).get(found.slice_id, "")


def _print_set(ledger: Ledger, found: TrainingSet, json: bool, shown: list[dict[str, Any]] | None = None) -> None:
    recipe = found.recipe
    made, used = recipe.get("made") or {}, recipe.get("used") or {}
    sources = [{"source": kind, "made": n, "used": used.get(kind, 0)} for kind, n in made.items()]
    if json:
        about = {k: recipe.get(k) for k in ("method", "base", "made", "used", "dropped", "leaks", "leaked", "allowed",
                                            "compared", "diversity", "said")}  # fmt: skip
        row = {
            "training_set_id": found.id,
            "training_set": found.name,
            "slice_id": found.slice_id,
            "n": len(found.rows),
        }
        printing.print_json({"rows": [row | about], "shown": shown or []})
        return
    train, validation = found.parts()
    printing.print_table(sources, SOURCES, f"Training set {found.id}: {found.name}")
    printing.say(
        f"{len(train)} rows to train on, {len(validation)} to validate on, for {_slice_name(ledger, found)!r}."
    )
    for reason, n in (recipe.get("dropped") or {}).items():
        printing.say(f"Dropped: {n} {reason}.")
    if recipe.get("allowed"):
        printing.say(f"{recipe['leaks']} rows touch evaluated items and were kept: {recipe['allowed']}")
    elif recipe.get("leaks"):
        printing.say(f"Dropped: {recipe['leaks']} that touch evaluated items.")
    for sentence in recipe.get("said") or []:
        printing.say(f"Note: {sentence}")
    for row in shown or []:
        printing.say(f"\n[{row['source']}] {row['prompt']}" + (f"\n  -> {row['answer']}" if row["answer"] else ""))
