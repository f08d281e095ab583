"""`evalkit leaderboard --corrected`: a judge's board corrected with the human votes that exist."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.commands import printing
from evalkit.commands.store import opened
from evalkit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.report.corrected import CorrectedTable

COLUMNS = {
    "model": "model", "raw_rating": "raw:.0f", "rating": "corrected:.0f", "lower": "from:.0f", "upper": "to:.0f",
    "shift": "shift:+.0f", "human_votes": "human votes",
}  # fmt: skip
ONLY = {"ties": "half", "both_bad": None, "interval": "sandwich", "prior": "none", "ranks": "family-wise"}


def corrected_board(
    votes: Path | None,
    store: str,
    judges: list[str] | None,
    humans: str,
    criterion: str | None,
    options: Mapping[str, Any],
    json: bool,
) -> None:
    """Prints the board; arguments as those of `evalkit leaderboard`.

    Raises:
        UserError: An option that a corrected board does not have; or as `report.corrected`.
    """
    for name, value in ONLY.items():
        if options[name] != value:
            only = f"has --{name} {value} only" if value else "counts a both_bad as half a win; leave --both-bad out"
            raise UserError(f"--corrected {only}", code=2)
    if options["min_votes"] > 1 or options["cluster"] not in (None, "item_id"):
        raise UserError("--corrected rates every model that human votes link, clustered by item_id; see --help", 2)
    if votes is not None:
        found, title = _of_file(votes, judges, humans, criterion, options["anchor"]), votes.name
    else:
        from evalkit.report.corrected import corrected_leaderboard

        with opened(store) as ledger:
            found = corrected_leaderboard(
                ledger, names=judges, humans=humans, criterion=criterion or "overall", anchor=options["anchor"]
            )
        title = store
    if json:
        printing.print_json(found)
        return
    _print(found, title)


def _print(found: CorrectedTable, title: str) -> None:
    """Prints the board as a table, and what was done."""
    printing.print_table(printing.plain(found.rows), COLUMNS, title=f"Corrected leaderboard ({title})")
    shown = ", ".join(found.judges[:5]) + (f" and {len(found.judges) - 5} more" if len(found.judges) > 5 else "")
    printing.say(
        f"Judge: {shown}, on {found.n - found.n_failed:,} of {found.n:,} battles; humans: {found.humans:,}, on "
        f"{found.n_labelled:,}. {found.method}; ties: {found.ties}; {found.reference}."
    )
    printing.say(found.definition)
    printing.note(found.warnings)


def _of_file(
    path: Path, judges: list[str] | None, humans: str, criterion: str | None, anchor: str | None
) -> CorrectedTable:
    import numpy as np

    from evalkit.report.corrected import correct
    from evalkit.stats.votes import list_names
    from evalkit.store.formats.generic import read_votes

    frame = read_votes(path)
    if criterion is not None:
        said = frame["criterion"] if "criterion" in frame.columns else frame["winner"].map(lambda _: "overall")
        if not (said == criterion).any():
            there = list_names(sorted(said.dropna().unique()))
            raise UserError(f"{path}: nothing was judged on {criterion!r}; criteria are {there}", code=2)
        frame = frame[said == criterion].reset_index(drop=True)

    def named(patterns: list[str], kind: str) -> pd.Series[bool]:
        found = frame["annotator_kind"] == kind if patterns == ["*"] else frame["annotator"].isin([])
        for pattern in patterns if patterns != ["*"] else ():
            fits = [name for name in frame["annotator"].unique() if fnmatchcase(name, pattern)]
            if not fits:
                there = list_names(sorted(frame["annotator"].unique()), like=pattern)
                raise UserError(f"{path}: no annotator fits {pattern!r}; there are {there}", code=2)
            found = found | frame["annotator"].isin(fits)
        return found

    judged, voted = named(judges or ["*"], "judge"), named([humans], "human")
    both = sorted(frame.loc[judged & voted, "annotator"].unique())
    if both and judges and humans != "*":
        raise UserError(f"{list_names(both)} fit both --judge and --humans", code=2)
    # A pattern says more than a kind: a judge may be taken for a human, and a human for a judge.
    first, second = ((voted, "human"), (judged, "judge")) if humans != "*" else ((judged, "judge"), (voted, "human"))
    role = np.where(first[0], first[1], np.where(second[0], second[1], "-"))
    return correct(frame, role, criterion=criterion or "all", anchor=anchor)
