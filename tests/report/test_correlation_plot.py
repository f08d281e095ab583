"""The picture of a correlation matrix: well-formed, self-contained, readable, with n and interval in every cell."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evalkit.report.correlation_plot import colour, correlation_svg, text_colour
from evalkit.report.html import render
from evalkit.report.summary import build_report
from evalkit.stats import correlate
from evalkit.store import Ledger

SPACE = "{http://www.w3.org/2000/svg}"


def table(models: int = 12, columns: tuple[str, ...] = ("gsm8k", "mmlu", "ifeval", "arena")) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    skill = rng.normal(size=models)
    return pd.DataFrame({name: skill + 0.5 * k * rng.normal(size=models) for k, name in enumerate(columns)})


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter(f"{SPACE}text")]


def test_every_pair_has_a_cell_with_value_interval_and_n() -> None:
    found = correlate(table(), rounds=1000)
    matrix = found.matrix("kendall")
    svg = correlation_svg(matrix)
    seen = texts(svg)
    assert seen.count("n 12") == 6
    for pair in found.pairs:
        assert f"{pair.kendall.value:.2f}".replace("-", "−") in seen
        assert f"[{pair.kendall.lower:.2f}, {pair.kendall.upper:.2f}]".replace("-", "−") in seen
    assert seen[0] == "Kendall correlation over models" and any("BCa bootstrap" in text for text in seen)
    assert seen.count("gsm8k") == 1 and seen.count("mmlu") == 2  # the first has no row, the last no column


def test_it_is_self_contained_and_says_itself_aloud() -> None:
    svg = correlation_svg(correlate(table(), rounds=1000).matrix())
    root = ET.fromstring(svg)
    assert root.tag == f"{SPACE}svg" and root.get("role") == "img"
    assert all(
        word not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "") for word in ("http", "url(", "<script")
    )
    spoken = root.find(f"{SPACE}desc")
    assert spoken is not None and "mmlu and gsm8k: spearman" in (spoken.text or "")


def test_a_reference_makes_one_column() -> None:
    svg = correlation_svg(correlate(table(), reference="arena", rounds=1000).matrix())
    seen = texts(svg)
    assert seen.count("n 12") == 3 and seen.count("arena") == 1 and "gsm8k" in seen


def test_what_has_no_value_or_no_interval_says_so() -> None:
    scores = table(5).assign(flat=1.0)
    seen = texts(correlation_svg(correlate(scores).matrix()))
    assert seen.count("no interval") == 6 and seen.count("undefined, n 5") == 4


def test_names_are_escaped_and_shortened() -> None:
    scores = table(9, ("<b>&amp;\x00", "x" * 60, "negative"))
    scores["negative"] *= -1
    svg = correlation_svg(correlate(scores, rounds=1000).matrix("pearson"))
    seen = texts(svg)
    assert "<b>&amp;\ufffd" in seen and "x" * 29 + "…" in seen and "x" * 60 in svg
    assert any(text.startswith("−0.") for text in seen)


@pytest.mark.parametrize("value", np.linspace(-1, 1, 41))
def test_numbers_stand_out_from_their_cells(value: float) -> None:
    def luminance(text: str) -> float:
        parts = (int(text[k : k + 2], 16) / 255 for k in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    fill = colour(value)
    low, high = sorted([luminance(fill), luminance(text_colour(fill))])
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_the_report_shows_it_where_there_are_enough_models(sample: tuple[Ledger, int]) -> None:
    report = build_report(*sample)
    assert report.correlations.matrix is None and "The benchmarks among themselves" not in render(report)
    matrix = correlate(table(), rounds=1000).matrix()
    page = render(replace(report, correlations=replace(report.correlations, matrix=matrix)))
    assert "The benchmarks among themselves" in page and correlation_svg(matrix) in page
