"""The page of judges."""

from __future__ import annotations

from functools import partial

import pages
import samples_world
from pages import said

from app import reads_judges
from evalkit.store import BattleRow, Ledger, VerdictRow

opened = partial(pages.opened, "judges")


def test_an_empty_ledger_says_what_to_type(ledger: Ledger) -> None:
    assert "evalkit judge run" in opened().info[0].value


def test_without_people_judges_are_measured_by_their_own_habits(ledger: Ledger) -> None:
    samples_world.fill(ledger, people=False)
    page = opened()
    assert "no person has voted on overall" in page.info[0].value.lower()
    row = page.dataframe[0].value.iloc[0]
    assert (row["judge"], row["verdicts"], row["errors"]) == ("judge-1", 16, 2)
    assert (row["consistency"], row["consistency_n"]) == (1.0, 7)
    assert row["consistency_lower"] < 1.0


def test_the_recommendation_is_in_words(ledger: Ledger) -> None:
    samples_world.fill(ledger)
    told = said(opened())
    assert "May a judge stand in for people?" in told
    assert "judge-1" in told
    assert "24 votes of 3 people" in told


def test_the_scorecard_has_intervals_n_and_how_to_measure(ledger: Ledger) -> None:
    samples_world.fill(ledger)
    page = opened(view="Scorecard")
    people = page.table[0].value
    assert people.loc["judge-1", "Agrees with people"].startswith("**57.1%** (")
    assert people.loc["judge-1", "Agrees with people"].endswith(":gray[n 21]")
    assert ":gray[not measured]" in set(page.table[3].value.loc["judge-1"])
    assert "evalkit judge probe" in said(page)


def test_disagreements_are_read_one_by_one(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    found = reads_judges.disagreements("overall")
    assert found["battle_id"].tolist() == [world.battles[i] for i in (1, 3, 5)], "an unreadable verdict is none"
    assert set(found["direction"]) == {"winner"}
    assert found.iloc[0][["for_a", "for_b", "ties", "votes"]].tolist() == [0, 3, 0, 3]
    page = opened(view="Disagreements")
    assert "1 of 3" in said(page)
    assert "alpha says 1" in said(page)
    assert "Reason 1 in order ba" in said(page)
    assert "Frage 3" in said(opened(view="Disagreements", case="2"))
    page = opened(view="Disagreements", category="even")
    assert "1 of 3" in said(page), "an unknown category is none"
    page = opened(view="Disagreements", direction="Judge decides, people tie")
    assert "No disagreement passes" in said(page)


def test_models_of_two_digit_ids_stand_on_their_own_side(ledger: Ledger) -> None:
    from evalkit.models.base import ModelSettings

    world = samples_world.fill(ledger)
    models = ledger.add_models([ModelSettings("openai", f"m{i}", label=f"m{i}") for i in range(9)])
    low, high = models[0], models[-1]
    assert str(low) > str(high), "as text the order is another"
    battle = ledger.add_battles([BattleRow(world.items[0], low, high)])[0]
    judge = ledger.add_annotator("judge", "judge-1", {"kind": "llm", "model": "some/model"})
    people = [ledger.add_annotator("human", f"person-{i}", {}) for i in range(3)]
    ledger.add_verdicts(world.run, [VerdictRow(battle, judge, "ab", "tie")])
    ledger.add_verdicts(world.run, [VerdictRow(battle, person, "ab", "model_b") for person in people])
    row = reads_judges.disagreements("overall").set_index("battle_id").loc[battle]
    assert (row["model_a"], row["model_b"], row["said"], row["people"]) == ("m0", "m8", "tie", "model_b")
    assert (row["for_a"], row["for_b"], row["direction"], row["category"]) == (0, 3, "ties", "even")
