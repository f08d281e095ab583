"""The command `merge`: models of one architecture into one, from mergekit's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands import printing
from evalkit.commands.look import STORE, Json, Store
from evalkit.commands.store import started


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(merge)


def merge(
    config: Annotated[Path, typer.Argument(help="What to merge: YAML as for mergekit.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new model; must not be there yet.")],
    name: Annotated[str, typer.Option(help="What boards call it; by default the folder's name.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the random draws of dare_linear and dare_ties.")] = 0,
    store: Store = STORE,
    json: Json = False,
) -> None:
    """Merge models without training: linear, slerp, task_arithmetic, ties, dare_linear, dare_ties.

    The ledger gets the new model with its parents.
    """
    from evalkit.engine.progress import RichProgress
    from trainers.merging import merge as run_merge
    from trainers.merging_config import read_merge
    from trainers.merging_models import register_merge

    wanted = read_merge(config)
    with started(store) as ledger:
        merged = run_merge(wanted, folder, seed=seed, ledger=ledger, progress=RichProgress())
        model_id = register_merge(ledger, merged, name)
    parents = [source.reference for source in merged.sources]
    if json:
        row = {"model_id": model_id, "folder": str(folder), "method": wanted.merge_method, "parents": parents,
               "tensors": merged.tensors, "bytes": merged.n_bytes, "files": merged.files,
               "seconds": merged.seconds}  # fmt: skip
        printing.print_json({"rows": [row]})
        return
    files = f"{merged.files} file{'s' if merged.files > 1 else ''}"
    printing.say(
        f"Merged {' and '.join(parents)} into {folder} ({wanted.merge_method}, {merged.tensors} tensors, "
        f"{merged.n_bytes / 1e6:,.1f} MB in {files}, {merged.seconds:.1f} s)."
    )
    printing.say(f"It is model {model_id} of {store}; in a plan: model: hf/{folder}")
