"""The command `leaderboard`: ratings from a ledger or straight from a votes file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evalkit.commands import look, printing
from evalkit.commands.corrected import corrected_board
from evalkit.commands.protocol import protocol_board
from evalkit.commands.store import opened
from evalkit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import Ratings

GroupBy = Literal["turn", "criterion", "category"]
Votes = Annotated[Path | None, typer.Option("--votes", help="Votes file (CSV, JSONL, Parquet) instead of a ledger.")]
Group = Annotated[GroupBy | None, typer.Option("--group-by", help="Rows for each value of this column.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn at random.")]
FACTS = ("method", "ties", "both_bad", "reference", "prior", "interval", "ranks", "confidence", "n")


def leaderboard(
    votes: Votes = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="Count only this judge's or voter's votes; several times; or a pattern, gpt4_*."),
    ] = None,
    criterion: Annotated[
        str | None, typer.Option(help="What was judged; in a ledger by default overall, in a file all.")
    ] = None,
    ties: Annotated[
        Literal["half", "davidson", "rao-kupper", "drop"],
        typer.Option(help="A tie is half a win, an outcome of its own (two models of it), or not used."),
    ] = "half",
    both_bad: Annotated[
        Literal["half", "drop"] | None, typer.Option("--both-bad", help="Half a win or not used; by default as ties.")
    ] = None,
    cluster: Annotated[
        Literal["annotator", "item_id"] | None,
        typer.Option(help="Whose votes are alike; in a ledger by default item_id."),
    ] = None,
    min_votes: Annotated[int, typer.Option("--min-votes", min=0, help="Leave out models with fewer votes.")] = 1,
    anchor: Annotated[str | None, typer.Option(help="Model whose rating is 1000; by default the mean is.")] = None,
    interval: Annotated[
        Literal["sandwich", "bootstrap"], typer.Option(help="How the intervals are made.")
    ] = "sandwich",
    ranks: Annotated[
        Literal["family-wise", "false-discovery", "overlap"],
        typer.Option(help="The error rate of the rank ranges; overlap is the legacy rule."),
    ] = "family-wise",
    prior: Annotated[
        Literal["none", "empirical-bayes"], typer.Option(help="empirical-bayes for boards with few votes a model.")
    ] = "none",
    group_by: Group = None,
    style: Annotated[
        str | None,
        typer.Option(help="Ratings at equal style: features, with commas, such as tokens,headers,bold,lists."),
    ] = None,
    responses: Annotated[
        Path | None,
        typer.Option(help="Responses file to count tokens, headers, bold and lists in; else columns tokens_a, ..."),
    ] = None,
    online_elo: Annotated[
        float | None, typer.Option("--online-elo", metavar="K", help="Elo vote by vote with this K instead.")
    ] = None,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="The judges' board beside the same corrected with the human votes.")
    ] = False,
    humans: Annotated[str, typer.Option(help="With --corrected: pattern of the humans' names.")] = "*",
    protocol: Annotated[
        Literal["alpaca-eval", "arena-hard"] | None, typer.Option(help="Win rates as this protocol makes them.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="With --protocol: the model that win rates are against.")] = None,
    seed: Seed = 0,
    store: look.Store = look.STORE,
    json: look.Json = False,
) -> None:
    """Print the leaderboard of all battles in the ledger or a votes file: Bradley-Terry ratings, intervals, ranks."""
    options: dict[str, Any] = {
        "ties": ties, "both_bad": both_bad, "cluster": cluster, "min_votes": min_votes, "anchor": anchor,
        "interval": interval, "ranks": ranks, "prior": prior, "seed": seed,
    }  # fmt: skip
    only_files = {"--style": style, "--responses": responses, "--online-elo": online_elo}
    if protocol is not None:
        other = {**only_files, "--group-by": group_by, "--anchor": anchor, "--corrected": corrected or None}
        wrong = [name for name, value in other.items() if value is not None]
        if wrong:
            raise UserError(f"--protocol is a board of its own; leave {wrong[0]} out", code=2)
        protocol_board(votes, store, judge, criterion, protocol, baseline, seed, json)
        return
    if baseline is not None:
        raise UserError("--baseline says whom a protocol's win rates are against; give --protocol with it", code=2)
    if corrected:
        other = {**only_files, "--group-by": group_by}
        wrong = [name for name, value in other.items() if value is not None]
        if wrong:
            raise UserError(f"--corrected is a board of its own; leave {wrong[0]} out", code=2)
        corrected_board(votes, store, judge, humans, criterion, options, json)
        return
    if humans != "*":
        raise UserError("--humans says whose votes correct a judge's board; give --corrected with it", code=2)
    if votes is None:
        wrong = [name for name, value in only_files.items() if value is not None]
        if wrong:
            raise UserError(f"{wrong[0]} needs a votes file: --votes FILE (evalkit export votes writes one)", code=2)
        _of_ledger(store, judge, criterion or "overall", group_by, options, json)
        return
    given = sum(value is not None for value in (style, online_elo, group_by))
    if given > 1:
        raise UserError("--style, --online-elo and --group-by each make a board of their own; give one", code=2)
    features = [name.strip() for name in (style or "").split(",") if name.strip()]
    if responses is not None and not features:
        raise UserError("--responses is what --style counts in; name features, such as --style tokens,headers", code=2)
    frame, notes = _read(votes, judge, criterion, group_by, [] if responses else features)
    if cluster is None and online_elo is None:
        notes += _alike(frame)
    if group_by:
        from evalkit.stats import grouped_ratings

        found = grouped_ratings(frame, group_by, **options)
        _show_groups(found.boards, [*notes, *found.warnings], group_by, votes.name, json)
    elif features:
        _styled(frame, features, responses, options, notes, votes.name, json)
    elif online_elo is not None:
        _elo(frame, online_elo, both_bad, notes, votes.name, json)
    else:
        from evalkit.stats import bradley_terry

        ratings = bradley_terry(frame, **options)
        _show(ratings, [*notes, *ratings.warnings], f"Leaderboard ({votes.name})", json)


def _read(
    path: Path, judges: list[str] | None, criterion: str | None, group_by: str | None, features: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The votes asked for, and what their reader must know."""
    from fnmatch import fnmatchcase

    from evalkit.stats.votes import list_names
    from evalkit.store.formats.generic import read_votes

    sides = [f"{name}_{side}" for name in features for side in ("a", "b")]
    frame = read_votes(path, need=[group_by] if group_by else [], numeric=sides)
    notes = []
    if judges:
        names = frame["annotator"].unique()
        for pattern in judges:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(f"{path}: no annotator fits {pattern!r}; there are {list_names(sorted(names))}", code=2)
        chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in judges)]
        frame = frame[frame["annotator"].isin(chosen)]
    if criterion is not None:
        there = sorted(frame["criterion"].unique()) if "criterion" in frame.columns else ["overall"]
        if criterion not in there:
            raise UserError(f"{path}: nothing was judged on {criterion!r}; criteria are {list_names(there)}", code=2)
        frame = frame[frame["criterion"] == criterion] if "criterion" in frame.columns else frame
    elif group_by != "criterion" and "criterion" in frame.columns and frame["criterion"].nunique() > 1:
        there = sorted(frame["criterion"].unique())
        notes.append(f"Votes on {len(there)} criteria ({list_names(there)}) are one board; choose with --criterion.")
    kinds = frame["annotator_kind"].value_counts()
    if len(kinds) > 1:
        both = f"{kinds['human']} votes of humans and {kinds['judge']} of judges"
        notes.append(f"{both} count alike; choose with --judge.")
    if "order" in frame.columns and frame["order"].nunique() > 1 and (frame["annotator_kind"] == "judge").any():
        notes.append("A judge's verdicts in both orders of a battle are two votes; --cluster item_id allows for it.")
    return frame.reset_index(drop=True), notes


