"""What to do with the judges, in plain words, each sentence with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from judges.calibration import Calibration, Paired
from judges.jury_rows import MAJORITY, WEIGHTED
from judges.scorecard import ScorecardRow
from judges.stand_in import ALPHA, EVERYTHING, MoreVotes, StandIn, instances_needed

if TYPE_CHECKING:
    from evalkit.stats import AltTest

Decision = Literal["keep", "drop", "unsettled"]
QUESTIONS = 10
SPLIT_OFTEN = 0.2
NAMED = 3


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with one judge or jury.

    Attributes:
        reason: Why, with the numbers.
        conditions: How to use it.
    """

    judge: str
    decision: Decision
    reason: str
    conditions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """What the votes leave open.

    Attributes:
        votes: Human votes that would settle it; None where no number of them would.
        sentence: The same in words.
    """

    question: str
    votes: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The written recommendation.

    Attributes:
        headline: The answer in two or three sentences.
        advice: For each single judge.
        stand_in: For each judge and jury, in which categories it may stand in for people.
        juries: Whether a jury pays.
        board: What the correction by human votes changes.
        questions: What is left open, the cheapest to settle first.
    """

    headline: str
    advice: tuple[Advice, ...]
    stand_in: tuple[str, ...]
    juries: str
    board: str
    questions: tuple[OpenQuestion, ...]


def recommend(found: Calibration) -> Recommendation:
    """Says which judges to keep, where they may stand in for people, and what more votes would settle.

    A judge is dropped for a fault that decides its verdicts (`stats.audit_findings`), if it agrees significantly less
    with people than the best judge and the smallest jury that is not worse does without it, or if it is shown to stay
    behind people by more than epsilon with no better judge to join. It is kept if that jury needs it, or if it is shown
    to be within epsilon of people; else the votes do not tell.
    """
    rows = [row for row in found.scorecard.rows if row.judge in found.facts.judges]
    return Recommendation(
        headline=_headline(found),
        advice=tuple(_advice(found, row) for row in rows),
        stand_in=tuple(_where(found, row) for row in found.scorecard.rows),
        juries=_juries(found),
        board=_board(found),
        questions=tuple(_questions(found)),
    )


def of_judge(found: Calibration, judge: str) -> tuple[StandIn, list[StandIn]]:
    """What is known of a judge on all battles together, and by category."""
    mine = [row for row in found.stand_in if row.judge == judge]
    return mine[0], mine[1:]


def _headline(found: Calibration) -> str:
    row, people = found.scorecard.row(found.judge), found.scorecard.humans
    with_ties, no_ties = (
        _share(row.figures[key].value)
        + (f" against {_share(people.figures[key].value)}" if people.figures[key].measured else "")
        for key in ("agreement", "agreement_no_ties")
    )
    together, categories = of_judge(found, found.judge)
    who = called(found, found.judge)
    who = who if len(found.scorecard.rows) == 1 else f"{who}, the best here,"
    if not together.n:
        how = f"How near {who} comes to people cannot be told, for no battle has two human votes. It agrees"
    elif together.lower <= 0:
        how = f"{who} agrees with people as often as people agree with each other, as far as the votes tell:"
    else:
        how = f"{who} agrees with people less often than people agree with each other:"
    cells = categories or [together]
    yes, no, left = ([c.category for c in cells if c.answer == answer] for answer in ("yes", "no", "too few votes"))
    price = f"agreeing up to {100 * found.facts.epsilon:.0f} points less often than a person is taken as a fair price"
    if len(left) == len(cells):
        where = "There are too few votes to say whether it may stand in for a person"
        where += f" in any of the {len(left)} categories." if categories else "."
        if categories and together.answer == "yes":
            where = (
                f"On all battles together it stays within {100 * found.facts.epsilon:.0f} points of people, which is "
                f"not shown for any of the {len(left)} categories alone: there are too few votes."
            )
    else:
        parts = [f"It may stand in for a person {_in(yes, categories)} ({price})"] if yes else []
        parts += [f"{'it' if yes else 'It'} may not {_in(no, categories)}"] if no else []
        parts += [f"for {_few(left)} there are too few votes to say"] if left else []
        where = "; ".join(parts) + "."
    answer = "Yes." if len(yes) == len(cells) else "No." if len(no) == len(cells) else "Not shown."
    if yes and len(yes) < len(cells):
        answer = "Mostly." if 2 * len(yes) >= len(cells) else "In part."
    first = f"{how[:1].upper()}{how[1:]}" if how.startswith("the ") else how
    alt = row.figures["alt_test"]
    if yes and alt.value is not None and not row.may_stand_in:
        where += (
            f" Person by person that is not shown yet: the alternative annotator test finds it no worse than "
            f"{round(alt.value * alt.n)} of {alt.n} people, and half of them are needed."
        )
    return f"{answer} {first} in {with_ties} of all comparisons, in {no_ties} where nobody says tie. {where}"


def called(found: Calibration, name: str) -> str:
    """A judge's name in a sentence; the juries made here have an article."""
    return f"the {name}" if name in (MAJORITY, WEIGHTED) and name in found.facts.juries else name


