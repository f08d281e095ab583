"""Top floor: the juries of a plan: members' verdicts and grades from the ledger become the jury's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evalkit.errors import UserError
from evalkit.judging import Judge, Judging
from evalkit.plan import JuryPlan
from evalkit.store import BattleRow, labels
from evalkit.store.rows import WINNERS, VerdictRow
from judges.fight import Fight
from judges.jury import Jury, jury_grades, jury_verdicts, learn_weights

if TYPE_CHECKING:
    from judges.adaptive import AdaptiveJury, AdaptiveVerdicts

ASKS_IN_A_ROUND = 64
CHARACTERS_PER_TOKEN = 4
SAME_SAID = 0.7  # a member's accuracy before anything is known of it


def jury_plans(given: Sequence[JuryPlan] | None, judges: Sequence[Judge]) -> list[JuryPlan]:
    """Returns a plan's juries, weights read from their files; where it names none, the majority of all judges of
    battles, if there are several.

    Raises:
        UserError: Members that do different things, or an aggregation that does not fit what they do.
    """
    if given is None:
        names = tuple(judge.name for judge in judges if judge.compares)
        return [JuryPlan(name="jury", members=names)] if len(names) > 1 else []
    by_name = {judge.name: judge for judge in judges}
    plans = []
    for jury in given:
        members = [by_name[name] for name in jury.members]
        if not _compares(members) and not _grades(members):
            one = next(m.name for m in members if not m.compares)
            other = next(m.name for m in members if not m.grades)
            raise UserError(f"jury {jury.name}: {one} grades answers and {other} compares them: two juries", code=2)
        if not _compares(members) and (jury.adaptive or jury.aggregation != "mean"):
            raise UserError(
                f"jury {jury.name}: its members grade answers: aggregation must be mean (with or without weights)",
                code=2,
            )
        weights = _weights_in(jury.weights, jury) if isinstance(jury.weights, Path) else jury.weights
        plans.append(jury.model_copy(update={"weights": weights}))
    return plans


def asked_one_by_one(juries: Sequence[JuryPlan], judges: Sequence[Judge]) -> dict[str, int | None]:
    """Returns the judges that are asked by adaptive juries only; all others are asked about everything.

    Returns:
        By name the most battles that each can be asked about; None if that may be all.
    """
    by_name = {judge.name: judge for judge in judges}
    others = {name for jury in juries if not jury.adaptive for name in jury.members}
    most: dict[str, int | None] = {}
    for jury in juries:
        for name in jury.members if jury.adaptive else ():
            if name not in others:
                budget = jury.adaptive.budget if jury.adaptive else None
                before = most.get(name, 0)
                unlimited = budget is None or before is None
                most[name] = None if unlimited else (before or 0) + (budget or 0) * len(by_name[name].judged)
    return most


def hold(
    judging: Judging,
    jury: JuryPlan,
    judges: Mapping[str, Judge],
    battles: Mapping[int, BattleRow],
    fights: Sequence[Fight],
    answers: Sequence[int],
) -> None:
    """Makes a jury's verdicts on every criterion that at least two of its members judge.

    Args:
        judging: Of the run.
        jury: Of the plan.
        judges: By name.
        battles: By id.
        fights: The same battles with texts.
        answers: Ids of the responses that were graded.
    """
    members = [judges[name] for name in jury.members]
    if len(members) < 2:
        return
    for criterion in dict.fromkeys(name for member in members for name in member.judged):
        voting = [member for member in members if criterion in member.judged]
        if len(voting) < 2:
            continue
        if jury.adaptive is not None:
            _adapt(judging, jury, voting, criterion, battles, fights)
        elif _compares(voting):
            _vote(judging, jury, voting, criterion, sorted(battles))
        else:
            _average(judging, jury, voting, criterion, answers)


def _compares(members: Sequence[Judge]) -> bool:
    return all(member.compares for member in members)


def _grades(members: Sequence[Judge]) -> bool:
    return all(member.grades for member in members)


def _vote(judging: Judging, jury: JuryPlan, members: Sequence[Judge], criterion: str, battles: Sequence[int]) -> None:
    ledger, ids = judging.ledger, [judging.annotator(member) for member in members]
    weights = _weights(judging, jury, members, criterion)
    seen = labels.judged_battles(ledger, ids, criterion, battles)
    if not seen:
        return
    said, probabilities = labels.labels_of(ledger, ids, criterion, seen)
    of = Jury(jury.name, tuple(member.name for member in members), jury.aggregation, weights)
    annotator = _annotator(judging, jury, ids, weights)
    rows = jury_verdicts(said, seen, of, annotator, criterion, probabilities=probabilities)
    ledger.add_verdicts(judging.run_id, rows, replace=True)


def _average(
    judging: Judging, jury: JuryPlan, members: Sequence[Judge], criterion: str, answers: Sequence[int]
) -> None:
    ledger, ids = judging.ledger, [judging.annotator(member) for member in members]
    weights = _weights(judging, jury, members, criterion)
    seen, values = labels.grades_of(ledger, ids, criterion, answers)
    if not seen:
        return
    of = Jury(jury.name, tuple(member.name for member in members), "mean", weights)
    ledger.add_grades(jury_grades(values, seen, of, _annotator(judging, jury, ids, weights), criterion), replace=True)


def _annotator(judging: Judging, jury: JuryPlan, ids: Sequence[int], weights: Mapping[str, float] | None) -> int:
    definition: dict[str, Any] = {"kind": "jury", "aggregation": jury.aggregation, "members": sorted(ids)}
    if weights is not None:
        definition["weights"] = dict(weights)
    return judging.ledger.add_annotator("judge", jury.name, definition)


def _weights(judging: Judging, jury: JuryPlan, members: Sequence[Judge], criterion: str) -> Mapping[str, float] | None:
    if isinstance(jury.weights, dict) or jury.aggregation != "weighted":
        return jury.weights if isinstance(jury.weights, dict) else None
    ids = [judging.annotator(member) for member in members]
    try:
        return learn_weights(judging.ledger, ids, criterion, jury.truth)
    except UserError as error:
        raise UserError(f"jury {jury.name}: {error}", code=error.code) from error


def _weights_in(path: Path, jury: JuryPlan) -> Mapping[str, float]:
    """Reads the weights of a jury's members from a file: a mapping, or one under the key `weights`."""
    where = f"jury {jury.name}: weights: {path}"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}", code=2) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{where}: not valid YAML or JSON: {' '.join(str(error).split())}", code=2) from error
    weights = data.get("weights", data) if isinstance(data, Mapping) else data
    if not isinstance(weights, Mapping):
        raise UserError(f"{where}: must be a mapping of members to numbers", code=2)
    for name in jury.members:
        if isinstance(weights.get(name), bool) or not isinstance(weights.get(name), int | float):
            raise UserError(f"{where}: there is no number for the member {name!r}", code=2)
    return {name: float(weights[name]) for name in jury.members}