def _alike(frame: pd.DataFrame) -> list[str]:
    """Says where votes that share an item or a voter are taken as independent."""
    notes = []
    for column, what in (("item_id", "on {} items"), ("annotator", "of {} annotators")):
        count = frame[column].nunique()
        if 1 < count <= len(frame) / 2:
            shared = f"{len(frame)} votes {what.format(count)}, taken as independent"
            notes.append(f"{shared}: intervals are too narrow without --cluster {column}.")
    return notes


def _of_ledger(
    store: str, judges: list[str] | None, criterion: str, group_by: GroupBy | None, options: dict[str, Any], json: bool
) -> None:
    from evalkit.report.board import leaderboard as board_of
    from evalkit.report.on_ledger import grouped_leaderboard

    with opened(store) as ledger:
        if group_by:
            found = grouped_leaderboard(ledger, group_by, judges=judges, criterion=criterion, **options)
        else:
            board = board_of(ledger, judges=judges, criterion=criterion, **options)
    if group_by:
        _show_groups(found.boards, list(found.warnings), group_by, store, json)
    elif json:
        printing.print_json(board)
    else:
        look.print_board(board)


# -- what is printed ----------------------------------------------------------------------------------------------


def _show(ratings: Ratings, warnings: list[str], title: str, json: bool) -> None:
    if json:
        printing.print_json({"rows": _rows(ratings), **_facts(ratings), "warnings": warnings})
        return
    _print_rows(_rows(ratings), title)
    _print_facts(ratings)
    printing.note(warnings)


def _show_groups(boards: Mapping[str, Ratings], warnings: list[str], by: str, title: str, json: bool) -> None:
    if json:
        rows = [{"group": group} | row for group, board in boards.items() for row in _rows(board)]
        shared = _facts(next(iter(boards.values()))) if boards else {}
        groups = [{"group": group, "n": board.n, "interval": board.interval} for group, board in boards.items()]
        n = sum(board.n for board in boards.values())
        printing.print_json({"rows": rows, **shared, "n": n, "by": by, "groups": groups, "warnings": warnings})
        return
    for group, board in boards.items():
        _print_rows(_rows(board), f"Leaderboard ({title}, {by} {group}, {board.n} votes)")
    if boards:
        _print_facts(next(iter(boards.values())), groups=True)
    printing.note(warnings)


