"""Top floor: has a candidate and its parent answer the same items, and puts the gate's question to the answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from evalkit.errors import UserError
from evalkit.plan import ModelPlan, Plan
from evalkit.stages import PROMPTS, PlanRun
from evalkit.store import Ledger
from evalkit.store.schema import Item, Slice, SliceItem
from evalkit.store.writing import chunks
from evalkit.verify.refusal import SHOULD_REFUSE

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.engine.progress import Progress
    from trainers.gate import Measure, Verdict
    from trainers.gate_plan import GatePlan

HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True)
class Target:
    """What a gate must know of a slice.

    Attributes:
        run_id: Where it was found.
        dataset_id: Its dataset; None where it lies in several.
        held_out: Its items that nobody was shown.
    """

    name: str
    run_id: int
    dataset_id: int | None
    held_out: frozenset[int]


def load_slice(ledger: Ledger, slice_ref: int | str) -> tuple[int, Target]:
    """Finds a slice by id or name.

    Raises:
        UserError: There is none, there are several of that name, or it has no held-out half to measure on.
    """
    which = Slice.id == int(slice_ref) if str(slice_ref).isdigit() else Slice.name == str(slice_ref)
    with ledger.engine.connect() as connection:
        rows = connection.execute(sa.select(Slice.id, Slice.name, Slice.run_id, Slice.definition).where(which)).all()
        if len(rows) != 1:
            names = connection.scalars(sa.select(Slice.name).order_by(Slice.id).limit(10)).all()
            there = f"there are: {', '.join(names)}" if names else "there are none yet, type: evalkit slices"
            many = "ids " + ", ".join(str(row.id) for row in rows)
            raise UserError(f"slice: {f'{many} have' if rows else 'none has'} the name {slice_ref!r}; {there}", code=2)
        row = rows[0]
        held = sa.select(SliceItem.item_id).where(SliceItem.slice_id == row.id, SliceItem.split == HELD_OUT)
        items = frozenset(connection.scalars(held))
    if not items:
        raise UserError(
            f"slice: {row.name!r} has no held-out items, so nothing can show that a model got better", code=2
        )
    return row.id, Target(row.name, row.run_id, row.definition.get("dataset"), items)


def evaluate(
    ledger: Ledger,
    *,
    like_run: int,
    parent: ModelPlan,
    candidate: ModelPlan,
    gate: GatePlan,
    name: str,
    progress: Progress | None = None,
) -> int:
    """Has both models answer what a run asked, and the control prompts; what was answered already is not asked again.

    Args:
        like_run: The run whose benchmarks (and, if the gate wants battles, judges) are asked again.
        name: Of the new run.

    Returns:
        The new run's id.

    Raises:
        UserError: As a plan's run does; or requests failed.
    """
    stored = {key: value for key, value in ledger.run_plan(like_run).items() if key != "resolved"}
    like = Plan.model_validate(stored)
    arena = like.arena if gate.battles else like.arena.model_copy(update={"tasks": (), "baseline": None})
    if gate.controls is not None:
        arena = arena.model_copy(update={"prompts": gate.controls, "limit": None})
    changes: dict[str, Any] = {"name": name, "models": (parent, candidate), "arena": arena, "report": None}
    if not gate.battles:
        changes |= {"judges": (), "juries": None}
    result = PlanRun(like.model_copy(update=changes), progress).run(ledger)
    if result.status != "done":
        raise UserError(f"run {result.run_id}, which the gate needs, is not complete: {result.errors} requests failed")
    return result.run_id


def judge_candidate(
    ledger: Ledger,
    *,
    run_id: int,
    parent_id: int,
    candidate_id: int,
    target: Target | None,
    gate: GatePlan,
    taught: Sequence[str] = (),
    trained: Collection[int] = (),
) -> Verdict:
    """Decides on what a run measured.

    Args:
        run_id: Of `evaluate`.
        target: The slice that must improve; None decides on the rest alone, and refuses.
        taught: What the candidate was trained to answer for the slice, to see whether its form leaked.
        trained: Items that it was trained on, such as those replayed: what it does on them proves nothing.
    """
    from evalkit.report.item_values import item_values
    from evalkit.slices.halves import clusters
    from trainers.gate import decide

    values = item_values(ledger, run_id, (parent_id, candidate_id))
    values = values[~values["item_id"].isin(list(trained))]
    items = set(values["item_id"].tolist())
    refusals = _refusals(ledger, items)
    pairs = _Pairs(values, parent_id, candidate_id, clusters(ledger, items))
    measures = [*pairs.target(target), *pairs.rest(target, gate, refusals), *pairs.controls(gate, taught)]
    if gate.battles:
        measures += _battles(ledger, parent_id, candidate_id, gate)
    return decide(measures)


def _refusals(ledger: Ledger, items: Collection[int]) -> set[int]:
    """Items that ask for what must be refused."""
    found: set[int] = set()
    with ledger.engine.connect() as connection:
        for chunk in chunks(sorted(items)):
            rows = connection.execute(sa.select(Item.id, Item.tags).where(Item.id.in_(chunk)))
            found.update(key for key, tags in rows if (tags or {}).get(SHOULD_REFUSE) is True)
    return found


class _Pairs:
    """Both models' values by item."""

    def __init__(self, values: pd.DataFrame, parent_id: int, candidate_id: int, clusters: Mapping[int, int]) -> None:
        self.values, self.parent_id, self.candidate_id, self.clusters = values, parent_id, candidate_id, clusters
        self.graded = values[values["metric"].notna()]

    def target(self, target: Target | None) -> list[Measure]:
        """The held-out half of the slice."""
        if target is None:
            return []
        rows = self.graded[self.graded["item_id"].isin(target.held_out)]
        return [self._measure(rows, f"{target.name}, held out", "improvement", None)]

    def rest(self, target: Target | None, gate: GatePlan, refusals: set[int]) -> list[Measure]:
        """The regression suite: every dataset by itself, or the groups that the plan names; and safety."""
        said = {name: group for group in gate.regression for name in group.tasks}
        unknown = [name for name in said if name not in set(self.graded["dataset"])]
        if unknown:
            raise UserError(f"gate.regression: the run has no scored dataset {unknown[0]!r}", code=2)
        parts: dict[str, tuple[list[str], float]] = {}
        for name in dict.fromkeys(self.graded["dataset"]):
            if name in said:
                group = said[name]
                parts.setdefault(group.name, ([], gate.margin if group.margin is None else group.margin))[0].append(
                    name
                )
            elif not said or (target is not None and self._dataset_id(name) == target.dataset_id):
                parts.setdefault(name, ([name], gate.margin))
        safe = self.graded["item_id"].isin(refusals)
        found = []
        for name, (datasets, margin) in parts.items():
            rows = self.graded[self.graded["dataset"].isin(datasets) & ~safe]
            if len(rows):
                found.append(self._measure(rows, name, "non_inferiority", margin))
        if safe.any():
            margin = gate.margin if gate.safety_margin is None else gate.safety_margin
            found.append(self._measure(self.graded[safe], "refuses what is harmful", "safety", margin))
        return found

    def controls(self, gate: GatePlan, taught: Sequence[str]) -> list[Measure]:
        """Prompts that ask for no form: whether what was trained leaks into them, and how long the answers are."""
        from trainers.surface import trained_forms

        rows = self.values[(self.values["dataset"] == PROMPTS) & self.values["metric"].isna()].copy()
        if rows.empty:
            return []
        own = rows[rows["model_id"] == self.parent_id]
        found = []
        forms = trained_forms(taught, own["answer"].dropna().tolist())
        if forms:
            shown = rows["answer"].map(lambda text: _shows(text, forms), na_action="ignore")
            rows["value"] = 1.0 - shown.astype(float)
            name = f"no leak ({'; '.join(forms)})"
            found.append(self._measure(rows, name, "leak", gate.leak_margin))
        for kind, column, margin in (("length", "tokens", gate.length_margin), ("speed", "seconds", None)):
            usual = own[column].mean()
            if usual > 0:
                rows["value"] = rows[column] / usual
                name = f"{column} of an answer, as a share of the parent's"
                found.append(self._measure(rows, name, kind, margin))
        return found

    def _dataset_id(self, name: str) -> int:
        return int(self.graded.loc[self.graded["dataset"] == name, "dataset_id"].iloc[0])

    def _measure(self, rows: pd.DataFrame, name: str, kind: Any, margin: float | None) -> Measure:
        from trainers.gate import Measure

        # The mean of samples; an item without a value of a model stays, as NaN.
        table = rows.groupby(["dataset_id", "item_id", "model_id"])["value"].mean().unstack("model_id")
        for model_id in (self.parent_id, self.candidate_id):
            if model_id not in table:
                table[model_id] = float("nan")
        items = table.index.get_level_values("item_id")
        # An item without a cluster is one of its own.
        labels = items.map(lambda key: self.clusters.get(key, -key)).to_numpy()
        metric = ", ".join(dict.fromkeys(rows["metric"].dropna())) or kind
        old, new = (table[model_id].to_numpy(float) for model_id in (self.parent_id, self.candidate_id))
        return Measure(name, kind, metric, old, new, margin, labels)


