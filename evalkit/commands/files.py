"""The commands `import` and `export`: our own file formats and those of published arenas."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evalkit.commands import printing
from evalkit.commands.look import STORE, Json, Store
from evalkit.commands.store import opened, started
from evalkit.errors import UserError

if TYPE_CHECKING:
    from evalkit.store import Ledger
    from evalkit.store.formats.foreign import Imported

OURS = ("responses", "grades", "votes", "scores")
IMPORTS = (*OURS, "mt-bench", "llmfao", "alpaca-eval", "fastchat", "arena-hard", "preferences")
EXPORTS = (*OURS, "mt-bench", "alpaca-eval", "fastchat", "preferences")
Kind = Literal["human", "judge"]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="import")(import_files)
    app.command()(export)


def import_files(
    kind: Annotated[str, typer.Argument(help=f"What they hold: {', '.join(IMPORTS)}.")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files or folders; OWNER/NAME@REVISION.")],
    annotator_kind: Annotated[
        Kind | None,
        typer.Option("--annotator-kind", help="Who judged, of alpaca-eval and preferences that do not say."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Arena-Hard's baseline model, where files lack it.")] = None,
    split: Annotated[str, typer.Option(help="Split of a preference set on the hub.")] = "train",
    store: Store = STORE,
    json: Json = False,
) -> None:
    """Read files into the ledger; what is in there already is not added twice.

    Preferences may also be a set on the Hugging Face hub, at a pinned revision.
    """
    if kind not in IMPORTS:
        raise UserError(f"there is no kind {kind!r} to import; kinds are: {', '.join(IMPORTS)}", code=2)
    for name, value, where in (
        ("--annotator-kind", annotator_kind, ("alpaca-eval", "preferences")),
        ("--baseline", baseline, ("arena-hard",)),
    ):
        if value is not None and kind not in where:
            raise UserError(f"{name} is for {' and '.join(where)}, not for {kind}", code=2)
    with tempfile.TemporaryDirectory() as folder:
        files, hub = _files(kind, paths, split, Path(folder))
        if kind in OURS:
            _import_ours(kind, files, store, json)
            return
        read = _reader(kind, annotator_kind, baseline, hub)
        with started(store) as ledger:
            found = read(ledger, files)
    _print(found, f"Read {', '.join(paths)} into {store}", json)


def _files(kind: str, paths: Sequence[str], split: str, folder: Path) -> tuple[list[Path], str]:
    """Returns the files, and the name of the set where they were fetched from the hub."""
    missing = [path for path in paths if not Path(path).exists()]
    if kind == "preferences" and missing == list(paths) and all(path.count("/") == 1 for path in paths):
        from evalkit.store.formats.hub import fetch

        if len(paths) > 1:
            raise UserError("one set on the hub at a time", code=2)
        return [fetch(paths[0], split, folder)], paths[0]
    if missing:
        raise UserError(f"there is no file or folder {missing[0]}", code=2)
    return [Path(path) for path in paths], ""


def _import_ours(kind: str, files: Sequence[Path], store: str, json: bool) -> None:
    from evalkit.store.formats import generic

    read = getattr(generic, f"import_{kind}")
    with started(store) as ledger:
        counts = [read(ledger, file) for file in files]
    if json:
        printing.print_json({"rows": [{"what": kind, "read": sum(counts)}]})
        return
    for n, file in zip(counts, files, strict=True):
        printing.say(f"Read {n} {kind} from {file} into {store}")


def _reader(
    kind: str, annotator_kind: Kind | None, baseline: str | None, hub: str
) -> Callable[[Ledger, Sequence[Path]], Imported]:
    """Returns the importer of a published format with its options."""
    if kind == "mt-bench":
        from evalkit.store.formats.mt_bench import import_mt_bench

        return import_mt_bench
    if kind == "llmfao":
        from evalkit.store.formats.llmfao import import_llmfao

        return import_llmfao
    if kind == "alpaca-eval":
        from evalkit.store.formats.alpaca_eval import import_alpaca_eval

        return lambda ledger, files: import_alpaca_eval(ledger, files, annotator_kind or "judge")
    if kind == "fastchat":
        from evalkit.store.formats.fastchat import import_fastchat

        return import_fastchat
    if kind == "arena-hard":
        from evalkit.store.formats.arena_hard import import_arena_hard

        return lambda ledger, files: import_arena_hard(ledger, files, baseline)
    from evalkit.store.formats.preferences import import_preferences

    return lambda ledger, files: import_preferences(ledger, files, annotator_kind, hub)


def _print(found: Imported, title: str, json: bool) -> None:
    rows = [printing.plain(line) for line in found.lines]
    if json:
        printing.print_json({"rows": rows, "skipped": found.skipped, "notes": found.notes})
        return
    printing.say(title)
    printing.print_table(rows, {"what": "what", "read": "read", "new": "new", "errors": "failures"})
    for reason, n in found.skipped.items():
        printing.say(f"Skipped: {n} x {reason}.")
    for note in found.notes:
        printing.say(f"Note: {note}")


def export(
    kind: Annotated[str, typer.Argument(help=f"What to write: {', '.join(EXPORTS)}.")],
    file: Annotated[
        Path, typer.Argument(help="CSV, JSONL, JSON or Parquet, by its ending; a folder for mt-bench and alpaca-eval.")
    ],
    annotator: Annotated[
        str | None, typer.Option(help="Pattern of the names whose verdicts become preferences; by default all.")
    ] = None,
    store: Store = STORE,
    json: Json = False,
) -> None:
    """Write responses, grades, votes or scores to a file, or the ledger in a published format."""
    if kind not in EXPORTS:
        raise UserError(f"there is no kind {kind!r} to export; kinds are: {', '.join(EXPORTS)}", code=2)
    if annotator is not None and kind != "preferences":
        raise UserError(f"--annotator is for preferences, not for {kind}", code=2)
    left: dict[str, int] = {}
    with opened(store) as ledger:
        if kind in OURS:
            from evalkit.store.formats import generic

            n = getattr(generic, f"export_{kind}")(ledger, file)
        else:
            n, left = _writer(kind, annotator)(ledger, file)
    if json:
        printing.print_json({"rows": [{"what": kind, "written": n}], "left_out": left})
        return
    printing.say(f"Wrote {n} {kind if kind in OURS else 'rows'} to {file}")
    for reason, count in left.items():
        printing.say(f"Left out: {count} {reason}.")


def _writer(kind: str, annotator: str | None) -> Callable[[Ledger, Path], Any]:
    """Returns the exporter of a published format with its options."""
    if kind == "mt-bench":
        from evalkit.store.formats.mt_bench_out import export_mt_bench

        return export_mt_bench
    if kind == "alpaca-eval":
        from evalkit.store.formats.alpaca_eval import export_alpaca_eval

        return export_alpaca_eval
    if kind == "fastchat":
        from evalkit.store.formats.fastchat import export_fastchat

        return export_fastchat
    from evalkit.store.formats.preferences import export_preferences

    return lambda ledger, file: export_preferences(ledger, file, annotator or "*")