def _styled(
    frame: pd.DataFrame,
    features: list[str],
    responses: Path | None,
    options: dict[str, Any],
    notes: list[str],
    title: str,
    json: bool,
) -> None:
    from evalkit.stats.style import style_control
    from evalkit.stats.style_features import battle_features
    from evalkit.store.formats.generic import read_responses

    refused = {"interval": "sandwich", "prior": "none"}
    for name, value in refused.items():
        if options.pop(name) != value:
            raise UserError(f"--style has --{name} {value} only", code=2)
    chosen: pd.DataFrame | list[str] = features
    if responses is not None:
        texts = read_responses(responses)
        texts = texts[texts["sample"] == 0]
        counted = battle_features(frame, texts.assign(response=texts["response"].where(texts["error_kind"] == "")))
        there = sorted({str(name)[:-2] for name in counted.columns})
        wrong = [name for name in features if name not in there]
        if wrong:
            raise UserError(f"no style feature {wrong[0]!r} is counted in texts; there are {', '.join(there)}", code=2)
        chosen = counted[[f"{name}_{side}" for name in features for side in ("a", "b")]]
    found = style_control(frame, chosen, **options)
    rows = printing.records(found.frame())
    coefficients = printing.records(found.coefficients_frame())
    warnings = [*notes, *found.warnings]
    if json:
        facts = _facts(found.ratings) | {"normalisation": found.normalisation, "shrinkage": found.shrinkage}
        printing.print_json({"rows": rows, **facts, "coefficients": coefficients, "warnings": warnings})
        return
    _print_rows(rows, f"Leaderboard at equal style ({title})", {"change": "change:+.0f"})
    columns = {
        "feature": "feature", "coefficient": "log-odds:.3f", "lower": "from:.3f", "upper": "to:.3f",
        "p_value": "p:.2g", "elo": "points:.1f",
    }  # fmt: skip
    printing.print_table(coefficients, columns, title="What style is worth")
    _print_facts(found.ratings)
    printing.say(f"Differences of style: {found.normalisation}; shrinkage: {found.shrinkage}.")
    printing.note(warnings)


def _elo(frame: pd.DataFrame, k: float, both_bad: Any, notes: list[str], title: str, json: bool) -> None:
    from evalkit.stats.elo import online_elo

    found = online_elo(frame, k=k, both_bad=both_bad or "half")
    nothing = dict.fromkeys(("lower", "upper", "rank_low", "rank_high"))
    rows = [
        {"model": model, "rating": float(rating), **nothing, "votes": int(votes)}
        for model, rating, votes in zip(found.models, found.rating, found.votes, strict=True)
    ]
    warnings = [*notes, *found.warnings, "Online Elo depends on the order of the votes and has no interval."]
    if json:
        facts = {"method": found.method, "ties": found.ties, "both_bad": found.both_bad, "n": found.n}
        facts |= {"reference": f"every model starts at {found.initial:g}", "order": found.order}
        printing.print_json({"rows": rows, **facts, "warnings": warnings})
        return
    columns = {"model": "model", "rating": "rating:.0f", "votes": "votes"}
    printing.print_table(rows, columns, title=f"Leaderboard ({title})")
    printing.say(f"{found.method}, votes in the order {found.order}, ties: {found.ties}, {found.n} votes.")
    printing.note(warnings)


def _rows(ratings: Ratings) -> list[dict[str, Any]]:
    return printing.records(ratings.frame())


def _facts(ratings: Ratings) -> dict[str, Any]:
    facts = {
        name: getattr(ratings, name)
        for name in (*FACTS, "n_excluded", "n_dropped", "n_ties", "n_both_bad", "tie_parameter")
    }
    return facts | {"significance_groups": ratings.groups()}


def _print_rows(rows: list[dict[str, Any]], title: str, more: Mapping[str, str] | None = None) -> None:
    for row in rows:
        low, high = row["rank_low"], row["rank_high"]
        row["rank"] = str(low) if low == high else f"{low}-{high}"
    printing.print_table(rows, {**look.BOARD, "votes": "votes", **(more or {})}, title=title)


def _print_facts(ratings: Ratings, groups: bool = False) -> None:
    """What was done; of several boards, without what differs from one to the next."""
    counted = "a board of its own for each group" if groups else f"{ratings.n} votes"
    interval = ratings.interval.partition(", t with")[0] if groups else ratings.interval
    tie = ratings.tie_parameter
    parts = [
        f"{ratings.method}, ties: {ratings.ties}, both_bad: {ratings.both_bad}, reference: {ratings.reference}",
        counted if groups else f"{counted}, {ratings.n_dropped} dropped by these policies",
        f"intervals: {interval}",
        f"ranks: {ratings.ranks}",
    ]
    if ratings.prior != "none":
        parts.append(f"prior: {ratings.prior}")
    if tie is not None and not groups:
        parts.append(f"{tie.name} = {tie.value:.3f} ({tie.lower:.3f} to {tie.upper:.3f})")
    printing.say("; ".join(parts) + ".")
