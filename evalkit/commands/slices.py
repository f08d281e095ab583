"""The command `slices`: where a model fails more than elsewhere, found on one half and confirmed on the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands import printing
from evalkit.commands.look import STORE, Json, Run, Store
from evalkit.commands.store import opened, run_id
from evalkit.errors import UserError

if TYPE_CHECKING:
    from evalkit.slices.found import Discovery, FoundSlice
    from evalkit.slices.tree import Namer, Tree
    from evalkit.store import Ledger

COLUMNS = {
    "id": "id", "name": "slice", "failed": "failed", "rest": "elsewhere", "effect": "effect:+.2f", "lower": "from:+.2f",
    "upper": "to:+.2f", "q": "q:.2g", "stability": "found again:.0%", "support": "prompts",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(slices)


def slices(
    run: Run = None,
    model: Annotated[
        str | None, typer.Option(help="A model, by its name on boards; by default each of the run.")
    ] = None,
    min_support: Annotated[
        int | None,
        typer.Option(
            "--min-support", min=2, help="Answers a slice must have in the half searched; default 2%, 5 to 30."
        ),
    ] = None,
    q: Annotated[
        float, typer.Option("--q", min=0, max=1, help="Share of false discoveries allowed among confirmed slices.")
    ] = 0.1,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples to see which slices are found again; 0 leaves that out.")
    ] = 20,
    min_stability: Annotated[
        float, typer.Option("--min-stability", min=0, max=1, help="Drop slices found again in fewer of them.")
    ] = 0.5,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=VALUE", help="Do not search: measure and store this slice; several features with several."
        ),
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Print the capability tree as well.")] = False,
    namer: Annotated[
        str | None, typer.Option(help="Model that names the groups of the tree, such as openai/NAME; default: terms.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of halves not given yet, resamples and permutations.")] = 0,
    store: Store = STORE,
    json: Json = False,
) -> None:
    """Find failure slices: groups of prompts that a model fails more than the rest, confirmed on held-out prompts.

    Confirmed slices are stored, to retrain on and to measure with.
    """
    from evalkit.engine.progress import RichProgress
    from evalkit.slices.discover import SliceSettings, find_slices
    from evalkit.slices.found import store_slices

    found = []
    with opened(store) as ledger, _namer(namer) as named:
        settings = SliceSettings(min_support, q, resamples, min_stability, named, _where(where or ()))
        number = run_id(ledger, run)
        for model_id, name in _models(ledger, number, model).items():
            progress = None if json else RichProgress()
            one = find_slices(ledger, number, model_id, settings=settings, seed=seed, progress=progress)
            found.append((name, store_slices(ledger, one)))
    if json:
        printing.print_json({"run": number, "q": q, "rows": [_record(name, one, tree) for name, one in found]})
        return
    for name, one in found:
        _print(name, one, q, tree=tree, named=bool(where))


def _models(ledger: Ledger, run: int, wanted: str | None) -> dict[int, str]:
    """The run's models, or the one asked for."""
    from evalkit.report.reads import run_models

    with ledger.engine.connect() as connection:
        models = run_models(connection, run)
    if wanted is None:
        return models
    chosen = {key: name for key, name in models.items() if name == wanted}
    if not chosen:
        raise UserError(f"run {run} has no model {wanted!r}; it has {', '.join(models.values()) or 'none'}", code=2)
    return chosen


def _where(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise UserError(f"--where {one!r} is not FEATURE=VALUE, such as topic=fractions", code=2)
        pairs[name.strip()] = value.strip()
    return pairs


def _namer(reference: str | None) -> AbstractContextManager[Namer | None]:
    if reference is None:
        return nullcontext()
    from evalkit.slices.naming import model_namer

    return model_namer(reference)


def _print(model: str, found: Discovery, q: float, *, tree: bool, named: bool) -> None:
    rows = [_row(one) for one in found.slices]
    confirmed = [row for one, row in zip(found.slices, rows, strict=True) if one.confirmed]
    others = [row for one, row in zip(found.slices, rows, strict=True) if not one.confirmed]
    title = "the slice asked for" if named else f"slices confirmed on held-out prompts (q up to {q:g})"
    printing.print_table(confirmed, COLUMNS, title=f"{model}: {title}")
    if others:
        columns = {key: heading for key, heading in COLUMNS.items() if key != "id"}
        printing.print_table(others, columns, title=f"{model}: looked like slices, but not confirmed")
    printing.say(
        f"Searched {found.answers} answers ({_percent(found.failed, found.answers)} failed), slices of "
        f"{found.min_support} or more; all figures are of the other half, {found.held_out} answers "
        f"({_percent(found.held_out_failed, found.held_out)} failed). Effect: failure rate less that elsewhere, with "
        "its 95% interval."
    )
    if any(one.about == "answers" for one in found.slices):
        printing.say("Slices with * describe the answers, not the prompts: they explain, but are nothing to train on.")
    printing.note(found.notes)
    if tree and found.tree is not None:
        printing.say(f"\n{model}: capability tree, failures on the half that was searched")
        for line in tree_lines(found.tree, found.tree_rates):
            printing.say(line)


def _row(one: FoundSlice) -> dict[str, Any]:
    held = one.held_out
    return {
        "id": one.slice_id,
        "name": one.name + (" *" if one.about == "answers" else ""),
        "failed": f"{_percent(held.counts.failed, held.counts.n)} of {held.counts.n}",
        "rest": _percent(held.counts.rest_failed, held.counts.rest_n),
        "effect": held.counts.effect,
        "lower": held.lower,
        "upper": held.upper,
        "q": held.q_value,
        "stability": one.stability,
        "support": len(one.items),
    }


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def tree_lines(tree: Tree, rates: Sequence[tuple[int, int]]) -> list[str]:
    """The tree as indented lines: name, failures and answers of the half that was searched."""
    lines = []

    def add(place: int) -> None:
        node, (n, failed) = tree.nodes[place], rates[place]
        lines.append(f"{'  ' * node.depth}{node.name}: {_percent(failed, n)} of {n}")
        for child in (k for k, other in enumerate(tree.nodes) if other.parent == place):
            add(child)

    add(0)
    return lines


def _record(model: str, found: Discovery, tree: bool) -> dict[str, Any]:
    """A search as JSON, without the items' ids of the held-out half."""
    rows = []
    for one in found.slices:
        held = one.held_out
        rows.append(
            {"slice_id": one.slice_id, "slice": one.name, "where": one.where, "terms": one.terms, "about": one.about,
             "confirmed": one.confirmed, "metric": one.metric, "dataset_id": one.dataset_id,
             "discovery": one.discovery, "held_out": held.counts, "effect": held.counts.effect, "lower": held.lower,
             "upper": held.upper, "p_value": held.p_value, "q_value": held.q_value, "stability": one.stability,
             "support": len(one.items), "examples": one.examples, "also": one.also}
        )  # fmt: skip
    record = {"model": model, "model_id": found.model_id, "slices": rows, "answers": found.answers,
              "failed": found.failed, "held_out": found.held_out, "held_out_failed": found.held_out_failed,
              "min_support": found.min_support, "notes": found.notes}  # fmt: skip
    if tree and found.tree is not None:
        record["tree"] = [
            {"name": node.name, "terms": node.terms, "parent": node.parent, "n": n, "failed": failed}
            for node, (n, failed) in zip(found.tree.nodes, found.tree_rates, strict=True)
        ]
    return record
