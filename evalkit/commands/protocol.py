"""The command `leaderboard --protocol`: win rates against a baseline, as published protocols make them."""

from __future__ import annotations

from pathlib import Path

from evalkit.commands import printing
from evalkit.commands.store import opened
from evalkit.errors import UserError


def protocol_board(
    votes: Path | None,
    store: str,
    judges: list[str] | None,
    criterion: str | None,
    protocol: str,
    baseline: str | None,
    seed: int,
    json: bool,
) -> None:
    """Prints the board of a protocol from a votes file or a ledger.

    Raises:
        UserError: No baseline, an unknown judge or criterion, or no votes left.
    """
    from fnmatch import fnmatchcase

    from evalkit.stats.protocols import alpaca_eval, arena_hard
    from evalkit.stats.votes import list_names
    from evalkit.store.formats.votes import ledger_votes, read_votes

    if baseline is None:
        raise UserError(f"--protocol {protocol} is a board of win rates: say against whom, --baseline MODEL", code=2)
    if votes is not None:
        where, frame = str(votes), read_votes(votes)
    else:
        with opened(store) as ledger:
            where, frame = store, ledger_votes(ledger)
    for pattern in judges or []:
        if not any(fnmatchcase(name, pattern) for name in frame["annotator"].unique()):
            there = list_names(sorted(frame["annotator"].unique()), like=pattern) or "none"
            raise UserError(f"{where}: no annotator fits {pattern!r}; there are {there}", code=2)
    if judges:
        frame = frame[[any(fnmatchcase(name, pattern) for pattern in judges) for name in frame["annotator"]]]
    if criterion is None and votes is None:
        criterion = "overall"
    if criterion is not None:
        frame = frame if "criterion" in frame.columns else frame.assign(criterion="overall")
        frame = frame[frame["criterion"] == criterion]
    frame = frame.reset_index(drop=True)
    if frame.empty:
        raise UserError(f"{where}: there are no votes" + (f" on {criterion!r}" if criterion else ""), code=2)
    notes = []
    kinds = frame["annotator"].nunique()
    if kinds > 1:
        notes.append(f"Verdicts of {kinds} annotators count alike; choose one with --judge.")
    board = alpaca_eval(frame, baseline) if protocol == "alpaca-eval" else arena_hard(frame, baseline, seed=seed)
    shown = ["model", "win_rate", "lower", "upper", "n"]
    rows = printing.records(board.frame()[shown])
    warnings = [*notes, *board.warnings]
    if json:
        facts = {name: getattr(board, name) for name in ("protocol", "baseline", "definition", "interval", "n")}
        printing.print_json({"rows": rows, **facts, "warnings": warnings})
        return
    columns = {"model": "model", "win_rate": "win rate:.1%", "lower": "from:.1%", "upper": "to:.1%", "n": "verdicts"}
    printing.print_table(rows, columns, title=f"Win rates against {baseline} ({protocol}, {where})")
    printing.say(f"{board.definition}; intervals: {board.interval}; {board.n} verdicts.")
    printing.note(warnings)
