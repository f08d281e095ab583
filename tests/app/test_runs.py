"""The page of runs, and the search behind it."""

from __future__ import annotations

from functools import partial

import pages
import pytest
import samples_world
from samples_world import World
from streamlit.testing.v1 import AppTest

from app import search
from evalkit.store import Ledger, frames

opened = partial(pages.opened, "runs")


@pytest.fixture
def world(ledger: Ledger) -> World:
    return samples_world.fill(ledger)


def listed(page: AppTest) -> list[int]:
    return list(page.dataframe[-1].value["response_id"])


def test_an_empty_ledger_says_what_to_type(ledger: Ledger) -> None:
    page = opened()
    assert "evalkit run" in page.info[0].value
    assert not page.dataframe


def test_runs_stand_with_counts_errors_and_cost(world: World) -> None:
    page = opened()
    row = page.dataframe[0].value.iloc[0]
    assert (row["name"], row["status"], row["n"], row["errors"]) == ("first run", "done", 24, 1)
    assert row["cost"] == pytest.approx(3 * 0.001 * sum(range(8)), abs=1e-6)


def test_cells_of_a_run(world: World) -> None:
    cells = opened(view="Cells").dataframe[1].value.set_index("model")
    assert cells.loc["gamma", "errors"] == 1
    assert cells.loc["gamma", "error_rate"] == pytest.approx(1 / 8)


def test_responses_carry_prompt_answer_score_and_error(world: World) -> None:
    table = opened().dataframe[1].value.set_index("response_id")
    assert len(table) == 24
    assert table.loc[world.responses["alpha", 3], "prompt"] == "Frage 3: wie groß ist 3?"
    assert table.loc[world.responses["alpha", 3], "score"] == 1.0
    assert table.loc[world.responses["gamma", 0], "error"] == "server: 500: overloaded"
    assert samples_world.HOSTILE in table.loc[world.responses["beta", 1], "answer"], "in a cell nothing is rendered"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"model": "beta"}, {("beta", i) for i in range(8)}),
        ({"show": "Failed"}, {("gamma", 0)}),
        ({"model": "alpha", "below": "1"}, {("alpha", 0)}),
        ({"find": "needle"}, {("beta", 5)}),
        ({"find": "NEEDLE"}, {("beta", 5)}),
        ({"find": "groß ist 3"}, {(name, 3) for name in samples_world.MODELS}),
        ({"find": "overloaded"}, {("gamma", 0)}),
        ({"find": "Frage", "in": "Answers"}, set()),
        ({"find": "role"}, set()),
        ({"find": "100%"}, set()),
        ({"find": "needle", "model": "alpha"}, set()),
        ({"find": "says", "sort": "Seconds", "model": "alpha"}, {("alpha", i) for i in range(8)}),
    ],
)
def test_filters_and_search_from_the_address(world: World, query: dict[str, str], wanted: set[tuple[str, int]]) -> None:
    page = opened(**query)
    if not wanted:
        assert len(page.dataframe) == 1
        assert "Nothing found" in str(page.info[0].proto) or "None of the" in page.info[0].value
    else:
        assert set(listed(page)) == {world.responses[key] for key in wanted}


def test_sorting_puts_what_is_not_known_last(world: World) -> None:
    slow = listed(opened(sort="Seconds"))
    assert set(slow[:3]) == {world.responses[name, 7] for name in samples_world.MODELS}
    assert slow[-1] == world.responses["gamma", 0]
    assert listed(opened(sort="Seconds", order="Lowest"))[-1] == world.responses["gamma", 0]


def test_every_response_is_on_one_page(ledger: Ledger) -> None:
    world = samples_world.fill(ledger, 40)
    seen = [one for page in ("1", "2", "3") for one in listed(opened(page=page))]
    assert sorted(seen) == sorted(world.responses.values())
    assert len(seen) == 120
    page = opened(page="2")
    page.selectbox(key="model").select("beta").run()
    assert set(listed(page)) == {world.responses["beta", i] for i in range(40)}, "a filter goes to its first page"


def test_search_goes_on_page_by_page(ledger: Ledger) -> None:
    world = samples_world.fill(ledger, 40)
    page = opened(find="frage")
    first = listed(page)
    assert len(first) == search.PAGE
    page.button[-1].click().run()
    second = listed(page)
    page.button[-1].click().run()
    third = listed(page)
    assert sorted([*first, *second, *third]) == sorted(world.responses.values())
    assert page.button[0].label == "Previous"
    page.button[0].click().run()
    assert listed(page) == second


def test_pages_in_order_are_those_of_the_ledger(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    for wanted, options in (
        (search.Filter(world.run), {}),
        (search.Filter(world.run, failed=True), {"failed": True}),
        (search.Filter(world.run, failed=False), {"failed": False}),
    ):
        source, n = search.in_order(ledger, wanted)
        whole = frames.responses(ledger, world.run, limit=None, **options)["response_id"].tolist()
        assert [link[2] for skip in range(0, n, 7) for link in source(skip, 7)] == whole
        assert n == len(whole)


def test_all_runs_are_searched(ledger: Ledger) -> None:
    world = samples_world.fill(ledger)
    again = ledger.start_run("second run", {"plan": 2}, seed=0, environment={})
    rows = frames.responses(ledger, world.run, model="alpha", limit=None)
    links = rows[["model_id", "dataset_id", "response_id"]].itertuples(index=False)
    ledger.link_responses(again, [(r, m, d) for m, d, r in links])
    source, n = search.in_order(ledger, search.Filter())
    assert n == 24 + 8
    assert len(source(0, 100)) == 32
    assert [link[2] for link in source(6, 4)] == [link[2] for link in source(0, 100)][6:10], "across two runs"
    found = search.find(ledger, source, "needle")
    assert [link[2] for link in found.links] == [world.responses["beta", 5]]
    page = opened(run="All runs", find="alpha says 3")
    assert listed(page) == [world.responses["alpha", 3]] * 2


def test_a_search_out_of_time_goes_on_where_it_stopped(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    world = samples_world.fill(ledger, 20)
    monkeypatch.setattr(search, "SLICE", 20)
    source, n = search.in_order(ledger, search.Filter(world.run))
    looked, found, stretches = 0, [], 0
    while True:
        part = search.find(ledger, source, "needle", looked=looked, budget=0.0)
        found += [link[2] for link in part.links]
        looked, stretches = part.looked, stretches + 1
        if part.done:
            break
    assert found == [world.responses["beta", 5]]
    assert looked == n == 60
    assert stretches > 3
