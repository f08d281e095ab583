"""Prices: unknown is None, never 0."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.models import ModelSettings, Reply, prices
from evalkit.models.prices import Prices

OPENAI = "https://api.openai.com/v1"
MINI = ModelSettings("openai", "gpt-4o-mini", endpoint=OPENAI)


def test_a_reply_of_a_known_model() -> None:
    reply = Reply("x", prompt_tokens=1_000_000, completion_tokens=100_000, cached_tokens=400_000)
    assert Prices.load().cost(MINI, reply) == pytest.approx(0.6 * 0.15 + 0.4 * 0.075 + 0.1 * 0.6)


def test_a_dated_name_has_the_price_of_its_model() -> None:
    dated = ModelSettings("openai", "gpt-4o-mini-2024-07-18", endpoint=OPENAI)
    assert Prices.load().estimate(dated, 1e6, 0) == 0.15


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings("openai", "gpt-4o-mini", endpoint="http://localhost:8000/v1"),
        ModelSettings("openai", "gpt-4o-mini-finetuned", endpoint=OPENAI),
        ModelSettings("openai", "nobody-knows", endpoint=OPENAI),
    ],
)
def test_an_unknown_price_is_none(settings: ModelSettings) -> None:
    prices = Prices.load()
    assert prices.cost(settings, Reply("x", prompt_tokens=1, completion_tokens=1)) is None
    assert prices.estimate(settings, 1, 1) is None


def test_unknown_token_counts_are_an_unknown_cost() -> None:
    assert Prices.load().cost(MINI, Reply("x", prompt_tokens=5)) is None


def test_the_batch_api_costs_half_where_the_list_says_so(tmp_path: Path) -> None:
    prices = Prices.load()
    reply = Reply("x", prompt_tokens=1_000_000, completion_tokens=100_000)
    full, half = prices.cost(MINI, reply), prices.cost(MINI, reply, batch=True)
    assert full and half == pytest.approx(full / 2)
    path = tmp_path / "p.yaml"
    path.write_text("prices:\n  - {model: gpt-4o-mini, input: 1, output: 2}\n")
    assert Prices.load(path).estimate(MINI, 1e6, 0, batch=True) == 1.0  # what is not known is not taken off


def test_what_runs_here_costs_nothing() -> None:
    for provider in ("hf", "embedded", "vllm", "recorded"):
        assert Prices.load().cost(ModelSettings(provider, "gpt-4o-mini"), Reply("x")) == 0.0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", "prices:\n  - {model: gpt-4o-mini, input: 1, output: 2}\n  - {model: mine, input: 0, output: 0}\n"),
        (
            "p.json",
            '{"prices": [{"model": "gpt-4o-mini", "input": 1, "output": 2},'
            ' {"model": "mine", "input": 0, "output": 0}]}',
        ),
    ],
)
def test_the_users_list_comes_first(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    prices = Prices.load(path)
    assert prices.estimate(MINI, 1e6, 1e6) == 3.0
    assert prices.estimate(ModelSettings("openai", "mine", endpoint="http://localhost/v1"), 1e6, 1e6) == 0.0
    assert prices.estimate(ModelSettings("openai", "gpt-4o", endpoint=OPENAI), 1e6, 0) == 2.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prices:\n  - {model: a, input: -1, output: 2}", "price 1: `input` must be US dollars"),
        ("prices:\n  - {model: a, input: 1, output: .nan}", "`output` must be"),
        ("prices:\n  - {model: a, input: 1}", "`output` must be"),
        ("prices:\n  - {model: a, input: 1, output: 1, ouput: 1}", "unknown field `ouput`; allowed are batch_discount"),
        ("prices:\n  - {model: a, input: 1, output: 1, batch_discount: 50}", "`batch_discount` must be from 0 to 1"),
        ("prices:\n  - {input: 1, output: 1}", "each row needs `model`"),
        ("[1, 2]", "must be a mapping"),
        ("prices: {", "cannot be read"),
    ],
)
def test_a_wrong_list_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        Prices.load(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_list_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        Prices.load(tmp_path / "none.yaml")


def test_the_built_in_list_is_dated_and_its_rows_make_sense() -> None:
    path = Path(prices.__file__).with_name("prices.json")
    date.fromisoformat(json.loads(path.read_text())["date"])
    rows = Prices.load().prices
    assert len({row.model for row in rows}) == len(rows)
    for row in rows:
        assert row.endpoint and 0 < row.input < row.output
        assert row.cached_input is None or row.cached_input < row.input
