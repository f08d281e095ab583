"""The commands that correlate and compare: `correlate`, `compare-boards`, `compare` and `power`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evalkit.commands import board, look, printing
from evalkit.commands.store import opened
from evalkit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import PowerAnalysis
    from evalkit.stats.power import Design

Test = Literal["share", "two-shares", "win-rate", "elo", "elo-board"]
Grades = Annotated[Path | None, typer.Option("--grades", help="Grades file instead of a ledger.")]
Annotators = Annotated[
    str, typer.Option("--annotators", help="Only grades of annotators whose names fit this pattern.")
]
Cluster = Annotated[str | None, typer.Option(help="Column of the file with the group that an item belongs to.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(correlate)
    app.command(name="compare-boards")(compare_boards)
    app.command()(compare)
    app.command()(power)


def correlate(
    scores: Annotated[Path | None, typer.Option("--scores", help="Score table instead of a ledger.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Column to correlate all others with; a file: by default all pairs, a ledger: its board."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the matrix as a picture, an SVG file.")] = None,
    method: Annotated[
        Literal["pearson", "spearman", "kendall"], typer.Option(help="Coefficient in the picture.")
    ] = "spearman",
    seed: board.Seed = 0,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """Correlate score columns over models: Pearson, Spearman, Kendall, with intervals."""
    from evalkit.stats import correlate as correlate_columns

    if plot is not None and plot.suffix != ".svg":
        raise UserError(f"{plot}: the picture is an SVG file; give a name that ends in .svg", code=2)
    notes: tuple[str, ...] = ()
    if scores is not None:
        from evalkit.store.formats.generic import read_scores

        table = read_scores(scores)
    else:
        from evalkit.report.board import RATING
        from evalkit.report.on_ledger import ledger_scores

        with opened(store) as ledger:
            table, notes = ledger_scores(ledger)
        reference = reference or (RATING if RATING in table.columns else None)
    found = correlate_columns(table, reference=reference, seed=seed)
    if plot is not None:
        from evalkit.report.correlation_plot import correlation_svg

        try:
            plot.write_text(correlation_svg(found.matrix(method)), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{plot} cannot be written: {error.strerror or error}") from error
    rows, warnings = printing.records(found.frame()), [*notes, *found.warnings]
    if json:
        printing.print_json({"rows": rows, "interval": found.interval, "reference": reference, "warnings": warnings})
        return
    shown = []
    for row in rows:
        cells = {name: _interval(row, name) for name in ("pearson", "spearman", "kendall")}
        shown.append({"a": row["a"], "b": row["b"], "n": row["n"], **cells})
    columns = {"a": "scores", "b": "with", "n": "n", "pearson": "Pearson", "spearman": "Spearman", "kendall": "Kendall"}
    if reference is not None:
        del columns["b"]
    with_whom = f" with {reference}" if reference is not None else ""
    printing.print_table(shown, columns, title=f"Correlation{with_whom} over models")
    printing.say(f"n: models with both scores; intervals: {found.interval}.")
    printing.note(warnings)
    if plot is not None:
        printing.say(f"Picture: {plot.resolve()}")


def compare_boards(
    benchmark: Annotated[Path, typer.Argument(help="Board with columns model, rating, lower, upper.")],
    reference: Annotated[Path, typer.Argument(help="The board to hold it against, the same columns.")],
    seed: board.Seed = 0,
    json: look.Json = False,
) -> None:
    """Hold one leaderboard against another: separability, agreement with confidence, rank correlations."""
    from evalkit.stats import compare_boards as compare_two
    from evalkit.store.formats.generic import read_board

    found = compare_two(read_board(benchmark), read_board(reference), seed=seed)
    rows = printing.records(found.frame())
    if json:
        facts = {"definition": found.definition, "n_pairs": found.n_pairs, "warnings": found.warnings}
        printing.print_json({"rows": rows, **facts})
        return
    row = rows[0]
    told = {
        "separability": "separability", "reference_separability": "separability of the reference",
        "agreement_with_confidence": "agreement with confidence", "pair_rank_brier": "pair-rank Brier score",
        "spearman": "Spearman", "kendall": "Kendall", "n_models": "models on both boards",
    }  # fmt: skip
    lines = []
    for name, words in told.items():
        value = row[name]
        text = _interval(row, name) if f"{name}_lower" in row else f"{value:.3f}" if isinstance(value, float) else value
        lines.append({"measure": words, "value": text})
    printing.print_table(lines, {"measure": "measure", "value": "value"}, title=f"{benchmark} against {reference}")
    printing.say(found.definition + ".")
    printing.note(list(found.warnings))


def compare(
    model_a: Annotated[str, typer.Argument(metavar="A", help="A model, by its name on boards.")],
    model_b: Annotated[str, typer.Argument(metavar="B", help="The model to compare it with.")],
    grades: Grades = None,
    annotators: Annotators = "*",
    cluster: Cluster = None,
    seed: board.Seed = 0,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """Compare two models on the same items: paired difference, its interval, McNemar's and a permutation test."""
    from evalkit.stats import compare_criteria

    frame, notes = _grades(grades, store, annotators, cluster)
    found = compare_criteria(frame, model_a, model_b, cluster=cluster, seed=seed)
    rows, warnings = printing.records(found.frame()), [*notes, *found.warnings]
    if json:
        facts = {"model_a": model_a, "model_b": model_b, "definition": found.definition, "warnings": warnings}
        printing.print_json({"rows": rows, **facts})
        return
    columns = {
        "metric": "metric", "n": "n", "mean_a": "A:.3f", "mean_b": "B:.3f", "difference": "A - B:+.3f",
        "lower": "from:+.3f", "upper": "to:+.3f", "p_value": "p:.2g", "mcnemar_p": "McNemar p:.2g",
    }  # fmt: skip
    printing.print_table(rows, columns, title=f"A: {model_a}, B: {model_b}")
    printing.say(found.definition + ".")
    printing.note(warnings)


