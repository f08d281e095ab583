from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from small import answers, judge, run, settings

from evalkit.errors import UserError
from evalkit.report import benchmark_arena_correlation, board, build_report, leaderboard, score_table
from evalkit.report.judges import verdicts
from evalkit.store import Ledger, ScoreRow
from evalkit.store.formats.generic import import_votes
from evalkit.store.schema import Tally

BOTH = [("ab", "model_a"), ("ba", "model_a")]


def test_biased_judge_is_left_out_and_the_best_model_leads(sample: tuple[Ledger, int]) -> None:
    found = leaderboard(sample[0])
    assert found.judges == ("rules", "careful-judge")
    assert [s.split(":")[0] for s in found.left_out] == ["Judge smollm2-judge"]
    assert found.rows[0].model == "gpt-4-recorded"
    assert (found.rows[0].rank_low, found.rows[0].rank_high) == (1, 1)
    for row in found.rows:
        assert row.lower is not None and row.rating is not None and row.upper is not None
        assert row.lower < row.rating < row.upper


def test_outcomes_are_the_tally(sample: tuple[Ledger, int]) -> None:
    ledger, _ = sample
    with ledger.engine.connect() as connection:
        frame = verdicts(connection, [1, 2, 3, *range(4, 40)], "overall", None)
        counts = (Tally.wins_a, Tally.wins_b, Tally.ties, Tally.both_bad)
        rows = connection.execute(sa.select(Tally.annotator_id, Tally.model_a_id, Tally.model_b_id, *counts))
        names = ("model_a", "model_b", "tie", "both_bad")
        stored = {(*map(str, row[:3]), name): n for row in rows for name, n in zip(names, row[3:], strict=True) if n}
    found = board.outcomes(frame)
    counted = Counter(zip(found.annotator, found.model_a, found.model_b, found.winner, strict=True))
    assert counted == stored
    assert found["winner"].isin(["model_a", "model_b", "tie", "both_bad"]).all()


