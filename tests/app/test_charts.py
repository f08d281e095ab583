"""Charts: what is drawn from odd frames, and what is said of them."""

from __future__ import annotations

import pandas as pd
import pytest

from app import charts, tables
from app.name_places import name_places


def board(**more: object) -> pd.DataFrame:
    table = {
        "model": ["a.b[c]:d", "e"],
        "rating": [1.0, 2.0],
        "lower": [0.5, float("nan")],
        "upper": [1.5, float("nan")],
    }
    return pd.DataFrame({**table, **more})


def test_a_row_without_limits_has_a_dot_and_no_bar() -> None:
    drawn = charts.interval_chart(board(), "model", "rating", "lower", "upper", title="Ratings").to_dict()
    bars, dots = drawn["layer"]
    rows = {name: len(found) for name, found in drawn["datasets"].items()}
    assert rows[bars["data"]["name"]] == 1 and rows[dots["data"]["name"]] == 2


def test_names_with_signs_of_the_chart_language_are_names() -> None:
    frame = board().rename(columns={"rating": "gsm8k:exact.match[0]"})
    drawn = charts.interval_chart(frame, "model", "gsm8k:exact.match[0]", "lower", "upper", title="t").to_dict()
    assert drawn["layer"][1]["encoding"]["x"]["field"] == r"gsm8k\:exact\.match\[0\]"


def test_title_is_said_to_screen_readers() -> None:
    assert charts.curve(board(), "lower", "rating", title="Loss", x_title="step", y_title="loss").description == "Loss"


def test_only_the_front_is_joined_and_named() -> None:
    frame = board(front=[True, False], price=[1.0, 2.0])
    drawn = charts.scatter(
        frame, "price", "rating", label="model", title="t", x_title="x", y_title="y", front="front"
    ).to_dict()
    line = next(layer for layer in drawn["layer"] if layer["mark"]["type"] == "line")
    assert len(drawn["datasets"][line["data"]["name"]]) == 1


def test_names_of_near_points_stand_apart_or_in_the_tooltip_alone() -> None:
    near = pd.DataFrame({"model": [f"model-{i}" for i in range(9)], "x": [1.0] * 8 + [2.0], "y": [1.0] * 8 + [2.0]})
    places = name_places(near, "model", ["x"], ["y"])
    here = places[:8].dropna()
    assert len(set(here)) == len(here) < 8, "on one point there is not room for eight names"
    assert places[8][0] < 0, "at the right edge a name stands to the left"
    drawn = charts.scatter(near, "x", "y", label="model", title="t", x_title="x", y_title="y").to_dict()
    texts = [layer for layer in drawn["layer"] if layer["mark"]["type"] == "text"]
    assert sum(len(drawn["datasets"][layer["data"]["name"]]) for layer in texts) == places.notna().sum()


def test_cells_without_a_value_stay_empty() -> None:
    cells = pd.DataFrame({"x": ["a", "b"], "y": ["a", "a"], "v": [0.5, float("nan")]})
    drawn = charts.heatmap(cells, "x", "y", "v", title="t").to_dict()
    assert [len(rows) for rows in drawn["datasets"].values()] == [1]


@pytest.mark.parametrize(("n", "told"), [(940, "940"), (12_345, "12.3K"), (1_000_000, "1.0M")])
def test_counts_in_a_few_letters(n: int, told: str) -> None:
    assert tables.number(n) == told


def test_markup_is_shown_as_it_is() -> None:
    assert tables.plain("**a** <b> [x](y) $1$ :red[z]") == r"\*\*a\*\* \<b\> \[x\](y) \$1\$ \:red\[z\]"