# -- the adaptive jury ----------------------------------------------------------------------------------------------


def _adapt(
    judging: Judging,
    jury: JuryPlan,
    members: Sequence[Judge],
    criterion: str,
    battles: Mapping[int, BattleRow],
    fights: Sequence[Fight],
) -> None:
    """Asks members in rounds, as `judges.adaptive` says, until every verdict is settled or the budget is spent.

    The same answers lead to the same questions, so that a run that was cut off finds all it had asked in the ledger.
    """
    from judges.adaptive import AdaptiveJury, Member

    plan, rule = jury.adaptive, jury.aggregation
    assert plan is not None and rule != "mean"  # the plan's own checks
    if not fights:
        return
    codes: dict[int, int] = {}
    pairs = [
        [
            codes.setdefault(model, len(codes))
            for model in (battles[f.battle_id].model_a_id, battles[f.battle_id].model_b_id)
        ]
        for f in fights
    ]
    costs = _costs(judging, members, fights)
    weights = _weights(judging, jury, members, criterion)
    policy = AdaptiveJury(
        pairs,
        [Member(member.name, cost, SAME_SAID) for member, cost in zip(members, costs, strict=True)],
        settled=plan.settled,
        budget=plan.budget,
        rule=rule,
        weights=[weights[member.name] for member in members] if weights else None,
        seed=judging.seed,
    )
    for place, member in enumerate(members):
        if member.model is None:  # a verifier asks nobody, so all that it says is known from the start
            _ask(judging, policy, place, member, criterion, fights, range(len(fights)))
    _ask_in_rounds(judging, policy, members, criterion, fights, f"{jury.name} ({criterion})")
    ids = [judging.annotator(member) for member in members]
    definition: dict[str, Any] = {"kind": "jury", "aggregation": rule, "members": sorted(ids)}
    if weights is not None:
        definition["weights"] = dict(weights)
    asked = {"settled": plan.settled, "budget": plan.budget}
    annotator = judging.ledger.add_annotator("judge", jury.name, {**definition, "adaptive": asked})
    rows = _settled(policy.verdicts(), fights, annotator, criterion, len(members))
    judging.ledger.add_verdicts(judging.run_id, rows, replace=True)
    for member in members:
        if member.model is not None:
            judging.engine.release(member.model)