def test_roll_up_and_verdicts_give_the_same_ratings(
    sample: tuple[Ledger, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clustered = leaderboard(sample[0], judges=["rules"])
    monkeypatch.setattr(board, "CLUSTERED_LIMIT", 0)
    counted = leaderboard(sample[0], judges=["rules"])
    assert "clustered by item_id" in clustered.interval and "independent" in counted.interval
    assert [r.rating for r in clustered.rows] == pytest.approx([r.rating for r in counted.rows], abs=1e-6)
    assert (clustered.n, clustered.errors) == (counted.n, counted.errors)
    width = [sum(r.upper - r.lower for r in b.rows if r.upper and r.lower) for b in (clustered, counted)]
    assert width[0] > width[1]  # battles on one item share answers: taking them as independent is too sure


def test_errors_are_counted_and_in_no_rating(ledger: Ledger) -> None:
    judge(ledger, "j", [BOTH] * 6 + [[("ab", "model_b"), ("ba", "model_b")]] * 2 + [[("ab", None), ("ba", None)]] * 3)
    found = leaderboard(ledger, judges=["j"])
    assert (found.n, found.errors) == (8, 6)
    assert [row.model for row in found.rows] == ["a", "b"]
    # 6 wins to 2: a difference of 400 log10(3) points.
    assert found.rows[0].rating == pytest.approx(1000 + 200 * 0.47712125, abs=1e-3)


def test_models_by_label_or_id(sample: tuple[Ledger, int]) -> None:
    two = leaderboard(sample[0], models=["smollm2", "smollm2-hot"])
    assert {row.model for row in two.rows} == {"smollm2", "smollm2-hot"}
    assert {row.model for row in leaderboard(sample[0], models=[1, 2]).rows} == {"smollm2", "smollm2-hot"}
    with pytest.raises(UserError, match=r"no model 'gpt-9'.*smollm2-hot"):
        leaderboard(sample[0], models=["gpt-9"])
    with pytest.raises(UserError, match=r"no judge 'nobody'.*rules"):
        leaderboard(sample[0], judges=["nobody"])


def test_two_models_of_one_label_are_told_apart(ledger: Ledger) -> None:
    judge(ledger, "j", [BOTH, [("ab", "model_b"), ("ba", "model_b")]] * 4)
    ledger.add_models([settings("a"), settings("c")])
    from dataclasses import replace

    ledger.add_models([replace(settings("other"), label="a")])
    found = leaderboard(ledger, models=["a", "b"], judges=["j"])
    assert {row.model for row in found.rows} == {"a #1", "b"}


def test_board_without_verdicts_says_so(ledger: Ledger) -> None:
    found = leaderboard(ledger)
    assert found.rows == () and found.n == 0
    assert "No judge" in found.warnings[0]


def test_humans_count_where_no_judge_is_usable(ledger: Ledger) -> None:
    judge(ledger, "first", [[("ab", "model_a"), ("ba", "model_b")]] * 9)
    judge(ledger, "anna", [[("", "model_a")], [("", "model_b")], *[[("", "model_a")]] * 7], kind="human")
    found = leaderboard(ledger)
    assert found.judges == ("anna",) and len(found.left_out) == 1


@pytest.mark.parametrize(("bad", "used"), [(False, ("jury",)), (True, ("good",))])
def test_jury_counts_only_if_all_members_are_usable(ledger: Ledger, bad: bool, used: tuple[str, ...]) -> None:
    second = [[("ab", "model_a"), ("ba", "model_b")]] * 9 if bad else [BOTH] * 9
    members = [judge(ledger, "good", [BOTH] * 8 + [[("ab", "model_b"), ("ba", "model_b")]])]
    members.append(judge(ledger, "second", second))
    jury = ledger.add_annotator("judge", "jury", {"kind": "jury", "members": members})
    from evalkit.store import VerdictRow

    ledger.add_verdicts(None, [VerdictRow(i, jury, "", "model_a") for i in range(1, 10)])
    assert leaderboard(ledger).judges == used


def test_newest_judge_of_a_name_counts(ledger: Ledger) -> None:
    judge(ledger, "j", [[("ab", "model_b"), ("ba", "model_b")]] * 5, kind="llm")
    judge(ledger, "j", [BOTH, [("ab", "model_b"), ("ba", "model_b")]], kind="verifier")
    assert leaderboard(ledger, judges=["j"]).n == 2


def test_main_metric_is_the_first_listed(sample: tuple[Ledger, int]) -> None:
    table = score_table(*sample)
    metrics = {task.name: task.metric for task in table.tasks}
    assert metrics["reading"] == "exact_match,strict"  # not the alphabet's first
    assert metrics["knowledge"] == "acc,none"
    assert len(table.tasks) == 6 and len(table.models) == 4
    cell = table.cell("smollm2", "reading")
    assert cell is not None and cell.n is not None and cell.n + cell.errors == 24
    assert [c.main for c in table.cells] == sorted((c.main for c in table.cells), reverse=True)


def test_members_name_their_group(ledger: Ledger) -> None:
    run_id = run(ledger)
    answers(ledger, run_id, "mmlu_law", {"m": [1.0, 0.0]})
    group, _ = ledger.add_dataset("mmlu", [], "group of mmlu_law, mmlu_art")
    ledger.set_scores(run_id, [ScoreRow(1, group, "acc,none", 0.5, 0.2, 2), ScoreRow(1, group, "zzz,none", 3, None, 2)])
    tasks = {task.name: task for task in score_table(ledger, run_id).tasks}
    assert tasks["mmlu_law"].group == "mmlu" and tasks["mmlu"].group is None
    assert tasks["mmlu"].metric == "acc,none"


def test_unknown_run(ledger: Ledger) -> None:
    with pytest.raises(UserError, match="no run 7"):
        score_table(ledger, 7)


def _board(ledger: Ledger, ratings: dict[str, int]) -> board.Board:
    """A board in the order of the numbers of wins against one common opponent."""
    win, loss = [("", "model_a")], [("", "model_b")]
    for model, wins in ratings.items():
        battles = [win] * wins + [loss] * (10 - wins)
        judge(ledger, "rules", battles, kind="verifier", models=(model, "common"))
    return leaderboard(ledger, judges=["rules"], models=[*ratings, "common"])


def test_correlation_turns_the_sign_where_lower_is_better(ledger: Ledger) -> None:
    run_id = run(ledger)
    found = _board(ledger, {"m1": 8, "m2": 6, "m3": 4, "m4": 2})
    scores = {"m1": [1.0, 1.0], "m2": [1.0, 0.0], "m3": [0.5, 0.0], "m4": [0.0, 0.0]}
    answers(ledger, run_id, "good", scores)
    answers(ledger, run_id, "loss", {m: [9 - 9 * v for v in vs] for m, vs in scores.items()}, higher_is_better=False)
    rows = {r.benchmark: r for r in benchmark_arena_correlation(score_table(ledger, run_id), found).rows}
    assert rows["good"].spearman == pytest.approx(1.0) and rows["loss"].spearman == pytest.approx(1.0)
    assert rows["good"].n == 4
    assert board.MEAN not in rows  # the loss is no share, so there is nothing to take a mean of


def test_correlation_over_three_models_has_a_warning_and_no_interval(ledger: Ledger) -> None:
    run_id = run(ledger)
    found = _board(ledger, {"m1": 8, "m2": 5})
    answers(ledger, run_id, "good", {"m1": [0.0], "m2": [1.0], "common": [0.0]})
    correlations = benchmark_arena_correlation(score_table(ledger, run_id), found)
    assert "Only 3 models" in correlations.warnings[0]
    (row,) = correlations.rows
    assert row.spearman_lower is None and row.note == "no interval: 3 models are too few"


def test_correlation_without_scores_says_so(ledger: Ledger) -> None:
    found = _board(ledger, {"m1": 8, "m2": 5})
    correlations = benchmark_arena_correlation(score_table(ledger, run(ledger)), found)
    assert correlations.rows == () and "no benchmark scores" in correlations.warnings[0]


def test_a_board_of_imported_people_and_a_judge(tmp_path: Path) -> None:
    lines = ["item_id,model_a,model_b,winner,annotator,annotator_kind,order"]
    for item in range(12):
        lines += [f"{item},x,y,{('model_a', 'model_b')[item % 3 == 0]},p{person},human," for person in range(3)]
        lines += [f"{item},x,y,model_b,bot,judge,{order}" for order in ("ab", "ba")]
    votes = tmp_path / "votes.csv"
    votes.write_text("\n".join(lines) + "\n")
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        import_votes(ledger, votes)
        report = build_report(ledger, 1)
        # The import's run has no answers: its contestants are those of its battles. Its judge makes the board alone.
        assert report.board is not None
        assert (report.board.judges, report.board.n) == (("bot",), 12)
        assert [(row.judge, row.n) for row in report.judges.rows] == [("bot", 24), ("3 people", 36)]
        assert leaderboard(ledger, judges=["p*"]).n == 36
        with pytest.raises(UserError, match="no judge 'q\\*' has given verdicts"):
            leaderboard(ledger, judges=["q*"])
    votes.write_text("\n".join(line for line in lines if "judge," not in line) + "\n")
    with Ledger.open(str(tmp_path / "people.db")) as ledger:
        import_votes(ledger, votes)
        report = build_report(ledger, 1)
        assert report.board is not None
        assert (report.board.judges, report.board.rows[0].model) == (("p0", "p1", "p2"), "x")