def _shows(text: str, forms: Mapping[str, Any]) -> bool:
    return any(test(text.strip()) for test in forms.values())


def _battles(ledger: Ledger, parent_id: int, candidate_id: int, gate: GatePlan) -> list[Measure]:
    """Verdicts of the board's judges (or people) between the two, by prompt: a win is 1, a tie a half."""
    import numpy as np

    from evalkit.report.board import jurors
    from evalkit.store import frames
    from trainers.gate import Measure

    with ledger.engine.connect() as connection:
        chosen, left_out = jurors(connection, None, "overall")
    ids = [judge.id for judge in chosen]
    found = frames.verdicts(ledger, annotators=ids, criterion="overall", models=[parent_id, candidate_id])
    found = found[found["winner"].notna()]
    if found.empty:
        why = f" ({left_out[0]})" if left_out else ""
        raise UserError(
            f"gate.battles: no verdict between the two can be used{why}; leave `battles` out, or give judges"
        )
    names = frames.models(ledger).set_index("model_id")["model"]
    won = (found["winner"] == "model_a") == (found["model_a"] == names[candidate_id])
    worth = np.where(found["winner"].isin(("tie", "both_bad")), 0.5, won.astype(float))
    wins = found.assign(worth=worth).groupby("item_id")["worth"].mean().to_numpy(float)
    return [Measure("battles against the parent", "battles", "win rate", 1 - wins, wins, gate.battle_margin)]
