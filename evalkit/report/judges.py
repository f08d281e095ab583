"""What each judge is worth: verdicts, parse errors, swap consistency, first-slot preference, agreement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.report.reads import Judge, Rate, finite, judges, run_models, run_row
from evalkit.store.arena import PROBE
from evalkit.store.ledger import Ledger
from evalkit.store.reading import arrays
from evalkit.store.rows import WINNERS
from evalkit.store.schema import Battle, Tally, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.stats import FirstSlotPreference, Share, SwapConsistency

COIN = 0.5
ORDERS = ("", "ab", "ba")
LEANS_P = 0.01
DEFINITION = (
    "Swap consistency: share of the battles judged in both orders that got the same verdict in both; a coin reaches "
    "50%. First slot: share of the decisive verdicts won by the answer shown first, tested against 50%. Agreement: "
    "each verdict against the verifier's on the same two answers, both_bad counting as a tie. Verdicts that could not "
    "be read are counted, and are in no share. Wilson's intervals, 95%, adjusted for verdicts on one item being alike."
)


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """One judge.

    Attributes:
        kind: llm, verifier, jury or human.
        n: Verdicts, errors included.
        errors: Verdicts that could not be read.
        consistency: Share of the battles judged in both orders that got the same verdict in both.
        always_first, always_second: Battles in which the answer shown first (second) won in both orders.
        first_slot: Share of the decisive verdicts won by the answer shown first.
        first_slot_p: Exact test of that share against one half; None without such verdicts.
        agreement, agreement_no_ties: With the verifier, with ties as a third verdict and over battles without ties.
        usable: Whether its verdicts may make a board: more consistent than a coin (see `judge_table`).
        sentence: The same in words.
    """

    judge: str
    kind: str
    n: int
    errors: int
    consistency: Rate
    always_first: int
    always_second: int
    first_slot: Rate
    first_slot_p: float | None
    agreement: Rate
    agreement_no_ties: Rate
    usable: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class JudgeTable:
    """All judges; `reference` is the verifier that they are compared with, if there is one."""

    rows: tuple[JudgeRow, ...]
    criterion: str
    reference: str | None
    definition: str


def judge_table(ledger: Ledger, run_id: int | None = None, *, criterion: str = "overall") -> JudgeTable:
    """Measures the judges of a run (over all their verdicts on its models), or of the whole ledger.

    An LLM judge is usable if the lower limit of its swap consistency is above one half: a judge that decides by a coin
    agrees with itself in half of the battles. Judged in one order only, it is usable unless three in four decisive
    verdicts or more go to the same slot. Verifiers, juries and humans are usable.

    Raises:
        UserError: There is no such run.
    """
    with ledger.engine.connect() as connection:
        models = None
        found = judges(connection, criterion)
        if run_id is not None:
            run = run_row(connection, run_id)
            models = run_models(connection, run_id)
            here = set(connection.scalars(sa.select(Verdict.annotator_id).where(Verdict.run_id == run_id).distinct()))
            planned = {str(judge.get("name")) for judge in run["plan"].get("judges") or ()}
            found = [judge for judge in found if judge.id in here or judge.name in planned]
        people = [judge for judge in found if judge.kind == "human"]
        if len(people) > 1:  # they are voters, not judges to compare one by one
            found = [judge for judge in found if judge.kind != "human"]
            found.append(Judge(people[0].id, f"{len(people)} people", "human"))
        ids = {judge.id: [judge.id] for judge in found} | {one.id: [p.id for p in people] for one in people[:1]}
        frames = {judge.id: verdicts(connection, ids[judge.id], criterion, models) for judge in found}
    reference = next((judge for judge in found if judge.kind == "verifier"), None)
    rows = [
        _row(judge, frames[judge.id], frames[reference.id] if reference and judge != reference else None)
        for judge in found
    ]
    return JudgeTable(tuple(rows), criterion, reference.name if reference else None, DEFINITION)


def judge_by_criterion(ledger: Ledger, judge: str) -> dict[str, JudgeRow]:
    """Measures one judge on every criterion that it has given verdicts on, over all its verdicts in the ledger.

    Of several judges of one name the newest counts. There is no reference that it is held against.
    """
    rows = {}
    with ledger.engine.connect() as connection:
        for criterion in sorted(
            connection.scalars(sa.select(Tally.criterion).where(~Tally.criterion.startswith(PROBE)).distinct())
        ):
            for found in judges(connection, criterion):
                if found.name == judge and found.kind != "human":
                    rows[criterion] = _row(found, verdicts(connection, [found.id], criterion, None), None)
    return rows


def unusable(connection: sa.Connection, judges: Sequence[Judge], criterion: str) -> dict[int, str]:
    """Returns why a judge may not make a board, by id, for those LLM judges that may not (see `judge_table`)."""
    measured = {
        judge.id: _row(judge, verdicts(connection, [judge.id], criterion, None), None)
        for judge in judges
        if judge.kind == "llm"
    }
    return {key: row.sentence for key, row in measured.items() if not row.usable}


def verdicts(
    connection: sa.Connection, annotators: Sequence[int], criterion: str, models: Collection[int] | None
) -> pd.DataFrame:
    """Reads verdicts without texts, as `evalkit.stats` wants them; models are ids as text.

    The battle stands in the column `turn`: only verdicts on the same two answers are then compared.
    """
    import numpy as np
    import pandas as pd

    columns = {
        "item_id": Battle.item_id,
        "turn": Battle.id,
        "model_a": Battle.model_a_id,
        "model_b": Battle.model_b_id,
        "annotator": Verdict.annotator_id,
        # As numbers: a text made for each of a hundred thousand rows takes longer than all else here.
        "order": sa.case({order: place for place, order in enumerate(ORDERS)}, value=Verdict.order_shown),
        "replicate": Verdict.replicate,
        "winner": sa.case({name: place for place, name in enumerate(WINNERS)}, value=Verdict.winner, else_=-1),
    }
    query: sa.Select[*tuple[Any, ...]] = (
        sa.select(*(column.label(name) for name, column in columns.items()))
        .join(Battle, Battle.id == Verdict.battle_id)
        .where(Verdict.annotator_id.in_(annotators), Verdict.criterion == criterion)
    )
    if models is not None:
        query = query.where(Battle.model_a_id.in_(models), Battle.model_b_id.in_(models))
    read = dict(zip(columns, arrays(connection.execute(query)), strict=True))
    in_order = np.lexsort((read["order"], read["replicate"], read["annotator"], read["turn"]))
    frame = pd.DataFrame({name: column[in_order] for name, column in read.items()})
    for name in ("model_a", "model_b", "annotator"):
        ids, place = np.unique(frame[name].to_numpy(), return_inverse=True)
        frame[name] = pd.array([str(one) for one in ids.tolist()], dtype="str").take(place)
    frame["order"] = pd.array(ORDERS, dtype="str").take(frame["order"].to_numpy())
    frame["winner"] = pd.array([*WINNERS, None], dtype="str").take(frame["winner"].to_numpy())
    return frame


def _row(judge: Judge, frame: pd.DataFrame, reference: pd.DataFrame | None) -> JudgeRow:
    from evalkit.stats import agreement, first_slot_preference, swap_consistency

    ordered = frame[frame["order"] != ""]
    swap, slot = swap_consistency(ordered), first_slot_preference(ordered)
    agreed = agreement(frame, reference) if reference is not None else None
    n, errors = len(frame), int(frame["winner"].isna().sum())
    decisive = int(frame["winner"].isin(("model_a", "model_b")).sum())
    usable, sentence = _opinion(judge, n, errors, decisive, swap, slot)
    nothing = Rate(None, None, None, 0)
    return JudgeRow(
        judge=judge.name,
        kind=judge.kind,
        n=n,
        errors=errors,
        consistency=_rate(swap.consistent),
        always_first=swap.always_first,
        always_second=swap.always_second,
        first_slot=_rate(slot.first),
        first_slot_p=slot.p_value if slot.first.n else None,
        agreement=_rate(agreed.ties) if agreed else nothing,
        agreement_no_ties=_rate(agreed.no_ties) if agreed else nothing,
        usable=usable,
        sentence=sentence,
    )


def _rate(share: Share) -> Rate:
    if not share.n:
        return Rate(None, None, None, 0)
    return Rate(finite(share.value), finite(share.lower), finite(share.upper), share.n)


def _opinion(
    judge: Judge, n: int, errors: int, decisive: int, swap: SwapConsistency, slot: FirstSlotPreference
) -> tuple[bool, str]:
    """Whether a judge may make a board, and why, in one sentence."""
    if n == errors:
        return False, "None of its verdicts could be read: not used for the board."
    if judge.kind == "verifier":
        return True, "Checks each answer by rule, without a model, whatever the order."
    if judge.kind == "jury":
        return True, "The majority of its members."
    if judge.kind == "human":
        return True, "Votes of people."
    if not decisive:
        return False, "Calls every battle a tie, so it tells no two models apart: not used for the board."
    first = slot.first
    if not swap.consistent.n:
        if not first.n:
            return True, "The order in which it saw the answers is unknown, so its consistency cannot be measured."
        for name, low in (("first", first.lower), ("second", 1.0 - first.upper)):
            if low > 0.75:
                share = first.value if name == "first" else 1.0 - first.value
                return False, f"Picks the answer shown {name} in {share:.0%} of its verdicts: not used for the board."
        return True, "Saw each battle in one order only, so its consistency cannot be measured."
    same, pairs = swap.consistent, swap.consistent.n
    if same.lower > COIN:
        sentence = f"Gives the same verdict in {same.value:.0%} of the battles when the answers change places"
        if slot.p_value < LEANS_P:
            slot_name, share = ("first", first.value) if first.value > COIN else ("second", 1.0 - first.value)
            sentence += f", and leans to the answer shown {slot_name} ({share:.0%})"
        return True, sentence + "."
    for name, count in (("first", swap.always_first), ("second", swap.always_second)):
        if count == pairs:
            return False, f"Always prefers the answer shown {name}, whichever it is: not used for the board."
        if count > pairs / 2:
            return (
                False,
                f"Prefers the answer shown {name}, whichever it is, in {count / pairs:.0%} of the battles "
                "judged both ways: not used for the board.",
            )
    if same.upper < COIN:
        return (
            False,
            f"Contradicts itself in {1 - same.value:.0%} of the battles when the answers change places: "
            "not used for the board.",
        )
    return (
        False,
        f"Agrees with itself in {same.value:.0%} of {pairs} battles judged both ways, which a coin may do "
        "too: not used for the board.",
    )