def _in(names: Sequence[str], categories: Sequence[StandIn]) -> str:
    if not categories:
        return "here"
    if len(names) == len(categories):
        return "in every category"
    return f"in {_few(names)}" if len(names) <= NAMED else f"in {len(names)} of {len(categories)} categories"


def _few(names: Sequence[str]) -> str:
    return _listed(names) if len(names) <= NAMED else f"{len(names)} others"


def _advice(found: Calibration, row: ScorecardRow) -> Advice:
    from evalkit.stats import audit_findings as audit

    fatal = audit.FAULTS[: audit.FAULTS.index(audit.LEANS_SLOT)]
    together, _ = of_judge(found, row.judge)
    conditions = tuple(_conditions(row, found))
    if row.verdict in fatal:
        finding = row.findings[0] if row.findings else f"{row.verdict}."
        return Advice(row.judge, "drop", f"It {finding[:1].lower()}{finding[1:]}", ())
    numbers = _against_people(row, together)
    ahead = (pair for pair in found.paired if pair.second == row.judge and pair.first in found.facts.judges)
    behind = next(ahead, None)
    if found.held_out is not None and row.judge not in found.held_out.selected.judges:
        smallest = found.held_out.selected.judges
        does = "does" if len(smallest) == 1 else "do"
        reason = f"Without it nothing is lost: {_listed(smallest)} {does} as well as all judges together."
        return Advice(row.judge, "drop", reason + _versus(behind), conditions)
    better = [pair for pair in found.paired if pair.first in found.facts.juries and _better(pair)]
    needed = [pair.first for pair in sorted(better, key=lambda pair: -pair.difference)]
    if found.held_out is not None and needed:
        reason = f"The {needed[0]} needs it, which agrees with people more than any judge alone; {numbers}."
        return Advice(row.judge, "keep", reason + _versus(behind), conditions)
    if behind is not None and _better(behind):
        return Advice(row.judge, "drop", _versus(behind).strip(), conditions)
    if together.answer == "yes":
        return Advice(row.judge, "keep", f"It is within epsilon of people: {numbers}.", conditions)
    if together.answer == "no":
        return Advice(row.judge, "drop", f"It stays behind people by more than epsilon: {numbers}.", conditions)
    reason = f"The votes do not tell whether it is good enough: {numbers}.{_versus(behind)}"
    return Advice(row.judge, "unsettled", reason, conditions)


def _better(pair: Paired) -> bool:
    return pair.p_value < ALPHA and pair.difference > 0


def _against_people(row: ScorecardRow, together: StandIn) -> str:
    if not together.n:
        share = _share(row.figures["agreement"].value)
        return f"it agrees with a person in {share}; no battle has two human votes, which would tell what people reach"
    gap = _points(together.gap, together.lower, together.upper)
    return (
        f"on battles with two votes or more it agrees with a person in {_share(together.judge_agreement)}, people with "
        f"each other in {_share(together.people_agreement)}; people minus judge: {gap} points"
    )


def _versus(pair: Paired | None) -> str:
    if pair is None:
        return ""
    points = _points(pair.difference, pair.lower, pair.upper)
    told = "agrees with people" if pair.p_value < ALPHA else "is not shown to agree with people"
    return f" On the same {pair.n:,} battles {pair.first} {told} more often than {pair.second}: {points} points."


