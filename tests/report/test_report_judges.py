from __future__ import annotations

import pytest
from small import items, judge, run, settings

from evalkit.report import judge_table
from evalkit.store import BattleRow, Ledger, VerdictRow

A, B = [("ab", "model_a"), ("ba", "model_a")], [("ab", "model_b"), ("ba", "model_b")]
FIRST, SECOND = [("ab", "model_a"), ("ba", "model_b")], [("ab", "model_b"), ("ba", "model_a")]


@pytest.mark.parametrize(
    ("battles", "usable", "words"),
    [
        ([FIRST] * 12, False, "Always prefers the answer shown first"),
        ([SECOND] * 12, False, "Always prefers the answer shown second"),
        ([FIRST] * 9 + [A] * 3, False, "Prefers the answer shown first, whichever it is, in 75%"),
        ([A, B] * 10, True, "same verdict in 100% of the battles"),
        ([A, B] * 20 + [FIRST] * 16, True, "leans to the answer shown first (64%)"),
        ([A] * 3 + [B] * 3 + [FIRST] * 3 + [SECOND] * 3, False, "which a coin may do too"),
        ([A] * 2 + [FIRST] * 14 + [SECOND] * 14, False, "Contradicts itself in 93%"),
        ([[("ab", "tie"), ("ba", "tie")]] * 8, False, "Calls every battle a tie"),
        ([[("ab", None), ("ba", None)]] * 8, False, "None of its verdicts could be read"),
        ([[("ab", "model_a")], [("ba", "model_b")]] * 10, False, "Picks the answer shown first in 100%"),
        ([[("ab", "model_b")], [("ba", "model_a")]] * 10, False, "Picks the answer shown second in 100%"),
        ([[("ab", "model_a")], [("ba", "model_a")]] * 10, True, "in one order only"),
        ([[("", "model_a")]] * 10, True, "order in which it saw the answers is unknown"),
    ],
)
def test_opinions(ledger: Ledger, battles: list[list[tuple[str, str | None]]], usable: bool, words: str) -> None:
    judge(ledger, "j", battles)
    (row,) = judge_table(ledger).rows
    assert words in row.sentence
    assert row.usable is usable
    assert row.sentence.endswith("not used for the board.") is not usable
    assert row.n == sum(map(len, battles))


def test_numbers(ledger: Ledger) -> None:
    judge(ledger, "rules", [[("", "model_a")]] * 6 + [[("", "tie")]] * 4, kind="verifier")
    judge(ledger, "j", [A] * 5 + [FIRST] * 4 + [[("ab", "tie"), ("ba", None)]])
    table = judge_table(ledger)
    rules, row = table.rows
    assert table.reference == "rules" and rules.usable and rules.agreement.n == 0
    assert (row.n, row.errors) == (20, 1)
    assert row.consistency.value == pytest.approx(5 / 9) and row.consistency.n == 9
    assert (row.always_first, row.always_second) == (4, 0)
    assert row.first_slot.value == pytest.approx((5 + 8) / 18) and row.first_slot.n == 18
    # Against model_a x 6, tie x 4: ten verdicts on five battles are right, one of the sixth's two, one tie of the last.
    assert row.agreement.value == pytest.approx((10 + 1 + 1) / 19) and row.agreement.n == 19
    assert row.agreement_no_ties.value == pytest.approx(11 / 12)


def test_only_verdicts_on_the_same_answers_are_compared(ledger: Ledger) -> None:
    run_id = run(ledger)
    from small import answers

    dataset = answers(ledger, run_id, "t", {"a": [1.0], "b": [0.0]})
    answers(ledger, run_id, "again", {"a": [0.0], "b": [1.0]})
    ids = ledger.add_models([settings("a"), settings("b")])
    _, (item,) = ledger.add_dataset("t", items(1))
    assert dataset
    one, two = ledger.add_battles([BattleRow(item, *ids, 1, 2), BattleRow(item, *ids, 3, 4)])
    rules = ledger.add_annotator("judge", "rules", {"kind": "verifier"})
    llm = ledger.add_annotator("judge", "j", {"kind": "llm"})
    ledger.add_verdicts(run_id, [VerdictRow(one, rules, "", "model_a"), VerdictRow(two, rules, "", "model_b")])
    ledger.add_verdicts(run_id, [VerdictRow(one, llm, "ab", "model_a"), VerdictRow(two, llm, "ab", "model_b")])
    row = next(r for r in judge_table(ledger, run_id).rows if r.judge == "j")
    assert row.agreement.value == 1.0 and row.agreement.n == 2


def test_a_run_sees_its_own_judges_and_models(sample: tuple[Ledger, int], ledger: Ledger) -> None:
    assert [row.judge for row in judge_table(*sample).rows] == ["rules", "smollm2-judge", "careful-judge"]
    judge(ledger, "elsewhere", [A] * 3)
    assert judge_table(ledger, run(ledger)).rows == ()


def test_another_criterion(ledger: Ledger) -> None:
    judge(ledger, "j", [A, B] * 4, criterion="safety")
    assert judge_table(ledger).rows == ()
    assert judge_table(ledger, criterion="safety").rows[0].n == 16
