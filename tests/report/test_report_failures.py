from __future__ import annotations

from collections import defaultdict

import pytest
import sqlalchemy as sa
from small import answers, run

from evalkit.report import failures
from evalkit.report.failures import MIN_SUPPORT
from evalkit.stats import wilson
from evalkit.store import Ledger, frames


def test_rates_are_those_counted_by_hand(sample: tuple[Ledger, int]) -> None:
    ledger, run_id = sample
    main = {"knowledge": "acc,none", "reading": "exact_match,strict"}
    tags: dict[int, dict[str, str]] = {}
    for name in frames.scores(ledger, run_id)["dataset"].unique():
        tags |= {row.item_id: row.tags for row in frames.items(ledger, name).itertuples()}
    counted: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in frames.grades(ledger, run_id=run_id).itertuples():
        mine = tags[row.item_id]
        if row.criterion == main.get(mine["benchmark"], "passed,none"):
            for tag, value in mine.items():
                counted[row.model, "task" if tag == "benchmark" else tag, value].append(row.value)
    found = failures(ledger, run_id)
    assert [m.model for m in found.models] == ["smollm2", "smollm2-hot", "smollm2-brief", "gpt-4-recorded"]
    for model in found.models:
        assert model.slices and model.looked_at >= len(model.slices)
        for one in model.slices:
            values = counted[model.model, one.tag, one.value]
            n, failed = len(values), sum(v < 0.5 for v in values)
            assert (one.rate.n, one.rate.value) == (n, failed / n)
            assert (one.rate.lower, one.rate.upper) == wilson(failed, n)
            everything = [v for key, vs in counted.items() if key[:2] == (model.model, "task") for v in vs]
            rest = (sum(v < 0.5 for v in everything) - failed) / (len(everything) - n)
            assert one.rest == pytest.approx(rest) and one.difference == pytest.approx(failed / n - rest)
            assert n >= MIN_SUPPORT and one.difference > 0
        order = [(not s.clear, -s.difference) for s in model.slices]
        assert order == sorted(order)
    slices = {(s.tag, s.value) for s in found.models[0].slices if s.clear}
    assert ("difficulty", "hard") in slices


def test_failed_requests_and_ungraded_answers_are_in_no_rate(ledger: Ledger) -> None:
    run_id = run(ledger)
    answers(ledger, run_id, "t", {"m": [0.0, 0.0, 1.0, None, None, "metric broke"]})
    (model,) = failures(ledger, run_id).models
    assert model.overall.n == 3 and model.overall.value == pytest.approx(2 / 3)
    assert (model.requests_failed, model.ungraded) == (2, 1)


def test_small_slices_are_not_compared_and_equal_ones_are_one(ledger: Ledger) -> None:
    run_id = run(ledger)
    tags = [{"topic": "rare", "odd": True}] * 4 + [{"topic": "bad", "format": "json", "list": ["x", "y"]}] * 6
    tags += [{"topic": "good", "number": 3.5}] * 6
    answers(ledger, run_id, "t", {"m": [0.0] * 10 + [1.0] * 6}, tags=tags)
    (model,) = failures(ledger, run_id).models
    (one,) = model.slices
    assert (one.tag, one.value, one.also) == ("topic", "bad", ("format = json", "list = x", "list = y"))
    assert one.rate.n == 6 and one.rest == pytest.approx(4 / 10) and one.clear
    assert model.looked_at == 2  # bad and good; rare is too small, and the task is everything


def test_metrics_without_a_line_between_right_and_wrong_are_named(ledger: Ledger) -> None:
    run_id = run(ledger)
    answers(ledger, run_id, "bleu", {"m": [30.0, 20.0]}, metric="bleu,none")
    answers(ledger, run_id, "loss", {"m": [0.5, 0.2]}, metric="loss,none", higher_is_better=False)
    found = failures(ledger, run_id)
    assert found.models[0].overall.n == 0 and found.models[0].examples == ()
    assert [s.split(":")[0] for s in found.left_out] == ["bleu", "loss"]


def test_grades_of_another_task_on_the_same_answer_do_not_count(ledger: Ledger) -> None:
    run_id = run(ledger)
    answers(ledger, run_id, "one", {"m": [1.0, 1.0]})
    answers(ledger, run_id, "two", {"m": [0.0, 0.0]})
    (model,) = failures(ledger, run_id).models
    assert model.overall.n == 4 and model.overall.value == 0.5


def test_examples_are_failures_drawn_by_the_seed(sample: tuple[Ledger, int]) -> None:
    ledger, run_id = sample
    first, again = failures(ledger, run_id, 2), failures(ledger, run_id, 2)
    assert first == again
    for model in first.models:
        assert len(model.examples) == 2
        for example in model.examples:
            shown = frames.sample(ledger, example.response_id)
            assert shown["model"] == model.model and shown["text"] == example.answer
            assert example.value < 0.5 and example.prompt and example.reference
    assert {m.model: len(m.examples) for m in failures(ledger, run_id, 0).models} == dict.fromkeys(
        (m.model for m in first.models), 0
    )


def test_another_seed_draws_others(ledger: Ledger) -> None:
    drawn = []
    for seed in (1, 2):
        run_id = run(ledger, seed=seed)
        answers(ledger, run_id, f"t{seed}", {"m": [0.0] * 40})
        drawn.append({e.prompt for e in failures(ledger, run_id, 5).models[0].examples})
    assert len(drawn[0]) == len(drawn[1]) == 5 and drawn[0] != drawn[1]


def test_texts_are_read_for_examples_alone(sample: tuple[Ledger, int]) -> None:
    ledger, run_id = sample
    sent: list[str] = []

    def listen(connection: object, cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    sa.event.listen(ledger.engine, "before_cursor_execute", listen)
    try:
        failures(ledger, run_id, 1)
    finally:
        sa.event.remove(ledger.engine, "before_cursor_execute", listen)
    texts = [statement for statement in sent if "response.text" in statement or "response.body" in statement]
    assert len(texts) == 1 and "row_number()" in texts[0]