def _conditions(row: ScorecardRow, found: Calibration) -> list[str]:
    """How to use a judge, from what the audit found."""
    figures = row.figures
    told = []
    swap, first = figures["swap_consistency"], figures["first_slot"]
    if not swap.measured:
        told.append("Ask it in both orders: here it saw each battle in one order, so its consistency is not known.")
    elif swap.value is not None and swap.value < 0.95:
        told.append(
            f"Ask it in both orders and count a contradiction as a tie: it changes its verdict in {1 - swap.value:.0%} "
            "of the battles when the answers change places."
        )
    if first.value is not None and not (first.lower or 0.0) <= 0.5 <= (first.upper or 1.0):
        slot, share = ("first", first.value) if first.value > 0.5 else ("second", 1 - first.value)
        told.append(f"It leans to the answer shown {slot}, which wins {share:.0%} of its decisive verdicts.")
    for key, whose in (("self_preference", "its own answers"), ("family_preference", "models of its family")):
        figure = figures[key]
        if figure.value is not None and figure.lower is not None and figure.lower > 0:
            told.append(
                f"Do not let it alone decide on {whose}: it gives them {100 * figure.value:.0f} points more than "
                "people do."
            )
            break
    verbose = figures["verbosity"]
    if verbose.value is not None and verbose.lower is not None and verbose.lower > 0:
        told.append(
            f"Read its board at equal length: it gives the longer answer {100 * verbose.value:.0f} points more than "
            "people do."
        )
    for key, what in (("injection", "a text hidden in an answer"), ("null_model", "a constant answer")):
        figure = figures[key]
        if figure.value is not None and figure.value >= 0.05:
            told.append(f"Do not show it answers written to deceive: {what} wins {figure.value:.0%} of {figure.n}.")
    if not figures["injection"].measured:
        told.append("Probe it before it judges what strangers wrote (evalkit judge probe).")
    return told


def _where(found: Calibration, row: ScorecardRow) -> str:
    """For which categories a judge may stand in, in one or two sentences."""
    together, categories = of_judge(found, row.judge)
    alt = row.figures["alt_test"]
    if alt.value is None:
        test = f"The alternative annotator test could not be made: {alt.note}"
    else:
        passed = "passes" if row.may_stand_in else "does not pass"
        test = (
            f"It {passed} the alternative annotator test: shown to be no worse than {round(alt.value * alt.n)} of "
            f"{alt.n} people, and half of them are needed"
        )
    if not categories:
        answer = {"yes": "it may stand in for a person", "no": "it may not stand in for a person"}
        where = answer.get(together.answer, f"too few votes to say{_more(together.more)}")
    else:
        parts = []
        for answer_, words in (("yes", "may stand in for a person in"), ("no", "may not in")):
            names = [one.category for one in categories if one.answer == answer_]
            if names:
                parts.append(f"{words} {_listed(names)}")
        left = [one for one in categories if one.answer == "too few votes"]
        if left:
            parts.append(f"too few votes to say for {_listed([one.category for one in left])}")
        where = "; ".join(parts)
    return f"{row.judge}: {where}. {test}."


def _juries(found: Calibration) -> str:
    if found.held_out is None:
        return f"No jury was tried: {found.no_juries}."
    accuracy = dict(zip(found.held_out.table["jury"], found.held_out.table["accuracy"].tolist(), strict=True))
    who = dict(zip(found.held_out.table["jury"], found.held_out.table["judges"], strict=True))
    told = [f"{name} {accuracy[name]:.1%}" for name in ("weighted", "majority", "Dawid-Skene")]
    told.append(f"the best single judge ({who['best judge']}) {accuracy['best judge']:.1%}")
    sentences = [
        f"On the {found.held_out.n:,} battles that nothing was learned from, the share decided as most people decide: "
        f"{', '.join(told)}."
    ]
    for pair in found.paired:
        if pair.first in (MAJORITY, WEIGHTED):
            sign = "better" if pair.difference > 0 else "worse"
            shown = f"is {sign} than" if pair.p_value < ALPHA else "is not told apart from"
            points = _points(pair.difference, pair.lower, pair.upper)
            if pair.lower == pair.upper == 0:
                sentences.append(f"The {pair.first} decides every battle as {pair.second} does.")
                continue
            sentences.append(f"Over all battles the {pair.first} {shown} {pair.second}: {points} points of agreement.")
    table = found.held_out.table
    split = float(table.loc[table["jury"] == "majority", "n_undecided"].iloc[0]) / max(found.held_out.n, 1)
    if split > SPLIT_OFTEN:
        sentences.append(
            f"The majority is a tie wherever its judges split, in {split:.0%} of these battles: where people say tie "
            "often, that alone makes it look right."
        )
    smallest = found.held_out.selected.judges
    if len(smallest) < len(found.facts.judges):
        sentences.append(f"The smallest jury that is shown to be no worse than all together: {_listed(smallest)}.")
    else:
        sentences.append("No smaller jury is shown to be as good as all judges together.")
    return " ".join(sentences)