def _ask_in_rounds(
    judging: Judging,
    policy: AdaptiveJury,
    members: Sequence[Judge],
    criterion: str,
    fights: Sequence[Fight],
    label: str,
) -> None:
    engine, progress = judging.engine, judging.engine.progress
    handle = progress.start(f"{label}: members' verdicts, at most", len(fights) * len(members)) if progress else None
    engine.progress = None  # one bar for all rounds
    kept_back = judging.not_sent
    try:
        while judging.not_sent == kept_back and (asks := policy.next_asks(ASKS_IN_A_ROUND)):
            for place, member in enumerate(members):
                _ask(judging, policy, place, member, criterion, fights, [b for b, who in asks if who == place])
            if progress:
                progress.advance(handle, len(asks))
    finally:
        engine.progress = progress
        if progress:
            progress.finish(handle)


def _ask(
    judging: Judging,
    policy: AdaptiveJury,
    place: int,
    member: Judge,
    criterion: str,
    fights: Sequence[Fight],
    wanted: Sequence[int],
) -> None:
    """Gets a member's verdicts on some battles, and tells the policy."""
    chosen = [fights[battle] for battle in wanted]
    judging.compare(member, chosen)
    annotators, ids = [judging.annotator(member)], [fight.battle_id for fight in chosen]
    said, _ = labels.labels_of(judging.ledger, annotators, criterion, ids)
    for battle, label_said in zip(wanted, said[:, 0].tolist(), strict=True):
        policy.tell(battle, place, min(label_said, 2))  # both_bad is a tie between two models


def _costs(judging: Judging, members: Sequence[Judge], fights: Sequence[Fight]) -> list[float]:
    """Returns what one member's verdict costs: in dollars where all prices are known, else in requests."""
    dollars: list[float | None] = []
    for member in members:
        cost: float | None = 0.0
        if member.model is not None and member.prompt is not None:
            request = member.prompt.request(fights[0].material("ab"), member.prompt.groups(member.criteria)[0])
            tokens = len(request.body(member.model.settings)) // CHARACTERS_PER_TOKEN
            limit = request.effective(member.model.settings).sampling.max_tokens or tokens
            price = judging.engine.prices.estimate(member.model.settings, tokens, limit)
            cost = None if price is None else price * member.requests_for_a_battle
        dollars.append(cost)
    known = [cost for cost in dollars if cost]
    asked = [member for member in members if member.model is not None]
    if len(known) < len(asked):
        dollars = [float(member.requests_for_a_battle) for member in members]
        known = [cost for cost in dollars if cost]
    free = min(known, default=1.0) / 1000  # a verifier asks nobody
    return [cost or free for cost in dollars]


def _settled(
    found: AdaptiveVerdicts, fights: Sequence[Fight], annotator: int, criterion: str, members: int
) -> list[VerdictRow]:
    """A verdict on every battle that a member was asked about; its probability of model_a counts a tie half."""
    rows = []
    for place, fight in enumerate(fights):
        asked = int(found.asked[place])
        if not asked:
            continue
        label, (a, b, tie) = int(found.label[place]), found.posterior[place].tolist()
        winner = WINNERS[label] if label >= 0 else None
        said = f"adaptive: {asked} of {members} members asked; posterior a {a:.2f}, b {b:.2f}, tie {tie:.2f}"
        rows.append(
            VerdictRow(
                fight.battle_id,
                annotator,
                "",
                winner,
                criterion=criterion,
                probability=min(a + tie / 2, 1.0) if winner else None,
                rationale=said,
                error=None if winner else "no member that was asked gave a readable verdict",
            )
        )
    return rows