def power(
    model_a: Annotated[str | None, typer.Argument(metavar="A", help="A model with grades, to plan with these.")] = None,
    model_b: Annotated[str | None, typer.Argument(metavar="B", help="The model to compare it with.")] = None,
    grades: Grades = None,
    annotators: Annotators = "*",
    cluster: Cluster = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers of each model to an item, with A and B.")] = 1,
    test: Annotated[
        Test | None,
        typer.Option(
            help="Without models: a share against --base, two shares, a win rate against 1/2, an Elo difference "
            "from votes between the two models (elo) or against others (elo-board)."
        ),
    ] = None,
    base: Annotated[float, typer.Option(min=0, max=1, help="The share to differ from.")] = 0.5,
    tie_rate: Annotated[float, typer.Option("--tie-rate", min=0, max=1, help="Expected share of ties.")] = 0.0,
    effect: Annotated[
        float | None, typer.Option(help="Difference to find, shares as 0 to 1, Elo in points: how many are needed?")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Items or votes: what difference do they find?")] = None,
    alpha: Annotated[float, typer.Option(help="Level of the two-sided test.")] = 0.05,
    chance: Annotated[float, typer.Option("--power", help="Chance of finding the effect.")] = 0.8,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """Plan a comparison: how many items or votes an effect needs, or what effect a number of them finds."""
    from evalkit.stats import MeanTest, variance_components

    if (model_a is None) == (test is None) or (model_a is not None and model_b is None):
        raise UserError("name two models with grades, evalkit power A B, or a test, evalkit power --test elo", code=2)
    designs: list[tuple[str, Design, int | None]] = []
    notes: list[str] = []
    if model_a is not None and model_b is not None:
        frame, notes = _grades(grades, store, annotators, cluster)
        both = frame[frame["model"].isin([model_a, model_b])]
        for name in (model_a, model_b):
            if name not in set(both["model"]):
                raise UserError(f"there is no grade of the model {name!r}")
        for criterion, part in both.groupby("criterion", sort=True):
            if part["model"].nunique() < 2:
                notes.append(f"{criterion}: only one of the two models has grades of it; left out.")
                continue
            found = variance_components(part, model_a, model_b, cluster=cluster)
            designs.append((str(criterion), MeanTest(found, samples_a=samples, samples_b=samples), found.n))
        if not designs:
            raise UserError(f"{model_a!r} and {model_b!r} have no criterion in common; nothing can be planned")
    else:
        if effect is None and n is None:
            raise UserError("give --effect (how many are needed?), --n (what do they find?), or both", code=2)
        designs.append((str(test), _design(str(test), base, tie_rate), None))
    rows, definitions = [], []
    for name, design, here in designs:
        row, result = _plan(design, effect, here if n is None and effect is None else n, alpha, chance)
        rows.append({"metric": name, **row})
        definitions.append(result.definition)
        notes += [f"{name}: {sentence}" for sentence in result.warnings]
    if json:
        printing.print_json({"rows": rows, "definition": definitions[0], "warnings": notes})
        return
    columns = {
        "metric": "metric", "effect": "effect:.4g", "n": "n", "unit": "of", "alpha": "alpha:g", "power": "power:.3g"
    }  # fmt: skip
    given = "Power" if effect is not None and n is not None else "Needed" if effect is not None else "Smallest effect"
    printing.print_table(rows, columns, title=f"{given} (two-sided test)")
    printing.say(definitions[0] + ".")
    printing.note(notes)


def _design(test: str, base: float, tie_rate: float) -> Design:
    from evalkit.stats import EloTest, ShareTest, WinRateTest

    if test in ("share", "two-shares"):
        return ShareTest(base, two_groups=test == "two-shares")
    if test == "win-rate":
        return WinRateTest(tie_rate)
    return EloTest(tie_rate, "each other" if test == "elo" else "others")


def _plan(
    design: Design, effect: float | None, n: int | None, alpha: float, chance: float
) -> tuple[dict[str, Any], PowerAnalysis]:
    """The row, and what it rests on: power if both effect and n are given, else the one that is not."""
    from evalkit.stats import achieved_power, minimum_detectable_effect, sample_size

    if effect is None:
        result = minimum_detectable_effect(design, n or 0, alpha=alpha, power=chance)
    else:
        result = sample_size(design, effect, alpha=alpha, power=chance)
    row = {name: printing.plain(getattr(result, name)) for name in ("effect", "n", "unit", "alpha", "power")}
    if effect is not None and n is not None:
        row |= {"n": n, "power": achieved_power(design, effect, n, alpha=alpha)}
    return row, result


def _grades(path: Path | None, store: str, annotators: str, cluster: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Grades with a model; in a ledger a metric is named with its task."""
    from fnmatch import fnmatchcase

    from evalkit.stats.votes import list_names
    from evalkit.store.formats.generic import ledger_grades, read_grades

    if path is not None:
        frame = read_grades(path, need=["model", *([cluster] if cluster else [])])
    elif cluster is not None:
        raise UserError("--cluster is a column of a file: give --grades FILE as well", code=2)
    else:
        with opened(store) as ledger:
            frame = ledger_grades(ledger)
        measured = frame["annotator_kind"] == "metric"
        named = frame["annotator"].where(measured, frame["annotator"] + " " + frame["criterion"])
        frame = frame.assign(criterion=named)
    names = sorted(frame["annotator"].unique())
    chosen = [name for name in names if fnmatchcase(name, annotators)]
    if names and not chosen:
        raise UserError(f"no annotator fits {annotators!r}; there are {list_names(names)}", code=2)
    frame = frame[frame["annotator"].isin(chosen)].reset_index(drop=True)
    if cluster is not None:
        mixed = frame.groupby("item_id")[cluster].nunique(dropna=False)
        if (mixed > 1).any():
            item = mixed.index[mixed > 1][0]
            raise UserError(f"{path}, column {cluster!r}: item {item!r} is in several groups; an item belongs to one")
    judged = frame.groupby("criterion")["annotator"].nunique()
    shared = [str(name) for name in judged.index[judged > 1]]
    note = f"Grades by several annotators are averaged for each item ({list_names(shared)}); choose with --annotators."
    return frame, [note] if shared else []


def _interval(row: dict[str, Any], name: str) -> str:
    """A coefficient with its limits, in few letters."""
    value, low, high = (row[key] for key in (name, f"{name}_lower", f"{name}_upper"))
    if value is None:
        return "undefined"
    return f"{value:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")