def _board(found: Calibration) -> str:
    import numpy as np

    board = found.corrected
    frame = board.frame()
    frame = frame[np.isfinite(frame["rating"]) & np.isfinite(frame["judge"])]
    if frame.empty:
        return "The human votes are too few for a corrected board."
    shift = (frame["rating"] - frame["judge"]).abs()
    most = frame.iloc[int(shift.to_numpy().argmax())]
    before = frame.sort_values("judge", ascending=False, kind="stable")["model"].tolist()
    after = frame.sort_values("rating", ascending=False, kind="stable")["model"].tolist()
    moved = sum(a != b for a, b in zip(before, after, strict=True))
    order = "keeps the order of the models" if not moved else f"moves {moved} of {len(after)} models to another place"
    return (
        f"Correcting the board of {called(found, found.judge)} by the human verdicts on {board.n_labelled:,} of its "
        f"{board.n:,} battles {order}. The largest change is that of {most['model']}, from {most['judge']:.0f} to "
        f"{most['rating']:.0f} points. The judge's verdicts on the other battles weigh {board.power:.2f} in it (0: not "
        "at all, 1: in full)."
    )


def _questions(found: Calibration) -> list[OpenQuestion]:
    questions = []
    together, categories = of_judge(found, found.judge)
    for one in [together, *categories]:
        if one.answer == "too few votes":
            what = "on the whole" if one.category == EVERYTHING else f"in {one.category}"
            questions.append(_question(f"May {called(found, found.judge)} stand in for people {what}?", one.more))
    for pair in found.paired:
        if pair.p_value >= ALPHA:
            questions.append(
                _question(f"Which agrees more with people, {called(found, pair.first)} or {pair.second}?", pair.more)
            )
    test = found.scorecard.alt_tests.get(found.judge)
    if test is not None and not test.passes:
        questions.append(_each_person(called(found, found.judge), test))
    pairs = found.next.pairs
    left = pairs[~pairs["resolved"]]
    if len(left):
        nearest = left.iloc[0]  # of the best models: the pairs stand in the order of the board
        votes = float(nearest["votes_needed"])
        wanted = int(votes) if votes < 1e6 else None
        names = f"{nearest['model_a']} or {nearest['model_b']}"
        more = f"; {len(left) - 1:,} more pairs of models are open" if len(left) > 1 else ""
        how = f"about {wanted:,} votes on the two" if wanted is not None else "more votes than can be said"
        questions.append(OpenQuestion(f"Which model do people prefer, {names}?", wanted, f"{how}{more}"))
    return sorted(questions, key=lambda one: (one.votes is None, one.votes or 0))[:QUESTIONS]


def _question(question: str, more: MoreVotes | None) -> OpenQuestion:
    if more is None:
        return OpenQuestion(question, None, "no number of votes that could be asked for: it lies too near the limit")
    items = "item" if more.items == 1 else "items"
    return OpenQuestion(question, more.votes, f"about {more.votes:,} votes on {more.items:,} new {items}")


def _each_person(judge: str, test: AltTest) -> OpenQuestion:
    question = f"Does {judge} pass the alternative annotator test?"
    needed = instances_needed(test)
    if needed is None or needed[0] <= needed[1]:
        why = "no number of votes, unless it comes to agree more: it is no nearer to people than it has to be"
        return OpenQuestion(question, None, why)
    battles, now = needed
    votes = (battles - now) * test.annotators
    sentence = f"about {votes:,} votes: {battles:,} battles for each of the {test.annotators} people (now {now})"
    return OpenQuestion(question, votes, sentence)


def _more(more: MoreVotes | None) -> str:
    return "" if more is None else f" (about {more.votes:,} more would tell)"


def _share(value: float | None) -> str:
    return "an unknown share" if value is None or value != value else f"{value:.0%}"


def _points(value: float, lower: float, upper: float) -> str:
    values = [f"{100 * one + 0.0:.1f}" for one in (value, lower, upper)]
    one, low, high = ("0.0" if text == "-0.0" else text.replace("-", "−") for text in values)
    return f"{one} ({low} to {high})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
